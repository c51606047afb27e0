// SPDX-License-Identifier: PostgreSQL
/*
 * test_hostile_shm.c - peers that speak the shm protocol by hand, and wrongly.
 *
 * Nothing of the library is used on their side but the layout of what goes over
 * the wire: a socket, a hello, a mapped memfd.  Every case also asks whether
 * descriptors were left behind; memory is the leak sanitizer's business.
 *
 *	test_hostile_shm flood NAME SECONDS
 *
 * makes of it an attacker of a listener that somebody else runs: as many
 * connections as it can, of every wrong kind.  Prints "started" when the first
 * have been made, and at the end how many there were.
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "hostile.h"
#include "shm.h"

#define SHM FASTWAKE_TRANSPORT_SHM

/* ------------------------------------------------------------------ */
/* The attacker's side of the socket                                  */
/* ------------------------------------------------------------------ */

static int dial(const char *name, int flags)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = strcspn(name, " ");
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);

	if (fd < 0 || length >= sizeof(address.sun_path))
		tap_bail("no socket");
	memcpy(address.sun_path + 1, name, length);
	if (connect(fd, (void *)&address,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
				length)) == 0)
		return fd;
	close(fd);
	return -1;
}

static struct fw_shm_hello good_hello(const uint8_t *token)
{
	struct fw_shm_hello hello = { .magic = FW_SHM_MAGIC,
				      .version = FW_SHM_VERSION,
				      .ring_size = RING };

	memcpy(hello.token, token, sizeof(hello.token));
	return hello;
}

/* The answer's error, or 1 if the connection ends without one. */
static int answer(int fd, int *memfd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct fw_shm_reply reply;
	struct iovec iov = { .iov_base = &reply, .iov_len = sizeof(reply) };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };

	if (memfd != NULL)
		*memfd = -1;
	if (recvmsg(fd, &message, 0) != sizeof(reply))
		return 1;
	if (memfd != NULL && CMSG_FIRSTHDR(&message) != NULL)
		memcpy(memfd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return reply.error;
}

/* ------------------------------------------------------------------ */
/* The listener under attack                                          */
/* ------------------------------------------------------------------ */

struct victim {
	struct fastwake_channel_options options;
	struct fastwake_listener *listener;
	char text[FASTWAKE_ENDPOINT_MAX];
	const char *name;
	struct fw_endpoint endpoint;
	int descriptors; /* before */
};

static const char *victim_open(struct victim *v)
{
	const char *why;

	v->options = plain(SHM);
	v->descriptors = open_descriptors();
	CHECK_IS(fastwake_listen(&v->listener, &v->options, last_reason), 0);
	CHECK_IS(fastwake_listener_endpoint(v->listener, v->text,
					    sizeof(v->text)),
		 0);
	CHECK_IS(fw_endpoint_parse(&v->endpoint, v->text, &why), 0);
	v->name = strstr(v->text, "shm=@") + strlen("shm=@");
	return NULL;
}

static int victim_accept(struct victim *v, struct fastwake_channel **ch)
{
	return fastwake_accept(v->listener, ch, last_reason);
}

