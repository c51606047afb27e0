/* SPDX-License-Identifier: PostgreSQL */
/*
 * bench.h - what the cases of fastwake bench share.
 *
 * All processes of a case run on one core.  Whoever causes an event notes the time
 * (the module's timer does so itself), and whoever waited for it notes how
 * long ago that was, in user space, when its code goes on.
 */
#ifndef FASTWAKE_CLI_BENCH_H
#define FASTWAKE_CLI_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "device.h"
#include "fastwake.h"

#define BENCH_SLOTS 256

#define BENCH_MS 1000000ull

/* What one process waits on: a cache line. */
struct bench_slot {
	uint64_t word;
	uint64_t stamp; /* when the event took place */
	uint32_t futex;
	uint32_t ready;
	uint32_t sleeping; /* latch */
	uint32_t pad[9];
};

struct bench_shared {
	struct bench_slot slot[BENCH_SLOTS];
	uint32_t count; /* of latencies */
	uint32_t stop;
	uint64_t pad[7];
	uint64_t latency[];
};

extern struct bench_shared *bench_shm;
extern int bench_fd; /* the module */

/* Memory is pinned as this region; so many events make a figure. */
void bench_use(uint32_t region, uint32_t events);

/* One figure: a case by one path, from a clean state. */
struct bench_run {
	const char *name; /* of the case */
	const char *path;
	void (*run)(const struct bench_run *run);
	uint32_t waiters;
	const void *data; /* the case's own */
};

extern const struct bench_run bench_own[];
extern const struct bench_run bench_handoff[];
extern const struct bench_run bench_fanout[];
extern const struct bench_run bench_competitor[];
extern const struct bench_run bench_verbs[];

/* In place of what Linux does: PATH of our own waits. */
#define BENCH_FASTWAKE "fastwake"

/* An event of slot I has reached its waiter. */
void bench_note(uint32_t i);
bool bench_stopped(void);

/* Ends the program, and with it all its processes. */
__attribute__((noreturn)) void bench_die(const char *what, int rc);

uint32_t bench_random(uint32_t limit);

/* A sequence of its own for process ME: the same one later would not do. */
void bench_random_of(uint32_t me);

/* Slot I has changed its word to the next value; now, by the caller. */
void bench_store(uint32_t i);

/* The module's timer does so, in DELAY_NS, and adds to eventfd EFD unless -1. */
void bench_order(uint32_t i, int efd, uint64_t delay_ns);

/* As waiter ME of the module, who waits for the word of slot ME. */
void bench_register(uint32_t me);
void bench_unregister(uint32_t me);
/* Until the word of the own slot is not OLD, or all is over. */
void bench_wait(uint64_t old);
/* The same after waking waiter OTHER, if it waits. */
void bench_switch(uint32_t other, uint64_t old);

/* A child that runs until it is ended, and that ends all if it fails. */
pid_t bench_child(void (*f)(const struct bench_run *run, uint32_t me),
		  const struct bench_run *run, uint32_t me);
void bench_end(const pid_t *children, uint32_t n);

/* Children and parent say when they are ready to be measured. */
void bench_ready(uint32_t i);
void bench_wait_ready(uint32_t i);

int bench_eventfd(void);
void bench_read_eventfd(int efd);
void bench_write_eventfd(int efd);

#endif
