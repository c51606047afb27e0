/* SPDX-License-Identifier: PostgreSQL */
/*
 * channel_cases.h - what must hold for a channel over any transport.
 */
#ifndef CHANNEL_CASES_H
#define CHANNEL_CASES_H

#include <endian.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "channel_pair.h"

#define RING FASTWAKE_RING_MIN
#define MAX  (300u * 1000) /* several rings long */

static const uint8_t sample[100] = "sample";

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* How much traffic: a guest under emulation is some twenty times slower. */
static inline uint64_t load(uint64_t count)
{
	if (getenv("FASTWAKE_LAB") != NULL)
		return count / 20;
	return SANITIZED ? count / 5 : count;
}

static inline struct fastwake_channel_options plain(uint32_t transport)
{
	return pair_options(transport, RING, MAX);
}

/* Send all of it, whatever the other end has to do for that. */
static inline int send_all(struct fastwake_channel *ch,
			   struct fastwake_channel *receiver, uint32_t stream,
			   const uint8_t *p, size_t length)
{
	uint64_t deadline = fastwake_now() + 10 * SECOND;

	while (length > 0 && fastwake_now() < deadline) {
		ssize_t n = fastwake_channel_send(ch, stream, p, length);

		if (n < 0 && n != -EAGAIN)
			return (int)n;
		if (n > 0) {
			p += n;
			length -= (size_t)n;
		}
		if (receiver != NULL)
			fastwake_channel_poll(receiver);
	}
	return length == 0 ? 0 : -ETIMEDOUT;
}

/* The next message, waited for; its length or -errno. */
static inline ssize_t take(struct fastwake_channel *ch, uint32_t *stream,
			   void **p)
{
	int rc = wait_channel(ch, FASTWAKE_READABLE, BY_FDS, NULL, 10);

	if (rc <= 0)
		return rc < 0 ? rc : -ETIMEDOUT;
	return fastwake_channel_recv(ch, stream, p);
}

/* The error that comes after everything has been taken. */
static inline int take_error(struct fastwake_channel *ch)
{
	ssize_t n;
	uint32_t stream;
	void *p;

	do {
		n = take(ch, &stream, &p);
	} while (n > 0);
	return (int)n;
}

/* ------------------------------------------------------------------ */
/* Messages                                                           */
/* ------------------------------------------------------------------ */

static const uint32_t boundaries[] = {
	1,
	31,
	32,
	33,
	63,
	64,
	95,
	96,
	97,
	200,
	4064,
	4096,
	8191,
	RING / 4 - 33,
	RING / 4 - 32,
	RING / 4 - 31,
	RING / 4,
	RING / 2,
	RING - 32,
	RING,
	RING + 1,
	2 * RING + 77,
	MAX - 1,
	MAX,
};

#define BOUNDARIES (sizeof(boundaries) / sizeof(boundaries[0]))

static inline const char *one_way(struct fastwake_channel *from,
				  struct fastwake_channel *to)
{
	static uint8_t buffer[MAX];

	for (uint32_t i = 0; i < 3 * BOUNDARIES; i++) {
		uint32_t size = boundaries[i % BOUNDARIES], stream;
		void *p;

		message_fill(buffer, i, size);
		CHECK_IS(send_all(from, to, i * 77, buffer, size), 0);
		CHECK_IS(take(to, &stream, &p), size);
		CHECK_IS(stream, i * 77);
		CHECK(message_good(p, i, size));
		CHECK_IS(fastwake_channel_recv(to, &stream, &p), -EAGAIN);
	}
	return NULL;
}

static inline const char *case_messages(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_channel_info a = { .size = sizeof(a) };
	struct fastwake_channel_info b = { .size = sizeof(b) };
	struct pair pair;
	const char *failed;

	CHECK(pair_open(&pair, &options, &options));
	failed = one_way(pair.connecting, pair.listening);
	if (failed == NULL)
		failed = one_way(pair.listening, pair.connecting);
	if (failed != NULL)
		return failed;
	CHECK((wait_channel(pair.listening, FASTWAKE_WRITABLE, BY_FDS, NULL,
			    5) &
	       FASTWAKE_WRITABLE) != 0);
	CHECK_IS(fastwake_channel_query(pair.listening, &a), 0);
	CHECK_IS(fastwake_channel_query(pair.connecting, &b), 0);
	CHECK_IS(a.transport, transport);
	CHECK_IS(a.tx_messages, 3 * BOUNDARIES);
	CHECK_IS(a.rx_messages, 3 * BOUNDARIES);
	CHECK_IS(a.tx_bytes, b.rx_bytes);
	CHECK_IS(a.rx_bytes, b.tx_bytes);
	CHECK_IS(a.ring_size, RING);
	CHECK(a.ring_used < RING / 2);
	CHECK(a.pinned >= 2 * RING);
	CHECK(strcmp(a.state,
		     transport == FASTWAKE_TRANSPORT_SHM ? "OPEN" : "RTS") ==
	      0);
	pair_close(&pair);
	return NULL;
}

