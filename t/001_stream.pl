# SPDX-License-Identifier: PostgreSQL
#
# Physical replication on a channel: every level of synchronous_commit, bursts
# larger than the ring, restarts, cascading, and what must stay untouched.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;

use Faults;
use File::Compare;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# What both sides must agree on.  The text makes a lost, doubled or damaged
# byte of a row visible.
my $content = 'SELECT level, count(*), sum(hashtextextended(v, id)) '
  . 'FROM load GROUP BY level ORDER BY level';

my $CLIENTS = 8;
my $TRANSACTIONS = 40;

# Per class of waits, how many there were: in memory, and in all.
sub waits
{
	my ($node) = @_;
	my %waits;

	foreach my $row (
		split /\n/,
		$node->safe_psql('postgres',
			"SELECT class, sum(waits) FILTER (WHERE mode = 'memory'), sum(waits) "
			  . 'FROM pg_stat_fastwake_waits GROUP BY class'))
	{
		my ($class, $memory, $all) = split /\|/, $row;
		$waits{$class} = { memory => $memory, all => $all };
	}
	return \%waits;
}

# A burst of WAL that the walsender, stopped meanwhile, finds all at once: so
# it comes in messages of core's largest size (128 kB).
sub burst
{
	my ($node, $level, $rows) = @_;
	my $sender = sender_pid($node, 'standby');

	stop_process($sender);
	$node->safe_psql('postgres',
		    'SET synchronous_commit = local; '
		  . 'INSERT INTO load (level, v) '
		  . "SELECT '$level', repeat(md5(i::text), 20) "
		  . "FROM generate_series(1, $rows) i");
	send_signal('CONT', $sender);
}

my ($primary, $standby) = make_pair(
	primary_conf => "wal_level = logical\nmax_connections = 40\n",
	standby_conf => "wal_receiver_status_interval = 60s\n");
$primary->safe_psql('postgres',
	'CREATE TABLE load (id bigserial PRIMARY KEY, level text, v text)');

is_transport($primary, 'sender');
is_transport($standby, 'receiver');

# ---- what is reported when there is nothing else to do ----

# The report of the apply is held, in vain here, for a report of a flush: not until
# core's own next one, a minute later.
my $start = time;
$primary->safe_psql('postgres', 'CREATE TABLE reported (i int)');
ok( $primary->poll_query_until(
		'postgres',
		'SELECT replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication'),
	'the primary learns of the apply');
cmp_ok(time - $start, '<', 10, 'soon');

# ---- every level under load ----

foreach my $level (qw(off local remote_write on remote_apply))
{
	local $ENV{PGOPTIONS} = "-c synchronous_commit=$level";
	$primary->pgbench(
		"-n -c $CLIENTS -j 2 -t $TRANSACTIONS",
		0,
		[qr{processed: (\d+)/\1}],
		[qr{^$}],
		"load with synchronous_commit = $level",
		{
			"level_$level" => "INSERT INTO load (level, v) "
			  . "VALUES ('$level', md5(random()::text));\n"
		});

	# The commit said: visible on the standby.  So look without waiting.
	is( $standby->safe_psql('postgres',
			"SELECT count(*) FROM load WHERE level = 'remote_apply'"),
		$CLIENTS * $TRANSACTIONS,
		'all that was committed with remote_apply is visible at once')
	  if $level eq 'remote_apply';
}
is( $primary->safe_psql('postgres', 'SELECT count(*) FROM load'),
	5 * $CLIENTS * $TRANSACTIONS,
	'every transaction of the load was committed');
same_data($primary, $standby, $content, 'load of all levels is on both sides');
is_transport($primary, 'sender', undef, 'the load did not leave the channel');

# Over rdma only a walsender's and a walreceiver's descriptors can be waited for.
my $sent = waits($primary);
my $received = waits($standby);
cmp_ok($sent->{sync_commit}{memory}, '>', 0, 'commits waited in memory');
cmp_ok($sent->{walsender}{all}, '>', 0, 'the walsender waited');
cmp_ok($received->{walreceiver}{all}, '>', 0, 'so did the walreceiver');
cmp_ok($received->{startup}{memory},
	'>', 0, 'and the startup process, in memory');
cmp_ok(
	$primary->safe_psql('postgres',
		'SELECT signals_saved FROM pg_stat_fastwake'),
	'>', 0,
	'wake-ups took the place of signals');

# ---- what each level waits for ----

# Replay is paused: only remote_apply needs it.
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$standby->poll_query_until('postgres',
	"SELECT pg_get_wal_replay_pause_state() = 'paused'")
  or die 'replay does not pause';
