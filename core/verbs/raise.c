// SPDX-License-Identifier: PostgreSQL
/*
 * raise.c - make a channel's descriptor readable.
 *
 * A request that was kept back has fired, and its program does not wait where we see it:
 * perhaps it sleeps in a way that we do not, and arming tells the kernel of the next
 * completion only.  So each channel gets, once that is found, a queue of ours, and a
 * queue pair in the error state, to which whatever is sent is completed at once:
 * the kernel's event of that wakes who waits for the descriptor, and is a stray of the
 * program's event (event.c).
 */
#include <errno.h>
#include <string.h>

#include "verbs.h"

#define DEPTH 16

static int send_one(const struct fv_raiser *raiser)
{
	struct ibv_send_wr wr = { .opcode = IBV_WR_SEND,
				  .send_flags = IBV_SEND_SIGNALED };
	struct ibv_send_wr *bad;
	struct ibv_wc wc;

	while (ibv_poll_cq(raiser->cq, 1, &wc) > 0)
		;
	if (ibv_req_notify_cq(raiser->cq, 0) != 0)
		return EIO;
	return ibv_post_send(raiser->qp, &wr, &bad);
}

/* Only one that has been initialized may fail. */
static bool fail_pair(struct ibv_qp *qp)
{
	struct ibv_qp_attr init = { .qp_state = IBV_QPS_INIT, .port_num = 1 };
	struct ibv_qp_attr error = { .qp_state = IBV_QPS_ERR };

	return fv_real()->modify_qp(qp, &init,
				    IBV_QP_STATE | IBV_QP_PKEY_INDEX |
					    IBV_QP_PORT |
					    IBV_QP_ACCESS_FLAGS) == 0 &&
	       fv_real()->modify_qp(qp, &error, IBV_QP_STATE) == 0;
}

static struct ibv_qp *failed_pair(const struct fv_raiser *raiser)
{
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.send_cq = raiser->cq,
		.recv_cq = raiser->cq,
		.cap = { .max_send_wr = DEPTH,
			 .max_send_sge = 1,
			 .max_recv_wr = 1,
			 .max_recv_sge = 1 },
	};
	struct ibv_qp *qp = fv_real()->create_qp(raiser->pd, &init);

	if (qp != NULL && !fail_pair(qp)) {
		(void)fv_real()->destroy_qp(qp);
		qp = NULL;
	}
	return qp;
}

static bool make(struct fv_raiser *raiser, struct ibv_comp_channel *channel)
{
	struct ibv_context *verbs = channel->context;

	raiser->pd = fv_real()->alloc_pd(verbs);
	if (raiser->pd == NULL)
		return false;
	raiser->cq = fv_real()->create_cq(verbs, DEPTH, NULL, channel, 0);
	if (raiser->cq != NULL)
		raiser->qp = failed_pair(raiser);
	return raiser->qp != NULL;
}

void fv_raiser_free(struct fv_raiser *raiser)
{
	if (raiser->qp != NULL)
		(void)fv_real()->destroy_qp(raiser->qp);
	if (raiser->cq != NULL)
		(void)fv_real()->destroy_cq(raiser->cq);
	if (raiser->pd != NULL)
		(void)fv_real()->dealloc_pd(raiser->pd);
	*raiser = (struct fv_raiser){ .qp = NULL };
}

bool fv_raise(struct fv_channel *channel)
{
	struct fv_raiser *raiser = &channel->raiser;

	if (raiser->qp == NULL && !make(raiser, channel->verbs)) {
		fv_log("could not make what wakes waits that are not seen: %s",
		       strerror(errno));
		fv_raiser_free(raiser);
		channel->always_stock = true;
		return false;
	}
	return send_one(raiser) == 0;
}
