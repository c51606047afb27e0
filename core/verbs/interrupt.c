// SPDX-License-Identifier: PostgreSQL
/*
 * interrupt.c - sleep in the module until the interrupt of a completion queue.
 *
 * Queues are attached to the module when they are made (ATTACH_CQ): their events end the
 * WAIT of a thread that waits for them there, which asks for them in the same call, and
 * go to the channel's file if there is none.  So who sleeps there need not read the file:
 *
 *	here					device
 *	looks: nothing is due			publishes a completion
 *	WAIT: links the thread, asks		armed? an event: takes the link,
 *	      for the event, looks at the	       or into the file
 *	      words, sleeps
 *
 * An event that goes into the file does so before the link: then its completion is
 * seen by the look at the words, which follows.  It is a stray (event.c).
 *
 * One thread of a channel sleeps there, and only while no other waits for it: an event
 * wakes that one, and if it took two of them the other thread would not know.  Whoever
 * comes next rings the bell and wakes it (fv_bump()), and both sleep with the file.  What
 * it may have taken before it left the WAIT is told by fv_raise().
 */
#include <errno.h>
#include <stdlib.h>

#include "restrack.h"
#include "verbs.h"

/* Sleeps for which it is not asked in the WAIT, once that was of no use. */
#define APART 16

/* WAITs that were refused before the channel is left to its file. */
#define REFUSED_MAX 16

/* ---- attached queues ---- */

/* The number that the kernel tracks it by is not known: ours, the newest first. */
void fv_attach(struct fv_queue *queue)
{
	int (*index_of)(struct ibv_device *) = fv_real()->get_device_index;
	struct ibv_context *verbs = queue->cq->context;
	int device = index_of != NULL ? index_of(verbs->device) : -1;
	uint32_t *numbers = NULL;
	int i, n;

	queue->source = FV_NO_REGION;
	if (device < 0 || !fv_module_interrupts())
		return;
	n = fw_restrack_cqs((uint32_t)device, &numbers);
	for (i = 0; i < n && queue->source == FV_NO_REGION; i++)
		queue->source =
			fv_module_attach((uint32_t)device, numbers[i],
					 verbs->cmd_fd, queue->cq->handle);
	free(numbers);
	if (queue->source == FV_NO_REGION)
		fv_log("a completion queue could not be attached to /dev/fastwake: its events are the kernel's");
}

void fv_detach(struct fv_queue *queue)
{
	if (queue->source != FV_NO_REGION)
		fv_module_detach(queue->source);
	queue->source = FV_NO_REGION;
}

/* ---- sleep ---- */

bool fv_may_sleep(const struct fv_channel *channel)
{
	return fv_filtered(channel) && channel->blind == 0 &&
	       channel->unattached == 0 && channel->refused < REFUSED_MAX;
}

static bool alone(const struct fv_channel *channel)
{
	return channel->parked == 0 && channel->waiting == 0;
}

/* Of the queues that are requested, after all their words. */
static bool add_interrupts(struct fv_set *set, const struct fv_channel *channel)
{
	const struct fv_queue *queue;

	for (queue = channel->queues; queue != NULL; queue = queue->next) {
		if (!queue->requested)
			continue;
		if (set->watches == FV_WATCHES_MAX)
			return false;
		set->watch[set->watches++] = (struct fastwake_ioc_watch){
			.region = queue->source,
			.condition = FASTWAKE_COND_CQ,
			.operand = queue->armed ? 0 : FASTWAKE_CQ_ARM,
		};
	}
	return true;
}

/*
 * Completions that the program has left in a queue end the WAIT that is to ask for
 * the event.
 */
static bool ask_apart(struct fv_channel *channel)
{
	if (channel->apart == 0)
		return false;
	channel->apart--;
	return fv_arm_all(channel);
}

static void perhaps_armed(struct fv_queue *queue)
{
	queue->armed = false;
	fv_stray(queue->channel);
}

/* Who sleeps with the file has asked for events, too, and may have lost one to us. */
static void end_of_sleep(struct fv_channel *channel)
{
	channel->waiting--;
	channel->sleeper = FASTWAKE_WAITER_NONE;
	if (channel->parked != 0 && fv_arm_all(channel))
		(void)fv_raise(channel);
}

static void cancelled(void *argument)
{
	struct fv_channel *channel = argument;
	struct fv_queue *queue;

	fv_lock(channel);
	for (queue = channel->queues; queue != NULL; queue = queue->next)
		perhaps_armed(queue);
	end_of_sleep(channel);
	fv_unlock(channel);
}

/* Threads may be cancelled while they sleep. */
static long sleep_now(struct fv_channel *channel, const struct fv_set *set)
{
	int type;
	long rc;

	pthread_cleanup_push(cancelled, channel);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	rc = fv_module_sleep(set);
	pthread_setcanceltype(type, &type);
	pthread_cleanup_pop(0);
	return rc;
}

static struct fv_queue *attached_as(const struct fv_channel *channel,
				    uint32_t source)
{
	struct fv_queue *queue = channel->queues;

	while (queue != NULL && queue->source != source)
		queue = queue->next;
	return queue;
}

/* Has a request or a queue come or gone since?  Then a number may be another's. */
static bool rung(const struct fv_channel *channel, const struct fv_set *set)
{
	return fw_load(channel->bell) != (uint32_t)set->watch[0].operand;
}

/* Of a watch in a WAIT that returned RC: does the kernel know of the request? */
static void after(struct fv_channel *channel, const struct fv_set *set,
		  unsigned int watch, long rc)
{
	struct fv_queue *queue = attached_as(channel, set->watch[watch].region);
	bool asked = (set->watch[watch].operand & FASTWAKE_CQ_ARM) != 0;

	if (queue == NULL)
		return;
	if (rc >= 0 && (FASTWAKE_WAIT_CQS(rc) & (1u << watch)) != 0)
		fv_taken(queue);
	else if (asked && rc >= 0 && (rc & FASTWAKE_WAIT_SLEPT) != 0 &&
		 !rung(channel, set))
		queue->armed = queue->requested;
	else if (asked)
		perhaps_armed(queue);
}

/* Did it end by completions that were there, without an event? */
static bool left_over(const struct fv_set *set, long rc)
{
	return rc >= 0 && FASTWAKE_WAIT_CQS(rc) == 0 &&
	       FASTWAKE_WAIT_INDEX(rc) < set->watches &&
	       set->watch[FASTWAKE_WAIT_INDEX(rc)].condition ==
		       FASTWAKE_COND_CQ;
}

int fv_sleep(struct fv_channel *channel)
{
	struct fv_set set;
	unsigned int i;
	long rc;

	if (!fv_may_sleep(channel) || !alone(channel) || !fv_module_ready())
		return -EAGAIN;
	if (ask_apart(channel))
		return 0;
	fv_set_begin(&set);
	if (!fv_set_words(&set, channel) || !set.in_module ||
	    !add_interrupts(&set, channel))
		return -EAGAIN;
	channel->waiting++;
	channel->sleeper = fv_module_self();
	fv_unlock(channel);
	rc = sleep_now(channel, &set);
	fv_lock(channel);
	for (i = 0; i < set.watches; i++)
		if (set.watch[i].condition == FASTWAKE_COND_CQ)
			after(channel, &set, i, rc);
	end_of_sleep(channel);
	if (rc < 0 && rc != -EINTR && ++channel->refused == REFUSED_MAX)
		fv_log("the module refuses to wait for completion queues: %ld",
		       rc);
	if (left_over(&set, rc) && !fv_look(channel))
		channel->apart = APART;
	return rc == -EINTR ? -EINTR : 0;
}
