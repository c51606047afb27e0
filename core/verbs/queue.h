/* SPDX-License-Identifier: PostgreSQL */
/*
 * queue.h - extended forms of calls for queues, as a context's table has them.
 */
#ifndef FASTWAKE_VERBS_QUEUE_H
#define FASTWAKE_VERBS_QUEUE_H

#include "verbs.h"

struct ibv_cq_ex *fv_create_cq_ex(struct ibv_context *verbs,
				  struct ibv_cq_init_attr_ex *attr);
int fv_modify_cq(struct ibv_cq *cq, struct ibv_modify_cq_attr *attr);

#endif
