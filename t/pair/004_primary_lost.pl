# SPDX-License-Identifier: PostgreSQL
#
# The primary's machine stands still for longer than wal_receiver_timeout; then its
# power is cut, under load, and the standby takes over: with every row that was
# acknowledged.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/..";
use Faults;
use PairNode;
use PgFastwake;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $TIMED_OUT = qr/terminating walreceiver due to timeout/;
my $FAILED = qr/pg_fastwake channel failed/;

my ($primary, $standby) = start_pair(primary_in => 'b');

# ---- a pause ----

{
	my $what = 'pause longer than wal_receiver_timeout';
	my ($sent, $received) = map { log_end($_) } $primary, $standby;

	$standby->set(wal_receiver_timeout => '3s');
	outside('pause', 'b');
	my $start = time;
	ok(poll_log($standby, $TIMED_OUT, $received),
		"$what: the walreceiver gives up");
	my $seconds = time - $start;
	# It began with the last message before.
	ok($seconds > 1 && $seconds < 4,
		sprintf '%s: as its timeout says, after %.1f s', $what, $seconds);
	is($standby->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_wal_receiver'),
		'0', "$what: there is none");
	$standby->set(wal_receiver_timeout => undef);
	outside('resume', 'b');
	on_channel($primary, $standby, "after $what, at once");
	unlike(log_since(@$_), $FAILED, "$what: no channel failed")
	  foreach [ $primary, $sent ], [ $standby, $received ];
}

# ---- the power ----

{
	my $what = 'power cut';
	my $received = log_end($standby);
	# So that clients that wait for an answer ask whether the server is there.
	my $load = start_rows($primary, 4,
		'dbname=postgres keepalives_idle=2 keepalives_interval=1');
	ok(wait_rows($primary, 100), "$what: rows are committed before");
	on_channel($primary, $standby, "$what, before");
	outside('off', 'b');
	my $promoted = $standby->safe_psql('postgres', 'SELECT pg_promote()');
	is($promoted, 't', "$what: the standby is promoted");
	# What is sent to a guest that is off does not leave this one, so that no
	# timeout ends its connections; another boot of it does.
	outside('boot', 'b');
	stop_rows($load, 2);
	cmp_ok(acknowledged_rows(), '>=', 100,
		"$what: ${\ acknowledged_rows()} rows were acknowledged");
	no_row_lost($standby, $what);
	ok( poll_log(
			$standby,
			qr/ready to accept read-only connections.*ready to accept connections/s,
			0),
		"$what: promoted without a hitch");

	# It serves alone, and the next standby over RDMA.
	my $more = start_rows($standby, 4);
	ok(wait_rows($standby, 30), "$what: rows are committed by the new primary");
	my $next = PairNode->new('b', 'next');
	$next->create->follow($standby)->start;
	make_synchronous($standby, $next);
	on_channel($standby, $next, 'a new standby');
	ok(wait_rows($standby, 30), 'rows are committed with a new standby');
	stop_rows($more);
	same_rows($standby, $next, 'a new standby');
	no_row_lost($next, 'a new standby');
	$next->stop;
}

$standby->stop('immediate');
done_testing();
