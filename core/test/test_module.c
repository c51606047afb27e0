// SPDX-License-Identifier: PostgreSQL
/*
 * Waits served by the kernel module: what differs from those by futex.
 * That all else is the same, the other tests show with FASTWAKE_TEST_MODULE=1.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/module.h"
#include "tap.h"
#include "wait_common.h"

#define MS     1000000ull
#define SECOND (1000 * MS)
#define BUDGET (1 * MS) /* times FW_MODULE_PATIENCE in the module */

struct shared {
	uint64_t word;
	uint64_t other;
	struct fastwake_doorbell bell;
};

static struct shared *shm;
static struct fastwake_domain *domain;
static struct fastwake_waiter *waiter;

static struct fastwake_watch watch(const uint64_t *word, uint64_t seen,
				   struct fastwake_doorbell *bell)
{
	return (struct fastwake_watch){ .word = word,
					.doorbell = bell,
					.operand = seen,
					.size = sizeof(*word),
					.condition = FASTWAKE_NE };
}

static enum fw_state state(unsigned int slot)
{
	return fw_owner_state(fw_load(&domain->slots[slot].owner));
}

/* A child that does F once the waiter of slot 0 is in state WANTED. */
static pid_t child_when(enum fw_state wanted, void (*f)(void))
{
	pid_t pid = fork();

	if (pid < 0)
		tap_bail("no child");
	if (pid > 0)
		return pid;
	while (state(0) != wanted)
		sched_yield();
	f();
	_exit(0);
}

static void wake(void)
{
	fastwake_wake(domain, 0);
}

static void store(void)
{
	__atomic_fetch_add(&shm->word, 1, __ATOMIC_RELEASE);
}

static void ring(void)
{
	__atomic_fetch_add(&shm->other, 1, __ATOMIC_RELEASE);
	fastwake_doorbell_ring(&shm->bell);
}

/* Waits are tried in the module for as long as that has paid. */
static void trust_module(void)
{
	waiter->module_budget.poll_ns = BUDGET * FW_MODULE_PATIENCE;
}

static int wait_one(struct fastwake_watch w, uint64_t for_ns,
		    struct fastwake_wait_result *result)
{
	return fastwake_wait(waiter, &w, 1, BUDGET, fastwake_now() + for_ns,
			     result);
}

static void test_absent(void)
{
	char reason[FASTWAKE_REASON_MAX] = "";

	tap_is(fastwake_domain_has_module(domain), 0, "no module unless asked");
	tap_is(fastwake_domain_pin(domain, shm, 8), -ENODEV,
	       "nor can memory be pinned");
	tap_is(fastwake_domain_cores(domain, NULL, 0), -ENODEV,
	       "it counts on no core");
	tap_is(fastwake_domain_use_module(domain, reason), -ENODEV,
	       "not loaded: -ENODEV");
	tap_ok(strstr(reason, "/dev/fastwake") != NULL &&
		       strstr(reason, "not loaded") != NULL,
	       "and the reason says so: %s", reason);
	tap_is(fastwake_domain_has_module(domain), 0, "it goes on without");
}

static void test_use(void)
{
	char reason[FASTWAKE_REASON_MAX] = "";

	tap_is(fastwake_domain_use_module(domain, reason), 0,
	       "the module serves the domain %s", reason);
	tap_is(fastwake_domain_use_module(domain, NULL), 0, "asked twice");
	tap_is(fastwake_domain_has_module(domain), 1, "it says so");
	tap_is(fastwake_domain_pin(domain, shm, sizeof(*shm)), 0, "pin");
	tap_is(fastwake_domain_pin(domain, shm, 0), -EINVAL, "pin nothing");
	tap_is(fastwake_waiter_attach(domain, 0, &waiter), 0, "attach");
}

static void test_wake(void)
{
	struct fastwake_wait_result result;
	pid_t pid;

	trust_module();
	pid = child_when(FW_IN_MODULE, wake);
	tap_is(wait_one(watch(&shm->word, shm->word, NULL), 10 * SECOND,
			&result),
	       1, "woken in the module by another process");
	waitpid(pid, NULL, 0);
	tap_ok(result.rung && result.latency_ns > 0, "it is known to be rung");
	tap_is(state(0), FW_IDLE, "the slot is idle again");
}

/* A slot of its own; told by the parent alone. */
static pid_t waiting_child(unsigned int slot)
{
	pid_t pid = fork();

	if (pid < 0)
		tap_bail("no child");
	if (pid > 0)
		return pid;
	if (fastwake_waiter_attach(domain, slot, &waiter) != 0)
		_exit(2);
	trust_module();
	_exit(wait_one(watch(&shm->word, shm->word, NULL), 10 * SECOND, NULL) !=
	      1);
}

