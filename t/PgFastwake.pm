# SPDX-License-Identifier: PostgreSQL
#
# What the TAP tests share: clusters with pg_fastwake preloaded, streaming over
# the transport under test, and checks that it is that transport.
#
#	FW_TRANSPORT	shm (default) or rdma: what the tests run over
#	FW_DESTDIR		where the extension under test is installed (the system)
#	FW_TEMPLATE		data directory to copy instead of running initdb
#	FW_PEER			set in a pair of guests: see PairCluster.pm
package PgFastwake;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  transport make_primary make_standby make_pair wait_streaming transport_of
  is_transport is_hop primary_conninfo poll_log same_data connection_value
  route no_fallback set_conf disconnect reconnect poll_output
);

# The transport under test.
sub transport
{
	return $ENV{FW_TRANSPORT} // 'shm';
}

# A node that is not a standby of UPSTREAM, or is one.  In a pair of guests the
# cable is between the two.
sub new_node
{
	my ($name, $upstream) = @_;
	return PostgreSQL::Test::Cluster->new($name) if !$ENV{FW_PEER};
	require PairCluster;
	return PairCluster->new(
		$upstream && $upstream->place eq 'a' ? 'b' : 'a', $name);
}

# Where other nodes reach it.
sub address
{
	my ($node) = @_;
	return $node->can('address') ? $node->address : '127.0.0.1';
}

# Whom a node trusts, and where it listens: this machine, or the networks of a pair.
sub networks
{
	return $ENV{FW_PEER} ? ('*', '10.9.0.0/16') : ('127.0.0.1', '127.0.0.1/32');
}

# Where the extension under test is, if not in the system.
sub private_conf
{
	my $destdir = $ENV{FW_DESTDIR} // '';
	return '' if $destdir eq '';
	my $libdir = $ENV{FW_PKGLIBDIR} // `pg_config --pkglibdir`;
	chomp $libdir;
	return <<"END";
dynamic_library_path = '$destdir$libdir:\$libdir'
extension_destdir = '$destdir'
END
}

# Settings that every server under test has.  wal_keep_size: else a checkpoint, a base
# backup's or one that is due, may remove the segment that a walsender is about to
# finish, and its standby never comes back.
sub common_conf
{
	my ($listen) = networks();
	return private_conf() . <<"END";
listen_addresses = '$listen'
log_line_prefix = '%m [%p] %b '
wal_retrieve_retry_interval = 200ms
max_wal_senders = 8
wal_keep_size = 256MB
END
}

sub preload_conf
{
	my $transport = transport();
	return <<"END";
shared_preload_libraries = 'pg_fastwake'
pg_fastwake.transport = '$transport'
END
}

