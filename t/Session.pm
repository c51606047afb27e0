# SPDX-License-Identifier: PostgreSQL
#
# Queries to a server that may crash, restart or hang at any moment, with a time
# limit, and without a process for each: in the lab one takes a second.
package Session;

use strict;
use warnings FATAL => 'all';

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Time::HiRes qw(time);

# NODE: anything with a host (a directory: that of a Unix socket) and a port.
sub new
{
	my ($class, $node) = @_;
	return bless { host => $node->host, port => $node->port }, $class;
}

sub open_socket
{
	my ($self) = @_;

	return IO::Socket::UNIX->new(
		Peer => "$self->{host}/.s.PGSQL.$self->{port}")
	  if $self->{host} =~ m{^/};
	return IO::Socket::INET->new(
		PeerAddr => $self->{host},
		PeerPort => $self->{port},
		Timeout => $self->{deadline} - time,
		Proto => 'tcp');
}

# Why the last query has no result.
sub error
{
	return $_[0]->{error} // '';
}

sub close
{
	my ($self) = @_;
	delete $self->{socket};
	return;
}

# Exactly so many bytes, until the deadline.
sub take
{
	my ($self, $length) = @_;
	my ($bytes, $socket) = ('', $self->{socket});

	while (length $bytes < $length)
	{
		my $left = $self->{deadline} - time;
		$left > 0 && IO::Select->new($socket)->can_read($left)
		  or die "no answer in time\n";
		sysread $socket, $bytes, $length - length $bytes, length $bytes
		  or die "connection lost\n";
	}
	return $bytes;
}

sub give
{
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $done = syswrite $self->{socket}, $bytes;
	defined $done && $done == length $bytes or die "connection lost\n";
	return;
}

# Messages up to ReadyForQuery; rows as psql -At prints them.
sub answer
{
	my ($self) = @_;
	my ($type, @rows, $error) = ('');

	while ($type ne 'Z')
	{
		($type, my $length) = unpack 'aN', $self->take(5);
		my $body = $self->take($length - 4);
		if ($type eq 'D')
		{
			my ($columns, $rest) = unpack 'n a*', $body;
			my @values;
			for (1 .. $columns)
			{
				# -1: null, which has no bytes
				my $size = unpack 'l>', $rest;
				push @values, $size < 0 ? '' : substr $rest, 4, $size;
				$rest = substr $rest, 4 + ($size < 0 ? 0 : $size);
			}
			push @rows, join '|', @values;
		}
		elsif ($type eq 'E')
		{
			($error) = $body =~ /(?:^|\0)M([^\0]*)/;
			# The server has said its last word.
			die "$error\n" if $body =~ /(?:^|\0)S(?:FATAL|PANIC)\0/;
		}
		elsif ($type eq 'R' && unpack('N', $body) != 0)
		{
			die "authentication is asked for\n";
		}
	}
	$self->{failed} = $error;
	return join "\n", @rows;
}

sub connect
{
	my ($self) = @_;
	my $user = $ENV{PGUSER} // getpwuid $>;
	my $parameters = join "\0", 'user', $user, 'database', 'postgres',
	  'application_name', 'test', "\0";

	$self->{socket} = $self->open_socket or die "could not connect: $!\n";
	$self->give(pack 'NN a*', 8 + length $parameters, 196608, $parameters);
	$self->answer;
	return;
}

# The result as text, or undef; see error().  SECONDS: the limit.
sub query
{
	my ($self, $sql, $seconds) = @_;
	my $result;

	# The connection of before may have been lost unnoticed.
	foreach my $again ($self->{socket} ? (1, 0) : (0))
	{
		$self->{deadline} = time + ($seconds // 60);
		$result = eval {
			$self->connect if !$self->{socket};
			$self->give(pack 'a N Z*', 'Q', 5 + length $sql, $sql);
			$self->answer;
		};
		if (defined $result)
		{
			$self->{error} = $self->{failed};
			return defined $self->{failed} ? undef : $result;
		}
		chomp($self->{error} = $@);
		$self->close;
		last if !$again || $self->{error} =~ /in time/;
	}
	return;
}

1;
