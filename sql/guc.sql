-- Settings: defaults, bounds, contexts, errors.
SELECT name, boot_val, unit, min_val, max_val, enumvals, context
  FROM pg_settings WHERE name LIKE 'pg_fastwake.%' ORDER BY name;

-- nothing differs from its default here
SELECT name, setting, source FROM pg_settings
 WHERE name LIKE 'pg_fastwake.%' AND source <> 'default';

-- each is described
SELECT name FROM pg_settings
 WHERE name LIKE 'pg_fastwake.%' AND coalesce(short_desc, '') = '';

-- ring size: bounds (the message differs between versions), and a power of two
\set VERBOSITY sqlstate
ALTER SYSTEM SET pg_fastwake.ring_size = '32kB';
ALTER SYSTEM SET pg_fastwake.ring_size = '32MB';
\set VERBOSITY default
ALTER SYSTEM SET pg_fastwake.ring_size = '96kB';
ALTER SYSTEM SET pg_fastwake.ring_size = '1000kB';
ALTER SYSTEM SET pg_fastwake.ring_size = '64kB';
ALTER SYSTEM SET pg_fastwake.ring_size = '16MB';
ALTER SYSTEM RESET pg_fastwake.ring_size;

-- polling time
ALTER SYSTEM SET pg_fastwake.poll_us = -1;
ALTER SYSTEM SET pg_fastwake.poll_us = 1001;
ALTER SYSTEM SET pg_fastwake.poll_us = 0;
ALTER SYSTEM SET pg_fastwake.poll_us = 1000;
ALTER SYSTEM RESET pg_fastwake.poll_us;

-- pause between replays
ALTER SYSTEM SET pg_fastwake.replay_interval_us = -1;
ALTER SYSTEM SET pg_fastwake.replay_interval_us = 1000001;
ALTER SYSTEM SET pg_fastwake.replay_interval_us = 0;
ALTER SYSTEM SET pg_fastwake.replay_interval_us = 1000000;
ALTER SYSTEM RESET pg_fastwake.replay_interval_us;

-- how long commits may gather
ALTER SYSTEM SET pg_fastwake.gather_us = -1;
ALTER SYSTEM SET pg_fastwake.gather_us = 100001;
ALTER SYSTEM SET pg_fastwake.gather_us = 0;
ALTER SYSTEM SET pg_fastwake.gather_us = 100000;
ALTER SYSTEM RESET pg_fastwake.gather_us;

-- names
ALTER SYSTEM SET pg_fastwake.transport = 'pigeon';
ALTER SYSTEM SET pg_fastwake.mode = 'sleepy';
ALTER SYSTEM SET pg_fastwake.enabled = 'perhaps';

-- servers have settings, sessions, roles and databases have not
SET pg_fastwake.enabled = off;
SET pg_fastwake.mode = 'off';
SET pg_fastwake.poll_us = 10;
SET pg_fastwake.transport = 'tcp';
SET pg_fastwake.rdma_device = 'mlx5_0';
SET pg_fastwake.listen_address = '127.0.0.1';
SET pg_fastwake.ring_size = '64kB';
SET pg_fastwake.allow_plaintext = on;
SET pg_fastwake.interpose = off;
ALTER ROLE CURRENT_USER SET pg_fastwake.mode = 'off';

-- the endpoint is asked for by standbys; nobody sets it, a session sees none
SET pg_fastwake.endpoint = 'here';
ALTER SYSTEM SET pg_fastwake.endpoint = 'here';
SHOW pg_fastwake.endpoint;
SELECT current_setting('pg_fastwake.endpoint') = '' AS is_empty;

-- a misspelt name is not taken for a new setting
SET pg_fastwake.pol_us = 10;
SHOW pg_fastwake.pol_us;
