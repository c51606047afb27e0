# SPDX-License-Identifier: PostgreSQL
#
# A proxy between a standby and its primary that changes the endpoint which the
# primary hands out: so real servers meet wrong and replayed tokens, and an
# address where nobody answers.
package FwProxy;

use strict;
use warnings FATAL => 'all';

use IO::Select;
use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Socket;

# Start it in front of PORT.  It ends with the object.
sub new
{
	my ($class, $port) = @_;
	my $listener = IO::Socket::INET->new(
		Listen => 8,
		LocalAddr => '127.0.0.1',
		Proto => 'tcp') or die "proxy cannot listen: $!";
	my $self = bless {
		port => $listener->sockport,
		dir => PostgreSQL::Test::Utils::tempdir(),
		owner => $$
	}, $class;

	$self->mode('none');
	$self->{pid} = fork() // die "cannot fork: $!";
	if ($self->{pid} == 0)
	{
		# Not the test's END blocks, which would stop its servers.
		eval { $self->serve($listener, $port); 1 } or print STDERR $@;
		POSIX::_exit(1);
	}
	return $self;
}

sub port
{
	return $_[0]->{port};
}

# What happens to the next endpoints: none, wrong (token), replay (the token
# of the endpoint before), blackhole (an address where nobody answers), mute
# (the endpoint is not passed on), flood (passed on when an attack on it has
# begun, see attack()).
sub mode
{
	my ($self, $mode) = @_;
	my $file = "$self->{dir}/mode";

	open my $out, '>', "$file.new" or die "$file: $!";
	print $out $mode;
	close $out;
	rename "$file.new", $file or die "$file: $!";
	return;
}

# A socket to which anybody can connect, and that never says a word.
sub open_blackhole
{
	my ($self) = @_;

	$self->{silent} = 'fastwake-' . ('0' x 32);
	socket($self->{silent_socket}, AF_UNIX, SOCK_SEQPACKET, 0)
	  && bind($self->{silent_socket},
		pack_sockaddr_un("\0$self->{silent}"))
	  && listen($self->{silent_socket}, 8)
	  or die "cannot make a silent socket: $!";
}

# What mode flood runs, as PROGRAM flood ADDRESS SECONDS; it says "started".
sub attack
{
	my ($self, $program, $seconds) = @_;

	PostgreSQL::Test::Utils::append_to_file("$self->{dir}/attack",
		"$program\n$seconds\n");
	return;
}

# All that the attacks have said so far.
sub attacks
{
	my ($self) = @_;

	return join '', map { slurp_file($_) } glob "$self->{dir}/attack.log.*";
}

sub start_attack
{
	my ($self, $text) = @_;
	my ($program, $seconds) = split /\n/, slurp_file("$self->{dir}/attack");
	my ($where) = $text =~ /(?:shm=\@|rdma=)([0-9a-z.:-]+)/ or die 'no address';
	my $log = "$self->{dir}/attack.log." . ++$self->{attacks};
	my $pid = fork() // die "cannot fork: $!";

	if ($pid == 0)
	{
		open STDOUT, '>', $log or POSIX::_exit(1);
		exec $program, 'flood', $where, $seconds or POSIX::_exit(1);
	}
	foreach (1 .. 200)
	{
		last if -s $log;
		select undef, undef, undef, 0.01;
	}
	return;
}

# Replacements have the length of the original: the message's stays true.
sub rewrite
{
	my ($self, $text) = @_;

	return $text
	  unless $text =~ /fastwake\/1 token=([0-9a-f]{32})/;
	my $token = $1;
	my $old = $self->{token} // $token;
	my $mode = slurp_file("$self->{dir}/mode");
	$self->{token} = $token;
	if ($mode eq 'wrong')
	{
		my $wrong = $token;
		$wrong =~ tr/0-9a-f/1-9a-f0/;
		$text =~ s/$token/$wrong/;
	}
	elsif ($mode eq 'replay')
	{
		die 'no earlier token' if $old eq $token;
		$text =~ s/$token/$old/;
	}
	elsif ($mode eq 'flood')
	{
		$self->start_attack($text);
	}
	elsif ($mode eq 'mute')
	{
		$text = '';
	}
	elsif ($mode eq 'blackhole')
	{
		$text =~ s/(shm=\@)([0-9a-z-]+)/$1$self->{silent}/;
		die 'silent name differs in length'
		  if defined $2 && length $2 != length $self->{silent};
		# The device's network swallows what is sent to another host.
		$text =~ s/(rdma=\d+\.\d+\.\d+\.)(\d)(?=:)/$1 . ($2 == 9 ? 8 : $2 + 1)/e;
	}
	return $text;
}

# One connection, until either side ends it.
sub relay
{
	my ($self, $client, $server) = @_;
	my %peer = ($client => $server, $server => $client);
	my $select = IO::Select->new($client, $server);

	while (1)
	{
		foreach my $from ($select->can_read)
		{
			my $bytes = sysread $from, my $data, 65536;

			return if !$bytes;
			$data = $self->rewrite($data) if $from == $server;
			while (length $data)
			{
				my $done = syswrite $peer{$from}, $data or return;
				substr($data, 0, $done, '');
			}
		}
	}
}

# One at a time: that of the only standby.
sub serve
{
	my ($self, $listener, $port) = @_;

	$SIG{PIPE} = 'IGNORE';
	$self->open_blackhole;
	while (my $client = $listener->accept)
	{
		my $server = IO::Socket::INET->new(
			PeerAddr => '127.0.0.1',
			PeerPort => $port,
			Proto => 'tcp');
		$self->relay($client, $server) if $server;
		close $client;
	}
}

sub DESTROY
{
	my ($self) = @_;

	return if !$self->{pid} || $self->{owner} != $$;
	local $?;
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
}

1;
