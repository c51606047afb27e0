// SPDX-License-Identifier: PostgreSQL
/*
 * holder.c - is the process that holds a slot still alive?
 *
 * Asked only when a slot or a bucket is contended.  When in doubt the answer is
 * that it lives: then an attach fails, which is harmless.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define NSEC_PER_SEC 1000000000ull

/* The process's clock of /proc/PID/stat: includes suspend. */
uint64_t fw_boottime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

struct stat_line {
	char state;
	long threads;
	unsigned long long start_ticks;
};

/* The command name may contain anything: fields count from the last ')'. */
static bool parse_stat(const char *line, struct stat_line *st)
{
	const char *p = strrchr(line, ')');

	return p != NULL &&
	       sscanf(p + 1,
		      " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u"
		      " %*d %*d %*d %*d %ld %*d %llu",
		      &st->state, &st->threads, &st->start_ticks) == 3;
}

static bool read_stat(pid_t pid, struct stat_line *st)
{
	char path[32], line[1024];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	len = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (len <= 0)
		return false;
	line[len] = '\0';
	return parse_stat(line, st);
}

bool fw_holder_dead(pid_t pid, uint64_t since_ns)
{
	struct stat_line st;
	long hz = sysconf(_SC_CLK_TCK);
	uint64_t start_ns;

	if (pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH))
		return true;
	if (hz <= 0 || !read_stat(pid, &st))
		return false;
	/* A zombie; a dead first thread with others alive is none. */
	if (st.state == 'Z' && st.threads <= 1)
		return true;
	start_ns = st.start_ticks * (NSEC_PER_SEC / (uint64_t)hz);
	return start_ns > since_ns;
}
