// SPDX-License-Identifier: PostgreSQL
/*
 * shm_setup.c - how the two ends of a shm channel find each other.
 *
 * The listening side binds an abstract Unix socket with a random name.  Anyone
 * in the network namespace can connect to it; memory gets only who presents
 * the token.  The listening side makes the memory: a sealed memfd, which cannot
 * shrink under either side's feet as a named file could.  The connecting side
 * checks the seals before it maps what it was given.
 *
 * Nothing but the memfd is handed over.  In particular no eventfd: its file
 * description would be shared, and a peer that clears O_NONBLOCK on it or fills
 * its counter could make us block.  Each side has its own end of the socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u
#endif

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
/* Connections that have not sent their hello yet. */
#define PENDING 32
/*
 * Connections taken off the queue by one fastwake_accept(), so that a flood of
 * them does not keep it busy for ever.  Fewer than PENDING: each of them is
 * looked at once before others make it give up its place.
 */
#define BATCH	16
#define BACKLOG 128

_Static_assert(BATCH < PENDING, "see above");

/* How long a full queue is not taken for an answer. */
#define QUEUE_NS 1000000000ull

struct fw_shm_listener {
	char name[FW_SHM_NAME];
	int fd;
	int epoll;
	struct fastwake_channel_options options;
	int pending[PENDING]; /* -1: free; the oldest first */
};

/* ------------------------------------------------------------------ */
/* Memory                                                             */
/* ------------------------------------------------------------------ */

static int memory_open(void)
{
	int fd = memfd_create("fastwake", MFD_CLOEXEC | MFD_NOEXEC_SEAL);

	/* Linux before 6.3 does not know the flag, later ones may insist. */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("fastwake", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd;
}

static int memory_size(int fd, size_t size)
{
	int error;

	if (ftruncate(fd, (off_t)size) != 0)
		return -errno;
	/* Takes the pages now: later there is no way to report a failure. */
	do {
		error = posix_fallocate(fd, 0, (off_t)size);
	} while (error == EINTR);
	if (error != 0)
		return -error;
	return fcntl(fd, F_ADD_SEALS, SEALS) == 0 ? 0 : -errno;
}

static int memory_create(size_t size)
{
	int fd = memory_open();
	int rc;

	if (fd < 0)
		return -errno;
	rc = memory_size(fd, size);
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

static int memory_check(int fd, size_t size)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || (seals & SEALS) != SEALS)
		return -EPROTO;
	if (fstat(fd, &st) != 0 || st.st_size != (off_t)size)
		return -EPROTO;
	return 0;
}

/*
 * Map it and lay the channel out in it.  LISTENER says which side we are,
 * RINGS are the listening side's ring size and the other's.
 */
static int memory_map(struct fastwake_channel *ch, int fd, bool listener,
		      const uint32_t rings[2])
{
	struct fw_shm *shm = ch->shm;
	size_t size = fw_shm_size(rings[0], rings[1]);
	uint8_t *ring[2], *memory;

	memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_POPULATE, fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	shm->memory = memory;
	shm->size = size;
	shm->own = (void *)(memory + (listener ? 0 : FW_SHM_CONTROL));
	shm->peer = (void *)(memory + (listener ? FW_SHM_CONTROL : 0));
	ring[0] = memory + (size_t)2 * FW_SHM_CONTROL;
	ring[1] = ring[0] + rings[0];
	ch->rx.ring = ring[!listener];
	ch->rx.size = rings[!listener];
	ch->tx.ring = ring[listener];
	ch->tx.size = rings[listener];
	return 0;
}

static int shm_attach(struct fastwake_channel *ch, int fd)
{
	ch->shm = calloc(1, sizeof(*ch->shm));
	if (ch->shm == NULL) {
		close(fd);
		return -ENOMEM;
	}
	ch->shm->fd = fd;
	return 0;
}

static socklen_t abstract_address(struct sockaddr_un *address, const char *name)
{
	size_t length = strlen(name);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path + 1, name, length);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
}

/* ------------------------------------------------------------------ */
/* Listening side                                                     */
/* ------------------------------------------------------------------ */

