/* SPDX-License-Identifier: PostgreSQL */
/*
 * channel_pair.h - channels for tests: both ends in one process, or the
 * connecting end in a child; waiting; messages whose content can be checked.
 */
#ifndef CHANNEL_PAIR_H
#define CHANNEL_PAIR_H

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel_internal.h"
#include "tap.h"
#include "wait_common.h"

#define SECOND 1000000000ull

enum how {
	BY_POLLING,
	BY_FDS,
	BY_WATCHES
};

struct pair {
	struct fastwake_channel *listening;
	struct fastwake_channel *connecting;
};

static __thread char last_reason[FASTWAKE_REASON_MAX];

__attribute__((unused)) static struct fastwake_channel_options
pair_options(uint32_t transport, uint32_t ring, uint32_t message_max)
{
	return (struct fastwake_channel_options){
		.size = sizeof(struct fastwake_channel_options),
		.transports = transport,
		.ring_size = ring,
		.message_max = message_max,
	};
}

static void pair_sleep(int fd, int milliseconds)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	poll(&p, 1, milliseconds);
}

/* Until accepted, or 10 s. */
__attribute__((unused)) static int
pair_accept(struct fastwake_listener *listener,
	    struct fastwake_channel **channel)
{
	uint64_t deadline = fastwake_now() + 10 * SECOND;
	int rc;

	while ((rc = fastwake_accept(listener, channel, last_reason)) ==
		       -EAGAIN &&
	       fastwake_now() < deadline)
		pair_sleep(fastwake_listener_fd(listener), 100);
	return rc;
}

/* Until connected, or 10 s. */
__attribute__((unused)) static int
pair_connect(struct fastwake_channel **channel, const char *endpoint,
	     const struct fastwake_channel_options *options)
{
	uint64_t deadline = fastwake_now() + 10 * SECOND;
	int fds[FASTWAKE_FDS_MAX], rc;

	rc = fastwake_connect(channel, endpoint, options, last_reason);
	if (rc != 0)
		return rc;
	while ((rc = fastwake_connect_continue(*channel, last_reason)) ==
		       -EAGAIN &&
	       fastwake_now() < deadline) {
		fastwake_channel_fds(*channel, fds);
		pair_sleep(fds[0], 100);
	}
	if (rc != 0)
		fastwake_channel_close(*channel);
	return rc;
}

/* Both ends here; false with a diagnosis if it fails. */
__attribute__((unused)) static bool
pair_open(struct pair *pair, const struct fastwake_channel_options *listening,
	  const struct fastwake_channel_options *connecting)
{
	char endpoint[FASTWAKE_ENDPOINT_MAX];
	struct fastwake_listener *listener;
	uint64_t deadline = fastwake_now() + 10 * SECOND;
	int a = -EAGAIN, b = -EAGAIN;

	if (fastwake_listen(&listener, listening, last_reason) != 0 ||
	    fastwake_listener_endpoint(listener, endpoint, sizeof(endpoint)) ||
	    fastwake_connect(&pair->connecting, endpoint, connecting,
			     last_reason) != 0) {
		tap_diag("pair: %s", last_reason);
		return false;
	}
	while ((a != 0 || b != 0) && fastwake_now() < deadline) {
		if (a == -EAGAIN)
			a = fastwake_accept(listener, &pair->listening,
					    last_reason);
		if (b == -EAGAIN)
			b = fastwake_connect_continue(pair->connecting,
						      last_reason);
		if ((a != 0 && a != -EAGAIN) || (b != 0 && b != -EAGAIN))
			break;
		sched_yield();
	}
	fastwake_listener_close(listener);
	if (a != 0 || b != 0)
		tap_diag("pair: accept %d, connect %d: %s", a, b, last_reason);
	return a == 0 && b == 0;
}

__attribute__((unused)) static void pair_close(struct pair *pair)
{
	fastwake_channel_close(pair->connecting);
	fastwake_channel_close(pair->listening);
}

/*
 * Run CHILD with the connecting end in a child process.  The child is forked
 * first: what verbs libraries set up does not survive a fork.
 */
__attribute__((unused)) static pid_t
pair_fork(struct fastwake_channel **channel,
	  const struct fastwake_channel_options *options,
	  int (*child)(struct fastwake_channel *, void *), void *arg)
{
	char endpoint[FASTWAKE_ENDPOINT_MAX] = "";
	struct fastwake_listener *listener;
	struct fastwake_channel *ch;
	int ends[2];
	pid_t pid = -1;

	if (pipe(ends) != 0 || (pid = fork()) < 0)
		tap_bail("no child");
	if (pid == 0) {
		close(ends[1]);
		if (read(ends[0], endpoint, sizeof(endpoint)) <= 0 ||
		    pair_connect(&ch, endpoint, options) != 0)
			_exit(99);
		_exit(child(ch, arg));
	}
	close(ends[0]);
	if (fastwake_listen(&listener, options, last_reason) != 0 ||
	    fastwake_listener_endpoint(listener, endpoint, sizeof(endpoint)))
		tap_bail(last_reason);
	if (write(ends[1], endpoint, sizeof(endpoint)) < 0)
		tap_bail("no child");
	close(ends[1]);
	if (pair_accept(listener, channel) != 0)
		tap_bail(last_reason);
	fastwake_listener_close(listener);
	return pid;
}

