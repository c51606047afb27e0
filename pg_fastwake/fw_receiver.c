/*-------------------------------------------------------------------------
 *
 * fw_receiver.c
 *	  A walreceiver's stream on a channel.
 *
 * Core's walreceiver talks to libpq through a table of functions; this file wraps
 * some of them.  Logical replication, and any process that is not the
 * walreceiver, get libpqwalreceiver's own.
 *
 * receive() has three kinds of answer: a message; 0, upon which core flushes,
 * replies and then sleeps on the descriptor it was given, for at most 100 ms (15)
 * or until one of its timeouts is over (16 and later); -1 at the end of the
 * stream.  To be called again at once core needs its latch set, and to run its
 * status and timeout logic it must sometimes really sleep.
 * So receive() waits in memory itself, for a short while, if there is traffic;
 * otherwise it arms the channel and lets core sleep on a descriptor for both
 * the channel and TCP.
 *
 * TCP may announce the end before the ring has been drained.  Its end, or its
 * error, is kept until everything that the primary sent has been delivered.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include <poll.h>
#include <unistd.h>

#include "libpq-fe.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bswap.h"
#include "replication/walreceiver.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* The table's members have the names of function-like macros. */
#undef walrcv_connect
#undef walrcv_startstreaming
#undef walrcv_endstreaming
#undef walrcv_receive
#undef walrcv_send
#undef walrcv_disconnect

/* How often a busy walreceiver looks at TCP. */
#define TCP_CHECK_NS	(UINT64CONST(20) * 1000000)
/* After TCP's end: the longest pause between messages still in flight. */
#define DRAIN_MS		2000
/* A channel that broke: how long TCP has to tell that the primary is gone. */
#define BROKEN_GRACE_MS	500
/* The view's figures of a busy stream are at most this old. */
#define REFRESH_NS		(UINT64CONST(200) * 1000000)

/* 'k', end of WAL, time, reply requested; see WalSndKeepalive(). */
#define KEEPALIVE_LEN	18
#define KEEPALIVE_ASKS	17
/* Replies are not held if the primary has heard nothing for so long. */
#define SILENCE_NS		(UINT64CONST(1) * 1000000000)
/* The longest a report of an apply is held. */
#define HOLD_APPLY_NS	(UINT64CONST(20) * 1000000)

typedef enum TcpState
{
	TCP_OPEN,
	TCP_ENDED,					/* receive() returned -1 */
	TCP_FAILED					/* receive() raised tcp_error */
} TcpState;

static WalReceiverFunctionsType *core = NULL;
static WalReceiverFunctionsType ours;

/* The connection of this walreceiver; there is one at a time. */
static WalReceiverConn *my_conn = NULL;
static bool negotiated = false;
static struct fastwake_channel *channel = NULL;
static uint64 established = 0;	/* since when there is a channel */
static FwConn *conn_entry = NULL;
static bool wal_only = false;
static int	wait_set = -1;		/* epoll: TCP and the channel */

static bool streaming = false;
static uint32 stream = 0;
static bool end_seen = false;	/* the end of this stream, in band */
static bool delivered = false;	/* data went up since the last 0 */
static int	broken = 0;			/* -errno of the channel */
static TcpState tcp_state = TCP_OPEN;
static ErrorData *tcp_error = NULL;
static bool tcp_due = false;
static uint64 tcp_checked = 0;
static uint64 last_data = 0;
static uint64 refreshed = 0;
static uint64 drain_until = 0;
static FwBacklog backlog;

/*
 * A report that the next report of a flush will contain, held until then: of a
 * write, which that flush follows at once, or of an apply, of which core makes
 * one per commit when it is idle otherwise.  Each saves a message and a wake-up
 * of the walsender per commit.  Not if the primary wants them promptly, or has
 * asked for a reply: its wal_sender_timeout may be about to end.  If it wants only
 * those of applies promptly, those of writes and flushes are held for as long as those
 * of applies are otherwise, since one of an apply says all.
 */
