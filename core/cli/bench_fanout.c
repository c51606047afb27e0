// SPDX-License-Identifier: PostgreSQL
/*
 * bench_fanout.c - many waiters on one core, and events for a random one of them.
 *
 * Whoever's event has come causes the next, by a plain store as a device would,
 * and waits again: so an event costs the way to sleep, the look at the words of
 * all, and the way to the one that it was for.
 *
 * Without the module somebody has to look at the words: a dispatcher, a process
 * that polls them and tells each waiter by an eventfd.  It runs as SCHED_IDLE, so
 * that it never keeps the core from a waiter.
 */
#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "bench.h"

static int efds[BENCH_SLOTS];

/* For any waiter but the own. */
static void next_event(const struct bench_run *run, uint32_t me)
{
	uint32_t i = bench_random(run->waiters - 1);

	bench_store(i < me ? i : i + 1);
}

static void module_waiter(const struct bench_run *run, uint32_t me)
{
	uint64_t seen = 0;

	bench_register(me);
	bench_random_of(me);
	bench_ready(me);
	for (;;) {
		bench_wait(seen);
		bench_note(me);
		seen = bench_shm->slot[me].word;
		next_event(run, me);
	}
}

static void eventfd_waiter(const struct bench_run *run, uint32_t me)
{
	bench_random_of(me);
	bench_ready(me);
	for (;;) {
		bench_read_eventfd(efds[me]);
		bench_note(me);
		next_event(run, me);
	}
}

static void dispatcher(const struct bench_run *run, uint32_t me)
{
	const struct sched_param none = { .sched_priority = 0 };
	uint64_t seen[BENCH_SLOTS] = { 0 }, word;
	uint32_t i;

	(void)me;
	if (sched_setscheduler(0, SCHED_IDLE, &none) != 0)
		bench_die("SCHED_IDLE", -errno);
	for (i = 0;; i = i + 1 < run->waiters ? i + 1 : 0) {
		word = __atomic_load_n(&bench_shm->slot[i].word,
				       __ATOMIC_ACQUIRE);
		if (word == seen[i])
			continue;
		seen[i] = word;
		bench_write_eventfd(efds[i]);
	}
}

static void wait_for_the_end(void)
{
	while (!bench_stopped())
		usleep(20000);
}

static void fan_out(const struct bench_run *run,
		    void (*waiter)(const struct bench_run *, uint32_t),
		    void (*helper)(const struct bench_run *, uint32_t))
{
	pid_t children[BENCH_SLOTS + 1];
	uint32_t i, n = run->waiters;

	for (i = 0; i < n; i++)
		children[i] = bench_child(waiter, run, i);
	for (i = 0; i < n; i++)
		bench_wait_ready(i);
	if (helper != NULL)
		children[n++] = bench_child(helper, run, 0);
	bench_store(0);
	wait_for_the_end();
	bench_end(children, n);
}

static void by_module(const struct bench_run *run)
{
	fan_out(run, module_waiter, NULL);
}

static void by_eventfd(const struct bench_run *run)
{
	uint32_t i;

	for (i = 0; i < run->waiters; i++)
		efds[i] = bench_eventfd();
	fan_out(run, eventfd_waiter, dispatcher);
	for (i = 0; i < run->waiters; i++)
		close(efds[i]);
}

#define RUN(name_, path_, run_, n)                               \
	{                                                        \
		.name = (name_), .path = (path_), .run = (run_), \
		.waiters = (n)                                   \
	}

const struct bench_run bench_fanout[] = {
	RUN("fanout-4", BENCH_FASTWAKE, by_module, 4),
	RUN("fanout-4", "eventfd", by_eventfd, 4),
	RUN("fanout-16", BENCH_FASTWAKE, by_module, 16),
	RUN("fanout-16", "eventfd", by_eventfd, 16),
	RUN("fanout-64", BENCH_FASTWAKE, by_module, 64),
	RUN("fanout-64", "eventfd", by_eventfd, 64),
	RUN("fanout-256", BENCH_FASTWAKE, by_module, 256),
	RUN("fanout-256", "eventfd", by_eventfd, 256),
	{ .name = NULL },
};
