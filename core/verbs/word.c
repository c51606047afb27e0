// SPDX-License-Identifier: PostgreSQL
/*
 * word.c - has a completion come to this queue since then?
 *
 * Of rxe: the kernel writes an entry, then the producer's index, modulo the
 * number of entries.  The index alone does not tell after exactly one lap: the
 * program may have polled so many completions between its request and its wait.
 * So a mark is left in the entry after next, where the kernel copies more than
 * a completion has for users (48 bytes): the second completion from now on
 * wipes it out, and a lap is of two at least.
 *
 *	here					kernel
 *	reads index i
 *	marks entry i + 1			writes entry i
 *	full barrier				publishes index i + 1
 *	reads index: i again?			writes entry i + 1
 *						publishes index i + 2
 *
 * If the index is i still, nobody has begun to write entry i + 1 when the mark
 * is there.  If it is not, begin anew.  That entry may hold a completion not
 * polled yet: polling reads the first 48 bytes only, which stay as they are.
 */
#include <rdma/rdma_user_rxe.h>

#include "cq.h"
#include "verbs.h"

#define MARK	    0x6661737477616b65ull
#define MARK_OFFSET sizeof(struct ib_uverbs_wc)
#define TRIES	    16

_Static_assert(MARK_OFFSET == 48, "what a program sees of a completion");

void fv_word_open(struct fv_word *word, const struct fw_mapping *mapping,
		  int entries)
{
	struct rxe_queue_buf *queue = mapping->start;
	struct fw_cq cq;

	*word = (struct fv_word){ .region = FV_NO_REGION };
	if (!fw_cq_adapt_rxe(&cq, mapping, (unsigned int)entries))
		return;
	word->producer = cq.u.producer;
	word->entries = (char *)queue->data;
	word->mask = fw_load(&queue->index_mask);
	word->shift = fw_load(&queue->log2_elem_size);
	if (fv_module())
		word->region =
			fv_module_pin((const void *)word->producer,
				      sizeof(*word->producer), &word->offset);
}

void fv_word_close(struct fv_word *word)
{
	if (word->region != FV_NO_REGION)
		fv_module_unpin(word->region);
	*word = (struct fv_word){ .region = FV_NO_REGION };
}

static uint64_t *mark_of(const struct fv_word *word, uint32_t seen)
{
	size_t next = (seen + 1) & word->mask;

	return (uint64_t *)(word->entries + (next << word->shift) +
			    MARK_OFFSET);
}

bool fv_word_snapshot(const struct fv_word *word, uint32_t *seen)
{
	uint32_t index = fw_load_acquire(word->producer), again;
	unsigned int i;

	for (i = 0; i < TRIES; i++) {
		fw_store(mark_of(word, index), MARK);
		fw_full_barrier();
		again = fw_load_acquire(word->producer);
		if (again == index) {
			*seen = index;
			return true;
		}
		index = again;
	}
	return false;
}

bool fv_word_moved(const struct fv_word *word, uint32_t seen)
{
	return fw_load_acquire(word->producer) != seen ||
	       fw_load(mark_of(word, seen)) != MARK;
}
