// SPDX-License-Identifier: PostgreSQL
/*
 * waiter.c - take and give back a slot, and wake the one who holds it.
 *
 * The waker's half of the protocol is fw_wake_slot(); the waiter's half is
 * wait.c, which has the proof.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "module.h"

/*
 * The time is noted before the slot is taken, and never goes back: else a third
 * process could find our pid with an older time than our start, and take us for
 * one that reused the pid.
 */
static void note_attached(struct fw_slot *slot)
{
	uint64_t now = fw_boottime(), old = fw_load(&slot->attached_ns);

	while (old < now && !__atomic_compare_exchange_n(
				    &slot->attached_ns, &old, now, false,
				    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/*
 * Make the slot ours.  A holder that was killed inside fastwake_wait() leaves
 * its state behind: it is replaced together with the pid.
 */
static int take_slot(struct fw_slot *slot, pid_t pid)
{
	uint64_t old = fw_load_acquire(&slot->owner);
	pid_t holder = fw_owner_pid(old);

	if (holder != 0 && holder != pid &&
	    !fw_holder_dead(holder, fw_load(&slot->attached_ns)))
		return -EBUSY;
	note_attached(slot);
	if (!__atomic_compare_exchange_n(&slot->owner, &old,
					 fw_owner(pid, FW_IDLE), false,
					 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return -EBUSY; /* another process was faster */
	return 0;
}

static int attach(struct fastwake_waiter *w)
{
	int rc = take_slot(w->slot, w->pid);

	if (rc != 0)
		return rc;
	rc = fw_pid_publish(w->domain, w->pid, w->index);
	if (rc != 0)
		fw_store(&w->slot->owner, 0);
	/*
	 * A wake that was answered on behalf of the slot's last holder came
	 * before this: what it was about is visible to the caller from here.
	 */
	fw_full_barrier();
	return rc;
}

int fastwake_waiter_attach(struct fastwake_domain *domain, unsigned int slot,
			   struct fastwake_waiter **waiter)
{
	struct fastwake_waiter *w;
	int rc;

	if (slot >= domain->waiters)
		return -EINVAL;
	w = calloc(1, sizeof(*w));
	if (w == NULL)
		return -ENOMEM;
	w->domain = domain;
	w->slot = &domain->slots[slot];
	w->index = slot;
	w->pid = getpid();
	rc = attach(w);
	if (rc != 0) {
		free(w);
		return rc;
	}
	*waiter = w;
	return 0;
}

/*
 * The full barrier makes the caller see, when it looks at its condition next,
 * whatever was stored before a wake that the slot still answered.  A child that
 * inherited the handle by fork frees it and leaves the parent's slot alone.
 */
void fastwake_waiter_detach(struct fastwake_waiter *waiter)
{
	if (waiter == NULL)
		return;
	if (waiter->pid == getpid()) {
		fw_module_unregister(waiter);
		fw_store_release(&waiter->slot->owner, 0);
		fw_full_barrier();
		fw_pid_withdraw(waiter->domain, waiter->pid, waiter->index);
	}
	free(waiter);
}

/*
 * The module's scanners will find seq bumped (allow_delay() in wait.c).  The clock is
 * read after the bump: so who looks at seq when that time has come finds it.
 */
static bool in_no_hurry(const struct fw_slot *slot)
{
	uint64_t later_ns = fw_load(&slot->later_ns);

	return later_ns != 0 && fastwake_now() < later_ns;
}

/*
 * Wake the slot if it is not idle and PID (0: anybody) holds it; returns
 * whether.  Proof: wait.c.  The state is read again after the bump because the
 * waiter may have gone to sleep in between; often it is awake by then, and the
 * futex call is saved.  That a ring is under way is not recorded so as to spare
 * further wakers the call: one killed right there would swallow theirs.
 */
int fw_wake_slot(const struct fastwake_domain *domain, unsigned int index,
		 pid_t pid, struct fw_wakes *wakes)
{
	struct fw_slot *slot = &domain->slots[index];
	uint64_t owner;

	fw_full_barrier(); /* (A) */
	owner = fw_load(&slot->owner);
	if (fw_owner_state(owner) == FW_IDLE ||
	    (pid != 0 && fw_owner_pid(owner) != pid))
		return 0;
	fw_store(&slot->rung_ns, fastwake_now());
	__atomic_fetch_add(&slot->seq, 1, __ATOMIC_RELEASE);
	fw_full_barrier_after_rmw(); /* (C) */
	switch (fw_owner_state(fw_load_acquire(&slot->owner))) {
	case FW_SLEEPING:
		fw_futex_wake(&slot->seq, 1);
		break;
	case FW_IN_MODULE:
		if (domain->module != NULL && !in_no_hurry(slot))
			fw_module_wake(domain->module, index, wakes);
		break;
	default:
		break;
	}
	return 1;
}

int fastwake_wake(struct fastwake_domain *domain, unsigned int slot)
{
	if (slot >= domain->waiters)
		return -EINVAL;
	return fw_wake_slot(domain, slot, 0, NULL);
}