/* After all that: the right peer gets its channel, and nothing is left. */
static const char *victim_end(struct victim *v)
{
	struct fastwake_channel *none;
	struct pair pair;
	uint32_t stream;
	void *p;

	CHECK_IS(try_connect(v->listener, v->text, &v->options, &pair), 0);
	CHECK_IS(send_all(pair.connecting, NULL, 7, sample, 100), 0);
	CHECK_IS(take(pair.listening, &stream, &p), 100);
	CHECK(stream == 7 && memcmp(p, sample, 100) == 0);
	/* The token has been used. */
	CHECK_IS(dial(v->name, 0), -1);
	CHECK_IS(victim_accept(v, &none), -EINVAL);
	pair_close(&pair);
	fastwake_listener_close(v->listener);
	CHECK_IS(open_descriptors(), v->descriptors);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Hellos                                                             */
/* ------------------------------------------------------------------ */

/* LENGTH bytes of HELLO: refused with ERROR, in the log and to the peer. */
static const char *refused_hello(struct victim *v, const void *hello,
				 size_t length, int error)
{
	const char *text =
		error == -EACCES ? "wrong token" : "malformed request";
	struct fastwake_channel *ch;
	int fd = dial(v->name, 0), memfd;

	CHECK(fd >= 0);
	CHECK_IS(send(fd, hello, length, 0), length);
	last_reason[0] = '\0';
	CHECK_IS(victim_accept(v, &ch), -EAGAIN);
	CHECK(strstr(last_reason, text) != NULL);
	CHECK_IS(answer(fd, &memfd), error);
	CHECK_IS(memfd, -1);
	CHECK_IS(recv(fd, &memfd, sizeof(memfd), 0), 0);
	close(fd);
	return NULL;
}

/* Every bit of a good hello, changed alone. */
static const char *case_hello_bits(uint32_t transport)
{
	struct victim v;
	const char *failed = victim_open(&v);

	(void)transport;
	for (size_t bit = 0; bit < 8 * sizeof(struct fw_shm_hello); bit++) {
		size_t byte = bit / 8;
		bool token = byte >= offsetof(struct fw_shm_hello, token) &&
			     byte < offsetof(struct fw_shm_hello, ring_size);
		struct fw_shm_hello hello = good_hello(v.endpoint.token);

		((uint8_t *)&hello)[byte] ^= (uint8_t)(1u << bit % 8);
		if (failed == NULL)
			failed = refused_hello(&v, &hello, sizeof(hello),
					       token ? -EACCES : -EPROTO);
	}
	return failed != NULL ? failed : victim_end(&v);
}

/* Every length but the right one. */
static const char *case_hello_lengths(uint32_t transport)
{
	static const size_t long_ones[] = { 33, 64, 1000, 4096, 60000 };
	uint8_t buffer[60000] = { 0 };
	struct victim v;
	const char *failed = victim_open(&v);
	struct fw_shm_hello hello;

	(void)transport;
	hello = good_hello(v.endpoint.token);
	memcpy(buffer, &hello, sizeof(hello));
	for (size_t n = 1; n < sizeof(hello) && failed == NULL; n++)
		failed = refused_hello(&v, buffer, n, -EPROTO);
	for (size_t i = 0;
	     i < sizeof(long_ones) / sizeof(long_ones[0]) && failed == NULL;
	     i++)
		failed = refused_hello(&v, buffer, long_ones[i], -EPROTO);
	return failed != NULL ? failed : victim_end(&v);
}

/* Descriptors that come along must not stay. */
static const char *case_hello_descriptors(uint32_t transport)
{
	struct fw_shm_hello hello;
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(8 * sizeof(int))];
	} control = { .space = { 0 } };
	struct iovec iov = { .iov_base = &hello, .iov_len = sizeof(hello) };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	struct fastwake_channel *ch;
	struct victim v;
	const char *failed = victim_open(&v);
	int fd, before, fds[8];

	(void)transport;
	if (failed != NULL)
		return failed;
	memset(&hello, 7, sizeof(hello));
	fd = dial(v.name, 0);
	for (int i = 0; i < 8; i++)
		fds[i] = fd;
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
	CHECK_IS(sendmsg(fd, &message, 0), sizeof(hello));
	before = open_descriptors();
	CHECK_IS(victim_accept(&v, &ch), -EAGAIN);
	CHECK_IS(open_descriptors(), before);
	close(fd);
	return victim_end(&v);
}

/* ------------------------------------------------------------------ */
/* Silence, and going away                                            */
/* ------------------------------------------------------------------ */

