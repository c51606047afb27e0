# SPDX-License-Identifier: PostgreSQL
#
# The faults of a campaign, and how the servers are brought back after each.
#
# A fault is a function that returns what it did, for the record, or nothing if
# it could not be done just now.  What it leaves to be undone it pushes on
# ->{undo}.  recover() undoes it, starts what is down, and then holds the servers
# to their duty: each client that has a statement under way must have begun it
# after the recovery, within the limit.
package Chaos;

use strict;
use warnings FATAL => 'all';

use Faults;
use PgFastwake;
use PostgreSQL::Test::Utils;
use Session;
use Test::More;
use Time::HiRes qw(time usleep);

# The order, with the seed, decides what a campaign does; so it is kept.
my @faults = (
	[ kill_walsender => 2, \&kill_walsender ],
	[ kill_backend => 2, \&kill_backend ],
	[ kill_primary => 1, \&kill_primary ],
	[ kill_walreceiver => 4, \&kill_walreceiver ],
	[ kill_startup => 2, \&kill_startup ],
	[ kill_standby => 2, \&kill_standby ],
	[ restart_primary => 1, \&restart_primary ],
	[ restart_standby => 2, \&restart_standby ],
	[ stop_process => 5, \&pause_process ],
	[ disconnect => 3, \&disconnect_standby ],
	[ damage_frame => 5, \&damage_frame ],
	[ timeout => 3, \&short_timeouts ],
	[ enabled => 3, \&toggle_enabled ],
	[ transport => 3, \&change_transport ],
	[ settings => 3, \&change_settings ],
	[ descriptors => 2, \&no_descriptors ],
	[ memlock => 3, \&no_memlock, 'rdma' ],
	[ link_down => 3, \&cut_link, 'rdma' ],
	[ disk_full => 2, \&fill_disk, 'disk' ]);

# %options: primary, standby, load, seed, limit (seconds for any recovery).
# Environment: FASTWAKE_TEST_FAULTS, FW_DISK (a small file system for the
# standby's WAL), FW_LINK_CTL (see Faults.pm).
sub new
{
	my ($class, %options) = @_;
	my $self = bless {
		%options,
		undo => [],
		count => {},
		stuck => 0,
		on_channel => 0,
		random => $options{seed} & 0xffffffff
	}, $class;

	$self->{session}{ $_->name } = Session->new($_)
	  foreach $self->{primary}, $self->{standby};
	return $self;
}

# Not Perl's: others use that too, so that a seed would not say anything.
# (A linear congruential generator; the low bits are bad.)
sub random
{
	my ($self, $n) = @_;
	$self->{random} = ($self->{random} * 1103515245 + 12345) & 0xffffffff;
	return int(($self->{random} >> 8) / 2**24 * $n);
}

sub one_of
{
	my ($self, @choices) = @_;
	return $choices[ $self->random(scalar @choices) ];
}

sub nap
{
	my ($self, $seconds) = @_;
	usleep(1e6 * patience($seconds / 2) * $self->random(1000) / 1000);
	return;
}

