// SPDX-License-Identifier: PostgreSQL
/*
 * test_fuzz.c - ioctls with anything for an argument, from several threads of
 * several processes at once, while regions and waiters come and go.
 *
 * Arguments are valid ones, of which some fields have been replaced; the results
 * that count are those of the kernel's log, which the lab looks at, and that the
 * module serves an honest user afterwards, and can be unloaded.
 *
 *	FASTWAKE_FUZZ_SECONDS	how long (15)
 *	FASTWAKE_FUZZ_SEED	repeats the choices, not the races
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "fwk.h"
#include "rnd.h"
#include "tap.h"

#define PROCESSES 3
#define THREADS	  4
#define DOMAINS	  3
#define NUMBERS	  8 /* waiters and regions are taken from so few */

struct shared {
	bool stop;
	uint64_t calls, succeeded;
	uint64_t errors[256]; /* by errno */
};

static struct shared *shared;
static int domains[DOMAINS]; /* closed and opened again, by anyone */
static char *memory;	     /* what may be pinned; also full of arguments */
static uint64_t seed;

#define MEMORY	  (16 * (uint64_t)FWK_PAGE)
#define load(p)	  __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define chance(n) (rnd_below(r, n) == 0)

/* ---- values ---- */

static uint64_t odd_number(struct rnd *r)
{
	static const uint64_t odd[] = {
		0,	    1,		2,	    7,		8,
		0x7f,	    0xff,	4095,	    4096,	4097,
		0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, 1ull << 32,
		1ull << 62, 1ull << 63, ~0ull - 7,  ~0ull,
	};

	if (chance(4))
		return rnd_next(r);
	return odd[rnd_below(r, sizeof(odd) / sizeof(*odd))];
}

static uint64_t odd_address(struct rnd *r)
{
	switch (rnd_below(r, 6)) {
	case 0:
		return 0;
	case 1:
		return (uintptr_t)memory + MEMORY - rnd_below(r, 64);
	case 2:
		return (uintptr_t)FWK_DEVICE; /* read-only */
	case 3:
		return 0xffff888000000000ull + rnd_below(r, 1u << 30);
	case 4:
		return (uintptr_t)odd_address & ~4095ull; /* code */
	default:
		return rnd_next(r);
	}
}

static uint32_t some_number(struct rnd *r)
{
	return chance(16) ? FASTWAKE_WAITER_NONE : rnd_below(r, NUMBERS);
}

/* ---- arguments ---- */

union arg {
	uint32_t size;
	uint32_t words[32];
	struct fastwake_ioc_query query;
	struct fastwake_ioc_register reg;
	struct fastwake_ioc_pin pin;
	struct fastwake_ioc_unpin unpin;
	struct fastwake_ioc_wait wait;
	struct fastwake_ioc_wake wake;
	struct fastwake_ioc_wake_set wake_set;
	struct fastwake_ioc_attach_cq attach;
	struct fastwake_ioc_test_event event;
};

static void make_watches(struct rnd *r, struct fastwake_ioc_watch *watches)
{
	uint32_t i;

	for (i = 0; i < FASTWAKE_IOC_WATCHES_MAX; i++) {
		watches[i] =
			fwk_watch(rnd_below(r, NUMBERS),
				  8ull * rnd_below(r, 1024),
				  (uint16_t)rnd_below(r, 4), rnd_below(r, 2));
		watches[i].word_size = chance(2) ? 4 : 8;
		if (watches[i].condition == FASTWAKE_COND_MASK_NE)
			watches[i].mask = rnd_next(r);
		if (chance(64))
			watches[i].offset = odd_number(r);
		if (chance(64))
			watches[i].condition = (uint16_t)odd_number(r);
	}
}

static void make_wait(struct rnd *r, struct fastwake_ioc_wait *wait,
		      const struct fastwake_ioc_watch *watches, bool to_other)
{
	*wait = (struct fastwake_ioc_wait){
		.size = sizeof(*wait),
		.waiter = rnd_below(r, NUMBERS),
		.nr_watches = rnd_below(r, FASTWAKE_IOC_WATCHES_MAX + 1),
		.watches = (uintptr_t)watches,
		.budget_ns = rnd_below(r, 2000000),
		.wake = to_other ? rnd_below(r, NUMBERS) : FASTWAKE_WAITER_NONE,
	};
	if (chance(4))
		wait->deadline_ns = fwk_now() + rnd_below(r, 1000000);
	if (chance(4))
		wait->flags =
			chance(2) ? FASTWAKE_WAIT_SLEEP : FASTWAKE_WAIT_CORE;
}

