// SPDX-License-Identifier: PostgreSQL
/*
 * bench_common.c - events, waits and processes of fastwake bench.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "cli.h"

struct bench_shared *bench_shm;
int bench_fd = -1;

static uint32_t region, wanted_events;

void bench_use(uint32_t pinned_region, uint32_t events)
{
	region = pinned_region;
	wanted_events = events;
}

void bench_die(const char *what, int rc)
{
	cli_fail("bench", "%s: %s", what, strerror(-rc));
	_exit(CLI_NO);
}

/* ---- latencies ---- */

void bench_note(uint32_t i)
{
	uint64_t latency = fastwake_now() - bench_shm->slot[i].stamp;
	uint32_t at =
		__atomic_fetch_add(&bench_shm->count, 1, __ATOMIC_RELAXED);

	if (at < wanted_events)
		bench_shm->latency[at] = latency;
	if (at + 1 >= wanted_events)
		__atomic_store_n(&bench_shm->stop, 1, __ATOMIC_RELEASE);
}

bool bench_stopped(void)
{
	return __atomic_load_n(&bench_shm->stop, __ATOMIC_ACQUIRE) != 0;
}

static uint64_t random_state = 88172645463325252ull;

void bench_random_of(uint32_t me)
{
	random_state ^= (me + 1) * 0x9e3779b97f4a7c15ull;
	random_state *= 0xbf58476d1ce4e5b9ull;
	random_state ^= random_state >> 31;
}

/* The same sequence in each run. */
uint32_t bench_random(uint32_t limit)
{
	uint64_t x = random_state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	random_state = x;
	return (uint32_t)(x >> 33) % limit;
}

/* ---- events ---- */

void bench_store(uint32_t i)
{
	struct bench_slot *s = &bench_shm->slot[i];

	s->stamp = fastwake_now();
	__atomic_store_n(&s->word, s->word + 1, __ATOMIC_SEQ_CST);
}

static uint64_t offset_of(const void *word)
{
	return (uint64_t)((const char *)word - (const char *)bench_shm);
}

void bench_order(uint32_t i, int efd, uint64_t delay_ns)
{
	struct bench_slot *s = &bench_shm->slot[i];
	struct fastwake_ioc_test_event e = {
		.size = sizeof(e),
		.slot = i % FASTWAKE_EVENT_SLOTS,
		.kind = efd < 0 ? FASTWAKE_EVENT_STORE : FASTWAKE_EVENT_EVENTFD,
		.delay_ns = delay_ns,
		.region = region,
		.waiter = FASTWAKE_WAITER_NONE,
		.eventfd = efd,
		.offset = offset_of(&s->word),
		.value = s->word + 1,
		.stamp_offset = offset_of(&s->stamp),
	};
	int rc = device_call(bench_fd, FASTWAKE_IOC_TEST_EVENT, &e);

	if (rc != 0)
		bench_die("TEST_EVENT", rc);
}

/* ---- waits ---- */

/* As a program that waits often has them: only what changes is filled in. */
static struct fastwake_ioc_watch watch = {
	.condition = FASTWAKE_COND_NE,
	.word_size = sizeof(uint64_t),
};
static struct fastwake_ioc_wait wait_args = {
	.size = sizeof(wait_args),
	.nr_watches = 1,
	.watches = (uintptr_t)&watch,
	.budget_ns = 10 * BENCH_MS,
};
static const uint64_t *own_word;

void bench_register(uint32_t me)
{
	struct fastwake_ioc_register r = { .size = sizeof(r), .waiter = me };
	int rc = device_call(bench_fd, FASTWAKE_IOC_REGISTER, &r);

	if (rc != 0)
		bench_die("REGISTER", rc);
	own_word = &bench_shm->slot[me].word;
	watch.region = region;
	watch.offset = offset_of(own_word);
	wait_args.waiter = me;
}

void bench_unregister(uint32_t me)
{
	struct fastwake_ioc_unregister u = { .size = sizeof(u), .waiter = me };
	int rc = device_call(bench_fd, FASTWAKE_IOC_UNREGISTER, &u);

	if (rc != 0)
		bench_die("UNREGISTER", rc);
}

static bool still(uint64_t old)
{
	return __atomic_load_n(own_word, __ATOMIC_ACQUIRE) == old &&
	       !bench_stopped();
}

static void call(unsigned long request, uint32_t other, uint64_t old)
{
	watch.operand = old;
	wait_args.wake = other;
	if (syscall(SYS_ioctl, bench_fd, request, &wait_args) >= 0)
		return;
	if (errno != ETIME && errno != EINTR && errno != ESRCH)
		bench_die("WAIT or SWITCH", -errno);
}

/* What parks waits again: nothing else would wake it here. */
void bench_wait(uint64_t old)
{
	do {
		call(FASTWAKE_IOC_WAIT, FASTWAKE_WAITER_NONE, old);
	} while (still(old));
}

void bench_switch(uint32_t other, uint64_t old)
{
	call(FASTWAKE_IOC_SWITCH, other, old);
	if (still(old))
		bench_wait(old);
}

/* ---- processes ---- */

/* One that ends by itself has failed, and said why. */
static void child_has_died(int sig)
{
	(void)sig;
	_exit(CLI_NO);
}

pid_t bench_child(void (*f)(const struct bench_run *run, uint32_t me),
		  const struct bench_run *run, uint32_t me)
{
	pid_t parent = getpid(), child;

	signal(SIGCHLD, child_has_died);
	child = fork();
	if (child < 0)
		bench_die("fork", -errno);
	if (child > 0)
		return child;
	signal(SIGCHLD, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(CLI_NO);
	f(run, me);
	_exit(CLI_NO);
}

void bench_end(const pid_t *children, uint32_t n)
{
	uint32_t i;

	signal(SIGCHLD, SIG_DFL);
	for (i = 0; i < n; i++)
		kill(children[i], SIGKILL);
	for (i = 0; i < n; i++)
		waitpid(children[i], NULL, 0);
}

void bench_ready(uint32_t i)
{
	__atomic_store_n(&bench_shm->slot[i].ready, 1, __ATOMIC_RELEASE);
}

void bench_wait_ready(uint32_t i)
{
	while (!__atomic_load_n(&bench_shm->slot[i].ready, __ATOMIC_ACQUIRE))
		sched_yield();
}

/* ---- eventfds ---- */

int bench_eventfd(void)
{
	int efd = eventfd(0, EFD_CLOEXEC);

	if (efd < 0)
		bench_die("eventfd", -errno);
	return efd;
}

void bench_read_eventfd(int efd)
{
	uint64_t value;

	if (read(efd, &value, sizeof(value)) != sizeof(value))
		bench_die("read of an eventfd", -errno);
}

void bench_write_eventfd(int efd)
{
	const uint64_t one = 1;

	if (write(efd, &one, sizeof(one)) != sizeof(one))
		bench_die("write to an eventfd", -errno);
}
