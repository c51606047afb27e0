/*-------------------------------------------------------------------------
 *
 * fw_due.c
 *	  When a walreceiver has something to do though nothing happens.
 *
 * A report that is held, TCP's end that waits for the last messages, figures of
 * the views: each must be looked after at some time.  In PostgreSQL 15 core calls
 * receive() every 100 ms, from 16 on only when one of its own timeouts is over.
 * So there is a timer among the descriptors that core sleeps on.
 *
 * It is set to the earliest time asked for and then left alone until it has
 * expired: who wants a later time asks again then.  On a busy stream, where what
 * is due is mostly done before, that is one system call in 20 ms.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include <sys/timerfd.h>
#include <unistd.h>

static int	timer = -1;
static uint64 set_to = 0;		/* fastwake_now(); 0: it is not running */

/* The timer: a descriptor that is readable when it has expired. */
int
FwDueOpen(void)
{
	FwDueClose();
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (timer < 0)
		ereport(ERROR,
				(errmsg("%s() failed: %m", "timerfd_create")));
	return timer;
}

void
FwDueClose(void)
{
	if (timer >= 0)
		close(timer);
	timer = -1;
	set_to = 0;
}

/* Let it expire at this time (fastwake_now()) at the latest; 0: never mind. */
void
FwDueAt(uint64 when)
{
	struct itimerspec spec = {
		.it_value.tv_sec = when / 1000000000,
		.it_value.tv_nsec = when % 1000000000,
	};

	if (timer < 0 || when == 0 || (set_to != 0 && set_to <= when))
		return;
	if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, NULL) == 0)
		set_to = when;
}

/* What was due is looked after now: an expired timer is readable no more. */
void
FwDueTaken(uint64 now)
{
	uint64		expirations;

	if (set_to == 0 || now < set_to)
		return;
	(void) !read(timer, &expirations, sizeof(expirations));
	set_to = 0;
}
