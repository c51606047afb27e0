// SPDX-License-Identifier: PostgreSQL
/*
 * torture.c - is an event ever lost?
 *
 * Channels of one or several completion queues, and one or several threads that wait
 * for each channel, every one in its own way, on some also by bare system calls.  One
 * thread per queue sends to it, in bursts and with pauses of random length, and goes on
 * only when all that it sent has been consumed: if an event is lost it waits in
 * vain, and says so.  Meanwhile queues are resized, destroyed and made anew, children
 * are forked, and threads get signals with and without SA_RESTART.
 *
 * FASTWAKE_TORTURE_SECONDS: how long (10); FASTWAKE_TORTURE_SEED.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"
#include "tap.h"

#define QUEUES	3 /* of a channel, at most */
#define WAITERS 3
#define BURST	8
#define LOST_S	20 /* nothing was consumed for so long: an event is lost */

struct queue {
	struct channel *channel;
	struct ibv_cq *cq;
	struct loop loop;
	pthread_mutex_t lock; /* consumers of the queue exclude one another */
	bool solicited;	      /* it is armed for solicited completions only */
	bool going;	      /* under the lock: it is being destroyed */
	unsigned int sent;
	unsigned int consumed;
};

struct channel {
	unsigned int queues;
	unsigned int waiters;
	bool solicited; /* the last queue is */
	bool nonblock;
	bool unseen; /* now and then a waiter waits by a bare system call */
	struct ibv_comp_channel *channel;
	struct queue queue[QUEUES];
};

struct waiter {
	struct channel *channel;
	unsigned int seed;
	pthread_t thread;
	unsigned long events, empty;
};

static struct loop_device device;
/* Of most, all can be looked at in memory. */
static struct channel channels[] = {
	{ .queues = 1, .waiters = 1 },
	{ .queues = 2, .waiters = 1 },
	{ .queues = 1, .waiters = 1, .unseen = true },
	{ .queues = 2, .waiters = 2 },
	{ .queues = 3, .waiters = 3, .solicited = true },
	{ .queues = 3, .waiters = 3, .nonblock = true },
};

#define CHANNELS (sizeof(channels) / sizeof(*channels))

static struct waiter waiters[CHANNELS * WAITERS];
static unsigned int waiters_used;
static int stopping; /* 1: senders, 2: waiters */
static int interrupted_wrongly;

static unsigned int below(unsigned int *seed, unsigned int limit)
{
	return (unsigned int)rand_r(seed) % limit;
}

static int is_stopping(void)
{
	return __atomic_load_n(&stopping, __ATOMIC_ACQUIRE);
}

/* ---- consuming ---- */

static void consume(struct queue *q)
{
	struct ibv_wc wc[BURST];
	int i, n;

	while ((n = ibv_poll_cq(q->cq, BURST, wc)) > 0) {
		for (i = 0; i < n; i++) {
			loop_check(wc[i].status == IBV_WC_SUCCESS,
				   ibv_wc_status_str(wc[i].status));
			loop_post_recv(&q->loop);
		}
		__atomic_fetch_add(&q->consumed, (unsigned int)n,
				   __ATOMIC_RELEASE);
	}
	loop_check(n == 0, "ibv_poll_cq");
}

static void serve(struct queue *q, unsigned int *seed)
{
	pthread_mutex_lock(&q->lock);
	if (below(seed, 4) == 0)
		consume(q);
	if (!q->going)
		loop_check(ibv_req_notify_cq(q->cq, q->solicited) == 0,
			   "ibv_req_notify_cq");
	consume(q);
	pthread_mutex_unlock(&q->lock);
}

/* ---- waiting, one way or another ---- */

static void by_poll(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	(void)poll(&p, 1, 1000);
}

static void by_select(int fd)
{
	struct timeval tv = { .tv_sec = 1 };
	fd_set in;

	FD_ZERO(&in);
	FD_SET(fd, &in);
	(void)select(fd + 1, &in, NULL, NULL, &tv);
}

static void by_epoll(int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	int set = epoll_create1(EPOLL_CLOEXEC);

	loop_check(set >= 0, "epoll_create1");
	(void)epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
	(void)epoll_wait(set, &event, 1, 1000);
	close(set);
}

static void look_first(const struct channel *c, unsigned int *seed)
{
	int fd = c->channel->fd;

	switch (below(seed, 3)) {
	case 0:
		by_poll(fd);
		break;
	case 1:
		by_select(fd);
		break;
	case 2:
		by_epoll(fd);
		break;
	}
}

static void by_system_call(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (syscall(SYS_poll, &p, 1, -1) < 0)
		loop_check(errno == EINTR, "poll");
}

static struct ibv_cq *next_event(const struct channel *c, unsigned int *seed)
{
	struct ibv_cq *cq;
	uint64_t handle;
	void *context;

