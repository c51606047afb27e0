/*-------------------------------------------------------------------------
 *
 * pg_fastwake.h
 *	  What the files of the extension share.
 *
 *	fw_guc.c		settings
 *	fw_shmem.c		shared memory: waiters, back-off, counters
 *	fw_conn.c		shared memory: replication connections, who fell back
 *	fw_interpose.c	replaces libc functions in the executable's GOT
 *	fw_hooks.c		the replacements: epoll_wait, kill, recv
 *	fw_bell.c		what wakes a walsender that sleeps on descriptors
 *	fw_lazyset.c	wait sets that core makes anew for each sleep
 *	fw_due.c		a walreceiver's timer
 *	fw_wait.c		FastWake waits of backends, and what all have in common
 *	fw_startup.c	waits of the startup process
 *	fw_endpoint.c	primary's half of the negotiation
 *	fw_connect.c	standby's half of the negotiation
 *	fw_backlog.c	what a full ring makes wait
 *	fw_sender.c		walsender: bytes and waits of a stream on a channel
 *	fw_rtt.c		walsender: round trips
 *	fw_release.c	walsender: wakes released commits outside their lock
 *	fw_gather.c		walsender: how many commits it lets gather
 *	fw_turn.c		backends: their client after a commit
 *	fw_receiver.c	walreceiver: bytes and waits of a stream on a channel
 *	fw_views.c		SQL functions beneath the views
 *	fw_histogram.c	SQL function beneath pg_fastwake_histogram
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#ifndef PG_FASTWAKE_H
#define PG_FASTWAKE_H

#include "postgres.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "fastwake.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "pg_compat.h"

#define FW_NAMELEN 64

/* ---- settings (fw_guc.c) ---- */

typedef enum FwTransport
{
	FW_TRANSPORT_AUTO,
	FW_TRANSPORT_RDMA,
	FW_TRANSPORT_SHM,
	FW_TRANSPORT_TCP
} FwTransport;

typedef enum FwMode
{
	FW_MODE_ADAPTIVE,
	FW_MODE_DISPATCH,
	FW_MODE_INTERRUPT,
	FW_MODE_OFF
} FwMode;

extern bool fw_enabled;
extern int	fw_transport;
extern int	fw_mode;
extern char *fw_rdma_device;
extern char *fw_listen_address;
extern int	fw_ring_size_kb;
extern int	fw_poll_us;
extern int	fw_replay_interval_us;
extern int	fw_gather_us;
extern bool fw_allow_plaintext;
extern bool fw_interpose;

extern void FwDefineSettings(void);
extern const char *FwModeName(int mode);
extern const char *FwTransportSetting(void);

/* Options of a channel from the settings; pointers are to the settings. */
extern void FwChannelOptions(struct fastwake_channel_options *options);

/* ---- shared memory (fw_shmem.c) ---- */

typedef enum FwWaitClass
{
	FW_WAIT_SYNC_COMMIT,
	FW_WAIT_WALSENDER,
	FW_WAIT_WALRECEIVER,
	FW_WAIT_STARTUP,
	FW_WAIT_CLASSES
} FwWaitClass;

typedef enum FwWaitPath
{
	FW_PATH_MEMORY,				/* polling, then a futex */
	FW_PATH_DESCRIPTOR,			/* armed descriptors and core's epoll */
	FW_PATHS
} FwWaitPath;

/* Updated with relaxed atomics by any process. */
typedef struct FwWaitStats
{
	pg_atomic_uint64 waits;
	pg_atomic_uint64 switches;	/* of them slept in the kernel */
	pg_atomic_uint64 spurious;	/* ended with nothing to do */
	pg_atomic_uint64 parks;		/* handed over to the descriptor path */
	struct fastwake_histogram latency;	/* ring to return, ns */
} FwWaitStats;

typedef enum FwRole
{
	FW_ROLE_NONE,
	FW_ROLE_SENDER,
	FW_ROLE_RECEIVER
} FwRole;

