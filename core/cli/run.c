// SPDX-License-Identifier: PostgreSQL
/*
 * run.c - fastwake run: start a verbs program with libfastwake-verbs.so in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

#define LIBRARY "libfastwake-verbs.so"

/* What env(1) and others return. */
#define CANNOT_RUN 126
#define NOT_FOUND  127

struct options {
	const char *mode;
	const char *cores;
	const char *stats;
	char **command;
};

/* ---- arguments ---- */

static bool is_mode(const char *name)
{
	static const char *const modes[] = { "dispatch", "interrupt",
					     "adaptive", "off" };
	size_t i;

	for (i = 0; i < sizeof(modes) / sizeof(*modes); i++)
		if (strcmp(name, modes[i]) == 0)
			return true;
	return false;
}

static int parse(int argc, char **argv, struct options *o)
{
	int i;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		if (i + 1 == argc)
			return cli_usage("run", "%s needs a value", argv[i]);
		if (strcmp(argv[i], "--mode") == 0)
			o->mode = argv[++i];
		else if (strcmp(argv[i], "--cores") == 0)
			o->cores = argv[++i];
		else if (strcmp(argv[i], "--stats") == 0)
			o->stats = argv[++i];
		else
			return cli_usage("run", "no option \"%s\"", argv[i]);
	}
	if (i == argc)
		return cli_usage("run", "which program?");
	if (o->mode != NULL && !is_mode(o->mode))
		return cli_usage("run", "no mode \"%s\"", o->mode);
	o->command = argv + i;
	return CLI_OK;
}

/* ---- cores ---- */

static bool core_number(char **text, long *core)
{
	char *end;

	if (**text < '0' || **text > '9')
		return false;
	*core = strtol(*text, &end, 10);
	*text = end;
	return *core < CPU_SETSIZE;
}

/* A list as taskset(1) has it: 0,2-4. */
static bool core_list(char *text, cpu_set_t *cores)
{
	long first, last;

	CPU_ZERO(cores);
	for (;; text++) {
		if (!core_number(&text, &first))
			return false;
		last = first;
		if (*text == '-') {
			text++;
			if (!core_number(&text, &last) || last < first)
				return false;
		}
		for (; first <= last; first++)
			CPU_SET((size_t)first, cores);
		if (*text == '\0')
			return true;
		if (*text != ',')
			return false;
	}
}

static int pin(const char *list)
{
	char *text = strdup(list);
	cpu_set_t cores;
	bool good = text != NULL && core_list(text, &cores);

	free(text);
	if (!good)
		return cli_usage("run", "\"%s\" is no list of cores", list);
	if (sched_setaffinity(0, sizeof(cores), &cores) == 0)
		return CLI_OK;
	return cli_fail("run", "could not run on cores %s: %s", list,
			strerror(errno));
}

/* ---- environment ---- */

static bool usable(const char *path)
{
	return access(path, R_OK) == 0;
}

/* Beside the tool as it was built, or where both are installed. */
static bool find_library(char *path, size_t size)
{
	static const char *const places[] = { "", "../lib/fastwake/" };
	char self[PATH_MAX], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	size_t i;
	int length;

	if (n <= 0)
		return false;
	self[n] = '\0';
	slash = strrchr(self, '/');
	slash[1] = '\0';
	for (i = 0; i < sizeof(places) / sizeof(*places); i++) {
		length = snprintf(path, size, "%s%s" LIBRARY, self, places[i]);
		if (length > 0 && (size_t)length < size && usable(path))
			return true;
	}
	length = snprintf(path, size, "%s",
			  FASTWAKE_LIBDIR "/fastwake/" LIBRARY);
	return length > 0 && (size_t)length < size && usable(path);
}

static int preload(void)
{
	char path[2 * PATH_MAX], *all;
	const char *others = getenv("LD_PRELOAD");
	int rc = CLI_OK;

	if (!find_library(path, sizeof(path)))
		return cli_fail("run", "could not find " LIBRARY);
	if (strpbrk(path, ": ") != NULL)
		return cli_fail(
			"run", "%s cannot be preloaded: ':' or ' ' in its name",
			path);
	if (others == NULL || others[0] == '\0')
		others = "";
	all = malloc(strlen(path) + strlen(others) + 2);
	if (all == NULL)
		return cli_fail("run", "out of memory");
	sprintf(all, "%s%s%s", path, others[0] != '\0' ? ":" : "", others);
	if (setenv("LD_PRELOAD", all, 1) != 0)
		rc = cli_fail("run", "out of memory");
	free(all);
	return rc;
}

/* Empty at first; each process adds its line. The program may change directory. */
static int make_stats(const char *name)
{
	char path[PATH_MAX];
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return cli_fail("run", "could not create %s: %s", name,
				strerror(errno));
	close(fd);
	if (realpath(name, path) == NULL ||
	    setenv("FASTWAKE_STATS", path, 1) != 0)
		return cli_fail("run", "could not use %s: %s", name,
				strerror(errno));
	return CLI_OK;
}

static int prepare(const struct options *o)
{
	int rc = o->cores != NULL ? pin(o->cores) : CLI_OK;

	if (rc == CLI_OK && o->stats != NULL)
		rc = make_stats(o->stats);
	if (rc == CLI_OK && o->mode != NULL &&
	    setenv("FASTWAKE_MODE", o->mode, 1) != 0)
		rc = cli_fail("run", "out of memory");
	return rc == CLI_OK ? preload() : rc;
}

int cli_run(int argc, char **argv)
{
	struct options o = { .mode = NULL };
	int rc = parse(argc, argv, &o);

	if (rc == CLI_OK)
		rc = prepare(&o);
	if (rc != CLI_OK)
		return rc;
	execvp(o.command[0], o.command);
	rc = errno == ENOENT ? NOT_FOUND : CANNOT_RUN;
	(void)cli_fail("run", "could not run %s: %s", o.command[0],
		       strerror(errno));
	return rc;
}
