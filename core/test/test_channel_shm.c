// SPDX-License-Identifier: PostgreSQL
/*
 * test_channel_shm.c - channels over shared memory.
 */
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "channel_cases.h"
#include "shm.h"

#define SHM FASTWAKE_TRANSPORT_SHM

/* ------------------------------------------------------------------ */
/* Positions that a hostile peer writes                               */
/* ------------------------------------------------------------------ */

static const char *hostile_produced(uint64_t (*lie)(uint64_t))
{
	struct fastwake_channel_options options = plain(SHM);
	struct pair pair;
	uint32_t stream;
	void *p;

	CHECK(pair_open(&pair, &options, &options));
	for (int i = 0; i < 3; i++)
		CHECK_IS(send_all(pair.connecting, NULL, 0, sample, 100), 0);
	CHECK_IS(take(pair.listening, &stream, &p), 100);
	fw_store(&pair.connecting->shm->own->produced,
		 lie(pair.connecting->tx.head));
	CHECK_IS(take_error(pair.listening), -EPROTO);
	pair_close(&pair);
	return NULL;
}

static uint64_t lie_back(uint64_t head)
{
	return head - 64;
}

static uint64_t lie_zero(uint64_t head)
{
	(void)head;
	return 0;
}

static uint64_t lie_far(uint64_t head)
{
	return head + RING;
}

static uint64_t lie_huge(uint64_t head)
{
	return head + (1ull << 63);
}

static uint64_t lie_odd(uint64_t head)
{
	return head + 1;
}

/* Ahead of what was written: old memory shows up as frames out of place. */
static uint64_t lie_near(uint64_t head)
{
	return head + 64;
}

static const char *case_hostile_produced(uint32_t transport)
{
	uint64_t (*const lies[])(uint64_t) = { lie_back, lie_zero, lie_far,
					       lie_huge, lie_odd,  lie_near };

	(void)transport;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		const char *failed = hostile_produced(lies[i]);

		if (failed != NULL)
			return failed;
	}
	return NULL;
}

static const char *case_hostile_consumed(uint32_t transport)
{
	static const uint64_t lies[] = { 64 * 1000, 1, 1ull << 63, UINT64_MAX };
	struct fastwake_channel_options options = plain(transport);

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct pair pair;
		int rc;

		CHECK(pair_open(&pair, &options, &options));
		CHECK_IS(send_all(pair.connecting, NULL, 0, sample, 100), 0);
		fw_store(&pair.listening->shm->own->consumed, lies[i]);
		rc = fastwake_channel_poll(pair.connecting);
		CHECK_IS(rc, -EPROTO);
		CHECK_IS(fastwake_channel_send(pair.connecting, 0, "x", 1),
			 -EPROTO);
		pair_close(&pair);
	}
	return NULL;
}

/* Flip a byte of the frame at RING, and back, while *GO is 1. */
static void flip(volatile uint8_t *ring, uint32_t *go)
{
	for (uint64_t i = 0;; i++) {
		volatile uint8_t *byte = ring + mix(i) % 2000;

		while (fw_load_acquire(go) == 0)
			sched_yield();
		*byte ^= 1;
		fw_store_release(go, 2); /* it has begun */
		*byte ^= 1;
	}
}

static const char *changing(struct pair *pair, uint32_t *go, int *refused)
{
	uint8_t buffer[1900];
	uint32_t stream;
	ssize_t n;
	void *p;

	message_fill(buffer, 5, sizeof(buffer));
	CHECK_IS(send_all(pair->connecting, NULL, 0, buffer, sizeof(buffer)),
		 0);
	fw_store_release(go, 1);
	while (fw_load_acquire(go) == 1)
		sched_yield();
	n = fastwake_channel_recv(pair->listening, &stream, &p);
	fw_store_release(go, 0);
	*refused += n == -EPROTO;
	if (n == -EPROTO)
		return NULL;
	CHECK_IS(n, sizeof(buffer));
	CHECK(message_good(p, 5, sizeof(buffer)));
	return NULL;
}

