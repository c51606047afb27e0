# SPDX-License-Identifier: PostgreSQL
#
# Shutdown of either server, under load and idle: how long it takes, that the
# standby has all WAL of a primary that was shut down in order, up to its last
# checkpoint, and that no acknowledged row is missing whatever the mode.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $rows = 'SELECT run, client, count(*), sum(id) FROM acked '
  . 'GROUP BY 1, 2 ORDER BY 1, 2';

# Waits of a stream without traffic for a second are waits for descriptors.
my $idle = 1.5;

my ($primary, $standby) = make_pair(
	primary_conf => fault_conf() . "synchronous_commit = on\n",
	standby_conf => fault_conf());

sub control_value
{
	my ($node, $name) = @_;
	my ($out) = run_command([ 'pg_controldata', $node->data_dir ]);

	$out =~ /^\Q$name\E:\s+(.*)$/m or die "no '$name' in $out";
	return $1;
}

# Stop a node; its clients, if any, are disconnected.
sub stop_in_time
{
	my ($node, $mode, $what) = @_;
	my $seconds = seconds_of(sub { $node->stop($mode) });

	cmp_ok($seconds, '<', patience(5), sprintf '%s takes %.1f s', $what,
		$seconds);
	return;
}

# The standby of a primary that was shut down in order has the record of the
# shutdown checkpoint, the last one there is.
sub has_shutdown_checkpoint
{
	my ($what) = @_;

	is(control_value($primary, 'Database cluster state'),
		'shut down', "$what: the primary was shut down in order");
	my $lsn = control_value($primary, 'Latest checkpoint location');
	is( $standby->safe_psql(
			'postgres', "SELECT pg_last_wal_receive_lsn() > '$lsn'"),
		't',
		"$what: the standby has received the checkpoint at $lsn");
	my ($record) = run_command(
		[
			'pg_waldump', '-p', $standby->data_dir . '/pg_wal',
			'-n', 1, '-s', $lsn
		]);
	like($record, qr/CHECKPOINT_SHUTDOWN/,
		"$what: it is the shutdown checkpoint");
	return;
}

sub check_data
{
	my ($what) = @_;

	same_data($primary, $standby, $rows, "$what: same rows on both sides");
	no_row_lost($_, "$what, " . $_->name) foreach $primary, $standby;
	return;
}

create_rows($primary);

# ---- the primary ----

foreach my $mode ('fast', 'immediate')
{
	my $what = "$mode shutdown of the primary under load";
	my $load = start_rows($primary, 4);

	ok(wait_rows($primary, 50), "before $what: rows are committed");
	check_stream($primary, $standby, "before $what");
	stop_in_time($primary, $mode, $what);
	stop_rows($load, 2);
	has_shutdown_checkpoint($what) if $mode eq 'fast';
	# Now, without help of the primary.
	$standby->poll_query_until('postgres',
		'SELECT pg_last_wal_replay_lsn() = pg_last_wal_receive_lsn()')
	  or die 'the standby does not replay';
	no_row_lost($standby, "$what, primary down");

	$primary->start;
	check_stream($primary, $standby, "after $what");
	check_data($what);
}

{
	my $what = 'fast shutdown of the idle primary';

	sleep $idle;
	stop_in_time($primary, 'fast', $what);
	has_shutdown_checkpoint($what);
	$primary->start;
	check_stream($primary, $standby, "after $what");
	check_data($what);
}

# ---- the standby ----

foreach my $mode ('fast', 'immediate')
{
	my $what = "$mode shutdown of the standby under load";
	my $load = start_rows($primary, 4);
	my $offset = -s $primary->logfile;

	ok(wait_rows($primary, 50), "before $what: rows are committed");
	stop_in_time($standby, $mode, $what);
	ok( $primary->poll_query_until(
			'postgres', 'SELECT count(*) = 0 FROM pg_stat_replication'),
		"$what: the walsender ends");
	ok( $primary->poll_query_until(
			'postgres',
			"SELECT count(*) = 4 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
		),
		"$what: commits wait");
	$standby->start;
	ok(wait_rows($primary, 50), "$what: rows are committed again");
	stop_rows($load);
	check_stream($primary, $standby, "after $what");
	check_data($what);
	unlike(
		substr(slurp_file($primary->logfile), $offset),
		qr/pg_fastwake channel failed/,
		"$what: the walsender does not take it for a failure");
}

{
	my $what = 'fast shutdown of the idle standby';

	sleep $idle;
	stop_in_time($standby, 'fast', $what);
	$standby->start;
	check_stream($primary, $standby, "after $what");
	check_data($what);
}

# ---- promotion ----

{
	my $what = 'promotion after an immediate shutdown under load';
	my $load = start_rows($primary, 4);

	ok(wait_rows($primary, 50), "$what: rows are committed");
	$primary->stop('immediate');
	stop_rows($load, 2);
	$standby->promote;
	no_row_lost($standby, $what);
}

done_testing();