static bool prompt = false;		/* it does, */
static bool applies_only = false;	/* but only those of applies */
static bool asked = false;		/* for one reply, in core's own words */
static bool flush_follows = false;	/* core has been told to flush */
static char held[FW_REPLY_LEN];
static int	held_len = 0;
static uint64 held_until = 0;
static uint64 replied = 0;		/* when a reply last left */
static uint64 flushed = 0;		/* what it reported, in network order */
static uint64 applied = 0;

/* libpqwalreceiver's connection begins with libpq's. */
static PGconn *
pgconn(WalReceiverConn *conn)
{
	return *(PGconn **) conn;
}

static bool
is_streaming(WalReceiverConn *conn)
{
	return streaming && conn == my_conn;
}

/* ---- replies ---- */

/*
 * Replies are kept if the ring is full: the walsender is then not reading, and
 * core bounds that by its timeouts.
 */
static void
send_reply(const char *buffer, int nbytes)
{
	int			rc;

	if (broken != 0)
		return;					/* receive() will report it */
	replied = fastwake_now();
	if (nbytes == FW_REPLY_LEN && buffer[0] == 'r')
	{
		memcpy(&flushed, buffer + FW_REPLY_FLUSH, sizeof(flushed));
		memcpy(&applied, buffer + FW_REPLY_APPLY, sizeof(applied));
		asked = false;
	}
	rc = FwBacklogSend(&backlog, channel, stream, buffer, nbytes);
	if (rc < 0)
		broken = rc;
}

static void
release_held(void)
{
	if (held_len > 0)
		send_reply(held, held_len);
	held_len = 0;
}

static void
release_due(void)
{
	if (held_len > 0 && fastwake_now() >= held_until)
		release_held();
}

/* For how long to hold a report; 0: not at all. */
static uint64
hold_time(const char *buffer, int nbytes, uint64 now)
{
	uint64		positions[3];	/* written, flushed, applied */

	if ((prompt && !applies_only) || asked || nbytes != FW_REPLY_LEN || buffer[0] != 'r' ||
		buffer[FW_REPLY_REQUESTED] != 0 || now - replied > SILENCE_NS)
		return 0;
	memcpy(positions, buffer + FW_REPLY_WRITE, sizeof(positions));
	if (prompt)
		return positions[2] == applied ? HOLD_APPLY_NS : 0;
	if (positions[0] == positions[1])
		return flushed == positions[1] ? HOLD_APPLY_NS : 0;
	/* until receive() is called again, at the latest */
	return flush_follows ? 1 : 0;
}

/* Hold the report, in place of one held before, if it may be held. */
static bool
hold(const char *buffer, int nbytes)
{
	uint64		now = fastwake_now();
	uint64		time = hold_time(buffer, nbytes, now);

	if (time == 0)
		return false;
	if (held_len == 0)
	{
		held_until = now + time;
		/* A report of a write is not held beyond the flush. */
		if (time == HOLD_APPLY_NS)
			FwDueAt(held_until);
	}
	memcpy(held, buffer, nbytes);
	held_len = nbytes;
	return true;
}

static void
our_send(WalReceiverConn *conn, const char *buffer, int nbytes)
{
	if (!is_streaming(conn) || wal_only)
	{
		core->walrcv_send(conn, buffer, nbytes);
		return;
	}
	if (hold(buffer, nbytes))
		return;
	if (nbytes == FW_REPLY_LEN && buffer[0] == 'r')
		held_len = 0;			/* this one says it too */
	release_held();
	send_reply(buffer, nbytes);
}

static void
be_at_ease(bool ease)
{
	pg_atomic_write_u32(&FwShmem->receiver_at_ease, ease ? MyProcPid : 0);
	pg_memory_barrier();
}

/* Asked by whoever has set that process's latch: is it not to be woken? */
bool
FwReceiverAtEase(pid_t pid)
{
	return AmStartupProcess() &&
		pg_atomic_read_u32(&FwShmem->receiver_at_ease) == (uint32) pid;
}

/* ---- begin and end ---- */