/* A frame that changes while it is being read is refused or intact. */
static const char *case_changing_frame(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	uint32_t *go = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *failed = NULL;
	int refused = 0;

	for (int i = 0; i < 200 && failed == NULL; i++) {
		struct pair pair;
		pid_t pid;

		CHECK(pair_open(&pair, &options, &options));
		*go = 0;
		pid = fork();
		if (pid == 0)
			flip(pair.connecting->tx.ring, go);
		failed = changing(&pair, go, &refused);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		pair_close(&pair);
	}
	if (failed == NULL && refused == 0)
		failed = "never refused: nothing was tested";
	return failed;
}

/* A peer that keeps the socket readable costs wake-ups, nothing else. */
static const char *case_flooded_socket(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct pair pair;
	uint32_t stream;
	void *p;

	CHECK(pair_open(&pair, &options, &options));
	for (int i = 0; i < 1000; i++)
		(void)send(pair.connecting->shm->fd, &options, 10,
			   MSG_DONTWAIT);
	CHECK_IS(send_all(pair.connecting, NULL, 0, sample, 100), 0);
	CHECK_IS(take(pair.listening, &stream, &p), 100);
	for (int i = 0; i < 1000 && readable(pair.listening, 0); i++) {
		fastwake_channel_arm(pair.listening);
		CHECK(fastwake_channel_poll(pair.listening) >= 0);
	}
	CHECK(!readable(pair.listening, 0));
	pair_close(&pair);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* A hostile listener                                                 */
/* ------------------------------------------------------------------ */

struct trap {
	const char *what;
	bool seal_shrink, seal_grow, seal_seal;
	off_t size_error;
	uint32_t magic, version, ring;
	int descriptors; /* how many are sent */
	size_t length;	 /* of the answer */
	int error;
};

#define GOOD_REPLY \
	FW_SHM_MAGIC, FW_SHM_VERSION, RING, 1, sizeof(struct fw_shm_reply)

static const struct trap traps[] = {
	{ "good", 1, 1, 1, 0, GOOD_REPLY, 0 },
	{ "can shrink", 0, 1, 1, 0, GOOD_REPLY, -EPROTO },
	{ "can grow", 1, 0, 1, 0, GOOD_REPLY, -EPROTO },
	{ "seals open", 1, 1, 0, 0, GOOD_REPLY, -EPROTO },
	{ "not sealed", 0, 0, 0, 0, GOOD_REPLY, -EPROTO },
	{ "too small", 1, 1, 1, -4096, GOOD_REPLY, -EPROTO },
	{ "too large", 1, 1, 1, 4096, GOOD_REPLY, -EPROTO },
	{ "magic", 1, 1, 1, 0, 7, FW_SHM_VERSION, RING, 1,
	  sizeof(struct fw_shm_reply), -EPROTO },
	{ "version", 1, 1, 1, 0, FW_SHM_MAGIC, 9, RING, 1,
	  sizeof(struct fw_shm_reply), -EPROTO },
	{ "other ring", 1, 1, 1, RING, FW_SHM_MAGIC, FW_SHM_VERSION, 2 * RING,
	  1, sizeof(struct fw_shm_reply), -EPROTO },
	{ "no memory", 1, 1, 1, 0, FW_SHM_MAGIC, FW_SHM_VERSION, RING, 0,
	  sizeof(struct fw_shm_reply), -EPROTO },
	{ "two descriptors", 1, 1, 1, 0, FW_SHM_MAGIC, FW_SHM_VERSION, RING, 2,
	  sizeof(struct fw_shm_reply), 0 },
	{ "short answer", 1, 1, 1, 0, FW_SHM_MAGIC, FW_SHM_VERSION, RING, 1, 5,
	  -EPROTO },
};

static int trap_memory(const struct trap *trap)
{
	int fd = memfd_create("trap", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int seals = (trap->seal_shrink ? F_SEAL_SHRINK : 0) |
		    (trap->seal_grow ? F_SEAL_GROW : 0);
	off_t size = (off_t)fw_shm_size(RING, RING) + trap->size_error;

	if (ftruncate(fd, size) != 0 || fcntl(fd, F_ADD_SEALS, seals) != 0 ||
	    (trap->seal_seal && fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) != 0))
		tap_bail("no memfd");
	return fd;
}

static void trap_reply(const struct trap *trap, int fd)
{
	struct fw_shm_reply reply = {
		.magic = trap->magic,
		.version = trap->version,
		.ring_size = trap->ring,
	};
	int memfd = trap_memory(trap);
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control = { .space = { 0 } };
	struct iovec iov = { .iov_base = &reply, .iov_len = trap->length };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len =
		CMSG_LEN((size_t)trap->descriptors * sizeof(int));
	for (int i = 0; i < trap->descriptors; i++)
		memcpy(CMSG_DATA(&control.header) + (size_t)i * sizeof(int),
		       &memfd, sizeof(int));
	if (trap->descriptors > 0) {
		message.msg_control = &control;
		message.msg_controllen = control.header.cmsg_len;
	}
	if (sendmsg(fd, &message, 0) < 0)
		tap_bail("no answer");
	close(memfd);
}

static int trap_listen(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char name[] = "\0trap-0000";
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(name + 6, 5, "%04x", (unsigned int)getpid() & 0xffffu);
	memcpy(address.sun_path, name, 10);
	if (bind(fd, (void *)&address,
		 offsetof(struct sockaddr_un, sun_path) + 10) != 0 ||
	    listen(fd, 1) != 0)
		tap_bail("no socket");
	return fd;
}

static const char *trapped(const struct trap *trap, int listener,
			   int descriptors)
{
	struct fastwake_channel_options options = plain(SHM);
	struct fastwake_channel *ch;
	struct fw_shm_hello hello;
	char text[200];
	int fd, rc;

	snprintf(text, sizeof(text),
		 "fastwake/1 token=%032d ring=%u shm=@trap-%04x", 0, RING,
		 (unsigned int)getpid() & 0xffffu);
	CHECK_IS(fastwake_connect(&ch, text, &options, last_reason), 0);
	fd = accept(listener, NULL, NULL);
	CHECK_IS(recv(fd, &hello, sizeof(hello), 0), sizeof(hello));
	CHECK_IS(fastwake_connect_continue(ch, last_reason), -EAGAIN);
	trap_reply(trap, fd);
	rc = fastwake_connect_continue(ch, last_reason);
	if (rc != trap->error)
		return fail_at(__LINE__, "%s: %d", trap->what, rc);
	fastwake_channel_close(ch);
	close(fd);
	CHECK_IS(open_descriptors(), descriptors);
	return NULL;
}

static const char *case_traps(uint32_t transport)
{
	int listener = trap_listen();
	int descriptors = open_descriptors();

	(void)transport;
	for (size_t i = 0; i < sizeof(traps) / sizeof(traps[0]); i++) {
		const char *failed = trapped(&traps[i], listener, descriptors);

		if (failed != NULL)
			return failed;
	}
	close(listener);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Hostile connectors                                                 */
/* ------------------------------------------------------------------ */

static int knock(const char *text)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *name = strstr(text, "shm=@") + 5;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path + 1, name, strlen(name));
	if (connect(fd, (void *)&address,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
				strlen(name))) != 0)
		return -1;
	return fd;
}

