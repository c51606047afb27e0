// SPDX-License-Identifier: PostgreSQL
/*
 * queue.c - completion queues: made, resized, destroyed.
 *
 * A queue is managed if its context and its channel are: then its program cannot
 * have got hold of either without us.
 */
#include <errno.h>
#include <string.h>

#include "queue.h"
#include "verbs.h"

/* ---- create ---- */

static void join(struct fv_queue *queue)
{
	struct fv_channel *channel = queue->channel;

	fv_lock(channel);
	queue->leaving = false;
	queue->next = channel->queues;
	channel->queues = queue;
	if (queue->word.producer == NULL)
		channel->stock++;
	if (queue->blind != FV_SEES)
		channel->blind++;
	if (queue->source == FV_NO_REGION)
		channel->unattached++;
	fv_bump(channel);
	fv_unlock(channel);
}

/* It has left no trace when this returns. */
static void leave(struct fv_queue *queue)
{
	struct fv_channel *channel = queue->channel;
	struct fv_queue **link = &channel->queues;

	while (*link != queue)
		link = &(*link)->next;
	*link = queue->next;
	queue->leaving = true;
	if (queue->word.producer == NULL)
		channel->stock--;
	if (queue->blind != FV_SEES)
		channel->blind--;
	if (queue->source == FV_NO_REGION)
		channel->unattached--;
	if (channel->parked != 0)
		(void)fv_arm_all(
			channel); /* perhaps one waits for this queue's */
	fv_bump(channel);
}

static void created(struct ibv_cq *cq, const struct fv_context *context,
		    struct fv_channel *channel,
		    const struct fw_mapping *mapping, bool mapped)
{
	struct fv_queue *queue = fv_queue_add(cq, context, channel);

	if (queue == NULL) {
		fv_lock(channel);
		channel->always_stock = true;
		fv_unlock(channel);
		return;
	}
	if (mapped)
		fv_word_open(&queue->word, mapping, cq->cqe);
	if (queue->word.producer == NULL)
		fv_log("%s: a completion queue has an unknown form: its channel is left to the kernel",
		       cq->context->device->name);
	else
		fv_attach(queue);
	join(queue);
}

static struct fv_channel *managed(const struct ibv_comp_channel *channel)
{
	return channel != NULL ? fv_channel_find(channel->fd) : NULL;
}

FV_PUBLIC struct ibv_cq *ibv_create_cq(struct ibv_context *verbs, int cqe,
				       void *cq_context,
				       struct ibv_comp_channel *comp_channel,
				       int comp_vector)
{
	struct fv_channel *channel = managed(comp_channel);
	struct fv_context *context =
		channel != NULL ? fv_context_find(verbs) : NULL;
	struct fw_mapping mapping;
	struct ibv_cq *cq;
	bool mapped;

	if (context == NULL)
		return fv_real()->create_cq(verbs, cqe, cq_context,
					    comp_channel, comp_vector);
	fv_capture_begin(verbs->cmd_fd);
	cq = fv_real()->create_cq(verbs, cqe, cq_context, comp_channel,
				  comp_vector);
	mapped = fv_capture_end(&mapping);
	if (cq != NULL)
		created(cq, context, channel, &mapping, mapped);
	return cq;
}

struct ibv_cq_ex *fv_create_cq_ex(struct ibv_context *verbs,
				  struct ibv_cq_init_attr_ex *attr)
{
	struct fv_channel *channel = managed(attr->channel);
	struct fv_context *context = fv_context_find(verbs);
	struct fw_mapping mapping;
	struct ibv_cq_ex *cq;
	bool mapped;

	if (channel == NULL)
		return context->create_cq_ex(verbs, attr);
	fv_capture_begin(verbs->cmd_fd);
	cq = context->create_cq_ex(verbs, attr);
	mapped = fv_capture_end(&mapping);
	if (cq != NULL)
		created(ibv_cq_ex_to_cq(cq), context, channel, &mapping,
			mapped);
	return cq;
}

/* ---- change ---- */

/* Events may now be held back by the device, which memory does not show. */
int fv_modify_cq(struct ibv_cq *cq, struct ibv_modify_cq_attr *attr)
{
	struct fv_queue *queue = fv_queue_find(cq);
	int rc = fv_context_find(cq->context)->modify_cq(cq, attr);

	if (rc != 0 || queue == NULL)
		return rc;
	fv_lock(queue->channel);
	queue->channel->always_stock = true;
	(void)fv_arm_all(queue->channel);
	fv_bump(queue->channel);
	fv_unlock(queue->channel);
	return rc;
}

