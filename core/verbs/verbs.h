/* SPDX-License-Identifier: PostgreSQL */
/*
 * verbs.h - what the files of libfastwake-verbs.so share.
 *
 * The library is preloaded into programs that wait for completions by event
 * channel.  It keeps a request for notification (ibv_req_notify_cq()) to itself
 * as long as it looks at the completion queue's word in memory, and hands out
 * the event that the kernel would have made: a synthetic one.  The request
 * goes to the kernel before the program sleeps where nobody looks.
 *
 * Of a queue:
 *
 *	requested	the program has asked for an event, and has not had it
 *	fired		requested, and a completion has come since
 *	armed		requested, and the kernel knows: if it has fired, a real
 *			event is in the channel's file, or about to be
 *	blind		the kernel knows of a request that memory does not tell of
 *	pending		events of earlier requests that the program has not fetched
 *
 * Memory decides which events there are, and the kernel's only wake whoever sleeps:
 * event.c.  Not so of channels that are left to the kernel (fv_filtered()).
 *
 * Locking: each channel has a lock, for itself and its queues.  Their memory is
 * read under it only, since a resize or a destroy unmaps it.  The registry's
 * lock is taken before it, and is for creating and destroying.  Nobody holds two
 * channels' locks (but fork.c), and nobody sleeps with one.
 *
 * Channels and queues live in tables that are never freed.
 */
#ifndef FASTWAKE_VERBS_H
#define FASTWAKE_VERBS_H

#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../kmod/uapi/fastwake.h"
#include "internal.h"

#define FV_PUBLIC      __attribute__((visibility("default")))
#define FV_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- config.c ---- */

enum fv_mode {
	FV_OFF,
	FV_INTERRUPT, /* the kernel's events */
	FV_ADAPTIVE,  /* dispatch while events are frequent */
	FV_DISPATCH,  /* look at memory first, always */
};

struct fv_config {
	enum fv_mode mode;
	uint64_t poll_ns;
	const char *stats; /* where they go at the end, or NULL */
	bool timed;	   /* waits are measured */
};

extern struct fv_config fv_config;
extern const char *const fv_mode_names[];

/* To FASTWAKE_LOG, if there is one; keeps errno. */
__attribute__((format(printf, 1, 2))) void fv_log(const char *format, ...);

/* ---- real.c: what is underneath ---- */

struct fv_real {
	struct ibv_context *(*open_device)(struct ibv_device *device);
	struct ibv_context *(*import_device)(int cmd_fd);
	int (*close_device)(struct ibv_context *context);
	struct ibv_comp_channel *(*create_comp_channel)(
		struct ibv_context *context);
	int (*destroy_comp_channel)(struct ibv_comp_channel *channel);
	struct ibv_cq *(*create_cq)(struct ibv_context *context, int cqe,
				    void *cq_context,
				    struct ibv_comp_channel *channel,
				    int comp_vector);
	int (*resize_cq)(struct ibv_cq *cq, int cqe);
	int (*destroy_cq)(struct ibv_cq *cq);
	int (*get_cq_event)(struct ibv_comp_channel *channel,
			    struct ibv_cq **cq, void **cq_context);
	void (*ack_cq_events)(struct ibv_cq *cq, unsigned int n);
	struct ibv_pd *(*alloc_pd)(struct ibv_context *context);
	int (*dealloc_pd)(struct ibv_pd *pd);
	struct ibv_qp *(*create_qp)(struct ibv_pd *pd,
				    struct ibv_qp_init_attr *attr);
	int (*modify_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);
	int (*destroy_qp)(struct ibv_qp *qp);
	int (*get_device_index)(struct ibv_device *device); /* or NULL */
};

/* Of libibverbs, which is loaded when this is called. */
const struct fv_real *fv_real(void);
/* Of libc. */
void *fv_libc(const char *name);

/* ---- registry.c ---- */

#define FV_NO_REGION   UINT32_MAX
#define FV_WATCHES_MAX FASTWAKE_IOC_WATCHES_MAX

struct fv_context {
	struct ibv_context *verbs; /* NULL: free */
	int (*req_notify_cq)(struct ibv_cq *cq, int solicited_only);
	struct ibv_cq_ex *(*create_cq_ex)(struct ibv_context *context,
					  struct ibv_cq_init_attr_ex *attr);
	int (*modify_cq)(struct ibv_cq *cq, struct ibv_modify_cq_attr *attr);
};

