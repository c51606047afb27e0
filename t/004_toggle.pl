# SPDX-License-Identifier: PostgreSQL
#
# Settings that apply at the next wait are changed under load: no commit may be
# left waiting, and the stream stays on its channel.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run;
use List::Util qw(max sum);
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($primary, $standby) =
  make_pair(primary_conf => "max_connections = 40\nlog_statement = none\n");
$primary->safe_psql('postgres', 'CREATE TABLE t (i bigserial, v text)');
is_transport($primary, 'sender');
is_transport($standby, 'receiver');

my $content = 'SELECT count(*), sum(hashtextextended(v, i)) FROM t';
my $CLIENTS = 8;
my $INTERVAL = 1.3;
my $script = "$PostgreSQL::Test::Utils::tmp_check/toggle.sql";
append_to_file($script, "INSERT INTO t (v) VALUES (md5(random()::text));\n");

# Load of so many transactions per client, in the background; every $INTERVAL
# seconds meanwhile $toggle is called.  Returns the longest latency in ms, and
# transactions per second.
sub load
{
	my ($name, $level, $transactions, $toggle) = @_;
	my $prefix = "$PostgreSQL::Test::Utils::tmp_check/$name";
	local $ENV{PGOPTIONS} = "-c synchronous_commit=$level";
	my ($out, $err) = ('', '');
	my $bench = IPC::Run::start(
		[
			'pgbench', '-n', '-c', $CLIENTS, '-j', 2, '-t', $transactions,
			'-l', "--log-prefix=$prefix", '-f', $script,
			'-h', $primary->host, '-p', $primary->port, 'postgres'
		],
		'>', \$out, '2>', \$err,
		IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default));
	my $rounds = 0;

	# Of its own output pgbench writes nothing before it ends.
	while ($toggle && $bench->pumpable && $out !~ /latency average/)
	{
		$toggle->($rounds++);
		$bench->pump_nb;
		select undef, undef, undef, $INTERVAL;
	}
	ok($bench->finish, "$name: no commit is left waiting");
	is($err, '', "$name: no error");

	my @latencies;
	foreach my $file (glob "$prefix.*")
	{
		push @latencies, map { (split)[2] } split /\n/, slurp_file($file);
	}
	is(scalar @latencies, $CLIENTS * $transactions,
		"$name: every transaction was committed");
	my ($tps) = $out =~ /tps = ([\d.]+)/ or die "unexpected output: $out";
	note "$name: $rounds bursts of changes; $tps tps";
	return (max(@latencies) / 1000, $tps);
}

