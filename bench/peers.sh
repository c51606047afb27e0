# shellcheck shell=bash
# Other ways to send WAL over RDMA, to compare with, which carry the replication
# connection of unmodified servers: rsockets, and SMC-R. Sourced by bench/demo and
# bench/measure; only in the lab, since it changes the servers' files.
# shellcheck disable=SC2154 # run, bin: set by the caller

readonly rsockets_preload=/usr/lib/x86_64-linux-gnu/rsocket/librspreload.so

is_peer()
{
    [ "$1" = rsockets ] || [ "$1" = smc ]
}

# Where the servers of a pair listen.
address_of()
{
    case $1 in
        rsockets) echo 10.9.0.1 ;;
        smc) echo 10.9.3.1 ;;
        *) echo 127.0.0.1 ;;
    esac
}

# peer_prepare PAIR: its servers shall talk over the RDMA device.
peer_prepare()
{
    is_peer "$1" && [ ! -e "$run/$1/postgres" ] || return 0
    sed -i "s/127\\.0\\.0\\.1/$(address_of "$1")/g" "$run/$1"/*.conf \
        "$run/$1"/*/pg_hba.conf
    "${1}_prepare" >"$run/$1/postgres.new" || die "could not set up $1"
    chmod 755 "$run/$1/postgres.new"
    mv "$run/$1/postgres.new" "$run/$1/postgres"
}

# Prints what is to be started in the place of PostgreSQL. Queue pairs cannot be
# inherited by a fork: with RDMAV_FORK_SAFE librspreload connects by TCP and changes
# to rsockets in the process that first uses a connection.
rsockets_prepare()
{
    cat <<END
#!/bin/sh
export RDMAV_FORK_SAFE=1
export LD_PRELOAD=$run/bench/src/build/epoll_shim.so:$rsockets_preload
exec $bin/postgres "\$@"
END
}

# On one host the way to itself is "lo", and SMC (its second version: rxe has no
# GIDs of the first one's kind) puts no MAC address into its proposal, so that the
# other end addresses its messages to 0: to "lo", where rxe0, which is not there,
# never sees them. Hence an RDMA device of its own there.
smc_prepare()
{
    local tries
    insmod "$run/smc/smc.ko" && insmod "$run/smc/smc_diag.ko" &&
        ip address add "$(address_of smc)/24" dev lo &&
        rdma link add rxe1 type rxe netdev lo || return
    # GIDs are made by a kernel worker.
    for ((tries = 0; tries < 200; tries++)); do
        ! grep -q 'ffff:0a09:0301' /sys/class/infiniband/rxe1/ports/1/gids/? || break
        sleep 0.02
    done
    "$run/bench/src/build/smc" setup lo rxe1 || return
    cat <<END
#!/bin/sh
export LD_PRELOAD=$run/bench/src/build/smc_shim.so
exec $bin/postgres "\$@"
END
}

# What pg_ctl starts in the place of PostgreSQL for the server in DIRECTORY.
peer_program()
{
    local program
    program=$(dirname "$1")/postgres
    [ ! -x "$program" ] || echo "-p $program"
}

# Is the stream really there, and not on TCP?
assert_peer()
{
    ! is_peer "$1" || "${1}_assert"
}

# Nobody else has queue pairs here. Of the two, the kernel names the owner of one only.
rsockets_assert()
{
    local pairs
    pairs=$(rdma resource show qp | grep -c 'type RC state RTS ')
    ((pairs >= 2)) || rdma resource show qp >&2
    ((pairs >= 2)) || pair_wrong rsockets "$pairs connected queue pairs: it is TCP"
}

# Both ends of the one connection, by smc_diag.
smc_assert()
{
    local said
    said=$("$run/bench/src/build/smc" connections)
    [ "${said##*$'\n'}" = "SMC-R 2 TCP 0" ] || pair_wrong smc "smc_diag says: $said"
}
