-- Installation, comments, privileges, reset.
CREATE EXTENSION pg_fastwake;

SELECT extversion FROM pg_extension WHERE extname = 'pg_fastwake';

-- what it contains (from 17 on views' row types are members too)
SELECT pg_describe_object(classid, objid, 0) COLLATE "C" AS object
  FROM pg_depend
 WHERE refclassid = 'pg_extension'::regclass
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_fastwake')
   AND deptype = 'e' AND classid <> 'pg_type'::regclass
 ORDER BY object;

-- every object has a comment
SELECT pg_describe_object(d.classid, d.objid, 0) AS without_comment
  FROM pg_depend d
 WHERE d.refclassid = 'pg_extension'::regclass
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_fastwake')
   AND d.deptype = 'e'
   AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass)
   AND obj_description(d.objid, d.classid::regclass::name) IS NULL;

-- and so has every column of the views
SELECT a.attrelid::regclass AS view, a.attname AS without_comment
  FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.objid
 WHERE d.refclassid = 'pg_extension'::regclass
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_fastwake')
   AND d.deptype = 'e' AND d.classid = 'pg_class'::regclass
   AND a.attnum > 0 AND col_description(a.attrelid, a.attnum) IS NULL;

-- statistics are for pg_monitor, resetting them for superusers
CREATE ROLE regress_fastwake_monitor IN ROLE pg_monitor;
CREATE ROLE regress_fastwake_nobody;

SELECT r.rolname, f.proname, has_function_privilege(r.oid, f.oid, 'EXECUTE')
  FROM pg_roles r, pg_proc f
 WHERE r.rolname LIKE 'regress_fastwake_%' AND f.proname LIKE 'pg_fastwake_%'
 ORDER BY 1, 2;
SELECT r.rolname, v.relname, has_table_privilege(r.oid, v.oid, 'SELECT')
  FROM pg_roles r, pg_class v
 WHERE r.rolname LIKE 'regress_fastwake_%' AND v.relkind = 'v' AND v.relname LIKE 'pg_%fastwake%'
 ORDER BY 1, 2;

SET ROLE regress_fastwake_monitor;
SELECT count(*) FROM pg_stat_fastwake;
SELECT count(*) FROM pg_stat_fastwake_replication;
SELECT count(*) > 0 AS ok FROM pg_stat_fastwake_waits;
SELECT count(*) > 0 AS ok FROM pg_fastwake_histogram;
SELECT pg_fastwake_reset();
SET ROLE regress_fastwake_nobody;
SELECT count(*) FROM pg_stat_fastwake;
SELECT count(*) FROM pg_stat_fastwake_replication;
SELECT count(*) FROM pg_stat_fastwake_waits;
SELECT count(*) FROM pg_fastwake_histogram;
SELECT count(*) FROM pg_fastwake_status();
SELECT count(*) FROM pg_fastwake_buckets();
SELECT pg_fastwake_reset();
RESET ROLE;

-- reset
SELECT stats_reset AS before FROM pg_stat_fastwake \gset
SELECT pg_fastwake_reset();
SELECT stats_reset > :'before' AS is_later FROM pg_stat_fastwake;
SELECT sum(waits), sum(switches), sum(spurious), sum(parks)
  FROM pg_stat_fastwake_waits WHERE class <> 'startup';
SELECT sum(count) FROM pg_fastwake_histogram WHERE labels->>'class' <> 'startup';

-- it can be moved, dropped, and made again
CREATE SCHEMA regress_fastwake;
ALTER EXTENSION pg_fastwake SET SCHEMA regress_fastwake;
SELECT count(*) FROM regress_fastwake.pg_stat_fastwake;
DROP EXTENSION pg_fastwake;
CREATE EXTENSION pg_fastwake SCHEMA regress_fastwake;
SELECT count(*) FROM regress_fastwake.pg_stat_fastwake;
DROP SCHEMA regress_fastwake CASCADE;

DROP ROLE regress_fastwake_monitor, regress_fastwake_nobody;
