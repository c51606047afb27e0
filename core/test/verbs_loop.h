/* SPDX-License-Identifier: PostgreSQL */
/*
 * verbs_loop.h - a completion queue that gets completions when the test says so:
 * two connected RC queue pairs of one process, messages without content.
 */
#ifndef VERBS_LOOP_H
#define VERBS_LOOP_H

#include <infiniband/verbs.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define LOOP_DEPTH 64

struct loop {
	struct ibv_comp_channel *channel; /* non-blocking */
	struct ibv_cq *cq;		  /* of the receiver */
	struct ibv_cq *sends;
	struct ibv_qp *sender;
	struct ibv_qp *receiver;
};

/* The first device, opened; or NULL. */
static inline struct ibv_context *loop_open_device(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *verbs = NULL;

	if (list == NULL)
		return NULL;
	if (list[0] != NULL)
		verbs = ibv_open_device(list[0]);
	ibv_free_device_list(list);
	return verbs;
}

static inline struct ibv_qp *loop_qp(struct ibv_pd *pd, struct ibv_cq *cq)
{
	struct ibv_qp_init_attr init = { .send_cq = cq,
					 .recv_cq = cq,
					 .cap = { .max_send_wr = LOOP_DEPTH,
						  .max_recv_wr = LOOP_DEPTH,
						  .max_send_sge = 1,
						  .max_recv_sge = 1 },
					 .qp_type = IBV_QPT_RC };

	return ibv_create_qp(pd, &init);
}

static inline int loop_to_rtr(struct ibv_qp *qp, uint32_t dest)
{
	struct ibv_qp_attr init = { .qp_state = IBV_QPS_INIT, .port_num = 1 };
	struct ibv_qp_attr rtr = { .qp_state = IBV_QPS_RTR,
				   .path_mtu = IBV_MTU_1024,
				   .dest_qp_num = dest,
				   .max_dest_rd_atomic = 1,
				   .min_rnr_timer = 1,
				   .ah_attr = { .is_global = 1,
						.port_num = 1,
						.grh = { .sgid_index = 1,
							 .hop_limit = 1 } } };

	if (ibv_query_gid(qp->context, 1, 1, &rtr.ah_attr.grh.dgid) != 0 ||
	    ibv_modify_qp(qp, &init,
			  IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				  IBV_QP_ACCESS_FLAGS) != 0)
		return -1;
	return ibv_modify_qp(qp, &rtr,
			     IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
				     IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
				     IBV_QP_MAX_DEST_RD_ATOMIC |
				     IBV_QP_MIN_RNR_TIMER);
}

static inline int loop_to_rts(struct ibv_qp *qp)
{
	struct ibv_qp_attr rts = { .qp_state = IBV_QPS_RTS,
				   .timeout = 14,
				   .retry_cnt = 7,
				   .rnr_retry = 7,
				   .max_rd_atomic = 1 };

	return ibv_modify_qp(qp, &rts,
			     IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				     IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
				     IBV_QP_MAX_QP_RD_ATOMIC);
}

static inline int loop_connect(struct ibv_qp *a, struct ibv_qp *b)
{
	if (loop_to_rtr(a, b->qp_num) != 0 || loop_to_rtr(b, a->qp_num) != 0)
		return -1;
	return loop_to_rts(a) != 0 || loop_to_rts(b) != 0 ? -1 : 0;
}

static inline int loop_make(struct loop *l, struct ibv_pd *pd)
{
	struct ibv_context *verbs = pd->context;

	l->channel = ibv_create_comp_channel(verbs);
	if (l->channel == NULL)
		return -1;
	fcntl(l->channel->fd, F_SETFL, O_NONBLOCK);
	l->cq = ibv_create_cq(verbs, LOOP_DEPTH, l, l->channel, 0);
	l->sends = ibv_create_cq(verbs, LOOP_DEPTH, NULL, NULL, 0);
	if (l->cq == NULL || l->sends == NULL)
		return -1;
	l->sender = loop_qp(pd, l->sends);
	l->receiver = loop_qp(pd, l->cq);
	if (l->sender == NULL || l->receiver == NULL)
		return -1;
	return loop_connect(l->sender, l->receiver);
}

/* One completion for the receiver; 0 if all went well. */
static inline int loop_send(struct loop *l, int solicited)
{
	struct ibv_recv_wr receive = { .wr_id = 1 }, *bad_receive;
	struct ibv_send_wr send = { .opcode = IBV_WR_SEND,
				    .send_flags =
					    IBV_SEND_SIGNALED |
					    (solicited ? IBV_SEND_SOLICITED
						       : 0) },
			   *bad_send;
	struct ibv_wc wc;
	int n;

	if (ibv_post_recv(l->receiver, &receive, &bad_receive) != 0 ||
	    ibv_post_send(l->sender, &send, &bad_send) != 0)
		return -1;
	do {
		n = ibv_poll_cq(l->sends, 1, &wc);
	} while (n == 0);
	return n == 1 && wc.status == IBV_WC_SUCCESS ? 0 : -1;
}

/* Take all completions; returns how many. */
static inline int loop_drain(struct loop *l)
{
	struct ibv_wc wc;
	int n = 0;

	while (ibv_poll_cq(l->cq, 1, &wc) == 1)
		n++;
	return n;
}

/* Take all events of the channel; returns how many. */
static inline int loop_events(struct loop *l)
{
	struct ibv_cq *cq;
	void *context;
	int n = 0;

	while (ibv_get_cq_event(l->channel, &cq, &context) == 0) {
		ibv_ack_cq_events(cq, 1);
		n++;
	}
	return n;
}

/* Without the queue, whose end may be what is tested. */
static inline void loop_free_qps(struct loop *l)
{
	ibv_destroy_qp(l->sender);
	ibv_destroy_qp(l->receiver);
	ibv_destroy_cq(l->sends);
}

static inline void loop_free(struct loop *l)
{
	loop_free_qps(l);
	ibv_destroy_cq(l->cq);
	ibv_destroy_comp_channel(l->channel);
}

#endif
