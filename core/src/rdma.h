/* SPDX-License-Identifier: PostgreSQL */
/*
 * rdma.h - a channel over a reliable connection (RC) of RDMA verbs.
 *
 * Every frame is one RDMA write with immediate data into the peer's ring.
 *
 *	immediate	bit 31 clear	data: units of 64 bytes appended
 *			bit 31 set	credit: 12 bits frames, 19 bits units
 *			only bit 31	goodbye: the peer closes
 *
 * Queues, and why the receive queue never runs dry between honest peers
 * ----------------------------------------------------------------------
 * Each immediate takes a receive from the peer's queue, which has FW_RECEIVES =
 * FW_DEPTH + FW_RECEIVES_SPARE of them.
 *
 * Data: a sender has at most FW_DEPTH frames outstanding, that is, sent and
 * without credit.  A receive that a frame took is posted again before credit
 * for that frame is returned (rdma_credit), so frames keep at most FW_DEPTH
 * receives away.
 *
 * Credit: who returns credit has taken a quarter of the ring or of FW_DEPTH
 * since he last did, and the sender's outstanding frames, as he himself counts
 * them, are at most one ring and FW_DEPTH.  What he has not polled yet is
 * credit for those, so at most 4 + 4 such messages, and one goodbye.  Those he
 * has polled are posted again, with all others, once FW_RECEIVE_BATCH receives
 * are free after a batch of FW_POLL_BATCH completions: at most FW_RECEIVE_BATCH
 * - 1 + FW_POLL_BATCH are kept away.  The sum, 9 + 31 = 40, is less than
 * FW_RECEIVES_SPARE.
 *
 * The send queue has FW_SENDS entries, of which data leaves FW_SENDS_SPARE to
 * credit, flush and goodbye.  Completions are asked for at least every
 * FW_SENDS / 8 entries, so a full queue always has one coming.
 */
#ifndef FASTWAKE_RDMA_H
#define FASTWAKE_RDMA_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "channel_internal.h"
#include "cq.h"

#define FW_RDMA_MAGIC	0x43525746u /* "FWRC" */
#define FW_RDMA_VERSION 1u

#define FW_DEPTH	  512u
#define FW_RECEIVES_SPARE 64u
#define FW_RECEIVES	  (FW_DEPTH + FW_RECEIVES_SPARE)
#define FW_SENDS_SPARE	  32u
#define FW_SENDS	  (FW_DEPTH + FW_SENDS_SPARE)
#define FW_SENDS_SLOTS	  1024u /* a power of two above FW_SENDS */
#define FW_RECEIVE_BATCH  16u
#define FW_POLL_BATCH	  16u
#define FW_INLINE	  256u /* more makes each entry of the queue larger */

/* wr_id of a receive; those of writes count them. */
#define FW_WR_RECEIVE (1ull << 63)

#define FW_IMM_CREDIT	  0x80000000u
#define FW_IMM_UNITS	  0x0007ffffu
#define FW_IMM_FRAMES_MAX 0xfffu
#define FW_IMM_FRAMES_BIT 19

_Static_assert(FW_SENDS < FW_SENDS_SLOTS, "slots are found by masking");
_Static_assert(FW_DEPTH <= FW_IMM_FRAMES_MAX, "fits into the immediate");
_Static_assert(FASTWAKE_RING_MAX / FW_FRAME_UNIT <= FW_IMM_UNITS,
	       "fits into the immediate");
_Static_assert(9 + FW_RECEIVE_BATCH - 1 + FW_POLL_BATCH <= FW_RECEIVES_SPARE,
	       "see above");

/*
 * Private data of connection request and answer, little-endian.  librdmacm
 * leaves 56 bytes to the request.
 */
struct fw_rdma_geometry {
	uint64_t address; /* of the ring its sender receives into */
	uint32_t rkey;
	uint32_t ring_size;
	uint32_t magic;
	uint16_t version;
	uint16_t depth; /* frames that may be outstanding towards it */
};

struct fw_rdma_request {
	struct fw_rdma_geometry geometry;
	uint8_t token[FW_TOKEN_BYTES];
};

_Static_assert(sizeof(struct fw_rdma_request) == 40, "wire format");

/* Private data of a refusal. */
struct fw_rdma_refusal {
	uint32_t magic;
	uint32_t why; /* enum fw_rdma_why */
};

enum fw_rdma_why {
	FW_REFUSED_TOKEN = 1,
	FW_REFUSED_VERSION = 2,
	FW_REFUSED_BUSY = 3,
	FW_REFUSED_RESOURCES = 4,
};

enum fw_rdma_stage {
	FW_RESOLVING_ADDRESS,
	FW_RESOLVING_ROUTE,
	FW_CONNECTING,
	FW_ACCEPTING,
	FW_ESTABLISHED,
};

