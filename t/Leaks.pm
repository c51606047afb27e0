# SPDX-License-Identifier: PostgreSQL
#
# What the processes of some servers hold of the system: to be compared between
# two moments at which it should be the same.
package Leaks;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use Faults;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(server_processes held leaked note_postmaster);

# All postmasters there have been: who made a segment of shared memory.
my %postmasters;

sub note_postmaster
{
	my ($node) = @_;
	my $pid = eval { postmaster_pid($node) };

	$postmasters{$pid} = 1 if defined $pid;
	return;
}

# A server's processes are in its data directory, also those whose postmaster is
# gone.
sub server_processes
{
	my @dirs = map { $_->data_dir } @_;

	return grep {
		my $cwd = readlink "/proc/$_/cwd";
		defined $cwd && grep { $cwd eq $_ } @dirs;
	} map { m{(\d+)$} } glob '/proc/[0-9]*';
}

sub count
{
	my ($file, $regex) = @_;
	my $text = eval { slurp_file($file) } // '';

	return scalar(() = $text =~ /$regex/g);
}

# Segments of System V that our postmasters made.
sub segments
{
	return scalar grep { my @field = split ' '; $postmasters{ $field[4] // '' } }
	  split /\n/, eval { slurp_file('/proc/sysvipc/shm') } // '';
}

# A hash of counts.
sub held
{
	my @nodes = @_;
	my %held = (
		processes => 0,
		descriptors => 0,
		memfd => 0,
		pinned => 0,
		segments => segments(),
		named => scalar(() =
			  glob($ENV{FASTWAKE_LAB} ? '/dev/shm/*' : '/dev/shm/*fastwake*')));

	foreach my $node (@nodes)
	{
		my $pid = eval { postmaster_pid($node) };
		$held{descriptors} += descriptors($pid) if defined $pid;
	}
	foreach my $pid (server_processes(@nodes))
	{
		$held{memfd} += count("/proc/$pid/maps", qr/memfd:fastwake/);
		my $status = eval { slurp_file("/proc/$pid/status") } // '';
		$held{pinned} += $1 while $status =~ /^Vm(?:Pin|Lck):\s+(\d+)/mg;
	}
	return %held if ($ENV{FW_TRANSPORT} // '') ne 'rdma';
	foreach my $kind (qw(qp cq mr pd))
	{
		$held{$kind} = () = `rdma resource show $kind` =~ /pid \d+/g;
	}
	return %held;
}

# What there is more of than before, as text.
sub leaked
{
	my ($before, $now) = @_;

	return join ', ', map { "$_: $before->{$_}, now $now->{$_}" }
	  grep { $now->{$_} > ($before->{$_} // 0) } sort keys %$now;
}

1;
