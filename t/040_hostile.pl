# SPDX-License-Identifier: PostgreSQL
#
# Somebody floods the listener of a walsender with connections of every wrong
# kind (core/test/test_hostile_*.c), beside a standby, instead of one, and after
# one has connected: replication works, the log stays short, nothing is left.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;

use Faults;
use FwProxy;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $program =
  "$FindBin::RealBin/../core/build/test_hostile_" . transport();
plan skip_all => "$program is not built (make -C core tests)"
  unless -x $program;

my $seconds = $ENV{FASTWAKE_LAB} ? 30 : 4;
my ($primary, $standby) = make_pair(
	primary_conf => fault_conf(),
	standby_conf => fault_conf());
my $rows = 0;

$primary->safe_psql('postgres', 'CREATE TABLE t (i serial, v text)');

sub commit_arrives
{
	my ($what) = @_;

	$primary->safe_psql('postgres',
		'INSERT INTO t (v) SELECT repeat(md5(i::text), 50) FROM generate_series(1, 200) i'
	);
	$rows += 200;
	same_data($primary, $standby,
		'SELECT count(*), sum(hashtextextended(v, i)) FROM t',
		"$what: commits arrive");
	is($primary->safe_psql('postgres', 'SELECT count(*) FROM t'),
		$rows, "$what: and are all there");
}

# What the extension has written to the node's log from OFFSET on.
sub our_lines
{
	my ($node, $offset) = @_;

	my @lines = substr(slurp_file($node->logfile), $offset) =~
	  /^([^\n]* (?:LOG|WARNING|ERROR|FATAL):  pg_fastwake[^\n]*)$/mg;
	return @lines;
}

# Kernel objects of RDMA that exist; 0 where there is no RDMA.
sub kernel_objects
{
	return 0 if transport() ne 'rdma';
	my $count = 0;
	foreach my $kind (qw(qp cq mr pd))
	{
		$count += () = `rdma resource show $kind` =~ /pid \d+/g;
	}
	return $count;
}

# In this session a walsender listens, as for a standby.
sub open_endpoint
{
	my $session = $primary->background_psql('postgres',
		extra_params => [ '-d', $primary->connstr . ' replication=true' ]);
	return ($session, $session->query_safe('SHOW pg_fastwake.endpoint'));
}

sub address_in
{
	my ($text) = @_;
	my ($where) = $text =~ /(?:shm=\@|rdma=)(\S+)/
	  or die "unexpected endpoint: $text";
	return $where;
}

sub start_flood
{
	my ($where, $for) = @_;
	my %flood = (output => '');
	$flood{harness} = IPC::Run::start(
		[ $program, 'flood', $where, $for ],
		'>' => \$flood{output},
		'2>&1',
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return \%flood;
}

is_transport($standby, 'receiver');
my $objects = kernel_objects();

# ---- in place of a standby ----

my ($session, $text) = open_endpoint();
my ($walsender) = map { /^(\d+)$/ } $primary->safe_psql('postgres',
	"SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender' "
	  . "AND application_name <> 'standby'");
my $before;
my $offset = -s $primary->logfile;

# Once without counting: libraries keep what they have opened.
foreach my $round (1 .. 3)
{
	my $flood = start_flood(address_in($text), $seconds);
	poll_until(sub { $flood->{harness}->pump_nb; $flood->{output} =~ /started/ })
	  or die 'the flood does not begin';
	my $began = time;
	like($session->query_safe('SHOW pg_fastwake.endpoint'),
		qr/^tcp the standby did not connect in time; .*refused/,
		"flood $round: nobody gets a channel");
	my $took = time - $began;
	note sprintf 'answered after %.1f s', $took;
	cmp_ok($took, '<', patience(4), "flood $round: and it has an end");
	$flood->{harness}->kill_kill;
	note $flood->{output};
	cmp_ok(scalar(our_lines($primary, $offset)),
		'==', $round, "flood $round: one line in the log");
	my $open = descriptors($walsender);
	$before //= $open;
	is($open, $before, "flood $round: no descriptors left in the walsender");
	like($text = $session->query_safe('SHOW pg_fastwake.endpoint'),
		qr/^fastwake\/1 /, "flood $round: the walsender goes on");
}
$session->quit;
commit_arrives('after the floods');

# ---- beside a standby ----

my $proxy = FwProxy->new($primary->port);
my $conninfo = primary_conninfo($primary, 'standby', port => $proxy->port);
$proxy->attack($program, $seconds);
$proxy->mode('flood');
$standby->append_conf('postgresql.auto.conf',
	"primary_conninfo = '$conninfo'");
$offset = -s $primary->logfile;
my $standby_offset = -s $standby->logfile;
$standby->restart;
wait_streaming($primary, 'standby');
commit_arrives('beside the flood');
like($proxy->attacks, qr/started/, 'there was a flood');

my $seen = transport_of($standby, 'receiver');
my @lines = our_lines($primary, $offset);
note "the standby uses $seen";
note $_ foreach @lines, our_lines($standby, $standby_offset);
like($seen, qr/^(tcp|\Q${\ transport()}\E)$/, 'the standby streams');
cmp_ok(scalar(grep { /travels over/ } @lines),
	'==', 1, 'one line of the primary says over what');
cmp_ok(scalar(grep { /others tried to connect/ } @lines),
	'<=', 1, 'at most one that there were others');
cmp_ok(scalar(@lines), '<=', 2, 'and no more');
cmp_ok(scalar(our_lines($standby, $standby_offset)),
	'<=', 2, 'nor does the standby write more');

# ---- when the standby has its channel ----

$proxy->mode('none');
poll_until(sub { $proxy->attacks =~ /connections/ })
  or die 'the flood does not end';
note $proxy->attacks;
like($proxy->attacks, qr/^[1-9]\d* connections/m, 'the flood met a listener');
$standby->restart;
wait_streaming($primary, 'standby');
is_transport($standby, 'receiver', undef, 'without a flood it is the channel');
my $sender = sender_pid($primary, 'standby');
($session, $text) = open_endpoint();
my $flood = start_flood(address_in($text), 2);
$session->quit;    # nobody is there any more
commit_arrives('flood of a place where nobody listens');
$flood->{harness}->finish;
note $flood->{output};
is(sender_pid($primary, 'standby'), $sender, 'the stream was not disturbed');
is_transport($standby, 'receiver', undef, 'nor did it leave the channel');
is(kernel_objects(), $objects, 'no queue pairs or regions are left');

foreach my $node ($primary, $standby)
{
	unlike(slurp_file($node->logfile),
		qr/terminated by signal|PANIC|server process .* exited/,
		'no process of ' . $node->name . ' has crashed');
}
$standby->stop;
$primary->stop;
done_testing();
