/*-------------------------------------------------------------------------
 *
 * fw_sender.c
 *	  A walsender's stream on a channel.
 *
 * Core's walsender runs as ever; what changes is beneath it:
 *
 *	bytes out	after the 'W' of START_REPLICATION CopyData goes to the channel,
 *				everything else to TCP (a replacement of PqCommMethods);
 *	bytes in	the standby's replies come from the channel, presented by recv()
 *				as the CopyData messages they would be on TCP.  The source
 *				changes at message boundaries only: core asks for a message's
 *				first byte, and only for that, with a length of one;
 *	waits		the epoll_wait() of its main loop waits for the latch, the
 *				channel and TCP, in memory while there is traffic, else by
 *				descriptors.
 *
 * TCP stays open: for control, errors, and to notice that the peer is gone.
 *
 *	IDLE -- 'W' --> STREAMING -- 'c' --> ENDING -- 'T', 'C', 'E' --> IDLE
 *
 * 'E' and 'C' (shutdown) also end a stream directly.  Every end is announced in
 * the channel as well, since TCP may overtake it.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "libpq/libpq-be.h"
#include "libpq/libpq.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "postmaster/postmaster.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

/* At exit, sends are given this long to reach the standby's memory. */
#define EXIT_FLUSH_MS	2000
/* A channel that broke: how long TCP has to tell that the peer is just gone. */
#define BROKEN_GRACE_MS	500
/* How often a busy walsender looks for input on TCP. */
#define TCP_CHECK_NS	(UINT64CONST(20) * 1000000)
/* The view's figures are at most this old. */
#define REFRESH_MS		200

typedef enum State
{
	IDLE,
	STREAMING,
	ENDING
} State;

/* Of the reports that the standby could hold. */
typedef enum Wanted
{
	WANT_NOTHING,
	WANT_APPLIES,
	WANT_ALL
} Wanted;

static State state = IDLE;
static struct fastwake_channel *channel = NULL;
static FwConn *conn = NULL;
static FwBacklog backlog;
static uint32 stream = 0;
static bool wal_only = false;	/* replies come by TCP */

static int	broken = 0;			/* -errno of the channel */
static uint64 broken_at = 0;

static int	wait_set = -1;		/* epoll: TCP, SIGURG, postmaster, channel */
static int	urgent_fd = -1;		/* signalfd of SIGURG */
static bool tcp_muted = false;

static bool tcp_due = true;		/* look at TCP at the next chance */
static uint64 tcp_checked = 0;
static uint64 last_traffic = 0;
static Wanted said = WANT_NOTHING;	/* what the standby knows that we want */
static bool stats_stale = false;
static uint64 refreshed = 0;

/* A reply being read by core, as a CopyData message. */
static StringInfoData inject;

static const PQcommMethods *core_methods = NULL;
static PQcommMethods our_methods;

/* Events of wait_set that are not channel descriptors. */
enum
{
	EV_TCP,
	EV_URGENT,
	EV_BELL,
	EV_POSTMASTER,
	EV_CHANNEL
};

bool
FwSenderStreaming(void)
{
	return state != IDLE;
}

/* ---- the channel ---- */

static void
channel_broke(int err)
{
	if (broken != 0)
		return;
	broken = err;
	broken_at = fastwake_now();
	tcp_due = true;
	/* A dead peer's descriptors would stay readable. */
	if (wait_set >= 0)
	{
		int			fds[FASTWAKE_FDS_MAX];
		int			n = fastwake_channel_fds(channel, fds);

		for (int i = 0; i < n; i++)
			(void) epoll_ctl(wait_set, EPOLL_CTL_DEL, fds[i], NULL);
	}
}

/* Send what can be sent; true if there is something for core to look at. */
static bool
progress(void)
{
	int			rc;

	if (broken != 0)
		return false;
	rc = fastwake_channel_poll(channel);
	if (rc >= 0)
	{
		bool		readable = (rc & FASTWAKE_READABLE) != 0;
		bool		was_pending = !FwBacklogEmpty(&backlog);

		rc = FwBacklogFlush(&backlog, channel);
		if (rc == 0)
			return readable || (was_pending && FwBacklogEmpty(&backlog));
	}
	channel_broke(rc);
	return true;
}

/*
 * Does a commit wait, or did one lately, for a remote write or apply, and do others
 * wait for anything else?  Read without a lock: a commit that begins to wait only now
 * is released a little later than it could be, and those that follow find the
 * standby told.
 */