sub ask
{
	my ($self, $node, $sql, $seconds) = @_;
	return $self->{session}{ $node->name }->query($sql, $seconds // patience(10));
}

sub either
{
	my ($self) = @_;
	return $self->one_of($self->{primary}, $self->{standby});
}

# ---- servers ----

sub alive
{
	my ($node) = @_;
	my $pid = eval { postmaster_pid($node) };
	return defined $pid && !process_gone($pid);
}

# Start a server that is down; one whose processes are still there refuses.
sub start_server
{
	my ($self, $node) = @_;
	my $end = time + $self->{limit};

	until (alive($node))
	{
		die $node->name . " does not start\n" if time > $end;
		local $ENV{PGAPPNAME};
		delete $ENV{PGAPPNAME};
		system_log('pg_ctl', '-w', '-D', $node->data_dir, '-l',
			$node->logfile, '-o', '--cluster-name=' . $node->name, 'start');
		$node->_update_pid(-1);
		usleep(200_000);
	}
	return;
}

sub set
{
	my ($self, $node, %settings) = @_;

	foreach my $name (sort keys %settings)
	{
		my $value = $settings{$name};
		my $sql =
		  defined $value
		  ? "ALTER SYSTEM SET $name = '$value'"
		  : "ALTER SYSTEM RESET $name";
		defined $self->ask($node, $sql) or return 0;
	}
	return defined $self->ask($node, 'SELECT pg_reload_conf()');
}

# Settings that recover() takes back.
sub set_for_now
{
	my ($self, $node, %settings) = @_;
	my %reset = map { $_ => undef } keys %settings;

	push @{ $self->{undo} },
	  sub { $self->set($node, %reset) or die 'could not reset settings' };
	return $self->set($node, %settings);
}

# A process that has the standby's stream, or applies it.
sub pid_of
{
	my ($self, $what) = @_;
	my $node = $what eq 'walsender' ? $self->{primary} : $self->{standby};
	my $pid = $self->ask($node,
		"SELECT pid FROM pg_stat_activity WHERE backend_type = '$what' LIMIT 1");

	return $pid if defined $pid && $pid =~ /^\d+$/;
	return;
}

sub kill_pid
{
	my ($self, $what) = @_;
	my $pid = $self->pid_of($what) or return;

	return $self->killed($pid) ? "$what $pid" : undef;
}

sub killed
{
	my ($self, $pid) = @_;

	return kill('KILL', $pid)
	  && poll_until_for($self->{limit}, sub { process_gone($pid) });
}

# ---- processes ----

sub kill_walsender { return $_[0]->kill_pid('walsender') }
sub kill_walreceiver { return $_[0]->kill_pid('walreceiver') }
# Its death ends the standby, a moment later: till then it would seem to be well.
sub kill_startup
{
	my ($self) = @_;
	my $done = $self->kill_pid('startup') or return;

	poll_until(sub { !alive($self->{standby}) })
	  or die "the standby outlives its startup process\n";
	return $done;
}

sub kill_backend
{
	my ($self) = @_;
	my $pids = $self->ask($self->{primary},
		    'SELECT pid FROM pg_stat_activity '
		  . "WHERE application_name = 'chaos' ORDER BY pid") or return;
	my $pid = $self->one_of(split /\n/, $pids);

	return $self->killed($pid) ? "backend $pid" : undef;
}

sub kill_postmaster
{
	my ($self, $node) = @_;

	alive($node) or return;
	my $pid = postmaster_pid($node);
	$self->killed($pid) or return;
	$node->_update_pid(-1);
	return "postmaster $pid of " . $node->name;
}

sub kill_primary { return $_[0]->kill_postmaster($_[0]->{primary}) }
sub kill_standby { return $_[0]->kill_postmaster($_[0]->{standby}) }

sub restart_server
{
	my ($self, $node) = @_;
	my $mode = $self->one_of('immediate', 'immediate', 'fast');

	alive($node) or return;
	# A primary's fast shutdown waits for a standby that may stand still.
	$self->heal if $mode eq 'fast';
	system_log('pg_ctl', '-w', '-D', $node->data_dir, '-m', $mode, 'stop')
	  == 0
	  or return;
	$node->_update_pid(-1);
	return $node->name . ", $mode";
}

sub restart_primary { return $_[0]->restart_server($_[0]->{primary}) }
sub restart_standby { return $_[0]->restart_server($_[0]->{standby}) }

# For less or more than the timeouts, while more arrives than the ring holds, or
# not.
sub pause_process
{
	my ($self) = @_;
	my $what = $self->one_of(qw(walreceiver walreceiver startup walsender));
	my $flood = $self->random(3) == 0;
	my $pid = $self->pid_of($what);

	return if !$pid || !kill 'STOP', $pid;
	push @{ $self->{undo} }, sub { kill 'CONT', $pid };
	$self->write_bulk if $flood;
	$self->nap($self->one_of(0.2, 1, 4));
	return "$what $pid stands still" . ($flood ? ', bulk' : '');
}

# More WAL than ring and backlog hold; nobody waits for it.
sub write_bulk
{
	my ($self) = @_;
	my $megabytes = $ENV{FASTWAKE_LAB} ? 3 : 8;

	return $self->ask($self->{primary},
		    "SELECT pg_logical_emit_message(false, 'chaos', repeat(md5("
		  . "random()::text), 32768)) FROM generate_series(1, $megabytes)");
}

sub disconnect_standby
{
	my ($self) = @_;
	my $pid = $self->pid_of('walsender') or return;

	$self->ask($self->{primary}, "SELECT pg_terminate_backend($pid)")
	  or return;
	return "walsender $pid told to end";
}

# ---- frames ----

# What core/src/fault.c reads: how many frames, what, of which message, a random
# number, how many it has done.
sub damage
{
	my ($what, $type, $frames, $random) = @_;
	my $path = $ENV{FASTWAKE_TEST_FAULTS};

	open my $file, '+<:raw', $path or die "$path: $!";
	sysseek $file, 4, 0;
	syswrite $file, pack 'LLLL', $what, ord($type), $random, 0;
	sysseek $file, 0, 0;
	syswrite $file, pack 'L', $frames;
	close $file;
	return;
}

# How many frames have been damaged since damage() was called.
sub damaged
{
	return (unpack 'L5', slurp_file($ENV{FASTWAKE_TEST_FAULTS}))[4];
}

sub damage_frame
{
	my ($self) = @_;
	my $what = $self->random(3);
	my $type = $self->one_of('w', 'w', 'r', "\0");
	my $random = $self->random(2**24);
	my %from = map { $_->name => -s $_->logfile } $self->{primary},
	  $self->{standby};

	return if $self->transport_now ne transport();
	damage($what, $type, 1, $random);
	my $end = time + patience(10);
	usleep(20_000) while damaged() == 0 && time < $end;
	if (damaged() == 0)
	{
		damage(0, "\0", 0, 0);
		return;
	}
	# Who takes it says so, unless another fault came first.
	my $noticed = poll_until_for(
		patience(10),
		sub {
			grep {
				substr(slurp_file($_->logfile), $from{ $_->name }) =~
				  /channel failed: (?:at the primary: )?received /
			} $self->{primary}, $self->{standby};
		});
	$self->{unnoticed}++ if !$noticed && !$self->{overlap};
	return "frame $random "
	  . ('flipped', 'torn', 'replayed')[$what]
	  . ($type eq "\0" ? '' : " ($type)")
	  . ($noticed ? '' : ', NOT NOTICED');
}

sub poll_until_for
{
	my ($seconds, $code) = @_;
	my $end = time + $seconds;

	while (time < $end)
	{
		return 1 if $code->();
		usleep(50_000);
	}
	return 0;
}

# ---- settings ----

sub short_timeouts
{
	my ($self) = @_;
	my $ms = (500 + $self->random(1000)) * ($ENV{FASTWAKE_LAB} ? 4 : 1);
	my $what = $self->one_of(qw(walreceiver walsender));

	$self->set_for_now($self->{primary}, wal_sender_timeout => "${ms}ms")
	  && $self->set_for_now($self->{standby},
		wal_receiver_timeout => "${ms}ms")
	  or return;
	my $pid = $self->pid_of($what);
	return if !$pid || !kill 'STOP', $pid;
	push @{ $self->{undo} }, sub { kill 'CONT', $pid };
	usleep(1500 * $ms);
	return "$what $pid stands still, timeouts $ms ms";
}

sub toggle_enabled
{
	my ($self) = @_;
	my $node = $self->either;

	foreach (0 .. $self->random(3))
	{
		$self->set_for_now($node, 'pg_fastwake.enabled' => 'off') or return;
		$self->nap(0.5);
		$self->set($node, 'pg_fastwake.enabled' => 'on') or return;
	}
	$self->set($node, 'pg_fastwake.enabled' => 'off') or return;
	$self->disconnect_standby if $self->random(2);
	$self->nap(1);
	return $node->name;
}

sub change_transport
{
	my ($self) = @_;
	my $node = $self->either;
	my $transport = $self->one_of(qw(tcp auto shm rdma));

	$self->set_for_now($node, 'pg_fastwake.transport' => $transport)
	  && $self->disconnect_standby
	  or return;
	$self->nap(2);
	return $node->name . ": $transport";
}

sub change_settings
{
	my ($self) = @_;
	my $node = $self->either;
	my %settings = (
		'pg_fastwake.mode' =>
		  $self->one_of(qw(adaptive dispatch interrupt off)),
		'pg_fastwake.poll_us' => $self->one_of(0, 10, 200),
		'pg_fastwake.replay_interval_us' => $self->one_of(0, 1000, 100000),
		'pg_fastwake.ring_size' => $self->one_of(qw(64kB 256kB 2MB)));

	$self->set_for_now($node, %settings) or return;
	$self->disconnect_standby if $self->random(2);
	$self->nap(1);
	return join ' ', $node->name, map { $settings{$_} } sort keys %settings;
}

# ---- resources ----

# The soft limit of a postmaster, and so of the processes that it starts.
sub limit
{
	my ($self, $node, $resource, $value) = @_;
	my $pid = postmaster_pid($node);
	my ($name) = grep { /^Max \Q$resource->[1]\E/ }
	  split /\n/, slurp_file("/proc/$pid/limits");
	my ($old) = $name =~ /^Max \Q$resource->[1]\E\s+(\d+|unlimited)/;

	system_log('prlimit', '--pid', $pid, "--$resource->[0]=$value:") == 0
	  or return 0;
	push @{ $self->{undo} },
	  sub {
		system_log('prlimit', '--pid', $pid, "--$resource->[0]=$old:")
		  if -e "/proc/$pid";
	  };
	return 1;
}

sub starve
{
	my ($self, $resource, $value) = @_;
	my $node = $self->either;

	alive($node) && $self->limit($node, $resource, $value) or return;
	$self->disconnect_standby or return;
	$self->nap(2);
	return $node->name . ": $resource->[1] $value";
}

sub no_descriptors
{
	my ($self) = @_;
	return $self->starve([ 'nofile', 'open files' ],
		$self->one_of(12, 16, 20, 24, 32));
}

sub no_memlock
{
	my ($self) = @_;
	return $self->starve([ 'memlock', 'locked memory' ],
		$self->one_of(0, 65536, 1500000));
}

# Until the standby has noticed, and for a while longer.
sub fill_disk
{
	my ($self) = @_;
	my $ballast = "$ENV{FW_DISK}/ballast";
	my $log = $self->{standby}->logfile;
	my $from = -s $log;
	my $what = 'disk of the standby full';

	push @{ $self->{undo} }, sub { unlink $ballast };
	open my $file, '>:raw', $ballast or die "$ballast: $!";
	my $zero = "\0" x 65536;
	1 while syswrite $file, $zero;
	close $file;
	# Segments made in advance are used up first.
	foreach (1 .. 20)
	{
		$self->write_bulk;
		usleep(100_000);
		next if substr(slurp_file($log), $from) !~ /No space left on device/;
		$self->nap(2);
		return $what;
	}
	return;
}

# Long enough for the device to report it (4 s), or not.
sub cut_link
{
	my ($self) = @_;
	my $seconds = $self->one_of(0.5, 2, 8);

	push @{ $self->{undo} }, sub { set_link('up') or die 'link stays down' };
	set_link('down') or return;
	usleep(1e6 * $seconds);
	return "link down for $seconds s";
}

# ---- the campaign ----

sub possible
{
	my ($need) = @_;

	return 1 if !defined $need;
	return ($ENV{FW_DISK} // '') ne '' if $need eq 'disk';
	return transport() eq 'rdma' && ($ENV{FW_LINK_CTL} // '') ne '';
}

# One fault, chosen by weight among those possible here.
sub fault
{
	my ($self) = @_;
	my @can = grep { possible($_->[3]) } @faults;
	my $sum = 0;
	$sum += $_->[1] foreach @can;
	my $at = $self->random($sum);
	my ($chosen) = grep { ($at -= $_->[1]) < 0 } @can;
	my ($name, undef, $act) = @$chosen;
	my $transport = $self->{transport};
	my $began = time;
	my $done = $act->($self);

	diag sprintf '%7.1f s  %s: %s (on %s%s, %.1f s)', $began - $self->{began},
	  $name, $done // 'not possible now', $transport,
	  $self->{overlap} ? ', not recovered' : '', time - $began;
	return 0 if !defined $done;
	$self->{count}{$name}++;
	$self->{on_channel}++ if $transport eq transport();
	return 1;
}

# Undo what faults have left, last first.  What cannot be undone yet, since a
# server does not answer, stays.
sub heal
{
	my ($self) = @_;
	my @left;

	while (my $undo = pop @{ $self->{undo} })
	{
		unshift @left, $undo if !eval { $undo->(); 1 };
	}
	$self->{undo} = \@left;
	return !@left;
}

# Wait for something that must come; else count it and say what is there.
sub must
{
	my ($self, $what, $code) = @_;

	return 1 if poll_until_for($self->{limit}, $code);
	$self->{stuck}++;
	diag "$what: not within $self->{limit} s";
	foreach my $node ($self->{primary}, $self->{standby})
	{
		diag $node->name . ":\n"
		  . ($self->ask($node, <<'END') // $self->{session}{ $node->name }->error);
SELECT pid, backend_type, state, wait_event, now() - query_start, left(query, 60)
  FROM pg_stat_activity WHERE state IS DISTINCT FROM 'idle' ORDER BY 5 DESC LIMIT 20
END
	}
	return 0;
}

sub streaming
{
	my ($self) = @_;
	my $seen = $self->ask($self->{primary},
		    'SELECT state, sync_state FROM pg_stat_replication '
		  . "WHERE application_name = 'standby'");

	return 0 if !defined $seen || $seen ne 'streaming|sync';
	# What the primary knows may be what was before the fault.
	$seen = $self->ask($self->{standby},
		'SELECT status FROM pg_stat_wal_receiver');
	return defined $seen && $seen eq 'streaming';
}

sub clients_work
{
	my ($self) = @_;

	return 1 if $self->{load}->running;
	$self->ask($self->{primary}, 'SELECT 1') or return 0;
	$self->{load}->start;
	return 0;
}

# No client waits for the end of what it began before: a function that says so,
# from when the clients last had to be connected anew.
sub all_advance
{
	my ($self) = @_;
	my $since;

	return sub {
		undef $since if !$self->clients_work;
		$since //= $self->ask($self->{primary}, 'SELECT clock_timestamp()')
		  or return 0;
		my $old = $self->ask($self->{primary}, <<"END");
SELECT count(*) FILTER (WHERE state <> 'idle' AND query_start <= '$since'),
  count(*) FROM pg_stat_activity WHERE application_name = 'chaos'
END
		return defined $old && $old eq "0|$self->{load}{clients}";
	};
}

sub recover
{
	my ($self) = @_;
	my $began = time;

	# A server may be about to end: the death of its startup process ends it.
	$self->must(
		'streaming',
		sub {
			my $healed = $self->heal;
			$self->start_server($_) foreach $self->{standby},
			  $self->{primary};
			return $healed && $self->heal && $self->streaming;
		}) or return 0;
	$self->must('clients', sub { $self->clients_work }) or return 0;
	$self->must('a statement of each client', $self->all_advance)
	  or return 0;
	$self->{transport} = $self->transport_now;
	diag sprintf '           recovered in %.1f s, on %s', time - $began,
	  $self->{transport} eq transport()
	  ? $self->{transport}
	  : "$self->{transport}: $self->{reason}";
	return 1;
}

# What carries the stream, and why it is TCP.
sub transport_now
{
	my ($self) = @_;
	my ($transport, $reason) = split /\|/,
	  $self->ask($self->{standby}, <<'END') // '', 2;
SELECT transport, last_fallback_reason FROM pg_fastwake_replication()
  WHERE role = 'receiver'
END

	$self->{reason} = $reason // '';
	return $transport // '';
}

# As docs/OPERATIONS.md says of rxe, whose connection manager is dead once somebody
# has tried to connect while the link was down.  The device goes only when nobody
# has it open.
sub repair_device
{
	my ($self) = @_;

	system_log('pg_ctl', '-w', '-D', $self->{standby}->data_dir,
		'-m', 'immediate', 'stop');
	set_link('anew') or return 0;
	diag '           the RDMA device is made anew';
	return $self->recover;
}

# A standby whose channel has failed would stay on TCP for longer and longer, and
# so the campaign.  A restart forgets that.
sub back_on_channel
{
	my ($self) = @_;

	return 1
	  if $self->{transport} eq transport() || $self->random(4) == 0;
	return $self->repair_device
	  if possible('rdma') && $self->{reason} =~ /did not connect in time/;
	defined(my $done = $self->restart_standby) or return 0;
	$self->{count}{restart_standby}++;
	diag "           restart_standby: $done";
	return $self->recover;
}

# Faults for so many seconds; false if the servers did not come back.
sub run
{
	my ($self, $seconds) = @_;

	$self->{began} = time;
	$self->{overlap} = 0;
	while (time - $self->{began} < $seconds)
	{
		$self->{overlap} = 0 if !$self->fault;
		# Now and then the next one comes before the servers are back.
		if ($self->random(5) == 0 && $self->{overlap} < 3)
		{
			$self->{overlap}++;
			next;
		}
		$self->{overlap} = 0;
		$self->recover && $self->back_on_channel or return 0;
		$self->nap(0.5);
	}
	return $self->recover;
}

sub faults
{
	my ($self) = @_;
	my $sum = 0;

	$sum += $_ foreach values %{ $self->{count} };
	return $sum;
}

sub kinds
{
	my ($self) = @_;
	return join ', ',
	  map { "$_ $self->{count}{$_}" } sort keys %{ $self->{count} };
}

1;
