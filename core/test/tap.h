/* SPDX-License-Identifier: PostgreSQL */
/*
 * tap.h - results of a test program in the Test Anything Protocol, for prove.
 *
 *	int main(void)
 *	{
 *		tap_begin();
 *		tap_ok(2 > 1, "numbers are ordered");
 *		tap_is(open_it(), -ENOENT, "no file");
 *		tap_skip(2, "no RDMA device");
 *		return tap_done();
 *	}
 *
 * Results come from one thread of one process; a child that the test forked
 * tells its parent by its exit status.
 */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static int tap_count, tap_failed;

/* Whole lines only, so that a child's output never splits one. */
static inline void tap_begin(void)
{
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
}

__attribute__((format(printf, 1, 2))) static inline void
tap_diag(const char *format, ...)
{
	char line[512];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	printf("# %s\n", line);
}

__attribute__((format(printf, 2, 3))) static inline int
tap_ok(int ok, const char *format, ...)
{
	char line[512];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	tap_failed += !ok;
	printf("%sok %d - %s\n", ok ? "" : "not ", ++tap_count, line);
	return ok;
}

/* Compare integers and show both if they differ. */
#define tap_is(got, want, ...)                                           \
	do {                                                             \
		long long tap_got = (long long)(got);                    \
		long long tap_want = (long long)(want);                  \
		if (!tap_ok(tap_got == tap_want, __VA_ARGS__))           \
			tap_diag("%s:%d: got %lld, want %lld", __FILE__, \
				 __LINE__, tap_got, tap_want);           \
	} while (0)

static inline void tap_skip(int tests, const char *reason)
{
	while (tests-- > 0)
		printf("ok %d # SKIP %s\n", ++tap_count, reason);
}

/* For a test that cannot go on at all. */
static inline void tap_bail(const char *reason)
{
	printf("Bail out!  %s\n", reason);
	exit(1);
}

/* The plan comes last; the exit status agrees with it. */
static inline int tap_done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed != 0;
}

#endif /* TAP_H */
