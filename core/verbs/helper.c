// SPDX-License-Identifier: PostgreSQL
/*
 * helper.c - a thread that arms what was kept back too long.
 *
 * A request is kept back since the program is about to wait where we see it.  If
 * it does not (it computes, or waits for the descriptor in a way that is not
 * seen), the kernel has to be told.  Each tick looks at the channels that nobody
 * waits on: a request that was there at the tick before is armed, or, if it has
 * fired already, has a real event made for it (raise.c); and the channel is no longer
 * trusted, until its program waits where we see it again.
 *
 * A tick is 100 us at first, so that no request is older than 200 us; each that
 * finds nothing too old doubles the next, up to 1.6 ms, since each costs whoever
 * runs on the processor two switches.  After so many in a row the thread sleeps
 * until a request is kept back:
 *
 *	helper					requester
 *	state = ASLEEP				lock, keeps its request back
 *	lock, looks, unlock			reads state
 *	sleeps if nothing is kept back		wakes it if ASLEEP
 *
 * Both within the channel's lock: if the look comes second it sees the request; if
 * it comes first, state was stored before the lock was released.
 */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "verbs.h"

#define TICK_MIN_NS	  100000
#define TICK_MAX_NS	  1600000
#define TICKS_FOR_NOTHING 64

enum {
	NONE,
	ASLEEP,
	TICKING
};

static uint32_t state;

struct found {
	unsigned int kept; /* back, with nobody waiting */
	unsigned int late; /* too long */
};

static void look_at_queue(struct fv_queue *queue, struct found *found)
{
	if (!queue->requested || queue->armed)
		return;
	found->kept++;
	if (queue->noticed != queue->deferral) {
		queue->noticed = queue->deferral;
		return;
	}
	queue->channel->trusted = false;
	found->late++;
	if (!fv_fired(queue)) {
		(void)fv_arm(queue);
		fv_count(late);
	} else if (fv_filtered(queue->channel) && fv_raise(queue->channel)) {
		queue->armed = true; /* there is a real event */
		fv_count(raised);
	}
}

static void look_at_channel(struct fv_channel *channel, struct found *found)
{
	struct fv_queue *queue;

	fv_lock(channel);
	if (channel->fd >= 0 && channel->waiting == 0 && channel->parked == 0)
		for (queue = channel->queues; queue != NULL;
		     queue = queue->next)
			look_at_queue(queue, found);
	fv_unlock(channel);
}

static struct found look_at_all(void)
{
	struct found found = { .kept = 0 };
	struct fv_channel *channel;
	unsigned int i;

	for (i = 0; (channel = fv_channel_number(i)) != NULL; i++)
		look_at_channel(channel, &found);
	return found;
}

static void sleep_until_needed(void)
{
	struct fw_futex futex = { .word = &state, .expected = ASLEEP };

	fw_store(&state, (uint32_t)ASLEEP);
	if (look_at_all().kept == 0)
		(void)fw_futex_wait(&futex, 1, 0);
	fw_store(&state, (uint32_t)TICKING);
}

static void *help(void *unused)
{
	struct timespec tick = { .tv_nsec = TICK_MIN_NS };
	unsigned int idle = 0;
	struct found found;

	(void)unused;
	for (;;) {
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &tick, NULL);
		found = look_at_all();
		if (found.late != 0)
			tick.tv_nsec = TICK_MIN_NS;
		else if (tick.tv_nsec < TICK_MAX_NS)
			tick.tv_nsec *= 2;
		idle = found.kept != 0 ? 0 : idle + 1;
		if (idle < TICKS_FOR_NOTHING)
			continue;
		sleep_until_needed();
		tick.tv_nsec = TICK_MIN_NS;
		idle = 0;
	}
	return NULL;
}

/* Signals are for the program's threads. */
static void start(void)
{
	sigset_t all, before;
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	rc = pthread_create(&thread, &attr, help, NULL);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		fw_store(&state, (uint32_t)NONE);
}

void fv_helper_note(void)
{
	uint32_t none = NONE;

	if (fw_load(&state) == TICKING)
		return;
	if (__atomic_compare_exchange_n(&state, &none, (uint32_t)TICKING, false,
					__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		start();
	else if (none == ASLEEP)
		(void)fw_futex_wake(&state, 1);
}

void fv_helper_forget(void)
{
	state = NONE;
}
