# SPDX-License-Identifier: PostgreSQL
#
# The views, on both servers of a pair: that they show the connection in use and
# what went through it, that round trips and histograms are what they say they
# are and agree with each other at any moment, what a fallback leaves behind, and
# that PostgreSQL's own views show what they show in stock PostgreSQL.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;

use Digest::SHA qw(sha256_hex);
use Faults;
use FwProxy;
use IPC::Run;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $MAX = 9223372036854775807;

my ($primary, $standby) = make_pair(
	primary_conf => fault_conf() . "wal_sender_timeout = 0\nautovacuum = off\n",
	standby_conf => fault_conf()
	  . "wal_receiver_timeout = 0\nwal_receiver_status_interval = 1s\n");
$primary->safe_psql('postgres',
	'CREATE TABLE t (i serial PRIMARY KEY, v text)');

# So many transactions, each of which waits for the standby.
sub commits
{
	my ($n) = @_;
	$primary->safe_psql('postgres',
		join ";\n", ("INSERT INTO t (v) VALUES (repeat('x', 100))") x $n);
	return;
}

# One row of the replication view as a hash; undef is null.
sub connection
{
	my ($node, $role) = @_;
	my @pairs = split /\n/, $node->safe_psql('postgres', <<"END");
SELECT key || '=' || coalesce(value, 'NULL')
  FROM pg_stat_fastwake_replication r, jsonb_each_text(to_jsonb(r))
 WHERE role = '$role'
END
	my %row = map { my ($k, $v) = split /=/, $_, 2; ($k => $v eq 'NULL' ? undef : $v) }
	  @pairs;
	return \%row;
}

sub value
{
	my ($node, $query) = @_;
	return $node->safe_psql('postgres', $query);
}

# A commit that certainly waits: the standby stands still meanwhile.  Returns
# what the code does, while it waits.
sub while_commit_waits
{
	my ($code) = @_;
	my $receiver = value($standby, 'SELECT pid FROM pg_stat_wal_receiver');
	my $session = $primary->background_psql('postgres');

	stop_process($receiver);
	$session->query_until(qr/begun/,
		"\\echo begun\nINSERT INTO t (v) VALUES ('waits');\n");
	my $waits = "SELECT count(*) FROM pg_stat_activity WHERE "
	  . "wait_event = 'SyncRep' AND query LIKE 'INSERT%'";
	$primary->poll_query_until('postgres', $waits, '1')
	  or die 'the commit does not wait';
	my $result = $code->();
	kill 'CONT', $receiver or die "could not continue $receiver: $!";
	$session->query_safe('SELECT 1');
	$session->quit;
	return $result;
}

# ---- the connection ----

my $rdma = transport() eq 'rdma';
is_transport($primary, 'sender');
is_transport($standby, 'receiver');
commits(20);

my %pid = (
	sender => value($primary, 'SELECT pid FROM pg_stat_replication'),
	receiver => value($standby, 'SELECT pid FROM pg_stat_wal_receiver'));
my %side = (sender => $primary, receiver => $standby);
my %row = map { $_ => connection($side{$_}, $_) } keys %side;