static void make_pin(struct rnd *r, struct fastwake_ioc_pin *pin)
{
	*pin = (struct fastwake_ioc_pin){
		.size = sizeof(*pin),
		.addr = (uintptr_t)memory + FWK_PAGE * rnd_below(r, 16),
		.length = FWK_PAGE * (1ull + rnd_below(r, 4)),
	};
	if (chance(8))
		pin->addr = odd_address(r) & ~(FWK_PAGE - 1ull);
}

static void make_attach(struct rnd *r, struct fastwake_ioc_attach_cq *attach)
{
	*attach = (struct fastwake_ioc_attach_cq){
		.size = sizeof(*attach),
		.device = rnd_below(r, 3),
		.cqn = rnd_below(r, 64),
		.cmd_fd = (int32_t)rnd_below(r, 32),
		.handle = rnd_below(r, 8),
	};
}

/* The numbers stand where the watches of others do. */
static void make_wake_set(struct rnd *r, struct fastwake_ioc_wake_set *set,
			  void *numbers)
{
	uint32_t *waiters = numbers, i;

	for (i = 0; i < FASTWAKE_IOC_WAKE_MAX; i++)
		waiters[i] = some_number(r);
	*set = (struct fastwake_ioc_wake_set){
		.size = sizeof(*set),
		.nr = rnd_below(r, FASTWAKE_IOC_WAKE_MAX + 2),
		.waiters = chance(16) ? odd_address(r) : (uintptr_t)numbers,
	};
}

static void make_event(struct rnd *r, struct fastwake_ioc_test_event *event)
{
	*event = (struct fastwake_ioc_test_event){
		.size = sizeof(*event),
		.slot = rnd_below(r, FASTWAKE_EVENT_SLOTS),
		.kind = rnd_below(r, 3),
		.delay_ns = 1 + rnd_below(r, 1000000),
		.region = rnd_below(r, NUMBERS),
		.waiter = FASTWAKE_WAITER_NONE,
		.eventfd = -1,
		.offset = 8ull * rnd_below(r, 1024),
		.stamp_offset = 8ull * rnd_below(r, 1024),
		.value = rnd_next(r),
	};
	if (event->kind == FASTWAKE_EVENT_WAKE)
		event->waiter = rnd_below(r, NUMBERS);
	if (event->kind == FASTWAKE_EVENT_EVENTFD)
		event->eventfd = (int)rnd_below(r, 32);
}

struct kind {
	unsigned long request;
	uint32_t size;
};

static const struct kind kinds[] = {
	{ FASTWAKE_IOC_QUERY, sizeof(struct fastwake_ioc_query) },
	{ FASTWAKE_IOC_REGISTER, sizeof(struct fastwake_ioc_register) },
	{ FASTWAKE_IOC_UNREGISTER, sizeof(struct fastwake_ioc_unregister) },
	{ FASTWAKE_IOC_PIN, sizeof(struct fastwake_ioc_pin) },
	{ FASTWAKE_IOC_UNPIN, sizeof(struct fastwake_ioc_unpin) },
	{ FASTWAKE_IOC_WAIT, sizeof(struct fastwake_ioc_wait) },
	{ FASTWAKE_IOC_WAIT, sizeof(struct fastwake_ioc_wait) },
	{ FASTWAKE_IOC_WAKE, sizeof(struct fastwake_ioc_wake) },
	{ FASTWAKE_IOC_WAKE_SET, sizeof(struct fastwake_ioc_wake_set) },
	{ FASTWAKE_IOC_SWITCH, sizeof(struct fastwake_ioc_wait) },
	{ FASTWAKE_IOC_ATTACH_CQ, sizeof(struct fastwake_ioc_attach_cq) },
	{ FASTWAKE_IOC_DETACH_CQ, sizeof(struct fastwake_ioc_detach_cq) },
	{ FASTWAKE_IOC_TEST_EVENT, sizeof(struct fastwake_ioc_test_event) },
};

#define KINDS (sizeof(kinds) / sizeof(*kinds))

