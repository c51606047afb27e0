# SPDX-License-Identifier: PostgreSQL
#
# Physical slots and hot_standby_feedback: what the standby reports by way of the
# channel is what the primary keeps for it, over crashes of both.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rows = 'SELECT run, client, count(*), sum(id) FROM acked '
  . 'GROUP BY 1, 2 ORDER BY 1, 2';

# An autovacuum under way would keep rows that shall be removed.  The slot alone
# keeps WAL.
my $primary = make_primary('primary',
	conf => fault_conf() . "autovacuum = off\nwal_keep_size = 0\n");
$primary->start;
$primary->safe_psql('postgres',
	'CREATE EXTENSION pg_fastwake; CREATE TABLE kept AS '
	  . 'SELECT i FROM generate_series(1, 1000) i; '
	  . "SELECT pg_create_physical_replication_slot('slot', true)");
create_rows($primary);
my $standby = make_standby($primary, 'standby', conf => fault_conf() . <<'END');
primary_slot_name = 'slot'
wal_receiver_status_interval = 1s
max_standby_streaming_delay = 0
END
$standby->start;
wait_streaming($primary, 'standby');

# ---- restart_lsn advances ----

sub restart_lsn
{
	return $primary->safe_psql('postgres',
		'SELECT restart_lsn FROM pg_replication_slots');
}

# The standby has reported all WAL, and the slot's position with it.
sub slot_advances
{
	my ($from, $what) = @_;

	return ok(
		$primary->poll_query_until(
			'postgres',
			"SELECT s.restart_lsn > '$from' AND s.active_pid = r.pid "
			  . 'AND s.restart_lsn >= r.flush_lsn AND r.flush_lsn = r.sent_lsn '
			  . 'FROM pg_replication_slots s, pg_stat_replication r '
			  . "WHERE slot_name = 'slot'"),
		"$what: restart_lsn follows the standby");
}

my $lsn = restart_lsn();
my $load = start_rows($primary, 4);
ok(wait_rows($primary, 50), 'rows are committed');
stop_rows($load);
slot_advances($lsn, 'at first');
is_hop($primary, $standby);

# ---- the standby is away: its WAL is kept ----

$standby->stop('immediate');
$lsn = restart_lsn();
$load = start_rows($primary, 4);
foreach (1 .. 3)
{
	ok(wait_rows($primary, 10), 'rows are committed without the standby');
	$primary->safe_psql('postgres', 'SELECT pg_switch_wal(); CHECKPOINT');
}
stop_rows($load);
is( $primary->safe_psql('postgres', <<"END"), 't|t|t', 'the slot keeps its WAL');
SELECT NOT active, restart_lsn = '$lsn', EXISTS (SELECT FROM pg_ls_waldir()
    WHERE name = pg_walfile_name('$lsn'))
  FROM pg_replication_slots
END

# ---- the primary crashes ----

$primary->stop('immediate');
$primary->start;
cmp_ok(restart_lsn(), 'ne', '', 'the slot is there after a crash');
$standby->start;
wait_streaming($primary, 'standby');
$load = start_rows($primary, 4);
ok(wait_rows($primary, 50), 'rows are committed after the crash');
$primary->stop('immediate');
stop_rows($load, 2);
$primary->start;
wait_streaming($primary, 'standby');
$load = start_rows($primary, 4);
ok(wait_rows($primary, 50), 'rows are committed after a crash in mid-stream');
stop_rows($load);
slot_advances($lsn, 'after the crashes');
is_hop($primary, $standby, undef, 'after the crashes');
same_data($primary, $standby, $rows, 'same rows on both sides');

# ---- feedback ----

# Sessions of the standby that recovery has ended.
sub conflicts
{
	return 'SELECT confl_snapshot FROM pg_stat_database_conflicts '
	  . "WHERE datname = 'postgres'";
}

# A snapshot of the standby sees rows that are then removed on the primary.
# PostgreSQL ends that session at once (max_standby_streaming_delay) if the
# primary was not told of the snapshot.
sub remove_rows_seen
{
	my ($upto, $told, $what) = @_;
	my $session = $standby->background_psql('postgres');
	my ($xmin, $seen) = split /\|/, $session->query_safe(<<'END');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_snapshot_xmin(pg_current_snapshot()), count(*) FROM kept;
END

	# A later transaction, so that the horizon could move on.
	$primary->safe_psql('postgres', 'UPDATE kept SET i = i WHERE i = 1000');
	ok( $primary->poll_query_until('postgres', <<"END"), "$what: the slot holds $xmin")
SELECT xmin = '$xmin' AND backend_xmin IS NULL
  FROM pg_replication_slots, pg_stat_replication
END
	  if $told;

	# VACUUM has no transaction ID, so that nobody waits for its WAL: what is
	# committed after it is flushed behind it, and waited for by the next line.
	$primary->safe_psql('postgres',
		"DELETE FROM kept WHERE i <= $upto; VACUUM kept; "
		  . 'UPDATE kept SET i = i WHERE i = 1000');
	$primary->wait_for_catchup($standby);
	is($session->query_safe('SELECT count(*) FROM kept; COMMIT'),
		$seen, "$what: the snapshot sees its $seen rows")
	  if $told;
	$session->quit;
	return;
}

remove_rows_seen(100, 0, 'without feedback');
ok($standby->poll_query_until('postgres', conflicts(), '1'),
	'without feedback the session is ended');
$standby->append_conf('postgresql.conf', 'hot_standby_feedback = on');
$standby->reload;
ok( $primary->poll_query_until('postgres',
		'SELECT xmin IS NOT NULL FROM pg_replication_slots'),
	'feedback arrives when it is turned on');
remove_rows_seen(200, 1, 'with feedback');
is($standby->safe_psql('postgres', conflicts()), 1, 'and nobody else is');
is_hop($primary, $standby, undef, 'feedback');

$standby->append_conf('postgresql.conf', 'hot_standby_feedback = off');
$standby->reload;
ok( $primary->poll_query_until('postgres',
		'SELECT xmin IS NULL FROM pg_replication_slots'),
	'the slot holds no xmin when it is turned off');

# ---- a slot that the walreceiver makes for itself ----

my $old = receiver_pid($standby);
$standby->append_conf('postgresql.conf',
	"primary_slot_name = ''\nwal_receiver_create_temp_slot = on");
$standby->reload;
ok( $primary->poll_query_until(
		'postgres',
		'SELECT temporary FROM pg_replication_slots s, pg_stat_replication r '
		  . 'WHERE s.active_pid = r.pid'),
	'a temporary slot');
isnt(receiver_pid($standby), $old, 'of a new walreceiver');
is_hop($primary, $standby, undef, 'temporary slot');

$load = start_rows($primary, 4);
ok(wait_rows($primary, 20), 'rows are committed with a temporary slot');
stop_rows($load);
same_data($primary, $standby, "$rows; SELECT count(*) FROM kept",
	'same rows on both sides');
no_row_lost($standby, 'standby');
no_fallback($_) foreach $primary, $standby;

done_testing();
