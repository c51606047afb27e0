// SPDX-License-Identifier: PostgreSQL
/*
 * smc.c - what smc-tools, which Debian 12 does not have, would do here: sets the
 * kernel's SMC up for one host and one RDMA device, and shows whether sockets
 * of SMC really use it.
 *
 *	smc setup NETDEV... RDMA-DEVICE		which belong together; a common EID
 *	smc connections				how many connections of each kind
 */
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/smc.h>
#include <linux/smc_diag.h>
#include <linux/sock_diag.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PNETID "LAB"
/* 32 characters, spaces last. */
#define UEID "LAB-EID                         "
_Static_assert(sizeof(UEID) == SMC_MAX_EID_LEN + 1, "an EID's length");
#define AF_SMC_FAMILY 43
#define ESTABLISHED   1
#define HEADER	      sizeof(struct nlattr)

struct request {
	union {
		struct nlmsghdr header;
		char bytes[1024];
	};
};

static uint32_t aligned(size_t n)
{
	return (uint32_t)((n + NLA_ALIGNTO - 1) / NLA_ALIGNTO * NLA_ALIGNTO);
}

static void fail(const char *what, int error)
{
	fprintf(stderr, "smc: %s: %s\n", what, strerror(error));
	exit(1);
}

static int netlink(int protocol)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		fail("netlink", errno);
	return fd;
}

static void send_request(int fd, struct request *request)
{
	if (send(fd, request, request->header.nlmsg_len, 0) < 0)
		fail("netlink", errno);
}

static void begin(struct request *request, uint16_t family, uint8_t command)
{
	struct genlmsghdr *generic;

	memset(request, 0, sizeof(*request));
	request->header.nlmsg_len = NLMSG_LENGTH(sizeof(*generic));
	request->header.nlmsg_type = family;
	request->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	generic = NLMSG_DATA(&request->header);
	generic->cmd = command;
	generic->version = 1;
}

static void add(struct request *request, uint16_t type, const void *data,
		size_t n)
{
	struct nlattr *attribute =
		(void *)(request->bytes + aligned(request->header.nlmsg_len));

	attribute->nla_type = type;
	attribute->nla_len = (uint16_t)(HEADER + n);
	memcpy((char *)attribute + HEADER, data, n);
	request->header.nlmsg_len =
		aligned(request->header.nlmsg_len) + aligned(HEADER + n);
}

static void add_string(struct request *request, uint16_t type, const char *text)
{
	add(request, type, text, strlen(text) + 1);
}

/* Until the acknowledgement; returns its error, and the family's number if asked. */
static int answer(int fd, uint16_t *family)
{
	struct request reply;

	for (;;) {
		struct nlmsghdr *h = &reply.header;
		ssize_t n = recv(fd, &reply, sizeof(reply), 0);

		if (n < 0)
			fail("netlink", errno);
		for (; NLMSG_OK(h, (size_t)n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_type == NLMSG_ERROR)
				return -((struct nlmsgerr *)NLMSG_DATA(h))
						->error;
			if (family == NULL)
				continue;
			for (char *a = (char *)NLMSG_DATA(h) + GENL_HDRLEN;
			     a < (char *)h + h->nlmsg_len;
			     a += aligned(((struct nlattr *)a)->nla_len))
				if (((struct nlattr *)a)->nla_type ==
				    CTRL_ATTR_FAMILY_ID)
					memcpy(family, a + HEADER,
					       sizeof(*family));
		}
	}
}

