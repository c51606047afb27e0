/*-------------------------------------------------------------------------
 *
 * pg_fastwake.c
 *	  Loads the extension: settings, shared memory, hooks.
 *
 * Everything happens in the postmaster, before any process is forked: hooks in
 * the executable and in WalReceiverFunctions are inherited.  Loaded any other
 * way (CREATE EXTENSION without shared_preload_libraries) only the settings and
 * the SQL functions exist, and the latter say what to do.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include "fmgr.h"
#include "miscadmin.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	const char *reason = NULL;

	FwDefineSettings();

	if (!process_shared_preload_libraries_in_progress)
		return;

	FwInstallShmemHooks();

	if (!fw_interpose)
		ereport(LOG,
				(errmsg("pg_fastwake: interposition is off, waits are PostgreSQL's own and this server does not send WAL over RDMA"),
				 errdetail("pg_fastwake.interpose is off.")));
	else if (!FwHooksInstall(&reason))
		ereport(LOG,
				(errmsg("pg_fastwake: waits are PostgreSQL's own and this server does not send WAL over RDMA"),
				 errdetail("Interposition is not possible: %s.", reason)));

	FwReceiverInstall();
}
