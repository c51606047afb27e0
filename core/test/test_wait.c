// SPDX-License-Identifier: PostgreSQL
/*
 * test_wait.c - fastwake_wait() and those who wake it: every documented result,
 * and the instants at which a wake-up could be lost.
 *
 * The program has its own fw_syscall() in place of the library's: so a test can
 * act in the instant before a futex call, refuse a call as an old kernel would,
 * and count calls.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "tap.h"
#include "wait_common.h"

#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif
#ifndef TSAN
#define TSAN 0
#endif

#define MS     1000000ull
#define SECOND (1000 * MS)

/*
 * A wait looks at its watches once more when its deadline has passed, which
 * hides a lost wake-up.  So the whole program has to be done in this time.
 */
#define LONG (15 * SECOND)

struct shared {
	uint32_t word;
	uint32_t pad;
	uint64_t word64;
	struct fastwake_doorbell bell[FASTWAKE_WATCHES_MAX];
	uint32_t go;
};

static struct fastwake_domain *domain;
static struct fastwake_waiter *waiter;
static struct shared *shm;

/* ------------------------------------------------------------------ */
/* System calls of the library                                        */
/* ------------------------------------------------------------------ */

static void (*before_sleep)(void); /* runs once, right before the sleep */
static int refuse_waitv;	   /* errno to refuse futex_waitv with */
static int one_cpu;		   /* pretend that affinity is one CPU */
static unsigned int sleeps, sleeps_waitv, futex_wakes;

static void call_before_sleep(void)
{
	void (*f)(void) = before_sleep;

	before_sleep = NULL;
	if (f != NULL)
		f();
}

static long count_call(long number, long operation)
{
	if (number == SYS_futex && operation == FUTEX_WAKE) {
		futex_wakes++;
	} else if (number == SYS_futex) {
		sleeps++;
		call_before_sleep();
	} else if (number == 449 && refuse_waitv != 0) {
		return -refuse_waitv;
	} else if (number == 449) {
		sleeps_waitv++;
		call_before_sleep();
	}
	return 0;
}

long fw_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	int saved = errno;
	long rc = count_call(number, b);

	if (rc != 0)
		return rc;
	rc = syscall(number, a, b, c, d, e, f);
	if (rc == -1)
		rc = -errno;
	errno = saved;
	if (number == SYS_sched_getaffinity && one_cpu && rc > 0) {
		memset((void *)c, 0, (size_t)rc);
		*(char *)c = 1;
	}
	return rc;
}

static void reset_counts(void)
{
	sleeps = sleeps_waitv = futex_wakes = 0;
}

/* ------------------------------------------------------------------ */
/* Helpers                                                            */
/* ------------------------------------------------------------------ */

static void setup(void)
{
	shm = map_shared(sizeof(*shm));
	if (fastwake_domain_create(&domain, NULL, 0, 4) != 0)
		tap_bail("no domain");
	test_use_module(domain);
	if (fastwake_waiter_attach(domain, 0, &waiter) != 0)
		tap_bail("no waiter");
}

static struct fastwake_watch watch32(enum fastwake_condition condition,
				     uint32_t operand)
{
	return (struct fastwake_watch){ .word = &shm->word,
					.operand = operand,
					.size = 4,
					.condition = condition };
}

static struct fastwake_watch watch64(enum fastwake_condition condition,
				     uint64_t operand)
{
	return (struct fastwake_watch){ .word = &shm->word64,
					.operand = operand,
					.size = 8,
					.condition = condition };
}

/* Wait for one watch, not longer than LONG_NS. */
static int wait_for(struct fastwake_watch watch, uint64_t long_ns)
{
	return fastwake_wait(waiter, &watch, 1, 0, fastwake_now() + long_ns,
			     NULL);
}

static int holds_now(struct fastwake_watch watch)
{
	struct fastwake_watch w = watch;

	return fastwake_wait(waiter, &w, 1, 0, 1, NULL) == 0;
}

static void nap(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / SECOND),
			       .tv_nsec = (long)(ns % SECOND) };

	nanosleep(&ts, NULL);
}