/*
 * One replication connection.  Written by its process only, under ->mutex, but
 * for ->rtt: its words are atomic, and readers take a copy of them between two
 * looks at ->generation, so that they never mix two connections.
 */
typedef struct FwConn
{
	slock_t		mutex;
	FwRole		role;			/* FW_ROLE_NONE: unused */
	pid_t		pid;
	uint64		generation;		/* changes with each claim and release */
	char		application_name[FW_NAMELEN];
	char		transport[8];	/* rdma, shm, tcp; empty while it is
								 * negotiated */
	char		reason[FASTWAKE_REASON_MAX];	/* why tcp */
	TimestampTz since;			/* when the transport was agreed on */
	struct fastwake_channel_info info;
	uint64		stream_ends;
	struct fastwake_histogram rtt;
} FwConn;

/*
 * How often the streams of one peer, here a standby or the upstream server,
 * went to TCP because a channel failed; outlives the connections.  Under
 * FwPeersLock.
 */
typedef struct FwPeer
{
	FwRole		role;			/* ours; FW_ROLE_NONE: unused */
	char		application_name[FW_NAMELEN];	/* of a standby; else "" */
	uint64		fallbacks;
	TimestampTz last_fallback;
	char		reason[FASTWAKE_REASON_MAX];
} FwPeer;

/* Of more peers those are kept that fell back last. */
#define FW_PEERS 32

/* Retry policy of the standby; outlives walreceivers.  Under FwShared.mutex. */
typedef struct FwBackoff
{
	uint64		fallbacks;		/* since start: streams that went to TCP */
	int			failures;		/* in a row */
	TimestampTz next_retry;		/* RDMA is not tried before; 0 = none */
	TimestampTz last_fallback;
	char		reason[FASTWAKE_REASON_MAX];
} FwBackoff;

typedef struct FwShared
{
	slock_t		mutex;
	FwBackoff	backoff;
	TimestampTz stats_reset;
	pg_atomic_uint64 signals_saved; /* SIGURGs that became wake-ups */
	pg_atomic_uint64 signals_sent;	/* SIGURGs that stayed signals */
	pg_atomic_uint64 prompt_until;	/* fastwake_now(): commits wait, or may
									 * soon, for remote writes or applies, */
	pg_atomic_uint64 mixed_until;	/* and others not for applies */
	pg_atomic_uint32 released_together; /* commits, by a reply, lately */
	pg_atomic_uint32 startup_pid;	/* of a startup process that waits in
									 * memory, else 0 */
	pg_atomic_uint32 startup_rings; /* SIGURGs meant for it, as a count */
	pg_atomic_uint32 startup_resting;	/* it looks at that by itself, soon */
	pg_atomic_uint32 startup_may_rest;	/* set by the walreceiver */
	pg_atomic_uint32 receiver_at_ease;	/* pid of one that need not hear of a
										 * replay */
	FwWaitStats waits[FW_WAIT_CLASSES][FW_PATHS];
	FwPeer		peers[FW_PEERS];
	int			nconns;
	FwConn		conns[FLEXIBLE_ARRAY_MEMBER];
} FwShared;

extern FwShared *FwShmem;
extern struct fastwake_domain *FwDomain;

extern void FwInstallShmemHooks(void);
extern int	FwProcSlots(void);

extern void FwBackoffFailure(const char *reason);

/* A channel of this standby works since so long. */
extern void FwBackoffLasted(int64 lasted_ms);

/* True if RDMA may be tried now; else *RETRY tells when. */
extern bool FwBackoffOver(TimestampTz *retry);

/* A stream goes to TCP.  NAME: of the standby, "" for the upstream server. */
extern void FwCountFallback(FwRole role, const char *name, const char *reason);

/* ---- bells (fw_bell.c) ---- */

extern Size FwBellsSize(void);
extern void FwBellsInit(void);

