# SPDX-License-Identifier: PostgreSQL
#
# The channel fails in mid-stream: a frame is damaged on its way, in either
# direction, and the RDMA link is cut.  No wrong byte of WAL reaches the
# standby, no acknowledged row is lost, TCP takes over, and when the pause that
# the failure calls for is over, a new connection uses the channel again.
#
#	FW_LINK_CTL		see Faults.pm
use strict;
use warnings FATAL => 'all';
no warnings 'portable';    # addresses have 64 bits

use Fcntl qw(SEEK_CUR SEEK_SET);
use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $rows = 'SELECT run, client, count(*), sum(id) FROM acked '
  . 'GROUP BY 1, 2 ORDER BY 1, 2';

my ($primary, $standby) = make_pair(
	primary_conf => fault_conf() . <<'END',
synchronous_commit = on
wal_sender_timeout = 0
END
	standby_conf => fault_conf() . <<'END');
wal_receiver_timeout = 0
wal_receiver_status_interval = 1s
END
create_rows($primary);

# ---- what all failures have in common ----

sub status
{
	my ($node, $columns) = @_;
	return $node->safe_psql('postgres', "SELECT $columns FROM pg_stat_fastwake");
}

# The WAL of both sides is the same, byte by byte, as far as it goes.
sub same_wal
{
	my ($what) = @_;
	my $lsn = $primary->lsn('flush');
	my ($last, $offset) = split / /,
	  $primary->safe_psql('postgres',
		"SELECT file_name || ' ' || file_offset FROM pg_walfile_name_offset('$lsn')"
	  );
	my @dirs = map { $_->data_dir . '/pg_wal' } $primary, $standby;
	my ($same, @differ) = (0);

	$primary->wait_for_catchup('standby', 'flush', $lsn);
	foreach my $file (map { s{.*/}{}r } glob "$dirs[1]/0000*")
	{
		# Later ones are there for use in the future.
		next if $file !~ /^[0-9A-F]{24}$/ || $file gt $last;
		my @bytes = map { eval { slurp_file("$_/$file") } } @dirs;
		next if grep { !defined } @bytes;
		@bytes = map { substr $_, 0, $offset } @bytes if $file eq $last;
		$bytes[0] eq $bytes[1] ? $same++ : push @differ, $file;
	}
	is("@differ", '', "$what: no segment of WAL differs");
	cmp_ok($same, '>', 0, "$what: $same segments are the same");
	return;
}

# When the channel in use began at the latest.
my $since;

sub check_channel
{
	my ($when) = @_;

	wait_streaming($primary, 'standby');
	$since = time;
	is_transport($primary, 'sender', transport(), "$when: primary's transport");
	is_transport($standby, 'receiver', transport(),
		"$when: standby's transport");
	return;
}

# After a failure of the channel, the one of so many in a row.
sub check_failure
{
	my ($what, $reason, $failures, $load) = @_;

	ok(wait_rows($primary, 50), "$what: rows are committed again");
	is_transport($standby, 'receiver', 'tcp', "$what: TCP has taken over");
	is(transport_of($primary, 'sender'),
		'', "$what: the primary sends to no channel");
	like(
		connection_value($standby, 'receiver', 'last_fallback_reason'),
		qr/^a channel failed recently, not tried again before 20/,
		"$what: the view says why this connection uses TCP");
	like(status($standby, 'last_fallback_reason'),
		$reason, "$what: and how the channel failed");
	# Where all is slow the channel may have lasted as long as the last pause:
	# then that failure was forgotten, and this is the first.
	$failures = 1
	  if time - $since >= 10 && status($standby, 'failures') eq '1';
	my $pause = 10 * 2**($failures - 1);
	is( status(
			$standby,
			'failures, round(extract(epoch FROM next_retry - last_fallback))'),
		"$failures|$pause",
		"$what: after $failures failures in a row the pause is $pause s");
	stop_rows($load);
	same_data($primary, $standby, $rows, "$what: same rows on both sides");
	no_row_lost($standby, $what);
	same_wal($what);
	return;
}

