/* SPDX-License-Identifier: PostgreSQL */
/*
 * loop.h - a queue pair connected to itself: what it sends arrives at its own
 * completion queue.  For tests of waits; whatever fails ends the program.
 */
#ifndef LOOP_H
#define LOOP_H

#include <errno.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOP_DEPTH 64
#define LOOP_SIZE  64
#define LOOP_GID   1

struct loop_device {
	struct ibv_context *verbs;
	struct ibv_pd *pd;
	union ibv_gid gid;
};

struct loop {
	struct ibv_qp *qp;
	struct ibv_cq *sent; /* completions of sends; nobody waits for them */
	struct ibv_mr *mr;
	char memory[LOOP_SIZE];
};

static inline void loop_check(int good, const char *what)
{
	if (good)
		return;
	printf("Bail out!  %s: %s\n", what, strerror(errno));
	exit(1);
}

static inline void loop_open(struct loop_device *d)
{
	struct ibv_device **list = ibv_get_device_list(NULL);

	loop_check(list != NULL && list[0] != NULL, "no RDMA device");
	d->verbs = ibv_open_device(list[0]);
	loop_check(d->verbs != NULL, "ibv_open_device");
	ibv_free_device_list(list);
	d->pd = ibv_alloc_pd(d->verbs);
	loop_check(d->pd != NULL, "ibv_alloc_pd");
	loop_check(ibv_query_gid(d->verbs, 1, LOOP_GID, &d->gid) == 0,
		   "ibv_query_gid");
}

static inline void loop_to_init(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT,
				    .port_num = 1,
				    .qp_access_flags =
					    IBV_ACCESS_REMOTE_WRITE };

	loop_check(ibv_modify_qp(qp, &attr,
				 IBV_QP_STATE | IBV_QP_PKEY_INDEX |
					 IBV_QP_PORT | IBV_QP_ACCESS_FLAGS) ==
			   0,
		   "INIT");
}

static inline void loop_to_rtr(const struct loop_device *d, struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = qp->qp_num,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 1,
		.ah_attr = { .is_global = 1,
			     .port_num = 1,
			     .grh = { .dgid = d->gid,
				      .sgid_index = LOOP_GID,
				      .hop_limit = 1 } },
	};

	loop_check(ibv_modify_qp(qp, &attr,
				 IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
					 IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
					 IBV_QP_MAX_DEST_RD_ATOMIC |
					 IBV_QP_MIN_RNR_TIMER) == 0,
		   "RTR");
}

static inline void loop_to_rts(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RTS,
				    .timeout = 14,
				    .retry_cnt = 7,
				    .rnr_retry = 7,
				    .max_rd_atomic = 1 };

	loop_check(ibv_modify_qp(qp, &attr,
				 IBV_QP_STATE | IBV_QP_TIMEOUT |
					 IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
					 IBV_QP_SQ_PSN |
					 IBV_QP_MAX_QP_RD_ATOMIC) == 0,
		   "RTS");
}

static inline void loop_make_with(const struct loop_device *d, struct loop *l,
				  struct ibv_cq *received, struct ibv_cq *sent)
{
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.send_cq = sent,
		.recv_cq = received,
		.cap = { .max_send_wr = LOOP_DEPTH,
			 .max_recv_wr = LOOP_DEPTH,
			 .max_send_sge = 1,
			 .max_recv_sge = 1 },
		.sq_sig_all = 1,
	};

	l->sent = sent;
	l->qp = ibv_create_qp(d->pd, &init);
	loop_check(l->qp != NULL, "ibv_create_qp");
	l->mr = ibv_reg_mr(d->pd, l->memory, sizeof(l->memory),
			   IBV_ACCESS_LOCAL_WRITE);
	loop_check(l->mr != NULL, "ibv_reg_mr");
	loop_to_init(l->qp);
	loop_to_rtr(d, l->qp);
	loop_to_rts(l->qp);
}

static inline void loop_make(const struct loop_device *d, struct loop *l,
			     struct ibv_cq *received)
{
	struct ibv_cq *sent =
		ibv_create_cq(d->verbs, 2 * LOOP_DEPTH, NULL, NULL, 0);

	loop_check(sent != NULL, "ibv_create_cq");
	loop_make_with(d, l, received, sent);
}

static inline void loop_free(struct loop *l)
{
	loop_check(ibv_destroy_qp(l->qp) == 0, "ibv_destroy_qp");
	loop_check(ibv_dereg_mr(l->mr) == 0, "ibv_dereg_mr");
	loop_check(ibv_destroy_cq(l->sent) == 0, "ibv_destroy_cq");
}

static inline void loop_post_recv(struct loop *l)
{
	struct ibv_recv_wr wr = { .wr_id = 1 }, *bad;

	loop_check(ibv_post_recv(l->qp, &wr, &bad) == 0, "ibv_post_recv");
}

/* An empty message to itself. */
static inline void loop_post_send(struct loop *l, int solicited)
{
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_SEND,
		.send_flags = solicited ? IBV_SEND_SOLICITED : 0,
	};
	struct ibv_send_wr *bad;

	loop_check(ibv_post_send(l->qp, &wr, &bad) == 0, "ibv_post_send");
}

/* Completions of sends that have come: how many. */
static inline int loop_reap(struct loop *l)
{
	struct ibv_wc wc[16];
	int i, n = ibv_poll_cq(l->sent, 16, wc);

	for (i = 0; i < n; i++)
		if (wc[i].status != IBV_WC_SUCCESS) {
			printf("Bail out!  a send failed: %s\n",
			       ibv_wc_status_str(wc[i].status));
			exit(1);
		}
	return n;
}

/* Send one and see that it has arrived: its completion is in the queue. */
static inline void loop_complete(struct loop *l, int solicited)
{
	loop_post_recv(l);
	loop_post_send(l, solicited);
	while (loop_reap(l) == 0)
		;
}

#endif
