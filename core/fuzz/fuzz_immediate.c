// SPDX-License-Identifier: PostgreSQL
/*
 * fuzz_immediate.c - immediates of a peer, between honest sends and receives.
 *
 * The input is a list of steps of four bytes, a kind and a number of units:
 *
 *	0	send so many, honestly
 *	1	take so many of what was received, and return credit
 *	2	an immediate: credit for so many, and for kind / 4 frames
 *	3	an immediate: all four bytes, the kind's last, in network order
 */
#include "fuzz.h"
#include "rdma.h"

#define RING  65536u
#define DEPTH 64u

static struct fw_rdma rdma;

static void send_units(struct fastwake_channel *ch, uint32_t units)
{
	uint64_t bytes = (uint64_t)units * FW_FRAME_UNIT;

	if (ch->error != 0 || rdma.peer_frames == 0 || bytes == 0 ||
	    ch->tx.head + bytes - rdma.credited > RING)
		return;
	ch->tx.head += bytes;
	rdma.peer_frames--;
}

static void take(struct fastwake_channel *ch, uint32_t units)
{
	uint64_t bytes = (uint64_t)units * FW_FRAME_UNIT;

	if (bytes > ch->rx.head - ch->rx.tail)
		bytes = ch->rx.head - ch->rx.tail;
	ch->rx.tail += bytes;
	ch->rx.returned = ch->rx.tail;
}

/* No word of the peer's may make us read or write outside the rings. */
static void check(const struct fastwake_channel *ch)
{
	HOLDS(ch->rx.head >= ch->rx.tail && ch->rx.head - ch->rx.tail <= RING);
	HOLDS(ch->rx.head % FW_FRAME_UNIT == 0);
	HOLDS(rdma.credited <= ch->tx.head &&
	      ch->tx.head - rdma.credited <= RING);
	HOLDS(rdma.peer_frames <= rdma.peer_depth);
	HOLDS(ch->error == 0 || ch->reason[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fastwake_channel ch = {
		.tx.size = RING,
		.rx.size = RING,
		.rdma = &rdma,
	};

	rdma.peer_depth = rdma.peer_frames = DEPTH;
	rdma.credited = 0;
	rdma.goodbye = false;
	for (size_t i = 0; i + 4 <= size; i += 4) {
		uint32_t kind = data[i];
		uint32_t units =
			(uint32_t)(data[i + 2] & 15) << 8 | data[i + 1];

		if (kind % 4 == 0)
			send_units(&ch, units);
		else if (kind % 4 == 1)
			take(&ch, units);
		else if (ch.error == 0 && kind % 4 == 2)
			fw_rdma_received(&ch,
					 FW_IMM_CREDIT |
						 kind / 4 << FW_IMM_FRAMES_BIT |
						 units);
		else if (ch.error == 0)
			fw_rdma_received(&ch,
					 kind / 4 << 26 |
						 (uint32_t)data[i + 3] << 16 |
						 (uint32_t)data[i + 2] << 8 |
						 data[i + 1]);
		check(&ch);
	}
	return 0;
}
