// SPDX-License-Identifier: GPL-2.0
/*
 * wait.c - WAIT and SWITCH: announce, look, spin while alone, sleep, withdraw.
 *
 * The proofs that no wake-up is lost and no waiter forgotten are in README.md;
 * the names of its steps (A1, E1 ...) stand beside them here.
 *
 * Locking: fw_spin() runs with preemption disabled, so that a scanner that says
 * it scans does so; it gives the core up as soon as anybody else wants it.
 */
#include <linux/freezer.h>
#include <linux/hrtimer.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "fw.h"
#include "trace.h"

struct fw_wait {
	struct fw_waiter *waiter;
	u64 deadline_ns;
	u64 budget_ns;
	bool asleep;	 /* FASTWAKE_WAIT_SLEEP: no scanner looks */
	bool handed_off; /* someone else on this core can go on: let it */
	bool joined;	 /* in the poll set already */
	bool slept;
};

/* ---- arguments ---- */

/* RCU readers, shorter; the other only for the kernel's own checks. */
static __always_inline void fw_rcu_lock(void)
{
	preempt_disable();
	if (IS_ENABLED(CONFIG_PROVE_RCU))
		rcu_read_lock();
}

static __always_inline void fw_rcu_unlock(void)
{
	if (IS_ENABLED(CONFIG_PROVE_RCU))
		rcu_read_unlock();
	preempt_enable();
}

/* A word that is a watch's, but never holds. */
static const u64 fw_nothing;
static const struct fw_watch fw_never = { .word = &fw_nothing,
					  .base = 1,
					  .span = U64_MAX - 1 };

/* See struct fw_watch and struct fw_recipe. */
static int fw_watch_condition(struct fw_watch *watch, struct fw_recipe *recipe,
			      const struct fastwake_ioc_watch *arg)
{
	bool wide = arg->word_size == 8;
	u64 mask = wide ? U64_MAX : U32_MAX;
	u64 operand = arg->operand & mask;

	recipe->operands = mask;
	recipe->shift = wide ? 0 : fw_word_shift(arg->offset);
	recipe->more = 0;
	if (arg->condition == FASTWAKE_COND_MASK_NE)
		mask &= arg->mask;
	else if (arg->mask && arg->condition != FASTWAKE_COND_LATER_NE)
		return -EINVAL;
	watch->mask = mask << recipe->shift;
	watch->span = 0;
	if (arg->condition == FASTWAKE_COND_GE64) {
		if (!wide)
			return -EINVAL;
		watch->span = U64_MAX - operand;
	} else if (arg->condition != FASTWAKE_COND_EQ) {
		recipe->more = 1;
		watch->span = U64_MAX - 1;
	}
	watch->base = (operand << recipe->shift) + recipe->more;
	return 0;
}

/* The earliest of several times is that of all: they are one thread's. */
static void fw_watch_later(struct fw_waiter *w, u32 i, u64 until_ns)
{
	if (!w->later || until_ns < w->later_ns)
		w->later_ns = until_ns;
	w->later |= 1u << i;
}

/* Under RCU. */
static int fw_watch_resolve(struct fw_domain *d, struct fw_waiter *w, u32 i)
{
	const struct fastwake_ioc_watch *arg = &w->asked[i];
	struct fw_region *r;
	void *word;
	int ret;

	if (arg->condition == FASTWAKE_COND_CQ)
		return fw_link_get(d, w, arg);
	if (w->nr_links)
		return -EINVAL;
	if (arg->word_size != 4 && arg->word_size != 8)
		return -EINVAL;
	if (arg->condition > FASTWAKE_COND_LATER_NE)
		return -EOPNOTSUPP;
	ret = fw_watch_condition(&w->watch[i], &w->recipe[i], arg);
	if (ret)
		return ret;
	r = fw_region_find(d, arg->region);
	if (!r)
		return -ENOENT;
	word = fw_region_word(r, arg->offset, arg->word_size);
	if (!word)
		return -EINVAL;
	if (!percpu_ref_tryget_live_rcu(&r->ref)) /* (W1) */
		return -ENOENT;
	if (arg->condition == FASTWAKE_COND_LATER_NE)
		fw_watch_later(w, i, arg->mask);
	w->watch[i].word = PTR_ALIGN_DOWN((u64 *)word, sizeof(u64));
	w->region[i] = r;
	w->nr = i + 1;
	return 0;
}

