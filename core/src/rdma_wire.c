// SPDX-License-Identifier: PostgreSQL
/*
 * rdma_wire.c - judge what a peer sends by RDMA.  All of it is hostile.
 *
 * No verbs here: the fuzzers of fuzz/ run these functions as they are.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "rdma.h"

bool fw_rdma_geometry_valid(const struct fw_rdma_geometry *geometry)
{
	uint32_t ring = le32toh(geometry->ring_size);
	uint16_t depth = le16toh(geometry->depth);

	return le32toh(geometry->magic) == FW_RDMA_MAGIC &&
	       le16toh(geometry->version) == FW_RDMA_VERSION &&
	       ring >= FASTWAKE_RING_MIN && ring <= FASTWAKE_RING_MAX &&
	       (ring & (ring - 1)) == 0 && depth >= 16 &&
	       depth <= FW_IMM_FRAMES_MAX;
}

unsigned int fw_rdma_request_check(const void *data, size_t length,
				   const uint8_t *token,
				   struct fw_rdma_request *request)
{
	if (length < sizeof(*request))
		return FW_REFUSED_VERSION;
	memcpy(request, data, sizeof(*request));
	if (!fw_rdma_geometry_valid(&request->geometry))
		return FW_REFUSED_VERSION;
	return fw_token_equal(request->token, token) ? 0 : FW_REFUSED_TOKEN;
}

unsigned int fw_rdma_refusal_parse(const void *data, size_t length)
{
	struct fw_rdma_refusal refusal;
	uint32_t why;

	if (length < sizeof(refusal))
		return 0;
	memcpy(&refusal, data, sizeof(refusal));
	why = le32toh(refusal.why);
	if (le32toh(refusal.magic) != FW_RDMA_MAGIC ||
	    why > FW_REFUSED_RESOURCES)
		return 0;
	return why;
}

/* Units of data that the peer says it appended. */
static void received_data(struct fastwake_channel *ch, uint32_t units)
{
	struct fw_rx *rx = &ch->rx;
	uint64_t bytes = (uint64_t)units * FW_FRAME_UNIT;

	if (units == 0 || rx->head + bytes - rx->tail > rx->size) {
		fw_channel_fail(ch, -EPROTO,
				"peer's write position is impossible");
		return;
	}
	rx->head += bytes;
}

static void received_credit(struct fastwake_channel *ch, uint32_t imm)
{
	struct fw_rdma *r = ch->rdma;
	uint32_t frames = (imm & ~FW_IMM_CREDIT) >> FW_IMM_FRAMES_BIT;
	uint64_t bytes = (uint64_t)(imm & FW_IMM_UNITS) * FW_FRAME_UNIT;

	if (frames > r->peer_depth - r->peer_frames ||
	    bytes > ch->tx.head - r->credited) {
		fw_channel_fail(ch, -EPROTO,
				"peer's read position is impossible");
		return;
	}
	r->peer_frames += frames;
	r->credited += bytes;
}

void fw_rdma_received(struct fastwake_channel *ch, uint32_t imm)
{
	if ((imm & FW_IMM_CREDIT) == 0) {
		received_data(ch, imm);
	} else if (imm != FW_IMM_CREDIT) {
		received_credit(ch, imm);
	} else {
		ch->rdma->goodbye = true;
		fw_channel_fail(ch, -EPIPE, "peer has closed the channel");
	}
}
