# SPDX-License-Identifier: PostgreSQL
#
# A node of PostgreSQL::Test::Cluster in one of the guests of lab/pair, seen from
# guest a, so that the TAP files run there as they are: primaries in guest a,
# standbys in the guest where their upstream is not.
#
# The files of guest b's nodes are below FW_PEER, which both guests see.  Queries
# come over the network.  What has to run where the server does is pg_ctl, for which
# t/in_pair puts a script of that name before PostgreSQL's, and what looks at
# processes, below.
#
#	FW_PEER		directory of guest b's nodes; only there if the tests run in a pair
package PairCluster;

use strict;
use warnings FATAL => 'all';

# Nothing is imported: its functions would hide methods of the same names.
use PostgreSQL::Test::Cluster ();

our @ISA = ('PostgreSQL::Test::Cluster');

my %NUMBER = (a => 1, b => 2);

# PLACE: "a" or "b".
sub new
{
	my ($class, $place, $name, %params) = @_;
	my $self = $class->SUPER::new($name, %params);

	$self->{place} = $place;
	$self->move if $place eq 'b';
	return $self;
}

# Its directory and logs to where guest b sees them.
sub move
{
	my ($self) = @_;
	my $old = $self->{_basedir};

	foreach my $path (@{$self}{qw(_basedir _logfile_base _logfile)})
	{
		$path =~ s{.*/}{$ENV{FW_PEER}/};
	}
	rmdir $old or die "$old: $!";
	mkdir $self->{_basedir} or die "$self->{_basedir}: $!";
	$self->{_host} = $self->address;
	return;
}

sub place
{
	return $_[0]->{place};
}

# On the network of its own that queries, and replication's TCP, use.
sub address
{
	return "10.9.1.$NUMBER{ $_[0]->{place} }";
}

# On the cable.
sub rdma_address
{
	return "10.9.0.$NUMBER{ $_[0]->{place} }";
}

# Where guest b's servers look for it.
sub archive_dir
{
	my ($self) = @_;
	return "$ENV{FW_PEER}/archive_" . $self->name;
}

sub kill9
{
	my ($self) = @_;

	return $self->SUPER::kill9 if $self->{place} eq 'a' || !defined $self->{_pid};
	PairProcess->new($self->{_pid})->signal('KILL');
	$self->{_pid} = undef;
	return;
}

# One of its server's processes.
sub process
{
	my ($self, $pid) = @_;
	return $self->{place} eq 'a' ? $pid : PairProcess->new($pid);
}

# ---- a process of guest b: reads as its number ----
package PairProcess;

use IPC::Open2;
use overload
  '""' => sub { $_[0]->{pid} },
  '0+' => sub { $_[0]->{pid} },
  fallback => 1;

sub new
{
	my ($class, $pid) = @_;
	return bless { pid => $pid }, $class;
}

# A shell in guest b, for all of a test's questions: each of its own takes half a
# second.
my ($shell, $to, $from);

# What a command prints, and its status.
sub ask
{
	my ($command) = @_;
	my $output = '';

	if (!$shell)
	{
		$shell = open2($from, $to, 'peer', 'bash');
		$to->autoflush;
	}
	print $to "{ $command\n} 2>/dev/null; echo \"= \$?\"\n";
	while (my $line = <$from>)
	{
		return ($output, $1) if $line =~ /^= (\d+)$/;
		$output .= $line;
	}
	die 'guest b does not answer';
}

END
{
	my $status = $?;

	if ($shell)
	{
		close $to;
		waitpid $shell, 0;
	}
	$? = $status;
}

# 1 if it was there.
sub signal
{
	my ($self, $signal) = @_;
	my (undef, $status) = ask("kill -$signal $self->{pid}");
	return $status == 0 ? 1 : 0;
}

# A file of its directory in /proc ('' if there is none).
sub proc
{
	my ($self, $name) = @_;
	my ($text) = ask("cat /proc/$self->{pid}/$name");
	return $text;
}

sub children
{
	my ($self) = @_;
	my ($pids) = ask("ps -o pid= --ppid $self->{pid}");
	return map { PairProcess->new($_) } $pids =~ /(\d+)/g;
}

sub descriptors
{
	my ($self) = @_;
	my ($names) = ask("ls /proc/$self->{pid}/fd");
	return scalar(() = $names =~ /\n/g);
}

1;
