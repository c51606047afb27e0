// SPDX-License-Identifier: PostgreSQL
/*
 * budget.c - how long a wait polls before it sleeps, in the manner of KVM's
 * halt polling.
 *
 * Polling pays when the event comes soon, and only experience tells.  The
 * budget starts at 0.  A wait that slept although its event came within the
 * cap doubles it, one that slept longer than the cap halves it, down to 0
 * again.  A wait that ended while polling leaves it alone.
 */
#include <sys/syscall.h>

#include "internal.h"

/* Below this a poll is shorter than the sleep and wake-up it would save. */
#define FW_POLL_START_NS 4000ull

/* How often the affinity of the thread is looked up. */
#define FW_CPUS_CHECK_NS 1000000000ull

/*
 * On its only CPU a poller keeps off the one it waits for.  The bare call, for
 * it tells how many bytes of the mask are set and works for any CPU count.
 */
static bool may_run_on_one_cpu_only(void)
{
	unsigned long mask[8192 / (8 * sizeof(unsigned long))];
	int cpus = 0;
	long i, len = fw_syscall(SYS_sched_getaffinity, 0, sizeof(mask),
				 (long)mask, 0, 0, 0);

	for (i = 0; i < len / (long)sizeof(mask[0]); i++)
		cpus += __builtin_popcountl(mask[i]);
	return cpus == 1;
}

uint64_t fw_budget_learned(const struct fw_budget *budget, uint64_t cap_ns)
{
	return budget->poll_ns < cap_ns ? budget->poll_ns : cap_ns;
}

uint64_t fw_budget_now(struct fw_budget *budget, uint64_t cap_ns,
		       uint64_t now_ns)
{
	uint64_t poll_ns = fw_budget_learned(budget, cap_ns);

	if (poll_ns == 0)
		return 0;
	if (budget->cpus_checked_ns == 0 ||
	    now_ns - budget->cpus_checked_ns > FW_CPUS_CHECK_NS) {
		budget->one_cpu = may_run_on_one_cpu_only();
		budget->cpus_checked_ns = now_ns;
	}
	return budget->one_cpu ? 0 : poll_ns;
}

/* After a wait that slept; EVENT is false if only time or a signal ended it. */
void fw_budget_adapt(struct fw_budget *budget, uint64_t cap_ns,
		     uint64_t waited_ns, bool event)
{
	uint64_t poll_ns = budget->poll_ns;

	if (waited_ns > cap_ns)
		poll_ns /= 2;
	else if (event)
		poll_ns = poll_ns < FW_POLL_START_NS ? FW_POLL_START_NS
						     : poll_ns * 2;
	if (poll_ns > cap_ns)
		poll_ns = cap_ns;
	if (poll_ns < FW_POLL_START_NS && poll_ns < cap_ns)
		poll_ns = 0;
	budget->poll_ns = poll_ns;
}
