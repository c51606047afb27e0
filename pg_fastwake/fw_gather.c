/*-------------------------------------------------------------------------
 *
 * fw_gather.c
 *	  Commits that come close to one another are sent, and answered, together.
 *
 * A walsender that each commit wakes on a busy processor, where it takes the place
 * of the clients whose commits would have come next, makes a round trip for one or
 * two of them, which costs no less than one for all.  So while
 * replies release several commits at a time it is in no hurry to hear of another
 * (fastwake_waiter_no_hurry()).  With the kernel module it then goes on when its
 * processor would be idle otherwise, which is when all that can commit there have, or
 * after about the time in which so many commits as lately come again.  One client
 * alone is never waited for.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

/* What a processor takes for a commit, and what its client does, at least. */
#define FW_COMMIT_NS UINT64CONST(150000)

/* How many commits a reply releases, lately: up at once, down by halves. */
static int	expected = 0;

/* For how many times as long as one alone a commit waits in memory, at most. */
#define FW_SHARES_MAX 32

void
FwGatherReleased(int n)
{
	expected = n > expected ? n : (expected + n) / 2;
	if (pg_atomic_read_u32(&FwShmem->released_together) != expected)
		pg_atomic_write_u32(&FwShmem->released_together, expected);
}

/*
 * In the kernel module a processor looks for all who wait there at the price of
 * one, and not at all while it has something else to do.  So the more commits
 * wait together on each, the longer may each stay there: the round that releases
 * them takes longer, too, and whoever has gone to sleep elsewhere by then has to
 * be woken there, by a call of its own.
 */
uint64
FwGatherShares(void)
{
	if (!fastwake_domain_has_module(FwDomain))
		return 1;
	return Min(Max(pg_atomic_read_u32(&FwShmem->released_together) / FwCpus(), 1),
			   FW_SHARES_MAX);
}

/* Until when the walsender is in no hurry; 0: it is. */
uint64
FwGatherUntil(uint64 now)
{
	uint64		longest = (uint64) fw_gather_us * 1000;

	return expected < 2 || longest == 0 ? 0 :
		now + Min((uint64) expected * FW_COMMIT_NS, longest);
}
