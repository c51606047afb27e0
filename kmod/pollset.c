// SPDX-License-Identifier: GPL-2.0
/*
 * pollset.c - the words that the waiters of a core wait for.
 *
 * Arrays without holes, one of what a look needs and one of the rest: at 256 words
 * pointers to the waiters' own memory would cost 2 us more per look.  A waiter is
 * in the set from fw_pollset_add() until whoever finds that it can go on takes it
 * out, or it leaves by itself.  Whoever takes it out writes ->result last: from
 * then on the waiter may be gone, but for RCU.
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

/*
 * What is noted as seen is always a value for which the watch does not hold; if the
 * word has none, one less than BASE is such a value, if there is any.
 */
static __always_inline void fw_probe_init(struct fw_probe *probe,
					  const struct fw_watch *watch)
{
	u64 v = READ_ONCE(*watch->word);

	probe->word = watch->word;
	probe->seen = fw_holds_for(watch, v) ? watch->base - 1 : v;
}

static void fw_entry_move(struct fw_core *core, u32 from, u32 to)
{
	struct fw_owner owner = core->owners[from];

	core->probes[to] = core->probes[from];
	core->owners[to] = owner;
	owner.waiter->pos[owner.index] = to;
}

/*
 * ->looked may only promise too little: of the entries one less was seen, or, if
 * the last one is moved to where the next look will not come, none for sure.
 */
static __always_inline void fw_looked_less(struct fw_core *core, u32 pos)
{
	if (pos < core->cursor)
		core->looked = 0;
	else if (core->looked)
		core->looked--;
}

/* ->queued is looked at without this lock too: README.md, "SWITCH". */
static void fw_pollset_take_out(struct fw_waiter *w)
{
	struct fw_core *core = w->core;
	u32 i;

	lockdep_assert_held(&core->lock);
	for (i = 0; i < w->nr_entries; i++) {
		fw_looked_less(core, w->pos[i]);
		fw_entry_move(core, --core->nr, w->pos[i]);
	}
	core->nr_waiters--;
	WRITE_ONCE(w->queued, NULL);
	fw_publish_size(core);
}

/* Whoever calls this has to wake the task, within the same RCU section. */
static __always_inline void fw_pollset_result(struct fw_waiter *w, int result)
{
	if (trace_wake_enabled())
		w->woken_ns = ktime_get_ns();
	/* Pairs with the acquire in fw_sleep(). */
	smp_store_release(&w->result, result);
}

static void fw_pollset_end(struct fw_waiter *w, int result)
{
	fw_pollset_take_out(w);
	fw_pollset_result(w, result);
}

static __always_inline void fw_pollset_enter(struct fw_core *core,
					     struct fw_waiter *w)
{
	if (fw_next_ns(w) < core->next_expiry_ns)
		core->next_expiry_ns = fw_next_ns(w);
	w->core = core;
	WRITE_ONCE(w->result, FW_PENDING);
	WRITE_ONCE(w->queued, core);
}

/*
 * Add the calling thread, which runs on the core.  -ENOSPC: the set is full, or
 * the core is going down.  Waiters without watches count too, since scanners
 * look at their time.
 */
int fw_pollset_add(struct fw_core *core, struct fw_waiter *w)
{
	u32 i, at = core->nr;

	lockdep_assert_held(&core->lock);
	if (unlikely(!core->online || at + w->nr_entries > fw_core_watches))
		return -ENOSPC;
	for (i = 0; i < w->nr_entries; i++, at++) {
		w->pos[i] = at;
		fw_probe_init(&core->probes[at], &w->watch[i]);
		core->owners[at] = (struct fw_owner){ w, i };
	}
	core->nr = at;
	if (!core->nr_waiters++)
		core->next_expiry_ns = U64_MAX;
	fw_pollset_enter(core, w);
	fw_publish_size(core);
	return 0;
}

static __always_inline bool fw_pollset_overwrite(struct fw_core *core,
						 struct fw_waiter *other,
						 struct fw_waiter *w)
{
	u32 pos = other->pos[0];