static int watch_fd(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

static int listener_open(struct fw_shm_listener *listener)
{
	struct sockaddr_un address;
	uint8_t random[FW_TOKEN_BYTES];
	socklen_t length;
	int rc = fw_token_make(random);

	if (rc != 0)
		return rc;
	strcpy(listener->name, "fastwake-");
	fw_hex_encode(listener->name + strlen(listener->name), random,
		      sizeof(random));
	listener->fd = socket(AF_UNIX,
			      SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd < 0)
		return -errno;
	length = abstract_address(&address, listener->name);
	if (bind(listener->fd, (void *)&address, length) != 0 ||
	    listen(listener->fd, BACKLOG) != 0)
		return -errno;
	return watch_fd(listener->epoll, listener->fd);
}

int fw_shm_listen(struct fw_shm_listener **result, int epoll,
		  const struct fastwake_channel_options *options, char *reason)
{
	struct fw_shm_listener *listener = calloc(1, sizeof(*listener));
	int rc;

	if (listener == NULL)
		return fw_reason(reason, -ENOMEM, "shm: out of memory");
	listener->fd = -1;
	listener->epoll = epoll;
	listener->options = *options;
	for (unsigned int i = 0; i < PENDING; i++)
		listener->pending[i] = -1;
	rc = listener_open(listener);
	if (rc != 0) {
		fw_shm_listener_close(listener);
		return fw_reason(reason, rc,
				 "shm: could not listen on a Unix socket: %s",
				 strerror(-rc));
	}
	*result = listener;
	return 0;
}

const char *fw_shm_listener_name(const struct fw_shm_listener *listener)
{
	return listener->name;
}

void fw_shm_listener_close(struct fw_shm_listener *listener)
{
	if (listener == NULL)
		return;
	for (unsigned int i = 0; i < PENDING; i++)
		if (listener->pending[i] >= 0)
			close(listener->pending[i]);
	if (listener->fd >= 0)
		close(listener->fd);
	free(listener);
}

/* Forget the connection at index I; its descriptor is the caller's now. */
static int pending_take(struct fw_shm_listener *listener, unsigned int i)
{
	int fd = listener->pending[i];

	for (; i + 1 < PENDING; i++)
		listener->pending[i] = listener->pending[i + 1];
	listener->pending[PENDING - 1] = -1;
	return fd;
}

/* Whoever connects and stays silent is dropped when others come. */
static void pending_add(struct fw_shm_listener *listener, int fd)
{
	unsigned int i = 0;

	if (watch_fd(listener->epoll, fd) != 0) {
		close(fd);
		return;
	}
	if (listener->pending[PENDING - 1] >= 0)
		close(pending_take(listener, 0));
	while (listener->pending[i] >= 0)
		i++;
	listener->pending[i] = fd;
}

/* Sends the answer, with the memory if MEMFD >= 0. */
static int send_reply(int fd, int error, uint32_t ring_size, int memfd)
{
	struct fw_shm_reply reply = {
		.magic = FW_SHM_MAGIC,
		.version = FW_SHM_VERSION,
		.ring_size = ring_size,
		.error = error,
	};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = {
			      .cmsg_len = CMSG_LEN(sizeof(int)),
			      .cmsg_level = SOL_SOCKET,
			      .cmsg_type = SCM_RIGHTS,
		      } };
	struct iovec iov = { .iov_base = &reply, .iov_len = sizeof(reply) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (memfd >= 0) {
		memcpy(CMSG_DATA(&control.header), &memfd, sizeof(memfd));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control.space);
	}
	n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n == sizeof(reply) ? 0 : -ECONNRESET;
}

/* The peer has shown the token: give it the memory. */
static int accept_peer(struct fw_shm_listener *listener,
		       struct fastwake_channel *ch, uint32_t peer_ring)
{
	uint32_t rings[2] = { listener->options.ring_size, peer_ring };
	int memfd = memory_create(fw_shm_size(rings[0], rings[1]));
	int rc;

	if (memfd < 0)
		return memfd;
	rc = memory_map(ch, memfd, true, rings);
	if (rc == 0)
		rc = send_reply(ch->shm->fd, 0, rings[0], memfd);
	close(memfd);
	return rc;
}

static int channel_make(struct fw_shm_listener *listener, int fd,
			uint32_t peer_ring, struct fastwake_channel **channel)
{
	struct fastwake_channel *ch;
	int rc = fw_channel_create(&ch, &listener->options);

	if (rc != 0) {
		close(fd);
		return rc;
	}
	rc = shm_attach(ch, fd);
	if (rc == 0)
		rc = accept_peer(listener, ch, peer_ring);
	if (rc != 0) {
		fastwake_channel_close(ch);
		return rc;
	}
	fw_channel_established(ch, &fw_shm_transport);
	*channel = ch;
	return 0;
}

