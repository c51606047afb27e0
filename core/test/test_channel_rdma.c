// SPDX-License-Identifier: PostgreSQL
/*
 * test_channel_rdma.c - channels over RDMA, on whatever device there is.
 *
 * Without one everything is skipped.  What changes the network or needs
 * privileges runs in the lab only (FASTWAKE_LAB=1).
 */
#include <arpa/inet.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "channel_cases.h"
#include "rdma.h"

#define RDMA FASTWAKE_TRANSPORT_RDMA
#define BOTH (FASTWAKE_TRANSPORT_RDMA | FASTWAKE_TRANSPORT_SHM)

/* ------------------------------------------------------------------ */
/* A hostile peer                                                     */
/* ------------------------------------------------------------------ */

/* Post a write of LENGTH bytes with this immediate, past all accounting. */
static int forge_write(struct fastwake_channel *ch, enum ibv_wr_opcode opcode,
		       uint64_t address, uint32_t length, uint32_t imm)
{
	struct fw_rdma *r = ch->rdma;
	struct ibv_sge sge = { .addr = (uintptr_t)r->tx_memory,
			       .length = length,
			       .lkey = r->tx_mr->lkey };
	struct ibv_send_wr wr = r->write, *bad;

	wr.opcode = opcode;
	wr.imm_data = htonl(imm);
	wr.send_flags = 0;
	wr.sg_list = &sge;
	wr.num_sge = length > 0;
	wr.wr.rdma.remote_addr = address;
	return ibv_post_send(r->qp, &wr, &bad);
}

struct lie {
	const char *what;
	enum ibv_wr_opcode opcode;
	uint32_t imm;
};

#define CREDIT(frames, units) (FW_IMM_CREDIT | (frames) << 19 | (units))

static const struct lie lies[] = {
	{ "no data", IBV_WR_RDMA_WRITE_WITH_IMM, 0 },
	{ "more than the ring", IBV_WR_RDMA_WRITE_WITH_IMM, RING / 64 },
	{ "far more", IBV_WR_RDMA_WRITE_WITH_IMM, 0x7fffffff },
	{ "nothing but old memory", IBV_WR_RDMA_WRITE_WITH_IMM, 1 },
	{ "credit never used", IBV_WR_RDMA_WRITE_WITH_IMM, CREDIT(0u, 1000u) },
	{ "all credit", IBV_WR_RDMA_WRITE_WITH_IMM, UINT32_MAX },
	{ "frames never sent", IBV_WR_RDMA_WRITE_WITH_IMM, CREDIT(4000u, 0u) },
	{ "a send", IBV_WR_SEND, 0 },
	{ "a send with credit", IBV_WR_SEND_WITH_IMM, CREDIT(1u, 1u) },
};

static const char *hostile(const struct lie *lie)
{
	struct fastwake_channel_options options = plain(RDMA);
	struct pair pair;
	uint32_t stream;
	int rc;
	void *p;

	snprintf(last_reason, sizeof(last_reason), "%s", lie->what);
	CHECK(pair_open(&pair, &options, &options));
	for (int i = 0; i < 3; i++) {
		CHECK_IS(send_all(pair.connecting, NULL, 0, sample, 100), 0);
		CHECK_IS(send_all(pair.listening, NULL, 0, sample, 100), 0);
	}
	CHECK_IS(forge_write(pair.connecting, lie->opcode,
			     pair.connecting->rdma->peer_address, 0, lie->imm),
		 0);
	for (int i = 0; i < 3; i++)
		CHECK_IS(take(pair.listening, &stream, &p), 100);
	rc = take_error(pair.listening);
	CHECK_IS(rc, -EPROTO);
	pair_close(&pair);
	return NULL;
}

static const char *case_hostile(uint32_t transport)
{
	(void)transport;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		const char *failed = hostile(&lies[i]);

		if (failed != NULL)
			return failed;
	}
	return NULL;
}

