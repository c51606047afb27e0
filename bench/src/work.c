// SPDX-License-Identifier: PostgreSQL
/*
 * work.c - a plugin of QEMU that counts how many instructions the guest executes
 * where.  The guest does not notice.
 *
 * -plugin work.so,points=FILE,counts=FILE
 *
 * A line of "points" is a hexadecimal address and a name: "window", which begins a
 * count when it is reached, and ends it when it is reached again; "=NAME" counts how
 * often it is reached.  "counts" gets, for each window, "window NUMBER"; "=NAME
 * TIMES"; and "ADDRESS INSTRUCTIONS" for each piece of code that was executed.
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

#define POINTS 64

struct point {
	uint64_t address;
	char name[64];
	uint64_t reached;
};

static struct point points[POINTS];
static unsigned int point_count;

static int read_points(const char *path)
{
	FILE *f = fopen(path, "r");

	if (f == NULL)
		return -1;
	while (point_count < POINTS &&
	       fscanf(f, "%" SCNx64 " %63s", &points[point_count].address,
		      points[point_count].name) == 2)
		point_count++;
	fclose(f);
	return point_count > 0 ? 0 : -1;
}

/* ---- pieces of code ---- */

#define PIECES (1u << 21)

struct piece {
	uint64_t address;
	uint64_t n;	/* instructions; 0: free */
	uint64_t times; /* executed */
};

static struct piece pieces[PIECES];

/* QEMU translates the same code now and then. */
static struct piece *piece_at(uint64_t address, uint64_t n)
{
	uint64_t hash = (address ^ n << 48) * 0x9E3779B97F4A7C15ull;
	unsigned int i, tries;

	for (tries = 0; tries < PIECES; tries++) {
		i = (unsigned int)((hash >> 40) + tries) % PIECES;
		if (pieces[i].n == 0)
			pieces[i] = (struct piece){ address, n, 0 };
		if (pieces[i].address == address && pieces[i].n == n)
			return &pieces[i];
	}
	abort();
}

/* ---- windows ---- */

static FILE *counts;
static unsigned int window;
static int counting;

static void end_window(void)
{
	unsigned int i;

	fprintf(counts, "window %u\n", window++);
	for (i = 0; i < point_count; i++)
		if (points[i].name[0] == '=')
			fprintf(counts, "%s %" PRIu64 "\n", points[i].name,
				points[i].reached);
	for (i = 0; i < PIECES; i++)
		if (pieces[i].times != 0)
			fprintf(counts, "%" PRIx64 " %" PRIu64 "\n",
				pieces[i].address,
				pieces[i].times * pieces[i].n);
	fflush(counts);
}

static void begin_window(void)
{
	unsigned int i;

	for (i = 0; i < point_count; i++)
		points[i].reached = 0;
	for (i = 0; i < PIECES; i++)
		pieces[i].times = 0;
}

/* ---- what QEMU calls ---- */

static void reached(unsigned int cpu, void *data)
{
	struct point *point = data;

	(void)cpu;
	point->reached++;
	if (strcmp(point->name, "window") != 0)
		return;
	if (counting)
		end_window();
	else
		begin_window();
	counting = !counting;
}

static void executed(unsigned int cpu, void *data)
{
	struct piece *piece = data;

	(void)cpu;
	if (counting)
		piece->times++;
}

static void watch_points(const struct qemu_plugin_tb *tb, size_t n)
{
	size_t i, p;

	for (i = 0; i < n; i++)
		for (p = 0; p < point_count; p++) {
			struct qemu_plugin_insn *insn =
				qemu_plugin_tb_get_insn(tb, i);

			if (qemu_plugin_insn_vaddr(insn) == points[p].address)
				qemu_plugin_register_vcpu_insn_exec_cb(
					insn, reached, CALL_WITHOUT_REGISTERS,
					&points[p]);
		}
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_cb(
		tb, executed, CALL_WITHOUT_REGISTERS,
		piece_at(qemu_plugin_tb_vaddr(tb), n));
	watch_points(tb, n);
}

static void at_exit(plugin_id id, void *data)
{
	(void)id;
	(void)data;
	fclose(counts);
}

__attribute__((visibility("default"))) int
qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
	int i;

	(void)info;
	for (i = 0; i < argc; i++) {
		if (strncmp(argv[i], "points=", 7) == 0 &&
		    read_points(argv[i] + 7) != 0)
			fprintf(stderr, "work: no points in %s\n", argv[i] + 7);
		else if (strncmp(argv[i], "counts=", 7) == 0)
			counts = fopen(argv[i] + 7, "w");
	}
	if (counts == NULL || point_count == 0)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, at_exit, NULL);
	return 0;
}