foreach my $role (qw(sender receiver))
{
	my $row = $row{$role};

	is($row->{transport}, transport(), "$role: transport");
	is($row->{application_name}, 'standby', "$role: name of the standby");
	is($row->{pid}, $pid{$role}, "$role: the process that core's view names");
	cmp_ok($row->{ring_size}, '==', 1024 * 1024, "$role: size of the ring");
	cmp_ok($row->{pinned_bytes}, '>=', 2 * 1024 * 1024, "$role: pinned");
	cmp_ok($row->{ring_used}, '<=', $row->{ring_size}, "$role: ring used");
	is($row->{fallbacks}, 0, "$role: no fallback");
	is($row->{$_}, undef, "$role: no $_")
	  foreach qw(last_fallback last_fallback_reason next_retry);
	is( value($side{$role}, <<"END"), 't', "$role: transport_since");
SELECT transport_since BETWEEN pg_postmaster_start_time() AND now()
  FROM pg_stat_fastwake_replication WHERE role = '$role'
END
	if ($rdma)
	{
		like($row->{device}, qr/^rxe/, "$role: RDMA device");
		like($row->{$_}, qr/^[0-9a-f.:]+$/, "$role: $_")
		  foreach qw(local_address address);
		cmp_ok($row->{qp_num}, '>', 0, "$role: queue pair");
		is($row->{qp_state}, 'RTS', "$role: its state");
	}
	else
	{
		is($row->{device}, 'memfd', "$role: device");
		is($row->{$_}, undef, "$role: no $_")
		  foreach qw(local_address address qp_num);
		is($row->{qp_state}, 'OPEN', "$role: state");
	}
}
if ($rdma)
{
	isnt($row{sender}{qp_num}, $row{receiver}{qp_num},
		'each side has a queue pair');
	is($row{sender}{local_address}, $row{receiver}{address},
		'the receiver\'s peer is the sender');
}

my $line = qr/travels over ${\ transport()}\n[^\n]*DETAIL:  ([^\n]*)\n/;
foreach my $node ($primary, $standby)
{
	my @details = slurp_file($node->logfile) =~ /$line/g;
	like(
		$details[-1] // '',
		$rdma
		? qr/^Device rxe\w+, local address [\da-f.:]+, peer address [\da-f.:]+, queue pair [1-9]\d*\.$/
		: qr/^Shared memory of this host, 20\d\d kB\.$/,
		$node->name . ': it names what the transport has');
}

# ---- bytes ----

my %before = map { $_ => connection($side{$_}, $_) } keys %side;
my $wal = value($primary, 'SELECT pg_current_wal_lsn()');
commits(200);
$wal = value($primary, "SELECT pg_current_wal_lsn() - '$wal'");

# At rest nothing is on its way: what one has sent the other has received.  Nor was
# it before, and the views may still say so for a moment.
ok( poll_until(
		sub {
			%row = map { $_ => connection($side{$_}, $_) } keys %side;
			my ($s, $r) = @row{qw(sender receiver)};
			return
				 $s->{sent_bytes} == $r->{received_bytes}
			  && $s->{sent_messages} == $r->{received_messages}
			  && $s->{received_bytes} == $r->{sent_bytes}
			  && $s->{sent_bytes} >= $before{sender}{sent_bytes} + $wal
			  && $r->{received_bytes} > $before{receiver}{received_bytes}
			  && $s->{received_messages} == $r->{sent_messages};
		}),
	'what one side has sent is what the other has received');
cmp_ok($row{sender}{sent_bytes} - $before{sender}{sent_bytes},
	'>=', $wal, "all $wal bytes of WAL are counted");
cmp_ok($row{receiver}{$_}, '>', $before{receiver}{$_}, "receiver: $_ grow")
  foreach qw(sent_bytes sent_messages received_bytes received_messages);

# ---- round trips ----

%row = map { $_ => connection($side{$_}, $_) } keys %side;
my @rtt = @{ $row{sender} }{qw(rtt_p50_us rtt_p99_us rtt_p999_us rtt_max_us)};
note "round trips: @rtt us, $row{sender}{rtt_count} of them";
cmp_ok($row{sender}{rtt_count}, '>=', 200, 'each commit took a round trip');
cmp_ok($rtt[0], '>', 0, 'which takes time');
cmp_ok($rtt[ $_ - 1 ], '<=', $rtt[$_], "percentile $_ is no less than the one before")
  foreach 1 .. 3;
is($row{receiver}{$_}, undef, "receiver: no $_")
  foreach qw(rtt_count rtt_p50_us rtt_p99_us rtt_p999_us rtt_max_us);