/* Silent, gone or talking nonsense: the right one still gets through. */
static const char *case_bad_company(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_channel *ch;
	char text[FASTWAKE_ENDPOINT_MAX], nonsense[100] = { 1, 2, 3 };
	struct fastwake_listener *listener;
	struct pair pair;
	int fds[40];

	CHECK_IS(fastwake_listen(&listener, &options, last_reason), 0);
	CHECK_IS(fastwake_listener_endpoint(listener, text, sizeof(text)), 0);
	for (int i = 0; i < 40; i++) {
		fds[i] = knock(text);
		CHECK(fds[i] >= 0);
		if (i % 4 == 0)
			close(fds[i]);
		else if (i % 7 == 0)
			CHECK_IS(send(fds[i], nonsense, sizeof(nonsense), 0),
				 sizeof(nonsense));
		CHECK_IS(fastwake_accept(listener, &ch, last_reason), -EAGAIN);
	}
	CHECK_IS(try_connect(listener, text, &options, &pair), 0);
	fastwake_listener_close(listener);
	pair_close(&pair);
	return NULL;
}

static const char *case_bad_hello(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	static const uint32_t rings[] = { 0,	    1,	      RING + 1,
					  3 * RING, 1u << 25, UINT32_MAX };
	char text[FASTWAKE_ENDPOINT_MAX];
	struct fastwake_listener *listener;
	struct fw_endpoint endpoint;
	struct fastwake_channel *ch;
	const char *why;

	CHECK_IS(fastwake_listen(&listener, &options, last_reason), 0);
	CHECK_IS(fastwake_listener_endpoint(listener, text, sizeof(text)), 0);
	CHECK_IS(fw_endpoint_parse(&endpoint, text, &why), 0);
	for (size_t i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
		struct fw_shm_hello hello = { .magic = FW_SHM_MAGIC,
					      .version = FW_SHM_VERSION,
					      .ring_size = rings[i] };
		struct fw_shm_reply reply;
		int fd = knock(text);

		memcpy(hello.token, endpoint.token, sizeof(hello.token));
		CHECK_IS(send(fd, &hello, sizeof(hello), 0), sizeof(hello));
		CHECK_IS(fastwake_accept(listener, &ch, last_reason), -EAGAIN);
		CHECK_IS(recv(fd, &reply, sizeof(reply), 0), sizeof(reply));
		CHECK_IS(reply.error, -EPROTO);
		close(fd);
	}
	fastwake_listener_close(listener);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Watches                                                            */
/* ------------------------------------------------------------------ */

static const char *case_watches(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_waiter *waiter = make_waiter();
	struct fastwake_watch watches[4];
	struct fastwake_channel *ch;
	struct pair pair;

	CHECK(pair_open(&pair, &options, &options));
	ch = pair.connecting;
	CHECK_IS(fastwake_channel_watches(ch, watches), 2);
	CHECK(fill(ch, 500) > 0);
	CHECK_IS(fastwake_channel_watches(ch, watches), 3);
	CHECK_IS(fastwake_wait(waiter, watches, 3, 0,
			       fastwake_now() + SECOND / 100, NULL),
		 -ETIMEDOUT);
	fastwake_channel_close(pair.listening);
	CHECK_IS(fastwake_wait(waiter, watches, 3, 0, fastwake_now() + SECOND,
			       NULL),
		 1);
	CHECK_IS(fastwake_channel_poll(ch), -EPIPE);
	fastwake_channel_close(ch);
	free_waiter(waiter);
	return NULL;
}

static int child_closes(struct fastwake_channel *ch, void *arg)
{
	(void)arg;
	usleep(200000);
	fastwake_channel_close(ch);
	return 0;
}

/* Asleep on the doorbell when the peer closes. */
static const char *case_close_wakes(uint32_t transport)
{
	struct fastwake_channel_options options = plain(transport);
	struct fastwake_waiter *waiter = make_waiter();
	struct fastwake_channel *ch;
	pid_t pid = pair_fork(&ch, &options, child_closes, NULL);
	uint64_t start = fastwake_now();

	CHECK_IS(wait_channel(ch, FASTWAKE_READABLE, BY_WATCHES, waiter, 10),
		 -EPIPE);
	CHECK(fastwake_now() - start < SECOND * 9 / 10);
	fastwake_channel_close(ch);
	CHECK_IS(pair_join(pid), 0);
	free_waiter(waiter);
	return NULL;
}

#define RUN(name, function) run_case("shm: " name, function, SHM)

int main(void)
{
	tap_begin();
	COMMON_CASES(RUN);
	RUN("traffic, waiting by watches", case_traffic_watches);
	RUN("ping-pong by watches", case_ping_watches);
	RUN("watches", case_watches);
	RUN("close wakes a sleeper", case_close_wakes);
	RUN("hostile write position", case_hostile_produced);
	RUN("hostile read position", case_hostile_consumed);
	RUN("frame changed while it is read", case_changing_frame);
	RUN("flooded socket", case_flooded_socket);
	RUN("hostile listener", case_traps);
	RUN("bad company", case_bad_company);
	RUN("bad hello", case_bad_hello);
	return tap_done();
}
