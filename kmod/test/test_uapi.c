// SPDX-License-Identifier: PostgreSQL
/*
 * test_uapi.c - each promise of uapi/fastwake.h once: results, every errno.
 *
 * As root, with the module loaded with test_events=1.
 */
#include <linux/magic.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "fwk.h"
#include "tap.h"

#define PAGES  4
#define LENGTH ((uint64_t)PAGES * FWK_PAGE)
#define NONE   FASTWAKE_WAITER_NONE

static int fd;
static uint32_t region;
static volatile uint64_t *words; /* the region */

static void store(uint64_t i, uint64_t value)
{
	__atomic_store_n(&words[i], value, __ATOMIC_SEQ_CST);
}

static struct fastwake_ioc_watch ne(uint64_t i, uint64_t operand)
{
	return fwk_watch(region, i * 8, FASTWAKE_COND_NE, operand);
}

/* Runs F in a child; returns its exit status. */
static int in_child(int (*f)(void))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(f());
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
}

/* ---- format of the ioctls ---- */

static void test_query(void)
{
	struct fastwake_ioc_query q;
	struct {
		struct fastwake_ioc_query q;
		uint64_t later;
	} longer = { .q.size = sizeof(longer) };

	tap_is(fwk_query(fd, &q), 0, "QUERY");
	tap_is(q.out_abi, FASTWAKE_ABI_VERSION, "ABI version");
	tap_is(q.out_watches_max, FASTWAKE_IOC_WATCHES_MAX, "watches");
	tap_ok(q.out_cores >= 1 && q.out_waiters_max >= 1 &&
		       q.out_core_stride >= sizeof(struct fastwake_core),
	       "cores, waiters, stride");
	tap_ok(q.out_features & FASTWAKE_FEATURE_TEST_EVENT,
	       "test events are on");
	tap_is(fwk_ioctl(fd, FASTWAKE_IOC_QUERY, &longer), 0,
	       "QUERY of a later caller");
	longer.later = 1;
	longer.q.size = sizeof(longer);
	tap_is(fwk_ioctl(fd, FASTWAKE_IOC_QUERY, &longer), -E2BIG,
	       "QUERY: E2BIG");
}

/* A sizeof, a wrong size, flags, reserved, a pointer to nowhere for each. */
struct format {
	const char *name;
	unsigned long request;
	uint32_t size;
	uint32_t reserved; /* offset, 0: none */
	uint32_t wake;	   /* offset of a field that must be NONE, 0: none */
};

#define FORMAT(nr, s)                                     \
	{                                                 \
#nr, FASTWAKE_IOC_##nr, sizeof(struct s), \
			offsetof(struct s, reserved), 0   \
	}

static const struct format formats[] = {
	{ "QUERY", FASTWAKE_IOC_QUERY, sizeof(struct fastwake_ioc_query), 0,
	  0 },
	FORMAT(REGISTER, fastwake_ioc_register),
	FORMAT(UNREGISTER, fastwake_ioc_unregister),
	FORMAT(PIN, fastwake_ioc_pin),
	FORMAT(UNPIN, fastwake_ioc_unpin),
	{ "WAIT", FASTWAKE_IOC_WAIT, sizeof(struct fastwake_ioc_wait),
	  offsetof(struct fastwake_ioc_wait, out_core),
	  offsetof(struct fastwake_ioc_wait, wake) },
	{ "SWITCH", FASTWAKE_IOC_SWITCH, sizeof(struct fastwake_ioc_wait),
	  offsetof(struct fastwake_ioc_wait, out_core),
	  offsetof(struct fastwake_ioc_wait, wake) },
	FORMAT(WAKE, fastwake_ioc_wake),
	FORMAT(WAKE_SET, fastwake_ioc_wake_set),
	FORMAT(TEST_EVENT, fastwake_ioc_test_event),
	FORMAT(ATTACH_CQ, fastwake_ioc_attach_cq),
	FORMAT(DETACH_CQ, fastwake_ioc_detach_cq),
};

static int format_call(const struct format *f, uint32_t size, uint32_t set)
{
	uint32_t buf[64] = { size };

	if (set)
		buf[set / 4] = 1u << 31;
	if (f->wake)
		buf[f->wake / 4] = NONE;
	return fwk_ioctl(fd, f->request, buf);
}