# The standby stands still, while messages of WAL are sent one after the other.
# Each is answered when it goes on, by a reply that reports it as written; what
# was measured up to any reply would be less, or be shorter.
{
	my ($messages, $stop) = (5, 0.7);

	# Before the standstill: the background writer's WAL may be on its way then.
	my $started = time;
	value($primary, 'SELECT pg_fastwake_reset()');
	stop_process($pid{receiver});
	foreach (1 .. $messages)
	{
		value($primary,
			"SET synchronous_commit = local; INSERT INTO t (v) VALUES ('late')");
		poll_until(
			sub {
				value($primary,
					'SELECT sent_lsn >= pg_current_wal_lsn() FROM pg_stat_replication'
				) eq 't';
			}) or die 'WAL is not sent';
	}
	sleep $stop;
	kill 'CONT', $pid{receiver} or die "could not continue: $!";
	my ($count, $median, $max);
	ok( poll_until(
			sub {
				($count, $median, $max) =
				  @{ connection($primary, 'sender') }
				  {qw(rtt_count rtt_p50_us rtt_max_us)};
				return $count >= $messages;
			}),
		"messages sent while the standby stands still: each is timed");
	my $all = time - $started;
	note "$count round trips, median $median, at most $max us, within $all s";
	cmp_ok($count, '<', $messages + 10, 'and after the reset little else');
	cmp_ok($median, '>=', $stop * 1e6, 'their round trips contain the standstill');
	cmp_ok($max, '<=', $all * 1e6, 'and are no longer than they can have been');
}

# ---- histograms ----

# A condition that holds at any moment, whatever goes on: one row per histogram.
# Percentiles are recomputed from the buckets.
my $histograms = <<"END";
CREATE VIEW buckets AS
SELECT name, labels, bucket_le_ns, count,
       lag(bucket_le_ns, 1, -1::bigint) OVER w AS above,
       lag(count, 1, 0::bigint) OVER w AS fewer,
       max(count) OVER (PARTITION BY name, labels) AS all
  FROM pg_fastwake_histogram
WINDOW w AS (PARTITION BY name, labels ORDER BY bucket_le_ns);
CREATE VIEW sound AS
SELECT name, labels, count(*) AS buckets,
       bool_and(count >= fewer AND bucket_le_ns > above) AS cumulative,
       max(count) FILTER (WHERE bucket_le_ns = $MAX) = max(count) AS last_is_all
  FROM buckets GROUP BY name, labels;
CREATE FUNCTION in_bucket(us float8, q float8, label text, value text)
RETURNS boolean STABLE LANGUAGE sql AS \$\$
  SELECT round(us * 1000) > above AND round(us * 1000) <= bucket_le_ns
    FROM buckets
   WHERE labels->>label = value AND count >= q * "all" AND fewer < q * "all" \$\$;
END
value($primary, $histograms);
commits(100);
while_commit_waits(sub { }) foreach 1 .. 3;

sub at_rest
{
	my ($what) = @_;
	ok( poll_until(
			sub {
				my $seen = connection($primary, 'sender')->{rtt_count};
				sleep 0.3;
				$seen == connection($primary, 'sender')->{rtt_count};
			}),
		$what);
	return;
}

at_rest('the primary is at rest');
is( value($primary,
		'SELECT DISTINCT buckets, cumulative, last_is_all FROM sound'),
	'234|t|t',
	'histograms: the same buckets, cumulative, the last one holds all');
is( value($primary, <<'END'), 't|t|t|t',
SELECT rtt_count = (SELECT max(count) FROM pg_fastwake_histogram
                     WHERE name = 'pg_fastwake_rtt'
                       AND labels = jsonb_build_object('application_name', application_name,
                             'transport', transport, 'pid', pid::text)),
       in_bucket(rtt_p50_us, 0.5, 'pid', pid::text),
       in_bucket(rtt_p99_us, 0.99, 'pid', pid::text),
       in_bucket(rtt_p999_us, 0.999, 'pid', pid::text)
  FROM pg_stat_fastwake_replication WHERE role = 'sender'
END
	'round trips: the view\'s count and percentiles are the histogram\'s');
