#!/usr/bin/perl
# Results of bench/bench: collects them as JSON, and writes of them the tables of
# docs/BENCHMARKS.md, between their markers, and the plots' scripts.
# usage: page.pl --collect FILE [--launcher] [--quick] [--linux VERSION] <LINES
#        page.pl --collect FILE --collect-demo RESULTS.json [--quick]
#        page.pl --rows RESULTS.json --where TEXT >LINES
#        page.pl --results DIR --page DOCUMENT --plots DIR
#
# LINES: JSON objects, one a line; others are not looked at.

use strict;
use warnings;
use JSON::PP;

my %opt;
while (@ARGV)
{
	my $name = shift @ARGV;
	$name =~ s/^--// or die "page.pl: unexpected argument $name\n";
	$opt{$name} = $name =~ /^(?:launcher|quick)$/ ? 1 : shift @ARGV;
}
my $json = JSON::PP->new->canonical->pretty->indent_length(1);

sub slurp
{
	my ($path) = @_;
	open my $fh, '<', $path or return undef;
	local $/;
	my $text = <$fh>;
	close $fh;
	return $text;
}

sub spew
{
	my ($path, $text) = @_;
	open my $fh, '>', $path or die "$path: $!\n";
	print $fh $text;
	close $fh or die "$path: $!\n";
	return;
}

# --- collecting ----------------------------------------------------------------

sub version
{
	my ($package) = @_;
	my $version = qx(dpkg-query -W -f '\${Version}' $package 2>/dev/null);
	return $version eq '' ? undef : $version;
}

sub machine
{
	my @kernels = sort map { m{vmlinuz-(.*-amd64)$} ? $1 : () }
	  grep { !/-(?:cloud|rt)-amd64$/ } glob '/boot/vmlinuz-*-amd64';
	my $compiler = qx(cc -dumpfullversion);
	chomp $compiler;
	return {
		linux      => $opt{linux} || $kernels[-1],
		postgresql => version('postgresql-15'),
		qemu       => version('qemu-system-x86'),
		rdma_core  => version('libibverbs1'),
		libc       => version('libc6'),
		gcc        => $compiler,
		clock      => 'instructions of one emulated processor, 1 ns each'
	};
}

sub collect
{
	my %result = (machine => machine(), quick => $opt{quick} ? 1 : 0);
	if ($opt{'collect-demo'})
	{
		my $demo = decode_json(slurp($opt{'collect-demo'}));
		@result{qw(rows settings notes)} = @$demo{qw(rows settings notes)};
		$result{machine}{linux} = $demo->{machine}{kernel};
	}
	else
	{
		$result{launcher} = $opt{launcher} ? 1 : 0;
		$result{rows} =
		  [ map { /^\{.*\}$/ ? decode_json($_) : () } <STDIN> ];
	}
	die "page.pl: no results for $opt{collect}\n" if !@{ $result{rows} };
	spew($opt{collect}, $json->encode(\%result));
	return;
}

# --- results -------------------------------------------------------------------

my %results;    # by the name of its file

sub rows
{
	my ($name, %want) = @_;
	my $result = $results{$name} or return;
	return grep {
		my $row = $_;
		!grep { !defined $row->{$_} || $row->{$_} ne $want{$_} } keys %want
	} @{ $result->{rows} };
}

sub row { return (rows(@_))[0] }

sub unique
{
	my %seen;
	return grep { !$seen{$_}++ } @_;
}

sub numbers { return sort { $a <=> $b } unique(@_) }

# --- tables --------------------------------------------------------------------

my %label = (
	poll                => 'polling',
	event               => 'stock events',
	futex               => 'a wake-up alone, by futex',
	'fastwake-dispatch'  => 'FastWake dispatch',
	'fastwake-interrupt' => 'FastWake interrupt',
	'fastwake-adaptive'  => 'FastWake adaptive',
	local               => 'local commit',
	stock               => 'stock TCP',
	rsockets            => 'rsockets',
	smc                 => 'SMC-R',
	shm                 => 'pg_fastwake shm',
	'shm-module'        => 'pg_fastwake shm, module',
	rdma                => 'pg_fastwake rdma',
	'rdma-module'       => 'pg_fastwake rdma, module');
my @paths =
  qw(poll event fastwake-dispatch fastwake-interrupt fastwake-adaptive);
my @configs = qw(local stock rsockets smc shm shm-module rdma rdma-module);
my @peers = qw(stock rsockets smc);

my %is_text = map { $_ => 1 } 'case', 'path', 'stage', 'commit level',
  'replication', 'replication, 1 client, `on`', 'mode', 'target', 'where', 'code',
  'per commit';

