// SPDX-License-Identifier: PostgreSQL
/*
 * shm.c - the data path of a channel over shared memory.
 *
 * Frames are written straight into the peer's ring.  Three kinds of event must
 * reach a peer that sleeps: data for it, space for it (if it asked), and the
 * end.  It may sleep on its doorbell (fastwake_wait() with watches) or on its
 * socket (arm() and poll(2)); for both, whoever makes the event stores, passes
 * a full barrier, and then looks whether there is a sleeper; the sleeper says
 * that it will sleep, passes a full barrier, and then looks for the event.
 *
 * Data, sleeper on the socket:
 *
 *	writer: publish()                  sleeper: shm_arm()
 *	-----------------                  ------------------
 *	W1 produced = new                  S1 event_armed = 1
 *	   full barrier (in ring)             full barrier (S)
 *	W2 exchange event_armed, 0         S2 read produced: old?
 *	W3 send a byte    if it was 1      S3 poll(2) on the socket
 *
 * The barriers forbid that W2 misses S1 while S2 misses W1.  If W2 sees S1,
 * the byte is in the socket before or after S3 begins, and poll(2) returns in
 * either case.  event_armed may be taken by an earlier event, whose byte then
 * wakes this sleep: one byte per arm() is enough, and at most one is unread,
 * plus one that was sent late, which wakes a later sleep for nothing.
 *
 * Space, sleeper of either kind:
 *
 *	reader: shm_credit()               sender: shm_refused()
 *	--------------------               ---------------------
 *	R1 consumed = new                  T1 want_space = 1
 *	   full barrier (R)                   full barrier (T)
 *	R2 read want_space                 T2 read consumed: still no space?
 *	R3 ring()         if it was 1      T3 arm() or fastwake_wait()
 *
 * If R2 reads 0, T1 had not happened, so T2 comes after R1 and sees it.  If R2
 * reads 1, ring() finds the sleeper as above, or T3 finds consumed changed.
 *
 * The doorbell's own pair is proven in doorbell.c.  Its ring() begins with a
 * full barrier whether or not there is a sleeper; ring() below relies on it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm.h"

/* Tell the peer that a word it may be waiting for has changed. */
static void ring(struct fw_shm *shm)
{
	static const char byte = 0;

	fastwake_doorbell_ring(&shm->peer->doorbell); /* full barrier, first */
	if (fw_load(&shm->peer->event_armed) == 0 ||
	    __atomic_exchange_n(&shm->peer->event_armed, 0, __ATOMIC_ACQ_REL) ==
		    0)
		return;
	/* A full socket buffer wakes the peer as well as another byte. */
	(void)send(shm->fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int shm_commit(struct fastwake_channel *ch, uint32_t offset,
		      uint32_t length, uint32_t space)
{
	struct fw_shm *shm = ch->shm;

	(void)offset;
	(void)length;
	ch->tx.head += space;
	if (shm->wanted) {
		shm->wanted = false;
		fw_store(&shm->own->want_space, 0);
	}
	fw_store_release(&shm->own->produced, ch->tx.head);
	ring(shm);
	return 0;
}

static int shm_credit(struct fastwake_channel *ch)
{
	struct fw_shm *shm = ch->shm;

	fw_store_release(&shm->own->consumed, ch->rx.tail);
	fw_full_barrier(); /* (R) */
	if (fw_load(&shm->peer->want_space) != 0)
		ring(shm);
	return 0;
}

static void shm_refused(struct fastwake_channel *ch)
{
	struct fw_shm *shm = ch->shm;

	shm->wanted = true;
	fw_store(&shm->own->want_space, 1);
	fw_full_barrier(); /* (T) */
	fw_shm_transport.poll(ch);
}

/* What the peer says it wrote.  Hostile. */
static void poll_produced(struct fastwake_channel *ch)
{
	struct fw_rx *rx = &ch->rx;
	uint64_t produced = fw_load_acquire(&ch->shm->peer->produced);

	if (produced == rx->head)
		return;
	if (produced - rx->tail > rx->size || produced - rx->head > rx->size ||
	    produced % FW_FRAME_UNIT != 0) {
		fw_channel_fail(ch, -EPROTO,
				"peer's write position is impossible");
		return;
	}
	rx->head = produced;
}

/* Up to where the peer says it has read.  Hostile. */
static void poll_consumed(struct fastwake_channel *ch)
{
	struct fw_tx *tx = &ch->tx;
	uint64_t consumed = fw_load_acquire(&ch->shm->peer->consumed);

	if (consumed == tx->tail)
		return;
	if (consumed - tx->tail > tx->head - tx->tail ||
	    consumed % FW_FRAME_UNIT != 0) {
		fw_channel_fail(ch, -EPROTO,
				"peer's read position is impossible");
		return;
	}
	tx->tail = consumed;
}

static void shm_poll(struct fastwake_channel *ch)
{
	/* Before produced: what was written before the end is seen as well. */
	bool closed = fw_load_acquire(&ch->shm->peer->closed) != 0;

	poll_consumed(ch);
	poll_produced(ch);
	if (closed)
		fw_channel_fail(ch, -EPIPE, "peer has closed the channel");
}

/* Take a wake-up byte off the socket, or find its end. */
static void shm_check(struct fastwake_channel *ch)
{
	char bytes[16];
	ssize_t n = recv(ch->shm->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	/* A peer that closes says so in memory before its socket closes. */
	shm_poll(ch);
	fw_channel_fail(ch, -ECONNRESET, "peer has vanished");
}

static bool shm_disarm(struct fastwake_channel *ch)
{
	fw_store(&ch->shm->own->event_armed, 0);
	shm_check(ch);
	return true;
}

static int shm_arm(struct fastwake_channel *ch)
{
	struct fw_shm *shm = ch->shm;

	fw_store(&shm->own->event_armed, 1);
	fw_full_barrier(); /* (S) */
	if (fw_load(&shm->peer->produced) != ch->rx.head ||
	    fw_load(&shm->peer->closed) != 0)
		return 1;
	if (ch->tx.refused && fw_load(&shm->peer->consumed) != ch->tx.tail)
		return 1;
	return 0;
}

static int shm_flushed(struct fastwake_channel *ch)
{
	(void)ch;
	return 1; /* what was sent is in memory that outlives us */
}

static void watch(struct fastwake_watch *watch, struct fw_shm *shm,
		  const void *word, uint32_t size, uint64_t seen)
{
	*watch = (struct fastwake_watch){
		.word = word,
		.doorbell = &shm->own->doorbell,
		.operand = seen,
		.size = size,
		.condition = FASTWAKE_NE,
	};
}

static int shm_watches(struct fastwake_channel *ch,
		       struct fastwake_watch watches[4])
{
	struct fw_shm *shm = ch->shm;

	watch(&watches[0], shm, &shm->peer->produced, 8, ch->rx.head);
	watch(&watches[1], shm, &shm->peer->closed, 4, 0);
	if (!ch->tx.refused)
		return 2;
	watch(&watches[2], shm, &shm->peer->consumed, 8, ch->tx.tail);
	return 3;
}

/* Both sides' control pages. */
static bool shm_words(const struct fastwake_channel *ch,
		      struct fw_mapping *words)
{
	*words = (struct fw_mapping){ .start = ch->shm->memory,
				      .length = 2 * FW_SHM_CONTROL };
	return true;
}

static int shm_fds(const struct fastwake_channel *ch, int fds[FASTWAKE_FDS_MAX])
{
	fds[0] = ch->shm->fd;
	return 1;
}

static void shm_query(struct fastwake_channel *ch,
		      struct fastwake_channel_info *info)
{
	bool open = ch->error == 0 && fw_load(&ch->shm->peer->closed) == 0;

	strcpy(info->device, "memfd");
	strcpy(info->state, open ? "OPEN" : "CLOSED");
	info->pinned = ch->shm->size;
}

static void shm_close(struct fastwake_channel *ch)
{
	struct fw_shm *shm = ch->shm;

	if (shm->memory != NULL) {
		fw_store_release(&shm->own->closed, 1);
		ring(shm);
		munmap(shm->memory, shm->size);
	}
	if (shm->fd >= 0)
		close(shm->fd);
	free(shm);
	ch->shm = NULL;
}

const struct fw_transport fw_shm_transport = {
	.transport = FASTWAKE_TRANSPORT_SHM,
	.poll = shm_poll,
	.check = shm_check,
	.commit = shm_commit,
	.credit = shm_credit,
	.refused = shm_refused,
	.flushed = shm_flushed,
	.arm = shm_arm,
	.disarm = shm_disarm,
	.watches = shm_watches,
	.words = shm_words,
	.fds = shm_fds,
	.query = shm_query,
	.close = shm_close,
};
