// SPDX-License-Identifier: PostgreSQL
/*
 * epoll.c - epoll sets with completion channels in them.
 *
 * A set is known from the first channel that is added to it on.  A synthetic event
 * is reported as long as it is there, with the data that the program gave.  A
 * channel added with EPOLLET or EPOLLONESHOT is left to the kernel from then on;
 * what it owes at that moment is reported once.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "verbs.h"

#define SETS_MAX     256
#define NSEC_PER_SEC 1000000000ull
#define NOT_OURS     (-2)

struct entry {
	struct fv_channel *channel;
	struct epoll_event event; /* as the program gave it */
	bool once;		  /* only what was owed */
};

struct set {
	int epfd;
	unsigned int n;
	struct entry *entries;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct set sets[SETS_MAX];
static unsigned int sets_used;

/* ---- what is in a set ---- */

static struct set *find_set(int epfd)
{
	unsigned int i;

	for (i = 0; i < sets_used; i++)
		if (sets[i].n != 0 && sets[i].epfd == epfd)
			return &sets[i];
	return NULL;
}

static struct set *new_set(int epfd)
{
	unsigned int i = 0;

	while (i < sets_used && sets[i].n != 0)
		i++;
	if (i == SETS_MAX)
		return NULL;
	if (i == sets_used)
		fw_store(&sets_used, sets_used + 1);
	sets[i].epfd = epfd;
	return &sets[i];
}

static void remove_from(struct set *set, const struct fv_channel *channel)
{
	unsigned int i, kept = 0;

	for (i = 0; i < set->n; i++)
		if (set->entries[i].channel != channel)
			set->entries[kept++] = set->entries[i];
	set->n = kept;
}

static bool add_to(struct set *set, struct fv_channel *channel,
		   const struct epoll_event *event, bool once)
{
	struct entry *more =
		realloc(set->entries, (set->n + 1) * sizeof(*set->entries));

	if (more == NULL)
		return false;
	set->entries = more;
	set->entries[set->n++] = (struct entry){ .channel = channel,
						 .event = *event,
						 .once = once };
	return true;
}

void fv_epoll_forget(const struct fv_channel *channel)
{
	unsigned int i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < sets_used; i++)
		remove_from(&sets[i], channel);
	pthread_mutex_unlock(&lock);
}

/* From now on the kernel makes its events.  True if it owes one of ours. */
static bool leave_to_kernel(struct fv_channel *channel)
{
	bool owes;

	fv_lock(channel);
	channel->always_stock = true;
	owes = fv_arm_all(channel);
	fv_bump(channel);
	fv_unlock(channel);
	return owes;
}

static void changed(int epfd, int op, struct fv_channel *channel,
		    const struct epoll_event *event)
{
	const uint32_t edge = EPOLLET | EPOLLONESHOT;
	struct set *set;
	bool once = false, keep = true;

	if (op != EPOLL_CTL_DEL && (event->events & edge) != 0)
		keep = once = leave_to_kernel(channel);
	pthread_mutex_lock(&lock);
	set = find_set(epfd);
	if (set != NULL)
		remove_from(set, channel);
	if (op != EPOLL_CTL_DEL && keep && (event->events & EPOLLIN) != 0) {
		set = set != NULL && set->n != 0 ? set : new_set(epfd);
		if (set == NULL || !add_to(set, channel, event, once))
			(void)leave_to_kernel(channel);
	}
	pthread_mutex_unlock(&lock);
}

FV_PUBLIC int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	static int (*next)(int, int, int, struct epoll_event *);
	struct fv_channel *channel;
	int rc;

	if (FV_UNLIKELY(fw_load(&next) == NULL))
		fw_store(&next, (int (*)(int, int, int, struct epoll_event *))(
					uintptr_t)fv_libc("epoll_ctl"));
	rc = next(epfd, op, fd, event);
	channel = fv_channel_find(fd);
	if (rc == 0 && channel != NULL)
		changed(epfd, op, channel, event);
	return rc;
}

/* ---- a new set may have an old one's number ---- */

static int fresh(int epfd)
{
	struct set *set;

	if (epfd < 0 || fw_load(&sets_used) == 0)
		return epfd;
	pthread_mutex_lock(&lock);
	set = find_set(epfd);
	if (set != NULL)
		set->n = 0;
	pthread_mutex_unlock(&lock);
	return epfd;
}

FV_PUBLIC int epoll_create(int size)
{
	static int (*next)(int);

	if (FV_UNLIKELY(fw_load(&next) == NULL))
		fw_store(&next,
			 (int (*)(int))(uintptr_t)fv_libc("epoll_create"));
	return fresh(next(size));
}

FV_PUBLIC int epoll_create1(int flags)
{
	static int (*next)(int);

	if (FV_UNLIKELY(fw_load(&next) == NULL))
		fw_store(&next,
			 (int (*)(int))(uintptr_t)fv_libc("epoll_create1"));
	return fresh(next(flags));
}

/* ---- waits ---- */

typedef int pwait_function(int epfd, struct epoll_event *events, int max,
			   int timeout, const sigset_t *mask);

