// SPDX-License-Identifier: PostgreSQL
/*
 * fuzz_frame.c - a ring full of anything, received by fastwake_channel_recv().
 *
 *	byte 0	bit 0: put right checksums into what looks like frames, since no
 *		fuzzer guesses them; the rest: 64-byte units announced at a time
 *	byte 1	where in the ring it begins, in units
 *	rest	content of the ring from there on
 */
#include <endian.h>
#include <errno.h>

#include "channel_internal.h"
#include "fuzz.h"

#define RING	    8192u
#define MESSAGE_MAX 5000u

static uint8_t *ring;
static uint64_t produced, announced;
static uint32_t step;

static void ring_poll(struct fastwake_channel *ch)
{
	if (announced < produced)
		announced += produced - announced < step ? produced - announced
							 : step;
	ch->rx.head = announced;
}

static void nothing(struct fastwake_channel *ch)
{
	(void)ch;
}

static int ring_credit(struct fastwake_channel *ch)
{
	HOLDS(ch->rx.tail - ch->rx.returned <= RING);
	return 0;
}

static const struct fw_transport transport = {
	.poll = ring_poll,
	.check = nothing,
	.credit = ring_credit,
};

static void repair(uint64_t position)
{
	struct fw_frame_header header;

	while (position < produced) {
		uint8_t *at = ring + position % RING;
		uint32_t room = RING - (uint32_t)(position % RING), length;

		memcpy(&header, at, sizeof(header));
		length = le32toh(header.length);
		if (length > room - FW_FRAME_HEADER)
			return;
		header.crc = 0;
		header.crc = htole32(fw_crc32c(fw_crc32c(0, &header, 32),
					       at + FW_FRAME_HEADER, length));
		memcpy(at, &header, sizeof(header));
		position += fw_frame_space(length);
	}
}

static void receive_all(struct fastwake_channel *ch)
{
	for (unsigned int i = 0; i < 2 * RING / FW_FRAME_UNIT; i++) {
		uint32_t stream, sum = 0;
		void *p;
		ssize_t n = fastwake_channel_recv(ch, &stream, &p);

		HOLDS(ch->rx.tail <= ch->rx.head && ch->rx.head <= produced);
		HOLDS(ch->rx.tail % FW_FRAME_UNIT == 0);
		HOLDS(ch->rx.length <= MESSAGE_MAX);
		HOLDS(n == -EAGAIN || n == -EPROTO || n == -EMSGSIZE ||
		      (n > 0 && n <= (ssize_t)MESSAGE_MAX));
		/* Broken is broken, with a reason. */
		HOLDS(n == -EAGAIN || n > 0 || ch->reason[0] != '\0');
		for (ssize_t j = 0; j < n; j++)
			sum += ((uint8_t *)p)[j];
		HOLDS(sum <= 255 * MESSAGE_MAX);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fastwake_channel_options options = { .message_max =
							    MESSAGE_MAX };
	struct fastwake_channel *ch;
	uint64_t start;

	if (size < 3 || size - 2 > RING)
		return 0;
	ring = calloc(1, RING);
	HOLDS(ring != NULL && fw_channel_create(&ch, &options) == 0);
	start = data[1] % (RING / FW_FRAME_UNIT) * FW_FRAME_UNIT;
	for (size_t i = 2; i < size; i++)
		ring[(start + i - 2) % RING] = data[i];
	produced = start + ((size - 2 + FW_FRAME_UNIT - 1) &
			    ~(size_t)(FW_FRAME_UNIT - 1));
	announced = start;
	step = FW_FRAME_UNIT * (1 + (data[0] >> 1));
	if (data[0] & 1)
		repair(start);
	ch->rx.ring = ring;
	ch->rx.size = RING;
	ch->rx.head = ch->rx.tail = ch->rx.returned = start;
	fw_channel_established(ch, &transport);
	receive_all(ch);
	fastwake_channel_close(ch);
	free(ring);
	return 0;
}
