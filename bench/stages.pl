#!/usr/bin/perl
# Who does what within one commit: reads the traces of bench/stages.sh, and
# writes a table for each row.  Needs no module beyond perl-base.
# usage: stages.pl RAW > stages.md

use strict;
use warnings;

my ($raw) = @ARGV or die "usage: stages.pl RAW\n";

# Of x86-64: those that the servers make.
my %call_name = (
	0 => 'read', 1 => 'write', 3 => 'close', 7 => 'poll', 8 => 'lseek',
	16 => 'ioctl', 17 => 'pread', 18 => 'pwrite', 20 => 'writev',
	44 => 'sendto', 45 => 'recvfrom', 62 => 'kill', 74 => 'fsync',
	75 => 'fdatasync', 202 => 'futex', 232 => 'epoll_wait',
	233 => 'epoll_ctl', 271 => 'ppoll', 281 => 'epoll_pwait',
	291 => 'epoll_create1', 449 => 'futex_waitv');

# In the order of a commit's way.
my @roles = ('pgbench', 'backend', 'walsender', 'walreceiver', 'startup',
	'others', 'kernel');

# "PID SERVER TITLE" of each process of the servers.
sub read_roles
{
	my ($directory) = @_;
	my %role;
	open my $fh, '<', "$directory/processes" or die "$directory/processes: $!\n";
	while (<$fh>)
	{
		my ($pid, undef, $title) = split ' ', $_, 3;
		my ($known) = $title =~ /(walsender|walreceiver|startup)/;
		$role{$pid} = $known // ($title =~ /\[local\]/ ? 'backend' : 'others');
	}
	close $fh;
	return \%role;
}

sub role_of
{
	my ($role, $pid, $command) = @_;
	return $role->{$pid} if $role->{$pid};
	return 'pgbench' if $command =~ /^pgbench/;
	return $pid == 0 ? 'idle'
	  : $command =~ m{^(?:ksoftirqd|rcu|kworker|fastwake/|migration)} ? 'kernel'
	  : 'tools';
}

sub add_event
{
	my ($sum, $role, $who, $time, $event, $text) = @_;
	if ($event eq 'sys_enter')
	{
		my ($number) = $text =~ /^NR (-?\d+)/;
		my $name = $call_name{$number} // "call $number";
		$sum->{calls}{$who}{$name}++;
		$sum->{commits}++ if $who eq 'backend' && $name eq 'sendto';
	}
	elsif ($event eq 'sched_waking')
	{
		$sum->{wakes}{$who}++;
	}
	elsif ($text =~ /prev_comm=(.*) prev_pid=(\d+) .*prev_state=(\S+) ==>/)
	{
		my $left = role_of($role, $2, $1);
		$sum->{switches}{$left}++;
		$sum->{preempted}{$left}++ if $3 =~ /^R/;
		$sum->{time}{$left} += $time - $sum->{since} if defined $sum->{since};
		$sum->{since} = $time;
	}
	return;
}

sub read_trace
{
	my ($directory) = @_;
	my $role = read_roles($directory);
	my $sum = { commits => 0 };
	open my $fh, '<', "$directory/trace" or die "$directory/trace: $!\n";
	while (<$fh>)
	{
		my ($command, $pid, $time, $event, $text) =
		  /^\s*(.+)-(\d+)\s+\[\d+\]\s+\S+\s+([\d.]+): (\w+): (.*)$/
		  or next;
		add_event($sum, $role, role_of($role, $pid, $command), $time * 1e6,
			$event, $text);
	}
	close $fh;
	return $sum;
}

