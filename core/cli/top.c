// SPDX-License-Identifier: PostgreSQL
/*
 * top.c - fastwake top: what the cores' waits do, per second.
 *
 * On a terminal the table is drawn over the one before; else each is appended.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "device.h"
#include "fastwake.h"

#define COMMAND	  "top"
#define DELAY_MIN 0.05
#define DELAY_MAX 86400.0
#define COUNT_MAX 1e9

struct options {
	double delay_s;
	double count; /* 0: until it is ended */
};

/* Cores of one moment. */
struct sample {
	uint64_t taken_ns;
	struct fastwake_core *core;
};

static const struct {
	const char *title;
	size_t offset;
} rates[] = {
	{ "waits/s", offsetof(struct fastwake_core, waits) },
	{ "immed", offsetof(struct fastwake_core, immediate) },
	{ "spun", offsetof(struct fastwake_core, spun) },
	{ "slept", offsetof(struct fastwake_core, slept) },
	{ "parks", offsetof(struct fastwake_core, parks) },
	{ "handoff", offsetof(struct fastwake_core, handoffs) },
	{ "dispatch", offsetof(struct fastwake_core, dispatches) },
	{ "wake", offsetof(struct fastwake_core, wakes) },
	{ "switch", offsetof(struct fastwake_core, switches) },
	{ "event", offsetof(struct fastwake_core, events) },
	{ "here", offsetof(struct fastwake_core, events_here) },
	{ "moves", offsetof(struct fastwake_core, moves) },
	{ "backstop", offsetof(struct fastwake_core, backstops) },
	{ "polls", offsetof(struct fastwake_core, polls) },
};

#define RATES (sizeof(rates) / sizeof(*rates))

static uint64_t counter(const struct fastwake_core *core, size_t offset)
{
	uint64_t value;

	memcpy(&value, (const char *)core + offset, sizeof(value));
	return value;
}

static void take(const struct device *d, const void *cores, struct sample *s)
{
	unsigned int i;

	for (i = 0; i < d->query.out_cores; i++)
		s->core[i] = core_of(d, cores, i);
	s->taken_ns = fastwake_now();
}

static const char *scanner_name(uint32_t scanner)
{
	return scanner == FASTWAKE_SCANNER_WAITER	? "waiter"
	       : scanner == FASTWAKE_SCANNER_DISPATCHER ? "dispatch"
							: "-";
}

static void line(const char *name, const struct fastwake_core *before,
		 const struct fastwake_core *now, double seconds)
{
	size_t i;

	printf("%-5s %7u %-8s", name, now->waiters, scanner_name(now->scanner));
	for (i = 0; i < RATES; i++)
		printf(" %8.0f", (double)(counter(now, rates[i].offset) -
					  counter(before, rates[i].offset)) /
					 seconds);
	putchar('\n');
}

/* Of the cores that there are; one that goes keeps its counts. */
static bool exists(unsigned int core)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u", core);
	return access(path, F_OK) == 0;
}

static void table(const struct device *d, const struct sample *before,
		  const struct sample *now)
{
	double seconds = (double)(now->taken_ns - before->taken_ns) / 1e9;
	char name[16];
	unsigned int c;
	size_t i;

	printf("%-5s %7s %-8s", "core", "waiters", "scanner");
	for (i = 0; i < RATES; i++)
		printf(" %8s", rates[i].title);
	putchar('\n');
	for (c = 0; c < d->query.out_cores; c++) {
		if (!exists(c))
			continue;
		snprintf(name, sizeof(name), "%u", c);
		line(name, &before->core[c], &now->core[c], seconds);
	}
}

static void pause_for(double seconds)
{
	struct timespec t = { .tv_sec = (time_t)seconds };

	t.tv_nsec = (long)((seconds - floor(seconds)) * 1e9);
	nanosleep(&t, NULL);
}

static int show(const struct options *o, const struct device *d,
		const void *cores, struct sample *before, struct sample *now)
{
	bool terminal = isatty(STDOUT_FILENO) == 1;
	struct sample other;
	double i;

	take(d, cores, before);
	for (i = 0; o->count == 0 || i < o->count; i++) {
		pause_for(o->delay_s);
		take(d, cores, now);
		if (terminal)
			fputs("\033[H\033[J", stdout);
		else if (i > 0)
			putchar('\n');
		table(d, before, now);
		if (cli_finish(CLI_OK) != CLI_OK)
			return CLI_NO;
		other = *before;
		*before = *now;
		*now = other;
	}
	return CLI_OK;
}

static int allocate_and_show(const struct options *o, const struct device *d)
{
	const void *cores = device_map_cores(d);
	struct sample before = { .core = NULL }, now = { .core = NULL };
	int status;

	if (cores == NULL)
		return cli_fail(COMMAND, "could not map the cores' counters");
	before.core = calloc(d->query.out_cores, sizeof(*before.core));
	now.core = calloc(d->query.out_cores, sizeof(*now.core));
	if (before.core != NULL && now.core != NULL)
		status = show(o, d, cores, &before, &now);
	else
		status = cli_fail(COMMAND, "out of memory");
	free(before.core);
	free(now.core);
	device_unmap_cores(d, cores);
	return status;
}

static int parse(struct options *o, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "-d") == 0) {
			if (!cli_number(value, DELAY_MIN, DELAY_MAX,
					&o->delay_s))
				return cli_usage(
					COMMAND,
					"-d takes seconds from %g to %g",
					DELAY_MIN, DELAY_MAX);
		} else if (strcmp(argv[i], "-n") == 0) {
			if (!cli_number(value, 1, COUNT_MAX, &o->count) ||
			    o->count != floor(o->count))
				return cli_usage(
					COMMAND,
					"-n takes a whole number from 1 on");
		} else {
			return cli_usage(COMMAND, "unknown argument \"%s\"",
					 argv[i]);
		}
	}
	return CLI_OK;
}

int cli_top(int argc, char **argv)
{
	struct options o = { .delay_s = 1 };
	struct device d;
	int status = parse(&o, argc, argv);

	if (status != CLI_OK)
		return status;
	device_open(&d);
	if (d.state != DEVICE_READY)
		return cli_fail(COMMAND, "%s; remedy: %s", d.problem, d.remedy);
	status = allocate_and_show(&o, &d);
	device_close(&d);
	return status;
}
