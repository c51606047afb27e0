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
 * soon is not done any more, but tried now and then.
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

/* So often in a row it was of no use, until it is only tried, and how often that is. */
#define FW_TURNS_IN_VAIN	8
#define FW_TURNS_BETWEEN	64

static bool answered = false;	/* a commit that waited, not asked since */
static unsigned int in_vain = 0;

void
FwTurnCommitted(void)
{
	answered = true;
}

static bool
worth_it(void)
{
	if (in_vain < FW_TURNS_IN_VAIN)
		return true;
	return ++in_vain % FW_TURNS_BETWEEN == 0;
}

/* As recv().  The client's socket never blocks: core sleeps elsewhere. */
ssize_t
FwTurnRecv(int fd, void *buf, size_t len, int flags)
{
	ssize_t		n = FwRealRecv(fd, buf, len, flags);

	if (!answered || MyProcPort == NULL || fd != MyProcPort->sock)
		return n;
	answered = false;
	if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK) ||
		!FwWaitsEnabled() || !worth_it())
		return n;
	(void) sched_yield();
	n = FwRealRecv(fd, buf, len, flags);
	in_vain = n >= 0 ? 0 : in_vain + 1;
	return n;
}