static void
forget_connection(void)
{
	FwAllowRest(false);
	FwLazySetForget();
	FwDueClose();
	FwConnRelease();
	if (channel != NULL)
		fastwake_channel_close(channel);
	if (wait_set >= 0)
		close(wait_set);
	channel = NULL;
	wait_set = -1;
	my_conn = NULL;
	negotiated = streaming = false;
	stream = 0;
	broken = 0;
	backlog.start = backlog.end = 0;
	held_len = 0;
	flush_follows = prompt = applies_only = asked = false;
	replied = flushed = applied = 0;
}

static WalReceiverConn *
our_connect(FW_CONNECT_PARAMS)
{
	WalReceiverConn *conn = core->walrcv_connect(FW_CONNECT_ARGS);

	if (conn != NULL && !logical && AmWalReceiverProcess())
	{
		forget_connection();
		my_conn = conn;
	}
	return conn;
}

static void
our_disconnect(WalReceiverConn *conn)
{
	bool		mine = conn == my_conn && my_conn != NULL;

	/* TCP first: the primary shall see an orderly end, not a broken channel. */
	core->walrcv_disconnect(conn);
	if (mine)
		forget_connection();
}

static void
add_to_set(int fd)
{
	struct epoll_event ev = {.events = EPOLLIN,.data.fd = fd};

	if (epoll_ctl(wait_set, EPOLL_CTL_ADD, fd, &ev) < 0)
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("%s() failed: %m", "epoll_ctl")));
}

static void
make_wait_set(void)
{
	int			fds[FASTWAKE_FDS_MAX];
	int			n = fastwake_channel_fds(channel, fds);

	wait_set = epoll_create1(EPOLL_CLOEXEC);
	if (wait_set < 0)
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("%s() failed: %m", "epoll_create1")));
	add_to_set(PQsocket(pgconn(my_conn)));
	for (int i = 0; i < n; i++)
		add_to_set(fds[i]);
	add_to_set(FwDueOpen());
}

static void
report_channel(void)
{
	FwConnSetChannel(conn_entry, channel);
	ereport(LOG,
			(errmsg("pg_fastwake: WAL from the primary travels over %s",
					conn_entry->transport),
			 errdetail("%s%s", FwChannelText(&conn_entry->info),
					   wal_only ? " Replies stay on the encrypted connection." : "")));
}

/* Once per connection, before its first START_REPLICATION. */
static void
negotiate(void)
{
	char		reason[FASTWAKE_REASON_MAX];
	bool		failed;
	const char *name = PQparameterStatus(pgconn(my_conn), "application_name");

	negotiated = true;
	conn_entry = FwConnClaim(FW_ROLE_RECEIVER, name ? name : "");
	channel = FwNegotiate(pgconn(my_conn), reason, &failed, &wal_only);
	if (channel != NULL)
	{
		make_wait_set();
		FwPinChannel(channel);
		FwLazySetFor(wait_set);
		established = fastwake_now();
		report_channel();
		return;
	}
	if (failed)
		FwBackoffFailure(reason);
	FwConnSetTcp(conn_entry, reason);
	ereport(LOG,
			(errmsg("pg_fastwake: WAL from the primary travels over TCP"),
			 errdetail("%s", reason)));
}

static bool
our_startstreaming(WalReceiverConn *conn, const WalRcvStreamOptions *options)
{
	bool		copy;

	if (conn == my_conn && my_conn != NULL && !options->logical && !negotiated)
		negotiate();
	copy = core->walrcv_startstreaming(conn, options);
	if (copy && channel != NULL && conn == my_conn)
	{
		stream++;
		streaming = true;
		end_seen = delivered = applies_only = false;
		tcp_state = TCP_OPEN;
		/* libpq may have read more than the answer already */
		tcp_due = true;
		last_data = fastwake_now();
	}
	return copy;
}

static void
our_endstreaming(WalReceiverConn *conn, TimeLineID *next_tli)
{
	if (is_streaming(conn))
	{
		release_held();
		streaming = flush_follows = false;
		FwAllowRest(false);
	}
	core->walrcv_endstreaming(conn, next_tli);
}

