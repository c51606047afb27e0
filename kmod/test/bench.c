// SPDX-License-Identifier: PostgreSQL
/*
 * bench.c - what the module's paths cost, beside what Linux has for the same.
 *
 *	bench [N [CASE...]]
 *
 * Everything on the first CPU. Figures mean something in "lab/run --icount"
 * only. The module has to be loaded with test_events=1.
 */
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fwk.h"

#define SLOTS_MAX 512

/* What one process waits on: a cache line each. */
struct slot {
	uint64_t word;
	uint64_t stamp; /* when it was stored */
	uint32_t futex;
	uint32_t ready;
	uint64_t pad[5];
};

static struct shared {
	struct slot slot[SLOTS_MAX];
	uint32_t count; /* of latencies */
	uint32_t stop;
	uint64_t latency[];
} * shm;

static size_t shm_size;
static int fd, region;
static uint32_t n = 2000;

static uint64_t random_state = 88172645463325252ull;

static uint32_t random_below(uint32_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 33) % limit;
}

static void die(const char *what, int rc)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(-rc));
	exit(1);
}

static void note(uint64_t latency)
{
	uint32_t i = __atomic_fetch_add(&shm->count, 1, __ATOMIC_RELAXED);

	if (i < n)
		shm->latency[i] = latency;
	if (i + 1 >= n)
		__atomic_store_n(&shm->stop, 1, __ATOMIC_RELEASE);
}

static bool stopped(void)
{
	return __atomic_load_n(&shm->stop, __ATOMIC_ACQUIRE);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void report(const char *name, const char *path)
{
	uint32_t count = shm->count < n ? shm->count : n, skip = count / 10;
	uint64_t *l = shm->latency + skip; /* the first are cold */

	count -= skip;
	qsort(l, count, sizeof(*l), by_value);
	printf("%-14s %-10s n %5u  p50 %7.2f  p99 %7.2f  max %8.2f us\n", name,
	       path, count, (double)l[count / 2] / 1e3,
	       (double)l[count * 99 / 100] / 1e3, (double)l[count - 1] / 1e3);
	fflush(stdout);
}

static void reset(void)
{
	memset(shm, 0, shm_size);
}

static uint64_t offset_of(const volatile void *word)
{
	return (uint64_t)((const volatile char *)word - (const char *)shm);
}

static void order(uint32_t to, uint32_t kind, uint32_t waiter, int efd,
		  uint64_t delay_ns)
{
	struct fastwake_ioc_test_event e = {
		.size = sizeof(e),
		.slot = to % FASTWAKE_EVENT_SLOTS,
		.kind = kind,
		.delay_ns = delay_ns,
		.region = (uint32_t)region,
		.waiter = waiter,
		.eventfd = efd,
		.offset = offset_of(&shm->slot[to].word),
		.value = shm->slot[to].word + 1,
		.stamp_offset = offset_of(&shm->slot[to].stamp),
	};
	int rc = fwk_ioctl(fd, FASTWAKE_IOC_TEST_EVENT, &e);

	if (rc)
		die("TEST_EVENT", rc);
}

/* Waits until the own word is not OLD; parks are tried again. */
static void wait_word(int waiter, uint32_t i, uint64_t old)
{
	struct fastwake_ioc_watch w =
		fwk_watch((uint32_t)region, offset_of(&shm->slot[i].word),
			  FASTWAKE_COND_NE, old);
	int rc;

	do {
		rc = fwk_wait(fd, (uint32_t)waiter, &w, 1, 10 * FWK_MS, 0);
		if (rc < 0 && rc != -ETIME)
			die("WAIT", rc);
	} while (*(volatile uint64_t *)&shm->slot[i].word == old && !stopped());
}

/* ---- own event ---- */

static void own_event(void)
{
	int waiter = fwk_register(fd, 0);
	struct slot *s = &shm->slot[0];
	uint64_t old;

	while (!stopped()) {
		old = s->word;
		order(0, FASTWAKE_EVENT_STORE, FASTWAKE_WAITER_NONE, -1,
		      20000 + random_below(20000));
		wait_word(waiter, 0, old);
		note(fwk_now() - s->stamp);
	}
	fwk_unregister(fd, (uint32_t)waiter);
	report("own-event", "fastwake");
}

static void own_wake(void)
{
	int waiter = fwk_register(fd, 0);
	struct slot *s = &shm->slot[0];
	int rc;

	while (!stopped()) {
		order(0, FASTWAKE_EVENT_WAKE, (uint32_t)waiter, -1,
		      20000 + random_below(20000));
		rc = fwk_wait(fd, (uint32_t)waiter, NULL, 0, 10 * FWK_MS, 0);
		if (rc < 0)
			die("WAIT", rc);
		note(fwk_now() - s->stamp);
	}
	fwk_unregister(fd, (uint32_t)waiter);
	report("own-event", "wake");
}

static void own_eventfd(void)
{
	int efd = eventfd(0, 0);
	uint64_t value;

	while (!stopped()) {
		order(0, FASTWAKE_EVENT_EVENTFD, FASTWAKE_WAITER_NONE, efd,
		      20000 + random_below(20000));
		if (read(efd, &value, 8) != 8)
			die("read", -errno);
		note(fwk_now() - shm->slot[0].stamp);
	}
	close(efd);
	report("own-event", "eventfd");
}

/* ---- hand-off between two processes ---- */

/* The ways: "me" waits for a turn, then gives it to the other. */
struct way {
	const char *name;
	void (*prepare)(uint32_t me);
	void (*give_and_take)(uint32_t me); /* store for the other, wait */
};

static int waiter_id, pipes[2][2], signal_epoll, event_fds[2], event_epoll;
static pid_t pids[2];

static void announce_turn(uint32_t me)
{
	struct slot *other = &shm->slot[1 - me];

	other->stamp = fwk_now();
	__atomic_store_n(&other->word, other->word + 1, __ATOMIC_SEQ_CST);
}

static void fw_prepare(uint32_t me)
{
	waiter_id = fwk_register(fd, me);
	if (waiter_id != (int)me)
		die("REGISTER", waiter_id);
}

static void scan_turn(uint32_t me)
{
	uint64_t old = shm->slot[me].word;

	announce_turn(me);
	wait_word(waiter_id, me, old);
}

static void wake_turn(uint32_t me)
{
	uint64_t old = shm->slot[me].word;

	announce_turn(me);
	fwk_wake(fd, 1 - me);
	wait_word(waiter_id, me, old);
}

static void switch_turn(uint32_t me)
{
	uint64_t old = shm->slot[me].word;
	struct fastwake_ioc_watch w =
		fwk_watch((uint32_t)region, offset_of(&shm->slot[me].word),
			  FASTWAKE_COND_NE, old);
	int rc;

	announce_turn(me);
	rc = fwk_switch(fd, me, 1 - me, &w, 1, 10 * FWK_MS, 0);
	if (rc < 0 || *(volatile uint64_t *)&shm->slot[me].word == old)
		wait_word(waiter_id, me, old);
}

static void futex_turn(uint32_t me)
{
	uint32_t old = shm->slot[me].futex;
	struct slot *other = &shm->slot[1 - me];

	other->stamp = fwk_now();
	__atomic_fetch_add(&other->futex, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &other->futex, FUTEX_WAKE, 1, NULL, NULL, 0);
	while (__atomic_load_n(&shm->slot[me].futex, __ATOMIC_ACQUIRE) == old)
		syscall(SYS_futex, &shm->slot[me].futex, FUTEX_WAIT, old, NULL,
			NULL, 0);
}

static void pipe_turn(uint32_t me)
{
	char c = 'x';

	shm->slot[1 - me].stamp = fwk_now();
	if (write(pipes[1 - me][1], &c, 1) != 1 ||
	    read(pipes[me][0], &c, 1) != 1)
		die("pipe", -errno);
}

static void epoll_prepare(int *epoll, int watched)
{
	struct epoll_event e = { .events = EPOLLIN };

	*epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_ctl(*epoll, EPOLL_CTL_ADD, watched, &e))
		die("epoll_ctl", -errno);
}