int fw_shm_hello_check(const struct fw_shm_hello *hello, size_t length,
		       const uint8_t *token)
{
	uint32_t ring = hello->ring_size;

	if (length != sizeof(*hello) || hello->magic != FW_SHM_MAGIC ||
	    hello->version != FW_SHM_VERSION || hello->reserved != 0 ||
	    ring < FASTWAKE_RING_MIN || ring > FASTWAKE_RING_MAX ||
	    (ring & (ring - 1)) != 0)
		return -EPROTO;
	return fw_token_equal(hello->token, token) ? 0 : -EACCES;
}

static void refuse(int fd, int error, char *reason, unsigned int *attempts)
{
	struct ucred peer = { 0 };
	socklen_t length = sizeof(peer);

	/* For the log only: a pid proves nothing. */
	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length);
	(void)send_reply(fd, error, 0, -1);
	close(fd);
	++*attempts;
	fw_reason(
		reason, error,
		"shm: refused process %d: %s (connection %u that was refused)",
		(int)peer.pid,
		error == -EACCES ? "wrong token" : "malformed request",
		*attempts);
}

/* One pending connection: as fw_shm_accept(). */
static int pending_step(struct fw_shm_listener *listener, unsigned int i,
			const uint8_t *token, struct fastwake_channel **channel,
			unsigned int *attempts, char *reason)
{
	struct fw_shm_hello hello = { 0 };
	ssize_t n;
	int rc;

	/* The length of all that was sent, however much that is. */
	n = recv(listener->pending[i], &hello, sizeof(hello),
		 MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n <= 0) { /* gone without a word: nobody who guesses tokens */
		close(pending_take(listener, i));
		return -EAGAIN;
	}
	rc = fw_shm_hello_check(&hello, (size_t)n, token);
	if (rc != 0) {
		refuse(pending_take(listener, i), rc, reason, attempts);
		return -EAGAIN;
	}
	(void)epoll_ctl(listener->epoll, EPOLL_CTL_DEL, listener->pending[i],
			NULL);
	rc = channel_make(listener, pending_take(listener, i), hello.ring_size,
			  channel);
	if (rc == -ECONNRESET) {
		++*attempts; /* it went away again, another may come */
		return -EAGAIN;
	}
	return rc == 0 ? 0
		       : fw_reason(reason, rc,
				   "shm: could not make the shared memory: %s",
				   strerror(-rc));
}

