// SPDX-License-Identifier: PostgreSQL
/*
 * affinity.c - interrupts and those who wait for them on one core.
 *
 * A thread that is woken on the core that took the interrupt need not be sent for by
 * another interrupt.  A completion queue belongs to a vector, and so to a core, from
 * its creation on; so the vector is chosen by the core of the thread that creates
 * the queue, and later it is the thread that follows its interrupts:
 *
 * - only after so many events in a row came on the same other core,
 * - at most once in so long, and not back and forth: after a move it takes as many
 *   events again,
 * - only to where it may run by its own mask, which stays what it was: it is moved,
 *   not bound, and the scheduler may take it elsewhere when it knows better.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "affinity.h"
#include "internal.h"

#define STREAK	   16
#define MOVE_EVERY (100ull * 1000 * 1000) /* ns */

/* ------------------------------------------------------------------ */
/* Vectors                                                            */
/* ------------------------------------------------------------------ */

/* "0-3,8": what is not of that form ends the list. */
static void parse_list(const char *text, cpu_set_t *set)
{
	unsigned int first, last;
	int used;

	CPU_ZERO(set);
	for (;;) {
		if (sscanf(text, "%u%n", &first, &used) != 1)
			return;
		text += used;
		last = first;
		if (sscanf(text, "-%u%n", &last, &used) == 1)
			text += used;
		for (; first <= last && first < CPU_SETSIZE; first++)
			CPU_SET(first, set);
		if (*text++ != ',')
			return;
	}
}

static void read_list(const char *root, unsigned int irq, cpu_set_t *set)
{
	char path[512], text[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/proc/irq/%u/effective_affinity_list",
		 root, irq);
	file = fopen(path, "re");
	if (file == NULL)
		return;
	if (fgets(text, sizeof(text), file) != NULL)
		parse_list(text, set);
	fclose(file);
}

/* " 45:  12  0  PCI-MSI 1-edge  mlx5_comp3@pci:0000:3b:00.0" */
static bool parse_interrupt(const char *line, const char *pci_address,
			    unsigned int *irq, unsigned int *vector)
{
	const char *name = strstr(line, "mlx5_comp");
	size_t length = strlen(pci_address);
	int used = 0;

	if (name == NULL || sscanf(line, " %u:", irq) != 1 ||
	    sscanf(name, "mlx5_comp%u@pci:%n", vector, &used) != 1 || used == 0)
		return false;
	name += used;
	return strncmp(name, pci_address, length) == 0 &&
	       (name[length] == '\0' || name[length] == '\n' ||
		name[length] == ' ');
}

void fw_vectors_read(struct fw_vectors *v, unsigned int n, const char *root,
		     const char *pci_address)
{
	unsigned int irq, vector;
	char path[512], *line = NULL;
	size_t room = 0;
	FILE *file;

	memset(v, 0, sizeof(*v));
	v->n = n < FW_VECTORS_MAX ? n : FW_VECTORS_MAX;
	snprintf(path, sizeof(path), "%s/proc/interrupts", root);
	file = fopen(path, "re");
	if (file == NULL)
		return;
	while (getline(&line, &room, file) > 0)
		if (parse_interrupt(line, pci_address, &irq, &vector) &&
		    vector < v->n)
			read_list(root, irq, &v->cores[vector]);
	free(line);
	fclose(file);
}

/*
 * The one that interrupts this core and fewest others; else any, but threads of
 * different cores different ones.
 */
unsigned int fw_vector_for(const struct fw_vectors *v, int core)
{
	unsigned int i, best = v->n;
	int cores, fewest = CPU_SETSIZE + 1;

	if (v->n == 0 || core < 0)
		return 0;
	for (i = 0; i < v->n; i++) {
		cores = CPU_COUNT(&v->cores[i]);
		if (core < CPU_SETSIZE &&
		    CPU_ISSET((size_t)core, &v->cores[i]) && cores < fewest) {
			best = i;
			fewest = cores;
		}
	}
	return best < v->n ? best : (unsigned int)core % v->n;
}

/* ------------------------------------------------------------------ */
/* Threads                                                            */
/* ------------------------------------------------------------------ */

static bool may_move(const struct fw_affinity *a, const cpu_set_t *allowed,
		     int core, uint64_t now_ns)
{
	return a->streak >= STREAK && core < CPU_SETSIZE &&
	       CPU_ISSET((size_t)core, allowed) &&
	       (a->moves == 0 || now_ns - a->moved_ns >= MOVE_EVERY);
}

int fw_affinity_event(struct fw_affinity *a, const cpu_set_t *allowed,
		      int thread_core, int event_core, uint64_t now_ns)
{
	if (event_core < 0 || event_core == thread_core) {
		a->here += event_core >= 0;
		a->streak = 0;
		return -1;
	}
	a->elsewhere++;
	if (a->streak == 0 || a->candidate != event_core)
		a->streak = 0;
	a->candidate = event_core;
	a->streak++;
	if (!may_move(a, allowed, event_core, now_ns))
		return -1;
	a->streak = 0;
	a->moved_ns = now_ns;
	a->moves++;
	return event_core;
}

int fw_affinity_move(int core)
{
	cpu_set_t before, there;

	if (sched_getaffinity(0, sizeof(before), &before) != 0)
		return -errno;
	CPU_ZERO(&there);
	CPU_SET((size_t)core, &there);
	if (sched_setaffinity(0, sizeof(there), &there) != 0)
		return -errno;
	return sched_setaffinity(0, sizeof(before), &before) == 0 ? 0 : -errno;
}

/* Mask and time are asked for only when all else speaks for a move. */
void fw_affinity_follow(struct fw_affinity *a, int event_core)
{
	uint64_t now_ns = 0;
	cpu_set_t allowed;
	int core;

	CPU_ZERO(&allowed);
	if (a->streak + 1 >= STREAK) {
		if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
			return;
		now_ns = fastwake_now();
	}
	core = fw_affinity_event(a, &allowed, sched_getcpu(), event_core,
				 now_ns);
	if (core >= 0)
		(void)fw_affinity_move(core);
}
