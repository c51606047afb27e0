# SPDX-License-Identifier: PostgreSQL
#
# Whatever stands in the way of a channel: replication goes on over TCP, the
# view and exactly one line of the log say why.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;

use FwProxy;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Socket;
use Test::More;
use Time::HiRes qw(time);

my $STANDBY_LINE = qr/pg_fastwake: WAL from the primary travels over TCP/;
my $PRIMARY_LINE = qr/pg_fastwake: WAL for standby "standby" travels over TCP/;

my ($primary, $standby) = make_pair();
my $rows = 0;

$primary->safe_psql('postgres', 'CREATE TABLE t (i serial, v text)');

# A commit that needs the standby, and what it brought.
sub commit_arrives
{
	my ($what) = @_;

	$primary->safe_psql('postgres',
		'SET synchronous_commit = on; '
		  . "INSERT INTO t (v) SELECT repeat(md5(i::text), 50) FROM generate_series(1, 200) i"
	);
	$rows += 200;
	same_data($primary, $standby,
		'SELECT count(*), sum(hashtextextended(v, i)) FROM t',
		"$what: commits arrive");
}

# How often the line is in the node's log from OFFSET on; and the details.
sub lines
{
	my ($node, $offset, $line) = @_;
	my $log = substr(slurp_file($node->logfile), $offset);
	my @details = $log =~ /$line\n[^\n]*DETAIL:  ([^\n]*)\n/g;

	return @details;
}