/* A child that runs F once the parent sleeps in the kernel, or nearly so. */
static pid_t child_when_asleep(void (*f)(void))
{
	struct fw_slot *slot = &domain->slots[0];
	pid_t pid = fork();

	if (pid < 0)
		tap_bail("no child");
	if (pid > 0)
		return pid;
	while (fw_owner_state(fw_load(&slot->owner)) != FW_SLEEPING)
		sched_yield();
	nap(5 * MS);
	f();
	_exit(0);
}

static void reap(pid_t pid)
{
	waitpid(pid, NULL, 0);
}

/* ------------------------------------------------------------------ */
/* Conditions and arguments                                           */
/* ------------------------------------------------------------------ */

static void test_conditions(void)
{
	struct fastwake_watch w;

	fw_store(&shm->word, 5);
	fw_store(&shm->word64, 0x500000005);
	tap_ok(holds_now(watch32(FASTWAKE_NE, 4)), "NE holds, 4 bytes");
	tap_ok(!holds_now(watch32(FASTWAKE_NE, 5)), "NE does not hold");
	tap_ok(holds_now(watch32(FASTWAKE_EQ, 5)), "EQ holds");
	tap_ok(!holds_now(watch32(FASTWAKE_EQ, 4)), "EQ does not hold");
	tap_ok(holds_now(watch64(FASTWAKE_NE, 5)), "NE holds, 8 bytes");
	tap_ok(!holds_now(watch64(FASTWAKE_EQ, 5)), "EQ sees all 8 bytes");
	tap_ok(holds_now(watch64(FASTWAKE_EQ, 0x500000005)), "EQ, 8 bytes");
	tap_ok(holds_now(watch64(FASTWAKE_GE64, 0x500000005)), "GE64: equal");
	tap_ok(holds_now(watch64(FASTWAKE_GE64, 0x4ffffffff)), "GE64: greater");
	tap_ok(!holds_now(watch64(FASTWAKE_GE64, 0x500000006)), "GE64: less");
	fw_store(&shm->word64, UINT64_MAX);
	tap_ok(holds_now(watch64(FASTWAKE_GE64, 1)), "GE64 is unsigned");
	w = watch32(FASTWAKE_MASK_NE, 1);
	w.mask = 1;
	tap_ok(!holds_now(w), "MASK_NE does not hold");
	w.mask = 6;
	tap_ok(holds_now(w), "MASK_NE holds");
	w = watch32(FASTWAKE_NE, 0);
	fw_store(&shm->word, (uint32_t)-1);
	w.operand = (uint64_t)-1;
	tap_ok(!holds_now(w), "of a 4-byte word only the low half counts");
}

static int with(uint32_t size, uint32_t condition, size_t shift, size_t bell)
{
	struct fastwake_watch w = {
		.word = (char *)shm + offsetof(struct shared, word64) + shift,
		.doorbell = (void *)((char *)shm->bell + bell),
		.size = size,
		.condition = condition,
	};

	return fastwake_wait(waiter, &w, 1, 0, 1, NULL);
}

static void test_invalid(void)
{
	struct fastwake_watch w[FASTWAKE_WATCHES_MAX + 1];
	unsigned int i;

	fw_store(&shm->word64, 0);
	tap_is(with(8, FASTWAKE_NE, 0, 0), -ETIMEDOUT, "a valid watch");
	tap_is(with(2, FASTWAKE_NE, 0, 0), -EINVAL, "size 2");
	tap_is(with(0, FASTWAKE_NE, 0, 0), -EINVAL, "size 0");
	tap_is(with(8, FASTWAKE_NE, 4, 0), -EINVAL, "word not aligned to 8");
	tap_is(with(4, FASTWAKE_NE, 2, 0), -EINVAL, "word not aligned to 4");
	tap_is(with(4, FASTWAKE_GE64, 0, 0), -EINVAL, "GE64 on 4 bytes");
	tap_is(with(8, FASTWAKE_GE64 + 1, 0, 0), -EINVAL, "unknown condition");
	tap_is(with(8, FASTWAKE_NE, 0, 4), -EINVAL, "doorbell not aligned");
	for (i = 0; i <= FASTWAKE_WATCHES_MAX; i++)
		w[i] = watch64(FASTWAKE_NE, 0);
	tap_is(fastwake_wait(waiter, w, FASTWAKE_WATCHES_MAX + 1, 0, 1, NULL),
	       -EINVAL, "too many watches");
	tap_is(fastwake_wait(waiter, w, FASTWAKE_WATCHES_MAX, 0, 1, NULL),
	       -ETIMEDOUT, "as many as are allowed");
	w[0].word = NULL;
	fastwake_waiter_publish(waiter);
	tap_is(fastwake_wait(waiter, w, 1, 0, 1, NULL), -EINVAL, "no word");
	tap_is(fastwake_wake(domain, 0), 0, "which withdraws the waiter");
}