static void make_valid(struct rnd *r, const struct kind *kind, union arg *arg,
		       struct fastwake_ioc_watch *watches)
{
	memset(arg, 0, sizeof(*arg));
	switch (kind->request) {
	case FASTWAKE_IOC_WAIT:
	case FASTWAKE_IOC_SWITCH:
		make_watches(r, watches);
		make_wait(r, &arg->wait, watches,
			  kind->request == FASTWAKE_IOC_SWITCH);
		break;
	case FASTWAKE_IOC_WAKE_SET:
		make_wake_set(r, &arg->wake_set, watches);
		break;
	case FASTWAKE_IOC_PIN:
		make_pin(r, &arg->pin);
		break;
	case FASTWAKE_IOC_ATTACH_CQ:
		make_attach(r, &arg->attach);
		break;
	case FASTWAKE_IOC_TEST_EVENT:
		make_event(r, &arg->event);
		break;
	default: /* the number is at the same place in all others */
		arg->reg.size = kind->size;
		if (kind->request != FASTWAKE_IOC_QUERY)
			arg->reg.waiter = some_number(r);
	}
}

static void mutate(struct rnd *r, const struct kind *kind, union arg *arg)
{
	uint32_t n, at;

	for (n = 1 + rnd_below(r, 3); n; n--) {
		at = rnd_below(r, chance(4) ? 32 : kind->size / 4);
		arg->words[at] = (uint32_t)odd_number(r);
	}
	if (chance(4))
		arg->size = chance(2) ? (uint32_t)odd_number(r)
				      : kind->size + 4 * rnd_below(r, 8);
	if (kind->size == sizeof(arg->wait) && chance(4))
		arg->wait.watches = odd_address(r);
}

/* ---- calls ---- */

static int some_domain(struct rnd *r)
{
	return load(&domains[rnd_below(r, DOMAINS)]);
}

static void note(int rc)
{
	__atomic_fetch_add(&shared->calls, 1, __ATOMIC_RELAXED);
	if (rc >= 0)
		__atomic_fetch_add(&shared->succeeded, 1, __ATOMIC_RELAXED);
	else
		__atomic_fetch_add(&shared->errors[-rc & 255], 1,
				   __ATOMIC_RELAXED);
}

static void call(struct rnd *r)
{
	const struct kind *kind = &kinds[rnd_below(r, KINDS)];
	struct fastwake_ioc_watch watches[FASTWAKE_IOC_WATCHES_MAX];
	unsigned long request = kind->request;
	union arg arg;
	void *p = &arg;

	make_valid(r, kind, &arg, watches);
	if (chance(3))
		mutate(r, kind, &arg);
	if (chance(32))
		request = chance(2) ? rnd_next(r)
				    : (request & ~0xfful) | rnd_below(r, 256);
	if (chance(32))
		p = (void *)odd_address(r);
	else if (chance(8)) /* where others write meanwhile */
		p = memcpy(memory + FWK_PAGE + 256 * rnd_below(r, 8), &arg,
			   sizeof(arg));
	note(fwk_ioctl(some_domain(r), request, p));
}

/* The descriptor's number stays, so that others use it while it is replaced. */
static void reopen(struct rnd *r)
{
	int at = some_domain(r), fresh = fwk_open();

	if (fresh < 0)
		return;
	dup2(fresh, at);
	close(fresh);
}

static void map_something(struct rnd *r)
{
	int prot = chance(4) ? PROT_READ | PROT_WRITE : PROT_READ;
	uint64_t at = chance(2) ? FASTWAKE_MMAP_WAITERS : FASTWAKE_MMAP_CORES;
	size_t length = FWK_PAGE * (size_t)(1 + rnd_below(r, 8));
	volatile const char *mem;

	if (chance(4))
		at = odd_number(r) & ~(FWK_PAGE - 1ull);
	mem = mmap(NULL, length, prot, chance(4) ? MAP_PRIVATE : MAP_SHARED,
		   some_domain(r), (off_t)at);
	if (mem == MAP_FAILED)
		return;
	if (at == FASTWAKE_MMAP_CORES)
		(void)mem[0];
	munmap((void *)(uintptr_t)mem, length);
}

static void disturb(struct rnd *r)
{
	cpu_set_t set;

	switch (rnd_below(r, 8)) {
	case 0:
		reopen(r);
		break;
	case 1:
		map_something(r);
		break;
	case 2:
		CPU_ZERO(&set);
		CPU_SET(rnd_below(r, 2), &set);
		sched_setaffinity(0, sizeof(set), &set);
		break;
	case 3: /* pages that may be pinned are replaced */
		madvise(memory + FWK_PAGE * rnd_below(r, 16), FWK_PAGE,
			MADV_DONTNEED);
		break;
	case 4:
		kill(getpid(), SIGUSR1);
		break;
	default: /* words that may be watched */
		((uint64_t *)(void *)memory)[rnd_below(r, MEMORY / 8)] =
			rnd_below(r, 3);
	}
}

