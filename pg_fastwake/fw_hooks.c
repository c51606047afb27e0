/*-------------------------------------------------------------------------
 *
 * fw_hooks.c
 *	  The functions that stand in for some of libc's.
 *
 * They run in every process of the server, wherever core calls these, and so
 * decide first, from memory alone, whether the call is theirs.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/wait_event.h"

static int	(*real_epoll_wait) (int, struct epoll_event *, int, int);
static int	(*real_kill) (pid_t, int);
static ssize_t (*real_recv) (int, void *, size_t, int);
static int	(*real_epoll_create1) (int);
static int	(*real_epoll_ctl) (int, int, int, struct epoll_event *);
static int	(*real_close) (int);

static bool hooks_active = false;

int
FwRealEpollWait(int epfd, struct epoll_event *events, int maxevents,
				int timeout)
{
	return real_epoll_wait(epfd, events, maxevents, timeout);
}

ssize_t
FwRealRecv(int fd, void *buf, size_t len, int flags)
{
	return real_recv(fd, buf, len, flags);
}

/*
 * Which wait this is, core itself says by the wait event it reports.  Waits
 * that are not ours, and all of them when a timeout of zero asks for a mere
 * look, go straight to the kernel.
 */
static int
hook_epoll_wait(int epfd, struct epoll_event *events, int maxevents,
				int timeout)
{
	FwWakeReleased();
	if (timeout != 0)
	{
		switch (*my_wait_event_info)
		{
			case WAIT_EVENT_SYNC_REP:
				FwNoteCommitWait();
				if (FwWaitsEnabled())
					return FwSyncCommitWait(epfd, events, maxevents, timeout);
				break;
			case WAIT_EVENT_RECOVERY_WAL_STREAM:
				if (FwWaitsEnabled())
					return FwStartupWait(epfd, events, maxevents, timeout);
				break;
			case WAIT_EVENT_WAL_SENDER_MAIN:
				if (FwSenderStreaming())
					return FwSenderWait(epfd, events, maxevents, timeout);
				break;
		}
	}
	if (FwLazySetIs(epfd))
	{
		if (timeout != 0)
			FwCountSleep(FW_WAIT_WALRECEIVER);
		return FwLazySetWait(epfd, events, maxevents, timeout);
	}
	return real_epoll_wait(epfd, events, maxevents, timeout);
}

static int
hook_epoll_create1(int flags)
{
	int			fd = FwLazySetCreate(flags);

	return fd >= 0 ? fd : real_epoll_create1(flags);
}

static int
hook_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	if (FwLazySetIs(epfd))
		return FwLazySetAdd(epfd, op, fd, event);
	return real_epoll_ctl(epfd, op, fd, event);
}

static int
hook_close(int fd)
{
	if (FwLazySetIs(fd))
		return FwLazySetClose(fd);
	return real_close(fd);
}

/*
 * SetLatch() has set the latch and signals its owner.  An owner that waits in
 * memory is woken there, and no signal is needed:
 *
 *	setter						owner
 *	latch->is_set = true		publish the waiter
 *	full barrier (SetLatch)		full barrier (fastwake_wait)
 *	waiter published?			latch->is_set?
 *
 * One of the two sees the other.  If the setter does not see the waiter, the
 * signal is sent as ever, and if the owner was only just going to publish, it
 * sees is_set; the signal then stays pending for its next look at descriptors.
 *
 * A walsender or walreceiver that sleeps on descriptors has a bell (fw_bell.c).
 *
 * A process's own signal handlers set its own latch: then its waiter must not
 * fall asleep any more (fastwake_wake_pid() sees to it), and the signal is sent
 * too, for core's own waits.
 *
 * Async-signal-safe, keeps errno.  Honoured even while pg_fastwake.enabled is
 * off, as waits begun before may still be going on.
 */
int
FwWakeProcess(pid_t pid)
{
	int			save_errno = errno;
	bool		woken = FwRingStartup(pid) || FwReceiverAtEase(pid);

	if (!woken)
		woken = fastwake_wake_pid(FwDomain, pid) > 0 || FwBellRing(pid);
	errno = save_errno;
	if (woken && pid != MyProcPid)
	{
		pg_atomic_fetch_add_u64(&FwShmem->signals_saved, 1);
		return 0;
	}
	pg_atomic_fetch_add_u64(&FwShmem->signals_sent, 1);
	return real_kill(pid, SIGURG);
}

static int
hook_kill(pid_t pid, int sig)
{
	if (sig != SIGURG || pid <= 0 || MyProc == NULL || FwDomain == NULL)
		return real_kill(pid, sig);
	return FwNoteReleased(pid) ? 0 : FwWakeProcess(pid);
}

static ssize_t
hook_recv(int fd, void *buf, size_t len, int flags)
{
	FwWakeReleased();
	if (FwSenderStreaming())
		return FwSenderRecv(fd, buf, len, flags);
	return FwTurnRecv(fd, buf, len, flags);
}

bool
FwHooksInstall(const char **reason)
{
	const FwHook hooks[] = {
		{"epoll_wait", hook_epoll_wait, (void **) &real_epoll_wait},
		{"kill", hook_kill, (void **) &real_kill},
		{"recv", hook_recv, (void **) &real_recv},
		{"epoll_create1", hook_epoll_create1, (void **) &real_epoll_create1},
		{"epoll_ctl", hook_epoll_ctl, (void **) &real_epoll_ctl},
		{"close", hook_close, (void **) &real_close},
	};

	if (!FwInterpose(hooks, lengthof(hooks), reason))
		return false;
	if (!FwInterposeVerify())
	{
		*reason = "the global offset table did not keep the replacements";
		return false;
	}
	hooks_active = true;
	return true;
}

bool
FwHooksActive(void)
{
	return hooks_active;
}
