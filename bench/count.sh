# shellcheck shell=bash
# Counts what the servers do between count_begin and count_end: context
# switches from /proc, system calls and signals sent from a private tracefs
# instance each, whose ring buffers count even what they overwrite. Sourced by
# bench/measure; sets counting to "tracefs" or to the reason why not.
# shellcheck disable=SC2154 # run: set by the caller

trace_root="" trace_instances=()
trace_mounted=no
counting="not asked for"

# Each pair of servers has instances of its own, set up once: to change which
# processes an instance follows takes grace periods, seconds on one processor.
# Children are followed from their fork.
count_open()
{
    local pair name
    if trace_find; then
        counting=tracefs
        for pair; do
            for name in syscalls signals; do
                trace_instance "$pair" "$name" ||
                    counting="no tracefs instance could be made"
            done
        done
    fi
    echo "$counting" >"$run/raw/counting"
}

trace_instance()
{
    local directory
    directory=$(trace_directory "$1" "$2")
    # One of a row that was given up is still there.
    [ -d "$directory" ] || mkdir "$directory" || return
    trace_instances+=("$directory")
    echo 0 >"$directory/tracing_on"
    echo 16 >"$directory/buffer_size_kb"
    echo 1 >"$directory/options/event-fork"
    pair_pids "$1" | tr '\n' ' ' >"$directory/set_event_pid"
    case $2 in
        syscalls) echo 1 >"$directory/events/raw_syscalls/sys_enter/enable" ;;
        signals) echo 1 >"$directory/events/signal/signal_generate/enable" ;;
    esac
}

trace_directory()
{
    echo "$trace_root/instances/$(basename "$run").$1.$2"
}

trace_find()
{
    local directory
    [ -z "$trace_root" ] || return 0
    for directory in /sys/kernel/tracing /sys/kernel/debug/tracing; do
        if [ -d "$directory/events/raw_syscalls" ]; then
            trace_root=$directory
            return 0
        fi
    done
    trace_root=$run/tracing
    mkdir -p "$trace_root"
    if mount -t tracefs tracefs "$trace_root" 2>/dev/null; then
        trace_mounted=yes
        [ -d "$trace_root/events/raw_syscalls" ] && return 0
    fi
    trace_root=""
    counting="this kernel has no tracefs with raw_syscalls"
    return 1
}

count_close()
{
    local directory
    for directory in "${trace_instances[@]}"; do
        rmdir "$directory"
    done
    trace_instances=()
}

trace_unmount()
{
    [ $trace_mounted = no ] || umount "$trace_root"
    trace_mounted=no
}

# The postmasters of a pair and their children; threads share their pid.
pair_pids()
{
    local server postmaster
    for server in $(servers_of "$1"); do
        read -r postmaster <"$run/$1/$server/postmaster.pid"
        echo "$postmaster"
        tr ' ' '\n' <"/proc/$postmaster/task/$postmaster/children"
    done | grep .
}

# Sum over the processes given, of those that still exist.
context_switches()
{
    local pid files=()
    for pid; do
        files+=("/proc/$pid/task/"*/status)
    done
    cat "${files[@]}" 2>/dev/null | awk '/ctxt_switches/ { n += $2 } END { print n + 0 }'
}

# Events since the instance was made. entries: still in the buffer; overrun:
# overwritten.
# trace_count PAIR NAME
trace_count()
{
    cat "$(trace_directory "$1" "$2")"/per_cpu/cpu*/stats |
        awk '/^(entries|overrun|commit overrun|dropped events):/ { n += $NF } END { print n + 0 }'
}

# trace_switch PAIR 0-or-1
trace_switch()
{
    [ "$counting" = tracefs ] || return 0
    echo "$2" >"$(trace_directory "$1" syscalls)/tracing_on"
    echo "$2" >"$(trace_directory "$1" signals)/tracing_on"
}

# count_begin PAIR: its clients are all there. The processes are read before
# the clock here and in count_end, so that the time it takes cancels out.
count_begin()
{
    local name
    mapfile -t counted_pids < <(pair_pids "$1")
    counted_before=()
    if [ "$counting" = tracefs ]; then
        for name in syscalls signals; do
            counted_before+=("$(trace_count "$1" $name)")
        done
    fi
    switches_before=$(context_switches "${counted_pids[@]}")
    count_from=${EPOCHREALTIME/[.,]/}
    trace_switch "$1" 1
}

count_end()
{
    switches_after=$(context_switches "${counted_pids[@]}")
    count_to=${EPOCHREALTIME/[.,]/}
    trace_switch "$1" 0
}

# Prints NAME=VALUE lines; times in microseconds since the epoch.
count_print()
{
    echo "from=$count_from"
    echo "to=$count_to"
    echo "processes=${#counted_pids[@]}"
    echo "switches=$((switches_after - switches_before))"
    if [ "$counting" = tracefs ]; then
        echo "syscalls=$(($(trace_count "$1" syscalls) - counted_before[0]))"
        echo "signals=$(($(trace_count "$1" signals) - counted_before[1]))"
    fi
}
