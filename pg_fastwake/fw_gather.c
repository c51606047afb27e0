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

/* Who has committed in such a time is one of the committers, who are counted so often. */
#define FW_COMMITTER_NS UINT64CONST(20000000)
#define FW_COUNT_NS		UINT64CONST(5000000)

/* They are busy if their commits take one part in so many of the processors' time. */
#define FW_BUSY_SHARE 4

/* When a commit of such a process was released last: by pid. */
#define FW_SEEN 512
static uint64 seen[FW_SEEN];

static uint64 counted = 0;		/* when they were, */
static int	releases = 0;		/* and how many there have been since */
static int	committers = 0;		/* on each processor; 0: they are not busy */

/* How many commits a reply releases, lately, or could: up at once, down by halves. */
static int	expected = 0;

/* For how many times as long as one alone a commit waits in memory, at most. */
#define FW_SHARES_MAX 32

/*
 * A scheduler may let one client and its backend go on for milliseconds while others
 * wait for the processor.  Then each reply releases one commit, though many could come.
 */
static void
count_committers(uint64 now)
{
	bool		busy = (uint64) releases * FW_COMMIT_NS * FW_BUSY_SHARE >=
	(now - counted) * FwCpus();
	int			all = 0;

	for (int i = 0; busy && i < FW_SEEN; i++)
		all += seen[i] + FW_COMMITTER_NS > now;
	committers = all / FwCpus();
	counted = now;
	releases = 0;
}

void
FwGatherReleased(const pid_t *pids, int n)
{
	uint64		now = fastwake_now();
	int			most;

	for (int i = 0; i < n; i++)
		seen[(uint32) pids[i] % FW_SEEN] = now;
	releases += n;
	if (now - counted >= FW_COUNT_NS)
		count_committers(now);
	most = Max(n, committers);
	expected = most > expected ? most : (expected + most) / 2;
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
