/* pg_fastwake/pg_fastwake--0.1--0.2.sql */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION pg_fastwake UPDATE TO '0.2'" to load this file. \quit

-- Replication connections have more columns, which come last.

DROP VIEW pg_stat_fastwake_replication;
DROP FUNCTION pg_fastwake_replication();

CREATE FUNCTION pg_fastwake_replication(
    OUT role text,
    OUT pid integer,
    OUT application_name text,
    OUT transport text,
    OUT device text,
    OUT local_address text,
    OUT address text,
    OUT qp_num bigint,
    OUT qp_state text,
    OUT sent_bytes bigint,
    OUT sent_messages bigint,
    OUT received_bytes bigint,
    OUT received_messages bigint,
    OUT ring_used bigint,
    OUT ring_size bigint,
    OUT full_waits bigint,
    OUT pinned_bytes bigint,
    OUT stream_ends bigint,
    OUT rtt_p50_us float8,
    OUT rtt_p99_us float8,
    OUT rtt_p999_us float8,
    OUT rtt_max_us float8,
    OUT last_fallback_reason text,
    OUT fallbacks bigint,
    OUT last_fallback timestamptz,
    OUT next_retry timestamptz,
    OUT transport_since timestamptz,
    OUT rtt_count bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_fastwake_replication_0_2'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pg_stat_fastwake_replication AS
    SELECT * FROM pg_fastwake_replication();

CREATE FUNCTION pg_fastwake_buckets(
    OUT name text,
    OUT labels jsonb,
    OUT bucket_le_ns bigint,
    OUT count bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_fastwake_histogram_0_2'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pg_fastwake_histogram AS SELECT * FROM pg_fastwake_buckets();

CREATE FUNCTION pg_fastwake_cores(
    OUT core integer,
    OUT waiters integer,
    OUT polls bigint,
    OUT hits bigint,
    OUT switches bigint,
    OUT backstops bigint,
    OUT parked bigint,
    OUT events bigint,
    OUT events_here bigint,
    OUT moves bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_fastwake_cores_0_2'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pg_stat_fastwake_cores AS SELECT * FROM pg_fastwake_cores();

COMMENT ON FUNCTION pg_fastwake_replication() IS 'Replication connections that have negotiated a transport';
COMMENT ON VIEW pg_stat_fastwake_replication IS 'Replication connections that have negotiated a transport, on either side';
COMMENT ON FUNCTION pg_fastwake_buckets() IS 'Histograms of wake-up latency and round trips: cumulative buckets';
COMMENT ON VIEW pg_fastwake_histogram IS 'Histograms of wake-up latency and round trips: cumulative buckets, bounds included';
COMMENT ON FUNCTION pg_fastwake_cores() IS 'Cores, as the kernel module counts on them';
COMMENT ON VIEW pg_stat_fastwake_cores IS 'Cores, as the kernel module counts on them for all who use it; no row without the module';

COMMENT ON COLUMN pg_stat_fastwake.version IS 'Version of the loaded library';
COMMENT ON COLUMN pg_stat_fastwake.enabled IS 'Setting pg_fastwake.enabled';
COMMENT ON COLUMN pg_stat_fastwake.interposed IS 'Waits of this server can be FastWake waits, and it can send WAL over a channel';
COMMENT ON COLUMN pg_stat_fastwake.module IS 'The kernel module is in use';
COMMENT ON COLUMN pg_stat_fastwake.transport IS 'Setting pg_fastwake.transport';
COMMENT ON COLUMN pg_stat_fastwake.mode IS 'Setting pg_fastwake.mode';
COMMENT ON COLUMN pg_stat_fastwake.signals_saved IS 'Latch signals that became wake-ups in memory';
COMMENT ON COLUMN pg_stat_fastwake.signals_sent IS 'Latch signals sent as signals';
COMMENT ON COLUMN pg_stat_fastwake.fallbacks IS 'Streams that went to TCP because a channel failed';
COMMENT ON COLUMN pg_stat_fastwake.last_fallback IS 'Time of the last of them';
COMMENT ON COLUMN pg_stat_fastwake.last_fallback_reason IS 'Reason of the last of them';
COMMENT ON COLUMN pg_stat_fastwake.failures IS 'Failures of channels to the upstream server in a row';
COMMENT ON COLUMN pg_stat_fastwake.next_retry IS 'A connection to the upstream server does not ask for a channel before';
COMMENT ON COLUMN pg_stat_fastwake.stats_reset IS 'Time of the last reset of statistics, or of the server''s start';

COMMENT ON COLUMN pg_stat_fastwake_replication.role IS 'sender (walsender) or receiver (walreceiver)';
COMMENT ON COLUMN pg_stat_fastwake_replication.pid IS 'Process that serves the connection';
COMMENT ON COLUMN pg_stat_fastwake_replication.application_name IS 'Name of the standby, the same on both sides';
COMMENT ON COLUMN pg_stat_fastwake_replication.transport IS 'rdma, shm or tcp; null while it is being negotiated';
COMMENT ON COLUMN pg_stat_fastwake_replication.device IS 'RDMA device; memfd for shm';
COMMENT ON COLUMN pg_stat_fastwake_replication.local_address IS 'Own RDMA address';
COMMENT ON COLUMN pg_stat_fastwake_replication.address IS 'RDMA address of the peer';
COMMENT ON COLUMN pg_stat_fastwake_replication.qp_num IS 'Number of the RDMA queue pair';
COMMENT ON COLUMN pg_stat_fastwake_replication.qp_state IS 'State of the queue pair (RTS: usable); OPEN or CLOSED for shm';
COMMENT ON COLUMN pg_stat_fastwake_replication.sent_bytes IS 'Bytes of messages put into the peer''s ring';
COMMENT ON COLUMN pg_stat_fastwake_replication.sent_messages IS 'Messages put into the peer''s ring';
COMMENT ON COLUMN pg_stat_fastwake_replication.received_bytes IS 'Bytes of messages taken from the own ring';
COMMENT ON COLUMN pg_stat_fastwake_replication.received_messages IS 'Messages taken from the own ring';
COMMENT ON COLUMN pg_stat_fastwake_replication.ring_used IS 'Bytes of the peer''s ring that it has not released yet';
COMMENT ON COLUMN pg_stat_fastwake_replication.ring_size IS 'Size of the peer''s ring';
COMMENT ON COLUMN pg_stat_fastwake_replication.full_waits IS 'How often the peer''s ring had no room for a message';
COMMENT ON COLUMN pg_stat_fastwake_replication.pinned_bytes IS 'Memory pinned or mapped for the rings';
COMMENT ON COLUMN pg_stat_fastwake_replication.stream_ends IS 'Streams that have ended on this connection';
COMMENT ON COLUMN pg_stat_fastwake_replication.rtt_p50_us IS 'Median round trip in microseconds: from sending WAL to the report that it is written';
COMMENT ON COLUMN pg_stat_fastwake_replication.rtt_p99_us IS '99 % of the round trips took no longer';
COMMENT ON COLUMN pg_stat_fastwake_replication.rtt_p999_us IS '99.9 % of the round trips took no longer';
COMMENT ON COLUMN pg_stat_fastwake_replication.rtt_max_us IS 'The longest round trip';
COMMENT ON COLUMN pg_stat_fastwake_replication.last_fallback_reason IS 'Why this connection uses TCP, else why the peer''s last fallback took place';
COMMENT ON COLUMN pg_stat_fastwake_replication.fallbacks IS 'Streams with this peer that went to TCP because a channel failed';
COMMENT ON COLUMN pg_stat_fastwake_replication.last_fallback IS 'Time of the last of them';
COMMENT ON COLUMN pg_stat_fastwake_replication.next_retry IS 'Receiver: a connection does not ask for a channel before';
COMMENT ON COLUMN pg_stat_fastwake_replication.transport_since IS 'When the transport was agreed on';
COMMENT ON COLUMN pg_stat_fastwake_replication.rtt_count IS 'Round trips measured';

COMMENT ON COLUMN pg_stat_fastwake_waits.class IS 'Who waits: sync_commit, walsender, walreceiver, startup';
COMMENT ON COLUMN pg_stat_fastwake_waits.mode IS 'How: memory (polls, then a futex) or descriptor (epoll)';
COMMENT ON COLUMN pg_stat_fastwake_waits.waits IS 'Waits';
COMMENT ON COLUMN pg_stat_fastwake_waits.switches IS 'Waits that slept in the kernel';
COMMENT ON COLUMN pg_stat_fastwake_waits.spurious IS 'Waits that ended with nothing to do';
COMMENT ON COLUMN pg_stat_fastwake_waits.parks IS 'Waits in memory that were given up for descriptors';
COMMENT ON COLUMN pg_stat_fastwake_waits.wakeup_p50_us IS 'Median time in microseconds from the wake-up until the sleeper runs';
COMMENT ON COLUMN pg_stat_fastwake_waits.wakeup_p99_us IS '99 % of the wake-ups took no longer';
COMMENT ON COLUMN pg_stat_fastwake_waits.wakeup_p999_us IS '99.9 % of the wake-ups took no longer';
COMMENT ON COLUMN pg_stat_fastwake_waits.wakeup_max_us IS 'The longest wake-up';

COMMENT ON COLUMN pg_stat_fastwake_cores.core IS 'Number of the CPU';
COMMENT ON COLUMN pg_stat_fastwake_cores.waiters IS 'Threads that wait there now';
COMMENT ON COLUMN pg_stat_fastwake_cores.polls IS 'Looks at the words of all of the core''s waiters';
COMMENT ON COLUMN pg_stat_fastwake_cores.hits IS 'Waits ended by the waiter''s own look at its words';
COMMENT ON COLUMN pg_stat_fastwake_cores.switches IS 'Waits that gave up the core';
COMMENT ON COLUMN pg_stat_fastwake_cores.backstops IS 'Looks by the timer, while others use the core';
COMMENT ON COLUMN pg_stat_fastwake_cores.parked IS 'Waits that used up their budget, to go on elsewhere';
COMMENT ON COLUMN pg_stat_fastwake_cores.events IS 'Interrupts of completion queues that ended waits of threads there';
COMMENT ON COLUMN pg_stat_fastwake_cores.events_here IS 'Of these, interrupts of that core';
COMMENT ON COLUMN pg_stat_fastwake_cores.moves IS 'Threads that came there after an interrupt of that core had found them elsewhere';

COMMENT ON COLUMN pg_fastwake_histogram.name IS 'What is measured: pg_fastwake_wakeup or pg_fastwake_rtt';
COMMENT ON COLUMN pg_fastwake_histogram.labels IS 'Of what: class and mode, or application_name, transport and pid';
COMMENT ON COLUMN pg_fastwake_histogram.bucket_le_ns IS 'Bound of the bucket in nanoseconds, included; the last one stands for none';
COMMENT ON COLUMN pg_fastwake_histogram.count IS 'How many values were at most that long';

REVOKE ALL ON FUNCTION pg_fastwake_replication() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_fastwake_buckets() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_fastwake_cores() FROM PUBLIC;
REVOKE ALL ON pg_stat_fastwake_replication, pg_stat_fastwake_cores, pg_fastwake_histogram FROM PUBLIC;

GRANT EXECUTE ON FUNCTION pg_fastwake_replication() TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_fastwake_buckets() TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_fastwake_cores() TO pg_monitor;
GRANT SELECT ON pg_stat_fastwake_replication, pg_stat_fastwake_cores, pg_fastwake_histogram TO pg_monitor;
