# SPDX-License-Identifier: PostgreSQL
#
# A standby follows its upstream, itself a standby, through a promotion: the
# stream of the old timeline ends and one of the new timeline begins, on the
# same connection and the same channel.
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

my ($primary, $upstream) = make_pair(
	primary_conf => fault_conf() . "synchronous_commit = on\n",
	standby_conf => fault_conf());
create_rows($primary);
# A ring with room for all that is written while the receiver stands still: a
# stream does not end before its last byte has found room.
my $downstream = make_standby($upstream, 'downstream',
	conf => fault_conf() . "pg_fastwake.ring_size = 2MB\n");
$downstream->start;
wait_streaming($upstream, 'downstream');

my $load = start_rows($primary, 1);
ok(wait_rows($primary, 100), 'rows are committed on timeline 1');
is_transport($primary, 'sender');
is_transport($upstream, 'receiver');
is_transport($upstream, 'sender');
is_transport($downstream, 'receiver');

my $sender = sender_pid($upstream, 'downstream');
my $receiver = receiver_pid($downstream);
my $received = connection_value($downstream, 'receiver', 'received_bytes');
my $offset = -s $downstream->logfile;

# The cascade is busy to the last moment, and the downstream standby finds the
# rest of the old timeline in the ring when TCP has told of its end already.
stop_process($receiver);
ok(wait_rows($primary, 50), 'rows are committed meanwhile');
$primary->stop('immediate');
stop_rows($load, 2);
$upstream->promote;
ok( $upstream->poll_query_until(
		'postgres',
		"SELECT stream_ends = 1 FROM pg_fastwake_replication() WHERE role = 'sender'"
	),
	'the walsender has ended the stream');
send_signal('CONT', $receiver);
my $seconds = seconds_of(
	sub {
		ok( poll_log(
				$downstream,
				qr/restarted WAL streaming at \S+ on timeline 2/, $offset),
			'the downstream standby streams the new timeline');
	});
cmp_ok($seconds, '<', patience(5),
	sprintf '%.1f s after it goes on', $seconds);
my $log = substr(slurp_file($downstream->logfile), $offset);
like($log, qr/replication terminated by primary server/,
	'the old stream ended in order');
unlike($log, qr/FATAL|ERROR|pg_fastwake: WAL from the primary travels/,
	'without an error or a new connection');

# Commits on the new timeline wait for the downstream standby.
$upstream->safe_psql('postgres',
	"ALTER SYSTEM SET synchronous_standby_names = 'downstream'");
$upstream->reload;
$upstream->poll_query_until('postgres',
	"SELECT sync_state = 'sync' FROM pg_stat_replication")
  or die 'downstream did not become synchronous';
no_row_lost($upstream, 'promoted');

my $waits = wait_count($upstream, 'sync_commit');
$load = start_rows($upstream, 4);
ok(wait_rows($upstream, 100), 'rows are committed on timeline 2');
stop_rows($load);
cmp_ok(wait_count($upstream, 'sync_commit'),
	'>', $waits, 'their commits wait by FastWake');

is(sender_pid($upstream, 'downstream'), $sender, 'same walsender');
is(receiver_pid($downstream), $receiver, 'same walreceiver');
is_transport($upstream, 'sender');
is_transport($downstream, 'receiver');
ok( $downstream->poll_query_until(
		'postgres',
		"SELECT received_bytes > $received FROM pg_fastwake_replication()"),
	'the same channel carries on');
is(connection_value($upstream, 'sender', 'stream_ends'),
	'1', 'the view shows the end of one stream');
is($downstream->safe_psql('postgres',
		'SELECT received_tli FROM pg_stat_wal_receiver'),
	'2', 'timeline 2 is what is received');
same_data($upstream, $downstream, $rows, 'same rows on both sides');
no_row_lost($downstream, 'downstream');
is($_->safe_psql('postgres', 'SELECT fallbacks FROM pg_stat_fastwake'),
	'0', 'no fallback on ' . $_->name)
  foreach $upstream, $downstream;

done_testing();
