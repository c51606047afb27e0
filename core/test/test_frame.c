// SPDX-License-Identifier: PostgreSQL
/*
 * test_frame.c - frames: the checksum, and that no changed frame passes.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "frame.h"
#include "tap.h"

#define LENGTH	 200
#define POSITION (7 * FW_FRAME_UNIT)

static struct {
	struct fw_frame_header header;
	uint8_t payload[LENGTH];
} __attribute__((aligned(64))) frame;

static uint8_t payload[LENGTH];

static void build(void)
{
	memset(&frame, 0xee, sizeof(frame));
	fw_frame_build(&frame, 5, FW_FRAME_END, POSITION, payload, LENGTH);
}

/* As a receiver checks, on a copy. */
static int check(uint64_t position, uint32_t room)
{
	const char *why = NULL;
	struct fw_frame_header header = frame.header;
	int rc = fw_frame_check(&header, position, room, &why);

	if (rc != 0)
		return why != NULL ? rc : -1;
	if (le32toh(header.length) != LENGTH)
		return -EBADMSG;
	return fw_frame_intact(&header, frame.payload) ? 0 : -EBADMSG;
}

static int check_here(void)
{
	return check(POSITION, fw_frame_space(LENGTH));
}

static void test_crc(void)
{
	static const char text[] = "123456789";
	uint8_t zeros[32] = { 0 };
	uint32_t crc;

	tap_ok(fw_crc32c(0, text, 9) == 0xe3069283u, "CRC-32C check value");
	tap_ok(fw_crc32c(0, zeros, 32) == 0x8a9136aau,
	       "CRC-32C of 32 zeros (RFC 3720)");
	crc = fw_crc32c(0, text, 4);
	tap_ok(fw_crc32c(crc, text + 4, 5) == 0xe3069283u,
	       "CRC-32C in two pieces");
}

static void test_space(void)
{
	tap_is(fw_frame_space(1), 64, "smallest frame");
	tap_is(fw_frame_space(32), 64, "frame that just fits");
	tap_is(fw_frame_space(33), 128, "frame of one byte more");
	tap_is(fw_frame_space(LENGTH), 256, "frame of 200 bytes");
}

static void test_good(void)
{
	struct fw_frame_header apart;

	build();
	tap_is(check_here(), 0, "what was built is accepted");
	tap_is(check(POSITION, 4096), 0, "and in more room");
	apart = frame.header;
	tap_ok(fw_frame_intact(&apart, payload),
	       "header and payload in different places");
	fw_frame_build(&frame, 5, 0, POSITION, payload, LENGTH);
	tap_is(check_here(), 0, "a frame that does not end its message");
}

/* One wrong header field, with a checksum that fits it. */
#define REFUSED(field, value)                                                \
	do {                                                                 \
		struct fw_frame_header *h = &frame.header;                   \
		build();                                                     \
		h->field = (value);                                          \
		h->crc = 0;                                                  \
		h->crc = htole32(fw_crc32c(0, h, FW_FRAME_HEADER + LENGTH)); \
		tap_is(check_here(), -EPROTO,                                \
		       "refused: " #field " = " #value);                     \
	} while (0)

static void test_header(void)
{
	REFUSED(magic, 0);
	REFUSED(magic, htobe32(FW_FRAME_MAGIC));
	REFUSED(version, 0);
	REFUSED(version, FW_FRAME_VERSION + 1);
	REFUSED(flags, 0x02);
	REFUSED(flags, 0x80 | FW_FRAME_END);
	REFUSED(reserved, htole16(1));
	REFUSED(reserved2, htole32(1));
	REFUSED(length, 0);
	REFUSED(length, htole32(LENGTH + 100));
	REFUSED(length, htole32(UINT32_MAX));
	REFUSED(length, htole32(UINT32_MAX - FW_FRAME_HEADER + 1));
	REFUSED(position, 0);
	REFUSED(position, htole64(POSITION - FW_FRAME_UNIT));
	REFUSED(position, htole64(POSITION + FW_FRAME_UNIT));
	REFUSED(position, htole64(POSITION + (1ull << 32)));
}

static void test_room(void)
{
	build();
	tap_is(check(POSITION, fw_frame_space(LENGTH) - FW_FRAME_UNIT), -EPROTO,
	       "refused: announced too short");
	tap_is(check(POSITION, 0), -EPROTO, "refused: no room");
	tap_is(check(POSITION, FW_FRAME_HEADER), -EPROTO,
	       "refused: room for a header only");
}

/* Every bit of header and payload counts. */
static void test_bits(void)
{
	unsigned int passed = 0;

	for (unsigned int bit = 0; bit < 8 * (FW_FRAME_HEADER + LENGTH);
	     bit++) {
		uint8_t *bytes = (uint8_t *)&frame;

		build();
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		passed += check_here() == 0;
	}
	tap_is(passed, 0, "refused: each single bit flipped");
}

static void test_torn(void)
{
	unsigned int passed = 0;

	for (unsigned int n = 0; n < LENGTH; n++) {
		build();
		memset(frame.payload + n, 0xee, LENGTH - n);
		passed += check_here() == 0;
	}
	tap_is(passed, 0, "refused: payload torn at each byte");
}

int main(void)
{
	tap_begin();
	for (unsigned int i = 0; i < LENGTH; i++)
		payload[i] = (uint8_t)(i * 7);
	test_crc();
	test_space();
	test_good();
	test_header();
	test_room();
	test_bits();
	test_torn();
	return tap_done();
}
