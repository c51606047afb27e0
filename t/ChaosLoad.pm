# SPDX-License-Identifier: PostgreSQL
#
# The load of a campaign of faults, and the judgement of what is left of it.
#
# Many clients insert rows, each numbered by its client and with a checksum that
# the client computes.  pgbench logs each transaction that the server has
# acknowledged: so it is known outside the servers what must not be lost.
package ChaosLoad;

use strict;
use warnings FATAL => 'all';

use POSIX qw(WNOHANG);
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);

use constant CHECKSUM => 
  '(run * 7919 + client * 104729 + id * 1299709) % 2147483647';

# %options: node, clients, rate (rows a second in all), commit (setting of
# synchronous_commit).
sub new
{
	my ($class, %options) = @_;
	my $self = bless {
		%options,
		dir => PostgreSQL::Test::Utils::tempdir(),
		run => 0,
		acknowledged => {},
		rows => 0,
		owner => $$
	}, $class;
	my $checksum = CHECKSUM =~ s/\b(run|id)\b/:$1/gr =~ s/\bclient\b/:client_id/r;

	# The server reads a file in it.
	chmod 0755, $self->{dir};
	# The filler is there so that a row has something to be torn in.
	append_to_file("$self->{dir}/insert.sql", <<"END");
\\set id :id + 1
\\set checksum $checksum
INSERT INTO chaos VALUES (:run, :client_id, :id, :checksum, repeat(md5(:checksum::text), 4));
END
	return $self;
}

# No key: a row that is there twice shall be seen, not refused.
sub table
{
	return 'CREATE TABLE chaos (run int, client int, id int, checksum bigint, '
	  . 'filler text)';
}

sub start
{
	my ($self) = @_;
	my $run = ++$self->{run};
	my $dir = "$self->{dir}/$run";
	my $node = $self->{node};

	mkdir $dir;
	$self->{pid} = fork() // die "cannot fork: $!";
	return if $self->{pid} != 0;
	open STDIN, '<', '/dev/null';
	open STDOUT, '>', "$dir/output";
	open STDERR, '>&', \*STDOUT;
	$ENV{PGAPPNAME} = 'chaos';
	$ENV{PGOPTIONS} = "-c synchronous_commit=$self->{commit}";
	exec 'pgbench', '-n', '-M', 'prepared', '-c', $self->{clients}, '-j', 1,
	  '-T', 86400, '-D', "run=$run", '-D', 'id=0', '-R', $self->{rate},
	  '-l', '--log-prefix', "$dir/log", '-f', "$self->{dir}/insert.sql",
	  '-h', $node->host, '-p', $node->port, 'postgres'
	  or POSIX::_exit(127);
}

# Are the clients at work?  If not, what was acknowledged to them is noted.
sub running
{
	my ($self) = @_;

	return 0 if !$self->{pid};
	return 1 if waitpid($self->{pid}, WNOHANG) == 0;
	$self->{status} = $? >> 8;
	$self->{pid} = 0;
	$self->note_acknowledged;
	return 0;
}

# SIGALRM ends pgbench in good order: what is under way is completed.  False if
# a client does not end within so many seconds.
sub stop
{
	my ($self, $seconds) = @_;

	kill 'ALRM', $self->{pid} if $self->{pid};
	return $self->wait_end($seconds);
}

sub wait_end
{
	my ($self, $seconds) = @_;
	my $end = time + $seconds;

	while ($self->running)
	{
		if (time > $end)
		{
			# Not more than one load at a time.
			kill 'KILL', $self->{pid};
			waitpid $self->{pid}, 0;
			$self->{pid} = 0;
			$self->note_acknowledged;
			return 0;
		}
		usleep(100_000);
	}
	return 1;
}

sub note_acknowledged
{
	my ($self) = @_;
	my $run = $self->{run};

	foreach my $log (glob "$self->{dir}/$run/log*")
	{
		open my $file, '<', $log or die "$log: $!";
		while (<$file>)
		{
			# client, transaction, latency ("failed"), script, time
			/^(\d+) \d+ \d+ \d+ \d+ \d+/ or next;
			$self->{acknowledged}{"$run\t$1"}++;
			$self->{rows}++;
		}
		close $file;
		unlink $log;
	}
	return;
}

sub output
{
	my ($self) = @_;
	return slurp_file("$self->{dir}/$self->{run}/output");
}

# Compare the rows that SESSION's server has with what was acknowledged: how many
# are lost, there twice, torn, or were never sent.
sub judge
{
	my ($self, $session) = @_;
	my $file = "$self->{dir}/acknowledged";
	my $good = CHECKSUM =~ s/\b(run|client|id)\b/$1::bigint/gr;

	unlink $file;
	append_to_file($file,
		join '', map { "$_\t$self->{acknowledged}{$_}\n" }
		  sort keys %{ $self->{acknowledged} });
	foreach my $sql (
		'CREATE TEMP TABLE acknowledged (run int, client int, rows int)',
		"COPY acknowledged FROM '$file'")
	{
		defined $session->query($sql) or die $session->error;
	}
	# A client has at most one transaction whose end it does not know.
	my $result = $session->query(<<"END", 600) // die $session->error;
SELECT (SELECT coalesce(sum(a.rows - n), 0) FROM
	(SELECT a.run, a.client, a.rows, count(DISTINCT c.id) AS n
	 FROM acknowledged a LEFT JOIN chaos c ON a.run = c.run
	   AND a.client = c.client AND c.id BETWEEN 1 AND a.rows
	 GROUP BY 1, 2, 3) a),
  (SELECT count(*) - count(DISTINCT (run, client, id)) FROM chaos),
  (SELECT count(*) FROM chaos WHERE checksum IS DISTINCT FROM $good
	 OR filler IS DISTINCT FROM repeat(md5(checksum::text), 4)),
  (SELECT count(*) FROM chaos c LEFT JOIN acknowledged a USING (run, client)
   WHERE id < 1 OR id > coalesce(a.rows, 0) + 1)
END
	$session->query('DROP TABLE acknowledged');
	my %count;
	@count{qw(lost duplicated torn invented)} = split /\|/, $result;
	return %count;
}

sub DESTROY
{
	my ($self) = @_;

	return if !$self->{pid} || $self->{owner} != $$;
	local $?;
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	return;
}

1;
