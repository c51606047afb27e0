# SPDX-License-Identifier: PostgreSQL
#
# Primary and standby on two kernels: bytes, commits that wait for the apply, and
# a switchover in which the two change places, so that each kernel sends and
# receives.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/..";
use Faults;
use PairNode;
use PgFastwake;
use PostgreSQL::Test::Utils;
use Test::More;

my ($primary, $standby) = start_pair();

# ---- bytes ----

# Much more than a ring, and nothing that could be compressed.
$primary->safe_psql('postgres', <<'END');
CREATE TABLE bulk AS SELECT i, string_agg(md5(i::text || j), '') AS v
  FROM generate_series(1, 200) i, generate_series(1, 500) j GROUP BY i
END
my $digest = 'SELECT count(*), sum(length(v)), '
  . 'md5(string_agg(md5(v), NULL ORDER BY i)) FROM bulk';
my $load = start_rows($primary, 4);
ok(wait_rows($primary, 50), 'rows are committed');
stop_rows($load);
same_rows($primary, $standby, 'stream');
is($standby->safe_psql('postgres', $digest),
	$primary->safe_psql('postgres', $digest), 'same bulk data');

# ---- remote_apply ----

my $missing = 0;
$primary->safe_psql('postgres', 'SET synchronous_commit = remote_apply');
foreach my $i (1 .. 20)
{
	$primary->safe_psql('postgres', "INSERT INTO acked VALUES (0, 0, $i)");
	$missing++
	  if $standby->safe_psql('postgres',
		"SELECT count(*) FROM acked WHERE run = 0 AND id = $i") ne '1';
}
$primary->safe_psql('postgres', 'RESET synchronous_commit');
is($missing, 0, 'what was committed at remote_apply is visible at once');
on_channel($primary, $standby, 'before the switchover');

# ---- the two change places ----

my $before = $primary->safe_psql('postgres', 'SELECT count(*) FROM acked');
$primary->stop;
is($standby->safe_psql('postgres', 'SELECT pg_promote()'), 't', 'promoted');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM acked'),
	$before, 'all rows are there');
no_row_lost($standby, 'promoted');

$primary->follow($standby)->start;
make_synchronous($standby, $primary);
on_channel($standby, $primary, 'after the switchover');
$load = start_rows($standby, 4);
ok(wait_rows($standby, 50), 'rows are committed after the switchover');
stop_rows($load);
same_rows($standby, $primary, 'after the switchover');
no_row_lost($primary, 'after the switchover');
is( $primary->safe_psql('postgres',
		'SELECT received_tli FROM pg_stat_wal_receiver'),
	'2', 'on the new timeline');

$_->stop foreach $primary, $standby;
done_testing();
