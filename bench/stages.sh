# shellcheck shell=bash
# Records what happens within some commits, for the stage breakdown: switches,
# wake-ups and system calls of all processes, in a private tracefs instance.
# Sourced by bench/measure, after count.sh.
# shellcheck disable=SC2154 # run, window: set by the caller

# trace_cell CONFIG LEVEL CLIENTS: raw/.../trace, raw/.../processes
trace_cell()
{
    local directory=$run/raw/$1.$2.$3/stages instance
    progress tracing "$@"
    make_directory "$directory"
    trace_find || die "$counting"
    instance=$trace_root/instances/$(basename "$run").stages
    trace_make "$instance" || die "no tracefs instance could be made"
    start_pgbench "$directory" "$@" -T 20
    wait_for_clients "$1" "$3"
    sleep 0.3
    trace_names "$1" >"$directory/processes"
    echo 1 >"$instance/tracing_on"
    sleep "$stages_window"
    echo 0 >"$instance/tracing_on"
    finish_pgbench "$directory"
    cat "$instance/trace" >"$directory/trace"
    rmdir "$instance"
    done_cells=$((done_cells + 1))
    progress tracing "$@" traced
}

trace_make()
{
    local event
    mkdir "$1" || return
    echo 0 >"$1/tracing_on"
    echo 16384 >"$1/buffer_size_kb"
    for event in sched/sched_switch sched/sched_waking raw_syscalls/sys_enter \
        raw_syscalls/sys_exit; do
        echo 1 >"$1/events/$event/enable"
    done
}

# PID SERVER TITLE of the servers' processes. No program is started: among 100
# busy clients each would wait for the processor.
trace_names()
{
    local server pid postmaster children title
    for server in $(servers_of "$1"); do
        read -r postmaster <"$run/$1/$server/postmaster.pid"
        read -ra children <"/proc/$postmaster/task/$postmaster/children"
        for pid in "$postmaster" "${children[@]}"; do
            read -r -d '' title <"/proc/$pid/cmdline"
            printf '%s %s %s\n' "$pid" "$server" "$title"
        done
    done
}
