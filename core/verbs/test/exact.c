// SPDX-License-Identifier: PostgreSQL
/*
 * exact.c - one event for one completion, neither fewer nor more.
 *
 * One message is under way at a time.  The event of its completion is fetched, asked for
 * anew, and the completion is polled: it must be there, as ib_send_lat takes it to be
 * (which else sends once too often, until it waits for what never comes).  Then the next
 * message is sent, after a time that makes it come now before the waiter looks, now while
 * it looks at memory, now when it is about to sleep, and that makes a program in
 * mode adaptive change its mind.  Completions of sends go to a second queue of the
 * same channel, every now and then, and are treated alike.
 *
 * FASTWAKE_EXACT_SECONDS: how long (5); FASTWAKE_EXACT_SEED.
 */
#include <pthread.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"
#include "tap.h"

#define LOST_S 20 /* no event for so long: it is lost */

static struct loop_device device;
static struct ibv_comp_channel *channel;
static struct ibv_cq *received, *sent;
static struct loop loop;

static uint32_t turn; /* messages that may have been sent */
static uint32_t over;
static unsigned long events, extra;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void spin_us(unsigned int us)
{
	double end = now() + us / 1e6;

	while (now() < end)
		;
}

/* Around the times at which a waiter ceases to look, and everything between. */
static void pause_a_while(unsigned int *seed)
{
	static const unsigned int about[] = { 0, 20, 50, 60, 1000, 1010, 1100 };
	static unsigned int center, repeats;
	unsigned int us;

	if (repeats-- == 0) {
		repeats = (unsigned int)rand_r(seed) % 5;
		center = about[(unsigned int)rand_r(seed) % 7];
	}
	us = center + (unsigned int)rand_r(seed) % 60;
	if (us > 200 && rand_r(seed) % 2 != 0)
		usleep(us);
	else
		spin_us(us);
}

static void *send(void *argument)
{
	unsigned int seed = *(unsigned int *)argument;
	uint32_t n = 0;

	for (;;) {
		while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) == n)
			if (__atomic_load_n(&over, __ATOMIC_ACQUIRE))
				return NULL;
		n++;
		pause_a_while(&seed);
		loop_post_send(&loop, 0);
	}
}

/* It is asked for anew, then polled: one completion for each event. */
static struct ibv_cq *one_event(void)
{
	struct ibv_cq *cq;
	struct ibv_wc wc;
	void *context;
	int n;

	alarm(LOST_S);
	loop_check(ibv_get_cq_event(channel, &cq, &context) == 0,
		   "ibv_get_cq_event");
	ibv_ack_cq_events(cq, 1);
	loop_check(ibv_req_notify_cq(cq, 0) == 0, "ibv_req_notify_cq");
	n = ibv_poll_cq(cq, 1, &wc);
	loop_check(n >= 0, "ibv_poll_cq");
	if (n > 0)
		loop_check(wc.status == IBV_WC_SUCCESS,
			   ibv_wc_status_str(wc.status));
	events++;
	extra += n == 0;
	return n == 0 ? NULL : cq;
}

/* Both completions of a message. */
static void receive(void)
{
	bool has_sent = false, has_received = false;
	struct ibv_cq *cq;

	loop_post_recv(&loop);
	__atomic_fetch_add(&turn, 1, __ATOMIC_RELEASE);
	while (!has_sent || !has_received) {
		cq = one_event();
		has_sent = has_sent || cq == sent;
		has_received = has_received || cq == received;
	}
}

static void make(void)
{
	loop_open(&device);
	channel = ibv_create_comp_channel(device.verbs);
	loop_check(channel != NULL, "ibv_create_comp_channel");
	received = ibv_create_cq(device.verbs, 16, NULL, channel, 0);
	sent = ibv_create_cq(device.verbs, 16, NULL, channel, 0);
	loop_check(received != NULL && sent != NULL, "ibv_create_cq");
	loop_make_with(&device, &loop, received, sent);
	loop_check(ibv_req_notify_cq(received, 0) == 0 &&
			   ibv_req_notify_cq(sent, 0) == 0,
		   "ibv_req_notify_cq");
}

static unsigned int setting(const char *name, unsigned int otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? (unsigned int)strtoul(text, NULL, 10) : otherwise;
}

int main(void)
{
	unsigned int seed =
		setting("FASTWAKE_EXACT_SEED", (unsigned int)time(NULL));
	double end = now() + setting("FASTWAKE_EXACT_SECONDS", 5);
	pthread_t sender;

	tap_begin();
	tap_diag("FASTWAKE_EXACT_SEED=%u", seed);
	make();
	loop_check(pthread_create(&sender, NULL, send, &seed) == 0,
		   "pthread_create");
	while (now() < end)
		receive();
	__atomic_store_n(&over, 1, __ATOMIC_RELEASE);
	pthread_join(sender, NULL);
	loop_free(&loop);
	loop_check(ibv_destroy_cq(received) == 0, "ibv_destroy_cq");
	loop_check(ibv_destroy_comp_channel(channel) == 0,
		   "ibv_destroy_comp_channel");
	tap_ok(events > 0, "%lu events, none lost", events);
	tap_is(extra, 0, "each with its completion");
	return tap_done();
}
