// SPDX-License-Identifier: PostgreSQL
/*
 * syscall.c - the one door to system calls that libc has no function for.
 *
 * Alone in its file so that a test may bring its own.
 */
#include <errno.h>
#include <unistd.h>

#include "internal.h"

long fw_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	int saved = errno;
	long rc = syscall(number, a, b, c, d, e, f);

	if (rc == -1)
		rc = -errno;
	errno = saved;
	return rc;
}