/* What a caller was given stays until the next receive. */
static inline const char *case_buffer_stays(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct pair pair;
	uint8_t buffer[4000];
	uint32_t stream;
	void *p;

	CHECK(pair_open(&pair, &options, &options));
	for (uint64_t i = 0; i < 2; i++) {
		message_fill(buffer, i, sizeof(buffer));
		CHECK_IS(send_all(pair.connecting, NULL, 0, buffer,
				  sizeof(buffer)),
			 0);
	}
	CHECK_IS(take(pair.listening, &stream, &p), sizeof(buffer));
	CHECK(wait_channel(pair.listening, FASTWAKE_READABLE, BY_FDS, NULL, 5) >
	      0);
	CHECK(message_good(p, 0, sizeof(buffer)));
	CHECK_IS(fastwake_channel_recv(pair.listening, &stream, &p),
		 sizeof(buffer));
	CHECK(message_good(p, 1, sizeof(buffer)));
	pair_close(&pair);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Traffic between two processes                                      */
/* ------------------------------------------------------------------ */

static inline int child_traffic(struct fastwake_channel *ch, void *arg)
{
	int rc = traffic_run(ch, arg);

	if (rc != 0)
		tap_diag("child: %d, %s", rc, fastwake_channel_reason(ch));
	/* The parent may have to take the rest yet. */
	while (rc == 0 && take_error(ch) == -ETIMEDOUT)
		continue;
	fastwake_channel_close(ch);
	return rc != 0;
}

static inline const char *
traffic(const struct fastwake_channel_options *options, struct traffic parent,
	struct traffic child)
{
	struct fastwake_channel *ch;
	pid_t pid = pair_fork(&ch, options, child_traffic, &child);
	int rc = traffic_run(ch, &parent);

	snprintf(last_reason, sizeof(last_reason), "%s",
		 fastwake_channel_reason(ch));
	CHECK_IS(rc, 0);
	fastwake_channel_close(ch);
	CHECK_IS(pair_join(pid), 0);
	return NULL;
}

static inline const char *traffic_by(uint32_t transport, enum how how)
{
	struct fastwake_channel_options options = plain(transport);
	struct traffic t = {
		.count = load(10000),
		.message_max = MAX,
		.how = how,
	};

	return traffic(&options, t, t);
}

static inline const char *case_traffic_polling(uint32_t transport)
{
	return traffic_by(transport, BY_POLLING);
}

static inline const char *case_traffic_fds(uint32_t transport)
{
	return traffic_by(transport, BY_FDS);
}

static inline const char *case_traffic_watches(uint32_t transport)
{
	return traffic_by(transport, BY_WATCHES);
}

/* A large ring: more small messages under way than rdma has receives. */
static inline const char *case_traffic_small(uint32_t transport)
{
	struct fastwake_channel_options options =
		pair_options(transport, 1u << 20, 4096);
	struct traffic t = {
		.count = load(100000),
		.message_max = 300,
		.how = BY_FDS,
	};

	return traffic(&options, t, t);
}

static inline const char *case_traffic_slow(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct traffic fast = {
		.count = load(4000),
		.message_max = 8192,
		.how = BY_FDS,
	};
	struct traffic slow = fast;

	slow.slow_us = 3000;
	return traffic(&options, fast, slow);
}

/* ------------------------------------------------------------------ */
/* Ping-pong between two processes                                    */
/* ------------------------------------------------------------------ */

static inline int child_echo(struct fastwake_channel *ch, void *arg)
{
	struct fastwake_waiter *waiter = make_waiter();
	enum how how = *(enum how *)arg;
	uint32_t stream;
	ssize_t n;
	void *p;

	for (;;) {
		if (wait_channel(ch, FASTWAKE_READABLE, how, waiter, 60) <= 0)
			break;
		n = fastwake_channel_recv(ch, &stream, &p);
		if (n < 0 ||
		    fastwake_channel_send(ch, stream, p, (size_t)n) != n)
			break;
	}
	free_waiter(waiter);
	fastwake_channel_close(ch);
	return 0;
}

/* One round trip; a lost wake-up makes it as long as a sleep. */
static inline const char *ping(struct fastwake_channel *ch, uint64_t number,
			       enum how how, struct fastwake_waiter *waiter)
{
	uint64_t start = fastwake_now();
	uint32_t stream;
	void *p;

	CHECK_IS(fastwake_channel_send(ch, 1, &number, sizeof(number)),
		 sizeof(number));
	CHECK(wait_channel(ch, FASTWAKE_READABLE, how, waiter, 30) > 0);
	CHECK_IS(fastwake_channel_recv(ch, &stream, &p), sizeof(number));
	CHECK(memcmp(p, &number, sizeof(number)) == 0);
	CHECK(fastwake_now() - start < (uint64_t)sleep_ms * 900000);
	return NULL;
}

static inline const char *ping_pong_processes(uint32_t transport, enum how how)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_waiter *waiter = make_waiter();
	uint64_t until = fastwake_now() + stress_ns(3), rounds = 0;
	const char *failed = NULL;
	struct fastwake_channel *ch;
	pid_t pid;

	sleep_ms = 8000; /* longer than a busy host stalls a guest */
	pid = pair_fork(&ch, &options, child_echo, &how);
	while (failed == NULL && fastwake_now() < until)
		failed = ping(ch, rounds++, how, waiter);
	tap_diag("%llu round trips", (unsigned long long)rounds);
	free_waiter(waiter);
	fastwake_channel_close(ch);
	if (failed != NULL)
		return failed;
	CHECK_IS(pair_join(pid), 0);
	return NULL;
}

