/* SPDX-License-Identifier: PostgreSQL */
/*
 * module.h - tests of the wait part, run once more with the kernel module:
 * FASTWAKE_TEST_MODULE=1 in the environment.
 */
#ifndef TEST_MODULE_H
#define TEST_MODULE_H

#include <stdlib.h>

#include "fastwake.h"
#include "tap.h"

static inline void test_use_module(struct fastwake_domain *domain)
{
	char reason[FASTWAKE_REASON_MAX];

	if (getenv("FASTWAKE_TEST_MODULE") == NULL)
		return;
	if (fastwake_domain_use_module(domain, reason) != 0)
		tap_bail(reason);
}

#endif
