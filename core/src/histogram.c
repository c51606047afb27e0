// SPDX-License-Identifier: PostgreSQL
/*
 * histogram.c - log-linear histogram: 8 buckets per power of two, so a bound is
 * at most 1/8 above the value.
 *
 * Values below 8 have a bucket each.  From there on a bucket is given by the
 * position of the highest bit and the three bits below it.
 */
#include "internal.h"

#define SUB_BITS    3
#define SUB_BUCKETS (1u << SUB_BITS)

_Static_assert(FASTWAKE_HISTOGRAM_BUCKETS == (64 - SUB_BITS + 1) * SUB_BUCKETS,
	       "one bucket for every 64-bit value");

static unsigned int bucket_of(uint64_t ns)
{
	unsigned int shift;

	if (ns < SUB_BUCKETS)
		return (unsigned int)ns;
	shift = 63 - SUB_BITS - (unsigned int)__builtin_clzll(ns);
	return (shift + 1) * SUB_BUCKETS +
	       ((unsigned int)(ns >> shift) & (SUB_BUCKETS - 1));
}

uint64_t fastwake_histogram_bound(unsigned int i)
{
	uint64_t top;

	if (i < SUB_BUCKETS)
		return i;
	if (i >= FASTWAKE_HISTOGRAM_BUCKETS - 1)
		return UINT64_MAX;
	top = SUB_BUCKETS + i % SUB_BUCKETS + 1;
	return (top << (i / SUB_BUCKETS - 1)) - 1;
}

void fastwake_histogram_add(struct fastwake_histogram *h, uint64_t ns)
{
	uint64_t max = fw_load(&h->max);

	__atomic_fetch_add(&h->bucket[bucket_of(ns)], 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&h->count, 1, __ATOMIC_RELAXED);
	while (ns > max &&
	       !__atomic_compare_exchange_n(&h->max, &max, ns, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* The buckets' own sum: ->count may be ahead of them or behind. */
static uint64_t total(const struct fastwake_histogram *h)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < FASTWAKE_HISTOGRAM_BUCKETS; i++)
		sum += fw_load(&h->bucket[i]);
	return sum;
}

/* How many of N values, at least one, make up the fraction Q. */
static uint64_t rank_of(uint64_t n, double q)
{
	uint64_t rank;

	if (!(q > 0))
		return 1;
	if (q >= 1)
		return n;
	rank = (uint64_t)(q * (double)n);
	if ((double)rank < q * (double)n)
		rank++;
	return rank < n ? rank : n;
}

uint64_t fastwake_histogram_quantile(const struct fastwake_histogram *h,
				     double q)
{
	uint64_t seen = 0, n = total(h), rank = rank_of(n, q);
	unsigned int i, last = 0;

	if (n == 0)
		return 0;
	for (i = 0; i < FASTWAKE_HISTOGRAM_BUCKETS && seen < rank; i++) {
		uint64_t here = fw_load(&h->bucket[i]);

		if (here != 0)
			last = i;
		seen += here;
	}
	return fastwake_histogram_bound(last);
}

void fastwake_histogram_reset(struct fastwake_histogram *h)
{
	unsigned int i;

	fw_store(&h->count, 0);
	fw_store(&h->max, 0);
	for (i = 0; i < FASTWAKE_HISTOGRAM_BUCKETS; i++)
		fw_store(&h->bucket[i], 0);
}