is( $primary->safe_psql('postgres',
		join ';',
		map {
			"SET synchronous_commit = $_; "
			  . "INSERT INTO load (level, v) VALUES ('pause', 'x') RETURNING '$_'"
		} qw(off local remote_write on)),
	"off\nlocal\nremote_write\non",
	'all other levels commit while replay is paused');
my $session = $primary->background_psql('postgres');
$session->query_safe('SET synchronous_commit = remote_apply');
$session->query_until(qr/begun/,
	"\\echo begun\nINSERT INTO load (level, v) VALUES ('pause', 'apply');\n");
my $waiting = "SELECT count(*) FROM pg_stat_activity WHERE "
  . "wait_event = 'SyncRep' AND query LIKE 'INSERT%'";
ok($primary->poll_query_until('postgres', $waiting, '1'),
	'remote_apply waits while replay is paused');
is($primary->safe_psql('postgres', $waiting), 1, 'and goes on waiting');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
# Returns only if the commit does.
$session->query_safe('SELECT 1');
is( $standby->safe_psql('postgres', "SELECT count(*) FROM load WHERE v = 'apply'"),
	1,
	'remote_apply ended when the row was visible');

# The walreceiver is stopped: only off and local do without it.
my $receiver = receiver_pid($standby);
stop_process($receiver);
is( $primary->safe_psql('postgres',
		join ';',
		map {
			"SET synchronous_commit = $_; "
			  . "INSERT INTO load (level, v) VALUES ('stop', 'x') RETURNING '$_'"
		} qw(off local)),
	"off\nlocal",
	'off and local commit without the walreceiver');
$session->query_safe('SET synchronous_commit = remote_write');
$session->query_until(qr/begun/,
	"\\echo begun\nINSERT INTO load (level, v) VALUES ('stop', 'write');\n");
ok($primary->poll_query_until('postgres', $waiting, '1'),
	'remote_write waits without the walreceiver');
send_signal('CONT', $receiver);
$session->query_safe('SELECT 1');
pass('remote_write ended when the walreceiver went on');
$session->quit;

# ---- large transactions ----

# A new connection, whose figures begin at zero.
reconnect($primary, 'standby');
is_transport($primary, 'sender', undef,
	'a terminated walsender is followed by one on a channel');
burst($primary, 'burst', 4000);
same_data($primary, $standby, $content, 'a burst larger than the ring arrived');
my (undef, $bytes, $messages) = split /\|/,
  poll_output(
	$primary,
	'SELECT sent_bytes > 2500000, sent_bytes, sent_messages '
	  . 'FROM pg_fastwake_replication()',
	qr/^t\|/);
cmp_ok($bytes / $messages, '>', 64 * 1024,
	"messages of the burst were large ($messages for $bytes bytes)");

# One WAL record of several MB, and many.
$primary->safe_psql('postgres',
	    "SELECT pg_logical_emit_message(true, 'test', repeat('x', 3000000)); "
	  . 'INSERT INTO load (level, v) '
	  . "SELECT 'large', repeat(md5(i::text), 20) FROM generate_series(1, 4000) i");
same_data($primary, $standby, $content, 'large transactions arrived');

my ($p50, $p99, $max, $replies) = split /\|/,
  connection_value($primary, 'sender',
	'rtt_p50_us, rtt_p99_us, rtt_max_us, received_messages');
cmp_ok($p50, '>', 0, 'the view shows round-trip times');
cmp_ok($p99, '>=', $p50, 'with quantiles in order');
cmp_ok($max, '>=', $p99 / 1.2, 'and the longest');
cmp_ok($replies, '>', 0, 'replies came by the channel');
ok( $standby->poll_query_until('postgres',
		'SELECT received_bytes > 5000000 FROM pg_fastwake_replication()'),
	'the view of the standby shows what it received');

# ---- standby restarts, with a ring smaller than a message ----

foreach my $node ($primary, $standby)
{
	$node->append_conf('postgresql.conf', 'pg_fastwake.ring_size = 64kB');
	$node->reload;
}
$standby->restart;
wait_streaming($primary, 'standby');
is_transport($primary, 'sender', undef, 'the channel is back after a restart of the standby');

