/* SPDX-License-Identifier: GPL-2.0 */
/*
 * fw.h - what the files of the module share.  README.md has the protocol and its
 * proofs.
 *
 * Locking, outermost first:
 *
 *	fw_domain.lock	mutex: registering, pinning, and their ends
 *	fw_core.lock	raw spinlock: the poll set of a core, whether its backstop
 *			is armed.  Taken with interrupts on: the backstop, which
 *			runs in an interrupt, only tries.  The scheduler's locks
 *			and the timers' nest inside.
 *	fw_source.lock	raw spinlock, interrupts off: who waits for an event.  Drivers
 *			may hold locks of theirs when an event comes.  The
 *			scheduler's locks nest inside.
 *
 * WAIT and WAKE take no domain lock: they find waiters, regions and sources under
 * RCU.
 */
#ifndef FW_H
#define FW_H

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/nospec.h>
#include <linux/percpu-refcount.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <linux/workqueue.h>

#include "uapi/fastwake.h"

/* ---- table.c: objects by number ---- */

struct fw_table {
	void **slot; /* NULL as long as nothing was inserted */
	u32 min;     /* the first number */
	u32 size;    /* one more than the last */
	u32 free;    /* no number below is free */
	u32 end;     /* no number from here on was ever taken */
};

void fw_table_init(struct fw_table *t, u32 min, u32 size);
void fw_table_destroy(struct fw_table *t);
int fw_table_reserve(struct fw_table *t);
u32 fw_table_free_number(struct fw_table *t);
void fw_table_set(struct fw_table *t, u32 id, void *object);
void *fw_table_erase(struct fw_table *t, u32 id);

/* Under RCU, or the lock of the domain. */
static __always_inline void *fw_table_load(const struct fw_table *t, u32 id)
{
	void **slot = READ_ONCE(t->slot);

	if (unlikely(!slot || id >= t->size))
		return NULL;
	return READ_ONCE(slot[array_index_nospec(id, t->size)]);
}

#define fw_table_for_each(t, id, object)                          \
	for ((id) = (t)->min; (id) < READ_ONCE((t)->end); (id)++) \
		if (((object) = fw_table_load(t, id)))

/* ---- main.c ---- */

struct fw_events;

struct fw_domain {
	struct mutex lock;
	struct fw_table waiters; /* struct fw_waiter */
	struct fw_table regions; /* struct fw_region */
	struct fw_table sources; /* struct fw_source */
	u32 waiters_max;
	u32 regions_max;
	u64 unpins; /* regions that were taken out */
	u32 *where; /* of each waiter: see FASTWAKE_MMAP_WAITERS */
	struct fw_events *events;
};

extern unsigned int fw_budget_max_us;
extern unsigned int fw_backstop_us;
extern unsigned int fw_core_watches;
extern bool fw_use_dispatcher;
extern bool fw_use_nohz_full;
extern bool fw_test_events;

/* ---- region.c ---- */

#define FASTWAKE_REGION_SIZE_MAX (1ull << 30)

/*
 * Pinned pages.  The table of the domain holds one reference, each watch of a
 * thread in WAIT and each test event that is due another; the last one to go
 * unpins.
 */
struct fw_region {
	struct percpu_ref ref;
	u32 id;
	unsigned long npages;
	struct page **pages;
	struct mm_struct *mm; /* whom the pages are charged to */
	struct completion unpinned;
	refcount_t users; /* of this structure: the pages, an UNPIN */
	struct work_struct release;
	struct rcu_head rcu;
};

bool fw_file_is_uverbs(const struct file *file);
int fw_region_init(void);
void fw_region_exit(void);
int fw_pin(struct fw_domain *d, struct fastwake_ioc_pin *arg);
int fw_unpin(struct fw_domain *d, u32 id);
void fw_unpin_all(struct fw_domain *d);
struct fw_region *fw_region_get(struct fw_domain *d, u32 id);

/* Under RCU, which is enough to ask for a reference. */
static __always_inline struct fw_region *fw_region_find(struct fw_domain *d,
							u32 id)
{
	return fw_table_load(&d->regions, id);
}

static inline void fw_region_put(struct fw_region *r)
{
	percpu_ref_put(&r->ref);
}