static void test_index(void)
{
	struct fastwake_watch w[3] = { watch64(FASTWAKE_NE, 0),
				       watch32(FASTWAKE_NE, 0),
				       watch32(FASTWAKE_EQ, 1) };

	fw_store(&shm->word, 1);
	tap_is(fastwake_wait(waiter, w, 3, 0, 0, NULL), 1,
	       "the index of the first watch that holds");
	tap_is(fastwake_wait(waiter, w, 3, MS, 0, NULL), 1, "with a budget");
	fastwake_waiter_publish(waiter);
	tap_is(fastwake_wait(waiter, w, 3, 0, 0, NULL), 1, "when published");
	tap_is(fastwake_wake(domain, 0), 0, "idle after each return");
	fw_store(&shm->word, 0);
}

/* ------------------------------------------------------------------ */
/* Time                                                               */
/* ------------------------------------------------------------------ */

static void test_deadline(void)
{
	struct fastwake_wait_result r;
	struct fastwake_watch w = watch32(FASTWAKE_NE, 0);
	uint64_t start = fastwake_now();
	int rc;

	rc = fastwake_wait(waiter, &w, 1, 0, start + 30 * MS, &r);
	tap_is(rc, -ETIMEDOUT, "the deadline passes");
	tap_ok(fastwake_now() - start >= 30 * MS, "not early");
	tap_ok(r.slept == 1 && r.rung == 0 && r.latency_ns == 0,
	       "it slept and nobody rang");
	tap_ok(r.waited_ns >= 29 * MS && r.waited_ns < LONG, "waited_ns");
	tap_is(fastwake_wait(waiter, &w, 1, 0, start, NULL), -ETIMEDOUT,
	       "a deadline in the past");
	tap_is(fastwake_wait(waiter, &w, 1, 0, 1, NULL), -ETIMEDOUT,
	       "the least deadline");
	w.doorbell = &shm->bell[0];
	rc = fastwake_wait(waiter, &w, 1, 0, fastwake_now() + 20 * MS, &r);
	tap_is(rc, -ETIMEDOUT, "with a doorbell too");
	tap_is(shm->bell[0].armed, 0, "which is disarmed");
}

/* ------------------------------------------------------------------ */
/* Wakes from another process                                         */
/* ------------------------------------------------------------------ */

static void store_and_wake(void)
{
	fw_store_release(&shm->word, 1);
	if (fastwake_wake(domain, 0) != 1)
		_exit(1);
}

static void store_and_wake_pid(void)
{
	fw_store_release(&shm->word, 1);
	if (fastwake_wake_pid(domain, getppid()) != 1)
		_exit(1);
}

static void wake_only(void)
{
	fastwake_wake(domain, 0);
}

static void test_wake(void)
{
	struct fastwake_watch w = watch32(FASTWAKE_NE, 0);
	struct fastwake_wait_result r;
	int status;
	pid_t pid;

	fw_store(&shm->word, 0);
	pid = child_when_asleep(store_and_wake);
	tap_is(fastwake_wait(waiter, &w, 1, 0, fastwake_now() + LONG, &r), 0,
	       "woken by another process");
	tap_ok(r.slept == 1 && r.rung == 1, "it slept and was rung");
	tap_ok(r.latency_ns > 0 && r.latency_ns < SECOND, "latency %llu ns",
	       (unsigned long long)r.latency_ns);
	waitpid(pid, &status, 0);
	tap_is(status, 0, "wake returned 1");

	fw_store(&shm->word, 0);
	pid = child_when_asleep(store_and_wake_pid);
	tap_is(wait_for(w, LONG), 0, "woken by pid");
	waitpid(pid, &status, 0);
	tap_is(status, 0, "wake_pid returned 1");

	fw_store(&shm->word, 0);
	pid = child_when_asleep(wake_only);
	tap_is(wait_for(w, LONG), 1, "N when woken and no watch holds");
	reap(pid);
	pid = child_when_asleep(wake_only);
	tap_is(fastwake_wait(waiter, NULL, 0, 0, fastwake_now() + LONG, NULL),
	       0, "no watches at all: 0 is N");
	reap(pid);
}