	if (other->nr_entries != 1 || w->nr_entries != 1 || !core->online)
		return false;
	fw_looked_less(core, pos);
	fw_probe_init(&core->probes[pos], &w->watch[0]);
	core->last_look = 0;
	core->owners[pos].waiter = w;
	w->pos[0] = pos;
	WRITE_ONCE(other->queued, NULL);
	fw_pollset_enter(core, w);
	return true;
}

/*
 * The calling thread comes, the other goes and has to be woken, as after
 * fw_pollset_end().
 */
int fw_pollset_replace(struct fw_core *core, struct fw_waiter *other,
		       struct fw_waiter *w, int result)
{
	int ret = 0;

	lockdep_assert_held(&core->lock);
	if (unlikely(!fw_pollset_overwrite(core, other, w))) {
		fw_pollset_take_out(other);
		ret = fw_pollset_add(core, w);
	}
	fw_pollset_result(other, result);
	return ret;
}

/* The waiter leaves for a reason of its own, unless it has just been taken out. */
void fw_pollset_leave(struct fw_waiter *w)
{
	raw_spin_lock(&w->core->lock);
	if (w->queued)
		fw_pollset_take_out(w);
	raw_spin_unlock(&w->core->lock);
}

static __always_inline bool fw_changed(const struct fw_probe *probe)
{
	return unlikely(READ_ONCE(*probe->word) != probe->seen);
}

/* The first one that has changed, or END. */
static struct fw_probe *fw_first_changed(struct fw_probe *p,
					 const struct fw_probe *end)
{
	for (; end - p >= 8; p += 8) {
		if (fw_changed(&p[0]))
			return &p[0];
		if (fw_changed(&p[1]))
			return &p[1];
		if (fw_changed(&p[2]))
			return &p[2];
		if (fw_changed(&p[3]))
			return &p[3];
		if (fw_changed(&p[4]))
			return &p[4];
		if (fw_changed(&p[5]))
			return &p[5];
		if (fw_changed(&p[6]))
			return &p[6];
		if (fw_changed(&p[7]))
			return &p[7];
	}
	while (p < end && !fw_changed(p))
		p++;
	return p;
}

static bool fw_in_no_hurry(const struct fw_owner *owner)
{
	return owner->waiter->later >> owner->index & 1;
}

/* Does it hold now?  If not it is noted as seen. */
static bool fw_probe_holds(struct fw_core *core, u32 i)
{
	struct fw_probe *probe = &core->probes[i];
	struct fw_owner *owner = &core->owners[i];
	u64 v = READ_ONCE(*probe->word);

	if (fw_holds_for(&owner->waiter->watch[owner->index], v))
		return true;
	probe->seen = v;
	return false;
}

/*
 * The first entry from I on that holds, or END.  One that is in no hurry goes on
 * only if the core is idle; else it is left as it is, so that the next look finds
 * it again.
 */
static u32 fw_first_holding(struct fw_core *core, u32 i, u32 end, bool idle)
{
	for (; i < end; i++) {
		i = fw_first_changed(&core->probes[i], &core->probes[end]) -
		    core->probes;
		if (i < end && fw_probe_holds(core, i) &&
		    (idle || likely(!fw_in_no_hurry(&core->owners[i]))))
			break;
	}
	return min(i, end);
}

/*
 * Look at entries, each at most once, from where the last look ended; *LEFT is
 * how many, and is counted down.  Takes out and returns the first waiter found
 * with a watch that holds: to wake it comes before finding others, whom the
 * next scanner finds.  IDLE: the core has nothing else to do.
 */
struct fw_waiter *fw_pollset_scan(struct fw_core *core, u32 *left, bool idle)
{
	u32 n = min(*left, core->nr);
	u32 from = core->cursor < core->nr ? core->cursor : 0;
	u32 end = min(from + n, core->nr);
	u32 i = fw_first_holding(core, from, end, idle);
	struct fw_owner owner;

