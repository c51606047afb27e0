// SPDX-License-Identifier: PostgreSQL
/*
 * futex.c - sleep on one or several words, through the shared futex calls
 * (processes map the words at different addresses, so never PRIVATE).
 */
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "internal.h"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

#define NSEC_PER_SEC 1000000000ull

/*
 * Without futex_waitv (before Linux 5.16, or refused by a container's filter)
 * only the first word can be slept on; the others are looked at this often.
 */
#define FW_SLICE_NS 1000000ull

bool fw_futex_waitv_missing;

uint64_t fastwake_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/*
 * A wait without deadline gets one that never comes: a FUTEX_WAIT without
 * timeout is resumed after a handler with SA_RESTART, one with a timeout
 * always ends in EINTR, which fastwake_wait() promises.
 */
static struct timespec futex_deadline(uint64_t ns)
{
	struct timespec ts;

	if (ns == 0 || ns > (uint64_t)INT64_MAX)
		ns = (uint64_t)INT64_MAX;
	ts.tv_sec = (time_t)(ns / NSEC_PER_SEC);
	ts.tv_nsec = (long)(ns % NSEC_PER_SEC);
	return ts;
}

static int wait_one(const struct fw_futex *futex, uint64_t deadline_ns)
{
	struct timespec ts = futex_deadline(deadline_ns);

	return (int)fw_syscall(SYS_futex, (long)futex->word, FUTEX_WAIT_BITSET,
			       futex->expected, (long)&ts, 0,
			       FUTEX_BITSET_MATCH_ANY);
}

/* -ENOSYS if the kernel, or a seccomp filter, does not offer the call. */
static int wait_several(const struct fw_futex *futexes, unsigned int n,
			uint64_t deadline_ns)
{
	struct timespec ts = futex_deadline(deadline_ns);
	struct futex_waitv v[FW_FUTEXES_MAX];
	unsigned int i;
	long rc;

	for (i = 0; i < n; i++)
		v[i] = (struct futex_waitv){
			.val = futexes[i].expected,
			.uaddr = (uintptr_t)futexes[i].word,
			.flags = FUTEX_32,
		};
	rc = fw_syscall(SYS_futex_waitv, (long)v, n, 0, (long)&ts,
			CLOCK_MONOTONIC, 0);
	if (rc >= 0)
		return 0;
	return rc == -EPERM ? -ENOSYS : (int)rc;
}

/*
 * The end of a slice is a spurious wake-up: the caller looks at all words
 * again, and comes back.  No wake-up is lost, one on the other words may be a
 * slice late.
 */
static int wait_slice(const struct fw_futex *futex, uint64_t deadline_ns)
{
	uint64_t end = fastwake_now() + FW_SLICE_NS;
	int rc;

	if (deadline_ns != 0 && deadline_ns <= end)
		return wait_one(futex, deadline_ns);
	rc = wait_one(futex, end);
	return rc == -ETIMEDOUT ? 0 : rc;
}

int fw_futex_wait(const struct fw_futex *futexes, unsigned int n,
		  uint64_t deadline_ns)
{
	int rc;

	if (n == 1)
		return wait_one(futexes, deadline_ns);
	if (!fw_load(&fw_futex_waitv_missing)) {
		rc = wait_several(futexes, n, deadline_ns);
		if (rc != -ENOSYS)
			return rc;
		fw_store(&fw_futex_waitv_missing, true);
	}
	return wait_slice(futexes, deadline_ns);
}

int fw_futex_wake(uint32_t *word, int max)
{
	long woken =
		fw_syscall(SYS_futex, (long)word, FUTEX_WAKE, max, 0, 0, 0);

	return woken > 0 ? (int)woken : 0;
}
