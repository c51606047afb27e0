/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR PostgreSQL) */
/*
 * fastwake.h - user-space interface of the FastWake module, /dev/fastwake.
 */
#ifndef _UAPI_LINUX_FASTWAKE_H
#define _UAPI_LINUX_FASTWAKE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * DOC: Objects
 *
 * domain
 *	What open("/dev/fastwake", O_RDWR | O_CLOEXEC) makes.  Inherited by fork
 *	or passed as a descriptor.  Whoever holds the descriptor may wait for
 *	any region of the domain and wake any waiter of it, and no other.
 * region
 *	Memory pinned by PIN.  Words in it are named {region, offset}, never by
 *	address, so that processes with different mappings agree.
 * waiter
 *	The slot of one thread in a domain, bound to that thread by REGISTER.
 * completion queue
 *	One of an RDMA device, attached by ATTACH_CQ: its interrupt ends a WAIT.
 * watch
 *	A word in a region, a condition, an operand; or a completion queue.
 *
 * WAIT sleeps until a watch holds, whoever writes the word: no system call is
 * asked of the writer.  WAKE makes a waiter look at once, and SWITCH is WAKE of
 * another and WAIT in one call.
 *
 * The contract is that of every condition variable:
 *
 *	waiter:  loop { if (condition) break; WAIT(watches); }
 *	writer:  store the word; (optionally) WAKE(waiter)
 *
 * WAIT announces the waiter, then looks at its words, then waits.  WAKE has a
 * full barrier before it looks for the announcement.  So either WAKE finds the
 * waiter (and returns 1), or WAIT finds the word as it was stored before WAKE
 * (which returns 0: the waiter does not wait here, and looks at its words when it
 * does).  Before WAIT returns an error it looks at the words once more, after
 * having withdrawn the announcement.
 *
 * A WAIT may end with no watch holding any more (a spurious wake-up): callers
 * check their condition again, always.  Several stores may cause one wake-up.  A
 * word that changes and changes back may go unnoticed.
 */

/**
 * DOC: Format of the ioctls
 *
 * The argument is a pointer to a structure that starts with its size as the
 * caller knows it.  A longer one than the module knows is accepted if the rest
 * is zero; a shorter one than the first published is refused.  All flags and
 * reserved fields must be zero unless stated.  Fields named out_* are written by
 * the module.  Times are CLOCK_MONOTONIC in nanoseconds.
 *
 * Errors of every ioctl:
 *
 * ENOTTY	unknown ioctl number
 * EFAULT	the structure, or something it points to, cannot be accessed
 * EINVAL	size too small, or a field has a value that never makes sense
 * E2BIG	non-zero bytes beyond what the module knows
 * EOPNOTSUPP	a flag, a condition, or a reserved field set that the module
 *		does not know
 *
 * Errors are the negative return value of the system call (errno); successes
 * are 0 unless stated.
 */

/* Raised when something incompatible is made, which is not planned. */
#define FASTWAKE_ABI_VERSION 1

/* In place of the number of a waiter: any free one, or none. */
#define FASTWAKE_WAITER_NONE 0xffffffffu

#define FASTWAKE_IOC_TYPE 0xFB

#define FASTWAKE_IOC_QUERY	_IO(FASTWAKE_IOC_TYPE, 0x00)
#define FASTWAKE_IOC_REGISTER	_IO(FASTWAKE_IOC_TYPE, 0x01)
#define FASTWAKE_IOC_UNREGISTER _IO(FASTWAKE_IOC_TYPE, 0x02)
#define FASTWAKE_IOC_PIN	_IO(FASTWAKE_IOC_TYPE, 0x03)
#define FASTWAKE_IOC_UNPIN	_IO(FASTWAKE_IOC_TYPE, 0x04)
#define FASTWAKE_IOC_WAIT	_IO(FASTWAKE_IOC_TYPE, 0x05)
#define FASTWAKE_IOC_WAKE	_IO(FASTWAKE_IOC_TYPE, 0x06)
#define FASTWAKE_IOC_SWITCH	_IO(FASTWAKE_IOC_TYPE, 0x07)
#define FASTWAKE_IOC_ATTACH_CQ	_IO(FASTWAKE_IOC_TYPE, 0x08)
#define FASTWAKE_IOC_DETACH_CQ	_IO(FASTWAKE_IOC_TYPE, 0x09)
#define FASTWAKE_IOC_WAKE_SET	_IO(FASTWAKE_IOC_TYPE, 0x0a)
#define FASTWAKE_IOC_TEST_EVENT _IO(FASTWAKE_IOC_TYPE, 0x40)

