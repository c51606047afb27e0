/* SPDX-License-Identifier: PostgreSQL */
/*
 * fastwake.h - wait on memory, and a message channel whose events can be
 * waited for that way.
 *
 * Waiting
 * -------
 * There is one primitive: sleep until one of a few words in memory satisfies a
 * condition, whoever writes it (another thread, another process, a NIC).
 *
 *	watch	a word, a condition on it, and where its writer rings
 *	waiter	the slot of one thread in a domain; what others wake
 *	domain	a table of waiters in memory shared by cooperating processes
 *
 * The contract, for waiters and for those who wake them:
 *
 *	waiter:  loop { if (condition) break; fastwake_wait(watches); }
 *	waker:   store the word; fastwake_wake() or fastwake_doorbell_ring()
 *
 * fastwake_wait() publishes the waiter, then checks the watches, then sleeps;
 * a waker stores, then checks whether a waiter is published.  Both sides place
 * a full barrier between their two steps, so one of them always sees the
 * other.  A wait may end without its condition being true (a spurious
 * wake-up): callers re-check, always.  Several stores may cause one wake-up.  A
 * store whose writer neither calls fastwake_wake() nor rings the watch's
 * doorbell is noticed while the waiter polls, and otherwise when the wait ends.
 *
 * Channel
 * -------
 * A channel carries messages both ways, in order, between two processes, over
 * RDMA (one host or two) or shared memory (one host).  It never blocks.
 *
 * Return values: 0 or a count, else -errno.  errno itself is never set or
 * read as a result.  The library never prints, never exits, starts no thread
 * and installs no signal handler.
 */
#ifndef FASTWAKE_H
#define FASTWAKE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ */
/* Watches and doorbells                                              */
/* ------------------------------------------------------------------ */

enum fastwake_condition {
	FASTWAKE_NE = 0,      /* word != operand */
	FASTWAKE_EQ = 1,      /* word == operand */
	FASTWAKE_MASK_NE = 2, /* (word & mask) != operand */
	FASTWAKE_GE64 = 3,    /* word >= operand, unsigned, size 8 only */
	FASTWAKE_CQ = 4, /* event of a completion queue: fastwake_cq_watch() */
};

/*
 * Added to a condition: whoever writes the word (a device) rings nowhere.  Only
 * the kernel module sees it change; when it cannot look, or looks no longer,
 * the wait ends with -ETIME.
 */
#define FASTWAKE_SILENT 0x100u

/*
 * Where a writer tells sleepers that a word has changed when no kernel scanner
 * does it.  Lives in shared memory; all-zero is its initial state.  Its
 * content is not trusted: whatever a peer writes here can cause spurious or
 * missing wake-ups for waits on this doorbell, and nothing else.
 */
struct fastwake_doorbell {
	uint32_t armed;	  /* number of sleepers that may be on ->seq */
	uint32_t seq;	  /* the futex; bumped by each ring that finds armed */
	uint64_t rung_ns; /* CLOCK_MONOTONIC of the last ring, for statistics */
};

struct fastwake_watch {
	const volatile void *word;	    /* naturally aligned */
	struct fastwake_doorbell *doorbell; /* NULL: the writer calls
					     * fastwake_wake() on the waiter */
	uint64_t operand;
	uint64_t mask;	    /* FASTWAKE_MASK_NE only */
	uint32_t size;	    /* of the word in bytes: 4 or 8; FASTWAKE_CQ: 0 */
	uint32_t condition; /* enum fastwake_condition, FASTWAKE_SILENT */
};

#define FASTWAKE_WATCHES_MAX 8

/*
 * Wake whoever sleeps on the doorbell.  To be called after the store that
 * changed the word.  Costs a barrier and a load when nobody sleeps.
 * Async-signal-safe.  Returns the number of sleepers woken, 0 if none slept.
 */
int fastwake_doorbell_ring(struct fastwake_doorbell *doorbell);

/* ------------------------------------------------------------------ */
/* Domains and waiters                                                */
/* ------------------------------------------------------------------ */

struct fastwake_domain;
struct fastwake_waiter;

/* Bytes of memory that a domain of so many waiters needs. */
size_t fastwake_domain_size(unsigned int waiters);

/*
 * Create a domain of WAITERS slots in MEM, memory of fastwake_domain_size()
 * bytes, 64-byte aligned, shared by all processes that will wait or wake; it
 * is formatted.  With MEM NULL the library maps memory that is inherited by
 * fork.  The handle is inherited by fork too.  -EINVAL, -ENOMEM.
 */
