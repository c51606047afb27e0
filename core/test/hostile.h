/* SPDX-License-Identifier: PostgreSQL */
/*
 * hostile.h - frames that lie, whichever way they get into the victim's ring.
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include "channel_cases.h"

/* A good message at the beginning of the ring, then AT 192 whatever. */
#define FIRST 100u
#define AT    192u

static inline void put_first(uint8_t *ring)
{
	uint8_t payload[FIRST];

	message_fill(payload, 1, FIRST);
	fw_frame_build(ring, 3, FW_FRAME_END, 0, payload, FIRST);
}

/* The first message arrives whole; then ERROR (0: nothing) and nothing more. */
static inline const char *outcome(struct fastwake_channel *ch, int error)
{
	uint32_t stream = 0;
	ssize_t n;
	void *p;

	CHECK_IS(take(ch, &stream, &p), FIRST);
	CHECK(stream == 3 && message_good(p, 1, FIRST));
	if (error == 0) {
		CHECK_IS(fastwake_channel_recv(ch, &stream, &p), -EAGAIN);
		return NULL;
	}
	n = take(ch, &stream, &p);
	CHECK_IS(n, error);
	CHECK(fastwake_channel_reason(ch)[0] != '\0');
	CHECK_IS(fastwake_channel_poll(ch), error);
	CHECK_IS(fastwake_channel_recv(ch, &stream, &p), error);
	CHECK_IS(fastwake_channel_send(ch, 0, "x", 1), error);
	CHECK_IS(fastwake_channel_arm(ch), 1);
	return NULL;
}

/* At AT, a frame with this header, of LENGTH bytes, its checksum right. */
static inline void put_lie(uint8_t *ring, const struct fw_frame_header *header,
			   uint32_t length)
{
	struct fw_frame_header h = *header;
	static uint8_t payload[RING / 4];

	message_fill(payload, 2, sizeof(payload));
	h.crc = 0;
	h.crc = htole32(
		fw_crc32c(fw_crc32c(0, &h, sizeof(h)), payload, length));
	memcpy(ring + AT, &h, sizeof(h));
	memcpy(ring + AT + sizeof(h), payload, length);
}

static inline struct fw_frame_header good_header(uint32_t length)
{
	return (struct fw_frame_header){
		.magic = htole32(FW_FRAME_MAGIC),
		.version = FW_FRAME_VERSION,
		.flags = FW_FRAME_END,
		.length = htole32(length),
		.stream = htole32(3),
		.position = htole64(AT),
	};
}

struct field {
	const char *what;
	struct fw_frame_header header;
	uint32_t announced; /* bytes after AT */
	int error;
	const char *reason;
};

#define WITH(...)                                                     \
	{                                                             \
		.magic = FW_FRAME_MAGIC, .version = FW_FRAME_VERSION, \
		.flags = FW_FRAME_END, .length = 20, .stream = 3,     \
		.position = AT, __VA_ARGS__,                          \
	}

_Pragma("GCC diagnostic push")
	_Pragma("GCC diagnostic ignored \"-Woverride-init\"")
#ifdef __clang__
		_Pragma("GCC diagnostic ignored \"-Winitializer-overrides\"")
#endif
	/* Lies in each field, with a checksum that agrees. */
	static const struct field fields[] = {
		{ "magic", WITH(.magic = 0), 64, -EPROTO, "not a frame" },
		{ "version 0", WITH(.version = 0), 64, -EPROTO,
		  "unknown version" },
		{ "version 2", WITH(.version = 2), 64, -EPROTO,
		  "unknown version" },
		{ "flags", WITH(.flags = 0xff), 64, -EPROTO, "unknown flags" },
		{ "reserved", WITH(.reserved = 1), 64, -EPROTO,
		  "unknown flags" },
		{ "reserved2", WITH(.reserved2 = 1u << 31), 64, -EPROTO,
		  "unknown flags" },
		{ "no length", WITH(.length = 0), 64, -EPROTO, "empty frame" },
		{ "length beyond the announced", WITH(.length = 33), 64,
		  -EPROTO, "longer than what was announced" },
		{ "length beyond a fragment", WITH(.length = RING / 4),
		  RING / 2, -EPROTO, "longer than what was announced" },
		{ "length of all", WITH(.length = UINT32_MAX), 64, -EPROTO,
		  "longer than what was announced" },
		{ "length that wraps", WITH(.length = UINT32_MAX - 31), 64,
		  -EPROTO, "longer than what was announced" },
		{ "position of the past", WITH(.position = 0), 64, -EPROTO,
		  "out of place" },
		{ "position of the future", WITH(.position = AT + 64), 64,
		  -EPROTO, "out of place" },
		{ "position of the next round", WITH(.position = AT + RING), 64,
		  -EPROTO, "out of place" },
		{ "position of the end", WITH(.position = UINT64_MAX - 63), 64,
		  -EPROTO, "out of place" },
		{ "a message that does not end", WITH(.flags = 0), 64, 0, "" },
	};
_Pragma("GCC diagnostic pop")

#define FIELDS (sizeof(fields) / sizeof(fields[0]))

	static inline void put_field(uint8_t *ring, const struct field *f)
{
	uint32_t length = f->header.length < RING / 4 ? f->header.length : 20;
	struct fw_frame_header header = f->header;

	/* The table is in the host's order. */
	header.magic = htole32(header.magic);
	header.length = htole32(header.length);
	header.stream = htole32(header.stream);
	header.position = htole64(header.position);
	put_lie(ring, &header, length);
}

#endif /* HOSTILE_H */