/* Where a queue shows its completions: word.c. */
struct fv_word {
	const volatile uint32_t *producer; /* NULL: nowhere */
	char *entries;
	uint32_t mask;
	uint32_t shift;
	uint32_t region; /* of the module, or FV_NO_REGION */
	uint32_t offset; /* in it */
};

enum fv_blind {
	FV_SEES,
	FV_UNSURE,    /* whether a completion has come since the request */
	FV_SOLICITED, /* asked for solicited completions */
};

struct fv_queue {
	struct ibv_cq *cq; /* NULL: free */
	const struct fv_context *context;
	struct fv_channel *channel;
	struct fv_queue *next; /* of the channel */
	struct fv_word word;
	uint32_t source; /* of the module: its interrupt; or FV_NO_REGION */

	bool leaving; /* being destroyed: not the channel's any more */
	bool requested;
	bool armed;
	enum fv_blind blind;
	uint32_t seen;	   /* the word when the event was requested */
	uint32_t deferral; /* counts them, for the helper */
	uint32_t noticed;  /* the deferral that the helper saw at last */
	uint32_t pending;
	uint64_t fetched; /* by the program, and not acknowledged */
};

/* What raise.c needs, if it was needed. */
struct fv_raiser {
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
};

struct fv_channel {
	pthread_mutex_t lock;
	pthread_cond_t acknowledged;
	int fd; /* -1: free */
	struct ibv_comp_channel *verbs;
	struct fv_queue *queues;
	uint32_t *bell; /* bumped to make waiters look at the queues anew */

	unsigned int stock;  /* queues whose memory is not known */
	unsigned int blind;  /* queues that are */
	unsigned int strays; /* real events in the file that nobody is to see */
	unsigned int misses; /* times that they were not there */
	struct fv_raiser raiser;
	unsigned int waiting; /* threads that look at the queues' words */
	unsigned int parked;  /* threads that sleep until a real event */

	/* See interrupt.c. */
	unsigned int unattached; /* queues that are not attached */
	unsigned int refused;
	unsigned int apart;
	uint32_t sleeper; /* the module's waiter, or FASTWAKE_WAITER_NONE */

	unsigned int found; /* waits for which an event was in the file */
	bool fetched;	    /* its program has fetched events where we see it */
	bool waits;	    /* it has waited for some where we see it */
	bool trusted;	    /* it will do so again */
	bool away;	    /* but not soon after a request */
	uint8_t turns;	    /* requests in a row that say otherwise */
	uint64_t asked_ns;  /* away: when it last asked, or 0 */
	bool nonblock;	    /* O_NONBLOCK */
	bool always_stock;  /* in an edge-triggered epoll set, or after fork */
	bool sparse;	    /* events are so rare that looking does not pay */
	uint8_t streak;	    /* waits in a row that say otherwise */
};

extern unsigned int fv_channels; /* in use: 0 means there is nothing to do */
extern uint32_t fv_bells[];	 /* all channels' bells: one region */
#define FV_BELLS_SIZE	4096
#define FV_CHANNELS_MAX (FV_BELLS_SIZE / sizeof(uint32_t))

struct fv_context *fv_context_add(struct ibv_context *verbs);
struct fv_context *fv_context_find(const struct ibv_context *verbs);
void fv_context_remove(struct fv_context *context);

struct fv_channel *fv_channel_add(struct ibv_comp_channel *verbs);
void fv_channel_remove(struct fv_channel *channel);
/* The managed channel whose descriptor this is, or NULL. */
struct fv_channel *fv_channel_find(int fd);
/* Number I in the table, or NULL; for those who look at all. */
struct fv_channel *fv_channel_number(unsigned int i);

struct fv_queue *fv_queue_add(struct ibv_cq *cq,
			      const struct fv_context *context,
			      struct fv_channel *channel);
struct fv_queue *fv_queue_find(const struct ibv_cq *cq);
/* So that it is not found, and found again. */
void fv_queue_hide(struct fv_queue *queue);
bool fv_queue_show(struct fv_queue *queue);
/* Hidden before; its slot may be used again. */
void fv_queue_free(struct fv_queue *queue);

void fv_registry_lock(void);
void fv_registry_unlock(void);
void fv_registry_forget(void);

static inline void fv_lock(struct fv_channel *channel)
{
	pthread_mutex_lock(&channel->lock);
}

static inline void fv_unlock(struct fv_channel *channel)
{
	pthread_mutex_unlock(&channel->lock);
}

