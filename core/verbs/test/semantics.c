// SPDX-License-Identifier: PostgreSQL
/*
 * semantics.c - what ibv_get_cq_event(3) promises, and what programs rely on.
 *
 * The same results with and without libfastwake-verbs.so, in each mode: each
 * case begins with waits, after which the library may keep requests back.
 */
#include <dlfcn.h>
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

/* A device's completion may be a moment behind what it is tested with. */
#define SOON_MS 2000

static struct loop_device device;

struct queue {
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct loop loop;
};

static char context[] = "context";

static void make_on(struct queue *q, struct ibv_comp_channel *channel,
		    int depth)
{
	q->channel = channel;
	q->cq = ibv_create_cq(device.verbs, depth, context, channel, 0);
	loop_check(q->cq != NULL, "ibv_create_cq");
	loop_make(&device, &q->loop, q->cq);
}

static void make(struct queue *q, int depth)
{
	struct ibv_comp_channel *channel =
		ibv_create_comp_channel(device.verbs);

	loop_check(channel != NULL, "ibv_create_comp_channel");
	make_on(q, channel, depth);
}

static void free_queue(struct queue *q)
{
	loop_free(&q->loop);
	loop_check(ibv_destroy_cq(q->cq) == 0, "ibv_destroy_cq");
}

static void free_all(struct queue *q)
{
	free_queue(q);
	loop_check(ibv_destroy_comp_channel(q->channel) == 0,
		   "ibv_destroy_comp_channel");
}

static int drain(struct queue *q)
{
	struct ibv_wc wc;
	int n = 0;

	while (ibv_poll_cq(q->cq, 1, &wc) == 1)
		n++;
	return n;
}

/* One event of this queue, with its context; acknowledged. */
static bool get_event(struct queue *q)
{
	struct ibv_cq *cq = NULL;
	void *data = NULL;

	if (ibv_get_cq_event(q->channel, &cq, &data) != 0)
		return false;
	ibv_ack_cq_events(cq, 1);
	return cq == q->cq && data == context;
}

static void *complete_later(void *argument)
{
	struct queue *q = argument;

	usleep(20000);
	loop_complete(&q->loop, 0);
	return NULL;
}

/* A wait during which the completion comes: from now on the library trusts. */
static bool wait_for_one(struct queue *q)
{
	pthread_t thread;
	bool good;

	loop_check(ibv_req_notify_cq(q->cq, 0) == 0, "ibv_req_notify_cq");
	loop_check(pthread_create(&thread, NULL, complete_later, q) == 0,
		   "pthread_create");
	good = get_event(q);
	pthread_join(thread, NULL);
	return good && drain(q) == 1;
}

static int readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n = poll(&p, 1, ms);

	return n == 1 ? (p.revents == POLLIN ? 1 : -1) : n;
}

static void set_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	loop_check(fcntl(fd, F_SETFL, flags) == 0, "fcntl");
}

/* ---- cases ---- */

static void waits(void)
{
	struct queue q;
	int i, good = 0;

	make(&q, 16);
	for (i = 0; i < 5; i++)
		good += wait_for_one(&q);
	tap_is(good, 5, "waits end with the queue's event and context");
	for (good = 0, i = 0; i < 50; i++) {
		ibv_req_notify_cq(q.cq, 0);
		loop_complete(&q.loop, 0);
		good += get_event(&q) && drain(&q) == 1;
	}
	tap_is(good, 50, "an event that is there already is returned at once");
	free_all(&q);
}

static void no_event_without_request(void)
{
	struct queue q;

	make(&q, 16);
	wait_for_one(&q);
	loop_complete(&q.loop, 0);
	tap_is(readable(q.channel->fd, 20), 0, "no request, no event");
	ibv_req_notify_cq(q.cq, 0);
	tap_is(readable(q.channel->fd, 20), 0,
	       "a completion before the request makes none");
	loop_complete(&q.loop, 0);
	tap_is(readable(q.channel->fd, SOON_MS), 1, "one after it does");
	tap_ok(get_event(&q), "and is returned");
	loop_complete(&q.loop, 0);
	tap_is(readable(q.channel->fd, 20), 0, "each request makes one");
	free_all(&q);
}

