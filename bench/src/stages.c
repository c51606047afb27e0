// SPDX-License-Identifier: PostgreSQL
/*
 * stages.c - a plugin of QEMU that notes when the guest reaches some of its
 * code, counted in instructions.  The guest does not notice: nothing is added to
 * what it executes, as a tracer in the guest would.
 *
 * -plugin stages.so,points=FILE,trace=FILE
 *
 * A line of "points" is a hexadecimal address, a name, and 0 or where the function
 * ends, whose returns are then noted too.  A line of "trace" is a number of
 * instructions since the guest was started, and a name, of a return with ":ret".
 *
 * One processor only.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

/* ---- points ---- */

#define POINTS 256

struct point {
	uint64_t address;
	uint64_t end;
	char name[64];
};

/* A point in a piece of code as QEMU has translated it. */
struct place {
	const struct point *point;
	const char *suffix;
	uint64_t behind; /* instructions of the piece from there on */
};

static struct point points[POINTS];
static unsigned int point_count;
static uint64_t executed; /* with all of the piece that has just begun */
static FILE *trace;

static int read_points(const char *path)
{
	FILE *f = fopen(path, "r");

	if (f == NULL)
		return -1;
	while (point_count < POINTS &&
	       fscanf(f, "%" SCNx64 " %63s %" SCNx64,
		      &points[point_count].address, points[point_count].name,
		      &points[point_count].end) == 3)
		point_count++;
	fclose(f);
	return point_count > 0 ? 0 : -1;
}

static int is_return(const struct qemu_plugin_insn *insn)
{
	const unsigned char *bytes = qemu_plugin_insn_data(insn);

	return bytes[0] == 0xc3;
}

/* Sets *SUFFIX to what distinguishes a return. */
static const struct point *point_at(const struct qemu_plugin_insn *insn,
				    const char **suffix)
{
	uint64_t address = qemu_plugin_insn_vaddr(insn);
	const struct point *p;

	for (p = points; p < points + point_count; p++) {
		*suffix = "";
		if (p->address == address)
			return p;
		*suffix = ":ret";
		if (p->address < address && address < p->end && is_return(insn))
			return p;
	}
	return NULL;
}

/* ---- what QEMU calls ---- */

static void reached(unsigned int cpu, void *data)
{
	const struct place *place = data;

	(void)cpu;
	fprintf(trace, "%" PRIu64 " %s%s\n", executed - place->behind,
		place->point->name, place->suffix);
}

/* Places live as long as QEMU does: it may keep the code for ever. */
static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb), i;

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &executed, n);
	for (i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		const char *suffix;
		const struct point *point = point_at(insn, &suffix);
		struct place *place;

		if (point == NULL)
			continue;
		place = malloc(sizeof(*place));
		if (place == NULL)
			abort();
		*place = (struct place){ .point = point,
					 .suffix = suffix,
					 .behind = n - i };
		qemu_plugin_register_vcpu_insn_exec_cb(
			insn, reached, CALL_WITHOUT_REGISTERS, place);
	}
}

static void at_exit(plugin_id id, void *data)
{
	(void)id;
	(void)data;
	fclose(trace);
}

__attribute__((visibility("default"))) int
qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
	int i;

	(void)info;
	for (i = 0; i < argc; i++) {
		if (strncmp(argv[i], "points=", 7) == 0 &&
		    read_points(argv[i] + 7) != 0)
			fprintf(stderr, "stages: no points in %s\n",
				argv[i] + 7);
		else if (strncmp(argv[i], "trace=", 6) == 0)
			trace = fopen(argv[i] + 6, "w");
	}
	if (trace == NULL || point_count == 0)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, at_exit, NULL);
	return 0;
}