/* ---- capture.c: what a provider maps ---- */

void fv_capture_begin(int fd);
/* The one mapping of it since; false if there was none, or several. */
bool fv_capture_end(struct fw_mapping *mapping);

/* ---- word.c ---- */

void fv_word_open(struct fv_word *word, const struct fw_mapping *mapping,
		  int entries);
void fv_word_close(struct fv_word *word);
/* The word as it is now; whatever comes later fires. */
bool fv_word_snapshot(const struct fv_word *word, uint32_t *seen);
bool fv_word_moved(const struct fv_word *word, uint32_t seen);

static inline bool fv_fired(const struct fv_queue *queue)
{
	return queue->requested && fv_word_moved(&queue->word, queue->seen);
}

/* ---- notify.c: requests ---- */

int fv_req_notify_cq(struct ibv_cq *cq, int solicited_only);
/* Tell the kernel of what was kept from it: 0 or an errno.  Under the channel's
 * lock. */
int fv_arm(struct fv_queue *queue);
/* All of a channel; true if an event is due. */
bool fv_arm_all(struct fv_channel *channel);
/* The event of a request that has fired is owed; a new request may stand. */
void fv_settle(struct fv_queue *queue);
/* A request of the channel was kept back too long. */
void fv_late(struct fv_channel *channel);
/* A wait begins. */
void fv_punctual(struct fv_channel *channel);
void fv_bump(struct fv_channel *channel);

/* ---- event.c ---- */

/* All under the channel's lock. */

/* Does memory decide which events this channel has? */
static inline bool fv_filtered(const struct fv_channel *channel)
{
	return channel->waits && !channel->always_stock && channel->stock == 0;
}

void fv_set_blind(struct fv_queue *queue, enum fv_blind blind);
/* Has it an event that the program may have? */
bool fv_due(const struct fv_queue *queue);
/* Has one of the channel's? */
bool fv_look(const struct fv_channel *channel);
/* The next queue whose turn it is, its event taken; or NULL. */
struct fv_queue *fv_take(struct fv_channel *channel);
/* This one's. */
void fv_take_from(struct fv_queue *queue);
/* The kernel has, or will have, an event that nobody is to see. */
void fv_stray(struct fv_channel *channel);
/* The kernel's event of this queue was had without the file. */
void fv_taken(struct fv_queue *queue);
/*
 * A real event of this queue was read, and is acknowledged here.  True if it has an
 * event that is due.
 */
bool fv_account(struct fv_queue *queue);
/* Of one that is not the channel's: true if the program may have it, and is to
 * acknowledge it. */
bool fv_account_other(struct fv_channel *channel, struct ibv_cq *cq);
/* Real events that are in the file: fv_account() for each.  True if there were. */
bool fv_collect(struct fv_channel *channel);

/* ---- file.c: the channel's descriptor ---- */

/* This thread is in a function of libibverbs, which reads the descriptor itself. */
extern __thread bool fv_inside;

ssize_t fv_read(int fd, void *buffer, size_t size);
bool fv_readable(int fd);
/* As ibv_get_cq_event(), the real one. */
int fv_fetch(struct fv_channel *channel, struct ibv_cq **cq, void **cq_context);

/* ---- wait.c ---- */

struct fv_set {
	unsigned int n;
	struct fv_channel *channel[FV_WATCHES_MAX];
	unsigned int watches;
	struct fastwake_ioc_watch watch[FV_WATCHES_MAX];
	bool in_module;
	bool restart; /* a handler with SA_RESTART does not end it */
	bool slept;   /* found out: the thread gave up its processor */
};

/* Its arrays are not worth clearing for each wait. */
static inline void fv_set_begin(struct fv_set *set)
{
	set->n = set->watches = 0;
	set->in_module = set->restart = set->slept = false;
}

/* May waits on this channel look at memory?  Under its lock. */
bool fv_may_wait(const struct fv_channel *channel);
/* Put the channel's words into the set; false if they are not to be waited
 * for.  Under its lock. */
bool fv_set_add(struct fv_set *set, struct fv_channel *channel);
/* The same, whether they may or not. */
bool fv_set_words(struct fv_set *set, struct fv_channel *channel);
/* Without any lock.  0: look again; -ETIME: no longer; -EINTR: a handler ran. */
int fv_set_wait(struct fv_set *set, uint64_t budget_ns);
/* How long to look. */
uint64_t fv_budget(void);
/* A wait took so long. */
void fv_adapt(struct fv_channel *channel, uint64_t waited_ns);