struct fw_rdma {
	/* Sending. */
	struct ibv_qp *qp;
	struct ibv_cq *cq;
	struct fw_cq cq_memory; /* where completions show, if it can be told */
	struct ibv_send_wr write; /* of a frame; filled in once */
	struct ibv_sge sge;
	uint32_t inline_max;
	uint32_t posted;      /* entries put into the send queue, ever */
	uint32_t completed;   /* of these, known to be out of it */
	uint32_t unsignaled;  /* posted since a completion was asked for */
	uint32_t peer_frames; /* that the peer's receive queue still takes */
	uint32_t peer_depth;
	uint64_t signaled; /* position up to which completion was asked for */
	uint64_t arrived;  /* position up to which writes have completed */
	uint64_t credited; /* position up to which the peer returned credit */
	bool flush_asked;  /* the caller waits for arrived to reach the head */
	uint64_t position[FW_SENDS_SLOTS]; /* by entry: head after it */
	uint64_t peer_address;

	/* Receiving. */
	uint32_t receives_free;			      /* to be posted again */
	struct ibv_recv_wr receive[FW_RECEIVE_BATCH]; /* a chain */

	/* Events. */
	struct ibv_comp_channel *completions;
	unsigned int unacked; /* events of the CQ */
	bool notified;	      /* an event was asked for and not seen yet */
	bool untaken;	      /* nor looked for, after the last sleep */
	struct fastwake_cq *attached; /* the CQ, to waits by interrupt; or NULL */
	unsigned int unread;	      /* waits since the channel was read */
	bool goodbye;		      /* the peer said so */

	/* Connection. */
	enum fw_rdma_stage stage;
	struct rdma_event_channel *events;
	struct rdma_cm_id *id;
	int timer; /* connecting: when to give up; else -1 */
	uint64_t deadline_ns;
	char device[64]; /* the one asked for, or "" */
	uint8_t token[FW_TOKEN_BYTES];
	struct ibv_pd *pd;
	struct ibv_mr *rx_mr, *tx_mr;
	uint8_t *rx_memory, *tx_memory;
	uint32_t rx_size, tx_size;
};

/* What is of interest in an rdma_cm event, after it has been acknowledged. */
struct fw_rdma_event {
	enum rdma_cm_event_type type;
	int status;
	struct rdma_cm_id *id;
	size_t length; /* of the private data */
	uint8_t data[64];
};

/* 0, -EAGAIN if there is none, -errno. */
int fw_rdma_event(struct rdma_event_channel *events,
		  struct fw_rdma_event *event);
/* A nonblocking, close-on-exec event channel: 0 or -errno. */
int fw_rdma_events_open(struct rdma_event_channel **events);
int fw_nonblocking(int fd);

/* An empty struct fw_rdma in CH, whose receive ring has RING_SIZE bytes. */
int fw_rdma_create(struct fastwake_channel *ch, const char *device,
		   uint32_t ring_size);
/* Queues, rings and memory regions on the device of ID. */
int fw_rdma_resources(struct fastwake_channel *ch, uint32_t peer_ring,
		      char *reason);
void fw_rdma_free(struct fastwake_channel *ch);

/* Can this device carry a channel?  WANTED: its name, or "". */
bool fw_rdma_device_fits(struct ibv_device *device, const char *wanted);

/* Fill in what the peer has to know. */
void fw_rdma_geometry_own(const struct fw_rdma *r,
			  struct fw_rdma_geometry *geometry);
/* Check and use what it said: 0 or -EPROTO. */
int fw_rdma_geometry_peer(struct fastwake_channel *ch,
			  const struct fw_rdma_geometry *geometry);
/* Check only. */
bool fw_rdma_geometry_valid(const struct fw_rdma_geometry *geometry);
/* 0 with the request in *REQUEST, or why it is refused: enum fw_rdma_why. */
unsigned int fw_rdma_request_check(const void *data, size_t length,
				   const uint8_t *token,
				   struct fw_rdma_request *request);
/* Why the peer refused, 0 if it does not say. */
unsigned int fw_rdma_refusal_parse(const void *data, size_t length);
/* An immediate has come: move the positions, or the channel fails. */
void fw_rdma_received(struct fastwake_channel *ch, uint32_t imm);

/* What both sides ask of the connection. */
void fw_rdma_parameters(struct rdma_conn_param *parameters, const void *data,
			uint8_t length);
/* How soon a lost packet is sent again: before connecting or accepting. */
void fw_rdma_timeouts(struct rdma_cm_id *id);

/* Advance a connection that is being made.  0, -EAGAIN, or failure. */
int fw_rdma_step(struct fastwake_channel *ch, char *reason);

int fw_rdma_post_receives(struct fw_rdma *r, uint32_t n);

#endif
