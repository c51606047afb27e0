/*-------------------------------------------------------------------------
 *
 * fw_shmem.c
 *	  Shared memory of the extension.
 *
 * One segment: the FastWake domain (a waiter slot per PGPROC), a connection
 * entry per PGPROC, back-off and counters.  It belongs to PostgreSQL's main
 * segment, so a crash restart rebuilds it, and stale pids never survive.
 *
 * Locking: FwShared.mutex guards ->backoff and ->stats_reset; FwConn.mutex one
 * connection but for its histogram; FwPeersLock ->peers.  All else, counters and
 * the words of histograms, is read and written atomically without a lock.
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
#include "storage/shmem.h"

/*
 * After the first failure RDMA is not tried again for 10 s, and the pause
 * doubles with each further one, up to 10 min: a flapping link must not cost a
 * negotiation (and a pause in the stream) at each reconnection.
 */
#define FW_BACKOFF_FIRST_MS		10000
#define FW_BACKOFF_LAST_MS		600000

FwShared   *FwShmem = NULL;
struct fastwake_domain *FwDomain = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* PGPROCs that may wait: backends, walsenders, and auxiliary processes. */
int
FwProcSlots(void)
{
	return MaxBackends + NUM_AUXILIARY_PROCS;
}

static Size
shared_size(void)
{
	return add_size(offsetof(FwShared, conns),
					mul_size(FwProcSlots(), sizeof(FwConn)));
}

static Size
domain_size(void)
{
	/* room to align to 64 bytes */
	return add_size(fastwake_domain_size(FwProcSlots()), 64);
}

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(add_size(add_size(shared_size(), domain_size()),
									FwBellsSize()));
	RequestNamedLWLockTranche("pg_fastwake", 1);
}

static void
init_shared(void)
{
	memset(FwShmem, 0, shared_size());
	SpinLockInit(&FwShmem->mutex);
	FwShmem->stats_reset = GetCurrentTimestamp();
	FwShmem->nconns = FwProcSlots();
	for (int i = 0; i < FwShmem->nconns; i++)
		SpinLockInit(&FwShmem->conns[i].mutex);
}

/*
 * Before the main segment goes, also in a crash restart: the handle names memory
 * in it, whose pages may be pinned.
 */
static void
drop_domain(int code, Datum arg)
{
	if (FwDomain != NULL && MyProcPid == PostmasterPid)
	{
		fastwake_domain_destroy(FwDomain);
		FwDomain = NULL;
	}
}

/* Processes that are forked from now on wait in the module, if there is one. */
static void
use_module(void)
{
	char		reason[FASTWAKE_REASON_MAX];
	int			rc = fastwake_domain_use_module(FwDomain, reason);

	if (rc == 0)
		ereport(LOG,
				(errmsg("pg_fastwake: waits are served by kernel module fastwake")));
	else
		ereport(rc == -ENODEV ? DEBUG1 : LOG,
				(errmsg("pg_fastwake: waits are not served by the kernel module"),
				 errdetail("%s", reason)));
}

static void
startup_shmem(void)
{
	bool		found;
	void	   *mem;
	int			rc;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	FwShmem = ShmemInitStruct("pg_fastwake", shared_size(), &found);
	if (!found)
		init_shared();
	FwPeersLock = &GetNamedLWLockTranche("pg_fastwake")->lock;
	mem = ShmemInitStruct("pg_fastwake waiters", domain_size(), &found);
	FwBellsInit();
	LWLockRelease(AddinShmemInitLock);

	rc = fastwake_domain_create(&FwDomain, (void *) TYPEALIGN(64, mem),
								fastwake_domain_size(FwProcSlots()),
								FwProcSlots());
	if (rc < 0)
	{
		errno = -rc;
		ereport(FATAL,
				(errmsg("could not create the table of waiters: %m")));
	}
	if (FwHooksActive() && !IsUnderPostmaster)
		use_module();
	on_shmem_exit(drop_domain, 0);
}

void
FwInstallShmemHooks(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

void
FwCountFallback(FwRole role, const char *name, const char *reason)
{
	TimestampTz now = GetCurrentTimestamp();

	FwPeerFellBack(role, name, reason, now);
	SpinLockAcquire(&FwShmem->mutex);
	FwShmem->backoff.fallbacks++;
	FwShmem->backoff.last_fallback = now;
	strlcpy(FwShmem->backoff.reason, reason, FASTWAKE_REASON_MAX);
	SpinLockRelease(&FwShmem->mutex);
}

/* The pause after so many failures in a row, in ms. */
static int64
backoff_pause(int failures)
{
	int64		pause = FW_BACKOFF_FIRST_MS;

	while (--failures > 0 && pause < FW_BACKOFF_LAST_MS)
		pause *= 2;
	return Min(pause, FW_BACKOFF_LAST_MS);
}

void
FwBackoffFailure(const char *reason)
{
	FwBackoff  *backoff = &FwShmem->backoff;
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&FwShmem->mutex);
	backoff->failures++;
	backoff->next_retry =
		TimestampTzPlusMilliseconds(now, backoff_pause(backoff->failures));
	SpinLockRelease(&FwShmem->mutex);
	FwCountFallback(FW_ROLE_RECEIVER, "", reason);
}

/*
 * Failures are forgotten when a channel has lasted as long as the pause that
 * they caused: a link that flaps does not look well in between.
 */
void
FwBackoffLasted(int64 lasted_ms)
{
	FwBackoff  *backoff = &FwShmem->backoff;

	SpinLockAcquire(&FwShmem->mutex);
	if (backoff->failures > 0 && lasted_ms >= backoff_pause(backoff->failures))
	{
		backoff->failures = 0;
		backoff->next_retry = 0;
	}
	SpinLockRelease(&FwShmem->mutex);
}

bool
FwBackoffOver(TimestampTz *retry)
{
	SpinLockAcquire(&FwShmem->mutex);
	*retry = FwShmem->backoff.next_retry;
	SpinLockRelease(&FwShmem->mutex);
	return *retry == 0 || GetCurrentTimestamp() >= *retry;
}