/* The child's exit status, 100 + signal if killed, 98 if it hangs for 60 s. */
__attribute__((unused)) static int pair_join(pid_t pid)
{
	int status;

	for (int i = 0; i < 6000; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status)
						 : 100 + WTERMSIG(status);
		usleep(10000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return 98;
}

/* ------------------------------------------------------------------ */
/* Cases                                                              */
/* ------------------------------------------------------------------ */

/*
 * A case runs in a process of its own: what verbs libraries set up does not
 * survive a fork, so the process that forks cases must not use them.  It
 * returns NULL, or what failed.
 */
typedef const char *(*case_function)(uint32_t transport);

static __thread char failure[512];

__attribute__((format(printf, 2, 3), unused)) static const char *
fail_at(int line, const char *format, ...)
{
	char text[400];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(failure, sizeof(failure), "line %d: %s", line, text);
	return failure;
}

#define CHECK(condition)                                                \
	do {                                                            \
		if (!(condition))                                       \
			return fail_at(__LINE__, "%s (%s)", #condition, \
				       last_reason);                    \
	} while (0)

#define CHECK_IS(got, want)                                                   \
	do {                                                                  \
		long long check_got = (long long)(got);                       \
		long long check_want = (long long)(want);                     \
		if (check_got != check_want)                                  \
			return fail_at(__LINE__, "%s is %lld, not %lld (%s)", \
				       #got, check_got, check_want,           \
				       last_reason);                          \
	} while (0)

__attribute__((unused)) static void
run_case(const char *name, case_function function, uint32_t transport)
{
	char text[sizeof(failure)] = "";
	int ends[2], status;
	pid_t pid = -1;

	fflush(stdout);
	if (pipe(ends) != 0 || (pid = fork()) < 0)
		tap_bail("no child");
	if (pid == 0) {
		const char *failed;

		alarm(120);
		failed = function(transport);
		if (failed == NULL)
			exit(0); /* so that leaks are looked for */
		_exit(write(ends[1], failed, strlen(failed)) < 0 ? 2 : 1);
	}
	close(ends[1]);
	if (read(ends[0], text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(ends[0]);
	waitpid(pid, &status, 0);
	if (!tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s", name))
		tap_diag("status 0x%x: %s", (unsigned int)status, text);
}

/* ------------------------------------------------------------------ */
/* Waiting                                                            */
/* ------------------------------------------------------------------ */

/* How long one sleep lasts if nothing wakes it. */
static int sleep_ms = 1000;

static inline void wait_by_fds(struct fastwake_channel *ch)
{
	int fds[FASTWAKE_FDS_MAX];
	struct pollfd p[FASTWAKE_FDS_MAX];
	int n = fastwake_channel_fds(ch, fds);

	for (int i = 0; i < n; i++)
		p[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	if (fastwake_channel_arm(ch) == 0)
		poll(p, (nfds_t)n, sleep_ms);
}

static inline void wait_by_watches(struct fastwake_channel *ch, int wanted,
				   struct fastwake_waiter *waiter)
{
	struct fastwake_watch watches[4];
	int n = fastwake_channel_watches(ch, watches);
	int set = fastwake_channel_poll(ch);

	if (n > 0 && set >= 0 && (set & wanted) == 0)
		fastwake_wait(waiter, watches, (unsigned int)n, 20000,
			      fastwake_now() + (uint64_t)sleep_ms * 1000000,
			      NULL);
}

/*
 * Poll until one of WANTED holds, an error, or SECONDS have passed (returns 0).
 */
__attribute__((unused)) static int wait_channel(struct fastwake_channel *ch,
						int wanted, enum how how,
						struct fastwake_waiter *waiter,
						unsigned int seconds)
{
	uint64_t deadline = fastwake_now() + seconds * SECOND;
	int set;

	for (;;) {
		set = fastwake_channel_poll(ch);
		if (set < 0 || (set & wanted) != 0)
			return set;
		if (fastwake_now() > deadline)
			return 0;
		if (how == BY_FDS)
			wait_by_fds(ch);
		else if (how == BY_WATCHES)
			wait_by_watches(ch, wanted, waiter);
		else
			sched_yield();
	}
}

/* Seconds for each of PARTS: FASTWAKE_STRESS_SECONDS in all, 6 by default. */
__attribute__((unused)) static uint64_t stress_ns(unsigned int parts)
{
	const char *text = getenv("FASTWAKE_STRESS_SECONDS");
	uint64_t seconds = text != NULL ? strtoull(text, NULL, 10) : 6;

	alarm((unsigned int)seconds + 120); /* more than a case is given */
	return seconds * SECOND / parts;
}

/* A waiter of a domain of its own. */
__attribute__((unused)) static struct fastwake_waiter *make_waiter(void)
{
	struct fastwake_domain *domain;
	struct fastwake_waiter *waiter = NULL;

	if (fastwake_domain_create(&domain, NULL, 0, 1) != 0)
		tap_bail("no domain");
	test_use_module(domain);
	if (fastwake_waiter_attach(domain, 0, &waiter) != 0)
		tap_bail("no waiter");
	return waiter;
}

__attribute__((unused)) static void free_waiter(struct fastwake_waiter *waiter)
{
	struct fastwake_domain *domain = waiter->domain;

	fastwake_waiter_detach(waiter);
	fastwake_domain_destroy(domain);
}

/* ------------------------------------------------------------------ */
/* Messages: size and content follow from a number                    */
/* ------------------------------------------------------------------ */

static inline uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* Mostly short ones, as replication has. */
static inline uint32_t message_size(uint64_t number, uint32_t max)
{
	uint64_t r = mix(number);
	uint32_t limit = r % 16 == 0 ? max : r % 4 == 0 ? 8192 : 300;

	if (limit > max)
		limit = max;
	return 1 + (uint32_t)((r >> 8) % limit);
}

static inline void message_fill(uint8_t *p, uint64_t number, uint32_t size)
{
	uint64_t word = mix(~number);
	uint32_t i;

	for (i = 0; i + 8 <= size; i += 8, word += 0x0101010101010101ull)
		memcpy(p + i, &word, 8);
	memcpy(p + i, &word, size - i);
}

static inline bool message_good(const uint8_t *p, uint64_t number,
				uint32_t size)
{
	uint64_t word = mix(~number);
	uint32_t i;

	for (i = 0; i + 8 <= size; i += 8, word += 0x0101010101010101ull)
		if (memcmp(p + i, &word, 8) != 0)
			return false;
	return memcmp(p + i, &word, size - i) == 0;
}

/* Send and receive COUNT messages at once, each of its own series. */
struct traffic {
	uint64_t count;
	uint32_t message_max;
	enum how how;
	unsigned int slow_us; /* sleep before every 64th message taken */
	/* progress */
	uint64_t sent, received;
	uint32_t done; /* of the message being sent */
	uint8_t *buffer;
};

static inline int traffic_send(struct fastwake_channel *ch, struct traffic *t)
{
	while (t->sent < t->count) {
		uint32_t size = message_size(t->sent, t->message_max);
		ssize_t n;

		if (t->done == 0)
			message_fill(t->buffer, t->sent, size);
		n = fastwake_channel_send(ch, (uint32_t)t->sent / 100,
					  t->buffer + t->done, size - t->done);
		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		t->done += (uint32_t)n;
		if (t->done == size) {
			t->done = 0;
			t->sent++;
		}
	}
	return 0;
}

static inline int traffic_receive(struct fastwake_channel *ch,
				  struct traffic *t)
{
	uint32_t stream;
	ssize_t n;
	void *p;

	while ((n = fastwake_channel_recv(ch, &stream, &p)) > 0) {
		uint32_t size = message_size(t->received, t->message_max);

		if (n != (ssize_t)size || stream != t->received / 100 ||
		    !message_good(p, t->received, size) ||
		    ((uintptr_t)p & 7) != 0)
			return -EBADMSG;
		t->received++;
		if (t->slow_us != 0 && t->received % 64 == 0)
			usleep(t->slow_us);
	}
	return n == -EAGAIN ? 0 : (int)n;
}

/* 0 when all has been sent, received, and has arrived. */
__attribute__((unused)) static int traffic_run(struct fastwake_channel *ch,
					       struct traffic *t)
{
	struct fastwake_waiter *waiter = NULL;
	int rc = 0;

	t->buffer = malloc(t->message_max);
	if (t->how == BY_WATCHES)
		waiter = make_waiter();
	while (rc == 0 && (t->sent < t->count || t->received < t->count)) {
		int wanted = FASTWAKE_READABLE;

		rc = traffic_send(ch, t);
		if (rc == 0)
			rc = traffic_receive(ch, t);
		if (rc != 0 || (t->sent == t->count && t->received == t->count))
			break;
		if (t->sent < t->count)
			wanted |= FASTWAKE_WRITABLE;
		rc = wait_channel(ch, wanted, t->how, waiter, 30);
		rc = rc < 0 ? rc : rc == 0 ? -ETIMEDOUT : 0;
	}
	while (rc == 0 && (rc = fastwake_channel_flushed(ch)) == 0) {
		fastwake_channel_poll(ch);
		if (t->how == BY_FDS)
			wait_by_fds(ch);
	}
	if (waiter != NULL)
		free_waiter(waiter);
	free(t->buffer);
	/* The peer may have all it wanted and be gone. */
	return rc == 1 || rc == -EPIPE ? 0 : rc;
}

/* Is there an RDMA device? */
__attribute__((unused)) static bool have_device(void)
{
	int status;
	pid_t pid;

	/* In a child: the cases must not inherit what this leaves behind. */
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(fw_rdma_available("", NULL) == 0 ? 0 : 1);
	waitpid(pid, &status, 0);
	return status == 0;
}

#endif /* CHANNEL_PAIR_H */