int fastwake_domain_create(struct fastwake_domain **domain, void *mem,
			   size_t size, unsigned int waiters);
/* Frees the handle, and the memory if the library mapped it. */
void fastwake_domain_destroy(struct fastwake_domain *domain);

/*
 * Let waits in DOMAIN be served by the kernel module, from now on and in
 * children forked after this; not while other threads use the domain.  Opens
 * /dev/fastwake (close-on-exec) and pins the domain's memory, charged to
 * RLIMIT_MEMLOCK.  A wait that the module cannot serve, or not for long enough,
 * ends as without it; semantics are the same.  Without this call no module is
 * used.  REASON (FASTWAKE_REASON_MAX bytes, may be NULL) says why not, with
 * remedy: -ENODEV (not loaded), -EACCES, -EPROTO (other ABI), -ENOSPC, -ENOMEM.
 */
int fastwake_domain_use_module(struct fastwake_domain *domain, char *reason);
/* 1 if the module serves it, else 0. */
int fastwake_domain_has_module(const struct fastwake_domain *domain);
/*
 * Let the module look at words in MEM itself, so that their writers need not
 * ring: the pages of MEM are pinned, for the calling process and for those it
 * forks while they share the mapping.  -ENODEV without the module, -ENOMEM
 * (RLIMIT_MEMLOCK), -EOPNOTSUPP (a file's memory), -ENOSPC, -EFAULT.
 */
int fastwake_domain_pin(struct fastwake_domain *domain, void *mem,
			size_t length);
/* To be called before MEM, as it was given to pin, is unmapped. */
void fastwake_domain_unpin(struct fastwake_domain *domain, const void *mem);

/*
 * A completion queue of a verbs context of this process, attached to a domain:
 * its interrupt ends waits directly.
 */
struct fastwake_cq;
struct ibv_cq;

/*
 * Attach CQ, which goes on to be the caller's.  What no wait takes of its events
 * still reaches its completion channel.  -ENODEV: DOMAIN has no module, or the
 * module does not know this (fastwake_ib is not loaded); -ENOENT: the queue is not
 * found; -EBUSY: it is attached; -EPERM, -ENOSPC, -ENOMEM.  REASON
 * (FASTWAKE_REASON_MAX bytes, may be NULL) says why, with remedy.
 */
int fastwake_cq_attach(struct fastwake_domain *domain, struct ibv_cq *cq,
		       struct fastwake_cq **attached, char *reason);
/*
 * To be called before the domain is destroyed, and not while another thread waits
 * for it.  The queue may be destroyed before or after.
 */
void fastwake_cq_detach(struct fastwake_cq *attached);

/*
 * 1 if fastwake_wait() itself asks for the event (ibv_req_notify_cq(3)), and looks
 * for completions that have not been polled; else the caller does so before each
 * wait, and polls once more in between.
 */
int fastwake_cq_arms(const struct fastwake_cq *attached);

/*
 * Fill in a watch that holds when an event of the queue comes.  With SOLICITED not
 * 0 one of a solicited completion only, where fastwake_wait() asks.
 */
void fastwake_cq_watch(struct fastwake_cq *attached, int solicited,
		       struct fastwake_watch *watch);

/*
 * What the module counts on one core, for all who use it, since it was loaded.
 */
struct fastwake_core_info {
	uint32_t core;	  /* number of the CPU */
	uint32_t waiters; /* that wait there now */
	uint64_t waits;
	uint64_t polls; /* looks at the words of all of the core's waiters */
	uint64_t hits;	/* waits ended by the waiter's own look at its words */
	uint64_t switches;    /* waits that gave it up */
	uint64_t backstops;   /* looks by the timer of a core that others use */
	uint64_t parked;      /* waits whose budget was used up */
	uint64_t events;      /* of completion queues that ended waits here */
	uint64_t events_here; /* of these, by an interrupt of this core */
	uint64_t moves; /* threads that have followed their interrupts here */
};

/*
 * Fill in at most MAX of the cores that are there, in order.  Returns how many
 * there are; -ENODEV: DOMAIN has no module; -ENOMEM.
 */
int fastwake_domain_cores(const struct fastwake_domain *domain,
			  struct fastwake_core_info *cores, unsigned int max);

/*
 * Bind slot SLOT to the calling process, and publish its pid for
 * fastwake_wake_pid().  -EBUSY if a live process other than the caller holds
 * the slot, -ENOSPC if the pid cannot be published (too many collisions: the
 * caller must use its ordinary wait).
 */