# A new connection after the pause.
sub back_on_channel
{
	my ($what) = @_;

	if (status($standby, "next_retry > now() + interval '5s'") eq 't')
	{
		reconnect($primary, 'standby');
		is_transport($standby, 'receiver', 'tcp',
			"$what: TCP while the pause lasts");
	}
	$standby->poll_query_until('postgres',
		'SELECT next_retry < now() FROM pg_stat_fastwake')
	  or die 'the pause does not end';
	reconnect($primary, 'standby');
	check_channel($what);
	return;
}

# Failures are forgotten when a channel has lasted longer than their pause.
sub forgotten
{
	my ($what) = @_;
	my $seconds = seconds_of(
		sub {
			$standby->poll_query_until('postgres',
				'SELECT failures = 0 AND next_retry IS NULL FROM pg_stat_fastwake'
			) or die 'the failure is not forgotten';
		});

	is(status($standby, 'fallbacks'),
		'1', sprintf '%s: forgotten %.1f s later, but counted', $what,
		$seconds);
	check_channel($what);
	return;
}

# ---- damaged frames ----

# The frame with the highest position that is in the memory of a process and
# whose payload begins with TYPE: its address, position and length.  See
# core/src/frame.h.
sub last_frame
{
	my ($pid, $type) = @_;
	my %last = (position => -1);

	open my $mem, '<:raw', "/proc/$pid/mem" or die "/proc/$pid/mem: $!";
	foreach my $map (split /\n/, slurp_file("/proc/$pid/maps"))
	{
		my ($start, $end, $what) =
		  $map =~ /^([0-9a-f]+)-([0-9a-f]+) rw\S+ \S+ \S+ \d+\s*(.*)/
		  or next;
		# Rings are in anonymous memory or in the memfd.
		next if $what ne '' && $what !~ /memfd:fastwake/;
		$start = hex $start;
		sysseek $mem, $start, SEEK_SET or die "sysseek: $!";
		my ($bytes, $got) = ('', 1);
		$got = sysread $mem, $bytes, 1 << 20, length $bytes
		  while $got && length $bytes < hex($end) - $start;
		for (my $at = 0; ($at = index $bytes, 'FWF1', $at) >= 0; $at += 4)
		{
			next if $at % 64 != 0 || length $bytes < $at + 34;
			my (undef, undef, $length, undef, $position) =
			  unpack 'VVVVQ<', substr $bytes, $at, 24;
			next
			  if substr($bytes, $at + 32, 1) ne $type
			  || $position <= $last{position};
			%last = (
				address => $start + $at,
				position => $position,
				length => $length);
		}
	}
	close $mem;
	return \%last;
}

# Change one bit of the last byte of a frame that the process has not seen yet.
sub damage
{
	my ($pid, $frame) = @_;
	my $byte;

	open my $mem, '+<:raw', "/proc/$pid/mem" or die "/proc/$pid/mem: $!";
	sysseek $mem, $frame->{address} + 32 + $frame->{length} - 1, SEEK_SET
	  or die "sysseek: $!";
	sysread $mem, $byte, 1 or die "sysread: $!";
	sysseek $mem, -1, SEEK_CUR or die "sysseek: $!";
	syswrite $mem, $byte ^ "\x01" or die "syswrite: $!";
	close $mem;
	return;
}

# While PID stands still, frames arrive for it: damage the last one.
sub damage_next
{
	my ($what, $pid, $type, $act) = @_;
	my $frame;

	stop_process($pid);
	my $before = last_frame($pid, $type);
	$act->();
	my $arrived = poll_until(
		sub {
			$frame = last_frame($pid, $type);
			$frame->{position} > $before->{position};
		});
	ok($arrived, "$what: a frame has arrived at position $frame->{position}")
	  or return;
	damage($pid, $frame);
	kill 'CONT', $pid;
	return;
}

my $found_at = qr/received damaged or torn frame at position \d+/;

