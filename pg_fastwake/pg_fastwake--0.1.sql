/* pg_fastwake/pg_fastwake--0.1.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pg_fastwake" to load this file. \quit

CREATE FUNCTION pg_fastwake_status(
    OUT version text,
    OUT enabled boolean,
    OUT interposed boolean,
    OUT module boolean,
    OUT transport text,
    OUT mode text,
    OUT signals_saved bigint,
    OUT signals_sent bigint,
    OUT fallbacks bigint,
    OUT last_fallback timestamptz,
    OUT last_fallback_reason text,
    OUT failures integer,
    OUT next_retry timestamptz,
    OUT stats_reset timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_fastwake_status_0_1'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pg_stat_fastwake AS SELECT * FROM pg_fastwake_status();

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
    OUT last_fallback_reason text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_fastwake_replication_0_1'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pg_stat_fastwake_replication AS
    SELECT * FROM pg_fastwake_replication();

CREATE FUNCTION pg_fastwake_waits(
    OUT class text,
    OUT mode text,
    OUT waits bigint,
    OUT switches bigint,
    OUT spurious bigint,
    OUT parks bigint,
    OUT wakeup_p50_us float8,
    OUT wakeup_p99_us float8,
    OUT wakeup_p999_us float8,
    OUT wakeup_max_us float8)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_fastwake_waits_0_1'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pg_stat_fastwake_waits AS SELECT * FROM pg_fastwake_waits();

CREATE FUNCTION pg_fastwake_reset()
RETURNS void
AS 'MODULE_PATHNAME', 'pg_fastwake_reset'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION pg_fastwake_status() IS 'What pg_fastwake does on this server';
COMMENT ON VIEW pg_stat_fastwake IS 'What pg_fastwake does on this server: one row';
COMMENT ON FUNCTION pg_fastwake_replication() IS 'Replication connections that have negotiated a transport';
COMMENT ON VIEW pg_stat_fastwake_replication IS 'Replication connections that have negotiated a transport, on either side';
COMMENT ON FUNCTION pg_fastwake_waits() IS 'Waits by class and way of waiting';
COMMENT ON VIEW pg_stat_fastwake_waits IS 'Waits by class and way of waiting, with wake-up latency';
COMMENT ON FUNCTION pg_fastwake_reset() IS 'Resets the statistics of pg_fastwake';

REVOKE ALL ON FUNCTION pg_fastwake_status() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_fastwake_replication() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_fastwake_waits() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_fastwake_reset() FROM PUBLIC;
REVOKE ALL ON pg_stat_fastwake, pg_stat_fastwake_replication, pg_stat_fastwake_waits FROM PUBLIC;

GRANT EXECUTE ON FUNCTION pg_fastwake_status() TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_fastwake_replication() TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_fastwake_waits() TO pg_monitor;
GRANT SELECT ON pg_stat_fastwake, pg_stat_fastwake_replication, pg_stat_fastwake_waits TO pg_monitor;