/* This process's: a descriptor that is readable once rung, or -1. */
extern int	FwBellClaim(void);
extern void FwBellArm(void);
extern void FwBellDisarm(void);
extern void FwBellDrain(void);
extern bool FwBellRing(int pid);

/* ---- connections (fw_conn.c) ---- */

extern LWLock *FwPeersLock;

/* This process's entry in FwShmem->conns, claimed for ROLE; freed at exit. */
extern FwConn *FwConnClaim(FwRole role, const char *name);
extern void FwConnRelease(void);
extern void FwConnSetTcp(FwConn *conn, const char *reason);

/* Its transport and figures are those of CHANNEL from now on. */
extern void FwConnSetChannel(FwConn *conn, struct fastwake_channel *channel);
extern void FwConnRefresh(FwConn *conn, struct fastwake_channel *channel);
extern void FwConnStreamEnded(FwConn *conn);

/* A consistent copy of an entry; false if it is unused. */
extern bool FwConnCopy(FwConn *conn, FwConn *copy);

/* Are its round trips measured?  On channels, by the walsender. */
#define FwConnMeasured(conn) \
	((conn)->role == FW_ROLE_SENDER && (conn)->info.transport != 0)

/* What a channel is, for the log: a sentence in static memory. */
extern const char *FwChannelText(const struct fastwake_channel_info *info);

extern void FwPeerFellBack(FwRole role, const char *name, const char *reason,
						   TimestampTz when);

/* What is known of a peer; all zero if it has never fallen back. */
extern void FwPeerCopy(FwRole role, const char *name, FwPeer *copy);
extern void FwPeersReset(void);

/* ---- views (fw_views.c) ---- */

/* ERROR if the library was not preloaded, and so there is nothing to show. */
extern void FwRequirePreload(void);
extern const char *FwWaitClassName(int wclass);
extern const char *FwWaitPathName(int path);

/* ---- histograms (fw_histogram.c) ---- */

/*
 * A copy that agrees with itself, whatever is added meanwhile: ->count is the
 * sum of the buckets, and ->max lies in the last of them that is not empty.
 */
extern void FwHistogramCopy(struct fastwake_histogram *copy,
							const struct fastwake_histogram *h);

/* A quantile, at most ->max: of a copy. */
extern uint64 FwHistogramQuantile(const struct fastwake_histogram *h, double q);

/* ---- libc interposition (fw_interpose.c, fw_hooks.c) ---- */

typedef struct FwHook
{
	const char *name;
	void	   *replacement;
	void	  **original;		/* what the replacement calls */
} FwHook;

/* All or nothing.  Returns false and REASON if it is not possible here. */
extern bool FwInterpose(const FwHook *hooks, int n, const char **reason);

/* True while every slot still holds our function. */
extern bool FwInterposeVerify(void);

extern bool FwHooksInstall(const char **reason);
extern bool FwHooksActive(void);
extern int	FwRealEpollWait(int epfd, struct epoll_event *events,
							int maxevents, int timeout);
extern ssize_t FwRealRecv(int fd, void *buf, size_t len, int flags);

/* What SetLatch() does for another process; as kill().  Async-signal-safe. */
extern int	FwWakeProcess(pid_t pid);

/* ---- the walreceiver's wait sets (fw_lazyset.c) ---- */

/* Serve core's wait sets that wait for FD from one that is kept. */
extern void FwLazySetFor(int fd);
extern void FwLazySetForget(void);

/* In place of epoll_create1(): -1 if core's set is to be an ordinary one. */
extern int	FwLazySetCreate(int flags);
extern bool FwLazySetIs(int epfd);

/* In place of epoll_ctl(), epoll_wait(), close(). */
extern int	FwLazySetAdd(int epfd, int op, int fd, struct epoll_event *event);
extern int	FwLazySetWait(int epfd, struct epoll_event *events, int maxevents,
						  int timeout);