/* UNPIN has begun: whoever watches the region has to leave. */
static inline bool fw_region_dying(struct fw_region *r)
{
	return percpu_ref_is_dying(&r->ref);
}

/*
 * The kernel's address of a word, NULL if it is not inside or not aligned.  The
 * word lies in one page since it is aligned.
 */
static inline void *fw_region_word(const struct fw_region *r, u64 offset,
				   u32 size)
{
	if (offset >= (u64)r->npages << PAGE_SHIFT || (offset & (size - 1)))
		return NULL;
	return page_address(r->pages[offset >> PAGE_SHIFT]) +
	       offset_in_page(offset);
}

/* ---- source.c: what a WAIT wants of the sources in source.h ---- */

struct fw_source;

struct fw_link {
	struct list_head node; /* in ->source's list, under its lock */
	struct fw_source *source;
	struct fw_waiter *waiter;
	u32 how; /* FASTWAKE_CQ_* */
	bool fired;
	int cpu; /* where the event came */
};

int fw_attach_cq(struct fw_domain *d, struct fastwake_ioc_attach_cq *arg);
int fw_detach(struct fw_domain *d, u32 id);
void fw_detach_all(struct fw_domain *d);
int fw_link_get(struct fw_domain *d, struct fw_waiter *w,
		const struct fastwake_ioc_watch *arg);
void fw_links_put(struct fw_waiter *w);
int fw_links_arm(struct fw_waiter *w);
int fw_links_look(struct fw_waiter *w);
int fw_links_leave(struct fw_waiter *w, int result);

/* ---- pollset.c: a watch as scanners see it ---- */

/*
 * Every condition in one form, so that nobody has to ask which: it holds if the
 * masked word less BASE, modulo 2^64, is at most SPAN.
 *
 *	NE	base = operand + 1, span = 2^64 - 2	all but the operand
 *	EQ	base = operand, span = 0		only the operand
 *	GE	base = operand, span = 2^64 - 1 - operand	up to the largest
 *
 * A 4-byte word is looked at within the aligned 8 bytes around it, mask and operand
 * shifted.
 */
struct fw_watch {
	const u64 *word;
	u64 mask;
	u64 base;
	u64 span;
};

/*
 * The word is written by user space and devices: read once, and only compared.
 * When it holds, what was written before it is visible to whoever goes on: the
 * barrier is paid for then only.
 */
static __always_inline bool fw_holds_for(const struct fw_watch *watch, u64 v)
{
	if (likely((v & watch->mask) - watch->base > watch->span))
		return false;
	smp_acquire__after_ctrl_dep();
	return true;
}

static __always_inline bool fw_holds(const struct fw_watch *watch)
{
	return fw_holds_for(watch, READ_ONCE(*watch->word));
}

/*
 * What a scanner looks at, of each word: whether it is as it was last seen, which
 * takes four instructions whatever the condition.  While it is, the watch
 * does not hold.
 */
struct fw_probe {
	const u64 *word;
	u64 seen; /* the aligned 8 bytes */
};

/* Of a 4-byte word within the aligned 8 bytes around it, in bits. */
static inline u32 fw_word_shift(u64 offset)
{
	u32 shift = 8 * (offset & 4);

	return IS_ENABLED(CONFIG_CPU_BIG_ENDIAN) ? 32 - shift : shift;
}

struct fw_owner {
	struct fw_waiter *waiter;
	u32 index; /* of the watch, in its waiter */
};

/* What a watch was made of: the next WAIT often differs in the operand only. */
struct fw_recipe {
	u64 what; /* region, condition, size */
	u64 offset;
	u64 mask;
	u64 operands; /* base = ((operand & operands) << shift) + more */
	u32 shift;
	u32 more;
};

/* ---- waiter.c ---- */

/* Reasons to leave, beside an own word; bits of fw_waiter.event. */
#define FW_EVENT_WOKEN	1 /* WAKE, SWITCH */
#define FW_EVENT_REGION 2 /* some region of the domain is going away */
#define FW_EVENT_SOURCE 4 /* an event, or a source is going away */

