// SPDX-License-Identifier: PostgreSQL
/*
 * test_domain.c - domains, slots and the pid table: every documented return
 * value, takeover from dead processes, stale entries.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "internal.h"
#include "tap.h"
#include "wait_common.h"

#define SLOTS 32

static struct fastwake_domain *domain;

static void make_domain(unsigned int waiters)
{
	fastwake_domain_destroy(domain);
	if (fastwake_domain_create(&domain, NULL, 0, waiters) != 0)
		tap_bail("no domain");
	test_use_module(domain);
}

/* A child that attaches SLOT, publishes itself, and then sleeps until killed. */
static pid_t spawn_holder(unsigned int slot)
{
	struct fastwake_waiter *w;
	int ready[2];
	char c = 1;
	pid_t pid;

	if (pipe(ready) != 0)
		tap_bail("no pipe");
	pid = fork();
	if (pid < 0)
		tap_bail("no child");
	if (pid == 0) {
		if (fastwake_waiter_attach(domain, slot, &w) == 0) {
			fastwake_waiter_publish(w);
			c = 0;
		}
		if (write(ready[1], &c, 1) == 1)
			pause();
		_exit(1);
	}
	if (read(ready[0], &c, 1) != 1 || c != 0)
		tap_bail("the child could not attach");
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void reap(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_create(void)
{
	struct fastwake_domain *d = NULL;
	size_t size = fastwake_domain_size(5);
	_Alignas(64) static char mem[8192];

	tap_is(fastwake_domain_size(0), 0, "no size for 0 waiters");
	tap_is(fastwake_domain_size((1u << 20) + 1), 0, "nor for too many");
	tap_is(size % 64, 0, "the size is in cache lines");
	tap_ok(fastwake_domain_size(1000) < 1000 * 512, "and is reasonable");
	tap_is(fastwake_domain_create(&d, NULL, 0, 0), -EINVAL, "0 waiters");
	tap_is(fastwake_domain_create(&d, mem + 8, sizeof(mem) - 8, 5), -EINVAL,
	       "memory not aligned");
	tap_is(fastwake_domain_create(&d, mem, size - 1, 5), -EINVAL,
	       "memory too small");
	memset(mem, 0xff, sizeof(mem));
	tap_is(fastwake_domain_create(&d, mem, size, 5), 0,
	       "domain in the caller's memory");
	tap_is(fastwake_wake(d, 4), 0, "it is formatted: the slot is idle");
	tap_ok(mem[size] == (char)0xff, "and nothing behind it was touched");
	fastwake_domain_destroy(d);
	fastwake_domain_destroy(NULL);
	tap_ok(mem[0] == 0, "destroy leaves the caller's memory alone");
}

static void test_attach(void)
{
	struct fastwake_waiter *w = NULL, *w2 = NULL;
	pid_t pid;

	make_domain(SLOTS);
	tap_is(fastwake_waiter_attach(domain, SLOTS, &w), -EINVAL,
	       "attach: slot out of range");
	tap_is(fastwake_waiter_attach(domain, 0, &w), 0, "attach");
	tap_is(fastwake_waiter_attach(domain, 0, &w2), 0,
	       "attach again by the same process");
	fastwake_waiter_detach(w2);
	fastwake_waiter_detach(w);
	fastwake_waiter_detach(NULL);

	pid = spawn_holder(3);
	tap_is(fastwake_waiter_attach(domain, 3, &w), -EBUSY,
	       "attach: held by a live process");
	tap_is(fastwake_wake(domain, 3), 1, "its holder can be woken");
	kill(pid, SIGKILL);
	waitid(P_PID, (id_t)pid, NULL, WEXITED | WNOWAIT);
	tap_is(fastwake_waiter_attach(domain, 3, &w), 0,
	       "attach: the holder is a zombie");
	tap_is(fastwake_wake(domain, 3), 0, "the new holder is idle");
	tap_is(fastwake_wake_pid(domain, pid), 0, "the old pid finds nobody");
	waitpid(pid, NULL, 0);
	fastwake_waiter_detach(w);
	tap_is(fastwake_waiter_attach(domain, 3, &w), 0, "attach after detach");
	fastwake_waiter_detach(w);
}

/* A pid that lives, but belongs to a process younger than the attach. */
static void test_reused_pid(void)
{
	struct fastwake_waiter *w;
	pid_t pid = spawn_holder(1);

	tap_ok(!fw_holder_dead(pid, fw_boottime()), "a holder lives");
	tap_ok(fw_holder_dead(pid, 1), "one that started after its attach");
	domain->slots[1].attached_ns = 1;
	tap_is(fastwake_waiter_attach(domain, 1, &w), 0,
	       "attach: the holder's pid was reused");
	fastwake_waiter_detach(w);
	reap(pid);
	tap_ok(fw_holder_dead(pid, fw_boottime()), "a reaped one is dead");
	tap_ok(fw_holder_dead(0, 0) && fw_holder_dead(-1, 0),
	       "what is no pid is dead");
}

static void test_wake(void)
{
	struct fastwake_waiter *w;
	pid_t me = getpid();
	int saved;

	make_domain(SLOTS);
	tap_is(fastwake_wake(domain, SLOTS), -EINVAL, "wake: out of range");
	tap_is(fastwake_wake(domain, 0), 0, "wake: a free slot");
	tap_is(fastwake_wake_pid(domain, me), 0, "wake_pid: unknown pid");
	tap_is(fastwake_wake_pid(domain, 0), 0, "wake_pid: 0");
	tap_is(fastwake_wake_pid(domain, -5), 0, "wake_pid: negative");
	if (fastwake_waiter_attach(domain, 7, &w) != 0)
		tap_bail("no slot");
	tap_is(fastwake_wake_pid(domain, me), 0, "wake_pid: idle");
	fastwake_waiter_publish(w);
	errno = ENOTTY;
	tap_is(fastwake_wake_pid(domain, me), 1, "wake_pid: published");
	tap_is(fastwake_wake(domain, 7), 1, "wake: published");
	saved = errno;
	tap_is(saved, ENOTTY, "errno is kept");
	fastwake_waiter_withdraw(w);
	tap_is(fastwake_wake(domain, 7), 0, "wake: withdrawn");
	fastwake_waiter_publish(w);
	fastwake_waiter_detach(w);
	tap_is(fastwake_wake(domain, 7), 0, "wake: detached");
	tap_is(fastwake_wake_pid(domain, me), 0, "wake_pid: detached");
}

/* Entries that lie: each must not reach the slot's present holder. */
static void test_stale_entries(void)
{
	struct fastwake_waiter *w;
	static const uint32_t link[] = { 3, 1, 0, 5, UINT32_MAX };
	struct fw_bucket *bucket;
	unsigned int i, buckets, woken = 0;
	pid_t other = 0x3ffffff;

	make_domain(4);
	buckets = 1u << domain->bucket_bits;
	if (fastwake_waiter_attach(domain, 2, &w) != 0)
		tap_bail("no slot");
	fastwake_waiter_publish(w);
	for (i = 0; i < sizeof(link) / sizeof(link[0]); i++) {
		uint64_t lie = ((uint64_t)other << 32) | link[i];

		for (bucket = domain->buckets;
		     bucket < domain->buckets + buckets; bucket++)
			bucket->entry[7] = lie;
		woken += (unsigned int)fastwake_wake_pid(domain, other);
	}
	tap_is(woken, 0,
	       "an entry with another's slot, a free one, none, one "
	       "out of range, all: nobody is woken");
	tap_is(fastwake_wake_pid(domain, getpid()), 1, "the holder still is");
	fastwake_waiter_detach(w);
}

/* As if PID held 8 slots with an entry each, in whichever bucket. */
static void fill_table(pid_t pid)
{
	unsigned int i, j, buckets = 1u << domain->bucket_bits;

	for (j = 0; j < FW_BUCKET_ENTRIES; j++) {
		domain->slots[j].owner = fw_owner(pid, FW_IDLE);
		domain->slots[j].attached_ns = fw_boottime();
	}
	for (i = 0; i < buckets; i++)
		for (j = 0; j < FW_BUCKET_ENTRIES; j++)
			domain->buckets[i].entry[j] =
				((uint64_t)pid << 32) | (j + 1);
}

static void test_full_bucket(void)
{
	struct fastwake_waiter *w;
	pid_t pid;

	make_domain(SLOTS);
	pid = spawn_holder(20);
	fill_table(pid);
	tap_is(fastwake_waiter_attach(domain, 21, &w), -ENOSPC,
	       "attach: the bucket is full of live processes");
	tap_is(domain->slots[21].owner, 0, "the slot is free again");
	domain->slots[4].owner = 0;
	tap_is(fastwake_waiter_attach(domain, 21, &w), 0,
	       "attach: one entry is stale");
	fastwake_waiter_detach(w);
	fill_table(pid);
	reap(pid);
	tap_is(fastwake_waiter_attach(domain, 21, &w), 0,
	       "attach: they are dead");
	fastwake_waiter_detach(w);
}

static int seen_by(struct fastwake_waiter **w, int n)
{
	int i, seen = 0;

	for (i = 0; i < n; i++)
		seen += fastwake_wait(w[i], NULL, 0, 0, 1, NULL) == 0;
	return seen;
}

static void publish_all(struct fastwake_waiter **w, int n)
{
	int i;

	for (i = 0; i < n; i++)
		fastwake_waiter_publish(w[i]);
}

static void test_many_slots(void)
{
	struct fastwake_waiter *w[SLOTS];
	pid_t me = getpid();
	int i, failed = 0;

	make_domain(SLOTS);
	for (i = 0; i < SLOTS; i++)
		failed += fastwake_waiter_attach(domain, (unsigned int)i,
						 &w[i]) != 0;
	tap_is(failed, 0, "one process may hold any number of slots");
	publish_all(w, SLOTS);
	tap_is(fastwake_wake_pid(domain, me), 1, "wake_pid");
	tap_is(seen_by(w, SLOTS), SLOTS, "wakes each of them");
	for (i = 2; i < SLOTS; i++)
		fastwake_waiter_detach(w[i]);
	publish_all(w, 2);
	tap_is(fastwake_wake_pid(domain, me), 1, "some are detached");
	tap_is(seen_by(w, 2), 2, "the others are still woken");
	fastwake_waiter_detach(w[0]);
	publish_all(w + 1, 1);
	tap_is(fastwake_wake_pid(domain, me), 1, "the last one too");
	fastwake_waiter_detach(w[1]);
	tap_is(fastwake_wake_pid(domain, me), 0, "none is left");
}

/* Threads of one process attach and detach; each must always be reachable. */
static void *attach_detach(void *arg)
{
	unsigned int i, slot = (unsigned int)(uintptr_t)arg;
	struct fastwake_waiter *w;
	uintptr_t missed = 0;

	for (i = 0; i < 3000; i++) {
		if (fastwake_waiter_attach(domain, slot, &w) != 0)
			return (void *)1;
		fastwake_waiter_publish(w);
		fastwake_wake_pid(domain, getpid());
		missed += fastwake_wait(w, NULL, 0, 0, 1, NULL) != 0;
		fastwake_waiter_detach(w);
	}
	return (void *)missed;
}

static void test_attach_race(void)
{
	pthread_t thread[4];
	uintptr_t t;
	void *missed;
	int total = 0;

	make_domain(SLOTS);
	for (t = 0; t < 4; t++)
		pthread_create(&thread[t], NULL, attach_detach, (void *)t);
	for (t = 0; t < 4; t++) {
		pthread_join(thread[t], &missed);
		total += (int)(uintptr_t)missed;
	}
	tap_is(total, 0, "threads that attach and detach stay reachable");
}

static void test_fork(void)
{
	struct fastwake_waiter *w;
	pid_t pid;

	make_domain(SLOTS);
	if (fastwake_waiter_attach(domain, 5, &w) != 0)
		tap_bail("no slot");
	pid = fork();
	if (pid == 0) {
		fastwake_waiter_detach(w);
		fastwake_domain_destroy(domain);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	fastwake_waiter_publish(w);
	tap_is(fastwake_wake_pid(domain, getpid()), 1,
	       "a child that detaches leaves the parent's slot alone");
	fastwake_waiter_detach(w);
}

int main(void)
{
	tap_begin();
	tap_ok(strchr(fastwake_version(), '.') != NULL, "version %s",
	       fastwake_version());
	test_create();
	test_attach();
	test_reused_pid();
	test_wake();
	test_stale_entries();
	test_full_bucket();
	test_many_slots();
	test_attach_race();
	test_fork();
	fastwake_domain_destroy(domain);
	return tap_done();
}
