// SPDX-License-Identifier: GPL-2.0
/*
 * test_event.c - TEST_EVENT: a timer that behaves like a device.
 *
 * Locking: a slot is set up under the mutex of the domain while its timer is
 * idle; ->busy hands it to the timer (release) and back (acquire).
 */
#include <linux/capability.h>
#include <linux/err.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "compat.h"
#include "fw.h"

struct fw_test_slot {
	struct hrtimer timer;
	bool busy;
	u64 *word;
	u64 *stamp;
	u64 value;
	struct fw_region *region;
	struct fw_domain *domain;
	u32 waiter;
	struct eventfd_ctx *eventfd;
};

struct fw_events {
	struct fw_test_slot slot[FASTWAKE_EVENT_SLOTS];
};

#define FW_TEST_DELAY_MAX NSEC_PER_SEC

static void fw_test_wake(struct fw_domain *d, u32 id)
{
	struct fw_waiter *w;

	rcu_read_lock();
	w = fw_waiter_find(d, id);
	if (w)
		fw_wake_waiter(w, FW_EVENT_WOKEN);
	rcu_read_unlock();
}

static enum hrtimer_restart fw_test_fire(struct hrtimer *timer)
{
	struct fw_test_slot *s =
		container_of(timer, struct fw_test_slot, timer);

	WRITE_ONCE(*s->stamp, ktime_get_ns());
	smp_store_release(s->word, s->value);
	if (s->waiter != FASTWAKE_WAITER_NONE)
		fw_test_wake(s->domain, s->waiter);
	if (s->eventfd)
		fw_eventfd_signal(s->eventfd);
	fw_region_put(s->region);
	smp_store_release(&s->busy, false);
	return HRTIMER_NORESTART;
}

static struct fw_events *fw_events_alloc(struct fw_domain *d)
{
	struct fw_events *events;
	unsigned int i;

	events = kvzalloc(sizeof(*events), GFP_KERNEL_ACCOUNT);
	if (!events)
		return NULL;
	/* Where interrupts are threads (PREEMPT_RT) in one: an eventfd has a lock. */
	for (i = 0; i < FASTWAKE_EVENT_SLOTS; i++) {
		events->slot[i].domain = d;
		fw_hrtimer_setup(&events->slot[i].timer, fw_test_fire,
				 CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED);
	}
	return events;
}

static int fw_test_words(struct fw_test_slot *s, struct fw_domain *d,
			 const struct fastwake_ioc_test_event *arg)
{
	s->region = fw_region_get(d, arg->region);
	if (!s->region)
		return -ENOENT;
	s->word = fw_region_word(s->region, arg->offset, sizeof(u64));
	s->stamp = fw_region_word(s->region, arg->stamp_offset, sizeof(u64));
	if (!s->word || !s->stamp) {
		fw_region_put(s->region);
		return -EINVAL;
	}
	return 0;
}

/* The last timer's eventfd is let go here: not in the timer's interrupt. */
static void fw_test_put_eventfd(struct fw_test_slot *s)
{
	if (s->eventfd)
		eventfd_ctx_put(s->eventfd);
	s->eventfd = NULL;
}

static int fw_test_eventfd(struct fw_test_slot *s,
			   const struct fastwake_ioc_test_event *arg)
{
	struct eventfd_ctx *ctx;

	fw_test_put_eventfd(s);
	if (arg->kind != FASTWAKE_EVENT_EVENTFD)
		return 0;
	ctx = eventfd_ctx_fdget(arg->eventfd);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	s->eventfd = ctx;
	return 0;
}

static int fw_test_start(struct fw_domain *d, struct fw_test_slot *s,
			 const struct fastwake_ioc_test_event *arg)
{
	int ret;

	if (smp_load_acquire(&s->busy))
		return -EBUSY;
	ret = fw_test_eventfd(s, arg);
	if (ret)
		return ret;
	ret = fw_test_words(s, d, arg);
	if (ret)
		return ret;
	s->value = arg->value;
	s->waiter = arg->waiter;
	s->busy = true;
	hrtimer_start(&s->timer, ns_to_ktime(arg->delay_ns),
		      HRTIMER_MODE_REL_PINNED);
	return 0;
}

static int fw_test_check(struct fw_domain *d,
			 const struct fastwake_ioc_test_event *arg)
{
	if (!fw_test_events || !capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (arg->slot >= FASTWAKE_EVENT_SLOTS ||
	    arg->kind > FASTWAKE_EVENT_EVENTFD || !arg->delay_ns ||
	    arg->delay_ns > FW_TEST_DELAY_MAX)
		return -EINVAL;
	if (arg->kind != FASTWAKE_EVENT_EVENTFD && arg->eventfd != -1)
		return -EINVAL;
	if (arg->kind != FASTWAKE_EVENT_WAKE)
		return arg->waiter == FASTWAKE_WAITER_NONE ? 0 : -EINVAL;
	return fw_waiter_find(d, arg->waiter) ? 0 : -ENOENT;
}

int fw_test_event(struct fw_domain *d, struct fastwake_ioc_test_event *arg)
{
	int ret = fw_test_check(d, arg);

	if (ret)
		return ret;
	mutex_lock(&d->lock);
	if (!d->events)
		d->events = fw_events_alloc(d);
	if (d->events)
		ret = fw_test_start(d, &d->events->slot[arg->slot], arg);
	else
		ret = -ENOMEM;
	mutex_unlock(&d->lock);
	return ret;
}

/* The domain is going: nobody can start one any more. */
void fw_test_events_free(struct fw_domain *d)
{
	struct fw_test_slot *s;
	unsigned int i;

	if (!d->events)
		return;
	for (i = 0; i < FASTWAKE_EVENT_SLOTS; i++) {
		s = &d->events->slot[i];
		if (hrtimer_cancel(&s->timer))
			fw_region_put(s->region);
		fw_test_put_eventfd(s);
	}
	kvfree(d->events);
}
