# SPDX-License-Identifier: PostgreSQL
#
# Servers in the two guests of lab/pair, seen from guest a: as much like the nodes
# of PostgreSQL::Test::Cluster as what the tests share (PgFastwake, Faults) asks for.
#
# The guests have two networks.  RDMA's, 10.9.0.*, is the cable that tests pull;
# queries, and mostly replication's TCP too, use 10.9.1.*, which stays.
#
#	FW_TEMPLATE		data directory to copy in place of initdb
#	FW_SHARE		directory that both guests see: logs, and the data that a guest's
#					power cut must not take away
package PairNode;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use Faults;
use PgFastwake;
use PostgreSQL::Test::Utils;
use Session;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  outside peer start_pair make_synchronous on_channel on_tcp wait_retry same_rows
  log_since log_end commit_waits
);

my %NUMBER = (a => 1, b => 2);

# ---- the lab ----

# What lab/pair does from outside: see lab/outside.
sub outside
{
	my (@action) = @_;
	system('outside', @action) == 0 or die "outside @action: $?";
	note "outside @action";
	return;
}

# Whatever a test that died has left behind.
sub all_well
{
	system("outside $_ >/dev/null 2>&1")
	  foreach 'resume b', 'boot b', 'plug a', 'plug b';
	return;
}

# A command in guest b.
sub peer
{
	my (@command) = @_;
	system('peer', @command) == 0 or die "peer @command: $?";
	return;
}

# ---- a server ----