static void test_wake_pids(void)
{
	pid_t pids[4] = { 0, waiting_child(1), getpid(), waiting_child(2) };
	const pid_t one = pids[1], two = pids[3];
	int status[2] = { -1, -1 };

	while (state(1) != FW_IN_MODULE || state(2) != FW_IN_MODULE)
		sched_yield();
	tap_is((int)fastwake_wake_pids(domain, pids, 4), 2,
	       "of four pids two have nobody who waits");
	tap_ok(pids[0] == 0 && pids[1] == getpid(), "they are named");
	waitpid(one, &status[0], 0);
	waitpid(two, &status[1], 0);
	tap_ok(status[0] == 0 && status[1] == 0, "the others were woken");
	tap_is((int)fastwake_wake_pids(domain, pids, 0), 0, "nobody is woken");
}

static void test_store(void)
{
	uint64_t seen = shm->word;
	pid_t pid;

	trust_module();
	pid = child_when(FW_IN_MODULE, store);
	tap_is(wait_one(watch(&shm->word, seen, NULL), 10 * SECOND, NULL), 0,
	       "a plain store into pinned memory ends the wait");
	waitpid(pid, NULL, 0);
	tap_is(shm->word, seen + 1, "that of the child");
}

/* A word that is not pinned, with a doorbell: not for the module. */
static void test_not_pinned(void)
{
	struct shared *pinned = shm;
	struct fastwake_wait_result result;
	pid_t pid;

	shm = map_shared(sizeof(*shm));
	trust_module();
	pid = child_when(FW_SLEEPING, ring);
	tap_is(wait_one(watch(&shm->other, 0, &shm->bell), 10 * SECOND,
			&result),
	       0, "a doorbell in memory that is not pinned");
	waitpid(pid, NULL, 0);
	tap_ok(result.rung != 0, "which rings");
	munmap(shm, sizeof(*shm));
	shm = pinned;
}

static void test_park(void)
{
	pid_t pid;

	waiter->module_budget.poll_ns = MS;
	pid = child_when(FW_SLEEPING, wake);
	tap_is(wait_one(watch(&shm->word, shm->word, NULL), 10 * SECOND, NULL),
	       1, "after its budget it sleeps by futex, and is woken there");
	waitpid(pid, NULL, 0);
}

/* Keeps the processor until the waiter has seen the wake-up, or for half a second. */
static void wake_and_compute(void)
{
	uint64_t end = fastwake_now() + SECOND / 2;

	wake();
	while (fastwake_now() < end && fw_load(&shm->other) == 0)
		;
}

/* Returns when the wait ended. */
static uint64_t wait_in_no_hurry(uint64_t until_ns, void (*f)(void),
				 const char *what)
{
	pid_t pid;

	shm->other = 0;
	pid = child_when(FW_IN_MODULE, f);
	fastwake_waiter_no_hurry(waiter, until_ns);
	tap_is(wait_one(watch(&shm->word, shm->word, NULL), 10 * SECOND, NULL),
	       1, "%s", what);
	fw_store(&shm->other, 1);
	waitpid(pid, NULL, 0);
	return fastwake_now();
}

static void test_no_hurry(void)
{
	cpu_set_t all, one;
	uint64_t begin, until;

	trust_module();
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	if (sched_getaffinity(0, sizeof(all), &all) != 0 ||
	    sched_setaffinity(0, sizeof(one), &one) != 0)
		tap_bail("no first processor");
	begin = fastwake_now();
	tap_ok(wait_in_no_hurry(begin + 3600 * SECOND, wake,
				"in no hurry, on an idle core") <
		       begin + 5 * SECOND,
	       "woken without a call of the module");
	until = fastwake_now() + 8 * MS; /* within the longest budget */
	tap_ok(wait_in_no_hurry(until, wake_and_compute,
				"in no hurry, on a busy core") >= until,
	       "woken when there is a hurry, not before");
	begin = fastwake_now();
	tap_ok(wait_in_no_hurry(0, wake_and_compute, "in a hurry again") <
		       begin + 5 * SECOND,
	       "that was for one wait only");
	sched_setaffinity(0, sizeof(all), &all);
}

static void test_time(void)
{
	uint64_t begin = fastwake_now(), took;

	trust_module();
	tap_is(wait_one(watch(&shm->word, shm->word, NULL), 5 * MS, NULL),
	       -ETIMEDOUT, "deadline within the budget");
	took = fastwake_now() - begin;
	tap_ok(took >= 5 * MS, "not before its time (%llu us)",
	       (unsigned long long)took / 1000);
	tap_is(wait_one(watch(&shm->word, shm->word, NULL), 50 * MS, NULL),
	       -ETIMEDOUT, "deadline behind the budget");
}

static volatile sig_atomic_t handled;

static void handler(int sig)
{
	(void)sig;
	handled = 1;
}

static void send_signal(void)
{
	kill(getppid(), SIGUSR1);
}

