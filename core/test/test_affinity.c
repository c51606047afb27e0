// SPDX-License-Identifier: PostgreSQL
/*
 * The policy that brings interrupts and those who wait for them onto one core, on
 * machines that are made up.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../src/affinity.h"
#include "tap.h"

#define MS     1000000ull
#define STREAK 16 /* of affinity.c */

static cpu_set_t cores(int first, int last)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (; first <= last; first++)
		CPU_SET((size_t)first, &set);
	return set;
}

/* ---- threads ---- */

/* N events on a core; returns the last move, or -1. */
static int events(struct fw_affinity *a, const cpu_set_t *allowed, int thread,
		  int core, int n, uint64_t *now)
{
	int i, to, moved = -1;

	for (i = 0; i < n; i++) {
		*now += 10000;
		to = fw_affinity_event(a, allowed, thread, core, *now);
		moved = to >= 0 ? to : moved;
	}
	return moved;
}

static void test_moves(void)
{
	struct fw_affinity a = { 0 };
	cpu_set_t allowed = cores(0, 7);
	uint64_t now = 1000 * MS;

	tap_is(events(&a, &allowed, 2, 2, 1000, &now), -1,
	       "events on the own core: stay");
	tap_is(events(&a, &allowed, 2, 5, STREAK - 1, &now), -1,
	       "a few elsewhere: stay");
	tap_is(events(&a, &allowed, 2, 2, 1, &now), -1, "one here");
	tap_is(events(&a, &allowed, 2, 5, STREAK - 1, &now), -1,
	       "begins the count anew");
	tap_is(events(&a, &allowed, 2, 5, 1, &now), 5, "enough in a row: move");
	tap_is(a.here, 1001, "counted here");
	tap_is(a.elsewhere, 2 * STREAK - 1, "counted elsewhere");
	tap_is(a.moves, 1, "counted moves");
}

static void test_rate(void)
{
	struct fw_affinity a = { 0 };
	cpu_set_t allowed = cores(0, 7);
	uint64_t now = 1000 * MS;
	int i, thread = 0, to;

	/* An interrupt that is itself moved to and fro all the time. */
	for (i = 0; i < 100000; i++) {
		now += 10000;
		to = fw_affinity_event(&a, &allowed, thread, i / 50 % 2 + 3,
				       now);
		thread = to >= 0 ? to : thread;
	}
	tap_ok(a.moves >= 1 && a.moves <= 11,
	       "at most ten moves a second (%llu in one)",
	       (unsigned long long)a.moves);
	a = (struct fw_affinity){ 0 };
	for (i = 0; i < 100000; i++) {
		now += 10000;
		if (fw_affinity_event(&a, &allowed, 0, i % 3 + 3, now) >= 0)
			break;
	}
	tap_is(a.moves, 0, "from a core to the next each time: stay");
}

static void test_mask(void)
{
	struct fw_affinity a = { 0 };
	cpu_set_t allowed = cores(0, 3);
	uint64_t now = 1000 * MS;

	tap_is(events(&a, &allowed, 0, 6, 1000, &now), -1,
	       "never to a core that is not allowed");
	tap_is(events(&a, &allowed, 0, 100000, 1000, &now), -1,
	       "nor to one that cannot be");
	tap_is(events(&a, &allowed, 0, -1, 1000, &now), -1,
	       "nor where it is not known where the event came");
	tap_is(events(&a, &allowed, 0, 3, 1000, &now), 3, "to one that is");
}

/* To where the thread is anyhow, which all machines have. */
static void test_move(void)
{
	cpu_set_t before, after;
	int core;

	sched_getaffinity(0, sizeof(before), &before);
	for (core = 0; !CPU_ISSET((size_t)core, &before); core++)
		;
	tap_is(fw_affinity_move(core), 0, "moved");
	sched_getaffinity(0, sizeof(after), &after);
	tap_ok(CPU_EQUAL(&before, &after), "the mask is as it was");
	tap_ok(fw_affinity_move(CPU_SETSIZE - 1) < 0, "no such core");
	sched_getaffinity(0, sizeof(after), &after);
	tap_ok(CPU_EQUAL(&before, &after), "the mask is as it was");
}

/* ---- vectors ---- */

static char root[] = "/tmp/fastwake-affinity-XXXXXX";

static void make(const char *name, const char *text)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	if (text == NULL) {
		mkdir(path, 0700);
		return;
	}
	file = fopen(path, "w");
	if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
		tap_bail("no file");
}

