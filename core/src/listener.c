// SPDX-License-Identifier: PostgreSQL
/*
 * listener.c - wait for the one connection that has the token.
 *
 * The token is good for one connection.  It may be shown again only while none
 * has been made: a peer whose attempt over rdma failed tries shm next.  After
 * success the sockets are closed, so that a replayed token meets nobody.
 *
 * There is no limit to how often others may try: a token has 128 bits, and who
 * can reach the listener could use such a limit to keep the right peer out.  A
 * call of fastwake_accept() deals with a bounded number of them, and how long it
 * is called is for the caller to say.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "channel_internal.h"

struct fastwake_listener {
	uint8_t token[FW_TOKEN_BYTES];
	uint32_t ring_size;
	int epoll;
	unsigned int attempts;	       /* connections refused, for the reason */
	struct fw_shm_listener *shm;   /* NULL: not offered */
	struct fw_rdma_listener *rdma; /* NULL: not offered */
};

static void stop_listening(struct fastwake_listener *listener)
{
	fw_shm_listener_close(listener->shm);
	fw_rdma_listener_close(listener->rdma);
	listener->shm = NULL;
	listener->rdma = NULL;
}

static int open_transports(struct fastwake_listener *listener,
			   const struct fastwake_channel_options *options,
			   char *reason)
{
	int rc = -ENODEV;

	if (options->transports & FASTWAKE_TRANSPORT_RDMA)
		rc = fw_rdma_listen(&listener->rdma, listener->epoll, options,
				    reason);
	/* The reason left is that of the transport asked for last. */
	if (options->transports & FASTWAKE_TRANSPORT_SHM)
		rc = fw_shm_listen(&listener->shm, listener->epoll, options,
				   listener->rdma == NULL ? reason : NULL);
	return listener->rdma != NULL || listener->shm != NULL ? 0 : rc;
}

static int listener_open(struct fastwake_listener *listener,
			 const struct fastwake_channel_options *options,
			 char *reason)
{
	int rc;

	listener->ring_size = options->ring_size;
	rc = fw_token_make(listener->token);
	if (rc != 0)
		return fw_reason(reason, rc, "no random numbers");
	listener->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (listener->epoll < 0)
		return fw_reason(reason, -errno, "no epoll descriptor: %s",
				 strerror(errno));
	return open_transports(listener, options, reason);
}

int fastwake_listen(struct fastwake_listener **result,
		    const struct fastwake_channel_options *options,
		    char *reason)
{
	struct fastwake_listener *listener;
	int rc = fw_options_check(options);

	fw_reason(reason, 0, "%s", "");
	if (rc != 0)
		return fw_reason(reason, rc, "options out of range");
	listener = calloc(1, sizeof(*listener));
	if (listener == NULL)
		return fw_reason(reason, -ENOMEM, "out of memory");
	listener->epoll = -1;
	rc = listener_open(listener, options, reason);
	if (rc != 0) {
		fastwake_listener_close(listener);
		return rc;
	}
	*result = listener;
	return 0;
}

int fastwake_listener_endpoint(const struct fastwake_listener *listener,
			       char *text, size_t size)
{
	struct fw_endpoint endpoint = { .ring_size = listener->ring_size };

	memcpy(endpoint.token, listener->token, sizeof(endpoint.token));
	if (listener->rdma != NULL) {
		endpoint.transports |= FASTWAKE_TRANSPORT_RDMA;
		fw_rdma_listener_address(listener->rdma, &endpoint.rdma);
	}
	if (listener->shm != NULL) {
		endpoint.transports |= FASTWAKE_TRANSPORT_SHM;
		strcpy(endpoint.shm, fw_shm_listener_name(listener->shm));
	}
	return fw_endpoint_format(&endpoint, text, size);
}

int fastwake_listener_fd(const struct fastwake_listener *listener)
{
	return listener->epoll;
}

/* Each step: 0 with a channel, -EAGAIN, or the transport is of no use. */
static int accept_rdma(struct fastwake_listener *listener,
		       struct fastwake_channel **channel, char *reason)
{
	int rc = fw_rdma_accept(listener->rdma, listener->token, channel,
				&listener->attempts, reason);

	if (rc != 0 && rc != -EAGAIN) {
		fw_rdma_listener_close(listener->rdma);
		listener->rdma = NULL;
	}
	return rc;
}

static int accept_shm(struct fastwake_listener *listener,
		      struct fastwake_channel **channel, char *reason)
{
	int rc = fw_shm_accept(listener->shm, listener->token, channel,
			       &listener->attempts, reason);

	if (rc != 0 && rc != -EAGAIN) {
		fw_shm_listener_close(listener->shm);
		listener->shm = NULL;
	}
	return rc;
}

int fastwake_accept(struct fastwake_listener *listener,
		    struct fastwake_channel **channel, char *reason)
{
	int rc = -EINVAL;

	if (listener->rdma != NULL)
		rc = accept_rdma(listener, channel, reason);
	/* A peer that failed over rdma comes back over shm. */
	if (rc != 0 && listener->shm != NULL)
		rc = accept_shm(listener, channel, reason);
	if (rc == 0)
		stop_listening(listener);
	else if (rc != -EAGAIN && listener->rdma != NULL)
		rc = -EAGAIN; /* shm is of no use, but rdma still may be */
	return rc;
}

void fastwake_listener_close(struct fastwake_listener *listener)
{
	if (listener == NULL)
		return;
	stop_listening(listener);
	if (listener->epoll >= 0)
		close(listener->epoll);
	free(listener);
}
