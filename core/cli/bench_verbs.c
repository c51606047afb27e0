// SPDX-License-Identifier: PostgreSQL
/*
 * bench_verbs.c - two processes of one core send messages of 8 bytes to each other
 * over an RDMA device: half of a round trip, since which of the two ways needs a
 * switch is not the same in both.
 *
 * By the event channel of ibv_get_cq_event(3), as ibv_rc_pingpong -e and perftest do:
 * event, arm, poll; the same by a program that polls first, and arms only if it has
 * to sleep; and by an interrupt that ends a fastwake_wait().
 */
#include <errno.h>
#include <infiniband/verbs.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "../src/cq.h"

#define DEPTH	     64
#define SIGNAL_EVERY 32

/* A way to wait for a completion. */
struct verbs_way {
	void (*open)(void);
	void (*wait)(void);
};

/* This process's end. */
static struct {
	struct ibv_context *verbs;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_cq *sends;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	union ibv_gid gid;
	uint32_t port_gid;
	uint64_t message[2]; /* sent, received */
	unsigned int sent;
	struct fw_cq memory;
	struct fastwake_domain *domain;
	struct fastwake_waiter *waiter;
	struct fastwake_cq *attached;
} my;

static struct ibv_device *device_to_use(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);

	if (list == NULL || list[0] == NULL)
		bench_die("verbs", -ENODEV);
	return list[0]; /* which the list keeps */
}

/* The one of an IPv4 address if there is one: that of soft-RoCE is good. */
static void find_gid(void)
{
	union ibv_gid gid;
	uint32_t i;

	for (i = 0; ibv_query_gid(my.verbs, 1, (int)i, &gid) == 0 && i < 16;
	     i++) {
		if (i > 0 && (gid.raw[10] != 0xff || gid.raw[11] != 0xff))
			continue;
		my.gid = gid;
		my.port_gid = i;
	}
}

static void open_device(void)
{
	struct ibv_qp_init_attr init = { .cap = { .max_send_wr = DEPTH,
						  .max_recv_wr = DEPTH,
						  .max_send_sge = 1,
						  .max_recv_sge = 1,
						  .max_inline_data = 8 },
					 .qp_type = IBV_QPT_RC };

	my.verbs = ibv_open_device(device_to_use());
	if (my.verbs == NULL)
		bench_die("ibv_open_device", -errno);
	find_gid();
	my.pd = ibv_alloc_pd(my.verbs);
	my.channel = ibv_create_comp_channel(my.verbs);
	if (my.pd == NULL || my.channel == NULL)
		bench_die("verbs", -errno);
	my.cq = fw_cq_create(&my.memory, my.verbs, DEPTH, my.channel);
	my.sends = ibv_create_cq(my.verbs, DEPTH, NULL, NULL, 0);
	my.mr = ibv_reg_mr(my.pd, my.message, sizeof(my.message),
			   IBV_ACCESS_LOCAL_WRITE);
	init.send_cq = my.sends;
	init.recv_cq = my.cq;
	if (my.cq == NULL || my.sends == NULL || my.mr == NULL)
		bench_die("verbs", -errno);
	my.qp = ibv_create_qp(my.pd, &init);
	if (my.qp == NULL)
		bench_die("ibv_create_qp", -errno);
}

static void modify(struct ibv_qp_attr attr, int mask)
{
	int rc = ibv_modify_qp(my.qp, &attr, IBV_QP_STATE | mask);

	if (rc != 0)
		bench_die("ibv_modify_qp", -rc);
}

