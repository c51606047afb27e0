/*-------------------------------------------------------------------------
 *
 * fw_wait.c
 *	  FastWake waits of backends, and what all waits have in common.
 *
 * A process waits on its latch's word in memory instead of on a signal: whoever
 * sets the latch wakes it through hook_kill().  Core sees such a wait as an
 * epoll_wait() interrupted by a signal (EINTR), and looks at its latch itself;
 * nothing about what a wait means changes.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include <unistd.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/s_lock.h"
#include "utils/wait_event.h"

/* Shortest polling time, so that it can grow again. */
#define FW_SPIN_LEAST_NS 1000

/* For how long one commit that waits for a remote write announces more. */
#define FW_PROMPT_NS (UINT64CONST(10) * 1000000000)

static struct fastwake_waiter *my_waiter = NULL;
static bool my_waiter_refused = false;

static void
detach_waiter(int code, Datum arg)
{
	if (my_waiter != NULL)
		fastwake_waiter_detach(my_waiter);
	my_waiter = NULL;
	my_waiter_refused = true;
}

/* Once per process: that our hooks are still in place, and a slot. */
static void
attach_waiter(void)
{
	int			rc;

	if (!FwInterposeVerify())
	{
		my_waiter_refused = true;
		ereport(LOG,
				(errmsg("pg_fastwake: waits of this process are PostgreSQL's own"),
				 errdetail("Another library has replaced one of the interposed functions after pg_fastwake did."),
				 errhint("Put pg_fastwake last in shared_preload_libraries.")));
		return;
	}
	rc = fastwake_waiter_attach(FwDomain, FwMyProcIndex(), &my_waiter);
	if (rc < 0)
	{
		my_waiter = NULL;
		my_waiter_refused = true;
		errno = -rc;
		ereport(DEBUG1,
				(errmsg_internal("pg_fastwake: could not attach a waiter: %m")));
		return;
	}
	before_shmem_exit(detach_waiter, 0);
}

struct fastwake_waiter *
FwMyWaiter(void)
{
	if (my_waiter == NULL && !my_waiter_refused && FwDomain != NULL &&
		MyProc != NULL && FwHooksActive() && !proc_exit_inprogress)
		attach_waiter();
	return my_waiter;
}

bool
FwWaitsEnabled(void)
{
	return fw_enabled && fw_mode != FW_MODE_OFF;
}

uint64
FwBudget(void)
{
	return fw_mode == FW_MODE_INTERRUPT ? 0 : (uint64) fw_poll_us * 1000;
}

/* CPUs that are online, as this process has first seen it. */
int
FwCpus(void)
{
	static int	cpus = 0;

	if (cpus == 0)
		cpus = Max((int) sysconf(_SC_NPROCESSORS_ONLN), 1);
	return cpus;
}

/*
 * For channels that only descriptors can wait for.  The bound adapts as a KVM
 * halt poll does: doubled when polling caught the event, halved when not.
 * Nothing is polled on a single CPU, where the event's sender needs it.
 *
 * Space that is polled away is not announced again when the channel is armed:
 * who has a backlog must ask for it here, or would sleep on it.
 */
bool
FwSpin(FwWaitClass wclass, struct fastwake_channel *channel, int events)
{
	static uint64 bound[FW_WAIT_CLASSES];
	uint64		cap = FwBudget();
	uint64		end;

	if (FwCpus() < 2 || cap == 0)
		return false;
	if (bound[wclass] == 0 || bound[wclass] > cap)
		bound[wclass] = cap;
	pg_atomic_fetch_add_u64(&FwShmem->waits[wclass][FW_PATH_MEMORY].waits, 1);

	end = fastwake_now() + bound[wclass];
	do
	{
		int			rc = fastwake_channel_poll(channel);

		if (rc < 0 || (rc & events) || MyLatch->is_set)
		{
			bound[wclass] = Min(bound[wclass] * 2, cap);
			return true;
		}
		SPIN_DELAY();
	} while (fastwake_now() < end);
	bound[wclass] = Max(bound[wclass] / 2, FW_SPIN_LEAST_NS);
	FwCountPark(wclass);
	return false;
}

void
FwWatchLatch(struct fastwake_watch *watch)
{
	StaticAssertStmt(sizeof(MyLatch->is_set) == 4, "is_set is one 4-byte word");

	memset(watch, 0, sizeof(*watch));
	watch->word = &MyLatch->is_set;
	watch->size = 4;
	watch->condition = FASTWAKE_NE;
}

/*
 * With the module its words can be waited for in memory.  Without, or over a
 * device that it cannot look at, they are waited for as they are.
 */
