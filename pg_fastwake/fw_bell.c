/*-------------------------------------------------------------------------
 *
 * fw_bell.c
 *	  Waking a process that sleeps on descriptors, without a signal.
 *
 * A channel over rdma can be waited for by its descriptors only, unless the
 * kernel module is there.  Each WAL flush would then have to signal the
 * walsender, and each report of an apply the walreceiver.  A bell is an eventfd
 * in their sets: the postmaster makes one for each walsender there may be, and
 * one for the walreceiver, and all processes inherit them.
 *
 *	setter						owner
 *	A1 latch->is_set = true		B1 maybe_sleeping = true (core)
 *	   full barrier (core)		   full barrier (core)
 *	A2 maybe_sleeping? (core)	B2 latch->is_set? (core)
 *	A3 armed: 1 -> 0?			B3 armed = 1
 *	A4 write to the bell		B4 epoll_wait()
 *	   else a signal			B5 armed = 0
 *
 * Core's barriers see to it that A2 finds the sleeper or B2 the latch.  From
 * there on nothing can be lost, whichever way A3 goes: the bell's count and the
 * pending SIGURG (read by signalfd) both stay readable until the owner takes
 * them.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "miscadmin.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#define BELL_ARMED	UINT64CONST(1)

/* Of each bell: the pid of its owner << 32 | BELL_ARMED; 0 if free. */
static pg_atomic_uint64 *bells = NULL;

/* In the postmaster and all its children; -1 where there is none. */
static int *bell_fds = NULL;

static int	my_bell = -1;

static uint64
bell_of(int pid, uint64 armed)
{
	return (uint64) pid << 32 | armed;
}

static int
number_of_bells(void)
{
	return max_wal_senders + 1;
}

Size
FwBellsSize(void)
{
	return mul_size(number_of_bells(), sizeof(pg_atomic_uint64));
}

/* Descriptors outlive a crash restart, the table does not. */
static void
make_descriptors(void)
{
	bell_fds = MemoryContextAlloc(TopMemoryContext,
								  mul_size(number_of_bells(), sizeof(int)));
	for (int i = 0; i < number_of_bells(); i++)
		bell_fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

void
FwBellsInit(void)
{
	bool		found;

	bells = ShmemInitStruct("pg_fastwake bells", FwBellsSize(), &found);
	if (!found)
		for (int i = 0; i < number_of_bells(); i++)
			pg_atomic_init_u64(&bells[i], 0);
	if (bell_fds == NULL)
		make_descriptors();
}

static void
release_bell(int code, Datum arg)
{
	pg_atomic_write_u64(&bells[my_bell], 0);
	my_bell = -1;
}

int
FwBellClaim(void)
{
	if (my_bell >= 0)
		return bell_fds[my_bell];
	for (int i = 0; i < number_of_bells(); i++)
	{
		uint64		nobody = 0;

		if (bell_fds[i] < 0 ||
			!pg_atomic_compare_exchange_u64(&bells[i], &nobody,
											bell_of(MyProcPid, 0)))
			continue;
		my_bell = i;
		before_shmem_exit(release_bell, 0);
		return bell_fds[i];
	}
	return -1;
}

void
FwBellArm(void)
{
	if (my_bell >= 0)
		pg_atomic_write_u64(&bells[my_bell],
							bell_of(MyProcPid, BELL_ARMED));
}

void
FwBellDisarm(void)
{
	if (my_bell >= 0)
		pg_atomic_write_u64(&bells[my_bell], bell_of(MyProcPid, 0));
}

/* Take what was rung. */
void
FwBellDrain(void)
{
	uint64		count;

	if (my_bell >= 0)
		(void) !read(bell_fds[my_bell], &count, sizeof(count));
}

/*
 * Ring for process PID, if it has armed a bell.  Async-signal-safe; the caller
 * keeps errno.
 */
bool
FwBellRing(int pid)
{
	const uint64 one = 1;

	for (int i = 0; bells != NULL && i < number_of_bells(); i++)
	{
		uint64		armed = bell_of(pid, BELL_ARMED);

		if (pg_atomic_read_u64(&bells[i]) == armed &&
			pg_atomic_compare_exchange_u64(&bells[i], &armed, bell_of(pid, 0)))
			return write(bell_fds[i], &one, sizeof(one)) == sizeof(one);
	}
	return false;
}