static inline const char *case_ping_fds(uint32_t transport)
{
	return ping_pong_processes(transport, BY_FDS);
}

static inline const char *case_ping_watches(uint32_t transport)
{
	return ping_pong_processes(transport, BY_WATCHES);
}

/* ------------------------------------------------------------------ */
/* Full ring                                                          */
/* ------------------------------------------------------------------ */

static uint32_t fill_rest; /* of the last one, which was cut short, or 0 */

/* Send messages of SIZE until refused; how many were sent whole. */
static inline int64_t fill(struct fastwake_channel *ch, uint32_t size)
{
	static uint8_t buffer[MAX];
	int64_t sent = 0;

	for (;; sent++) {
		ssize_t n;

		message_fill(buffer, (uint64_t)sent, size);
		n = fastwake_channel_send(ch, 0, buffer, size);
		if (n < 0 && n != -EAGAIN)
			return n;
		fill_rest = n < 0 ? 0 : size - (uint32_t)n;
		if (n < (ssize_t)size)
			return sent;
	}
}

/* Send what fill() could not, and take that message. */
static inline const char *finish(struct pair *pair, uint64_t number,
				 uint32_t size)
{
	static uint8_t buffer[MAX];
	uint32_t stream;
	void *p;

	if (fill_rest == 0)
		return NULL;
	message_fill(buffer, number, size);
	CHECK_IS(fastwake_channel_send(pair->connecting, 0,
				       buffer + size - fill_rest, fill_rest),
		 fill_rest);
	CHECK_IS(take(pair->listening, &stream, &p), size);
	CHECK(message_good(p, number, size));
	return NULL;
}

/* Take COUNT messages of SIZE. */
static inline const char *drain(struct fastwake_channel *ch, int64_t count,
				uint32_t size)
{
	uint32_t stream;
	void *p;

	for (int64_t i = 0; i < count; i++) {
		CHECK_IS(take(ch, &stream, &p), size);
		CHECK(message_good(p, (uint64_t)i, size));
	}
	CHECK_IS(fastwake_channel_recv(ch, &stream, &p), -EAGAIN);
	return NULL;
}

static inline const char *full(struct pair *pair, uint32_t size)
{
	struct fastwake_channel_info info = { .size = sizeof(info) };
	struct fastwake_channel *ch = pair->connecting;
	int64_t sent;

	for (unsigned int round = 0; round < 20; round++) {
		const char *failed;

		sent = fill(ch, size);
		CHECK(sent > 0);
		CHECK_IS(fastwake_channel_query(ch, &info), 0);
		CHECK(info.full_waits > round);
		CHECK(info.ring_used <= info.ring_size);
		failed = drain(pair->listening, sent, size);
		if (failed != NULL)
			return failed;
		/* All was taken, so space must come, by whichever wake-up. */
		CHECK((wait_channel(ch, FASTWAKE_WRITABLE, BY_FDS, NULL, 5) &
		       FASTWAKE_WRITABLE) != 0);
		failed = finish(pair, (uint64_t)sent, size);
		if (failed != NULL)
			return failed;
	}
	return NULL;
}

