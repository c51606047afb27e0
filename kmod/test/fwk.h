/* SPDX-License-Identifier: PostgreSQL */
/*
 * fwk.h - the module's ioctls as functions returning -errno, for its tests.
 */
#ifndef FWK_H
#define FWK_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../uapi/fastwake.h"

#define FWK_DEVICE "/dev/fastwake"
#define FWK_PAGE   4096u
#define FWK_MS	   1000000ull
#define FWK_SECOND 1000000000ull

static inline uint64_t fwk_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * FWK_SECOND + (uint64_t)t.tv_nsec;
}

static inline int fwk_ioctl(int fd, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

static inline int fwk_open(void)
{
	int fd = open(FWK_DEVICE, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static inline int fwk_query(int fd, struct fastwake_ioc_query *q)
{
	memset(q, 0, sizeof(*q));
	q->size = sizeof(*q);
	return fwk_ioctl(fd, FASTWAKE_IOC_QUERY, q);
}

/* Returns the number, or -errno. */
static inline int fwk_register(int fd, uint32_t wanted)
{
	struct fastwake_ioc_register arg = { .size = sizeof(arg),
					     .waiter = wanted };
	int ret = fwk_ioctl(fd, FASTWAKE_IOC_REGISTER, &arg);

	return ret < 0 ? ret : (int)arg.waiter;
}

static inline int fwk_unregister(int fd, uint32_t waiter)
{
	struct fastwake_ioc_unregister arg = { .size = sizeof(arg),
					       .waiter = waiter };

	return fwk_ioctl(fd, FASTWAKE_IOC_UNREGISTER, &arg);
}

/* Returns the number, or -errno. */
static inline int fwk_pin(int fd, void *addr, uint64_t length)
{
	struct fastwake_ioc_pin arg = { .size = sizeof(arg),
					.addr = (uintptr_t)addr,
					.length = length };
	int ret = fwk_ioctl(fd, FASTWAKE_IOC_PIN, &arg);

	return ret < 0 ? ret : (int)arg.out_region;
}

static inline int fwk_unpin(int fd, uint32_t region)
{
	struct fastwake_ioc_unpin arg = { .size = sizeof(arg),
					  .region = region };

	return fwk_ioctl(fd, FASTWAKE_IOC_UNPIN, &arg);
}

static inline struct fastwake_ioc_watch fwk_watch(uint32_t region,
						  uint64_t offset,
						  uint16_t condition,
						  uint64_t operand)
{
	struct fastwake_ioc_watch watch = { .region = region,
					    .condition = condition,
					    .word_size = 8,
					    .offset = offset,
					    .operand = operand };

	return watch;
}

static inline int fwk_wait(int fd, uint32_t waiter,
			   const struct fastwake_ioc_watch *watches, uint32_t n,
			   uint64_t budget_ns, uint64_t deadline_ns)
{
	struct fastwake_ioc_wait arg = { .size = sizeof(arg),
					 .waiter = waiter,
					 .nr_watches = n,
					 .watches = (uintptr_t)watches,
					 .budget_ns = budget_ns,
					 .deadline_ns = deadline_ns,
					 .wake = FASTWAKE_WAITER_NONE };

	return fwk_ioctl(fd, FASTWAKE_IOC_WAIT, &arg);
}

static inline int fwk_switch(int fd, uint32_t waiter, uint32_t wake,
			     const struct fastwake_ioc_watch *watches,
			     uint32_t n, uint64_t budget_ns,
			     uint64_t deadline_ns)
{
	struct fastwake_ioc_wait arg = { .size = sizeof(arg),
					 .waiter = waiter,
					 .nr_watches = n,
					 .watches = (uintptr_t)watches,
					 .budget_ns = budget_ns,
					 .deadline_ns = deadline_ns,
					 .wake = wake };

	return fwk_ioctl(fd, FASTWAKE_IOC_SWITCH, &arg);
}

static inline int fwk_wake(int fd, uint32_t waiter)
{
	struct fastwake_ioc_wake arg = { .size = sizeof(arg),
					 .waiter = waiter };

	return fwk_ioctl(fd, FASTWAKE_IOC_WAKE, &arg);
}

static inline int fwk_wake_set(int fd, const uint32_t *waiters, uint32_t n)
{
	struct fastwake_ioc_wake_set arg = { .size = sizeof(arg),
					     .nr = n,
					     .waiters = (uintptr_t)waiters };

	return fwk_ioctl(fd, FASTWAKE_IOC_WAKE_SET, &arg);
}

static inline void *fwk_map_shared(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return mem;
}

/*
 * Poll for a condition, at most 60 s, which is no measure of anything: others
 * may keep this machine busy.  It is not evaluated again once it was true:
 * it may be a WAKE, which succeeds once.
 */
#define eventually(condition)                                      \
	({                                                         \
		uint64_t end_ = fwk_now() + 60 * FWK_SECOND;       \
		bool true_;                                        \
		while (!(true_ = (condition)) && fwk_now() < end_) \
			sched_yield();                             \
		true_;                                             \
	})

#endif /* FWK_H */