/* Bits of fastwake_ioc_query.out_features. */
#define FASTWAKE_FEATURE_TEST_EVENT \
	(1ull << 0) /* parameter test_events is set */
#define FASTWAKE_FEATURE_DISPATCHER (1ull << 1) /* idle cores have a scanner */
#define FASTWAKE_FEATURE_BACKSTOP   (1ull << 2) /* busy cores have one */
#define FASTWAKE_FEATURE_CQ	    (1ull << 3) /* knows ATTACH_CQ, WAIT_SLEEP */
#define FASTWAKE_FEATURE_RESTART    (1ull << 4) /* knows FASTWAKE_WAIT_RESTART */
#define FASTWAKE_FEATURE_LATER	    (1ull << 5) /* knows FASTWAKE_COND_LATER_NE */
#define FASTWAKE_FEATURE_WAKE_SET   (1ull << 6) /* knows FASTWAKE_IOC_WAKE_SET */

/**
 * struct fastwake_ioc_query - FASTWAKE_IOC_QUERY: what the module is
 * @size: sizeof(struct fastwake_ioc_query)
 * @flags: must be 0
 * @out_abi: FASTWAKE_ABI_VERSION of the module
 * @out_cores: number of struct fastwake_core in the mapping of all cores; a
 *	core's number is that of the CPU
 * @out_features: set of FASTWAKE_FEATURE_*
 * @out_budget_max_ns: the longest budget of a WAIT; longer ones are cut
 * @out_backstop_ns: period at which a busy core's words are looked at, 0: never
 * @out_waiters_max: waiters of a domain; numbers are smaller than this
 * @out_watches_max: watches of a WAIT
 * @out_regions_max: regions of a domain
 * @out_core_stride: bytes from one struct fastwake_core to the next
 * @out_region_size_max: bytes of a region
 *
 * Needs nothing but the open device: the way to find out whether the module is
 * there and fits.
 */
struct fastwake_ioc_query {
	__u32 size;
	__u32 flags;
	__u32 out_abi;
	__u32 out_cores;
	__aligned_u64 out_features;
	__aligned_u64 out_budget_max_ns;
	__aligned_u64 out_backstop_ns;
	__u32 out_waiters_max;
	__u32 out_watches_max;
	__u32 out_regions_max;
	__u32 out_core_stride;
	__aligned_u64 out_region_size_max;
};

/**
 * struct fastwake_ioc_register - FASTWAKE_IOC_REGISTER: become a waiter
 * @size: sizeof(struct fastwake_ioc_register)
 * @flags: must be 0
 * @waiter: in: the number wanted, or FASTWAKE_WAITER_NONE for any free one; out:
 *	the number
 * @reserved: must be 0
 *
 * Binds the waiter to the calling thread; no other can WAIT as it.  It is given
 * back by UNREGISTER, when the thread closes a descriptor of the domain (exec
 * with O_CLOEXEC included), and at the latest when the thread has exited and
 * the number is asked for again.  A child of fork registers itself.
 *
 * EBUSY: the number is taken by a live thread (perhaps the caller).  ENOSPC: all
 * numbers are taken.  EINVAL: the number is not below out_waiters_max.  ENOMEM.
 */