static __always_inline u64 fw_what(const struct fastwake_ioc_watch *arg)
{
	return *(const u64 *)arg;
}

/* Of GE the span depends on the operand too; links are the WAIT's own. */
static bool fw_watch_lasts(const struct fastwake_ioc_watch *arg)
{
	return arg->condition != FASTWAKE_COND_GE64 &&
	       arg->condition != FASTWAKE_COND_LATER_NE &&
	       arg->condition != FASTWAKE_COND_CQ;
}

static void fw_recipe_note(struct fw_waiter *w, u32 i)
{
	const struct fastwake_ioc_watch *arg = &w->asked[i];

	w->recipe[i].what = fw_what(arg);
	w->recipe[i].offset = arg->offset;
	w->recipe[i].mask = arg->mask;
	if (w->nr_recipes == i && fw_watch_lasts(arg))
		w->nr_recipes = i + 1;
}

/* Those after the first w->nr, which are resolved.  Under RCU. */
static noinline int fw_watches_resolve(struct fw_domain *d, struct fw_waiter *w,
				       u32 nr, u64 unpins)
{
	u32 i;
	int ret;

	w->nr_recipes = w->nr;
	w->unpins = unpins;
	for (i = w->nr; i < nr; i++) {
		ret = fw_watch_resolve(d, w, i);
		if (ret)
			return ret;
		fw_recipe_note(w, i);
	}
	return 0;
}

/* The same watch as last time, but for the operand? */
static __always_inline bool fw_watch_again(struct fw_waiter *w, u32 i)
{
	const struct fastwake_ioc_watch *arg = &w->asked[i];
	const struct fw_recipe *recipe = &w->recipe[i];

	if (fw_what(arg) != recipe->what || arg->offset != recipe->offset ||
	    arg->mask != recipe->mask ||
	    !percpu_ref_tryget_live_rcu(&w->region[i]->ref)) /* (W1) */
		return false;
	w->watch[i].base =
		((arg->operand & recipe->operands) << recipe->shift) +
		recipe->more;
	w->nr = i + 1;
	return true;
}

static __always_inline void fw_watches_put(struct fw_waiter *w)
{
	u32 i;

	if (unlikely(w->nr_links))
		fw_links_put(w);
	for (i = 0; i < w->nr; i++)
		fw_region_put(w->region[i]);
}

/*
 * Under RCU; the caller puts them, also if it failed.  A region of which the last WAIT had a reference is still there if
 * there has been no UNPIN since:
 *
 *	UNPIN					WAIT
 *	takes the region out of the table	notes unpins (acquire)
 *	unpins++ (release)			looks up the region
 *	drops its reference			...
 *	frees it an RCU period after the last	RCU: unpins is as noted: it is there
 *
 * Who notes the new number does not find the region in the table any more.  If
 * the old one is read the RCU period has not begun.
 */
static __always_inline int fw_watches_get(struct fw_domain *d,
					  struct fw_waiter *w, u32 nr)
{
	u64 unpins = smp_load_acquire(&d->unpins);
	u32 i, known = min(nr, w->nr_recipes);
	int ret;

	w->nr = w->nr_links = w->later = 0;
	if (likely(w->unpins == unpins))
		for (i = 0; i < known && fw_watch_again(w, i); i++)
			;
	if (unlikely(w->nr < nr)) {
		ret = fw_watches_resolve(d, w, nr, unpins);
		if (ret)
			return ret;
	}
	w->nr_entries = w->nr;
	if (unlikely(!w->nr)) {
		w->watch[w->nr_entries++] = fw_never;
		w->nr_recipes = 0;
	}
	return 0;
}

