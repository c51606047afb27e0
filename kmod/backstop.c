// SPDX-License-Identifier: GPL-2.0
/*
 * backstop.c - a timer that looks at the words of a core that is busy.
 *
 * Armed whenever a waiter joins the poll set, or a scanner stops with waiters
 * left.  It runs until the set is empty or somebody else scans.  If it finds the
 * core idle it wakes the dispatcher.
 *
 * Locking: runs in an interrupt on the core it looks after, so it can only try
 * the lock: the code it interrupted may hold it.  ->backstop_armed changes under
 * the lock, hence a waiter either finds the timer armed and will be seen, or arms
 * it.
 */
#include <linux/sched/idle.h>
#include <linux/timekeeping.h>

#include "compat.h"
#include "fw.h"
#include "trace.h"

/* Words looked at in one firing. */
#define FW_BACKSTOP_WORDS 256

/* Waiters found expired in one firing: each costs a look at those before it. */
#define FW_BACKSTOP_EXPIRIES 64

/* One part in so many of the core's time is ours: 2 %. */
#define FW_BACKSTOP_SHARE 50

/* Under the lock, on the core. */
void fw_backstop_arm(struct fw_core *core)
{
	lockdep_assert_held(&core->lock);
	if (core->backstop_armed || !core->scanned || !core->online)
		return;
	core->backstop_armed = true;
	hrtimer_start(&core->backstop, ns_to_ktime(core->backstop_ns),
		      HRTIMER_MODE_REL_PINNED_HARD);
}

/*
 * A scanner stops, on this core, and may leave waiters behind.  It no longer says
 * that it scans: a timer that was armed before might rely on that, and give up.
 */
void fw_backstop_take_over(struct fw_core *core)
{
	if (!READ_ONCE(core->nr_waiters))
		return;
	raw_spin_lock(&core->lock);
	fw_backstop_arm(core);
	raw_spin_unlock(&core->lock);
}

static u32 fw_backstop_wake(struct fw_core *core, u64 now_ns)
{
	u32 woken = 0, left = min_t(u32, core->nr, FW_BACKSTOP_WORDS);
	struct fw_waiter *w;
	u32 expired;

	while (left) {
		w = fw_pollset_scan(core, &left);
		if (!w)
			break;
		wake_up_process(w->task);
		woken++;
	}
	for (expired = 0; expired < FW_BACKSTOP_EXPIRIES; expired++) {
		w = fw_pollset_expire(core, now_ns);
		if (!w)
			break;
		wake_up_process(w->task);
	}
	return woken;
}

/* Returns whether to go on. */
static bool fw_backstop_look(struct fw_core *core, u64 now_ns)
{
	u32 woken;

	lockdep_assert_held(&core->lock);
	woken = fw_backstop_wake(core, now_ns);
	core->stats->backstop_wakes += woken;
	trace_backstop(core->cpu, woken, core->nr_waiters);
	core->backstop_armed = false;
	if (!core->nr_waiters || READ_ONCE(core->stats->scanner))
		return false;
	if (core->dispatcher && is_idle_task(current) && !woken) {
		fw_dispatcher_wake(core);
		return false;
	}
	core->backstop_armed = true;
	return true;
}

/* At least the period asked for, and so that looking takes its share only. */
static void fw_backstop_adapt(struct fw_core *core, u64 took_ns)
{
	u64 wanted_ns = 1000ull * READ_ONCE(fw_backstop_us);

	core->backstop_ns = max(wanted_ns, took_ns * FW_BACKSTOP_SHARE);
}

/* If the code that was interrupted has the lock, look next time. */
static bool fw_backstop_try(struct fw_core *core, u64 now_ns)
{
	bool go_on;

	if (!raw_spin_trylock(&core->lock))
		return true;
	go_on = fw_backstop_look(core, now_ns);
	raw_spin_unlock(&core->lock);
	return go_on;
}

static enum hrtimer_restart fw_backstop(struct hrtimer *timer)
{
	struct fw_core *core = container_of(timer, struct fw_core, backstop);
	u64 now_ns = ktime_get_ns(), end_ns;
	bool go_on;

	fw_count(core, backstops);
	rcu_read_lock();
	go_on = fw_backstop_try(core, now_ns);
	rcu_read_unlock();
	end_ns = ktime_get_ns();
	fw_backstop_adapt(core, end_ns - now_ns);
	if (!go_on)
		return HRTIMER_NORESTART;
	hrtimer_set_expires(timer, ns_to_ktime(end_ns + core->backstop_ns));
	return HRTIMER_RESTART;
}

void fw_backstop_init(struct fw_core *core)
{
	core->backstop_ns = 1000ull * fw_backstop_us;
	fw_hrtimer_setup(&core->backstop, fw_backstop, CLOCK_MONOTONIC,
			 HRTIMER_MODE_REL_PINNED_HARD);
}
