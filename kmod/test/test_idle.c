// SPDX-License-Identifier: PostgreSQL
/*
 * test_idle.c - 200 waiters have parked and sleep elsewhere: the module does
 * nothing, no timer of it is set, and nobody uses any processor time.
 */
#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/wait.h>

#include "fwk.h"
#include "tap.h"

#define WAITERS	  200
#define BUDGET	  (5 * FWK_MS)
#define OBSERVED  FWK_SECOND
#define PATIENCE  (60 * FWK_SECOND)
#define PIDS_MAX  1024
#define PATH_SIZE 300

static int fd, never[2];
static uint32_t *parked; /* how many are, shared */

/* ---- the waiters ---- */

static int park(uint32_t id, uint32_t region)
{
	struct fastwake_ioc_watch w =
		fwk_watch(region, 64, FASTWAKE_COND_NE, 0);
	char c;

	if (fwk_register(fd, id) != (int)id)
		return 1;
	if (fwk_wait(fd, id, &w, 1, BUDGET, 0) != -ETIME)
		return 2;
	__atomic_fetch_add(parked, 1, __ATOMIC_SEQ_CST);
	return read(never[0], &c, 1) == 1 ? 0 : 3;
}

static void start(pid_t *children, uint32_t region)
{
	uint32_t i;

	for (i = 0; i < WAITERS; i++) {
		children[i] = fork();
		if (children[i] == 0)
			_exit(park(i, region));
	}
}

static bool all_parked(void)
{
	uint64_t end = fwk_now() + PATIENCE;

	while (__atomic_load_n(parked, __ATOMIC_SEQ_CST) < WAITERS) {
		if (fwk_now() > end)
			return false;
		usleep(1000);
	}
	return true;
}

static void end(const pid_t *children)
{
	int i;

	for (i = 0; i < WAITERS; i++)
		kill(children[i], SIGKILL);
	for (i = 0; i < WAITERS; i++)
		waitpid(children[i], NULL, 0);
}

/* ---- what is observed ---- */

static bool file_has(const char *path, const char *text)
{
	FILE *f = fopen(path, "re");
	char line[512];
	bool found = false;

	if (f == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), f) != NULL)
		found = strstr(line, text) != NULL;
	fclose(f);
	return found;
}

static bool no_timer(void)
{
	uint64_t until = fwk_now() + PATIENCE;

	while (file_has("/proc/timer_list", "fw_backstop")) {
		if (fwk_now() > until)
			return false;
		usleep(1000);
	}
	return true;
}

/* Nanoseconds that a process has run. */
static uint64_t run_ns(pid_t pid)
{
	unsigned long long ns = 0;
	char path[PATH_SIZE];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
	f = fopen(path, "re");
	if (f == NULL || fscanf(f, "%llu", &ns) != 1)
		tap_bail("no schedstat");
	fclose(f);
	return ns;
}

static int find_dispatchers(pid_t *pids)
{
	DIR *dir = opendir("/proc");
	char path[PATH_SIZE];
	struct dirent *e;
	int n = 0;

	while (dir != NULL && (e = readdir(dir)) != NULL && n < PIDS_MAX) {
		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
		if (file_has(path, "fastwake/"))
			pids[n++] = (pid_t)atoi(e->d_name);
	}
	closedir(dir);
	return n;
}

static uint64_t run_ns_of(const pid_t *pids, int n)
{
	uint64_t sum = 0;

	while (n-- > 0)
		sum += run_ns(pids[n]);
	return sum;
}

/* Those who have said so are on their way to sleep: until nobody runs any more. */
static bool settled(const pid_t *children)
{
	uint64_t until = fwk_now() + PATIENCE, before, now = 0;

	do {
		before = now;
		usleep(20000);
		now = run_ns_of(children, WAITERS);
	} while (now != before && fwk_now() < until);
	return now == before;
}

/* All counters of all cores: whatever the module does is counted. */
static uint64_t counters(const struct fastwake_ioc_query *q, const char *cores)
{
	const size_t first = offsetof(struct fastwake_core, waits);
	const size_t size = sizeof(struct fastwake_core);
	uint64_t sum = 0;
	uint32_t i;
	size_t at;

	for (i = 0; i < q->out_cores; i++)
		for (at = first; at < size; at += 8)
			sum += *(
				const volatile uint64_t
					*)(cores + i * q->out_core_stride + at);
	return sum;
}

static void observe(const pid_t *children, const char *cores,
		    const struct fastwake_ioc_query *q)
{
	static pid_t dispatchers[PIDS_MAX];
	int n = find_dispatchers(dispatchers);
	uint64_t counted, of_dispatchers, of_children;

	tap_ok(n > 0, "the cores have dispatchers");
	counted = counters(q, cores);
	of_dispatchers = run_ns_of(dispatchers, n);
	of_children = run_ns_of(children, WAITERS);
	usleep(OBSERVED / 1000);
	tap_ok(counted != 0, "the module has counted");
	tap_is(counters(q, cores) - counted, 0, "for a second it does nothing");
	tap_is(run_ns_of(dispatchers, n) - of_dispatchers, 0,
	       "the dispatchers do not run");
	tap_is(run_ns_of(children, WAITERS) - of_children, 0,
	       "nor do the waiters");
	tap_ok(!file_has("/proc/timer_list", "fw_backstop"),
	       "no timer was set");
}

int main(void)
{
	struct fastwake_ioc_query q;
	pid_t children[WAITERS];
	char *cores;
	int region;

	tap_begin();
	fd = fwk_open();
	if (fd < 0 || fwk_query(fd, &q) != 0 || pipe(never) != 0)
		tap_bail("no " FWK_DEVICE);
	parked = fwk_map_shared(FWK_PAGE);
	region = fwk_pin(fd, parked, FWK_PAGE);
	cores = mmap(NULL, (size_t)q.out_cores * q.out_core_stride, PROT_READ,
		     MAP_SHARED, fd, FASTWAKE_MMAP_CORES);
	if (region < 0 || cores == MAP_FAILED)
		tap_bail("PIN or mmap failed");
	start(children, (uint32_t)region);
	tap_ok(all_parked(), "200 waiters have parked");
	tap_ok(settled(children) && no_timer(), "no timer is left");
	observe(children, cores, &q);
	end(children);
	return tap_done();
}