sub per_commit
{
	my ($sum, $what, $who, $format) = @_;
	my $n = ($sum->{$what}{$who} // 0) / $sum->{commits};
	return sprintf $format, $n;
}

sub calls
{
	my ($sum, $who) = @_;
	my $of = $sum->{calls}{$who} // {};
	my @names = sort { $of->{$b} <=> $of->{$a} || $a cmp $b }
	  grep { $of->{$_} / $sum->{commits} >= 0.05 } keys %$of;
	return join ', ', map { sprintf '%s %.1f', $_, $of->{$_} / $sum->{commits} }
	  @names;
}

sub table
{
	my ($name, $sum) = @_;
	my $text = "$name:\n\n| process | us | switches | preempted | wakes others"
	  . " | system calls |\n|:--|--:|--:|--:|--:|:--|\n";
	for my $who (@roles)
	{
		next if !$sum->{switches}{$who};
		$text .= sprintf "| %s | %s | %s | %s | %s | %s |\n", $who,
		  per_commit($sum, 'time', $who, '%.1f'),
		  per_commit($sum, 'switches', $who, '%.2f'),
		  per_commit($sum, 'preempted', $who, '%.2f'),
		  per_commit($sum, 'wakes', $who, '%.2f'), calls($sum, $who);
	}
	return "$text\n";
}

my %order = (local => 0, stock => 1, shm => 2, 'shm-module' => 3, rdma => 4,
	'rdma-module' => 5);

sub rows
{
	my @rows;
	for my $directory (glob "$raw/*.*.*/stages")
	{
		my ($config, $level, $clients) =
		  $directory =~ m{/([\w-]+)\.(\w+)\.(\d+)/stages$}
		  or next;
		push @rows, [ $config, $level, $clients, $directory ];
	}
	return sort {
			 $a->[2] <=> $b->[2]
		  || ($order{ $a->[0] } // 9) <=> ($order{ $b->[0] } // 9)
	} @rows;
}

# us per commit of each role, and of all.
sub times_of
{
	my ($sum) = @_;
	my %us = map { $_ => ($sum->{time}{$_} // 0) / $sum->{commits} } @roles;
	$us{all} += $us{$_} for @roles;
	return \%us;
}

# What no replication here can do without, beside a local commit: that the standby
# replays it (as in the row where that took least), and that the backend waits, and
# so is switched to once more: a hand-off as "fastwake bench" measures it.
sub floor_row
{
	my ($rows, $handoff) = @_;
	my ($replay) = sort { $a <=> $b } map { $_->{startup} } @$rows;
	my %us = map { $_ => 0 } @roles;
	@us{qw(backend startup all)} = ($handoff, $replay, $handoff + $replay);
	return \%us;
}

# p50 of the hand-off, if `bench/bench waits` has been run.
sub handoff
{
	my ($directory) = $0 =~ m{^(.*/)};
	open my $fh, '<', ($directory // '') . 'results/waits.json' or return undef;
	local $/;
	my ($row) = grep { /"case" : "handoff"/ && /"path" : "fastwake"/ }
	  <$fh> =~ /\{[^{}]*\}/g;
	return defined $row && $row =~ /"p50_us" : "?([\d.]+)/ ? $1 : undef;
}

sub beyond_line
{
	my ($name, $us, $local) = @_;
	return '| ' . join(' | ', $name,
		map { sprintf '%+.1f', $us->{$_} - ($local->{$_} // 0) } @roles, 'all') . " |\n";
}

# Rows of one number of clients: [name, times].
sub beyond_table
{
	my ($clients, $local, @rows) = @_;
	my $handoff = handoff();
	my $text = "Beyond a local commit, which takes "
	  . sprintf('%.1f', $local->{all}) . " us traced, $clients client"
	  . ($clients == 1 ? '' : 's') . ", in us per commit:\n\n| row | "
	  . join(' | ', @roles, 'all') . " |\n|:--|" . '--:|' x (@roles + 1) . "\n";
	$text .= beyond_line($_->[0], $_->[1], $local) for @rows;
	$text .= beyond_line('at least: a replay, a hand-off',
		floor_row([ map { $_->[1] } @rows ], $handoff), {})
	  if defined $handoff && @rows;
	return "$text\n";
}

my (%local, %others, @numbers);
for my $row (rows())
{
	my ($config, $level, $clients, $directory) = @$row;
	my $sum = read_trace($directory);
	next if !$sum->{commits};
	print table("**$config**, `$level`, $clients client"
		  . ($clients == 1 ? '' : 's'), $sum);
	push @numbers, $clients if !grep { $_ == $clients } @numbers;
	if ($config eq 'local') { $local{$clients} = times_of($sum); }
	else { push @{ $others{$clients} }, [ "$config, `$level`", times_of($sum) ]; }
}
for my $clients (grep { $local{$_} } @numbers)
{
	print beyond_table($clients, $local{$clients}, @{ $others{$clients} // [] });
}
