# SPDX-License-Identifier: PostgreSQL
#
# Processes killed with SIGKILL while pgbench commits synchronously.
#
# As in stock PostgreSQL the death of any child makes its postmaster restart
# all of them.  Shared memory is built anew then: the table of waiters must not
# know pids of before, and the postmaster must not keep anything of it.  None of
# this is a failure of the channel, so the next stream uses the channel again,
# without a back-off.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $rows = 'SELECT run, client, count(*), sum(id), md5(string_agg(filler, id::text '
  . 'ORDER BY id)) FROM acked GROUP BY 1, 2 ORDER BY 1, 2';

my ($primary, $standby) = make_pair(
	primary_conf => fault_conf() . "synchronous_commit = on\n",
	standby_conf => fault_conf());

# The backends that wait for the standby did so by FastWake, and were woken so.
sub check_waits
{
	my ($when) = @_;
	my $waits = wait_count($primary, 'sync_commit');
	my $saved = signals_saved($primary);

	ok(wait_rows($primary, 20), "$when: rows are committed");
	cmp_ok(wait_count($primary, 'sync_commit'),
		'>', $waits, "$when: commits wait by FastWake");
	cmp_ok(signals_saved($primary), '>', $saved, "$when: signals are saved");
	return;
}

# All is as before the fault; no row is lost; nothing is left behind.
sub check_after
{
	my ($what, $node, $offset, $load) = @_;

	check_waits("after $what");
	check_stream($primary, $standby, "after $what");
	stop_rows($load);
	is( $primary->safe_psql(
			'postgres',
			"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
			  . "AND backend_type = 'client backend' "
			  . 'AND pid <> pg_backend_pid()'),
		'0',
		"$what: no backend is stuck");
	same_data($primary, $standby, $rows, "$what: same rows on both sides");
	no_row_lost($_, "$what, " . $_->name) foreach $primary, $standby;
	unlike(
		substr(slurp_file($node->logfile), $offset),
		qr/already attached|PANIC|TRAP|pg_fastwake channel failed/,
		"$what: nothing unusual in the log");
	return;
}

# Kill a child of NODE's postmaster under load; the clients of the load, if
# they are NODE's, are disconnected.
sub kill_child
{
	my ($what, $node, $pid_of) = @_;
	my $offset = -s $node->logfile;
	my $expected = $node == $primary ? 2 : 0;
	my $postmaster = postmaster_pid($node);
	my $load = start_rows($primary, 4);

	check_waits("before $what");
	check_stream($primary, $standby, "before $what");
	my $open = descriptors($postmaster);
	my $pid = $pid_of->();
	my $start = time;
	is(send_signal('KILL', $pid), 1, "$what: killed");
	ok(poll_log($node, qr/all server processes terminated; reinitializing/,
			$offset),
		"$what: crash restart");
	ok(poll_log($node, qr/ready to accept (?:read-only )?connections/, $offset),
		"$what: the server is back");
	note sprintf 'ready after %.1f s', time - $start;

	if ($expected != 0)
	{
		stop_rows($load, $expected);
		$load = start_rows($primary, 4);
	}
	ok(wait_rows($primary, 50), "$what: rows are committed again");
	note sprintf 'committing after %.1f s', time - $start;
	is(descriptors($postmaster),
		$open, "$what: the postmaster has no more open than before");
	check_after($what, $node, $offset, $load);
	return;
}

sub kill_postmaster
{
	my ($node) = @_;
	my $what = 'kill -9 of the postmaster, ' . $node->name;
	my $offset = -s $node->logfile;
	my $load = start_rows($primary, 4);

	check_waits("before $what");
	check_stream($primary, $standby, "before $what");
	my $postmaster = postmaster_pid($node);
	my @children = children($postmaster);
	cmp_ok(scalar @children, '>=', 4, "$what: there are children");
	my $start = time;
	$node->kill9;
	ok(poll_until(sub { !grep { !process_gone($_) } @children }),
		"$what: all children end");
	note sprintf 'all gone after %.1f s', time - $start;
	stop_rows($load, 2) if $node == $primary;
	# While init has not asked for its status, its lock file counts.
	poll_until(sub { !process_exists($postmaster) })
	  or die 'the postmaster is still there';
	$node->start;
	$load = start_rows($primary, 4) if $node == $primary;
	ok(wait_rows($primary, 50), "$what: rows are committed again");
	check_after($what, $node, $offset, $load);
	return;
}

create_rows($primary);

kill_child('kill -9 of the walsender',
	$primary, sub { sender_pid($primary, 'standby') });
kill_child('kill -9 of the walreceiver',
	$standby, sub { receiver_pid($standby) });
kill_child(
	'kill -9 of a backend of the primary',
	$primary,
	sub {
		$primary->safe_psql('postgres',
			'SELECT pid FROM pg_stat_activity '
			  . "WHERE query LIKE 'INSERT INTO acked%' LIMIT 1");
	});

my $session = $standby->background_psql('postgres', on_error_stop => 0);
kill_child('kill -9 of a backend of the standby',
	$standby,
	sub {
		backend_pid($standby, $session->query_safe('SELECT pg_backend_pid()'));
	});

kill_postmaster($primary);
kill_postmaster($standby);

done_testing();