# table HEADS ROW...
sub table
{
	my ($heads, @rows) = @_;
	my $text = '| ' . join(' | ', @$heads) . " |\n"
	  . join('', map { $is_text{$_} ? '|:--' : '|--:' } @$heads) . "|\n";
	$text .= '| ' . join(' | ', map { defined $_ ? $_ : '' } @$_) . " |\n"
	  for @rows;
	return $text;
}

sub us
{
	my ($row, $key) = @_;
	return '' if !$row;
	return "failed ($row->{failed})" if $row->{failed};
	return sprintf '%.2f', $row->{ $key || 'p50_us' };
}

sub ratio
{
	my ($row, $base, $key) = @_;
	$key ||= 'p50_us';
	return '' if !$row || !$base || !$row->{$key} || !$base->{$key};
	return sprintf '%.2f', $row->{$key} / $base->{$key};
}

sub known_paths
{
	my ($case) = @_;
	my %there = map { $_->{path} => 1 } rows('waits', case => $case);
	return grep { $there{$_} } @paths;
}

sub left_out
{
	return '' if !$results{waits} || $results{waits}{launcher};
	return "\nLeft out: FastWake's modes for verbs programs, since the tree that was"
	  . " measured had no `fastwake run`.\n";
}

sub waits_table
{
	my @rows;
	for my $case (qw(own-event handoff))
	{
		my ($ours) = row('waits', case => $case, path => 'fastwake');
		push @rows,
		  [
			$case,
			$_->{path} eq 'fastwake' ? '**fastwake**' : $_->{path},
			us($_), us($_, 'p99_us'), us($_, 'max_us'),
			$_ == $ours ? '1' : ratio($ours, $_)
		  ] for rows('waits', case => $case);
	}
	return table([ 'case', 'path', 'p50 us', 'p99 us', 'max us', 'fastwake / this' ],
		@rows);
}

sub threads_table
{
	my @rows;
	for my $n (1, 4, 16, 64, 256)
	{
		my $case = $n == 1 ? 'own-event' : "fanout-$n";
		my $ours = row('waits', case => $case, path => 'fastwake');
		my $theirs = row('waits', case => $case, path => 'eventfd');
		push @rows,
		  [
			$n, us($ours), us($ours, 'p99_us'), us($theirs),
			us($theirs, 'p99_us'), ratio($ours, $theirs)
		  ] if $ours;
	}
	return table([
			'threads on the core', 'FastWake p50 us', 'p99 us',
			'eventfd p50 us', 'p99 us', 'ratio of p50'
		], @rows);
}

sub competitor_table
{
	return table([ 'path', 'p50 us', 'p99 us', 'max us' ],
		map { [ $_->{path}, us($_), us($_, 'p99_us'), us($_, 'max_us') ] }
		  rows('waits', case => 'competitor'));
}

# The same on two kernels: 99th percentiles in terms of the median.
sub kernels_table
{
	my @rows;
	for my $case (qw(own-event handoff fanout-4 fanout-16 fanout-64 fanout-256))
	{
		for my $row (rows('kernels', case => $case))
		{
			my $other = row('waits', case => $case, path => $row->{path});
			push @rows,
			  [
				$case,
				$row->{path} eq 'fastwake' ? '**fastwake**' : $row->{path},
				map({ us($_), us($_, 'p99_us'), spread($_) } $other, $row)
			  ];
		}
	}
	my @kernels = map { $results{$_}{machine}{linux} =~ /^(\d+\.\d+)/ }
	  qw(waits kernels);
	return table([
			'case', 'path',
			map { ("$_ p50 us", 'p99 us', 'p99 / p50') } @kernels
		], @rows);
}

sub spread
{
	my ($row) = @_;
	return $row ? sprintf '%.2f', $row->{p99_us} / $row->{p50_us} : '';
}

# fastwake bench verbs
sub interrupt_table
{
	my %what = (
		fastwake => '**fastwake**, interrupt',
		channel  => 'channel',
		poll     => 'channel, polled first');
	my $ours = row('waits', case => 'verbs', path => 'fastwake');
	return table([ 'path', 'p50 us', 'p99 us', 'max us', 'fastwake / this' ],
		map { [ $what{ $_->{path} } || $_->{path}, us($_), us($_, 'p99_us'),
				us($_, 'max_us'), ratio($ours, $_) ] }
		  rows('waits', case => 'verbs'));
}

sub sizes_table
{
	my @known = known_paths('pingpong');
	my @ours  = grep { /^fastwake/ } @known;
	my @rows;
	for my $bytes (sizes())
	{
		my %at =
		  map { $_ => row('waits', case => 'pingpong', path => $_,
				bytes => $bytes, interval_us => 0) } @known;
		push @rows,
		  [
			$bytes,
			map({ us($at{$_}) } @known),
			ratio($at{event}, $at{poll}),
			map({ ratio($at{$_}, $at{event}) } @ours)
		  ];
	}
	return table([
			'bytes',
			map({ "$label{$_} us" } @known),
			'events / polling',
			map({ "$label{$_} / events" } @ours)
		], @rows) . perftest_line() . left_out();
}

