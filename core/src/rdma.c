// SPDX-License-Identifier: PostgreSQL
/*
 * rdma.c - the data path of a channel over RDMA: see rdma.h for the protocol.
 *
 * All events, data, credit and completion of own writes alike, arrive in one
 * completion queue.  A sleeper asks for an event of that queue and then polls
 * it once more:
 *
 *	device                             sleeper: rdma_arm()
 *	------                             -------------------
 *	D1 add completion to the queue     S1 ibv_req_notify_cq()
 *	D2 event           if asked for    S2 poll the queue: empty?
 *	                                   S3 poll(2) on the channel
 *
 * If D1 comes before S1 has taken effect, S2 sees the completion; else D2 makes
 * the descriptor readable, before or during S3.  The order of S1 and S2 is the
 * provider's to keep (ibv_req_notify_cq(3)).  An event asked for stays asked
 * for until it has been seen: it may have been raised by a completion that was
 * polled without it, and then wakes a later sleep for nothing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "rdma.h"

#define ACK_BATCH    64 /* acknowledging takes a lock */
#define READ_EVERY   64 /* waits by interrupt */
#define LINGER_NS    (100u * 1000 * 1000)
#define SIGNAL_EVERY (FW_SENDS / 8)

/* ------------------------------------------------------------------ */
/* Sending                                                            */
/* ------------------------------------------------------------------ */

static void update_space(struct fastwake_channel *ch)
{
	struct fw_rdma *r = ch->rdma;
	uint32_t queued = r->posted - r->completed;
	uint32_t room = queued < FW_DEPTH ? FW_DEPTH - queued : 0;

	ch->tx.tail = r->credited < r->arrived ? r->credited : r->arrived;
	ch->tx.frames = r->peer_frames < room ? r->peer_frames : room;
}

/*
 * Post one entry.  POSITION is the end of the data that its completion, and
 * that of all before it, stands for.
 */
static int post(struct fastwake_channel *ch, struct ibv_send_wr *wr,
		uint64_t position, bool signal)
{
	struct fw_rdma *r = ch->rdma;
	struct ibv_send_wr *bad;
	int rc;

	r->position[r->posted % FW_SENDS_SLOTS] = position;
	wr->wr_id = r->posted++;
	if (signal || ++r->unsignaled >= SIGNAL_EVERY ||
	    position - r->signaled >= FW_FRAGMENT(ch->tx.size)) {
		wr->send_flags |= IBV_SEND_SIGNALED;
		r->unsignaled = 0;
		r->signaled = position;
	}
	rc = ibv_post_send(r->qp, wr, &bad);
	if (rc == 0)
		return 0;
	fw_channel_fail(ch, -ECONNRESET, "rdma: could not post a write: %s",
			strerror(rc));
	return -ECONNRESET;
}

/* An entry without data. */
static int post_empty(struct fastwake_channel *ch, enum ibv_wr_opcode opcode,
		      uint32_t imm, bool signal)
{
	struct ibv_send_wr wr = ch->rdma->write;

	wr.opcode = opcode;
	wr.num_sge = 0;
	wr.sg_list = NULL;
	wr.send_flags = 0;
	wr.imm_data = htonl(imm);
	return post(ch, &wr, ch->tx.head, signal);
}

static int rdma_commit(struct fastwake_channel *ch, uint32_t offset,
		       uint32_t length, uint32_t space)
{
	struct fw_rdma *r = ch->rdma;
	int rc;

	ch->tx.head += space;
	ch->tx.frames--;
	r->peer_frames--;
	r->sge.addr = (uintptr_t)ch->tx.ring + offset;
	r->sge.length = length;
	r->write.wr.rdma.remote_addr = r->peer_address + offset;
	r->write.imm_data = htonl(space / FW_FRAME_UNIT);
	r->write.send_flags = length <= r->inline_max ? IBV_SEND_INLINE : 0;
	rc = post(ch, &r->write, ch->tx.head, false);
	return rc;
}