static void store_and_ring(void)
{
	fw_store_release(&shm->word, 1);
	if (fastwake_doorbell_ring(&shm->bell[0]) != 1)
		_exit(1);
}

static void ring_in_vain_then_store(void)
{
	fastwake_doorbell_ring(&shm->bell[0]);
	nap(5 * MS);
	fastwake_doorbell_ring(&shm->bell[0]);
	nap(5 * MS);
	store_and_ring();
}

static void test_doorbell(void)
{
	struct fastwake_watch w = watch32(FASTWAKE_NE, 0);
	struct fastwake_wait_result r;
	int status;
	pid_t pid;

	w.doorbell = &shm->bell[0];
	fw_store(&shm->word, 0);
	reset_counts();
	tap_is(fastwake_doorbell_ring(&shm->bell[0]), 0, "nobody sleeps");
	tap_is(futex_wakes, 0, "which takes no system call");

	pid = child_when_asleep(store_and_ring);
	tap_is(fastwake_wait(waiter, &w, 1, 0, fastwake_now() + LONG, &r), 0,
	       "woken by the doorbell");
	tap_ok(r.slept == 1 && r.rung == 1 && r.latency_ns > 0,
	       "rung, latency %llu ns", (unsigned long long)r.latency_ns);
	waitpid(pid, &status, 0);
	tap_is(status, 0, "one sleeper was woken");
	tap_is(shm->bell[0].armed, 0, "disarmed");

	fw_store(&shm->word, 0);
	pid = child_when_asleep(ring_in_vain_then_store);
	tap_is(wait_for(w, LONG), 0, "rings in vain do not end the wait");
	reap(pid);
	tap_is(shm->bell[0].armed, 0, "disarmed");
}

static struct fastwake_watch several[FASTWAKE_WATCHES_MAX];

static void ring_last(void)
{
	fw_store_release(&shm->word, 7);
	fastwake_doorbell_ring(&shm->bell[FASTWAKE_WATCHES_MAX - 1]);
}

static void check_several(const char *how)
{
	struct fastwake_wait_result r;
	unsigned int i, armed = 0;
	pid_t pid;

	fw_store(&shm->word, 0);
	pid = child_when_asleep(ring_last);
	tap_is(fastwake_wait(waiter, several, FASTWAKE_WATCHES_MAX, 0,
			     fastwake_now() + LONG, &r),
	       7, "8 doorbells, the last one rung: %s", how);
	reap(pid);
	tap_is(r.rung, 1, "rung");
	for (i = 0; i < FASTWAKE_WATCHES_MAX; i++)
		armed += shm->bell[i].armed;
	tap_is(armed, 0, "all disarmed");
	tap_is(fastwake_wait(waiter, several, FASTWAKE_WATCHES_MAX, 0, 1, &r),
	       7, "the index beats a deadline that has passed");
	fw_store(&shm->word, 0);
	tap_is(fastwake_wait(waiter, several, FASTWAKE_WATCHES_MAX, 0,
			     fastwake_now() + 20 * MS, &r),
	       -ETIMEDOUT, "8 doorbells, deadline");
	tap_ok(r.waited_ns >= 19 * MS, "not early");
	pid = child_when_asleep(wake_only);
	tap_is(fastwake_wait(waiter, several, FASTWAKE_WATCHES_MAX, 0,
			     fastwake_now() + LONG, NULL),
	       8, "8 doorbells, woken through the slot");
	reap(pid);
}