/* Only the ring can be written to; the writer breaks his own connection. */
static const char *outside(int64_t shift)
{
	struct fastwake_channel_options options = plain(RDMA);
	struct pair pair;
	int rc;

	CHECK(pair_open(&pair, &options, &options));
	CHECK_IS(forge_write(pair.connecting, IBV_WR_RDMA_WRITE,
			     pair.connecting->rdma->peer_address +
				     (uint64_t)shift,
			     64, 0),
		 0);
	rc = take_error(pair.connecting);
	snprintf(last_reason, sizeof(last_reason), "%s",
		 fastwake_channel_reason(pair.connecting));
	CHECK_IS(rc, -ECONNRESET);
	pair_close(&pair);
	return NULL;
}

static const char *case_outside(uint32_t transport)
{
	static const int64_t shifts[] = { -64, -1, RING - 63, RING, 1 << 30 };

	(void)transport;
	for (size_t i = 0; i < sizeof(shifts) / sizeof(shifts[0]); i++) {
		const char *failed = outside(shifts[i]);

		if (failed != NULL)
			return failed;
	}
	return NULL;
}

/* More messages than there are receives, from a peer that ignores credit. */
static const char *case_overrun(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct pair pair;
	unsigned int posted = 0;

	CHECK(pair_open(&pair, &options, &options));
	while (posted < 2 * FW_RECEIVES &&
	       forge_write(pair.connecting, IBV_WR_RDMA_WRITE_WITH_IMM,
			   pair.connecting->rdma->peer_address, 0,
			   CREDIT(0u, 1u)) == 0)
		posted++;
	CHECK(posted >= FW_SENDS);
	CHECK_IS(take_error(pair.listening), -EPROTO);
	pair_close(&pair);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Accounting                                                         */
/* ------------------------------------------------------------------ */

/*
 * One side sends short messages and never polls for what comes back until it
 * must, the other one returns credit: the receives must suffice for both.
 */
static const char *case_frames_run_out(uint32_t transport)
{
	struct fastwake_channel_options options =
		pair_options(transport, 1u << 20, 1000);
	struct pair pair;

	CHECK(pair_open(&pair, &options, &options));
	for (int round = 0; round < 5; round++) {
		int64_t sent = fill(pair.connecting, 10);
		const char *failed;

		CHECK(sent >= (int64_t)FW_DEPTH / 2 &&
		      sent <= (int64_t)FW_DEPTH);
		failed = drain(pair.listening, sent, 10);
		if (failed != NULL)
			return failed;
		CHECK((wait_channel(pair.connecting, FASTWAKE_WRITABLE, BY_FDS,
				    NULL, 5) &
		       FASTWAKE_WRITABLE) != 0);
	}
	pair_close(&pair);
	return NULL;
}

static const char *case_query(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_channel_info a = { .size = sizeof(a) };
	struct fastwake_channel_info b = { .size = sizeof(b) };
	struct fastwake_watch watches[4];
	struct pair pair;

	CHECK(pair_open(&pair, &options, &options));
	CHECK_IS(fastwake_channel_query(pair.listening, &a), 0);
	CHECK_IS(fastwake_channel_query(pair.connecting, &b), 0);
	CHECK(a.qp_num != 0 && b.qp_num != 0 && a.qp_num != b.qp_num);
	CHECK(strcmp(a.local, b.peer) == 0 && a.local[0] != '\0');
	CHECK(strcmp(a.peer, b.local) == 0 && a.peer[0] != '\0');
	CHECK(a.device[0] != '\0');
	tap_diag("device %s, QP %u and %u, %s, inline %u", a.device, a.qp_num,
		 b.qp_num, a.local, pair.connecting->rdma->inline_max);
	CHECK_IS(fastwake_channel_watches(pair.connecting, watches),
		 -EOPNOTSUPP);
	fastwake_channel_close(pair.connecting);
	CHECK_IS(take_error(pair.listening), -EPIPE);
	fastwake_channel_close(pair.listening);
	return NULL;
}

/* With the module completions are waited for in memory. */
static const char *case_pinned(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_waiter *waiter = make_waiter();
	struct fastwake_domain *domain = waiter->domain;
	struct fastwake_watch watches[4];
	struct pair pair;

	CHECK(pair_open(&pair, &options, &options));
	CHECK_IS(fastwake_channel_pin(pair.connecting, domain), 0);
	CHECK_IS(fastwake_channel_pin(pair.connecting, domain), -EBUSY);
	/* The word, and the interrupt. */
	CHECK_IS(fastwake_channel_watches(pair.connecting, watches), 2);
	CHECK_IS(fastwake_wait(waiter, watches, 1, 20000, 0, NULL), -ETIME);
	CHECK_IS(fastwake_channel_send(pair.listening, 1, sample, 100), 100);
	CHECK_IS(fastwake_wait(waiter, watches, 1, 1000000, 0, NULL), 0);
	CHECK((wait_channel(pair.connecting, FASTWAKE_READABLE, BY_WATCHES,
			    waiter, 5) &
	       FASTWAKE_READABLE) != 0);
	pair_close(&pair);
	free_waiter(waiter);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Choice of transport                                                */
/* ------------------------------------------------------------------ */

static uint32_t transport_of(struct fastwake_channel *ch)
{
	struct fastwake_channel_info info = { .size = sizeof(info) };

	return fastwake_channel_query(ch, &info) == 0 ? info.transport : 0;
}

/* Put another RDMA address into an endpoint text. */
static void redirect(char *text, const char *address)
{
	char rest[FASTWAKE_ENDPOINT_MAX] = "";
	char *at = strstr(text, "rdma=") + strlen("rdma=");

	if (strchr(at, ' ') != NULL)
		strcpy(rest, strchr(at, ' '));
	strcpy(at, address);
	strcat(at, rest);
}

static const char *prefers(const char *address, uint32_t wanted)
{
	struct fastwake_channel_options options = plain(BOTH);
	char text[FASTWAKE_ENDPOINT_MAX];
	struct fastwake_listener *listener;
	uint64_t start = fastwake_now();
	struct pair pair;

	CHECK_IS(fastwake_listen(&listener, &options, last_reason), 0);
	CHECK_IS(fastwake_listener_endpoint(listener, text, sizeof(text)), 0);
	CHECK(strstr(text, "rdma=") != NULL && strstr(text, "shm=") != NULL);
	if (address != NULL)
		redirect(text, address);
	CHECK_IS(try_connect(listener, text, &options, &pair), 0);
	CHECK_IS(transport_of(pair.listening), wanted);
	CHECK_IS(transport_of(pair.connecting), wanted);
	tap_diag("connected after %.2f s",
		 (double)(fastwake_now() - start) / 1e9);
	/* 1.5 s of waiting, and what a busy guest takes. */
	CHECK(fastwake_now() - start < 5 * SECOND);
	fastwake_listener_close(listener);
	CHECK_IS(send_all(pair.connecting, NULL, 0, sample, 100), 0);
	CHECK((wait_channel(pair.listening, FASTWAKE_READABLE, BY_FDS, NULL,
			    5) &
	       FASTWAKE_READABLE) != 0);
	pair_close(&pair);
	return NULL;
}

static const char *case_prefers_rdma(uint32_t transport)
{
	(void)transport;
	return prefers(NULL, RDMA);
}

/* Nobody listens at the port: refused at once. */
static const char *case_fallback_refused(uint32_t transport)
{
	(void)transport;
	return prefers("10.9.0.1:9", FASTWAKE_TRANSPORT_SHM);
}

/* Nobody is at the address: in time for shm all the same. */
static const char *case_fallback_silent(uint32_t transport)
{
	(void)transport;
	return prefers("10.9.0.77:4000", FASTWAKE_TRANSPORT_SHM);
}

static const char *case_unreachable(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_channel *ch;
	uint64_t start = fastwake_now();
	int rc =
		pair_connect(&ch,
			     "fastwake/1 token=00000000000000000000000000000000"
			     " ring=65536 rdma=10.9.0.77:4000",
			     &options);

	CHECK(rc < 0 && rc != -EAGAIN);
	CHECK(strstr(last_reason, "rdma: ") != NULL);
	tap_diag("%d after %.2f s: %s", rc,
		 (double)(fastwake_now() - start) / 1e9, last_reason);
	CHECK(fastwake_now() - start < 8 * SECOND);
	return NULL;
}

static const char *case_devices(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_listener *listener;
	char text[FASTWAKE_ENDPOINT_MAX];
	struct fastwake_channel *ch;

	options.device = "none0";
	CHECK_IS(fastwake_listen(&listener, &options, last_reason), -ENODEV);
	CHECK(strstr(last_reason, "none0") != NULL);
	options.device = NULL;
	options.address = "127.0.0.1";
	CHECK(fastwake_listen(&listener, &options, last_reason) < 0);
	options.address = "not an address";
	CHECK_IS(fastwake_listen(&listener, &options, last_reason), -EINVAL);
	/* With shm to offer it is not an error. */
	options.transports = BOTH;
	CHECK_IS(fastwake_listen(&listener, &options, last_reason), 0);
	CHECK(last_reason[0] != '\0');
	CHECK_IS(fastwake_listener_endpoint(listener, text, sizeof(text)), 0);
	CHECK(strstr(text, "rdma=") == NULL);
	fastwake_listener_close(listener);
	options = plain(transport);
	CHECK_IS(fastwake_listen(&listener, &options, last_reason), 0);
	CHECK_IS(fastwake_listener_endpoint(listener, text, sizeof(text)), 0);
	options.device = "none0";
	CHECK_IS(fastwake_connect(&ch, text, &options, last_reason), -ENODEV);
	fastwake_listener_close(listener);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* In the lab only                                                    */
/* ------------------------------------------------------------------ */

/* Root would not be held to the limit. */
static int drop_privilege(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) != 0)
		return -1;
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	return (int)syscall(SYS_capset, &header, data);
}

static const char *case_memlock(uint32_t transport)
{
	struct rlimit limit = { .rlim_cur = 100000, .rlim_max = 100000 };
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_listener *listener;
	char text[FASTWAKE_ENDPOINT_MAX];
	struct pair pair;

	CHECK_IS(drop_privilege(), 0);
	CHECK_IS(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	CHECK_IS(fastwake_listen(&listener, &options, last_reason), 0);
	CHECK_IS(fastwake_listener_endpoint(listener, text, sizeof(text)), 0);
	CHECK_IS(try_connect(listener, text, &options, &pair), -ENOMEM);
	CHECK(strstr(last_reason, "RLIMIT_MEMLOCK") != NULL);
	CHECK(strstr(last_reason, "100000") != NULL);
	tap_diag("%s", last_reason);
	fastwake_listener_close(listener);
	/* Over shm nothing is locked. */
	return prefers(NULL, FASTWAKE_TRANSPORT_SHM);
}

/* The listening side has too little: it says so, and the peer tries shm. */
static int child_memlock(struct fastwake_channel *ch, void *arg)
{
	(void)arg;
	return transport_of(ch) == FASTWAKE_TRANSPORT_SHM ? 0 : 1;
}

static const char *case_memlock_listener(uint32_t transport)
{
	struct rlimit limit = { .rlim_cur = 100000, .rlim_max = 100000 };
	struct fastwake_channel_options options = plain(BOTH);
	struct fastwake_channel *ch;
	struct fastwake_listener *listener;
	char text[FASTWAKE_ENDPOINT_MAX] = "";
	int ends[2];
	pid_t pid;

	(void)transport;
	CHECK_IS(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		if (read(ends[0], text, sizeof(text)) <= 0 ||
		    pair_connect(&ch, text, &options) != 0)
			_exit(99);
		_exit(child_memlock(ch, NULL));
	}
	CHECK_IS(drop_privilege(), 0);
	CHECK_IS(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	CHECK_IS(fastwake_listen(&listener, &options, last_reason), 0);
	CHECK_IS(fastwake_listener_endpoint(listener, text, sizeof(text)), 0);
	CHECK_IS(write(ends[1], text, sizeof(text)), sizeof(text));
	CHECK_IS(pair_accept(listener, &ch), 0);
	CHECK_IS(transport_of(ch), FASTWAKE_TRANSPORT_SHM);
	CHECK_IS(pair_join(pid), 0);
	fastwake_channel_close(ch);
	fastwake_listener_close(listener);
	return NULL;
}

static int child_endless(struct fastwake_channel *ch, void *arg)
{
	(void)arg;
	while (take_error(ch) == -ETIMEDOUT)
		continue;
	return 0;
}

static const char *device_of(struct fastwake_channel *ch, char *netdev)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof(path),
		 "/sys/class/infiniband/%s/ports/1/gid_attrs/ndevs/0",
		 ibv_get_device_name(ch->rdma->id->verbs->device));
	f = fopen(path, "r");
	CHECK(f != NULL && fscanf(f, "%15s", netdev) == 1);
	fclose(f);
	return NULL;
}

static int set_link(const char *netdev, const char *state)
{
	char command[100];

	snprintf(command, sizeof(command), "ip link set %s %s", netdev, state);
	return system(command);
}

static const char *over_ipv6(const char *netdev)
{
	struct fastwake_channel_options options = plain(RDMA);
	struct fastwake_channel_info info = { .size = sizeof(info) };
	char command[100];
	struct pair pair;

	snprintf(command, sizeof(command),
		 "ip -6 addr add fd09::1/64 dev %s nodad", netdev);
	CHECK_IS(system(command), 0);
	usleep(500000); /* the device's table of addresses follows */
	options.address = "fd09::1";
	CHECK(pair_open(&pair, &options, &options));
	CHECK_IS(fastwake_channel_query(pair.connecting, &info), 0);
	CHECK(strcmp(info.peer, "fd09::1") == 0);
	CHECK_IS(send_all(pair.connecting, NULL, 0, sample, 100), 0);
	CHECK((wait_channel(pair.listening, FASTWAKE_READABLE, BY_FDS, NULL,
			    5) &
	       FASTWAKE_READABLE) != 0);
	pair_close(&pair);
	return NULL;
}

static const char *case_ipv6(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	char netdev[16] = "";
	const char *failed;
	struct pair pair;

	CHECK(pair_open(&pair, &options, &options));
	failed = device_of(pair.connecting, netdev);
	pair_close(&pair);
	return failed != NULL ? failed : over_ipv6(netdev);
}

/* Send all the time; the link goes down after a while. */
static const char *cut(struct fastwake_channel *ch, const char *netdev,
		       uint64_t *cut_at, int *error)
{
	uint64_t start = fastwake_now();
	int rc = 0;

	*cut_at = 0;
	while (rc >= 0 && fastwake_now() < start + 20 * SECOND) {
		rc = (int)fastwake_channel_send(ch, 0, sample, 100);
		if (rc == -EAGAIN)
			rc = wait_channel(ch, FASTWAKE_WRITABLE, BY_FDS, NULL,
					  1);
		if (*cut_at == 0 && fastwake_now() > start + SECOND / 2) {
			CHECK_IS(set_link(netdev, "down"), 0);
			*cut_at = fastwake_now();
		}
	}
	*error = rc;
	return NULL;
}

static const char *case_link_cut(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_channel *ch;
	pid_t pid = pair_fork(&ch, &options, child_endless, NULL);
	char netdev[16] = "";
	uint64_t cut_at, noticed;
	const char *failed = device_of(ch, netdev);
	int error = 0;

	if (failed == NULL)
		failed = cut(ch, netdev, &cut_at, &error);
	noticed = fastwake_now();
	/* The next case needs the address as well. */
	(void)set_link(netdev, "up");
	kill(pid, SIGKILL);
	pair_join(pid);
	if (failed != NULL)
		return failed;
	CHECK_IS(error, -ECONNRESET);
	tap_diag("noticed after %.2f s: %s", (double)(noticed - cut_at) / 1e9,
		 fastwake_channel_reason(ch));
	CHECK(noticed - cut_at < 10 * SECOND);
	fastwake_channel_close(ch);
	return NULL;
}

/* Takes a message, then makes its queue pair forget everything. */
static int child_forgets(struct fastwake_channel *ch, void *arg)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RESET };
	uint32_t stream;
	void *p;

	if (take(ch, &stream, &p) != sizeof(sample) ||
	    ibv_modify_qp(ch->rdma->qp, &attr, IBV_QP_STATE) != 0)
		return 1;
	if (write(*(int *)arg, "", 1) == 1)
		pause();
	return 1;
}