static void test_signal(void)
{
	struct sigaction sa = { .sa_handler = handler };
	pid_t pid;

	sigaction(SIGUSR1, &sa, NULL);
	trust_module();
	pid = child_when(FW_IN_MODULE, send_signal);
	tap_is(wait_one(watch(&shm->word, shm->word, NULL), 10 * SECOND, NULL),
	       -EINTR, "a signal ends the wait");
	tap_is(handled, 1, "its handler has run");
	waitpid(pid, NULL, 0);
}

/* In both directions, by plain stores, through the budget that is learned. */
static void test_ping_pong(void)
{
	const uint64_t rounds = 2000;
	struct fastwake_waiter *w;
	uint64_t i, late = 0;
	int status;
	pid_t pid;

	fw_store(&shm->word, 0);
	fw_store(&shm->other, 0);
	pid = fork();
	if (pid < 0)
		tap_bail("no child");
	if (pid == 0) {
		if (fastwake_waiter_attach(domain, 1, &w) != 0)
			_exit(1);
		for (i = 0; i < rounds; i++) {
			struct fastwake_watch on = watch(&shm->word, i, NULL);

			while (__atomic_load_n(&shm->word, __ATOMIC_ACQUIRE) ==
			       i)
				fastwake_wait(w, &on, 1, BUDGET, 0, NULL);
			__atomic_store_n(&shm->other, i + 1, __ATOMIC_RELEASE);
			fastwake_wake(domain, 0);
		}
		fastwake_waiter_detach(w);
		_exit(0);
	}
	waiter->module_budget.poll_ns = 0;
	for (i = 0; i < rounds; i++) {
		struct fastwake_watch on = watch(&shm->other, i, NULL);

		__atomic_store_n(&shm->word, i + 1, __ATOMIC_RELEASE);
		fastwake_wake(domain, 1);
		while (__atomic_load_n(&shm->other, __ATOMIC_ACQUIRE) == i)
			if (wait_one(on, 5 * SECOND, NULL) == -ETIMEDOUT)
				late++;
	}
	waitpid(pid, &status, 0);
	tap_is(late, 0, "%llu round trips, none late",
	       (unsigned long long)rounds);
	tap_is(status, 0, "the child waits in the module as well");
	tap_ok(waiter->module_budget.poll_ns > 0,
	       "waiting there was found to pay (%llu us)",
	       (unsigned long long)waiter->module_budget.poll_ns / 1000);
}

static void test_unpin(void)
{
	pid_t pid;

	fastwake_domain_unpin(domain, shm);
	trust_module();
	pid = child_when(FW_IN_MODULE, wake);
	tap_is(wait_one(watch(&shm->word, shm->word, NULL), 10 * SECOND, NULL),
	       1, "unpinned: those who wake are heard all the same");
	waitpid(pid, NULL, 0);
	fastwake_domain_unpin(domain, shm);
	tap_ok(1, "unpinned twice");
}

#define CORES 64

static uint64_t waits_of_all(const struct fastwake_core_info *cores, int n)
{
	uint64_t waits = 0;

	while (n-- > 0)
		waits += cores[n].waits;
	return waits;
}

static void test_cores(void)
{
	struct fastwake_core_info before[CORES], after[CORES];
	int n = fastwake_domain_cores(domain, before, CORES), i, good = 0;

	tap_is(n, sysconf(_SC_NPROCESSORS_CONF), "each core has counters");
	trust_module();
	tap_is(wait_one(watch(&shm->word, shm->word, NULL), MS, NULL),
	       -ETIMEDOUT, "one more wait");
	tap_is(fastwake_domain_cores(domain, after, CORES), n, "as many cores");
	tap_ok(waits_of_all(after, n) > waits_of_all(before, n),
	       "the wait was counted");
	for (i = 0; i < n; i++)
		good += after[i].core == before[i].core &&
			after[i].waits >= before[i].waits &&
			after[i].polls >= before[i].polls;
	tap_is(good, n, "each in its place, and never less than before");
	tap_is(fastwake_domain_cores(domain, NULL, 0), n,
	       "asked for their number only");
}

int main(void)
{
	tap_begin();
	shm = map_shared(sizeof(*shm));
	if (fastwake_domain_create(&domain, NULL, 0, 4) != 0)
		tap_bail("no domain");
	if (access("/dev/fastwake", F_OK) != 0) {
		test_absent();
		tap_skip(1, "waits in the module: no /dev/fastwake here");
		return tap_done();
	}
	test_use();
	test_wake();
	test_wake_pids();
	test_store();
	test_not_pinned();
	test_park();
	test_no_hurry();
	test_time();
	test_signal();
	test_ping_pong();
	test_unpin();
	test_cores();
	fastwake_waiter_detach(waiter);
	fastwake_domain_destroy(domain);
	return tap_done();
}
