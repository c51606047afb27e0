// SPDX-License-Identifier: GPL-2.0
/*
 * waiter.c - the slot of a thread: taking it, giving it back, waking it.
 *
 * Locking: the table of a domain changes under its mutex, and is read under
 * RCU.  A waiter, and its reference to the task, last one RCU period longer than
 * its place in the table, so wakers need RCU only, and may wake a task that has
 * just left: at worst it is woken for nothing.
 */
#include <linux/mm.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "fw.h"

static void fw_waiter_free_rcu(struct rcu_head *rcu)
{
	struct fw_waiter *w = container_of(rcu, struct fw_waiter, rcu);

	put_task_struct(w->task);
	kfree(w);
}

static void fw_waiter_remove(struct fw_domain *d, struct fw_waiter *w)
{
	lockdep_assert_held(&d->lock);
	fw_table_erase(&d->waiters, w->id);
	call_rcu(&w->rcu, fw_waiter_free_rcu);
}

/*
 * A task that exits has left WAIT long ago, and will not come back.  Modules are
 * not told of exits, so slots are collected when they are needed, and by
 * fw_unregister_gone().
 */
static bool fw_waiter_exiting(const struct fw_waiter *w)
{
	return READ_ONCE(w->task->flags) & PF_EXITING;
}

static void fw_unregister_if(struct fw_domain *d, const struct task_struct *own)
{
	struct fw_waiter *w;
	u32 id;

	mutex_lock(&d->lock);
	fw_table_for_each(&d->waiters, id,
			  w) if (w->task == own || fw_waiter_exiting(w))
		fw_waiter_remove(d, w);
	mutex_unlock(&d->lock);
}

void fw_unregister_gone(struct fw_domain *d)
{
	if (READ_ONCE(d->waiters.end))
		fw_unregister_if(d, current);
}

void fw_unregister_all(struct fw_domain *d)
{
	struct fw_waiter *w;
	u32 id;

	mutex_lock(&d->lock);
	fw_table_for_each(&d->waiters, id, w) fw_waiter_remove(d, w);
	mutex_unlock(&d->lock);
}

static struct fw_waiter *fw_waiter_alloc(void)
{
	struct fw_waiter *w = kzalloc(sizeof(*w), GFP_KERNEL_ACCOUNT);

	if (!w)
		return NULL;
	w->task = get_task_struct(current);
	return w;
}

static void fw_waiter_publish(struct fw_domain *d, struct fw_waiter *w, u32 id)
{
	w->id = id;
	w->where = &d->where[id];
	fw_table_set(&d->waiters, id, w);
}

static int fw_waiter_insert_at(struct fw_domain *d, struct fw_waiter *w, u32 id)
{
	struct fw_waiter *old;

	if (id >= d->waiters_max)
		return -EINVAL;
	old = fw_table_load(&d->waiters, id);
	if (old && !fw_waiter_exiting(old))
		return -EBUSY;
	if (old)
		fw_waiter_remove(d, old);
	fw_waiter_publish(d, w, id);
	return 0;
}

static int fw_waiter_insert_anywhere(struct fw_domain *d, struct fw_waiter *w)
{
	u32 id = fw_table_free_number(&d->waiters);

	if (id == d->waiters.size)
		return -ENOSPC;
	fw_waiter_publish(d, w, id);
	return 0;
}

static int fw_waiter_insert(struct fw_domain *d, struct fw_waiter *w, u32 id)
{
	int ret;

	mutex_lock(&d->lock);
	ret = fw_table_reserve(&d->waiters);
	if (!ret)
		ret = id == FASTWAKE_WAITER_NONE
			      ? fw_waiter_insert_anywhere(d, w)
			      : fw_waiter_insert_at(d, w, id);
	mutex_unlock(&d->lock);
	return ret;
}

int fw_register(struct fw_domain *d, u32 *id)
{
	struct fw_waiter *w = fw_waiter_alloc();
	int ret;

	if (!w)
		return -ENOMEM;
	ret = fw_waiter_insert(d, w, *id);
	if (ret == -ENOSPC) {
		fw_unregister_if(d, NULL);
		ret = fw_waiter_insert(d, w, *id);
	}
	if (ret) {
		put_task_struct(w->task);
		kfree(w);
		return ret;
	}
	*id = w->id;
	return 0;
}

int fw_unregister(struct fw_domain *d, u32 id)
{
	struct fw_waiter *w;
	int ret = 0;

	mutex_lock(&d->lock);
	w = fw_table_load(&d->waiters, id);
	if (!w)
		ret = -ENOENT;
	else if (w->task != current)
		ret = -EPERM;
	else
		fw_waiter_remove(d, w);
	mutex_unlock(&d->lock);
	return ret;
}

/*
 * Tell a waiter, if it is announced; returns whether.  Barriers: README.md,
 * "announce and wake".  In any context; under RCU.
 */
int fw_wake_waiter(struct fw_waiter *w, int event)
{
	smp_mb(); /* the caller's store, then the announcement */
	if (!READ_ONCE(w->waiting))
		return 0;
	atomic_or(event, &w->event);
	wake_up_process(w->task); /* a full barrier, also if it is awake */
	return 1;
}

void fw_wake_all(struct fw_domain *d, int event)
{
	struct fw_waiter *w;
	u32 id;

	rcu_read_lock();
	fw_table_for_each(&d->waiters, id, w) fw_wake_waiter(w, event);
	rcu_read_unlock();
}

/* -ENOENT, or as fw_wake_waiter().  Under RCU. */
static int fw_wake_number(struct fw_domain *d, u32 id)
{
	struct fw_waiter *w = fw_waiter_find(d, id);
	int ret;

	if (!w)
		return -ENOENT;
	ret = fw_wake_waiter(w, FW_EVENT_WOKEN);
	if (ret)
		fw_count(raw_cpu_ptr(&fw_cores), wakes);
	return ret;
}

long fw_wake(struct fw_domain *d, u32 id)
{
	long ret;

	rcu_read_lock();
	ret = fw_wake_number(d, id);
	rcu_read_unlock();
	return ret;
}

/*
 * Without preemption: the first one woken would take the core, and the caller be
 * switched to once more for each.
 */
long fw_wake_set(struct fw_domain *d, const struct fastwake_ioc_wake_set *arg)
{
	u32 ids[FASTWAKE_IOC_WAKE_MAX];
	long woken = 0;
	u32 i;

	if (arg->nr > FASTWAKE_IOC_WAKE_MAX)
		return -EINVAL;
	if (copy_from_user(ids, u64_to_user_ptr(arg->waiters),
			   arg->nr * sizeof(*ids)))
		return -EFAULT;
	rcu_read_lock();
	preempt_disable();
	for (i = 0; i < arg->nr; i++)
		woken += fw_wake_number(d, ids[i]) > 0;
	preempt_enable();
	rcu_read_unlock();
	return woken;
}
