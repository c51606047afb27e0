// SPDX-License-Identifier: PostgreSQL
/*
 * bench.c - fastwake bench: what a wake-up costs by the module, beside what
 * Linux has for the same.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench.h"
#include "cli.h"

#define COMMAND	   "bench"
#define EVENTS	   2000
#define EVENTS_MIN 100
#define EVENTS_MAX 1000000
#define PARAMETER  "/sys/module/fastwake/parameters/test_events"
#define TOLERANCE  0.05

struct options {
	bool json;
	uint32_t events;
	int ncases;
	char **cases; /* none: all but those that are asked for by name only */
};

/* ------------------------------------------------------------------ */
/* Cases                                                              */
/* ------------------------------------------------------------------ */

static const struct {
	const char *name;
	const struct bench_run *runs; /* up to one without a name */
	bool by_default;
} cases[] = {
	{ "own-event", bench_own, true },
	{ "handoff", bench_handoff, true },
	{ "fanout-4", bench_fanout, false },
	{ "fanout-16", bench_fanout, true },
	{ "fanout-64", bench_fanout, false },
	{ "fanout-256", bench_fanout, true },
	{ "competitor", bench_competitor, false },
	{ "verbs", bench_verbs, false },
};

#define CASES (sizeof(cases) / sizeof(*cases))

static bool wanted(const struct options *o, size_t i)
{
	int j;

	for (j = 0; j < o->ncases; j++)
		if (strcmp(o->cases[j], cases[i].name) == 0)
			return true;
	return o->ncases == 0 && cases[i].by_default;
}

static bool is_case(const char *name)
{
	size_t i;

	for (i = 0; i < CASES; i++)
		if (strcmp(cases[i].name, name) == 0)
			return true;
	return false;
}

/* ------------------------------------------------------------------ */
/* Figures                                                            */
/* ------------------------------------------------------------------ */

struct figures {
	uint32_t n;
	double p50_us;
	double p99_us;
	double max_us;
};

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The smallest of the N sorted values that a fraction Q of them do not exceed. */
static double quantile_us(const uint64_t *sorted, uint32_t n, double q)
{
	uint32_t rank = (uint32_t)(q * n);

	if ((double)rank < q * n)
		rank++;
	return (double)sorted[rank == 0 ? 0 : rank - 1] / 1e3;
}

/*
 * A tenth more is warming up, and not counted, or enough to have one for almost
 * every waiter: before that, those who wait since the start give up all at once
 * when their budgets end.
 */
static uint32_t events_with_warm_up(uint32_t events, uint32_t waiters)
{
	uint32_t tenth = events / 10, each = 8 * waiters;

	return events + (tenth > each ? tenth : each);
}

static struct figures figures_of(const struct bench_run *run, uint32_t events)
{
	uint64_t *latency = bench_shm->latency +
			    events_with_warm_up(events, run->waiters) - events;

	qsort(latency, events, sizeof(*latency), by_value);
	return (struct figures){ .n = events,
				 .p50_us = quantile_us(latency, events, 0.5),
				 .p99_us = quantile_us(latency, events, 0.99),
				 .max_us = quantile_us(latency, events, 1) };
}

static void print(const struct bench_run *run, const struct figures *f,
		  bool json)
{
	if (json)
		printf("{\"case\": \"%s\", \"path\": \"%s\", \"n\": %u, \"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f}\n",
		       run->name, run->path, f->n, f->p50_us, f->p99_us,
		       f->max_us);
	else
		printf("%-11s %-9s %7u %8.2f %8.2f %8.2f %9.2f\n", run->name,
		       run->path, f->n, f->p50_us, f->p99_us, f->max_us,
		       f->p99_us / f->p50_us);
	fflush(stdout);
}

/* ------------------------------------------------------------------ */
/* Comparison                                                         */
/* ------------------------------------------------------------------ */

/*
 * What Linux itself takes: Debian's kernels, one processor, each instruction 1 ns.
 * If the stock paths come out otherwise there, the others cannot be trusted.
 */
static const char *const kernels[] = { "6.1.", "6.12." };

#define KERNELS (sizeof(kernels) / sizeof(*kernels))

