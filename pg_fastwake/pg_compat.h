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

#include "access/xlog.h"
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

/*
 * From 16 on only walsenders that wait on a condition variable are woken, and core
 * begins to wait without another look at what has been flushed.  A flush that
 * falls between its last look and that is not announced to it:
 *
 *	walsender						backend
 *	flushed up to F (core)
 *									flushed up to G
 *									nobody waits: nobody is woken
 *	wait on wal_flush_cv (core)
 *	epoll_wait(), our look: G
 *
 * Its WAL, and the commits that wait for it, would stay until something else
 * happens.  Before, the walsender's latch was set whether it waited or not.
 */
#if PG_VERSION_NUM >= 160000
#define FwFlushedUpTo() \
	(RecoveryInProgress() ? InvalidXLogRecPtr : GetFlushRecPtr(NULL))
#else
#define FwFlushedUpTo() InvalidXLogRecPtr
#endif

/* How a walreceiver reacts to SIGTERM while it waits. */
#if PG_VERSION_NUM >= 180000
#define FwProcessWalRcvInterrupts() CHECK_FOR_INTERRUPTS()
#else
#define FwProcessWalRcvInterrupts() ProcessWalRcvInterrupts()
#endif

#endif							/* PG_FASTWAKE_COMPAT_H */
