// SPDX-License-Identifier: PostgreSQL
/*
 * cq_mlx5.c - completion queues of mlx5 devices.
 *
 * The device writes each completion into the next entry of a ring in our memory,
 * its last byte, op_own, last of all: opcode (4 bits), format (2), solicited
 * (1), owner (1).  The owner bit is that of the device's lap around the ring.
 * An entry is ours to read once its opcode is not 15, which libmlx5 fills the
 * ring with at first, and its owner bit is that of our lap.
 *
 * So the watch is on the op_own of the entry that the consumer looks at next, as
 * it is now: as long as that entry is not valid, whatever makes it valid changes
 * the byte, since an invalid one has opcode 15 or the other owner.  The owner
 * bit alone would not do: it is 0 in a fresh entry, and in the first completion
 * as well.
 *
 * The consumer's index is in the queue's doorbell record, where each poll puts
 * it.  Only its process writes it, so there is no race with the device:
 *
 *	waiter					device
 *	reads index and op_own			writes the entry, then op_own
 *	polls the queue: empty
 *	waits: op_own differs from what it was?
 *
 * If the poll missed the completion, op_own was written after it, so after it
 * was read here, and the wait sees it change.
 *
 * mlx5dv_init_obj() tells libmlx5 that the queue is ours to look at, upon which
 * it no longer removes the completions of a queue pair that is destroyed.  Hence
 * only for queues that are made here, and whose one queue pair goes with them.
 * The provider is loaded by libibverbs where there is such a device; we do not
 * link it, so that other machines need not have it.
 */
#include <dlfcn.h>
#include <endian.h>
#include <infiniband/mlx5dv.h>

#include "cq.h"
#include "internal.h"

/* Where op_own is in the entry, seen from its end, as part of a 4-byte word. */
#define FW_CQE_SIZE 64u
#define FW_CQE_TAIL (FW_CQE_SIZE - sizeof(uint32_t))

#if __BYTE_ORDER == __LITTLE_ENDIAN
#define FW_OP_OWN_SHIFT 24
#else
#define FW_OP_OWN_SHIFT 0
#endif
#define FW_OP_OWN_MASK (0xffu << FW_OP_OWN_SHIFT)

#define FW_FORMAT_COMPRESSED 3u
#define FW_CONSUMER_MASK     0xffffffu

_Static_assert(sizeof(struct mlx5_cqe64) == FW_CQE_SIZE, "as documented");
_Static_assert(offsetof(struct mlx5_cqe64, op_own) == FW_CQE_SIZE - 1,
	       "the last byte");

/* With entries of 128 bytes the completion is in the second half. */
static const uint32_t *tail_of(const struct fw_cq_mlx5 *q, uint32_t index)
{
	uint32_t slot = index & (q->count - 1);

	return (const void *)((const char *)q->entries +
			      (size_t)slot * q->entry_size +
			      (q->entry_size - FW_CQE_SIZE) + FW_CQE_TAIL);
}

static bool is_valid(const struct fw_cq_mlx5 *q, uint32_t index,
		     uint32_t op_own)
{
	uint32_t lap = (index & q->count) != 0;

	return op_own >> 4 != MLX5_CQE_INVALID &&
	       (op_own & MLX5_CQE_OWNER_MASK) == lap;
}

static bool mlx5_watch(const struct fw_cq *cq, struct fastwake_watch *watch)
{
	const struct fw_cq_mlx5 *q = &cq->u.mlx5;
	uint32_t index =
		be32toh(fw_load_acquire(q->consumer)) & FW_CONSUMER_MASK;
	const uint32_t *word = tail_of(q, index);
	uint32_t seen = fw_load_acquire(word) & FW_OP_OWN_MASK;
	uint32_t op_own = seen >> FW_OP_OWN_SHIFT;

	if (is_valid(q, index, op_own)) {
		/* One byte per completion there is only without compression. */
		if (((op_own >> 2) & 3) == FW_FORMAT_COMPRESSED)
			return false;
		/* There is one to be polled already: holds at once. */
		seen ^= (uint32_t)MLX5_CQE_OWNER_MASK << FW_OP_OWN_SHIFT;
	}
	*watch = (struct fastwake_watch){ .word = word,
					  .operand = seen,
					  .mask = FW_OP_OWN_MASK,
					  .size = sizeof(*word),
					  .condition = FASTWAKE_MASK_NE |
						       FASTWAKE_SILENT };
	return true;
}

static const struct fw_cq_adapter mlx5_adapter = { "mlx5", mlx5_watch };

bool fw_cq_adapt_mlx5(struct fw_cq *cq, const struct fw_cq_mlx5 *queue)
{
	if (queue->entries == NULL || queue->consumer == NULL ||
	    (uintptr_t)queue->entries % FW_CQE_SIZE != 0 || queue->count == 0 ||
	    (queue->count & (queue->count - 1)) != 0 ||
	    queue->count > FW_CONSUMER_MASK / 2 + 1 ||
	    (queue->entry_size != FW_CQE_SIZE &&
	     queue->entry_size != 2 * FW_CQE_SIZE))
		return false;
	cq->u.mlx5 = *queue;
	cq->mapping.start = (void *)(uintptr_t)queue->entries;
	cq->mapping.length = (size_t)queue->count * queue->entry_size;
	cq->adapter = &mlx5_adapter;
	return true;
}

/* A function of the provider, if it is loaded. */
static void *provider(const char *name, const char *version)
{
	void *library = dlopen("libmlx5.so.1", RTLD_LAZY | RTLD_NOLOAD);
	void *symbol;

	if (library == NULL)
		return NULL;
	symbol = dlvsym(library, name, version);
	/* Stays loaded: libibverbs never unloads it. */
	dlclose(library);
	return symbol;
}

bool fw_mlx5_device(struct ibv_device *device)
{
	bool (*is_supported)(struct ibv_device *);

	*(void **)&is_supported = provider("mlx5dv_is_supported", "MLX5_1.8");
	return is_supported != NULL && is_supported(device);
}

bool fw_cq_open_mlx5(struct fw_cq *cq, struct ibv_cq *verbs_cq)
{
	int (*init_obj)(struct mlx5dv_obj *, uint64_t);
	struct mlx5dv_cq out = { .comp_mask = 0 };
	struct mlx5dv_obj obj = { .cq = { .in = verbs_cq, .out = &out } };

	*(void **)&init_obj = provider("mlx5dv_init_obj", "MLX5_1.2");
	if (init_obj == NULL || init_obj(&obj, MLX5DV_OBJ_CQ) != 0)
		return false;
	return fw_cq_adapt_mlx5(
		cq, &(struct fw_cq_mlx5){ .entries = out.buf,
					  .consumer = out.dbrec,
					  .count = out.cqe_cnt,
					  .entry_size = out.cqe_size });
}