struct epoll_call {
	struct fv_multi multi;
	int epfd;
	struct epoll_event *events;
	int max;
	const sigset_t *mask;
};

static pwait_function *real_pwait(void)
{
	static pwait_function *next;

	if (FV_UNLIKELY(fw_load(&next) == NULL))
		fw_store(&next,
			 (pwait_function *)(uintptr_t)fv_libc("epoll_pwait"));
	return next;
}

static int epoll_real(struct fv_multi *multi, bool now)
{
	struct epoll_call *call = (struct epoll_call *)multi;
	uint64_t ns = now ? 0 : fv_multi_left(multi);
	uint64_t ms = (ns + 999999) / 1000000;
	int timeout = ns == UINT64_MAX		 ? -1
		      : ms > (uint64_t)INT32_MAX ? INT32_MAX
						 : (int)ms;

	return real_pwait()(call->epfd, call->events, call->max, timeout,
			    call->mask);
}

static bool reported(const struct epoll_call *call, int n,
		     const struct entry *entry)
{
	int i;

	for (i = 0; i < n; i++)
		if (call->events[i].data.u64 == entry->event.data.u64 &&
		    (call->events[i].events & EPOLLIN) != 0)
			return true;
	return false;
}

static int epoll_add(struct fv_multi *multi, int n)
{
	struct epoll_call *call = (struct epoll_call *)multi;
	struct set *set;
	unsigned int i;

	pthread_mutex_lock(&lock);
	set = find_set(call->epfd);
	for (i = 0; set != NULL && i < set->n && n < call->max; i++) {
		struct entry *entry = &set->entries[i];

		if (!fv_multi_readable(multi, entry->channel) ||
		    reported(call, n, entry))
			continue;
		call->events[n++] =
			(struct epoll_event){ .events = EPOLLIN,
					      .data = entry->event.data };
		if (entry->once)
			entry->event.events = 0;
	}
	pthread_mutex_unlock(&lock);
	return n;
}

static bool epoll_scan(struct epoll_call *call)
{
	const struct set *set;
	unsigned int i;

	pthread_mutex_lock(&lock);
	set = find_set(call->epfd);
	for (i = 0; set != NULL && i < set->n; i++)
		if (set->entries[i].event.events != 0)
			fv_multi_add(&call->multi, set->entries[i].channel);
	pthread_mutex_unlock(&lock);
	return call->multi.n != 0;
}

/* Whatever else is in a set is not known: there may be. */
static int epoll_channels(struct epoll_call *call, uint64_t deadline_ns)
{
	unsigned int room = fv_multi_room();
	struct fv_channel *channels[room];
	bool readable[room];

	if (call->events == NULL || call->max <= 0)
		return NOT_OURS;
	call->multi.may_wait = call->mask == NULL;
	call->multi.others = true;
	call->multi.real = epoll_real;
	call->multi.add = epoll_add;
	call->multi.room = room;
	call->multi.channel = channels;
	call->multi.readable = readable;
	call->multi.deadline_ns = deadline_ns;
	return epoll_scan(call) ? fv_multi(&call->multi) : NOT_OURS;
}

static uint64_t deadline_of(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX
			      : fv_deadline_in((uint64_t)timeout_ms * 1000000);
}

FV_PUBLIC int epoll_pwait(int epfd, struct epoll_event *events, int max,
			  int timeout, const sigset_t *mask)
{
	struct epoll_call call;
	int rc = NOT_OURS;

	if (fw_load(&sets_used) != 0) {
		call = (struct epoll_call){
			.epfd = epfd, .events = events, .max = max, .mask = mask
		};
		rc = epoll_channels(&call, deadline_of(timeout));
	}
	if (rc != NOT_OURS)
		return rc;
	return real_pwait()(epfd, events, max, timeout, mask);
}

FV_PUBLIC int epoll_wait(int epfd, struct epoll_event *events, int max,
			 int timeout)
{
	return epoll_pwait(epfd, events, max, timeout, NULL);
}

FV_PUBLIC int epoll_pwait2(int epfd, struct epoll_event *events, int max,
			   const struct timespec *timeout, const sigset_t *mask)
{
	static int (*next)(int, struct epoll_event *, int,
			   const struct timespec *, const sigset_t *);
	struct epoll_call call;
	uint64_t ns = 0;
	int rc = NOT_OURS;

	if (FV_UNLIKELY(fw_load(&next) == NULL))
		*(void **)&next = fv_libc("epoll_pwait2");
	if (timeout != NULL)
		ns = (uint64_t)timeout->tv_sec * NSEC_PER_SEC +
		     (uint64_t)timeout->tv_nsec;
	if (fw_load(&sets_used) != 0) {
		call = (struct epoll_call){
			.epfd = epfd, .events = events, .max = max, .mask = mask
		};
		rc = epoll_channels(&call, timeout == NULL
						   ? UINT64_MAX
						   : fv_deadline_in(ns));
	}
	return rc != NOT_OURS ? rc : next(epfd, events, max, timeout, mask);
}
