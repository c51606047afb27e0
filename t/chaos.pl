# SPDX-License-Identifier: PostgreSQL
#
# A campaign: many clients commit synchronously, faults of many kinds happen by
# chance, at the end the primary is killed and the standby promoted.  Then no row
# that was acknowledged is lost, none is there twice, torn, or was never sent; no
# client was left waiting after any fault; nothing is left of what the servers
# held.  "make chaos" runs it, see t/run; docs/OPERATIONS.md has figures.
#
#	FW_CHAOS_DURATION	seconds of faults (30)
#	FW_CHAOS_SEED		what decides the faults; printed
#	FW_CHAOS_CLIENTS	clients (200)
#	FW_CHAOS_RATE		rows a second, by all clients (1000; in the lab 60)
#	FW_CHAOS_BREAK		a defect on purpose, which must be noticed: local
#						(commits do not wait for the standby), lose (a frame is
#						lost and nobody says so)
#	FW_DISK				a small file system, for the standby's WAL
#	FW_LINK_CTL			see Faults.pm
#
# The extension must be built with FAULTS=1 (core/src/fault.h).
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;

use Chaos;
use ChaosLoad;
use Faults;
use Leaks;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $lab = $ENV{FASTWAKE_LAB};
my $duration = $ENV{FW_CHAOS_DURATION} || 30;
my $seed = $ENV{FW_CHAOS_SEED} || (time ^ $$ << 8) & 0x7fffffff;
my $clients = $ENV{FW_CHAOS_CLIENTS} || 200;
my $rate = $ENV{FW_CHAOS_RATE} || ($lab ? 60 : 1000);
my $break = $ENV{FW_CHAOS_BREAK} // '';
my $limit = $lab ? 400 : 120;

diag "chaos: seed $seed, $duration s over "
  . transport()
  . ", $clients clients, $rate rows/s";
$ENV{FASTWAKE_TEST_FAULTS} = PostgreSQL::Test::Utils::tempdir() . '/faults';
append_to_file($ENV{FASTWAKE_TEST_FAULTS}, "\0" x 20);

# ---- servers ----

my $connections = $clients + 20;
my %before = held();
my ($primary, $standby) = make_pair(
	primary_conf => fault_conf() . <<"END",
synchronous_commit = on
max_connections = $connections
wal_sender_timeout = 20s
shared_buffers = 32MB
max_wal_size = 64MB
max_slot_wal_keep_size = -1
END
	standby_conf => fault_conf() . <<'END');
wal_receiver_timeout = 20s
wal_receiver_status_interval = 1s
END
$primary->safe_psql('postgres',
	ChaosLoad->table . "; SELECT pg_create_physical_replication_slot('chaos')");
$standby->stop;
$standby->append_conf('postgresql.conf', "primary_slot_name = 'chaos'");
if ($ENV{FW_DISK})
{
	my $wal = $standby->data_dir . '/pg_wal';
	system_or_bail('cp', '-a', $wal, "$ENV{FW_DISK}/pg_wal");
	system_or_bail('rm', '-r', $wal);
	symlink "$ENV{FW_DISK}/pg_wal", $wal or die "symlink: $!";
}
$standby->start;
wait_streaming($primary, 'standby');
is_transport($primary, 'sender');
is_transport($standby, 'receiver');

# ---- faults ----

my $load = ChaosLoad->new(
	node => $primary,
	clients => $clients,
	rate => $rate,
	commit => $break eq 'local' ? 'local' : 'on');
my $chaos = Chaos->new(
	primary => $primary,
	standby => $standby,
	load => $load,
	seed => $seed,
	limit => $limit);

# What the servers hold while they stream and nothing else.
sub idle_pair
{
	my $end = time + $limit;
	my $quiet = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'chaos'";

	usleep(200_000) while $chaos->ask($primary, $quiet) ne '0' && time < $end;
	return held($primary, $standby);
}

note_postmaster($_) foreach $primary, $standby;
my %idle = idle_pair();
my $good = $chaos->recover;
$good &&= $chaos->run($duration) if !$break;
ok($good, 'the servers came back after each fault');

