// SPDX-License-Identifier: PostgreSQL
/*
 * connect.c - connect to an endpoint by the first transport that works.
 *
 * rdma is tried first, then shm.  When all have failed, the first error is
 * returned, with the reasons of all.
 */
#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "channel_internal.h"

struct fw_connect {
	struct fw_endpoint endpoint;
	uint32_t ring_size;
	char device[64];
	uint32_t left;	  /* transports to try yet */
	uint32_t current; /* the one that is under way */
	int error;	  /* of the first that failed */
	char reason[FASTWAKE_REASON_MAX];
};

/* Note that a transport cannot be used, and why. */
static void note(struct fw_connect *connect, int error, const char *why)
{
	size_t length = strlen(connect->reason);

	if (connect->error == 0)
		connect->error = error;
	snprintf(connect->reason + length, sizeof(connect->reason) - length,
		 "%s%s", length > 0 ? "; " : "", why);
}

static int start(struct fastwake_channel *ch, uint32_t transport, char *why)
{
	struct fw_connect *connect = ch->connect;

	if (transport == FASTWAKE_TRANSPORT_RDMA)
		return fw_rdma_connect(ch, &connect->endpoint, connect->device,
				       connect->ring_size, connect->left != 0,
				       why);
	return fw_shm_connect(ch, &connect->endpoint, connect->ring_size, why);
}

/* Drop what a failed attempt has left. */
static void stop(struct fastwake_channel *ch)
{
	if (ch->rdma != NULL)
		fw_rdma_transport.close(ch);
	if (ch->shm != NULL)
		fw_shm_transport.close(ch);
}

/* Begin with the next transport.  0: under way, else none is left. */
static int start_next(struct fastwake_channel *ch)
{
	static const uint32_t order[] = { FASTWAKE_TRANSPORT_RDMA,
					  FASTWAKE_TRANSPORT_SHM };
	struct fw_connect *connect = ch->connect;
	char why[FASTWAKE_REASON_MAX];

	for (unsigned int i = 0; i < 2; i++) {
		int rc;

		if ((connect->left & order[i]) == 0)
			continue;
		connect->left &= ~order[i];
		connect->current = order[i];
		rc = start(ch, order[i], why);
		if (rc == 0)
			return 0;
		note(connect, rc, why);
		stop(ch);
	}
	return connect->error != 0 ? connect->error : -ENODEV;
}

static void choose(struct fw_connect *connect, uint32_t allowed)
{
	char why[FASTWAKE_REASON_MAX];
	int rc;

	connect->left = connect->endpoint.transports & allowed;
	if (connect->left == 0)
		note(connect, -ENODEV, "no transport in common with the peer");
	if ((connect->left & FASTWAKE_TRANSPORT_RDMA) == 0)
		return;
	rc = fw_rdma_available(connect->device, why);
	if (rc != 0) {
		connect->left &= ~FASTWAKE_TRANSPORT_RDMA;
		note(connect, rc, why);
	}
}

static int prepare(struct fw_connect *connect, const char *text,
		   const struct fastwake_channel_options *options, char *reason)
{
	const char *device = options->device != NULL ? options->device : "";
	const char *why;

	connect->ring_size = options->ring_size;
	if (strlen(device) >= sizeof(connect->device))
		return fw_reason(reason, -EINVAL, "device name too long");
	strcpy(connect->device, device);
	if (fw_endpoint_parse(&connect->endpoint, text, &why) != 0)
		return fw_reason(reason, -EPROTO, "malformed endpoint: %s",
				 why);
	choose(connect, options->transports);
	return 0;
}

static int begin(struct fastwake_channel *ch, const char *text,
		 const struct fastwake_channel_options *options, char *reason)
{
	int rc;

	ch->connect = calloc(1, sizeof(*ch->connect));
	if (ch->connect == NULL)
		return fw_reason(reason, -ENOMEM, "out of memory");
	rc = prepare(ch->connect, text, options, reason);
	if (rc != 0)
		return rc;
	rc = start_next(ch);
	return rc == 0 ? 0 : fw_reason(reason, rc, "%s", ch->connect->reason);
}

int fastwake_connect(struct fastwake_channel **channel, const char *endpoint,
		     const struct fastwake_channel_options *options,
		     char *reason)
{
	struct fastwake_channel *ch;
	int rc = fw_options_check(options);

	fw_reason(reason, 0, "%s", "");
	if (rc != 0)
		return fw_reason(reason, rc, "options out of range");
	rc = fw_channel_create(&ch, options);
	if (rc != 0)
		return fw_reason(reason, rc, "out of memory");
	rc = begin(ch, endpoint, options, reason);
	if (rc != 0) {
		fastwake_channel_close(ch);
		return rc;
	}
	*channel = ch;
	return 0;
}

int fastwake_connect_continue(struct fastwake_channel *ch, char *reason)
{
	char why[FASTWAKE_REASON_MAX] = "";
	int rc;

	if (ch->ops != NULL)
		return 0;
	if (ch->connect == NULL)
		return -EINVAL;
	if (ch->connect->current == FASTWAKE_TRANSPORT_RDMA)
		rc = fw_rdma_connect_continue(ch, why);
	else
		rc = fw_shm_connect_continue(ch, why);
	if (rc == 0)
		fw_connect_free(ch);
	if (rc == 0 || rc == -EAGAIN)
		return rc;
	note(ch->connect, rc, why);
	stop(ch);
	rc = start_next(ch);
	return rc == 0 ? -EAGAIN
		       : fw_reason(reason, rc, "%s", ch->connect->reason);
}

int fastwake_channel_fds(const struct fastwake_channel *ch,
			 int fds[FASTWAKE_FDS_MAX])
{
	if (ch->rdma != NULL)
		return fw_rdma_transport.fds(ch, fds);
	if (ch->shm != NULL)
		return fw_shm_transport.fds(ch, fds);
	return -ENOTCONN;
}

void fw_connect_free(struct fastwake_channel *ch)
{
	if (ch->connect == NULL)
		return;
	/* The token should not outlive its use. */
	explicit_bzero(ch->connect, sizeof(*ch->connect));
	free(ch->connect);
	ch->connect = NULL;
}
