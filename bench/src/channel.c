// SPDX-License-Identifier: PostgreSQL
/*
 * channel.c - round trips of a small message over a channel of libfastwake,
 * between two processes that sleep until the other one's message is there.
 *
 * usage: channel [-m] [-n ROUND-TRIPS] shm|rdma
 *
 * -m: they wait in the kernel module.  Prints what fastwake bench --json does.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "fastwake.h"
#include "figures.h"

#define MESSAGE	  64
#define BUDGET_NS 50000
#define SLICE_NS  1000000000ull
#define STREAM	  1

static struct fastwake_domain *domain;
static char reason[FASTWAKE_REASON_MAX];

static void die(const char *what, long rc)
{
	fprintf(stderr, "channel: %s: %s %s\n", what, strerror((int)-rc),
		reason);
	exit(1);
}

static void sleep_on(const int *fds, int n)
{
	struct pollfd p[FASTWAKE_FDS_MAX];
	int i;

	for (i = 0; i < n; i++)
		p[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	if (poll(p, (nfds_t)n, 10000) == 0)
		die("waiting", -ETIMEDOUT);
}

/* ------------------------------------------------------------------ */
/* Connecting                                                         */
/* ------------------------------------------------------------------ */

static struct fastwake_channel_options options_for(uint32_t transport)
{
	return (struct fastwake_channel_options){
		.size = sizeof(struct fastwake_channel_options),
		.transports = transport,
		.ring_size = FASTWAKE_RING_MIN,
		.message_max = 4096,
	};
}

static struct fastwake_channel *accept_one(uint32_t transport, int pipe_end)
{
	struct fastwake_channel_options o = options_for(transport);
	char endpoint[FASTWAKE_ENDPOINT_MAX] = "";
	struct fastwake_listener *listener;
	struct fastwake_channel *channel;
	int rc, fd;

	rc = fastwake_listen(&listener, &o, reason);
	if (rc != 0)
		die("listen", rc);
	fastwake_listener_endpoint(listener, endpoint, sizeof(endpoint));
	if (write(pipe_end, endpoint, sizeof(endpoint)) != sizeof(endpoint))
		die("pipe", -errno);
	fd = fastwake_listener_fd(listener);
	while ((rc = fastwake_accept(listener, &channel, reason)) == -EAGAIN)
		sleep_on(&fd, 1);
	if (rc != 0)
		die("accept", rc);
	fastwake_listener_close(listener);
	return channel;
}

static struct fastwake_channel *connect_to(uint32_t transport, int pipe_end)
{
	struct fastwake_channel_options o = options_for(transport);
	char endpoint[FASTWAKE_ENDPOINT_MAX];
	int fds[FASTWAKE_FDS_MAX], rc;
	struct fastwake_channel *channel;

	if (read(pipe_end, endpoint, sizeof(endpoint)) != sizeof(endpoint))
		die("pipe", -EPIPE);
	rc = fastwake_connect(&channel, endpoint, &o, reason);
	if (rc != 0)
		die("connect", rc);
	while ((rc = fastwake_connect_continue(channel, reason)) == -EAGAIN)
		sleep_on(fds, fastwake_channel_fds(channel, fds));
	if (rc != 0)
		die("connect", rc);
	return channel;
}

/* ------------------------------------------------------------------ */
/* Messages                                                           */
/* ------------------------------------------------------------------ */

/* By its words if they can be waited for here, else by its descriptors. */
static void wait_for_message(struct fastwake_channel *channel,
			     struct fastwake_waiter *waiter)
{
	struct fastwake_watch watches[4];
	int fds[FASTWAKE_FDS_MAX], n, rc;

