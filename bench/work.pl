#!/usr/bin/perl
# What a commit takes, by kind of code, in instructions: reads what
# bench/src/work.c has counted while bench/work.sh ran.  Needs no module beyond
# perl-base.
# usage: work.pl RAW COUNTS		prints JSON, an object a line

use strict;
use warnings;
no warnings 'portable';

my ($raw, $counts) = @ARGV;
die "usage: work.pl RAW COUNTS\n" if !defined $counts;

# Where the kernel begins.
my $kernel_from = 0xffff800000000000;

# Of functions that no module has.
my $scheduler = qr/^(?:__schedule|schedule|preempt_schedule|__cond_resched|do_sched_yield
		|yield_task|try_to_wake_up|wake_up_process|ttwu|select_task_rq|activate_task
		|enqueue|dequeue|pick_next|pick_|put_prev|set_next|__?update_load_avg
		|update_(?:curr|min_vruntime|rq_clock|cfs)|__enqueue|__dequeue|place_entity
		|check_preempt|resched_curr|psi_|record_times|reweight|wakeup_preempt|__update
		|__calc_delta|calc_|cpuacct|cgroup_rstat|finish_task_switch|__switch_to|switch_
		|prepare_task|native_load_tls|save_fpregs|restore_fpregs|native_sched_clock
		|sched_clock|available_idle|propagate_|attach_|detach_|update_tg|clear_buddies
		|rb_|__rb_|wakeup_|raw_spin_rq|__rseq|rseq)/x;

sub lines_of
{
	my ($path) = @_;
	open my $fh, '<', $path or die "work.pl: $path: $!\n";
	my @lines = <$fh>;
	close $fh;
	chomp @lines;
	return @lines;
}

# [address, kind], in order.
sub kernel_symbols
{
	my ($config) = @_;
	my @symbols;
	for (lines_of("$raw/$config.kallsyms"))
	{
		my ($address, $type, $name, $module) =
		  /^(\S+) (\S) (\S+)(?:\s+\[(\S+)\])?/ or next;
		next if $type !~ /[tTwW]/;
		push @symbols, [ hex $address, kind_of($name, $module) ];
	}
	return [ sort { $a->[0] <=> $b->[0] } @symbols ];
}

sub kind_of
{
	my ($name, $module) = @_;
	return $module =~ /^fastwake/ ? 'module'
	  : $module =~ /rxe|^ib_|^rdma|^iw_/ ? 'rdma' : 'kernel'
	  if defined $module;
	return $name =~ $scheduler ? 'scheduler' : 'kernel';
}

sub find_symbol
{
	my ($symbols, $address) = @_;
	my ($low, $high) = (0, $#$symbols);
	while ($low < $high)
	{
		my $middle = int(($low + $high + 1) / 2);
		if ($symbols->[$middle][0] <= $address) { $low = $middle; }
		else { $high = $middle - 1; }
	}
	return $symbols->[$low][1];
}

# [from, to] of pg_fastwake's code.
sub library_code
{
	my ($config) = @_;
	return [ map { [ map { hex } split /-/ ] } lines_of("$raw/$config.code") ];
}

my %cache;

sub part_of
{
	my ($config, $address) = @_;
	my $known = $cache{$config} //= {
		symbols => kernel_symbols($config), library => library_code($config) };
	return $known->{$address} //=
		$address >= $kernel_from ? find_symbol($known->{symbols}, $address)
	  : (grep { $address >= $_->[0] && $address < $_->[1] } @{ $known->{library} })
	  ? 'library' : 'program';
}

sub print_window
{
	my ($what, $commits, $parts) = @_;
	my ($config, $level, $clients) = split ' ', $what;
	die "work.pl: no commit in the window of $what\n" if !$commits;
	printf qq({"config": "%s", "level": "%s", "clients": %d, "commits": %d,)
	  . qq( "part": "%s", "instructions": %.1f}\n),
	  $config, $level, $clients, $commits, $_, $parts->{$_} / $commits
	  for sort keys %$parts;
	return;
}

my @windows = lines_of("$raw/windows");
my ($what, $commits, %parts);
for (lines_of($counts), 'window end')
{
	if (/^window (\S+)/)
	{
		print_window($what, $commits, \%parts) if defined $what;
		%parts = ();
		last if $1 eq 'end';
		$what = $windows[$1] // die "work.pl: more windows than are named\n";
	}
	elsif (/^=commits (\d+)$/) { $commits = $1; }
	else
	{
		my ($address, $instructions) = split ' ';
		my ($config) = split ' ', $what;
		$parts{ part_of($config, hex $address) } += $instructions;
	}
}