sub sizes
{
	return numbers(map { $_->{bytes} } rows('waits', case => 'pingpong', interval_us => 0));
}

sub perftest_line
{
	my @rows = rows('waits', case => 'perftest');
	return '' if !@rows;
	return "\n`ib_send_lat -e` (perftest, unmodified), 8 bytes: "
	  . join(', ', map { "$label{$_->{path}} " . us($_) . ' us' } @rows) . ".\n";
}

# Pairs of processes at once.
sub pairs_table
{
	my $base = row('waits', case => 'pairs', path => 'event')
	  or return "Not in this sample.\n";
	my @rows;
	for my $path (@paths)
	{
		my $row = row('waits', case => 'pairs', path => $path) or next;
		push @rows,
		  [
			$label{$path}, decimals('%.0f', $row->{round_trips_per_s}),
			ratio($row, $base, 'round_trips_per_s'),
			$row->{failed} ? us($row) : @$row{qw(least most)},
			$row->{least} ? sprintf('%.2f', $row->{most} / $row->{least}) : ''
		  ];
	}
	return table([
			'path', 'round trips / s', '/ stock events',
			'of the pair with the fewest', 'with the most', 'most / fewest'
		], @rows) . left_out();
}

sub intervals
{
	return numbers(grep { $_ > 0 }
		  map { $_->{interval_us} } rows('waits', case => 'pingpong'));
}

sub rate_table
{
	my @known = known_paths('pingpong');
	my @rows;
	for my $interval (intervals())
	{
		my @cells;
		for my $path (@known)
		{
			my $row = row('waits', case => 'pingpong', path => $path,
				interval_us => $interval);
			push @cells, us($row),
			  $row && defined $row->{busy}
			  ? sprintf('%.1f %%', 100 * $row->{busy})
			  : '';
		}
		push @rows, [ sprintf('%.0f', 1e6 / $interval), @cells ];
	}
	return table([ 'requests/s', map { ("$label{$_} us", 'busy') } @known ], @rows)
	  . left_out();
}

sub stages_table
{
	my @known = grep { row('stages', path => $_) } @paths;
	my %what = map { $_->{stage} => $_->{what} } rows('stages');
	my @rows;
	for my $stage (unique(map { $_->{stage} } rows('stages', path => 'event'),
			rows('stages')))
	{
		next if $stage eq 'total';
		push @rows, [ $what{$stage}, map { instructions($_, $stage) } @known ];
	}
	push @rows, [ '**total**', map { instructions($_, 'total') } @known ];
	return table([ 'stage', map { $label{$_} } @known ], @rows) . left_out();
}

sub instructions
{
	my ($path, $stage) = @_;
	my $row = row('stages', path => $path, stage => $stage);
	return $row ? $row->{ns} : '';
}

# --- PostgreSQL ----------------------------------------------------------------

sub decimals
{
	my ($format, $value) = @_;
	return defined $value ? sprintf $format, $value : 'n/a';
}

sub ms { return defined $_[0] ? sprintf '%.3f', $_[0] / 1000 : 'n/a' }

# Of a commit.
my @count_heads = ('tps', 'p50 ms', '1000 instructions', 'switches', 'signals', 'system calls');

sub counts
{
	my ($row) = @_;
	return (
		decimals('%.0f', $row->{tps}),
		ms($row->{p50_us}),
		decimals('%.1f', $row->{tps} ? 1e6 / $row->{tps} : undef),
		decimals('%.2f', $row->{switches_per_commit}),
		decimals('%.2f', $row->{signals_per_commit}),
		decimals('%.1f', $row->{syscalls_per_commit}));
}

# The better of those that we are compared with.
sub best_peer
{
	my ($row, $key, $larger, @of) = @_;
	my @rows = grep { $_ && $_->{$key} }
	  map { row('postgres', config => $_, level => $row->{level},
			clients => $row->{clients}) } @of ? @of : @peers;
	my @sorted = sort { $a->{$key} <=> $b->{$key} } @rows;
	return $larger ? $sorted[-1] : $sorted[0];
}

sub commit_row
{
	my ($row) = @_;
	my $peer = best_peer($row, 'p50_us', 0);
	my $ours = $row->{config} =~ /^(?:shm|rdma)/;
	return [
		$row->{level},
		$row->{clients},
		$label{ $row->{config} },
		decimals('%.0f', $row->{tps}) . ($row->{with_warming_up} ? ' (w)' : ''),
		ms($row->{p50_us}),
		ms($row->{p99_us}),
		ms($row->{p999_us}),
		$ours ? ratio($row, $peer) : '',
		$ours ? percent(gap_closed($row)) : '',
		decimals('%.1f', $row->{tps} ? 1e6 / $row->{tps} : undef),
		decimals('%.2f', $row->{switches_per_commit}),
		decimals('%.2f', $row->{signals_per_commit}),
		decimals('%.1f', $row->{syscalls_per_commit})
	];
}