sub one_line
{
	my ($node, $offset, $line, $reason, $what) = @_;
	my @details = lines($node, $offset, $line);

	note $node->name . ": $_" foreach @details;
	is(scalar @details, 1, "$what: one line in the log of " . $node->name);
	like($details[0] // '', $reason, "$what: it says why");
}

# The node's view says that this connection uses TCP, and why.
sub over_tcp
{
	my ($node, $role, $reason, $what) = @_;
	my $seen = poll_output($node,
		'SELECT role, transport, last_fallback_reason FROM pg_fastwake_replication()',
		qr/^$role\|tcp\|/m);

	like($seen, qr/^$role\|tcp\|/m, "$what: $role uses TCP");
	$seen =~ s/^$role\|tcp\|//;
	like($seen, $reason, "$what: its view says why");
}

# Connect anew (or what 'act' does): TCP, for that reason.  reason: the
# standby's; primary: the primary's, if it was asked for a channel at all.
sub goes_to_tcp
{
	my ($what, %opts) = @_;
	my $offset = -s $standby->logfile;
	my $primary_offset = -s $primary->logfile;

	($opts{act} // sub { disconnect($primary, 'standby') })->();
	poll_log($standby, $STANDBY_LINE, $offset)
	  or die "$what: the standby does not fall back";
	over_tcp($standby, 'receiver', $opts{reason}, $what);
	over_tcp($primary, 'sender', $opts{primary}, $what) if $opts{primary};
	commit_arrives($what);
	one_line($standby, $offset, $STANDBY_LINE, $opts{reason}, $what);
	one_line($primary, $primary_offset, $PRIMARY_LINE, $opts{primary}, $what)
	  if $opts{primary};
}

# And back on the channel.
sub is_back
{
	my ($what) = @_;

	is_transport($standby, 'receiver', undef,
		"after $what the standby receives over " . transport());
	is_transport($primary, 'sender', undef,
		"after $what the primary sends over " . transport());
}

is_transport($standby, 'receiver');
is_transport($primary, 'sender');
commit_arrives('channel');

# ---- who may see an endpoint ----

is($primary->safe_psql('postgres', 'SHOW pg_fastwake.endpoint'),
	'', 'an ordinary session sees no endpoint');
is( $primary->safe_psql('postgres', "SELECT current_setting('pg_fastwake.endpoint')"),
	'', 'nor by current_setting()');
is( $primary->safe_psql('postgres',
		"SELECT count(*) FROM pg_settings WHERE name = 'pg_fastwake.endpoint'"),
	'0',
	'nor does pg_settings list it');
is( $primary->safe_psql('postgres', 'SHOW pg_fastwake.endpoint',
		replication => 'database'),
	'', 'nor does a walsender for logical replication');
my $endpoint = $primary->safe_psql('postgres', 'SHOW pg_fastwake.endpoint',
	replication => 'true');
like($endpoint, qr/^fastwake\/1 token=[0-9a-f]{32} ring=\d+ (rdma|shm)=\S+$/,
	'a walsender for physical replication answers with one');
unlike(
	slurp_file($primary->logfile),
	qr/token=/,
	'the token is not in the log');

# ---- somebody who has no token ----

# In this session a walsender listens, as for a standby.
sub open_endpoint
{
	my $session = $primary->background_psql('postgres',
		extra_params => [ '-d', $primary->connstr . ' replication=true' ]);
	return ($session, $session->query_safe('SHOW pg_fastwake.endpoint'));
}

# Say hello on the endpoint's Unix socket.  Returns the answer's error, or
# undef if there is no answer.
sub hello
{
	my ($name, $magic, $token) = @_;
	my $hello = pack 'L L a16 L L', $magic, 1, pack('H*', $token), 65536, 0;
	my $answer;

	socket(my $socket, AF_UNIX, SOCK_SEQPACKET, 0) or die "socket: $!";
	connect($socket, pack_sockaddr_un("\0$name")) or return 'refused';
	send($socket, $hello, 0) or die "send: $!";
	return sub {
		# Whoever is not even looked at meets a closed socket.
		defined recv($socket, $answer, 64, 0) or return 'reset';
		return (unpack 'L L L l', $answer)[3];
	};
}

SKIP:
{
	# Over rdma the proxy below shows the same.
	skip 'the raw client speaks shm', 11 if transport() ne 'shm';

	my $MAGIC = 0x4d485746;
	my ($session, $text) = open_endpoint();
	my ($token, $name) = $text =~ /token=(\w+) .*shm=@(\S+)/
	  or die "unexpected endpoint: $text";
	(my $wrong = $token) =~ tr/0-9a-f/1-9a-f0/;
	my @guesses = (
		hello($name, $MAGIC, $wrong),
		hello($name, $MAGIC + 1, $token));
	my $offset = -s $primary->logfile;
	my $started = time;
	like(
		$session->query_safe('SHOW pg_fastwake.endpoint'),
		qr/^tcp the standby did not connect in time; .*(wrong token|malformed)/,
		'who has no token, or another protocol, gets no channel');
	cmp_ok(time - $started, '<', 4, 'and does not keep the primary for long');
	is($guesses[0]->(), -13, 'a wrong token is answered with EACCES');
	is($guesses[1]->(), -71, 'a malformed hello is answered with EPROTO');
	is(hello($name, $MAGIC, $token), 'refused', 'then nobody listens there any more');
	one_line($primary, $offset,
		qr/WAL for standby "[^"]*" travels over TCP/,
		qr/wrong token|malformed/, 'no token');
	$session->quit;

	($session, $text) = open_endpoint();
	($token, $name) = $text =~ /token=(\w+) .*shm=@(\S+)/;
	my $good = hello($name, $MAGIC, $token);
	my $late = hello($name, $MAGIC, $token);
	is($session->query_safe('SHOW pg_fastwake.endpoint'),
		'ready', 'the token is good');
	is($good->(), 0, 'for the first who shows it');
	isnt($late->() // 'closed', 0, 'not for a second one');
	is(hello($name, $MAGIC, $token), 'refused', 'a replayed token meets nobody');
	$session->quit;
}

# ---- settings ----

my %other = (shm => 'rdma', rdma => 'shm');

set_conf($standby, 'pg_fastwake.enabled' => 'off');
goes_to_tcp('enabled off on the standby', reason => qr/^pg_fastwake\.enabled is off on the standby$/);
set_conf($standby, 'pg_fastwake.enabled' => undef);

set_conf($primary, 'pg_fastwake.enabled' => 'off');
my $off = qr/^pg_fastwake\.enabled is off on the primary$/;
goes_to_tcp('enabled off on the primary', reason => $off, primary => $off);
set_conf($primary, 'pg_fastwake.enabled' => undef);

set_conf($standby, 'pg_fastwake.transport' => 'tcp');
goes_to_tcp('transport tcp on the standby', reason => qr/^pg_fastwake\.transport is tcp on the standby$/);

set_conf($standby, 'pg_fastwake.transport' => $other{ transport() });
goes_to_tcp(
	'transports that do not match',
	reason => qr/no transport in common/,
	primary => qr/^the standby has not connected to the endpoint/);
is( $standby->safe_psql('postgres',
		'SELECT fallbacks, failures, next_retry FROM pg_stat_fastwake'),
	'0|0|',
	'a matter of settings is no failure, and is tried again at once');

# Whatever devices this host has, not that one.
my $device = qr/rdma: no .*device/;
my $not_here = qr/^on the primary: $device/;
set_conf($standby, 'pg_fastwake.transport' => undef);
set_conf($primary,
	'pg_fastwake.transport' => 'rdma',
	'pg_fastwake.rdma_device' => 'nosuch0');
goes_to_tcp('no device on the primary',
	reason => $not_here,
	primary => qr/^$device/);

# The default: what there is.
set_conf($_, 'pg_fastwake.transport' => 'auto') foreach ($primary, $standby);
reconnect($primary, 'standby');
is_transport($standby, 'receiver', 'shm',
	'transport auto without a device is shm on one host');
set_conf($primary, 'pg_fastwake.transport' => undef, 'pg_fastwake.rdma_device' => undef);
set_conf($standby, 'pg_fastwake.transport' => undef);
reconnect($primary, 'standby');
is_back('the settings');

# ---- the extension is not there, or cannot do all ----

# Like set_conf, for settings that need a restart.
sub restart_with
{
	my ($node, $name, $value) = @_;

	if (defined $value)
	{
		# ALTER SYSTEM would quote an empty list.
		$node->append_conf('postgresql.auto.conf', "$name = '$value'");
	}
	else
	{
		$node->safe_psql('postgres', "ALTER SYSTEM RESET $name");
	}
	$node->restart;
}

goes_to_tcp(
	'interposition off on the primary',
	act => sub { restart_with($primary, 'pg_fastwake.interpose', 'off') },
	reason => qr/^interposition is off or not possible on the primary$/,
	primary => qr/^interposition is off or not possible on the primary$/);
is($primary->safe_psql('postgres', 'SELECT interposed FROM pg_stat_fastwake'),
	'f', 'the view says so too');
$primary->safe_psql('postgres', 'ALTER SYSTEM RESET pg_fastwake.interpose');

# What the functions say without the library preloaded.
sub functions_say_why
{
	my ($node) = @_;
	foreach my $query (
		'SELECT * FROM pg_stat_fastwake',
		'SELECT * FROM pg_stat_fastwake_replication',
		'SELECT * FROM pg_stat_fastwake_waits',
		'SELECT * FROM pg_fastwake_histogram',
		'SELECT pg_fastwake_reset()')
	{
		my ($rc, $out, $err) = $node->psql('postgres', $query);

		isnt($rc, 0, "$query fails without the library preloaded");
		like(
			$err,
			qr/ERROR:  pg_fastwake must be loaded via shared_preload_libraries\nHINT:  Add pg_fastwake to shared_preload_libraries and restart the server\./,
			'and says what to do');
	}
}

goes_to_tcp(
	'a primary without the extension',
	act => sub { restart_with($primary, 'shared_preload_libraries', '') },
	reason => qr/^the primary does not run pg_fastwake$/);
functions_say_why($primary);
restart_with($primary, 'shared_preload_libraries', undef);
wait_streaming($primary, 'standby');
is_back('a primary without the extension');

# Only waits need the hooks on a standby.
restart_with($standby, 'pg_fastwake.interpose', 'off');
wait_streaming($primary, 'standby');
is_back('a restart of the standby without interposition');
commit_arrives('standby without interposition');
is( $standby->safe_psql('postgres',
		"SELECT sum(waits) FROM pg_stat_fastwake_waits WHERE mode = 'memory'"),
	'0',
	'without interposition nothing waits in memory');
$standby->safe_psql('postgres', 'ALTER SYSTEM RESET pg_fastwake.interpose');

my $offset = -s $primary->logfile;
restart_with($standby, 'shared_preload_libraries', '');
wait_streaming($primary, 'standby');
commit_arrives('a standby without the extension');
is($primary->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_fastwake_replication'),
	'0', 'a standby without the extension does not ask');
unlike(substr(slurp_file($primary->logfile), $offset),
	qr/pg_fastwake:/, 'the log has nothing to say about it');
functions_say_why($standby);
$standby->safe_psql('postgres', 'ALTER SYSTEM RESET shared_preload_libraries');

# ---- the standby cannot get through ----

my $proxy = FwProxy->new($primary->port);
my $conninfo =
  primary_conninfo($primary, 'standby', port => $proxy->port);

# A restart also forgets the back-off.
sub restart_behind_proxy
{
	$proxy->mode(shift);
	restart_with($standby, 'primary_conninfo', $conninfo);
}

restart_behind_proxy('none');
wait_streaming($primary, 'standby');
is_back('a restart behind the proxy');

# Milliseconds between two log lines of the two servers.
sub milliseconds
{
	my ($node, $offset, $line) = @_;

	substr(slurp_file($node->logfile), $offset) =~
	  /^[-\d]+ (\d+):(\d+):(\d+)\.(\d+) [^\n]*$line/m
	  or die "no such line: $line";
	return (($1 * 60 + $2) * 60 + $3) * 1000 + $4;
}

my $primary_offset = -s $primary->logfile;
$offset = -s $standby->logfile;
goes_to_tcp(
	'nobody answers at the endpoint',
	act => sub { restart_behind_proxy('blackhole') },
	reason => qr/in time|does not answer|not established/,
	primary => qr/^the standby did not connect in time$/);
my $asked = milliseconds($primary, $primary_offset,
	qr/received replication command: SHOW pg_fastwake/);
my $took = milliseconds($standby, $offset, $STANDBY_LINE) - $asked;
$took += 86_400_000 if $took < 0;
note "negotiation that nobody answers: $took ms";
cmp_ok($took, '>=', 1900, 'nobody did answer');
# The lab's processes may need a second for two lines of the log.
cmp_ok($took, '<', transport() eq 'shm' ? 3500 : 4500, 'TCP after two seconds');

is( $standby->safe_psql('postgres',
		'SELECT fallbacks, failures, last_fallback_reason IS NOT NULL, '
		  . 'next_retry > last_fallback FROM pg_stat_fastwake'),
	'1|1|t|t',
	'the failure is counted and calls for a pause');

goes_to_tcp(
	'a wrong token',
	act => sub { restart_behind_proxy('wrong') },
	reason => qr/refused/,
	primary => qr/^the standby did not connect in time; .*wrong token/);

# The token before that is the one that was changed on its way.
goes_to_tcp(
	'a replayed token',
	act => sub { restart_behind_proxy('replay') },
	reason => qr/refused/,
	primary => qr/^the standby did not connect in time; .*wrong token/);

# The first connection ends without any WAL; the next, within the pause that
# this calls for, must not.
goes_to_tcp(
	'a primary that does not answer',
	act => sub { restart_behind_proxy('mute') },
	reason => qr/^a channel failed recently, not tried again before 20/);
is( $standby->safe_psql('postgres',
		'SELECT failures, last_fallback_reason FROM pg_stat_fastwake'),
	'1|no answer to SHOW pg_fastwake.endpoint',
	'the failure is counted');

# ---- no memory for the rings ----

SKIP:
{
	skip 'shm locks no memory', 18 if transport() ne 'rdma';

	my $memlock = qr/RLIMIT_MEMLOCK is 65536 bytes, the rings need \d+ .*ulimit -l/;
	my ($before) =
	  `prlimit --memlock --output SOFT --noheadings --raw --pid $$` =~ /(\S+)/
	  or die 'no output of prlimit';

	# Start a server whose limit is too small.  Children inherit the limit;
	# the hard one stays, so that it can be raised again.
	my $start_limited = sub {
		my ($node) = @_;
		system_or_bail('prlimit', '--memlock=65536:', '--pid', $$);
		$node->start;
		system_or_bail('prlimit', "--memlock=$before:", '--pid', $$);
	};

	goes_to_tcp(
		'RLIMIT_MEMLOCK of 64 kB on the standby',
		act => sub {
			$proxy->mode('none');
			$standby->stop;
			$start_limited->($standby);
		},
		reason => $memlock,
		primary => qr/^the standby did not connect in time$/);
	goes_to_tcp(
		'RLIMIT_MEMLOCK of 64 kB on the primary',
		act => sub {
			$standby->stop;
			$primary->stop;
			$start_limited->($primary);
			$standby->start;
		},
		# By the RDMA connection or the replication connection, whichever is first.
		reason =>
		  qr/^rdma: the peer refused: no resources, see its log$|^on the primary: rdma: .*$memlock/,
		primary => $memlock);
}

$standby->stop;
$primary->stop;
done_testing();
