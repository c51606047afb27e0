/* SPDX-License-Identifier: PostgreSQL */
/*
 * cq.h - a completion queue as a word in memory.
 *
 * A device that keeps its completion queues in ordinary memory shows there that
 * something has come.  Where, and how, each provider does its own way: an
 * adapter turns a queue into a watch.  There is one for rxe and one for mlx5; a
 * queue of another provider can be waited for by its event channel only.
 */
#ifndef FASTWAKE_CQ_H
#define FASTWAKE_CQ_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stddef.h>

#include "internal.h"

struct fw_cq;

struct fw_cq_adapter {
	const char *name;
	bool (*watch)(const struct fw_cq *cq, struct fastwake_watch *watch);
};

/* A queue of mlx5: see cq_mlx5.c. */
struct fw_cq_mlx5 {
	const void *entries;
	const volatile uint32_t *consumer; /* big-endian, 24 bits count */
	uint32_t count;			   /* of entries, a power of two */
	uint32_t entry_size;		   /* 64 or 128 bytes */
};

struct fw_cq {
	const struct fw_cq_adapter *adapter; /* NULL: none for this queue */
	struct fw_mapping mapping;
	union {
		const volatile uint32_t *producer; /* rxe */
		struct fw_cq_mlx5 mlx5;
	} u;
};

/*
 * ibv_create_cq(), and its adapter if there is one.  No other thread may create
 * or destroy verbs objects meanwhile: the queue's memory is found by what is
 * mapped before and after.  The caller alone polls the queue.
 */
struct ibv_cq *fw_cq_create(struct fw_cq *cq, struct ibv_context *verbs,
			    int depth, struct ibv_comp_channel *channel);

/*
 * Holds when a completion comes that was not there when this was called.  Poll
 * the queue once more after it, then wait.  False: there is no adapter, or what
 * it has found in the queue is not what it knows.
 */
bool fw_cq_watch(const struct fw_cq *cq, struct fastwake_watch *watch);

/*
 * Name of the adapter for the queues of DEVICE, or NULL; then REASON
 * (FASTWAKE_REASON_MAX bytes, may be NULL) says why.
 */
const char *fw_cq_adapter(struct ibv_device *device, char *reason);

bool fw_rxe_device(struct ibv_device *device);
/* Fill in CQ from its MAPPING in the manner of rxe; false if it is not. */
bool fw_cq_adapt_rxe(struct fw_cq *cq, const struct fw_mapping *mapping,
		     unsigned int entries);

/* Does the loaded provider mlx5 call this device its own? */
bool fw_mlx5_device(struct ibv_device *device);
/* Fill in CQ from a queue that we have made; false if it is of another form. */
bool fw_cq_adapt_mlx5(struct fw_cq *cq, const struct fw_cq_mlx5 *queue);
/* The same from verbs. */
bool fw_cq_open_mlx5(struct fw_cq *cq, struct ibv_cq *verbs_cq);

#endif