static void test_several(void)
{
	unsigned int i;

	for (i = 0; i < FASTWAKE_WATCHES_MAX; i++) {
		several[i] = watch32(FASTWAKE_EQ, i == 0 ? 99 : i);
		several[i].doorbell = &shm->bell[i];
	}
	check_several("futex_waitv if there is one");
	refuse_waitv = ENOSYS;
	fw_futex_waitv_missing = false;
	check_several("no futex_waitv");
	tap_ok(fw_futex_waitv_missing, "which is remembered");
	refuse_waitv = EPERM;
	fw_futex_waitv_missing = false;
	check_several("futex_waitv forbidden");
	refuse_waitv = 0;
	fw_futex_waitv_missing = false;

	for (i = 0; i < FASTWAKE_WATCHES_MAX; i++)
		several[i].doorbell = &shm->bell[0];
	reset_counts();
	fastwake_wait(waiter, several, FASTWAKE_WATCHES_MAX, 0,
		      fastwake_now() + MS, NULL);
	tap_is(shm->bell[0].armed, 0, "a doorbell of many watches: disarmed");
}

/* ------------------------------------------------------------------ */
/* The instant before the sleep                                       */
/* ------------------------------------------------------------------ */

static void store_ring_here(void)
{
	fw_store_release(&shm->word, 1);
	fastwake_doorbell_ring(&shm->bell[0]);
}

static void store_wake_here(void)
{
	fw_store_release(&shm->word, 1);
	fastwake_wake(domain, 0);
}

static void wake_here(void)
{
	fastwake_wake(domain, 0);
}

static void self_wake(int signo)
{
	(void)signo;
	fastwake_wake_pid(domain, getpid());
}

static void raise_here(void)
{
	raise(SIGUSR1);
}

static void handle(int signo, void (*handler)(int), int flags)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = flags };

	sigaction(signo, &sa, NULL);
}

static int wait_with(void (*f)(void), bool bell, bool second)
{
	struct fastwake_watch w[2] = { watch32(FASTWAKE_NE, 0),
				       watch32(FASTWAKE_EQ, 99) };
	int rc;

	w[0].doorbell = bell ? &shm->bell[0] : NULL;
	w[1].doorbell = &shm->bell[1];
	fw_store(&shm->word, 0);
	before_sleep = f;
	rc = fastwake_wait(waiter, w, second ? 2 : 1, 0, fastwake_now() + LONG,
			   NULL);
	if (before_sleep != NULL)
		return -ENODATA;
	return rc;
}

static void test_instant(void)
{
	tap_is(wait_with(store_wake_here, false, false), 0,
	       "woken between look and sleep");
	tap_is(wait_with(wake_here, false, false), 1,
	       "the same when no watch tells");
	tap_is(wait_with(store_ring_here, true, false), 0,
	       "rung between look and sleep");
	tap_is(wait_with(store_wake_here, true, true), 0,
	       "woken, with several doorbells");
	tap_is(wait_with(store_ring_here, true, true), 0,
	       "rung, with several doorbells");
	if (TSAN) {
		tap_skip(3, "TSan runs handlers late");
		return;
	}
	handle(SIGUSR1, self_wake, SA_RESTART);
	tap_is(wait_with(raise_here, false, false), 1,
	       "a handler of this thread wakes its own slot");
	tap_is(wait_with(raise_here, true, false), 1, "with a doorbell");
	tap_is(wait_with(raise_here, true, true), 2, "with several");
	handle(SIGUSR1, SIG_DFL, 0);
}

/* ------------------------------------------------------------------ */
/* Published ahead                                                    */
/* ------------------------------------------------------------------ */

static void test_publish(void)
{
	struct fastwake_watch w = watch32(FASTWAKE_NE, 0);

	fw_store(&shm->word, 0);
	fastwake_waiter_publish(waiter);
	tap_is(fastwake_wake(domain, 0), 1, "published: wake returns 1");
	fastwake_waiter_publish(waiter);
	tap_is(wait_for(w, LONG), 1, "and the next wait ends at once");
	tap_is(fastwake_wake(domain, 0), 0, "idle afterwards");
	tap_is(wait_for(w, MS), -ETIMEDOUT, "a wake is used up");
	fastwake_waiter_publish(waiter);
	fastwake_waiter_withdraw(waiter);
	tap_is(fastwake_wake(domain, 0), 0, "withdrawn: wake returns 0");
	tap_is(wait_for(w, MS), -ETIMEDOUT, "and the next wait waits");
}