static void requests_pile_up(void)
{
	struct queue q;
	int i;

	make(&q, 16);
	wait_for_one(&q);
	for (i = 0; i < 3; i++) {
		ibv_req_notify_cq(q.cq, 0);
		loop_complete(&q.loop, 0);
		usleep(1000);
	}
	tap_ok(get_event(&q) && get_event(&q) && get_event(&q),
	       "three requests, three completions: three events");
	tap_is(readable(q.channel->fd, 20), 0, "and no fourth");
	ibv_req_notify_cq(q.cq, 0);
	ibv_req_notify_cq(q.cq, 0);
	loop_complete(&q.loop, 0);
	tap_ok(get_event(&q) && readable(q.channel->fd, 20) == 0,
	       "two requests before a completion: one event");
	drain(&q);
	free_all(&q);
}

/* A queue of so few entries that its index is the same again. */
static void laps(int depth)
{
	struct queue q;
	int i, slots, good = 0, round;

	make(&q, depth);
	slots = q.cq->cqe + 1;
	for (round = 0; round < 5; round++) {
		wait_for_one(&q);
		ibv_req_notify_cq(q.cq, 0);
		for (i = 0; i < slots; i++) {
			loop_complete(&q.loop, 0);
			drain(&q);
		}
		good += readable(q.channel->fd, SOON_MS) == 1 && get_event(&q);
	}
	tap_is(good, 5, "%d completions polled after the request: an event",
	       slots);
	free_all(&q);
}

static void solicited(void)
{
	struct queue q;

	make(&q, 16);
	wait_for_one(&q);
	ibv_req_notify_cq(q.cq, 1);
	loop_complete(&q.loop, 0);
	tap_is(readable(q.channel->fd, 20), 0,
	       "solicited only: no event of another completion");
	loop_complete(&q.loop, 1);
	tap_is(readable(q.channel->fd, SOON_MS), 1, "one of a solicited one");
	tap_ok(get_event(&q) && drain(&q) == 2, "which is returned");
	ibv_req_notify_cq(q.cq, 1);
	ibv_req_notify_cq(q.cq, 0);
	loop_complete(&q.loop, 0);
	tap_ok(get_event(&q) && drain(&q) == 1,
	       "a request for any after one for solicited counts");
	tap_ok(wait_for_one(&q), "waits go on as before");
	free_all(&q);
}

static void several_queues(void)
{
	struct queue q[5];
	struct ibv_cq *cq;
	void *data;
	int i, j, seen[5] = { 0 };

	make(&q[0], 16);
	for (i = 1; i < 5; i++)
		make_on(&q[i], q[0].channel, 16);
	wait_for_one(&q[0]);
	for (i = 0; i < 5; i++) {
		ibv_req_notify_cq(q[i].cq, 0);
		loop_complete(&q[i].loop, 0);
	}
	for (i = 0; i < 5; i++) {
		loop_check(ibv_get_cq_event(q[0].channel, &cq, &data) == 0,
			   "ibv_get_cq_event");
		for (j = 0; j < 5; j++)
			seen[j] += cq == q[j].cq;
		ibv_ack_cq_events(cq, 1);
	}
	tap_ok(seen[0] == 1 && seen[1] == 1 && seen[2] == 1 && seen[3] == 1 &&
		       seen[4] == 1,
	       "five queues of one channel: an event of each");
	for (i = 4; i > 0; i--)
		free_queue(&q[i]);
	free_all(&q[0]);
}

/* More than the module's WAIT takes words. */
static void many_queues(void)
{
	struct queue q[12];
	int i, good = 0;

	make(&q[0], 16);
	for (i = 1; i < 12; i++)
		make_on(&q[i], q[0].channel, 16);
	for (i = 0; i < 12; i++)
		ibv_req_notify_cq(q[i].cq, 0);
	for (i = 0; i < 12; i++) {
		pthread_t thread;

		pthread_create(&thread, NULL, complete_later, &q[i]);
		good += get_event(&q[i]);
		pthread_join(thread, NULL);
		ibv_req_notify_cq(q[i].cq, 0);
	}
	tap_is(good, 12, "twelve queues of one channel");
	for (i = 11; i > 0; i--)
		free_queue(&q[i]);
	free_all(&q[0]);
}

