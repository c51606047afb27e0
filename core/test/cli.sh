#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# cli.sh - fastwake(1) as its users call it, with the module where it is loaded
# and without. Run by make test.
set -u
cd "$(dirname "$0")/.." || exit 1
: "${FASTWAKE:=./fastwake}"
count=0
failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

result() { # STATUS NAME
	count=$((count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $count - $2"
	else
		echo "not ok $count - $2"
		sed 's/^/# /' "$work/out" "$work/err" 2>/dev/null
		failed=1
	fi
}

# Run it: status, output and errors are kept.
run() {
	"$FASTWAKE" "$@" >"$work/out" 2>"$work/err"
	status=$?
}

is_status() { # STATUS NAME
	[ "$status" -eq "$1" ]
	result $? "$2: status $1"
}

has() { # FILE PATTERN NAME
	grep -qE -- "$2" "$work/$1"
	result $? "$3"
}

# The output is one JSON value, for which a Perl expression of $j is true.
json() { # EXPRESSION NAME
	perl -MJSON::PP -e 'local $/; my $j = decode_json(<STDIN>);
		exit !(eval($ARGV[0]) // die $@)' "$1" <"$work/out"
	result $? "$2"
}

misuse() { # ARGUMENT...
	run "$@"
	[ "$status" -eq 2 ] && [ ! -s "$work/out" ] &&
		grep -q '^fastwake' "$work/err" && grep -q -- --help "$work/err"
	result $? "bad usage is refused: fastwake $*"
}

usage() {
	run --help
	is_status 0 --help
	for command in $commands; do
		has out "^  $command " "it names $command"
	done
	run --version
	is_status 0 --version
	has out "^fastwake $(cat ../VERSION)\$" "it is the version"
	misuse
	misuse --nonsense
	misuse nonsense
	misuse status --nonsense
	misuse status --json more
	misuse top -n 0
	misuse top -n 1.5
	misuse top -d
	misuse top -d -1
	misuse top nonsense
	misuse bench nonsense
	misuse bench --json handoff nonsense
	misuse bench -n 99
	misuse bench -n many
	misuse run
	misuse run --mode
	misuse run --mode fast true
	misuse run --nonsense true
	misuse run --cores 1- true
	misuse run --cores x true
	"$FASTWAKE" status >/dev/full 2>"$work/err"
	status=$?
	is_status 1 "output that cannot be written"
}

launches() {
	# A sanitizer's runtime cannot be preloaded into programs without it.
	if ldd "$(dirname "$FASTWAKE")/libfastwake-verbs.so" | grep -q 'lib[at]san'; then
		count=$((count + 1))
		echo "ok $count # SKIP run: built with a sanitizer"
		return
	fi
	run run --mode dispatch --stats "$work/stats" -- \
		sh -c 'echo "$FASTWAKE_MODE $FASTWAKE_STATS $LD_PRELOAD"; exit 7'
	is_status 7 "run: the command's status"
	has out "^dispatch $work/stats /.*/libfastwake-verbs.so\$" "its environment"
	[ -e "$work/stats" ] && [ ! -s "$work/stats" ]
	result $? "a program without verbs leaves no statistics"
	run run --cores 0 sh -c 'taskset -cp $$'
	has out 'list: 0$' "it runs on the cores asked for"
	run run "$work/nothing"
	is_status 127 "run: no such command"
	run run "$work"
	is_status 126 "run: it cannot be run"
	LD_PRELOAD=other.so "$FASTWAKE" run printenv LD_PRELOAD >"$work/out" 2>/dev/null
	has out 'libfastwake-verbs.so:other.so$' "others' preloads stay"
}

# What both forms say of a state of the module.
says() { # STATUS STATE TEXT
	run status
	is_status "$1" "status, module $2"
	has out "^module +$3" "it says so"
	run status --json
	is_status "$1" "status --json"
	json "\$j->{module}{state} eq '$2'" "it says so as well"
	json 'ref $j->{devices} eq "ARRAY" && ref $j->{cores} eq "ARRAY"' \
		"devices and cores are there"
}

devices() {
	run status --json
	for path in /sys/class/infiniband/*; do
		[ -e "$path" ] || continue
		name=${path##*/}
		json "grep { \$_->{name} eq '$name' && (\$_->{adapter} || \$_->{reason}) } @{\$j->{devices}}" \
			"device $name is shown with adapter or reason"
		[ -e "$path/parent" ] || continue
		json "grep { \$_->{name} eq '$name' && \$_->{adapter} eq 'rxe' } @{\$j->{devices}}" \
			"$name has the adapter rxe"
	done
}

without_module() {
	says 1 absent 'the module is not loaded'
	has out 'modprobe fastwake' "the remedy is named"
	json '@{$j->{cores}} == 0' "there are no cores"
	run top -n 1
	is_status 1 "top, no module"
	has err 'not loaded; remedy: modprobe fastwake' "it says why"
	run bench
	is_status 1 "bench, no module"
	has err 'not loaded; remedy: modprobe fastwake' "it says why"
}

# As a user without permission, by whom the program can be read.
forbidden() {
	cp "$FASTWAKE" "$work/fastwake" && chmod 755 "$work" "$work/fastwake"
	setpriv --reuid 65534 --regid 65534 --clear-groups \
		"$work/fastwake" status >"$work/out" 2>"$work/err"
	status=$?
	is_status 1 "status, no permission"
	has out '^module +no permission' "it says so"
	has out "remedy: as root: .*usermod -aG $1 nobody" \
		"it names user, group $1 and command"
}

# top's rates while bench waits: what one counts the other shows.
rates() {
	"$FASTWAKE" bench --json -n 50000 own-event >"$work/bench" 2>&1 &
	bench=$!
	seen=0
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		run top -d 0.3 -n 1
		seen=$(awk '/^[0-9]/ { n += $4 } END { print (n > 0) }' "$work/out")
		[ "$seen" = 0 ] || break
	done
	[ "$seen" = 1 ]
	result $? "top shows waits while there are some"
	wait "$bench"
	status=$?
	is_status 0 "bench meanwhile"
}

measures() {
	run bench --json -n 100 own-event handoff
	is_status 0 "bench"
	[ "$(grep -cE '^\{"case": "(own-event|handoff)", "path": "[a-z]+", "n": 100, "p50_us": [0-9.]+, "p99_us": [0-9.]+, "max_us": [0-9.]+\}$' "$work/out")" -eq 7 ] &&
		[ "$(wc -l <"$work/out")" -eq 7 ]
	result $? "seven figures, an object a line"
	has err 'not compared' "none is compared on such a clock"
	grep -q N /sys/module/fastwake/parameters/test_events
	result $? "test events are off again"
	rates
}

with_module() {
	says 0 ready ready
	json '$j->{module}{abi} == 1 && $j->{module}{waiters_max} > 0' \
		"ABI and limits"
	json 'grep { $_ eq "backstop" } @{$j->{module}{features}}' "features"
	json "@{\$j->{cores}} == $(nproc --all)" "all cores are there"
	json '!grep { !defined $_->{polls} || !defined $_->{backstops} } @{$j->{cores}}' \
		"each with its counters"
	run top -d 0.1 -n 3
	is_status 0 "top"
	[ "$(grep -c '^core ' "$work/out")" -eq 3 ] &&
		[ "$(grep -cE '^[0-9]+ ' "$work/out")" -eq $((3 * $(nproc --all))) ]
	result $? "three tables, a line for each core"
	! grep -q "$(printf '\033')" "$work/out"
	result $? "plain, since it is no terminal"
	script -qec "$FASTWAKE top -d 0.1 -n 1" /dev/null >"$work/out" 2>&1 \
		</dev/null
	grep -q "$(printf '\033\[H')" "$work/out"
	result $? "drawn in place on a terminal"
	[ "$(id -u)" -eq 0 ] || return
	measures
	forbidden fastwake # udev's rule is not there: the device is root's
	chgrp daemon /dev/fastwake
	forbidden daemon
	chgrp root /dev/fastwake
}

commands='run status top bench'
usage
launches
devices
if [ -e /dev/fastwake ]; then
	with_module
else
	without_module
fi
echo "1..$count"
exit $failed
