// SPDX-License-Identifier: PostgreSQL
/*
 * cq_rxe.c - completion queues of rdma_rxe (soft-RoCE).
 *
 * The kernel writes completions and then the producer's index into a queue
 * that it shares with the process: struct rxe_queue_buf of rdma_user_rxe.h.
 */
#include <rdma/rdma_user_rxe.h>

#include "cq.h"
#include "internal.h"

/* Of one completion, struct ib_uverbs_wc, rounded up to a power of two. */
#define FW_RXE_LOG2_CQE 6

static bool rxe_watch(const struct fw_cq *cq, struct fastwake_watch *watch)
{
	*watch = (struct fastwake_watch){
		.word = cq->u.producer,
		.operand = fw_load_acquire(cq->u.producer),
		.size = 4,
		.condition = FASTWAKE_NE | FASTWAKE_SILENT
	};
	return true;
}

static const struct fw_cq_adapter rxe_adapter = { "rxe", rxe_watch };

bool fw_cq_adapt_rxe(struct fw_cq *cq, const struct fw_mapping *mapping,
		     unsigned int entries)
{
	const struct rxe_queue_buf *queue = mapping->start;
	uint64_t slots;

	if (mapping->length < sizeof(*queue) ||
	    fw_load(&queue->log2_elem_size) != FW_RXE_LOG2_CQE)
		return false;
	slots = (uint64_t)fw_load(&queue->index_mask) + 1;
	if ((slots & (slots - 1)) != 0 || slots <= entries ||
	    sizeof(*queue) + (slots << FW_RXE_LOG2_CQE) > mapping->length ||
	    fw_load(&queue->producer_index) >= slots ||
	    fw_load(&queue->consumer_index) >= slots)
		return false;
	cq->mapping = *mapping;
	cq->u.producer = &queue->producer_index;
	cq->adapter = &rxe_adapter;
	return true;
}