struct fastwake_ioc_register {
	__u32 size;
	__u32 flags;
	__u32 waiter;
	__u32 reserved;
};

/**
 * struct fastwake_ioc_unregister - FASTWAKE_IOC_UNREGISTER: give a waiter back
 * @size: sizeof(struct fastwake_ioc_unregister)
 * @flags: must be 0
 * @waiter: number of a waiter of the calling thread
 * @reserved: must be 0
 *
 * ENOENT: no such waiter.  EPERM: it is another thread's.
 */
struct fastwake_ioc_unregister {
	__u32 size;
	__u32 flags;
	__u32 waiter;
	__u32 reserved;
};

/**
 * struct fastwake_ioc_pin - FASTWAKE_IOC_PIN: make memory watchable
 * @size: sizeof(struct fastwake_ioc_pin)
 * @flags: must be 0
 * @addr: start, a multiple of the page size
 * @length: bytes, a multiple of the page size, at most out_region_size_max
 * @out_region: number of the region
 * @reserved: must be 0
 *
 * Memory may be anonymous, shmem (shared memory of any kind, memfd), hugetlbfs,
 * or a mapping of an RDMA device (a completion queue in ordinary memory); it must
 * be writable.  The pages are charged to RLIMIT_MEMLOCK of the caller until
 * UNPIN or until the domain is gone.  A shared mapping serves all who share it.
 * A private one shows the caller's pages: a child of fork pins its own.
 *
 * EOPNOTSUPP: some of the memory is of another kind (a file, a device).
 * EFAULT: some of it is not mapped or not writable.  ENOMEM: RLIMIT_MEMLOCK, or
 * no memory.  ENOSPC: out_regions_max reached.
 */
struct fastwake_ioc_pin {
	__u32 size;
	__u32 flags;
	__aligned_u64 addr;
	__aligned_u64 length;
	__u32 out_region;
	__u32 reserved;
};

/**
 * struct fastwake_ioc_unpin - FASTWAKE_IOC_UNPIN: release a region
 * @size: sizeof(struct fastwake_ioc_unpin)
 * @flags: must be 0
 * @region: its number
 * @reserved: must be 0
 *
 * Any holder of the domain may do so.  A WAIT that watches the region ends with
 * ESTALE.  Returns when the pages are no longer pinned.
 *
 * ENOENT: no such region.  EINTR: killed; the pages are released all the same.
 */
struct fastwake_ioc_unpin {
	__u32 size;
	__u32 flags;
	__u32 region;
	__u32 reserved;
};

/* Conditions; those of enum fastwake_condition of the library. */
#define FASTWAKE_COND_NE       0 /* word != operand */
#define FASTWAKE_COND_EQ       1 /* word == operand */
#define FASTWAKE_COND_MASK_NE  2 /* (word & mask) != operand */
#define FASTWAKE_COND_GE64     3 /* word >= operand, unsigned, word_size 8 only */
#define FASTWAKE_COND_CQ       4 /* event of a completion queue */
#define FASTWAKE_COND_LATER_NE 5 /* word != operand, but there is no hurry */

/* In fastwake_ioc_watch.operand for FASTWAKE_COND_CQ. */
#define FASTWAKE_CQ_ARM	      1 /* ask for the event */
#define FASTWAKE_CQ_SOLICITED 2 /* only for that of a solicited completion */