/* copy_from_user() takes a hundred instructions more. */
static __always_inline bool fw_copy(u64 *to, const u64 __user *from, size_t n)
{
	size_t i;

	if (!user_access_begin(from, n * sizeof(u64)))
		return false;
#pragma GCC unroll 8
	for (i = 0; i < n; i++)
		unsafe_get_user(to[i], &from[i], fault);
	user_access_end();
	return true;
fault:
	user_access_end();
	return false;
}

/* A structure longer or shorter than ours, or the end of the memory. */
static noinline int fw_wait_copy_odd(struct fastwake_ioc_wait *arg,
				     void __user *user)
{
	u32 size;

	if (get_user(size, (u32 __user *)user))
		return -EFAULT;
	if (size < sizeof(*arg) || size > PAGE_SIZE)
		return -EINVAL;
	return copy_struct_from_user(arg, sizeof(*arg), user, size);
}

static __always_inline int fw_wait_copy(struct fastwake_ioc_wait *arg,
					void __user *user, bool to_other)
{
	int ret;

	if (!fw_copy((u64 *)arg, user, sizeof(*arg) / sizeof(u64)) ||
	    unlikely(arg->size != sizeof(*arg))) {
		ret = fw_wait_copy_odd(arg, user);
		if (ret)
			return ret;
	}
	if ((arg->flags & ~(FASTWAKE_WAIT_SLEEP | FASTWAKE_WAIT_RESTART |
			    FASTWAKE_WAIT_CORE)) ||
	    arg->out_core)
		return -EOPNOTSUPP;
	if (to_other ? arg->wake == arg->waiter
		     : arg->wake != FASTWAKE_WAITER_NONE)
		return -EINVAL;
	if (arg->nr_watches > FASTWAKE_IOC_WATCHES_MAX)
		return -EINVAL;
	return 0;
}

static __always_inline int fw_watches_copy(struct fw_waiter *w,
					   const struct fastwake_ioc_wait *arg)
{
	const u64 __user *from = u64_to_user_ptr(arg->watches);
	u32 i;

	for (i = 0; i < arg->nr_watches; i++, from += 4)
		if (!fw_copy((u64 *)&w->asked[i], from, 4))
			return -EFAULT;
	return 0;
}

/*
 * The calling thread's waiter.  It stays in the table as long as the thread does
 * nothing else.
 */
static __always_inline int fw_own_waiter(struct fw_domain *d, u32 id,
					 struct fw_waiter **w)
{
	int ret = 0;

	fw_rcu_lock();
	*w = fw_waiter_find(d, id);
	if (unlikely(!*w))
		ret = -ENOENT;
	else if (unlikely((*w)->task != current))
		ret = -EPERM;
	fw_rcu_unlock();
	return ret;
}

/* ---- looking ---- */

static __always_inline int fw_own(const struct fw_waiter *w)
{
	u32 i;

	for (i = 0; i < w->nr; i++)
		if (fw_holds(&w->watch[i]))
			return i;
	return FW_PENDING;
}

/* UNPIN of a region of ours has begun. */
static bool fw_stale(const struct fw_waiter *w)
{
	u32 i;

	for (i = 0; i < w->nr; i++)
		if (fw_region_dying(w->region[i]))
			return true;
	return false;
}

/* An event without a region of ours going away, or one of its kind, is a wake-up. */
static int fw_event(struct fw_waiter *w)
{
	int ret, event = atomic_xchg(&w->event, 0);

	if (fw_stale(w))
		return -ESTALE;
	if (event & FW_EVENT_SOURCE) {
		ret = fw_links_look(w);
		if (ret != FW_PENDING)
			return ret;
	}
	return event & FW_EVENT_WOKEN ? w->nr + w->nr_links : FW_PENDING;
}

