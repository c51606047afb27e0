/*-------------------------------------------------------------------------
 *
 * fw_lazyset.c
 *	  Keeps the wait set that a walreceiver's core makes anew for each sleep.
 *
 * WaitLatchOrSocket() creates an epoll set, adds the latch's signalfd, the
 * postmaster's pipe and a socket, waits (or not, if the latch is set already)
 * and closes it: five system calls around a sleep that on a busy stream never
 * takes place.  Core's comment there regrets it: it cannot know that the socket
 * is still the same.  We know, as the socket is ours.
 *
 * So while a stream is on a channel the walreceiver's sets are served from one
 * that stays open.  What core adds is written down; only when core really waits
 * is it compared with what the kept set holds, and mostly it is the same.
 *
 * What makes this safe: a descriptor number that is closed and used again would
 * silently be gone from the kept set.  The three descriptors live as long as
 * the set: the signalfd and the pipe as long as the process, the third is ours
 * (FwLazySetFor), and closing it forgets the set first.  Anything else that
 * core adds makes the set an ordinary one again.
 *
 * Only in the walreceiver, and only between FwLazySetFor and FwLazySetForget.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include <unistd.h>

/* WaitLatchOrSocket adds at most three. */
#define MEMBERS_MAX 3

typedef struct Members
{
	int			n;
	int			fd[MEMBERS_MAX];
	struct epoll_event event[MEMBERS_MAX];
} Members;

static int	our_fd = -1;		/* the descriptor core waits for */
static int	kept = -1;			/* the epoll set; -1 if there is none */
static bool in_use = false;		/* core has it "open" */
static Members asked;			/* what core has added this time */
static Members present;			/* what the kernel has */

void
FwLazySetFor(int fd)
{
	FwLazySetForget();
	our_fd = fd;
}

void
FwLazySetForget(void)
{
	/* If core has it open (an error is on its way out), core closes it. */
	if (kept >= 0 && !in_use)
		close(kept);
	kept = our_fd = -1;
	in_use = false;
	present.n = asked.n = 0;
}

bool
FwLazySetIs(int epfd)
{
	return in_use && epfd == kept;
}

/* epoll_create1(): the kept set, if there is one to be had. */
int
FwLazySetCreate(int flags)
{
	if (our_fd < 0 || in_use || flags != EPOLL_CLOEXEC)
		return -1;
	if (kept < 0)
		kept = epoll_create1(EPOLL_CLOEXEC);
	if (kept < 0)
		return -1;
	in_use = true;
	asked.n = 0;
	return kept;
}

/* Is what the kernel has what core asked for? */
static bool
same_member(int i)
{
	return i < present.n && present.fd[i] == asked.fd[i] &&
		present.event[i].events == asked.event[i].events &&
		present.event[i].data.u64 == asked.event[i].data.u64;
}

/* Make the kernel's set what core asked for. */
static bool
apply(void)
{
	for (int i = 0; i < Max(present.n, asked.n); i++)
	{
		if (i < asked.n && same_member(i))
			continue;
		/* One that was closed in the meantime is gone by itself. */
		if (i < present.n)
			(void) epoll_ctl(kept, EPOLL_CTL_DEL, present.fd[i], NULL);
		if (i < asked.n &&
			epoll_ctl(kept, EPOLL_CTL_ADD, asked.fd[i], &asked.event[i]) < 0)
		{
			present.n = i;
			return false;
		}
	}
	present = asked;
	return true;
}

/* Hand the set over to core for good, as the ordinary set it thinks it has. */
static bool
hand_over(void)
{
	bool		ok = apply();

	kept = -1;
	in_use = false;
	present.n = asked.n = 0;
	return ok;
}

/* epoll_ctl() on the kept set. */
int
FwLazySetAdd(int epfd, int op, int fd, struct epoll_event *event)
{
	bool		last = asked.n == MEMBERS_MAX - 1;

	if (op != EPOLL_CTL_ADD || asked.n == MEMBERS_MAX ||
		(last && fd != our_fd))
	{
		if (!hand_over())
			return -1;
		return epoll_ctl(epfd, op, fd, event);
	}
	asked.fd[asked.n] = fd;
	asked.event[asked.n] = *event;
	asked.n++;
	return 0;
}

/* Before epoll_wait() on the kept set; false with errno if it is not possible. */
bool
FwLazySetPrepare(int epfd)
{
	return apply();
}

/* close() of the kept set: it stays. */
int
FwLazySetClose(int epfd)
{
	in_use = false;
	return 0;
}