/* ---- TCP ---- */

static bool
tcp_readable(int timeout_ms)
{
	struct pollfd pfd = {.fd = PQsocket(pgconn(my_conn)),.events = POLLIN};

	return poll(&pfd, 1, timeout_ms) != 0;
}

/* The primary broke the connection because its end of the channel failed. */
static void
note_primary_failure(const ErrorData *edata)
{
	char		reason[FASTWAKE_REASON_MAX];
	const char *found = edata->message ?
	strstr(edata->message, FW_FAILED_PREFIX ": ") : NULL;

	if (found == NULL)
		return;
	/* libpq's text goes on with the detail. */
	found += strlen(FW_FAILED_PREFIX ": ");
	snprintf(reason, sizeof(reason), "at the primary: %.*s",
			 (int) strcspn(found, "\n"), found);
	FwBackoffFailure(reason);
}

/*
 * Let libpqwalreceiver look.  While a stream is on the channel TCP has nothing
 * to give but the end of it.
 */
static void
look_at_tcp(void)
{
	MemoryContext context = CurrentMemoryContext;

	tcp_due = false;
	PG_TRY();
	{
		char	   *buf;
		pgsocket	fd;
		int			len = core->walrcv_receive(my_conn, &buf, &fd);

		if (len > 0)
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("unexpected data on the TCP connection while WAL travels over a channel")));
		if (len < 0)
			tcp_state = TCP_ENDED;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(TopMemoryContext);
		tcp_error = CopyErrorData();
		FlushErrorState();
		MemoryContextSwitchTo(context);
		note_primary_failure(tcp_error);
		tcp_state = TCP_FAILED;
	}
	PG_END_TRY();

	if (tcp_state != TCP_OPEN)
		drain_until = fastwake_now() + (uint64) DRAIN_MS * 1000000;
	if (tcp_state == TCP_FAILED && PQsocket(pgconn(my_conn)) >= 0)
		/* It would stay readable. */
		(void) epoll_ctl(wait_set, EPOLL_CTL_DEL, PQsocket(pgconn(my_conn)),
						 NULL);
}

static void
check_tcp(void)
{
	uint64		now = fastwake_now();

	if (tcp_state != TCP_OPEN ||
		(!tcp_due && now - tcp_checked < TCP_CHECK_NS))
		return;
	tcp_checked = now;
	if (tcp_due || tcp_readable(0))
		look_at_tcp();
}

/* ---- receive ---- */

/* A message of the walsender's half of this extension, not of core's. */
static void
take_mark(char mark)
{
	if (mark == FW_END_OF_STREAM)
		end_seen = tcp_due = true;
	else if (mark == FW_REPORT_APPLIES)
		applies_only = true;
	else if (mark == FW_REPORT_NOW)
	{
		applies_only = false;
		release_held();
	}
}

/* The next message of this stream: its length, or 0. */
static int
take_message(char **buffer)
{
	/* Bounded: a primary that sends nothing else must not hold us. */
	for (int i = 0; broken == 0 && !end_seen && i < FW_SKIP_MAX; i++)
	{
		void	   *buf;
		uint32		from;
		ssize_t		len = fastwake_channel_recv(channel, &from, &buf);

		if (len == -EAGAIN)
			return 0;
		if (len < 0)
			broken = (int) len;
		else if ((from & ~FW_STREAM_PROMPT) == stream)
		{
			prompt = (from & FW_STREAM_PROMPT) != 0;
			applies_only = applies_only && prompt;
			FwAllowRest(!prompt);
			last_data = fastwake_now();
			if (len > 1)
			{
				const char *message = buf;

				if (message[0] == 'k' && len == KEEPALIVE_LEN &&
					message[KEEPALIVE_ASKS] != 0)
					asked = true;
				*buffer = buf;
				return (int) len;
			}
			take_mark(*(char *) buf);
		}
	}
	return 0;
}