int fastwake_waiter_attach(struct fastwake_domain *domain, unsigned int slot,
			   struct fastwake_waiter **waiter);
/* After this no wake-up is directed to the slot any more. */
void fastwake_waiter_detach(struct fastwake_waiter *waiter);

/* What fastwake_wait() did, for the caller's statistics. */
struct fastwake_wait_result {
	uint32_t slept;	     /* 1 if it slept in the kernel, else it polled */
	uint32_t rung;	     /* 1 if a wake-up (not a signal, time) ended it */
	uint64_t waited_ns;  /* from entry to return */
	uint64_t latency_ns; /* from the ring that woke it to return, or 0 */
};

/*
 * Wait until a watch holds: first polling (adaptively, at most BUDGET_NS; not
 * at all where this process may run on one CPU only), then asleep.
 * With a watch of a completion queue it sleeps until the queue's event, a wake-up
 * or the deadline, and what it learns of words from then on is what they show when
 * it ends; no watch may have a doorbell then.
 *
 * DEADLINE_NS: absolute CLOCK_MONOTONIC, 0 for none.
 * RESULT: may be NULL.
 * Returns the index of a watch that holds; N if woken by fastwake_wake() with
 * none holding (re-check your condition); -ETIMEDOUT; -EINTR after a signal
 * handler ran while it slept (with doorbells: one without SA_RESTART only; a
 * handler that calls fastwake_wake() on its own waiter ends every wait);
 * -ETIME if a watch is FASTWAKE_SILENT and can be looked at no longer (arm what
 * tells of it, look again, sleep there); -ESTALE if a completion queue is gone;
 * -EINVAL for a malformed watch.
 * One thread at a time per waiter.  Not async-signal-safe.
 */
int fastwake_wait(struct fastwake_waiter *waiter,
		  const struct fastwake_watch *watches, unsigned int n,
		  uint64_t budget_ns, uint64_t deadline_ns,
		  struct fastwake_wait_result *result);

/*
 * Publish the waiter ahead of fastwake_wait(), for a condition that is not a
 * word in memory (a pending signal, a readable descriptor): a
 * fastwake_wake() from now on makes the next fastwake_wait() return at once.
 * Order: publish, check the condition, then fastwake_wait() or, to leave
 * without waiting, fastwake_waiter_withdraw().  Published twice is published.
 */
void fastwake_waiter_publish(struct fastwake_waiter *waiter);
void fastwake_waiter_withdraw(struct fastwake_waiter *waiter);
/*
 * The next fastwake_wait() is in no hurry until UNTIL_NS (CLOCK_MONOTONIC): if the
 * kernel module serves it, fastwake_wake() and fastwake_wake_pid() end it once its
 * core would be idle otherwise, or at that time, about.  For those who can do the
 * work of several wake-ups at once.  Watches, signals and the deadline end the wait
 * as ever.
 */
void fastwake_waiter_no_hurry(struct fastwake_waiter *waiter,
			      uint64_t until_ns);

/*
 * Wake a waiter after having stored what it waits for.  Returns 1 if it is
 * inside fastwake_wait() and will look again, 0 if it is not (it did not and
 * will not see this wake-up: use the ordinary notification), -EINVAL for a
 * slot out of range.  Async-signal-safe; keeps errno.
 */
int fastwake_wake(struct fastwake_domain *domain, unsigned int slot);
/* The same by pid; 0 also if no waiter of this pid is published. */
int fastwake_wake_pid(struct fastwake_domain *domain, pid_t pid);
/*
 * The same for N pids, with fewer system calls, and, with the kernel module, without
 * being displaced by each that is woken.  Those for whom fastwake_wake_pid() would
 * return 0 are moved to the front of PIDS; returns how many.
 */
unsigned int fastwake_wake_pids(struct fastwake_domain *domain, pid_t *pids,
				unsigned int n);

/* CLOCK_MONOTONIC in ns.  Async-signal-safe. */
uint64_t fastwake_now(void);

/* ------------------------------------------------------------------ */
/* Histogram: log-linear, fixed size, for shared memory               */
/* ------------------------------------------------------------------ */

#define FASTWAKE_HISTOGRAM_BUCKETS 496 /* 8 per power of two, to 2^63 */

/* Updated with relaxed atomics: any number of writers and readers. */
struct fastwake_histogram {
	uint64_t count;
	uint64_t max;
	uint64_t bucket[FASTWAKE_HISTOGRAM_BUCKETS];
};