/* ------------------------------------------------------------------ */
/* Signals                                                            */
/* ------------------------------------------------------------------ */

static void nothing(int signo)
{
	(void)signo;
}

static void alarm_in(uint64_t us)
{
	struct itimerval it = { .it_value = { .tv_usec = (long)us } };

	setitimer(ITIMER_REAL, &it, NULL);
}

static void test_signals(void)
{
	struct fastwake_watch w = watch32(FASTWAKE_NE, 0);
	struct fastwake_wait_result r;

	fw_store(&shm->word, 0);
	handle(SIGALRM, nothing, 0);
	alarm_in(10000);
	tap_is(fastwake_wait(waiter, &w, 1, 0, 0, &r), -EINTR,
	       "a handler ends the wait");
	tap_ok(r.slept && !r.rung, "which slept and was not rung");
	handle(SIGALRM, nothing, SA_RESTART);
	alarm_in(10000);
	tap_is(fastwake_wait(waiter, &w, 1, 0, 0, NULL), -EINTR,
	       "even one with SA_RESTART and without deadline");
	w.doorbell = &shm->bell[0];
	handle(SIGALRM, nothing, 0);
	alarm_in(10000);
	tap_is(fastwake_wait(waiter, &w, 1, 0, 0, NULL), -EINTR,
	       "with a doorbell");
	tap_is(shm->bell[0].armed, 0, "disarmed");
	if (TSAN) {
		tap_skip(1, "TSan runs handlers late");
		return;
	}
	handle(SIGALRM, self_wake, SA_RESTART);
	alarm_in(10000);
	tap_is(fastwake_wait(waiter, &w, 1, 0, 0, NULL), 1,
	       "a handler that wakes its own slot ends any sleep");
	handle(SIGALRM, SIG_DFL, 0);
}

/*
 * Signals whose handler wakes the own slot, at random instants around the
 * sleep: PostgreSQL's SetLatch() in a handler comes down to this.
 */
static volatile sig_atomic_t flag;

static void flag_and_wake(int signo)
{
	flag = 1;
	self_wake(signo);
}

static void test_signal_race(void)
{
	unsigned int i, late = 0;
	uint64_t start;

	if (TSAN) {
		tap_skip(1, "TSan runs handlers late");
		return;
	}
	handle(SIGALRM, flag_and_wake, SA_RESTART);
	for (i = 0; i < 3000; i++) {
		flag = 0;
		alarm_in(1 + i % 60);
		start = fastwake_now();
		for (;;) {
			fastwake_waiter_publish(waiter);
			if (flag)
				break;
			fastwake_wait(waiter, NULL, 0, 0, start + 2 * SECOND,
				      NULL);
		}
		fastwake_waiter_withdraw(waiter);
		late += fastwake_now() - start >= 2 * SECOND;
	}
	handle(SIGALRM, SIG_DFL, 0);
	tap_is(late, 0, "signals at random instants: none lost");
}

/* ------------------------------------------------------------------ */
/* Polling                                                            */
/* ------------------------------------------------------------------ */

static void test_budget(void)
{
	struct fw_budget b = { .poll_ns = 0 };
	uint64_t cap = 50000;
	int i;

	tap_is(fw_budget_now(&b, cap, 1), 0, "polling starts at 0");
	fw_budget_adapt(&b, cap, 30000, true);
	tap_ok(b.poll_ns > 0 && b.poll_ns < cap, "grows after a short sleep");
	for (i = 0; i < 10; i++)
		fw_budget_adapt(&b, cap, 30000, true);
	tap_is(b.poll_ns, cap, "up to the cap");
	tap_is(fw_budget_now(&b, 100, 1), b.one_cpu ? 0 : 100,
	       "a smaller cap counts at once");
	fw_budget_adapt(&b, cap, 30000, false);
	tap_is(b.poll_ns, cap, "time and signals do not make it grow");
	for (i = 0; i < 10; i++)
		fw_budget_adapt(&b, cap, 60000, true);
	tap_is(b.poll_ns, 0, "shrinks to 0 after long sleeps");
	fw_budget_adapt(&b, 1000, 500, true);
	tap_is(b.poll_ns, 1000, "a cap below the first step");
	one_cpu = 1;
	tap_is(fw_budget_now(&b, cap, 5 * SECOND), 0, "one CPU: no polling");
	one_cpu = 0;
	tap_is(fw_budget_now(&b, cap, 5 * SECOND + 1), 0, "remembered");
	fw_budget_now(&b, cap, 9 * SECOND);
	tap_ok(sysconf(_SC_NPROCESSORS_ONLN) < 2 || !b.one_cpu,
	       "and looked up again in time");
}

