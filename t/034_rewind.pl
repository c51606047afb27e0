# SPDX-License-Identifier: PostgreSQL
#
# Failover to the standby while the old primary goes on by itself; pg_rewind makes
# that one a standby of the new primary.  And the same again, the other way round.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use File::Copy;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rows = 'SELECT run, client, count(*), sum(id), md5(string_agg(filler, id::text '
  . 'ORDER BY id)) FROM acked GROUP BY 1, 2 ORDER BY 1, 2';

my ($one, $two) = make_pair(
	primary_conf => fault_conf()
	  . "synchronous_commit = on\nwal_keep_size = 320MB\n",
	standby_conf => fault_conf());
create_rows($one);
is_hop($one, $two);

# A new configuration would come with the files of the other server.
sub rewind
{
	my ($target, $source) = @_;
	my @names = qw(postgresql.conf postgresql.auto.conf);
	my $dir = PostgreSQL::Test::Utils::tempdir();

	copy($target->data_dir . "/$_", "$dir/$_") or die "$_: $!" foreach @names;
	command_checks_all(
		[
			'pg_rewind', '--source-server', $source->connstr('postgres'),
			'--target-pgdata', $target->data_dir, '--no-sync',
			'--config-file', "$dir/postgresql.conf"
		],
		0,
		[],
		[qr/servers diverged at WAL location .*pg_rewind: Done!/s],
		'pg_rewind of ' . $target->name);
	copy("$dir/$_", $target->data_dir . "/$_") or die "$_: $!" foreach @names;
	return;
}

# FROM fails over to TO, under load.
sub fail_over
{
	my ($from, $to, $timeline) = @_;
	my $what = "timeline $timeline";
	my $load = start_rows($from, 4);

	ok(wait_rows($from, 50), "$what: rows are committed before");
	# The standby lets go of its primary, whose commits then wait for ever; what
	# they wrote is where the servers diverge.
	$to->promote;
	is($to->safe_psql('postgres', 'SELECT pg_is_in_recovery()'),
		'f', "$what: promoted");
	$from->safe_psql('postgres',
		'SET synchronous_commit = local; INSERT INTO acked VALUES (-1, 0, '
		  . "$timeline); CHECKPOINT");
	$from->stop('immediate');
	stop_rows($load, 2);
	no_row_lost($to, "$what: new primary");

	$to->safe_psql('postgres', 'CHECKPOINT');
	set_conf($to, synchronous_standby_names => undef);
	my $offset = -s $to->logfile;
	rewind($from, $to);
	unlike(substr(slurp_file($to->logfile), $offset),
		qr/pg_fastwake: /, "$what: pg_rewind has not asked for a channel");

	my $conninfo = primary_conninfo($to, $from->name);
	$from->append_conf('postgresql.conf', "primary_conninfo = '$conninfo'\n");
	$from->set_standby_mode;
	$from->start;
	wait_streaming($to, $from->name);
	set_conf($to, synchronous_standby_names => $from->name);
	$load = start_rows($to, 4);
	ok(wait_rows($to, 50), "$what: rows are committed after");
	is_hop($to, $from, undef, $what);
	stop_rows($load);
	same_data($to, $from, $rows, "$what: same rows on both sides");
	is( $from->safe_psql('postgres', 'SELECT count(*) FROM acked WHERE run = -1'),
		0,
		"$what: without the row that only the old primary had");
	no_row_lost($from, "$what: old primary");
	is( $from->safe_psql('postgres',
			'SELECT received_tli FROM pg_stat_wal_receiver'),
		$timeline,
		"$what: received");
	no_fallback($_) foreach $from, $to;
	return;
}

fail_over($one, $two, 2);
fail_over($two, $one, 3);

done_testing();