static void nonblocking(void)
{
	struct queue q;
	struct ibv_cq *cq;
	void *data;

	make(&q, 16);
	wait_for_one(&q);
	set_nonblock(q.channel->fd, true);
	ibv_req_notify_cq(q.cq, 0);
	errno = 0;
	tap_ok(ibv_get_cq_event(q.channel, &cq, &data) == -1 && errno == EAGAIN,
	       "O_NONBLOCK: EAGAIN");
	loop_complete(&q.loop, 0);
	tap_is(readable(q.channel->fd, SOON_MS), 1, "then readable");
	tap_ok(get_event(&q), "and the event is there");
	errno = 0;
	tap_ok(ibv_get_cq_event(q.channel, &cq, &data) == -1 && errno == EAGAIN,
	       "once");
	drain(&q);
	set_nonblock(q.channel->fd, false);
	tap_ok(wait_for_one(&q), "blocking again");
	free_all(&q);
}

static bool selected(int fd, long us)
{
	struct timeval tv = { .tv_usec = us };
	fd_set in;

	FD_ZERO(&in);
	FD_SET(fd, &in);
	return select(fd + 1, &in, NULL, NULL, &tv) == 1 && FD_ISSET(fd, &in);
}

static void descriptors(void)
{
	struct timespec soon = { .tv_sec = 2 };
	struct pollfd p[2];
	struct queue q;
	pthread_t thread;
	int pipes[2], other;

	make(&q, 16);
	wait_for_one(&q);
	tap_ok(!selected(q.channel->fd, 20000), "select: not readable");
	ibv_req_notify_cq(q.cq, 0);
	pthread_create(&thread, NULL, complete_later, &q);
	tap_is(readable(q.channel->fd, SOON_MS), 1, "poll waits");
	pthread_join(thread, NULL);
	tap_ok(selected(q.channel->fd, 2000000), "select: readable");
	loop_check(pipe(pipes) == 0, "pipe");
	p[0] = (struct pollfd){ .fd = pipes[0], .events = POLLIN };
	p[1] = (struct pollfd){ .fd = q.channel->fd, .events = POLLIN };
	tap_ok(ppoll(p, 2, &soon, NULL) == 1 && p[0].revents == 0 &&
		       p[1].revents == POLLIN,
	       "ppoll beside a pipe");
	tap_ok(get_event(&q) && drain(&q) == 1, "one event of all this");
	loop_check(write(pipes[1], "x", 1) == 1, "write");
	ibv_req_notify_cq(q.cq, 0);
	tap_ok(poll(p, 2, SOON_MS) == 1 && p[0].revents == POLLIN &&
		       p[1].revents == 0,
	       "a pipe beside the channel is seen");
	other = dup(q.channel->fd);
	loop_complete(&q.loop, 0);
	tap_is(readable(q.channel->fd, SOON_MS), 1, "readable again");
	tap_ok(get_event(&q), "and the event");
	drain(&q);
	close(other);
	close(pipes[0]);
	close(pipes[1]);
	free_all(&q);
}

/* Its program waits for a duplicate of the descriptor, as if it were its own. */
static void duplicate(void)
{
	struct queue q;
	int fd, i, good = 0;

	make(&q, 16);
	fd = fcntl(q.channel->fd, F_DUPFD_CLOEXEC, 100);
	for (i = 0; i < 20; i++) {
		pthread_t thread;

		ibv_req_notify_cq(q.cq, 0);
		pthread_create(&thread, NULL, complete_later, &q);
		good += readable(fd, SOON_MS) == 1 && get_event(&q) &&
			drain(&q) == 1;
		pthread_join(thread, NULL);
	}
	tap_is(good, 20, "poll of a duplicate");
	close(fd);
	free_all(&q);
}

static int epoll_one(int set, int ms, uint64_t data)
{
	struct epoll_event event = { .events = 0 };
	int n = epoll_wait(set, &event, 1, ms);

	return n == 1 ? event.data.u64 == data && event.events == EPOLLIN : n;
}