extern int	FwLazySetClose(int epfd);

/* ---- the walreceiver's timer (fw_due.c) ---- */

extern int	FwDueOpen(void);
extern void FwDueClose(void);
extern void FwDueAt(uint64 when);
extern void FwDueTaken(uint64 now);

/* ---- waits (fw_wait.c) ---- */

/* This process's waiter, attached at first use; NULL: use core's wait. */
extern struct fastwake_waiter *FwMyWaiter(void);

/* Wait and account.  As fastwake_wait(). */
extern int	FwWait(FwWaitClass wclass, const struct fastwake_watch *watches,
				   unsigned int n, uint64 deadline_ns);
extern void FwWatchLatch(struct fastwake_watch *watch);
extern bool FwWaitsEnabled(void);

/*
 * Poll for a channel's event or the latch, adaptively; true if one came.
 * EVENTS: FASTWAKE_READABLE, and FASTWAKE_WRITABLE if there is a backlog.
 */
extern bool FwSpin(FwWaitClass wclass, struct fastwake_channel *channel,
				   int events);
extern uint64 FwBudget(void);
extern int	FwCpus(void);
extern void FwPinChannel(struct fastwake_channel *channel);
extern void FwCountPark(FwWaitClass wclass);

/* A process goes to sleep on descriptors. */
extern void FwCountSleep(FwWaitClass wclass);
extern void FwNoteCommitWait(void);

extern int	FwSyncCommitWait(int epfd, struct epoll_event *events,
							 int maxevents, int timeout);

/* One slice of a core wait, whose timeout is in ms; for core, as epoll_wait(). */
extern int	FwWaitSlice(FwWaitClass wclass,
						const struct fastwake_watch *watches, unsigned int n,
						int epfd, struct epoll_event *events, int maxevents,
						int timeout);
extern int	FwRest(uint64 time_ns);

/*
 * A wait in memory does not see TCP or the postmaster's death; so it lasts at
 * most this long before descriptors are looked at.
 */
#define FW_SLICE_MS			20	/* walsender and walreceiver */
#define FW_BACKEND_SLICE_MS	1000	/* backends: postmaster death only */
/* Without traffic for so long, a stream's waits go to descriptors at once. */
#define FW_IDLE_MS			1000

/* ---- the startup process's waits (fw_startup.c) ---- */

extern int	FwStartupWait(int epfd, struct epoll_event *events,
						  int maxevents, int timeout);

/*
 * Before a process is woken: counts it if it is the startup process.  True if
 * that is all there is to do.
 */
extern bool FwRingStartup(pid_t pid);
extern bool FwReceiverAtEase(pid_t pid);

/* May it rest between commits?  To be told by the walreceiver only. */
extern void FwAllowRest(bool allow);

/* ---- negotiation ---- */

/*
 * 'r', the positions written, flushed and applied, time, reply requested; see
 * XLogWalRcvSendReply().
 */
#define FW_REPLY_LEN		34
#define FW_REPLY_WRITE		1
#define FW_REPLY_FLUSH		9
#define FW_REPLY_APPLY		17
#define FW_REPLY_REQUESTED 33

/* Longest time a standby or a walsender spends on setting up a channel. */
#define FW_NEGOTIATION_MS	2000

/*
 * Messages of ended streams, and marks, that are skipped at a time; if there
 * are more, they are as good as not there until the next look.
 */
#define FW_SKIP_MAX			1000
#define FW_READY			"ready"
#define FW_TCP				"tcp "	/* prefix of a refusal, then the reason */
#define FW_FAILED_PREFIX	"pg_fastwake channel failed"

/* Show hook of pg_fastwake.endpoint (fw_endpoint.c). */
extern const char *FwShowEndpoint(void);

/* Channel agreed on by this walsender's client, or NULL; ownership passes. */
extern struct fastwake_channel *FwEndpointTakeChannel(bool *wal_only);