static inline const char *case_full(uint32_t transport)
{
	static const uint32_t sizes[] = { 1, 32, 33, 200, 1000, 4064, 4065 };
	struct fastwake_channel_options options = plain(transport);

	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct pair pair;
		const char *failed;

		CHECK(pair_open(&pair, &options, &options));
		failed = full(&pair, sizes[i]);
		if (failed != NULL)
			return failed;
		pair_close(&pair);
	}
	return NULL;
}

/* A message longer than the ring, taken while it is being sent. */
static inline const char *case_cut_short(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	static uint8_t buffer[MAX];
	struct pair pair;
	ssize_t n;

	CHECK(pair_open(&pair, &options, &options));
	message_fill(buffer, 1, MAX);
	n = fastwake_channel_send(pair.connecting, 3, buffer, MAX);
	CHECK(n > 0 && n <= (ssize_t)RING);
	CHECK_IS(fastwake_channel_send(pair.connecting, 3, buffer + n,
				       MAX - (size_t)n),
		 -EAGAIN);
	CHECK_IS(fastwake_channel_send(pair.connecting, 4, buffer + n, 1),
		 -EINVAL);
	CHECK_IS(fastwake_channel_poll(pair.connecting) & FASTWAKE_WRITABLE, 0);
	CHECK_IS(fastwake_channel_poll(pair.listening) & FASTWAKE_READABLE, 0);
	CHECK((wait_channel(pair.connecting, FASTWAKE_WRITABLE, BY_FDS, NULL,
			    5) &
	       FASTWAKE_WRITABLE) != 0);
	pair_close(&pair);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Arming                                                             */
/* ------------------------------------------------------------------ */

static inline bool readable(struct fastwake_channel *ch, int milliseconds)
{
	int fds[FASTWAKE_FDS_MAX];
	struct pollfd p[FASTWAKE_FDS_MAX];
	int n = fastwake_channel_fds(ch, fds);

	for (int i = 0; i < n; i++)
		p[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	return poll(p, (nfds_t)n, milliseconds) > 0;
}

/* Arm until it takes: earlier events may still be on their way. */
static inline const char *arm_quietly(struct fastwake_channel *ch)
{
	for (int i = 0; i < 100; i++) {
		CHECK(fastwake_channel_poll(ch) >= 0);
		if (fastwake_channel_arm(ch) == 0 && !readable(ch, 50))
			return NULL;
	}
	return "never quiet";
}

static inline const char *case_arm(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct pair pair;
	struct fastwake_channel *ch;
	const char *failed;
	uint32_t stream;
	void *p;

	CHECK(pair_open(&pair, &options, &options));
	ch = pair.listening;
	for (int i = 0; i < 5; i++) {
		failed = arm_quietly(ch);
		if (failed != NULL)
			return failed;
		CHECK_IS(send_all(pair.connecting, NULL, 9, (void *)&i, 4), 0);
		CHECK(readable(ch, 5000));
		CHECK((fastwake_channel_poll(ch) & FASTWAKE_READABLE) != 0);
		CHECK_IS(fastwake_channel_arm(ch), 1);
		CHECK_IS(fastwake_channel_recv(ch, &stream, &p), 4);
	}
	pair_close(&pair);
	return NULL;
}

/* Receiving looks at memory as well: space it saw must not be forgotten. */
static inline const char *case_arm_after_recv(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct pair pair;
	int64_t sent;
	uint32_t stream;
	void *p;
	uint64_t deadline = fastwake_now() + 5 * SECOND;

	CHECK(pair_open(&pair, &options, &options));
	sent = fill(pair.connecting, 1000);
	CHECK(sent > 0);
	CHECK_IS(drain(pair.listening, sent, 1000) == NULL, 1);
	while (!fw_tx_writable(&pair.connecting->tx) &&
	       fastwake_now() < deadline)
		CHECK_IS(fastwake_channel_recv(pair.connecting, &stream, &p),
			 -EAGAIN);
	CHECK_IS(fastwake_channel_arm(pair.connecting), 1);
	CHECK((fastwake_channel_poll(pair.connecting) & FASTWAKE_WRITABLE) !=
	      0);
	pair_close(&pair);
	return NULL;
}

static inline const char *case_flushed(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct pair pair;
	struct fastwake_channel *ch;
	uint32_t stream;
	void *p;

	CHECK(pair_open(&pair, &options, &options));
	ch = pair.connecting;
	CHECK_IS(fastwake_channel_flushed(ch), 1);
	for (int i = 0; i < 300; i++) {
		uint64_t deadline = fastwake_now() + 5 * SECOND;
		int rc;

		CHECK_IS(send_all(ch, NULL, 0, (void *)&i, 4), 0);
		while ((rc = fastwake_channel_flushed(ch)) == 0 &&
		       fastwake_now() < deadline) {
			if (i % 2 == 0)
				wait_by_fds(ch);
			fastwake_channel_poll(ch);
		}
		CHECK_IS(rc, 1);
		/* It has arrived: no waiting on the other side. */
		CHECK_IS(fastwake_channel_recv(pair.listening, &stream, &p), 4);
		CHECK_IS(*(int *)p, i);
	}
	pair_close(&pair);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Ends                                                               */
/* ------------------------------------------------------------------ */

static inline const char *case_peer_closes(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct pair pair;
	int64_t sent;
	uint32_t stream;
	void *p;

	CHECK(pair_open(&pair, &options, &options));
	sent = fill(pair.connecting, 700);
	CHECK(sent > 50);
	fastwake_channel_close(pair.connecting);
	for (int64_t i = 0; i < sent; i++) {
		CHECK_IS(take(pair.listening, &stream, &p), 700);
		CHECK(message_good(p, (uint64_t)i, 700));
	}
	CHECK_IS(take(pair.listening, &stream, &p), -EPIPE);
	CHECK_IS(fastwake_channel_recv(pair.listening, &stream, &p), -EPIPE);
	CHECK_IS(fastwake_channel_poll(pair.listening), -EPIPE);
	CHECK_IS(fastwake_channel_send(pair.listening, 0, "x", 1), -EPIPE);
	CHECK_IS(fastwake_channel_flushed(pair.listening), -EPIPE);
	CHECK_IS(fastwake_channel_arm(pair.listening), 1);
	CHECK(strstr(fastwake_channel_reason(pair.listening), "closed"));
	fastwake_channel_close(pair.listening);
	return NULL;
}

/* A child that sends what fits, says so, and is killed. */
static inline int child_sends(struct fastwake_channel *ch, void *arg)
{
	int64_t sent = fill(ch, 700);

	while (fastwake_channel_flushed(ch) == 0)
		fastwake_channel_poll(ch);
	if (write(*(int *)arg, &sent, sizeof(sent)) == sizeof(sent))
		pause();
	return 1;
}

static inline const char *case_peer_killed(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_channel *ch;
	int64_t sent;
	uint32_t stream;
	uint64_t killed;
	int ends[2];
	pid_t pid;
	void *p;

	CHECK_IS(pipe(ends), 0);
	pid = pair_fork(&ch, &options, child_sends, &ends[1]);
	CHECK_IS(read(ends[0], &sent, sizeof(sent)), sizeof(sent));
	CHECK(sent > 50);
	kill(pid, SIGKILL);
	CHECK_IS(pair_join(pid), 100 + SIGKILL);
	killed = fastwake_now();
	for (int64_t i = 0; i < sent; i++) {
		CHECK_IS(take(ch, &stream, &p), 700);
		CHECK(message_good(p, (uint64_t)i, 700));
	}
	CHECK_IS(take(ch, &stream, &p), -ECONNRESET);
	CHECK(fastwake_now() - killed < 5 * SECOND);
	CHECK_IS(fastwake_channel_send(ch, 0, "x", 1), -ECONNRESET);
	CHECK(fastwake_channel_reason(ch)[0] != '\0');
	fastwake_channel_close(ch);
	return NULL;
}

static inline int child_sleeps(struct fastwake_channel *ch, void *arg)
{
	(void)ch;
	if (write(*(int *)arg, "", 1) == 1)
		pause();
	return 1;
}

/* The sender sleeps on a full ring, or has nothing to do, or only polls. */
static inline const char *killed_while(uint32_t transport, bool full_ring,
				       enum how how)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_channel *ch;
	char byte;
	int ends[2], rc;
	pid_t pid;

	CHECK_IS(pipe(ends), 0);
	pid = pair_fork(&ch, &options, child_sleeps, &ends[1]);
	CHECK_IS(read(ends[0], &byte, 1), 1);
	if (full_ring)
		CHECK(fill(ch, 700) > 50);
	kill(pid, SIGKILL);
	rc = wait_channel(ch, FASTWAKE_READABLE, how, NULL, 10);
	CHECK_IS(rc, -ECONNRESET);
	fastwake_channel_close(ch);
	CHECK_IS(pair_join(pid), 100 + SIGKILL);
	close(ends[0]);
	close(ends[1]);
	return NULL;
}

static inline const char *case_killed_full(uint32_t transport)
{
	return killed_while(transport, true, BY_FDS);
}

static inline const char *case_killed_idle(uint32_t transport)
{
	return killed_while(transport, false, BY_FDS);
}

static inline const char *case_killed_polling(uint32_t transport)
{
	return killed_while(transport, false, BY_POLLING);
}

/* ------------------------------------------------------------------ */
/* Tokens                                                             */
/* ------------------------------------------------------------------ */

/* Connect with TEXT while LISTENER is being served. */
static inline int try_connect(struct fastwake_listener *listener,
			      const char *text,
			      const struct fastwake_channel_options *options,
			      struct pair *pair)
{
	uint64_t deadline = fastwake_now() + 10 * SECOND;
	int a = -EAGAIN, b;

	pair->listening = NULL;
	b = fastwake_connect(&pair->connecting, text, options, last_reason);
	if (b != 0)
		return b;
	b = -EAGAIN;
	while (fastwake_now() < deadline && (a == -EAGAIN || b == -EAGAIN)) {
		if (a == -EAGAIN && listener != NULL)
			a = fastwake_accept(listener, &pair->listening, NULL);
		if (b == -EAGAIN)
			b = fastwake_connect_continue(pair->connecting,
						      last_reason);
		if (b != 0 && b != -EAGAIN)
			break;
		usleep(1000);
	}
	if (b == 0)
		return a;
	fastwake_channel_close(pair->connecting);
	return b;
}

static inline void spoil_token(char *text)
{
	char *digit = strstr(text, "token=") + 6 + 31;

	*digit = *digit == '0' ? '1' : '0';
}

static inline const char *case_token(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	char good[FASTWAKE_ENDPOINT_MAX], bad[FASTWAKE_ENDPOINT_MAX];
	struct fastwake_listener *listener;
	struct fastwake_channel *again;
	struct pair pair;

	CHECK_IS(fastwake_listen(&listener, &options, last_reason), 0);
	CHECK_IS(fastwake_listener_endpoint(listener, good, sizeof(good)), 0);
	strcpy(bad, good);
	spoil_token(bad);
	for (int i = 0; i < 3; i++)
		CHECK_IS(try_connect(listener, bad, &options, &pair), -EACCES);
	CHECK(pair.listening == NULL);
	CHECK_IS(try_connect(listener, good, &options, &pair), 0);
	/* It has been used: nobody listens any more. */
	CHECK(pair_connect(&again, good, &options) < 0);
	CHECK_IS(fastwake_accept(listener, &again, last_reason), -EINVAL);
	fastwake_listener_close(listener);
	/* The connection that was made lives on. */
	CHECK_IS(send_all(pair.connecting, NULL, 0, (void *)good, 10), 0);
	CHECK((wait_channel(pair.listening, FASTWAKE_READABLE, BY_FDS, NULL,
			    5) &
	       FASTWAKE_READABLE) != 0);
	pair_close(&pair);
	return NULL;
}

/* Any number of guesses is refused; the token is good all the same. */
static inline const char *case_attempts(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	char good[FASTWAKE_ENDPOINT_MAX], bad[FASTWAKE_ENDPOINT_MAX];
	struct fastwake_listener *listener;
	struct pair pair;

	CHECK_IS(fastwake_listen(&listener, &options, last_reason), 0);
	CHECK_IS(fastwake_listener_endpoint(listener, good, sizeof(good)), 0);
	strcpy(bad, good);
	spoil_token(bad);
	for (int i = 0; i < 40; i++)
		CHECK_IS(try_connect(listener, bad, &options, &pair), -EACCES);
	CHECK_IS(try_connect(listener, good, &options, &pair), 0);
	fastwake_listener_close(listener);
	pair_close(&pair);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Wrong frames, put into the ring by hand                            */
/* ------------------------------------------------------------------ */

struct forged {
	const char *what;
	uint32_t length, flags, stream;
	int64_t shift;	   /* of the position */
	uint32_t announce; /* bytes, 0: what the frame takes */
	int spoil;	   /* byte of the frame to change, -1: none */
	int error;
};

static const struct forged forgeries[] = {
	{ "damaged payload", 100, FW_FRAME_END, 1, 0, 0, 50, -EPROTO },
	{ "damaged magic", 100, FW_FRAME_END, 1, 0, 0, 0, -EPROTO },
	{ "damaged checksum", 100, FW_FRAME_END, 1, 0, 0, 24, -EPROTO },
	{ "replayed frame", 100, FW_FRAME_END, 1, -128, 0, -1, -EPROTO },
	{ "frame from the future", 100, FW_FRAME_END, 1, 128, 0, -1, -EPROTO },
	{ "frame of the last round", 100, FW_FRAME_END, 1, -(int64_t)RING, 0,
	  -1, -EPROTO },
	{ "too little announced", 100, FW_FRAME_END, 1, 0, 64, -1, -EPROTO },
	{ "unknown flag", 100, 0x41, 1, 0, 0, -1, -EPROTO },
	{ "fragment too long", RING / 4, FW_FRAME_END, 1, 0, 0, -1, -EPROTO },
	{ "message too long", 5001, FW_FRAME_END, 1, 0, 0, -1, -EMSGSIZE },
};

/* Put a frame into the ring behind the library's back. */
static inline int forge(struct fastwake_channel *ch, const struct forged *f)
{
	static uint8_t payload[RING];
	struct fw_tx *tx = &ch->tx;
	uint32_t offset = (uint32_t)tx->head & (tx->size - 1);
	uint32_t space = fw_frame_space(f->length);

	fw_frame_build(tx->ring + offset, f->stream, f->flags,
		       tx->head + (uint64_t)f->shift, payload, f->length);
	if (f->spoil >= 0)
		tx->ring[offset + (uint32_t)f->spoil] ^= 0x10;
	return ch->ops->commit(ch, offset, FW_FRAME_HEADER + f->length,
			       f->announce != 0 ? f->announce : space);
}

static inline const char *forged(uint32_t transport, const struct forged *f)
{
	struct fastwake_channel_options options =
		pair_options(transport, RING, 5000);
	struct pair pair;
	uint32_t stream;
	void *p;
	int rc;

	snprintf(last_reason, sizeof(last_reason), "%s", f->what);
	CHECK(pair_open(&pair, &options, &options));
	/* Good messages before and after: the first one must get through. */
	for (int i = 0; i < 3; i++)
		CHECK_IS(send_all(pair.connecting, NULL, 1, sample, 100), 0);
	CHECK_IS(forge(pair.connecting, f), 0);
	CHECK_IS(send_all(pair.connecting, NULL, 1, sample, 100), 0);
	for (int i = 0; i < 3; i++)
		CHECK_IS(take(pair.listening, &stream, &p), 100);
	rc = take_error(pair.listening);
	snprintf(last_reason, sizeof(last_reason), "%s: %s", f->what,
		 fastwake_channel_reason(pair.listening));
	CHECK_IS(rc, f->error);
	CHECK_IS(fastwake_channel_recv(pair.listening, &stream, &p), f->error);
	pair_close(&pair);
	return NULL;
}

static inline const char *case_forged(uint32_t transport)
{
	for (size_t i = 0; i < sizeof(forgeries) / sizeof(forgeries[0]); i++) {
		const char *failed = forged(transport, &forgeries[i]);

		if (failed != NULL)
			return failed;
	}
	return NULL;
}

/* Fragments of one message under two stream numbers. */
static inline const char *case_two_streams(uint32_t transport)
{
	struct forged first = { .length = 10, .stream = 1, .spoil = -1 };
	struct forged second = first;
	struct fastwake_channel_options options = plain(transport);
	struct pair pair;

	second.stream = 2;
	second.flags = FW_FRAME_END;
	CHECK(pair_open(&pair, &options, &options));
	CHECK_IS(forge(pair.connecting, &first), 0);
	CHECK_IS(forge(pair.connecting, &second), 0);
	CHECK_IS(take_error(pair.listening), -EPROTO);
	pair_close(&pair);
	return NULL;
}

/* Fragments that add up to more than message_max. */
static inline const char *case_endless_message(uint32_t transport)
{
	struct forged fragment = { .length = 4000, .stream = 1, .spoil = -1 };
	struct fastwake_channel_options options =
		pair_options(transport, RING, 7999);
	struct pair pair;

	CHECK(pair_open(&pair, &options, &options));
	CHECK_IS(forge(pair.connecting, &fragment), 0);
	CHECK_IS(forge(pair.connecting, &fragment), 0);
	CHECK_IS(take_error(pair.listening), -EMSGSIZE);
	pair_close(&pair);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Wrong use                                                          */
/* ------------------------------------------------------------------ */

static inline const char *case_wrong_use(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_channel_info info = { .size = 1 };
	struct fastwake_channel *ch;
	struct pair pair;

	CHECK(pair_open(&pair, &options, &options));
	ch = pair.connecting;
	CHECK_IS(fastwake_channel_send(ch, 0, "", 0), -EINVAL);
	CHECK_IS(fastwake_channel_query(ch, &info), -EINVAL);
	CHECK_IS(fastwake_connect_continue(ch, NULL), 0);
	pair_close(&pair);
	fastwake_channel_close(NULL);
	fastwake_listener_close(NULL);
	return NULL;
}

static inline const char *refused_options(uint32_t transport)
{
	struct fastwake_channel_options good = plain(transport), o;
	struct fastwake_listener *listener;

#define REFUSED(field, value)                                         \
	do {                                                          \
		o = good;                                             \
		o.field = (value);                                    \
		CHECK_IS(fastwake_listen(&listener, &o, last_reason), \
			 -EINVAL);                                    \
	} while (0)
	REFUSED(size, 0);
	REFUSED(size, sizeof(o) + 8);
	REFUSED(transports, 0);
	REFUSED(transports, 4);
	REFUSED(ring_size, RING - 1);
	REFUSED(ring_size, RING / 2);
	REFUSED(ring_size, 3 * RING);
	REFUSED(ring_size, 2 * FASTWAKE_RING_MAX);
	REFUSED(message_max, 0);
	REFUSED(message_max, UINT32_MAX);
	REFUSED(reserved, 1);
#undef REFUSED
	return NULL;
}

static inline const char *case_wrong_options(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_listener *listener;
	struct fastwake_channel *ch;
	char text[FASTWAKE_ENDPOINT_MAX];
	const char *failed = refused_options(transport);

	if (failed != NULL)
		return failed;
	CHECK_IS(fastwake_listen(&listener, &options, last_reason), 0);
	CHECK_IS(fastwake_listener_endpoint(listener, text, 20), -ENOSPC);
	CHECK_IS(fastwake_listener_endpoint(listener, text, sizeof(text)), 0);
	options.transports = 3 - transport;
	CHECK_IS(fastwake_connect(&ch, text, &options, last_reason), -ENODEV);
	CHECK_IS(fastwake_connect(&ch, "nonsense", &options, NULL), -EPROTO);
	CHECK_IS(fastwake_accept(listener, &ch, last_reason), -EAGAIN);
	fastwake_listener_close(listener);
	return NULL;
}

#define DESCRIPTORS 256

static inline int open_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < DESCRIPTORS; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* How many that are not in BEFORE would be inherited by exec. */
static inline int inherited(const bool before[DESCRIPTORS])
{
	int n = 0;

	for (int fd = 0; fd < DESCRIPTORS; fd++) {
		int flags = fcntl(fd, F_GETFD);

		n += !before[fd] && flags >= 0 && (flags & FD_CLOEXEC) == 0;
	}
	return n;
}

/* Nothing that the library opens may stay behind. */
static inline const char *case_descriptors(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	bool before[DESCRIPTORS];
	struct pair pair;
	int count = -1;

	for (int fd = 0; fd < DESCRIPTORS; fd++)
		before[fd] = fcntl(fd, F_GETFD) >= 0;
	for (int i = 0; i < 4; i++) {
		CHECK(pair_open(&pair, &options, &options));
		CHECK_IS(inherited(before), 0);
		pair_close(&pair);
		/* The first round opens what libraries keep. */
		if (i == 0)
			count = open_descriptors();
	}
	CHECK_IS(open_descriptors(), count);
	return NULL;
}

#define COMMON_CASES(run)                                                   \
	run("messages of all sizes, both ways", case_messages);             \
	run("a message stays until the next is taken", case_buffer_stays);  \
	run("traffic, polling", case_traffic_polling);                      \
	run("traffic, waiting by descriptors", case_traffic_fds);           \
	run("traffic of short messages", case_traffic_small);               \
	run("traffic to a slow receiver", case_traffic_slow);               \
	run("ping-pong by descriptors", case_ping_fds);                     \
	run("full ring, and space again", case_full);                       \
	run("message cut short", case_cut_short);                           \
	run("arm, event, disarm", case_arm);                                \
	run("arm after receive saw the space", case_arm_after_recv);        \
	run("flushed", case_flushed);                                       \
	run("peer closes with data undrained", case_peer_closes);           \
	run("peer killed with data undrained", case_peer_killed);           \
	run("peer killed, sender asleep on a full ring", case_killed_full); \
	run("peer killed, receiver asleep", case_killed_idle);              \
	run("peer killed, receiver polling", case_killed_polling);          \
	run("wrong and replayed tokens", case_token);                       \
	run("many wrong tokens, then the right one", case_attempts);        \
	run("forged frames", case_forged);                                  \
	run("message of two streams", case_two_streams);                    \
	run("message without end", case_endless_message);                   \
	run("wrong use", case_wrong_use);                                   \
	run("wrong options and endpoints", case_wrong_options);             \
	run("descriptors: close-on-exec, none left", case_descriptors)

#endif /* CHANNEL_CASES_H */
