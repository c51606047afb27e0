/*-------------------------------------------------------------------------
 *
 * pg_compat.h
 *	  Differences between PostgreSQL 15, 16, 17 and 18: all of them are here.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#ifndef PG_FASTWAKE_COMPAT_H
#define PG_FASTWAKE_COMPAT_H

#include "storage/proc.h"

/* Index of this process's PGPROC, and its type test for the walreceiver. */
#if PG_VERSION_NUM >= 170000
#include "storage/procnumber.h"
#define FwMyProcIndex() ((int) MyProcNumber)
#else
#define FwMyProcIndex() ((int) MyProc->pgprocno)
#endif

/* walrcv_connect grew from 4 to 6 arguments in 16/17. */
#if PG_VERSION_NUM >= 170000
#define FW_CONNECT_PARAMS \
	const char *conninfo, bool replication, bool logical, \
	bool must_use_password, const char *appname, char **err
#define FW_CONNECT_ARGS \
	conninfo, replication, logical, must_use_password, appname, err
#elif PG_VERSION_NUM >= 160000
#define FW_CONNECT_PARAMS \
	const char *conninfo, bool logical, bool must_use_password, \
	const char *appname, char **err
#define FW_CONNECT_ARGS conninfo, logical, must_use_password, appname, err
#else
#define FW_CONNECT_PARAMS \
	const char *conninfo, bool logical, const char *appname, char **err
#define FW_CONNECT_ARGS conninfo, logical, appname, err
#endif

/* Is a queue of commits that wait for synchronous replication empty? */
#if PG_VERSION_NUM >= 160000
#define FwSyncRepQueueEmpty(mode) dlist_is_empty(&WalSndCtl->SyncRepQueue[mode])
#else
#define FwSyncRepQueueEmpty(mode) SHMQueueEmpty(&WalSndCtl->SyncRepQueue[mode])
#endif

/* Set the latches of all physical walsenders. */
#if PG_VERSION_NUM >= 160000
#define FwWakeWalSenders() WalSndWakeup(true, false)
#else
#define FwWakeWalSenders() WalSndWakeup()
#endif

/* How a walreceiver reacts to SIGTERM while it waits. */
#if PG_VERSION_NUM >= 180000
#define FwProcessWalRcvInterrupts() CHECK_FOR_INTERRUPTS()
#else
#define FwProcessWalRcvInterrupts() ProcessWalRcvInterrupts()
#endif

#endif							/* PG_FASTWAKE_COMPAT_H */