/**
 * struct fastwake_ioc_watch - a word and a condition, or a completion queue
 * @region: number of the region, or of the completion queue
 * @condition: FASTWAKE_COND_*
 * @word_size: bytes of the word, 4 or 8; FASTWAKE_COND_CQ: 0
 * @offset: of the word from the start of the region, a multiple of @word_size;
 *	FASTWAKE_COND_CQ: 0
 * @operand: of a 4-byte word only the low half of it counts; FASTWAKE_COND_CQ: a
 *	set of FASTWAKE_CQ_*
 * @mask: for FASTWAKE_COND_MASK_NE; FASTWAKE_COND_LATER_NE: until when there is no
 *	hurry; else must be 0
 *
 * FASTWAKE_COND_LATER_NE is for those who had rather do the work of several stores
 * at once.  Until the time in @mask scanners end the wait for it only if the core
 * would be idle otherwise; from then on it is FASTWAKE_COND_NE, and a store that
 * came before is seen at the latest as if it came then.  WAIT's own looks, when it
 * begins and whenever something wakes it, make no difference, nor does WAKE.
 *
 * FASTWAKE_COND_CQ holds when the completion queue's event comes during the WAIT.
 * The event must have been asked for: by WAIT itself (FASTWAKE_CQ_ARM, if
 * ATTACH_CQ said that it can), else by the caller before.  With FASTWAKE_CQ_ARM it
 * also holds if there are completions already that have not been polled.
 *
 * An event that ends a WAIT does not reach the queue's completion channel; one
 * that comes while nobody is in WAIT for the queue does.  Of several WAITs for one
 * queue an event ends one.  A WAIT that ends otherwise leaves the event asked for.
 */
struct fastwake_ioc_watch {
	__u32 region;
	__u16 condition;
	__u16 word_size;
	__aligned_u64 offset;
	__aligned_u64 operand;
	__aligned_u64 mask;
};

#define FASTWAKE_IOC_WATCHES_MAX 8

/* In fastwake_ioc_wait.flags. */
#define FASTWAKE_WAIT_SLEEP   1
#define FASTWAKE_WAIT_RESTART 2
#define FASTWAKE_WAIT_CORE    4

/* In fastwake_ioc_wait.budget_ns with FASTWAKE_WAIT_SLEEP: no end. */
#define FASTWAKE_BUDGET_NONE (~0ull)

/**
 * struct fastwake_ioc_wait - FASTWAKE_IOC_WAIT and FASTWAKE_IOC_SWITCH
 * @size: sizeof(struct fastwake_ioc_wait)
 * @flags: set of FASTWAKE_WAIT_SLEEP, FASTWAKE_WAIT_RESTART, FASTWAKE_WAIT_CORE
 * @waiter: number of a waiter of the calling thread
 * @nr_watches: 0 to FASTWAKE_IOC_WATCHES_MAX; with 0 only WAKE, a signal or time
 *	ends the wait
 * @watches: pointer to an array of struct fastwake_ioc_watch: first those of
 *	words, then those of completion queues
 * @deadline_ns: absolute, CLOCK_MONOTONIC; 0 for none
 * @budget_ns: how long to wait here at most, from the entry on; cut to
 *	out_budget_max_ns; 0: look, do not wait
 * @wake: SWITCH: number of the waiter to wake, any but @waiter; WAIT: must be
 *	FASTWAKE_WAITER_NONE
 * @out_core: must be 0; with FASTWAKE_WAIT_CORE, if a completion queue's event was
 *	taken: 1 + the number of the core on which it came
 *
 * SWITCH first wakes the waiter @wake, whose word the caller has stored; if that
 * one is not in WAIT, it fails with ESRCH and does not wait (use the ordinary
 * notification for the other, then WAIT).
 *
 * FASTWAKE_WAIT_RESTART: a signal handler that was installed with SA_RESTART does
 * not end the wait, as with read(): the call begins anew, with a new budget.
 *
 * FASTWAKE_WAIT_SLEEP is for interrupts: words are looked at when the wait begins,
 * whenever something wakes it, and when it ends, but by no scanner meanwhile; it
 * costs nothing while it lasts, and so @budget_ns is not cut.
 *
 * Returns a non-negative value that FASTWAKE_WAIT_INDEX(), FASTWAKE_WAIT_SLEPT and
 * FASTWAKE_WAIT_CQS() take apart: the index of a watch that was seen to hold, or
 * @nr_watches if the waiter was woken by WAKE or SWITCH and none holds; and the
 * set of the watches (bit 0 for the first) that took an event of a completion
 * queue, each of which is told once.
 *
 * ETIME: the budget is used up, or cannot be had on this core ("park": arm the
 * ordinary notification, look again, sleep there).  ETIMEDOUT: the deadline has
 * come.  EINTR: a signal handler runs.  ESTALE: a watched region was unpinned, a
 * completion queue was detached or is gone.
 * ENOENT: no such waiter, region or completion queue.  EPERM: another thread's
 * waiter.  EINVAL: bad number of watches, word size, alignment, offset beyond the
 * region, mask without MASK_NE, GE64 of 4 bytes, a word after a completion queue,
 * the same completion queue twice, bad @wake.  EOPNOTSUPP: FASTWAKE_CQ_ARM of a
 * queue that WAIT cannot arm.  ESRCH: see SWITCH.
 */
