// SPDX-License-Identifier: PostgreSQL
/*
 * Waits that the interrupt of a completion queue ends, through the kernel module.
 * Needs modules fastwake and fastwake_ib, and an RDMA device.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "../src/module.h"
#include "../src/restrack.h"
#include "tap.h"
#include "verbs_loop.h"
#include "wait_common.h"

#define MS     1000000ull
#define SECOND (1000 * MS)
#define LIMIT  (60 * SECOND) /* which no wait reaches that is woken */

static struct fastwake_domain *domain;
static struct fastwake_waiter *waiter;
static struct ibv_context *verbs;
static struct ibv_pd *pd;
static struct loop a, b;
static struct fastwake_cq *on_a, *on_b;
static uint64_t *word;

static enum fw_state state(void)
{
	return fw_owner_state(fw_load(&domain->slots[0].owner));
}

/* What a thread does once the waiter is in the module, and has slept a while. */
static void (*meanwhile)(void);

static void *other(void *arg)
{
	(void)arg;
	while (state() != FW_IN_MODULE)
		sched_yield();
	usleep(20000);
	meanwhile();
	return NULL;
}

static int wait_for(const struct fastwake_watch *watches, unsigned int n,
		    uint64_t budget_ns, uint64_t for_ns,
		    struct fastwake_wait_result *result)
{
	return fastwake_wait(waiter, watches, n, budget_ns,
			     fastwake_now() + for_ns, result);
}

static int wait_while(void (*f)(void), const struct fastwake_watch *watches,
		      unsigned int n, uint64_t budget_ns,
		      struct fastwake_wait_result *result)
{
	pthread_t thread;
	int rc;

	meanwhile = f;
	pthread_create(&thread, NULL, other, NULL);
	rc = wait_for(watches, n, budget_ns, LIMIT, result);
	pthread_join(thread, NULL);
	return rc;
}

static void send_a(void)
{
	loop_send(&a, 0);
}

static void send_solicited(void)
{
	loop_send(&a, 0);
	usleep(20000);
	loop_send(&a, 1);
}

static void send_both(void)
{
	loop_send(&a, 0);
	loop_send(&b, 0);
}

static void wake(void)
{
	fastwake_wake(domain, 0);
}

static void store_and_wake(void)
{
	fw_store(word, 1);
	fastwake_wake(domain, 0);
}

static void detach_b(void)
{
	fw_module_detach(domain->module, on_b->id);
}

static struct fastwake_watch watch_of(struct fastwake_cq *cq)
{
	struct fastwake_watch watch;

	fastwake_cq_watch(cq, 0, &watch);
	return watch;
}

static struct fastwake_watch watch_word(uint32_t flags)
{
	return (struct fastwake_watch){ .word = word,
					.size = sizeof(*word),
					.condition = FASTWAKE_NE | flags };
}

static void drain(void)
{
	loop_drain(&a);
	loop_drain(&b);
	loop_events(&a);
	loop_events(&b);
}

static void test_attach(void)
{
	char reason[FASTWAKE_REASON_MAX] = "";
	struct fastwake_cq *again;

	tap_is(fastwake_cq_attach(domain, a.cq, &on_a, reason), -ENODEV,
	       "without the module: -ENODEV");
	tap_ok(strstr(reason, "module") != NULL, "the reason says so: %s",
	       reason);
	tap_is(fastwake_domain_use_module(domain, reason), 0, "the module %s",
	       reason);
	tap_is(fastwake_cq_attach(domain, a.cq, &on_a, reason), 0,
	       "attach a queue");
	tap_is(fastwake_cq_attach(domain, a.cq, &again, reason), -EBUSY,
	       "attach it again: -EBUSY");
	tap_ok(strstr(reason, "already") != NULL, "the reason: %s", reason);
	tap_is(fastwake_cq_attach(domain, b.cq, &on_b, NULL), 0,
	       "attach another");
	tap_is(fastwake_cq_arms(on_a), 1, "rxe is armed by the wait");
	tap_is(fastwake_waiter_attach(domain, 0, &waiter), 0, "a waiter");
}

static void test_restrack(void)
{
	int n, device = ibv_get_device_index(verbs->device);
	uint32_t *cqns = NULL;

	n = fw_restrack_cqs((uint32_t)device, &cqns);
	tap_ok(n >= 4, "the kernel shows queues (%d)", n);
	tap_ok(n >= 4 && cqns[0] > cqns[1] && cqns[1] > cqns[2],
	       "the newest first");
	free(cqns);
	cqns = NULL;
	tap_ok(fw_restrack_cqs(12345, &cqns) <= 0, "none of no device");
	free(cqns);
}

static void test_invalid(void)
{
	struct fastwake_doorbell bell = { 0 };
	struct fastwake_watch w[2] = { watch_of(on_a), watch_word(0) };

	w[1].doorbell = &bell;
	tap_is(wait_for(w, 2, 0, MS, NULL), -EINVAL,
	       "with a doorbell: -EINVAL");
	w[0].size = 8;
	tap_is(wait_for(w, 1, 0, MS, NULL), -EINVAL, "with a size: -EINVAL");
	w[0] = watch_of(NULL);
	tap_is(wait_for(w, 1, 0, MS, NULL), -EINVAL, "no queue: -EINVAL");
}

