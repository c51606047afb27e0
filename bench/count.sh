# shellcheck shell=bash
# Counts what the servers do between count_begin and count_end: context
# switches from /proc, system calls and signals sent from a private tracefs
# instance each, whose ring buffers count even what they overwrite. Sourced by
# bench/measure; sets counting to "tracefs" or to the reason why not.
# shellcheck disable=SC2154 # run: set by the caller

trace_directory=""
trace_mounted=no
counting="not asked for"

count_open()
{
    local name
    trace_find || return 0
    for name in syscalls signals; do
        mkdir "$trace_directory/instances/$(trace_name $name)" || {
            counting="no tracefs instance could be made"
            return 0
        }
        echo 0 >"$(trace_file $name tracing_on)"
        echo 16 >"$(trace_file $name buffer_size_kb)"
    done
    counting=tracefs
}

trace_find()
{
    local directory
    for directory in /sys/kernel/tracing /sys/kernel/debug/tracing; do
        if [ -d "$directory/events/raw_syscalls" ]; then
            trace_directory=$directory
            return 0
        fi
    done
    trace_directory=$run/tracing
    mkdir -p "$trace_directory"
    if mount -t tracefs tracefs "$trace_directory" 2>/dev/null; then
        trace_mounted=yes
        [ -d "$trace_directory/events/raw_syscalls" ] && return 0
    fi
    counting="this kernel has no tracefs with raw_syscalls"
    return 1
}

trace_name()
{
    echo "$(basename "$run").$1"
}

trace_file()
{
    echo "$trace_directory/instances/$(trace_name "$1")/${2-}"
}

trace_events()
{
    echo "$1" >"$(trace_file syscalls events/raw_syscalls/sys_enter/enable)"
    echo "$1" >"$(trace_file signals events/signal/signal_generate/enable)"
}

count_close()
{
    local name
    [ -n "$trace_directory" ] || return 0
    for name in syscalls signals; do
        [ ! -d "$(trace_file "$name")" ] || rmdir "$(trace_file $name)"
    done
    [ $trace_mounted = no ] || umount "$trace_directory"
    trace_directory=""
}

# The postmasters of a pair and their children; threads share their pid.
pair_pids()
{
    local server postmaster
    for server in primary standby; do
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

# entries: still in the buffer; overrun: overwritten since it was cleared
trace_count()
{
    cat "$(trace_file "$1" per_cpu)"/cpu*/stats |
        awk '/^(entries|overrun|commit overrun|dropped events):/ { n += $NF } END { print n + 0 }'
}

trace_begin()
{
    local name
    [ "$counting" = tracefs ] || return 0
    for name in syscalls signals; do
        : >"$(trace_file $name trace)"
        echo "${counted_pids[*]}" >"$(trace_file $name set_event_pid)"
        echo 1 >"$(trace_file $name tracing_on)"
    done
}

# Prints NAME=VALUE lines.
trace_end()
{
    local name
    [ "$counting" = tracefs ] || return 0
    for name in syscalls signals; do
        echo 0 >"$(trace_file $name tracing_on)"
    done
    for name in syscalls signals; do
        echo "$name=$(trace_count $name)"
        : >"$(trace_file $name set_event_pid)"
    done
}

count_begin()
{
    counted_pids=("$@")
    switches_before=$(context_switches "${counted_pids[@]}")
    count_from=${EPOCHREALTIME/[.,]/}
    trace_begin
}

# Prints NAME=VALUE lines; times in microseconds since the epoch. The processes
# are read before the clock here and in count_begin, so that the time it takes
# cancels out.
count_end()
{
    local switches_after
    switches_after=$(context_switches "${counted_pids[@]}")
    echo "to=${EPOCHREALTIME/[.,]/}"
    trace_end
    echo "from=$count_from"
    echo "switches=$((switches_after - switches_before))"
    echo "processes=${#counted_pids[@]}"
}