# Of the throughput between the best peer and local commits.
sub gap_closed
{
	my ($row) = @_;
	my $peer = best_peer($row, 'tps', 1);
	my $local = row('postgres', config => 'local', level => 'local',
		clients => $row->{clients});
	return undef if !$peer || !$local || $local->{tps} <= $peer->{tps};
	return undef if grep { $_->{with_warming_up} } $row, $peer, $local;
	return ($row->{tps} - $peer->{tps}) / ($local->{tps} - $peer->{tps});
}

sub percent { return defined $_[0] ? sprintf '%.0f %%', 100 * $_[0] : '' }

# Rows of these levels, without the variants of configurations.
sub commits_table
{
	my %wanted = map { $_ => 1 } @_;
	my %order = map { $configs[$_] => $_ } 0 .. $#configs;
	my @rows = sort {
		$a->{level} cmp $b->{level}
		  || $a->{clients} <=> $b->{clients}
		  || $order{ $a->{config} } <=> $order{ $b->{config} }
	} grep { $wanted{ $_->{level} } && defined $order{ $_->{config} } } rows('postgres');
	return "Not in this sample.\n" if !@rows;
	return table([
			'commit level', 'clients', 'replication', 'tps',
			'p50 ms', 'p99 ms', 'p99.9 ms', 'p50 / best peer',
			'gap closed', '1000 instructions', 'switches', 'signals',
			'system calls'
		], map { commit_row($_) } @rows);
}

# What the demo's report says of rows that did not run to the end.
sub failures
{
	my @notes = grep { / failed: / } @{ $results{postgres}{notes} || [] };
	push @notes, '(w): some clients were done before others had warmed up, so that'
	  . ' tps has that in it; not to be compared.'
	  if grep { $_->{with_warming_up} } rows('postgres');
	push @notes, 'SMC-R was not measured: it needs Linux 6.12 (`lab/kernel 6.12`).'
	  if !rows('postgres', config => 'smc') && !grep { /^smc / } @notes;
	return join '', map { "\n- $_\n" } @notes;
}

# With more than one processor.
sub where { return unique(map { $_->{where} } rows('cores')) }

sub two_digits { return sprintf $_[0] >= 10 ? '%.0f' : '%.2g', $_[0] }

sub cores_table
{
	my @rows;
	for my $where (where())
	{
		my ($base, $poll) = map { row('cores', case => 'cores', where => $where, path => $_) }
		  qw(event poll);
		for my $path (@paths, 'futex')
		{
			my $row = row('cores', case => 'cores', where => $where, path => $path) or next;
			push @rows, [ $where, $label{$path},
				$row->{failed} ? (us($row), '') : map({
					!$_->{p50_us} ? '' : two_digits($row->{p50_us} / $_->{p50_us}) }
				$base, $poll),
				decimals('%.2f', $row->{switches}) ];
		}
	}
	my ($runs) = map { $_->{runs} || () } rows('cores', case => 'cores');
	return table([ 'where', 'path', 'p50 / stock events', '/ polling', 'switches per round trip' ], @rows)
	  . ($runs ? "\nMedians of $runs runs each.\n" : "\nOne run each, the processes not pinned.\n")
	  . left_out();
}

sub cores_commits_table
{
	my @rows;
	return "Not in this sample.\n" if !rows('cores', case => 'commits');
	for my $where (where())
	{
		my $base = row('cores', case => 'commits', where => $where, config => 'stock');
		push @rows, map { [
				$where, $_->{clients}, $label{ $_->{config} }, ratio($_, $base, 'tps'),
				decimals('%.2f', $_->{switches_per_commit}),
				decimals('%.2f', $_->{signals_per_commit}),
				decimals('%.1f', $_->{syscalls_per_commit}) ] }
		  map { row('cores', case => 'commits', where => $where, config => $_) } @configs;
	}
	return table([ 'where', 'clients', 'replication', 'tps / stock TCP', 'switches', 'signals',
			'system calls' ], @rows);
}

# Modes of the module, beside the default.
sub modes_table
{
	my @rows;
	for my $kind (qw(shm-module rdma-module))
	{
		for my $clients (1, 32)
		{
			my @of = ([ 'adaptive', $kind ],
				map { [ $_, "$kind+$_" ] } qw(dispatch interrupt));
			my $base = row('postgres', config => $kind, level => 'on', clients => $clients);
			push @rows, map {
				my ($mode, $config) = @$_;
				my $row = row('postgres', config => $config, level => 'on',
					clients => $clients);
				$row
				  ? [ $label{$kind}, $clients, $mode, counts($row), ratio($base, $row, 'tps') ]
				  : () } @of;
		}
	}
	return "Not in this sample.\n" if !grep { $_->[2] ne 'adaptive' } @rows;
	return table([ 'replication', 'clients', 'mode', @count_heads, 'time of a commit / adaptive' ],
		@rows);
}

