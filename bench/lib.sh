# shellcheck shell=bash
# Helpers of bench/demo and bench/measure; sourced, not run. The callers set
# run (the temporary directory), bin (PostgreSQL's programs), transport.
# shellcheck disable=SC2154 # set by the callers: see above

readonly server_user=postgres

die()
{
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

# PostgreSQL refuses root. setpriv opens no PAM session, as runuser would.
readonly switch_user=(setpriv --reuid="$server_user" --regid="$server_user"
    --init-groups --)

as_server()
{
    "${switch_user[@]}" "$@"
}

# A configuration is a kind, and perhaps a variant of it: KIND+VARIANT, a number of
# standbys or a value of pg_fastwake.mode. A variant has the files of its kind.
kind_of()
{
    echo "${1%%+*}"
}

standbys_of()
{
    case $1 in
        local*) echo 0 ;;
        *+[0-9]) echo "${1##*+}" ;;
        *) echo 1 ;;
    esac
}

mode_of()
{
    case $1 in
        *+[a-z]*) echo "${1##*+}" ;;
    esac
}

# The servers of a configuration stand in $run/CONFIG: a primary and, except
# for local commits, its standbys.
servers_of()
{
    local i n
    n=$(standbys_of "$1")
    echo primary
    ((n == 0)) || echo standby
    for ((i = 2; i <= n; i++)); do
        echo "standby$i"
    done
}

# What pg_fastwake.transport is set to on a pair; nothing leaves the default.
wanted_transport()
{
    local kind
    kind=$(kind_of "$1")
    case ${kind%-module} in
        shm | rdma) echo "${kind%-module}" ;;
        fastwake) echo "$transport" ;;
    esac
}

config_label()
{
    case $1 in
        *+[0-9]) echo "$(config_label "$(kind_of "$1")") x ${1##*+}" ;;
        *+*) echo "$(config_label "$(kind_of "$1")"), ${1##*+}" ;;
        local) echo "local commit" ;;
        stock) echo "stock TCP" ;;
        rsockets) echo "rsockets" ;;
        smc) echo "SMC-R" ;;
        fastwake) echo "pg_fastwake" ;;
        *-module) echo "pg_fastwake ${1%-module} + module" ;;
        *) echo "pg_fastwake $1" ;;
    esac
}

# Do its servers wait in the kernel module?
uses_module()
{
    [[ $1 == *-module* ]]
}

# sql PAIR PSQL-ARGUMENT...: on the primary, over its private Unix socket
sql()
{
    local pair=$1
    shift
    as_server "$bin/psql" -XAtq -F '|' -v ON_ERROR_STOP=1 -h "$run/$pair/sock" \
        -p "$(<"$run/$pair/port")" -U postgres -d postgres "$@"
}

show_logs()
{
    tail -n 8 "$run/$1"/*.log >&2
}

server_start()
{
    # shellcheck disable=SC2046 # an option and its value, or nothing
    as_server "$bin/pg_ctl" -s -w -t 120 -D "$1" -l "$1.log" \
        $(peer_program "$1") -o "${server_options-} ${variant_options-}" start </dev/null || {
        tail -n 20 "$1.log" >&2
        die "could not start the server in $1"
    }
}

server_stop()
{
    local mode
    for mode in "$2" immediate; do
        [ -e "$1/postmaster.pid" ] || return 0
        as_server "$bin/pg_ctl" -s -w -t 30 -D "$1" -m "$mode" stop \
            </dev/null >/dev/null 2>&1
    done
    [ ! -e "$1/postmaster.pid" ] || echo "demo: $1 was not stopped" >&2
}

pair_start()
{
    local server variant_options
    variant_options=$(options_of "$1")
    [ -e "$run/$1" ] || ln -s "$(kind_of "$1")" "$run/$1"
    standbys_copy "$1"
    for server in $(servers_of "$1"); do
        server_start "$run/$1/$server"
    done
}

# The options of a variant's servers, beyond their files.
options_of()
{
    local mode n
    mode=$(mode_of "$1")
    n=$(standbys_of "$1")
    [ -z "$mode" ] || echo "-c pg_fastwake.mode=$mode"
    ((n < 2)) || echo "-c synchronous_standby_names='$n (demo)'"
}

# A pair's further standbys are copies of its first, and differ in their ports.
standbys_copy()
{
    local server port
    # Below those that systems give out.
    port=$(($(<"$run/$1/port") - 20000))
    for server in $(servers_of "$1"); do
        [[ $server == standby?* ]] || continue
        port=$((port + 1))
        rm -rf "${run:?}/$1/$server"
        as_server cp -a "$run/$1/standby" "$run/$1/$server"
        sed "s/^port = .*/port = $port/" "$run/$1/standby.conf" >"$run/$1/$server.conf"
        echo "include '$run/$1/$server.conf'" >"$run/$1/$server/postgresql.conf"
    done
}