static void *thread_main(void *arg)
{
	struct rnd r = rnd_seed(seed, (uint64_t)(uintptr_t)arg);

	while (!load(&shared->stop)) {
		call(&r);
		if (rnd_below(&r, 4) == 0)
			disturb(&r);
	}
	return NULL;
}

static void on_signal(int sig)
{
	(void)sig;
}

static void process_main(uint64_t stream)
{
	struct sigaction action = { .sa_handler = on_signal };
	pthread_t threads[THREADS];
	uint64_t i;

	sigaction(SIGUSR1, &action, NULL);
	for (i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, thread_main,
			       (void *)(uintptr_t)(stream * THREADS + i));
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	_exit(0);
}

/* One is killed now and then, and another takes its place. */
static void run(uint64_t seconds)
{
	uint64_t end = fwk_now() + seconds * FWK_SECOND, stream = 0;
	struct timespec t = { 0, 200000000 };
	pid_t pids[PROCESSES] = { 0 };
	uint32_t i;

	for (;;) {
		for (i = 0; i < PROCESSES; i++) {
			if (!pids[i] && (pids[i] = fork()) == 0)
				process_main(stream);
			stream++;
		}
		nanosleep(&t, NULL);
		if (fwk_now() >= end)
			break;
		i = (uint32_t)stream / 7 % PROCESSES;
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
		pids[i] = 0;
	}
	__atomic_store_n(&shared->stop, true, __ATOMIC_SEQ_CST);
	for (i = 0; i < PROCESSES; i++) {
		kill(pids[i], SIGKILL); /* some wait for ever */
		waitpid(pids[i], NULL, 0);
	}
}

static void show_errors(void)
{
	int e;

	for (e = 0; e < 256; e++)
		if (shared->errors[e])
			tap_diag("%s: %llu", strerrorname_np(e),
				 (unsigned long long)shared->errors[e]);
}

/* An honest user comes after all that. */
static void test_honest(void)
{
	struct fastwake_ioc_watch w;
	int fd = fwk_open(), reg;
	uint64_t *words = fwk_map_shared(FWK_PAGE);

	tap_is(fwk_register(fd, 0), 0, "REGISTER");
	reg = fwk_pin(fd, words, FWK_PAGE);
	tap_ok(reg > 0, "PIN");
	w = fwk_watch((uint32_t)reg, 0, FASTWAKE_COND_NE, 0);
	tap_is(fwk_wait(fd, 0, &w, 1, FWK_MS, 0), -ETIME, "WAIT");
	words[0] = 1;
	tap_is(fwk_wait(fd, 0, &w, 1, FWK_MS, 0), 0, "WAIT for a word");
	tap_is(fwk_unpin(fd, (uint32_t)reg), 0, "UNPIN");
	close(fd);
}

int main(void)
{
	struct rlimit limit = { 0, 0 };
	uint32_t i;

	tap_begin();
	shared = fwk_map_shared(sizeof(*shared));
	memory = fwk_map_shared(MEMORY + FWK_PAGE); /* and a page to miss */
	mprotect(memory + MEMORY, FWK_PAGE, PROT_NONE);
	seed = env_number("FASTWAKE_FUZZ_SEED", fwk_now());
	tap_diag("FASTWAKE_FUZZ_SEED=%llu", (unsigned long long)seed);
	setrlimit(RLIMIT_CORE, &limit);
	for (i = 0; i < DOMAINS; i++) {
		domains[i] = fwk_open();
		if (domains[i] < 0)
			tap_bail("no " FWK_DEVICE);
	}
	for (i = 0; i < 4; i++)
		eventfd(0, EFD_NONBLOCK);
	run(env_number("FASTWAKE_FUZZ_SECONDS", 15));
	tap_diag("%llu calls, %llu succeeded",
		 (unsigned long long)shared->calls,
		 (unsigned long long)shared->succeeded);
	show_errors();
	tap_ok(shared->succeeded > shared->calls / 20 &&
		       shared->errors[EINVAL] && shared->errors[EFAULT] &&
		       shared->errors[ENOENT] && shared->errors[E2BIG] &&
		       shared->errors[ENOTTY] && shared->errors[EOPNOTSUPP],
	       "calls of all kinds came through");
	for (i = 0; i < DOMAINS; i++)
		close(domains[i]);
	test_honest();
	return tap_done();
}
