/*-------------------------------------------------------------------------
 *
 * fw_turn.c
 *	  A backend that has answered a commit lets its client ask the next question.
 *
 * The answer wakes the client.  If that is on this processor, then after a commit
 * without a standby it takes the processor at once, since the backend has had it for
 * long, and has asked again before the backend looks.  A backend that has slept in
 * its commit is not displaced so: it finds nothing, sleeps and is woken again, for
 * each commit.  So before it sleeps it offers the processor once to whoever wants it,
 * and looks again.  Where that does not help (the client is far away, or thinks) it
 * soon is not done any more, but tried now and then; and where the first look never
 * finds anything it is left out in the same way.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include <sched.h>

#include "libpq/libpq-be.h"
#include "miscadmin.h"

/* So often in a row something was of no use, until it is only tried, and how often that is. */
#define FW_TURNS_IN_VAIN	8
#define FW_TURNS_BETWEEN	64

static bool answered = false;	/* a commit that waited, not asked since */

/* How often in a row it was of no use; from FW_TURNS_IN_VAIN on, how often it was due. */
static unsigned int looks_in_vain = 0;
static unsigned int turns_in_vain = 0;

void
FwTurnCommitted(void)
{
	answered = true;
}

static bool
worth_it(unsigned int *in_vain)
{
	if (*in_vain < FW_TURNS_IN_VAIN)
		return true;
	*in_vain += 1;
	return *in_vain % FW_TURNS_BETWEEN == 0;
}

static void
learn(unsigned int *in_vain, bool useful)
{
	if (useful)
		*in_vain = 0;
	else if (*in_vain < FW_TURNS_IN_VAIN)
		*in_vain += 1;
}

/* As recv().  The client's socket never blocks: core sleeps elsewhere. */
ssize_t
FwTurnRecv(int fd, void *buf, size_t len, int flags)
{
	ssize_t		n;

	if (!answered || MyProcPort == NULL || fd != MyProcPort->sock ||
		!FwWaitsEnabled())
		return FwRealRecv(fd, buf, len, flags);
	answered = false;
	if (!worth_it(&turns_in_vain))
		return FwRealRecv(fd, buf, len, flags);
	if (worth_it(&looks_in_vain))
	{
		n = FwRealRecv(fd, buf, len, flags);
		learn(&looks_in_vain, n >= 0);
		if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
			return n;
	}
	(void) sched_yield();
	n = FwRealRecv(fd, buf, len, flags);
	learn(&turns_in_vain, n >= 0);
	return n;
}
