// SPDX-License-Identifier: PostgreSQL
/* test_histogram.c - buckets, quantiles, reset, concurrent writers. */
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "fastwake.h"
#include "tap.h"

#define THREADS	   4
#define PER_THREAD 20000

static struct fastwake_histogram h;

/* The one bucket in use; -1 if there is not exactly one. */
static int only_bucket(void)
{
	int i, found = -1;

	for (i = 0; i < FASTWAKE_HISTOGRAM_BUCKETS; i++) {
		if (h.bucket[i] == 0)
			continue;
		if (found >= 0)
			return -1;
		found = i;
	}
	return found;
}

static int bucket_for(uint64_t ns)
{
	fastwake_histogram_reset(&h);
	fastwake_histogram_add(&h, ns);
	return only_bucket();
}

static void test_buckets(void)
{
	uint64_t bound, last = 0;
	int i, wrong = 0, wide = 0;

	for (i = 0; i < FASTWAKE_HISTOGRAM_BUCKETS; i++) {
		bound = fastwake_histogram_bound((unsigned int)i);
		wrong += bucket_for(bound) != i;
		if (i > 0)
			wrong += bound <= last || bucket_for(last + 1) != i;
		wide += i > 0 &&
			(double)(bound - last - 1) > (double)(last + 1) / 8;
		last = bound;
	}
	tap_is(wrong, 0, "every value up to a bound is in its bucket");
	tap_is(wide, 0, "no bucket is wider than 1/8 of its lower end");
	tap_ok(last == UINT64_MAX, "the last bound is the largest value");
	tap_ok(fastwake_histogram_bound(FASTWAKE_HISTOGRAM_BUCKETS) ==
		       UINT64_MAX,
	       "a bucket out of range has no bound");
	tap_is(bucket_for(0), 0, "0 has a bucket");
	tap_is(bucket_for(UINT64_MAX), FASTWAKE_HISTOGRAM_BUCKETS - 1,
	       "2^64-1 has a bucket");
	tap_ok(h.max == UINT64_MAX && h.count == 1, "count and max are kept");
}

static void test_quantiles(void)
{
	uint64_t i;

	fastwake_histogram_reset(&h);
	tap_is(fastwake_histogram_quantile(&h, 0.5), 0, "empty: 0");
	for (i = 0; i < 8; i++)
		fastwake_histogram_add(&h, i);
	tap_is(fastwake_histogram_quantile(&h, 0), 0, "q = 0: the least");
	tap_is(fastwake_histogram_quantile(&h, 0.5), 3, "median of 0..7");
	tap_is(fastwake_histogram_quantile(&h, 0.51), 4, "just above");
	tap_is(fastwake_histogram_quantile(&h, 1), 7, "q = 1: the largest");
	tap_is(fastwake_histogram_quantile(&h, -1), 0, "q < 0 is 0");
	tap_is(fastwake_histogram_quantile(&h, 2), 7, "q > 1 is 1");
	tap_is(fastwake_histogram_quantile(&h, NAN), 0, "no number is 0");

	fastwake_histogram_reset(&h);
	for (i = 1; i <= 1000; i++)
		fastwake_histogram_add(&h, i * 1000);
	i = fastwake_histogram_quantile(&h, 0.99);
	tap_ok(i >= 990000 && i < 990000 * 9 / 8, "p99 within 1/8");
}

static void test_reset(void)
{
	struct fastwake_histogram zero;

	memset(&zero, 0, sizeof(zero));
	fastwake_histogram_add(&h, 12345);
	fastwake_histogram_reset(&h);
	tap_ok(memcmp(&h, &zero, sizeof(h)) == 0, "reset is all-zero");
}

static void *add_many(void *arg)
{
	uint64_t i, base = (uint64_t)(uintptr_t)arg;

	for (i = 0; i < PER_THREAD; i++)
		fastwake_histogram_add(&h, base * PER_THREAD + i);
	return NULL;
}

static void test_concurrent(void)
{
	pthread_t thread[THREADS];
	uint64_t sum = 0;
	uintptr_t t;
	int i;

	fastwake_histogram_reset(&h);
	for (t = 0; t < THREADS; t++)
		pthread_create(&thread[t], NULL, add_many, (void *)t);
	for (t = 0; t < THREADS; t++)
		pthread_join(thread[t], NULL);
	for (i = 0; i < FASTWAKE_HISTOGRAM_BUCKETS; i++)
		sum += h.bucket[i];
	tap_is(sum, THREADS * PER_THREAD, "no value lost by many writers");
	tap_is(h.count, THREADS * PER_THREAD, "nor in the count");
	tap_is(h.max, THREADS * PER_THREAD - 1, "and the maximum is right");
}

int main(void)
{
	tap_begin();
	test_buckets();
	test_quantiles();
	test_reset();
	test_concurrent();
	return tap_done();
}