static int format_far(const struct format *f)
{
	char *page = mmap(NULL, 2 * FWK_PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t *end = (uint32_t *)(void *)(page + FWK_PAGE - 4);
	int rc;

	mprotect(page + FWK_PAGE, FWK_PAGE, PROT_NONE);
	*end = f->size;
	rc = fwk_ioctl(fd, f->request, end);
	munmap(page, 2 * FWK_PAGE);
	return rc;
}

static void test_formats(void)
{
	const struct format *f = formats;
	size_t i;

	for (i = 0; i < sizeof(formats) / sizeof(*formats); i++, f++) {
		tap_is(fwk_ioctl(fd, f->request, NULL), -EFAULT,
		       "%s: EFAULT for NULL", f->name);
		tap_is(format_far(f), -EFAULT, "%s: EFAULT past a page",
		       f->name);
		tap_is(format_call(f, f->size - 4, 0), -EINVAL,
		       "%s: EINVAL for a short size", f->name);
		tap_is(format_call(f, 0x7fffffff, 0), -EINVAL,
		       "%s: EINVAL for an absurd size", f->name);
		tap_is(format_call(f, f->size + 4, f->size), -E2BIG,
		       "%s: E2BIG", f->name);
		tap_is(format_call(f, f->size, 4), -EOPNOTSUPP,
		       "%s: EOPNOTSUPP for a flag", f->name);
		if (f->reserved)
			tap_is(format_call(f, f->size, f->reserved),
			       -EOPNOTSUPP, "%s: EOPNOTSUPP for reserved",
			       f->name);
	}
	tap_is(fwk_ioctl(fd, _IO(FASTWAKE_IOC_TYPE, 0x3f), NULL), -ENOTTY,
	       "ENOTTY for an unknown number");
	tap_is(fwk_ioctl(fd, _IO(FASTWAKE_IOC_TYPE, 0xff), NULL), -ENOTTY,
	       "ENOTTY for a number past the table");
	tap_is(fwk_ioctl(fd, _IO('x', 0), NULL), -ENOTTY,
	       "ENOTTY for another type");
}

/* ---- waiters ---- */

static int child_is_refused(void)
{
	struct fastwake_ioc_watch w = ne(0, 1);

	return fwk_wait(fd, 5, &w, 1, 0, 0) != -EPERM ||
	       fwk_unregister(fd, 5) != -EPERM || fwk_register(fd, 5) != -EBUSY;
}

static int child_registers_6(void)
{
	return fwk_register(fd, 6) != 6;
}

static int child_registers_and_closes(void)
{
	return fwk_register(fd, 7) != 7 || close(fd) != 0;
}

static void test_register(void)
{
	struct fastwake_ioc_query q;
	int first;

	fwk_query(fd, &q);
	tap_is(fwk_register(fd, 5), 5, "REGISTER a number");
	tap_is(fwk_register(fd, 5), -EBUSY, "REGISTER: EBUSY");
	tap_is(fwk_register(fd, q.out_waiters_max), -EINVAL,
	       "REGISTER: EINVAL");
	first = fwk_register(fd, NONE);
	tap_ok(first >= 0 && first != 5, "REGISTER any number");
	tap_is(fwk_unregister(fd, (uint32_t)first), 0, "UNREGISTER");
	tap_is(fwk_unregister(fd, (uint32_t)first), -ENOENT,
	       "UNREGISTER: ENOENT");
	tap_is(in_child(child_is_refused), 0, "another thread's: EPERM, EBUSY");
	tap_is(in_child(child_registers_6), 0, "a child registers");
	tap_is(fwk_register(fd, 6), 6, "what a dead process left is free");
	tap_is(fwk_unregister(fd, 6), 0, "UNREGISTER it");
	tap_is(in_child(child_registers_and_closes), 0, "a child closes");
	tap_is(fwk_register(fd, 7), 7, "what it had is free");
	tap_is(fwk_unregister(fd, 7), 0, "UNREGISTER it");
	tap_is(fwk_unregister(fd, 5), 0, "UNREGISTER the first");
}

static void *register_thread(void *arg)
{
	*(int *)arg = fwk_register(fd, NONE);
	return NULL;
}

static void test_register_full(void)
{
	struct fastwake_ioc_query q;
	pthread_t thread;
	uint32_t i;
	int rc = 0, of_thread = 0;

	fwk_query(fd, &q);
	pthread_create(&thread, NULL, register_thread, &of_thread);
	pthread_join(thread, NULL);
	tap_ok(of_thread >= 0, "a thread registers and exits");
	for (i = 0; i < q.out_waiters_max && rc >= 0; i++)
		rc = fwk_register(fd, NONE);
	tap_is(i, q.out_waiters_max, "all numbers, a dead thread's too");
	tap_ok(rc >= 0, "were given");
	tap_is(fwk_register(fd, NONE), -ENOSPC, "REGISTER: ENOSPC");
	for (i = 0; i < q.out_waiters_max; i++)
		fwk_unregister(fd, i);
}

/* ---- regions ---- */

static int pin_and_unpin(void *mem, uint64_t length)
{
	int rc = fwk_pin(fd, mem, length);

	if (rc >= 0 && fwk_unpin(fd, (uint32_t)rc) != 0)
		return -EIO;
	return rc < 0 ? rc : 0;
}

static int pin_file(const char *path, int flags)
{
	int rc, file = open(path, O_RDWR | O_CREAT, 0600);
	void *mem;

	if (file < 0 || ftruncate(file, FWK_PAGE))
		return -errno;
	mem = mmap(NULL, FWK_PAGE, PROT_READ | PROT_WRITE, flags, file, 0);
	rc = pin_and_unpin(mem, FWK_PAGE);
	munmap(mem, FWK_PAGE);
	close(file);
	return rc;
}

static int pin_beyond_limit(void)
{
	struct rlimit limit = { 8 * FWK_PAGE, 8 * FWK_PAGE };
	void *mem = fwk_map_shared(16 * FWK_PAGE);
	int rc;

	if (setrlimit(RLIMIT_MEMLOCK, &limit) || setgid(65534) || setuid(65534))
		return 1;
	if (fwk_pin(fd, mem, 16 * FWK_PAGE) != -ENOMEM)
		return 2;
	rc = fwk_pin(fd, mem, 6 * FWK_PAGE);
	if (rc < 0)
		return 3;
	if (fwk_pin(fd, mem, 6 * FWK_PAGE) != -ENOMEM)
		return 4;
	if (fwk_unpin(fd, (uint32_t)rc) != 0)
		return 5;
	return pin_and_unpin(mem, 8 * FWK_PAGE) == 0 ? 0 : 6;
}

static void test_pin(void)
{
	void *priv = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *ro = mmap(NULL, FWK_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	void *shared = fwk_map_shared(LENGTH);
	int memfd = memfd_create("fastwake", 0);

	tap_is(pin_and_unpin(priv, LENGTH), 0, "PIN private memory");
	tap_is(pin_and_unpin(shared, LENGTH), 0, "PIN shared memory");
	tap_ok(ftruncate(memfd, LENGTH) == 0, "a memfd");
	tap_is(pin_and_unpin(mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
				  MAP_SHARED, memfd, 0),
			     LENGTH),
	       0, "PIN a memfd");
	tap_is(pin_file("/dev/shm/fastwake-test", MAP_SHARED), 0,
	       "PIN a file of /dev/shm");
	unlink("/dev/shm/fastwake-test");
	tap_is(pin_and_unpin(ro, FWK_PAGE), -EFAULT, "read-only: EFAULT");
	munmap((char *)priv + FWK_PAGE, FWK_PAGE);
	tap_is(pin_and_unpin(priv, LENGTH), -EFAULT, "a hole: EFAULT");
	tap_is(pin_and_unpin((char *)shared + 8, FWK_PAGE), -EINVAL,
	       "unaligned: EINVAL");
	tap_is(pin_and_unpin(shared, 100), -EINVAL, "odd length: EINVAL");
	tap_is(pin_and_unpin(shared, 0), -EINVAL, "no length: EINVAL");
	tap_is(pin_and_unpin(shared, 1ull << 62), -EINVAL, "huge: EINVAL");
	tap_is(pin_and_unpin((void *)~(uintptr_t)(FWK_PAGE - 1), 2 * FWK_PAGE),
	       -EINVAL, "around the end: EINVAL");
	tap_is(fwk_unpin(fd, 12345), -ENOENT, "UNPIN: ENOENT");
	tap_is(in_child(pin_beyond_limit), 0, "RLIMIT_MEMLOCK: ENOMEM");
}

static int pin_private(const char *path, bool writable)
{
	int rc, file = open(path, writable ? O_RDWR : O_RDONLY);
	void *mem;

	if (file < 0)
		return -errno;
	mem = mmap(NULL, FWK_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file,
		   0);
	rc = mem == MAP_FAILED ? -errno : pin_and_unpin(mem, FWK_PAGE);
	munmap(mem, FWK_PAGE);
	close(file);
	return rc;
}

/* In a guest whose root is in memory this program is shmem too. */
static void test_pin_refused(void)
{
	struct statfs fs;

	tap_is(pin_private("/dev/mem", true), -EOPNOTSUPP,
	       "a device: EOPNOTSUPP");
	if (statfs("/proc/self/exe", &fs) == 0 && fs.f_type == TMPFS_MAGIC)
		tap_skip(1, "no file here that is not in memory");
	else
		tap_is(pin_private("/proc/self/exe", false), -EOPNOTSUPP,
		       "a file: EOPNOTSUPP");
}

static void test_pin_full(void)
{
	struct fastwake_ioc_query q;
	uint32_t i, *ids;
	void *mem = fwk_map_shared(FWK_PAGE);
	int rc = 0;

	fwk_query(fd, &q);
	ids = calloc(q.out_regions_max, sizeof(*ids));
	for (i = 0; i < q.out_regions_max; i++) {
		rc = fwk_pin(fd, mem, FWK_PAGE);
		if (rc < 0)
			break;
		ids[i] = (uint32_t)rc;
	}
	tap_is(rc, -ENOSPC, "PIN: ENOSPC");
	tap_is(i, q.out_regions_max - 1, "after as many as QUERY says");
	while (i-- > 0)
		rc = fwk_unpin(fd, ids[i]);
	tap_is(rc, 0, "and all can be unpinned");
	free(ids);
}

/* ---- looking ---- */

static void condition(uint16_t cond, uint16_t size, uint64_t word,
		      uint64_t operand, uint64_t mask, int want,
		      const char *name)
{
	struct fastwake_ioc_watch w = { .region = region,
					.condition = cond,
					.word_size = size,
					.offset = 64,
					.operand = operand,
					.mask = mask };

	store(8, word);
	tap_is(fwk_wait(fd, 0, &w, 1, 0, 0), want, "%s", name);
}

static void test_conditions(void)
{
	const uint64_t high = 1ull << 32;

	condition(FASTWAKE_COND_NE, 8, 5, 5, 0, -ETIME, "NE: equal");
	condition(FASTWAKE_COND_NE, 8, 5 + high, 5, 0, 0, "NE: differs");
	condition(FASTWAKE_COND_NE, 4, 5 + high, 5 + 2 * high, 0, -ETIME,
		  "NE of 4 bytes: low half only");
	condition(FASTWAKE_COND_NE, 4, 6, 5, 0, 0, "NE of 4 bytes");
	condition(FASTWAKE_COND_EQ, 8, 5, 5, 0, 0, "EQ: equal");
	condition(FASTWAKE_COND_EQ, 8, 6, 5, 0, -ETIME, "EQ: differs");
	condition(FASTWAKE_COND_EQ, 4, 5 + high, 5, 0, 0, "EQ of 4 bytes");
	condition(FASTWAKE_COND_MASK_NE, 8, 0xf5, 5, 0xf, -ETIME,
		  "MASK_NE: equal where masked");
	condition(FASTWAKE_COND_MASK_NE, 8, 0xf6, 5, 0xf, 0,
		  "MASK_NE: differs");
	condition(FASTWAKE_COND_MASK_NE, 4, 0xf5, 5, 0xf, -ETIME,
		  "MASK_NE of 4 bytes");
	condition(FASTWAKE_COND_LATER_NE, 8, 5, 5, 0, -ETIME,
		  "LATER_NE: equal");
	condition(FASTWAKE_COND_LATER_NE, 8, 6, 5, ~0ull, 0,
		  "LATER_NE: differs");
	condition(FASTWAKE_COND_LATER_NE, 4, 5 + high, 5, 0, -ETIME,
		  "LATER_NE of 4 bytes");
	condition(FASTWAKE_COND_GE64, 8, 5, 5, 0, 0, "GE64: equal");
	condition(FASTWAKE_COND_GE64, 8, 4, 5, 0, -ETIME, "GE64: less");
	condition(FASTWAKE_COND_GE64, 8, ~0ull, 5, 0, 0, "GE64: unsigned");
	condition(FASTWAKE_COND_GE64, 4, 5, 5, 0, -EINVAL,
		  "GE64 of 4 bytes: EINVAL");
	condition(FASTWAKE_COND_EQ, 8, 5, 5, 1, -EINVAL,
		  "a mask without MASK_NE: EINVAL");
	condition(6, 8, 5, 5, 0, -EOPNOTSUPP, "unknown condition: EOPNOTSUPP");
	condition(FASTWAKE_COND_EQ, 2, 5, 5, 0, -EINVAL,
		  "a word of 2 bytes: EINVAL");
}

/* What a WAIT finds out about its watches is kept for the next. */
static void test_watches_again(void)
{
	struct fastwake_ioc_watch w[] = { ne(8, 0), ne(9, 0), ne(10, 0) };

	store(8, 0);
	store(9, 0);
	store(10, 0);
	tap_is(fwk_wait(fd, 0, w, 3, 0, 0), -ETIME, "three words");
	tap_is(fwk_wait(fd, 0, w, 1, 0, 0), -ETIME, "the first of them");
	store(10, 1);
	tap_is(fwk_wait(fd, 0, w, 3, 0, 0), 2, "all again");
	w[1].condition = FASTWAKE_COND_GE64;
	w[1].operand = 5;
	store(9, 7);
	tap_is(fwk_wait(fd, 0, w, 3, 0, 0), 1, "the second by GE64");
	w[1].operand = 8;
	tap_is(fwk_wait(fd, 0, w, 2, 0, 0), -ETIME, "GE64: another operand");
	w[1].region = 4711;
	tap_is(fwk_wait(fd, 0, w, 3, 0, 0), -ENOENT, "the second nowhere");
	w[1] = ne(9, 7);
	w[2].operand = 1;
	tap_is(fwk_wait(fd, 0, w, 3, 0, 0), -ETIME, "as at first");
	tap_is(fwk_wait(fd, 0, w, 0, 0, 0), -ETIME, "no word");
	store(8, 1);
	tap_is(fwk_wait(fd, 0, w, 1, 0, 0), 0, "the first, after none");
}

static int wait_at(uint32_t reg, uint64_t offset, uint16_t size)
{
	struct fastwake_ioc_watch w = { .region = reg,
					.condition = FASTWAKE_COND_NE,
					.word_size = size,
					.offset = offset,
					.operand = 99 };

	return fwk_wait(fd, 0, &w, 1, 0, 0);
}

static int wait_and_wake(uint32_t wake)
{
	struct fastwake_ioc_wait arg = { .size = sizeof(arg), .wake = wake };

	return fwk_ioctl(fd, FASTWAKE_IOC_WAIT, &arg);
}

static void test_wake_set_errors(void)
{
	uint32_t ids[FASTWAKE_IOC_WAKE_MAX + 1] = { 98, 0, NONE };

	tap_is(fwk_wake_set(fd, NULL, 0), 0, "WAKE_SET of none");
	tap_is(fwk_wake_set(fd, ids, FASTWAKE_IOC_WAKE_MAX), 0,
	       "of nobody, and of one who does not wait");
	tap_is(fwk_wake_set(fd, ids, FASTWAKE_IOC_WAKE_MAX + 1), -EINVAL,
	       "of too many: EINVAL");
	tap_is(fwk_wake_set(fd, ids, 0x40000000), -EINVAL,
	       "of absurdly many: EINVAL");
	tap_is(fwk_wake_set(fd, NULL, 1), -EFAULT, "no array: EFAULT");
}

static void test_watch_errors(void)
{
	struct fastwake_ioc_watch many[9];
	int i;

	for (i = 0; i < 9; i++)
		many[i] = ne((uint64_t)i, 0);
	for (i = 0; i < 9; i++)
		store((uint64_t)i, 0);
	tap_is(fwk_wait(fd, 0, many, 8, 0, 0), -ETIME, "eight watches");
	store(7, 1);
	tap_is(fwk_wait(fd, 0, many, 8, 0, 0), 7, "the eighth holds");
	tap_is(fwk_wait(fd, 0, many, 9, 0, 0), -EINVAL, "nine: EINVAL");
	tap_is(fwk_wait(fd, 0, NULL, 1, 0, 0), -EFAULT, "no array: EFAULT");
	tap_is(fwk_wait(fd, 0, NULL, 0, 0, 0), -ETIME, "no watch");
	tap_is(fwk_wait(fd, 99, many, 1, 0, 0), -ENOENT, "no waiter: ENOENT");
	tap_is(wait_at(4711, 0, 8), -ENOENT, "no region: ENOENT");
	tap_is(wait_at(region, LENGTH - 8, 8), 0, "the last word");
	tap_is(wait_at(region, LENGTH, 8), -EINVAL, "past the end: EINVAL");
	tap_is(wait_at(region, 1ull << 63, 8), -EINVAL, "far off: EINVAL");
	tap_is(wait_at(region, ~0ull - 7, 8), -EINVAL, "wrapping: EINVAL");
	tap_is(wait_at(region, 4, 8), -EINVAL, "unaligned: EINVAL");
	tap_is(wait_at(region, 4, 4), 0, "aligned to 4");
	tap_is(fwk_switch(fd, 0, 0, many, 1, 0, 0), -EINVAL,
	       "SWITCH to oneself: EINVAL");
	tap_is(wait_and_wake(98), -EINVAL, "WAIT with one to wake: EINVAL");
	tap_is(fwk_switch(fd, 0, 98, many, 1, 0, 0), -ENOENT,
	       "SWITCH to nobody: ENOENT");
	tap_is(fwk_wake(fd, 98), -ENOENT, "WAKE nobody: ENOENT");
	tap_is(fwk_wake(fd, 0), 0, "WAKE one who does not wait");
	test_wake_set_errors();
}

/* ---- time ---- */

static void test_time(void)
{
	struct fastwake_ioc_watch w = ne(0, 7);
	uint64_t t;

	store(0, 7);
	t = fwk_now();
	tap_is(fwk_wait(fd, 0, &w, 1, 3 * FWK_MS, 0), -ETIME, "budget: ETIME");
	t = fwk_now() - t;
	tap_ok(t >= 3 * FWK_MS, "not before its time");
	t = fwk_now();
	tap_is(fwk_wait(fd, 0, &w, 1, 5 * FWK_MS, t + 2 * FWK_MS), -ETIMEDOUT,
	       "deadline: ETIMEDOUT");
	tap_ok(fwk_now() >= t + 2 * FWK_MS, "not before its time");
	tap_is(fwk_wait(fd, 0, &w, 1, 5 * FWK_MS, 1), -ETIMEDOUT,
	       "a deadline in the past");
	tap_is(fwk_wait(fd, 0, &w, 1, ~0ull, fwk_now() + FWK_MS), -ETIMEDOUT,
	       "the longest budget");
	tap_is(fwk_wait(fd, 0, &w, 1, FWK_MS, ~0ull), -ETIME,
	       "the latest deadline");
}

/* ---- waits that others end ---- */

struct helper {
	pthread_t thread;
	uint32_t id;
	uint64_t word; /* which is watched for a change from 0 */
	uint32_t nr_watches;
	uint32_t flags; /* of WAIT */
	volatile int result;
	volatile int state; /* 1: registered, 2: done */
};

/* Parks are tried again, as a caller would who has nowhere else to go. */
static void *helper_main(void *arg)
{
	struct helper *h = arg;
	struct fastwake_ioc_watch w = ne(h->word, 0);
	struct fastwake_ioc_wait wait = { .size = sizeof(wait),
					  .flags = h->flags,
					  .waiter = h->id,
					  .nr_watches = h->nr_watches,
					  .watches = (uintptr_t)&w,
					  .budget_ns = FWK_SECOND,
					  .wake = NONE };
	int rc;

	fwk_register(fd, h->id);
	h->state = 1;
	do {
		rc = fwk_ioctl(fd, FASTWAKE_IOC_WAIT, &wait);
	} while (rc == -ETIME);
	h->result = rc;
	h->state = 2;
	fwk_unregister(fd, h->id);
	return NULL;
}

static void helper_start_with(struct helper *h, uint32_t id, uint64_t word,
			      uint32_t nr_watches, uint32_t flags)
{
	*h = (struct helper){
		.id = id, .word = word, .nr_watches = nr_watches, .flags = flags
	};
	store(word, 0);
	pthread_create(&h->thread, NULL, helper_main, h);
}

static void helper_start(struct helper *h, uint32_t id, uint64_t word,
			 uint32_t nr_watches)
{
	helper_start_with(h, id, word, nr_watches, 0);
}

static const uint32_t *where;

static bool helper_waits(const struct helper *h)
{
	return __atomic_load_n(&where[h->id], __ATOMIC_SEQ_CST) != 0;
}

static int helper_end(struct helper *h)
{
	pthread_join(h->thread, NULL);
	return h->result < 0 ? h->result : FASTWAKE_WAIT_INDEX(h->result);
}

static void test_stored_word(void)
{
	struct helper h;

	helper_start(&h, 1, 1, 1);
	tap_ok(eventually(helper_waits(&h)), "a waiter is announced");
	store(1, 5);
	tap_is(helper_end(&h), 0, "a store alone ends the wait");
	tap_is(where[1], 0, "the announcement is withdrawn");
}

static void test_wake(void)
{
	struct helper h;
	int rc = 0;

	helper_start(&h, 1, 1, 1);
	tap_ok(eventually((rc = fwk_wake(fd, 1)) == 1),
	       "WAKE finds the waiter");
	tap_is(helper_end(&h), 1, "WAKE ends the wait, none holds");
	helper_start(&h, 1, 1, 0);
	tap_ok(eventually((rc = fwk_wake(fd, 1)) == 1),
	       "WAKE finds a waiter without watches");
	tap_is(helper_end(&h), 0, "WAKE ends it");
}

static void test_wake_set(void)
{
	const uint32_t ids[] = { 1, 98, 2 };
	struct helper one, two;

	helper_start(&one, 1, 1, 1);
	helper_start(&two, 2, 2, 0);
	tap_ok(eventually(helper_waits(&one) && helper_waits(&two)),
	       "two waiters are announced");
	tap_is(fwk_wake_set(fd, ids, 3), 2, "WAKE_SET finds both");
	tap_is(helper_end(&one), 1, "it ends the wait of one");
	tap_is(helper_end(&two), 0, "and of the other");
}

static void test_switch(void)
{
	struct fastwake_ioc_watch w = ne(2, 0);
	struct helper h;
	int rc;

	store(2, 0);
	tap_is(fwk_register(fd, 3), 3, "a waiter that does not wait");
	tap_is(fwk_switch(fd, 0, 3, &w, 1, FWK_MS, 0), -ESRCH,
	       "SWITCH to it: ESRCH");
	fwk_unregister(fd, 3);
	helper_start(&h, 1, 1, 1);
	eventually(helper_waits(&h));
	do {
		rc = fwk_switch(fd, 0, 1, &w, 1, FWK_MS, 0);
	} while (rc == -ESRCH);
	tap_is(rc, -ETIME, "SWITCH waits");
	tap_is(helper_end(&h), 1, "and woke the other");
}

/* What a wait on a region ends with when that is unpinned. */
static int result_of_unpin(void)
{
	void *mem = fwk_map_shared(FWK_PAGE);
	uint32_t old = region;
	struct helper h;
	int rc;

	region = (uint32_t)fwk_pin(fd, mem, FWK_PAGE);
	helper_start(&h, 1, 0, 1);
	eventually(helper_waits(&h));
	rc = fwk_unpin(fd, region);
	helper_end(&h);
	region = old;
	munmap(mem, FWK_PAGE);
	return rc ? rc : h.result;
}

static void test_unpin_in_wait(void)
{
	int rc;

	/* It may have been between two waits. */
	tap_ok(eventually((rc = result_of_unpin()) != -ENOENT),
	       "UNPIN of a region that is waited for");
	tap_is(rc, -ESTALE, "ends the wait: ESTALE");
}

/* Of this process, in kB. */
static long locked_memory(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[128];
	long kb = -1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmLck: %ld", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}

/* A test event holds a region for its delay; who unpins it is killed. */
static void test_unpin_killed(void)
{
	void *mem = fwk_map_shared(FWK_PAGE);
	long before = locked_memory();
	int reg = fwk_pin(fd, mem, FWK_PAGE), status;
	struct fastwake_ioc_test_event e = { .size = sizeof(e),
					     .slot = 9,
					     .delay_ns = FWK_SECOND,
					     .region = (uint32_t)reg,
					     .waiter = NONE,
					     .eventfd = -1 };
	pid_t pid;

	tap_is(fwk_ioctl(fd, FASTWAKE_IOC_TEST_EVENT, &e), 0,
	       "an event that is due holds a region");
	pid = fork();
	if (pid == 0)
		_exit(fwk_unpin(fd, (uint32_t)reg) != 0);
	tap_ok(eventually(wait_at((uint32_t)reg, 0, 8) == -ENOENT),
	       "UNPIN has begun");
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	tap_ok(WIFSIGNALED(status), "and is killed");
	tap_ok(eventually(locked_memory() == before),
	       "the pages are released all the same");
}

static volatile sig_atomic_t handled;

static void on_signal(int sig)
{
	(void)sig;
	handled++;
}

static void test_signal(void)
{
	struct sigaction action = { .sa_handler = on_signal,
				    .sa_flags = SA_RESTART };
	struct helper h;

	sigaction(SIGUSR1, &action, NULL);
	helper_start(&h, 1, 1, 1);
	tap_ok(eventually(helper_waits(&h)), "a waiter");
	/* One may arrive between two waits. */
	while (h.state != 2) {
		pthread_kill(h.thread, SIGUSR1);
		sched_yield();
	}
	tap_is(helper_end(&h), -EINTR, "a handler ends the wait: EINTR");
	tap_ok(handled > 0, "it ran");
}

/* Signals until so many more have been handled, as long as the call lasts. */
static void signal_often(const struct helper *h, int sig, int times)
{
	int until = handled + times, seen;

	while (handled < until && h->state != 2) {
		seen = handled;
		if (!eventually(helper_waits(h) || h->state == 2))
			return;
		pthread_kill(h->thread, sig);
		eventually(handled > seen || h->state == 2);
	}
}

/*
 * With FASTWAKE_WAIT_SLEEP nothing but a signal could end the wait in between: a budget
 * as it is cut without does not.
 */
static void test_signal_restarts(void)
{
	struct sigaction restarting = { .sa_handler = on_signal,
					.sa_flags = SA_RESTART };
	struct sigaction ending = { .sa_handler = on_signal };
	struct helper h;

	sigaction(SIGUSR1, &restarting, NULL);
	sigaction(SIGUSR2, &ending, NULL);
	handled = 0;
	helper_start_with(&h, 1, 1, 1,
			  FASTWAKE_WAIT_RESTART | FASTWAKE_WAIT_SLEEP);
	signal_often(&h, SIGUSR1, 20);
	tap_is(handled, 20, "FASTWAKE_WAIT_RESTART: 20 signals are handled");
	tap_is(h.state, 1, "and the call goes on");
	eventually(helper_waits(&h));
	store(1, 1);
	fwk_wake(fd, 1);
	tap_is(helper_end(&h), 0, "until its word has changed");

	helper_start_with(&h, 1, 1, 1,
			  FASTWAKE_WAIT_RESTART | FASTWAKE_WAIT_SLEEP);
	/* One may arrive between two waits. */
	while (h.state != 2)
		signal_often(&h, SIGUSR2, 1);
	tap_is(helper_end(&h), -EINTR,
	       "it ends when a handler runs that was installed without SA_RESTART");
}

static void test_test_event(void)
{
	struct fastwake_ioc_test_event e = {
		.size = sizeof(e),
		.kind = FASTWAKE_EVENT_STORE,
		.delay_ns = FWK_MS,
		.region = region,
		.waiter = NONE,
		.eventfd = -1,
		.offset = 8 * 16,
		.value = 77,
		.stamp_offset = 8 * 17,
	};
	struct fastwake_ioc_test_event bad;
	struct fastwake_ioc_watch w = ne(16, 0);
	uint64_t t = fwk_now(), count = 0;
	uint32_t later = 1; /* slot */
	int rc = 0;

	store(16, 0);
	tap_is(fwk_ioctl(fd, FASTWAKE_IOC_TEST_EVENT, &e), 0, "TEST_EVENT");
	/* Its interrupt may come late if the core's host is busy: park, retry. */
	tap_ok(eventually((rc = fwk_wait(fd, 0, &w, 1, FWK_SECOND, 0)) !=
			  -ETIME) &&
		       FASTWAKE_WAIT_INDEX(rc) == 0,
	       "the event ends the wait");
	tap_is(words[16], 77, "it stored the value");
	tap_ok(words[17] >= t + FWK_MS && words[17] <= fwk_now(),
	       "and the time");
#define BAD(field, v, want)                                                \
	do {                                                               \
		bad = e;                                                   \
		bad.slot = later;                                          \
		bad.field = v;                                             \
		tap_is(fwk_ioctl(fd, FASTWAKE_IOC_TEST_EVENT, &bad), want, \
		       "TEST_EVENT: " #field " " #v ": " #want);           \
	} while (0)
	BAD(delay_ns, FWK_SECOND, 0); /* cancelled when the domain goes */
	BAD(delay_ns, 1, -EBUSY);
	later = 2;
	BAD(slot, FASTWAKE_EVENT_SLOTS, -EINVAL);
	BAD(kind, 9, -EINVAL);
	BAD(delay_ns, 0, -EINVAL);
	BAD(delay_ns, 2 * FWK_SECOND, -EINVAL);
	BAD(region, 999, -ENOENT);
	BAD(offset, LENGTH, -EINVAL);
	BAD(offset, 4, -EINVAL);
	BAD(stamp_offset, LENGTH, -EINVAL);
	BAD(waiter, 0, -EINVAL);
	BAD(eventfd, 0, -EINVAL);
	e.kind = FASTWAKE_EVENT_WAKE;
	BAD(waiter, 99, -ENOENT);
	e.kind = FASTWAKE_EVENT_EVENTFD;
	BAD(eventfd, 12345, -EBADF);
	BAD(eventfd, fd, -EINVAL);
	e.eventfd = eventfd(0, 0);
	/* The slot is free a moment after its store is seen. */
	tap_ok(eventually((rc = fwk_ioctl(fd, FASTWAKE_IOC_TEST_EVENT, &e)) !=
			  -EBUSY) &&
		       rc == 0,
	       "with eventfd");
	tap_ok(rc == 0 && read(e.eventfd, &count, 8) == 8 && count == 1,
	       "is signalled");
	close(e.eventfd);
}

static void test_event_off(void)
{
	static const char *parameter =
		"/sys/module/fastwake/parameters/test_events";
	struct fastwake_ioc_test_event e = { .size = sizeof(e) };
	int f = open(parameter, O_WRONLY);

	tap_ok(f >= 0 && write(f, "0", 1) == 1, "test events off");
	tap_is(fwk_ioctl(fd, FASTWAKE_IOC_TEST_EVENT, &e), -EPERM,
	       "TEST_EVENT: EPERM");
	tap_ok(write(f, "1", 1) == 1, "and on");
	close(f);
}

static int test_event_unprivileged(void)
{
	struct fastwake_ioc_test_event e = { .size = sizeof(e),
					     .delay_ns = 1,
					     .region = region,
					     .waiter = NONE,
					     .eventfd = -1 };

	if (setuid(65534))
		return 1;
	return fwk_ioctl(fd, FASTWAKE_IOC_TEST_EVENT, &e) != -EPERM;
}

/* ---- mappings ---- */

static void *map_device(uint64_t offset, uint64_t length, int prot)
{
	return mmap(NULL, length, prot, MAP_SHARED, fd, (off_t)offset);
}

static void test_mmap(void)
{
	const struct fastwake_core *cores;
	struct fastwake_ioc_query q;
	uint64_t waits = 0, length;
	uint32_t i;

	fwk_query(fd, &q);
	length = ((uint64_t)q.out_cores * q.out_core_stride + FWK_PAGE - 1) &
		 ~(uint64_t)(FWK_PAGE - 1);
	cores = map_device(FASTWAKE_MMAP_CORES, length, PROT_READ);
	tap_ok(cores != MAP_FAILED, "mapping of the cores");
	for (i = 0; i < q.out_cores; i++)
		waits += ((const struct fastwake_core
				   *)(const void *)((const char *)cores +
						    i * q.out_core_stride))
				 ->waits;
	tap_ok(waits > 0, "counts waits");
	tap_ok(mprotect((void *)(uintptr_t)cores, FWK_PAGE,
			PROT_READ | PROT_WRITE) == -1 &&
		       errno == EACCES,
	       "cannot be made writable");
	tap_ok(map_device(0, FWK_PAGE, PROT_READ | PROT_WRITE) == MAP_FAILED &&
		       errno == EPERM,
	       "writable: EPERM");
	tap_ok(map_device(0, FWK_PAGE, PROT_READ | PROT_EXEC) == MAP_FAILED &&
		       errno == EPERM,
	       "executable: EPERM");
	tap_ok(map_device(0, 1 << 30, PROT_READ) == MAP_FAILED &&
		       errno == EINVAL,
	       "too long: EINVAL");
	tap_ok(map_device(1 << 20, FWK_PAGE, PROT_READ) == MAP_FAILED &&
		       errno == EINVAL,
	       "other offset: EINVAL");
}

int main(void)
{
	int rc;

	tap_begin();
	fd = fwk_open();
	if (fd < 0)
		tap_bail("no " FWK_DEVICE);
	words = fwk_map_shared(LENGTH);
	rc = fwk_pin(fd, (void *)(uintptr_t)words, LENGTH);
	if (rc < 0)
		tap_bail("PIN failed");
	region = (uint32_t)rc;
	where = map_device(FASTWAKE_MMAP_WAITERS, FWK_PAGE, PROT_READ);
	tap_ok(where != MAP_FAILED, "mapping of the waiters");

	test_query();
	test_formats();
	test_register();
	test_register_full();
	test_pin();
	test_pin_refused();
	test_pin_full();
	tap_is(fwk_register(fd, 0), 0, "REGISTER");
	test_conditions();
	test_watches_again();
	test_watch_errors();
	test_time();
	test_stored_word();
	test_wake();
	test_wake_set();
	test_switch();
	test_unpin_in_wait();
	test_unpin_killed();
	test_signal();
	test_signal_restarts();
	test_test_event();
	test_event_off();
	tap_is(in_child(test_event_unprivileged), 0,
	       "TEST_EVENT of another user: EPERM");
	test_mmap();
	return tap_done();
}