# A primary: initialised, not started.  %opts: preload (1), conf, extra.
sub make_primary
{
	my ($name, %opts) = @_;
	my $node = new_node($name);
	my (undef, $trusted) = networks();

	$node->init(
		allows_streaming => 1,
		has_archiving => $opts{has_archiving} // 0,
		extra => $opts{extra} // []);
	$node->append_conf('postgresql.conf', common_conf());
	$node->append_conf('postgresql.conf', preload_conf())
	  if $opts{preload} // 1;
	$node->append_conf('postgresql.conf', $opts{conf}) if $opts{conf};
	$node->append_conf('pg_hba.conf',
		"host replication all $trusted trust\nhost all all $trusted trust\n");
	return $node;
}

# How a standby reaches a node: by TCP, so that it is not a Unix socket that is
# silently tested.  %more: further keywords of the connection string.
sub primary_conninfo
{
	my ($upstream, $name, %more) = @_;
	my %keys = (
		host => address($upstream),
		port => $upstream->port,
		application_name => $name,
		sslmode => 'disable',
		gssencmode => 'disable',
		%more);
	return join ' ', map { "$_=$keys{$_}" } sort keys %keys;
}

# A standby of a running node, not started.  %opts: preload (1), conf,
# conninfo (a hash).
sub make_standby
{
	my ($upstream, $name, %opts) = @_;
	my $node = new_node($name, $upstream);
	my $preload = $opts{preload} // 1;
	my $conninfo =
	  primary_conninfo($upstream, $name, %{ $opts{conninfo} // {} });

	$upstream->backup("for_$name");
	{
		# Perl's own copying takes half a minute in the lab.
		no warnings 'redefine';
		local *PostgreSQL::Test::RecursiveCopy::copypath =
		  sub { system_or_bail('cp', '-a', @_[ 0, 1 ]) };
		$node->init_from_backup($upstream, "for_$name", has_streaming => 1);
	}
	$node->append_conf('postgresql.conf',
		    "primary_conninfo = '$conninfo'\n"
		  . 'shared_preload_libraries = '
		  . ($preload ? "'pg_fastwake'" : "''")
		  . "\n");
	$node->append_conf('postgresql.conf', preload_conf()) if $preload;
	# Its host is no directory.
	$node->append_conf('postgresql.conf', "unix_socket_directories = '/tmp'")
	  if $node->host =~ /^10/;
	$node->append_conf('postgresql.conf', $opts{conf}) if $opts{conf};
	return $node;
}

# A primary and a synchronous standby, both started and streaming; the
# extension created.  %opts: primary_conf, standby_conf, more for make_*.
sub make_pair
{
	my (%opts) = @_;
	my $primary = make_primary('primary', conf => $opts{primary_conf},
		%{ $opts{primary} // {} });
	$primary->start;
	$primary->safe_psql('postgres', 'CREATE EXTENSION pg_fastwake')
	  if $opts{primary}{preload} // 1;
	my $standby = make_standby($primary, 'standby',
		conf => $opts{standby_conf}, %{ $opts{standby} // {} });
	$standby->start;
	wait_streaming($primary, 'standby');
	# Only now: a commit during set-up would wait for ever.
	$primary->safe_psql('postgres',
		"ALTER SYSTEM SET synchronous_standby_names = 'standby'");
	$primary->reload;
	$primary->poll_query_until('postgres',
		"SELECT sync_state = 'sync' FROM pg_stat_replication")
	  or die 'standby did not become synchronous';
	return ($primary, $standby);
}

sub wait_streaming
{
	my ($node, $name) = @_;
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_replication "
		  . "WHERE application_name = '$name' AND state = 'streaming'")
	  or die "standby $name does not stream";
}

# Change settings of a running node (undef: back to the default).  The
# postmaster has been told when this returns, and so reads them before it
# starts another process.
sub set_conf
{
	my ($node, %settings) = @_;
	my @commands = map {
		defined $settings{$_}
		  ? "ALTER SYSTEM SET $_ = '$settings{$_}';"
		  : "ALTER SYSTEM RESET $_;"
	} sort keys %settings;

	$node->safe_psql('postgres',
		join "\n", @commands, 'SELECT pg_reload_conf();');
}

# End the connection of the node's only standby of that name, which comes back.
# Returns the old walsender's pid.
sub disconnect
{
	my ($node, $name) = @_;
	my $old = $node->safe_psql('postgres',
		'SELECT pg_terminate_backend(pid), pid FROM pg_stat_replication '
		  . "WHERE application_name = '$name'");

	$old =~ s/^t\|// or die "no walsender to terminate: $old";
	return $old;
}

# The same, and wait for it to stream again.
sub reconnect
{
	my ($node, $name) = @_;
	my $old = disconnect($node, $name);

	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_replication WHERE pid <> $old "
		  . "AND application_name = '$name' AND state = 'streaming'")
	  or die "standby $name does not come back";
}

# One column of the node's connection entry of that role ('' if there is none).
sub connection_value
{
	my ($node, $role, $column) = @_;
	return $node->safe_psql('postgres',
		"SELECT $column FROM pg_fastwake_replication() "
		  . "WHERE role = '$role'");
}

sub transport_of
{
	my ($node, $role) = @_;
	return connection_value($node, $role, 'transport');
}

# Run a query until its output matches; returns the last output.  Each try is
# a process, which counts in the lab: so a query should answer all at once.
sub poll_output
{
	my ($node, $query, $regex) = @_;
	my $out;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$out = $node->safe_psql('postgres', $query);
		last if $out =~ $regex;
		select undef, undef, undef, 0.1;
	}
	return $out;
}

# The node's view says that its connection of this role uses that transport
# (the one under test by default), and bytes have travelled.
sub is_transport
{
	my ($node, $role, $expected, $what) = @_;
	$expected //= transport();
	$what //= $node->name . " as $role uses $expected";
	my $seen = poll_output(
		$node,
		"SELECT role = '$role' AND transport = '$expected' AND "
		  . "(transport = 'tcp' OR sent_bytes + received_bytes > 0), "
		  . 'role, transport, device, local_address, address, qp_num, '
		  . 'qp_state, sent_bytes, received_bytes, last_fallback_reason '
		  . 'FROM pg_fastwake_replication()',
		qr/^t\|/m);

	note $node->name . ": $seen";
	return like($seen, qr/^t\|/m, $what);
}

# The condition that the channel of one node leads to the other: in a pair of guests,
# where their addresses are known, it uses the cable.
sub route
{
	my ($from, $to) = @_;
	return 'true' if !$from->can('rdma_address');
	my ($local, $remote) = map { quotemeta $_->rdma_address } $from, $to;
	return "local_address ~ '^$local\\M' AND address ~ '^$remote\\M'";
}

# The stream from one node to another uses that transport (the one under test by
# default), as the views of both ends say: the sender's entry is that of the
# walsender of the node DOWN, and not of another standby's.  A walsender that was
# never asked for a channel has no entry: that is TCP too.
sub is_hop
{
	my ($up, $down, $expected, $what) = @_;
	$expected //= transport();
	my $name = $down->name;
	$what //= $up->name . " to $name";
	my $seen = poll_output($up, <<"END", qr/^t\|/);
SELECT coalesce(transport, 'tcp') = '$expected' AND
  ('$expected' = 'tcp' OR sent_bytes > 0 AND received_bytes > 0
    AND ${\ route($up, $down)}), r.pid,
  transport, device, local_address, address, qp_num, qp_state, sent_bytes,
  received_bytes, last_fallback_reason
  FROM pg_stat_replication r LEFT JOIN pg_stat_fastwake_replication f
    ON r.pid = f.pid AND role = 'sender'
  WHERE r.application_name = '$name' AND r.state = 'streaming'
END

	note "$what, sender: $seen";
	like($seen, qr/^t\|/, "$what: sent over $expected");
	return if $expected eq 'tcp';
	$seen = poll_output($down, <<"END", qr/^t\|/);
SELECT transport = '$expected' AND sent_bytes > 0 AND received_bytes > 0 AND
  ${\ route($down, $up)}, r.pid,
  transport, device, local_address, address, qp_num, qp_state, sent_bytes,
  received_bytes, last_fallback_reason
  FROM pg_stat_wal_receiver r JOIN pg_stat_fastwake_replication f
    ON r.pid = f.pid AND role = 'receiver'
END
	note "$what, receiver: $seen";
	return like($seen, qr/^t\|/, "$what: received over $expected");
}

# No stream of this node has ever gone to TCP, or failed on a channel.
sub no_fallback
{
	my ($node) = @_;
	return is(
		$node->safe_psql('postgres',
			'SELECT fallbacks, failures, last_fallback_reason FROM pg_stat_fastwake'),
		'0|0|',
		$node->name . ': no fallback');
}

# Wait until the node's log, from byte OFFSET on, matches.
sub poll_log
{
	my ($node, $regex, $offset) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1
		  if substr(slurp_file($node->logfile), $offset // 0) =~ $regex;
		select undef, undef, undef, 0.1;
	}
	return 0;
}

# Standby has replayed all of the primary's WAL, and query gives the same rows.
sub same_data
{
	my ($primary, $standby, $query, $what) = @_;
	my ($lsn, $expected) = split /\n/,
	  $primary->safe_psql('postgres',
		"SELECT pg_current_wal_insert_lsn(); $query"), 2;
	my $seen = poll_output($standby, <<"END", qr/^rows\n/);
SELECT pg_last_wal_replay_lsn() >= '$lsn' AS replayed \\gset
\\if :replayed
\\echo rows
$query;
\\endif
END

	return is($seen, "rows\n$expected", $what);
}

1;
