/* SPDX-License-Identifier: PostgreSQL */
/*
 * frame.h - the unit of transfer in a channel's byte ring.
 *
 * A ring is a stream of frames.  Each begins at a multiple of 64 bytes and is
 * padded to one (the padding is neither sent nor checked), so a frame never
 * begins in the middle of a cache line and counts travel as 64-byte units.  A
 * frame never wraps around the end of the ring: a message that reaches the end
 * is split there, which always works because what is left is a multiple of 64
 * and the header has 32 bytes.  So there is no padding frame that could be
 * forged or lost.
 *
 * Integers are little-endian: the two hosts may differ.
 */
#ifndef FASTWAKE_FRAME_H
#define FASTWAKE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FW_FRAME_MAGIC	 0x31465746u /* "FWF1" in memory */
#define FW_FRAME_VERSION 1u
#define FW_FRAME_HEADER	 32u
#define FW_FRAME_UNIT	 64u

#define FW_FRAME_END 0x01u /* last frame of its message */

struct fw_frame_header {
	uint32_t magic;
	uint8_t version;
	uint8_t flags;
	uint16_t reserved; /* 0 */
	uint32_t length;   /* payload bytes, at least 1 */
	uint32_t stream;
	uint64_t position;  /* of this frame in the endless stream of bytes that
			    * passes through the ring: tells a late or replayed
			    * frame from the one expected */
	uint32_t crc;	    /* CRC-32C of header (with this 0) and payload */
	uint32_t reserved2; /* 0 */
};

_Static_assert(sizeof(struct fw_frame_header) == FW_FRAME_HEADER,
	       "the header is part of the wire format");

/* Bytes of ring that a frame of LENGTH payload bytes takes. */
static inline uint32_t fw_frame_space(uint32_t length)
{
	return (length + FW_FRAME_HEADER + FW_FRAME_UNIT - 1) &
	       ~(FW_FRAME_UNIT - 1);
}

/* CRC-32C (Castagnoli), as iSCSI, ext4 and PostgreSQL's WAL use it. */
uint32_t fw_crc32c(uint32_t crc, const void *data, uint32_t length);

/*
 * Write a frame at AT, memory of fw_frame_space(LENGTH) bytes.
 */
void fw_frame_build(void *at, uint32_t stream, uint32_t flags,
		    uint64_t position, const void *payload, uint32_t length);

/*
 * Check a header, which must be in private memory.  ROOM is how many bytes the
 * frame may take, POSITION where it must be.  Returns 0, or -EPROTO with the
 * reason in *WHY.
 */
int fw_frame_check(const struct fw_frame_header *header, uint64_t position,
		   uint32_t room, const char **why);

/*
 * True if header and payload, both in private memory, are what was sent.
 * Clears header->crc.
 */
bool fw_frame_intact(struct fw_frame_header *header, const void *payload);

#endif
