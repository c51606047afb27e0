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
	bool slept;
};

/* ---- arguments ---- */

static int fw_watch_condition(struct fw_watch *watch,
			      const struct fastwake_ioc_watch *arg)
{
	u64 all = arg->word_size == 8 ? U64_MAX : U32_MAX;

	if (arg->condition > FASTWAKE_COND_GE64)
		return -EOPNOTSUPP;
	if (arg->mask && arg->condition != FASTWAKE_COND_MASK_NE)
		return -EINVAL;
	watch->op = arg->word_size == 8 ? FW_OP_64 : 0;
	watch->operand = arg->operand & all;
	watch->mask = all;
	switch (arg->condition) {
	case FASTWAKE_COND_EQ:
		watch->op |= FW_OP_EQ;
		break;
	case FASTWAKE_COND_MASK_NE:
		watch->mask &= arg->mask;
		break;
	case FASTWAKE_COND_GE64:
		if (arg->word_size != 8)
			return -EINVAL;
		watch->op |= FW_OP_GE;
		break;
	}
	return 0;
}

static int fw_watch_resolve(struct fw_domain *d, struct fw_waiter *w,
			    const struct fastwake_ioc_watch *arg)
{
	struct fw_watch *watch = &w->watch[w->nr];
	struct fw_region *r;
	int ret;

	if (arg->condition == FASTWAKE_COND_CQ)
		return fw_link_get(d, w, arg);
	if (w->nr_links)
		return -EINVAL;
	if (arg->word_size != 4 && arg->word_size != 8)
		return -EINVAL;
	ret = fw_watch_condition(watch, arg);
	if (ret)
		return ret;
	r = fw_region_get(d, arg->region); /* (W1) */
	if (!r)
		return -ENOENT;
	watch->word = fw_region_word(r, arg->offset, arg->word_size);
	if (!watch->word) {
		fw_region_put(r);
		return -EINVAL;
	}
	watch->index = w->nr;
	w->region[w->nr++] = r;
	return 0;
}

static void fw_watches_put(struct fw_waiter *w)
{
	fw_links_put(w);
	while (w->nr)
		fw_region_put(w->region[--w->nr]);
}

static int fw_watches_get(struct fw_domain *d, struct fw_waiter *w,
			  const struct fastwake_ioc_wait *arg)
{
	struct fastwake_ioc_watch watches[FASTWAKE_IOC_WATCHES_MAX];
	int ret = 0;
	u32 i;

	if (arg->nr_watches > FASTWAKE_IOC_WATCHES_MAX)
		return -EINVAL;
	if (copy_from_user(watches, u64_to_user_ptr(arg->watches),
			   arg->nr_watches * sizeof(*watches)))
		return -EFAULT;
	w->nr = w->nr_links = 0;
	for (i = 0; i < arg->nr_watches && !ret; i++)
		ret = fw_watch_resolve(d, w, &watches[i]);
	if (ret)
		fw_watches_put(w);
	return ret;
}

/* As copy_struct_from_user(), with the usual size for a constant. */
static int fw_wait_copy(struct fastwake_ioc_wait *arg, void __user *user,
			bool to_other)
{
	if (copy_from_user(arg, user, sizeof(*arg)))
		return get_user(arg->size, (u32 __user *)user) ? -EFAULT
		       : arg->size < sizeof(*arg)	       ? -EINVAL
							       : -EFAULT;
	if (unlikely(arg->size != sizeof(*arg))) {
		u32 size = arg->size;
		int ret;

		if (size < sizeof(*arg) || size > PAGE_SIZE)
			return -EINVAL;
		ret = copy_struct_from_user(arg, sizeof(*arg), user, size);
		if (ret)
			return ret;
	}
	if ((arg->flags & ~(FASTWAKE_WAIT_SLEEP | FASTWAKE_WAIT_CORE)) ||
	    arg->out_core)
		return -EOPNOTSUPP;
	if (to_other ? arg->wake == arg->waiter
		     : arg->wake != FASTWAKE_WAITER_NONE)
		return -EINVAL;
	return 0;
}

/* ---- looking ---- */