static void
refresh_stats(void)
{
	uint64		now = fastwake_now();

	if (broken == 0 && now - refreshed >= REFRESH_NS)
	{
		FwConnRefresh(conn_entry, channel);
		/* The primary's own end may be what has failed. */
		if (tcp_state == TCP_OPEN)
			FwBackoffLasted((now - established) / 1000000);
		refreshed = now;
	}
}

/* The ring is empty for good: give core what TCP said. */
static int
finish(void)
{
	refreshed = 0;
	refresh_stats();
	if (tcp_state == TCP_FAILED)
		ReThrowError(tcp_error);
	return -1;
}

/*
 * Has everything arrived?  The end of the stream in band says so; without it
 * (the walsender died) a broken channel, or a pause.
 */
static bool
drained(void)
{
	if (!end_seen && broken == 0)
	{
		/* Only this finds out that nobody is there any more. */
		int			rc = fastwake_channel_poll(channel);

		if (rc < 0)
			broken = rc;
	}
	return end_seen || broken != 0 || fastwake_now() >= drain_until;
}

/*
 * The channel broke though TCP has not: unless TCP is only about to say that
 * the primary is gone, this is a failure of the channel.
 */
static void
report_broken(void)
{
	const char *reason = fastwake_channel_reason(channel);

	if (tcp_readable(broken == -EPIPE || broken == -ECONNRESET ?
					 BROKEN_GRACE_MS : 0))
		look_at_tcp();
	if (tcp_state != TCP_OPEN)
		return;

	if (reason == NULL || reason[0] == '\0')
		reason = strerror(-broken);
	FwBackoffFailure(reason);
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg(FW_FAILED_PREFIX ": %s", reason),
			 errdetail("The next connection uses TCP.")));
}

/* True too if it is broken. */
static bool
readable(void)
{
	int			rc = fastwake_channel_poll(channel);

	return rc < 0 || (rc & FASTWAKE_READABLE);
}

/*
 * Wait in memory for the channel or the latch.  As core does, the latch is told
 * first that somebody may be sleeping on it: else SetLatch() signals nobody.
 *
 * The startup process, which asks for a report whenever it has replayed, need not wake
 * us for one that would be held anyway: we hear of it with the next message, or at the
 * end of the slice.
 *
 *	startup process				walreceiver
 *	latch->is_set = true		at ease = 0, at the end of the wait
 *	full barrier				full barrier
 *	at ease? that's all			is_set? (by the caller)
 *
 *	setter						walreceiver
 *	latch->is_set = true		maybe_sleeping = true
 *	full barrier				full barrier
 *	maybe_sleeping?				is_set?
 *
 * True if there may be something to receive.
 */
static bool
wait_memory(void)
{
	struct fastwake_watch watches[5];
	int			n;
	bool		woken = false;

	if (FwMyWaiter() == NULL)
		return false;
	n = fastwake_channel_watches(channel, &watches[1]);
	if (n < 0)
	{
		pgstat_report_wait_start(WAIT_EVENT_WAL_RECEIVER_MAIN);
		woken = FwSpin(FW_WAIT_WALRECEIVER, channel, FwBacklogEvents(&backlog));
		pgstat_report_wait_end();
		return woken;
	}
	FwWatchLatch(&watches[0]);
	if (readable())
		return true;

	MyLatch->maybe_sleeping = true;
	pg_memory_barrier();
	if (!MyLatch->is_set)
	{
		pgstat_report_wait_start(WAIT_EVENT_WAL_RECEIVER_MAIN);
		be_at_ease(!prompt);
		woken = FwWait(FW_WAIT_WALRECEIVER, watches, n + 1,
					   fastwake_now() + (uint64) FW_SLICE_MS * 1000000)
			!= -ETIMEDOUT;
		be_at_ease(false);
		pgstat_report_wait_end();
		if (!woken)
			FwCountPark(FW_WAIT_WALRECEIVER);
	}
	MyLatch->maybe_sleeping = false;
	return woken;
}

/* When core shall call again, whatever happens; 0: no need. */
static uint64
next_due(void)
{
	if (tcp_state != TCP_OPEN)
		return drain_until;
	return Max(last_data, replied) > refreshed ? refreshed + REFRESH_NS : 0;
}

