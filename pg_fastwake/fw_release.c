/*-------------------------------------------------------------------------
 *
 * fw_release.c
 *	  A walsender wakes those whose commits it has released, once it has let go
 *	  of their lock.
 *
 * Core wakes them one by one while it holds SyncRepLock.  The first of them that
 * gets a processor, or gets the walsender's, is soon at its next commit, and waits
 * for that lock: two more switches for each.  So their pids are noted, and they are
 * woken at the walsender's next call of a hook, which is when it looks for the next
 * reply: nothing in between waits for anything but short-lived locks, and who waits
 * for a commit holds none.  A walsender that ends wakes them before.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"

static pid_t *noted = NULL;		/* NULL: none are noted by this process */
static int	n_noted = 0;
static int	max_noted = 0;

static void
wake_at_exit(int code, Datum arg)
{
	FwWakeReleased();
	max_noted = 0;
}

void
FwReleaseInit(void)
{
	if (noted != NULL)
		return;
	noted = MemoryContextAlloc(TopMemoryContext, MaxBackends * sizeof(pid_t));
	max_noted = MaxBackends;
	before_shmem_exit(wake_at_exit, 0);
}

/* Note PID instead of waking it now?  Not from a signal handler: own pid only. */
bool
FwNoteReleased(pid_t pid)
{
	if (n_noted == max_noted || pid == MyProcPid || !LWLockHeldByMe(SyncRepLock))
		return false;
	noted[n_noted++] = pid;
	return true;
}

void
FwWakeReleased(void)
{
	int			left;

	if (n_noted == 0)
		return;
	FwGatherReleased(noted, n_noted);
	left = fastwake_wake_pids(FwDomain, noted, n_noted);
	pg_atomic_fetch_add_u64(&FwShmem->signals_saved, n_noted - left);
	for (int i = 0; i < left; i++)
		FwWakeProcess(noted[i]);
	n_noted = 0;
}