pair_stop()
{
    local server
    for server in $(servers_of "$1"); do
        server_stop "$run/$1/$server" "$2"
    done
}

stop_all()
{
    local socket
    for socket in "$run"/*/sock; do
        [ ! -d "$socket" ] || pair_stop "$(basename "${socket%/sock}")" "$1"
    done
}

# One line: is the standby synchronous, streaming, over TCP and caught up; what
# is preloaded; is the extension there. Not replay_lsn: a standby that has nothing
# else to say reports it after up to 10 s.
readonly pair_query="select coalesce(string_agg(concat_ws('/', sync_state, state,
    host(client_addr), flush_lsn >= pg_current_wal_flush_lsn()), ' ' order by 1),
    'no standby'), current_setting('shared_preload_libraries'),
    (select count(*) from pg_extension where extname = 'pg_fastwake')
    from pg_stat_replication"

# The view of cores has rows only where the kernel module is used.
readonly view_query="select transport, case when exists
    (select from pg_stat_fastwake_cores) then 'module' else 'no module' end,
    row_to_json(r) from pg_stat_fastwake_replication r where role = 'sender'
    order by pid limit 1"

# What pair_query must answer.
expected_state()
{
    local standby i all=""
    [ "$1" != local ] || { echo 'no standby||0'; return; }
    standby=sync/streaming/$(address_of "$1")/t
    for ((i = $(standbys_of "$1"); i > 0; i--)); do
        all+="$standby "
    done
    if has_fastwake "$1"; then echo "${all% }|pg_fastwake|1"; else echo "${all% }||0"; fi
}

has_fastwake()
{
    [ "$1" != local ] && [[ $1 != stock* ]] && ! is_peer "$1"
}

# Prints the answer of pair_query, and in a second line that of view_query,
# once the standby has caught up.
ask_pair()
{
    local pair=$1 answer tries
    local queries=(-c "$pair_query")
    ! has_fastwake "$pair" || queries+=(-c "$view_query")
    for ((tries = 0; tries < 300; tries++)); do
        answer=$(sql "$pair" "${queries[@]}") || return
        [[ $answer != "$(expected_state "$pair")"* ]] || break
        sleep 0.1
    done
    printf '%s\n' "$answer"
}

# Fails unless the servers are what the row claims; prints the sender's row of
# pg_stat_fastwake_replication as JSON, {} without the extension.
assert_pair()
{
    local pair=$1 state="" view="|no module|{}"
    {
        read -r state
        read -r view
    } < <(ask_pair "$pair")
    [ "$state" = "$(expected_state "$pair")" ] || pair_wrong "$pair" "$state"
    assert_peer "$pair"
    if has_fastwake "$pair"; then
        assert_transport "$pair" "${view%%|*}" "${view#*|*|}"
        assert_module "$pair" "${view#*|}"
        printf '%s\n' "${view#*|*|}"
    else
        echo '{}'
    fi
}

assert_transport()
{
    local want
    want=$(wanted_transport "$1")
    case ${want:-auto}/$2 in
        auto/rdma | auto/shm) ;;
        rdma/rdma | shm/shm | tcp/tcp) ;;
        *) pair_wrong "$1" "transport '$2', wanted '${want:-rdma or shm}': $3" ;;
    esac
}

assert_module()
{
    local want="no module"
    ! uses_module "$1" || want=module
    [ "${2%%|*}" = "$want" ] || pair_wrong "$1" "it has ${2%%|*}, wanted $want"
}

pair_wrong()
{
    show_logs "$1"
    die "servers '$1' are not what the row claims: ${2:-no answer}"
}
