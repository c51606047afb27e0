// SPDX-License-Identifier: PostgreSQL
/*
 * test_hostile_rdma.c - peers that speak the rdma protocol by hand, and wrongly.
 *
 * The attacker is another process with its own queue pair; it shares with the
 * library only the layout of what goes over the wire.  Each case is a list of
 * rounds: a new listener, one attack, and what the listening side made of it.
 * At the end queue pairs and descriptors are counted.
 *
 *	test_hostile_rdma flood ADDRESS:PORT SECONDS
 *
 * makes of it an attacker of a listener that somebody else runs: as many
 * connections as it can, of every wrong kind.  Prints "started" when it has begun,
 * and at the end how many there were.
 */
#include <arpa/inet.h>
#include <sys/prctl.h>

#include "hostile.h"
#include "rdma.h"

#define RDMA	 FASTWAKE_TRANSPORT_RDMA
#define RECEIVES 256

/* ------------------------------------------------------------------ */
/* The attacker                                                       */
/* ------------------------------------------------------------------ */

struct raw {
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_mr *mr;
	struct fw_rdma_geometry peer;
	/* What the victim sends comes here; then what we send. */
	uint8_t memory[2 * RING];
};

static struct raw raw;

static struct fw_rdma_request good_request(const struct fw_endpoint *e)
{
	struct fw_rdma_request request = {
		.geometry = { .address = htole64((uintptr_t)raw.memory),
			      .rkey = htole32(raw.mr ? raw.mr->rkey : 1),
			      .ring_size = htole32(RING),
			      .magic = htole32(FW_RDMA_MAGIC),
			      .version = htole16(FW_RDMA_VERSION),
			      .depth = htole16(RECEIVES - 32) },
	};

	memcpy(request.token, e->token, sizeof(request.token));
	return request;
}

/* Find the way there.  librdmacm is used in its blocking form. */
static bool raw_resolve(const struct fw_endpoint *e)
{
	union fw_address address = e->rdma;

	memset(&raw, 0, sizeof(raw));
	return rdma_create_id(NULL, &raw.id, NULL, RDMA_PS_TCP) == 0 &&
	       rdma_resolve_addr(raw.id, NULL, &address.sa, 2000) == 0 &&
	       rdma_resolve_route(raw.id, 2000) == 0;
}

