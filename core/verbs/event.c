// SPDX-License-Identifier: PostgreSQL
/*
 * event.c - which event is next, and what real ones mean.
 */
#include "verbs.h"

static enum fv_take look_at(const struct fv_queue *queue)
{
	if (queue->pending != 0)
		return FV_SYNTHETIC;
	if (!fv_fired(queue))
		return FV_NOTHING;
	return queue->armed ? FV_REAL : FV_SYNTHETIC;
}

enum fv_take fv_look(const struct fv_channel *channel)
{
	const struct fv_queue *queue;
	enum fv_take found = channel->queued != 0 ? FV_REAL : FV_NOTHING;

	for (queue = channel->queues; queue != NULL; queue = queue->next)
		switch (look_at(queue)) {
		case FV_SYNTHETIC:
			return FV_SYNTHETIC;
		case FV_REAL:
			found = FV_REAL;
			break;
		case FV_NOTHING:
			break;
		}
	return found;
}

/* So that each queue of the channel has its turn. */
static void move_to_end(struct fv_channel *channel, struct fv_queue *queue)
{
	struct fv_queue **link = &channel->queues;

	if (queue->next == NULL)
		return;
	while (*link != queue)
		link = &(*link)->next;
	*link = queue->next;
	while (*link != NULL)
		link = &(*link)->next;
	*link = queue;
	queue->next = NULL;
}

static void take_from(struct fv_queue *queue)
{
	if (queue->pending != 0)
		queue->pending--;
	else
		queue->requested = false;
	queue->synthetic++;
	fv_count(synthetic);
}

enum fv_take fv_take(struct fv_channel *channel, struct fv_queue **taken)
{
	enum fv_take found = channel->queued != 0 ? FV_REAL : FV_NOTHING;
	struct fv_queue *queue;

	for (queue = channel->queues; queue != NULL; queue = queue->next)
		switch (look_at(queue)) {
		case FV_SYNTHETIC:
			take_from(queue);
			move_to_end(channel, queue);
			*taken = queue;
			return FV_SYNTHETIC;
		case FV_REAL:
			found = FV_REAL;
			break;
		case FV_NOTHING:
			break;
		}
	return found;
}

/*
 * A real event of a queue that is armed takes the arming with it, whichever
 * completion it is of: the device looks whether it is armed after it has published
 * the completion, so a completion from before the request may make the event,
 *
 *	here					device
 *						publishes the completion
 *	request: sees it, arms, nothing moved
 *						armed: makes the event, disarms
 *
 * and nothing would be armed any more if the event was taken for a stray one.  A
 * request that is kept back stands: the event is that of an earlier one.
 */
void fv_account(struct fv_channel *channel, const struct ibv_cq *cq)
{
	struct fv_queue *queue = fv_queue_find(cq);

	fv_count(real);
	if (queue == NULL || queue->channel != channel)
		return;
	queue->real++;
	if (queue->queued != 0) {
		queue->queued--;
		channel->queued--;
	} else if (queue->armed) {
		queue->requested = queue->armed = false;
	} else if (!queue->solicited) {
		fv_count(extra);
	}
	queue->solicited = false;
}
