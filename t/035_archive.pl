# SPDX-License-Identifier: PostgreSQL
#
# A standby that cannot stream lives on the archive, and goes back to the channel
# as soon as it can, again and again.
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

# What the standby has not got is soon in the archive only.
my $primary = make_primary('primary',
	has_archiving => 1,
	conf => fault_conf() . "wal_keep_size = 0\n");
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION pg_fastwake');
create_rows($primary);
my $standby = make_standby($primary, 'standby', conf => fault_conf());
$standby->enable_restoring($primary);
$standby->start;
wait_streaming($primary, 'standby');
my $load = start_rows($primary, 4);

# Streaming is impossible: all that arrives is from the archive.
sub from_archive
{
	my ($what) = @_;
	my $offset = -s $standby->logfile;

	ok(wait_rows($primary, 50), "$what: rows are committed");
	my $lsn = $primary->safe_psql('postgres',
		'SELECT pg_current_wal_lsn(); SELECT pg_switch_wal()');
	$lsn =~ s/\n.*//s;
	ok( $standby->poll_query_until('postgres',
			"SELECT pg_last_wal_replay_lsn() >= '$lsn'"),
		"$what: and arrive");
	ok(poll_log($standby, qr/restored log file "[0-9A-F]+" from archive/, $offset),
		"$what: from the archive");
	is( $standby->safe_psql('postgres',
			"SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"),
		0,
		"$what: not by streaming");
	return;
}

sub streams_again
{
	my ($what) = @_;

	wait_streaming($primary, 'standby');
	ok(wait_rows($primary, 50), "$what: rows are committed");
	is_hop($primary, $standby, undef, $what);
	same_data($primary, $standby, 'SELECT 1', "$what: WAL arrives");
	return;
}

streams_again('at first');

# ---- the primary cannot be reached ----

my $conninfo = primary_conninfo($primary, 'standby');
my $nobody = primary_conninfo($primary, 'standby',
	port => PostgreSQL::Test::Cluster::get_free_port());

foreach my $round (1 .. 3)
{
	$standby->append_conf('postgresql.conf', "primary_conninfo = '$nobody'");
	$standby->reload;
	ok( $primary->poll_query_until('postgres',
			'SELECT count(*) = 0 FROM pg_stat_replication'),
		"round $round: the standby has left");
	from_archive("round $round, archive");
	$standby->append_conf('postgresql.conf', "primary_conninfo = '$conninfo'");
	$standby->reload;
	streams_again("round $round, stream");
}

# ---- what the standby needs is in the archive only ----

$standby->stop;
foreach (1 .. 4)
{
	ok(wait_rows($primary, 20), 'rows are committed without the standby');
	$primary->safe_psql('postgres', 'SELECT pg_switch_wal(); CHECKPOINT');
}
my $offset = -s $standby->logfile;
$standby->start;
streams_again('after a long absence');
like(
	substr(slurp_file($standby->logfile), $offset),
	qr/restored log file .* from archive.*travels over ${\ transport()}/s,
	'first from the archive, then over the channel');

stop_rows($load);
same_data($primary, $standby, $rows, 'same rows on both sides');
no_row_lost($standby, 'standby');
no_fallback($_) foreach $primary, $standby;

done_testing();
