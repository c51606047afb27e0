# SPDX-License-Identifier: PostgreSQL
#
# A short replication session of servers that run under valgrind's memcheck: no
# error in which this project's code takes part.  t/run puts a pg_ctl first in
# the path that starts its servers so; they write to FW_VALGRIND.*.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;

use Faults;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $logs = $ENV{FW_VALGRIND} or plan skip_all => 'to be run by t/run valgrind';

# Frames of ours, which valgrind shows with the whole path.
my $OURS = qr{/(?:core/src|pg_fastwake)/\w+\.c:\d+|pg_fastwake\.so};

my $small = fault_conf() . <<'END';
max_connections = 20
shared_buffers = 16MB
autovacuum = off
max_parallel_workers_per_gather = 0
END
my ($primary, $standby) =
  make_pair(primary_conf => $small, standby_conf => $small);

sub commit_arrives
{
	my ($what, $level) = @_;

	$primary->safe_psql('postgres', <<"END");
SET synchronous_commit = $level;
INSERT INTO t SELECT i, repeat('x', i) FROM generate_series(1, 300) i;
END
	same_data($primary, $standby, 'SELECT count(*), sum(length(v)) FROM t',
		"$what: commits arrive");
}

is_transport($standby, 'receiver');
is_transport($primary, 'sender');
$primary->safe_psql('postgres', 'CREATE TABLE t (i int, v text)');
commit_arrives($_, $_) foreach qw(remote_write on remote_apply);

# A message of several rings.
$primary->safe_psql('postgres',
	'INSERT INTO t SELECT i, repeat(md5(i::text), 100) FROM generate_series(1, 1000) i');
commit_arrives('megabytes', 'on');

# All views, on both sides.
foreach my $node ($primary, $standby)
{
	foreach my $view (
		'pg_stat_fastwake', 'pg_stat_fastwake_replication',
		'pg_stat_fastwake_waits')
	{
		$node->safe_psql('postgres', "SELECT * FROM $view");
	}
}

# Again, refused, again; both sides as client and server of an endpoint.
disconnect($primary, 'standby');
wait_streaming($primary, 'standby');
commit_arrives('a second connection', 'on');
set_conf($primary, 'pg_fastwake.enabled' => 'off');
disconnect($primary, 'standby');
is_transport($standby, 'receiver', 'tcp', 'refused by the primary');
set_conf($primary, 'pg_fastwake.enabled' => undef);
reconnect($primary, 'standby');
commit_arrives('a third connection', 'on');
like(
	$primary->safe_psql('postgres', 'SHOW pg_fastwake.endpoint',
		replication => 'true'),
	qr/^fastwake\/1 /,
	'an endpoint nobody connects to');

$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
$primary->stop('immediate');
$standby->stop;

# ---- what valgrind says ----

my ($processes, $ours, $others) = (0, 0, 0);
foreach my $file (glob "$logs.*")
{
	my $log = slurp_file($file);
	$processes++;

	# An error is a paragraph that has a stack.
	foreach my $error (split /^==\d+== *\n/m, $log)
	{
		next unless $error =~ /^==\d+==    (?:at|by) 0x/m;
		if ($error =~ $OURS)
		{
			$ours++;
			diag $error;
		}
		else
		{
			$others++ or diag "the first that is not ours:\n$error";
		}
	}
}
note "$processes processes, $others errors of PostgreSQL's own";
cmp_ok($processes, '>', 10, 'servers ran under valgrind');
is($ours, 0, 'no error in this code');
done_testing();
