// SPDX-License-Identifier: PostgreSQL
/*
 * restrack.c - ask the kernel for its completion queues, over RDMA netlink ("rdma
 * resource show cq").
 *
 * By libnl, which libibverbs asks for devices in the same way.
 */
#include <errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <rdma/rdma_netlink.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "restrack.h"

struct list {
	uint32_t *cqns;
	unsigned int n;
	unsigned int room;
};

struct dump {
	uint32_t pid;
	struct list own;
	struct list others;
	int error;
};

static int add(struct list *list, uint32_t cqn)
{
	unsigned int room = list->room == 0 ? 64 : 2 * list->room;
	uint32_t *more;

	if (list->n == list->room) {
		more = realloc(list->cqns, room * sizeof(*more));
		if (more == NULL)
			return -ENOMEM;
		list->cqns = more;
		list->room = room;
	}
	list->cqns[list->n++] = cqn;
	return 0;
}

/* The kernel's own have no process. */
static int take_entry(struct nlattr *entry, struct dump *dump)
{
	struct nlattr *at[RDMA_NLDEV_ATTR_MAX];
	uint32_t cqn, pid;

	if (nla_parse_nested(at, RDMA_NLDEV_ATTR_MAX - 1, entry, NULL) < 0 ||
	    at[RDMA_NLDEV_ATTR_RES_CQN] == NULL ||
	    at[RDMA_NLDEV_ATTR_RES_PID] == NULL)
		return 0;
	cqn = nla_get_u32(at[RDMA_NLDEV_ATTR_RES_CQN]);
	pid = nla_get_u32(at[RDMA_NLDEV_ATTR_RES_PID]);
	return add(pid == dump->pid ? &dump->own : &dump->others, cqn);
}

static int take_message(struct nl_msg *message, void *arg)
{
	struct nlattr *at[RDMA_NLDEV_ATTR_MAX], *entry;
	struct dump *dump = arg;
	int left;

	if (nlmsg_parse(nlmsg_hdr(message), 0, at, RDMA_NLDEV_ATTR_MAX - 1,
			NULL) < 0 ||
	    at[RDMA_NLDEV_ATTR_RES_CQ] == NULL)
		return NL_OK;
	nla_for_each_nested(entry, at[RDMA_NLDEV_ATTR_RES_CQ],
			    left) if (dump->error == 0) dump->error =
		take_entry(entry, dump);
	return NL_OK;
}

static int ask(struct nl_sock *socket, uint32_t device)
{
	struct nl_msg *message = nlmsg_alloc_simple(
		RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, RDMA_NLDEV_CMD_RES_CQ_GET),
		NLM_F_REQUEST | NLM_F_ACK | NLM_F_DUMP);
	int rc;

	if (message == NULL)
		return -NLE_NOMEM;
	rc = nla_put_u32(message, RDMA_NLDEV_ATTR_DEV_INDEX, device);
	if (rc == 0)
		rc = nl_send_auto(socket, message);
	nlmsg_free(message);
	return rc;
}

/* libnl has error numbers of its own; which one does not matter to anybody. */
static int run(struct nl_sock *socket, uint32_t device, struct dump *dump)
{
	if (nl_connect(socket, NETLINK_RDMA) < 0 ||
	    nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, take_message,
				dump) < 0 ||
	    ask(socket, device) < 0 || nl_recvmsgs_default(socket) < 0)
		return -EIO;
	return dump->error;
}

/* The newest have the highest numbers. */
static int newest_first(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x < y) - (x > y);
}

static int join(struct list *own, const struct list *others)
{
	unsigned int i;
	int rc = 0;

	if (own->n != 0)
		qsort(own->cqns, own->n, sizeof(*own->cqns), newest_first);
	if (others->n != 0)
		qsort(others->cqns, others->n, sizeof(*others->cqns),
		      newest_first);
	for (i = 0; i < others->n && rc == 0; i++)
		rc = add(own, others->cqns[i]);
	return rc;
}

int fw_restrack_cqs(uint32_t device, uint32_t **cqns)
{
	struct dump dump = { .pid = (uint32_t)getpid() };
	struct nl_sock *socket = nl_socket_alloc();
	int rc;

	if (socket == NULL)
		return -ENOMEM;
	rc = run(socket, device, &dump);
	nl_socket_free(socket);
	if (rc == 0)
		rc = join(&dump.own, &dump.others);
	free(dump.others.cqns);
	if (rc != 0) {
		free(dump.own.cqns);
		return rc;
	}
	*cqns = dump.own.cqns;
	return (int)dump.own.n;
}
