// SPDX-License-Identifier: PostgreSQL
/*
 * poll.c - poll(), ppoll(), select(), pselect() of completion channels.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>

#include "verbs.h"

#define NSEC_PER_SEC 1000000000ull

/* No result that these calls have. */
#define NOT_OURS (-2)

static uint64_t deadline_of(const struct timespec *timeout)
{
	if (timeout == NULL)
		return UINT64_MAX;
	if (timeout->tv_sec < 0 || (uint64_t)timeout->tv_sec > UINT32_MAX)
		return timeout->tv_sec < 0 ? 0 : UINT64_MAX;
	return fv_deadline_in((uint64_t)timeout->tv_sec * NSEC_PER_SEC +
			      (uint64_t)timeout->tv_nsec);
}

/* NULL: no end. */
static const struct timespec *timeout_of(const struct fv_multi *multi, bool now,
					 struct timespec *room)
{
	uint64_t ns = now ? 0 : fv_multi_left(multi);

	if (ns == UINT64_MAX)
		return NULL;
	room->tv_sec = (time_t)(ns / NSEC_PER_SEC);
	room->tv_nsec = (long)(ns % NSEC_PER_SEC);
	return room;
}

/* ---- poll ---- */

typedef int poll_function(struct pollfd *fds, nfds_t n, int timeout);
typedef int ppoll_function(struct pollfd *fds, nfds_t n,
			   const struct timespec *timeout,
			   const sigset_t *mask);

struct poll_call {
	struct fv_multi multi;
	struct pollfd *fds;
	nfds_t n;
	const sigset_t *mask;
};

static ppoll_function *real_ppoll(void)
{
	static ppoll_function *next;

	if (FV_UNLIKELY(fw_load(&next) == NULL))
		fw_store(&next, (ppoll_function *)(uintptr_t)fv_libc("ppoll"));
	return next;
}

static int poll_real(struct fv_multi *multi, bool now)
{
	struct poll_call *call = (struct poll_call *)multi;
	struct timespec room;

	return real_ppoll()(call->fds, call->n, timeout_of(multi, now, &room),
			    call->mask);
}

static int poll_add(struct fv_multi *multi, int n)
{
	struct poll_call *call = (struct poll_call *)multi;
	struct pollfd *p;
	short events;

	for (p = call->fds; p < call->fds + call->n; p++) {
		events = p->events & (POLLIN | POLLRDNORM);
		if (events == 0 || p->fd < 0 ||
		    !fv_multi_readable(multi, fv_channel_find(p->fd)))
			continue;
		if (p->revents == 0)
			n++;
		p->revents = (short)(p->revents | events);
	}
	return n;
}

/* False if there is nothing for us in it. */
static bool poll_scan(struct poll_call *call)
{
	struct fv_channel *channel;
	nfds_t i;

	for (i = 0; i < call->n; i++) {
		if (call->fds[i].fd < 0)
			continue;
		channel = fv_channel_find(call->fds[i].fd);
		if (channel == NULL ||
		    (call->fds[i].events & (POLLIN | POLLRDNORM)) == 0)
			call->multi.others = true;
		else
			fv_multi_add(&call->multi, channel);
	}
	return call->multi.n != 0;
}

/* NOT_OURS: there is no channel among them. */
static int poll_channels(struct poll_call *call, uint64_t deadline_ns)
{
	unsigned int room = fv_multi_room();
	struct fv_channel *channels[room];
	bool readable[room];

	call->multi.real = poll_real;
	call->multi.add = poll_add;
	call->multi.room = room;
	call->multi.channel = channels;
	call->multi.readable = readable;
	call->multi.deadline_ns = deadline_ns;
	return poll_scan(call) ? fv_multi(&call->multi) : NOT_OURS;
}

FV_PUBLIC int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	static poll_function *next;
	struct poll_call call;
	int rc;

	if (FV_UNLIKELY(fw_load(&next) == NULL))
		fw_store(&next, (poll_function *)(uintptr_t)fv_libc("poll"));
	if (fw_load(&fv_channels) == 0)
		return next(fds, n, timeout);
	call = (struct poll_call){ .multi = { .may_wait = true },
				   .fds = fds,
				   .n = n };
	rc = poll_channels(
		&call, timeout < 0
			       ? UINT64_MAX
			       : fv_deadline_in((uint64_t)timeout * 1000000));
	return rc != NOT_OURS ? rc : next(fds, n, timeout);
}

FV_PUBLIC int ppoll(struct pollfd *fds, nfds_t n,
		    const struct timespec *timeout, const sigset_t *mask)
{
	struct poll_call call;
	int rc = NOT_OURS;

	if (fw_load(&fv_channels) != 0) {
		call = (struct poll_call){ .multi = { .may_wait =
							      mask == NULL },
					   .fds = fds,
					   .n = n,
					   .mask = mask };
		rc = poll_channels(&call, deadline_of(timeout));
	}
	return rc != NOT_OURS ? rc : real_ppoll()(fds, n, timeout, mask);
}

/* What programs call that were built with _FORTIFY_SOURCE. */
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		const sigset_t *mask, size_t room);

FV_PUBLIC int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room)
{
	if (room / sizeof(*fds) < n)
		__builtin_trap();
	return poll(fds, n, timeout);
}

FV_PUBLIC int __ppoll_chk(struct pollfd *fds, nfds_t n,
			  const struct timespec *timeout, const sigset_t *mask,
			  size_t room)
{
	if (room / sizeof(*fds) < n)
		__builtin_trap();
	return ppoll(fds, n, timeout, mask);
}

/* ---- select ---- */

