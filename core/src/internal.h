/* SPDX-License-Identifier: PostgreSQL */
/*
 * internal.h - what the files of the wait part share.
 *
 * Shared memory is accessed by the helpers below only.  It may belong to a
 * peer that has crashed or lies: a word is read once into a local and checked.
 */
#ifndef FASTWAKE_INTERNAL_H
#define FASTWAKE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "affinity.h"
#include "fastwake.h"

_Static_assert(sizeof(long) == 8, "the futex calls assume a 64-bit time_t");

#define FW_CACHE_LINE 64

#define fw_load(p)	       __atomic_load_n((p), __ATOMIC_RELAXED)
#define fw_load_acquire(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define fw_store(p, v)	       __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define fw_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/* Orders every access before it against every access after it. */
static inline void fw_full_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* The same directly after an atomic read-modify-write, where x86 has it free. */
static inline void fw_full_barrier_after_rmw(void)
{
#if defined(__x86_64__)
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
#else
	fw_full_barrier();
#endif
}

static inline void fw_cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

/* A piece of this process's memory. */
struct fw_mapping {
	void *start;
	size_t length;
};

/* Returns -errno on failure, keeps errno. Async-signal-safe. */
long fw_syscall(long number, long a, long b, long c, long d, long e, long f);

/* ------------------------------------------------------------------ */
/* futex.c                                                            */
/* ------------------------------------------------------------------ */

struct fw_futex {
	uint32_t *word;
	uint32_t expected;
};

#define FW_FUTEXES_MAX (FASTWAKE_WATCHES_MAX + 1)

/*
 * Sleep while every word has its expected value.  0 or -EAGAIN: look again;
 * -ETIMEDOUT; -EINTR.  DEADLINE_NS is absolute, 0 for none.
 */
int fw_futex_wait(const struct fw_futex *futexes, unsigned int n,
		  uint64_t deadline_ns);
/* Wake at most MAX sleepers, returns how many.  Keeps errno. */
int fw_futex_wake(uint32_t *word, int max);

/* Set once the kernel has refused futex_waitv; tests set it themselves. */
extern bool fw_futex_waitv_missing;

/* ------------------------------------------------------------------ */
/* domain.c: memory of a domain                                       */
/* ------------------------------------------------------------------ */

/*
 * State and holder of a slot are one word, so that a waker who looks for a pid
 * sees both as of one moment: (pid << 32) | state, 0 for a free slot.
 */
enum fw_state {
	FW_IDLE = 0,	  /* not inside fastwake_wait() */
	FW_POLLING = 1,	  /* inside, watches ->seq without a futex call */
	FW_SLEEPING = 2,  /* inside, may be on the futex ->seq */
	FW_IN_MODULE = 3, /* inside, may be in the module's WAIT */
};

struct fw_slot {
	/* Written by the holder. */
	uint64_t owner;	      /* pid and state */
	uint64_t attached_ns; /* CLOCK_BOOTTIME, tells a reused pid apart */
	uint64_t later_ns;    /* FW_IN_MODULE: until then WAKE is not needed */
	uint64_t holder_pad[5];
	/* Written by wakers. */
	uint32_t seq; /* the futex; bumped by each wake of a slot not idle */
	uint32_t waker_pad0;
	uint64_t rung_ns; /* CLOCK_MONOTONIC of the last wake */
	uint64_t waker_pad[6];
};

_Static_assert(sizeof(struct fw_slot) == 2 * FW_CACHE_LINE, "slot size");
_Static_assert(offsetof(struct fw_slot, owner) == 0, "holder's line");
_Static_assert(offsetof(struct fw_slot, seq) == FW_CACHE_LINE, "wakers' line");
_Static_assert(sizeof(struct fastwake_doorbell) == 16, "public layout");
_Static_assert(offsetof(struct fastwake_doorbell, seq) == 4, "public layout");
_Static_assert(offsetof(struct fastwake_doorbell, rung_ns) == 8,
	       "public layout");

/* One cache line of the pid table: see pidtable.c. */
#define FW_BUCKET_ENTRIES 8

struct fw_bucket {
	uint64_t entry[FW_BUCKET_ENTRIES];
};

_Static_assert(sizeof(struct fw_bucket) == FW_CACHE_LINE, "bucket size");

/* The handle, private to the process that created it and its children. */
struct fastwake_domain {
	struct fw_slot *slots;
	struct fw_bucket *buckets;
	unsigned int waiters;
	unsigned int bucket_bits;
	void *mapped; /* NULL if the memory is the caller's */
	size_t mapped_size;
	struct fw_module *module; /* NULL: waits need none */
};

static inline uint64_t fw_owner(pid_t pid, enum fw_state state)
{
	return ((uint64_t)(uint32_t)pid << 32) | (uint64_t)state;
}

static inline pid_t fw_owner_pid(uint64_t owner)
{
	return (pid_t)(owner >> 32);
}

static inline enum fw_state fw_owner_state(uint64_t owner)
{
	return (enum fw_state)(owner & 3);
}

static inline uint32_t fw_condition(const struct fastwake_watch *watch)
{
	return watch->condition & ~FASTWAKE_SILENT;
}

/* ------------------------------------------------------------------ */
/* waiter.c, pidtable.c, holder.c, budget.c                           */
/* ------------------------------------------------------------------ */

/* How long the next wait polls: see budget.c. */
struct fw_budget {
	uint64_t poll_ns;
	uint64_t cpus_checked_ns; /* 0: not yet */
	bool one_cpu;
};

enum fw_module_state {
	FW_MODULE_NEW,	      /* not yet asked */
	FW_MODULE_REGISTERED, /* the thread may wait in the module */
	FW_MODULE_REFUSED,    /* it may not: by futex, then */
};

/* Private to one thread of one process. */
struct fastwake_waiter {
	struct fastwake_domain *domain;
	struct fw_slot *slot;
	pid_t pid;
	unsigned int index;
	uint32_t seq; /* of the slot, from before it was published */
	bool published;
	uint64_t later_ns; /* of the next wait: fastwake_waiter_no_hurry() */
	enum fw_module_state module_state;
	struct fw_budget budget;	/* of polling */
	struct fw_budget module_budget; /* of waiting in the module */
	struct fw_affinity affinity;	/* to its interrupts */
};

/* Slots whose threads wait in the module, to be woken by one call of it. */
#define FW_WAKES_MAX 32
struct fw_wakes {
	uint32_t n;
	uint32_t slot[FW_WAKES_MAX];
};

/* WAKES: where to note it if the module has to be called; NULL: call at once. */
int fw_wake_slot(const struct fastwake_domain *domain, unsigned int slot,
		 pid_t pid, struct fw_wakes *wakes);

int fw_pid_publish(struct fastwake_domain *domain, pid_t pid,
		   unsigned int slot);
void fw_pid_withdraw(struct fastwake_domain *domain, pid_t pid,
		     unsigned int slot);

/* True if process PID is gone, or is a later one than SINCE_NS. */
bool fw_holder_dead(pid_t pid, uint64_t since_ns);
uint64_t fw_boottime(void);

/* What experience says; fw_budget_now() adds that one CPU is not for polling. */
uint64_t fw_budget_learned(const struct fw_budget *budget, uint64_t cap_ns);
uint64_t fw_budget_now(struct fw_budget *budget, uint64_t cap_ns,
		       uint64_t now_ns);
void fw_budget_adapt(struct fw_budget *budget, uint64_t cap_ns,
		     uint64_t waited_ns, bool event);

#endif /* FASTWAKE_INTERNAL_H */