static Wanted
reports_wanted(uint64 now)
{
	bool		writes = !FwSyncRepQueueEmpty(SYNC_REP_WAIT_WRITE);

	if (!writes && FwSyncRepQueueEmpty(SYNC_REP_WAIT_APPLY) &&
		now >= pg_atomic_read_u64(&FwShmem->prompt_until))
		return WANT_NOTHING;
	if (writes || now < pg_atomic_read_u64(&FwShmem->mixed_until))
		return WANT_ALL;
	return WANT_APPLIES;
}

static void
put(const char *data, size_t len, Wanted wanted)
{
	uint32		number = stream | (wanted == WANT_NOTHING ? 0 : FW_STREAM_PROMPT);
	int			rc = FwBacklogSend(&backlog, channel, number, data, len);

	if (rc < 0)
		channel_broke(rc);
}

/* Which of the prompt reports are wanted, where the stream number leaves it open. */
static void
put_wanted(Wanted wanted)
{
	const char	mark = wanted == WANT_APPLIES ? FW_REPORT_APPLIES : FW_REPORT_NOW;

	if (wanted != said && (wanted == WANT_APPLIES || said == WANT_APPLIES) &&
		wanted != WANT_NOTHING)
		put(&mark, 1, wanted);
	said = wanted;
}

static void
queue(const char *data, size_t len)
{
	if (broken != 0)
		return;
	last_traffic = fastwake_now();
	put_wanted(reports_wanted(last_traffic));
	if (broken == 0)
		put(data, len, said);
	FwRttSent(data, len, last_traffic);
	stats_stale = true;
}

/*
 * A broken channel ends the replication connection, and the standby comes back
 * over TCP.  But if TCP says that the peer is gone, that is core's business and
 * no failure of the channel: it is given a moment to say so.
 */
static void
report_broken(void)
{
	const char *reason = fastwake_channel_reason(channel);

	if ((broken == -EPIPE || broken == -ECONNRESET) &&
		fastwake_now() - broken_at < (uint64) BROKEN_GRACE_MS * 1000000)
	{
		tcp_due = true;
		return;
	}
	if (reason == NULL || reason[0] == '\0')
		reason = strerror(-broken);
	FwCountFallback(FW_ROLE_SENDER, application_name, reason);
	ereport(FATAL,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg(FW_FAILED_PREFIX ": %s", reason),
			 errdetail("The standby reconnects, over TCP for a while.")));
}

/* ---- streams ---- */

static void
add_to_set(int fd, uint32 events, int what)
{
	struct epoll_event ev = {.events = events,.data.u32 = what};

	if (fd >= 0 && epoll_ctl(wait_set, EPOLL_CTL_ADD, fd, &ev) < 0)
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("%s() failed: %m", "epoll_ctl")));
}

static void
make_wait_set(void)
{
	int			fds[FASTWAKE_FDS_MAX];
	int			n = fastwake_channel_fds(channel, fds);
	sigset_t	urgent;

	sigemptyset(&urgent);
	sigaddset(&urgent, SIGURG);
	urgent_fd = signalfd(-1, &urgent, SFD_NONBLOCK | SFD_CLOEXEC);
	wait_set = epoll_create1(EPOLL_CLOEXEC);
	if (wait_set < 0 || urgent_fd < 0)
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("could not create a wait set: %m")));
	add_to_set(MyProcPort->sock, EPOLLIN | EPOLLRDHUP, EV_TCP);
	add_to_set(urgent_fd, EPOLLIN, EV_URGENT);
	add_to_set(FwBellClaim(), EPOLLIN, EV_BELL);
	add_to_set(postmaster_alive_fds[POSTMASTER_FD_WATCH], EPOLLIN,
			   EV_POSTMASTER);
	for (int i = 0; i < n; i++)
		add_to_set(fds[i], EPOLLIN, EV_CHANNEL);
}

static void
mute_tcp(bool mute)
{
	struct epoll_event ev = {.events = mute ? 0 : EPOLLIN | EPOLLRDHUP,
	.data.u32 = EV_TCP};

	if (tcp_muted != mute)
		(void) epoll_ctl(wait_set, EPOLL_CTL_MOD, MyProcPort->sock, &ev);
	tcp_muted = mute;
}