# Each commit waits for all of them.
sub standbys_table
{
	my @rows;
	for my $kind (qw(stock shm-module rdma-module))
	{
		for my $n (1, 2, 4)
		{
			my $config = $n == 1 ? $kind : "$kind+$n";
			my ($one, $row, $stock) = map { row('postgres', config => $_, level => 'on', clients => 1) }
			  $kind, $config, $n == 1 ? 'stock' : "stock+$n";
			push @rows, [ $label{$kind}, $n, counts($row), ratio($one, $row, 'tps'),
				ratio($stock, $row, 'tps') ] if $row;
		}
	}
	return "Not in this sample.\n" if !grep { $_->[1] > 1 } @rows;
	return table([ 'replication', 'standbys', @count_heads, 'time of a commit / one standby',
			'/ stock TCP' ], @rows);
}

# (TCP - ours) / (TCP - local), at one client.
sub removed
{
	my ($row, $key) = @_;
	my $tcp = row('postgres', config => 'stock', level => 'on', clients => 1);
	my $local = row('postgres', config => 'local', clients => 1);
	return undef if grep { !$_ || !$_->{$key} } $tcp, $local, $row;
	return ($tcp->{$key} - $row->{$key}) / ($tcp->{$key} - $local->{$key});
}

sub removed_table
{
	my ($tcp, $local) =
	  (row('postgres', config => 'stock', level => 'on', clients => 1),
		row('postgres', config => 'local', clients => 1));
	return '' if !$tcp || !$local;
	my @rows;
	for my $config (grep { !/^(?:local|stock)/ } @configs)
	{
		my $row = row('postgres', config => $config, level => 'on', clients => 1) or next;
		push @rows,
		  [ $label{$config}, map { sprintf '%.2f', removed($row, $_) } qw(p50_us mean_us) ];
	}
	return table([
			'replication, 1 client, `on`',
			'of what TCP adds to a local commit, removed: p50', 'mean'
		], @rows);
}

# --- targets -------------------------------------------------------------------

# target WHAT SIGN LIMIT VALUE FORMAT: a row, or none if there is no value
sub target
{
	my ($what, $sign, $limit, $value, $format) = @_;
	return if !defined $value;
	my $met = $sign eq '<=' ? $value <= $limit : $value >= $limit;
	return [ $what, "$sign " . sprintf($format, $limit), sprintf($format, $value),
		$met ? 'met' : '**missed**' ];
}

# Of the best of our configurations over a transport at so many clients.
sub best
{
	my ($transport, $clients, $key, $larger) = @_;
	my ($first) = rows('postgres', level => 'on', clients => $clients) or return undef;
	return best_peer($first, $key, $larger, $transport, "$transport-module");
}

sub quotient
{
	my ($row, $base, $key) = @_;
	return undef if grep { !$_ || !$_->{$key} } $row, $base;
	return $row->{$key} / $base->{$key};
}

# Where pgbench logs no percentiles, there is none of those targets.
sub crowd_targets
{
	my ($transport, $clients) = @_;
	my $row = best($transport, $clients, 'tps', 1) or return;
	my $gap = gap_closed($row);
	my $name = "$transport, $clients client" . ($clients > 1 ? 's' : '');
	my $tail = best($transport, $clients, 'p99_us', 0);
	return (
		$clients > 1
		? target("$name: of the gap in tps between the best peer and local commits, closed",
			'>=', 50, defined $gap ? 100 * $gap : undef, '%.0f %%')
		: (),
		target("$name: p99 / the best peer's", '<=', 1,
			quotient($tail, $tail && best_peer($tail, 'p99_us', 0), 'p99_us'), '%.3f'));
}

sub targets_table
{
	my ($rdma, $shm) = map { best($_, 1, 'p50_us', 0) } qw(rdma shm);
	my @rows;
	if ($rdma)
	{
		my $rival = best_peer($rdma, 'p50_us', 0, qw(rsockets smc));
		push @rows, target("rdma, 1 client: p50 / the better of rsockets' and SMC-R's"
			  . ($rival ? " ($label{ $rival->{config} })" : ''),
			'<=', 0.60, quotient($rdma, $rival, 'p50_us'), '%.3f');
		push @rows, target("rdma, 1 client: p50 / stock TCP's", '<=', 0.75,
			quotient($rdma, best_peer($rdma, 'p50_us', 0, 'stock'), 'p50_us'), '%.3f');
	}
	push @rows, target('shm, 1 client: of the cost that TCP replication adds to a'
		  . " local commit's p50, removed (stretch: 0.75)",
		'>=', 0.60, $shm && removed($shm, 'p50_us'), '%.3f');
	for my $clients (1, 8, 32, 100, 200)
	{
		push @rows, crowd_targets($_, $clients) for qw(shm rdma);
	}
	return table([ 'target', 'limit', 'measured', '' ], @rows)
	  . "\nOf ours the better of the rows with and without the module.\n"
	  . unjudged();
}

