-- Shape of the views.  No figure that depends on time is shown.
CREATE EXTENSION pg_fastwake;

SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
 WHERE c.relname LIKE 'pg_%fastwake%' AND c.relkind = 'v' AND a.attnum > 0
 ORDER BY c.relname, a.attnum;

-- one row; defaults, and nothing has gone wrong
SELECT version ~ '^\d+\.\d+\.\d+$' AS has_version, enabled, interposed,
       module IS NOT NULL AS knows_module, transport, mode,
       signals_saved >= 0 AND signals_sent >= 0 AS has_signals,
       fallbacks, last_fallback, last_fallback_reason, failures, next_retry,
       stats_reset <= now() AS has_reset
  FROM pg_stat_fastwake;

-- the version is the extension's
SELECT version LIKE extversion || '.%' AS same_version
  FROM pg_stat_fastwake, pg_extension WHERE extname = 'pg_fastwake';

-- no replication here
SELECT * FROM pg_stat_fastwake_replication;

SELECT class, mode,
       waits >= greatest(switches, spurious) AS waits_counted,
       parks >= 0 AS parks_counted,
       (wakeup_p50_us <= wakeup_p99_us AND wakeup_p99_us <= wakeup_p999_us)
         IS NOT FALSE AS quantiles_in_order
  FROM pg_stat_fastwake_waits;

-- histograms: one for each class that waits in memory, the same buckets in each
SELECT name, labels, count(*) AS buckets, min(bucket_le_ns), max(bucket_le_ns)
  FROM pg_fastwake_histogram GROUP BY name, labels ORDER BY labels->>'class';

-- bounds rise, by at most an eighth; counts never fall
SELECT bool_and(bucket_le_ns > before) AS bounds_rise,
       bool_and(bucket_le_ns <= before + (before + 1) / 8
                OR bucket_le_ns = 9223372036854775807) AS by_an_eighth,
       bool_and(count >= fewer) AS cumulative
  FROM (SELECT bucket_le_ns, count,
               lag(bucket_le_ns) OVER w AS before, lag(count) OVER w AS fewer
          FROM pg_fastwake_histogram
        WINDOW w AS (PARTITION BY name, labels ORDER BY bucket_le_ns)) b;

-- cores have rows exactly if the module is in use; no count is negative
SELECT (count(c) > 0) = module AS rows_with_the_module,
       count(DISTINCT core) = count(core) AS one_row_per_core,
       coalesce(bool_and(least(core, waiters) >= 0
                         AND least(polls, hits, switches, backstops, parked,
                                   events - events_here, events_here, moves) >= 0), true) AS counted
  FROM pg_stat_fastwake LEFT JOIN pg_stat_fastwake_cores c ON true GROUP BY module;

DROP EXTENSION pg_fastwake;
