/*-------------------------------------------------------------------------
 *
 * fw_conn.c
 *	  What the views know of replication connections, and of peers that fell
 *	  back to TCP.
 *
 * A process has the connection entry of its PGPROC, so no two processes ever
 * write the same one, and releases it when it exits.  A process that is killed
 * takes the server through a crash restart, which makes all of this anew.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include "miscadmin.h"
#include "storage/ipc.h"

LWLock	   *FwPeersLock = NULL;

static FwConn *my_conn = NULL;

/* ---- connections ---- */

void
FwConnRelease(void)
{
	if (my_conn == NULL)
		return;
	SpinLockAcquire(&my_conn->mutex);
	my_conn->role = FW_ROLE_NONE;
	my_conn->pid = 0;
	my_conn->generation++;
	SpinLockRelease(&my_conn->mutex);
	my_conn = NULL;
}

static void
release_at_exit(int code, Datum arg)
{
	FwConnRelease();
}

/* The histogram is emptied while nobody takes the entry for one in use. */
FwConn	   *
FwConnClaim(FwRole role, const char *name)
{
	static bool registered = false;
	FwConn	   *conn = &FwShmem->conns[FwMyProcIndex()];
	TimestampTz now = GetCurrentTimestamp();

	if (!registered)
		before_shmem_exit(release_at_exit, 0);
	registered = true;
	my_conn = conn;
	FwConnRelease();
	fastwake_histogram_reset(&conn->rtt);

	SpinLockAcquire(&conn->mutex);
	conn->role = role;
	conn->pid = MyProcPid;
	conn->generation++;
	strlcpy(conn->application_name, name, sizeof(conn->application_name));
	conn->transport[0] = '\0';	/* not agreed on yet */
	conn->reason[0] = '\0';
	conn->since = now;
	memset(&conn->info, 0, sizeof(conn->info));
	conn->stream_ends = 0;
	SpinLockRelease(&conn->mutex);
	my_conn = conn;
	return conn;
}

static void
set_transport(FwConn *conn, const char *transport, const char *reason,
			  const struct fastwake_channel_info *info)
{
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&conn->mutex);
	strlcpy(conn->transport, transport, sizeof(conn->transport));
	strlcpy(conn->reason, reason, sizeof(conn->reason));
	conn->since = now;
	conn->info = *info;
	SpinLockRelease(&conn->mutex);
}

void
FwConnSetTcp(FwConn *conn, const char *reason)
{
	struct fastwake_channel_info none;

	memset(&none, 0, sizeof(none));
	none.size = sizeof(none);
	set_transport(conn, "tcp", reason, &none);
}

void
FwConnSetChannel(FwConn *conn, struct fastwake_channel *channel)
{
	struct fastwake_channel_info info = {.size = sizeof(info)};

	(void) fastwake_channel_query(channel, &info);
	set_transport(conn,
				  info.transport == FASTWAKE_TRANSPORT_RDMA ? "rdma" : "shm",
				  "", &info);
}

void
FwConnRefresh(FwConn *conn, struct fastwake_channel *channel)
{
	struct fastwake_channel_info info;

	info.size = sizeof(info);
	if (fastwake_channel_query(channel, &info) < 0)
		return;
	SpinLockAcquire(&conn->mutex);
	conn->info = info;
	SpinLockRelease(&conn->mutex);
}

void
FwConnStreamEnded(FwConn *conn)
{
	SpinLockAcquire(&conn->mutex);
	conn->stream_ends++;
	SpinLockRelease(&conn->mutex);
}

/*
 * The histogram has no lock: a copy of it counts if the entry has had the same
 * owner all the while.
 *
 *	reader						owner
 *	generation == g				generation++, under the mutex
 *	copy the histogram			empty the histogram
 *	generation == g still?		generation++, under the mutex
 *
 * A copy that contains anything of the emptying was taken after the first
 * increment; the second look, under the mutex, then sees it.
 */
bool
FwConnCopy(FwConn *conn, FwConn *copy)
{
	bool		same;

	SpinLockAcquire(&conn->mutex);
	memcpy(copy, conn, offsetof(FwConn, rtt));
	SpinLockRelease(&conn->mutex);
	if (copy->role == FW_ROLE_NONE)
		return false;

	FwHistogramCopy(&copy->rtt, &conn->rtt);
	pg_read_barrier();

	SpinLockAcquire(&conn->mutex);
	same = conn->generation == copy->generation;
	SpinLockRelease(&conn->mutex);
	return same;
}

const char *
FwChannelText(const struct fastwake_channel_info *info)
{
	static char text[FASTWAKE_REASON_MAX];

	if (info->transport == FASTWAKE_TRANSPORT_RDMA)
		snprintf(text, sizeof(text),
				 "Device %s, local address %s, peer address %s, queue pair %u.",
				 info->device, info->local, info->peer, info->qp_num);
	else
		snprintf(text, sizeof(text), "Shared memory of this host, %llu kB.",
				 (unsigned long long) info->pinned / 1024);
	return text;
}

/* ---- peers ---- */

static bool
is_peer(const FwPeer *peer, FwRole role, const char *name)
{
	return peer->role == role && strcmp(peer->application_name, name) == 0;
}

/* The peer's entry, or else the one to be used for it. */
static FwPeer *
peer_slot(FwRole role, const char *name)
{
	FwPeer	   *oldest = &FwShmem->peers[0];

	for (int i = 0; i < FW_PEERS; i++)
	{
		FwPeer	   *peer = &FwShmem->peers[i];

		if (is_peer(peer, role, name))
			return peer;
		/* unused ones are from the year 2000 */
		if (peer->last_fallback < oldest->last_fallback)
			oldest = peer;
	}
	return oldest;
}

void
FwPeerFellBack(FwRole role, const char *name, const char *reason,
			   TimestampTz when)
{
	char		key[FW_NAMELEN];
	FwPeer	   *peer;

	strlcpy(key, name, sizeof(key));
	LWLockAcquire(FwPeersLock, LW_EXCLUSIVE);
	peer = peer_slot(role, key);
	if (!is_peer(peer, role, key))
	{
		memset(peer, 0, sizeof(*peer));
		peer->role = role;
		strlcpy(peer->application_name, key, sizeof(peer->application_name));
	}
	peer->fallbacks++;
	peer->last_fallback = when;
	strlcpy(peer->reason, reason, sizeof(peer->reason));
	LWLockRelease(FwPeersLock);
}

void
FwPeerCopy(FwRole role, const char *name, FwPeer *copy)
{
	memset(copy, 0, sizeof(*copy));
	LWLockAcquire(FwPeersLock, LW_SHARED);
	for (int i = 0; i < FW_PEERS; i++)
		if (is_peer(&FwShmem->peers[i], role, name))
			*copy = FwShmem->peers[i];
	LWLockRelease(FwPeersLock);
}

/* Counters; when and why a peer fell back last remains. */
void
FwPeersReset(void)
{
	LWLockAcquire(FwPeersLock, LW_EXCLUSIVE);
	for (int i = 0; i < FW_PEERS; i++)
		FwShmem->peers[i].fallbacks = 0;
	LWLockRelease(FwPeersLock);
}