/*
 * Let sends and the end of the stream arrive before our memory goes away.
 *
 * If core has given up on the standby (see WalSndShutdown()), what the ring has
 * no room for is dropped, as core drops what is in its own buffer: a standby
 * that comes back finds its slot free as early as it would in stock.
 */
static void
flush_at_exit(void)
{
	uint64		end = fastwake_now() + (uint64) EXIT_FLUSH_MS * 1000000;
	bool		gave_up = whereToSendOutput == DestNone;

	while (broken == 0 && fastwake_now() < end)
	{
		struct pollfd fds[FASTWAKE_FDS_MAX];
		int			channel_fds[FASTWAKE_FDS_MAX];
		int			n = fastwake_channel_fds(channel, channel_fds);
		int			rc;

		(void) progress();
		if (broken != 0)
			break;
		rc = fastwake_channel_flushed(channel);
		if (rc < 0 || (rc == 1 && (gave_up || FwBacklogEmpty(&backlog))))
			break;
		if (fastwake_channel_arm(channel) != 0)
			continue;
		for (int i = 0; i < n; i++)
		{
			fds[i].fd = channel_fds[i];
			fds[i].events = POLLIN;
		}
		(void) poll(fds, n, 10);
	}
}

static void
sender_exit(int code, Datum arg)
{
	if (channel == NULL)
		return;
	state = IDLE;
	flush_at_exit();
	fastwake_channel_close(channel);
	channel = NULL;
}

/* The first START_REPLICATION after the negotiation: is there a channel? */
static void
adopt_channel(void)
{
	struct fastwake_channel *offered = FwEndpointTakeChannel(&wal_only);

	if (channel != NULL || offered == NULL)
		return;
	channel = offered;
	before_shmem_exit(sender_exit, 0);
	make_wait_set();
	FwPinChannel(channel);
	FwReleaseInit();
	initStringInfo(&inject);
	conn = FwConnClaim(FW_ROLE_SENDER, application_name);
	FwConnSetChannel(conn, channel);
	ereport(LOG,
			(errmsg("pg_fastwake: WAL for standby \"%s\" travels over %s",
					application_name, conn->transport),
			 errdetail("%s%s", FwChannelText(&conn->info),
					   wal_only ? " Replies stay on the encrypted connection." : "")));
}

static void
begin_stream(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	adopt_channel();
	MemoryContextSwitchTo(old);
	if (channel == NULL)
		return;
	stream++;
	state = STREAMING;
	said = WANT_NOTHING;
	resetStringInfo(&inject);
	inject.cursor = 0;
	FwRttBegin();
	mute_tcp(false);
}

static void
end_stream(State next)
{
	const char	mark = FW_END_OF_STREAM;

	if (state == STREAMING)
	{
		queue(&mark, 1);
		FwConnStreamEnded(conn);
	}
	state = next;
}

/* ---- PqCommMethods ---- */

/* Which messages of core concern the stream?  True if it was ours to send. */
static bool
route(char msgtype, const char *s, size_t len)
{
	switch (msgtype)
	{
		case 'W':				/* CopyBothResponse */
			begin_stream();
			return false;
		case 'd':				/* CopyData */
			if (state != STREAMING)
				return false;
			queue(s, len);
			return true;
		case 'c':				/* CopyDone */
			if (state == STREAMING)
				end_stream(ENDING);
			return false;
		case 'N':				/* NoticeResponse */
		case 'S':				/* ParameterStatus */
		case 'A':				/* NotificationResponse */
			return false;
		default:
			if (state != IDLE)
				end_stream(IDLE);
			return false;
	}
}

static int
our_putmessage(char msgtype, const char *s, size_t len)
{
	if (route(msgtype, s, len))
		return 0;
	return core_methods->putmessage(msgtype, s, len);
}

static void
our_putmessage_noblock(char msgtype, const char *s, size_t len)
{
	if (!route(msgtype, s, len))
		core_methods->putmessage_noblock(msgtype, s, len);
}

static int
our_flush_if_writable(void)
{
	if (state != IDLE)
	{
		if (!FwBacklogEmpty(&backlog))
			(void) progress();
		if (broken != 0)
			report_broken();
	}
	return core_methods->flush_if_writable();
}

static bool
our_is_send_pending(void)
{
	if (state != IDLE && !FwBacklogEmpty(&backlog))
		return true;
	return core_methods->is_send_pending();
}

