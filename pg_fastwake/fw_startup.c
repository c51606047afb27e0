/*-------------------------------------------------------------------------
 *
 * fw_startup.c
 *	  How the startup process of a standby waits for WAL.
 *
 * It sleeps on recoveryWakeupLatch, whose address is private to core.  In place
 * of its is_set there is a count of the signals meant for this process, and what
 * that was when core last looked at the latch:
 *
 *	setter						startup process
 *	L1 latch->is_set = true		S1 seen = rings, at the end of a wait
 *	L2 rings++ (full barrier)	S2 latch->is_set? (core)
 *	L3 waiter published? wake	S3 publish the waiter, full barrier
 *	   else signal				S4 rings != seen? else sleep
 *
 * L2 before S1: then L1 comes before S2, and core sees the latch.  L2 after S1
 * but before S4: S4 sees it.  L2 after S4: L3 comes after S3, and wakes.
 * A signal that is sent all the same stays pending, for core's own waits.
 *
 * On a busy stream each commit would wake it, to replay a hundred bytes and wake
 * the walreceiver in turn to report that, while the commit's own report waits for
 * the processor.  So, having replayed all there was, it rests for a moment before
 * it can be woken: what arrives meanwhile is replayed together.  A commit that
 * comes alone finds it in the wait above.
 *
 *	setter						startup process
 *	L1, L2 as above				N1 resting = 1, full barrier
 *	L3 resting? that's all		N2 rings != seen? go on
 *								N3 sleep, for the rest at most
 *								N4 resting = 0, full barrier
 *								N5 rings != seen? go on, else S3
 *
 * L3 that finds it resting comes before N4, so L2 does too, and N5 sees it.
 * If a commit on the primary waits for an apply, nothing rests: the walsender says
 * so (FW_STREAM_PROMPT), and the walreceiver forbids it.  Over TCP nobody says
 * so: it is never allowed.
 *
 *	walreceiver: FwAllowRest()	startup process
 *	W1 allowed = 0				N1 resting = 1
 *	   full barrier				   full barrier
 *	W2 resting? wake it			N1' allowed? else no rest
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include "miscadmin.h"
#include "storage/ipc.h"

static uint32 seen = 0;

/* True if the process is not to be woken: it will look by itself. */
bool
FwRingStartup(pid_t pid)
{
	if (pg_atomic_read_u32(&FwShmem->startup_pid) != (uint32) pid)
		return false;
	pg_atomic_fetch_add_u32(&FwShmem->startup_rings, 1);
	return pg_atomic_read_u32(&FwShmem->startup_resting) != 0 &&
		pg_atomic_read_u32(&FwShmem->startup_may_rest) != 0;
}

void
FwAllowRest(bool allow)
{
	uint32		pid;

	if (pg_atomic_read_u32(&FwShmem->startup_may_rest) == (uint32) allow)
		return;
	pg_atomic_write_u32(&FwShmem->startup_may_rest, allow);
	pg_memory_barrier();
	pid = pg_atomic_read_u32(&FwShmem->startup_pid);
	if (!allow && pid != 0 &&
		pg_atomic_read_u32(&FwShmem->startup_resting) != 0)
		(void) fastwake_wake_pid(FwDomain, (pid_t) pid);
}

static void
forget_startup(int code, Datum arg)
{
	pg_atomic_write_u32(&FwShmem->startup_pid, 0);
	pg_atomic_write_u32(&FwShmem->startup_resting, 0);
}

/* From now on signals are counted; what came before, core has yet to see. */
static int
first_wait(void)
{
	before_shmem_exit(forget_startup, 0);
	pg_atomic_write_u32(&FwShmem->startup_pid, (uint32) MyProcPid);
	pg_memory_barrier();
	errno = EINTR;
	return -1;
}

static bool
rung(void)
{
	return pg_atomic_read_u32(&FwShmem->startup_rings) != seen;
}

/* True if core shall look at its latch, or at its signals. */
static bool
rest(int timeout)
{
	uint64		time = (uint64) fw_replay_interval_us * 1000;
	bool		interrupted = false;

	if (timeout >= 0)
		time = Min(time, (uint64) timeout * 1000000);
	if (time == 0 || pg_atomic_read_u32(&FwShmem->startup_may_rest) == 0)
		return false;
	pg_atomic_write_u32(&FwShmem->startup_resting, 1);
	pg_memory_barrier();
	if (!rung() && pg_atomic_read_u32(&FwShmem->startup_may_rest) != 0)
		interrupted = FwRest(time) == -EINTR;
	pg_atomic_write_u32(&FwShmem->startup_resting, 0);
	pg_memory_barrier();
	return interrupted || rung();
}

static int
wait_for_ring(int epfd, struct epoll_event *events, int maxevents, int timeout)
{
	struct fastwake_watch watch = {
		.word = &FwShmem->startup_rings.value,
		.operand = seen,
		.size = 4,
		.condition = FASTWAKE_NE,
	};

	return FwWaitSlice(FW_WAIT_STARTUP, &watch, 1,
					   epfd, events, maxevents, timeout);
}

int
FwStartupWait(int epfd, struct epoll_event *events, int maxevents, int timeout)
{
	static bool counted = false;
	int			rc;

	if (!AmStartupProcess() || FwMyWaiter() == NULL)
		return FwRealEpollWait(epfd, events, maxevents, timeout);

	if (!counted)
		rc = first_wait();
	else if (rest(timeout))
	{
		errno = EINTR;
		rc = -1;
	}
	else
		rc = wait_for_ring(epfd, events, maxevents, timeout);
	counted = true;
	seen = pg_atomic_read_u32(&FwShmem->startup_rings);
	pg_memory_barrier();
	return rc;
}