static int fw_own(const struct fw_waiter *w)
{
	const struct fw_watch *watch = w->watch;
	u32 i;

	for (i = 0; i < w->nr; i++, watch++)
		if (fw_holds(watch->word, watch->op, watch->operand,
			     watch->mask))
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

/* Look at the peers' words, and wake one whose watch holds; true if so. */
static bool fw_hand_off(struct fw_core *core)
{
	struct fw_waiter *w;
	u32 left;

	rcu_read_lock();
	raw_spin_lock(&core->lock);
	left = core->nr;
	w = fw_pollset_scan(core, &left);
	raw_spin_unlock(&core->lock);
	fw_count(core, polls);
	if (w) {
		fw_count(core, handoffs);
		wake_up_process(w->task);
	}
	rcu_read_unlock();
	return w;
}

/* Peers whose time is over; the spinner's own is looked at by the caller. */
static void fw_expire_peers(struct fw_core *core, u64 now_ns)
{
	struct fw_waiter *w;

	do {
		rcu_read_lock();
		raw_spin_lock(&core->lock);
		w = fw_pollset_expire(core, now_ns);
		raw_spin_unlock(&core->lock);
		if (w)
			wake_up_process(w->task);
		rcu_read_unlock();
	} while (w);
}

/* ---- spinning ---- */

/* Looks between two readings of the clock. */
#define FW_LOOKS_PER_CLOCK 16

static bool fw_clock(struct fw_core *core, const struct fw_waiter *w)
{
	u64 now_ns = ktime_get_ns();

	if (READ_ONCE(core->nr_waiters))
		fw_expire_peers(core, now_ns);
	return now_ns >= w->expires_ns;
}

/*
 * The one scanner of the core, by construction: it goes on only while nothing
 * else is runnable there.
 */
static int fw_spin_on(struct fw_core *core, struct fw_wait *wait)
{
	struct fw_waiter *w = wait->waiter;
	unsigned int looks;
	int ret;

	for (looks = 1;; looks++) {
		ret = fw_look(w); /* (A3), (W3) */
		if (ret != FW_PENDING)
			return ret;
		if (!wait->handed_off && READ_ONCE(core->nr))
			wait->handed_off = fw_hand_off(core);
		if (!fw_alone())
			return FW_BLOCK;
		/* Whoever was woken got another core. */
		wait->handed_off = false;
		if (looks % FW_LOOKS_PER_CLOCK == 0 && fw_clock(core, w))
			return FW_EXPIRED;
		if (looks == 1)
			WRITE_ONCE(core->stats->scanner,
				   FASTWAKE_SCANNER_WAITER);
		cpu_relax();
	}
}

static int fw_spin(struct fw_wait *wait)
{
	struct fw_core *core;
	int ret;

	preempt_disable();
	core = this_cpu_ptr(&fw_cores);
	ret = fw_spin_on(core, wait);
	if (ret >= 0 && core->stats->scanner)
		fw_count(core, spun);
	WRITE_ONCE(core->stats->scanner, FASTWAKE_SCANNER_NONE);
	/* Also before fw_block(), which may find itself on another core. */
	fw_backstop_take_over(core);
	preempt_enable();
	return ret;
}

/* ---- sleeping ---- */

/*
 * Join the poll set of this core and see to it that someone scans: the peer that
 * was woken will when it waits, the dispatcher when the core is idle, the
 * backstop in any case.
 */
static int fw_block(struct fw_wait *wait)
{
	struct fw_waiter *w = wait->waiter;
	struct fw_core *core;
	int ret;

	preempt_disable();
	core = this_cpu_ptr(&fw_cores);
	raw_spin_lock(&core->lock);
	ret = fw_pollset_add(core, w); /* (E1) */
	if (!ret) {
		core->elect = !wait->handed_off && !core->dispatcher_asleep;
		fw_backstop_arm(core);
	}
	raw_spin_unlock(&core->lock);
	if (ret)
		fw_count(core, full);
	else if (!wait->handed_off && core->dispatcher)
		fw_dispatcher_wake(core); /* (E2) */
	WRITE_ONCE(*w->where, core->cpu + 1);
	preempt_enable();
	return ret ? FW_EXPIRED : 0;
}

/* Without scanner the waiter has a timer of its own. */
static void fw_sleep_on_core(const struct fw_waiter *w)
{
	ktime_t expires = ns_to_ktime(w->expires_ns);

	if (likely(w->core->scanned))
		schedule();
	else
		schedule_hrtimeout_range(&expires, 0, HRTIMER_MODE_ABS);
}

static bool fw_expired_unscanned(const struct fw_waiter *w)
{
	return unlikely(!w->core->scanned) && ktime_get_ns() >= w->expires_ns;
}

static int fw_sleep(struct fw_wait *wait)
{
	struct fw_waiter *w = wait->waiter;
	int ret;

	for (;;) {
		/* Barrier after where, poll set and state, before the look. */
		set_current_state(TASK_INTERRUPTIBLE | TASK_FREEZABLE);
		ret = smp_load_acquire(&w->result);
		if (ret != FW_PENDING) {
			__set_current_state(TASK_RUNNING);
			return ret; /* taken out by the one who woke us */
		}
		ret = fw_look(w); /* (A3), (W3) */
		if (ret == FW_PENDING && fw_expired_unscanned(w))
			ret = FW_EXPIRED;
		if (ret != FW_PENDING)
			break;
		wait->slept = true;
		fw_sleep_on_core(w);
	}
	__set_current_state(TASK_RUNNING);
	fw_pollset_leave(w);
	return ret;
}

/*
 * FASTWAKE_WAIT_SLEEP: until something wakes it.  With neither scanner nor poll set,
 * what wakes it are an event that was asked for, WAKE, a signal, and its own timer.
 */
static int fw_sleep_alone(struct fw_wait *wait)
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

static int fw_spin_or_sleep(struct fw_wait *wait)
{
	int ret;

	do {
		ret = fw_spin(wait);
		if (ret != FW_BLOCK)
			break;
		ret = fw_block(wait);
		if (!ret)
			ret = fw_sleep(wait);
		wait->handed_off = false;
	} while (ret == FW_AGAIN);
	return ret;
}

/* ---- the call ---- */

static void fw_announce(struct fw_waiter *w, bool asleep)
{
	atomic_set(&w->event, 0);
	WRITE_ONCE(*w->where,
		   asleep ? FASTWAKE_UNSCANNED : raw_smp_processor_id() + 1);
	WRITE_ONCE(w->waiting, true); /* (A1), (W2) */
	smp_mb();		      /* (A2) pairs with fw_wake_waiter() */
}

static void fw_withdraw(struct fw_waiter *w)
{
	WRITE_ONCE(w->waiting, false); /* (A4) */
	WRITE_ONCE(*w->where, 0);
	smp_mb(); /* (A5) pairs with fw_wake_waiter() */
}

/* SWITCH: wake the other first. */
static int fw_switch_to(struct fw_domain *d, struct fw_wait *wait, u32 id)
{
	struct fw_waiter *other;
	int ret = -ENOENT;

	rcu_read_lock();
	other = fw_waiter_find(d, id);
	if (other)
		ret = fw_wake_waiter(other, FW_EVENT_WOKEN) ? 0 : -ESRCH;
	rcu_read_unlock();
	if (ret)
		return ret;
	fw_count(raw_cpu_ptr(&fw_cores), switches);
	trace_switch(wait->waiter->id, id);
	wait->handed_off = true;
	return 0;
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

/* Announced; the caller withdraws. */
static int fw_wait_announced(struct fw_domain *d, struct fw_wait *wait,
			     u32 other)
{
	struct fw_waiter *w = wait->waiter;
	u64 now_ns;
	int ret;

	if (other != FASTWAKE_WAITER_NONE) {
		ret = fw_switch_to(d, wait, other);
		if (ret)
			return ret;
	}
	ret = fw_look(w);
	if (ret != FW_PENDING) {
		fw_count(raw_cpu_ptr(&fw_cores), immediate);
		return ret;
	}
	if (fw_stale(w)) /* (W3) of who was announced too late for the event */
		return -ESTALE;
	if (w->nr_links) {
		ret = fw_links_arm(w);
		if (ret != FW_PENDING)
			return ret;
	}
	now_ns = ktime_get_ns();
	w->expires_ns = fw_expiry(wait, now_ns);
	if (now_ns >= w->expires_ns)
		return FW_EXPIRED;
	return wait->asleep ? fw_sleep_alone(wait) : fw_spin_or_sleep(wait);
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
	if (w->nr_links)
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

/*
 * Nobody else gets at the waiter's own fields: it is bound to this thread, which
 * is here, and it stays in the table as long as the thread is.
 */
long fw_wait(struct fw_domain *d, void __user *user, bool to_other)
{
	struct fastwake_ioc_wait arg;
	struct fw_wait wait = {};
	struct fw_waiter *w;
	long ret;

	ret = fw_wait_copy(&arg, user, to_other);
	if (ret)
		return ret;
	rcu_read_lock();
	w = fw_waiter_find(d, arg.waiter);
	if (!w)
		ret = -ENOENT;
	else if (w->task != current)
		ret = -EPERM;
	rcu_read_unlock();
	if (ret)
		return ret;
	ret = fw_watches_get(d, w, &arg);
	if (ret)
		return ret;
	wait.waiter = w;
	wait.deadline_ns = arg.deadline_ns;
	wait.budget_ns = arg.budget_ns;
	wait.asleep = arg.flags & FASTWAKE_WAIT_SLEEP;
	ret = fw_wait_with_watches(d, &wait, arg.wake);
	if (arg.flags & FASTWAKE_WAIT_CORE)
		fw_tell_core(w, ret, user);
	fw_watches_put(w);
	return ret;
}
