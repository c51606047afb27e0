// SPDX-License-Identifier: PostgreSQL
/*
 * device.c - contexts: where a program's inline functions find ours.
 *
 * ibv_req_notify_cq(), ibv_create_cq_ex() and ibv_modify_cq() are calls through
 * tables in the context.  They are replaced where there is an adapter for the
 * device's queues; of any other device nothing is touched.
 */
#include <errno.h>

#include "cq.h"
#include "queue.h"
#include "verbs.h"

static void hook_extended(struct fv_context *context)
{
	struct verbs_context *extended =
		verbs_get_ctx_op(context->verbs, create_cq_ex);

	if (extended != NULL) {
		context->create_cq_ex = extended->create_cq_ex;
		extended->create_cq_ex = fv_create_cq_ex;
	}
	extended = verbs_get_ctx_op(context->verbs, modify_cq);
	if (extended != NULL) {
		context->modify_cq = extended->modify_cq;
		extended->modify_cq = fv_modify_cq;
	}
}

static struct ibv_context *opened(struct ibv_context *verbs)
{
	struct fv_context *context;
	int saved = errno;

	fv_stats.used = fv_stats.used || verbs != NULL;
	if (verbs == NULL || fv_config.mode == FV_OFF)
		return verbs;
	if (!fw_rxe_device(verbs->device)) {
		fv_log("%s: no adapter for its completion queues: untouched",
		       verbs->device->name);
		errno = saved;
		return verbs;
	}
	context = fv_context_add(verbs);
	if (context != NULL) {
		context->req_notify_cq = verbs->ops.req_notify_cq;
		verbs->ops.req_notify_cq = fv_req_notify_cq;
		hook_extended(context);
	}
	errno = saved;
	return verbs;
}

FV_PUBLIC struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	return opened(fv_real()->open_device(device));
}

FV_PUBLIC struct ibv_context *ibv_import_device(int cmd_fd)
{
	return opened(fv_real()->import_device(cmd_fd));
}

FV_PUBLIC int ibv_close_device(struct ibv_context *verbs)
{
	struct fv_context *context = fv_context_find(verbs);

	if (context != NULL)
		fv_context_remove(context);
	return fv_real()->close_device(verbs);
}
