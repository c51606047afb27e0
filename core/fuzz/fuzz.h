/* SPDX-License-Identifier: PostgreSQL */
/*
 * fuzz.h - what the fuzzers share.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert(), which could be compiled out. */
#define HOLDS(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

/* A copy whose end the address sanitizer watches. */
static inline void *exact_copy(const uint8_t *data, size_t size)
{
	void *copy = malloc(size);

	HOLDS(copy != NULL || size == 0);
	if (size > 0)
		memcpy(copy, data, size);
	return copy;
}

#endif
