# SPDX-License-Identifier: PostgreSQL
#
# A delayed standby: WAL arrives, and is flushed and reported, at once; it is
# applied later.  A remote_apply commit waits for that, and no other does.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $delay = patience(3);

my ($primary, $standby) = make_pair(
	primary_conf => fault_conf() . "synchronous_commit = on\n",
	standby_conf => fault_conf());
create_rows($primary);
is_hop($primary, $standby);
my $session = $primary->background_psql('postgres');
my $session_pid = $session->query_safe('SELECT pg_backend_pid()');
my $row = 0;

# How long the commit of a row takes.
sub commit_seconds
{
	my ($level) = @_;

	$row++;
	$session->query_safe("SET synchronous_commit = $level");
	return seconds_of(
		sub { $session->query_safe("INSERT INTO acked VALUES (0, 0, $row)") });
}

# A commit with remote_apply that waits.
sub start_apply
{
	$row++;
	$session->query_until(qr/begun/,
		"SET synchronous_commit = remote_apply;\n\\echo begun\n"
		  . "INSERT INTO acked VALUES (0, 0, $row);\n");
	ok( $primary->poll_query_until(
			'postgres',
			"SELECT wait_event = 'SyncRep' FROM pg_stat_activity "
			  . "WHERE pid = $session_pid"),
		'remote_apply waits');
	return;
}

sub set_delay
{
	my ($value) = @_;

	$standby->append_conf('postgresql.conf',
		"recovery_min_apply_delay = $value");
	$standby->reload;
	ok( $standby->poll_query_until('postgres',
			"SELECT current_setting('recovery_min_apply_delay') = '$value'"),
		"delay of $value");
	return;
}

# ---- a delay of some seconds ----

set_delay("${delay}s");
my $seconds = commit_seconds('on');
cmp_ok($seconds, '<', 0.7 * $delay,
	sprintf 'on does not wait for the delay: %.2f s', $seconds);
$seconds = commit_seconds('remote_apply');
cmp_ok($seconds, '>', 0.95 * $delay,
	sprintf 'remote_apply waits for %.2f s', $seconds);
cmp_ok($seconds, '<', $delay + patience(1), 'and not much longer');
is( $standby->safe_psql('postgres', "SELECT count(*) FROM acked WHERE id = $row"),
	1, 'the row is visible at once');

# Under load: replay is late by the delay, the flush is not.
my $load = start_rows($primary, 4);
ok( $primary->poll_query_until('postgres', <<"END"), 'replay lags by the delay');
SELECT replay_lag > '@{[0.9 * $delay]} s' AND flush_lag < '@{[0.7 * $delay]} s'
  AND replay_lsn < flush_lsn FROM pg_stat_replication
END
is_hop($primary, $standby, undef, 'load');
stop_rows($load);

# ---- a delay without end is ended by a new setting, or by a promotion ----

set_delay('1h');
start_apply();
$seconds = seconds_of(sub { set_delay('0'); $session->query_safe('SELECT 1') });
cmp_ok($seconds, '<', patience(2),
	sprintf 'remote_apply ends when the delay does: %.2f s', $seconds);
same_data($primary, $standby, 'SELECT run, client, count(*), sum(id) FROM acked '
	  . 'GROUP BY 1, 2 ORDER BY 1, 2', 'same rows on both sides');

set_delay('1h');
is_hop($primary, $standby, undef, 'before the promotion');
commit_seconds('on');
my $missing = "SELECT count(*) FROM acked WHERE run = 0 AND id = $row";
ok( $primary->poll_query_until(
		'postgres',
		'SELECT flush_lsn = pg_current_wal_flush_lsn() AND replay_lsn < flush_lsn '
		  . 'FROM pg_stat_replication'),
	'WAL arrives while it is not applied');
is($standby->safe_psql('postgres', $missing), 0, 'its row is not visible');
start_apply();
no_fallback($_) foreach $primary, $standby;
$primary->stop('immediate');
# psql has lost its connection.
$session->{run}->finish;
my $promoted = seconds_of(sub { $standby->promote });
cmp_ok($promoted, '<', patience(10),
	sprintf 'promoted in %.1f s, not in an hour', $promoted);
is($standby->safe_psql('postgres', $missing), 1, 'with the row');
no_row_lost($standby, 'promoted');

done_testing();
