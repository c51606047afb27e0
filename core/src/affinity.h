/* SPDX-License-Identifier: PostgreSQL */
/*
 * affinity.h - interrupts and those who wait for them on one core.
 */
#ifndef FASTWAKE_AFFINITY_H
#define FASTWAKE_AFFINITY_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

/* The completion vectors of a device, and the cores that each interrupts. */
#define FW_VECTORS_MAX 256

struct fw_vectors {
	unsigned int n;
	cpu_set_t cores[FW_VECTORS_MAX]; /* empty: not known */
};

/*
 * Of a device of mlx5 by its PCI address, from ROOT/proc ("" for the real one); N
 * is how many it has.  What cannot be found out is left empty.
 */
void fw_vectors_read(struct fw_vectors *v, unsigned int n, const char *root,
		     const char *pci_address);

/* The vector for a completion queue whose user runs on CORE. */
unsigned int fw_vector_for(const struct fw_vectors *v, int core);

/* What one waiter has seen of its interrupts; all-zero at first. */
struct fw_affinity {
	int candidate;	     /* core of the last few that came elsewhere */
	unsigned int streak; /* of these, how many in a row */
	uint64_t moved_ns;   /* when it was moved last */
	uint64_t here;	     /* came on the thread's core */
	uint64_t elsewhere;
	uint64_t moves;
};

/*
 * An event came on EVENT_CORE, and its waiter goes on, on THREAD_CORE.  Returns the
 * core to move the thread to, or -1 to leave it.  ALLOWED is where it may run.
 */
int fw_affinity_event(struct fw_affinity *a, const cpu_set_t *allowed,
		      int thread_core, int event_core, uint64_t now_ns);

/* Move the calling thread to CORE, and leave it free to be moved on: 0, -errno. */
int fw_affinity_move(int core);

/* The two above for the calling thread. */
void fw_affinity_follow(struct fw_affinity *a, int event_core);

#endif