	lockdep_assert_held(&core->lock);
	core->last_look = n;
	n -= i - from;
	if (i == end && n) {
		end = n;
		i = fw_first_holding(core, 0, end, idle);
		n -= i;
	}
	core->cursor = i; /* takes the place of the one taken out */
	core->last_look -= n;
	core->looked += core->last_look;
	if (i == end) {
		*left = 0;
		return NULL;
	}
	owner = core->owners[i];
	fw_pollset_end(owner.waiter, owner.index);
	*left = min(n - 1, core->nr);
	return owner.waiter;
}

/*
 * A watch that was in no hurry until now is looked at here, since a look that found
 * it to hold may be long past; from now on it is as any other.
 */
static bool fw_later_is_now(struct fw_owner *owner, u64 now_ns)
{
	struct fw_waiter *w = owner->waiter;

	if (likely(!fw_in_no_hurry(owner)) || now_ns < w->later_ns)
		return false;
	w->later &= ~(1u << owner->index);
	return fw_holds(&w->watch[owner->index]);
}

/*
 * A pass over all entries, to find those whose time is over, takes some 15 ns for
 * each.  ->next_expiry_ns may be that of a waiter that has left, and with many who come and
 * go always is: they may be so much later, each, for passes to take 2 % of the core.
 */
#define FW_PASS_NS_PER_ENTRY 750

/*
 * The pass is over.  One in several parts may have missed entries, which change their
 * places when others leave: then it is not known when the next time is over.
 */
static void fw_pass_end(struct fw_core *core, u64 now_ns, u64 next_ns)
{
	core->next_expiry_ns = core->pass_at ? now_ns : next_ns;
	core->next_pass_ns = now_ns + (u64)core->nr * FW_PASS_NS_PER_ENTRY;
	core->pass_at = 0;
}

/* Takes out and returns a waiter whose time is over; the next call goes on from there. */
struct fw_waiter *fw_pollset_expire(struct fw_core *core, u64 now_ns)
{
	u64 next_ns = U64_MAX;
	struct fw_owner owner;
	struct fw_waiter *w;
	u32 i;

	lockdep_assert_held(&core->lock);
	if (now_ns < core->next_expiry_ns || now_ns < core->next_pass_ns ||
	    !core->nr_waiters)
		return NULL;
	for (i = core->pass_at; i < core->nr; i++) {
		owner = core->owners[i];
		w = owner.waiter;
		if (now_ns >= w->expires_ns) {
			fw_count(core, expired);
			core->pass_at = i;
			fw_pollset_end(w, FW_EXPIRED);
			return w;
		}
		if (fw_later_is_now(&owner, now_ns)) {
			core->pass_at = i;
			fw_pollset_end(w, owner.index);
			return w;
		}
		next_ns = min(next_ns, fw_next_ns(w));
	}
	fw_pass_end(core, now_ns, next_ns);
	return NULL;
}

/* Takes out and returns any waiter: the core is going down. */
struct fw_waiter *fw_pollset_evict(struct fw_core *core)
{
	struct fw_waiter *w;

	lockdep_assert_held(&core->lock);
	if (!core->nr)
		return NULL;
	w = core->owners[core->nr - 1].waiter;
	fw_pollset_end(w, FW_AGAIN);
	return w;
}

/* A waiter would have spun but for the dispatcher: takes one out to do so now. */
struct fw_waiter *fw_pollset_elect(struct fw_core *core)
{
	lockdep_assert_held(&core->lock);
	if (!core->elect)
		return NULL;
	core->elect = false;
	return fw_pollset_evict(core);
}

static void *fw_core_array(const struct fw_core *core, size_t size)
{
	return kvmalloc_node(fw_core_watches * size, GFP_KERNEL,
			     cpu_to_node(core->cpu));
}

static int fw_core_init(struct fw_core *core, int cpu)
{
	raw_spin_lock_init(&core->lock);
	core->cpu = cpu;
	core->stats = fw_stats_of(cpu);
	core->probes = fw_core_array(core, sizeof(*core->probes));
	core->owners = fw_core_array(core, sizeof(*core->owners));
	if (!core->probes || !core->owners)
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

	for_each_possible_cpu(cpu)
	{
		kvfree(per_cpu_ptr(&fw_cores, cpu)->probes);
		kvfree(per_cpu_ptr(&fw_cores, cpu)->owners);
	}
}
