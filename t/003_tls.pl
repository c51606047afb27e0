# SPDX-License-Identifier: PostgreSQL
#
# Encrypted replication connections: WAL leaves them for a channel, which is
# plain text, only if both servers allow it, and the standby's replies never do.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;

use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $ALLOW = 'pg_fastwake.allow_plaintext';
my $OFF = qr/the connection is encrypted and pg_fastwake\.allow_plaintext is off on the/;

# Self-signed: the standby asks for encryption, not for authentication.
my $certs = PostgreSQL::Test::Utils::tempdir();
system_or_bail(
	'openssl', 'req', '-new', '-x509', '-days', '30', '-nodes',
	'-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1',
	'-subj', '/CN=pg_fastwake', '-keyout', "$certs/server.key",
	'-out', "$certs/server.crt");
chmod 0600, "$certs/server.key" or die "chmod: $!";

my $primary = make_primary('primary', conf => <<"END");
ssl = on
ssl_cert_file = '$certs/server.crt'
ssl_key_file = '$certs/server.key'
max_connections = 40
END
# Over TCP there is replication with TLS or none.
unlink $primary->data_dir . '/pg_hba.conf';
$primary->append_conf('pg_hba.conf', <<'END');
local all all trust
local replication all trust
hostssl replication all 127.0.0.1/32 trust
END
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION pg_fastwake');
$primary->safe_psql('postgres', 'CREATE TABLE t (i serial, v text)');

my $standby = make_standby($primary, 'standby',
	conninfo => { sslmode => 'require' });
$standby->start;
wait_streaming($primary, 'standby');
set_conf($primary, synchronous_standby_names => 'standby');

my $rows = 0;

# Load whose commits need the standby's replies, compared afterwards.
sub load
{
	my ($what) = @_;

	foreach my $level (qw(on remote_apply))
	{
		local $ENV{PGOPTIONS} = "-c synchronous_commit=$level";
		# Rows so far: file names must not repeat.
		$primary->pgbench('-n -c 4 -t 30', 0, [qr{processed: 120/120}],
			[qr{^$}], "$what: commits with $level",
			{ "tls_${level}_$rows" => "INSERT INTO t (v) VALUES (repeat(md5(random()::text), 100));\n" });
	}
	$rows += 240;
	same_data($primary, $standby,
		'SELECT count(*), sum(hashtextextended(v, i)) FROM t', "$what: data");
	is( $primary->safe_psql('postgres', 'SELECT count(*) FROM t'),
		$rows, "$what: all of it");
	is( $primary->safe_psql('postgres',
			'SELECT ssl FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)'),
		't',
		"$what: the connection is encrypted");
}

sub goes_to_tcp
{
	my ($what, $side) = @_;
	my $reason = qr/^$OFF $side$/;

	is_transport($standby, 'receiver', 'tcp', "$what: TCP");
	like(connection_value($standby, 'receiver', 'last_fallback_reason'),
		$reason, "$what: the standby's view says why");
	like(
		slurp_file($standby->logfile),
		qr/WAL from the primary travels over TCP\n.*DETAIL:  $OFF $side/,
		"$what: so does its log");
	load($what);
}

goes_to_tcp('allowed by neither', 'standby');

set_conf($primary, $ALLOW => 'on');
reconnect($primary, 'standby');
goes_to_tcp('allowed by the primary', 'standby');

set_conf($primary, $ALLOW => undef);
set_conf($standby, $ALLOW => 'on');
reconnect($primary, 'standby');
goes_to_tcp('allowed by the standby', 'primary');
is_transport($primary, 'sender', 'tcp', 'allowed by the standby: sent by TCP');
like(connection_value($primary, 'sender', 'last_fallback_reason'),
	qr/^$OFF primary$/, "allowed by the standby: the primary's view says why");

is( $standby->safe_psql('postgres', 'SELECT fallbacks, failures FROM pg_stat_fastwake'),
	'0|0',
	'a matter of settings is no failure');

set_conf($primary, $ALLOW => 'on');
reconnect($primary, 'standby');
load('allowed by both');
is_transport($primary, 'sender');
is_transport($standby, 'receiver');
foreach my $node ($primary, $standby)
{
	like(
		slurp_file($node->logfile),
		qr/Replies stay on the encrypted connection/,
		'the log of ' . $node->name . ' says that replies stay encrypted');
}

# The figures of a connection at rest.
my $lsn = $primary->safe_psql('postgres',
	'SELECT flush_lsn FROM pg_stat_replication');
ok( $primary->poll_query_until('postgres',
		'SELECT sent_bytes > 100000 FROM pg_fastwake_replication()'),
	'WAL has left the encrypted connection');
is(connection_value($primary, 'sender', 'received_messages'),
	'0', 'no reply came by the channel');
is(connection_value($standby, 'receiver', 'sent_messages'),
	'0', 'none was sent by it');
$primary->safe_psql('postgres', "INSERT INTO t (v) VALUES ('reply')");
is( $primary->safe_psql('postgres',
		"SELECT flush_lsn > '$lsn' FROM pg_stat_replication"),
	't',
	'yet they arrive');

$standby->stop;
$primary->stop;
done_testing();
