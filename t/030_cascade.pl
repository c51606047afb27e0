# SPDX-License-Identifier: PostgreSQL
#
# A cascade: the standby in the middle is a receiver and a sender.  It crashes and
# comes back, takes over from the primary, and the old primary joins at the far
# end.  (The same walsender going from one timeline to the next is in 014.)
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rows = 'SELECT run, client, count(*), sum(id), md5(string_agg(filler, id::text '
  . 'ORDER BY id)) FROM acked GROUP BY 1, 2 ORDER BY 1, 2';
my $feedback = "hot_standby_feedback = on\nwal_receiver_status_interval = 1s\n";

my ($primary, $middle) = make_pair(
	primary_conf => fault_conf() . "synchronous_commit = on\n",
	standby_conf => fault_conf() . $feedback);
create_rows($primary);
my $last = make_standby($middle, 'last', conf => fault_conf() . $feedback);
$last->start;
wait_streaming($middle, 'last');

# ---- both hops; feedback passes both ----

my $load = start_rows($primary, 4);
ok(wait_rows($primary, 50), 'rows are committed');
is_hop($primary, $middle);
is_hop($middle, $last);

# A transaction at the far end holds back the horizon of the primary.
my $reader = $last->background_psql('postgres');
my $xmin = $reader->query_safe(<<'END');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_snapshot_xmin(pg_current_snapshot());
END
ok(wait_rows($primary, 50), 'rows are committed while a snapshot is kept');
ok( $primary->poll_query_until(
		'postgres',
		"SELECT backend_xmin = '$xmin' FROM pg_stat_replication"),
	"the snapshot of the last standby ($xmin) holds back the primary");
is( $middle->safe_psql('postgres',
		'SELECT backend_xmin FROM pg_stat_replication'),
	$xmin,
	'by way of the middle');
$reader->query_safe('COMMIT');
$reader->quit;
ok( $primary->poll_query_until(
		'postgres',
		"SELECT age(backend_xmin) < age('$xmin'::xid) FROM pg_stat_replication"),
	'and no longer when it has ended');

# ---- the middle crashes ----

$middle->stop('immediate');
$middle->start;
wait_streaming($middle, 'last');
ok(wait_rows($primary, 50), 'rows are committed after a crash of the middle');
is_hop($primary, $middle, undef, 'after the crash, to the middle');
is_hop($middle, $last, undef, 'after the crash, from the middle');

# ---- the middle takes over ----

# In order, but under load: what was acknowledged has reached the middle.
my $offset = -s $last->logfile;
$primary->stop('fast');
stop_rows($load, 2);
$middle->promote;
ok(poll_log($last, qr/restarted WAL streaming at \S+ on timeline 2/, $offset),
	'the last standby follows to timeline 2');
unlike(
	substr(slurp_file($last->logfile), $offset),
	qr/FATAL|ERROR|pg_fastwake: /,
	'without an error or a new connection');
no_row_lost($middle, 'promoted');

# The old primary, at the far end now.
my $conninfo = primary_conninfo($last, 'primary');
$primary->append_conf('postgresql.conf', "primary_conninfo = '$conninfo'\n");
$primary->set_standby_mode;
$primary->start;
wait_streaming($last, 'primary');

set_conf($middle, synchronous_standby_names => 'last');
$load = start_rows($middle, 4);
ok(wait_rows($middle, 50), 'rows are committed on timeline 2');
is_hop($middle, $last, undef, 'timeline 2, first hop');
is_hop($last, $primary, undef, 'timeline 2, second hop');
stop_rows($load);

foreach my $node ($last, $primary)
{
	same_data($middle, $node, $rows, 'same rows on ' . $node->name);
	no_row_lost($node, $node->name);
}
no_fallback($_) foreach $middle, $last, $primary;

done_testing();
