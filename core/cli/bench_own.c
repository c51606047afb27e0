// SPDX-License-Identifier: PostgreSQL
/*
 * bench_own.c - an interrupt brings what the only thread of an idle core waits
 * for: a word in memory for WAIT, or an eventfd for read(2).
 */
#include <unistd.h>

#include "bench.h"

static uint64_t some_time(void)
{
	return 20000 + bench_random(20000);
}

static void by_module(const struct bench_run *run)
{
	uint64_t old;

	(void)run;
	bench_register(0);
	while (!bench_stopped()) {
		old = bench_shm->slot[0].word;
		bench_order(0, -1, some_time());
		bench_wait(old);
		bench_note(0);
	}
	bench_unregister(0);
}

static void by_eventfd(const struct bench_run *run)
{
	int efd = bench_eventfd();

	(void)run;
	while (!bench_stopped()) {
		bench_order(0, efd, some_time());
		bench_read_eventfd(efd);
		bench_note(0);
	}
	close(efd);
}

const struct bench_run bench_own[] = {
	{ .name = "own-event", .path = BENCH_FASTWAKE, .run = by_module },
	{ .name = "own-event", .path = "eventfd", .run = by_eventfd },
	{ .name = NULL },
};