struct pg_conn;

/*
 * Negotiate a channel over the replication connection CONN (fw_connect.c).
 * NULL: stay on TCP, REASON (FASTWAKE_REASON_MAX) says why; *FAILED if that is
 * a failure that calls for a back-off.  *WAL_ONLY: replies stay on TCP.
 */
extern struct fastwake_channel *FwNegotiate(struct pg_conn *conn, char *reason,
											bool *failed, bool *wal_only);

/* ---- streams ---- */

/*
 * Messages that a channel had no room for, in order (fw_backlog.c).  Each
 * keeps the stream number it was sent under.
 */
typedef struct FwBacklog
{
	char	   *data;
	size_t		start;			/* first byte not yet sent */
	size_t		end;
	size_t		size;
} FwBacklog;

/*
 * Largest backlog.  Core hands over one WAL message (at most 128 kB) and then
 * waits until nothing is pending, but for keepalives and replies.
 */
#define FW_BACKLOG_MAX (4 * 1024 * 1024)

/* Send or keep.  0, or -errno if the channel is broken or too much is kept. */
extern int	FwBacklogSend(FwBacklog *backlog, struct fastwake_channel *channel,
						  uint32 stream, const char *data, size_t len);

/* Send what is kept, as far as there is room.  0 or -errno. */
extern int	FwBacklogFlush(FwBacklog *backlog, struct fastwake_channel *channel);
#define FwBacklogEmpty(b) ((b)->start == (b)->end)
/* What of a channel its user has to be told. */
#define FwBacklogEvents(b) \
	(FASTWAKE_READABLE | (FwBacklogEmpty(b) ? 0 : FASTWAKE_WRITABLE))

/*
 * Flag in a stream number: somebody on the primary may be waiting for a remote
 * write or apply, so that the standby shall report those at once, and not with
 * its next report of a flush.
 */
#define FW_STREAM_PROMPT 0x80000000u

/*
 * Messages of our own are one byte long, and those of core are longer.
 *
 * End of a stream, in band: TCP says so too, but may overtake the ring.
 */
#define FW_END_OF_STREAM 'c'

/* A commit has begun to wait for a remote write or apply: all reports are wanted. */
#define FW_REPORT_NOW 'p'

/* Those that wait do so for applies: of prompt reports only these are wanted. */
#define FW_REPORT_APPLIES 'a'

extern void FwSenderInstall(void);
extern bool FwSenderStreaming(void);
extern int	FwSenderWait(int epfd, struct epoll_event *events, int maxevents,
						 int timeout);
extern ssize_t FwSenderRecv(int fd, void *buf, size_t len, int flags);

/*
 * Round trips, in a walsender (fw_rtt.c): from handing a WAL message to the
 * channel until a reply is read that reports all of it as written.
 */
extern void FwRttBegin(void);
extern void FwRttSent(const char *message, size_t len, uint64 now);
extern void FwRttReply(const char *reply, size_t len, uint64 now,
					   struct fastwake_histogram *rtt);
extern void FwRttWritten(uint64 lsn, uint64 now,
						 struct fastwake_histogram *rtt);

/* Released commits are woken when SyncRepLock is free again (fw_release.c). */
extern void FwReleaseInit(void);
extern bool FwNoteReleased(pid_t pid);
extern void FwWakeReleased(void);

/* How many commits a walsender gathers (fw_gather.c). */
extern void FwGatherReleased(const pid_t *pids, int n);
extern uint64 FwGatherUntil(uint64 now);

/* The budget of a commit, as a multiple of FwBudget(). */
extern uint64 FwGatherShares(void);

/* A backend's client after a commit (fw_turn.c). */
extern void FwTurnCommitted(void);
extern ssize_t FwTurnRecv(int fd, void *buf, size_t len, int flags);

extern void FwReceiverInstall(void);

#endif							/* PG_FASTWAKE_H */