/* ---- interrupt.c ---- */

void fv_attach(struct fv_queue *queue);
void fv_detach(struct fv_queue *queue);
/* May a thread sleep in the module until an interrupt?  Under the lock. */
bool fv_may_sleep(const struct fv_channel *channel);
/*
 * Do so, if it may: 0: look again; -EINTR: a handler ran; -EAGAIN: it may not.
 * Under the lock, which is given up meanwhile.
 */
int fv_sleep(struct fv_channel *channel);

/* ---- module.c ---- */

bool fv_module(void);
/* The region, or FV_NO_REGION; *OFFSET is where MEMORY is in it. */
uint32_t fv_module_pin(const void *memory, size_t length, uint32_t *offset);
void fv_module_unpin(uint32_t region);
/* The region that the bells are in, from *OFFSET on. */
uint32_t fv_module_bells(uint32_t *offset);
bool fv_module_ready(void);
int fv_module_wait(const struct fv_set *set, uint64_t budget_ns);
void fv_module_forget(void);
bool fv_module_interrupts(void);
/* The queue's number in the module, or FV_NO_REGION. */
uint32_t fv_module_attach(uint32_t device, uint32_t cqn, int cmd_fd,
			  uint32_t handle);
void fv_module_detach(uint32_t source);
/* Until an interrupt, or somebody wakes it; what FASTWAKE_IOC_WAIT returns. */
long fv_module_sleep(const struct fv_set *set);
uint32_t fv_module_self(void);
void fv_module_wake(uint32_t waiter);

/* ---- raise.c ---- */

/* Make an event that nobody is to see, but which wakes.  Under the lock. */
bool fv_raise(struct fv_channel *channel);
void fv_raiser_free(struct fv_raiser *raiser);

/* ---- helper.c ---- */

/* A request has been kept back. */
void fv_helper_note(void);
void fv_helper_forget(void);

/* ---- stats.c ---- */

struct fv_stats {
	bool used;	      /* the program has opened a device */
	uint64_t waits;	      /* that the program made */
	uint64_t immediate;   /* of these: the event was there */
	uint64_t spun;	      /* seen in memory, without sleep */
	uint64_t dispatched;  /* seen in memory, asleep */
	uint64_t polled;      /* by poll() and the like, seen in memory */
	uint64_t interrupted; /* by an interrupt, in the module */
	uint64_t parked;      /* the kernel's event */
	uint64_t synthetic;   /* events */
	uint64_t real;
	uint64_t extra;	   /* real ones of what was served before: not given */
	uint64_t deferred; /* requests that were kept back */
	uint64_t armed;	   /* requests that the kernel was told of */
	uint64_t late;	   /* of these: by the helper */
	uint64_t raised;   /* events made by the helper */
	uint64_t surplus;  /* acknowledgements of nothing */
	struct fastwake_histogram wait_ns;
};

extern struct fv_stats fv_stats;

#define fv_count(counter) \
	((void)__atomic_fetch_add(&fv_stats.counter, 1, __ATOMIC_RELAXED))

void fv_stats_forget(void);

/* ---- multi.c: several channels, and other descriptors beside them ---- */

struct fv_multi {
	unsigned int n, room;
	struct fv_channel **channel;
	bool *readable; /* it has a synthetic event */
	bool others;	/* there are descriptors that we do not know */
	bool may_wait;
	/*
	 * The real call, with at most the time until the deadline, or none; and
	 * what it says if those channels are readable as well.
	 */
	int (*real)(struct fv_multi *multi, bool now);
	int (*add)(struct fv_multi *multi, int n);
	uint64_t deadline_ns; /* 0: at once; UINT64_MAX: none */
};

/* How many channels there are at most, more or less. */
static inline unsigned int fv_multi_room(void)
{
	return fw_load(&fv_channels) + 16;
}

void fv_multi_add(struct fv_multi *multi, struct fv_channel *channel);
bool fv_multi_readable(const struct fv_multi *multi,
		       const struct fv_channel *channel);
int fv_multi(struct fv_multi *multi);
/* What is left until the deadline. */
uint64_t fv_multi_left(const struct fv_multi *multi);
uint64_t fv_deadline_in(uint64_t ns);

/* ---- epoll.c ---- */

void fv_epoll_forget(const struct fv_channel *channel);

/* ---- fork.c ---- */

void fv_fork_init(void);

#endif
