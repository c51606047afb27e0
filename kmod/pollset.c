// SPDX-License-Identifier: GPL-2.0
/*
 * pollset.c - the words that the waiters of a core wait for.
 *
 * An array without holes: at 256 words pointers to the waiters' own memory would
 * cost 2 us more per look.  A waiter is in the set from fw_pollset_add() until
 * whoever finds that it can go on takes it out, or it leaves by itself.  Whoever
 * takes it out writes ->result last: from then on the waiter may be gone, but for
 * RCU.
 *
 * Locking: all functions below are called under the lock of the core, except
 * fw_pollset_leave(), which takes it.  Entries are added by threads that run on
 * the core.
 */
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/topology.h>

#include "fw.h"
#include "trace.h"

DEFINE_PER_CPU(struct fw_core, fw_cores);

static void fw_publish_size(struct fw_core *core)
{
	WRITE_ONCE(core->stats->waiters, core->nr_waiters);
	WRITE_ONCE(core->stats->watches, core->nr);
}

static void fw_entry_move(struct fw_core *core, u32 from, u32 to)
{
	struct fw_entry *e = &core->entries[to];

	*e = core->entries[from];
	e->waiter->pos[e->watch.index] = to;
}

static void fw_pollset_take_out(struct fw_waiter *w)
{
	struct fw_core *core = w->core;
	u32 i;

	lockdep_assert_held(&core->lock);
	for (i = 0; i < w->nr; i++)
		fw_entry_move(core, --core->nr, w->pos[i]);
	list_del_init(&w->link);
	core->nr_waiters--;
	w->queued = false;
	fw_publish_size(core);
}

/* Whoever calls this has to wake the task, within the same RCU section. */
static void fw_pollset_end(struct fw_waiter *w, int result)
{
	fw_pollset_take_out(w);
	if (trace_wake_enabled())
		w->woken_ns = ktime_get_ns();
	/* Pairs with the acquire in fw_sleep(). */
	smp_store_release(&w->result, result);
}

/*
 * Add the calling thread, which runs on the core.  -ENOSPC: the set is full, or
 * the core is going down.  Waiters without watches count too, since scanners
 * look at their time.
 */
int fw_pollset_add(struct fw_core *core, struct fw_waiter *w)
{
	struct fw_entry *e;
	u32 i;

	lockdep_assert_held(&core->lock);
	if (!core->online || core->nr + w->nr > fw_core_watches ||
	    core->nr_waiters >= fw_core_watches)
		return -ENOSPC;
	for (i = 0; i < w->nr; i++) {
		w->pos[i] = core->nr;
		e = &core->entries[core->nr++];
		e->watch = w->watch[i];
		e->waiter = w;
	}
	if (!core->nr_waiters++ || w->expires_ns < core->next_expiry_ns)
		core->next_expiry_ns = w->expires_ns;
	list_add_tail(&w->link, &core->waiters);
	w->core = core;
	w->queued = true;
	WRITE_ONCE(w->result, FW_PENDING);
	fw_publish_size(core);
	return 0;
}

/* The waiter leaves for a reason of its own, unless it has just been taken out. */
void fw_pollset_leave(struct fw_waiter *w)
{
	raw_spin_lock(&w->core->lock);
	if (w->queued)
		fw_pollset_take_out(w);
	raw_spin_unlock(&w->core->lock);
}

/*
 * Look at entries, each at most once, from where the last look ended; *LEFT is
 * how many, and is counted down.  Takes out and returns the first waiter found
 * with a watch that holds: to wake it comes before finding others, whom the
 * next scanner finds.
 */
struct fw_waiter *fw_pollset_scan(struct fw_core *core, u32 *left)
{
	u32 i = core->cursor, n = *left;
	struct fw_waiter *w;
	struct fw_entry *e;

	lockdep_assert_held(&core->lock);
	for (; n; n--, i++) {
		if (i >= core->nr)
			i = 0;
		e = &core->entries[i];
		if (fw_holds(e->watch.word, e->watch.op, e->watch.operand,
			     e->watch.mask))
			goto found;
	}
	*left = 0;
	core->cursor = i;
	return NULL;

found:
	*left = n - 1;
	core->cursor = i; /* takes the place of the one taken out */
	w = e->waiter;
	fw_pollset_end(w, e->watch.index);
	*left = min(*left, core->nr);
	return w;
}

/* Takes out and returns a waiter whose time is over. */
struct fw_waiter *fw_pollset_expire(struct fw_core *core, u64 now_ns)
{
	u64 next_ns = U64_MAX;
	struct fw_waiter *w;

	lockdep_assert_held(&core->lock);
	if (now_ns < core->next_expiry_ns || !core->nr_waiters)
		return NULL;
	list_for_each_entry(w, &core->waiters, link)
	{
		if (now_ns >= w->expires_ns) {
			fw_count(core, expired);
			fw_pollset_end(w, FW_EXPIRED);
			return w;
		}
		next_ns = min(next_ns, w->expires_ns);
	}
	core->next_expiry_ns = next_ns;
	return NULL;
}

/* Takes out and returns any waiter: the core is going down. */
struct fw_waiter *fw_pollset_evict(struct fw_core *core)
{
	struct fw_waiter *w;

	lockdep_assert_held(&core->lock);
	w = list_first_entry_or_null(&core->waiters, struct fw_waiter, link);
	if (w)
		fw_pollset_end(w, FW_AGAIN);
	return w;
}

/*
 * The waiter that came last would have spun but for the dispatcher: takes it out
 * to do so now.
 */
struct fw_waiter *fw_pollset_elect(struct fw_core *core)
{
	struct fw_waiter *w;

	lockdep_assert_held(&core->lock);
	if (!core->elect || !core->nr_waiters)
		return NULL;
	core->elect = false;
	w = list_last_entry(&core->waiters, struct fw_waiter, link);
	fw_pollset_end(w, FW_AGAIN);
	return w;
}

static int fw_core_init(struct fw_core *core, int cpu)
{
	raw_spin_lock_init(&core->lock);
	INIT_LIST_HEAD(&core->waiters);
	core->cpu = cpu;
	core->stats = fw_stats_of(cpu);
	core->entries = kvmalloc_node(fw_core_watches * sizeof(*core->entries),
				      GFP_KERNEL, cpu_to_node(cpu));
	if (!core->entries)
		return -ENOMEM;
	fw_backstop_init(core);
	return 0;
}

int fw_pollset_init(void)
{
	int cpu, ret;

	for_each_possible_cpu(cpu)
	{
		ret = fw_core_init(per_cpu_ptr(&fw_cores, cpu), cpu);
		if (ret) {
			fw_pollset_exit();
			return ret;
		}
	}
	return 0;
}

void fw_pollset_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) kvfree(per_cpu_ptr(&fw_cores, cpu)->entries);
}