# ---- at rest ----

# The same settings as at first; the channel, by a standby that has forgotten its
# failures.
ok($load->stop($limit), 'all clients have ended') or $chaos->{stuck}++;
is($load->{status}, 0, 'in good order') or diag $load->output;
my $leaked = '';
my $equal = 1;
if (!$break)
{
	$standby->_update_pid(-1);
	$standby->restart;
	wait_streaming($primary, 'standby');
	is($chaos->transport_now, transport(),
		'a restart forgets the failures of channels')
	  or diag $chaos->{reason};
	$equal = same_data($primary, $standby,
		'SELECT count(*), sum(hashtextextended(c::text, 0)) FROM chaos c',
		'the standby equals the primary');
	# A connection that a client has just closed takes a moment to go.
	poll_until(sub { my %now = idle_pair(); !leaked(\%idle, \%now) });
	my %now = idle_pair();
	$leaked = leaked(\%idle, \%now);
	is($leaked, '', 'at rest the servers hold what they did at first');
}

# ---- promotion ----

my $startup = $break ? $chaos->pid_of('startup') : undef;
my $receiver = $break eq 'local' ? $chaos->pid_of('walreceiver') : undef;
$load->start;
$chaos->must('rows again', $chaos->all_advance);
if ($break)
{
	kill 'STOP', grep { defined } $startup, $receiver;
	Chaos::damage(3, 'w', 1, 0) if $break eq 'lose';
}
usleep(1e6 * patience(1.5));
my @processes = server_processes($primary);
kill 'KILL', postmaster_pid($primary), @processes;
$primary->_update_pid(-1);
ok($load->wait_end($limit), 'the clients of a dead primary end')
  or $chaos->{stuck}++;
# What is in the ring would still be taken.
kill 'KILL', $receiver if $receiver;
kill 'CONT', $startup if $startup;
$standby->_update_pid(-1);
$standby->promote;
my %rows = $load->judge(Session->new($standby));
is($rows{lost}, 0, "none of $load->{rows} acknowledged rows is lost");
is($rows{duplicated}, 0, 'no row is there twice');
is($rows{torn}, 0, 'no row is torn');
is($rows{invented}, 0, 'no row was never sent');
cmp_ok($load->{rows}, '>', 0, 'rows were acknowledged');
is( $standby->safe_psql('postgres',
		'INSERT INTO chaos VALUES (0) RETURNING run'),
	'0', 'the new primary takes rows');

# ---- the end ----

$standby->stop;
poll_until(sub { !server_processes($primary, $standby) });
# A dead postmaster's segment is there until its successor's end.
$chaos->start_server($primary);
note_postmaster($primary);
$primary->stop('immediate');
poll_until(sub { !server_processes($primary, $standby) });
my %after = held($primary, $standby);
$after{processes} = server_processes($primary, $standby);
my $left = leaked(\%before, \%after);
is($left, '', 'nothing is left of the servers');

my $crashes = 0;
foreach my $node ($primary, $standby)
{
	my @odd = grep {
		!/signal 9/ && !(/signal 6/ && $ENV{FW_DISK})
	} slurp_file($node->logfile) =~ /^(.*was terminated by signal.*|.*TRAP.*)$/mg;
	is("@odd", '', $node->name . ': no process has crashed by itself');
	$crashes += @odd;
}
is($chaos->{unnoticed} // 0, 0, 'each damaged frame was noticed');
is($chaos->{stuck}, 0, 'no client was left waiting');

diag sprintf 'chaos: %d faults of %d kinds (%s), %d on %s; '
  . '%d rows acknowledged, %d lost, %d duplicated, %d torn; '
  . '%d stuck, %d leaked; standby %s; seed %d',
  $chaos->faults, scalar keys %{ $chaos->{count} }, $chaos->kinds,
  $chaos->{on_channel}, transport(), $load->{rows},
  @rows{qw(lost duplicated torn)}, $chaos->{stuck},
  ($leaked ne '') + ($left ne ''), $equal ? 'equal' : 'DIFFERS', $seed;
done_testing();