static void epoll_level(void)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 77 };
	int set = epoll_create1(EPOLL_CLOEXEC);
	pthread_t thread;
	struct queue q;

	make(&q, 16);
	wait_for_one(&q);
	epoll_ctl(set, EPOLL_CTL_ADD, q.channel->fd, &event);
	tap_is(epoll_one(set, 20, 77), 0, "epoll: nothing");
	ibv_req_notify_cq(q.cq, 0);
	pthread_create(&thread, NULL, complete_later, &q);
	tap_is(epoll_one(set, SOON_MS, 77), 1, "epoll waits");
	pthread_join(thread, NULL);
	tap_is(epoll_one(set, 0, 77), 1, "and says so again");
	tap_ok(get_event(&q), "the event is there");
	tap_is(epoll_one(set, 20, 77), 0, "then it does not");
	event.data.u64 = 78;
	epoll_ctl(set, EPOLL_CTL_MOD, q.channel->fd, &event);
	ibv_req_notify_cq(q.cq, 0);
	loop_complete(&q.loop, 0);
	tap_is(epoll_one(set, SOON_MS, 78), 1, "with other data");
	tap_ok(get_event(&q), "the event is there");
	ibv_req_notify_cq(q.cq, 0);
	loop_complete(&q.loop, 0);
	epoll_ctl(set, EPOLL_CTL_DEL, q.channel->fd, NULL);
	tap_is(epoll_one(set, 20, 78), 0, "not after it was removed");
	tap_ok(get_event(&q), "the event is there");
	drain(&q);
	close(set);
	free_all(&q);
}

static void epoll_edge(uint32_t flags, const char *name)
{
	struct epoll_event event = { .events = EPOLLIN | flags,
				     .data.u64 = 79 };
	int set = epoll_create1(EPOLL_CLOEXEC), i, good = 0;
	struct queue q;

	make(&q, 16);
	wait_for_one(&q);
	ibv_req_notify_cq(q.cq, 0);
	loop_complete(&q.loop, 0);
	epoll_ctl(set, EPOLL_CTL_ADD, q.channel->fd, &event);
	tap_is(epoll_one(set, SOON_MS, 79), 1, "%s: the event from before",
	       name);
	tap_is(epoll_one(set, 20, 79), 0, "%s: once", name);
	good += get_event(&q);
	for (i = 0; i < 10; i++) {
		epoll_ctl(set, EPOLL_CTL_MOD, q.channel->fd, &event);
		ibv_req_notify_cq(q.cq, 0);
		loop_complete(&q.loop, 0);
		good += epoll_one(set, SOON_MS, 79) == 1 &&
			epoll_one(set, 0, 79) == 0 && get_event(&q);
		drain(&q);
	}
	tap_is(good, 11, "%s: each event once", name);
	close(set);
	free_all(&q);
}

static void plain_read(void)
{
	struct queue q;
	uint64_t handle = 0;
	int i, good = 0;

	make(&q, 16);
	for (i = 0; i < 5; i++) {
		pthread_t thread;

		ibv_req_notify_cq(q.cq, 0);
		pthread_create(&thread, NULL, complete_later, &q);
		good += read(q.channel->fd, &handle, sizeof(handle)) ==
				sizeof(handle) &&
			handle == (uintptr_t)q.cq;
		pthread_join(thread, NULL);
		ibv_ack_cq_events(q.cq, 1);
		drain(&q);
	}
	tap_is(good, 5, "read() of the descriptor");
	free_all(&q);
}

/* By a system call that the library does not see, from the first wait on. */
static void unseen_wait(void)
{
	struct pollfd p = { .events = POLLIN };
	struct queue q;
	int i, good = 0;

	make(&q, 16);
	p.fd = q.channel->fd;
	for (i = 0; i < 20; i++) {
		pthread_t thread;

		ibv_req_notify_cq(q.cq, 0);
		pthread_create(&thread, NULL, complete_later, &q);
		good += syscall(SYS_poll, &p, 1, SOON_MS) == 1 && get_event(&q);
		pthread_join(thread, NULL);
		drain(&q);
	}
	tap_is(good, 20, "waits by bare system calls");
	free_all(&q);
}

static void unseen_read(void)
{
	struct queue q;
	uint64_t handle;
	int i, good = 0;

	make(&q, 16);
	for (i = 0; i < 5; i++) {
		ibv_req_notify_cq(q.cq, 0);
		loop_complete(&q.loop, 0);
		good += syscall(SYS_read, q.channel->fd, &handle,
				sizeof(handle)) == sizeof(handle);
		ibv_ack_cq_events(q.cq, 1);
		drain(&q);
	}
	free_all(&q);
	tap_is(good, 5, "events read by bare system calls");
}

/*
 * A program that waited where it is seen waits by a bare system call the next time:
 * what was kept back is armed, or an event made for it.
 */