static const struct {
	const char *name;
	const char *path;
	double p50_us[KERNELS];
} references[] = {
	{ "own-event", "eventfd", { 3.55, 4.55 } },
	{ "handoff", "latch", { 8.4, 8.85 } },
	{ "handoff", "latch", { 8.4, 9.455 } }, /* one of both, by run */
	{ "handoff", "futex", { 6.3, 5.6 } },
	{ "handoff", "pipe", { 6.4, 6.05 } },
	{ "handoff", "eventfd", { 6.8, 6.35 } },
	{ "fanout-16", "eventfd", { 7.2, 8.8 } },
};

static bool within_tolerance(double us, double reference_us)
{
	return us >= reference_us * (1 - TOLERANCE) &&
	       us <= reference_us * (1 + TOLERANCE);
}

/* On KERNEL, a number in kernels.  A path may have several figures. */
static bool as_reference(const struct bench_run *run, const struct figures *f,
			 size_t kernel)
{
	size_t i;
	double p50_us = 0;

	for (i = 0; i < sizeof(references) / sizeof(*references); i++) {
		if (strcmp(references[i].name, run->name) != 0 ||
		    strcmp(references[i].path, run->path) != 0)
			continue;
		p50_us = references[i].p50_us[kernel];
		if (within_tolerance(f->p50_us, p50_us))
			return true;
	}
	if (p50_us == 0)
		return true;
	cli_fail(
		COMMAND,
		"%s by %s takes %.2f us, and not %.2f as this kernel does on this clock: the run is not valid",
		run->name, run->path, f->p50_us, p50_us);
	return false;
}

/* Two instructions a turn; more if the loop were not what it is. */
static void turns(uint64_t n)
{
#if defined(__x86_64__)
	__asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(n) : : "cc");
#else
	while (n-- > 0)
		__asm__ volatile("" : : : "memory");
#endif
}

/* How long they take, less what interrupts take: the best of a few times. */
static double turns_ns(uint64_t n)
{
	uint64_t begin, took, best = UINT64_MAX;
	int i;

	for (i = 0; i < 10; i++) {
		begin = fastwake_now();
		turns(n);
		took = fastwake_now() - begin;
		if (took < best)
			best = took;
	}
	return (double)best;
}

/* Does the clock count instructions?  A processor does several per ns. */
static bool instruction_clock(void)
{
	const uint64_t n = 100000;
	double took = turns_ns(n);

	return took > 1.98 * (double)n && took < 2.05 * (double)n;
}

/* A number in kernels, or KERNELS: there is nothing to compare with. */
static size_t comparable_kernel(void)
{
	struct utsname running;
	size_t i;

	if (uname(&running) != 0 || sysconf(_SC_NPROCESSORS_ONLN) != 1 ||
	    !instruction_clock())
		return KERNELS;
	for (i = 0; i < KERNELS; i++)
		if (strncmp(running.release, kernels[i], strlen(kernels[i])) ==
		    0)
			break;
	return i;
}

/* ------------------------------------------------------------------ */
/* Preparation                                                        */
/* ------------------------------------------------------------------ */

static bool set_test_events(const char *value)
{
	FILE *file = fopen(PARAMETER, "w");
	bool done;

	if (file == NULL)
		return false;
	done = fputs(value, file) >= 0;
	return fclose(file) == 0 && done;
}

/* Everything on the first processor that we may run on. */
static int pin_to_core(void)
{
	cpu_set_t set;
	size_t cpu;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return -errno;
	for (cpu = 0; cpu < CPU_SETSIZE && !CPU_ISSET(cpu, &set); cpu++)
		;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0 ? 0 : -errno;
}

static uint32_t region; /* all that the cases share */

static size_t shared_size(uint32_t events)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t size =
		sizeof(*bench_shm) +
		events_with_warm_up(events, BENCH_SLOTS) * sizeof(uint64_t);

	return (size + page - 1) / page * page;
}