typedef int select_function(int n, fd_set *in, fd_set *out, fd_set *except,
			    struct timeval *timeout);
typedef int pselect_function(int n, fd_set *in, fd_set *out, fd_set *except,
			     const struct timespec *timeout,
			     const sigset_t *mask);

/* What was asked for, since the call overwrites it. */
struct select_call {
	struct fv_multi multi;
	int n;
	fd_set *in, *out, *except;
	fd_set ask_in, ask_out, ask_except;
	const sigset_t *mask;
};

static pselect_function *real_pselect(void)
{
	static pselect_function *next;

	if (FV_UNLIKELY(fw_load(&next) == NULL))
		fw_store(&next,
			 (pselect_function *)(uintptr_t)fv_libc("pselect"));
	return next;
}

/* The caller's sets may be no longer than N asks for. */
static void copy(fd_set *to, const fd_set *from, int n)
{
	const int bits = 8 * (int)sizeof(long);

	if (to != NULL && from != NULL)
		memcpy(to, from,
		       (size_t)((n + bits - 1) / bits) * sizeof(long));
}

static int select_real(struct fv_multi *multi, bool now)
{
	struct select_call *call = (struct select_call *)multi;
	struct timespec room;

	copy(call->in, &call->ask_in, call->n);
	copy(call->out, &call->ask_out, call->n);
	copy(call->except, &call->ask_except, call->n);
	return real_pselect()(call->n, call->in, call->out, call->except,
			      timeout_of(multi, now, &room), call->mask);
}

static int select_add(struct fv_multi *multi, int n)
{
	struct select_call *call = (struct select_call *)multi;
	int fd;

	for (fd = 0; fd < call->n; fd++) {
		if (!FD_ISSET(fd, &call->ask_in) || FD_ISSET(fd, call->in) ||
		    !fv_multi_readable(multi, fv_channel_find(fd)))
			continue;
		FD_SET(fd, call->in);
		n++;
	}
	return n;
}

static bool any_beside(const struct select_call *call, int fd)
{
	return (call->out != NULL && FD_ISSET(fd, &call->ask_out)) ||
	       (call->except != NULL && FD_ISSET(fd, &call->ask_except));
}

static bool select_scan(struct select_call *call)
{
	struct fv_channel *channel;
	int fd;

	copy(&call->ask_in, call->in, call->n);
	copy(&call->ask_out, call->out, call->n);
	copy(&call->ask_except, call->except, call->n);
	for (fd = 0; fd < call->n; fd++) {
		call->multi.others = call->multi.others || any_beside(call, fd);
		if (!FD_ISSET(fd, &call->ask_in))
			continue;
		channel = fv_channel_find(fd);
		if (channel == NULL)
			call->multi.others = true;
		else
			fv_multi_add(&call->multi, channel);
	}
	return call->multi.n != 0;
}

static int select_channels(struct select_call *call, uint64_t deadline_ns)
{
	unsigned int room = fv_multi_room();
	struct fv_channel *channels[room];
	bool readable[room];

	if (call->in == NULL || call->n < 0 || call->n > FD_SETSIZE)
		return NOT_OURS;
	call->multi.real = select_real;
	call->multi.add = select_add;
	call->multi.room = room;
	call->multi.channel = channels;
	call->multi.readable = readable;
	call->multi.deadline_ns = deadline_ns;
	return select_scan(call) ? fv_multi(&call->multi) : NOT_OURS;
}

/* As Linux does, the time not slept is left in *TIMEOUT. */
static void leave_rest(const struct fv_multi *multi, struct timeval *timeout)
{
	uint64_t ns = fv_multi_left(multi);

	timeout->tv_sec = (time_t)(ns / NSEC_PER_SEC);
	timeout->tv_usec = (suseconds_t)(ns % NSEC_PER_SEC / 1000);
}

FV_PUBLIC int select(int n, fd_set *in, fd_set *out, fd_set *except,
		     struct timeval *timeout)
{
	static select_function *next;
	struct select_call call;
	struct timespec ts;
	int rc;

	if (FV_UNLIKELY(fw_load(&next) == NULL))
		fw_store(&next,
			 (select_function *)(uintptr_t)fv_libc("select"));
	if (fw_load(&fv_channels) == 0 ||
	    (timeout != NULL && (timeout->tv_sec < 0 || timeout->tv_usec < 0)))
		return next(n, in, out, except, timeout);
	if (timeout != NULL)
		ts = (struct timespec){ .tv_sec = timeout->tv_sec,
					.tv_nsec = timeout->tv_usec * 1000 };
	call = (struct select_call){ .multi = { .may_wait = true },
				     .n = n,
				     .in = in,
				     .out = out,
				     .except = except };
	rc = select_channels(&call, deadline_of(timeout != NULL ? &ts : NULL));
	if (rc == NOT_OURS)
		return next(n, in, out, except, timeout);
	if (timeout != NULL)
		leave_rest(&call.multi, timeout);
	return rc;
}

FV_PUBLIC int pselect(int n, fd_set *in, fd_set *out, fd_set *except,
		      const struct timespec *timeout, const sigset_t *mask)
{
	struct select_call call;
	int rc = NOT_OURS;

	if (fw_load(&fv_channels) != 0) {
		call = (struct select_call){ .multi = { .may_wait =
								mask == NULL },
					     .n = n,
					     .in = in,
					     .out = out,
					     .except = except,
					     .mask = mask };
		rc = select_channels(&call, deadline_of(timeout));
	}
	if (rc != NOT_OURS)
		return rc;
	return real_pselect()(n, in, out, except, timeout, mask);
}