static bool raw_queues(void)
{
	struct ibv_qp_init_attr attr = { .qp_type = IBV_QPT_RC,
					 .cap = { .max_send_wr = 600,
						  .max_recv_wr = RECEIVES,
						  .max_send_sge = 1,
						  .max_recv_sge = 1 } };
	struct ibv_recv_wr receive = { 0 }, *bad;

	raw.pd = ibv_alloc_pd(raw.id->verbs);
	raw.cq = ibv_create_cq(raw.id->verbs, 1000, NULL, NULL, 0);
	raw.mr = ibv_reg_mr(raw.pd, raw.memory, sizeof(raw.memory),
			    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	attr.send_cq = attr.recv_cq = raw.cq;
	if (!raw.pd || !raw.cq || !raw.mr ||
	    rdma_create_qp(raw.id, raw.pd, &attr) != 0)
		return false;
	for (int i = 0; i < RECEIVES; i++)
		if (ibv_post_recv(raw.id->qp, &receive, &bad) != 0)
			return false;
	return true;
}

/*
 * Ask for a connection with LENGTH bytes of private data.  0: accepted; else
 * 100 + why it was refused, or 1.  Without queue pair it is never established.
 */
static int raw_ask(const void *data, size_t length)
{
	static uint32_t number = 4711; /* twice the same would be stale */
	struct rdma_conn_param parameters = { .private_data = data,
					      .private_data_len =
						      (uint8_t)length,
					      .qp_num = ++number,
					      .retry_count = 3,
					      .rnr_retry_count = 3 };
	const struct rdma_conn_param *said;

	if (rdma_connect(raw.id, &parameters) != 0 && raw.id->event == NULL)
		return 1;
	said = &raw.id->event->param.conn;
	if (raw.id->event->event == RDMA_CM_EVENT_REJECTED)
		return 100 + (int)fw_rdma_refusal_parse(said->private_data,
							said->private_data_len);
	if (said->private_data_len >= sizeof(raw.peer))
		memcpy(&raw.peer, said->private_data, sizeof(raw.peer));
	return 0;
}

static void raw_free(void)
{
	if (raw.id == NULL)
		return;
	if (raw.id->qp != NULL)
		rdma_destroy_qp(raw.id);
	if (raw.mr != NULL)
		ibv_dereg_mr(raw.mr);
	if (raw.cq != NULL)
		ibv_destroy_cq(raw.cq);
	if (raw.pd != NULL)
		ibv_dealloc_pd(raw.pd);
	rdma_destroy_id(raw.id);
	raw.id = NULL;
}

/* The whole way to an established connection; 0 or what failed. */
static int raw_connect(const struct fw_endpoint *e)
{
	struct fw_rdma_request request;

	if (!raw_resolve(e) || !raw_queues())
		return 2;
	request = good_request(e);
	return raw_ask(&request, sizeof(request));
}

/* Our ring's content from FROM on to the victim's AT; 0 when it has arrived. */
static int raw_write(enum ibv_wr_opcode opcode, uint32_t from, uint64_t at,
		     uint32_t length, uint32_t imm)
{
	struct ibv_sge sge = { .addr = (uintptr_t)raw.memory + RING + from,
			       .length = length,
			       .lkey = raw.mr->lkey };
	struct ibv_send_wr *bad, wr = { .opcode = opcode,
					.send_flags = IBV_SEND_SIGNALED,
					.sg_list = &sge,
					.num_sge = length > 0,
					.imm_data = htonl(imm) };
	uint64_t deadline = fastwake_now() + 20 * SECOND;
	struct ibv_wc wc;

	wr.wr.rdma.remote_addr = le64toh(raw.peer.address) + at;
	wr.wr.rdma.rkey = le32toh(raw.peer.rkey);
	if (ibv_post_send(raw.id->qp, &wr, &bad) != 0)
		return 3;
	while (fastwake_now() < deadline) {
		int n = ibv_poll_cq(raw.cq, 1, &wc);

		if (n < 0)
			return 4;
		if (n > 0 && wc.status != IBV_WC_SUCCESS)
			return 5;
		if (n > 0 && (wc.opcode & IBV_WC_RECV) == 0)
			return 0;
	}
	return 6;
}

static int raw_imm(uint32_t imm)
{
	return raw_write(IBV_WR_RDMA_WRITE_WITH_IMM, 0, 0, 0, imm);
}

/* The good message, and whatever stands at AT, announced as of BYTES. */
static int raw_frames(uint32_t bytes)
{
	int rc;

	put_first(raw.memory + RING);
	rc = raw_write(IBV_WR_RDMA_WRITE_WITH_IMM, 0, 0, AT,
		       AT / FW_FRAME_UNIT);
	return rc != 0 ? rc
		       : raw_write(IBV_WR_RDMA_WRITE_WITH_IMM, AT, AT, bytes,
				   bytes / FW_FRAME_UNIT);
}

/* ------------------------------------------------------------------ */
/* Rounds                                                             */
/* ------------------------------------------------------------------ */

/* What the attacker does in round I; the outcome is told to the victim. */
typedef int (*attack_function)(const struct fw_endpoint *e, unsigned int i);

struct attacker {
	pid_t pid;
	int to, from;
};

static void attacker_main(attack_function attack, int in, int out)
{
	char text[FASTWAKE_ENDPOINT_MAX], byte;
	struct fw_endpoint e;
	const char *why;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned int i = 0; read(in, text, sizeof(text)) > 0; i++) {
		int outcome;

		if (fw_endpoint_parse(&e, text, &why) != 0)
			_exit(90);
		outcome = attack(&e, i);
		/* The connection stays until the victim has seen enough. */
		if (write(out, &outcome, sizeof(outcome)) < 0 ||
		    read(in, &byte, 1) != 1)
			_exit(91);
		raw_free();
	}
	_exit(0);
}