static void wake_poller(void)
{
	struct fw_slot *slot = &domain->slots[0];

	while (fw_owner_state(fw_load(&slot->owner)) != FW_POLLING)
		sched_yield();
	futex_wakes = 0;
	fw_store_release(&shm->word, 1);
	fastwake_wake(domain, 0);
	_exit(futex_wakes != 0);
}

static void test_polling(void)
{
	struct fastwake_watch w = watch32(FASTWAKE_NE, 0);
	struct fastwake_wait_result r;
	int status;
	pid_t pid;

	fw_store(&shm->word, 0);
	waiter->budget = (struct fw_budget){
		.poll_ns = SECOND,
		.cpus_checked_ns = fastwake_now(),
	};
	pid = fork();
	if (pid == 0)
		wake_poller();
	tap_is(fastwake_wait(waiter, &w, 1, SECOND, fastwake_now() + LONG, &r),
	       0, "woken while polling");
	tap_is(r.slept, 0, "it did not sleep");
	waitpid(pid, &status, 0);
	tap_is(status, 0, "the waker makes no futex call");
	fw_store(&shm->word, 0);
	waiter->budget.cpus_checked_ns = fastwake_now();
	tap_is(fastwake_wait(waiter, &w, 1, SECOND, fastwake_now() + 10 * MS,
			     &r),
	       -ETIMEDOUT, "the deadline is shorter than the budget");
	tap_ok(r.waited_ns < 900 * MS, "and ends the polling");
	waiter->budget.poll_ns = 0;
}

/* ------------------------------------------------------------------ */
/* A hostile peer                                                     */
/* ------------------------------------------------------------------ */

static void ring_for_ever(void)
{
	for (;;) {
		__atomic_fetch_add(&shm->bell[0].seq, 1, __ATOMIC_RELAXED);
		fw_store(&shm->bell[0].rung_ns, UINT64_MAX);
		fw_futex_wake(&shm->bell[0].seq, 1);
	}
}

static void test_hostile(void)
{
	struct fastwake_watch w = watch32(FASTWAKE_NE, 0);
	struct fastwake_wait_result r;
	pid_t pid;

	fw_store(&shm->word, 0);
	w.doorbell = &shm->bell[0];
	pid = child_when_asleep(ring_for_ever);
	tap_is(fastwake_wait(waiter, &w, 1, 0, fastwake_now() + 50 * MS, &r),
	       -ETIMEDOUT, "endless rings do not defeat the deadline");
	kill(pid, SIGKILL);
	reap(pid);
	memset(&shm->bell[0], 0xee, sizeof(shm->bell[0]));
	pid = child_when_asleep(store_and_ring);
	tap_is(fastwake_wait(waiter, &w, 1, 0, fastwake_now() + LONG, &r), 0,
	       "a doorbell full of nonsense still rings");
	reap(pid);
	tap_ok(r.latency_ns < LONG, "and gives no absurd latency");
	memset(&shm->bell[0], 0, sizeof(shm->bell[0]));
}

int main(void)
{
	uint64_t start = fastwake_now();

	tap_begin();
	setup();
	test_conditions();
	test_invalid();
	test_index();
	test_deadline();
	test_wake();
	test_doorbell();
	test_several();
	test_instant();
	test_publish();
	test_signals();
	test_signal_race();
	test_budget();
	if (fastwake_domain_has_module(domain))
		tap_skip(5, "polling: the module waits instead");
	else
		test_polling();
	test_hostile();
	tap_ok(fastwake_now() - start < LONG, "no wait ended by its deadline");
	fastwake_waiter_detach(waiter);
	fastwake_domain_destroy(domain);
	return tap_done();
}
