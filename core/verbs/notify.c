// SPDX-License-Identifier: PostgreSQL
/*
 * notify.c - requests for notification: kept back, or passed on.
 *
 * Passing on ("arming") is what the kernel's event needs; on rxe it is a system
 * call.  Whoever is to sleep where nobody looks at memory arms, then looks
 * again:
 *
 *	here					device
 *	arms (system call)			publishes the completion
 *	looks: moved?				armed? makes the event
 *	sleeps until the event
 *
 * If the device found it not armed, it published before, and the look sees that.
 * If the look sees it, the event may come as well: a stray, which event.c drops.
 *
 * Who keeps a request back and who begins to sleep exclude one another by the
 * channel's lock:
 *
 *	requester				sleeper
 *	lock					lock
 *	nobody is parked: kept back		arms all that was kept back
 *	unlock					parked += 1
 *						unlock, sleeps
 *
 * The one that comes second finds what the first did.  The same holds for
 * threads that look at memory (waiting), whose set of words is made under the
 * lock: a request that comes later rings the channel's bell, which is among them.
 */
#include "verbs.h"

void fv_bump(struct fv_channel *channel)
{
	if (channel->waiting == 0)
		return;
	__atomic_fetch_add(channel->bell, 1, __ATOMIC_RELEASE);
	if (FV_UNLIKELY(channel->sleeper != FASTWAKE_WAITER_NONE))
		fv_module_wake(channel->sleeper); /* no scanner looks */
}

static int pass_on(struct fv_queue *queue, int solicited_only)
{
	fv_count(armed);
	return queue->context->req_notify_cq(queue->cq, solicited_only);
}

/* If a completion has overtaken it, the kernel may make an event all the same. */
int fv_arm(struct fv_queue *queue)
{
	int rc = pass_on(queue, 0);

	if (rc != 0)
		return rc;
	queue->armed = !fv_fired(queue);
	if (!queue->armed)
		fv_stray(queue->channel);
	return 0;
}

bool fv_arm_all(struct fv_channel *channel)
{
	struct fv_queue *queue;

	for (queue = channel->queues; queue != NULL; queue = queue->next)
		if (queue->requested && !queue->armed && !fv_fired(queue))
			(void)fv_arm(queue);
	return fv_look(channel);
}

/*
 * The program has asked anew without having fetched the event of the request
 * before, which is due all the same.
 */
void fv_settle(struct fv_queue *queue)
{
	if (!queue->armed || fv_filtered(queue->channel))
		queue->pending++;
	if (queue->armed)
		fv_stray(queue->channel);
	queue->requested = queue->armed = false;
}

/*
 * Keeping a request back pays if the wait follows soon.  If it does not, the helper's
 * ticks until it arms cost more than arming at once.  So a channel is away once that
 * happened to two requests in a row, and is not any more once two waits in a row came
 * soon.  Not in mode dispatch, for then each wait that memory ends would leave an event
 * in the file.
 */
#define SOON_NS 100000
#define TURNS	2

static void turn(struct fv_channel *channel, bool away)
{
	if (away == channel->away) {
		channel->turns = 0;
	} else if (++channel->turns == TURNS) {
		channel->away = away;
		channel->turns = 0;
	}
}

void fv_late(struct fv_channel *channel)
{
	channel->trusted = false;
	if (fv_config.mode != FV_DISPATCH)
		turn(channel, true);
}

void fv_punctual(struct fv_channel *channel)
{
	if (channel->away && channel->asked_ns != 0)
		turn(channel, fastwake_now() - channel->asked_ns > SOON_NS);
	else if (channel->trusted)
		channel->turns = 0;
	channel->asked_ns = 0; /* the same wait may begin again */
}

static bool may_keep(const struct fv_queue *queue)
{
	struct fv_channel *channel = queue->channel;

	if (FV_UNLIKELY(channel->away)) {
		channel->asked_ns = fastwake_now();
		return false;
	}
	return channel->trusted && channel->parked == 0 &&
	       (fv_may_wait(channel) || fv_may_sleep(channel));
}

/*
 * Without knowing what the word was, each event counts.  What comes before this
 * returns need not have one, but may.
 */
static int request_armed(struct fv_queue *queue)
{
	bool known = fv_word_snapshot(&queue->word, &queue->seen);
	int rc;

	if (!known) {
		rc = pass_on(queue, 0);
		if (rc == 0)
			fv_set_blind(queue, FV_UNSURE);
		return rc;
	}
	queue->requested = true;
	rc = fv_arm(queue);
	if (rc != 0)
		queue->requested = false;
	fv_bump(queue->channel);
	return rc;
}

static int request(struct fv_queue *queue)
{
	if (queue->requested) {
		if (!fv_fired(queue))
			return 0; /* it stands, and so do its means */
		fv_settle(queue);
	}
	if (!may_keep(queue) || !fv_word_snapshot(&queue->word, &queue->seen))
		return request_armed(queue);
	queue->requested = true;
	queue->deferral++;
	fv_count(deferred);
	fv_bump(queue->channel);
	fv_helper_note();
	return 0;
}

/*
 * Memory does not show whether a completion was solicited: the kernel has to.
 */
static int request_solicited(struct fv_queue *queue)
{
	int rc = pass_on(queue, 1);

	if (rc == 0)
		fv_set_blind(queue, FV_SOLICITED);
	fv_bump(queue->channel);
	return rc;
}

/* In place of the provider's, in contexts that are managed. */
int fv_req_notify_cq(struct ibv_cq *cq, int solicited_only)
{
	struct fv_queue *queue = fv_queue_find(cq);
	int rc;

	if (queue == NULL)
		return fv_context_find(cq->context)
			->req_notify_cq(cq, solicited_only);
	fv_lock(queue->channel);
	if (FV_UNLIKELY(queue->word.producer == NULL))
		rc = pass_on(queue, solicited_only);
	else if (FV_UNLIKELY(solicited_only))
		rc = request_solicited(queue);
	else
		rc = request(queue);
	fv_unlock(queue->channel);
	return rc;
}