/* All reasons to leave that need no clock. */
static __always_inline int fw_look(struct fw_waiter *w)
{
	int ret = fw_own(w);

	if (likely(ret == FW_PENDING) && unlikely(atomic_read(&w->event)))
		ret = fw_event(w);
	if (ret == FW_PENDING && unlikely(signal_pending(current)))
		ret = -ERESTARTNOHAND;
	return ret;
}

/*
 * The core is about to be given up to whom we wake: said before, that spares the
 * scheduler to find out whether it should be, and to read the clock again in
 * schedule().  Preemption is off until we are in the poll set.
 */
static __always_inline void fw_will_yield(void)
{
	set_tsk_need_resched(current);
}

/* Look at the peers' words, and wake one whose watch holds; true if so. */
static noinline bool fw_hand_off(struct fw_core *core)
{
	struct fw_waiter *w;
	u32 left;

	raw_spin_lock(&core->lock);
	left = core->nr;
	w = fw_pollset_scan(core, &left, fw_alone());
	raw_spin_unlock(&core->lock);
	fw_count(core, polls);
	if (!w)
		return false;
	fw_count(core, handoffs);
	if (w->task->nr_cpus_allowed == 1) /* it comes here */
		fw_will_yield();
	wake_up_process(w->task);
	return true;
}

/* A peer whose time is over; the spinner's own is looked at by the caller. */
static void fw_expire_peer(struct fw_core *core, u64 now_ns)
{
	struct fw_waiter *w;

	raw_spin_lock(&core->lock);
	w = fw_pollset_expire(core, now_ns);
	raw_spin_unlock(&core->lock);
	if (w)
		wake_up_process(w->task);
}

/* ---- time ---- */

/* When the wait is over at the latest; U64_MAX for never. */
static u64 fw_expiry(const struct fw_wait *wait, u64 now_ns)
{
	u64 budget_ns = wait->budget_ns, end_ns;

	if (!wait->asleep)
		budget_ns =
			min(budget_ns, 1000ull * READ_ONCE(fw_budget_max_us));
	if (check_add_overflow(now_ns, budget_ns, &end_ns))
		end_ns = U64_MAX;
	return wait->deadline_ns ? min(end_ns, wait->deadline_ns) : end_ns;
}

/* Then the clock need not be looked at. */
static bool fw_endless(const struct fw_wait *wait)
{
	return wait->asleep && wait->budget_ns == FASTWAKE_BUDGET_NONE &&
	       !wait->deadline_ns;
}

static void fw_set_expiry(struct fw_wait *wait, u64 now_ns)
{
	wait->waiter->expires_ns = fw_expiry(wait, now_ns);
}

/* Is the waiter's time over?  Its budget runs from the first look at the clock. */
static bool fw_over(struct fw_wait *wait, u64 now_ns)
{
	if (!wait->waiter->expires_ns)
		fw_set_expiry(wait, now_ns);
	return now_ns >= wait->waiter->expires_ns;
}

/* ---- spinning ---- */

/* Looks at peers between two readings of the clock. */
#define FW_LOOKS_PER_CLOCK 16

/* Looks at the own words between two looks at anything else. */
#define FW_OWN_LOOKS 4

static bool fw_clock(struct fw_core *core, struct fw_wait *wait)
{
	u64 now_ns = ktime_get_ns();

	if (READ_ONCE(core->nr_waiters))
		fw_expire_peer(core, now_ns);
	return fw_over(wait, now_ns);
}

/* (A3), (W3) */
static __always_inline int fw_look_often(struct fw_waiter *w)
{
	unsigned int i;
	int ret;

	for (i = 1; i < FW_OWN_LOOKS; i++) {
		cpu_relax();
		ret = fw_own(w);
		if (ret != FW_PENDING)
			return ret;
	}
	cpu_relax();
	return fw_look(w);
}

