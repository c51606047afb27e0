/* SPDX-License-Identifier: PostgreSQL */
/*
 * cq.h - a completion queue as a word in memory.
 *
 * A device that keeps its completion queues in ordinary memory shows there that
 * something has come.  Where, and how, each provider does its own way: an
 * adapter turns a queue into a watch.  There is one for rxe; a queue of another
 * provider can be waited for by its event channel only.
 */
#ifndef FASTWAKE_CQ_H
#define FASTWAKE_CQ_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stddef.h>

#include "internal.h"

struct fw_cq {
	struct fw_mapping mapping;	   /* .start NULL: no adapter */
	const volatile uint32_t *producer; /* where the next one shows */
};

/*
 * ibv_create_cq(), and its adapter if there is one.  No other thread may create
 * or destroy verbs objects meanwhile: the queue's memory is found by what is
 * mapped before and after.
 */
struct ibv_cq *fw_cq_create(struct fw_cq *cq, struct ibv_context *verbs,
			    int depth, struct ibv_comp_channel *channel);

/*
 * Holds when a completion comes that was not there when this was called.  Poll
 * the queue once more after it, then wait.
 */
bool fw_cq_watch(const struct fw_cq *cq, struct fastwake_watch *watch);

/* Fill in CQ from its MAPPING in the manner of rxe; false if it is not. */
bool fw_cq_adapt_rxe(struct fw_cq *cq, const struct fw_mapping *mapping,
		     unsigned int entries);

#endif
