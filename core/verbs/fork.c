// SPDX-License-Identifier: PostgreSQL
/*
 * fork.c - a process forks.
 *
 * Before it does, all that was kept back is armed, so that whoever of the two
 * waits for an inherited channel gets the kernel's events.  The child leaves
 * inherited channels to the kernel, and has what it makes itself managed anew.
 */
#include "verbs.h"

static void prepare(void)
{
	struct fv_channel *channel;
	unsigned int i;

	fv_registry_lock();
	for (i = 0; (channel = fv_channel_number(i)) != NULL; i++) {
		fv_lock(channel);
		if (channel->fd >= 0)
			(void)fv_arm_all(channel);
	}
}

static void parent(void)
{
	struct fv_channel *channel;
	unsigned int i;

	for (i = 0; (channel = fv_channel_number(i)) != NULL; i++)
		fv_unlock(channel);
	fv_registry_unlock();
}

static void disown(struct fv_channel *channel)
{
	struct fv_queue *queue;

	pthread_mutex_init(&channel->lock, NULL);
	pthread_cond_init(&channel->acknowledged, NULL);
	channel->always_stock = true;
	if (channel->raiser.cq != NULL)
		channel->verbs->refcnt--; /* it is the parent's */
	channel->raiser = (struct fv_raiser){ .qp = NULL };
	channel->waiting = channel->parked = 0;
	channel->sleeper = FASTWAKE_WAITER_NONE;
	for (queue = channel->queues; queue != NULL; queue = queue->next) {
		queue->requested = queue->armed = false;
		queue->pending = 0;
		queue->fetched = 0;
		queue->word.region = queue->source = FV_NO_REGION;
	}
}

static void child(void)
{
	struct fv_channel *channel;
	unsigned int i;

	fv_module_forget();
	fv_helper_forget();
	fv_stats_forget();
	for (i = 0; (channel = fv_channel_number(i)) != NULL; i++)
		disown(channel);
	fv_registry_forget();
}

static void init(void)
{
	(void)pthread_atfork(prepare, parent, child);
}

void fv_fork_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init);
}
