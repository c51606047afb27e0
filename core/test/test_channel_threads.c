// SPDX-License-Identifier: PostgreSQL
/*
 * test_channel_threads.c - both ends of a shm channel in one process, each in
 * a thread of its own, over one and the same mapping: so TSan sees how they
 * share it.  Races wake-ups for a while (FASTWAKE_STRESS_SECONDS, 6 by default,
 * shared by the parts).
 */
#include <pthread.h>
#include <sys/socket.h>

#include "channel_cases.h"
#include "shm.h"

#define SHM FASTWAKE_TRANSPORT_SHM

/* Close the connecting side first: it borrows the other's mapping. */
static void share_mapping(struct pair *pair)
{
	struct fastwake_channel *a = pair->listening, *b = pair->connecting;

	b->shm->own = a->shm->peer;
	b->shm->peer = a->shm->own;
	b->tx.ring = (uint8_t *)(uintptr_t)a->rx.ring;
	b->rx.ring = a->tx.ring;
}

struct end {
	struct fastwake_channel *ch;
	struct traffic traffic;
	/* ping-pong */
	enum how how;
	bool first;
	uint64_t until;
	uint64_t rounds;
	int rc;
};

static void *run_traffic(void *arg)
{
	struct end *end = arg;

	end->rc = traffic_run(end->ch, &end->traffic);
	return NULL;
}

static const char *both(void *(*run)(void *), struct end ends[2])
{
	struct fastwake_channel_options options = plain(SHM);
	struct pair pair;
	pthread_t thread;

	CHECK(pair_open(&pair, &options, &options));
	share_mapping(&pair);
	ends[0].ch = pair.listening;
	ends[1].ch = pair.connecting;
	CHECK_IS(pthread_create(&thread, NULL, run, &ends[1]), 0);
	run(&ends[0]);
	pthread_join(thread, NULL);
	pair_close(&pair);
	CHECK_IS(ends[0].rc, 0);
	CHECK_IS(ends[1].rc, 0);
	return NULL;
}

static const char *traffic_threads(enum how how)
{
	struct traffic t = { .count = load(4000),
			     .message_max = MAX,
			     .how = how };
	struct end ends[2] = { { .traffic = t }, { .traffic = t } };

	return both(run_traffic, ends);
}

static const char *case_polling(uint32_t transport)
{
	(void)transport;
	return traffic_threads(BY_POLLING);
}

static const char *case_fds(uint32_t transport)
{
	(void)transport;
	return traffic_threads(BY_FDS);
}

static const char *case_watches(uint32_t transport)
{
	(void)transport;
	return traffic_threads(BY_WATCHES);
}

/* ------------------------------------------------------------------ */
/* Ping-pong: a lost wake-up shows as a long wait                     */
/* ------------------------------------------------------------------ */

static int await(struct end *end, struct fastwake_waiter *waiter)
{
	uint64_t start = fastwake_now();
	int rc = wait_channel(end->ch, FASTWAKE_READABLE, end->how, waiter, 30);

	if (rc == 0 ||
	    (rc > 0 && fastwake_now() - start > (uint64_t)sleep_ms * 900000))
		return -ETIMEDOUT;
	return rc < 0 ? rc : 0;
}

static int round_trip(struct end *end, struct fastwake_waiter *waiter)
{
	uint64_t *number;
	uint32_t stream;
	ssize_t n;
	int rc;

	if (end->first && send_all(end->ch, NULL, 0, (void *)&end->rounds,
				   sizeof(end->rounds)) != 0)
		return -EIO;
	rc = await(end, waiter);
	if (rc != 0)
		return rc;
	n = fastwake_channel_recv(end->ch, &stream, (void **)&number);
	if (n != sizeof(*number) || *number != end->rounds)
		return -EBADMSG;
	end->rounds++;
	if (end->first)
		return 0;
	return send_all(end->ch, NULL, 0, (void *)number, sizeof(*number));
}

static void *run_ping_pong(void *arg)
{
	struct end *end = arg;
	struct fastwake_waiter *waiter = make_waiter();

	while (end->rc == 0 && (!end->first || fastwake_now() < end->until))
		end->rc = round_trip(end, waiter);
	if (end->first) {
		fw_store_release(&end->ch->shm->own->closed, 1);
		fastwake_doorbell_ring(&end->ch->shm->peer->doorbell);
		(void)send(end->ch->shm->fd, "", 1, MSG_DONTWAIT);
	} else if (end->rc == -EPIPE) {
		end->rc = 0;
	}
	free_waiter(waiter);
	return NULL;
}

static const char *ping_pong(enum how first, enum how second)
{
	uint64_t ns = stress_ns(3);
	struct end ends[2] = {
		{ .how = first, .first = true, .until = fastwake_now() + ns },
		{ .how = second },
	};
	const char *failed;

	sleep_ms = 8000; /* longer than a busy host stalls a guest */
	failed = both(run_ping_pong, ends);
	tap_diag("%llu round trips in %.1f s",
		 (unsigned long long)ends[0].rounds, (double)ns / 1e9);
	return failed;
}

static const char *case_threads_fds(uint32_t transport)
{
	(void)transport;
	return ping_pong(BY_FDS, BY_FDS);
}

static const char *case_threads_watches(uint32_t transport)
{
	(void)transport;
	return ping_pong(BY_WATCHES, BY_WATCHES);
}

static const char *case_threads_mixed(uint32_t transport)
{
	(void)transport;
	return ping_pong(BY_FDS, BY_WATCHES);
}

#define RUN(name, function) run_case("threads: " name, function, SHM)

int main(void)
{
	tap_begin();
	RUN("traffic, polling", case_polling);
	RUN("traffic, waiting by descriptors", case_fds);
	RUN("traffic, waiting by watches", case_watches);
	RUN("ping-pong by descriptors", case_threads_fds);
	RUN("ping-pong by watches", case_threads_watches);
	RUN("ping-pong, one end each", case_threads_mixed);
	return tap_done();
}
