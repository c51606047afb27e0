// SPDX-License-Identifier: PostgreSQL
/*
 * seed.c - write good inputs for the fuzzers to begin with: DIR/TARGET/NAME.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fuzz.h"
#include "rdma.h"
#include "shm.h"

static const char *directory;

static void seed(const char *target, const char *name, const void *data,
		 size_t size)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, target);
	(void)mkdir(path, 0777);
	snprintf(path, sizeof(path), "%s/%s/%s", directory, target, name);
	file = fopen(path, "w");
	if (file == NULL || fwrite(data, 1, size, file) != size ||
	    fclose(file) != 0) {
		perror(path);
		exit(1);
	}
}

static void endpoints(void)
{
	struct fw_endpoint e = { .ring_size = 1u << 20, .shm = "fastwake-0f" };
	char text[FASTWAKE_ENDPOINT_MAX];

	fw_address_parse(&e.rdma, "10.9.0.1");
	e.rdma.in.sin_port = htons(4711);
	for (e.transports = 0; e.transports < 4; e.transports++) {
		fw_endpoint_format(&e, text, sizeof(text));
		seed("fuzz_endpoint", text + 60, text, strlen(text));
	}
	e.transports = FASTWAKE_TRANSPORT_RDMA | FASTWAKE_TRANSPORT_SHM;
	fw_address_parse(&e.rdma, "fd00::12");
	e.rdma.in6.sin6_port = htons(1);
	fw_endpoint_format(&e, text, sizeof(text));
	seed("fuzz_endpoint", "six", text, strlen(text));
	/* As long as each field may be. */
	fw_address_parse(&e.rdma, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	e.rdma.in6.sin6_port = htons(65535);
	memset(e.shm, 'a', sizeof(e.shm) - 1);
	fw_endpoint_format(&e, text, sizeof(text));
	seed("fuzz_endpoint", "long", text, strlen(text));
}

static void requests(void)
{
	struct fw_rdma_request request = {
		.geometry = { .address = htole64(0x7f0000000000),
			      .rkey = htole32(7),
			      .ring_size = htole32(1u << 20),
			      .magic = htole32(FW_RDMA_MAGIC),
			      .version = htole16(FW_RDMA_VERSION),
			      .depth = htole16(FW_DEPTH) },
		.token = "the right token",
	};
	struct fw_shm_hello hello = { .magic = FW_SHM_MAGIC,
				      .version = FW_SHM_VERSION,
				      .token = "the right token",
				      .ring_size = 1u << 20 };
	struct fw_rdma_refusal refusal = { .magic = htole32(FW_RDMA_MAGIC),
					   .why = htole32(1) };

	seed("fuzz_request", "request", &request, sizeof(request));
	seed("fuzz_request", "hello", &hello, sizeof(hello));
	seed("fuzz_request", "refusal", &refusal, sizeof(refusal));
}

/* Frames one after the other from unit START on. */
static void frames(const char *name, const uint32_t *lengths, unsigned int n,
		   bool whole, uint8_t start)
{
	static uint8_t input[2 + 8192], payload[8192];
	static _Alignas(64) uint8_t frame[8192];
	uint64_t position = (uint64_t)start * FW_FRAME_UNIT;
	uint8_t *at = input + 2;

	input[0] = 8;
	input[1] = start;
	for (unsigned int i = 0; i < n; i++) {
		fw_frame_build(frame, 5, whole || i + 1 == n ? FW_FRAME_END : 0,
			       position, payload, lengths[i]);
		memcpy(at, frame, fw_frame_space(lengths[i]));
		at += fw_frame_space(lengths[i]);
		position += fw_frame_space(lengths[i]);
	}
	seed("fuzz_frame", name, input, (size_t)(at - input));
}

static void immediates(void)
{
	/* Of each kind one step that is allowed. */
	static const uint8_t traffic[] = { 3, 3, 0, 0, 3, 7, 0, 0, 1, 2, 0,
					   0, 0, 9, 0, 0, 0, 9, 0, 0, 6, 9,
					   0, 0, 6, 9, 0, 0, 3, 1, 0, 0 };
	static const uint8_t goodbye[] = { 3, 7, 0, 0, 131, 0, 0, 0 };

	seed("fuzz_immediate", "traffic", traffic, sizeof(traffic));
	seed("fuzz_immediate", "goodbye", goodbye, sizeof(goodbye));
}

int main(int argc, char **argv)
{
	static const uint32_t lengths[] = { 100, 1, 32, 33, 2000 };

	if (argc != 2)
		return 2;
	directory = argv[1];
	endpoints();
	requests();
	frames("messages", lengths, 5, true, 0);
	frames("fragments", lengths, 5, false, 9);
	frames("short", lengths, 1, true, 126);
	immediates();
	return 0;
}
