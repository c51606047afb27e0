// SPDX-License-Identifier: PostgreSQL
/*
 * file.c - a channel's descriptor, with the real functions.
 */
#include <poll.h>
#include <unistd.h>

#include "verbs.h"

__thread bool fv_inside __attribute__((tls_model("initial-exec")));

ssize_t fv_read(int fd, void *buffer, size_t size)
{
	static ssize_t (*next)(int, void *, size_t);

	if (FV_UNLIKELY(fw_load(&next) == NULL))
		fw_store(&next, (ssize_t(*)(int, void *, size_t))(
					uintptr_t)fv_libc("read"));
	return next(fd, buffer, size);
}

bool fv_readable(int fd)
{
	static int (*next)(struct pollfd *, nfds_t, int);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (FV_UNLIKELY(fw_load(&next) == NULL))
		fw_store(&next, (int (*)(struct pollfd *, nfds_t, int))(
					uintptr_t)fv_libc("poll"));
	return next(&p, 1, 0) == 1 && (p.revents & POLLIN) != 0;
}

/* Threads may be cancelled in it. */
static void no_longer_inside(void *unused)
{
	(void)unused;
	fv_inside = false;
}

int fv_fetch(struct fv_channel *channel, struct ibv_cq **cq, void **cq_context)
{
	int rc;

	fv_inside = true;
	pthread_cleanup_push(no_longer_inside, NULL);
	rc = fv_real()->get_cq_event(channel->verbs, cq, cq_context);
	pthread_cleanup_pop(1);
	return rc;
}