/* The link is up and nobody answers: only the retries run out. */
static const char *case_no_answer(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_channel *ch;
	uint64_t start;
	int ends[2], rc;
	char byte;
	pid_t pid;

	CHECK_IS(pipe(ends), 0);
	pid = pair_fork(&ch, &options, child_forgets, &ends[1]);
	CHECK_IS(send_all(ch, NULL, 0, sample, 100), 0);
	CHECK_IS(read(ends[0], &byte, 1), 1);
	start = fastwake_now();
	CHECK_IS(send_all(ch, NULL, 0, sample, 100), 0);
	rc = wait_channel(ch, FASTWAKE_READABLE, BY_FDS, NULL, 20);
	tap_diag("noticed after %.2f s: %s",
		 (double)(fastwake_now() - start) / 1e9,
		 fastwake_channel_reason(ch));
	CHECK_IS(rc, -ECONNRESET);
	CHECK(fastwake_now() - start < 10 * SECOND);
	kill(pid, SIGKILL);
	pair_join(pid);
	fastwake_channel_close(ch);
	return NULL;
}

static bool run;

static void maybe(const char *name, case_function function, bool wanted,
		  const char *why)
{
	if (run && wanted)
		run_case(name, function, RDMA);
	else
		tap_skip(1, run ? why : "no RDMA device");
}