/* Two devices; the first one's vectors: cores 0-1, 2, 3, 2-3, and one unknown. */
static void make_machine(void)
{
	if (mkdtemp(root) == NULL)
		tap_bail("no directory");
	make("proc", NULL);
	make("proc/irq", NULL);
	make("proc/interrupts",
	     "           CPU0       CPU1       CPU2       CPU3\n"
	     "  0:         42          0          0          0   IO-APIC    2-edge      timer\n"
	     " 40:          0          0          0          0   PCI-MSI 1-edge      mlx5_async0@pci:0000:3b:00.0\n"
	     " 41:          1          2          0          0   PCI-MSI 2-edge      mlx5_comp0@pci:0000:3b:00.0\n"
	     " 42:          1          2          0          0   PCI-MSI 3-edge      mlx5_comp1@pci:0000:3b:00.0\n"
	     " 43:          1          2          0          0   PCI-MSI 4-edge      mlx5_comp2@pci:0000:3b:00.0\n"
	     " 44:          1          2          0          0   PCI-MSI 5-edge      mlx5_comp3@pci:0000:3b:00.0\n"
	     " 45:          1          2          0          0   PCI-MSI 6-edge      mlx5_comp4@pci:0000:3b:00.0\n"
	     " 46:          1          2          0          0   PCI-MSI 7-edge      mlx5_comp0@pci:0000:3b:00.1\n"
	     " 47:          1          2          0          0   PCI-MSI 8-edge      mlx5_comp99@pci:0000:3b:00.0\n"
	     "mlx5_comp1@pci:0000:3b:00.0\n"
	     "NMI:          0          0          0          0   Non-maskable interrupts\n");
	make("proc/irq/41", NULL);
	make("proc/irq/41/effective_affinity_list", "0-1\n");
	make("proc/irq/42", NULL);
	make("proc/irq/42/effective_affinity_list", "2\n");
	make("proc/irq/43", NULL);
	make("proc/irq/43/effective_affinity_list", "3\n");
	make("proc/irq/44", NULL);
	make("proc/irq/44/effective_affinity_list", "2-3,1000000-2\n");
	make("proc/irq/46", NULL);
	make("proc/irq/46/effective_affinity_list", "7\n");
}

static void remove_machine(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", root);
	tap_is(system(command), 0, "clean up");
}

static void test_vectors(void)
{
	struct fw_vectors v;

	make_machine();
	fw_vectors_read(&v, 5, root, "0000:3b:00.0");
	tap_is(v.n, 5, "as many as the device says");
	tap_is(CPU_COUNT(&v.cores[0]), 2, "cores of the first");
	tap_is(CPU_COUNT(&v.cores[3]), 2, "a malformed list ends early");
	tap_is(CPU_COUNT(&v.cores[4]), 0, "one is not known");
	tap_is(fw_vector_for(&v, 0), 0, "core 0");
	tap_is(fw_vector_for(&v, 1), 0, "core 1");
	tap_is(fw_vector_for(&v, 2), 1, "core 2: the vector of its own");
	tap_is(fw_vector_for(&v, 3), 2, "core 3: likewise");
	tap_is(fw_vector_for(&v, 4), 4, "a core without one: spread");
	tap_is(fw_vector_for(&v, 6), 1, "likewise");
	tap_is(fw_vector_for(&v, -1), 0, "core not known");
	fw_vectors_read(&v, 2, root, "0000:3b:00");
	tap_is(CPU_COUNT(&v.cores[0]), 0, "not by the start of an address");
	fw_vectors_read(&v, 1, root, "0000:3b:00.1");
	tap_ok(CPU_ISSET(7, &v.cores[0]), "the other device");
	fw_vectors_read(&v, 4, "/nowhere", "0000:3b:00.0");
	tap_is(fw_vector_for(&v, 6), 2, "nothing to be read: spread");
	fw_vectors_read(&v, 100000, root, "0000:3b:00.0");
	tap_is(v.n, FW_VECTORS_MAX, "more than we know");
	fw_vectors_read(&v, 0, root, "0000:3b:00.0");
	tap_is(fw_vector_for(&v, 3), 0, "a device without any");
	remove_machine();
}

int main(void)
{
	tap_begin();
	test_moves();
	test_rate();
	test_mask();
	test_move();
	test_vectors();
	return tap_done();
}