static void accept_batch(struct fw_shm_listener *listener)
{
	for (unsigned int i = 0; i < BATCH; i++) {
		int fd = accept4(listener->fd, NULL, NULL,
				 SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return;
		pending_add(listener, fd);
	}
}

int fw_shm_accept(struct fw_shm_listener *listener, const uint8_t *token,
		  struct fastwake_channel **channel, unsigned int *attempts,
		  char *reason)
{
	unsigned int i = 0;
	int fd, rc;

	accept_batch(listener);
	while (i < PENDING && listener->pending[i] >= 0) {
		fd = listener->pending[i];
		rc = pending_step(listener, i, token, channel, attempts,
				  reason);
		if (rc != -EAGAIN)
			return rc;
		/* If it was refused, another has moved into its place. */
		if (listener->pending[i] == fd)
			i++;
	}
	return -EAGAIN;
}

/* ------------------------------------------------------------------ */
/* Connecting side                                                    */
/* ------------------------------------------------------------------ */

static int send_hello(struct fw_shm *shm)
{
	struct fw_shm_hello hello = {
		.magic = FW_SHM_MAGIC,
		.version = FW_SHM_VERSION,
		.ring_size = shm->ring_size,
	};
	ssize_t n;

	memcpy(hello.token, shm->token, sizeof(hello.token));
	n = send(shm->fd, &hello, sizeof(hello), MSG_NOSIGNAL | MSG_DONTWAIT);
	explicit_bzero(&hello, sizeof(hello));
	explicit_bzero(shm->token, sizeof(shm->token));
	return n == sizeof(hello) ? 0 : -ECONNRESET;
}

/*
 * 0: the hello is sent.  -EAGAIN: the listener's queue is full, others are
 * before us.  Until there is a place the socket is readable (POLLHUP), so that
 * who waits for it tries again at once, as those do whom he has to beat.
 */
static int knock(struct fw_shm *shm, char *reason)
{
	struct sockaddr_un address;
	socklen_t length = abstract_address(&address, shm->name);
	int rc;

	if (connect(shm->fd, (void *)&address, length) != 0) {
		rc = -errno;
		if (rc == -EAGAIN && fastwake_now() < shm->deadline_ns)
			return rc;
		if (rc == -EAGAIN)
			return fw_reason(reason, -ETIMEDOUT,
					 "shm: the peer's queue is full");
		if (rc == -ECONNREFUSED)
			return fw_reason(
				reason, -ENODEV,
				"shm: the peer is not on this host (or in another network namespace)");
		return fw_reason(reason, rc, "shm: could not connect: %s",
				 strerror(-rc));
	}
	shm->connected = true;
	rc = send_hello(shm);
	return rc == 0 ? 0 : fw_reason(reason, rc, "shm: peer hung up");
}

int fw_shm_connect(struct fastwake_channel *ch,
		   const struct fw_endpoint *endpoint, uint32_t ring_size,
		   char *reason)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
			0);
	int rc;

	if (fd < 0)
		return fw_reason(reason, -errno, "shm: no Unix socket: %s",
				 strerror(errno));
	rc = shm_attach(ch, fd);
	if (rc != 0)
		return fw_reason(reason, rc, "shm: out of memory");
	ch->shm->ring_size = ring_size;
	ch->shm->expected_ring = endpoint->ring_size;
	ch->shm->deadline_ns = fastwake_now() + QUEUE_NS;
	strcpy(ch->shm->name, endpoint->shm);
	memcpy(ch->shm->token, endpoint->token, sizeof(ch->shm->token));
	rc = knock(ch->shm, reason);
	return rc == -EAGAIN ? 0 : rc;
}

/* Receives the answer and at most one descriptor, else -1 in *MEMFD. */
static ssize_t receive_reply(int fd, struct fw_shm_reply *reply, int *memfd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = reply, .iov_len = sizeof(*reply) };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		/* Exactly one: with the padding there is room for two. */
		.msg_controllen = CMSG_LEN(sizeof(int)),
	};
	ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *header;

	*memfd = -1;
	if (n < 0)
		return -errno;
	header = CMSG_FIRSTHDR(&message);
	if (header != NULL && header->cmsg_level == SOL_SOCKET &&
	    header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(memfd, CMSG_DATA(header), sizeof(*memfd));
	return n;
}

static int use_reply(struct fastwake_channel *ch,
		     const struct fw_shm_reply *reply, int memfd, char *reason)
{
	uint32_t rings[2] = { reply->ring_size, ch->shm->ring_size };
	int rc;

	if (reply->magic != FW_SHM_MAGIC || reply->version != FW_SHM_VERSION)
		return fw_reason(reason, -EPROTO, "shm: malformed answer");
	if (reply->error != 0)
		return fw_reason(reason, -EACCES,
				 "shm: the peer refused the connection");
	if (memfd < 0 || reply->ring_size != ch->shm->expected_ring ||
	    memory_check(memfd, fw_shm_size(rings[0], rings[1])) != 0)
		return fw_reason(reason, -EPROTO,
				 "shm: the peer's memory is not a sealed memfd "
				 "of the right size");
	rc = memory_map(ch, memfd, false, rings);
	return rc == 0 ? 0
		       : fw_reason(reason, rc,
				   "shm: could not map the memory: %s",
				   strerror(-rc));
}

int fw_shm_connect_continue(struct fastwake_channel *ch, char *reason)
{
	struct fw_shm_reply reply = { 0 };
	int memfd, rc = 0;
	ssize_t n;

	if (!ch->shm->connected)
		rc = knock(ch->shm, reason);
	if (rc != 0)
		return rc;
	n = receive_reply(ch->shm->fd, &reply, &memfd);
	if (n == -EAGAIN || n == -EINTR)
		return -EAGAIN;
	if (n == (ssize_t)sizeof(reply))
		rc = use_reply(ch, &reply, memfd, reason);
	else
		rc = fw_reason(reason, n <= 0 ? -ECONNRESET : -EPROTO,
			       "shm: the peer hung up instead of answering");
	if (memfd >= 0)
		close(memfd);
	if (rc == 0)
		fw_channel_established(ch, &fw_shm_transport);
	return rc;
}
