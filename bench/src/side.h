/* SPDX-License-Identifier: PostgreSQL */
/*
 * side.h - one of two processes that send messages to each other over verbs, for
 * pingpong.c and pairs.c: ordinary programs, which fastwake run may take over.
 */
#ifndef BENCH_SIDE_H
#define BENCH_SIDE_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stdint.h>

struct side {
	struct ibv_context *context;
	struct ibv_comp_channel *channel;
	struct ibv_cq *receive_cq, *send_cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	char *buffer;
	uint32_t sent, unseen; /* events that are not acknowledged */
};

extern const char *device_name; /* NULL: any */
extern int gid_index;
extern uint32_t size; /* of a message */
extern bool by_event; /* sleep in ibv_get_cq_event(3), else look and give way */

/* getopt(3)'s of these: "d:g:s:".  Ends the program if it is none of them. */
#define SIDE_OPTIONS "d:g:s:"
void side_option(int option, const char *value);
/* "poll" or "event", the one argument behind the options: or it ends the program. */
const char *side_way(int argc, char **argv);

_Noreturn void die(const char *what);
uint64_t now(void);
void sleep_until(uint64_t when);
/* Of this process, between tasks, wanted or not. */
double switches(void);

/* Ready to be connected; if by event, armed. */
void open_side(struct side *s);
/* With the other, which is found by a pipe each way. */
void exchange(struct side *s, int in, int out);

void send_one(struct side *s);
/* Waits for a message, and makes room for another. */
void receive(struct side *s);
bool take_one(struct ibv_cq *cq);

/* A process that answers so many messages, and ends once the other has closed IN. */
void echo(int in, int out, uint32_t n);

#endif
