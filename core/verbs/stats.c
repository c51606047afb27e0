// SPDX-License-Identifier: PostgreSQL
/*
 * stats.c - what was done, as a line of JSON at the end of the process.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "verbs.h"

struct fv_stats fv_stats;

#define STATS_MAX 2048

static double percent(uint64_t part, uint64_t of)
{
	return of != 0 ? 100.0 * (double)part / (double)of : 0;
}

static int counters(char *text, size_t size)
{
	const struct fv_stats *s = &fv_stats;

	return snprintf(
		text, size,
		"\"waits\": %llu, \"immediate\": %llu, \"spun\": %llu, \"dispatched\": %llu, \"polled\": %llu, \"interrupted\": %llu, \"parked\": %llu, "
		"\"fastwake_percent\": %.2f, \"synthetic_events\": %llu, \"real_events\": %llu, \"extra_events\": %llu, "
		"\"deferred\": %llu, \"armed\": %llu, \"armed_late\": %llu, \"raised\": %llu, \"surplus_acks\": %llu",
		(unsigned long long)s->waits, (unsigned long long)s->immediate,
		(unsigned long long)s->spun, (unsigned long long)s->dispatched,
		(unsigned long long)s->polled,
		(unsigned long long)s->interrupted,
		(unsigned long long)s->parked,
		percent(s->immediate + s->spun + s->dispatched + s->polled +
				s->interrupted,
			s->waits),
		(unsigned long long)s->synthetic, (unsigned long long)s->real,
		(unsigned long long)s->extra, (unsigned long long)s->deferred,
		(unsigned long long)s->armed, (unsigned long long)s->late,
		(unsigned long long)s->raised, (unsigned long long)s->surplus);
}

static double quantile_us(double q)
{
	return (double)fastwake_histogram_quantile(&fv_stats.wait_ns, q) / 1000;
}

static int all(char *text, size_t size)
{
	int n = snprintf(text, size,
			 "{\"pid\": %d, \"mode\": \"%s\", \"module\": %s, ",
			 (int)getpid(), fv_mode_names[fv_config.mode],
			 fv_module() ? "true" : "false");

	n += counters(text + n, size - (size_t)n);
	n += snprintf(
		text + n, size - (size_t)n,
		", \"wait_us\": {\"p50\": %.3f, \"p99\": %.3f, \"p999\": %.3f, \"max\": %.3f}}\n",
		quantile_us(0.5), quantile_us(0.99), quantile_us(0.999),
		(double)fv_stats.wait_ns.max / 1000);
	return n;
}

/* One write: several processes may append to the file. */
__attribute__((destructor)) static void write_stats(void)
{
	char text[STATS_MAX];
	int fd, n;

	if (fv_config.stats == NULL || !fv_stats.used)
		return;
	n = all(text, sizeof(text));
	fd = open(fv_config.stats, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
		  0644);
	if (fd < 0 || write(fd, text, (size_t)n) != n)
		fv_log("could not write to %s: %m", fv_config.stats);
	if (fd >= 0)
		close(fd);
}

/* A child of fork counts its own. */
void fv_stats_forget(void)
{
	memset(&fv_stats, 0, sizeof(fv_stats));
}