void
FwPinChannel(struct fastwake_channel *channel)
{
	int			rc = fastwake_channel_pin(channel, FwDomain);

	if (rc == 0 || rc == -ENODEV || rc == -EOPNOTSUPP)
		return;
	errno = -rc;
	ereport(LOG,
			(errmsg("pg_fastwake: the kernel module cannot look at this connection: %m"),
			 rc == -ENOMEM ? errhint("Raise the limit on locked memory (ulimit -l, or LimitMEMLOCK= of the service).") : 0));
}

void
FwCountPark(FwWaitClass wclass)
{
	pg_atomic_fetch_add_u64(&FwShmem->waits[wclass][FW_PATH_MEMORY].parks, 1);
}

void
FwCountSleep(FwWaitClass wclass)
{
	FwWaitStats *stats = &FwShmem->waits[wclass][FW_PATH_DESCRIPTOR];

	pg_atomic_fetch_add_u64(&stats->waits, 1);
	pg_atomic_fetch_add_u64(&stats->switches, 1);
}

int
FwWait(FwWaitClass wclass, const struct fastwake_watch *watches,
	   unsigned int n, uint64 deadline_ns)
{
	FwWaitStats *stats = &FwShmem->waits[wclass][FW_PATH_MEMORY];
	struct fastwake_wait_result result;
	uint64		budget = FwBudget();
	int			rc;

	if (wclass == FW_WAIT_SYNC_COMMIT)
		budget *= FwGatherShares();
	rc = fastwake_wait(my_waiter, watches, n, budget, deadline_ns, &result);
	pg_atomic_fetch_add_u64(&stats->waits, 1);
	if (result.slept)
		pg_atomic_fetch_add_u64(&stats->switches, 1);
	if (rc == (int) n && n > 0)
		pg_atomic_fetch_add_u64(&stats->spurious, 1);
	if (result.latency_ns > 0)
		fastwake_histogram_add(&stats->latency, result.latency_ns);
	return rc == -ETIME ? -ETIMEDOUT : rc;
}

/* Sleep until time is over, a signal, or a wake-up, without any event. */
int
FwRest(uint64 time_ns)
{
	return fastwake_wait(my_waiter, NULL, 0, 0, fastwake_now() + time_ns, NULL);
}

/* Absolute time at which a core timeout in ms ends; 0 for none (-1). */
static uint64
deadline_of(int timeout)
{
	return timeout < 0 ? 0 : fastwake_now() + (uint64) timeout * 1000000;
}

/* The end of the next slice, or DEADLINE if that comes first. */
static uint64
slice_end(uint64 deadline)
{
	uint64		end = fastwake_now() + (uint64) FW_BACKEND_SLICE_MS * 1000000;

	return deadline != 0 && deadline < end ? deadline : end;
}

/*
 * The body of both waits: one slice, at whose end the descriptors are looked
 * at, for the postmaster's death and anything else core watches.  Core, told
 * that it was interrupted, checks its latch and comes back with what is left
 * of its timeout.
 */
int
FwWaitSlice(FwWaitClass wclass, const struct fastwake_watch *watches,
			unsigned int n, int epfd, struct epoll_event *events,
			int maxevents, int timeout)
{
	uint64		deadline = deadline_of(timeout);

	if (FwWait(wclass, watches, n, slice_end(deadline)) == -ETIMEDOUT)
	{
		int			rc = FwRealEpollWait(epfd, events, maxevents, 0);

		if (rc != 0)
			return rc;
		if (deadline != 0 && fastwake_now() >= deadline)
			return 0;
	}
	errno = EINTR;
	return -1;
}

/* One more until FW_PROMPT_NS from now.  The first such in a while wakes walsenders. */
static void
note_until(pg_atomic_uint64 *until, uint64 now)
{
	if (pg_atomic_exchange_u64(until, now + FW_PROMPT_NS) <= now)
		FwWakeWalSenders();
}

/*
 * Walsenders tell standbys whether commits wait for remote writes or applies, and
 * if so whether for applies only.
 */
void
FwNoteCommitWait(void)
{
	bool		apply = synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_APPLY;
	bool		write = synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_WRITE;
	uint64		prompt;
	uint64		now;

	if (FwShmem == NULL)
		return;
	prompt = pg_atomic_read_u64(&FwShmem->prompt_until);
	if (!apply && !write && prompt == 0)
		return;					/* the common case */
	now = fastwake_now();
	if (!apply && (write || now < prompt))
		note_until(&FwShmem->mixed_until, now);
	if (apply || write)
		note_until(&FwShmem->prompt_until, now);
}

int
FwSyncCommitWait(int epfd, struct epoll_event *events, int maxevents,
				 int timeout)
{
	struct fastwake_watch watch;

	if (FwMyWaiter() == NULL)
		return FwRealEpollWait(epfd, events, maxevents, timeout);
	FwTurnCommitted();
	FwWatchLatch(&watch);
	return FwWaitSlice(FW_WAIT_SYNC_COMMIT, &watch, 1,
					   epfd, events, maxevents, timeout);
}
