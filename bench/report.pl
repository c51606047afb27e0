#!/usr/bin/perl
# Reads what bench/measure left behind and writes the table, the figures and
# the plot's script.  Needs no module beyond perl-base.
# usage: report.pl --raw DIR --output DIR --warm N [--lab] [--seconds N]
#        report.pl --insert results.md --into DOCUMENT --name lab

use strict;
use warnings;

my %opt = (warm => 0, seconds => 0, lab => 0);
while (@ARGV)
{
	my $name = shift @ARGV;
	$name =~ s/^--// or die "report.pl: unexpected argument $name\n";
	$opt{$name} = $name eq 'lab' ? 1 : shift @ARGV;
}

# Colours are told apart by people with colour-blindness, and in grey.
my %style = (
	local    => { label => 'local commit',     colour => '#b6bcc4' },
	stock    => { label => 'stock TCP',        colour => '#e08a2c' },
	rsockets => { label => 'rsockets',         colour => '#b5563c' },
	smc      => { label => 'SMC-R',            colour => '#7a5230' },
	fastwake => { label => 'pg_fastwake',      colour => '#17776f' },
	shm      => { label => 'pg_fastwake shm',  colour => '#17776f' },
	rdma     => { label => 'pg_fastwake rdma', colour => '#3d4fb8' },
	'shm-module' =>
	  { label => 'pg_fastwake shm + module', colour => '#5fb8a5' },
	'rdma-module' =>
	  { label => 'pg_fastwake rdma + module', colour => '#8f9be0' });
my @config_order = qw(local stock rsockets smc fastwake shm shm-module rdma rdma-module);
my %level_order = (local => 0, on => 1, remote_apply => 2, remote_write => 3);

# Of p50 at one client, as a share of stock TCP's.
my %latency_limit = (
	shm           => 0.75,
	rdma          => 1.00,
	'shm-module'  => 0.60,
	'rdma-module' => 0.85);
# With the module, at these numbers of clients.
my @crowds = (8, 32, 100);
use constant GAP_LIMIT    => 0.30;
use constant SIGNAL_LIMIT => 0.20;
# A percentile is shown only if fewer latencies than this were logged as 0; of more
# than ZERO_NOTED a note tells.
use constant ZERO_LIMIT => 0.25;
use constant ZERO_NOTED => 0.01;

# --- reading -----------------------------------------------------------------

sub slurp
{
	my ($path) = @_;
	open my $fh, '<', $path or return '';
	local $/;
	my $text = <$fh>;
	close $fh;
	return defined $text ? $text : '';
}

sub line
{
	my ($path) = @_;
	my $text = slurp($path);
	$text =~ s/\s+\z//;
	return $text;
}

# Transactions of one pgbench run: [client, number, latency us, end us].
sub transactions
{
	my ($directory) = @_;
	my @rows;
	for my $file (glob "$directory/log.*")
	{
		open my $fh, '<', $file or die "$file: $!\n";
		while (<$fh>)
		{
			# Of a counted run, which is stopped, the last may be cut off.
			my @f = split;
			next if !/\n\z/ || @f < 6;
			push @rows, [ $f[0], $f[1], $f[2], $f[4] * 1e6 + $f[5] ];
		}
		close $fh;
	}
	return \@rows;
}

sub warmed_up { return $_[0][1] >= $opt{warm} }

# Commits per second while every client was at work and warm: from the moment
# the last client had warmed up until the first one was done.
sub steady_rate
{
	my ($rows) = @_;
	my (%first, %last);
	for my $row (grep { warmed_up($_) } @$rows)
	{
		my ($client, undef, undef, $end) = @$row;
		$first{$client} = $end
		  if !defined $first{$client} || $end < $first{$client};
		$last{$client} = $end
		  if !defined $last{$client} || $end > $last{$client};
	}
	my ($from) = sort { $b <=> $a } values %first;
	my ($to)   = sort { $a <=> $b } values %last;
	return undef if !defined $from || $to <= $from;
	my $commits = grep { $_->[3] > $from && $_->[3] <= $to } @$rows;
	return $commits * 1e6 / ($to - $from);
}

# What pgbench itself says, for a run too short or uneven for steady_rate.
sub pgbench_rate
{
	my ($directory) = @_;
	return slurp("$directory/out") =~ /^tps = ([\d.]+)/m ? $1 : undef;
}

