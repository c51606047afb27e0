# SPDX-License-Identifier: PostgreSQL
#
# What the fault tests share: numbered rows whose acknowledgements are recorded
# by the client, and a closer look at the servers' processes.
#
# pgbench counts the rows of each client itself and logs every transaction that
# the server acknowledged.  So the log says, from outside the server, which
# rows must not be lost whatever happened meanwhile.
package Faults;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use IPC::Run;
use PgFastwake;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  fault_conf seconds_of poll_until patience check_stream
  create_rows start_rows stop_rows wait_rows acknowledged_rows no_row_lost
  sender_pid receiver_pid backend_pid postmaster_pid children
  send_signal stop_process process_gone process_exists cpu_seconds descriptors
  wait_count signals_saved set_link
);

# Servers under load shall not log each statement, and come back after a crash.
sub fault_conf
{
	return <<'END';
log_statement = none
restart_after_crash = on
END
}

# How long the code took.
sub seconds_of
{
	my ($code) = @_;
	my $start = time;

	$code->();
	return time - $start;
}

# A limit in seconds, meant for a machine of its own, on the one we have: the
# lab's processors are emulated.
sub patience
{
	my ($seconds) = @_;
	return $ENV{FASTWAKE_LAB} ? 8 * $seconds : $seconds;
}

# Wait until the code returns true; the test's timeout at most.
sub poll_until
{
	my ($code) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	while (time < $end)
	{
		return 1 if $code->();
		usleep(50_000);
	}
	return 0;
}

# The RDMA device's link: "down"; "up"; or "anew", which is up, and the device made
# again: rxe cannot connect any more once somebody has tried to while the link was
# down (the queue pair of its connection manager is in error, for good).
#
#	FW_LINK_CTL		fifo; who reads it, as root, does what is written, and then
#					writes to FW_LINK_CTL.done what was not there before
sub set_link
{
	my ($state) = @_;
	my $done = "$ENV{FW_LINK_CTL}.done";
	my $before = slurp_file($done);

	append_to_file($ENV{FW_LINK_CTL}, "$state\n");
	return poll_until(sub { slurp_file($done) ne $before });
}

# The pair streams over the transport under test, and always has.  One query
# for each side: in the lab a process takes a second.
sub check_stream
{
	my ($primary, $standby, $when) = @_;

	foreach my $side ([ $primary, 'sender', $standby ],
		[ $standby, 'receiver', $primary ])
	{
		my ($node, $role, $peer) = @$side;
		my $good = qr/^$role\|${\ transport()}\|t\|0\|0\|/m;
		my $seen = poll_output($node, <<"END", $good);
SELECT role, r.transport,
  sent_bytes + received_bytes > 0 AND ${\ route($node, $peer)}, s.fallbacks,
  s.failures, device, local_address, address, qp_num, qp_state, sent_bytes,
  received_bytes
  FROM pg_fastwake_replication() r, pg_stat_fastwake s
END

		note $node->name . ": $seen";
		like($seen, $good,
			"$when: $role uses ${\ transport()} and never fell back");
	}
	return;
}

# ---- rows ----

my $runs = 0;
my %acknowledged;    # "run,client" => number of rows

sub create_rows
{
	my ($node) = @_;
	$node->safe_psql('postgres',
		'CREATE TABLE acked (run int, client int, id int, '
		  . "filler text DEFAULT repeat('x', 100), "
		  . 'PRIMARY KEY (run, client, id))');
	return;
}

# Begin to insert rows by some clients, until told to stop or the server ends
# them.  In the lab not as fast as they can, else nothing is left to the test.
# DATABASE: its name, or a connection string.
sub start_rows
{
	my ($node, $clients, $database) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my %load = (run => ++$runs, dir => $dir, output => '');

	append_to_file("$dir/insert.sql", <<'END');
\set id :id + 1
INSERT INTO acked VALUES (:run, :client_id, :id);
END
	$load{harness} = IPC::Run::start(
		[
			'pgbench', '-n', '-M', 'prepared', '-c', $clients // 4,
			'-j', 1, '-T', 86400, '-D', "run=$load{run}", '-D', 'id=0',
			'-l', '--log-prefix', "$dir/log", '-f', "$dir/insert.sql",
			$ENV{FASTWAKE_LAB} ? ('-R', 40) : (),
			'-h', $node->host, '-p', $node->port, $database // 'postgres'
		],
		'<' => \undef,
		'>' => \$load{output},
		'2>' => \$load{output},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default * 4));
	return \%load;
}

# Wait until the clients are done, and note what was acknowledged.  SIGALRM is
# how pgbench itself ends a timed run: transactions under way are completed.
# EXPECTED: the exit status, 0, or 2 if the server broke the connections.
sub stop_rows
{
	my ($load, $expected) = @_;
	$expected //= 0;

	$load->{harness}->signal('ALRM') if $expected == 0;
	$load->{harness}->finish;
	my $status = $load->{harness}->result(0);
	is($status, $expected, "run $load->{run}: all clients have ended")
	  or diag $load->{output};
	foreach my $log (glob "$load->{dir}/log*")
	{
		# client, number of the transaction, ...
		my @clients = slurp_file($log) =~ /^(\d+) /mg;
		$acknowledged{"$load->{run},$_"}++ foreach @clients;
	}
	return;
}

