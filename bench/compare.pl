#!/usr/bin/perl
# Judges what bench/check has measured; prints TAP.
# usage: compare.pl --key FILE --baseline FILE MEASURED
#        compare.pl --key FILE --write FILE MEASURED
#
# MEASURED has lines "NAME NANOSECONDS", each name once per run.  A baseline has
# lines "NAME NANOSECONDS" below the key that it is for.

use strict;
use warnings;

use constant TOLERANCE => 0.03;     # slower than the baseline
use constant AGREEMENT => 0.005;    # between runs, of the smallest
use constant AGREEING => 3;         # so many runs at least

my %opt;
while (@ARGV && $ARGV[0] =~ s/^--//)
{
	my $name = shift @ARGV;
	$opt{$name} = shift @ARGV;
}
die "usage: compare.pl --key FILE --baseline FILE | --write FILE MEASURED\n"
  if @ARGV != 1 || !$opt{key} || !($opt{baseline} || $opt{write});

sub lines_of
{
	my ($path) = @_;
	open my $fh, '<', $path or die "$path: $!\n";
	chomp(my @lines = <$fh>);
	close $fh;
	return @lines;
}

sub median { return (sort { $a <=> $b } @_)[ $#_ / 2 ] }

sub spread
{
	my @sorted = sort { $a <=> $b } @_;
	return $sorted[0] > 0 ? $sorted[-1] / $sorted[0] - 1 : 1;
}

my (%runs, @names);
for (lines_of($ARGV[0]))
{
	my ($name, $ns) = /^(\S+) (\d+)$/ or die "$ARGV[0]: $_\n";
	push @names, $name if !$runs{$name};
	push @{ $runs{$name} }, $ns;
}
die "nothing was measured\n" if !@names;
my @key = lines_of($opt{key});

# Those that agree best.  A median may fall between two ways that an operation takes,
# and then be either of them from run to run.
sub closest
{
	my @sorted = sort { $a <=> $b } @_;
	my @best;
	for my $i (0 .. @sorted - AGREEING)
	{
		my @some = @sorted[ $i .. $i + AGREEING - 1 ];
		@best = @some if !@best || spread(@some) < spread(@best);
	}
	return @best;
}

sub disagreement
{
	my ($name) = @_;
	my @values = @{ $runs{$name} };
	return 'measured in ' . @values . ' runs only' if @values < AGREEING;
	return undef if spread(closest(@values)) <= AGREEMENT;
	return sprintf 'its runs differ by %.2f %%: %s ns', 100 * spread(@values),
	  join(', ', @values);
}

sub write_baseline
{
	my $failed = 0;
	for my $name (@names)
	{
		my $why = disagreement($name) or next;
		warn "$name: $why\n";
		$failed = 1;
	}
	return 1 if $failed;
	open my $fh, '>', $opt{write} or die "$opt{write}: $!\n";
	print $fh "# Instructions (ns of the lab's clock), by bench/check --update.\n";
	print $fh "# $_\n" for @key;
	printf $fh "%s %d\n", $_, median(closest(@{ $runs{$_} })) for @names;
	close $fh or die "$opt{write}: $!\n";
	print "Wrote $opt{write}\n";
	return 0;
}

sub read_baseline
{
	return undef if !-e $opt{baseline};
	my @lines = lines_of($opt{baseline});
	my @its_key = map { /^# (\w+ .*)/ ? $1 : () } @lines[ 1 .. $#lines ];
	if ("@its_key" ne "@key")
	{
		warn "$opt{baseline} is for another key\n";
		exit 1;
	}
	return { map { /^([^#\s]\S*) (\d+)$/ ? ($1 => $2) : () } @lines };
}

# What is said of a name, and whether it is good.
sub judge
{
	my ($name, $base) = @_;
	my $why = disagreement($name);
	return (0, "$name: $why") if $why;
	my $ns = median(closest(@{ $runs{$name} }));
	return (1, "$name: $ns ns # SKIP no baseline for "
		  . ($base ? 'this operation' : join(', ', @key)))
	  if !$base || !$base->{$name};
	my $change = $ns / $base->{$name} - 1;
	return ($change <= TOLERANCE, sprintf '%s: %d ns, baseline %d, %+.2f %%',
		$name, $ns, $base->{$name}, 100 * $change);
}

sub compare
{
	my $base = read_baseline();
	my ($n, $failed) = (0, 0);
	my @missing = grep { !$runs{$_} } sort keys %{ $base || {} };
	for my $name (@names)
	{
		my ($good, $text) = judge($name, $base);
		printf "%sok %d - %s\n", $good ? '' : 'not ', ++$n, $text;
		$failed++ if !$good;
	}
	for my $name (@missing)
	{
		printf "not ok %d - %s: in the baseline, but not measured\n", ++$n, $name;
		$failed++;
	}
	print "1..$n\n";
	return $failed ? 1 : 0;
}

exit($opt{write} ? write_baseline() : compare());