/*
 * The one scanner of the core, by construction: it goes on only while nothing
 * else is runnable there.  The caller has looked at its own words.
 */
static int fw_spin_on(struct fw_core *core, struct fw_wait *wait)
{
	struct fw_waiter *w = wait->waiter;
	unsigned int looks;
	int ret;

	for (looks = 0;; looks++) {
		if (!wait->handed_off && READ_ONCE(core->nr))
			wait->handed_off = fw_hand_off(core);
		if (!fw_alone())
			return FW_BLOCK;
		/* Whoever was woken got another core. */
		wait->handed_off = false;
		if (looks % FW_LOOKS_PER_CLOCK == 0) {
			if (fw_clock(core, wait))
				return FW_EXPIRED;
			WRITE_ONCE(core->stats->scanner,
				   FASTWAKE_SCANNER_WAITER);
		}
		ret = fw_look_often(w);
		if (ret != FW_PENDING)
			return ret;
	}
}

/* ---- sleeping ---- */

/*
 * Join the poll set of this core and see to it that someone scans: the peer that
 * was woken will when it waits, the dispatcher when the core is idle, the
 * backstop in any case.
 */
static __always_inline int fw_join(struct fw_core *core, struct fw_wait *wait,
				   struct fw_waiter *other)
{
	struct fw_waiter *w = wait->waiter;
	int ret;

	lockdep_assert_held(&core->lock);
	if (!w->expires_ns)
		fw_set_expiry(wait, fw_backstop_clock(core));
	ret = other ? fw_pollset_replace(core, other, w, FW_WOKEN) /* (E1) */
		    : fw_pollset_add(core, w);
	if (unlikely(ret))
		return ret;
	core->elect = !wait->handed_off && !core->dispatcher_asleep;
	fw_backstop_joined(core);
	WRITE_ONCE(*w->where, core->cpu + 1);
	return 0;
}

static int fw_block(struct fw_core *core, struct fw_wait *wait)
{
	int ret;

	raw_spin_lock(&core->lock);
	ret = fw_join(core, wait, NULL);
	raw_spin_unlock(&core->lock);
	if (unlikely(ret)) {
		fw_count(core, full);
		return FW_EXPIRED;
	}
	if (!wait->handed_off && core->dispatcher)
		fw_dispatcher_wake(core); /* (E2) */
	return FW_BLOCK;
}

/*
 * On one core from the spin to the place in its set: who stops to scan says so,
 * then sees to it that the timer is armed, be it by joining.
 */
static noinline int fw_spin(struct fw_wait *wait)
{
	struct fw_core *core;
	int ret;

	preempt_disable();
	core = this_cpu_ptr(&fw_cores);
	ret = fw_spin_on(core, wait);
	if (core->stats->scanner) {
		if (ret >= 0)
			fw_count(core, spun);
		WRITE_ONCE(core->stats->scanner, FASTWAKE_SCANNER_NONE);
	}
	if (ret == FW_BLOCK)
		ret = fw_block(core, wait);
	if (ret != FW_BLOCK)
		fw_backstop_take_over(core);
	preempt_enable();
	return ret;
}

/* Without scanner the waiter has a timer of its own. */
static noinline bool fw_sleep_unscanned(struct fw_waiter *w)
{
	ktime_t expires = ns_to_ktime(fw_next_ns(w));
	u64 now_ns = ktime_get_ns();

	if (now_ns >= w->expires_ns)
		return false;
	if (now_ns >= w->later_ns)
		w->later = 0;
	schedule_hrtimeout_range(&expires, 0, HRTIMER_MODE_ABS);
	return true;
}

/* False if the time is over: elsewhere, scanners find that out. */
static __always_inline bool fw_sleep_on_core(struct fw_waiter *w)
{
	if (unlikely(!w->core->scanned))
		return fw_sleep_unscanned(w);
	schedule();
	return true;
}

