// SPDX-License-Identifier: PostgreSQL
/*
 * fuzz_request.c - the first words of a peer: private data of an rdma request
 * and of a refusal, the hello of shm.  Nothing may be read past what came, and
 * what is accepted is compared with the rules, written down once more here.
 */
#include <endian.h>

#include "fuzz.h"
#include "rdma.h"
#include "shm.h"

static const uint8_t token[FW_TOKEN_BYTES] = "the right token";

static bool ring_allowed(uint32_t ring)
{
	for (uint32_t size = FASTWAKE_RING_MIN; size <= FASTWAKE_RING_MAX;
	     size *= 2)
		if (ring == size)
			return true;
	return false;
}

static void try_request(const uint8_t *data, size_t size)
{
	struct fw_rdma_request request;
	unsigned int why = fw_rdma_request_check(data, size, token, &request);
	bool good = size >= 40 && memcmp(data + 24, token, 16) == 0;

	HOLDS(why <= FW_REFUSED_VERSION);
	if (why == 0)
		HOLDS(good && le32toh(request.geometry.magic) == 0x43525746 &&
		      le16toh(request.geometry.version) == 1 &&
		      ring_allowed(le32toh(request.geometry.ring_size)) &&
		      le16toh(request.geometry.depth) >= 16 &&
		      le16toh(request.geometry.depth) <= 4095);
	HOLDS(fw_rdma_refusal_parse(data, size) <= FW_REFUSED_RESOURCES);
}

/* As pending_step() has it: zeroes where less came, and the full length. */
static void try_hello(const uint8_t *data, size_t size)
{
	struct fw_shm_hello hello = { 0 };

	memcpy(&hello, data, size < sizeof(hello) ? size : sizeof(hello));
	if (fw_shm_hello_check(&hello, size, token) == 0)
		HOLDS(size == 32 && hello.magic == 0x4d485746 &&
		      hello.version == 1 && ring_allowed(hello.ring_size) &&
		      memcmp(data + 8, token, 16) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = exact_copy(data, size);

	try_request(copy, size);
	try_hello(copy, size);
	free(copy);
	return 0;
}