	n = fastwake_channel_watches(channel, watches);
	if (n > 0) {
		if (fastwake_channel_poll(channel) & FASTWAKE_READABLE)
			return;
		rc = fastwake_wait(waiter, watches, (unsigned int)n, BUDGET_NS,
				   fastwake_now() + SLICE_NS, NULL);
		if (rc != -ETIME)
			return;
	}
	rc = fastwake_channel_arm(channel);
	if (rc < 0)
		die("arm", rc);
	if (rc == 0)
		sleep_on(fds, fastwake_channel_fds(channel, fds));
}

static void receive(struct fastwake_channel *channel,
		    struct fastwake_waiter *waiter)
{
	uint32_t stream;
	ssize_t n;
	void *buf;

	for (;;) {
		n = fastwake_channel_poll(channel);
		if (n >= 0)
			n = fastwake_channel_recv(channel, &stream, &buf);
		if (n == MESSAGE)
			return;
		if (n != -EAGAIN)
			die("receive", n);
		wait_for_message(channel, waiter);
	}
}

static void send_one(struct fastwake_channel *channel)
{
	static const char message[MESSAGE];
	ssize_t n = fastwake_channel_send(channel, STREAM, message, MESSAGE);

	if (n != MESSAGE)
		die("send", n);
}

/* ------------------------------------------------------------------ */
/* The two processes                                                  */
/* ------------------------------------------------------------------ */

static struct fastwake_waiter *prepare(struct fastwake_channel *channel,
				       uint32_t transport, unsigned int slot,
				       bool module)
{
	struct fastwake_waiter *waiter;
	int rc = fastwake_waiter_attach(domain, slot, &waiter);

	if (rc == 0 && module)
		rc = fastwake_channel_pin(channel, domain);
	/* Over shm the waiter itself is all that the module needs. */
	if (rc == -EOPNOTSUPP && transport == FASTWAKE_TRANSPORT_SHM)
		rc = 0;
	if (rc != 0)
		die("waiter", rc);
	return waiter;
}

static void echo(uint32_t transport, int pipe_end, bool module)
{
	struct fastwake_channel *channel = connect_to(transport, pipe_end);
	struct fastwake_waiter *waiter = prepare(channel, transport, 1, module);

	for (;;) {
		receive(channel, waiter);
		send_one(channel);
	}
}

static void measure(uint32_t transport, int pipe_end, bool module,
		    struct figures *figures)
{
	struct fastwake_channel *channel = accept_one(transport, pipe_end);
	struct fastwake_waiter *waiter = prepare(channel, transport, 0, module);
	uint64_t begin;

	while (figures_wanted(figures)) {
		begin = fastwake_now();
		send_one(channel);
		receive(channel, waiter);
		figures_add(figures, fastwake_now() - begin);
	}
}

static void share_domain(bool module)
{
	int rc = fastwake_domain_create(&domain, NULL, 0, 2);

	if (rc == 0 && module)
		rc = fastwake_domain_use_module(domain, reason);
	if (rc != 0)
		die("domain", rc);
}

int main(int argc, char **argv)
{
	struct figures figures;
	uint32_t transport, n = 500;
	bool module = false;
	int option, ends[2];
	char path[32];
	pid_t child;

	while ((option = getopt(argc, argv, "mn:")) != -1) {
		if (option == 'm')
			module = true;
		else if (option == 'n')
			n = (uint32_t)strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	if (optind + 1 != argc)
		return 2;
	transport = strcmp(argv[optind], "rdma") == 0 ? FASTWAKE_TRANSPORT_RDMA
						      : FASTWAKE_TRANSPORT_SHM;
	figures_init(&figures, n);
	share_domain(module);
	/* Before any verb: what verbs libraries set up does not survive a fork. */
	if (pipe(ends) != 0 || (child = fork()) < 0)
		die("fork", -errno);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		echo(transport, ends[0], module);
	}
	measure(transport, ends[1], module, &figures);
	kill(child, SIGKILL);
	snprintf(path, sizeof(path), "%s%s", argv[optind],
		 module ? "-module" : "");
	figures_print(&figures, "channel", path);
	return 0;
}
