// SPDX-License-Identifier: PostgreSQL
/*
 * channel.c - completion channels, and waits for an event of one:
 * ibv_get_cq_event(), and read() of the descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <rdma/ib_user_verbs.h>
#include <string.h>
#include <unistd.h>

#include "verbs.h"

/* Wake-ups with nothing to show for, before the kernel is asked. */
#define SPURIOUS_MAX 64

/* Waits that find an event in the file, in a row, of a program that waits by them. */
#define FOUND_MAX 8

/* ---- made and destroyed ---- */

FV_PUBLIC struct ibv_comp_channel *
ibv_create_comp_channel(struct ibv_context *verbs)
{
	struct ibv_comp_channel *channel =
		fv_real()->create_comp_channel(verbs);

	if (channel != NULL && fv_context_find(verbs) != NULL)
		(void)fv_channel_add(channel);
	return channel;
}

/*
 * It leaves the table before its descriptor is closed, and may be given to
 * somebody else; not if it has queues, for then the call fails.
 */
FV_PUBLIC int ibv_destroy_comp_channel(struct ibv_comp_channel *comp_channel)
{
	struct fv_channel *channel = fv_channel_find(comp_channel->fd);

	if (channel != NULL && channel->queues == NULL &&
	    comp_channel->refcnt == (channel->raiser.cq != NULL)) {
		fv_raiser_free(&channel->raiser);
		fv_epoll_forget(channel);
		fv_channel_remove(channel);
	}
	return fv_real()->destroy_comp_channel(comp_channel);
}

/* ---- one wait ---- */

/* What was got. */
struct fetch {
	struct ibv_cq *cq;
	void *cq_context;
	uint64_t start_ns;
};

/* No result that a wait has: begin anew. */
#define AGAIN 1

static void measured(struct fv_channel *channel, const struct fetch *fetch)
{
	uint64_t waited_ns;

	if (fetch->start_ns == 0)
		return;
	waited_ns = fastwake_now() - fetch->start_ns;
	fastwake_histogram_add(&fv_stats.wait_ns, waited_ns);
	fv_adapt(channel, waited_ns);
}

/* Under the lock. */
static int got(struct fv_channel *channel, struct fetch *fetch,
	       struct fv_queue *queue)
{
	fetch->cq = queue->cq;
	fetch->cq_context = queue->cq->cq_context;
	measured(channel, fetch);
	return 0;
}

/* A real event was read; under the lock. */
static int read_one(struct fv_channel *channel, struct fetch *fetch)
{
	struct fv_queue *queue = fv_queue_find(fetch->cq);

	if (queue == NULL || queue->channel != channel)
		return fv_account_other(channel, fetch->cq) ? 0 : AGAIN;
	if (!fv_account(queue))
		return AGAIN;
	fv_take_from(queue);
	return got(channel, fetch, queue);
}

/* A thread may be cancelled while it sleeps here. */
static void cancelled(void *argument)
{
	struct fv_channel *channel = argument;

	fv_lock(channel);
	channel->parked--;
	fv_unlock(channel);
}

static int fetch_parked(struct fv_channel *channel, struct fetch *fetch)
{
	int rc;

	pthread_cleanup_push(cancelled, channel);
	rc = fv_fetch(channel, &fetch->cq, &fetch->cq_context);
	pthread_cleanup_pop(0);
	return rc;
}

/* Under the lock. AGAIN: it has slept in vain; -EAGAIN: it cannot sleep there. */
static int sleep_in_module(struct fv_channel *channel, struct fetch *fetch)
{
	struct fv_queue *queue;
	int rc = fv_sleep(channel);

	if (rc == -EAGAIN)
		return rc;
	queue = fv_take(channel);
	if (queue != NULL)
		return got(channel, fetch, queue);
	if (rc != -EINTR)
		return AGAIN;
	errno = EINTR;
	return -1;
}

/* Under the lock, which it gives up while it sleeps. */
static int park(struct fv_channel *channel, struct fetch *fetch)
{
	int rc, saved;

	if (fv_arm_all(channel))
		return AGAIN;
	channel->parked++;
	fv_unlock(channel);
	rc = fetch_parked(channel, fetch);
	saved = errno;
	fv_lock(channel);
	channel->parked--;
	if (rc == 0)
		return read_one(channel, fetch);
	if (saved == EAGAIN)
		channel->nonblock = true;
	errno = saved;
	return rc;
}

static int look_once(struct fv_channel *channel, uint64_t budget_ns,
		     struct fv_set *set)
{
	int rc;

	fv_set_begin(set);
	set->restart = true;
	if (!fv_set_add(set, channel))
		return -ETIME;
	channel->waiting++;
	fv_unlock(channel);
	rc = fv_set_wait(set, budget_ns);
	fv_lock(channel);
	channel->waiting--;
	return rc;
}

/* Under the lock. AGAIN: there is nothing to be had from memory. */
static int look_in_memory(struct fv_channel *channel, struct fetch *fetch)
{
	uint64_t budget_ns = fv_budget();
	struct fv_queue *queue;
	struct fv_set set;
	unsigned int tries;
	int rc;

	if (!fv_may_wait(channel))
		return AGAIN;
	for (tries = 0; tries < SPURIOUS_MAX; tries++) {
		rc = look_once(channel, budget_ns, &set);
		queue = fv_take(channel);
		if (queue != NULL) {
			if (set.slept)
				fv_count(dispatched);
			else
				fv_count(spun);
			return got(channel, fetch, queue);
		}
		if (rc == -EINTR) {
			errno = EINTR;
			return -1;
		}
		if (rc != 0)
			break;
	}
	return AGAIN;
}