#define RUN(name, function) maybe("rdma: " name, function, true, "")
#define RUN_LAB(name, function) \
	maybe("rdma: " name, function, lab, "changes the system, lab only")

int main(void)
{
	bool lab = getenv("FASTWAKE_LAB") != NULL;

	tap_begin();
	run = have_device();
	RUN("queue pairs, addresses, device", case_query);
	if (getenv("FASTWAKE_TEST_MODULE") != NULL)
		RUN("completions waited for in memory", case_pinned);
	COMMON_CASES(RUN);
	RUN("frames run out before bytes", case_frames_run_out);
	RUN("hostile immediates", case_hostile);
	RUN("writes outside the ring", case_outside);
	RUN("overrun of receives", case_overrun);
	RUN("devices and addresses", case_devices);
	RUN("rdma goes before shm", case_prefers_rdma);
	RUN_LAB("unreachable address", case_unreachable);
	RUN_LAB("refused, then shm", case_fallback_refused);
	RUN_LAB("silence, then shm", case_fallback_silent);
	RUN_LAB("memlock too small", case_memlock);
	RUN_LAB("memlock too small at the listener", case_memlock_listener);
	RUN("peer does not answer", case_no_answer);
	RUN_LAB("IPv6", case_ipv6);
	RUN_LAB("link cut", case_link_cut);
	return tap_done();
}
