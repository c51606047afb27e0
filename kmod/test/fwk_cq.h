/* SPDX-License-Identifier: PostgreSQL */
/*
 * fwk_cq.h - completion queues attached to the module, for its tests.
 */
#ifndef FWK_CQ_H
#define FWK_CQ_H

#include <stdbool.h>

#include "fwk.h"
#include "verbs_loop.h"

#define FWK_CQN_MAX 1000000u

static inline int fwk_attach_raw(int fd, int device, uint32_t cqn, int cmd_fd,
				 uint32_t handle,
				 struct fastwake_ioc_attach_cq *out)
{
	*out = (struct fastwake_ioc_attach_cq){ .size = sizeof(*out),
						.device = (uint32_t)device,
						.cqn = cqn,
						.cmd_fd = cmd_fd,
						.handle = handle };
	return fwk_ioctl(fd, FASTWAKE_IOC_ATTACH_CQ, out);
}

static inline int fwk_detach(int fd, uint32_t cq)
{
	struct fastwake_ioc_detach_cq arg = { .size = sizeof(arg), .cq = cq };

	return fwk_ioctl(fd, FASTWAKE_IOC_DETACH_CQ, &arg);
}

/* Numbers of queues only grow, so the search goes on where the last one ended. */
static inline int fwk_find_cqn(int fd, struct ibv_cq *cq, uint32_t *cqn,
			       struct fastwake_ioc_attach_cq *out)
{
	int device = ibv_get_device_index(cq->context->device), rc = -ENOENT;
	uint32_t end = *cqn + 100000;

	for (; *cqn < end; ++*cqn) {
		rc = fwk_attach_raw(fd, device, *cqn, cq->context->cmd_fd,
				    cq->handle, out);
		if (rc != -ENOENT && rc != -EPERM)
			break;
	}
	return rc;
}

/* Returns its number in the domain, or -errno. */
static inline int fwk_attach(int fd, struct ibv_cq *cq)
{
	struct fastwake_ioc_attach_cq out;
	uint32_t cqn = 0;
	int rc = fwk_find_cqn(fd, cq, &cqn, &out);

	return rc < 0 ? rc : (int)out.out_cq;
}

static inline struct fastwake_ioc_watch fwk_watch_cq(int cq, uint64_t how)
{
	struct fastwake_ioc_watch watch = { .region = (uint32_t)cq,
					    .condition = FASTWAKE_COND_CQ,
					    .operand = how };

	return watch;
}

static inline int fwk_sleep(int fd, uint32_t waiter,
			    const struct fastwake_ioc_watch *watches,
			    uint32_t n, uint64_t budget_ns)
{
	struct fastwake_ioc_wait arg = { .size = sizeof(arg),
					 .flags = FASTWAKE_WAIT_SLEEP,
					 .waiter = waiter,
					 .nr_watches = n,
					 .watches = (uintptr_t)watches,
					 .budget_ns = budget_ns,
					 .wake = FASTWAKE_WAITER_NONE };

	return fwk_ioctl(fd, FASTWAKE_IOC_WAIT, &arg);
}

#endif /* FWK_CQ_H */