struct fastwake_ioc_wait {
	__u32 size;
	__u32 flags;
	__u32 waiter;
	__u32 nr_watches;
	__aligned_u64 watches;
	__aligned_u64 deadline_ns;
	__aligned_u64 budget_ns;
	__u32 wake;
	__u32 out_core;
};

/* What WAIT and SWITCH return. */
#define FASTWAKE_WAIT_INDEX(ret) ((ret)&0xff)
#define FASTWAKE_WAIT_SLEPT	 0x100 /* the thread gave up its core meanwhile */
#define FASTWAKE_WAIT_CQS(ret)	 (((ret) >> 16) & 0xff)

/**
 * struct fastwake_ioc_wake - FASTWAKE_IOC_WAKE: make a waiter look
 * @size: sizeof(struct fastwake_ioc_wake)
 * @flags: must be 0
 * @waiter: its number
 * @reserved: must be 0
 *
 * To be called after the store of what the waiter waits for.  Returns 1 if the
 * waiter is in WAIT, which ends then; 0 if it is not: it has not seen this
 * wake-up, nor is it remembered.
 *
 * ENOENT: no such waiter.
 */
struct fastwake_ioc_wake {
	__u32 size;
	__u32 flags;
	__u32 waiter;
	__u32 reserved;
};

#define FASTWAKE_IOC_WAKE_MAX 32

/**
 * struct fastwake_ioc_wake_set - FASTWAKE_IOC_WAKE_SET: make several waiters look
 * @size: sizeof(struct fastwake_ioc_wake_set)
 * @flags: must be 0
 * @nr: how many, at most FASTWAKE_IOC_WAKE_MAX
 * @reserved: must be 0
 * @waiters: pointer to an array of their numbers, __u32 each
 *
 * As WAKE for each, in this order; but none of them takes the caller's core before
 * all are woken.  Numbers that are no waiter's are passed over: one may have gone.
 * Returns how many are in WAIT.
 *
 * EINVAL: bad @nr.
 */
struct fastwake_ioc_wake_set {
	__u32 size;
	__u32 flags;
	__u32 nr;
	__u32 reserved;
	__aligned_u64 waiters;
};

/* Bits of fastwake_ioc_attach_cq.out_flags. */
#define FASTWAKE_CQ_CAN_ARM 1 /* WAIT knows FASTWAKE_CQ_ARM for it */

