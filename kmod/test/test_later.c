// SPDX-License-Identifier: PostgreSQL
/*
 * test_later.c - watches that are in no hurry: LATER_NE.
 *
 * All on one processor.  What a waiter sees and when says who let it go on: while
 * this thread computes nobody but the timer, and that not before the watch's time;
 * as soon as it sleeps, the next who scans.
 *
 * As root, with the module loaded.
 */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

#include "fwk.h"
#include "tap.h"

#define HOUR_NS	   (3600 * FWK_SECOND)
#define LATER_NS   (20 * FWK_MS)
#define BUDGET_NS  FWK_SECOND
#define BUDGET_MAX "/sys/module/fastwake/parameters/budget_max_us"

static int fd;
static uint32_t region;
static const uint32_t *where; /* waiter 0: is it in WAIT? */

static struct {
	uint64_t word;
	uint64_t came; /* the time, when it has */
} * shared;

static struct {
	pthread_t thread;
	uint64_t until_ns;
	int result;
} waiter;

#define load(p)	    __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define store(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)

static void nap(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / FWK_SECOND),
			      (long)(ns % FWK_SECOND) };

	nanosleep(&t, NULL);
}

static void on_first_processor(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		tap_bail("no first processor");
}

static int wait_until(uint64_t until_ns)
{
	struct fastwake_ioc_watch watch =
		fwk_watch(region, 0, FASTWAKE_COND_LATER_NE, 0);
	int result = fwk_register(fd, 0);

	watch.mask = until_ns;
	if (result == 0)
		result = fwk_wait(fd, 0, &watch, 1, 5 * FWK_SECOND, 0);
	store(&shared->came, fwk_now());
	fwk_unregister(fd, 0);
	return result;
}

static void *waiter_main(void *arg)
{
	(void)arg;
	waiter.result = wait_until(waiter.until_ns);
	return NULL;
}

/* It sleeps in the set when this returns. */
static void begin(uint64_t until_ns)
{
	waiter.until_ns = until_ns;
	store(&shared->word, 0);
	store(&shared->came, 0);
	if (pthread_create(&waiter.thread, NULL, waiter_main, NULL))
		tap_bail("no thread");
	while (load(where) == 0)
		nap(FWK_MS);
	nap(FWK_MS);
}

/* Did the word end it? */
static bool end(void)
{
	pthread_join(waiter.thread, NULL);
	return waiter.result >= 0 && FASTWAKE_WAIT_INDEX(waiter.result) == 0;
}

/* Keeps the processor until the waiter has come; returns whether. */
static bool compute(uint64_t ns)
{
	uint64_t stop = fwk_now() + ns;

	while (fwk_now() < stop && load(&shared->came) == 0)
		;
	return load(&shared->came) != 0;
}

static void test_idle(void)
{
	uint64_t stored;

	begin(fwk_now() + HOUR_NS);
	stored = fwk_now();
	store(&shared->word, 1);
	tap_ok(end() && shared->came - stored < BUDGET_NS / 2,
	       "an idle core sees it at once");
}

static void test_busy(void)
{
	uint64_t until = fwk_now() + LATER_NS;

	begin(until);
	store(&shared->word, 1);
	tap_ok(compute(BUDGET_NS / 2), "a busy core sees it");
	tap_ok(end() && shared->came >= until, "but not before its time");
}

static void test_over(void)
{
	begin(fwk_now());
	store(&shared->word, 1);
	tap_ok(compute(BUDGET_NS / 2), "once that is over there is a hurry");
	tap_ok(end(), "and the word ends the wait");
}

static void test_seen(void)
{
	store(&shared->word, 1);
	tap_ok(wait_until(fwk_now() + HOUR_NS) == 0,
	       "one that holds already ends WAIT at once");
}

static void test_woken(void)
{
	begin(fwk_now() + HOUR_NS);
	store(&shared->word, 1);
	tap_ok(fwk_wake(fd, 0) == 1, "WAKE finds it");
	tap_ok(compute(BUDGET_NS / 2) && end(), "and is in a hurry");
}

/* So that its end is not what ends a wait here. */
static void set_budget_max(unsigned int us)
{
	FILE *file = fopen(BUDGET_MAX, "w");

	if (!file || fprintf(file, "%u", us) < 0 || fclose(file))
		tap_bail("no budget");
}

static void set_up(void)
{
	long size = sysconf(_SC_PAGESIZE);
	int pinned;

	on_first_processor();
	fd = fwk_open();
	if (fd < 0)
		tap_bail("no /dev/fastwake");
	shared = fwk_map_shared((size_t)size);
	pinned = fwk_pin(fd, shared, (uint64_t)size);
	if (pinned < 0)
		tap_bail("no region");
	region = (uint32_t)pinned;
	where = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd,
		     (off_t)FASTWAKE_MMAP_WAITERS);
	if (where == MAP_FAILED)
		tap_bail("no map of waiters");
}

int main(void)
{
	tap_begin();
	set_up();
	set_budget_max(1000000);
	test_seen();
	test_idle();
	test_busy();
	test_over();
	test_woken();
	set_budget_max(10000);
	return tap_done();
}