static void eventfd_prepare(uint32_t me)
{
	epoll_prepare(&event_epoll, event_fds[me]);
}

static void eventfd_turn(uint32_t me)
{
	struct epoll_event e;
	uint64_t one = 1;

	shm->slot[1 - me].stamp = fwk_now();
	if (write(event_fds[1 - me], &one, 8) != 8 ||
	    epoll_wait(event_epoll, &e, 1, -1) != 1 ||
	    read(event_fds[me], &one, 8) != 8)
		die("eventfd", -errno);
}

/* A PostgreSQL latch: kill(SIGURG), signalfd, epoll. */
static int latch_signalfd;

static void latch_prepare(uint32_t me)
{
	sigset_t set;

	(void)me;
	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	latch_signalfd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	epoll_prepare(&signal_epoll, latch_signalfd);
}

static void latch_turn(uint32_t me)
{
	struct signalfd_siginfo info;
	struct slot *mine = &shm->slot[me], *other = &shm->slot[1 - me];
	struct epoll_event e;

	other->stamp = fwk_now();
	__atomic_store_n(&other->word, 1, __ATOMIC_SEQ_CST);
	kill(pids[1 - me], SIGURG);
	while (!__atomic_exchange_n(&mine->word, 0, __ATOMIC_SEQ_CST)) {
		epoll_wait(signal_epoll, &e, 1, -1);
		while (read(latch_signalfd, &info, sizeof(info)) > 0)
			;
	}
}

static const struct way ways[] = {
	{ "switch", fw_prepare, switch_turn },
	{ "wake+wait", fw_prepare, wake_turn },
	{ "store+wait", fw_prepare, scan_turn },
	{ "latch", latch_prepare, latch_turn },
	{ "eventfd", eventfd_prepare, eventfd_turn },
	{ "futex", NULL, futex_turn },
	{ "pipe", NULL, pipe_turn },
};

static void wait_ready(uint32_t i)
{
	while (!__atomic_load_n(&shm->slot[i].ready, __ATOMIC_ACQUIRE))
		sched_yield();
}