# Said rather than left away: where a target could not be judged.
sub unjudged
{
	my @lines;
	for my $clients (numbers(map { $_->{clients} } rows('postgres', level => 'on')))
	{
		my ($any) = rows('postgres', level => 'on', clients => $clients);
		my $peer = best_peer($any, 'tps', 1);
		my $local = row('postgres', config => 'local', clients => $clients);
		push @lines, sprintf '%d clients: no gap to close, since local commits (%.0f tps)'
		  . ' are no faster than the best peer (%.0f).', $clients, $local->{tps}, $peer->{tps}
		  if $peer && $local && $local->{tps} <= $peer->{tps};
		push @lines, "$clients clients: p99 not judged, since pgbench logged too many"
		  . ' latencies as 0.'
		  if !grep { $_->{p99_us} } map { best($_, $clients, 'p99_us', 0) || () } qw(shm rdma);
	}
	return join '', map { "\n- $_\n" } @lines;
}

# --- the work of a commit --------------------------------------------------------

my @work_configs = qw(local stock shm-module rdma-module);
my @kinds = (
	[ program   => 'PostgreSQL, pgbench, libraries' ],
	[ library   => 'pg_fastwake' ],
	[ module    => 'fastwake.ko' ],
	[ rdma      => "the kernel's RDMA, rxe" ],
	[ scheduler => "the kernel's scheduler, switches" ],
	[ kernel    => 'the rest of the kernel' ]);

sub sum_of
{
	my $sum = 0;
	$sum += $_ for @_;
	return $sum;
}

# 1000 instructions per commit of what fits, 0 if nothing does.
sub work
{
	my (%want) = @_;
	return sum_of(map { $_->{instructions} } rows('work', %want)) / 1000;
}

sub work_clients { return numbers(map { $_->{clients} } rows('work')) }

# Configuration and clients of each column.
sub work_columns
{
	my @columns;
	for my $clients (work_clients())
	{
		push @columns, map { { config => $_, clients => $clients } }
		  grep { row('work', config => $_, clients => $clients) }
		  @work_configs;
	}
	return @columns;
}

sub work_table
{
	my @columns = work_columns();
	my @rows = map {
		my ($part, $text) = @$_;
		[ $text, map { sprintf '%.1f', work(%$_, part => $part) } @columns ]
	} @kinds;
	return table([ 'code', map { "$label{ $_->{config} }, $_->{clients}" } @columns ], @rows,
		[ '**all**', map { sprintf '%.1f', work(%$_) } @columns ]);
}

sub least { return (sort { $a <=> $b } @_)[0] }

sub own_code
{
	my ($clients, $config) = @_;
	return work(config => $config, clients => $clients, part => 'program');
}

# The cheapest switch there was, and what it takes to wake somebody.
sub cheapest_wait
{
	my $wake = row('stages', path => 'event', stage => 'wake-up') or return undef;
	return ($wake->{ns} + least(map { $_->{ns} } rows('stages', stage => 'scheduler')))
	  / 1000;
}

# One message over rxe to who polls for it, without the looks and the giving way.
sub one_message
{
	my $whole = row('waits', case => 'pingpong', path => 'poll', bytes => 8,
		interval_us => 0) or return undef;
	return $whole->{p50_us} - sum_of(map { $_->{ns} / 1000 }
		map { row('stages', path => 'poll', stage => $_) } qw(scheduler look));
}

# [what, 1000 instructions] of what no replication here can do without.
sub bound_parts
{
	my ($clients, $config) = @_;
	my $wait = cheapest_wait();
	my @parts = (
		[ 'a local commit', work(config => 'local', clients => $clients) ],
		[ "PostgreSQL's own code beyond it: wait, ship, write, flush, replay",
			least(map { own_code($clients, $_) } grep { $_ ne 'local' } @work_configs)
			  - own_code($clients, 'local') ],
		[ "a backend's wait: to be woken once, and switched to", $wait ],
		[ 'walsender, walreceiver, walsender: the same, once for all clients',
			3 * $wait / $clients ]);
	push @parts, [ 'two messages over rxe, once for all clients',
		2 * one_message() / $clients ] if $config =~ /rdma/;
	return @parts;
}

# Of the throughput between stock TCP and local commits, with so many instructions.
sub closed_by
{
	my ($clients, $instructions) = @_;
	my ($stock, $local) = map { work(config => $_, clients => $clients) }
	  qw(stock local);
	return (1 / $instructions - 1 / $stock) / (1 / $local - 1 / $stock);
}

