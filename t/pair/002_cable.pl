# SPDX-License-Identifier: PostgreSQL
#
# The cable is pulled.  If it carries RDMA alone, TCP takes over, and RDMA is used
# again when it is back.  If it carries everything, commits wait, and the two
# servers give one another up as their timeouts say.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/..";
use Faults;
use PairNode;
use PgFastwake;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $FAILED = qr/pg_fastwake channel failed: \w/;

my ($primary, $standby) = start_pair();

# A device that could not send a message of the connection manager's while it was
# down sends none any more (rxe of Linux 6.1): hence a new one.
sub device_up
{
	peer('--user', 'root', 'sh', '-ec', <<'END');
ip link set d0 up
rdma link delete rxe0
rdma link add rxe0 type rxe netdev d0
until grep -q ffff:0a09:0002 /sys/class/infiniband/rxe0/ports/1/gids/*; do sleep 0.1; done
END
	return;
}

# ---- RDMA alone ----

# CUT and MEND it while rows are inserted.
sub cut
{
	my ($what, $cut, $mend, $again) = @_;
	my $load = start_rows($primary, 4);

	ok(wait_rows($primary, 30), "$what: rows are committed before");
	my $offset = log_end($standby);
	my $start = time;
	$cut->();
	ok(poll_log($standby, $FAILED, $offset),
		sprintf "%s: noticed after %.1f s", $what, time - $start);
	on_tcp($primary, $standby, qr/^a channel failed recently, not tried again before 20/,
		$offset, $what);
	ok(wait_rows($primary, 50), "$what: rows are committed over TCP");
	$mend->();
	stop_rows($load);
	same_rows($primary, $standby, $what);
	no_row_lost($standby, $what);
	$again->();
	on_channel($primary, $standby, "after $what");
	return;
}

cut('the cable pulled at b',
	sub { outside('unplug', 'b') },
	sub { outside('plug', 'b') },
	# When the pause that the failure calls for is over.
	sub { wait_retry($standby); reconnect($primary, 'standby') });
cut('the device of b down',
	sub { peer('--user', 'root', 'ip', 'link', 'set', 'd0', 'down') },
	\&device_up,
	# A restart forgets the failures, and their pause.
	sub { $standby->stop; $standby->start });

# ---- everything ----

sub all_on_the_cable
{
	my $conninfo = primary_conninfo($primary, 'standby',
		host => $primary->rdma_address);

	$standby->set(primary_conninfo => $conninfo);
	$standby->poll_query_until('postgres',
		"SELECT sender_host = '${\ $primary->rdma_address}' FROM pg_stat_wal_receiver")
	  or die 'the standby does not change over';
	on_channel($primary, $standby, 'all on the cable');
	return;
}

sub cut_under_load
{
	my $what = 'everything cut under load';
	my $load = start_rows($primary, 4);

	ok(wait_rows($primary, 30), "$what: rows are committed before");
	my $offset = log_end($standby);
	outside('unplug', 'a');
	commit_waits($primary, 4, 2, $what);
	ok(poll_log($standby, $FAILED, $offset), "$what: the standby notices");
	commit_waits($primary, 4, 2, "$what, the connection ended");
	outside('plug', 'a');
	ok(wait_rows($primary, 30), "$what: rows are committed again");
	on_tcp($primary, $standby, qr/^a channel failed recently/, $offset, $what);
	stop_rows($load);
	same_rows($primary, $standby, $what);
	no_row_lost($standby, $what);
	$standby->stop;
	$standby->start;
	on_channel($primary, $standby, "after $what");
	return;
}

# Nothing is under way then, so that it is the timeouts that end it: the channel's
# own patience, which begins with the first message, is 4 s.
sub cut_while_idle
{
	my $what = 'everything cut while idle';
	my ($sent, $received) = map { log_end($_) } $primary, $standby;

	$primary->set(wal_sender_timeout => '3s');
	$standby->set(wal_receiver_timeout => '3s');
	outside('unplug', 'a');
	ok( poll_log(
			$primary,
			qr/terminating walsender process due to replication timeout/, $sent),
		"$what: the walsender gives up");
	ok( poll_log(
			$standby, qr/terminating walreceiver due to timeout/, $received),
		"$what: the walreceiver gives up");
	$primary->set(wal_sender_timeout => undef);
	$standby->set(wal_receiver_timeout => undef);
	outside('plug', 'a');
	on_channel($primary, $standby, "after $what, at once");
	unlike(log_since(@$_), $FAILED, "$what: no channel failed")
	  foreach [ $primary, $sent ], [ $standby, $received ];
	return;
}

all_on_the_cable();
cut_under_load();
cut_while_idle();

$_->stop foreach $primary, $standby;
done_testing();