	if (c->nonblock)
		look_first(c, seed);
	else if (c->unseen && below(seed, 2) == 0)
		by_system_call(c->channel->fd);
	if (below(seed, 4) == 0) {
		if (read(c->channel->fd, &handle, sizeof(handle)) ==
		    sizeof(handle))
			return (struct ibv_cq *)(uintptr_t)handle;
	} else if (ibv_get_cq_event(c->channel, &cq, &context) == 0) {
		return cq;
	}
	if (errno != EAGAIN && errno != EINTR)
		loop_check(0, "a wait for an event");
	return NULL;
}

static void *wait_for_events(void *argument)
{
	struct waiter *w = argument;
	struct ibv_cq *cq;
	struct queue *q;

	while (is_stopping() < 2) {
		cq = next_event(w->channel, &w->seed);
		if (cq == NULL) {
			w->empty++;
			continue;
		}
		/* Not acknowledged yet: it is not destroyed. */
		q = cq->cq_context;
		serve(q, &w->seed);
		ibv_ack_cq_events(cq, 1);
		w->events++;
	}
	return NULL;
}

/* ---- sending ---- */

static void lost(const struct queue *q)
{
	long channel = q->channel - channels;

	printf("not ok - channel %ld, queue %ld: %u sent, %u consumed\n",
	       channel, (long)(q - q->channel->queue), q->sent,
	       __atomic_load_n(&q->consumed, __ATOMIC_RELAXED));
	fflush(stdout);
	abort();
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void wait_until_consumed(const struct queue *q)
{
	double begin = now();
	unsigned int i;

	for (i = 0; __atomic_load_n(&q->consumed, __ATOMIC_ACQUIRE) != q->sent;
	     i++) {
		if (i < 100)
			sched_yield();
		else
			usleep(20);
		if (now() - begin > LOST_S)
			lost(q);
	}
}

/* Solicited only: the last one of a burst is what the event is for. */
static void burst(struct queue *q, unsigned int *seed)
{
	unsigned int i, n = 1 + below(seed, BURST);

	for (i = 1; i <= n; i++) {
		q->sent++;
		loop_post_send(&q->loop, i == n);
		if (below(seed, 4) == 0)
			usleep(below(seed, 200));
	}
	for (i = 0; i < n;)
		i += (unsigned int)loop_reap(&q->loop);
}

static void pause_a_while(unsigned int *seed)
{
	unsigned int kind = below(seed, 10);

	if (kind < 6)
		return;
	usleep(kind == 9 ? below(seed, 20000) : below(seed, 300));
}

/* ---- queues come and go ---- */

static void make(struct queue *q)
{
	struct ibv_cq_init_attr_ex attr = { .cqe = LOOP_DEPTH,
					    .cq_context = q,
					    .channel = q->channel->channel };
	bool extended = (q - q->channel->queue) % 2 != 0;
	int i;

	if (extended)
		q->cq = ibv_cq_ex_to_cq(ibv_create_cq_ex(device.verbs, &attr));
	else
		q->cq = ibv_create_cq(device.verbs, LOOP_DEPTH, q,
				      q->channel->channel, 0);
	loop_check(q->cq != NULL, "ibv_create_cq");
	loop_make(&device, &q->loop, q->cq);
	for (i = 0; i < 2 * BURST; i++)
		loop_post_recv(&q->loop);
	loop_check(ibv_req_notify_cq(q->cq, q->solicited) == 0,
		   "ibv_req_notify_cq");
}

/*
 * All that was sent has been consumed.  Whoever has not acknowledged an event yet keeps
 * the queue's memory, but the kernel's queue goes at once, and can be asked no more.
 */
static void remake(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->going = true;
	loop_check(ibv_destroy_qp(q->loop.qp) == 0, "ibv_destroy_qp");
	pthread_mutex_unlock(&q->lock);
	loop_check(ibv_dereg_mr(q->loop.mr) == 0, "ibv_dereg_mr");
	loop_check(ibv_destroy_cq(q->loop.sent) == 0, "ibv_destroy_cq");
	loop_check(ibv_destroy_cq(q->cq) == 0, "ibv_destroy_cq");
	q->going = false; /* nobody serves it before it is asked for an event */
	make(q);
}

static void resize(struct queue *q, unsigned int *seed)
{
	pthread_mutex_lock(&q->lock);
	loop_check(ibv_resize_cq(q->cq, LOOP_DEPTH + (int)below(seed, 200)) ==
			   0,
		   "ibv_resize_cq");
	pthread_mutex_unlock(&q->lock);
}

static void *send(void *argument)
{
	struct queue *q = argument;
	unsigned int seed = (unsigned int)(uintptr_t)q ^ waiters[0].seed;

	while (is_stopping() == 0) {
		burst(q, &seed);
		wait_until_consumed(q);
		pause_a_while(&seed);
		if (below(&seed, 200) == 0)
			remake(q);
		else if (below(&seed, 200) == 0)
			resize(q, &seed);
	}
	return NULL;
}

/* ---- nuisances ---- */

static void handle(int number)
{
	(void)number;
}

static void catch_signals(void)
{
	struct sigaction action = { .sa_flags = SA_RESTART };

	action.sa_handler = handle;
	sigaction(SIGUSR1, &action, NULL);
	action.sa_flags = 0;
	sigaction(SIGUSR2, &action, NULL);
}

static void fork_child(unsigned int *seed)
{
	pid_t pid = fork();
	int status;

	loop_check(pid >= 0, "fork");
	if (pid == 0) {
		if (below(seed, 2) == 0)
			execl("/bin/true", "true", (char *)NULL);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (status != 0)
		interrupted_wrongly++;
}

static void disturb(double seconds, unsigned int seed)
{
	double end = now() + seconds;
	unsigned int i;

	while (now() < end) {
		i = below(&seed, waiters_used);
		pthread_kill(waiters[i].thread,
			     below(&seed, 2) != 0 ? SIGUSR1 : SIGUSR2);
		usleep(below(&seed, 5000));
		if (below(&seed, 100) == 0)
			fork_child(&seed);
	}
}

/* Until the waiters have left, each channel has an event for them. */
static void release_waiters(void)
{
	unsigned int i;
	struct queue *q;

	__atomic_store_n(&stopping, 2, __ATOMIC_RELEASE);
	for (i = 0; i < waiters_used; i++)
		while (pthread_tryjoin_np(waiters[i].thread, NULL) != 0) {
			q = &waiters[i].channel->queue[0];
			pthread_mutex_lock(&q->lock);
			consume(q);
			ibv_req_notify_cq(q->cq, 0);
			pthread_mutex_unlock(&q->lock);
			q->sent++;
			loop_post_send(&q->loop, 1);
			while (loop_reap(&q->loop) == 0)
				;
			usleep(1000);
		}
}

static void begin_queue(struct channel *c, unsigned int i)
{
	struct queue *q = &c->queue[i];

	q->channel = c;
	q->solicited = c->solicited && i == c->queues - 1;
	pthread_mutex_init(&q->lock, NULL);
	make(q);
}

static void begin_waiter(struct channel *c, unsigned int seed)
{
	struct waiter *w = &waiters[waiters_used];

	w->channel = c;
	w->seed = seed + waiters_used++;
	loop_check(pthread_create(&w->thread, NULL, wait_for_events, w) == 0,
		   "pthread_create");
}

static void begin(unsigned int seed)
{
	struct channel *c;
	unsigned int i;

	for (c = channels; c < channels + CHANNELS; c++) {
		c->channel = ibv_create_comp_channel(device.verbs);
		loop_check(c->channel != NULL, "ibv_create_comp_channel");
		if (c->nonblock)
			fcntl(c->channel->fd, F_SETFL, O_NONBLOCK);
		for (i = 0; i < c->queues; i++)
			begin_queue(c, i);
		for (i = 0; i < c->waiters; i++)
			begin_waiter(c, seed);
	}
}

static void end(void)
{
	struct channel *c;
	unsigned int i;

	for (c = channels; c < channels + CHANNELS; c++) {
		for (i = 0; i < c->queues; i++) {
			loop_free(&c->queue[i].loop);
			loop_check(ibv_destroy_cq(c->queue[i].cq) == 0,
				   "ibv_destroy_cq");
		}
		loop_check(ibv_destroy_comp_channel(c->channel) == 0,
			   "ibv_destroy_comp_channel");
	}
}

static unsigned int begin_senders(pthread_t *sender)
{
	unsigned int i, n = 0;
	struct channel *c;

	for (c = channels; c < channels + CHANNELS; c++)
		for (i = 0; i < c->queues; i++)
			loop_check(pthread_create(&sender[n++], NULL, send,
						  &c->queue[i]) == 0,
				   "pthread_create");
	return n;
}

static unsigned long all_sent(void)
{
	unsigned long sent = 0;
	struct channel *c;
	unsigned int i;

	for (c = channels; c < channels + CHANNELS; c++)
		for (i = 0; i < c->queues; i++)
			sent += c->queue[i].sent;
	return sent;
}

static unsigned int setting(const char *name, unsigned int otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? (unsigned int)strtoul(text, NULL, 10) : otherwise;
}

int main(void)
{
	unsigned int seconds = setting("FASTWAKE_TORTURE_SECONDS", 10);
	unsigned int seed =
		setting("FASTWAKE_TORTURE_SEED", (unsigned int)time(NULL));
	pthread_t sender[CHANNELS * QUEUES];
	unsigned long sent, events = 0;
	unsigned int i, senders;

	tap_begin();
	tap_diag("FASTWAKE_TORTURE_SEED=%u", seed);
	catch_signals();
	loop_open(&device);
	begin(seed);
	senders = begin_senders(sender);
	disturb(seconds, seed);
	__atomic_store_n(&stopping, 1, __ATOMIC_RELEASE);
	for (i = 0; i < senders; i++)
		pthread_join(sender[i], NULL);
	sent = all_sent();
	release_waiters();
	for (i = 0; i < waiters_used; i++)
		events += waiters[i].events;
	end();
	tap_diag("%lu messages, %lu events", sent, events);
	tap_ok(events > 0, "no event was lost");
	tap_is(interrupted_wrongly, 0, "children ended well");
	return tap_done();
}
