# SPDX-License-Identifier: PostgreSQL
#
# The standby's machine stands still: for a moment, of which nothing remains; for
# longer than wal_sender_timeout; and, while rows are inserted, for longer than the
# network card's patience, which ends the channel and leads to TCP.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/..";
use Faults;
use PairNode;
use PgFastwake;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my ($primary, $standby) = start_pair();

# ---- shorter than anything's patience ----

{
	my $what = 'short pause';
	my $load = start_rows($primary, 4);
	ok(wait_rows($primary, 30), "$what: rows are committed before");
	my @pids = (sender_pid($primary, 'standby'), receiver_pid($standby));
	my $offset = log_end($standby);

	my $start = time;
	outside('pause', 'b');
	commit_waits($primary, 4, 1, $what);
	outside('resume', 'b');
	note sprintf '%s: %.1f s', $what, time - $start;
	ok(wait_rows($primary, 50), "$what: rows are committed after");
	stop_rows($load);
	is_deeply([ sender_pid($primary, 'standby'), receiver_pid($standby) ],
		\@pids, "$what: same processes");
	on_channel($primary, $standby, $what);
	is(log_since($standby, $offset), '', "$what: nothing in the standby's log");
	same_rows($primary, $standby, $what);
}

# ---- longer than wal_sender_timeout ----

{
	my $what = 'pause longer than wal_sender_timeout';
	my ($sent, $received) = map { log_end($_) } $primary, $standby;
	my $timed_out =
	  qr/terminating walsender process due to replication timeout/;

	$primary->set(wal_sender_timeout => '3s');
	outside('pause', 'b');
	my $start = time;
	ok(poll_log($primary, $timed_out, $sent), "$what: the walsender gives up");
	my $seconds = time - $start;
	# It began with the last reply before.
	ok($seconds > 1 && $seconds < 4,
		sprintf '%s: as its timeout says, after %.1f s', $what, $seconds);
	my $load = start_rows($primary, 4);
	commit_waits($primary, 4, 2, $what);
	$primary->set(wal_sender_timeout => undef);
	outside('resume', 'b');
	ok(wait_rows($primary, 50), "$what: rows are committed again");
	stop_rows($load);
	on_channel($primary, $standby, "after $what, at once");
	unlike(log_since(@$_), qr/pg_fastwake channel failed/,
		"$what: no channel failed")
	  foreach [ $primary, $sent ], [ $standby, $received ];
	same_rows($primary, $standby, $what);
}

# ---- longer than the card's patience ----

{
	my $what = 'long pause';
	my $load = start_rows($primary, 4);
	ok(wait_rows($primary, 30), "$what: rows are committed before");
	my ($sent, $received) = map { log_end($_) } $primary, $standby;

	outside('pause', 'b');
	ok( poll_log(
			$primary, qr/FATAL:  pg_fastwake channel failed: rdma: \w/, $sent),
		"$what: the primary ends the connection");
	commit_waits($primary, 4, 2, $what);
	outside('resume', 'b');
	ok(wait_rows($primary, 50), "$what: rows are committed again");
	on_tcp($primary, $standby, qr/^a channel failed recently/, $received, $what);
	is( $standby->safe_psql('postgres',
			'SELECT fallbacks > 0 FROM pg_stat_fastwake'),
		't', "$what: the standby counts it");
	wait_retry($standby);
	reconnect($primary, 'standby');
	on_channel($primary, $standby, "after $what");
	stop_rows($load);
	same_rows($primary, $standby, $what);
	no_row_lost($standby, $what);
}

$_->stop foreach $primary, $standby;
done_testing();