is( value($primary, <<'END'), 't|t|t|t',
SELECT waits > 0, in_bucket(wakeup_p50_us, 0.5, 'class', class),
       in_bucket(wakeup_p99_us, 0.99, 'class', class),
       in_bucket(wakeup_p999_us, 0.999, 'class', class)
  FROM pg_stat_fastwake_waits WHERE class = 'sync_commit' AND mode = 'memory'
END
	'waits: so are those of commits');

# ---- waits ----

sub waits_of
{
	my ($node, $class) = @_;
	return value($node,
		'SELECT sum(waits), sum(switches), sum(spurious) '
		  . "FROM pg_stat_fastwake_waits WHERE class = '$class'");
}

foreach my $side (
	[ $primary, 'sync_commit' ], [ $primary, 'walsender' ],
	[ $standby, 'walreceiver' ], [ $standby, 'startup' ])
{
	my ($node, $class) = @$side;
	my ($waits, $switches, $spurious) = split /\|/, waits_of($node, $class);

	note "$class: $waits waits, $switches switches, $spurious spurious";
	cmp_ok($waits, '>', 0, "$class: waits are counted");
	cmp_ok($switches, '<=', $waits, "$class: each has at most one switch");
	cmp_ok($spurious, '<=', $waits, "$class: and is spurious at most once");
}

# ---- at any moment ----

# Many read, several write, one resets: nothing that is read contradicts
# itself.  A division by zero is what ends a reader.
{
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $n = $rdma ? 5 : 60;

	append_to_file("$dir/read.sql", <<'END');
SELECT 1 / bool_and(cumulative AND last_is_all AND buckets = 234)::int FROM sound;
SELECT 1 / coalesce(bool_and(rtt_p50_us <= rtt_p99_us AND rtt_p99_us <= rtt_p999_us
    AND rtt_p999_us <= rtt_max_us AND rtt_p50_us > 0
    AND (rtt_count > 0) = (rtt_max_us IS NOT NULL)
    AND ring_used <= ring_size AND qp_state IN ('RTS', 'OPEN')
    AND application_name = 'standby'), true)::int
  FROM pg_stat_fastwake_replication;
SELECT 1 / coalesce(bool_and(wakeup_p50_us <= wakeup_p99_us
    AND wakeup_p99_us <= wakeup_p999_us AND wakeup_p999_us <= wakeup_max_us), true)::int
  FROM pg_stat_fastwake_waits;
END
	append_to_file("$dir/write.sql", "INSERT INTO t (v) VALUES ('x');\n");
	append_to_file("$dir/reset.sql", "SELECT pg_fastwake_reset();\n");
	my ($out, $err);
	IPC::Run::run(
		[
			'pgbench', '-n', '-c', 6, '-j', 2, '-t', $n,
			'-f', "$dir/read.sql\@4", '-f', "$dir/write.sql\@15",
			'-f', "$dir/reset.sql\@1",
			'-h', $primary->host, '-p', $primary->port, 'postgres'
		],
		'>', \$out, '2>', \$err);
	is($? >> 8, 0, 'read, written and reset at once, the views are sound');
	is($err, '', 'without an error');
}

# ---- reset ----

