# SPDX-License-Identifier: PostgreSQL
#
# synchronous_standby_names over three standbys, two on a channel and one (without
# the extension) on TCP: a commit waits for whom PostgreSQL's documentation says,
# whatever carries the WAL, while standbys stand still and when they die.
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

my $primary = make_primary('primary',
	conf => fault_conf() . <<'END');
synchronous_commit = on
wal_sender_timeout = 0
END
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION pg_fastwake');
create_rows($primary);

my %standbys;
foreach my $name (qw(a b c))
{
	$standbys{$name} = make_standby($primary, $name,
		preload => $name ne 'c',
		conf => fault_conf() . "wal_receiver_timeout = 0\n");
	$standbys{$name}->start;
	wait_streaming($primary, $name);
}

sub check_hops
{
	my ($when) = @_;

	is_hop($primary, $standbys{$_}, $_ eq 'c' ? 'tcp' : transport(),
		"$when: $_")
	  foreach qw(a b c);
	return;
}

# As in pg_stat_replication.
sub wait_states
{
	my ($expected, $what) = @_;
	my $seen = poll_output(
		$primary,
		"SELECT string_agg(application_name || ' ' || sync_state, ', ' "
		  . 'ORDER BY application_name) FROM pg_stat_replication',
		qr/^\Q$expected\E$/);

	return is($seen, $expected, $what);
}

# ---- whom a commit waits for ----

my $session = $primary->background_psql('postgres');
my $session_pid = $session->query_safe('SELECT pg_backend_pid()');
my $row = 0;

# With these names, a commit while those standbys stand still.  "Waits" is seen
# when all others have reported the commit's WAL as flushed.
sub commit_with
{
	my ($names, $states, $stopped, $expected) = @_;
	my $what = "$names, " . (@$stopped ? "@$stopped stopped" : 'all run');
	my @pids = map { receiver_pid($standbys{$_}) } @$stopped;
	my $others = join ', ', map { "'$_'" } grep {
		my $name = $_;
		!grep { $_ eq $name } @$stopped
	} sort keys %standbys;
	my $count = 3 - @$stopped;

	set_conf($primary, synchronous_standby_names => $names);
	wait_states($states, "$names: $states");
	stop_process($_) foreach @pids;
	$row++;
	$session->query_until(qr/begun/,
		"\\echo begun\nINSERT INTO acked VALUES (0, 0, $row);\n");
	my $query = <<"END";
SELECT CASE
  WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $session_pid
    AND state = 'active')
    AND EXISTS (SELECT FROM acked WHERE run = 0 AND id = $row) THEN 'commits'
  WHEN EXISTS (SELECT FROM pg_stat_activity WHERE pid = $session_pid
    AND wait_event = 'SyncRep')
    AND (SELECT count(*) = $count FROM pg_stat_replication
      WHERE application_name IN ($others)
      AND flush_lsn >= pg_current_wal_flush_lsn()) THEN 'waits'
  END
END
	my $seen = poll_output($primary, $query, qr/./);
	# All reports are in: if it were free to go it would be on its way.
	$seen = poll_output($primary, $query, qr/./) if $seen eq 'waits';
	is($seen, $expected, "$what: a commit $expected");
	send_signal('CONT', @pids);
	# Returns only if the commit does.
	$session->query_safe('SELECT 1');
	return;
}

my $first = 'a sync, b potential, c sync';
my $any = 'a quorum, b quorum, c quorum';

check_hops('at first');
commit_with('FIRST 2 (a, c, b)', $first, ['b'], 'commits');
commit_with('FIRST 2 (a, c, b)', $first, ['a'], 'waits');
commit_with('FIRST 2 (a, c, b)', $first, ['c'], 'waits');
commit_with('FIRST 1 (c, a)', 'a potential, b async, c sync', [ 'a', 'b' ],
	'commits');
commit_with('ANY 2 (a, b, c)', $any, ['a'], 'commits');
commit_with('ANY 2 (a, b, c)', $any, [ 'a', 'c' ], 'waits');
commit_with('ANY 2 (a, b, c)', $any, [ 'a', 'b' ], 'waits');
commit_with('ANY 1 (*)', $any, [ 'a', 'b' ], 'commits');
$session->quit;

# ---- they die ----

set_conf($primary, synchronous_standby_names => 'FIRST 2 (a, c, b)');
wait_states($first, 'a and c are synchronous');
my $load = start_rows($primary, 4);
ok(wait_rows($primary, 50), 'rows are committed');
$standbys{a}->stop('immediate');
wait_states('b sync, c sync', 'a is dead, b takes its place');
ok(wait_rows($primary, 50), 'rows are committed without a');
$standbys{a}->start;
wait_states($first, 'a is synchronous again');
ok(wait_rows($primary, 50), 'rows are committed with a again');

set_conf($primary, synchronous_standby_names => 'ANY 2 (a, b, c)');
wait_states($any, 'any two');
$standbys{c}->stop('immediate');
wait_states('a quorum, b quorum', 'c is dead');
ok(wait_rows($primary, 50), 'rows are committed by the two on a channel');
$standbys{a}->stop('immediate');
ok( $primary->poll_query_until('postgres',
		"SELECT count(*) = 4 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"),
	'all commits wait when two are dead');
$standbys{c}->start;
ok(wait_rows($primary, 50),
	'rows are committed by one on a channel and one on TCP');
$standbys{a}->start;
wait_states($any, 'all are back');
check_hops('at the end');
stop_rows($load);

foreach my $name (qw(a b c))
{
	same_data($primary, $standbys{$name}, $rows, "same rows on $name");
	no_row_lost($standbys{$name}, $name);
}
no_fallback($standbys{$_}) foreach qw(a b);

done_testing();