/* To be called before anything uses verbs. */
static struct attacker attacker_start(attack_function attack)
{
	struct attacker a;
	int to[2], from[2];

	if (pipe(to) != 0 || pipe(from) != 0 || (a.pid = fork()) < 0)
		tap_bail("no child");
	if (a.pid == 0) {
		close(to[1]);
		close(from[0]);
		attacker_main(attack, to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	a.to = to[1];
	a.from = from[0];
	return a;
}

static int attacker_end(struct attacker *a)
{
	close(a->to);
	close(a->from);
	return pair_join(a->pid);
}

struct victim {
	struct fastwake_channel_options options;
	struct fastwake_listener *listener;
	struct fastwake_channel *ch; /* NULL: nobody got one */
	char text[FASTWAKE_ENDPOINT_MAX];
	int outcome; /* as the attacker says */
	uint64_t longest;
};

static const char *victim_open(struct victim *v)
{
	memset(v, 0, sizeof(*v));
	v->options = plain(RDMA);
	CHECK_IS(fastwake_listen(&v->listener, &v->options, last_reason), 0);
	CHECK_IS(fastwake_listener_endpoint(v->listener, v->text,
					    sizeof(v->text)),
		 0);
	return NULL;
}

/* One call of accept; its time is noted. */
static const char *victim_accept(struct victim *v)
{
	uint64_t start = fastwake_now();
	int rc = -EAGAIN;

	if (v->ch == NULL)
		rc = fastwake_accept(v->listener, &v->ch, last_reason);
	if (fastwake_now() - start > v->longest)
		v->longest = fastwake_now() - start;
	CHECK(rc == 0 || rc == -EAGAIN);
	return NULL;
}

/* Serve the listener until the attacker has had his way (20 s at most). */
static const char *victim_round(struct victim *v, struct attacker *a)
{
	uint64_t deadline = fastwake_now() + 20 * SECOND;
	struct pollfd p = { .fd = a->from, .events = POLLIN };
	const char *failed = victim_open(v);

	if (failed != NULL)
		return failed;
	CHECK_IS(write(a->to, v->text, sizeof(v->text)), sizeof(v->text));
	while (poll(&p, 1, 1) == 0) {
		CHECK(fastwake_now() < deadline);
		failed = victim_accept(v);
		if (failed != NULL)
			return failed;
	}
	CHECK_IS(read(a->from, &v->outcome, sizeof(v->outcome)),
		 sizeof(v->outcome));
	return NULL;
}

/* The attacker may have news of the connection first. */
static const char *victim_channel(struct victim *v)
{
	uint64_t deadline = fastwake_now() + 10 * SECOND;

	while (v->ch == NULL && fastwake_now() < deadline) {
		const char *failed = victim_accept(v);

		if (failed != NULL)
			return failed;
		sched_yield();
	}
	CHECK(v->ch != NULL);
	return NULL;
}

static const char *victim_close(struct victim *v, struct attacker *a)
{
	fastwake_channel_close(v->ch);
	fastwake_listener_close(v->listener);
	CHECK(a == NULL || write(a->to, "", 1) == 1);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Requests                                                           */
/* ------------------------------------------------------------------ */

struct request {
	const char *what;
	size_t at; /* of the request, 0xff.. in place of SIZE bytes */
	size_t size;
	uint32_t value;
	size_t length; /* of the private data */
	int why;
};

#define FULL	 sizeof(struct fw_rdma_request)
#define FIELD(f) offsetof(struct fw_rdma_geometry, f)
#define TOKEN	 offsetof(struct fw_rdma_request, token)

static const struct request requests[] = {
	{ "nothing", 0, 0, 0, 0, FW_REFUSED_VERSION },
	{ "one byte", 0, 0, 0, 1, FW_REFUSED_VERSION },
	{ "geometry only", 0, 0, 0, TOKEN, FW_REFUSED_TOKEN },
	{ "half a token", 0, 0, 0, FULL - 8, FW_REFUSED_TOKEN },
	{ "magic", FIELD(magic), 4, 0x46575243, FULL, FW_REFUSED_VERSION },
	{ "version 0", FIELD(version), 2, 0, FULL, FW_REFUSED_VERSION },
	{ "version 2", FIELD(version), 2, 2, FULL, FW_REFUSED_VERSION },
	{ "no ring", FIELD(ring_size), 4, 0, FULL, FW_REFUSED_VERSION },
	{ "small ring", FIELD(ring_size), 4, RING / 2, FULL,
	  FW_REFUSED_VERSION },
	{ "odd ring", FIELD(ring_size), 4, RING + 64, FULL,
	  FW_REFUSED_VERSION },
	{ "large ring", FIELD(ring_size), 4, 1u << 25, FULL,
	  FW_REFUSED_VERSION },
	{ "endless ring", FIELD(ring_size), 4, 1u << 31, FULL,
	  FW_REFUSED_VERSION },
	{ "no depth", FIELD(depth), 2, 0, FULL, FW_REFUSED_VERSION },
	{ "small depth", FIELD(depth), 2, 15, FULL, FW_REFUSED_VERSION },
	{ "large depth", FIELD(depth), 2, 4096, FULL, FW_REFUSED_VERSION },
	{ "first byte of the token", TOKEN, 1, 0, FULL, FW_REFUSED_TOKEN },
	{ "last byte of the token", TOKEN + 15, 1, 0, FULL, FW_REFUSED_TOKEN },
	{ "token of zeroes", TOKEN, 16, 0, FULL, FW_REFUSED_TOKEN },
	{ "right, with more behind it", 0, 0, 0, 56, 0 },
};

#define REQUESTS (sizeof(requests) / sizeof(requests[0]))

static int attack_request(const struct fw_endpoint *e, unsigned int i)
{
	const struct request *q = &requests[i];
	uint8_t data[56];
	struct fw_rdma_request request;

	if (!raw_resolve(e))
		return 2;
	request = good_request(e);
	memset(data, 0xaa, sizeof(data));
	memcpy(data, &request, sizeof(request));
	if (q->size == 1) /* whatever the token is */
		data[q->at] ^= 1;
	else if (q->size == 16)
		memset(data + q->at, 0, 16);
	else if (q->size > 0) /* little-endian, as this machine */
		memcpy(data + q->at, &q->value, q->size);
	return raw_ask(data, q->length);
}

static const char *case_requests(uint32_t transport)
{
	struct attacker a = attacker_start(attack_request);
	const char *failed = NULL;

	(void)transport;
	for (unsigned int i = 0; i < REQUESTS && failed == NULL; i++) {
		const struct request *q = &requests[i];
		struct victim v;

		last_reason[0] = '\0';
		failed = victim_round(&v, &a);
		if (failed == NULL && v.outcome != (q->why ? 100 + q->why : 0))
			failed =
				fail_at(__LINE__, "%s: %d", q->what, v.outcome);
		if (failed == NULL && q->why != 0 &&
		    strstr(last_reason, q->why == FW_REFUSED_TOKEN
						? "wrong token"
						: "malformed") == NULL)
			failed = fail_at(__LINE__, "%s: %s", q->what,
					 last_reason);
		if (failed == NULL && v.ch != NULL)
			failed = fail_at(__LINE__, "%s: accepted", q->what);
		if (failed == NULL)
			failed = victim_close(&v, &a);
	}
	if (failed != NULL)
		return failed;
	CHECK_IS(attacker_end(&a), 0);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Silence, and going away                                            */
/* ------------------------------------------------------------------ */

enum step {
	GONE_ASKED,	  /* by request and a process that ends at once */
	GONE_ANSWERED,	  /* never says that it got the answer */
	GONE_ESTABLISHED, /* without a word of farewell */
	GONE_SENDING,	  /* with frames under way */
	GONE_BROKEN,	  /* its queue pair is in error */
	GONE_STEPS
};

static int attack_gone(const struct fw_endpoint *e, unsigned int i)
{
	struct ibv_qp_attr error = { .qp_state = IBV_QPS_ERR };
	struct fw_rdma_request request;
	int rc;

	if (i == GONE_ASKED) {
		pid_t pid = fork();
		int status = 0;

		if (pid == 0) {
			alarm(1); /* nobody accepts in time, or somebody does */
			if (raw_resolve(e)) {
				request = good_request(e);
				request.token[3] ^= 1;
				(void)raw_ask(&request, sizeof(request));
			}
			_exit(0);
		}
		waitpid(pid, &status, 0);
		return 0;
	}
	if (i == GONE_ANSWERED) {
		if (!raw_resolve(e))
			return 2;
		request = good_request(e);
		rc = raw_ask(&request, sizeof(request));
		raw_free();
		return rc;
	}
	rc = raw_connect(e);
	if (rc == 0 && i == GONE_SENDING) {
		put_first(raw.memory + RING);
		rc = raw_write(IBV_WR_RDMA_WRITE_WITH_IMM, 0, 0, AT,
			       AT / FW_FRAME_UNIT);
	}
	if (rc == 0 && i == GONE_BROKEN)
		rc = ibv_modify_qp(raw.id->qp, &error, IBV_QP_STATE);
	if (rc == 0)
		raw_free();
	return rc;
}

/* An attacker that is there no more must not keep the right one out. */
static const char *gone(struct attacker *a, unsigned int i)
{
	struct victim v;
	const char *failed = victim_round(&v, a);
	uint64_t deadline = fastwake_now() + 5 * SECOND;
	int rc;

	if (failed != NULL)
		return failed;
	CHECK_IS(v.outcome, 0);
	while (i >= GONE_ESTABLISHED && v.ch == NULL &&
	       fastwake_now() < deadline) {
		failed = victim_accept(&v);
		if (failed != NULL)
			return failed;
	}
	if (v.ch != NULL) {
		rc = take_error(v.ch);
		tap_diag("step %u: %s", i, fastwake_channel_reason(v.ch));
		CHECK_IS(rc, -ECONNRESET);
	} else {
		struct pair pair;

		CHECK_IS(try_connect(v.listener, v.text, &v.options, &pair), 0);
		CHECK_IS(send_all(pair.connecting, NULL, 0, sample, 100), 0);
		CHECK((wait_channel(pair.listening, FASTWAKE_READABLE, BY_FDS,
				    NULL, 5) &
		       FASTWAKE_READABLE) != 0);
		pair_close(&pair);
	}
	return victim_close(&v, a);
}

static const char *case_gone(uint32_t transport)
{
	struct attacker a = attacker_start(attack_gone);

	(void)transport;
	for (unsigned int i = 0; i < GONE_STEPS; i++) {
		const char *failed = gone(&a, i);

		if (failed != NULL) {
			tap_diag("step %u", i);
			return failed;
		}
	}
	CHECK_IS(attacker_end(&a), 0);
	return NULL;
}

/* Asked with the right token, answered, and silent: the next is told so. */
static int attack_silent(const struct fw_endpoint *e, unsigned int i)
{
	struct rdma_cm_id *silent;
	struct fw_rdma_request request;
	int rc;

	(void)i;
	if (!raw_resolve(e))
		return 2;
	request = good_request(e);
	rc = raw_ask(&request, sizeof(request));
	if (rc != 0)
		return rc;
	silent = raw.id;
	if (!raw_resolve(e))
		return 2;
	rc = raw_ask(&request, sizeof(request));
	raw_free();
	raw.id = silent; /* freed at the end */
	return rc;
}

static const char *case_silent(uint32_t transport)
{
	struct attacker a = attacker_start(attack_silent);
	struct victim v;
	const char *failed = victim_round(&v, &a);

	(void)transport;
	if (failed != NULL)
		return failed;
	CHECK_IS(v.outcome, 100 + FW_REFUSED_BUSY);
	CHECK(strstr(last_reason, "same token") != NULL);
	CHECK(v.ch == NULL);
	failed = victim_close(&v, &a);
	if (failed != NULL)
		return failed;
	CHECK_IS(attacker_end(&a), 0);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* An established channel                                             */
/* ------------------------------------------------------------------ */

/* Bytes of a frame, one changed in each round, the checksum left. */
static int attack_bytes(const struct fw_endpoint *e, unsigned int i)
{
	struct fw_frame_header header = good_header(20);
	int rc = raw_connect(e);

	if (rc != 0)
		return rc;
	put_lie(raw.memory + RING, &header, 20);
	raw.memory[RING + AT + i] ^= (uint8_t)(1u << i % 8);
	return raw_frames(64);
}

static int attack_fields(const struct fw_endpoint *e, unsigned int i)
{
	int rc = raw_connect(e);

	if (rc != 0)
		return rc;
	put_field(raw.memory + RING, &fields[i]);
	return raw_frames(fields[i].announced);
}

/* Rounds of frames: each must end with that error and reason. */
static const char *frame_round(struct attacker *a, int error,
			       const char *reason)
{
	struct victim v;
	const char *failed = victim_round(&v, a);

	if (failed != NULL)
		return failed;
	CHECK_IS(v.outcome, 0);
	failed = victim_channel(&v);
	if (failed != NULL)
		return failed;
	failed = outcome(v.ch, error);
	if (failed != NULL)
		return failed;
	snprintf(last_reason, sizeof(last_reason), "%s",
		 fastwake_channel_reason(v.ch));
	CHECK(strstr(last_reason, reason) != NULL);
	return victim_close(&v, a);
}

static const char *case_bytes(uint32_t transport)
{
	struct attacker a = attacker_start(attack_bytes);

	(void)transport;
	for (unsigned int i = 0; i < FW_FRAME_HEADER + 20; i++) {
		const char *failed = frame_round(&a, -EPROTO, "received");

		if (failed != NULL) {
			tap_diag("byte %u of the frame", i);
			return failed;
		}
	}
	CHECK_IS(attacker_end(&a), 0);
	return NULL;
}

static const char *case_fields(uint32_t transport)
{
	struct attacker a = attacker_start(attack_fields);

	(void)transport;
	for (unsigned int i = 0; i < FIELDS; i++) {
		const char *failed =
			frame_round(&a, fields[i].error, fields[i].reason);

		if (failed != NULL) {
			tap_diag("%s", fields[i].what);
			return failed;
		}
	}
	CHECK_IS(attacker_end(&a), 0);
	return NULL;
}

#define CREDIT(frames, units) \
	(FW_IMM_CREDIT | (uint32_t)(frames) << FW_IMM_FRAMES_BIT | (units))

/* After the good message; nothing has been sent that credit could be for. */
static const struct {
	uint32_t imm;
	int error;
} immediates[] = {
	{ 0, -EPROTO },
	{ RING / 64 + 1, -EPROTO },
	{ 0x7fffffff, -EPROTO },
	{ 1, -EPROTO }, /* of memory that holds no frame */
	{ CREDIT(0, 1), -EPROTO },
	{ CREDIT(1, 0), -EPROTO },
	{ CREDIT(0xfff, 0), -EPROTO },
	{ CREDIT(0, FW_IMM_UNITS), -EPROTO },
	{ UINT32_MAX, -EPROTO },
	{ CREDIT(0, 0), -EPIPE }, /* goodbye */
};

#define IMMEDIATES (sizeof(immediates) / sizeof(immediates[0]))

/* Connect, and send the good message. */
static int raw_begin(const struct fw_endpoint *e)
{
	int rc = raw_connect(e);

	if (rc != 0)
		return rc;
	put_first(raw.memory + RING);
	return raw_write(IBV_WR_RDMA_WRITE_WITH_IMM, 0, 0, AT,
			 AT / FW_FRAME_UNIT);
}

static int attack_immediates(const struct fw_endpoint *e, unsigned int i)
{
	int rc = raw_begin(e);

	return rc != 0 ? rc : raw_imm(immediates[i].imm);
}

static const char *case_immediates(uint32_t transport)
{
	struct attacker a = attacker_start(attack_immediates);

	(void)transport;
	for (unsigned int i = 0; i < IMMEDIATES; i++) {
		const char *failed = frame_round(&a, immediates[i].error, "");

		if (failed != NULL) {
			tap_diag("immediate 0x%08x", immediates[i].imm);
			return failed;
		}
	}
	CHECK_IS(attacker_end(&a), 0);
	return NULL;
}

/* Random immediates and writes into the ring, until the connection breaks. */
static int attack_random(const struct fw_endpoint *e, unsigned int i)
{
	int rc = raw_begin(e);

	if (rc != 0)
		return rc;
	for (uint64_t n = 0; n < 40 && rc == 0; n++) {
		uint64_t random = mix(i * 1000u + n);
		uint32_t imm = (uint32_t)(random >> 32);

		for (uint32_t j = AT; j < RING; j += 8)
			memcpy(raw.memory + RING + j, &random, 8);
		/* Small numbers are the ones that could be true. */
		if (random % 4 == 0)
			imm &= 0x80180007;
		rc = raw_write(random % 8 == 7 ? IBV_WR_SEND_WITH_IMM
					       : IBV_WR_RDMA_WRITE_WITH_IMM,
			       AT, AT, random % 8 == 7 ? 0 : 1000, imm);
	}
	return 0;
}

static const char *case_random(uint32_t transport)
{
	struct attacker a = attacker_start(attack_random);

	(void)transport;
	for (unsigned int i = 0; i < 12; i++) {
		struct victim v;
		const char *failed = victim_round(&v, &a);
		uint32_t stream;
		void *p;
		int rc;

		if (failed != NULL)
			return failed;
		CHECK_IS(v.outcome, 0);
		failed = victim_channel(&v);
		if (failed != NULL)
			return failed;
		CHECK_IS(take(v.ch, &stream, &p), FIRST);
		CHECK(message_good(p, 1, FIRST));
		(void)fastwake_channel_send(v.ch, 0, sample, 100);
		rc = (int)take(v.ch, &stream, &p);
		snprintf(last_reason, sizeof(last_reason), "%s",
			 fastwake_channel_reason(v.ch));
		CHECK(rc == -EPROTO || rc == -EPIPE || rc == -ECONNRESET);
		failed = victim_close(&v, &a);
		if (failed != NULL)
			return failed;
	}
	CHECK_IS(attacker_end(&a), 0);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Floods                                                             */
/* ------------------------------------------------------------------ */

/* Connections of every wrong kind, for so long.  Returns how many. */
static unsigned int flood(const struct fw_endpoint *e, uint64_t ns)
{
	uint64_t until = fastwake_now() + ns;
	unsigned int made = 0;

	for (unsigned int i = 0; fastwake_now() < until; i++) {
		struct fw_rdma_request request;

		if (raw_resolve(e)) {
			request = good_request(e);
			memset(request.token, (int)i, sizeof(request.token));
			if (i % 3 == 1)
				request.geometry.version = 9;
			/* Every third goes away without waiting, the first too. */
			made += i % 3 == 0 ||
				raw_ask(&request,
					i % 3 == 1 ? 7 : sizeof(request)) != 0;
		}
		raw_free();
		/* The others wait until the victim looks. */
		if (i == 0)
			printf("started\n");
	}
	return made;
}

static int attack_flood(const struct fw_endpoint *e, unsigned int i)
{
	unsigned int made = 0;

	(void)i;
	if (freopen("/dev/null", "w", stdout) == NULL)
		return 0;
	/* However slow this machine is, the victim waits for ten. */
	while (made < 60)
		made += flood(e, 4 * SECOND);
	return (int)made;
}

/* How many were refused, as the reason says; one call may refuse several. */
static unsigned int refused(const char *reason)
{
	static const char before[] = "(connection ";
	const char *p = strstr(reason, before);

	return p != NULL ? (unsigned int)atoi(p + strlen(before)) : 0;
}

static const char *case_flood(uint32_t transport)
{
	struct attacker a = attacker_start(attack_flood);
	struct attacker b = attacker_start(attack_flood);
	struct pair pair;
	struct victim v;
	const char *failed = victim_open(&v);

	(void)transport;
	if (failed != NULL)
		return failed;
	CHECK_IS(write(a.to, v.text, sizeof(v.text)), sizeof(v.text));
	CHECK_IS(write(b.to, v.text, sizeof(v.text)), sizeof(v.text));
	last_reason[0] = '\0';
	while (refused(last_reason) < 10) {
		failed = victim_accept(&v);
		if (failed != NULL)
			return failed;
		CHECK(v.ch == NULL);
	}
	CHECK_IS(try_connect(v.listener, v.text, &v.options, &pair), 0);
	CHECK_IS(read(a.from, &v.outcome, sizeof(v.outcome)),
		 sizeof(v.outcome));
	tap_diag("%d wrong connections by one of two, longest call %.1f ms",
		 v.outcome, (double)v.longest / 1e6);
	CHECK(v.longest < 2 * SECOND);
	CHECK_IS(send_all(pair.connecting, NULL, 0, sample, 100), 0);
	CHECK((wait_channel(pair.listening, FASTWAKE_READABLE, BY_FDS, NULL,
			    5) &
	       FASTWAKE_READABLE) != 0);
	pair_close(&pair);
	CHECK_IS(read(b.from, &v.outcome, sizeof(v.outcome)),
		 sizeof(v.outcome));
	CHECK_IS(write(b.to, "", 1), 1);
	failed = victim_close(&v, &a);
	if (failed != NULL)
		return failed;
	/* The second has descriptors of the first. */
	CHECK_IS(attacker_end(&b), 0);
	CHECK_IS(attacker_end(&a), 0);
	return NULL;
}

static int flood_main(const char *where, unsigned int seconds)
{
	char text[FASTWAKE_ENDPOINT_MAX];
	struct fw_endpoint e;
	const char *why = "";

	snprintf(text, sizeof(text),
		 "fastwake/1 token=%032d ring=65536 rdma=%s", 0, where);
	if (fw_endpoint_parse(&e, text, &why) != 0) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	printf("%u connections\n", flood(&e, seconds * SECOND));
	return 0;
}

/* ------------------------------------------------------------------ */
/* Main                                                               */
/* ------------------------------------------------------------------ */

/* Queue pairs, completion queues and regions of all processes. */
static int resources(void)
{
	FILE *f = popen("for o in qp cq mr pd; do rdma resource show $o; "
			"done 2>/dev/null | grep -c 'pid '",
			"r");
	int n = -1;

	if (f == NULL || fscanf(f, "%d", &n) != 1)
		n = -1;
	if (f != NULL)
		pclose(f);
	return n;
}

static bool run;

static void maybe(const char *name, case_function function)
{
	if (run)
		run_case(name, function, RDMA);
	else
		tap_skip(1, "no RDMA device");
}

#define RUN(name, function) maybe("hostile rdma: " name, function)

int main(int argc, char **argv)
{
	int before;

	tap_begin();
	if (argc == 4 && strcmp(argv[1], "flood") == 0)
		return flood_main(argv[2], (unsigned int)atoi(argv[3]));
	run = have_device();
	before = run ? resources() : 0;
	RUN("requests with lies in them", case_requests);
	RUN("silent after the answer", case_silent);
	RUN("going away at each step", case_gone);
	RUN("bytes of a frame changed", case_bytes);
	RUN("lies in each field, checksum right", case_fields);
	RUN("immediates", case_immediates);
	RUN("random writes and immediates", case_random);
	RUN("flood of connections", case_flood);
	if (run)
		tap_is(resources(), before,
		       "as many queue pairs, queues and regions as before");
	else
		tap_skip(1, "no RDMA device");
	return tap_done();
}
