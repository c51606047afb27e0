/* SPDX-License-Identifier: PostgreSQL */
/*
 * cli.h - what the commands of fastwake(1) share.
 */
#ifndef FASTWAKE_CLI_H
#define FASTWAKE_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Exit statuses of every command. */
#define CLI_OK	  0
#define CLI_NO	  1 /* the answer is no: no module, a check has failed */
#define CLI_USAGE 2

/* Each gets the arguments from its own name on. */
int cli_run(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_top(int argc, char **argv);

/* To standard error, with the command's name before it; returns CLI_USAGE. */
__attribute__((format(printf, 2, 3))) int cli_usage(const char *command,
						    const char *format, ...);
/* The same for what is not the user's fault; returns CLI_NO. */
__attribute__((format(printf, 2, 3))) int cli_fail(const char *command,
						   const char *format, ...);

/* A number from MIN to MAX; false if TEXT is anything else. */
bool cli_number(const char *text, double min, double max, double *value);

/* TEXT as a JSON string, with its quotes. */
void cli_json_text(FILE *out, const char *text);

/* Flushes standard output; CLI_NO if some of it could not be written. */
int cli_finish(int status);

#endif
