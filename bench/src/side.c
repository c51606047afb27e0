// SPDX-License-Identifier: PostgreSQL
/*
 * side.c - queues, messages, and waits for them: see side.h.
 */
#include "side.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Where bench/stages looks: these stay functions. */
#define STAGE __attribute__((noinline, noclone))

#define RECEIVES 64
#define INLINE	 64
/* As ib_send_lat: of sends, one in so many asks for a completion. */
#define SIGNAL_EACH 32

struct address {
	uint32_t qp_num;
	union ibv_gid gid;
};

const char *device_name;
int gid_index = 1;
uint32_t size = 8;
bool by_event;

_Noreturn void die(const char *what)
{
	fprintf(stderr, "pingpong: %s: %s\n", what, strerror(errno));
	exit(1);
}

uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double switches(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_nvcsw + usage.ru_nivcsw);
}

void sleep_until(uint64_t when)
{
	struct timespec t = { .tv_sec = (time_t)(when / 1000000000u),
			      .tv_nsec = (long)(when % 1000000000u) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
		;
}

void side_option(int option, const char *value)
{
	switch (option) {
	case 'd':
		device_name = value;
		break;
	case 'g':
		gid_index = atoi(value);
		break;
	case 's':
		size = (uint32_t)strtoul(value, NULL, 10);
		break;
	default:
		exit(2);
	}
}

const char *side_way(int argc, char **argv)
{
	if (optind + 1 != argc || size == 0)
		exit(2);
	by_event = strcmp(argv[optind], "event") == 0;
	return argv[optind];
}

/* ------------------------------------------------------------------ */
/* Setting up                                                         */
/* ------------------------------------------------------------------ */

static struct ibv_context *open_device(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *context = NULL;
	int i;

	for (i = 0; list != NULL && list[i] != NULL && context == NULL; i++)
		if (device_name == NULL ||
		    strcmp(ibv_get_device_name(list[i]), device_name) == 0)
			context = ibv_open_device(list[i]);
	if (context == NULL)
		die("no RDMA device");
	ibv_free_device_list(list);
	return context;
}

static void make_queues(struct side *s, struct ibv_pd *pd)
{
	struct ibv_qp_init_attr attr = { .qp_type = IBV_QPT_RC };

	s->channel = ibv_create_comp_channel(s->context);
	if (s->channel == NULL)
		die("completion channel");
	s->receive_cq = ibv_create_cq(s->context, 2 * RECEIVES, NULL,
				      by_event ? s->channel : NULL, 0);
	s->send_cq = ibv_create_cq(s->context, 2 * SIGNAL_EACH, NULL, NULL, 0);
	if (s->receive_cq == NULL || s->send_cq == NULL)
		die("completion queue");
	attr.recv_cq = s->receive_cq;
	attr.send_cq = s->send_cq;
	attr.cap = (struct ibv_qp_cap){ .max_send_wr = 2 * SIGNAL_EACH,
					.max_recv_wr = RECEIVES,
					.max_send_sge = 1,
					.max_recv_sge = 1,
					.max_inline_data = INLINE };
	s->qp = ibv_create_qp(pd, &attr);
	if (s->qp == NULL)
		die("queue pair");
}

static void to_init(struct side *s)
{
	struct ibv_qp_attr a = { .qp_state = IBV_QPS_INIT, .port_num = 1 };

	if (ibv_modify_qp(s->qp, &a,
			  IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				  IBV_QP_ACCESS_FLAGS) != 0)
		die("INIT");
}

STAGE static void arm(struct side *s)
{
	if (ibv_req_notify_cq(s->receive_cq, 0) != 0)
		die("ibv_req_notify_cq");
}

STAGE static void post_receive(struct side *s)
{
	struct ibv_sge sge = { .addr = (uintptr_t)s->buffer + size,
			       .length = size,
			       .lkey = s->mr->lkey };
	struct ibv_recv_wr wr = { .sg_list = &sge, .num_sge = 1 }, *bad;

	if (ibv_post_recv(s->qp, &wr, &bad) != 0)
		die("ibv_post_recv");
}

void open_side(struct side *s)
{
	struct ibv_pd *pd;
	int i;

	memset(s, 0, sizeof(*s));
	s->context = open_device();
	pd = ibv_alloc_pd(s->context);
	s->buffer = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (pd == NULL || s->buffer == MAP_FAILED)
		die("memory");
	s->mr = ibv_reg_mr(pd, s->buffer, 2 * size, IBV_ACCESS_LOCAL_WRITE);
	if (s->mr == NULL)
		die("ibv_reg_mr");
	make_queues(s, pd);
	to_init(s);
	for (i = 0; i < RECEIVES; i++)
		post_receive(s);
}

static void connect_sides(struct side *s, const struct address *peer)
{
	struct ibv_qp_attr a = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_4096,
		.dest_qp_num = peer->qp_num,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 12,
		.ah_attr = { .is_global = 1,
			     .port_num = 1,
			     .grh = { .dgid = peer->gid,
				      .sgid_index = (uint8_t)gid_index,
				      .hop_limit = 64 } },
	};

	if (ibv_modify_qp(s->qp, &a,
			  IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
				  IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
				  IBV_QP_MAX_DEST_RD_ATOMIC |
				  IBV_QP_MIN_RNR_TIMER) != 0)
		die("RTR");
	a = (struct ibv_qp_attr){ .qp_state = IBV_QPS_RTS,
				  .timeout = 14,
				  .retry_cnt = 7,
				  .rnr_retry = 7,
				  .max_rd_atomic = 1 };
	if (ibv_modify_qp(s->qp, &a,
			  IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				  IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
				  IBV_QP_MAX_QP_RD_ATOMIC) != 0)
		die("RTS");
}