# Wait until so many more rows have been committed, as others see it.
sub wait_rows
{
	my ($node, $more) = @_;
	my $now = $node->safe_psql('postgres', 'SELECT count(*) FROM acked');

	return $node->poll_query_until('postgres',
		"SELECT count(*) >= $now + $more FROM acked");
}

# All rows of all runs so far that were acknowledged.
sub acknowledged_rows
{
	my $sum = 0;
	$sum += $_ foreach values %acknowledged;
	return $sum;
}

# Every acknowledged row is there.
sub no_row_lost
{
	my ($node, $what) = @_;
	my $clients = join ', ',
	  map { "($_,$acknowledged{$_})" } sort keys %acknowledged;
	my $rows = acknowledged_rows();

	cmp_ok($rows, '>', 0, 'rows were acknowledged') or return;
	my $missing = $node->safe_psql('postgres', <<"END");
SELECT v.*, count(id) FROM (VALUES $clients) v (run, client, acknowledged)
  LEFT JOIN acked a ON a.run = v.run AND a.client = v.client
	AND a.id BETWEEN 1 AND v.acknowledged
  GROUP BY 1, 2, 3 HAVING count(id) <> v.acknowledged
END
	is($missing, '', "$what: none of $rows acknowledged rows is lost");
	return;
}

# ---- processes ----

# One of a server's processes, by number.  In a pair of guests it may be in the
# other one: then it is something that reads as its number (PairCluster).
sub backend_pid
{
	my ($node, $pid) = @_;
	return $node->can('process') ? $node->process($pid) : $pid;
}

sub sender_pid
{
	my ($node, $name) = @_;
	my $pid = $node->safe_psql('postgres',
		'SELECT pid FROM pg_stat_replication WHERE application_name = '
		  . "'$name'");
	$pid =~ /^\d+$/ or die "no walsender for $name";
	return backend_pid($node, $pid);
}

sub receiver_pid
{
	my ($node) = @_;
	my $pid = $node->safe_psql('postgres',
		'SELECT pid FROM pg_stat_wal_receiver');
	$pid =~ /^\d+$/ or die 'no walreceiver';
	return backend_pid($node, $pid);
}

sub postmaster_pid
{
	my ($node) = @_;
	my ($pid) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
	return backend_pid($node, $pid);
}

# As kill(): how many processes were there.
sub send_signal
{
	my ($signal, @pids) = @_;
	my $count = 0;

	$count += ref $_ ? $_->signal($signal) : kill $signal, $_ foreach @pids;
	return $count;
}

# What /proc says of a process; '' if it is not there.
sub stat_of
{
	my ($pid) = @_;
	return $pid->proc('stat') if ref $pid;
	return eval { slurp_file("/proc/$pid/stat") } // '';
}

# Time that a process has spent on a processor: its own and the kernel's.
sub cpu_seconds
{
	my ($pid) = @_;
	my $stat = stat_of($pid) || die "no process $pid";
	# The name in parentheses may contain anything.
	my @fields = split ' ', substr($stat, rindex($stat, ')') + 2);
	chomp(my $hz = `getconf CLK_TCK`);

	return ($fields[11] + $fields[12]) / $hz;
}

# Stop a process and wait until it stands still.
sub stop_process
{
	my ($pid) = @_;

	send_signal('STOP', $pid) or die "could not stop $pid: $!";
	poll_until(sub { stat_of($pid) =~ /\) T / }) or die "$pid does not stop";
	return;
}

# Has the process ended?  Its parent may not have asked for its status yet.
sub process_gone
{
	my ($pid) = @_;
	my $stat = stat_of($pid);

	return $stat eq '' || $stat =~ /\) [ZX] /;
}

sub process_exists
{
	my ($pid) = @_;
	return stat_of($pid) ne '';
}

sub children
{
	my ($pid) = @_;
	return $pid->children if ref $pid;
	return grep { stat_of($_) =~ /\) \S $pid / }
	  map { m{(\d+)$} } glob '/proc/[0-9]*';
}

# How many descriptors a process has open.
sub descriptors
{
	my ($pid) = @_;
	return $pid->descriptors if ref $pid;
	return scalar(() = glob "/proc/$pid/fd/*");
}

# ---- counters ----

# How many waits of a class the node has counted.
sub wait_count
{
	my ($node, $class) = @_;
	return $node->safe_psql('postgres',
		"SELECT sum(waits) FROM pg_fastwake_waits() WHERE class = '$class'");
}

sub signals_saved
{
	my ($node) = @_;
	return $node->safe_psql('postgres',
		'SELECT signals_saved FROM pg_stat_fastwake');
}

1;
