// SPDX-License-Identifier: PostgreSQL
/*
 * cq_attach.c - completion queues whose interrupt ends waits.
 *
 * The module finds a queue by the number that the kernel tracks it by, which verbs
 * does not tell.  So those that are there are tried, the likeliest first: the
 * module says whether one is ours.
 */
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <string.h>

#include "channel_internal.h"
#include "module.h"
#include "restrack.h"

static int try_all(struct fw_module *module, uint32_t device,
		   const struct ibv_cq *cq, struct fastwake_cq *attached)
{
	uint32_t *cqns = NULL;
	int i, n = fw_restrack_cqs(device, &cqns), rc = -ENOENT;

	if (n < 0)
		return n;
	for (i = 0; i < n; i++) {
		rc = fw_module_attach(module, device, cqns[i], cq, attached);
		if (rc != -EPERM && rc != -ENOENT)
			break;
	}
	free(cqns);
	return rc == -EPERM ? -ENOENT : rc;
}

static int explain(int rc, char *reason)
{
	switch (rc) {
	case -ENODEV:
	case -ENOPKG:
	case -ENOTTY:
		return fw_reason(
			reason, -ENODEV,
			"module fastwake_ib, which knows completion queues, is not loaded or does not know the device: modprobe fastwake_ib");
	case -ENOENT:
		return fw_reason(
			reason, rc,
			"the kernel does not show the completion queue (rdma resource show cq)");
	case -EBUSY:
		return fw_reason(reason, rc,
				 "the completion queue is attached already");
	case -ENOSPC:
		return fw_reason(
			reason, rc,
			"too many completion queues are attached: raise parameter max_regions of module fastwake");
	default:
		return fw_reason(reason, rc,
				 "could not attach the completion queue: %s",
				 strerror(-rc));
	}
}

static int attach(struct fastwake_domain *domain, const struct ibv_cq *cq,
		  struct fastwake_cq *attached)
{
	int device = ibv_get_device_index(cq->context->device);

	if (device < 0)
		return -ENOENT;
	attached->domain = domain;
	return try_all(domain->module, (uint32_t)device, cq, attached);
}

int fastwake_cq_attach(struct fastwake_domain *domain, struct ibv_cq *cq,
		       struct fastwake_cq **attached, char *reason)
{
	struct fastwake_cq *a;
	int rc;

	if (domain->module == NULL || !domain->module->knows_cqs)
		return fw_reason(
			reason, -ENODEV,
			"the domain has no kernel module that knows completion queues");
	a = calloc(1, sizeof(*a));
	if (a == NULL)
		return fw_reason(reason, -ENOMEM, "out of memory");
	rc = attach(domain, cq, a);
	if (rc != 0) {
		free(a);
		return explain(rc, reason);
	}
	*attached = a;
	return 0;
}

void fastwake_cq_detach(struct fastwake_cq *attached)
{
	if (attached == NULL)
		return;
	fw_module_detach(attached->domain->module, attached->id);
	free(attached);
}

int fastwake_cq_arms(const struct fastwake_cq *attached)
{
	return attached->arms;
}

void fastwake_cq_watch(struct fastwake_cq *attached, int solicited,
		       struct fastwake_watch *watch)
{
	*watch = (struct fastwake_watch){
		.word = attached,
		.operand = solicited ? FW_CQ_SOLICITED : 0,
		.condition = FASTWAKE_CQ,
	};
}