void
FwSenderInstall(void)
{
	if (core_methods != NULL)
		return;
	core_methods = PqCommMethods;
	our_methods = *core_methods;
	our_methods.putmessage = our_putmessage;
	our_methods.putmessage_noblock = our_putmessage_noblock;
	our_methods.flush_if_writable = our_flush_if_writable;
	our_methods.is_send_pending = our_is_send_pending;
	PqCommMethods = &our_methods;
}

/* ---- replies ---- */

/* The next reply of this stream, as a CopyData message in INJECT. */
static bool
next_reply(void)
{
	void	   *buf;
	uint32		from;
	ssize_t		len;

	/* Bounded: a standby that sends only such messages must not hold us. */
	for (int i = 0; broken == 0 && i < FW_SKIP_MAX; i++)
	{
		uint32		netlen;

		len = fastwake_channel_recv(channel, &from, &buf);
		if (len == -EAGAIN)
			return false;
		if (len < 0)
		{
			channel_broke((int) len);
			return false;
		}
		if (from != stream)
			continue;			/* of a stream that has ended */

		resetStringInfo(&inject);
		appendStringInfoChar(&inject, 'd');
		netlen = pg_hton32((uint32) len + 4);
		appendBinaryStringInfo(&inject, (char *) &netlen, 4);
		appendBinaryStringInfo(&inject, buf, len);
		inject.cursor = 0;

		last_traffic = fastwake_now();
		stats_stale = true;
		FwRttReply(buf, len, last_traffic, &conn->rtt);
		return true;
	}
	return false;
}

static ssize_t
take_injected(void *buf, size_t len)
{
	size_t		n = Min(len, (size_t) (inject.len - inject.cursor));

	memcpy(buf, inject.data + inject.cursor, n);
	inject.cursor += (int) n;
	return (ssize_t) n;
}

ssize_t
FwSenderRecv(int fd, void *buf, size_t len, int flags)
{
	uint64		now;

	if (wal_only || MyProcPort == NULL || fd != MyProcPort->sock)
		return FwRealRecv(fd, buf, len, flags);
	if (inject.cursor < inject.len)
		return take_injected(buf, len);
	if (len != 1)
		return FwRealRecv(fd, buf, len, flags);

	/* A message boundary. */
	if (next_reply())
		return take_injected(buf, len);
	now = fastwake_now();
	if (!tcp_due && now - tcp_checked < TCP_CHECK_NS)
	{
		errno = EAGAIN;
		return -1;
	}
	tcp_due = false;
	tcp_checked = now;
	return FwRealRecv(fd, buf, len, flags);
}

/* ---- waits ---- */

/* Make core's WaitEventSetWait() return and its main loop go round. */
static int
wake_self(void)
{
	MyLatch->is_set = true;
	errno = EINTR;
	return -1;
}

/* TCP or the postmaster: core's own set knows what to make of it. */
static int
ask_core_set(int epfd, struct epoll_event *events, int maxevents)
{
	int			rc = FwRealEpollWait(epfd, events, maxevents, 0);

	tcp_due = true;
	if (rc != 0)
		return rc;
	/* Core does not want to read now: do not be woken by it again. */
	mute_tcp(true);
	errno = EINTR;
	return -1;
}

static void
drain_urgent(void)
{
	struct signalfd_siginfo info;

	while (read(urgent_fd, &info, sizeof(info)) > 0)
		;
}

static int
handle_events(const struct epoll_event *got, int n, int epfd,
			  struct epoll_event *events, int maxevents)
{
	bool		core = false;

	for (int i = 0; i < n; i++)
	{
		if (got[i].data.u32 == EV_URGENT)
			drain_urgent();
		else if (got[i].data.u32 == EV_BELL)
			FwBellDrain();
		else if (got[i].data.u32 == EV_CHANNEL)
		{
			if (progress())
				MyLatch->is_set = true;
		}
		else
			core = true;
	}
	if (core)
		return ask_core_set(epfd, events, maxevents);
	if (!MyLatch->is_set)
		pg_atomic_fetch_add_u64(&FwShmem->waits[FW_WAIT_WALSENDER][FW_PATH_DESCRIPTOR].spurious, 1);
	errno = EINTR;
	return -1;
}

static void
refresh_stats(void)
{
	FwConnRefresh(conn, channel);
	stats_stale = false;
	refreshed = fastwake_now();
}

static int
sleep_on_set(struct epoll_event *got, int max, int timeout)
{
	int			n;

	FwBellArm();
	n = FwRealEpollWait(wait_set, got, max, timeout);
	FwBellDisarm();
	return n;
}

