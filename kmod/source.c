// SPDX-License-Identifier: GPL-2.0
/*
 * source.c - events that no word shows: who waits for them, and the WAIT's half.
 *
 * A WAIT links its waiter to the sources it watches.  An event ends one of the
 * WAITs that are linked, by ->fired, and is that one's to report; if none is
 * linked, it goes where it would without us.  Why none is lost:
 *
 *	WAIT				device's driver
 *	C1 links its waiter		V1 completion becomes visible
 *	C2 asks for the event		V2 if one was asked for:
 *	C3 told of V1? leaves		   event, takes a link, wakes
 *	C4 state, full barrier		V3 wake_up_process(): full barrier
 *	   looks at ->event, schedule()	   sees the state
 *	C5 unlinks, looks at ->fired
 *
 * Whether V1 or C2 was first is the driver's to say: if V1, C3 sees it; if C2, V2
 * finds the link.  V2 and C5 take the source's lock: the link was fired before C5,
 * which reports it, or V2 does not find it.
 *
 * Locking: ->links under the lock of the source.  The table of a domain changes
 * under its mutex, and is read under RCU.
 */
#include <linux/file.h>
#include <linux/kmod.h>
#include <linux/mutex.h>
#include <linux/slab.h>

#include "fw.h"
#include "source.h"

/* ---- what makes sources: fastwake_ib.ko, if it is there ---- */

static DEFINE_MUTEX(fw_source_lock);
static const struct fw_source_ops *fw_source_ops; /* under the lock */

