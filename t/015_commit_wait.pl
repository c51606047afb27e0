# SPDX-License-Identifier: PostgreSQL
#
# A commit waits for a standby that stands still: everything that ends such a
# wait in stock PostgreSQL ends it here, at once and with the same words, and
# what does not end it there does not end it here.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use IPC::Run;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

# So many wait at once and are released by one reply.
my $crowd = 200;

my ($primary, $standby) = make_pair(
	primary_conf => fault_conf() . <<'END',
synchronous_commit = on
wal_sender_timeout = 0
max_connections = 230
END
	# A standby must not be configured for less.
	standby_conf => fault_conf() . "max_connections = 230\n");
create_rows($primary);
check_stream($primary, $standby, 'at first');
my $receiver = receiver_pid($standby);

my $next_id = 0;

# A client whose commit waits.  Its row is numbered.
sub start_commit
{
	my ($settings) = @_;
	my %client = (id => ++$next_id, output => '');

	$client{psql} = IPC::Run::start(
		[
			'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d',
			$primary->connstr('postgres'),
			'-c', $settings // 'SELECT 1',
			'-c', "INSERT INTO acked VALUES (0, 0, $client{id})"
		],
		'<' => \undef,
		'>' => \$client{output},
		'2>' => \$client{output},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	my $query =
	    'SELECT pid FROM pg_stat_activity WHERE '
	  . "query = 'INSERT INTO acked VALUES (0, 0, $client{id})' "
	  . "AND wait_event = 'SyncRep'";
	poll_until(sub { $client{pid} = $primary->safe_psql('postgres', $query) })
	  or die 'the commit does not wait';
	return \%client;
}

# The client's exit status once it has ended, and how long that took.
sub finish_commit
{
	my ($client) = @_;
	my $seconds = seconds_of(sub { $client->{psql}->finish });

	return ($client->{psql}->result(0), $seconds);
}

sub still_waits
{
	my ($client) = @_;
	return $primary->safe_psql('postgres',
		"SELECT wait_event FROM pg_stat_activity WHERE pid = $client->{pid}")
	  eq 'SyncRep';
}

sub visible
{
	my ($client) = @_;
	return $primary->safe_psql('postgres',
		"SELECT count(*) FROM acked WHERE run = 0 AND id = $client->{id}");
}

# What is released is released at once, not at the end of some slice.
sub is_prompt
{
	my ($seconds, $what) = @_;
	return cmp_ok($seconds, '<', patience(0.9),
		sprintf '%s after %.2f s', $what, $seconds);
}

stop_process($receiver);
my $waits = wait_count($primary, 'sync_commit');

# ---- cancel ----

{
	my $client = start_commit();
	is($primary->safe_psql('postgres', "SELECT pg_cancel_backend($client->{pid})"),
		't', 'cancel');
	my ($status, $seconds) = finish_commit($client);
	is($status, 0, 'cancel: the transaction has committed');
	like(
		$client->{output},
		qr/WARNING:  canceling wait for synchronous replication due to user request/,
		'cancel: the warning is core\'s');
	is_prompt($seconds, 'cancel: the client goes on');
	is(visible($client), '1', 'cancel: the row is there');
}

# ---- terminate ----

{
	my $client = start_commit();
	is( $primary->safe_psql(
			'postgres', "SELECT pg_terminate_backend($client->{pid})"),
		't',
		'terminate');
	my ($status, $seconds) = finish_commit($client);
	is($status, 2, 'terminate: the connection is gone');
	like(
		$client->{output},
		qr/WARNING:  canceling the wait for synchronous replication and terminating connection due to administrator command/,
		'terminate: the warning is core\'s');
	is_prompt($seconds, 'terminate: the client knows');
	is(visible($client), '1', 'terminate: the row is there');
}

# ---- no synchronous standby any more ----

{
	my @clients = map { start_commit() } 1 .. 3;
	$primary->safe_psql('postgres',
		"ALTER SYSTEM SET synchronous_standby_names = ''");
	$primary->reload;
	foreach my $client (@clients)
	{
		my ($status, $seconds) = finish_commit($client);
		is($status, 0, 'no synchronous standby: committed');
		is_prompt($seconds, 'no synchronous standby: released');
		unlike($client->{output}, qr/WARNING/,
			'no synchronous standby: without a warning');
	}
	$primary->safe_psql('postgres',
		"ALTER SYSTEM SET synchronous_standby_names = 'standby'");
	$primary->reload;
	$primary->poll_query_until('postgres',
		"SELECT sync_state = 'sync' FROM pg_stat_replication")
	  or die 'standby is not synchronous again';
}

# ---- what does not end a wait ----

{
	my $timed = start_commit("SET statement_timeout = '500ms'");
	my $left = start_commit();

	kill 'KILL', $left->{psql}{KIDS}[0]{PID};
	$left->{psql}->finish;
	sleep 1.5;
	ok(still_waits($timed), 'statement_timeout does not end the wait');
	ok(still_waits($left), 'nor does a client that goes away');

	send_signal('CONT', $receiver);
	my ($status, $seconds) = finish_commit($timed);
	is($status, 0, 'statement_timeout: committed when the standby answers');
	unlike($timed->{output}, qr/ERROR|WARNING/,
		'statement_timeout: without a word');
	is_prompt($seconds, 'statement_timeout: released');
	$seconds = seconds_of(
		sub {
			poll_until(sub { process_gone($left->{pid}) })
			  or die 'still there';
		});
	is_prompt($seconds, 'client gone: so is the backend');
	is(visible($_), '1', 'the row is there') foreach $timed, $left;
}

cmp_ok(wait_count($primary, 'sync_commit'),
	'>=', $waits + 7, 'all of them waited by FastWake');
check_stream($primary, $standby, 'standby goes on');

# ---- many, released by one reply ----

sub waiting_backends
{
	return $primary->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
}

sub start_crowd
{
	my ($clients) = @_;

	stop_process($receiver);
	my $load = start_rows($primary, $clients);
	ok(poll_until(sub { waiting_backends() == $clients }),
		"$clients commits wait");
	return $load;
}

{
	my $load = start_crowd($crowd);
	$waits = wait_count($primary, 'sync_commit');
	my $saved = signals_saved($primary);
	my $sent = $primary->safe_psql('postgres',
		'SELECT signals_sent FROM pg_stat_fastwake');

	# pgbench shall not begin another transaction for those released.
	$load->{harness}->signal('ALRM');
	sleep 0.5;
	send_signal('CONT', $receiver);
	is_prompt(seconds_of(sub { stop_rows($load) }), "all $crowd are released");
	is(waiting_backends(), '0', 'none is stuck');

	my $released = wait_count($primary, 'sync_commit') - $waits;
	cmp_ok($released, '>=', $crowd, "$released waits ended");
	$saved = signals_saved($primary) - $saved;
	$sent = $primary->safe_psql('postgres',
		'SELECT signals_sent FROM pg_stat_fastwake') - $sent;
	cmp_ok($saved, '>=', 0.9 * $crowd,
		"$saved of their wake-ups were no signals, $sent of all were");
	check_stream($primary, $standby, 'crowd released');
	same_data($primary, $standby, 'SELECT count(*), sum(id) FROM acked',
		'same rows on both sides');
	no_row_lost($standby, 'standby');
}

# ---- the postmaster is killed ----

{
	my $load = start_crowd(20);
	my $postmaster = postmaster_pid($primary);
	my @children = children($postmaster);

	cmp_ok(scalar @children, '>=', 20, 'backends are among the children');
	$primary->kill9;
	my $seconds = seconds_of(
		sub {
			poll_until(sub { !grep { !process_gone($_) } @children })
			  or die 'children are still there';
		});
	cmp_ok($seconds, '<', patience(2),
		sprintf 'all end %.1f s after their postmaster', $seconds);
	stop_rows($load, 2);

	send_signal('CONT', $receiver);
	poll_until(sub { !process_exists($postmaster) })
	  or die 'the postmaster is still there';
	$primary->start;
	check_stream($primary, $standby, 'restarted');
	no_row_lost($_, $_->name) foreach $primary, $standby;
}

done_testing();