/* Outcomes of a wait that are neither an index nor an errno. */
#define FW_PENDING (-4096) /* none yet */
#define FW_EXPIRED (-4097) /* the budget or the deadline is over */
#define FW_BLOCK   (-4098) /* the core is wanted by others: sleep */
#define FW_AGAIN   (-4099) /* begin anew: the core goes down, or spurious */
#define FW_WOKEN   (-4100) /* by SWITCH */

struct fw_waiter {
	/* Fixed from REGISTER on. */
	u32 id;
	u32 *where;
	struct task_struct *task; /* referenced until an RCU period after */

	/* The thread's own, inside WAIT. */
	u32 nr;
	u32 nr_entries; /* in a poll set: without a watch one that never holds */
	struct fastwake_ioc_watch asked[FASTWAKE_IOC_WATCHES_MAX];
	struct fw_watch watch[FASTWAKE_IOC_WATCHES_MAX];
	struct fw_region *region[FASTWAKE_IOC_WATCHES_MAX];
	struct fw_recipe recipe[FASTWAKE_IOC_WATCHES_MAX];
	u32 nr_recipes; /* good as long as nothing was unpinned */
	u64 unpins;	/* that there had been in the domain */
	u64 expires_ns; /* 0: not known yet */
	u64 later_ns;	/* until when those of ->later are in no hurry */

	/* Where it sleeps, or slept last: only the thread itself changes it. */
	struct fw_core *core;

	/* Under the lock of ->core. */
	struct fw_core *queued;		   /* ->core, or NULL: not in its set */
	u32 pos[FASTWAKE_IOC_WATCHES_MAX]; /* of the entries in ->core */
	u32 later; /* set of watches that are in no hurry */

	/* Written by whoever takes it out of the set; then it wakes the task. */
	int result;
	u64 woken_ns; /* for the tracepoint */

	/* Written by wakers. */
	atomic_t event;
	bool waiting; /* announced: inside WAIT */

	/* The thread's own; their watches are numbered after those of words. */
	u32 nr_links;
	int event_cpu; /* where one of the events came */
	bool astray;   /* the thread was elsewhere */
	struct fw_link link_to[FASTWAKE_IOC_WATCHES_MAX];

	struct rcu_head rcu;
};

/* When its time is over, or watches that were in no hurry begin to be. */
static __always_inline u64 fw_next_ns(const struct fw_waiter *w)
{
	return unlikely(w->later) ? min(w->expires_ns, w->later_ns)
				  : w->expires_ns;
}

/* Under RCU. */
static __always_inline struct fw_waiter *fw_waiter_find(struct fw_domain *d,
							u32 id)
{
	return fw_table_load(&d->waiters, id);
}

int fw_register(struct fw_domain *d, u32 *id);
int fw_unregister(struct fw_domain *d, u32 id);
void fw_unregister_gone(struct fw_domain *d);
void fw_unregister_all(struct fw_domain *d);
int fw_wake_waiter(struct fw_waiter *w, int event);
void fw_wake_all(struct fw_domain *d, int event);
long fw_wake(struct fw_domain *d, u32 id);
long fw_wake_set(struct fw_domain *d, const struct fastwake_ioc_wake_set *arg);

/* ---- wait.c ---- */

long fw_wait(struct fw_domain *d, void __user *arg, bool to_other);

/* ---- pollset.c ---- */

struct fw_core {
	raw_spinlock_t lock;
	bool online;	     /* may waiters block here? */
	bool backstop_armed; /* its timer runs, or is about to look */
	bool scanned;	     /* this core has dispatcher and backstop */
	bool elect;	     /* the dispatcher kept a waiter from spinning */
	bool dispatcher_asleep;
	int cpu;
	u32 nr;	       /* entries */
	u32 cursor;    /* where the next look begins */
	u32 looked;    /* words looked at since the timer was set */
	u32 last_look; /* words it took */
	u32 joins;     /* waiters that came since the clock was looked at */
	u32 nr_waiters;
	u64 next_expiry_ns;	 /* not later than that of any waiter */
	u64 next_pass_ns;	 /* nobody looks for such a one before, */
	u32 pass_at;		 /* and the next to look begins here */
	u64 clock_ns;		 /* when the timer was set, or later */
	u64 backstop_ns;	 /* its period now */
	struct fw_probe *probes; /* the entries: what a look needs */
	struct fw_owner *owners; /* and the rest */
	struct fastwake_core *stats;
	struct task_struct *dispatcher;
	struct hrtimer backstop;
};

