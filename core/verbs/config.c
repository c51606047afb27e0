// SPDX-License-Identifier: PostgreSQL
/*
 * config.c - settings, which come by the environment.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "verbs.h"

#define POLL_US_DEFAULT 50
#define POLL_US_MAX	1000

struct fv_config fv_config;

const char *const fv_mode_names[] = {
	[FV_OFF] = "off",
	[FV_INTERRUPT] = "interrupt",
	[FV_ADAPTIVE] = "adaptive",
	[FV_DISPATCH] = "dispatch",
};

#define MODES (sizeof(fv_mode_names) / sizeof(*fv_mode_names))

static const char *log_name;

void fv_log(const char *format, ...)
{
	int saved = errno, fd, n, used;
	char line[512];
	va_list args;

	if (log_name == NULL)
		return;
	used = snprintf(line, sizeof(line), "fastwake[%d]: ", (int)getpid());
	va_start(args, format);
	n = vsnprintf(line + used, sizeof(line) - (size_t)used - 1, format,
		      args);
	va_end(args);
	if (n > 0)
		strcat(line, "\n");
	fd = strcmp(log_name, "-") == 0
		     ? dup(STDERR_FILENO)
		     : open(log_name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
			    0644);
	if (fd >= 0) {
		if (write(fd, line, strlen(line)) < 0)
			errno = saved; /* there is nobody to tell */
		close(fd);
	}
	errno = saved;
}

/* Not in programs that run with the rights of others. */
static const char *setting(const char *name)
{
	const char *value = secure_getenv(name);

	return value != NULL && value[0] != '\0' ? value : NULL;
}

static void read_mode(void)
{
	const char *name = setting("FASTWAKE_MODE");
	size_t i;

	fv_config.mode = FV_ADAPTIVE;
	if (name == NULL)
		return;
	for (i = 0; i < MODES; i++)
		if (strcmp(name, fv_mode_names[i]) == 0) {
			fv_config.mode = (enum fv_mode)i;
			return;
		}
	fv_log("FASTWAKE_MODE=%s is none of dispatch, interrupt, adaptive, off: adaptive is used",
	       name);
}

static void read_poll(void)
{
	const char *text = setting("FASTWAKE_POLL_US");
	unsigned long us = POLL_US_DEFAULT;
	char *end;

	if (text != NULL) {
		errno = 0;
		us = strtoul(text, &end, 10);
		if (*end != '\0' || errno != 0 || us > POLL_US_MAX) {
			fv_log("FASTWAKE_POLL_US=%s is not a number from 0 to %d: %d is used",
			       text, POLL_US_MAX, POLL_US_DEFAULT);
			us = POLL_US_DEFAULT;
		}
	}
	fv_config.poll_ns = us * 1000;
}

__attribute__((constructor)) static void read_settings(void)
{
	log_name = setting("FASTWAKE_LOG");
	read_mode();
	read_poll();
	fv_config.stats = setting("FASTWAKE_STATS");
	fv_config.timed =
		fv_config.stats != NULL || fv_config.mode == FV_ADAPTIVE;
}