/**
 * struct fastwake_ioc_attach_cq - FASTWAKE_IOC_ATTACH_CQ: wait for its interrupt
 * @size: sizeof(struct fastwake_ioc_attach_cq)
 * @flags: must be 0
 * @device: index of the RDMA device (ibv_get_device_index(), "rdma dev")
 * @cqn: number of the queue as the RDMA netlink shows it ("rdma resource show cq")
 * @cmd_fd: descriptor of the verbs context that made it (ibv_context.cmd_fd)
 * @handle: its handle there (ibv_cq.handle)
 * @out_cq: number by which a watch of this domain names it
 * @out_flags: set of FASTWAKE_CQ_CAN_ARM
 * @reserved: must be 0
 *
 * Whoever holds the verbs context owns its queues; that is checked, and @cqn tells
 * only where to look.  The queue's events go to WAITs of this domain, else to its
 * completion channel as before.  It may be destroyed while it is attached, and
 * its number is then to be given back by DETACH_CQ, or goes with the domain.  A
 * queue has one attachment.
 *
 * ENOPKG: module fastwake_ib is not loaded and cannot be.  ENODEV: no such device.
 * ENOENT: it has no such queue.  EBADF: @cmd_fd is not open.  EINVAL: it is not
 * that of a verbs context.  EPERM: the queue is not the one that @cmd_fd and
 * @handle name, or the kernel's own.  EBUSY: it is attached already.  ENOSPC: as
 * many queues are attached as the domain may have regions.  ENOMEM.
 */
struct fastwake_ioc_attach_cq {
	__u32 size;
	__u32 flags;
	__u32 device;
	__u32 cqn;
	__s32 cmd_fd;
	__u32 handle;
	__u32 out_cq;
	__u32 out_flags;
	__aligned_u64 reserved;
};

/**
 * struct fastwake_ioc_detach_cq - FASTWAKE_IOC_DETACH_CQ: let go of it
 * @size: sizeof(struct fastwake_ioc_detach_cq)
 * @flags: must be 0
 * @cq: its number in the domain
 * @reserved: must be 0
 *
 * Any holder of the domain may do so.  A WAIT for the queue ends with ESTALE; its
 * events go to its completion channel from now on.
 *
 * ENOENT: no such queue.
 */
struct fastwake_ioc_detach_cq {
	__u32 size;
	__u32 flags;
	__u32 cq;
	__u32 reserved;
};

/* Kinds of test events. */
#define FASTWAKE_EVENT_STORE   0 /* only store the value */
#define FASTWAKE_EVENT_WAKE    1 /* then WAKE @waiter */
#define FASTWAKE_EVENT_EVENTFD 2 /* then add 1 to the eventfd @eventfd */

#define FASTWAKE_EVENT_SLOTS 64

/**
 * struct fastwake_ioc_test_event - FASTWAKE_IOC_TEST_EVENT: an interrupt to order
 * @size: sizeof(struct fastwake_ioc_test_event)
 * @flags: must be 0
 * @slot: which of the domain's FASTWAKE_EVENT_SLOTS timers to use
 * @kind: FASTWAKE_EVENT_*
 * @delay_ns: from now, 1 to 10^9
 * @region: region of the two words
 * @waiter: FASTWAKE_EVENT_WAKE: whom to wake; else must be FASTWAKE_WAITER_NONE
 * @eventfd: FASTWAKE_EVENT_EVENTFD: descriptor of an eventfd; else must be -1
 * @reserved: must be 0
 * @offset: offset of an 8-byte word to store @value into
 * @value: what to store
 * @stamp_offset: offset of an 8-byte word that gets the time of the event,
 *	before @value is stored
 *
 * For measurements and tests: after the delay an interrupt on the core of the
 * caller stores the time and the value, as a device would by DMA, and then does
 * what @kind says.
 *
 * EPERM: without CAP_SYS_ADMIN, or the module's parameter test_events is off.
 * ENOENT: no such region or waiter.  EBUSY: the slot's timer has not fired yet.
 * EINVAL: bad slot, kind, delay, offset.  EBADF: @eventfd is not open, EINVAL: it
 * is not an eventfd.
 */
struct fastwake_ioc_test_event {
	__u32 size;
	__u32 flags;
	__u32 slot;
	__u32 kind;
	__aligned_u64 delay_ns;
	__u32 region;
	__u32 waiter;
	__s32 eventfd;
	__u32 reserved;
	__aligned_u64 offset;
	__aligned_u64 value;
	__aligned_u64 stamp_offset;
};

