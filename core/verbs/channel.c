// SPDX-License-Identifier: PostgreSQL
/*
 * channel.c - completion channels, and waits for an event of one:
 * ibv_get_cq_event(), and read() of the descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <rdma/ib_user_verbs.h>
#include <string.h>
#include <unistd.h>

#include "verbs.h"

/* The longest that a device may take from a completion to its event. */
#define SOON_MS 2

/* Wake-ups with nothing to show for, before the kernel is asked. */
#define SPURIOUS_MAX 64

/* ---- made and destroyed ---- */

FV_PUBLIC struct ibv_comp_channel *
ibv_create_comp_channel(struct ibv_context *verbs)
{
	struct ibv_comp_channel *channel =
		fv_real()->create_comp_channel(verbs);

	if (channel != NULL && fv_context_find(verbs) != NULL)
		(void)fv_channel_add(channel->fd);
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
	    comp_channel->refcnt == 0) {
		fv_epoll_forget(channel);
		fv_channel_remove(channel);
	}
	return fv_real()->destroy_comp_channel(comp_channel);
}

/* ---- one wait ---- */

/* How the real event is fetched, and what was got. */
struct fetch {
	struct ibv_comp_channel *comp_channel; /* NULL: by read() */
	int fd;
	struct ibv_cq *cq;
	void *cq_context;
	uint64_t start_ns;
};

/* Set while the real function runs, which reads the descriptor itself. */
static __thread bool inside __attribute__((tls_model("initial-exec")));

static ssize_t real_read(int fd, void *buffer, size_t size)
{
	static ssize_t (*next)(int, void *, size_t);

	if (FV_UNLIKELY(fw_load(&next) == NULL))
		fw_store(&next, (ssize_t(*)(int, void *, size_t))(
					uintptr_t)fv_libc("read"));
	return next(fd, buffer, size);
}

static int fetch_by_read(struct fetch *fetch)
{
	struct ib_uverbs_comp_event_desc event;
	ssize_t n = real_read(fetch->fd, &event, sizeof(event));

	if (n != sizeof(event))
		return -1;
	fetch->cq = (struct ibv_cq *)(uintptr_t)event.cq_handle;
	return 0;
}

/* A thread may be cancelled while it sleeps here. */
static void cancelled(void *argument)
{
	struct fv_channel *channel = argument;

	inside = false;
	fv_lock(channel);
	channel->parked--;
	fv_unlock(channel);
}

static int fetch_real(struct fv_channel *channel, struct fetch *fetch)
{
	int rc;

	pthread_cleanup_push(cancelled, channel);
	inside = true;
	if (fetch->comp_channel != NULL)
		rc = fv_real()->get_cq_event(fetch->comp_channel, &fetch->cq,
					     &fetch->cq_context);
	else
		rc = fetch_by_read(fetch);
	inside = false;
	pthread_cleanup_pop(0);
	return rc;
}

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

/* Is there a real event, now or in a moment?  Without the lock. */
static bool comes_soon(int fd)
{
	static int (*next)(struct pollfd *, nfds_t, int);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (FV_UNLIKELY(fw_load(&next) == NULL))
		*(void **)&next = fv_libc("poll");
	return next(&p, 1, SOON_MS) == 1;
}

/*
 * What was kept back has to be armed before a thread sleeps, but not if its event
 * is about to be in the file: else one armed queue would make the others so,
 * and they it again.  Nobody can take the event away meanwhile without having
 * armed all the rest, for he finds this thread parked.  True: one has fired.
 */
static bool arm_before_sleep(struct fv_channel *channel)
{
	bool soon;

	if (channel->parked != 0 || channel->nonblock ||
	    fv_look(channel) != FV_REAL)
		return fv_arm_all(channel);
	channel->parked++;
	fv_unlock(channel);
	soon = comes_soon(channel->fd);
	fv_lock(channel);
	channel->parked--;
	if (soon && channel->parked == 0)
		return false;
	return fv_arm_all(channel);
}

/* Under the lock, which it gives up while it sleeps. */
static int park(struct fv_channel *channel, struct fetch *fetch)
{
	struct fv_queue *queue;
	int rc, saved;

	if (arm_before_sleep(channel) &&
	    fv_take(channel, &queue) == FV_SYNTHETIC)
		return got(channel, fetch, queue);
	fv_count(parked);
	channel->parked++;
	fv_unlock(channel);
	rc = fetch_real(channel, fetch);
	saved = errno;
	fv_lock(channel);
	channel->parked--;
	if (rc == 0) {
		fv_account(channel, fetch->cq);
		measured(channel, fetch);
	} else if (saved == EAGAIN) {
		channel->nonblock = true;
	}
	errno = saved;
	return rc;
}

static int look_once(struct fv_channel *channel, uint64_t budget_ns,
		     struct fv_set *set)
{
	int rc;

	*set = (struct fv_set){ .restart = true };
	if (!fv_set_add(set, channel))
		return -ETIME;
	channel->waiting++;
	fv_unlock(channel);
	rc = fv_set_wait(set, budget_ns);
	fv_lock(channel);
	channel->waiting--;
	return rc;
}

/* Under the lock. 1: there is nothing to be had from memory. */
static int look_in_memory(struct fv_channel *channel, struct fetch *fetch)
{
	uint64_t budget_ns = fv_budget();
	struct fv_queue *queue;
	struct fv_set set;
	unsigned int tries;
	enum fv_take found;
	int rc;

	for (tries = 0; tries < SPURIOUS_MAX; tries++) {
		rc = look_once(channel, budget_ns, &set);
		found = fv_take(channel, &queue);
		if (found == FV_SYNTHETIC) {
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
		if (rc != 0 || found == FV_REAL)
			break;
	}
	return 1;
}

/* 0, or -1 with errno. */
static int wait_for_event(struct fv_channel *channel, struct fetch *fetch)
{
	struct fv_queue *queue;
	enum fv_take found;
	int rc = 1;

	fv_count(waits);
	fv_lock(channel);
	channel->fetched = true;
	found = fv_take(channel, &queue);
	if (found == FV_SYNTHETIC) {
		fv_count(immediate);
		rc = got(channel, fetch, queue);
	} else if (found == FV_NOTHING && !channel->nonblock) {
		channel->trusted = true;
		if (fv_config.timed)
			fetch->start_ns = fastwake_now();
		rc = look_in_memory(channel, fetch);
	}
	if (rc > 0)
		rc = park(channel, fetch);
	fv_unlock(channel);
	return rc;
}

FV_PUBLIC int ibv_get_cq_event(struct ibv_comp_channel *comp_channel,
			       struct ibv_cq **cq, void **cq_context)
{
	struct fv_channel *channel = fv_channel_find(comp_channel->fd);
	struct fetch fetch = { .comp_channel = comp_channel };
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

static ssize_t read_event(struct fv_channel *channel, int fd, void *buffer)
{
	struct ib_uverbs_comp_event_desc event;
	struct fetch fetch = { .fd = fd };

	if (wait_for_event(channel, &fetch) != 0)
		return -1;
	event.cq_handle = (uintptr_t)fetch.cq;
	memcpy(buffer, &event, sizeof(event));
	return sizeof(event);
}

FV_PUBLIC ssize_t read(int fd, void *buffer, size_t size)
{
	struct fv_channel *channel = fv_channel_find(fd);

	if (channel == NULL || inside ||
	    size < sizeof(struct ib_uverbs_comp_event_desc))
		return real_read(fd, buffer, size);
	return read_event(channel, fd, buffer);
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
