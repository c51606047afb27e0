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
 * The kept set also has the walreceiver's bell (fw_bell.c), rung in place of the
 * signals that the startup process would send for each report of an apply.
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
static int	bell = -1;			/* in the kept set; -1 if it is not */
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
	kept = our_fd = bell = -1;
	in_use = false;
	present.n = asked.n = 0;
}

bool
FwLazySetIs(int epfd)
{
	return in_use && epfd == kept;
}

/* The bell's events carry this address, core's never do. */
static void
add_bell(void)
{
	struct epoll_event ev = {.events = EPOLLIN,.data.ptr = &bell};

	bell = FwBellClaim();
	if (bell >= 0 && epoll_ctl(kept, EPOLL_CTL_ADD, bell, &ev) < 0)
		bell = -1;
}

/* epoll_create1(): the kept set, if there is one to be had. */
int
FwLazySetCreate(int flags)
{
	if (our_fd < 0 || in_use || flags != EPOLL_CLOEXEC)
		return -1;
	if (kept < 0)
	{
		kept = epoll_create1(EPOLL_CLOEXEC);
		if (kept < 0)
			return -1;
		add_bell();
	}
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

	if (bell >= 0)
		(void) epoll_ctl(kept, EPOLL_CTL_DEL, bell, NULL);
	kept = bell = -1;
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

static bool
bell_rang(const struct epoll_event *events, int n)
{
	for (int i = 0; i < n; i++)
		if (events[i].data.ptr == &bell)
			return true;
	return false;
}

/*
 * epoll_wait() on the kept set.  A bell is to core what a signal would be: it
 * looks at its latch, and the other events are still there when it comes back.
 */
int
FwLazySetWait(int epfd, struct epoll_event *events, int maxevents, int timeout)
{
	int			n;

	if (!apply())
		return -1;
	if (timeout == 0 || bell < 0)
		n = FwRealEpollWait(epfd, events, maxevents, timeout);
	else
	{
		FwBellArm();
		n = FwRealEpollWait(epfd, events, maxevents, timeout);
		FwBellDisarm();
	}
	if (!bell_rang(events, n))
		return n;
	FwBellDrain();
	errno = EINTR;
	return -1;
}

/* close() of the kept set: it stays. */
int
FwLazySetClose(int epfd)
{
	in_use = false;
	return 0;
}