static int rdma_credit(struct fastwake_channel *ch)
{
	struct fw_rdma *r = ch->rdma;
	struct fw_rx *rx = &ch->rx;
	uint64_t units = (rx->tail - rx->returned) / FW_FRAME_UNIT;
	uint32_t frames = rx->frames;
	int rc;

	if (r->posted - r->completed >= FW_SENDS - 2)
		return -EAGAIN; /* flush and goodbye need a place as well */
	/* Only who puts several frames into one write can get here. */
	if (frames > FW_IMM_FRAMES_MAX)
		frames = FW_IMM_FRAMES_MAX;
	rc = fw_rdma_post_receives(r, r->receives_free);
	if (rc != 0) {
		fw_channel_fail(ch, -ECONNRESET,
				"rdma: could not post receives: %s",
				strerror(-rc));
		return rc;
	}
	return post_empty(ch, IBV_WR_RDMA_WRITE_WITH_IMM,
			  FW_IMM_CREDIT | frames << FW_IMM_FRAMES_BIT |
				  (uint32_t)units,
			  false);
}

/* Completions tell of space by themselves. */
static void rdma_refused(struct fastwake_channel *ch)
{
	(void)ch;
}

/* ------------------------------------------------------------------ */
/* Completions                                                        */
/* ------------------------------------------------------------------ */

static void sent(struct fastwake_channel *ch, const struct ibv_wc *wc)
{
	struct fw_rdma *r = ch->rdma;

	r->completed = (uint32_t)wc->wr_id + 1;
	r->arrived = r->position[wc->wr_id % FW_SENDS_SLOTS];
}

static void received(struct fastwake_channel *ch, const struct ibv_wc *wc)
{
	ch->rdma->receives_free++;
	if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM)
		fw_rdma_received(ch, ntohl(wc->imm_data));
	else
		fw_channel_fail(ch, -EPROTO, "unexpected kind of message");
}

/* Completions that follow, of data received before, are still looked at. */
static void failed(struct fastwake_channel *ch, const struct ibv_wc *wc)
{
	if (wc->status == IBV_WC_WR_FLUSH_ERR)
		fw_channel_fail(ch, -ECONNRESET,
				"rdma: the connection was torn down");
	else
		fw_channel_fail(ch, -ECONNRESET, "rdma: %s failed: %s",
				wc->wr_id == FW_WR_RECEIVE ? "receive"
							   : "write",
				ibv_wc_status_str(wc->status));
}

static void completion(struct fastwake_channel *ch, const struct ibv_wc *wc)
{
	if (wc->status != IBV_WC_SUCCESS)
		failed(ch, wc);
	else if (wc->wr_id == FW_WR_RECEIVE)
		received(ch, wc);
	else
		sent(ch, wc);
}

int fw_rdma_post_receives(struct fw_rdma *r, uint32_t n)
{
	while (n > 0) {
		uint32_t batch = n < FW_RECEIVE_BATCH ? n : FW_RECEIVE_BATCH;
		struct ibv_recv_wr *last = &r->receive[batch - 1], *bad;
		struct ibv_recv_wr *next = last->next;
		int rc;

		last->next = NULL;
		rc = ibv_post_recv(r->qp, r->receive, &bad);
		last->next = next;
		if (rc != 0)
			return -rc;
		r->receives_free -= batch;
		n -= batch;
	}
	return 0;
}

/* Returns the number of completions seen. */
static int progress(struct fastwake_channel *ch)
{
	struct fw_rdma *r = ch->rdma;
	struct ibv_wc wc[FW_POLL_BATCH];
	int n, total = 0;

	do {
		n = ibv_poll_cq(r->cq, FW_POLL_BATCH, wc);
		if (n < 0) {
			fw_channel_fail(ch, -ECONNRESET,
					"rdma: completion queue is broken");
			return 1;
		}
		for (int i = 0; i < n; i++)
			completion(ch, &wc[i]);
		total += n;
		/* A broken queue pair would refuse it; nobody sends any more. */
		if (r->receives_free >= FW_RECEIVE_BATCH && ch->error == 0)
			(void)fw_rdma_post_receives(r, r->receives_free);
	} while (n == FW_POLL_BATCH);
	if (total > 0)
		update_space(ch);
	return total;
}

static void rdma_poll(struct fastwake_channel *ch)
{
	(void)progress(ch);
}

/* ------------------------------------------------------------------ */
/* Waiting                                                            */
/* ------------------------------------------------------------------ */