static const char *case_silence(uint32_t transport)
{
	struct fastwake_channel *ch;
	struct victim v;
	const char *failed = victim_open(&v);
	int fds[100];

	(void)transport;
	if (failed != NULL)
		return failed;
	for (int i = 0; i < 100; i++) {
		fds[i] = dial(v.name, SOCK_NONBLOCK);
		CHECK(fds[i] >= 0);
		CHECK_IS(victim_accept(&v, &ch), -EAGAIN);
	}
	failed = victim_end(&v);
	/* v.descriptors counted them as left behind. */
	for (int i = 0; i < 100; i++)
		close(fds[i]);
	CHECK_IS(open_descriptors(), v.descriptors);
	return strstr(failed, "descriptors") != NULL ? NULL : failed;
}

enum step {
	GONE_CONNECTED, /* before a word */
	GONE_HALF,	/* after half a hello */
	GONE_EMPTY,	/* after a message of no bytes */
	GONE_SAID,	/* after the hello, before it is looked at */
	GONE_ANSWERED,	/* without having read the answer */
	GONE_MAPPED,	/* with the memory in hand */
};

/* A peer with the right token closes at one step. */
static const char *gone_at(enum step step)
{
	struct fastwake_channel *ch = NULL;
	struct victim v;
	const char *failed = victim_open(&v);
	struct fw_shm_hello hello;
	int fd, memfd = -1, rc;

	if (failed != NULL)
		return failed;
	hello = good_hello(v.endpoint.token);
	fd = dial(v.name, 0);
	if (step == GONE_HALF)
		CHECK_IS(send(fd, &hello, sizeof(hello) / 2, 0), 16);
	if (step == GONE_EMPTY)
		CHECK_IS(send(fd, &hello, 0, 0), 0);
	if (step >= GONE_SAID)
		CHECK_IS(send(fd, &hello, sizeof(hello), 0), sizeof(hello));
	if (step < GONE_ANSWERED)
		close(fd);
	rc = victim_accept(&v, &ch);
	if (step <= GONE_SAID) {
		CHECK_IS(rc, -EAGAIN);
		return victim_end(&v);
	}
	CHECK_IS(rc, 0);
	if (step == GONE_MAPPED)
		CHECK_IS(answer(fd, &memfd), 0);
	close(fd);
	CHECK_IS(wait_channel(ch, FASTWAKE_READABLE, BY_FDS, NULL, 5),
		 -ECONNRESET);
	CHECK(strstr(fastwake_channel_reason(ch), "vanished") != NULL);
	if (memfd >= 0)
		close(memfd);
	fastwake_channel_close(ch);
	fastwake_listener_close(v.listener);
	CHECK_IS(open_descriptors(), v.descriptors);
	return NULL;
}

static const char *case_gone(uint32_t transport)
{
	(void)transport;
	for (enum step step = GONE_CONNECTED; step <= GONE_MAPPED; step++) {
		const char *failed = gone_at(step);

		if (failed != NULL)
			return failed;
	}
	return NULL;
}