/*
 * Whoever hands the core to a peer leaves it at once.  Who gives way to something else
 * need not: by staying on the run queue it makes up for what it has had too much, and
 * comes before that when it is woken.
 */
static __always_inline void fw_set_waiting_state(const struct fw_wait *wait)
{
	if (wait->handed_off)
		fw_set_current_state(TASK_INTERRUPTIBLE | TASK_FREEZABLE);
	else
		set_current_state(TASK_INTERRUPTIBLE | TASK_FREEZABLE);
}

static int fw_sleep(struct fw_wait *wait)
{
	struct fw_waiter *w = wait->waiter;
	int ret;

	for (;;) {
		/* Barrier after where, poll set and state, before the look. */
		fw_set_waiting_state(wait);
		ret = smp_load_acquire(&w->result);
		if (ret != FW_PENDING) {
			__set_current_state(TASK_RUNNING);
			return ret; /* taken out by the one who woke us */
		}
		ret = fw_look(w); /* (A3), (W3) */
		if (ret != FW_PENDING)
			break;
		wait->slept = true;
		if (!fw_sleep_on_core(w)) {
			ret = FW_EXPIRED;
			break;
		}
	}
	__set_current_state(TASK_RUNNING);
	fw_pollset_leave(w);
	return ret;
}

/*
 * FASTWAKE_WAIT_SLEEP: until something wakes it.  With neither scanner nor poll set,
 * what wakes it are an event that was asked for, WAKE, a signal, and its own timer.
 */
static noinline int fw_sleep_alone(struct fw_wait *wait)
{
	struct fw_waiter *w = wait->waiter;
	ktime_t expires = ns_to_ktime(w->expires_ns);
	bool timed = w->expires_ns != U64_MAX, expired = false;
	int ret;

	for (;;) {
		/* Barrier after the links and the state, before the look. */
		set_current_state(TASK_INTERRUPTIBLE | TASK_FREEZABLE);
		ret = fw_look(w); /* (A3), (C4), (W3) */
		if (ret == FW_PENDING && expired)
			ret = FW_EXPIRED;
		if (ret != FW_PENDING)
			break;
		wait->slept = true;
		if (timed)
			expired = !schedule_hrtimeout_range(&expires, 0,
							    HRTIMER_MODE_ABS);
		else
			schedule();
	}
	__set_current_state(TASK_RUNNING);
	return ret;
}

/* Taken out by a SWITCH: it stored before, so a look now sees what it stored. */
static int fw_woken(struct fw_waiter *w)
{
	int ret = fw_own(w);

	return ret == FW_PENDING ? (int)(w->nr + w->nr_links) : ret;
}

static __always_inline int fw_spin_or_sleep(struct fw_wait *wait)
{
	int ret;

	for (;;) {
		if (!wait->joined) {
			ret = fw_spin(wait);
			if (ret != FW_BLOCK)
				return ret;
		}
		ret = fw_sleep(wait);
		if (likely(ret != FW_AGAIN))
			return ret == FW_WOKEN ? fw_woken(wait->waiter) : ret;
		ret = fw_look(wait->waiter);
		if (ret != FW_PENDING)
			return ret;
		wait->handed_off = wait->joined = false;
	}
}

/* ---- the call ---- */

/* The last step is (W3) of who is announced too late to be told of an UNPIN. */
static void fw_announce(struct fw_waiter *w, bool asleep)
{
	atomic_set(&w->event, 0);
	w->expires_ns = 0;
	WRITE_ONCE(*w->where,
		   asleep ? FASTWAKE_UNSCANNED : raw_smp_processor_id() + 1);
	WRITE_ONCE(w->waiting, true); /* (A1), (W2) */
	smp_mb();		      /* (A2) pairs with fw_wake_waiter() */
	if (unlikely(fw_stale(w)))
		atomic_or(FW_EVENT_REGION, &w->event);
}