DECLARE_PER_CPU(struct fw_core, fw_cores);

/*
 * Alone: nothing else wants this core.  Of the tasks that the scheduler has
 * counted since, need_resched() tells.
 */
static inline bool fw_alone(void)
{
	return single_task_running() && !need_resched();
}

int fw_pollset_init(void);
void fw_pollset_exit(void);
int fw_pollset_add(struct fw_core *core, struct fw_waiter *w);
void fw_pollset_leave(struct fw_waiter *w);
struct fw_waiter *fw_pollset_scan(struct fw_core *core, u32 *left, bool idle);
struct fw_waiter *fw_pollset_expire(struct fw_core *core, u64 now_ns);
int fw_pollset_replace(struct fw_core *core, struct fw_waiter *other,
		       struct fw_waiter *w, int result);
struct fw_waiter *fw_pollset_evict(struct fw_core *core);
struct fw_waiter *fw_pollset_elect(struct fw_core *core);

/* ---- dispatcher.c ---- */

int fw_dispatcher_start(struct fw_core *core);
void fw_dispatcher_stop(struct fw_core *core);

/* Barrier: README.md, "enqueue and dispatcher". */
static inline void fw_dispatcher_wake(struct fw_core *core)
{
	smp_mb();
	if (READ_ONCE(core->dispatcher_asleep))
		wake_up_process(core->dispatcher);
}

/* ---- backstop.c ---- */

void fw_backstop_init(struct fw_core *core);
void fw_backstop_arm(struct fw_core *core);
void fw_backstop_joined_slow(struct fw_core *core);
void fw_backstop_take_over_slow(struct fw_core *core);

/*
 * After so many joins the timer is about to fire if they follow one another
 * closely, and is put off by the next whose look at the set was short, or after two
 * more by anyone: so that nobody pays for both.
 */
#define FW_BACKSTOP_JOINS 6

/* A waiter has joined.  Under the lock, on the core. */
static __always_inline void fw_backstop_joined(struct fw_core *core)
{
	u32 joins = ++core->joins;

	if (likely(core->backstop_armed) &&
	    (joins < FW_BACKSTOP_JOINS ||
	     (core->last_look > core->nr / 2 && joins < FW_BACKSTOP_JOINS + 2)))
		return;
	fw_backstop_joined_slow(core);
}

/* The time, or a little more, without looking at the clock if that can be. */
static __always_inline u64 fw_backstop_clock(const struct fw_core *core)
{
	if (unlikely(!core->backstop_armed))
		return ktime_get_ns();
	return core->clock_ns + core->backstop_ns;
}

/* A scanner stops, on this core, and may leave waiters behind. */
static __always_inline void fw_backstop_take_over(struct fw_core *core)
{
	if (READ_ONCE(core->nr_waiters))
		fw_backstop_take_over_slow(core);
}

/* ---- hotplug.c ---- */

int fw_hotplug_init(void);
void fw_hotplug_exit(void);

/* ---- stats.c ---- */

int fw_stats_init(void);
void fw_stats_exit(void);
int fw_stats_mmap(struct vm_area_struct *vma);
struct fastwake_core *fw_stats_of(int cpu);

#define FW_CORE_STRIDE 256

/* One instruction on x86: an interrupt never falls in between. */
#define fw_count(core, counter) fw_count_in(&(core)->stats->counter)

#ifdef CONFIG_X86_64
static __always_inline void fw_count_in(__u64 *counter)
{
	asm volatile("incq %0" : "+m"(*counter));
}
#else
static __always_inline void fw_count_in(__u64 *counter)
{
	atomic64_inc((atomic64_t *)counter);
}
#endif

/* ---- test_event.c ---- */

int fw_test_event(struct fw_domain *d, struct fastwake_ioc_test_event *arg);
void fw_test_events_free(struct fw_domain *d);

#endif /* FW_H */
