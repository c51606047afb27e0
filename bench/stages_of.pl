#!/usr/bin/perl
# From the trace of QEMU's plugin (bench/src/stages.c): where the time goes from a
# completion's entry in the queue until the code that waited for it goes on.
# usage: stages_of.pl TRACE <OUTPUT-OF-PINGPONG
#
# Pingpong's output says in which order the ways to wait were run.  Prints JSON, an
# object a line.

use strict;
use warnings;

# Reaching a point ends a stage and begins another: [stages before, point, stage].
# A stage of "*" is any.
my @rules = (
	[ 'rest',      'try_to_wake_up',            'softirqd' ],
	[ 'softirqd',  'try_to_wake_up:ret',        'rest' ],
	[ 'rest',      'rxe_send_complete',         'handler' ],
	[ 'handler',   'try_to_wake_up',            'wake-up' ],
	[ 'wake-up',   'try_to_wake_up:ret',        'sender' ],
	[ 'rest',      'syscall_exit_to_user_mode', 'sender' ],
	[ 'sender',    '__schedule',                'scheduler' ],
	[ 'scheduler', 'finish_wait',               'uverbs' ],
	[ 'uverbs',    'syscall_exit_to_user_mode', 'return' ],
	[ 'scheduler', 'user:take_one',             'look' ],
	[ 'scheduler', 'user:arm',                  'arming' ],
	[ 'sender',    'user:arm',                  'arming' ],
	[ 'return',    'user:arm',                  'arming' ],
	[ 'arming',    'user:take_one',             'look' ],
	[ 'return',    'user:take_one',             'look' ],
	[ 'sender',    'user:take_one',             'look' ],
	# Polling: the sender has looked in vain, and gives way.
	[ 'look',      '__schedule',                'scheduler' ]);
my %next;
$next{ $_->[0] }{ $_->[1] } = $_->[2] for @rules;

my %text = (
	rest     => 'rxe: rest of the message, acknowledgement',
	softirqd => 'soft interrupt raised: ksoftirqd woken',
	handler  => 'completion handler: uverbs notes the event',
	'wake-up' => 'wake-up (try_to_wake_up)',
	sender    => 'way out: of the soft interrupt, of the sender\'s system call',
	scheduler => 'scheduler, until the waiter runs',
	uverbs    => 'uverbs and VFS: the event is read',
	return    => 'system call return, ibv_get_cq_event',
	arming    => 'arming for the next one (system call)',
	look      => 'ibv_poll_cq');
my @order = qw(rest softirqd handler wake-up sender scheduler uverbs return
  arming look);

# A chain of a completion nobody slept for has no handler in it.
sub chains
{
	my ($events) = @_;
	my (@chains, $chain);
	for my $event (@$events)
	{
		my ($at, $name) = @$event;
		if ($name eq 'rxe_cq_post')
		{
			$chain = { from => $at, last => $at, stage => 'rest' };
			next;
		}
		next if !$chain;
		my $done = $name eq 'user:post_receive';
		my $stage = $done ? '' : $next{ $chain->{stage} }{$name};
		next if !defined $stage;
		$chain->{ns}{ $chain->{stage} } += $at - $chain->{last};
		@$chain{qw(last stage)} = ($at, $stage);
		next if !$done;
		$chain->{total} = $at - $chain->{from};
		push @chains, $chain;
		$chain = undef;
	}
	return @chains;
}

sub median { return (sort { $a <=> $b } @_)[ $#_ / 2 ] }

# The program's begin is at "main"; a tenth is warming up.
sub segments
{
	my ($path) = @_;
	my @segments;
	open my $fh, '<', $path or die "$path: $!\n";
	while (<$fh>)
	{
		my ($at, $name) = split;
		if ($name eq 'user:main') { push @segments, []; next }
		push @{ $segments[-1] }, [ $at, $name ] if @segments;
	}
	close $fh;
	return @segments;
}

my @segments = segments($ARGV[0]);
my @lines = grep { /"path"/ } <STDIN>;
my @labels = map { /"path": "([^"]+)"/ ? $1 : () } @lines;
die "stages_of.pl: " . @segments . " runs traced, " . @labels . " were made\n"
  if @segments != @labels || !@labels;
for my $i (0 .. $#labels)
{
	if ($lines[$i] =~ /"failed": "([^"]+)"/)
	{
		warn "stages_of.pl: $labels[$i] failed: $1\n";
		next;
	}
	my @chains = chains($segments[$i]);
	@chains = grep { $_->{ns}{'wake-up'} } @chains if $labels[$i] eq 'event';
	splice @chains, 0, @chains / 10;
	die "stages_of.pl: $labels[$i]: no completion was traced\n" if !@chains;
	my $sum = 0;
	for my $stage (@order)
	{
		my $ns = median(map { $_->{ns}{$stage} || 0 } @chains);
		$sum += $ns;
		printf qq({"path": "%s", "stage": "%s", "what": "%s", "ns": %d}\n),
		  $labels[$i], $stage, $text{$stage}, $ns
		  if $ns > 0;
	}
	printf qq({"path": "%s", "stage": "total", "what": "total", "ns": %d,)
	  . qq( "n": %d, "sum_of_medians": %d}\n), $labels[$i],
	  median(map { $_->{total} } @chains), scalar @chains, $sum;
}