void fastwake_histogram_add(struct fastwake_histogram *h, uint64_t ns);
/* Upper bound of the bucket below which the fraction Q (0..1) lies; 0 if empty. */
uint64_t fastwake_histogram_quantile(const struct fastwake_histogram *h,
				     double q);
/* Upper bound (inclusive) in ns of bucket I. */
uint64_t fastwake_histogram_bound(unsigned int i);
void fastwake_histogram_reset(struct fastwake_histogram *h);

/* ------------------------------------------------------------------ */
/* Channel                                                            */
/* ------------------------------------------------------------------ */

struct fastwake_listener;
struct fastwake_channel;

#define FASTWAKE_TRANSPORT_RDMA 1u
#define FASTWAKE_TRANSPORT_SHM	2u

#define FASTWAKE_RING_MIN     (64u * 1024)
#define FASTWAKE_RING_MAX     (16u * 1024 * 1024)
#define FASTWAKE_ENDPOINT_MAX 512 /* bytes of an endpoint text with its NUL */
#define FASTWAKE_REASON_MAX   256 /* bytes of a reason with its NUL */

struct fastwake_channel_options {
	size_t size;	     /* sizeof(struct fastwake_channel_options) */
	uint32_t transports; /* set of FASTWAKE_TRANSPORT_*: which to offer, or
			       * which of the offered ones to accept */
	uint32_t ring_size;  /* bytes of the ring this side receives into,
			       * a power of two in FASTWAKE_RING_MIN..MAX */
	uint32_t message_max; /* longest message received, bytes; longer: -EMSGSIZE
			       * ends the channel */
	uint32_t reserved;    /* 0 */
	const char *device;  /* RDMA device to use, NULL or "": any */
	const char *address; /* numeric address to listen on (RDMA), NULL or
			       * "": the first address of a usable device */
};

/*
 * Create a listener for one connection, with a one-time token.  Each transport
 * asked for that can be had here is offered; if none can, -ENODEV and REASON
 * (FASTWAKE_REASON_MAX bytes, may be NULL) says why, with remedy, for people.
 * It also says why one of several transports is not offered; else it is "".
 */
int fastwake_listen(struct fastwake_listener **listener,
		    const struct fastwake_channel_options *options,
		    char *reason);
/*
 * Text to hand to the peer over an authenticated connection: versions,
 * addresses, token.  It is a secret until used; do not log it.
 */
int fastwake_listener_endpoint(const struct fastwake_listener *listener,
			       char *text, size_t size);
/* Descriptor that is readable when fastwake_accept() may make progress. */
int fastwake_listener_fd(const struct fastwake_listener *listener);
/*
 * Accept the one connection that presents the token; others are refused, however
 * many there are: REASON then says so, also on success.
 * -EAGAIN: nothing yet, wait for the descriptor.  On success the channel is
 * independent of the listener.  Any other error: the listener is useless.
 */
int fastwake_accept(struct fastwake_listener *listener,
		    struct fastwake_channel **channel, char *reason);
void fastwake_listener_close(struct fastwake_listener *listener);

/*
 * Begin to connect to an endpoint text from the peer (checked, it is hostile).
 * Picks the first acceptable transport: rdma if this host has a device, else
 * shm if the peer is on this host.  Fails at once with -ENODEV (no transport in
 * common), -EPROTO (malformed, other version), -ENOMEM.
 */
int fastwake_connect(struct fastwake_channel **channel, const char *endpoint,
		     const struct fastwake_channel_options *options,
		     char *reason);
/*
 * Descriptors to poll (POLLIN) for progress of fastwake_connect_continue()
 * and, once armed, of the channel: at most FASTWAKE_FDS_MAX, count returned.
 * They stay the same for the channel's life once it is established.
 */
#define FASTWAKE_FDS_MAX 2
int fastwake_channel_fds(const struct fastwake_channel *channel,
			 int fds[FASTWAKE_FDS_MAX]);
/*
 * 0: established.  -EAGAIN: not yet.  Else failed; close the channel.  -ENOMEM
 * may be the memlock limit: REASON names it, the amount and the remedy.
 */
int fastwake_connect_continue(struct fastwake_channel *channel, char *reason);

