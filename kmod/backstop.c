// SPDX-License-Identifier: GPL-2.0
/*
 * backstop.c - a timer that looks at the words of a core that is busy.
 *
 * Armed whenever a waiter joins the poll set, or a scanner stops with waiters
 * left.  It runs until the set is empty or somebody else scans.  If it finds the
 * core idle it wakes the dispatcher, and runs until that scans.
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

/*
 * Waiters whose time is over, woken in one firing: those who came together do not
 * come back together, and before others whose words have changed.
 */
#define FW_BACKSTOP_EXPIRED 8

/*
 * One part in so many of the core's time is ours: 2 %.  A look that seems to have taken
 * far longer than any does was interrupted, by a hypervisor say: such a period
 * is bounded.
 */
#define FW_BACKSTOP_SHARE	50
#define FW_BACKSTOP_PERIODS_MAX 16

static void fw_backstop_set(struct fw_core *core, u64 now_ns)
{
	core->looked = 0;
	core->joins = 0;
	hrtimer_start(&core->backstop, ns_to_ktime(now_ns + core->backstop_ns),
		      HRTIMER_MODE_ABS_PINNED_HARD);
}

/* Under the lock, on the core. */
void fw_backstop_arm(struct fw_core *core)
{
	lockdep_assert_held(&core->lock);
	if (core->backstop_armed || !core->scanned || !core->online)
		return;
	core->backstop_armed = true;
	core->clock_ns = ktime_get_ns();
	fw_backstop_set(core, core->clock_ns);
}

/* Wakes those whose words, of so many, hold, and some whose time is over. */
static u32 fw_backstop_wake(struct fw_core *core, u64 now_ns, u32 words)
{
	u32 woken = 0, expired = 0, left = min_t(u32, words, FW_BACKSTOP_WORDS);
	struct fw_waiter *w;

	while (left) {
		w = fw_pollset_scan(core, &left, is_idle_task(current));
		if (!w)
			break;
		wake_up_process(w->task);
		woken++;
	}
	while (expired++ < FW_BACKSTOP_EXPIRED &&
	       (w = fw_pollset_expire(core, now_ns)))
		wake_up_process(w->task);
	return woken;
}

/*
 * What the timer is about to do is done now, and the timer put off by a period:
 * that takes a third of what an interrupt does.  If scanners have looked at all
 * words since it was set, there is nothing left to look at.
 */
static void fw_backstop_put_off(struct fw_core *core)
{
	s64 left_ns;

	core->clock_ns = ktime_get_ns();
	left_ns = hrtimer_get_expires_ns(&core->backstop) - core->clock_ns;
	if (left_ns > (s64)core->backstop_ns / 4 * 3) {
		core->joins = 0;
		return;
	}
	fw_backstop_wake(core, core->clock_ns,
			 core->looked < core->nr ? core->nr : 0);
	fw_backstop_set(core, core->clock_ns);
}

void fw_backstop_joined_slow(struct fw_core *core)
{
	if (core->backstop_armed)
		fw_backstop_put_off(core);
	else
		fw_backstop_arm(core);
}

/*
 * A scanner stops, on this core, and may leave waiters behind.  It no longer says
 * that it scans: a timer that was armed before might rely on that, and give up.
 */
void fw_backstop_take_over_slow(struct fw_core *core)
{
	raw_spin_lock(&core->lock);
	fw_backstop_arm(core);
	raw_spin_unlock(&core->lock);
}

/* Returns whether to go on. */
static bool fw_backstop_look(struct fw_core *core, u64 now_ns)
{
	u32 woken;

	lockdep_assert_held(&core->lock);
	core->clock_ns = now_ns;
	woken = fw_backstop_wake(core, now_ns, core->nr);
	core->looked = 0;
	core->stats->backstop_wakes += woken;
	trace_backstop(core->cpu, woken, core->nr_waiters);
	core->backstop_armed =
		core->nr_waiters && !READ_ONCE(core->stats->scanner);
	/*
	 * It may be a while until it scans: whoever else is woken by this interrupt
	 * takes the core before it.  So the timer goes on until it does.
	 */
	if (core->backstop_armed && core->dispatcher && is_idle_task(current) &&
	    !woken)
		fw_dispatcher_wake(core);
	return core->backstop_armed;
}

/* At least the period asked for, and so that looking takes its share only. */
static void fw_backstop_adapt(struct fw_core *core, u64 took_ns)
{
	u64 wanted_ns = 1000ull * READ_ONCE(fw_backstop_us);

	core->backstop_ns = clamp(took_ns * FW_BACKSTOP_SHARE, wanted_ns,
				  wanted_ns * FW_BACKSTOP_PERIODS_MAX);
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
