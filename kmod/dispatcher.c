// SPDX-License-Identifier: GPL-2.0
/*
 * dispatcher.c - the thread that scans while its core has nothing else to do.
 *
 * SCHED_IDLE: whoever it wakes takes the core at once, also under EEVDF, where a
 * thread woken by one of normal class would wait for the tick.  It leaves
 * the run queue in the same switch as the thread it woke gets the core, so that
 * that one may find itself alone and spin when it waits again.
 *
 * If it is preempted it stays on the run queue and keeps the next waiter from
 * spinning.  That one says so (->elect), and is sent back to spin as soon as the
 * core is idle but for the dispatcher.
 *
 * Preemption is off while it scans, and it looks at every turn whether it is
 * still alone.
 */
#include <linux/kthread.h>
#include <uapi/linux/sched/types.h>
#include <linux/timekeeping.h>

#include "compat.h"
#include "fw.h"

/* Ends of a scan. */
enum fw_leave {
	FW_LEAVE_WOKE,	/* a waiter is to run: sleep */
	FW_LEAVE_EMPTY, /* nobody waits */
	FW_LEAVE_BUSY,	/* someone else is runnable */
};

#define FW_LOOKS_PER_CLOCK 8

/*
 * Take out one waiter that can go on, and prepare to sleep before it can be
 * woken: the wake-up then finds this thread on its way off the run queue.
 */
static struct fw_waiter *fw_find(struct fw_core *core, bool look_at_clock)
{
	struct fw_waiter *w;
	u32 left;

	raw_spin_lock(&core->lock);
	left = core->nr;
	w = fw_pollset_scan(core, &left, fw_alone());
	if (!w && fw_alone())
		w = fw_pollset_elect(core);
	if (!w && look_at_clock)
		w = fw_pollset_expire(core, ktime_get_ns());
	raw_spin_unlock(&core->lock);
	fw_count(core, polls);
	return w;
}

static void fw_prepare_to_sleep(struct fw_core *core)
{
	WRITE_ONCE(core->dispatcher_asleep, true);
	fw_set_current_state(TASK_IDLE);
}

static enum fw_leave fw_scan(struct fw_core *core)
{
	struct fw_waiter *w;
	unsigned int looks;

	for (looks = 1;; looks++) {
		rcu_read_lock();
		w = fw_find(core, looks % FW_LOOKS_PER_CLOCK == 0);
		if (w) {
			fw_prepare_to_sleep(core);
			fw_count(core, dispatches);
			wake_up_process(w->task);
		}
		rcu_read_unlock();
		if (w)
			return FW_LEAVE_WOKE;
		if (!READ_ONCE(core->nr_waiters))
			return FW_LEAVE_EMPTY;
		if (!fw_alone())
			return FW_LEAVE_BUSY;
		cpu_relax();
	}
}

static enum fw_leave fw_scan_as_dispatcher(struct fw_core *core)
{
	enum fw_leave leave;

	preempt_disable();
	fw_count(core, dispatcher_runs);
	WRITE_ONCE(core->stats->scanner, FASTWAKE_SCANNER_DISPATCHER);
	leave = fw_scan(core);
	WRITE_ONCE(core->stats->scanner, FASTWAKE_SCANNER_NONE);
	fw_backstop_take_over(core);
	preempt_enable();
	return leave;
}

/*
 * Sleep unless somebody waits.  A waiter that joins later wakes us: README.md,
 * "enqueue and dispatcher".
 */
static void fw_sleep_while_empty(struct fw_core *core)
{
	fw_prepare_to_sleep(core); /* (D1), a full barrier */
	if (!READ_ONCE(core->nr_waiters) && !kthread_should_stop()) /* (D2) */
		schedule();
	__set_current_state(TASK_RUNNING);
	WRITE_ONCE(core->dispatcher_asleep, false);
}

static void fw_sleep_until_woken(struct fw_core *core)
{
	if (!kthread_should_stop())
		schedule();
	__set_current_state(TASK_RUNNING);
	WRITE_ONCE(core->dispatcher_asleep, false);
}

/*
 * Someone else is runnable.  Let it run, and go on if it was short.  If
 * it still wants the core when we get a turn, sleep: our turns would be a tick
 * long.  The backstop is armed; it wakes us when the core is idle.
 */
static void fw_yield(struct fw_core *core)
{
	if (need_resched() || fw_count_may_be_stale())
		schedule();
	if (!single_task_running()) {
		fw_prepare_to_sleep(core);
		fw_sleep_until_woken(core);
	}
}

static int fw_dispatcher(void *arg)
{
	struct fw_core *core = arg;

	while (!kthread_should_stop()) {
		if (!READ_ONCE(core->nr_waiters)) {
			fw_sleep_while_empty(core);
			continue;
		}
		switch (fw_scan_as_dispatcher(core)) {
		case FW_LEAVE_WOKE:
			fw_sleep_until_woken(core);
			break;
		case FW_LEAVE_BUSY:
			fw_yield(core);
			break;
		case FW_LEAVE_EMPTY:
			break;
		}
	}
	return 0;
}

int fw_dispatcher_start(struct fw_core *core)
{
	static const struct sched_attr idle = {
		.size = sizeof(idle),
		.sched_policy = SCHED_IDLE,
	};
	struct task_struct *task;

	task = kthread_create_on_cpu(fw_dispatcher, core, core->cpu,
				     "fastwake/%u");
	if (IS_ERR(task))
		return PTR_ERR(task);
	WARN_ON_ONCE(sched_setattr_nocheck(task, &idle));
	core->dispatcher_asleep = false;
	core->dispatcher = task;
	wake_up_process(task);
	return 0;
}

void fw_dispatcher_stop(struct fw_core *core)
{
	if (core->dispatcher)
		kthread_stop(core->dispatcher);
	core->dispatcher = NULL;
}
