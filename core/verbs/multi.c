// SPDX-License-Identifier: PostgreSQL
/*
 * multi.c - waits for several descriptors, some of them completion channels:
 * what poll(), select() and epoll_wait() have in common.
 *
 * A channel is readable if an event is due, or if its file is.  First memory is
 * looked at for a while; then all that was kept back is armed, and the real call
 * waits, with each channel counted as parked: the proof in notify.c holds, with
 * the real call for the sleep.  If that finds a file readable, it may be by strays
 * (event.c): they are read, and only what is due is told of.
 */
#include <errno.h>

#include "verbs.h"

static unsigned int place(const struct fv_multi *multi,
			  const struct fv_channel *channel)
{
	unsigned int i = 0;

	while (i < multi->n && multi->channel[i] != channel)
		i++;
	return i;
}

void fv_multi_add(struct fv_multi *multi, struct fv_channel *channel)
{
	if (place(multi, channel) == multi->n && multi->n < multi->room)
		multi->channel[multi->n++] = channel;
}

bool fv_multi_readable(const struct fv_multi *multi,
		       const struct fv_channel *channel)
{
	unsigned int i = place(multi, channel);

	return i < multi->n && multi->readable[i];
}

uint64_t fv_deadline_in(uint64_t ns)
{
	return ns == 0 ? 0 : fastwake_now() + ns;
}

uint64_t fv_multi_left(const struct fv_multi *multi)
{
	uint64_t now_ns;

	if (multi->deadline_ns == 0 || multi->deadline_ns == UINT64_MAX)
		return multi->deadline_ns;
	now_ns = fastwake_now();
	return now_ns < multi->deadline_ns ? multi->deadline_ns - now_ns : 0;
}

/* Is an event due? */
static bool any_readable(struct fv_multi *multi)
{
	unsigned int i;
	bool any = false;

	for (i = 0; i < multi->n; i++) {
		fv_lock(multi->channel[i]);
		multi->readable[i] = fv_look(multi->channel[i]);
		fv_unlock(multi->channel[i]);
		any = any || multi->readable[i];
	}
	return any;
}

/* True if the set has something to look at. */
static bool begin_to_look(const struct fv_multi *multi, struct fv_set *set)
{
	unsigned int i;
	bool all = true;

	for (i = 0; i < multi->n; i++) {
		fv_lock(multi->channel[i]);
		fv_punctual(multi->channel[i]);
		multi->channel[i]->waits = multi->channel[i]->trusted = true;
		multi->channel[i]->waiting++;
		all = all && fv_set_add(set, multi->channel[i]);
		fv_unlock(multi->channel[i]);
	}
	return all;
}

static void end_of_look(const struct fv_multi *multi)
{
	unsigned int i;

	for (i = 0; i < multi->n; i++) {
		fv_lock(multi->channel[i]);
		multi->channel[i]->waiting--;
		fv_unlock(multi->channel[i]);
	}
}

/* Others' descriptors are not looked at meanwhile: not for long, then. */
static int look(const struct fv_multi *multi)
{
	uint64_t budget_ns = multi->others ? fv_config.poll_ns : fv_budget();
	uint64_t left_ns = fv_multi_left(multi);
	struct fv_set set;
	int rc = -ETIME;

	fv_set_begin(&set);
	if (left_ns < budget_ns)
		budget_ns = left_ns;
	if (begin_to_look(multi, &set))
		rc = fv_set_wait(&set, budget_ns);
	end_of_look(multi);
	return rc;
}

/* False if something has come meanwhile. */
static bool park(const struct fv_multi *multi)
{
	unsigned int i;
	bool due = false;

	for (i = 0; i < multi->n; i++) {
		fv_lock(multi->channel[i]);
		due = fv_arm_all(multi->channel[i]) || due;
		fv_bump(multi->channel[i]);
		multi->channel[i]->parked++;
		fv_unlock(multi->channel[i]);
	}
	return !due;
}

static void unpark(void *argument)
{
	const struct fv_multi *multi = argument;
	unsigned int i;

	for (i = 0; i < multi->n; i++) {
		fv_lock(multi->channel[i]);
		multi->channel[i]->parked--;
		fv_unlock(multi->channel[i]);
	}
}

/* Strays in the files of channels, after the real call: were there events? */
static bool collect(const struct fv_multi *multi)
{
	bool any = false;
	unsigned int i;

	for (i = 0; i < multi->n; i++) {
		fv_lock(multi->channel[i]);
		if (fv_filtered(multi->channel[i]))
			any = fv_collect(multi->channel[i]) || any;
		fv_unlock(multi->channel[i]);
	}
	return any;
}

/* What the real call says, which has found N, without strays and with what is due. */
static int sum_up(struct fv_multi *multi, int n)
{
	if (n > 0 && collect(multi))
		n = multi->real(multi, true);
	return n >= 0 && any_readable(multi) ? multi->add(multi, n) : n;
}

/* The real call waits; threads may be cancelled in it. */
static int sleep_parked(struct fv_multi *multi)
{
	bool parked = park(multi);
	int n = 0, saved;

	pthread_cleanup_push(unpark, multi);
	if (parked)
		n = multi->real(multi, false);
	saved = errno;
	pthread_cleanup_pop(1);
	errno = saved;
	if (n == 0 && !parked)
		n = multi->real(multi, true);
	return sum_up(multi, n);
}

/* AGAIN: memory is not to be looked at, or no more. */
#define AGAIN (-2)

static int look_first(struct fv_multi *multi)
{
	int rc, n;

	for (;;) {
		if (any_readable(multi)) {
			fv_count(polled);
			return sum_up(multi, multi->real(multi, true));
		}
		if (!multi->may_wait)
			return AGAIN;
		if (multi->others) {
			n = sum_up(multi, multi->real(multi, true));
			if (n != 0)
				return n;
		}
		rc = look(multi);
		if (rc == -EINTR) {
			errno = EINTR;
			return -1;
		}
		if (rc != 0 || fv_multi_left(multi) == 0)
			multi->may_wait = false;
	}
}

/* A wait that something else has ended says that events are rare, or nothing. */
static void adapt(struct fv_multi *multi, uint64_t waited_ns)
{
	bool late = waited_ns > fv_budget();
	unsigned int i;

	for (i = 0; i < multi->n; i++) {
		fv_lock(multi->channel[i]);
		if (late || fv_look(multi->channel[i]))
			fv_adapt(multi->channel[i], waited_ns);
		fv_unlock(multi->channel[i]);
	}
}

static int wait_for_any(struct fv_multi *multi)
{
	int n;

	n = look_first(multi);
	if (n != AGAIN)
		return n;
	fv_count(parked);
	do
		n = sleep_parked(multi);
	while (n == 0 && fv_multi_left(multi) != 0);
	return n;
}

int fv_multi(struct fv_multi *multi)
{
	uint64_t start_ns;
	int n;

	if (multi->deadline_ns == 0)
		return sum_up(multi, multi->real(multi, true));
	fv_count(waits);
	if (fv_config.mode != FV_ADAPTIVE)
		return wait_for_any(multi);
	start_ns = fastwake_now();
	n = wait_for_any(multi);
	adapt(multi, fastwake_now() - start_ns);
	return n;
}