# Every process reads the whole configuration after a change.  In the lab the
# comments of initdb's file alone would take half a second each.
my %changed;
foreach my $node ($primary, $standby)
{
	my $file = $node->data_dir . '/postgresql.conf';
	my @lines = grep { !/^\s*(#|$)/ } split /\n/, slurp_file($file);

	open my $out, '>', $file or die "$file: $!";
	print $out "$_\n" foreach @lines, "include_if_exists 'toggle.conf'";
	close $out;
}

# Not by SQL: under load that would take as long as the load allows.
sub set_quickly
{
	my ($node, $name, $value) = @_;
	my $file = $node->data_dir . '/toggle.conf';
	my $settings = $changed{ $node->name } //= {};

	$settings->{$name} = $value;
	open my $out, '>', "$file.new" or die "$file: $!";
	print $out "$_ = $settings->{$_}\n" foreach sort keys %$settings;
	close $out;
	rename "$file.new", $file or die "$file: $!";
	kill 'HUP', $node->{_pid} or die "kill: $!";
}

# Each change signals every process, which would end a wait whose wake-up was
# lost, and so hide that.  Hence bursts of changes, to both nodes in turn, with
# more than a second between: a lost wake-up ends with the wait's slice, after
# a second.
my $round = 0;

sub burst
{
	my @changes = @_;

	foreach (1 .. 4)
	{
		my $node = $round % 2 ? $standby : $primary;

		set_quickly($node, @{ $changes[ ($round / 2) % @changes ] });
		$round++;
		select undef, undef, undef, 0.02;
	}
}

# First with stock waits, and changes that mean nothing to anybody: how long a
# commit takes on this machine when nothing is wrong.
set_conf($_, 'pg_fastwake.enabled' => 'off') foreach ($primary, $standby);
my $waits = "SELECT sum(waits) FROM pg_stat_fastwake_waits WHERE mode = 'memory'";
my $before = sum(map { $_->safe_psql('postgres', $waits) } ($primary, $standby));
my (undef, $tps) = load('calibration', 'on', 60);
my $transactions = max(60, int($tps * 6 * $INTERVAL / $CLIENTS));
my ($stock) = load('stock', 'on', $transactions,
	sub { burst([ 'geqo_threshold', 12 ], [ 'geqo_threshold', 13 ]) });
my $after = sum(map { $_->safe_psql('postgres', $waits) } ($primary, $standby));
# One per process may have begun before.
cmp_ok($after - $before, '<', 10,
	'while enabled is off, nothing waits in memory');
is_transport($primary, 'sender', undef, 'yet the stream stays on its channel');
same_data($primary, $standby, $content, 'stock waits: data');

set_conf($_, 'pg_fastwake.enabled' => undef) foreach ($primary, $standby);
my $pid = $primary->safe_psql('postgres', 'SELECT pid FROM pg_stat_replication');
my $limit = max(900, 2.5 * $stock);
note "stock: at most $stock ms, so the limit is $limit ms";

my @changes = (
	[ 'pg_fastwake.enabled', 'off' ],
	[ 'pg_fastwake.enabled', 'on' ],
	[ 'pg_fastwake.mode', 'off' ],
	[ 'pg_fastwake.mode', 'dispatch' ],
	[ 'pg_fastwake.poll_us', 0 ],
	[ 'pg_fastwake.mode', 'interrupt' ],
	[ 'pg_fastwake.poll_us', 1000 ],
	[ 'pg_fastwake.mode', 'adaptive' ],
	[ 'pg_fastwake.poll_us', 50 ]);

foreach my $level (qw(on remote_apply))
{
	my ($longest) =
	  load("toggled_$level", $level, $transactions, sub { burst(@changes) });

	note "$level: at most $longest ms";
	cmp_ok($longest, '<', $limit, "$level: no commit waited for a slice's end");
	same_data($primary, $standby, $content, "$level: data");
}
foreach my $node ($primary, $standby)
{
	set_quickly($node, 'pg_fastwake.enabled', 'on');
	set_quickly($node, 'pg_fastwake.mode', 'adaptive');
	set_quickly($node, 'pg_fastwake.poll_us', 50);
}
is( $primary->safe_psql('postgres', 'SELECT pid FROM pg_stat_replication'),
	$pid, 'the stream was not interrupted');
is_transport($primary, 'sender');
is_transport($standby, 'receiver');

# ---- a wait that has begun ----

# The standby does not answer: a commit waits.  Meanwhile the setting changes,
# and the one who wakes it has another value than the one who waits.
my $waiting = "SELECT count(*) FROM pg_stat_activity WHERE "
  . "wait_event = 'SyncRep' AND query LIKE 'INSERT%'";
my $receiver =
  $standby->safe_psql('postgres', 'SELECT pid FROM pg_stat_wal_receiver');
my $session = $primary->background_psql('postgres');
foreach my $value ('off', 'on')
{
	my $other = $value eq 'on' ? 'off' : 'on';

	set_conf($primary, 'pg_fastwake.enabled' => $other);
	kill 'STOP', $receiver or die "could not stop walreceiver: $!";
	$session->query_until(qr/begun/,
		"\\echo begun\nINSERT INTO t (v) VALUES ('$value');\n");
	$primary->poll_query_until('postgres', $waiting, '1')
	  or die 'the commit does not wait';
	set_conf($primary, 'pg_fastwake.enabled' => $value);
	kill 'CONT', $receiver or die "could not continue walreceiver: $!";
	$session->query_safe('SELECT 1');
	pass("a commit that waits while enabled goes $value ends");
}
$session->quit;

# ---- a new connection ----

set_conf($primary, 'pg_fastwake.enabled' => 'off');
reconnect($primary, 'standby');
is_transport($primary, 'sender', 'tcp',
	'while enabled is off a new connection uses TCP');
set_conf($primary, 'pg_fastwake.enabled' => undef);
is_transport($primary, 'sender', 'tcp', 'and goes on so');
reconnect($primary, 'standby');
is_transport($primary, 'sender', undef, 'until the next one');
is_transport($standby, 'receiver');
same_data($primary, $standby, $content, 'data');

$standby->stop;
$primary->stop;
done_testing();