/* The child echoes until it is killed, so no way needs an end. */
static void play(const struct way *way, uint32_t me)
{
	if (way->prepare)
		way->prepare(me);
	__atomic_store_n(&shm->slot[me].ready, 1, __ATOMIC_RELEASE);
	wait_ready(1 - me);
	for (;;) {
		way->give_and_take(me);
		note(fwk_now() - shm->slot[me].stamp);
		if (me == 0 && stopped())
			return;
	}
}

static void handoff(const struct way *way)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (pipe(pipes[0]) || pipe(pipes[1]))
		die("pipe", -errno);
	event_fds[0] = eventfd(0, 0);
	event_fds[1] = eventfd(0, 0);
	pids[0] = getpid();
	pids[1] = fork();
	if (pids[1] == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		play(way, 1);
	}
	play(way, 0);
	kill(pids[1], SIGKILL);
	waitpid(pids[1], NULL, 0);
	if (way->prepare == fw_prepare)
		fwk_unregister(fd, 0);
	report("handoff", way->name);
}

/* ---- fan-out ---- */

static void fanout_waiter(uint32_t me, uint32_t k)
{
	struct slot *s = &shm->slot[me];
	int waiter = fwk_register(fd, me);
	uint64_t old = 0;

	if (waiter < 0)
		die("REGISTER", waiter);
	random_state += me * 1234567;
	__atomic_store_n(&s->ready, 1, __ATOMIC_RELEASE);
	for (;;) {
		wait_word(waiter, me, old);
		if (stopped())
			_exit(0);
		note(fwk_now() - s->stamp);
		old = s->word;
		order(random_below(k), FASTWAKE_EVENT_STORE,
		      FASTWAKE_WAITER_NONE, -1, 20000 + random_below(40000));
	}
}

static void fanout(uint32_t k)
{
	char name[32];
	pid_t pid[SLOTS_MAX];
	uint32_t i;

	for (i = 0; i < k; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			fanout_waiter(i, k);
		}
	}
	for (i = 0; i < k; i++)
		wait_ready(i);
	order(0, FASTWAKE_EVENT_STORE, FASTWAKE_WAITER_NONE, -1, 50000);
	for (i = 0; i < k; i++)
		waitpid(pid[i], NULL, 0);
	snprintf(name, sizeof(name), "fanout-%u", k);
	report(name, "fastwake");
}

/* ---- behind a competitor ---- */

static pid_t start_hog(void)
{
	pid_t hog = fork();

	if (hog == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			__asm__ volatile("" ::: "memory");
	}
	return hog;
}

static void end_hog(pid_t hog)
{
	kill(hog, SIGKILL);
	waitpid(hog, NULL, 0);
}

/* For a fifth of the time between events. */
static void compute(void)
{
	uint64_t until = fwk_now() + 60000;

	while (fwk_now() < until)
		;
}

static void competitor(void)
{
	int waiter = fwk_register(fd, 0);
	struct slot *s = &shm->slot[0];
	uint64_t old;
	pid_t hog = start_hog();

	while (!stopped()) {
		old = s->word;
		order(0, FASTWAKE_EVENT_STORE, FASTWAKE_WAITER_NONE, -1,
		      300000 + random_below(300000));
		wait_word(waiter, 0, old);
		note(fwk_now() - s->stamp);
		compute();
	}
	end_hog(hog);
	fwk_unregister(fd, (uint32_t)waiter);
	report("competitor", "fastwake");
}

static void competitor_eventfd(void)
{
	int efd = eventfd(0, 0);
	uint64_t value;
	pid_t hog = start_hog();

	while (!stopped()) {
		order(0, FASTWAKE_EVENT_EVENTFD, FASTWAKE_WAITER_NONE, efd,
		      300000 + random_below(300000));
		if (read(efd, &value, 8) != 8)
			die("read", -errno);
		note(fwk_now() - shm->slot[0].stamp);
		compute();
	}
	end_hog(hog);
	close(efd);
	report("competitor", "eventfd");
}

/* ---- main ---- */

static bool wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = 2; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return argc <= 2;
}

static void set_up(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	shm_size = (sizeof(*shm) + n * sizeof(uint64_t) + FWK_PAGE - 1) /
		   FWK_PAGE * FWK_PAGE;
	shm = fwk_map_shared(shm_size);
	fd = fwk_open();
	if (fd < 0)
		die(FWK_DEVICE, fd);
	region = fwk_pin(fd, shm, shm_size);
	if (region < 0)
		die("PIN", region);
}

int main(int argc, char **argv)
{
	size_t i;

	if (argc > 1)
		n = (uint32_t)atoi(argv[1]);
	set_up();
	if (wanted("own", argc, argv)) {
		own_event();
		reset();
		own_wake();
		reset();
		own_eventfd();
	}
	for (i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (wanted("handoff", argc, argv) ||
		    wanted(ways[i].name, argc, argv)) {
			reset();
			handoff(&ways[i]);
		}
	if (wanted("fanout", argc, argv)) {
		reset();
		fanout(16);
		reset();
		fanout(256);
	}
	if (wanted("competitor", argc, argv)) {
		reset();
		competitor();
		reset();
		competitor_eventfd();
	}
	return 0;
}
