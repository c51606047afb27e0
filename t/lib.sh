# shellcheck shell=bash
# What t/run and t/in_lab share: where PostgreSQL is, how its tests are run.

pg_bin=$(pg_config --bindir)
pg_lib=$(pg_config --pkglibdir)
pgxs_dir=$(dirname "$(dirname "$(dirname "$(pg_config --pgxs)")")")
export pg_bin pg_lib pgxs_dir

# prove, as the postgres user, with what pgxs' prove_installcheck sets.
# $1: work directory (inst/, src/); $2: where clusters and logs go; then
# prove's arguments.
prove_as_postgres()
{
    local work=$1 out=$2
    shift 2
    mkdir -p "$out/tmp_check/log"
    chown postgres "$out" "$out/tmp_check" "$out/tmp_check/log"
    (cd "$work/src" && runuser -u postgres -- env \
        PATH="${FW_PATH_FIRST:+$FW_PATH_FIRST:}$pg_bin:$PATH" \
        HOME="$out" TESTDIR="$out" TESTDATADIR="$out/tmp_check" \
        TESTLOGDIR="$out/tmp_check/log" PGPORT=65432 LC_ALL=C.UTF-8 \
        PG_REGRESS="$pgxs_dir/src/test/regress/pg_regress" \
        FW_DESTDIR="$work/inst" FW_PKGLIBDIR="$pg_lib" \
        FW_TRANSPORT="$FW_TRANSPORT" FW_TEMPLATE="${FW_TEMPLATE-}" \
        FW_LINK_CTL="${FW_LINK_CTL-}" FW_DISK="${FW_DISK-}" \
        FW_CHAOS_DURATION="${FW_CHAOS_DURATION-}" FW_CHAOS_SEED="${FW_CHAOS_SEED-}" \
        FW_CHAOS_CLIENTS="${FW_CHAOS_CLIENTS-}" FW_CHAOS_RATE="${FW_CHAOS_RATE-}" \
        FW_CHAOS_BREAK="${FW_CHAOS_BREAK-}" FW_VALGRIND="${FW_VALGRIND-}" \
        PG_TEST_TIMEOUT_DEFAULT="${PG_TEST_TIMEOUT_DEFAULT:-180}" \
        prove -v -I t -I "$pgxs_dir/src/test/perl" "$@")
}

# A stand-in for initdb in directory $1, which copies the template made on the host.
copy_template_by_initdb()
{
    mkdir -p "$1"
    cat >"$1/initdb" <<'END'
#!/bin/sh
while [ "$1" != -D ]; do shift; done
mkdir -p "$2" && cp -a "$FW_TEMPLATE/." "$2" && chmod 700 "$2"
END
    chmod 755 "$1/initdb"
}

# One file, its output shown whole when it has ended: several run at a time.
# What a failed one wrote to its own log, as why it died, is shown too.
prove_one()
{
    local work=$1 out=$2 file=$3 log status name
    log=$(mktemp)
    prove_as_postgres "$work" "$out" --timer "$file" >"$log" 2>&1
    status=$?
    if ((status != 0)); then
        name=$(basename "$file" .pl)
        tail -n 100 "$out/tmp_check/log/regress_log_$name" | sed 's/^/# /' >>"$log"
    fi
    flock "$out" cat "$log"
    rm -f "$log"
    return $status
}

# Files, JOBS at a time, begun in this order.  What they do most is wait: for
# timeouts, and for servers.
prove_files()
{
    local jobs=$1 work=$2 out=$3
    shift 3
    mkdir -p "$out"
    export -f prove_as_postgres prove_one
    export FW_TRANSPORT
    printf '%s\0' "$@" |
        xargs -0 -n 1 -P "$jobs" bash -c 'prove_one "$@"' prove_one "$work" "$out"
}