/*
 * Only who has not been told that there is an event, by a wait that we do not see,
 * waits for one here.  Whoever always finds one may be slow, or have been told: if it
 * was, the helper finds out (helper.c), once.
 */
static bool waits_here(struct fv_channel *channel)
{
	if (!fv_readable(channel->fd))
		return true;
	return ++channel->found == FOUND_MAX;
}

static void begins_to_wait(struct fv_channel *channel, struct fetch *fetch)
{
	if (FV_UNLIKELY(!channel->waits))
		channel->waits = waits_here(channel);
	fv_punctual(channel);
	channel->trusted = channel->waits;
	if (FV_UNLIKELY(channel->sleeper != FASTWAKE_WAITER_NONE))
		fv_bump(channel);
	if (fv_config.timed)
		fetch->start_ns = fastwake_now();
}

/* Until an event is got, or it sleeps where none is in vain.  Under the lock. */
static int sleep_for_event(struct fv_channel *channel, struct fetch *fetch)
{
	struct fv_queue *queue = fv_take(channel);
	bool in_module = !channel->nonblock;
	int rc;

	if (queue != NULL) {
		fv_count(spun);
		return got(channel, fetch, queue);
	}
	do {
		rc = in_module ? sleep_in_module(channel, fetch) : -EAGAIN;
		in_module = rc != -EAGAIN;
		if (in_module && rc != AGAIN) {
			fv_count(interrupted);
			return rc;
		}
		if (!in_module)
			rc = park(channel, fetch);
		if (rc == AGAIN)
			queue = fv_take(channel);
	} while (rc == AGAIN && queue == NULL);
	if (in_module)
		fv_count(interrupted);
	else
		fv_count(parked);
	return queue != NULL ? got(channel, fetch, queue) : rc;
}

/* 0, or -1 with errno. */
static int wait_for_event(struct fv_channel *channel, struct fetch *fetch)
{
	struct fv_queue *queue;
	int rc = AGAIN;

	fv_count(waits);
	fv_lock(channel);
	fw_store(&channel->fetched, true);
	queue = fv_take(channel);
	if (queue != NULL) {
		fv_count(immediate);
		rc = got(channel, fetch, queue);
	} else if (!channel->nonblock) {
		begins_to_wait(channel, fetch);
		rc = look_in_memory(channel, fetch);
	}
	if (rc == AGAIN)
		rc = sleep_for_event(channel, fetch);
	fv_unlock(channel);
	return rc;
}

FV_PUBLIC int ibv_get_cq_event(struct ibv_comp_channel *comp_channel,
			       struct ibv_cq **cq, void **cq_context)
{
	struct fv_channel *channel = fv_channel_find(comp_channel->fd);
	struct fetch fetch = { .cq = NULL };
	int rc;

	if (channel == NULL)
		return fv_real()->get_cq_event(comp_channel, cq, cq_context);
	rc = wait_for_event(channel, &fetch);
	if (rc == 0) {
		*cq = fetch.cq;
		*cq_context = fetch.cq_context;
	}
	return rc;
}

/* ---- read ---- */

static ssize_t read_event(struct fv_channel *channel, void *buffer)
{
	struct ib_uverbs_comp_event_desc event;
	struct fetch fetch = { .cq = NULL };

	if (wait_for_event(channel, &fetch) != 0)
		return -1;
	event.cq_handle = (uintptr_t)fetch.cq;
	memcpy(buffer, &event, sizeof(event));
	return sizeof(event);
}

FV_PUBLIC ssize_t read(int fd, void *buffer, size_t size)
{
	struct fv_channel *channel = fv_channel_find(fd);

	if (channel == NULL || fv_inside ||
	    size < sizeof(struct ib_uverbs_comp_event_desc))
		return fv_read(fd, buffer, size);
	return read_event(channel, buffer);
}

ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room);

FV_PUBLIC ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room)
{
	if (size > room)
		__builtin_trap();
	return read(fd, buffer, size);
}

/* ---- O_NONBLOCK ---- */

typedef int fcntl_function(int fd, int command, ...);

static int set_flags(fcntl_function *next, int fd, int command, void *argument)
{
	struct fv_channel *channel = fv_channel_find(fd);
	int rc = next(fd, command, argument);

	if (channel == NULL || command != F_SETFL || rc != 0)
		return rc;
	fv_lock(channel);
	channel->nonblock = ((uintptr_t)argument & O_NONBLOCK) != 0;
	fv_unlock(channel);
	return rc;
}

#define WRAP_FCNTL(name)                                                       \
	FV_PUBLIC int name(int fd, int command, ...)                           \
	{                                                                      \
		static fcntl_function *next;                                   \
		void *argument;                                                \
		va_list args;                                                  \
                                                                               \
		if (FV_UNLIKELY(fw_load(&next) == NULL))                       \
			fw_store(&next,                                        \
				 (fcntl_function *)(uintptr_t)fv_libc(#name)); \
		va_start(args, command);                                       \
		argument = va_arg(args, void *);                               \
		va_end(args);                                                  \
		return set_flags(next, fd, command, argument);                 \
	}

WRAP_FCNTL(fcntl)
WRAP_FCNTL(fcntl64)
