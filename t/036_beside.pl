# SPDX-License-Identifier: PostgreSQL
#
# With the extension loaded at both ends: what is not physical replication to a
# standby stays on TCP and works, at the same time as a standby on a channel:
# pg_basebackup, pg_receivewal, logical replication, pg_recvlogical.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use File::Compare;
use IPC::Run;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rows = 'SELECT run, client, count(*), sum(id), md5(string_agg(filler, id::text '
  . 'ORDER BY id)) FROM acked GROUP BY 1, 2 ORDER BY 1, 2';

my ($primary, $standby) = make_pair(
	primary_conf => fault_conf()
	  . "wal_level = logical\nsynchronous_commit = on\nmax_connections = 30\n",
	standby_conf => fault_conf() . "max_connections = 30\n");
create_rows($primary);
$primary->safe_psql('postgres', <<'END');
CREATE PUBLICATION pub FOR TABLE acked;
SELECT pg_create_physical_replication_slot('receivewal', true);
SELECT pg_create_logical_replication_slot('recvlogical', 'test_decoding');
END

# The subscriber is a primary of its own, and has a standby's worth of reasons to
# ask for a channel: the same settings.
my $subscriber = make_primary('subscriber', conf => fault_conf());
$subscriber->start;
create_rows($subscriber);
my $connstr = primary_conninfo($primary, 'sub', dbname => 'postgres');
$subscriber->safe_psql('postgres',
	'CREATE EXTENSION pg_fastwake; '
	  . "CREATE SUBSCRIPTION sub CONNECTION '$connstr' PUBLICATION pub");
$subscriber->wait_for_subscription_sync($primary, 'sub');

# ---- all at once ----

my $dir = PostgreSQL::Test::Utils::tempdir();
mkdir "$dir/wal" or die "$dir/wal: $!";
my $segment = $primary->safe_psql('postgres',
	'SELECT pg_walfile_name(pg_current_wal_lsn())');

sub start_client
{
	my ($name, @command) = @_;
	my %client = (name => $name, output => '');

	# Their own names, not the test's.
	delete local $ENV{PGAPPNAME};
	$client{harness} = IPC::Run::start(
		[ @command, '-d', $primary->connstr('postgres') ],
		'<' => \undef,
		'>' => \$client{output},
		'2>' => \$client{output},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default * 2));
	return \%client;
}

my $load = start_rows($primary, 4);
ok(wait_rows($primary, 50), 'rows are committed');
my $receivewal = start_client('pg_receivewal', 'pg_receivewal',
	'-D', "$dir/wal", '--slot', 'receivewal', '--synchronous');
my $recvlogical = start_client('pg_recvlogical', 'pg_recvlogical', '--start',
	'--slot', 'recvlogical', '-o', 'skip-empty-xacts=1', '-f', "$dir/logical",
	'--fsync-interval', '0', '--status-interval', '1');
# Slow, so that its walsenders can be looked at.
my $basebackup = start_client('pg_basebackup', 'pg_basebackup',
	'-D', "$dir/base", '-X', 'stream', '--checkpoint', 'fast', '--no-sync',
	'--max-rate', '4M');

# Six walsenders (pg_basebackup has two), of which only the standby's has
# anything to do with a channel.
my $seen = poll_output($primary, <<'END', qr/^6\|/);
SELECT count(*), string_agg(r.application_name || ' ' || coalesce(transport, '-'),
    ', ' ORDER BY r.application_name)
  FROM pg_stat_replication r LEFT JOIN pg_stat_fastwake_replication USING (pid)
END
is( $seen,
	'6|pg_basebackup -, pg_basebackup -, pg_receivewal -, pg_recvlogical -, '
	  . "standby ${\ transport()}, sub -",
	'only the standby uses a channel');
is_hop($primary, $standby);
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM pg_fastwake_replication()'),
	0, 'the subscriber has not thought of one');
ok(wait_rows($primary, 50), 'rows are committed beside them all');

# ---- each has done its work ----

$basebackup->{harness}->finish;
is($basebackup->{harness}->result(0), 0, 'pg_basebackup succeeds')
  or diag $basebackup->{output};
command_ok([ 'pg_verifybackup', "$dir/base" ], 'the backup is good');

stop_rows($load);
$primary->wait_for_catchup('sub');
is( $subscriber->safe_psql('postgres', $rows),
	$primary->safe_psql('postgres', $rows),
	'same rows at the subscriber');
no_row_lost($subscriber, 'subscriber');
same_data($primary, $standby, $rows, 'same rows at the standby');

my $lsn = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
$primary->poll_query_until('postgres', <<"END") or die 'a client lags';
SELECT count(*) = 2 FROM pg_replication_slots
  WHERE slot_name = 'receivewal' AND restart_lsn >= '$lsn'
  OR slot_name = 'recvlogical' AND confirmed_flush_lsn >= '$lsn'
END
foreach my $client ($receivewal, $recvlogical)
{
	$client->{harness}->signal('INT');
	$client->{harness}->finish;
	is($client->{harness}->result(0), 0, "$client->{name} ends in order")
	  or diag $client->{output};
}

# Beyond the end of WAL the files need not be the same.
my $file = "$dir/wal/$segment";
$file .= '.partial' if !-e $file;
my $received = slurp_file($file);
my $written = slurp_file($primary->data_dir . "/pg_wal/$segment");
if ($file =~ /partial$/)
{
	my $end = $primary->safe_psql('postgres',
		"SELECT file_offset FROM pg_walfile_name_offset('$lsn')");
	$_ = substr $_, 0, $end foreach $received, $written;
}
ok($received eq $written, 'pg_receivewal has the primary\'s WAL');

# The slot is older than any row.
my $decoded = () = slurp_file("$dir/logical") =~ /^table public.acked: INSERT/mg;
is($decoded, $primary->safe_psql('postgres', 'SELECT count(*) FROM acked'),
	'pg_recvlogical has every row');

# The backup becomes a server, with all rows up to its end.
my $copy = PostgreSQL::Test::Cluster->new('copy');
mkdir $primary->backup_dir . '/copy';
rename "$dir/base", $primary->backup_dir . '/copy' or die "rename: $!";
$copy->init_from_backup($primary, 'copy');
$copy->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
unlink $copy->data_dir . '/postgresql.auto.conf';
$copy->start;
cmp_ok($copy->safe_psql('postgres', 'SELECT count(*) FROM acked'),
	'>=', 50, 'a server starts from the backup');
no_fallback($_) foreach $primary, $standby, $subscriber;

done_testing();