static int rdma_flushed(struct fastwake_channel *ch)
{
	struct fw_rdma *r = ch->rdma;

	if (r->arrived != ch->tx.head)
		(void)progress(ch);
	if (ch->error != 0)
		return ch->error;
	r->flush_asked = r->arrived != ch->tx.head;
	if (!r->flush_asked)
		return 1;
	/* The last writes have not been asked for completion: add one that is. */
	if (r->signaled != ch->tx.head &&
	    r->posted - r->completed < FW_SENDS - 1 &&
	    post_empty(ch, IBV_WR_RDMA_WRITE, 0, true) != 0)
		return ch->error;
	return 0;
}

static int ask_for_event(struct fastwake_channel *ch)
{
	int rc = ibv_req_notify_cq(ch->rdma->cq, 0);

	if (rc == 0)
		return 0;
	fw_channel_fail(ch, -ECONNRESET, "rdma: could not ask for an event: %s",
			strerror(rc));
	return ch->error;
}

static int rdma_arm(struct fastwake_channel *ch)
{
	struct fw_rdma *r = ch->rdma;
	int rc;

	if (r->flush_asked && r->arrived == ch->tx.head)
		return 1;
	if (!r->notified) {
		rc = ask_for_event(ch);
		if (rc != 0)
			return rc;
		r->notified = true;
	}
	return progress(ch) > 0;
}

static bool take_event(struct fw_rdma *r)
{
	struct ibv_cq *cq;
	void *context;

	if (ibv_get_cq_event(r->completions, &cq, &context) != 0)
		return false;
	r->notified = false;
	if (++r->unacked == ACK_BATCH) {
		ibv_ack_cq_events(r->cq, r->unacked);
		r->unacked = 0;
	}
	return true;
}

/*
 * Who slept on more than the channel may have been woken by something else: then
 * nothing has completed, and the event that was asked for is still to come.  That
 * spares the system calls that would find neither it nor an event of rdma_cm, but
 * not twice in a row: a descriptor that is readable for another reason would
 * keep the caller from sleeping.
 */
static bool rdma_disarm(struct fastwake_channel *ch)
{
	struct fw_rdma *r = ch->rdma;

	if (progress(ch) == 0 && r->notified && !r->untaken) {
		r->untaken = true;
		return true;
	}
	r->untaken = false;
	return take_event(r);
}

static void rdma_check(struct fastwake_channel *ch)
{
	struct fw_rdma_event event;
	int rc = fw_rdma_event(ch->rdma->events, &event);

	if (rc == -EAGAIN)
		return;
	/* What arrived before, a goodbye above all, comes first. */
	(void)progress(ch);
	if (rc != 0) {
		fw_channel_fail(ch, -ECONNRESET, "rdma: no more events: %s",
				strerror(-rc));
		return;
	}
	switch (event.type) {
	case RDMA_CM_EVENT_DISCONNECTED:
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
		fw_channel_fail(ch, -ECONNRESET, "rdma: peer has vanished");
		break;
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		fw_channel_fail(ch, -ECONNRESET, "rdma: device was removed");
		break;
	default: /* change of address, late answers: nothing to us */
		break;
	}
}

/*
 * A wait takes events that were asked for before, so each sleep on descriptors asks
 * anew.  One that ends otherwise may leave an event to the channel, where it would
 * stay as long as nobody sleeps there.
 */
static int watch_interrupt(struct fastwake_channel *ch,
			   struct fastwake_watch *watch)
{
	struct fw_rdma *r = ch->rdma;

	r->notified = false;
	if (++r->unread == READ_EVERY) {
		r->unread = 0;
		while (take_event(r))
			;
	}
	fastwake_cq_watch(r->attached, 0, watch);
	return fastwake_cq_arms(r->attached) ? 0 : ask_for_event(ch);
}

/* Nobody rings for a completion: only the module can look at it, or hear of it. */
static int rdma_watches(struct fastwake_channel *ch,
			struct fastwake_watch watches[4])
{
	struct fw_rdma *r = ch->rdma;
	int n = 0, rc;

	if (ch->words_pinned && fw_cq_watch(&r->cq_memory, &watches[0]))
		n++;
	if (r->attached != NULL) {
		rc = watch_interrupt(ch, &watches[n++]);
		if (rc != 0)
			return rc;
	}
	return n > 0 ? n : -EOPNOTSUPP;
}

