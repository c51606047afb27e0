// SPDX-License-Identifier: PostgreSQL
/*
 * frame.c - build and check frames.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include <isa-l/crc.h>

#include "frame.h"

uint32_t fw_crc32c(uint32_t crc, const void *data, uint32_t length)
{
	/* The library takes a non-const pointer but does not write. */
	union {
		const void *in;
		unsigned char *out;
	} p = { .in = data };

	return ~crc32_iscsi(p.out, (int)length, ~crc);
}

static uint32_t fw_frame_crc(const struct fw_frame_header *header,
			     const void *payload, uint32_t length)
{
	uint32_t crc;

	/* One call in the usual case: short messages are what must be fast. */
	if (payload == (const void *)(header + 1))
		return fw_crc32c(0, header, FW_FRAME_HEADER + length);
	crc = fw_crc32c(0, header, FW_FRAME_HEADER);
	return fw_crc32c(crc, payload, length);
}

void fw_frame_build(void *at, uint32_t stream, uint32_t flags,
		    uint64_t position, const void *payload, uint32_t length)
{
	struct fw_frame_header *header = at;

	*header = (struct fw_frame_header){
		.magic = htole32(FW_FRAME_MAGIC),
		.version = FW_FRAME_VERSION,
		.flags = (uint8_t)flags,
		.length = htole32(length),
		.stream = htole32(stream),
		.position = htole64(position),
	};
	memcpy(header + 1, payload, length);
	header->crc = htole32(fw_frame_crc(header, header + 1, length));
}

int fw_frame_check(const struct fw_frame_header *header, uint64_t position,
		   uint32_t room, const char **why)
{
	uint32_t length = le32toh(header->length);

	if (header->magic != htole32(FW_FRAME_MAGIC))
		*why = "not a frame";
	else if (header->version != FW_FRAME_VERSION)
		*why = "frame of an unknown version";
	else if ((header->flags & ~FW_FRAME_END) != 0 || header->reserved ||
		 header->reserved2)
		*why = "frame with unknown flags";
	else if (header->position != htole64(position))
		*why = "frame out of place (replayed, late or lost)";
	else if (length == 0)
		*why = "empty frame";
	else if (room < FW_FRAME_HEADER + 1 || length > room - FW_FRAME_HEADER)
		*why = "frame longer than what was announced";
	else
		return 0;
	return -EPROTO;
}

bool fw_frame_intact(struct fw_frame_header *header, const void *payload)
{
	uint32_t crc = le32toh(header->crc);

	header->crc = 0;
	return crc == fw_frame_crc(header, payload, le32toh(header->length));
}