static int
wait_descriptors(int epfd, struct epoll_event *events, int maxevents,
				 int timeout)
{
	struct epoll_event got[5];
	int			n;

	if (broken == 0)
	{
		int			rc = fastwake_channel_arm(channel);

		if (rc < 0)
			channel_broke(rc);
		if (rc != 0)
		{
			(void) progress();
			return wake_self();
		}
	}
	/* A broken channel waits for TCP's word, but not for long. */
	if (broken != 0)
		timeout = timeout < 0 ? 100 : Min(timeout, 100);

	FwCountSleep(FW_WAIT_WALSENDER);
	n = 0;
	if (stats_stale && (timeout < 0 || timeout > REFRESH_MS) && broken == 0)
	{
		n = sleep_on_set(got, lengthof(got), REFRESH_MS);
		if (n == 0)
		{
			refresh_stats();
			timeout = timeout < 0 ? timeout : timeout - REFRESH_MS;
		}
	}
	if (n == 0)
		n = sleep_on_set(got, lengthof(got), timeout);
	if (n > 0)
		return handle_events(got, n, epfd, events, maxevents);
	if (n == 0 && broken != 0)
		return wake_self();
	return n;
}

/*
 * In memory: the latch, the channel's words.  True if it ended the wait.
 * TCP is not seen here, hence the short slice.
 */
static bool
wait_memory(int timeout)
{
	struct fastwake_watch watches[5];
	uint64		slice = (uint64) FW_SLICE_MS;
	uint64		now;
	int			n;

	if (FwMyWaiter() == NULL)
		return false;
	n = fastwake_channel_watches(channel, &watches[1]);
	if (n < 0)
		return FwSpin(FW_WAIT_WALSENDER, channel, FwBacklogEvents(&backlog)) &&
			(progress(), true);
	FwWatchLatch(&watches[0]);

	/* What came before the watches were taken must be seen now. */
	if (progress())
		return true;
	if (timeout >= 0)
		slice = Min(slice, (uint64) timeout);
	now = fastwake_now();
	fastwake_waiter_no_hurry(FwMyWaiter(), FwGatherUntil(now));
	if (FwWait(FW_WAIT_WALSENDER, watches, n + 1,
			   now + slice * 1000000) == -ETIMEDOUT)
	{
		FwCountPark(FW_WAIT_WALSENDER);
		return false;
	}
	(void) progress();
	return true;
}

/*
 * A commit may have begun to wait for a report that the standby is holding: it is
 * to send that, and then what is wanted from now on.
 */
static void
announce_wanted(uint64 now)
{
	const char	mark = FW_REPORT_NOW;

	if (state != STREAMING || broken != 0 || reports_wanted(now) <= said)
		return;
	last_traffic = now;
	put(&mark, 1, WANT_ALL);
	said = WANT_ALL;
	stats_stale = true;
}

/*
 * Is there WAL to send of which core was not told?  Asked once for each position:
 * if core then does not send it, it has its reasons.
 */
static bool
flush_missed(void)
{
	static XLogRecPtr told = InvalidXLogRecPtr;
	XLogRecPtr	flushed = FwFlushedUpTo();

	if (state != STREAMING || !FwBacklogEmpty(&backlog) || flushed == told ||
		flushed <= MyWalSnd->sentPtr)
		return false;
	told = flushed;
	return true;
}

int
FwSenderWait(int epfd, struct epoll_event *events, int maxevents, int timeout)
{
	uint64		now = fastwake_now();
	bool		active = now - last_traffic < (uint64) FW_IDLE_MS * 1000000;

	/* Replies on an encrypted connection pass us by; what core made of them: */
	if (wal_only)
		FwRttWritten(MyWalSnd->write, now, &conn->rtt);
	/* A walsender under load never waits for long. */
	if (stats_stale && now - refreshed >= (uint64) REFRESH_MS * 1000000)
		refresh_stats();
	announce_wanted(now);
	if (progress() || flush_missed())
		return wake_self();
	if (broken == 0 && active && !wal_only && FwWaitsEnabled())
	{
		if (wait_memory(timeout))
			return wake_self();
		/* Core's timeouts count from when it called. */
		if (timeout > 0)
			timeout -= Min((uint64) timeout,
						   (fastwake_now() - now) / 1000000);
	}
	return wait_descriptors(epfd, events, maxevents, timeout);
}