sub damaged_wal
{
	my ($what, $failures) = @_;
	my $load = start_rows($primary, 4);

	ok(wait_rows($primary, 50), "$what: rows are committed before");
	my $offset = -s $standby->logfile;
	damage_next(
		$what,
		receiver_pid($standby),
		'w',
		sub {
			$primary->safe_psql('postgres',
				'SET synchronous_commit = local; CREATE TABLE t_'
				  . int(rand 1e9) . ' AS SELECT * FROM acked LIMIT 1000');
		});
	ok( poll_log($standby, qr/pg_fastwake channel failed: $found_at/, $offset),
		"$what: the standby says so in its log");
	check_failure($what, qr/^$found_at$/, $failures, $load);
	return;
}

sub damaged_reply
{
	my ($what, $failures) = @_;
	my $load = start_rows($primary, 4);

	ok(wait_rows($primary, 50), "$what: rows are committed before");
	my $offset = -s $primary->logfile;
	# Every second the standby replies, asked or not.
	damage_next($what, sender_pid($primary, 'standby'), 'r', sub { });
	ok( poll_log($primary, qr/pg_fastwake channel failed: $found_at/, $offset),
		"$what: the primary says so in its log");
	check_failure($what, qr/^at the primary: $found_at$/, $failures, $load);
	is(status($primary, 'fallbacks'), '1', "$what: the primary counts it");
	like(status($primary, 'last_fallback_reason'),
		$found_at, "$what: and remembers the reason");
	return;
}

check_channel('at first');
damaged_wal('damaged WAL', 1);
back_on_channel('after damaged WAL');
forgotten('after damaged WAL');

damaged_reply('damaged reply', 1);
back_on_channel('after damaged reply');
# The failure outlives the connection in the views of both sides.
is(connection_value($primary, 'sender', 'fallbacks'),
	'1', 'sender: fallbacks of that standby');
like(connection_value($primary, 'sender', 'last_fallback_reason'),
	qr/^$found_at$/, 'sender: and why');
is(connection_value($standby, 'receiver', 'fallbacks'),
	'2', 'receiver: fallbacks of both failures');
like(
	connection_value($standby, 'receiver', 'last_fallback_reason'),
	qr/^at the primary: $found_at$/,
	'receiver: and why');
damaged_wal('damaged WAL again', 2);

# A restart forgets everything at once.
$standby->restart;
check_channel('after a restart');

# ---- the link ----

# Whatever happens here, other tests need the link.
my $is_cut = 0;
END
{
	my $status = $?;
	set_link('anew') if $is_cut;
	$? = $status;
}

SKIP:
{
	my $what = 'link cut';

	skip 'shared memory has no link that could be cut', 1
	  if transport() ne 'rdma';
	skip 'FW_LINK_CTL is not set: nobody could cut the link', 1
	  if !$ENV{FW_LINK_CTL};

	my $load = start_rows($primary, 4);
	ok(wait_rows($primary, 50), "$what: rows are committed before");
	my $offset = -s $standby->logfile;
	my $start = time;
	$is_cut = 1;
	set_link('down') or die 'the link is not cut';
	ok(poll_log($standby, qr/pg_fastwake channel failed: /, $offset),
		"$what: the standby's log says so");
	my $noticed = time - $start;
	cmp_ok($noticed, '<', patience(8),
		sprintf '%s: noticed after %.1f s', $what, $noticed);
	check_failure($what, qr/rdma: \w/, 1, $load);

	# A restart forgets the pause: another try, in vain.
	$standby->restart;
	wait_streaming($primary, 'standby');
	is_transport($standby, 'receiver', 'tcp', "$what: TCP while it is down");
	like(
		connection_value($standby, 'receiver', 'last_fallback_reason'),
		qr/rdma: /, "$what: the view says why");

	set_link('anew') or die 'the link stays down';
	$is_cut = 0;
	$standby->restart;
	check_channel("after $what");
	$load = start_rows($primary, 4);
	ok(wait_rows($primary, 50), "after $what: rows are committed");
	stop_rows($load);
	no_row_lost($standby, "after $what");
}

done_testing();
