// SPDX-License-Identifier: PostgreSQL
/*
 * capture.c - find a completion queue's memory: the provider maps it while it
 * creates or resizes the queue, in the thread that asked for it.
 *
 * The system call is made here, since mmap() may be called before anything can
 * be looked up, and from within what looks up.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "verbs.h"

struct capture {
	bool on;
	int fd;
	unsigned int n;
	struct fw_mapping mapping;
};

static __thread struct capture capture
	__attribute__((tls_model("initial-exec")));

void fv_capture_begin(int fd)
{
	capture = (struct capture){ .on = true, .fd = fd };
}

bool fv_capture_end(struct fw_mapping *mapping)
{
	capture.on = false;
	*mapping = capture.mapping;
	return capture.n == 1;
}

static void *map(void *at, size_t length, int prot, int flags, int fd,
		 off_t offset)
{
	long rc = syscall(SYS_mmap, at, length, prot, flags, fd, offset);

	if (FV_UNLIKELY(capture.on) && rc != -1 && fd == capture.fd) {
		capture.n++;
		capture.mapping = (struct fw_mapping){ .start = (void *)rc,
						       .length = length };
	}
	return (void *)rc;
}

FV_PUBLIC void *mmap(void *at, size_t length, int prot, int flags, int fd,
		     off_t offset)
{
	return map(at, length, prot, flags, fd, offset);
}

FV_PUBLIC void *mmap64(void *at, size_t length, int prot, int flags, int fd,
		       off_t offset)
{
	return map(at, length, prot, flags, fd, offset);
}