int fw_source_register(const struct fw_source_ops *ops)
{
	int ret = 0;

	mutex_lock(&fw_source_lock);
	if (fw_source_ops)
		ret = -EBUSY;
	else
		fw_source_ops = ops;
	mutex_unlock(&fw_source_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(fw_source_register);

void fw_source_unregister(const struct fw_source_ops *ops)
{
	mutex_lock(&fw_source_lock);
	if (fw_source_ops == ops)
		fw_source_ops = NULL;
	mutex_unlock(&fw_source_lock);
}
EXPORT_SYMBOL_GPL(fw_source_unregister);

static const struct fw_source_ops *fw_source_ops_try(void)
{
	const struct fw_source_ops *ops;

	mutex_lock(&fw_source_lock);
	ops = fw_source_ops;
	if (ops && !try_module_get(ops->owner))
		ops = NULL;
	mutex_unlock(&fw_source_lock);
	return ops;
}

/* With a reference to their module. */
static const struct fw_source_ops *fw_source_ops_get(void)
{
	const struct fw_source_ops *ops = fw_source_ops_try();

	if (ops || request_module("fastwake_ib"))
		return ops;
	return fw_source_ops_try();
}

/* ---- a source ---- */

void fw_source_init(struct fw_source *s, const struct fw_source_ops *ops)
{
	s->ops = ops;
	raw_spin_lock_init(&s->lock);
	INIT_LIST_HEAD(&s->links);
	refcount_set(&s->users, 1);
}
EXPORT_SYMBOL_GPL(fw_source_init);

/* The structure that a source is in begins with it. */
static void fw_source_put(struct fw_source *s)
{
	struct module *owner = s->ops->owner;

	if (!refcount_dec_and_test(&s->users))
		return;
	kfree_rcu(s, rcu);
	module_put(owner);
}

/* As fw_wake_waiter(); under the lock of a source that the waiter is linked to. */
static void fw_source_tell(struct fw_waiter *w)
{
	smp_mb__before_atomic(); /* ->fired or ->gone, then ->event: fw_event() */
	atomic_or(FW_EVENT_SOURCE, &w->event);
	wake_up_process(w->task);
}

/* An event has come; false if no WAIT takes it.  In any context. */
bool fw_source_fire(struct fw_source *s)
{
	struct fw_link *link;
	unsigned long flags;

	raw_spin_lock_irqsave(&s->lock, flags);
	link = list_first_entry_or_null(&s->links, struct fw_link, node);
	if (link) {
		list_del_init(&link->node);
		link->cpu = smp_processor_id();
		WRITE_ONCE(link->fired, true);
		fw_source_tell(link->waiter);
	}
	raw_spin_unlock_irqrestore(&s->lock, flags);
	return link;
}
EXPORT_SYMBOL_GPL(fw_source_fire);

/* No event will come any more: the WAITs end. */
void fw_source_end(struct fw_source *s)
{
	struct fw_link *link;
	unsigned long flags;

	raw_spin_lock_irqsave(&s->lock, flags);
	WRITE_ONCE(s->gone, true);
	list_for_each_entry(link, &s->links, node) fw_source_tell(link->waiter);
	raw_spin_unlock_irqrestore(&s->lock, flags);
}
EXPORT_SYMBOL_GPL(fw_source_end);

/* ---- the table of a domain ---- */

static void fw_source_remove(struct fw_domain *d, struct fw_source *s)
{
	lockdep_assert_held(&d->lock);
	fw_table_erase(&d->sources, s->id);
	s->ops->detach(s);
	fw_source_put(s);
}

/* Those whose queue was destroyed by a process that did not say so. */
static void fw_sources_sweep(struct fw_domain *d)
{
	struct fw_source *s;
	u32 id;

	fw_table_for_each(&d->sources, id, s)
	{
		if (s->ops->dead(s))
			fw_source_remove(d, s);
	}
}

static int fw_source_insert(struct fw_domain *d, struct fw_source *s)
{
	int ret = fw_table_reserve(&d->sources);

	if (ret)
		return ret;
	if (fw_table_free_number(&d->sources) == d->sources.size)
		fw_sources_sweep(d);
	s->id = fw_table_free_number(&d->sources);
	if (s->id == d->sources.size)
		return -ENOSPC;
	fw_table_set(&d->sources, s->id, s);
	return 0;
}

static int fw_source_publish(struct fw_domain *d, struct fw_source *s)
{
	int ret;

	mutex_lock(&d->lock);
	ret = fw_source_insert(d, s);
	mutex_unlock(&d->lock);
	return ret;
}

static int fw_attach_file(struct fw_domain *d,
			  struct fastwake_ioc_attach_cq *arg,
			  const struct file *file)
{
	const struct fw_source_ops *ops;
	struct fw_source *s;
	int ret;

	if (!fw_file_is_uverbs(file))
		return -EINVAL;
	ops = fw_source_ops_get();
	if (!ops)
		return -ENOPKG;
	s = ops->attach(arg, file);
	if (IS_ERR(s)) {
		module_put(ops->owner);
		return PTR_ERR(s);
	}
	arg->out_flags = s->can_arm ? FASTWAKE_CQ_CAN_ARM : 0;
	ret = fw_source_publish(d, s);
	if (ret) {
		ops->detach(s);
		fw_source_put(s);
		return ret;
	}
	arg->out_cq = s->id;
	return 0;
}

int fw_attach_cq(struct fw_domain *d, struct fastwake_ioc_attach_cq *arg)
{
	struct file *file = fget(arg->cmd_fd);
	int ret;

	if (!file)
		return -EBADF;
	ret = fw_attach_file(d, arg, file);
	fput(file);
	return ret;
}

int fw_detach(struct fw_domain *d, u32 id)
{
	struct fw_source *s;

	mutex_lock(&d->lock);
	s = fw_table_load(&d->sources, id);
	if (s)
		fw_source_remove(d, s);
	mutex_unlock(&d->lock);
	return s ? 0 : -ENOENT;
}

void fw_detach_all(struct fw_domain *d)
{
	struct fw_source *s;
	u32 id;

	mutex_lock(&d->lock);
	fw_table_for_each(&d->sources, id, s) fw_source_remove(d, s);
	mutex_unlock(&d->lock);
}

static struct fw_source *fw_source_get(struct fw_domain *d, u32 id)
{
	struct fw_source *s;

	rcu_read_lock();
	s = fw_table_load(&d->sources, id);
	if (s && !refcount_inc_not_zero(&s->users))
		s = NULL;
	rcu_read_unlock();
	return s;
}

/* ---- in WAIT; the links are the thread's own ---- */

static int fw_link_check(const struct fw_waiter *w, const struct fw_source *s,
			 u32 how)
{
	u32 i;

	if ((how & FASTWAKE_CQ_ARM) && !s->can_arm)
		return -EOPNOTSUPP;
	for (i = 0; i < w->nr_links; i++)
		if (w->link_to[i].source == s)
			return -EINVAL;
	return 0;
}

int fw_link_get(struct fw_domain *d, struct fw_waiter *w,
		const struct fastwake_ioc_watch *arg)
{
	struct fw_source *s;
	int ret;

	if (arg->word_size || arg->offset || arg->mask)
		return -EINVAL;
	if (arg->operand & ~(u64)(FASTWAKE_CQ_ARM | FASTWAKE_CQ_SOLICITED))
		return -EOPNOTSUPP;
	s = fw_source_get(d, arg->region);
	if (!s)
		return -ENOENT;
	ret = fw_link_check(w, s, arg->operand);
	if (ret) {
		fw_source_put(s);
		return ret;
	}
	w->link_to[w->nr_links] = (struct fw_link){
		.source = s,
		.waiter = w,
		.how = arg->operand,
	};
	INIT_LIST_HEAD(&w->link_to[w->nr_links++].node);
	return 0;
}

void fw_links_put(struct fw_waiter *w)
{
	while (w->nr_links)
		fw_source_put(w->link_to[--w->nr_links].source);
}

static int fw_link_arm(struct fw_link *link)
{
	struct fw_source *s = link->source;
	unsigned long flags;
	bool gone;

	raw_spin_lock_irqsave(&s->lock, flags);
	gone = s->gone;
	if (!gone)
		list_add_tail(&link->node, &s->links); /* (C1) */
	raw_spin_unlock_irqrestore(&s->lock, flags);
	if (gone)
		return -ESTALE;
	if (!(link->how & FASTWAKE_CQ_ARM))
		return 0;
	return s->ops->arm(s, link->how & FASTWAKE_CQ_SOLICITED); /* (C2) */
}

/* Has the thread gone to where its last event came? */
static void fw_count_move(struct fw_waiter *w)
{
	struct fw_core *core = raw_cpu_ptr(&fw_cores);

	if (w->astray && w->event_cpu == core->cpu)
		fw_count(core, moves);
	w->astray = false;
}

/* The number of a watch that holds, -ESTALE, or FW_PENDING. */
int fw_links_arm(struct fw_waiter *w)
{
	int ret = 0;
	u32 i;

	fw_count_move(w);
	for (i = 0; i < w->nr_links && !ret; i++)
		ret = fw_link_arm(&w->link_to[i]);
	if (ret > 0) /* (C3) */
		return w->nr + i - 1;
	return ret ? ret : FW_PENDING;
}

/* Likewise, after FW_EVENT_SOURCE. */
int fw_links_look(struct fw_waiter *w)
{
	u32 i;

	for (i = 0; i < w->nr_links; i++)
		if (READ_ONCE(w->link_to[i].fired))
			return w->nr + i;
	for (i = 0; i < w->nr_links; i++)
		if (READ_ONCE(w->link_to[i].source->gone))
			return -ESTALE;
	return FW_PENDING;
}

static bool fw_link_leave(struct fw_link *link)
{
	struct fw_source *s = link->source;
	unsigned long flags;
	bool fired;

	raw_spin_lock_irqsave(&s->lock, flags);
	list_del_init(&link->node);
	fired = link->fired;
	raw_spin_unlock_irqrestore(&s->lock, flags);
	return fired;
}

static void fw_count_event(struct fw_waiter *w, const struct fw_link *link)
{
	struct fw_core *core = raw_cpu_ptr(&fw_cores);

	fw_count(core, events);
	if (link->cpu == core->cpu)
		fw_count(core, events_here);
	w->event_cpu = link->cpu;
	w->astray = link->cpu != core->cpu;
}

/* RESULT of the wait, with the events that it took: none is to be lost. */
int fw_links_leave(struct fw_waiter *w, int result)
{
	u32 i, fired = 0;

	for (i = 0; i < w->nr_links; i++) {
		if (!fw_link_leave(&w->link_to[i])) /* (C5) */
			continue;
		fw_count_event(w, &w->link_to[i]);
		fired |= 1 << (w->nr + i);
	}
	if (!fired)
		return result;
	if (result < 0)
		result = __ffs(fired);
	return result | fired << 16;
}
