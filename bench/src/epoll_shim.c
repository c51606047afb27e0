// SPDX-License-Identifier: PostgreSQL
/*
 * epoll_shim.c - epoll by poll(2), to be preloaded ahead of librspreload, which
 * takes over poll() but not epoll: so PostgreSQL runs on rsockets.
 *
 * Level-triggered, one thread, as PostgreSQL uses it.  A set is a real epoll
 * descriptor that nothing is ever added to, so that it is closed and inherited
 * as one; what belongs to it is in a table here.
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define SETS  4096
#define ITEMS 64

struct item {
	int fd;
	uint32_t events;
	epoll_data_t data;
};

struct set {
	int n;
	struct item items[ITEMS];
};

static struct set *sets[SETS];

/* glibc's, or what the next library in the line puts in its place. */
static void *next_function(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	if (f == NULL)
		abort();
	return f;
}

__attribute__((visibility("default"))) int epoll_create1(int flags)
{
	static int (*real)(int flags);
	int fd;

	if (real == NULL)
		real = (int (*)(int))next_function("epoll_create1");
	fd = real(flags);
	if (fd < 0)
		return fd;
	if (fd >= SETS) {
		close(fd);
		errno = EMFILE;
		return -1;
	}
	free(sets[fd]);
	sets[fd] = calloc(1, sizeof(struct set));
	if (sets[fd] == NULL)
		abort();
	return fd;
}

static struct set *set_of(int epfd)
{
	if (epfd < 0 || epfd >= SETS || sets[epfd] == NULL) {
		errno = EBADF;
		return NULL;
	}
	return sets[epfd];
}

static struct item *find(struct set *set, int fd)
{
	int i;

	for (i = 0; i < set->n; i++)
		if (set->items[i].fd == fd)
			return &set->items[i];
	return NULL;
}

static int add(struct set *set, int fd, const struct epoll_event *event)
{
	if (set->n == ITEMS) {
		errno = ENOSPC;
		return -1;
	}
	set->items[set->n++] = (struct item){ fd, event->events, event->data };
	return 0;
}

__attribute__((visibility("default"))) int epoll_ctl(int epfd, int op, int fd,
						     struct epoll_event *event)
{
	struct set *set = set_of(epfd);
	struct item *item;

	if (set == NULL)
		return -1;
	item = find(set, fd);
	if ((item != NULL) == (op == EPOLL_CTL_ADD)) {
		errno = item != NULL ? EEXIST : ENOENT;
		return -1;
	}
	if (op == EPOLL_CTL_ADD)
		return add(set, fd, event);
	if (op == EPOLL_CTL_DEL)
		*item = set->items[--set->n];
	else
		*item = (struct item){ fd, event->events, event->data };
	return 0;
}

/* poll's bits are epoll's, as far as they go. */
static int collect(const struct set *set, const struct pollfd *p,
		   struct epoll_event *events, int max)
{
	int i, n = 0;

	for (i = 0; i < set->n && n < max; i++) {
		if (p[i].revents == 0)
			continue;
		events[n].events = (uint32_t)(unsigned short)p[i].revents;
		events[n++].data = set->items[i].data;
	}
	return n;
}

__attribute__((visibility("default"))) int
epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	struct set *set = set_of(epfd);
	struct pollfd p[ITEMS];
	int i, rc;

	if (set == NULL)
		return -1;
	for (i = 0; i < set->n; i++)
		p[i] = (struct pollfd){ .fd = set->items[i].fd,
					.events = (short)set->items[i].events };
	rc = poll(p, (nfds_t)set->n, timeout);
	return rc <= 0 ? rc : collect(set, p, events, max);
}

__attribute__((visibility("default"))) int close(int fd)
{
	static int (*real)(int fd);

	if (real == NULL)
		real = (int (*)(int))next_function("close");
	if (fd >= 0 && fd < SETS && sets[fd] != NULL) {
		free(sets[fd]);
		sets[fd] = NULL;
	}
	return real(fd);
}
