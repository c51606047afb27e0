# shellcheck shell=bash
# What bench/src/work.c, the plugin of QEMU, is to count: it is told by running
# bench/src/mark before and after. Sourced by bench/measure, after count.sh.
# shellcheck disable=SC2154 # run, here, settle, window: set by the caller

# work_together CONFIG...: raw/windows says what each window is
work_together()
{
    local config
    for_each_cell "$*" work_cell
    for config; do
        fastwake_code "$config" >"$run/raw/$config.code"
        cat /proc/kallsyms >"$run/raw/$config.kallsyms"
    done
}

mark()
{
    "$here/src/build/mark"
}

# Nothing is traced meanwhile.
# work_cell CONFIG LEVEL CLIENTS
work_cell()
{
    local directory=$run/raw/$1.$2.$3/work
    progress work "$@"
    make_directory "$directory"
    start_pgbench "$directory" "$@" -T 20
    renice -n -19 -p "$BASHPID" >/dev/null
    wait_for_clients "$1" "$3"
    sleep "$settle"
    mark
    sleep "$window"
    mark
    finish_pgbench "$directory"
    renice -n 0 -p "$BASHPID" >/dev/null
    echo "$*" >>"$run/raw/windows"
    done_cells=$((done_cells + 1))
    progress work "$@" counted
}

# Where pg_fastwake's own code is in the servers' processes: START-END, as norandmaps
# leaves it.
fastwake_code()
{
    local server postmaster
    for server in $(servers_of "$1"); do
        read -r postmaster <"$run/$1/$server/postmaster.pid"
        awk '$2 ~ /x/ && $6 ~ /pg_fastwake/ { print $1 }' "/proc/$postmaster/maps"
    done
}