static void connect_to(uint32_t qp_num)
{
	modify((struct ibv_qp_attr){ .qp_state = IBV_QPS_INIT, .port_num = 1 },
	       IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
	modify(
		(struct ibv_qp_attr){
			.qp_state = IBV_QPS_RTR,
			.path_mtu = IBV_MTU_1024,
			.dest_qp_num = qp_num,
			.max_dest_rd_atomic = 1,
			.min_rnr_timer = 1,
			.ah_attr = { .is_global = 1,
				     .port_num = 1,
				     .grh = { .dgid = my.gid,
					      .sgid_index = (uint8_t)my.port_gid,
					      .hop_limit = 1 } } },
		IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
	modify((struct ibv_qp_attr){ .qp_state = IBV_QPS_RTS,
				     .timeout = 14,
				     .retry_cnt = 7,
				     .rnr_retry = 7,
				     .max_rd_atomic = 1 },
	       IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
		       IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

static void post_receive(void)
{
	struct ibv_sge sge = { .addr = (uintptr_t)&my.message[1],
			       .length = 8,
			       .lkey = my.mr->lkey };
	struct ibv_recv_wr wr = { .sg_list = &sge, .num_sge = 1 }, *bad;
	int rc = ibv_post_recv(my.qp, &wr, &bad);

	if (rc != 0)
		bench_die("ibv_post_recv", -rc);
}

/* Completions of sends are looked at now and then. */
static void clear_sends(void)
{
	struct ibv_wc wc;

	while (ibv_poll_cq(my.sends, 1, &wc) == 1)
		if (wc.status != IBV_WC_SUCCESS)
			bench_die(ibv_wc_status_str(wc.status), -EIO);
}

static void give(void)
{
	struct ibv_sge sge = { .addr = (uintptr_t)&my.message[0], .length = 8 };
	struct ibv_send_wr wr = { .sg_list = &sge,
				  .num_sge = 1,
				  .opcode = IBV_WR_SEND,
				  .send_flags = IBV_SEND_INLINE },
			   *bad;
	int rc;

	if (++my.sent % SIGNAL_EVERY == 0) {
		wr.send_flags |= IBV_SEND_SIGNALED;
		clear_sends();
	}
	rc = ibv_post_send(my.qp, &wr, &bad);
	if (rc != 0)
		bench_die("ibv_post_send", -rc);
}

static bool received(void)
{
	struct ibv_wc wc;
	int n = ibv_poll_cq(my.cq, 1, &wc);

	if (n < 0 || (n == 1 && wc.status != IBV_WC_SUCCESS))
		bench_die("completion", -EIO);
	return n == 1;
}

/* ---- by the event channel ---- */

static void arm_channel(void)
{
	int rc = ibv_req_notify_cq(my.cq, 0);

	if (rc != 0)
		bench_die("ibv_req_notify_cq", -rc);
}

static void take_event(void)
{
	struct ibv_cq *cq;
	void *context;

	if (ibv_get_cq_event(my.channel, &cq, &context) != 0)
		bench_die("ibv_get_cq_event", -errno);
	ibv_ack_cq_events(cq, 1);
}

static void wait_on_channel(void)
{
	do {
		take_event();
		arm_channel();
	} while (!received());
}

static const struct verbs_way by_channel = { .open = arm_channel,
					     .wait = wait_on_channel };

static void poll_then_channel(void)
{
	while (!received()) {
		arm_channel();
		if (received())
			return;
		take_event();
	}
}

static const struct verbs_way by_poll = { .wait = poll_then_channel };

/* ---- by an interrupt that ends a wait ---- */

static void open_domain(void)
{
	char reason[FASTWAKE_REASON_MAX] = "";

	if (fastwake_domain_create(&my.domain, NULL, 0, 1) != 0 ||
	    fastwake_domain_use_module(my.domain, reason) != 0 ||
	    fastwake_cq_attach(my.domain, my.cq, &my.attached, reason) != 0 ||
	    fastwake_waiter_attach(my.domain, 0, &my.waiter) != 0)
		bench_die(reason, -ENODEV);
}

static void wait_by_interrupt(void)
{
	struct fastwake_watch watch;
	int rc;

	fastwake_cq_watch(my.attached, 0, &watch);
	while (!received()) {
		rc = fastwake_wait(my.waiter, &watch, 1, 0, 0, NULL);
		if (rc < 0)
			bench_die("fastwake_wait", rc);
	}
}

static const struct verbs_way by_interrupt = { .open = open_domain,
					       .wait = wait_by_interrupt };

/* ---- the game ---- */

static int over; /* the parent sleeps on it: the core is for the two */

/* Where the other finds our queue pair: in the cache line of our slot. */
static void tell(uint32_t me, uint32_t qp_num)
{
	__atomic_store_n(&bench_shm->slot[me].futex, qp_num, __ATOMIC_RELEASE);
}

static uint32_t hear(uint32_t me)
{
	uint32_t qp_num;

	while ((qp_num = __atomic_load_n(&bench_shm->slot[1 - me].futex,
					 __ATOMIC_ACQUIRE)) == 0)
		sched_yield();
	return qp_num;
}

static void begin(const struct verbs_way *way, uint32_t me)
{
	open_device();
	tell(me, my.qp->qp_num);
	connect_to(hear(me));
	post_receive();
	if (way->open != NULL)
		way->open();
	bench_ready(me);
	bench_wait_ready(1 - me);
}

static void take(const struct verbs_way *way)
{
	way->wait();
	post_receive();
}

/* The time of the event is put halfway. */
static void note(uint64_t start)
{
	bench_shm->slot[0].stamp = start + (fastwake_now() - start) / 2;
	bench_note(0);
}

static void first(const struct verbs_way *way)
{
	uint64_t start;

	while (!bench_stopped()) {
		start = fastwake_now();
		give();
		take(way);
		note(start);
	}
}

static void second(const struct verbs_way *way)
{
	for (;;) {
		take(way);
		give();
	}
}

static void play(const struct bench_run *run, uint32_t me)
{
	const struct verbs_way *way = run->data;

	begin(way, me);
	if (me == 1)
		second(way);
	first(way);
	bench_write_eventfd(over);
	pause();
}

/* Both are children: what they open goes with them. */
static void run_two(const struct bench_run *run)
{
	pid_t children[2];

	over = bench_eventfd();
	children[0] = bench_child(play, run, 0);
	children[1] = bench_child(play, run, 1);
	bench_read_eventfd(over);
	bench_end(children, 2);
	close(over);
}

#define RUN(name_, way_)                                          \
	{                                                         \
		.name = "verbs", .path = (name_), .run = run_two, \
		.data = &(way_)                                   \
	}

const struct bench_run bench_verbs[] = {
	RUN(BENCH_FASTWAKE, by_interrupt),
	RUN("channel", by_channel),
	RUN("poll", by_poll),
	{ .name = NULL },
};