static int rdma_attach(struct fastwake_channel *ch,
		       struct fastwake_domain *domain)
{
	return fastwake_cq_attach(domain, ch->rdma->cq, &ch->rdma->attached,
				  NULL);
}

static void rdma_detach(struct fastwake_channel *ch)
{
	fastwake_cq_detach(ch->rdma->attached);
	ch->rdma->attached = NULL;
}

static bool rdma_words(const struct fastwake_channel *ch,
		       struct fw_mapping *words)
{
	*words = ch->rdma->cq_memory.mapping;
	return words->start != NULL;
}

static int rdma_fds(const struct fastwake_channel *ch,
		    int fds[FASTWAKE_FDS_MAX])
{
	const struct fw_rdma *r = ch->rdma;

	fds[0] = r->events->fd;
	fds[1] = r->stage == FW_ESTABLISHED ? r->completions->fd : r->timer;
	return fds[1] >= 0 ? 2 : 1;
}

/* ------------------------------------------------------------------ */
/* Information, end                                                   */
/* ------------------------------------------------------------------ */

static const char *state_name(struct fw_rdma *r)
{
	static const char *const names[] = {
		[IBV_QPS_RESET] = "RESET", [IBV_QPS_INIT] = "INIT",
		[IBV_QPS_RTR] = "RTR",	   [IBV_QPS_RTS] = "RTS",
		[IBV_QPS_SQD] = "SQD",	   [IBV_QPS_SQE] = "SQE",
		[IBV_QPS_ERR] = "ERR",
	};
	struct ibv_qp_attr attr;
	struct ibv_qp_init_attr init;

	if (ibv_query_qp(r->qp, &attr, IBV_QP_STATE, &init) != 0 ||
	    (unsigned int)attr.qp_state > IBV_QPS_ERR)
		return "?";
	return names[attr.qp_state];
}

static void rdma_query(struct fastwake_channel *ch,
		       struct fastwake_channel_info *info)
{
	struct fw_rdma *r = ch->rdma;

	info->qp_num = r->qp->qp_num;
	snprintf(info->device, sizeof(info->device), "%s",
		 ibv_get_device_name(r->id->verbs->device));
	fw_address_format(rdma_get_local_addr(r->id), info->local);
	fw_address_format(rdma_get_peer_addr(r->id), info->peer);
	snprintf(info->state, sizeof(info->state), "%s", state_name(r));
	info->pinned = (uint64_t)r->rx_size + r->tx_size;
}

/*
 * Say goodbye, and give it, and writes still under way, a moment to arrive:
 * disconnecting stops the queue pair at once.
 */
static void linger(struct fastwake_channel *ch)
{
	struct fw_rdma *r = ch->rdma;
	uint64_t deadline = fastwake_now() + LINGER_NS;
	struct pollfd fd = { .fd = r->completions->fd, .events = POLLIN };

	(void)progress(ch);
	if (ch->error != 0 || r->posted - r->completed >= FW_SENDS ||
	    post_empty(ch, IBV_WR_RDMA_WRITE_WITH_IMM, FW_IMM_CREDIT, true))
		return;
	while (ch->error == 0 && r->completed != r->posted &&
	       fastwake_now() < deadline) {
		if (rdma_arm(ch) == 0 && poll(&fd, 1, 10) > 0)
			(void)take_event(r);
	}
}

static void rdma_close(struct fastwake_channel *ch)
{
	struct fw_rdma *r = ch->rdma;

	if (r->stage == FW_ESTABLISHED) {
		linger(ch);
		(void)rdma_disconnect(r->id);
	}
	if (r->unacked > 0)
		ibv_ack_cq_events(r->cq, r->unacked);
	fw_rdma_free(ch);
}

const struct fw_transport fw_rdma_transport = {
	.transport = FASTWAKE_TRANSPORT_RDMA,
	.poll = rdma_poll,
	.check = rdma_check,
	.commit = rdma_commit,
	.credit = rdma_credit,
	.refused = rdma_refused,
	.flushed = rdma_flushed,
	.arm = rdma_arm,
	.disarm = rdma_disarm,
	.watches = rdma_watches,
	.words = rdma_words,
	.attach = rdma_attach,
	.detach = rdma_detach,
	.fds = rdma_fds,
	.query = rdma_query,
	.close = rdma_close,
};
