// SPDX-License-Identifier: PostgreSQL
/*
 * fuzz_endpoint.c - endpoint texts.  What is accepted must come back from the
 * formatter, and mean the same again.
 */
#include "endpoint.h"
#include "fastwake.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fw_endpoint first, second;
	char text[FASTWAKE_ENDPOINT_MAX];
	char *input = malloc(size + 1);
	const char *why = NULL;

	HOLDS(input != NULL);
	memcpy(input, data, size);
	input[size] = '\0';
	if (fw_endpoint_parse(&first, input, &why) != 0) {
		HOLDS(why != NULL && why[0] != '\0');
		free(input);
		return 0;
	}
	free(input);
	HOLDS(first.ring_size >= FASTWAKE_RING_MIN &&
	      first.ring_size <= FASTWAKE_RING_MAX);
	HOLDS(strnlen(first.shm, sizeof(first.shm)) < sizeof(first.shm));
	HOLDS(fw_endpoint_format(&first, text, sizeof(text)) == 0);
	HOLDS(fw_endpoint_parse(&second, text, &why) == 0);
	HOLDS(memcmp(&first, &second, sizeof(first)) == 0);
	return 0;
}
