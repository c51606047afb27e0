/* SPDX-License-Identifier: GPL-2.0 */
/*
 * compat.h - all that differs between kernel versions (6.1 to 6.12).
 */
#ifndef FW_COMPAT_H
#define FW_COMPAT_H

#include <linux/eventfd.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/version.h>

/* Written before it is read: zeroing it first would take longer than the rest. */
#if __has_attribute(uninitialized)
#define fw_uninitialized __attribute__((uninitialized))
#else
#define fw_uninitialized
#endif

static inline long fw_pin_user_pages(unsigned long start, unsigned long n,
				     unsigned int flags, struct page **pages)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
	return pin_user_pages(start, n, flags, pages, NULL);
#else
	return pin_user_pages(start, n, flags, pages);
#endif
}

static inline void fw_vm_flags_change(struct vm_area_struct *vma,
				      unsigned long set, unsigned long clear)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
#else
	vm_flags_mod(vma, set, clear);
#endif
}

/*
 * set_current_state(), of a thread that leaves the run queue when it sleeps.
 *
 * From 6.12 on one that has had more than its share stays there (DELAY_DEQUEUE),
 * until the scheduler has picked it in vain: then a switch takes a third more, and
 * nobody else finds itself alone meanwhile.  Only threads that must not be woken for
 * nothing are excepted, as the state tells.  So we say that we are one, by the bit of
 * parked threads, which means nothing to anyone else: what wakes us is the bit
 * beside it.  Such a thread is shown as "P (parked)".
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#define fw_set_current_state(state) set_current_state(state)
#else
#define fw_set_current_state(state) \
	smp_store_mb(current->__state, (state) | TASK_PARKED)
#endif

/* Others do stay there, and are counted as runnable until the scheduler is called. */
static inline bool fw_count_may_be_stale(void)
{
	return LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0);
}

static inline void fw_eventfd_signal(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx, 1);
#else
	eventfd_signal(ctx);
#endif
}

static inline void
fw_hrtimer_setup(struct hrtimer *timer,
		 enum hrtimer_restart (*function)(struct hrtimer *),
		 clockid_t clock, enum hrtimer_mode mode)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	hrtimer_init(timer, clock, mode);
	timer->function = function;
#else
	hrtimer_setup(timer, function, clock, mode);
#endif
}

#endif /* FW_COMPAT_H */
