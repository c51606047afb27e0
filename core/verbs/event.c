// SPDX-License-Identifier: PostgreSQL
/*
 * event.c - which event is next, and what real ones mean.
 *
 * On a channel all of whose queues can be looked at, an event is due if memory says
 * so: a completion has come since the request.  The kernel's events only wake who
 * sleeps.  Their number cannot be relied on, since the device looks whether a
 * queue is armed some time after a completion can be seen,
 *
 *	here					device
 *						publishes completion A
 *	sees A in memory, gives its event
 *	new request: arms
 *						armed: makes an event, disarms
 *
 * (or it disarms after our arming, for the sake of an arming before it), and makes one
 * of two that follow one another closely.  So a real event that is read while
 * nothing is due for its queue (A's above) is a stray: it is dropped, and a request that
 * stands is armed anew, for the stray may have taken the arming with it.  No event is
 * lost thereby: one that is due at that moment is given instead, and a completion that
 * comes after that look finds the queue armed by what follows it.  Nor does a program
 * get more events than there were completions, which the original's never do
 * either: ib_send_lat sends once for each event and hangs if there are more.
 *
 * What was given from memory though the kernel makes an event of it leaves a stray
 * in the file.  It is read as soon as it can be, lest whoever waits for the descriptor
 * is told of it, and the file fills up.
 *
 * Where memory does not tell (fv_filtered() is false), and of queues that are blind,
 * each real event is the program's.
 */
#include "verbs.h"

/* That often a stray may not be there before it is given up. */
#define MISSES_MAX 64

void fv_set_blind(struct fv_queue *queue, enum fv_blind blind)
{
	if ((queue->blind == FV_SEES) == (blind == FV_SEES)) {
		queue->blind = blind;
		return;
	}
	if (blind != FV_SEES)
		queue->channel->blind++;
	else
		queue->channel->blind--;
	queue->blind = blind;
}

bool fv_due(const struct fv_queue *queue)
{
	if (queue->pending != 0)
		return true;
	if (queue->armed && !fv_filtered(queue->channel))
		return false; /* the real one is */
	return fv_fired(queue);
}

static struct fv_queue *first_due(const struct fv_channel *channel)
{
	struct fv_queue *queue = channel->queues;

	while (queue != NULL && !fv_due(queue))
		queue = queue->next;
	return queue;
}

bool fv_look(const struct fv_channel *channel)
{
	return first_due(channel) != NULL;
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

void fv_stray(struct fv_channel *channel)
{
	channel->strays++;
	channel->misses = 0;
}

void fv_take_from(struct fv_queue *queue)
{
	if (queue->pending != 0) {
		queue->pending--;
	} else {
		if (queue->armed)
			fv_stray(queue->channel);
		queue->requested = queue->armed = false;
		if (queue->blind == FV_UNSURE)
			fv_set_blind(queue, FV_SEES);
	}
	queue->fetched++;
	move_to_end(queue->channel, queue);
}

struct fv_queue *fv_take(struct fv_channel *channel)
{
	struct fv_queue *queue = first_due(channel);

	if (queue == NULL)
		return NULL;
	fv_take_from(queue);
	fv_count(synthetic);
	if (FV_UNLIKELY(channel->strays != 0) && fv_filtered(channel))
		(void)fv_collect(channel);
	return queue;
}

/* Nothing is due for the queue that an event was read of. */
static bool nothing_due(struct fv_queue *queue)
{
	if (!fv_filtered(queue->channel)) {
		queue->requested = false;
		queue->pending++;
		return true;
	}
	fv_count(extra);
	if (queue->channel->strays != 0)
		queue->channel->strays--;
	if (!queue->requested)
		return false;
	(void)fv_arm(queue);
	return fv_due(queue);
}

/* The event is that of the blind request, and a request that stands is another. */
static void blind_event(struct fv_queue *queue)
{
	if (queue->blind == FV_UNSURE)
		queue->requested = false;
	fv_set_blind(queue, FV_SEES);
	queue->pending++;
	if (queue->requested && !fv_fired(queue))
		(void)fv_arm(queue);
}

void fv_taken(struct fv_queue *queue)
{
	queue->armed = false;
	if (queue->blind != FV_SEES)
		blind_event(queue);
}

bool fv_account(struct fv_queue *queue)
{
	fv_real()->ack_cq_events(queue->cq, 1);
	fv_count(real);
	queue->armed = false;
	if (queue->leaving)
		return false;
	fv_taken(queue);
	return fv_due(queue) || nothing_due(queue);
}

bool fv_account_other(struct fv_channel *channel, struct ibv_cq *cq)
{
	if (cq != channel->raiser.cq) {
		fv_count(real);
		return true;
	}
	fv_real()->ack_cq_events(cq, 1);
	if (channel->strays != 0)
		channel->strays--;
	return false;
}

/*
 * Only while nobody else is about to read the file: then an event that is there
 * stays there.
 */
bool fv_collect(struct fv_channel *channel)
{
	struct fv_queue *queue;
	struct ibv_cq *cq;
	void *context;
	bool any = false;

	while (channel->parked == 0 && fv_readable(channel->fd)) {
		if (fv_fetch(channel, &cq, &context) != 0)
			return any;
		queue = fv_queue_find(cq);
		if (queue != NULL && queue->channel == channel)
			(void)fv_account(queue);
		else if (fv_account_other(channel, cq))
			fv_real()->ack_cq_events(cq, 1); /* it is going away */
		channel->misses = 0;
		any = true;
	}
	if (channel->strays != 0 && ++channel->misses >= MISSES_MAX)
		channel->strays = 0;
	return any;
}
