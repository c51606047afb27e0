// SPDX-License-Identifier: GPL-2.0
/*
 * hotplug.c - cores come and go.
 *
 * A core that goes down first refuses new waiters, then sends those it has to
 * begin anew wherever they wake up.
 */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/tick.h>

#include "fw.h"

static int fw_hotplug_state;

static int fw_core_up(unsigned int cpu)
{
	struct fw_core *core = per_cpu_ptr(&fw_cores, cpu);
	int ret = 0;

	core->scanned = fw_use_nohz_full || !tick_nohz_full_cpu(cpu);
	if (core->scanned && fw_use_dispatcher)
		ret = fw_dispatcher_start(core);
	if (ret)
		return ret;
	raw_spin_lock(&core->lock);
	core->online = true;
	raw_spin_unlock(&core->lock);
	return 0;
}

static int fw_core_down(unsigned int cpu)
{
	struct fw_core *core = per_cpu_ptr(&fw_cores, cpu);
	struct fw_waiter *w;

	rcu_read_lock();
	raw_spin_lock(&core->lock);
	core->online = false;
	while ((w = fw_pollset_evict(core)))
		wake_up_process(w->task);
	raw_spin_unlock(&core->lock);
	rcu_read_unlock();
	hrtimer_cancel(&core->backstop); /* which wakes the dispatcher */
	fw_dispatcher_stop(core);
	core->backstop_armed = false;
	return 0;
}

int fw_hotplug_init(void)
{
	int ret = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "fastwake:online",
				    fw_core_up, fw_core_down);

	if (ret < 0)
		return ret;
	fw_hotplug_state = ret;
	return 0;
}

void fw_hotplug_exit(void)
{
	cpuhp_remove_state(fw_hotplug_state);
}