static void test_event(void)
{
	struct fastwake_watch w = watch_of(on_a);
	struct fastwake_wait_result result;

	tap_is(wait_while(send_a, &w, 1, 0, &result), 0,
	       "an event ends the wait");
	tap_ok(result.slept != 0, "which slept");
	tap_is(state(), FW_IDLE, "the slot is idle");
	tap_is(loop_drain(&a), 1, "the completion is there");
	tap_is(loop_events(&a), 0, "the channel got nothing");
	tap_is(wait_for(&w, 1, 0, 5 * MS, NULL), -ETIMEDOUT,
	       "the event is told once");
	send_a();
	loop_events(&a);
	tap_is(wait_for(&w, 1, 0, LIMIT, NULL), 0,
	       "a completion that was there ends the wait");
	drain();
}

static void test_wake(void)
{
	struct fastwake_watch w[2] = { watch_word(0), watch_of(on_a) };
	struct fastwake_wait_result result;

	tap_is(wait_while(wake, w, 2, 0, &result), 2,
	       "fastwake_wake() ends it");
	tap_ok(result.rung != 0, "and is known");
	tap_is(wait_while(store_and_wake, w, 2, 0, NULL), 0,
	       "a word that its writer told of");
	fw_store(word, 0);
	tap_is(wait_while(send_a, w, 2, 0, NULL), 1, "the queue beside a word");
	fastwake_waiter_publish(waiter);
	fastwake_wake(domain, 0);
	tap_is(wait_for(w, 2, 0, LIMIT, NULL), 2,
	       "woken after being published");
	drain();
}

static void test_solicited(void)
{
	struct fastwake_watch w;

	drain();
	tap_is(wait_for(&(struct fastwake_watch){ .word = on_a,
						  .condition = FASTWAKE_CQ },
			1, 0, 5 * MS, NULL),
	       -ETIMEDOUT, "nothing there");
	send_a(); /* takes what that wait asked for */
	usleep(20000);
	drain();
	fastwake_cq_watch(on_a, 1, &w);
	tap_is(wait_while(send_solicited, &w, 1, 0, NULL), 0,
	       "solicited completions only");
	tap_is(loop_drain(&a), 2, "the other did not end the wait");
	drain();
}

static void test_two(void)
{
	struct fastwake_watch w[2] = { watch_of(on_a), watch_of(on_b) };
	int first, second;

	first = wait_while(send_both, w, 2, 0, NULL);
	second = wait_for(w, 2, 0, LIMIT, NULL);
	tap_ok((first == 0 && second == 1) || (first == 1 && second == 0) ||
		       (first >= 0 && second >= 0 && loop_drain(&a) == 1 &&
			loop_drain(&b) == 1),
	       "two queues, both events are told (%d, %d)", first, second);
	drain();
}

/* First as long as its budget by looking, then by interrupt. */
static void test_adaptive(void)
{
	struct fastwake_watch w[2] = { watch_word(FASTWAKE_SILENT),
				       watch_of(on_a) };
	struct fastwake_wait_result result;

	tap_is(wait_while(send_a, w, 2, 50000, &result), 1,
	       "after the budget the interrupt ends the wait");
	tap_ok(result.slept != 0, "which slept");
	drain();
}

static void test_gone(void)
{
	struct fastwake_watch w = watch_of(on_b);

	tap_is(wait_while(detach_b, &w, 1, 0, NULL), -ESTALE,
	       "it has gone from the module: -ESTALE");
	fastwake_cq_detach(on_b);
	tap_is(fastwake_cq_attach(domain, b.cq, &on_b, NULL), 0,
	       "attach it again");
	loop_free(&b);
	w = watch_of(on_b);
	tap_is(wait_for(&w, 1, 0, LIMIT, NULL), -ESTALE, "destroyed: -ESTALE");
	fastwake_cq_detach(on_b);
	fastwake_cq_detach(NULL);
}

int main(void)
{
	tap_begin();
	if (fastwake_domain_create(&domain, NULL, 0, 4) != 0)
		tap_bail("no domain");
	verbs = loop_open_device();
	if (verbs == NULL || access("/dev/fastwake", F_OK) != 0 ||
	    access("/sys/module/fastwake_ib", F_OK) != 0) {
		tap_skip(1, "no RDMA device, or no modules fastwake and "
			    "fastwake_ib, here");
		return tap_done();
	}
	word = map_shared(sizeof(*word));
	pd = ibv_alloc_pd(verbs);
	if (pd == NULL || loop_make(&a, pd) != 0 || loop_make(&b, pd) != 0)
		tap_bail("no queue pairs");
	test_attach();
	test_restrack();
	test_invalid();
	test_event();
	test_wake();
	test_solicited();
	test_two();
	test_adaptive();
	test_gone();
	loop_free(&a);
	fastwake_cq_detach(on_a);
	fastwake_waiter_detach(waiter);
	fastwake_domain_destroy(domain);
	return tap_done();
}