/*
 * Nothing more now.  True if core may sleep on *WAIT_FD.
 *
 * The look before arming takes the event that has ended the sleep before.  One
 * that brought no message (the completion of a reply, say) would otherwise leave
 * the descriptor readable, and core would go round without a sleep until
 * the next message.
 */
static bool
arm_for_core(pgsocket *wait_fd)
{
	int			rc;

	*wait_fd = wait_set;
	rc = fastwake_channel_poll(channel);
	if (rc >= 0)
		rc = (rc & FwBacklogEvents(&backlog)) ? 1 : fastwake_channel_arm(channel);
	if (rc < 0)
		broken = rc;
	if (rc != 0)
		return false;
	if (!FwHooksActive())
		FwCountSleep(FW_WAIT_WALRECEIVER);	/* else when core does sleep */
	FwDueAt(next_due());
	tcp_due = true;
	return true;
}

/* Return 0 to core so that it flushes and replies, and comes back soon. */
static int
pause_for_flush(pgsocket *wait_fd)
{
	struct fastwake_watch watches[4];

	delivered = false;
	flush_follows = true;
	refresh_stats();
	if (FwWaitsEnabled() && FwMyWaiter() != NULL &&
		fastwake_channel_watches(channel, watches) >= 0)
	{
		/* It will wait in memory: core's own sleep shall end at once. */
		*wait_fd = wait_set;
		MyLatch->is_set = true;
	}
	else if (!arm_for_core(wait_fd))
		MyLatch->is_set = true;
	return 0;
}

static void
flush_replies(void)
{
	int			rc;

	if (broken != 0 || FwBacklogEmpty(&backlog))
		return;
	rc = FwBacklogFlush(&backlog, channel);
	if (rc < 0)
		broken = rc;
}

static int
our_receive(WalReceiverConn *conn, char **buffer, pgsocket *wait_fd)
{
	bool		waited = false;

	if (!is_streaming(conn))
		return core->walrcv_receive(conn, buffer, wait_fd);

	flush_follows = false;
	FwDueTaken(fastwake_now());
	release_due();
	for (;;)
	{
		int			len;

		flush_replies();
		len = take_message(buffer);
		if (len > 0)
		{
			delivered = true;
			return len;
		}
		if (delivered)
			return pause_for_flush(wait_fd);

		check_tcp();
		if (broken != 0 && tcp_state == TCP_OPEN)
			report_broken();
		if (tcp_state != TCP_OPEN)
		{
			/* what arrived before TCP's end but after our last look */
			len = take_message(buffer);
			if (len > 0)
			{
				delivered = true;
				return len;
			}
			if (drained())
				return finish();
		}

		if (!waited && tcp_state == TCP_OPEN && FwWaitsEnabled() &&
			fastwake_now() - last_data < (uint64) FW_IDLE_MS * 1000000)
		{
			waited = true;
			if (wait_memory() && (!MyLatch->is_set || readable()))
				continue;
			if (MyLatch->is_set)
			{
				*wait_fd = wait_set;
				return 0;
			}
		}
		release_due();
		refresh_stats();
		if (arm_for_core(wait_fd))
			return 0;
	}
}

/*
 * In the postmaster: _PG_init of libpqwalreceiver sets the table, and will not
 * run again when a walreceiver loads the library, so that ours stays.
 */
void
FwReceiverInstall(void)
{
	if (WalReceiverFunctions == NULL)
		load_file("libpqwalreceiver", false);
	if (WalReceiverFunctions == NULL)
		elog(ERROR, "libpqwalreceiver didn't initialize correctly");
	core = WalReceiverFunctions;
	ours = *core;
	ours.walrcv_connect = our_connect;
	ours.walrcv_disconnect = our_disconnect;
	ours.walrcv_startstreaming = our_startstreaming;
	ours.walrcv_endstreaming = our_endstreaming;
	ours.walrcv_receive = our_receive;
	ours.walrcv_send = our_send;
	WalReceiverFunctions = &ours;
}