void exchange(struct side *s, int in, int out)
{
	struct address mine = { .qp_num = s->qp->qp_num }, peer;

	if (by_event)
		arm(s);
	if (ibv_query_gid(s->context, 1, gid_index, &mine.gid) != 0)
		die("GID");
	if (write(out, &mine, sizeof(mine)) != sizeof(mine) ||
	    read(in, &peer, sizeof(peer)) != sizeof(peer))
		die("pipe");
	connect_sides(s, &peer);
	/* Neither sends before both can receive. */
	if (write(out, "", 1) != 1 || read(in, &peer, 1) != 1)
		die("pipe");
}

/* ------------------------------------------------------------------ */
/* Messages                                                           */
/* ------------------------------------------------------------------ */

STAGE bool take_one(struct ibv_cq *cq)
{
	struct ibv_wc wc;
	int n = ibv_poll_cq(cq, 1, &wc);

	if (n < 0 || (n > 0 && wc.status != IBV_WC_SUCCESS)) {
		fprintf(stderr, "pingpong: completion: %s\n",
			n < 0 ? "ibv_poll_cq" : ibv_wc_status_str(wc.status));
		exit(1);
	}
	return n > 0;
}

STAGE static void sleep_for_event(struct side *s)
{
	struct ibv_cq *cq;
	void *context;

	if (ibv_get_cq_event(s->channel, &cq, &context) != 0)
		die("ibv_get_cq_event");
	if (++s->unseen == 100) {
		ibv_ack_cq_events(cq, s->unseen);
		s->unseen = 0;
	}
	arm(s);
}

void receive(struct side *s)
{
	while (!take_one(s->receive_cq)) {
		if (by_event)
			sleep_for_event(s);
		else
			sched_yield();
	}
	post_receive(s);
}

STAGE void send_one(struct side *s)
{
	bool signal = ++s->sent % SIGNAL_EACH == 0;
	struct ibv_sge sge = { .addr = (uintptr_t)s->buffer,
			       .length = size,
			       .lkey = s->mr->lkey };
	struct ibv_send_wr wr = { .sg_list = &sge,
				  .num_sge = 1,
				  .opcode = IBV_WR_SEND,
				  .send_flags =
					  (signal ? IBV_SEND_SIGNALED : 0u) |
					  (size <= INLINE ? IBV_SEND_INLINE
							  : 0u) },
			   *bad;

	if (signal && s->sent > SIGNAL_EACH)
		while (!take_one(s->send_cq))
			sched_yield();
	if (ibv_post_send(s->qp, &wr, &bad) != 0)
		die("ibv_post_send");
}

void echo(int in, int out, uint32_t n)
{
	struct side s;

	open_side(&s);
	exchange(&s, in, out);
	for (; n > 0; n--) {
		receive(&s);
		send_one(&s);
	}
	/* The last answer may still be on its way. */
	if (read(in, &s, 1) < 0)
		die("pipe");
}