sub bound_columns { return grep { $_->{config} =~ /module/ } work_columns() }

sub bound_table
{
	return "Needs the results of the parts `waits` and `stages`.\n"
	  if !defined cheapest_wait() || !defined one_message();
	my @columns = bound_columns();
	my %text;
	my @order;
	for my $i (0 .. $#columns)
	{
		for my $part (bound_parts(@{ $columns[$i] }{qw(clients config)}))
		{
			push @order, $part->[0] if !$text{ $part->[0] };
			$text{ $part->[0] }[$i] = sprintf '%.1f', $part->[1];
		}
	}
	my @rows = map { [ $_, map { defined $_ ? $_ : '' } @{ $text{$_} }[ 0 .. $#columns ] ] } @order;
	return table([ 'per commit', map { "$label{ $_->{config} }, $_->{clients}" } @columns ],
		@rows, bound_results(@columns));
}

sub bound_results
{
	my (@columns) = @_;
	my (@least, @now);
	for my $column (@columns)
	{
		push @least, sum_of(map { $_->[1] } bound_parts(@$column{qw(clients config)}));
		push @now, work(%$column);
	}
	my @clients = map { $_->{clients} } @columns;
	return (
		[ '**at least**', map { sprintf '%.1f', $_ } @least ],
		[ '**now**', map { sprintf '%.1f', $_ } @now ],
		[ 'stock TCP', map { sprintf '%.1f', work(config => 'stock', clients => $_) } @clients ],
		[ 'gap closed at most', map { sprintf '%.0f %%', 100 * closed_by($clients[$_], $least[$_]) } 0 .. $#columns ],
		[ 'gap closed now', map { sprintf '%.0f %%', 100 * closed_by($clients[$_], $now[$_]) } 0 .. $#columns ]);
}

# --- the page ------------------------------------------------------------------

my %section = (
	waits      => [ 'waits',    \&waits_table ],
	threads    => [ 'waits',    \&threads_table ],
	kernels    => [ 'kernels',  \&kernels_table ],
	competitor => [ 'waits',    \&competitor_table ],
	interrupt  => [ 'waits',    \&interrupt_table ],
	sizes      => [ 'waits',    \&sizes_table ],
	rate       => [ 'waits',    \&rate_table ],
	pairs      => [ 'waits',    \&pairs_table ],
	stages     => [ 'stages',   \&stages_table ],
	postgres   => [ 'postgres', sub { commits_table('local', 'on') . failures() } ],
	removed    => [ 'postgres', \&removed_table ],
	targets    => [ 'postgres', \&targets_table ],
	modes      => [ 'postgres', \&modes_table ],
	standbys   => [ 'postgres', \&standbys_table ],
	cores      => [ 'cores',    \&cores_table ],
	'cores-commits' => [ 'cores', \&cores_commits_table ],
	work       => [ 'work', \&work_table ],
	bound      => [ 'work', \&bound_table ],
	levels     => [ 'postgres', sub { commits_table('remote_write', 'remote_apply') } ]);

sub headline
{
	my ($file) = @_;
	my $machine = $results{$file}{machine};
	return "Linux $machine->{linux}, QEMU $machine->{qemu}, rdma-core"
	  . " $machine->{rdma_core}"
	  . ($file =~ /postgres|cores|work/ ? ", PostgreSQL $machine->{postgresql}" : '')
	  . ($results{$file}{quick} ? ', a quick sample' : '') . ".\n";
}

sub write_page
{
	my $text = slurp($opt{page});
	die "page.pl: no $opt{page}\n" if !defined $text;
	for my $name (sort keys %section)
	{
		my ($file, $make) = @{ $section{$name} };
		next if !$results{$file};
		my $table = $make->();
		my $head = headline($file);
		$text =~ s{(<!-- bench:$name -->\n).*?(<!-- /bench:$name -->)}{$1\n$head\n$table\n$2}s
		  or die "$opt{page} has no markers for bench:$name\n";
	}
	spew($opt{page}, $text);
	return;
}

# --- plots ---------------------------------------------------------------------

my %colour = (
	poll                => '#b6bcc4',
	event               => '#e08a2c',
	'fastwake-dispatch'  => '#17776f',
	'fastwake-interrupt' => '#3d4fb8',
	'fastwake-adaptive'  => '#5fb8a5',
	fastwake            => '#17776f',
	eventfd             => '#e08a2c',
	local               => '#b6bcc4',
	stock               => '#e08a2c',
	rsockets            => '#b5563c',
	smc                 => '#7a5230',
	shm                 => '#17776f',
	'shm-module'        => '#5fb8a5',
	rdma                => '#3d4fb8',
	'rdma-module'       => '#8f9be0');

# plot NAME TITLE SETTINGS SERIES...: each [colour, title, [x, y]...]
sub plot
{
	my ($name, $title, $settings, @series) = @_;
	@series = grep { @$_ > 2 } @series;
	return if !@series;
	my ($data, @plots) = ('');
	for my $i (0 .. $#series)
	{
		my ($colour, $label, @points) = @{ $series[$i] };
		$data .= "\$d$i << EOD\n"
		  . join('', map { "$_->[0] $_->[1]\n" } @points) . "EOD\n";
		push @plots, "\$d$i using 1:2 with linespoints linewidth 2 pointtype 7"
		  . " pointsize 0.8 linecolor '$colour' title '$label'";
	}
	my $script = "# Written by bench/page.pl; run gnuplot on it.\n$data";
	for my $terminal ([ 'pngcairo', 'png' ], [ 'svg', 'svg' ])
	{
		$script .= <<"END";
set terminal $terminal->[0] size 900,560 font 'DejaVu Sans,11' background '#ffffff'
set output '$name.$terminal->[1]'
set title '$title' font ',14' textcolor '#20242a' noenhanced
set border 3 linecolor '#8a929c'
set tics nomirror textcolor '#4a525c'
set grid linetype 1 linewidth 1 linecolor '#e8eaee'
set key outside bottom center horizontal textcolor '#20242a' noenhanced
$settings
plot @{[ join ", \\\n  ", @plots ]}
unset output
reset
END
	}
	spew("$opt{plots}/$name.gp", $script);
	return;
}

my $log_log = "set logscale xy\nset xtics font ',10'\nset ytics font ',10'";

sub plot_sizes
{
	return plot('sizes', 'One-way latency of a SEND over rxe by message size',
		"$log_log\nset xlabel 'bytes'\nset ylabel 'p50, us'",
		map {
			my $path = $_;
			[ $colour{$path}, $label{$path},
				map { [ $_->{bytes}, $_->{p50_us} ] }
				  sort { $a->{bytes} <=> $b->{bytes} }
				  grep { $_->{p50_us} }
				  rows('waits', case => 'pingpong', path => $path, interval_us => 0) ]
		} known_paths('pingpong'));
}

sub plot_threads
{
	return plot('threads', 'An event of one of many threads on a core',
		"set logscale x 2\nset yrange [0:*]\nset xlabel 'threads that wait'\n"
		  . "set ylabel 'p50, us'",
		map {
			my $path = $_;
			[ $colour{$path}, $path, map {
					my $row = row('waits', path => $path,
						case => $_ == 1 ? 'own-event' : "fanout-$_");
					$row ? [ $_, $row->{p50_us} ] : () } (1, 4, 16, 64, 256) ]
		} qw(fastwake eventfd));
}

sub plot_rate
{
	return plot('rate', 'Processor time against latency as requests become rarer',
		"set yrange [0:105]\nset xlabel 'p50 one way, us'\n"
		  . "set ylabel 'processor busy, %'",
		map {
			my $path = $_;
			[ $colour{$path}, $label{$path},
				map { [ $_->{p50_us}, 100 * $_->{busy} ] }
				  sort { $a->{interval_us} <=> $b->{interval_us} }
				  grep { $_->{interval_us} > 0 && defined $_->{busy} }
				  rows('waits', case => 'pingpong', path => $path) ]
		} known_paths('pingpong'));
}

sub plot_commits
{
	my ($key, $name, $title, $settings, $scale) = @_;
	return plot($name, $title, "set logscale x\nset xlabel 'clients'\n$settings",
		map {
			my $config = $_;
			[ $colour{$config}, $label{$config},
				map { [ $_->{clients}, $_->{$key} * $scale ] }
				  sort { $a->{clients} <=> $b->{clients} }
				  grep { $_->{$key} && $_->{level} =~ /^(?:on|local)$/ }
				  rows('postgres', config => $config) ]
		} @configs);
}

sub write_plots
{
	plot_sizes();
	plot_threads();
	plot_rate();
	plot_commits('tps', 'commits', 'Commits per second, synchronous_commit = on',
		"set yrange [0:*]\nset ylabel 'commits/s'", 1);
	plot_commits('mean_us', 'commit-latency',
		'Mean commit latency (clients / tps), synchronous_commit = on',
		"set logscale y\nset ylabel 'ms'", 0.001);
	return;
}

# --- main ----------------------------------------------------------------------

if ($opt{rows})
{
	my $demo = decode_json(slurp($opt{rows}));
	print JSON::PP->new->canonical->encode(
		{ %$_, case => 'commits', where => $opt{where} }), "\n"
	  for @{ $demo->{rows} };
}
elsif ($opt{collect})
{
	collect();
}
else
{
	for my $path (glob "$opt{results}/*.json")
	{
		my ($name) = $path =~ m{([^/]+)\.json$};
		$results{$name} = decode_json(slurp($path));
	}
	write_page();
	write_plots();
}
