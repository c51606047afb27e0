// SPDX-License-Identifier: PostgreSQL
/*
 * bench_competitor.c - the same beside a process that never gives the core up
 * by itself.  The waiter uses less than a quarter of the core, so that the
 * scheduler has no reason to make it wait.
 */
#include <unistd.h>

#include "bench.h"

#define WORK_NS 60000

static uint64_t some_time(void)
{
	return 300000 + bench_random(300000);
}

static void hog(const struct bench_run *run, uint32_t me)
{
	(void)run;
	(void)me;
	for (;;)
		__asm__ volatile("" ::: "memory");
}

static void work(void)
{
	uint64_t until = fastwake_now() + WORK_NS;

	while (fastwake_now() < until)
		;
}

static void by_module(const struct bench_run *run)
{
	pid_t child = bench_child(hog, run, 1);
	uint64_t old;

	bench_register(0);
	while (!bench_stopped()) {
		old = bench_shm->slot[0].word;
		bench_order(0, -1, some_time());
		bench_wait(old);
		bench_note(0);
		work();
	}
	bench_unregister(0);
	bench_end(&child, 1);
}

static void by_eventfd(const struct bench_run *run)
{
	pid_t child = bench_child(hog, run, 1);
	int efd = bench_eventfd();

	while (!bench_stopped()) {
		bench_order(0, efd, some_time());
		bench_read_eventfd(efd);
		bench_note(0);
		work();
	}
	close(efd);
	bench_end(&child, 1);
}

const struct bench_run bench_competitor[] = {
	{ .name = "competitor", .path = BENCH_FASTWAKE, .run = by_module },
	{ .name = "competitor", .path = "eventfd", .run = by_eventfd },
	{ .name = NULL },
};
