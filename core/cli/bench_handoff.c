// SPDX-License-Identifier: PostgreSQL
/*
 * bench_handoff.c - two processes of one core take turns: one way, from just
 * before the one wakes the other until the other's code goes on.
 */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

/* A way to take turns.  ME is 0 or 1, the process. */
struct way {
	void (*open)(void);	      /* before there are two */
	void (*prepare)(uint32_t me); /* in each */
	void (*give)(uint32_t me);
	void (*take)(uint32_t me);
	void (*exchange)(uint32_t me); /* give and take in one */
	void (*close)(void);
};

static int ends[2][2], epoll_fd, signal_fd;
static pid_t pids[2];
static uint64_t seen; /* of the own slot */

/* ---- SWITCH ---- */

static void module_prepare(uint32_t me)
{
	seen = 0;
	bench_register(me);
}

static void module_take(uint32_t me)
{
	bench_wait(seen);
	seen = bench_shm->slot[me].word;
}

static void module_exchange(uint32_t me)
{
	bench_store(1 - me);
	bench_switch(1 - me, seen);
	seen = bench_shm->slot[me].word;
}

static void module_close(void)
{
	bench_unregister(0);
}

static const struct way by_module = { .prepare = module_prepare,
				      .take = module_take,
				      .exchange = module_exchange,
				      .close = module_close };

/* ---- a latch of PostgreSQL: SIGURG, signalfd, epoll ---- */

static void wait_for(int fd)
{
	struct epoll_event e = { .events = EPOLLIN };

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) != 0)
		bench_die("epoll", -errno);
}

static void block_urgent(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static void latch_prepare(uint32_t me)
{
	sigset_t set;

	(void)me;
	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (signal_fd < 0)
		bench_die("signalfd", -errno);
	wait_for(signal_fd);
}

/* SetLatch() */
static void latch_give(uint32_t me)
{
	struct bench_slot *other = &bench_shm->slot[1 - me];

	other->stamp = fastwake_now();
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (other->word != 0)
		return;
	__atomic_store_n(&other->word, 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&other->sleeping, __ATOMIC_RELAXED))
		kill(pids[1 - me], SIGURG);
}

/* A signal that is there is taken; less than fits means that there is no more. */
static void latch_drain(void)
{
	char buf[1024];

	while (read(signal_fd, buf, sizeof(buf)) == sizeof(buf))
		;
}

/* WaitLatch(), ResetLatch() */
static void latch_take(uint32_t me)
{
	struct bench_slot *mine = &bench_shm->slot[me];
	struct epoll_event e;

	for (;;) {
		__atomic_store_n(&mine->sleeping, 1, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (__atomic_load_n(&mine->word, __ATOMIC_RELAXED))
			break;
		if (epoll_wait(epoll_fd, &e, 1, -1) == 1)
			latch_drain();
	}
	__atomic_store_n(&mine->sleeping, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&mine->word, 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void latch_close(void)
{
	close(epoll_fd);
	close(signal_fd);
}

static const struct way by_latch = { .open = block_urgent,
				     .prepare = latch_prepare,
				     .give = latch_give,
				     .take = latch_take,
				     .close = latch_close };

/* ---- eventfd, epoll ---- */

static void eventfds_open(void)
{
	ends[0][0] = bench_eventfd();
	ends[1][0] = bench_eventfd();
}

static void eventfd_prepare(uint32_t me)
{
	wait_for(ends[me][0]);
}

static void eventfd_give(uint32_t me)
{
	bench_shm->slot[1 - me].stamp = fastwake_now();
	bench_write_eventfd(ends[1 - me][0]);
}

static void eventfd_take(uint32_t me)
{
	struct epoll_event e;

	if (epoll_wait(epoll_fd, &e, 1, -1) != 1)
		bench_die("epoll_wait", -errno);
	bench_read_eventfd(ends[me][0]);
}

static void eventfds_close(void)
{
	close(epoll_fd);
	close(ends[0][0]);
	close(ends[1][0]);
}

static const struct way by_eventfd = { .open = eventfds_open,
				       .prepare = eventfd_prepare,
				       .give = eventfd_give,
				       .take = eventfd_take,
				       .close = eventfds_close };

/* ---- futex ---- */

static void futex_give(uint32_t me)
{
	struct bench_slot *other = &bench_shm->slot[1 - me];

	other->stamp = fastwake_now();
	__atomic_store_n(&other->futex, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &other->futex, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void futex_take(uint32_t me)
{
	uint32_t *mine = &bench_shm->slot[me].futex;

	while (!__atomic_exchange_n(mine, 0, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, mine, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static const struct way by_futex = { .give = futex_give, .take = futex_take };

/* ---- pipe ---- */

static void pipes_open(void)
{
	if (pipe(ends[0]) != 0 || pipe(ends[1]) != 0)
		bench_die("pipe", -errno);
}

static void pipe_give(uint32_t me)
{
	bench_shm->slot[1 - me].stamp = fastwake_now();
	if (write(ends[1 - me][1], "", 1) != 1)
		bench_die("write to a pipe", -errno);
}

static void pipe_take(uint32_t me)
{
	char c;

	if (read(ends[me][0], &c, 1) != 1)
		bench_die("read of a pipe", -errno);
}

static void pipes_close(void)
{
	int i;

	for (i = 0; i < 4; i++)
		close(ends[i / 2][i % 2]);
}

static const struct way by_pipe = { .open = pipes_open,
				    .give = pipe_give,
				    .take = pipe_take,
				    .close = pipes_close };

/* ---- the game ---- */

static void exchange(const struct way *way, uint32_t me)
{
	if (way->exchange != NULL) {
		way->exchange(me);
		return;
	}
	way->give(me);
	way->take(me);
}

/* There is one turn, and process 0 has it at first. */
static void second(const struct bench_run *run, uint32_t me)
{
	const struct way *way = run->data;

	if (way->prepare != NULL)
		way->prepare(me);
	bench_ready(me);
	way->take(me);
	for (;;) {
		bench_note(me);
		exchange(way, me);
	}
}

static void first(const struct bench_run *run)
{
	const struct way *way = run->data;
	pid_t child;

	if (way->open != NULL)
		way->open();
	pids[0] = getpid();
	child = pids[1] = bench_child(second, run, 1);
	if (way->prepare != NULL)
		way->prepare(0);
	bench_wait_ready(1);
	while (!bench_stopped()) {
		exchange(way, 0);
		bench_note(0);
	}
	bench_end(&child, 1);
	if (way->close != NULL)
		way->close();
}

#define RUN(name_, way_)                                          \
	{                                                         \
		.name = "handoff", .path = (name_), .run = first, \
		.data = &(way_)                                   \
	}

const struct bench_run bench_handoff[] = {
	RUN(BENCH_FASTWAKE, by_module), RUN("latch", by_latch),
	RUN("eventfd", by_eventfd),	RUN("futex", by_futex),
	RUN("pipe", by_pipe),		{ .name = NULL },
};
