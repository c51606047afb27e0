# shellcheck shell=bash
# Other ways to send WAL over RDMA, to compare with: rsockets, which carry the
# replication connection of unmodified servers. Sourced by bench/demo and
# bench/measure; only in the lab, since it changes the servers' files.
# shellcheck disable=SC2154 # run, bin: set by the caller

readonly rsockets_preload=/usr/lib/x86_64-linux-gnu/rsocket/librspreload.so

is_peer()
{
    [ "$1" = rsockets ]
}

# peer_prepare PAIR: its servers shall talk over the RDMA device. Queue pairs
# cannot be inherited by a fork: with RDMAV_FORK_SAFE librspreload connects by
# TCP and changes to rsockets in the process that first uses a connection.
peer_prepare()
{
    is_peer "$1" || return 0
    sed -i 's/127\.0\.0\.1/10.9.0.1/g' "$run/$1"/*.conf "$run/$1"/*/pg_hba.conf
    cat >"$run/$1/postgres" <<END
#!/bin/sh
export RDMAV_FORK_SAFE=1
export LD_PRELOAD=$run/bench/src/build/epoll_shim.so:$rsockets_preload
exec $bin/postgres "\$@"
END
    chmod 755 "$run/$1/postgres"
    peer_address=10.9.0.1
}

# What pg_ctl starts in the place of PostgreSQL for the server in DIRECTORY.
peer_program()
{
    local program
    program=$(dirname "$1")/postgres
    [ ! -x "$program" ] || echo "-p $program"
}

# Is the stream really there? Nobody else has queue pairs here. Of the two, the
# kernel names the owner of one only.
assert_peer()
{
    local pairs
    is_peer "$1" || return 0
    pairs=$(rdma resource show qp | grep -c 'type RC state RTS ')
    ((pairs >= 2)) || rdma resource show qp >&2
    ((pairs >= 2)) || pair_wrong "$1" "$pairs connected queue pairs: it is TCP"
}