/*
 * The kernel moves the completions and keeps the arming; so what is requested is
 * armed first, and stands with what the new memory shows.  What comes meanwhile
 * that does not: its real event counts.  Under the lock.
 */
static void stands(struct fv_queue *queue)
{
	queue->requested = queue->armed =
		queue->word.producer != NULL &&
		fv_word_snapshot(&queue->word, &queue->seen);
	fv_set_blind(queue, FV_UNSURE);
}

static int resize(struct fv_queue *queue, int cqe)
{
	struct fw_mapping mapping;
	struct fv_word before = queue->word;
	int rc;

	if (queue->requested && !queue->armed)
		(void)fv_arm(queue);
	if (fv_fired(queue))
		fv_settle(queue);
	fv_capture_begin(queue->cq->context->cmd_fd);
	rc = fv_real()->resize_cq(queue->cq, cqe);
	if (!fv_capture_end(&mapping))
		return rc;
	fv_word_open(&queue->word, &mapping, queue->cq->cqe);
	fv_word_close(&before);
	if (queue->word.producer == NULL)
		queue->channel->stock++;
	if (queue->requested)
		stands(queue);
	fv_bump(queue->channel);
	return rc;
}

FV_PUBLIC int ibv_resize_cq(struct ibv_cq *cq, int cqe)
{
	struct fv_queue *queue = fv_queue_find(cq);
	int rc;

	if (queue == NULL)
		return fv_real()->resize_cq(cq, cqe);
	fv_lock(queue->channel);
	if (queue->word.producer == NULL)
		rc = fv_real()->resize_cq(cq, cqe);
	else
		rc = resize(queue, cqe);
	fv_unlock(queue->channel);
	return rc;
}

/* ---- destroy ---- */

/* As the original does: wait until all that was fetched is acknowledged. */
static void wait_for_acks(struct fv_queue *queue)
{
	while (queue->fetched != 0)
		pthread_cond_wait(&queue->channel->acknowledged,
				  &queue->channel->lock);
}

/*
 * Once it has left, nobody looks at its memory any more: those who wait have been
 * told by the bell.  The slot is free before the address is, which may be given
 * to the next queue.
 */
static int destroy(struct fv_queue *queue)
{
	struct fv_channel *channel = queue->channel;
	struct ibv_cq *cq = queue->cq;
	int rc;

	fv_lock(channel);
	leave(queue);
	wait_for_acks(queue);
	fv_unlock(channel);
	fv_queue_hide(queue);
	fv_detach(queue);
	rc = fv_real()->destroy_cq(cq);
	if (rc != 0 && fv_queue_show(queue)) {
		fv_attach(queue);
		join(queue);
		return rc;
	}
	fv_word_close(&queue->word);
	fv_queue_free(queue);
	return rc;
}

FV_PUBLIC int ibv_destroy_cq(struct ibv_cq *cq)
{
	struct fv_queue *queue = fv_queue_find(cq);

	return queue != NULL ? destroy(queue) : fv_real()->destroy_cq(cq);
}

/* ---- acknowledge ---- */

/*
 * Real events are acknowledged when they are read, so what the program
 * acknowledges is between it and us; one too many would make the real
 * ibv_destroy_cq() wait for ever.  A program that fetches them where we do not see
 * it knows how many there were.
 */
FV_PUBLIC void ibv_ack_cq_events(struct ibv_cq *cq, unsigned int n)
{
	struct fv_queue *queue = fv_queue_find(cq);
	uint64_t paid;

	if (queue == NULL || !fw_load(&queue->channel->fetched)) {
		fv_real()->ack_cq_events(cq, n);
		return;
	}
	fv_lock(queue->channel);
	paid = n < queue->fetched ? n : queue->fetched;
	queue->fetched -= paid;
	if (queue->fetched == 0)
		pthread_cond_broadcast(&queue->channel->acknowledged);
	fv_unlock(queue->channel);
	if (FV_UNLIKELY(n != paid))
		__atomic_fetch_add(&fv_stats.surplus, n - paid,
				   __ATOMIC_RELAXED);
}