static void fw_withdraw(struct fw_waiter *w)
{
	WRITE_ONCE(w->waiting, false); /* (A4) */
	WRITE_ONCE(*w->where, 0);
	smp_mb(); /* (A5) pairs with fw_wake_waiter() */
}

/* It is going to sleep in the poll set whatever it finds. */
static __always_inline bool fw_will_join(const struct fw_wait *wait)
{
	return !wait->asleep && wait->budget_ns && !wait->waiter->nr_links;
}

/*
 * If the other sleeps on this core, take its place: its leaving and our joining
 * take one hold of the lock.  True if so.  Should it find another core,
 * the dispatcher scans this one.
 */
static bool fw_take_place(struct fw_core *core, struct fw_wait *wait,
			  struct fw_waiter *other)
{
	if (READ_ONCE(other->queued) != core || !fw_will_join(wait))
		return false;
	raw_spin_lock(&core->lock);
	if (READ_ONCE(other->queued) != core) {
		raw_spin_unlock(&core->lock);
		return false;
	}
	wait->handed_off = true;
	wait->joined = !fw_join(core, wait, other);
	raw_spin_unlock(&core->lock);
	fw_will_yield();
	wake_up_process(other->task);
	if (unlikely(single_task_running()) && core->dispatcher)
		fw_dispatcher_wake(core);
	return true;
}

/* SWITCH: wake the other first.  Preemption off is an RCU section, too. */
static int fw_switch_to(struct fw_domain *d, struct fw_wait *wait, u32 id)
{
	struct fw_waiter *other;
	struct fw_core *core;
	int ret = 0;

	preempt_disable();
	core = this_cpu_ptr(&fw_cores);
	other = fw_waiter_find(d, id);
	if (unlikely(!other))
		ret = -ENOENT;
	else if (!fw_take_place(core, wait, other) &&
		 !fw_wake_waiter(other, FW_EVENT_WOKEN))
		ret = -ESRCH;
	if (likely(!ret)) {
		fw_count(core, switches);
		trace_switch(wait->waiter->id, id);
		wait->handed_off = true;
	}
	preempt_enable();
	return ret;
}

static int fw_park_or_timeout(const struct fw_wait *wait)
{
	if (wait->deadline_ns && ktime_get_ns() >= wait->deadline_ns)
		return -ETIMEDOUT;
	return -ETIME;
}

static void fw_count_outcome(const struct fw_wait *wait, int ret)
{
	struct fw_core *core = raw_cpu_ptr(&fw_cores);

	if (wait->slept)
		fw_count(core, slept);
	if (ret == -ETIME)
		fw_count(core, parks);
	else if (ret == -ETIMEDOUT)
		fw_count(core, timeouts);
	else if (ret == -ERESTARTNOHAND)
		fw_count(core, signals);
}

static void fw_trace_outcome(struct fw_wait *wait, int ret)
{
	struct fw_waiter *w = wait->waiter;

	if (trace_wake_enabled() && ret >= 0)
		trace_wake(w->id, FASTWAKE_WAIT_INDEX(ret),
			   w->woken_ns ? ktime_get_ns() - w->woken_ns : 0);
	if (ret == -ETIME)
		trace_park(w->id, wait->budget_ns);
	w->woken_ns = 0;
}

static __always_inline int fw_before_waiting(struct fw_wait *wait)
{
	struct fw_waiter *w = wait->waiter;
	int ret = fw_look(w);

	if (ret != FW_PENDING) {
		fw_count(raw_cpu_ptr(&fw_cores), immediate);
		return ret;
	}
	if (unlikely(w->nr_links)) {
		ret = fw_links_arm(w);
		if (ret != FW_PENDING)
			return ret;
	}
	if (unlikely(fw_endless(wait)))
		w->expires_ns = U64_MAX;
	else if (!wait->budget_ns || ((wait->deadline_ns || wait->asleep) &&
				      fw_over(wait, ktime_get_ns())))
		return FW_EXPIRED;
	return FW_PENDING;
}

