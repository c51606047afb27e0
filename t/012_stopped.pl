# SPDX-License-Identifier: PostgreSQL
#
# A standby that stops reading, so that the ring fills up: the walsender waits
# without using the processor, timeouts are those of stock PostgreSQL, and
# nothing is lost whether the standby goes on or is killed.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

# How long it stands still, in seconds.
my $pause = 30;

# Long enough for a busy machine to answer, short enough to wait for.
my $timeout = patience(3);

my ($primary, $standby) = make_pair(
	primary_conf => fault_conf() . <<'END',
synchronous_commit = on
wal_sender_timeout = 0
max_wal_size = 1GB
END
	standby_conf => fault_conf() . <<'END');
wal_receiver_timeout = 0
wal_receiver_status_interval = 1s
END

create_rows($primary);
$primary->safe_psql('postgres', 'CREATE TABLE bulk (v text)');

# More WAL than the ring and the walsender's own buffer hold, uncompressible.
sub fill_ring
{
	$primary->safe_psql('postgres',
		    'SET synchronous_commit = local; INSERT INTO bulk '
		  . "SELECT string_agg(md5(random()::text), '') "
		  . 'FROM generate_series(1, 100000) i GROUP BY i % 200');
	ok( $primary->poll_query_until(
			'postgres',
			'SELECT ring_used > 0.7 * ring_size AND full_waits > 0 '
			  . "FROM pg_fastwake_replication() WHERE role = 'sender'"),
		'the ring is full');
	return;
}

sub check_data
{
	my ($when) = @_;

	same_data($primary, $standby,
		'SELECT count(*), md5(string_agg(md5(v), NULL ORDER BY v)) FROM bulk',
		"$when: same bulk data");
	no_row_lost($_, "$when, " . $_->name) foreach $primary, $standby;
	return;
}

# ---- it goes on after a while ----

{
	check_stream($primary, $standby, 'at first');
	my $load = start_rows($primary, 4);
	ok(wait_rows($primary, 50), 'rows are committed before');

	my $sender = sender_pid($primary, 'standby');
	my $receiver = receiver_pid($standby);
	stop_process($receiver);
	fill_ring();
	ok( $primary->poll_query_until(
			'postgres',
			"SELECT count(*) = 4 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
		),
		'commits wait');

	my @waiting = split /\n/,
	  $primary->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
	my %before = map { $_ => cpu_seconds($_) } $sender, @waiting;
	my $start = time;
	sleep $pause;
	my $elapsed = time - $start;
	foreach my $pid ($sender, @waiting)
	{
		my $cpu = cpu_seconds($pid) - $before{$pid};
		cmp_ok(
			$cpu, '<',
			0.01 * $elapsed,
			sprintf '%s used less than 1 %% of a processor in %.0f s: %.2f s',
			$pid == $sender ? 'walsender' : 'waiting backend',
			$elapsed, $cpu);
	}

	send_signal('CONT', $receiver);
	ok(wait_rows($primary, 50), 'rows are committed after');
	stop_rows($load);
	is(sender_pid($primary, 'standby'), $sender, 'it is the same walsender');
	is(receiver_pid($standby), $receiver, 'it is the same walreceiver');
	check_stream($primary, $standby, 'continued');
	check_data('continued');
}

# ---- it stands still for longer than wal_sender_timeout ----

{
	my $load = start_rows($primary, 4);
	ok(wait_rows($primary, 50), 'rows are committed before the timeout');
	my $sender = sender_pid($primary, 'standby');
	my $receiver = receiver_pid($standby);
	my $offset = -s $primary->logfile;

	$primary->safe_psql('postgres',
		"ALTER SYSTEM SET wal_sender_timeout = '${timeout}s'");
	$primary->reload;
	stop_process($receiver);
	my $start = time;
	fill_ring();
	ok( poll_log(
			$primary,
			qr/terminating walsender process due to replication timeout/,
			$offset),
		'the walsender gives up, as core says it');
	my $elapsed = time - $start;
	cmp_ok($elapsed, '>', 0.9 * $timeout,
		sprintf 'after its timeout: %.1f s', $elapsed);
	my $gone = seconds_of(
		sub { poll_until(sub { process_gone($sender) }) or die 'still there' }
	);
	# It would have waited 2 s for the standby to take what is in the ring.
	cmp_ok($gone, '<', patience(1),
		sprintf 'and is gone %.1f s later', $gone);

	$primary->safe_psql('postgres',
		'ALTER SYSTEM SET wal_sender_timeout = 0');
	$primary->reload;
	send_signal('CONT', $receiver);
	my $back = seconds_of(sub { wait_rows($primary, 50) or die });
	ok(1, sprintf 'rows are committed %.1f s after the standby went on',
		$back);
	stop_rows($load);
	check_stream($primary, $standby, 'after wal_sender_timeout');
	check_data('after wal_sender_timeout');
}

# ---- the primary stands still for longer than wal_receiver_timeout ----

{
	my $load = start_rows($primary, 4);
	ok(wait_rows($primary, 50), 'rows are committed before the timeout');
	my $sender = sender_pid($primary, 'standby');
	my $receiver = receiver_pid($standby);
	my $offset = -s $standby->logfile;

	$standby->safe_psql('postgres',
		"ALTER SYSTEM SET wal_receiver_timeout = '${timeout}s'");
	$standby->reload;
	my $start = time;
	stop_process($sender);
	ok( poll_log(
			$standby, qr/terminating walreceiver due to timeout/, $offset),
		'the walreceiver gives up, as core says it');
	my $elapsed = time - $start;
	cmp_ok($elapsed, '>', 0.9 * $timeout,
		sprintf 'after its timeout: %.1f s', $elapsed);
	cmp_ok($elapsed, '<', 2 * $timeout, 'and not much later');

	$standby->safe_psql('postgres',
		'ALTER SYSTEM SET wal_receiver_timeout = 0');
	$standby->reload;
	send_signal('CONT', $sender);
	my $back = seconds_of(sub { wait_rows($primary, 50) or die });
	ok(1, sprintf 'rows are committed %.1f s after the walsender went on',
		$back);
	stop_rows($load);
	check_stream($primary, $standby, 'after wal_receiver_timeout');
	check_data('after wal_receiver_timeout');
}

# ---- it is killed while it stands still ----

{
	my $load = start_rows($primary, 4);
	ok(wait_rows($primary, 50), 'rows are committed before the kill');
	my $receiver = receiver_pid($standby);

	stop_process($receiver);
	fill_ring();
	send_signal('KILL', $receiver);
	my $back = seconds_of(sub { wait_rows($primary, 50) or die });
	ok(1, sprintf 'rows are committed %.1f s after the kill', $back);
	stop_rows($load);
	check_stream($primary, $standby, 'after the kill');
	check_data('after the kill');
}

done_testing();