static uint16_t family_of(int fd, const char *name)
{
	struct request request;
	uint16_t family = 0;
	int error;

	begin(&request, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	add_string(&request, CTRL_ATTR_FAMILY_NAME, name);
	send_request(fd, &request);
	error = answer(fd, &family);
	if (error != 0 || family == 0)
		fail(name, error);
	return family;
}

static void acknowledged(int fd, struct request *request, const char *what)
{
	int error;

	send_request(fd, request);
	error = answer(fd, NULL);
	if (error != 0)
		fail(what, error);
}

static void pnet_add(int fd, uint16_t family, const char *netdev,
		     const char *rdma)
{
	struct request request;
	uint8_t port = 1;

	begin(&request, family, SMC_PNETID_ADD);
	add_string(&request, SMC_PNETID_NAME, PNETID);
	if (netdev != NULL)
		add_string(&request, SMC_PNETID_ETHNAME, netdev);
	if (rdma != NULL) {
		add_string(&request, SMC_PNETID_IBNAME, rdma);
		add(&request, SMC_PNETID_IBPORT, &port, sizeof(port));
	}
	acknowledged(fd, &request, netdev != NULL ? netdev : rdma);
}

static void setup(char **names)
{
	int fd = netlink(NETLINK_GENERIC);
	uint16_t pnet = family_of(fd, SMCR_GENL_FAMILY_NAME);
	struct request request;

	for (; names[1] != NULL; names++)
		pnet_add(fd, pnet, names[0], NULL);
	pnet_add(fd, pnet, NULL, names[0]);
	begin(&request, family_of(fd, SMC_GENL_FAMILY_NAME),
	      SMC_NETLINK_ADD_UEID);
	add_string(&request, SMC_NLA_EID_TABLE_ENTRY, UEID);
	acknowledged(fd, &request, "EID");
}

static void count_message(const struct smc_diag_msg *message, size_t n,
			  int count[3])
{
	const struct nlattr *a = (const void *)(message + 1);
	const char *end = (const char *)message + n;

	if (message->diag_state == ESTABLISHED && message->diag_mode < 3)
		count[message->diag_mode]++;
	for (; (const char *)(a + 1) <= end && a->nla_len >= HEADER;
	     a = (const void *)((const char *)a + aligned(a->nla_len))) {
		const struct smc_diag_fallback *why =
			(const void *)((const char *)a + HEADER);

		if (a->nla_type == SMC_DIAG_FALLBACK)
			printf("fallback reason 0x%08x peer 0x%08x\n",
			       why->reason, why->peer_diagnosis);
	}
}

static void connections(void)
{
	struct {
		struct nlmsghdr header;
		struct smc_diag_req request;
	} ask = { { .nlmsg_len = sizeof(ask),
		    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		  { .diag_family = AF_SMC_FAMILY,
		    .diag_ext = 1 << (SMC_DIAG_FALLBACK - 1) } };
	int fd = netlink(NETLINK_SOCK_DIAG), count[3] = { 0, 0, 0 };
	char reply[16384] __attribute__((aligned(8)));

	if (send(fd, &ask, sizeof(ask), 0) < 0)
		fail("smc_diag", errno);
	for (;;) {
		struct nlmsghdr *h = (void *)reply;
		ssize_t n = recv(fd, reply, sizeof(reply), 0);

		if (n < 0)
			fail("smc_diag", errno);
		for (; NLMSG_OK(h, (size_t)n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_type == NLMSG_ERROR)
				fail("smc_diag",
				     -((struct nlmsgerr *)NLMSG_DATA(h))->error);
			if (h->nlmsg_type == NLMSG_DONE) {
				printf("SMC-R %d TCP %d\n",
				       count[SMC_DIAG_MODE_SMCR],
				       count[SMC_DIAG_MODE_FALLBACK_TCP]);
				return;
			}
			count_message(NLMSG_DATA(h),
				      h->nlmsg_len - NLMSG_HDRLEN, count);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc > 3 && strcmp(argv[1], "setup") == 0) {
		setup(argv + 2);
	} else if (argc == 2 && strcmp(argv[1], "connections") == 0) {
		connections();
	} else {
		fprintf(stderr,
			"usage: smc setup NETDEV... RDMA-DEVICE | smc connections\n");
		return 2;
	}
	return 0;
}
