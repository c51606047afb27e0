#!/usr/bin/perl
# Results of bench/bench: collects them as JSON, and writes of them the tables of
# docs/BENCHMARKS.md, between their markers, and the plots' scripts.
# usage: page.pl --collect FILE [--launcher] [--quick] <LINES
#        page.pl --collect FILE --collect-demo RESULTS.json [--quick]
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
		linux      => $kernels[-1],
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
		$result{postgresql} = $demo->{machine}{postgresql};
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
	'fastwake-dispatch'  => 'FastWake dispatch',
	'fastwake-interrupt' => 'FastWake interrupt',
	'fastwake-adaptive'  => 'FastWake adaptive',
	local               => 'local commit',
	stock               => 'stock TCP',
	rsockets            => 'rsockets',
	shm                 => 'pg_fastwake shm',
	'shm-module'        => 'pg_fastwake shm, module',
	rdma                => 'pg_fastwake rdma',
	'rdma-module'       => 'pg_fastwake rdma, module');
my @paths =
  qw(poll event fastwake-dispatch fastwake-interrupt fastwake-adaptive);
my @configs = qw(local stock rsockets shm shm-module rdma rdma-module);

my %is_text = map { $_ => 1 } 'case', 'path', 'stage', 'commit level',
  'replication', 'replication, 1 client, `on`';

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
	return '' if $results{waits}{launcher};
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

# The better of those that we are compared with.
sub best_peer
{
	my ($row, $key, $larger) = @_;
	my @peers = grep { $_ && $_->{$key} }
	  map { row($_[3], config => $_, level => $row->{level},
			clients => $row->{clients}) } qw(stock rsockets);
	my @sorted = sort { $a->{$key} <=> $b->{$key} } @peers;
	return $larger ? $sorted[-1] : $sorted[0];
}

sub commit_row
{
	my ($row, $file) = @_;
	my $peer = best_peer($row, 'p50_us', 0, $file);
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
		$ours ? gap_closed($row, $file) : '',
		decimals('%.1f', $row->{tps} ? 1e6 / $row->{tps} : undef),
		decimals('%.2f', $row->{switches_per_commit}),
		decimals('%.2f', $row->{signals_per_commit}),
		decimals('%.1f', $row->{syscalls_per_commit})
	];
}

# Of the throughput between the best peer and local commits.
sub gap_closed
{
	my ($row, $file) = @_;
	my $peer = best_peer($row, 'tps', 1, $file);
	my $local = row($file, config => 'local', level => 'local',
		clients => $row->{clients});
	return '' if !$peer || !$local || $local->{tps} <= $peer->{tps};
	return '' if grep { $_->{with_warming_up} } $row, $peer, $local;
	return sprintf '%.0f %%',
	  100 * ($row->{tps} - $peer->{tps}) / ($local->{tps} - $peer->{tps});
}

sub commits_table
{
	my ($file) = @_;
	my %order = map { $configs[$_] => $_ } 0 .. $#configs;
	my @rows = sort {
		$a->{level} cmp $b->{level}
		  || $a->{clients} <=> $b->{clients}
		  || $order{ $a->{config} } <=> $order{ $b->{config} }
	} rows($file);
	return table([
			'commit level', 'clients', 'replication', 'tps',
			'p50 ms', 'p99 ms', 'p99.9 ms', 'p50 / best peer',
			'gap closed', '1000 instructions', 'switches', 'signals',
			'system calls'
		], map { commit_row($_, $file) } @rows)
	  . failures($file);
}

# What the demo's report says of peers that did not run to the end.
sub failures
{
	my ($file) = @_;
	my @notes = grep { / failed: / } @{ $results{$file}{notes} || [] };
	push @notes, '(w): some clients were done before others had warmed up, so that'
	  . ' tps has that in it; not to be compared.'
	  if grep { $_->{with_warming_up} } rows($file);
	return join '', map { "\n- $_\n" } @notes;
}

# (TCP - ours) / (TCP - local), of the mean at one client.
sub removed_table
{
	my ($tcp, $local) =
	  map { row('postgres', config => $_, clients => 1) } qw(stock local);
	return '' if !$tcp || !$local;
	my @rows;
	for my $config (grep { /^(?:rsockets|shm|rdma)/ } @configs)
	{
		my $row = row('postgres', config => $config, clients => 1) or next;
		push @rows,
		  [
			$label{$config},
			map { sprintf '%.2f', ($tcp->{$_} - $row->{$_}) / ($tcp->{$_} - $local->{$_}) }
			  qw(p50_us mean_us)
		  ];
	}
	return table([
			'replication, 1 client, `on`',
			'of what TCP adds to a local commit, removed: p50', 'mean'
		], @rows);
}

# --- the page ------------------------------------------------------------------

my %section = (
	waits      => [ 'waits',    \&waits_table ],
	threads    => [ 'waits',    \&threads_table ],
	competitor => [ 'waits',    \&competitor_table ],
	interrupt  => [ 'waits',    \&interrupt_table ],
	sizes      => [ 'waits',    \&sizes_table ],
	rate       => [ 'waits',    \&rate_table ],
	stages     => [ 'stages',   \&stages_table ],
	postgres   => [ 'postgres', sub { commits_table('postgres') } ],
	removed    => [ 'postgres', \&removed_table ],
	levels     => [ 'levels',   sub { commits_table('levels') } ]);

sub headline
{
	my ($file) = @_;
	my $machine = $results{$file}{machine};
	return "Linux $machine->{linux}, QEMU $machine->{qemu}, rdma-core"
	  . " $machine->{rdma_core}"
	  . ($file =~ /postgres|levels/ ? ", PostgreSQL $machine->{postgresql}" : '')
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
				  grep { $_->{$key} } rows('postgres', config => $config) ]
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

if ($opt{collect})
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