/* Two who know the token: the first has it. */
static const char *case_replay(uint32_t transport)
{
	struct fastwake_channel *ch;
	struct victim v;
	const char *failed = victim_open(&v);
	struct fw_shm_hello hello;
	int first, second, rc;

	(void)transport;
	if (failed != NULL)
		return failed;
	hello = good_hello(v.endpoint.token);
	first = dial(v.name, 0);
	second = dial(v.name, 0);
	CHECK_IS(send(first, &hello, sizeof(hello), 0), sizeof(hello));
	CHECK_IS(send(second, &hello, sizeof(hello), 0), sizeof(hello));
	CHECK_IS(victim_accept(&v, &ch), 0);
	CHECK_IS(answer(first, NULL), 0);
	rc = answer(second, NULL);
	CHECK_IS(rc, 1);
	CHECK_IS(dial(v.name, 0), -1);
	close(first);
	close(second);
	fastwake_channel_close(ch);
	fastwake_listener_close(v.listener);
	CHECK_IS(open_descriptors(), v.descriptors + 1); /* of the answer */
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Floods                                                             */
/* ------------------------------------------------------------------ */

/* One connection of the I-th wrong kind; false if nobody listens. */
static bool annoy(const char *name, uint64_t i)
{
	static int silent[64];
	struct fw_shm_hello hello;
	uint8_t token[FW_TOKEN_BYTES];
	int fd = dial(name, SOCK_NONBLOCK);
	bool refused = fd < 0 && errno == ECONNREFUSED;

	memset(token, (int)i, sizeof(token));
	hello = good_hello(token);
	if (i % 5 == 1)
		hello.magic++;
	if (fd >= 0 && i % 5 < 3)
		(void)send(fd, &hello, i % 5 == 2 ? 5 : sizeof(hello),
			   MSG_NOSIGNAL);
	if (i % 5 == 3) {
		/* Silent ones stay for a while. */
		int *slot = &silent[i / 5 % 64];

		if (*slot > 0)
			close(*slot);
		*slot = fd > 0 ? fd : 0;
	} else if (fd >= 0) {
		close(fd);
	}
	return !refused;
}

static pid_t start_flood(const char *name)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	/* The listener must not live on in its attackers. */
	close_range(3, ~0u, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(60);
	for (uint64_t i = 0;; i++)
		(void)annoy(name, i);
}

/*
 * Floods from several processes.  The right one gets through, and no call of
 * fastwake_accept() takes long.
 */
static const char *case_flood(uint32_t transport)
{
	pid_t pids[3];
	struct fastwake_channel *ch;
	struct victim v;
	const char *failed = victim_open(&v);
	uint64_t longest = 0, until, calls = 0;

	(void)transport;
	if (failed != NULL)
		return failed;
	for (int i = 0; i < 3; i++)
		pids[i] = start_flood(v.name);
	until = fastwake_now() + SECOND;
	while (fastwake_now() < until) {
		uint64_t start = fastwake_now();

		CHECK_IS(victim_accept(&v, &ch), -EAGAIN);
		if (fastwake_now() - start > longest)
			longest = fastwake_now() - start;
		calls++;
	}
	CHECK(strstr(last_reason, "refused process") != NULL);
	tap_diag("%llu calls, the longest %.1f ms; %s",
		 (unsigned long long)calls, (double)longest / 1e6, last_reason);
	/* Not that of a call that handles them as they come. */
	CHECK(longest < 2 * SECOND);
	failed = victim_end(&v);
	for (int i = 0; i < 3; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	return failed;
}

static int flood(const char *name, unsigned int seconds)
{
	uint64_t until = fastwake_now() + seconds * SECOND;
	uint64_t made = 0, refused = 0;

	for (uint64_t i = 0; fastwake_now() < until; i++) {
		if (annoy(name, i))
			made++;
		else
			refused++;
		if (i == 50)
			printf("started\n");
	}
	printf("%llu connections, %llu with nobody there\n",
	       (unsigned long long)made, (unsigned long long)refused);
	return 0;
}

/* ------------------------------------------------------------------ */
/* An established channel whose peer is a socket and some memory      */
/* ------------------------------------------------------------------ */

struct raw {
	struct victim victim;
	struct fastwake_channel *ch; /* the victim's end */
	int fd, memfd;
	uint8_t *memory;
	struct fw_shm_control *theirs, *ours;
	uint8_t *to, *from; /* the ring we write into; theirs into ours */
};

static const char *raw_open(struct raw *r)
{
	const char *failed = victim_open(&r->victim);
	struct fw_shm_hello hello;

	if (failed != NULL)
		return failed;
	hello = good_hello(r->victim.endpoint.token);
	r->fd = dial(r->victim.name, 0);
	CHECK_IS(send(r->fd, &hello, sizeof(hello), 0), sizeof(hello));
	CHECK_IS(victim_accept(&r->victim, &r->ch), 0);
	CHECK_IS(answer(r->fd, &r->memfd), 0);
	r->memory = mmap(NULL, fw_shm_size(RING, RING), PROT_READ | PROT_WRITE,
			 MAP_SHARED, r->memfd, 0);
	CHECK(r->memory != MAP_FAILED);
	r->theirs = (void *)r->memory;
	r->ours = (void *)(r->memory + FW_SHM_CONTROL);
	r->to = r->memory + (size_t)2 * FW_SHM_CONTROL;
	r->from = r->to + RING;
	return NULL;
}

static const char *raw_close(struct raw *r)
{
	fastwake_channel_close(r->ch);
	fastwake_listener_close(r->victim.listener);
	munmap(r->memory, fw_shm_size(RING, RING));
	close(r->memfd);
	close(r->fd);
	CHECK_IS(open_descriptors(), r->victim.descriptors);
	return NULL;
}

static void raw_announce(struct raw *r, uint64_t position)
{
	fw_store_release(&r->ours->produced, position);
}

static void raw_first(struct raw *r)
{
	put_first(r->to);
}

/* Every bit of header and payload, the checksum left as it was. */
static const char *case_frame_bits(uint32_t transport)
{
	struct fw_frame_header header = good_header(20);

	(void)transport;
	for (uint32_t bit = 0; bit < 8 * (FW_FRAME_HEADER + 20); bit++) {
		struct raw r;
		const char *failed = raw_open(&r);

		if (failed != NULL)
			return failed;
		raw_first(&r);
		put_lie(r.to, &header, 20);
		r.to[AT + bit / 8] ^= (uint8_t)(1u << bit % 8);
		raw_announce(&r, AT + 64);
		failed = outcome(r.ch, -EPROTO);
		if (failed == NULL)
			failed = raw_close(&r);
		if (failed != NULL) {
			tap_diag("bit %u of the frame", bit);
			return failed;
		}
	}
	return NULL;
}

static const char *lying_field(const struct field *f)
{
	struct raw r;
	const char *failed = raw_open(&r);

	if (failed != NULL)
		return failed;
	put_first(r.to);
	put_field(r.to, f);
	raw_announce(&r, AT + f->announced);
	failed = outcome(r.ch, f->error);
	if (failed != NULL)
		return failed;
	if (strstr(fastwake_channel_reason(r.ch), f->reason) == NULL)
		return fail_at(__LINE__, "%s: %s", f->what,
			       fastwake_channel_reason(r.ch));
	return raw_close(&r);
}

static const char *case_fields(uint32_t transport)
{
	(void)transport;
	for (size_t i = 0; i < FIELDS; i++) {
		const char *failed = lying_field(&fields[i]);

		if (failed != NULL) {
			tap_diag("%s", fields[i].what);
			return failed;
		}
	}
	return NULL;
}

/* Words that only control sleeping and waking, full of nonsense. */
static const char *case_wake_words(uint32_t transport)
{
	struct fastwake_waiter *waiter = make_waiter();
	struct fastwake_watch watches[4];
	struct raw r;
	const char *failed = raw_open(&r);
	uint64_t start = fastwake_now();
	uint32_t stream;
	void *p;

	(void)transport;
	if (failed != NULL)
		return failed;
	for (unsigned int i = 0; i < 200; i++) {
		uint32_t junk = (uint32_t)mix(i);
		uint64_t position = (uint64_t)AT * i;

		memset(&r.theirs->event_armed, (int)junk, 4);
		memset(&r.theirs->want_space, (int)junk, 4);
		memset(&r.theirs->doorbell, (int)junk, 16);
		fw_store(&r.ours->event_armed, junk | 1);
		fw_store(&r.ours->want_space, junk);
		memset(&r.ours->doorbell, (int)junk, 16);
		CHECK_IS(fastwake_channel_send(r.ch, 9, sample, 100), 100);
		CHECK(memcmp(r.from + (position & (RING - 1)) + FW_FRAME_HEADER,
			     sample, 100) == 0 ||
		      (position & (RING - 1)) + 132 > RING);
		fw_store_release(&r.ours->consumed, r.ch->tx.head);
		CHECK_IS(fastwake_channel_watches(r.ch, watches), 2);
		CHECK(fastwake_channel_poll(r.ch) >= 0);
		if (i % 20 == 0)
			(void)fastwake_wait(waiter, watches, 2, 0,
					    fastwake_now() + SECOND / 200,
					    NULL);
		CHECK(fastwake_channel_arm(r.ch) == 0);
	}
	CHECK(fastwake_now() - start < 10 * SECOND);
	raw_first(&r);
	raw_announce(&r, AT);
	CHECK_IS(fastwake_channel_recv(r.ch, &stream, &p), FIRST);
	CHECK(message_good(p, 1, FIRST));
	free_waiter(waiter);
	return raw_close(&r);
}

/* Positions: which words, what is written there, what comes of it. */
static const char *position_lie(bool produced, uint64_t lie)
{
	struct raw r;
	const char *failed = raw_open(&r);

	if (failed != NULL)
		return failed;
	raw_first(&r);
	CHECK_IS(fastwake_channel_send(r.ch, 9, sample, 100), 100);
	raw_announce(&r, AT);
	CHECK((fastwake_channel_poll(r.ch) & FASTWAKE_READABLE) != 0);
	if (produced)
		raw_announce(&r, lie);
	else
		fw_store_release(&r.ours->consumed, lie);
	failed = outcome(r.ch, -EPROTO);
	if (failed == NULL &&
	    strstr(fastwake_channel_reason(r.ch),
		   produced ? "write position" : "read position") == NULL)
		failed = fastwake_channel_reason(r.ch);
	return failed != NULL ? failed : raw_close(&r);
}

static const char *case_positions(uint32_t transport)
{
	static const uint64_t produced[] = { 0,
					     64,
					     AT - 1,
					     AT + 1,
					     AT + RING + 64,
					     1ull << 32,
					     1ull << 63,
					     UINT64_MAX,
					     UINT64_MAX - 63 };
	static const uint64_t consumed[] = { 1,		 63,	     AT + 64,
					     RING,	 RING + 64,  1ull << 32,
					     1ull << 63, UINT64_MAX, -64ull };
	const char *failed = NULL;

	(void)transport;
	for (size_t i = 0; i < 9 && failed == NULL; i++)
		failed = position_lie(true, produced[i]);
	for (size_t i = 0; i < 9 && failed == NULL; i++)
		failed = position_lie(false, consumed[i]);
	return failed;
}

/*
 * All of the shared memory rewritten at random between calls.  What is
 * delivered must be a message that was sent; calls return, and soon.
 */
static const char *random_round(uint64_t seed, unsigned int *errors)
{
	struct raw r;
	const char *failed = raw_open(&r);
	uint32_t stream;
	void *p;

	if (failed != NULL)
		return failed;
	raw_first(&r);
	raw_announce(&r, AT);
	for (unsigned int i = 0; i < 50; i++) {
		uint64_t random = mix(seed * 64 + i);
		size_t size = fw_shm_size(RING, RING);
		size_t at = (random >> 8) % size, n = (random >> 40) % 4096;
		ssize_t got;

		if (random % 3 == 0) /* the words that matter */
			at = (random >> 8) % 2 * FW_SHM_CONTROL +
			     (random >> 9) % 256,
			n = 1 + (random >> 20) % 8;
		for (size_t j = at; j < at + n && j < size; j++)
			r.memory[j] = (uint8_t)mix(random + j);
		got = fastwake_channel_recv(r.ch, &stream, &p);
		CHECK(got == -EAGAIN || got == -EPROTO || got == -EPIPE ||
		      (got == FIRST && message_good(p, 1, FIRST)));
		got = fastwake_channel_send(r.ch, 1, sample,
					    1 + (random >> 50) % 100);
		CHECK(got > 0 || got == -EAGAIN || got == -EPROTO ||
		      got == -EPIPE);
		(void)fastwake_channel_poll(r.ch);
		(void)fastwake_channel_arm(r.ch);
	}
	*errors += r.ch->error != 0;
	return raw_close(&r);
}

static const char *case_random_memory(uint32_t transport)
{
	unsigned int errors = 0;

	(void)transport;
	for (uint64_t seed = 0; seed < 300; seed++) {
		const char *failed = random_round(seed, &errors);

		if (failed != NULL) {
			tap_diag("seed %llu", (unsigned long long)seed);
			return failed;
		}
	}
	tap_diag("%u of 300 channels broken", errors);
	CHECK(errors > 100);
	return NULL;
}

/* The peer reads nothing, for ever; then only half. */
static const char *case_never_reads(uint32_t transport)
{
	struct raw r;
	const char *failed = raw_open(&r);
	uint64_t sent = 0;
	ssize_t n;

	(void)transport;
	if (failed != NULL)
		return failed;
	while ((n = fastwake_channel_send(r.ch, 0, sample, 100)) > 0)
		sent += (uint64_t)n;
	CHECK_IS(n, -EAGAIN);
	CHECK(sent <= RING);
	CHECK_IS(fastwake_channel_arm(r.ch), 0);
	CHECK(!readable(r.ch, 50));
	CHECK_IS(fastwake_channel_poll(r.ch), 0);
	close(r.fd);
	CHECK_IS(wait_channel(r.ch, FASTWAKE_READABLE, BY_FDS, NULL, 5),
		 -ECONNRESET);
	r.fd = dup(r.memfd);
	return raw_close(&r);
}

/* The socket carries wake-ups only, whatever is sent through it. */
static const char *case_socket_noise(uint32_t transport)
{
	struct raw r;
	const char *failed = raw_open(&r);
	uint8_t noise[2000];

	(void)transport;
	if (failed != NULL)
		return failed;
	message_fill(noise, 3, sizeof(noise));
	for (int i = 0; i < 300; i++)
		(void)send(r.fd, noise, mix((uint64_t)i) % sizeof(noise),
			   MSG_DONTWAIT | MSG_NOSIGNAL);
	for (int i = 0; i < 400; i++) {
		int set;

		(void)fastwake_channel_arm(r.ch);
		set = fastwake_channel_poll(r.ch);
		/* A message of no bytes is taken for the end. */
		if (set == -ECONNRESET)
			return raw_close(&r);
		CHECK(set >= 0);
	}
	raw_first(&r);
	raw_announce(&r, AT);
	failed = outcome(r.ch, 0);
	return failed != NULL ? failed : raw_close(&r);
}

#define RUN(name, function) run_case("hostile shm: " name, function, SHM)

int main(int argc, char **argv)
{
	tap_begin();
	if (argc == 4 && strcmp(argv[1], "flood") == 0)
		return flood(argv[2], (unsigned int)atoi(argv[3]));
	RUN("every bit of the hello", case_hello_bits);
	RUN("hellos of wrong lengths", case_hello_lengths);
	RUN("hello with descriptors", case_hello_descriptors);
	RUN("silence", case_silence);
	RUN("going away at each step", case_gone);
	RUN("two with the same token", case_replay);
	RUN("flood of connections", case_flood);
	RUN("every bit of a frame", case_frame_bits);
	RUN("lies in each field, checksum right", case_fields);
	RUN("impossible positions", case_positions);
	RUN("nonsense in the words of waiting", case_wake_words);
	RUN("random memory", case_random_memory);
	RUN("a peer that never reads", case_never_reads);
	RUN("noise on the socket", case_socket_noise);
	return tap_done();
}