# %opts: durable (data outlive the guest's power), conf.
sub new
{
	my ($class, $place, $name, %opts) = @_;
	my $share = $ENV{FW_SHARE} or die 'FW_SHARE is not set';
	# Files of one test must not meet those of another.
	my ($test) = $0 =~ m{(\d+)_\w+\.pl$} or die "no number in $0";
	my $self = bless {
		place => $place,
		name => $name,
		files => "$share/$test-$name",
		data => ($opts{durable} ? $share : '/var/tmp') . "/fw-$test-$name",
		port => 5400 + $test,
		conf => '',
	}, $class;

	$self->{session} = Session->new($self);
	$self->append_conf('postgresql.conf', <<"END");
listen_addresses = '*'
port = $self->{port}
unix_socket_directories = '/tmp'
fsync = ${\ ($opts{durable} ? 'on' : 'off')}
log_line_prefix = '%m [%p] %b '
log_checkpoints = off
max_wal_size = 256MB
wal_keep_size = 64MB
wal_retrieve_retry_interval = 200ms
END
	$self->append_conf('postgresql.conf',
		    PgFastwake::private_conf()
		  . PgFastwake::preload_conf()
		  . fault_conf()
		  . ($opts{conf} // ''));
	return $self;
}

sub name { return $_[0]->{name} }
sub port { return $_[0]->{port} }
sub host { return "10.9.1.$NUMBER{$_[0]->{place}}" }
sub rdma_address { return "10.9.0.$NUMBER{$_[0]->{place}}" }
sub logfile { return "$_[0]->{files}.log" }

# Run a shell's script where the server is.
sub run
{
	my ($self, $script) = @_;
	my @command = ('sh', '-ec', $script);

	unshift @command, 'peer' if $self->{place} eq 'b';
	system(@command) == 0 or die "$self->{name}: $script: $?";
	return;
}

# Takes effect when it is next started.
sub append_conf
{
	my ($self, $file, $text) = @_;
	$file eq 'postgresql.conf' or die "$file is not written here";
	$self->{conf} .= $text;
	return;
}

# A new cluster.  All are copies of the same one, so that any can be the standby of
# any other without a backup (wal_keep_size: what it starts with is kept).
sub create
{
	my ($self) = @_;
	$self->run(<<"END");
rm -rf $self->{data}
mkdir -m 700 $self->{data}
cp -a $ENV{FW_TEMPLATE}/. $self->{data}
chmod 700 $self->{data}
echo "include 'fw.conf'" >>$self->{data}/postgresql.conf
echo 'host all,replication all 10.9.0.0/16 trust' >>$self->{data}/pg_hba.conf
END
	return $self;
}

# Make it a standby of UPSTREAM, which it reaches at ADDRESS (by the network that
# stays).
sub follow
{
	my ($self, $upstream, $address) = @_;
	my $conninfo = primary_conninfo($upstream, $self->{name},
		host => $address // $upstream->host);

	$self->append_conf('postgresql.conf', "primary_conninfo = '$conninfo'\n");
	$self->{standby} = 1;
	return $self;
}

sub start
{
	my ($self) = @_;
	my $script = '';

	append_to_file("$self->{files}.conf", $self->{conf});
	$self->{conf} = '';
	$script = "touch $self->{data}/standby.signal\n" if delete $self->{standby};
	$self->run(<<"END");
cp $self->{files}.conf $self->{data}/fw.conf
${script}pg_ctl -w -t 120 -D $self->{data} -l $self->{files}.log start </dev/null >/dev/null
END
	return $self;
}

sub stop
{
	my ($self, $mode) = @_;
	$self->{session}->close;
	$self->run("pg_ctl -w -t 120 -D $self->{data} -m "
		  . ($mode // 'fast') . ' stop >/dev/null');
	return;
}

# ---- queries ----

sub safe_psql
{
	my ($self, undef, $query) = @_;
	my $result = $self->{session}->query($query, 120);

	defined $result or die "$self->{name}: $query: " . $self->{session}->error;
	return $result;
}

# The server may be away meanwhile.
sub poll_query_until
{
	my ($self, undef, $query, $expected) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;
	my $seen;

	do
	{
		$seen = $self->{session}->query($query, 20);
		return 1 if defined $seen && $seen eq ($expected // 't');
		usleep(200_000);
	} while (time < $end);
	diag "$self->{name}: $query: " . ($seen // $self->{session}->error);
	return 0;
}

# Change settings while it runs (undef: back to the default).
sub set
{
	my ($self, %settings) = @_;

	foreach my $name (sort keys %settings)
	{
		$self->safe_psql('postgres',
			defined $settings{$name}
			? "ALTER SYSTEM SET $name = '$settings{$name}'"
			: "ALTER SYSTEM RESET $name");
	}
	$self->safe_psql('postgres', 'SELECT pg_reload_conf()');
	return;
}

# ---- a primary and its standby ----

sub make_synchronous
{
	my ($primary, $standby) = @_;
	my $name = $standby->name;

	wait_streaming($primary, $name);
	$primary->set(synchronous_standby_names => $name);
	$primary->poll_query_until('postgres',
		    "SELECT sync_state = 'sync' FROM pg_stat_replication "
		  . "WHERE application_name = '$name'")
	  or die "$name did not become synchronous";
	return;
}

# Both started, streaming over RDMA, the standby synchronous; the table of Faults
# made.  %opts: primary_in (a), the standby being in the other guest; primary_conf,
# standby_conf; durable: one of the names "primary" and "standby"; address: where
# the standby connects to.
sub start_pair
{
	my (%opts) = @_;
	my @places = ($opts{primary_in} // 'a') eq 'a' ? qw(a b) : qw(b a);
	my $durable = $opts{durable} // '';
	my ($primary, $standby) = map {
		PairNode->new(
			shift @places, $_,
			durable => $durable eq $_,
			conf => $opts{"${_}_conf"})
	} qw(primary standby);

	all_well();
	$primary->create->start;
	$primary->safe_psql('postgres', 'CREATE EXTENSION pg_fastwake');
	create_rows($primary);
	$standby->create->follow($primary, $opts{address})->start;
	make_synchronous($primary, $standby);
	on_channel($primary, $standby, 'at first');
	return ($primary, $standby);
}

# When RDMA may be tried again.
sub wait_retry
{
	my ($standby) = @_;
	$standby->poll_query_until('postgres',
		'SELECT next_retry IS NULL OR next_retry < now() FROM pg_stat_fastwake')
	  or die 'the pause does not end';
	return;
}

# The stream is on RDMA, as the views of both sides say, between the two ends of
# the cable.  On emulated machines a negotiation may need more than its 2 s: then
# the standby, on TCP, tries again when it is time for that.
sub on_channel
{
	my ($up, $down, $when) = @_;

	wait_streaming($up, $down->name);
	foreach my $again (reverse 0 .. 2)
	{
		my $seen = poll_output(
			$down,
			"SELECT transport, last_fallback_reason FROM pg_fastwake_replication() "
			  . "WHERE role = 'receiver'",
			qr/^(?:rdma|tcp)/);
		last if $seen !~ /^tcp/ || !$again;
		note "$when: $seen";
		wait_retry($down);
		reconnect($up, $down->name);
	}
	is_hop($up, $down, 'rdma', $when);
	return;
}

# The stream has gone to TCP, and both sides say so: views, and one line in the
# standby's log since OFFSET, with the reason.
sub on_tcp
{
	my ($up, $down, $reason, $offset, $when) = @_;
	my $line = qr/LOG:  pg_fastwake: WAL from the primary travels over TCP\n[^\n]*DETAIL:  ([^\n]*)/;

	wait_streaming($up, $down->name);
	is_hop($up, $down, 'tcp', $when);
	is_transport($down, 'receiver', 'tcp', "$when: the standby's transport");
	my @details = log_since($down, $offset) =~ /$line/g;
	is(scalar @details, 1, "$when: one line in the standby's log");
	like($details[0] // '', $reason, "$when: which says why");
	return;
}

sub log_end
{
	my ($node) = @_;
	return -s $node->logfile;
}

sub log_since
{
	my ($node, $offset) = @_;
	return substr slurp_file($node->logfile), $offset;
}

# All of the primary's rows are on the standby, and nothing else.
sub same_rows
{
	my ($primary, $standby, $what) = @_;
	my $rows = 'SELECT run, client, count(*), sum(id), '
	  . "md5(string_agg(id || filler, ',' ORDER BY id)) FROM acked "
	  . 'GROUP BY 1, 2 ORDER BY 1, 2';
	my $lsn =
	  $primary->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');

	$standby->poll_query_until('postgres',
		"SELECT pg_last_wal_replay_lsn() >= '$lsn'")
	  or die "$what: $lsn is not replayed";
	return is(
		$standby->safe_psql('postgres', $rows),
		$primary->safe_psql('postgres', $rows),
		"$what: same rows in both guests");
}

# So many commits wait for the standby, and none ends in SECONDS.
sub commit_waits
{
	my ($primary, $clients, $seconds, $what) = @_;
	my $count = 'SELECT count(*) FROM acked';

	ok( $primary->poll_query_until(
			'postgres',
			"SELECT count(*) = $clients FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
		),
		"$what: commits wait");
	my $before = $primary->safe_psql('postgres', $count);
	usleep(1_000_000 * $seconds);
	return is($primary->safe_psql('postgres', $count),
		$before, "$what: none is acknowledged");
}

1;
