# SPDX-License-Identifier: PostgreSQL
#
# pg_fastwake.replay_interval_us: replay takes what comes in quick succession
# together, but a commit that waits for its replay does not wait for more, and a
# promotion finds everything.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# So long that its effects cannot be missed, nor taken for something else.
my $interval = 'pg_fastwake.replay_interval_us = 1000000';

my ($primary, $standby) = make_pair(
	primary_conf => fault_conf(),
	standby_conf => fault_conf() . "$interval\n");
create_rows($primary);
check_stream($primary, $standby, 'at first');
my $rows = 0;

# Commits of one session, one after the other; how long all of them took.
sub commits
{
	my ($count, $level) = @_;
	my $sql = "SET synchronous_commit = $level;\n";

	$sql .= 'INSERT INTO acked VALUES (1, 1, ' . ++$rows . ");\n" for 1 .. $count;
	return seconds_of(sub { $primary->safe_psql('postgres', $sql) });
}

# How often replay waited while 200 commits were made.
sub waits_of_200
{
	my $before = wait_count($standby, 'startup');

	commits(200, 'on');
	return wait_count($standby, 'startup') - $before;
}

commits(20, 'on');
my $together = waits_of_200();
set_conf($standby, 'pg_fastwake.replay_interval_us' => 0);
commits(20, 'on');
my $each = waits_of_200();
cmp_ok($together * 3, '<', $each,
	"replay waited $together times, $each times without an interval");

set_conf($standby, 'pg_fastwake.replay_interval_us' => 1000000);
commits(20, 'on');
my $seconds = commits(30, 'remote_apply');
cmp_ok($seconds, '<', patience(10),
	"30 commits that wait for their replay: $seconds s");

# In the middle of a rest.
commits(20, 'on');
$primary->stop('immediate');
$seconds = seconds_of(sub { $standby->promote });
cmp_ok($seconds, '<', patience(10), "promotion: $seconds s");
is( $standby->safe_psql('postgres', 'SELECT count(*) FROM acked WHERE id > 0'),
	$rows, 'every acknowledged row is there');

done_testing();
