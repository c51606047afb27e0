-- Upgrades: from each released version on, the result is what a new
-- installation gives; and the library serves catalogs not yet upgraded.
CREATE VIEW installed AS
SELECT pg_describe_object(d.classid, d.objid, 0) AS object,
       -- as text, since identities of objects differ
       CASE d.classid
         WHEN 'pg_proc'::regclass THEN pg_get_functiondef(d.objid)
         WHEN 'pg_class'::regclass THEN pg_get_viewdef(d.objid)
       END AS definition,
       coalesce((SELECT proacl FROM pg_proc WHERE oid = d.objid),
                (SELECT relacl FROM pg_class WHERE oid = d.objid))::text AS acl,
       (SELECT string_agg(privtype::text || ' ' || initprivs::text, ' ')
          FROM pg_init_privs i
         WHERE (i.classoid, i.objoid) = (d.classid, d.objid)) AS init_privs,
       (SELECT string_agg(objsubid || ' ' || description, E'\n' ORDER BY objsubid)
          FROM pg_description i
         WHERE (i.classoid, i.objoid) = (d.classid, d.objid)) AS comments,
       (SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod),
                          E'\n' ORDER BY attnum)
          FROM pg_attribute
         WHERE d.classid = 'pg_class'::regclass AND attrelid = d.objid
           AND attnum > 0) AS columns
  FROM pg_depend d
 WHERE d.refclassid = 'pg_extension'::regclass
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_fastwake')
   AND d.deptype = 'e'
   -- members too from PostgreSQL 17 on
   AND d.classid <> 'pg_type'::regclass;

-- every version can be reached from every earlier one
SELECT source, target, path FROM pg_extension_update_paths('pg_fastwake')
 WHERE source < target ORDER BY 1, 2;

CREATE EXTENSION pg_fastwake;
SELECT extversion FROM pg_extension WHERE extname = 'pg_fastwake';
CREATE TABLE direct AS SELECT * FROM installed;
DROP EXTENSION pg_fastwake;

-- 0.1, with this library
CREATE EXTENSION pg_fastwake VERSION '0.1';
SELECT extversion FROM pg_extension WHERE extname = 'pg_fastwake';
SELECT object FROM installed ORDER BY object COLLATE "C";
SELECT version ~ '^\d+\.\d+\.\d+$' AS has_version, enabled, interposed, transport,
       mode, fallbacks, failures
  FROM pg_stat_fastwake;
SELECT * FROM pg_stat_fastwake_replication;
SELECT class, mode, waits >= switches AS counted FROM pg_stat_fastwake_waits;
SELECT pg_fastwake_reset();

-- to 0.2
ALTER EXTENSION pg_fastwake UPDATE TO '0.2';
SELECT extversion FROM pg_extension WHERE extname = 'pg_fastwake';
SELECT * FROM pg_stat_fastwake_replication;
SELECT count(*) > 0 AS has_buckets FROM pg_fastwake_histogram;

-- the same as a new installation: neither more nor less
TABLE direct EXCEPT TABLE installed;
TABLE installed EXCEPT TABLE direct;
SELECT (SELECT count(*) FROM direct) = (SELECT count(*) FROM installed) AS as_many,
       count(*) AS objects, count(definition) AS definitions, count(acl) AS acls,
       count(init_privs) AS init_privs, count(comments) AS comments
  FROM installed;

DROP EXTENSION pg_fastwake;
DROP TABLE direct;
DROP VIEW installed;
