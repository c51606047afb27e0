# SPDX-License-Identifier: PostgreSQL
#
# How many reports a standby makes: one for each commit of a session, whether that
# waits for its flush or for its replay.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PgFastwake;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my ($primary, $standby) = make_pair();
create_rows($primary);
check_stream($primary, $standby, 'at first');
my $rows = 0;

sub commits
{
	my ($count, $level) = @_;
	my $sql = "SET synchronous_commit = $level;\n";

	$sql .= 'INSERT INTO acked VALUES (1, 1, ' . ++$rows . ");\n" for 1 .. $count;
	$primary->safe_psql('postgres', $sql);
	return;
}

# Both ends count them; their figures are up to 0.2 s old.
sub reports
{
	my $end = time + patience(20);
	my ($sent, $received);

	do
	{
		sleep 0.3;
		$sent = connection_value($standby, 'receiver', 'sent_messages');
		$received =
		  connection_value($primary, 'sender', 'received_messages');
	} while ($sent != $received && time < $end);
	is($received, $sent, "all $sent reports have arrived");
	return $received;
}

sub reports_of
{
	my ($count, $level) = @_;

	commits(10, $level);
	my $before = reports();
	commits($count, $level);
	return reports() - $before;
}

foreach my $level (qw(on remote_apply))
{
	my $reports = reports_of(200, $level);
	cmp_ok($reports, '>=', 200, "$level: $reports reports of 200 commits");
	cmp_ok($reports, '<=', 400, "$level: no others to speak of");
}

# Whose turn it is to be waited for changes from commit to commit.
my $sql = '';
foreach my $i (1 .. 100)
{
	my $level = (qw(on remote_apply remote_write))[ $i % 3 ];
	$sql .= "SET synchronous_commit = $level;\n"
	  . 'INSERT INTO acked VALUES (1, 1, ' . ++$rows . ");\n";
}
$primary->safe_psql('postgres', $sql);
is( $primary->safe_psql('postgres', 'SELECT count(*) FROM acked WHERE id > 0'),
	$rows, 'commits that wait for this and that');
no_fallback($primary);

done_testing();