/*
 * Look at what has happened: received messages, space returned, failure.
 * Returns a set of FASTWAKE_READABLE (fastwake_channel_recv() has a message or
 * an error to give) and FASTWAKE_WRITABLE (send would accept something), or
 * -errno once the channel is broken *and* everything received in good order
 * before has been taken: -EPIPE (peer closed), -ECONNRESET (peer or link
 * lost), -EPROTO (malformed, torn, replayed or late frame), -EMSGSIZE.
 * fastwake_channel_reason() says more.  No system call when nothing happened,
 * on providers that poll in user space.
 */
#define FASTWAKE_READABLE 1
#define FASTWAKE_WRITABLE 2
int fastwake_channel_poll(struct fastwake_channel *channel);
const char *fastwake_channel_reason(const struct fastwake_channel *channel);

/*
 * Send (part of) a message under stream number STREAM.  Returns how many of LEN
 * bytes were accepted, -EAGAIN if none; call again with the rest when
 * writable.  The message is complete for the peer when all of it was accepted.
 * A zero-length message is not allowed (-EINVAL).
 */
ssize_t fastwake_channel_send(struct fastwake_channel *channel, uint32_t stream,
			      const void *buf, size_t len);
/*
 * Take the next complete message.  *BUF is private memory of the channel,
 * aligned to 8, valid until the next call of this function or close.  Returns
 * its length, -EAGAIN if there is none, else as fastwake_channel_poll().
 */
ssize_t fastwake_channel_recv(struct fastwake_channel *channel,
			      uint32_t *stream, void **buf);

/* 1 if all that was sent has reached the peer's memory, 0 if not yet, -errno. */
int fastwake_channel_flushed(struct fastwake_channel *channel);

/*
 * Arm the descriptors: one becomes readable at the next event (message, or
 * space if the last send was refused, or failure, or completion of sends while
 * fastwake_channel_flushed() is 0).  Returns 0 when armed, 1 when
 * something is there already (do not sleep; call fastwake_channel_poll()),
 * -errno.  Arming lasts until fastwake_channel_poll() is called.  Spurious
 * readiness is possible.
 */
int fastwake_channel_arm(struct fastwake_channel *channel);

/*
 * Fill watches (with doorbells) that hold when fastwake_channel_poll() would
 * find something new, as of now.  Returns how many (<= 4), or -EOPNOTSUPP if
 * this transport, here, can only be waited for by its descriptors.  After
 * filling, call fastwake_channel_poll() once more before waiting.
 */
int fastwake_channel_watches(struct fastwake_channel *channel,
			     struct fastwake_watch watches[4]);

/*
 * Let the kernel module of DOMAIN look at the channel's words itself.  Then
 * fastwake_channel_watches() has watches also over rdma: one where the provider
 * keeps its completion queue in memory that we know how to read (rxe), one where
 * the module can attach it (fastwake_cq_attach()).  They may be waited for by the
 * waiters of DOMAIN, not together with doorbells of others; DOMAIN must outlive the
 * channel.
 * -ENODEV: no module (fastwake_domain_use_module()); -EOPNOTSUPP: not this
 * transport here; -EBUSY: done before; else as fastwake_domain_pin().
 */
int fastwake_channel_pin(struct fastwake_channel *channel,
			 struct fastwake_domain *domain);

/*
 * Sends nothing more; frees everything. The peer drains, then sees -EPIPE.
 * Over rdma it gives what is still under way up to 100 ms to arrive.
 */
void fastwake_channel_close(struct fastwake_channel *channel);

struct fastwake_channel_info {
	size_t size;	    /* in: sizeof(struct fastwake_channel_info) */
	uint32_t transport; /* FASTWAKE_TRANSPORT_* */
	uint32_t qp_num;    /* rdma, else 0 */
	char device[64];    /* rdma device name; "memfd" for shm */
	char local[64];	    /* numeric local address or "" */
	char peer[64];	    /* numeric peer address or "" */
	char state[16]; /* QP state: "RTS", "ERR", ...; shm: "OPEN", "CLOSED" */
	uint64_t tx_messages, tx_bytes; /* payload bytes */
	uint64_t rx_messages, rx_bytes;
	uint64_t ring_size;  /* bytes of the peer's ring we send into */
	uint64_t ring_used;  /* bytes of it in flight or not yet consumed */
	uint64_t full_waits; /* sends refused or cut short for want of space */
	uint64_t pinned;     /* bytes this side registered or mapped */
};
int fastwake_channel_query(struct fastwake_channel *channel,
			   struct fastwake_channel_info *info);

/* "0.2.0": the library's version. */
const char *fastwake_version(void);

#ifdef __cplusplus
}
#endif

#endif /* FASTWAKE_H */