commits(20);
at_rest('at rest again');
foreach my $node ($primary, $standby)
{
	my $sum = 'SELECT sum(waits) + sum(switches) + sum(spurious) + sum(parks) '
	  . 'FROM pg_stat_fastwake_waits';
	my $was = value($node, $sum);
	# What idle servers count in between is little.
	my ($reset, $is, $rtt, $later) = split /\|/, value($node, <<"END");
SELECT stats_reset AS was FROM pg_stat_fastwake \\gset
SELECT pg_fastwake_reset() \\g /dev/null
SELECT 'reset', ($sum), (SELECT max(rtt_count) FROM pg_stat_fastwake_replication),
       stats_reset > :'was' FROM pg_stat_fastwake;
END
	cmp_ok($is, '<', 20, $node->name . ": reset: $is waits instead of $was");
	cmp_ok($was, '>', 20, $node->name . ': of many');
	is($later, 't', $node->name . ': time of the reset');
	cmp_ok($rtt, '<=', 1, 'primary: no round trips') if $node eq $primary;
}
my $sent = connection($primary, 'sender')->{sent_bytes};
cmp_ok($sent, '>=', $row{sender}{sent_bytes}, 'a connection\'s bytes go on');

# ---- idle ----

# Core looks round ten times a second, and a status report goes out every second,
# whose completion is an event that brings nothing.
{
	my $seconds = 4;

	sleep 1.5;
	value($standby, 'SELECT pg_fastwake_reset()');
	my $started = time;
	sleep $seconds;
	my ($waits) = split /\|/, waits_of($standby, 'walreceiver');
	my $most = 30 * (time - $started);
	cmp_ok($waits, '<', $most, "an idle walreceiver sleeps: $waits waits in $seconds s");
}

# ---- rows come and go ----

# A new stream begins with the segment of WAL that the standby is in: let that be
# a fresh one, so that few bytes are sent again.
$primary->safe_psql('postgres', 'SELECT pg_switch_wal()');
$primary->wait_for_catchup('standby', 'flush', $primary->lsn('flush'));
my $old = disconnect($primary, 'standby');
commits(3);
ok( poll_until(
		sub {
			value($primary,
				"SELECT count(*) FILTER (WHERE pid = $old), "
				  . 'count(*) FILTER (WHERE sent_bytes > 0) '
				  . 'FROM pg_stat_fastwake_replication'
			) eq '0|1';
		}),
	'the row of a walsender that has ended is gone, the next one has its own');
is_transport($standby, 'receiver');
is( value($primary, <<"END"), 't', 'which begins anew');
SELECT count(*) = 1 AND max(sent_bytes) < $sent AND bool_and(transport_since > stats_reset)
  FROM pg_stat_fastwake_replication, pg_stat_fastwake
END

$standby->stop('immediate');
ok( poll_until(
		sub {
			value($primary, 'SELECT count(*) FROM pg_stat_fastwake_replication')
			  eq '0';
		}),
	'of a standby that has died nothing remains');
$standby->start;
is_transport($standby, 'receiver');

# ---- fallback ----

my $proxy = FwProxy->new($primary->port);

