// SPDX-License-Identifier: PostgreSQL
/*
 * cq_rxe.c - completion queues of rdma_rxe (soft-RoCE).
 *
 * The kernel writes completions and then the producer's index into a queue
 * that it shares with the process: struct rxe_queue_buf of rdma_user_rxe.h.
 */
#include <rdma/rdma_user_rxe.h>
#include <stdio.h>
#include <unistd.h>

#include "cq.h"
#include "internal.h"

/*
 * Of one completion, rounded up to a power of two: a union of struct ib_uverbs_wc
 * (48 bytes), which is what is read, and of the kernel's own struct ib_wc, which
 * since Linux 5.13 is longer than 64 bytes.
 */
#define FW_RXE_LOG2_CQE_MIN 6
#define FW_RXE_LOG2_CQE_MAX 8

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

/* Names of devices can be changed; only rxe shows its netdev as "parent". */
bool fw_rxe_device(struct ibv_device *device)
{
	char path[IBV_SYSFS_PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/parent", device->ibdev_path);
	return access(path, F_OK) == 0;
}

static const struct fw_cq_adapter rxe_adapter = { "rxe", rxe_watch };

bool fw_cq_adapt_rxe(struct fw_cq *cq, const struct fw_mapping *mapping,
		     unsigned int entries)
{
	const struct rxe_queue_buf *queue = mapping->start;
	uint64_t slots;
	uint32_t log2;

	if (mapping->length < sizeof(*queue))
		return false;
	log2 = fw_load(&queue->log2_elem_size);
	if (log2 < FW_RXE_LOG2_CQE_MIN || log2 > FW_RXE_LOG2_CQE_MAX)
		return false;
	slots = (uint64_t)fw_load(&queue->index_mask) + 1;
	if ((slots & (slots - 1)) != 0 || slots <= entries ||
	    sizeof(*queue) + (slots << log2) > mapping->length ||
	    fw_load(&queue->producer_index) >= slots ||
	    fw_load(&queue->consumer_index) >= slots)
		return false;
	cq->mapping = *mapping;
	cq->u.producer = &queue->producer_index;
	cq->adapter = &rxe_adapter;
	return true;
}
