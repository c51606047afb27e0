// SPDX-License-Identifier: PostgreSQL
/*
 * test_left_behind.c - whoever scans the core goes away, and a waiter stays.
 *
 * On one processor: a waiter of real-time class, and another whose event comes
 * about when a backstop that was armed before fires; then that one computes, and
 * nobody joins or scans meanwhile.  The event of the first comes during that.  It
 * takes the core as soon as a backstop has seen its word: if that takes a good
 * part of the other's computing, nobody looked.
 *
 * In rounds of a second kind the other first sleeps, until any timer fires: that is
 * the backstop of a core that is idle but for the set, which wakes the dispatcher;
 * the other is woken in the same interrupt, and computes before it gets the core.
 *
 * Times are exact only where they are counted in instructions, and the choice of
 * moments rests on one processor: elsewhere it is skipped.
 *
 *	FASTWAKE_LEFT_ROUNDS	how often (400)
 *	FASTWAKE_STRESS_SEED	which moments (1)
 *
 * As root, with the module loaded with test_events=1.
 */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/prctl.h>

#include "fwk.h"
#include "rnd.h"
#include "tap.h"

#define COMPUTE_NS (4 * FWK_MS)
#define LATE_NS	   (FWK_MS / 2)

/* Until the next timer of any kind, of which there is one sooner than that. */
#define SLACK_NS (FWK_MS / 5)

/*
 * From the order of an event until about the firing of the backstop that was armed
 * when this thread wanted the core, and how far around that the moments lie.
 */
#define FIRST_NS 15000
#define SPAN_NS	 45000

enum {
	FIRST,
	OTHER,
	WAITERS
}; /* the real-time waiter, and who computes */

struct line {
	uint64_t word;
	uint64_t stamp; /* of the event */
	uint64_t seen;
	uint64_t pad[5];
};

static int fd;
static uint32_t region;
static bool stop;
static bool nap_first; /* the other, before it computes */
static struct line *lines;

#define load(p)	    __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define store(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)

static void nap(uint64_t ns)
{
	struct timespec t = { 0, (long)ns };

	nanosleep(&t, NULL);
}

static void set_priority(int priority)
{
	struct sched_param param = { .sched_priority = priority };

	if (sched_setscheduler(0, SCHED_FIFO, &param))
		tap_bail("no real-time class");
}

static void compute(void)
{
	uint64_t end;

	if (load(&nap_first))
		nap(1000);
	for (end = fwk_now() + COMPUTE_NS; fwk_now() < end;)
		;
}

static void *waiter_main(void *arg)
{
	uint32_t i = (uint32_t)(uintptr_t)arg;
	struct line *line = &lines[i];
	struct fastwake_ioc_watch w;
	uint64_t n, end;
	int id;

	if (i == FIRST)
		set_priority(50);
	else
		prctl(PR_SET_TIMERSLACK, SLACK_NS);
	id = fwk_register(fd, FASTWAKE_WAITER_NONE);
	for (n = 0; !load(&stop); n++) {
		w = fwk_watch(region, i * sizeof(*line), FASTWAKE_COND_NE, n);
		while (load(&line->word) == n)
			fwk_wait(fd, (uint32_t)id, &w, 1, FWK_SECOND, 0);
		end = fwk_now();
		if (i == OTHER)
			compute();
		store(&line->seen, end);
	}
	return NULL;
}

static void order(uint32_t i, uint64_t delay_ns)
{
	struct fastwake_ioc_test_event e = {
		.size = sizeof(e),
		.slot = i,
		.delay_ns = delay_ns,
		.region = region,
		.waiter = FASTWAKE_WAITER_NONE,
		.eventfd = -1,
		.offset = i * sizeof(struct line),
		.value = lines[i].word + 1,
		.stamp_offset = i * sizeof(struct line) + 8,
	};

	store(&lines[i].seen, 0);
	if (fwk_ioctl(fd, FASTWAKE_IOC_TEST_EVENT, &e))
		tap_bail("no test events");
}

/* Returns how long the first waiter's event was not seen. */
static uint64_t one_round(struct rnd *r)
{
	uint64_t other = FIRST_NS + rnd_below(r, SPAN_NS);
	uint32_t i;

	order(FIRST, other + COMPUTE_NS / 4);
	order(OTHER, other);
	nap(other + 2 * COMPUTE_NS);
	for (i = 0; i < WAITERS; i++)
		while (!load(&lines[i].seen))
			nap(FWK_MS);
	nap(FWK_MS / 2); /* both wait again */
	return lines[FIRST].seen - lines[FIRST].stamp;
}

static void set_up(pthread_t *threads)
{
	uint32_t i;
	int rc;

	lines = fwk_map_shared(FWK_PAGE);
	fd = fwk_open();
	rc = fd < 0 ? fd : fwk_pin(fd, lines, FWK_PAGE);
	if (rc < 0)
		tap_bail("no " FWK_DEVICE);
	region = (uint32_t)rc;
	for (i = 0; i < WAITERS; i++)
		pthread_create(&threads[i], NULL, waiter_main,
			       (void *)(uintptr_t)i);
	set_priority(99);
	nap(10 * FWK_MS);
}

/* How many were seen late. */
static uint64_t rounds_of_kind(struct rnd *r, bool nap)
{
	uint64_t rounds = env_number("FASTWAKE_LEFT_ROUNDS", 400), n, ns;
	uint64_t most = 0, late = 0;

	store(&nap_first, nap);
	for (n = 0; n < rounds; n++) {
		ns = one_round(r);
		late += ns > LATE_NS;
		if (ns > most)
			most = ns;
	}
	tap_diag("%llu rounds, the latest seen after %llu us",
		 (unsigned long long)rounds, (unsigned long long)most / 1000);
	return late;
}

static void test_rounds(void)
{
	struct rnd r = rnd_seed(env_number("FASTWAKE_STRESS_SEED", 1), 0);
	pthread_t threads[WAITERS];
	uint32_t i;

	set_up(threads);
	tap_is(rounds_of_kind(&r, false), 0, "nobody is left behind");
	tap_is(rounds_of_kind(&r, true), 0,
	       "nor is he to a dispatcher that does not get the core");
	store(&stop, true);
	for (i = 0; i < WAITERS; i++) {
		__atomic_fetch_add(&lines[i].word, 1, __ATOMIC_SEQ_CST);
		pthread_join(threads[i], NULL);
	}
}

int main(void)
{
	tap_begin();
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		tap_skip(2, "more than one processor, or no exact clock");
	else
		test_rounds();
	return tap_done();
}