sub percentile
{
	my ($sorted, $p) = @_;
	return undef if !@$sorted;
	my $i = int(@$sorted * $p);
	return $sorted->[ $i > $#$sorted ? $#$sorted : $i ];
}

# Of the middle half of a round's latencies: what a commit takes that nothing
# came between, finer than pgbench's microseconds.
sub middle_mean
{
	my ($rows) = @_;
	my @sorted =
	  sort { $a <=> $b } map { $_->[2] } grep { warmed_up($_) } @$rows;
	my $quarter = int(@sorted / 4);
	return mean(@sorted[ $quarter .. $#sorted - $quarter ]);
}

sub mean
{
	my @values = grep { defined } @_;
	return undef if !@values;
	my $sum = 0;
	$sum += $_ for @values;
	return $sum / @values;
}

sub read_timing
{
	my ($cell) = @_;
	my (@latencies, @rates);
	for my $round (glob "$cell->{directory}/time.*")
	{
		my $rows = transactions($round);
		push @latencies, map { $_->[2] } grep { warmed_up($_) } @$rows;
		push @{ $cell->{round_us} }, middle_mean($rows);
		my $rate = steady_rate($rows);
		$cell->{with_warming_up} = 1 if !defined $rate;
		push @rates, defined $rate ? $rate : pgbench_rate($round);
	}
	@latencies = sort { $a <=> $b } @latencies;
	$cell->{transactions} = @latencies;
	$cell->{tps}          = mean(@rates);
	$cell->{mean_us} = $cell->{clients} * 1e6 / $cell->{tps} if $cell->{tps};
	$cell->{zero_share} =
	  @latencies ? (grep { $_ == 0 } @latencies) / @latencies : 0;
	return if $cell->{zero_share} > ZERO_LIMIT;
	$cell->{p50_us} = percentile(\@latencies, 0.50);
	$cell->{p99_us} = percentile(\@latencies, 0.99);
	$cell->{p999_us} = percentile(\@latencies, 0.999)
	  if @latencies >= 1000;
	return;
}

sub read_counts
{
	my ($cell) = @_;
	my %n = slurp("$cell->{directory}/count/counts") =~ /^(\w+)=(\d+)$/mg;
	return if !defined $n{from};
	my $commits = grep { $_->[3] >= $n{from} && $_->[3] < $n{to} }
	  @{ transactions("$cell->{directory}/count") };
	$cell->{counted_commits} = $commits;
	return if !$commits;
	for my $what (qw(switches signals syscalls))
	{
		$cell->{"${what}_per_commit"} = $n{$what} / $commits
		  if defined $n{$what};
	}
	return;
}

# Without its variant: KIND+VARIANT.
sub kind { return $_[0]{config} =~ s/\+.*//r }

sub has_fastwake { return $_[0]{config} !~ /^(?:local|stock|rsockets|smc)\b/ }

# The view's row; every value is a JSON scalar.
sub view
{
	my ($path) = @_;
	my %row;
	my $text = slurp($path);
	while ($text =~ /"(\w+)":(?:"((?:[^"\\]|\\.)*)"|([^,}]*))/g)
	{
		$row{$1} = defined $2 ? $2 : $3;
		delete $row{$1} if !defined $2 && $3 eq 'null';
	}
	return \%row;
}

# A row is only as good as its transport: the same before and after, and the
# stream must have gone through it.
sub read_transport
{
	my ($cell) = @_;
	$cell->{transport} = $cell->{config} eq 'local' ? 'none' : 'tcp';
	$cell->{transport} = $cell->{config} if $cell->{config} =~ /^(?:rsockets|smc)$/;
	return if !has_fastwake($cell);
	for my $run (glob "$cell->{directory}/time.* $cell->{directory}/count")
	{
		my ($before, $after) = map { view("$run/view.$_") } qw(before after);
		next if !%$after;
		$cell->{transport} = $after->{transport};
		$cell->{view}      = $after;
		for my $column (qw(pid transport fallbacks))
		{
			next if !defined $before->{$column};
			die "$run: $column changed from $before->{$column} to"
			  . " $after->{$column} within the row\n"
			  if $before->{$column} ne $after->{$column};
		}
		die "$run: nothing was sent over $after->{transport}\n"
		  if $after->{transport} ne 'tcp'
		  && $after->{sent_bytes} <= $before->{sent_bytes};
	}
	return;
}

sub read_cells
{
	my @cells;
	for my $directory (glob "$opt{raw}/*.*.*")
	{
		next if !-d $directory;
		my ($config, $level, $clients) =
		  $directory =~ m{/([\w+-]+)\.(\w+)\.(\d+)$}
		  or next;
		my $cell = {
			directory => $directory,
			config    => $config,
			level     => $level,
			clients   => $clients
		};
		read_timing($cell);
		read_counts($cell);
		read_transport($cell);
		push @cells, $cell;
	}
	my %order = map { $config_order[$_] => $_ } 0 .. $#config_order;
	return sort {
			 $a->{clients} <=> $b->{clients}
		  || $level_order{ $a->{level} } <=> $level_order{ $b->{level} }
		  || $order{ kind($a) } <=> $order{ kind($b) }
		  || $a->{config} cmp $b->{config}
	} @cells;
}

# --- judging -----------------------------------------------------------------

sub find_cell
{
	my ($cells, $config, $level, $clients) = @_;
	my ($cell) = grep {
			 $_->{config} eq $config
		  && $_->{level} eq $level
		  && $_->{clients} == $clients
	} @$cells;
	return $cell;
}

sub add_ratios
{
	my ($cells) = @_;
	for my $cell (@$cells)
	{
		next if $cell->{config} eq 'local' || $cell->{config} eq 'stock';
		my $stock =
		  find_cell($cells, 'stock', $cell->{level}, $cell->{clients});
		next if !$stock || !$stock->{tps} || !$cell->{tps};
		$cell->{p50_ratio} = $cell->{p50_us} / $stock->{p50_us}
		  if $cell->{p50_us} && $stock->{p50_us};
		$cell->{tps_ratio} = $cell->{tps} / $stock->{tps};
		my $local = find_cell($cells, 'local', 'local', $cell->{clients});
		next if !$local || !$local->{tps} || $local->{tps} <= $stock->{tps};
		# Then not all of them were at work at a time.
		next if grep { $_->{with_warming_up} } $cell, $stock, $local;
		$cell->{gap_closed} =
		  ($cell->{tps} - $stock->{tps}) / ($local->{tps} - $stock->{tps});
	}
	return;
}

sub target
{
	my ($what, $sign, $limit, $measured) = @_;
	my $met = $sign eq '<=' ? $measured <= $limit : $measured >= $limit;
	return {
		what     => $what,
		limit    => sprintf('%s %.2f', $sign, $limit),
		measured => $measured,
		result   => $met ? 'met' : 'MISSED'
	};
}

sub latency_targets
{
	my ($cells) = @_;
	my @targets;
	for my $config (grep { $latency_limit{$_} } @config_order)
	{
		my $cell = find_cell($cells, $config, 'on', 1);
		push @targets, target("$config: p50 / stock TCP's, 1 client",
			'<=', $latency_limit{$config}, $cell->{p50_ratio})
		  if $cell && $cell->{p50_ratio};
	}
	return @targets;
}

sub signal_targets
{
	my ($cells) = @_;
	my @signals = sort { $b <=> $a } map { $_->{signals_per_commit} }
	  grep { defined $_->{signals_per_commit} && has_fastwake($_) }
	  grep { $_->{level} eq 'on' && $_->{clients} == 100 } @$cells;
	return if !@signals;
	return target('signals per commit, 100 clients', '<=', SIGNAL_LIMIT,
		$signals[0]);
}

# Throughput between stock TCP's and that of local commits, and switches.
sub crowd_targets
{
	my ($cells) = @_;
	my @targets;
	for my $cell (grep { $_->{level} eq 'on' } @$cells)
	{
		my $name = "$cell->{config}, $cell->{clients} clients:";
		my $stock = find_cell($cells, 'stock', 'on', $cell->{clients});
		next if $cell->{config} !~ /-module$/ || !$stock;
		next if !grep { $_ == $cell->{clients} } @crowds;
		push @targets, target("$name of the gap to local commits, closed",
			'>=', GAP_LIMIT, $cell->{gap_closed})
		  if defined $cell->{gap_closed};
		push @targets, target("$name switches per commit / stock TCP's",
			'<=', 1, $cell->{switches_per_commit} / $stock->{switches_per_commit})
		  if $cell->{switches_per_commit} && $stock->{switches_per_commit};
	}
	return @targets;
}

sub check_targets
{
	my ($cells) = @_;
	return (latency_targets($cells), signal_targets($cells),
		crowd_targets($cells));
}

# --- writing -----------------------------------------------------------------

sub fixed
{
	my ($format, $value) = @_;
	return defined $value ? sprintf $format, $value : 'n/a';
}

sub milliseconds
{
	my ($us) = @_;
	return defined $us ? sprintf '%.3f', $us / 1000 : 'n/a';
}

sub label
{
	my ($cell) = @_;
	return "pg_fastwake $cell->{transport}" if $cell->{config} eq 'fastwake';
	my ($variant) = $cell->{config} =~ /\+(.*)/;
	return $style{ kind($cell) }{label}
	  . (!defined $variant ? '' : $variant =~ /^\d/ ? " x $variant" : ", $variant");
}

my @columns = (
	[ 'commit level',   sub { $_[0]{level} } ],
	[ 'clients',        sub { $_[0]{clients} } ],
	[ 'replication',    sub { label($_[0]) } ],
	[ 'tps',            sub { fixed('%.0f', $_[0]{tps}) } ],
	[ 'mean ms',        sub { milliseconds($_[0]{mean_us}) } ],
	[ 'p50 ms',         sub { milliseconds($_[0]{p50_us}) } ],
	[ 'p99 ms',         sub { milliseconds($_[0]{p99_us}) } ],
	[ 'p50 / stock',    \&ratio_column ],
	[ 'gap closed',     \&gap_column ],
	[ 'switches',       sub { fixed('%.2f', $_[0]{switches_per_commit}) } ],
	[ 'signals',        sub { fixed('%.2f', $_[0]{signals_per_commit}) } ],
	[ 'system calls',   sub { fixed('%.1f', $_[0]{syscalls_per_commit}) } ]);

sub ratio_column
{
	my ($cell) = @_;
	return $cell->{config} eq 'stock' ? '1' : '' if !$cell->{p50_ratio};
	return sprintf '%.2f', $cell->{p50_ratio};
}

sub gap_column
{
	my ($cell) = @_;
	return defined $cell->{gap_closed}
	  ? sprintf '%.0f %%', 100 * $cell->{gap_closed} : '';
}

sub is_left { return $_[0] eq 'commit level' || $_[0] eq 'replication' }

sub cell_texts
{
	my ($cell) = @_;
	return map { $_->[1]->($cell) } @columns;
}

# Aligned, with a gap wherever the number of clients changes.
sub text_table
{
	my ($cells) = @_;
	my @rows = ([ map { $_->[0] } @columns ], map { [ cell_texts($_) ] } @$cells);
	my @width;
	for my $row (@rows)
	{
		for my $i (0 .. $#$row)
		{
			$width[$i] = length $row->[$i]
			  if !$width[$i] || length $row->[$i] > $width[$i];
		}
	}
	my ($text, $clients) = ('', '');
	for my $row (@rows)
	{
		$text .= "\n" if $clients ne $row->[1] && $text ne '';
		$clients = $row->[1];
		my @padded = map {
			sprintf is_left($columns[$_][0]) ? '%-*s' : '%*s',
			  $width[$_], $row->[$_]
		} 0 .. $#$row;
		$text .= join('  ', @padded) . "\n";
	}
	$text =~ s/ +$//mg;
	return $text;
}

sub markdown_table
{
	my ($cells) = @_;
	my @heads = map { $_->[0] } @columns;
	my $text = join(' | ', '', @heads, '') . "\n";
	$text .= join('|', '', map({ is_left($_) ? ':--' : '--:' } @heads), '') . "\n";
	$text .= join(' | ', '', cell_texts($_), '') . "\n" for @$cells;
	$text =~ s/^ (\|)/$1/mg;
	$text =~ s/ +$//mg;
	return $text;
}

# One line per pg_fastwake configuration: what the view said last.
sub connections
{
	my ($cells) = @_;
	my %last;
	for my $cell (@$cells)
	{
		$last{ $cell->{config} } = $cell->{view} if $cell->{view};
	}
	my @columns = qw(transport device address qp_num qp_state sent_bytes
	  sent_messages received_bytes received_messages full_waits fallbacks);
	my @lines;
	for my $config (sort keys %last)
	{
		my $view = $last{$config};
		push @lines, join ' ',
		  map { "$_=$view->{$_}" } grep { defined $view->{$_} } @columns;
	}
	return @lines;
}

sub notes
{
	my ($cells) = @_;
	my $counting = line("$opt{raw}/counting");
	my @notes = (
		'Switches, signals and system calls are those of all processes of both'
		  . ' servers, per commit, from a pass of their own.',
		'Local commits are those of a server without a standby: the floor.');
	push @notes, "Signals and system calls were not counted: $counting."
	  if $counting ne 'tracefs';
	push @notes, 'Clock: instructions executed by one emulated processor (1 ns'
	  . ' each). It counts work, not cache misses, the real cost of interrupts'
	  . ' or sleep states; ratios within this table count, not its absolute'
	  . ' times.'
	  if $opt{lab} && !$opt{cpus};
	my @zeros = sort { $b <=> $a } map { $_->{zero_share} } @$cells;
	push @notes,
	  sprintf 'pgbench logged a latency of 0 for up to %.0f %% of the'
	  . ' transactions of a row (an answer that is there at once has no time of'
	  . ' its own), at the expense of the next one: p50 is then too low and p99 too'
	  . ' high. A row with more than %.0f %% of them has no percentiles. The mean is'
	  . ' clients / tps.', 100 * $zeros[0], 100 * ZERO_LIMIT
	  if @zeros && $zeros[0] > ZERO_NOTED;
	push @notes, 'Gap closed: of the difference in tps between stock TCP and'
	  . ' local commits.'
	  if grep { defined $_->{gap_closed} } @$cells;
	my @short = grep { $_->{with_warming_up} } @$cells;
	push @notes, 'tps of these rows contain connecting and warming up, as there was'
	  . ' no time at which all clients were at work: '
	  . join(', ', map { "$_->{config} $_->{clients}" } @short) . '.'
	  if @short;
	push @notes, failures();
	return @notes;
}

# Rows that did not run to the end: the last lines of what they said. Of peers they
# are no fault of ours.
sub failed_ourselves
{
	return grep { !/^(?:rsockets|smc) / } failures();
}

sub failures
{
	return map {
		my ($config) = m{([^/]+)\.failed$};
		map { "$config failed: $_" } grep { /\S/ } split /\n/, slurp($_);
	} glob "$opt{raw}/*.failed";
}

sub machine
{
	my $processors = () = slurp('/proc/cpuinfo') =~ /^processor/mg;
	my ($model) = slurp('/proc/cpuinfo') =~ /^model name\s*:\s*(.+)$/m;
	my $version = line("$opt{raw}/version");
	$version =~ s/^postgres \(PostgreSQL\) //;
	$version =~ s/ .*//;
	return {
		postgresql => $version,
		kernel     => line("$opt{raw}/kernel"),
		processor  => $opt{lab} ? 'one, emulated (QEMU TCG, icount)'
		: "$processors x $model",
		rdma_devices => join(' ', split ' ', slurp("$opt{raw}/devices"))
	};
}

sub headline
{
	my ($machine) = @_;
	return "PostgreSQL $machine->{postgresql}, Linux $machine->{kernel}, "
	  . (!$opt{lab} ? $machine->{processor}
		: $opt{cpus} ? "lab, real time, $opt{cpus} processors"
		: 'lab, icount clock, 1 processor');
}

sub summary_text
{
	my ($cells, $targets, $machine) = @_;
	my $text = headline($machine) . "\n\n" . text_table($cells) . "\n";
	$text .= "Connection: $_\n" for connections($cells);
	$text .= "Note: $_\n" for notes($cells);
	for my $t ($opt{lab} ? @$targets : ())
	{
		$text .= sprintf "Target: %-58s %s  measured %s: %s\n",
		  $t->{what}, $t->{limit}, fixed('%.2f', $t->{measured}), $t->{result};
	}
	return $text;
}

sub summary_markdown
{
	my ($cells, $targets, $machine) = @_;
	my $text = headline($machine) . ".\n\n" . markdown_table($cells) . "\n";
	if ($opt{lab})
	{
		$text .= "| target | limit | measured | |\n|:--|--:|--:|:--|\n";
		$text .= sprintf "| %s | %s | %s | %s |\n", $_->{what}, $_->{limit},
		  fixed('%.2f', $_->{measured}), $_->{result}
		  for @$targets;
		$text .= "\n";
	}
	$text .= "- `$_`\n" for connections($cells);
	$text .= "- $_\n" for notes($cells);
	return $text;
}

sub json
{
	my ($value) = @_;
	return 'null' if !defined $value;
	return '[' . join(",\n", map { json($_) } @$value) . ']'
	  if ref $value eq 'ARRAY';
	return '{' . join(', ', map { json_text($_) . ': ' . json($value->{$_}) }
		  sort keys %$value) . '}'
	  if ref $value eq 'HASH';
	return $value =~ /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:e[-+]\d+)?$/
	  ? $value : json_text($value);
}

sub json_text
{
	my ($text) = @_;
	$text =~ s/(["\\])/\\$1/g;
	$text =~ s/([\x00-\x1f])/sprintf '\\u%04x', ord $1/ge;
	return "\"$text\"";
}

sub figures
{
	my ($cells, $targets, $machine) = @_;
	my @rows = map { my %row = %$_; delete $row{directory}; \%row } @$cells;
	return json({
		machine  => $machine,
		lab      => $opt{lab},
		counting => line("$opt{raw}/counting"),
		settings => slurp("$opt{raw}/settings"),
		rows     => \@rows,
		notes    => [ notes($cells) ],
		targets  => $opt{lab} ? $targets : [] }) . "\n";
}

# --- plotting ----------------------------------------------------------------

sub unique
{
	my %seen;
	return grep { !$seen{$_}++ } @_;
}

# Rows of a panel: "x value" where x is the place of the number of clients;
# local commits, which know no level, stand in every panel.
sub series
{
	my ($cells, $config, $level, $clients, $key, $scale) = @_;
	my $text = '';
	for my $i (0 .. $#$clients)
	{
		my $cell = find_cell($cells, $config,
			$config eq 'local' ? 'local' : $level, $clients->[$i]);
		next if !$cell || !$cell->{$key};
		$text .= sprintf "%d %.6g\n", $i, $cell->{$key} * $scale;
	}
	return $text;
}

sub plot_preamble
{
	my ($machine, $rows, $terminal, $file) = @_;
	my $height = 152 + 400 * $rows;
	my $font = 'DejaVu Sans';
	return <<"END";
set terminal $terminal size 1400,$height font '$font,12' enhanced background '#ffffff'
set output '$file'
set multiplot layout $rows,2 margins 0.065,0.985,@{[ 70 / $height ]},@{[ 1 - 138 / $height ]} spacing 0.075,@{[ 95 / $height ]}
set label 1 'Commits with a synchronous standby: pgbench INSERT' at screen 0.5,@{[ 1 - 26 / $height ]} center font '$font,17' textcolor '#20242a' noenhanced
set label 2 '@{[ headline($machine) ]}' at screen 0.5,@{[ 1 - 54 / $height ]} center font '$font,11' textcolor '#6a727c' noenhanced
set key at screen 0.5,@{[ 1 - 80 / $height ]} center horizontal maxrows 1 reverse Left samplen 1.2 font '$font,12' textcolor '#20242a' noenhanced
set border 1 linecolor '#8a929c'
set tics nomirror scale 0 textcolor '#4a525c'
set grid ytics linetype 1 linewidth 1 linecolor '#e8eaee'
set style fill solid 1 noborder
set boxwidth 1
END
}

# Bars that stand in groups, one group per number of clients, each bar with its
# value above it.
sub panel
{
	my ($cells, $configs, $clients, $level, $what) = @_;
	my $k = @$configs;
	my $width = 0.82 / $k;
	my (@values, $blocks, @plots);
	for my $i (0 .. $#$configs)
	{
		my $data = series($cells, $configs->[$i], $level, $clients, $what->{key},
			$what->{scale});
		next if $data eq '';
		my ($cell) = grep { $_->{config} eq $configs->[$i] } @$cells;
		push @values, $data =~ /^\d+ (\S+)$/mg;
		my $name = "\$d$i";
		my $x = sprintf '($1 + %.4f)', ($i - ($k - 1) / 2) * $width;
		$blocks .= "$name << EOD\n${data}EOD\n";
		push @plots,
		  sprintf "%s using %s:2:(%.4f) with boxes linecolor '%s' title '%s'",
		  $name, $x, $width * 0.94, $style{ $configs->[$i] }{colour},
		  label($cell);
		push @plots,
		  "$name using $x:2:(sprintf('$what->{format}', \$2)) with labels"
		  . " offset 0,0.55 font ',9' textcolor '#4a525c' notitle";
	}
	my ($low, $high) = (sort { $a <=> $b } @values)[ 0, -1 ];
	my $tics = join ', ', map { "'$clients->[$_]' $_" } 0 .. $#$clients;
	my $range = $what->{log}
	  ? sprintf "set logscale y 10\nset yrange [%g:%g]\n", $low / 2.5, $high * 2
	  : sprintf "unset logscale\nset yrange [0:%g]\n", $high * 1.13;
	return $blocks
	  . $range
	  . "set xrange [-0.6:@{[ $#$clients + 0.6 ]}]\n"
	  . "set xtics ($tics)\n"
	  . "set xlabel 'clients' textcolor '#4a525c' offset 0,0.4\n"
	  . "set format y '$what->{tics}'\n"
	  . "set title \"$what->{title}, synchronous\\\\_commit = "
	  . ($level =~ s/_/\\\\_/r)
	  . "\" font ',13' textcolor '#20242a' offset 0,-0.3\n"
	  . 'plot ' . join(", \\\n  ", @plots) . "\nunset label 1\nunset label 2\n"
	  . "unset key\n";
}

my @quantities = (
	{
		key => 'tps', scale => 1, format => '%.0f', tics => '%.0f',
		title => 'Commits per second'
	},
	{
		key => 'mean_us', scale => 0.001, format => '%.3g', tics => '%g',
		title => 'Mean latency (ms)', log => 1
	});

sub plot_script
{
	my ($cells, $machine) = @_;
	my %order = map { $config_order[$_] => $_ } 0 .. $#config_order;
	my @configs = sort { $order{$a} <=> $order{$b} }
	  grep { defined $order{$_} } unique(map { $_->{config} } @$cells);
	my @levels = sort { $level_order{$a} <=> $level_order{$b} }
	  grep { $_ ne 'local' } unique(map { $_->{level} } @$cells);
	@levels = ('local') if !@levels;
	my $script = "# Written by bench/report.pl; run gnuplot on it.\n";
	for my $output ([ 'pngcairo', 'demo.png' ], [ 'svg', 'demo.svg' ])
	{
		$script .= plot_preamble($machine, scalar @levels, @$output);
		for my $level (@levels)
		{
			my @clients = sort { $a <=> $b } unique(
				map { $_->{clients} } grep { $_->{level} eq $level } @$cells);
			$script .= panel($cells, \@configs, \@clients, $level, $_)
			  for @quantities;
		}
		$script .= "unset multiplot\nunset output\nreset\n";
	}
	return $script;
}

# --- main --------------------------------------------------------------------

sub write_file
{
	my ($path, $text) = @_;
	open my $fh, '>', $path or die "$path: $!\n";
	print $fh $text;
	close $fh or die "$path: $!\n";
	return;
}

# Puts a table between its markers: <!-- demo:lab --> ... <!-- /demo:lab -->
sub insert
{
	my $table = slurp($opt{insert});
	my $name = $opt{name};
	my $text = slurp($opt{into});
	$text =~ s{(<!-- demo:$name -->\n).*?(<!-- /demo:$name -->)}{$1\n$table\n$2}s
	  or die "$opt{into} has no markers for demo:$name\n";
	write_file($opt{into}, $text);
	return;
}

sub report
{
	my @cells = read_cells();
	die "report.pl: no results in $opt{raw}\n" if !@cells;
	add_ratios(\@cells);
	my @targets = check_targets(\@cells);
	my $machine = machine();
	my @all = (\@cells, \@targets, $machine);
	write_file("$opt{output}/results.json", figures(@all));
	write_file("$opt{output}/results.md", summary_markdown(@all));
	write_file("$opt{output}/plot.gp", plot_script(\@cells, $machine));
	write_file("$opt{output}/results.txt", summary_text(@all));
	print summary_text(@all);
	exit 1
	  if failed_ourselves()
	  || $opt{lab} && grep { $_->{result} eq 'MISSED' } @targets;
	return;
}

if ($opt{insert}) { insert() }
else { report() }