burst($primary, 'small ring', 4000);
same_data($primary, $standby, $content, 'a burst passed a ring smaller than its messages');
ok( $primary->poll_query_until(
		'postgres',
		'SELECT ring_size = 65536 AND full_waits > 0 '
		  . 'FROM pg_fastwake_replication()'),
	'the ring was full and the walsender waited for space');
{
	local $ENV{PGOPTIONS} = '-c synchronous_commit=on';
	$primary->pgbench(
		"-n -c $CLIENTS -j 2 -t $TRANSACTIONS",
		0,
		[qr{processed: (\d+)/\1}],
		[qr{^$}],
		'load through the small ring',
		{
			small => "INSERT INTO load (level, v) "
			  . "VALUES ('small', repeat(md5(random()::text), 300));\n"
		});
}
same_data($primary, $standby, $content, 'load through the small ring is on both sides');

# ---- a cascading standby; pg_basebackup and pg_receivewal beside it ----

my $cascade = make_standby($standby, 'cascade');
$cascade->start;
wait_streaming($standby, 'cascade');
command_ok([ 'pg_verifybackup', $standby->backup_dir . '/for_cascade' ],
	'pg_basebackup from a standby on a channel gave a good backup');

my $segment = $primary->safe_psql('postgres',
	'SELECT pg_walfile_name(pg_current_wal_lsn())');
# A slot, so that it begins here and not at the current segment.
$primary->safe_psql('postgres',
	"SELECT pg_create_physical_replication_slot('receivewal', true)");
my $archive = $primary->basedir . '/receivewal';
mkdir $archive;
burst($primary, 'cascade', 2000);
my $end = $primary->safe_psql('postgres',
	'SELECT pg_switch_wal(); SELECT pg_current_wal_lsn()');
$end =~ s/.*\n//s;
$primary->safe_psql('postgres', "INSERT INTO load (level, v) VALUES ('next', 'x')");
command_ok(
	[
		'pg_receivewal', '-D', $archive, '--no-loop', '--no-sync',
		'--slot', 'receivewal', '--endpos', $end, '-d', $primary->connstr
	],
	'pg_receivewal streams beside the standby');
ok( compare("$archive/$segment", $primary->data_dir . "/pg_wal/$segment") == 0,
	'what pg_receivewal received is the primary\'s WAL');
is( $primary->safe_psql('postgres',
		"SELECT count(*) FROM pg_fastwake_replication() WHERE role = 'sender'"),
	1,
	'only the standby has asked for a channel');

same_data($primary, $cascade, $content, 'data passed both hops');
is_transport($standby, 'sender');
is_transport($cascade, 'receiver');
is_transport($standby, 'receiver');
is_transport($primary, 'sender');
$cascade->stop;

# ---- logical replication, with the extension loaded ----

# Within one server: the slot must be made apart, since CREATE SUBSCRIPTION
# would wait for its own transaction.
$primary->safe_psql('postgres', <<'END');
CREATE TABLE copied (id int PRIMARY KEY, v text);
INSERT INTO copied SELECT i, md5(i::text) FROM generate_series(1, 100) i;
CREATE PUBLICATION pub FOR TABLE copied;
CREATE DATABASE other;
SELECT pg_create_logical_replication_slot('sub', 'pgoutput');
END
my $connstr = primary_conninfo($primary, 'sub', dbname => 'postgres');
$primary->safe_psql('other', 'CREATE TABLE copied (id int PRIMARY KEY, v text)');
$primary->safe_psql('other',
	    "CREATE SUBSCRIPTION sub CONNECTION '$connstr' PUBLICATION pub "
	  . "WITH (create_slot = false, slot_name = 'sub')");
$primary->wait_for_subscription_sync($primary, 'sub', 'other');
$primary->safe_psql('postgres',
	"INSERT INTO copied SELECT i, repeat(md5(i::text), 10) FROM generate_series(101, 1000) i");
$primary->wait_for_catchup('sub');
my $copied = 'SELECT count(*), sum(hashtextextended(v, id)) FROM copied';
is( $primary->safe_psql('other', $copied),
	$primary->safe_psql('postgres', $copied),
	'logical replication delivers its rows');
is( $primary->safe_psql('postgres',
		'SELECT string_agg(role, \',\') FROM pg_fastwake_replication()'),
	'sender',
	'logical replication has not asked for a channel');
$primary->safe_psql('other', 'DROP SUBSCRIPTION sub');

# ---- the primary restarts ----

$primary->restart;
wait_streaming($primary, 'standby');
is_transport($primary, 'sender', undef, 'the channel is back after a restart of the primary');
is_transport($standby, 'receiver');
$primary->safe_psql('postgres',
	"INSERT INTO load (level, v) VALUES ('restart', 'x')");
same_data($primary, $standby, $content, 'and data flows');
# No restart has counted as a failure of the channel.
no_fallback($_) foreach $primary, $standby;

$standby->stop;
$primary->stop;
done_testing();