/* Announced; the caller withdraws. */
static int fw_wait_announced(struct fw_domain *d, struct fw_wait *wait,
			     u32 other)
{
	int ret;

	if (other != FASTWAKE_WAITER_NONE) {
		ret = fw_switch_to(d, wait, other);
		if (unlikely(ret))
			return ret;
	}
	if (!wait->joined) {
		ret = fw_before_waiting(wait);
		if (ret != FW_PENDING)
			return ret;
	}
	if (unlikely(wait->asleep))
		return fw_sleep_alone(wait);
	return fw_spin_or_sleep(wait);
}

static long fw_wait_with_watches(struct fw_domain *d, struct fw_wait *wait,
				 u32 other)
{
	struct fw_waiter *w = wait->waiter;
	int ret, own;

	fw_count(raw_cpu_ptr(&fw_cores), waits);
	trace_wait(w->id, w->nr, wait->budget_ns);
	fw_announce(w, wait->asleep);
	ret = fw_wait_announced(d, wait, other);
	fw_withdraw(w);
	if (ret == FW_EXPIRED)
		ret = fw_park_or_timeout(wait);
	if (ret < 0 && ret != -ENOENT && ret != -ESRCH) {
		own = fw_own(w);
		if (own >= 0)
			ret = own;
		else if (atomic_read(&w->event) & FW_EVENT_WOKEN)
			ret = w->nr + w->nr_links;
	}
	if (unlikely(w->nr_links))
		ret = fw_links_leave(w, ret);
	fw_count_outcome(wait, ret);
	fw_trace_outcome(wait, ret);
	return ret >= 0 && wait->slept ? ret | FASTWAKE_WAIT_SLEPT : ret;
}

/* What cannot be told is not worth losing the event for. */
static void fw_tell_core(const struct fw_waiter *w, long result,
			 struct fastwake_ioc_wait __user *user)
{
	if (result >= 0 && FASTWAKE_WAIT_CQS(result))
		put_user((u32)w->event_cpu + 1, &user->out_core);
}

static_assert(sizeof(struct fastwake_ioc_watch) == 4 * sizeof(u64));
static_assert(sizeof(struct fastwake_ioc_wait) % sizeof(u64) == 0);

/*
 * Nobody else gets at the waiter's own fields: it is bound to this thread, which
 * is here, and it stays in the table as long as the thread is.
 */
long fw_wait(struct fw_domain *d, void __user *user, bool to_other)
{
	struct fastwake_ioc_wait arg fw_uninitialized;
	struct fw_wait wait;
	struct fw_waiter *w;
	long ret;

	ret = fw_wait_copy(&arg, user, to_other);
	if (!ret)
		ret = fw_own_waiter(d, arg.waiter, &w);
	if (!ret)
		ret = fw_watches_copy(w, &arg);
	if (ret)
		return ret;
	fw_rcu_lock();
	ret = fw_watches_get(d, w, arg.nr_watches);
	fw_rcu_unlock();
	if (ret) {
		fw_watches_put(w);
		return ret;
	}
	wait = (struct fw_wait){ .waiter = w,
				 .deadline_ns = arg.deadline_ns,
				 .budget_ns = arg.budget_ns,
				 .asleep = arg.flags & FASTWAKE_WAIT_SLEEP };
	ret = fw_wait_with_watches(d, &wait, arg.wake);
	if (unlikely(arg.flags & FASTWAKE_WAIT_CORE))
		fw_tell_core(w, ret, user);
	fw_watches_put(w);
	if (ret == -ERESTARTNOHAND && arg.flags & FASTWAKE_WAIT_RESTART)
		ret = -ERESTARTSYS;
	return ret;
}