/**
 * DOC: Mappings
 *
 * Two read-only shared mappings of the descriptor (EPERM if asked for write or
 * exec), for statistics and to spare system calls:
 *
 * FASTWAKE_MMAP_CORES
 *	out_cores times struct fastwake_core, out_core_stride bytes apart.
 * FASTWAKE_MMAP_WAITERS
 *	One __u32 for each waiter of the domain: 0 if it is not in WAIT, else 1
 *	+ the number of the core whose scanner looks at its words, or
 *	FASTWAKE_UNSCANNED: it is in a WAIT with FASTWAKE_WAIT_SLEEP.
 *
 * A writer that has stored a word and then, after a full barrier, finds the
 * waiter's __u32 zero has nothing to do: the waiter will look.  If it finds core
 * c there, and after that fastwake_core.scanner of c is not zero, it need not
 * WAKE either: the word is looked at by the scanner that runs there now, or, if
 * that one hands the core over at this very moment, by the next to scan, at the
 * latest after out_backstop_ns.  Otherwise, and if it finds FASTWAKE_UNSCANNED,
 * WAKE.
 */
#define FASTWAKE_MMAP_CORES   0x00000000ull
#define FASTWAKE_MMAP_WAITERS 0x100000000ull

#define FASTWAKE_UNSCANNED 0xffffffffu

/* Values of fastwake_core.scanner. */
#define FASTWAKE_SCANNER_NONE	    0
#define FASTWAKE_SCANNER_WAITER	    1 /* a thread in WAIT, alone on the core */
#define FASTWAKE_SCANNER_DISPATCHER 2 /* the core's dispatcher thread */

/**
 * struct fastwake_core - what is published of a core; counters never go back
 * @scanner: FASTWAKE_SCANNER_*
 * @waiters: waiters that block there now
 * @watches: their watches
 * @reserved: 0
 * @waits: WAITs and SWITCHes begun
 * @immediate: of these, ended by the first look
 * @spun: ended by an own event while spinning: no switch
 * @slept: waits that gave up the core, once or more
 * @parks: ended by ETIME
 * @timeouts: ended by ETIMEDOUT
 * @signals: ended by a signal
 * @polls: looks at the whole poll set by a waiter or the dispatcher
 * @handoffs: peers woken by a waiter that looked
 * @dispatches: waiters woken by the dispatcher
 * @dispatcher_runs: times the dispatcher began to scan
 * @backstops: firings of the backstop timer
 * @backstop_wakes: waiters woken by it
 * @wakes: waiters woken by WAKE
 * @switches: waiters woken by SWITCH
 * @full: waits parked because the poll set was full or the core is going down
 * @expired: waiters whose time a scanner found to be over
 * @events: events of completion queues taken by waits
 * @events_here: of these, by an interrupt on the core where the thread had slept
 * @moves: threads that waited for an event here next, after one by an interrupt of
 *	this core had found them on another
 */
struct fastwake_core {
	__u32 scanner;
	__u32 waiters;
	__u32 watches;
	__u32 reserved[13];
	__aligned_u64 waits;
	__aligned_u64 immediate;
	__aligned_u64 spun;
	__aligned_u64 slept;
	__aligned_u64 parks;
	__aligned_u64 timeouts;
	__aligned_u64 signals;
	__aligned_u64 polls;
	__aligned_u64 handoffs;
	__aligned_u64 dispatches;
	__aligned_u64 dispatcher_runs;
	__aligned_u64 backstops;
	__aligned_u64 backstop_wakes;
	__aligned_u64 wakes;
	__aligned_u64 switches;
	__aligned_u64 full;
	__aligned_u64 expired;
	__aligned_u64 events;
	__aligned_u64 events_here;
	__aligned_u64 moves;
};

#endif /* _UAPI_LINUX_FASTWAKE_H */