# The standby connects by way of the proxy, which changes the token.
$proxy->mode('wrong');
set_conf($standby, primary_conninfo =>
	  primary_conninfo($primary, 'standby', port => $proxy->port) =~ s/'/''/gr);
is_transport($standby, 'receiver', 'tcp', 'a wrong token: TCP');
$row{receiver} = connection($standby, 'receiver');
is($row{receiver}{fallbacks}, 1, 'receiver: one fallback');
like($row{receiver}{last_fallback_reason}, qr/refused/, 'receiver: its reason');
is( value($standby, <<'END'), 't|t|t|t',
SELECT r.last_fallback BETWEEN stats_reset AND now(),
       r.next_retry > r.last_fallback
         AND r.next_retry <= r.last_fallback + interval '10s',
       (r.next_retry, r.fallbacks, r.last_fallback, r.last_fallback_reason)
         = (s.next_retry, s.fallbacks, s.last_fallback, s.last_fallback_reason),
       transport_since >= r.last_fallback
  FROM pg_stat_fastwake_replication r, pg_stat_fastwake s
END
	'receiver: when, and when it tries again');
is($row{receiver}{$_}, undef, "receiver over TCP: no $_")
  foreach qw(device local_address address qp_num qp_state sent_bytes
  sent_messages received_bytes received_messages ring_used ring_size full_waits
  pinned_bytes rtt_count);
$row{sender} = connection($primary, 'sender');
is($row{sender}{transport}, 'tcp', 'sender: TCP');
like($row{sender}{last_fallback_reason},
	qr/wrong token/, 'sender: why it uses TCP');
is($row{sender}{next_retry}, undef, 'sender: the standby decides when to try again');
is($row{sender}{rtt_count}, undef, 'sender over TCP: no round trips');
is( value($primary,
		"SELECT count(*) FROM pg_fastwake_histogram WHERE name = 'pg_fastwake_rtt'"),
	'0', 'nor their histogram');
commits(3);

# It tries again when that is over.
$proxy->mode('none');
$standby->poll_query_until('postgres',
	'SELECT next_retry < now() FROM pg_stat_fastwake')
  or die 'the pause does not end';
disconnect($primary, 'standby');
is_transport($standby, 'receiver', transport(), 'after next_retry the channel is back');
$row{receiver} = connection($standby, 'receiver');
is($row{receiver}{fallbacks}, 1, 'receiver: the fallback is still counted');
like($row{receiver}{last_fallback_reason}, qr/refused/, 'receiver: and its reason known');
value($standby, 'SELECT pg_fastwake_reset()');
$row{receiver} = connection($standby, 'receiver');
is($row{receiver}{fallbacks}, 0, 'receiver: until a reset');
like($row{receiver}{last_fallback_reason}, qr/refused/, 'receiver: which keeps the reason');

# ---- against stock PostgreSQL ----

# Which wait events the processes of one kind show, looked at for two seconds.
value($primary, <<'END');
CREATE FUNCTION events_of(type text, OUT event text, OUT seen bigint)
RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
  events text[];
BEGIN
  FOR i IN 1 .. 200 LOOP
    PERFORM pg_stat_clear_snapshot(), pg_sleep(0.01);
    events := events || array(SELECT coalesce(wait_event, 'none')
                                FROM pg_stat_activity WHERE backend_type = type);
  END LOOP;
  RETURN QUERY SELECT e, count(*) FROM unnest(events) e GROUP BY e ORDER BY 2 DESC;
END $$
END

# Under load, whose commits are close enough for waits in memory: is it the
# wait that core would report?
sub busy_waits
{
	my ($node, $type, $event) = @_;
	my $load = start_rate();
	my $seen = value($node, "SELECT * FROM events_of('$type')");

	note "$type under load: ", $seen =~ s/\n/, /gr;
	$load->finish;
	my ($waits) = $seen =~ /^$event\|(\d+)$/m;
	my ($none) = $seen =~ /^none\|(\d+)$/m;
	return ($waits // 0) > 20 && ($waits // 0) > ($none // 0) ? $event : $seen;
}

sub start_rate
{
	my $dir = PostgreSQL::Test::Utils::tempdir();

	append_to_file("$dir/write.sql", "INSERT INTO t (v) VALUES ('x');\n");
	return IPC::Run::start(
		[
			'pgbench', '-n', '-c', 1, '-T', 3, '-R', $rdma ? 20 : 80, '-f',
			"$dir/write.sql", '-h', $primary->host, '-p', $primary->port,
			'postgres'
		],
		'>', '/dev/null', '2>', '/dev/null');
}

# What core's views say in the same situation, figures reduced to what must hold.
sub stock_views
{
	my $name = shift;
	my %seen;

	# At rest.
	commits(10);
	$seen{replication} = poll_output($primary, <<'END', qr/t\|t\|t\|t$/);
SELECT usename = current_user, application_name, client_addr, client_hostname,
       client_port > 0, backend_start <= now(), backend_xmin, state, sync_priority,
       sync_state, reply_time BETWEEN now() - interval '20s' AND now() + interval '1s',
       coalesce(least(write_lag, flush_lag, replay_lag), '0') >= '0',
       sent_lsn = pg_current_wal_lsn(), write_lsn = sent_lsn,
       flush_lsn = sent_lsn, replay_lsn = sent_lsn
  FROM pg_stat_replication
END
	$seen{receiver} = poll_output($standby, <<'END', qr/t\|t\|t$/);
SELECT status, receive_start_lsn IS NOT NULL, receive_start_tli, received_tli,
       slot_name, sender_host, sender_port > 0,
       conninfo ~ 'application_name=standby', last_msg_send_time <= now(),
       last_msg_receipt_time BETWEEN now() - interval '60s' AND now(),
       latest_end_time <= now(), written_lsn = flushed_lsn,
       flushed_lsn = pg_last_wal_receive_lsn(), latest_end_lsn <= flushed_lsn
  FROM pg_stat_wal_receiver
END

	# Waiting, with nothing to do.
	my $waits = <<'END';
SELECT backend_type, wait_event_type, wait_event FROM pg_stat_activity
 WHERE backend_type IN ('walsender', 'walreceiver', 'startup') ORDER BY 1
END
	$seen{primary_waits} =
	  poll_output($primary, $waits, qr/^walsender\|Activity\|WalSenderMain$/);
	$seen{standby_waits} = poll_output($standby, $waits,
		qr/^startup\|Activity\|RecoveryWalStream\nwalreceiver\|Activity\|WalReceiverMain$/
	);

	$seen{busy_receiver} = busy_waits($standby, 'walreceiver', 'WalReceiverMain');
	$seen{busy_sender} = busy_waits($primary, 'walsender', 'WalSenderMain');

	$seen{commit} = while_commit_waits(
		sub {
			return poll_output($primary, <<'END', qr/SyncRep.*\|t\|t\|t$/s);
SELECT a.wait_event_type, a.wait_event, a.state, r.state,
       sent_lsn = pg_current_wal_lsn(), write_lsn < sent_lsn, flush_lsn < sent_lsn
  FROM pg_stat_activity a, pg_stat_replication r WHERE a.query LIKE 'INSERT%'
END
		});
	note "$name: $_: $seen{$_}" foreach sort keys %seen;
	return \%seen;
}

my $ours = stock_views(transport());
is_transport($primary, 'sender', transport(), 'core\'s views were read over ' . transport());
foreach my $node ($standby, $primary)
{
	$node->stop;
	$node->append_conf('postgresql.auto.conf', "shared_preload_libraries = ''");
}
$primary->start;
$standby->start;
wait_streaming($primary, 'standby');
$primary->poll_query_until('postgres',
	"SELECT sync_state = 'sync' FROM pg_stat_replication")
  or die 'standby did not become synchronous';
my $stock = stock_views('stock');
foreach my $view (sort keys %$stock)
{
	is($ours->{$view}, $stock->{$view}, "$view: as in stock PostgreSQL");
}

# ---- what is written about it ----

# Columns do not depend on the library.
my $doc = slurp_file("$FindBin::RealBin/../docs/VIEWS.md");
foreach my $column (
	split /\n/,
	value($primary, <<'END'))
SELECT c.relname || '.' || a.attname
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE c.relname LIKE 'pg_%fastwake%' AND c.relkind = 'v' AND a.attnum > 0
END
{
	my ($view, $name) = split /\./, $column;
	my ($section) = $doc =~ /^## $view\n(.*?)(?=^## |\z)/ms;

	# in the first cell of a row of its table
	like($section // '', qr/^\|[^|]*`$name`/m, "docs/VIEWS.md has $column");
}

# Databases made with a released version can be upgraded only from that.
is( sha256_hex(
		slurp_file("$FindBin::RealBin/../pg_fastwake/pg_fastwake--0.1.sql")),
	'9e5faccf8f38aa0b5d1f1b2832ce0acea807e5f3d25421c6cb593775008b8721',
	'the script of 0.1 is as it was released');

$standby->stop;
$primary->stop;
done_testing();