static void late_wait(void)
{
	struct pollfd p = { .events = POLLIN };
	struct queue q;
	int i, good = 0, at_once = 0;

	make(&q, 16);
	p.fd = q.channel->fd;
	for (i = 0; i < 10; i++) {
		pthread_t thread;

		wait_for_one(&q);
		ibv_req_notify_cq(q.cq, 0);
		pthread_create(&thread, NULL, complete_later, &q);
		good += syscall(SYS_poll, &p, 1, SOON_MS) == 1 && get_event(&q);
		pthread_join(thread, NULL);
		drain(&q);
		wait_for_one(&q);
		ibv_req_notify_cq(q.cq, 0);
		loop_complete(&q.loop, 0);
		at_once +=
			syscall(SYS_poll, &p, 1, SOON_MS) == 1 && get_event(&q);
		drain(&q);
	}
	tap_is(good, 10, "what was kept back is armed when nobody waits");
	tap_is(at_once, 10, "what has come already is told of");
	tap_is(readable(q.channel->fd, 20), 0, "once");
	free_all(&q);
}

/* ---- acknowledging, destroying, resizing ---- */

static int destroyed;

static void *destroy(void *argument)
{
	struct queue *q = argument;

	free_queue(q);
	__atomic_store_n(&destroyed, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void late_ack(void)
{
	struct queue q;
	struct ibv_cq *cq;
	pthread_t thread;
	void *data;
	int i;

	make(&q, 16);
	wait_for_one(&q);
	for (i = 0; i < 3; i++) {
		ibv_req_notify_cq(q.cq, 0);
		loop_complete(&q.loop, 0);
		ibv_get_cq_event(q.channel, &cq, &data);
		drain(&q);
	}
	destroyed = 0;
	pthread_create(&thread, NULL, destroy, &q);
	ibv_ack_cq_events(cq, 2);
	usleep(50000);
	tap_is(__atomic_load_n(&destroyed, __ATOMIC_SEQ_CST), 0,
	       "ibv_destroy_cq() waits for the last acknowledgement");
	ibv_ack_cq_events(cq, 1);
	pthread_join(thread, NULL);
	tap_is(destroyed, 1, "and then returns");
	loop_check(ibv_destroy_comp_channel(q.channel) == 0, "destroy");
}

/* The original's ibv_destroy_cq() would wait for ever. */
static void surplus_ack(void)
{
	struct queue q;

	if (getenv("FASTWAKE_MODE") == NULL ||
	    strcmp(getenv("FASTWAKE_MODE"), "off") == 0) {
		tap_skip(1, "not without the library");
		return;
	}
	make(&q, 16);
	wait_for_one(&q);
	ibv_ack_cq_events(q.cq, 100);
	ibv_req_notify_cq(q.cq, 0);
	loop_complete(&q.loop, 0);
	get_event(&q);
	ibv_ack_cq_events(q.cq, 100);
	free_all(&q);
	tap_ok(true, "more acknowledgements than events");
}

static void *wait_for_event(void *argument)
{
	return (void *)(uintptr_t)get_event(argument);
}

static void destroy_while_waiting(void)
{
	struct queue q, other;
	pthread_t thread;
	void *good;

	make(&q, 16);
	make_on(&other, q.channel, 16);
	wait_for_one(&q);
	wait_for_one(&other);
	ibv_req_notify_cq(q.cq, 0);
	ibv_req_notify_cq(other.cq, 0);
	pthread_create(&thread, NULL, wait_for_event, &q);
	usleep(300);
	free_queue(&other);
	usleep(20000);
	loop_complete(&q.loop, 0);
	pthread_join(thread, &good);
	tap_ok(good != NULL,
	       "a wait goes on when another queue of its channel is destroyed");
	drain(&q);
	tap_ok(ibv_destroy_cq(q.cq) == EBUSY,
	       "a queue in use is not destroyed");
	tap_ok(wait_for_one(&q), "and works as before");
	free_all(&q);
}

static void resize(void)
{
	struct queue q;
	pthread_t thread;
	void *good;
	int i, sizes[] = { 100, 10, 500, 20 };

	make(&q, 16);
	wait_for_one(&q);
	for (i = 0; i < 4; i++) {
		ibv_req_notify_cq(q.cq, 0);
		tap_ok(ibv_resize_cq(q.cq, sizes[i]) == 0 &&
			       q.cq->cqe >= sizes[i],
		       "resize to %d", sizes[i]);
		loop_complete(&q.loop, 0);
		tap_ok(readable(q.channel->fd, SOON_MS) == 1 && get_event(&q) &&
			       drain(&q) == 1,
		       "a request stands");
		ibv_req_notify_cq(q.cq, 0);
		loop_complete(&q.loop, 0);
		ibv_resize_cq(q.cq, sizes[i] + 5);
		tap_ok(readable(q.channel->fd, SOON_MS) == 1 && get_event(&q) &&
			       drain(&q) == 1,
		       "an event stands");
		ibv_req_notify_cq(q.cq, 0);
		pthread_create(&thread, NULL, wait_for_event, &q);
		usleep(300);
		ibv_resize_cq(q.cq, sizes[i] + 9);
		loop_complete(&q.loop, 0);
		pthread_join(thread, &good);
		tap_ok(good != NULL && drain(&q) == 1, "a wait goes on");
	}
	free_all(&q);
}

/* ---- extended queues ---- */

static void extended(void)
{
	struct ibv_cq_init_attr_ex attr = { .cqe = 16, .cq_context = context };
	struct ibv_poll_cq_attr poll_attr = { .comp_mask = 0 };
	struct ibv_cq_ex *cq;
	struct queue q;
	int i, good = 0;

	q.channel = ibv_create_comp_channel(device.verbs);
	attr.channel = q.channel;
	cq = ibv_create_cq_ex(device.verbs, &attr);
	if (cq == NULL) {
		ibv_destroy_comp_channel(q.channel);
		tap_skip(1, "no extended queues");
		return;
	}
	q.cq = ibv_cq_ex_to_cq(cq);
	loop_make(&device, &q.loop, q.cq);
	for (i = 0; i < 10; i++) {
		pthread_t thread;

		ibv_req_notify_cq(q.cq, 0);
		pthread_create(&thread, NULL, complete_later, &q);
		good += get_event(&q);
		pthread_join(thread, NULL);
		if (ibv_start_poll(cq, &poll_attr) == 0)
			ibv_end_poll(cq);
	}
	tap_is(good, 10, "extended queues");
	free_all(&q);
}

/* ---- threads, signals, fork ---- */

static void several_threads(void)
{
	struct queue q;
	pthread_t thread[4];
	void *good;
	int i, sum = 0;

	make(&q, 64);
	wait_for_one(&q);
	ibv_req_notify_cq(q.cq, 0);
	for (i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, wait_for_event, &q);
	for (i = 0; i < 4; i++) {
		usleep(i % 2 != 0 ? 100 : 5000);
		loop_complete(&q.loop, 0);
		usleep(5000);
		ibv_req_notify_cq(q.cq, 0);
	}
	for (i = 0; i < 4; i++) {
		pthread_join(thread[i], &good);
		sum += good != NULL;
	}
	tap_is(sum, 4, "four threads of one channel: an event for each");
	drain(&q);
	free_all(&q);
}

static volatile sig_atomic_t handled;

static void handle(int number)
{
	(void)number;
	handled++;
}

static void catch_signal(int number, int flags)
{
	struct sigaction action = { .sa_flags = flags };

	action.sa_handler = handle;
	sigaction(number, &action, NULL);
}

static void *wait_errno(void *argument)
{
	struct queue *q = argument;
	struct ibv_cq *cq;
	void *data;

	errno = 0;
	if (ibv_get_cq_event(q->channel, &cq, &data) == 0) {
		ibv_ack_cq_events(cq, 1);
		return NULL;
	}
	return (void *)(intptr_t)errno;
}

static void signals(void)
{
	struct queue q;
	pthread_t thread;
	void *error;
	int i;

	make(&q, 16);
	wait_for_one(&q);
	catch_signal(SIGUSR1, SA_RESTART);
	catch_signal(SIGUSR2, 0);
	ibv_req_notify_cq(q.cq, 0);
	handled = 0;
	pthread_create(&thread, NULL, wait_errno, &q);
	for (i = 0; i < 20; i++) {
		usleep((useconds_t)i * 100);
		pthread_kill(thread, SIGUSR1);
	}
	usleep(20000);
	loop_complete(&q.loop, 0);
	pthread_join(thread, &error);
	tap_ok(error == NULL && handled > 0, "SA_RESTART: waits go on");
	drain(&q);
	ibv_req_notify_cq(q.cq, 0);
	pthread_create(&thread, NULL, wait_errno, &q);
	usleep(20000);
	pthread_kill(thread, SIGUSR2);
	pthread_join(thread, &error);
	tap_is((int)(intptr_t)error, EINTR, "without it they end with EINTR");
	loop_complete(&q.loop, 0);
	tap_ok(get_event(&q) && drain(&q) == 1, "and the request stands");
	free_all(&q);
}

/* Its request may have been kept back, and it does not ask again. */
static void unseen_after_signal(void)
{
	struct pollfd p = { .events = POLLIN };
	struct queue q;
	pthread_t thread;
	int i, good = 0;

	make(&q, 16);
	p.fd = q.channel->fd;
	wait_for_one(&q);
	catch_signal(SIGUSR2, 0);
	for (i = 0; i < 5; i++) {
		ibv_req_notify_cq(q.cq, 0);
		pthread_create(&thread, NULL, wait_errno, &q);
		usleep(300000); /* it has long been waiting */
		pthread_kill(thread, SIGUSR2);
		pthread_join(thread, NULL);
		loop_complete(&q.loop, 0);
		good += syscall(SYS_poll, &p, 1, SOON_MS) == 1 && get_event(&q);
		drain(&q);
	}
	tap_is(good, 5, "the next wait is a bare system call");
	free_all(&q);
}

static void cancel(void)
{
	struct queue q;
	pthread_t thread;
	void *result;

	make(&q, 16);
	wait_for_one(&q);
	ibv_req_notify_cq(q.cq, 0);
	pthread_create(&thread, NULL, wait_for_event, &q);
	usleep(20000);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	tap_ok(result == PTHREAD_CANCELED, "a waiting thread is cancelled");
	loop_complete(&q.loop, 0);
	tap_ok(get_event(&q) && drain(&q) == 1, "and the request stands");
	tap_ok(wait_for_one(&q), "waits go on");
	free_all(&q);
}

static int in_child(void)
{
	struct queue q;
	int i, good = 0;

	loop_open(&device);
	make(&q, 16);
	for (i = 0; i < 10; i++)
		good += wait_for_one(&q);
	free_all(&q);
	return good == 10 ? 0 : 1;
}

static void forks(void)
{
	struct queue q;
	int status, i, good = 0;
	pid_t pid;

	make(&q, 16);
	wait_for_one(&q);
	ibv_req_notify_cq(q.cq, 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(in_child());
	waitpid(pid, &status, 0);
	tap_is(status, 0, "a child's own waits");
	loop_complete(&q.loop, 0);
	tap_ok(get_event(&q) && drain(&q) == 1, "the parent's request stands");
	for (i = 0; i < 5; i++)
		good += wait_for_one(&q);
	tap_is(good, 5, "and its waits go on");
	free_all(&q);
}

/* ---- programs that look functions up ---- */

static void by_handle(void)
{
	void *library = dlopen("libibverbs.so.1", RTLD_LAZY);
	struct ibv_comp_channel *(*create)(struct ibv_context *);
	int (*get)(struct ibv_comp_channel *, struct ibv_cq **, void **);
	void (*ack)(struct ibv_cq *, unsigned int);
	struct ibv_cq *cq;
	struct queue q;
	void *data;
	int i, good = 0;

	*(void **)&create = dlsym(library, "ibv_create_comp_channel");
	*(void **)&get = dlsym(library, "ibv_get_cq_event");
	*(void **)&ack = dlsym(library, "ibv_ack_cq_events");
	q.channel = create(device.verbs);
	make_on(&q, q.channel, 16);
	for (i = 0; i < 10; i++) {
		pthread_t thread;

		ibv_req_notify_cq(q.cq, 0);
		pthread_create(&thread, NULL, complete_later, &q);
		good += get(q.channel, &cq, &data) == 0 && cq == q.cq;
		pthread_join(thread, NULL);
		ack(cq, 1);
		drain(&q);
	}
	tap_is(good, 10, "functions from dlsym()");
	free_all(&q);
	dlclose(library);
}

int main(void)
{
	tap_begin();
	alarm(300);
	loop_open(&device);
	waits();
	no_event_without_request();
	requests_pile_up();
	laps(1);
	laps(3);
	laps(15);
	solicited();
	several_queues();
	many_queues();
	nonblocking();
	descriptors();
	duplicate();
	epoll_level();
	epoll_edge(EPOLLET, "EPOLLET");
	epoll_edge(EPOLLONESHOT, "EPOLLONESHOT");
	plain_read();
	unseen_wait();
	unseen_read();
	late_wait();
	late_ack();
	surplus_ack();
	destroy_while_waiting();
	resize();
	extended();
	several_threads();
	signals();
	unseen_after_signal();
	cancel();
	forks();
	by_handle();
	return tap_done();
}
