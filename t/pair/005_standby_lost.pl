# SPDX-License-Identifier: PostgreSQL
#
# The power of the standby's machine is cut, under load; its disk survives.
# Commits wait as long as it is away, and when it is back it goes on where it was,
# over RDMA.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/..";
use Faults;
use PairNode;
use PgFastwake;
use PostgreSQL::Test::Utils;
use Test::More;

my $what = 'power cut';
my ($primary, $standby) = start_pair(durable => 'standby');
my $load = start_rows($primary, 4);
ok(wait_rows($primary, 100), "$what: rows are committed before");
my $sender = sender_pid($primary, 'standby');
my ($sent, $received) = map { log_end($_) } $primary, $standby;

outside('off', 'b');
commit_waits($primary, 4, 2, $what);
ok( poll_log(
		$primary,
		qr/\[$sender\] walsender FATAL:  pg_fastwake channel failed: rdma: \w/,
		$sent),
	"$what: the walsender ends");
ok( $primary->poll_query_until('postgres',
		'SELECT count(*) = 0 FROM pg_stat_replication'),
	"$what: and is gone");
commit_waits($primary, 4, 2, "$what, the walsender gone");

outside('boot', 'b');
$standby->start;
ok(wait_rows($primary, 50), "$what: rows are committed again");
on_channel($primary, $standby, "after $what, at once");
like(
	log_since($standby, $received),
	qr/database system was (?:interrupted|not properly shut down)/,
	"$what: the standby's server was not told");
stop_rows($load);
same_rows($primary, $standby, $what);
no_row_lost($standby, $what);

$_->stop foreach $primary, $standby;
done_testing();