static int share(uint32_t events)
{
	struct fastwake_ioc_pin p = { .size = sizeof(p),
				      .length = shared_size(events) };
	void *mem = mmap(NULL, p.length, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int rc;

	if (mem == MAP_FAILED)
		return -errno;
	bench_shm = mem;
	p.addr = (uintptr_t)mem;
	rc = device_call(bench_fd, FASTWAKE_IOC_PIN, &p);
	if (rc == 0)
		region = p.out_region;
	return rc;
}

/* ------------------------------------------------------------------ */
/* The command                                                        */
/* ------------------------------------------------------------------ */

static bool run_case(const struct options *o, size_t number, size_t kernel)
{
	const struct bench_run *run;
	struct figures f;
	bool good = true;

	for (run = cases[number].runs; run->name != NULL; run++) {
		if (strcmp(run->name, cases[number].name) != 0)
			continue;
		memset(bench_shm, 0, shared_size(o->events));
		bench_use(region, events_with_warm_up(o->events, run->waiters));
		run->run(run);
		f = figures_of(run, o->events);
		print(run, &f, o->json);
		good = (kernel == KERNELS || as_reference(run, &f, kernel)) &&
		       good;
	}
	return good;
}

static int run_all(const struct options *o)
{
	size_t kernel = comparable_kernel(), i;
	bool good = true;

	if (!o->json)
		printf("%-11s %-9s %7s %8s %8s %8s %9s\n", "case", "path", "n",
		       "p50 us", "p99 us", "max us", "p99/p50");
	for (i = 0; i < CASES; i++)
		if (wanted(o, i))
			good = run_case(o, i, kernel) && good;
	if (kernel == KERNELS)
		fputs("fastwake bench: not compared with what Linux is known to take: that is for Linux 6.1 and 6.12 on one processor whose clock counts instructions (lab/run --icount)\n",
		      stderr);
	return good ? CLI_OK : CLI_NO;
}

static int prepare_and_run(const struct options *o)
{
	int rc = pin_to_core();

	if (rc != 0)
		return cli_fail(COMMAND, "could not stay on one core: %s",
				strerror(-rc));
	rc = share(o->events);
	if (rc != 0)
		return cli_fail(COMMAND, "could not pin memory: %s",
				strerror(-rc));
	return run_all(o);
}

/* The module's test events are switched on if they are not, and off again. */
static int with_events(const struct options *o, const struct device *d)
{
	bool switched = false;
	int status;

	if (geteuid() != 0)
		return cli_fail(COMMAND,
				"only root may order the module's events");
	if (!(d->query.out_features & FASTWAKE_FEATURE_TEST_EVENT)) {
		switched = set_test_events("1");
		if (!switched)
			return cli_fail(
				COMMAND,
				"the module's test events are off; remedy: rmmod fastwake; modprobe fastwake test_events=1");
	}
	status = prepare_and_run(o);
	if (switched)
		(void)set_test_events("0");
	return status;
}

/* Returns CLI_OK, or what to end with. */
static int parse(struct options *o, int argc, char **argv)
{
	double number;
	int i;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--json") == 0) {
			o->json = true;
		} else if (strcmp(argv[i], "-n") == 0 && i + 1 < argc) {
			if (!cli_number(argv[++i], EVENTS_MIN, EVENTS_MAX,
					&number))
				return cli_usage(
					COMMAND,
					"-n takes a number from %d to %d",
					EVENTS_MIN, EVENTS_MAX);
			o->events = (uint32_t)number;
		} else {
			return cli_usage(COMMAND, "unknown argument \"%s\"",
					 argv[i]);
		}
	}
	o->cases = argv + i;
	o->ncases = argc - i;
	for (; i < argc; i++)
		if (!is_case(argv[i]))
			return cli_usage(
				COMMAND,
				"no case \"%s\"; there are own-event, handoff, fanout-4, fanout-16, fanout-64, fanout-256, competitor, verbs",
				argv[i]);
	return CLI_OK;
}

int cli_bench(int argc, char **argv)
{
	struct options o = { .events = EVENTS };
	struct device d;
	int status = parse(&o, argc, argv);

	if (status != CLI_OK)
		return status;
	device_open(&d);
	if (d.state != DEVICE_READY)
		return cli_fail(COMMAND, "%s; remedy: %s", d.problem, d.remedy);
	bench_fd = d.fd;
	status = with_events(&o, &d);
	device_close(&d);
	return cli_finish(status);
}
