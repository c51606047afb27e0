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
 * A tick is 100 us at first, so that no request is older than 200 us.  It grows for as
 * long as nothing is too old, to a tenth of the time that has been so, since each costs
 * whoever runs on the processor two switches: of 128 processes on one, with ticks of
 * 6.4 ms, that was a tenth of all they did.  Once no request was kept back
 * during so many ticks the thread sleeps until one is:
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
#include <sys/prctl.h>
#include <time.h>

#include "verbs.h"

#define TICK_MIN_NS	  100000
#define TICK_SOON_NS	  1600000 /* until then each is twice the one before */
#define TICK_MAX_NS	  102400000
#define TICKS_OF_ALL	  10 /* of the good time each is such a part */
#define TICKS_FOR_NOTHING 16

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
	fv_late(queue->channel);
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

/* GOOD_NS: since when nothing was too old. */
static long next_tick(long tick_ns, uint64_t good_ns)
{
	long part = (long)(good_ns / TICKS_OF_ALL);

	if (tick_ns < TICK_SOON_NS)
		return tick_ns * 2;
	if (part <= tick_ns)
		return tick_ns;
	return part < TICK_MAX_NS ? part : TICK_MAX_NS;
}

/*
 * Ticks may be late by an eighth, so that those of many processes come together: then
 * one interrupt is for all, and one switch leads from each to the next.
 */
static void set_tick(struct timespec *tick, long tick_ns)
{
	if (tick->tv_nsec == tick_ns)
		return;
	tick->tv_nsec = tick_ns;
	(void)prctl(PR_SET_TIMERSLACK, tick_ns / 8);
}

/* True if it has been so for nothing so often that the thread may sleep. */
static bool ticks_for_nothing(void)
{
	static uint64_t deferred;
	static unsigned int idle;
	uint64_t now = __atomic_load_n(&fv_stats.deferred, __ATOMIC_RELAXED);

	idle = now != deferred ? 0 : idle + 1;
	deferred = now;
	if (idle < TICKS_FOR_NOTHING)
		return false;
	idle = 0;
	return true;
}

static void *help(void *unused)
{
	uint64_t good_since_ns = fastwake_now(), now_ns;
	struct timespec tick = { .tv_nsec = 0 };

	(void)unused;
	set_tick(&tick, TICK_MIN_NS);
	for (;;) {
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &tick, NULL);
		now_ns = fastwake_now();
		if (look_at_all().late != 0) {
			good_since_ns = now_ns;
			set_tick(&tick, TICK_MIN_NS);
		} else {
			set_tick(&tick, next_tick(tick.tv_nsec,
						  now_ns - good_since_ns));
		}
		if (ticks_for_nothing()) {
			sleep_until_needed();
			good_since_ns += fastwake_now() - now_ns;
		}
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
