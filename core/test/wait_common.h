/* SPDX-License-Identifier: PostgreSQL */
/*
 * wait_common.h - what tests of the wait part share.
 */
#ifndef WAIT_COMMON_H
#define WAIT_COMMON_H

#include <stdlib.h>
#include <sys/mman.h>

#include "fastwake.h"
#include "tap.h"

/* Memory that children inherit and share; zeroed. */
static inline void *map_shared(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		tap_bail("no memory");
	return mem;
}

/*
 * With FASTWAKE_TEST_MODULE=1 in the environment the tests run once more with
 * the kernel module.
 */
static inline void test_use_module(struct fastwake_domain *domain)
{
	char reason[FASTWAKE_REASON_MAX];

	if (getenv("FASTWAKE_TEST_MODULE") == NULL)
		return;
	if (fastwake_domain_use_module(domain, reason) != 0)
		tap_bail(reason);
}

#endif
