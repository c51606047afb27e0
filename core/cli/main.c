// SPDX-License-Identifier: PostgreSQL
/*
 * main.c - fastwake: command-line tool of libfastwake and its kernel module.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "fastwake.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *arguments;
	const char *what;
};

static const struct command commands[] = {
	{ "run", cli_run,
	  "[--mode MODE] [--cores LIST] [--stats FILE] [--] COMMAND...",
	  "a verbs program, whose waits are on memory" },
	{ "status", cli_status, "[--json]",
	  "what there is: module, RDMA devices, cores" },
	{ "top", cli_top, "[-d SECONDS] [-n COUNT]",
	  "what the cores' waits do, per second" },
	{ "bench", cli_bench, "[--json] [-n EVENTS] [CASE...]",
	  "what a wake-up costs, beside Linux's own" },
};

#define COMMANDS (sizeof(commands) / sizeof(*commands))

static void help(FILE *out)
{
	size_t i;

	fputs("usage: fastwake COMMAND [ARGUMENT...]\n\n", out);
	for (i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-7s %-30s  %s\n", commands[i].name,
			commands[i].arguments, commands[i].what);
	fputs("\n  --help, --version\n\nSee fastwake(1).\n", out);
}

static void complain(const char *command, const char *format, va_list args)
{
	fprintf(stderr, "fastwake%s%s: ", command[0] != '\0' ? " " : "",
		command);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

int cli_usage(const char *command, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(command, format, args);
	va_end(args);
	fputs("Try \"fastwake --help\".\n", stderr);
	return CLI_USAGE;
}

int cli_fail(const char *command, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(command, format, args);
	va_end(args);
	return CLI_NO;
}

bool cli_number(const char *text, double min, double max, double *value)
{
	char *end;

	errno = 0;
	*value = strtod(text, &end);
	return end != text && *end == '\0' && errno == 0 && isfinite(*value) &&
	       *value >= min && *value <= max;
}

void cli_json_text(FILE *out, const char *text)
{
	const unsigned char *c;

	fputc('"', out);
	for (c = (const unsigned char *)text; *c != '\0'; c++)
		if (*c == '"' || *c == '\\')
			fprintf(out, "\\%c", *c);
		else if (*c < 0x20)
			fprintf(out, "\\u%04x", *c);
		else
			fputc(*c, out);
	fputc('"', out);
}

int cli_finish(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	return cli_fail("", "could not write the output: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	size_t i;

	if (argc < 2)
		return cli_usage("", "which command?");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		help(stdout);
		return cli_finish(CLI_OK);
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("fastwake %s\n", fastwake_version());
		return cli_finish(CLI_OK);
	}
	for (i = 0; i < COMMANDS; i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	return cli_usage("", "no command \"%s\"", argv[1]);
}
