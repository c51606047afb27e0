// SPDX-License-Identifier: PostgreSQL
/*
 * rdma_listen.c - the listening side of transport rdma.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "rdma.h"

/* Requests that the kernel keeps; of these, handled by one call. */
#define BACKLOG 128
#define BATCH	16

struct fw_rdma_listener {
	struct rdma_event_channel *events;
	struct rdma_cm_id *id;
	int epoll;
	struct fastwake_channel_options options;
	char device[64];
	struct fastwake_channel *pending; /* accepted, not established yet */
};

static int watch_fd(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

/* ------------------------------------------------------------------ */
/* Where to listen                                                    */
/* ------------------------------------------------------------------ */

/* 0 if ADDRESS belongs to a device that fits, and is bound now. */
static int bind_address(struct fw_rdma_listener *listener,
			union fw_address *address)
{
	struct rdma_cm_id *id;
	int rc = -ENODEV;

	if (rdma_create_id(listener->events, &id, NULL, RDMA_PS_TCP) != 0)
		return -errno;
	if (rdma_bind_addr(id, &address->sa) != 0)
		rc = -errno;
	else if (id->verbs != NULL &&
		 fw_rdma_device_fits(id->verbs->device, listener->device))
		rc = 0;
	if (rc == 0)
		listener->id = id;
	else
		rdma_destroy_id(id);
	return rc;
}

/* Could a peer be told to connect to this interface's address? */
static bool usable(const struct ifaddrs *ifa, union fw_address *address)
{
	if (ifa->ifa_addr == NULL || (ifa->ifa_flags & IFF_LOOPBACK) != 0 ||
	    (ifa->ifa_flags & IFF_UP) == 0)
		return false;
	memset(address, 0, sizeof(*address));
	if (ifa->ifa_addr->sa_family == AF_INET) {
		memcpy(&address->in, ifa->ifa_addr, sizeof(address->in));
		return true;
	}
	if (ifa->ifa_addr->sa_family != AF_INET6)
		return false;
	memcpy(&address->in6, ifa->ifa_addr, sizeof(address->in6));
	/* Without the interface, which has no place in an endpoint text, a
	 * link-local address says nothing. */
	return !IN6_IS_ADDR_LINKLOCAL(&address->in6.sin6_addr);
}

static int bind_first(struct fw_rdma_listener *listener)
{
	union fw_address address;
	struct ifaddrs *list;
	int rc = -ENODEV;

	if (getifaddrs(&list) != 0)
		return -errno;
	for (struct ifaddrs *ifa = list; ifa != NULL && rc != 0;
	     ifa = ifa->ifa_next)
		if (usable(ifa, &address))
			rc = bind_address(listener, &address);
	freeifaddrs(list);
	return rc;
}

static int bind_any(struct fw_rdma_listener *listener, const char *wanted,
		    char *reason)
{
	union fw_address address;
	int rc;

	if (wanted == NULL || wanted[0] == '\0') {
		rc = bind_first(listener);
		return rc == 0 ? 0
			       : fw_reason(
					 reason, -ENODEV,
					 "rdma: no RDMA device%s%s has an IP address to listen on",
					 listener->device[0] ? " " : "",
					 listener->device);
	}
	if (fw_address_parse(&address, wanted) != 0)
		return fw_reason(reason, -EINVAL,
				 "rdma: \"%s\" is not a numeric address",
				 wanted);
	rc = bind_address(listener, &address);
	return rc == 0 ? 0
		       : fw_reason(reason, rc,
				   "rdma: could not listen on address %s: %s",
				   wanted, strerror(-rc));
}

static int listener_open(struct fw_rdma_listener *listener, char *reason)
{
	int rc = fw_rdma_events_open(&listener->events);

	if (rc != 0)
		return fw_reason(
			reason, rc,
			"rdma: no connection manager: %s (is module rdma_ucm loaded, /dev/infiniband/rdma_cm accessible?)",
			strerror(-rc));
	rc = bind_any(listener, listener->options.address, reason);
	if (rc != 0)
		return rc;
	if (rdma_listen(listener->id, BACKLOG) != 0)
		rc = -errno;
	else
		rc = watch_fd(listener->epoll, listener->events->fd);
	return rc == 0 ? 0
		       : fw_reason(reason, rc, "rdma: could not listen: %s",
				   strerror(-rc));
}

int fw_rdma_listen(struct fw_rdma_listener **result, int epoll,
		   const struct fastwake_channel_options *options, char *reason)
{
	const char *device = options->device != NULL ? options->device : "";
	struct fw_rdma_listener *listener;
	int rc = fw_rdma_available(device, reason);

	if (rc != 0)
		return rc;
	listener = calloc(1, sizeof(*listener));
	if (listener == NULL)
		return fw_reason(reason, -ENOMEM, "rdma: out of memory");
	listener->epoll = epoll;
	listener->options = *options;
	/* The caller's strings may be gone when a connection comes. */
	strncpy(listener->device, device, sizeof(listener->device) - 1);
	rc = listener_open(listener, reason);
	listener->options.device = NULL;
	listener->options.address = NULL;
	if (rc != 0) {
		fw_rdma_listener_close(listener);
		return rc;
	}
	*result = listener;
	return 0;
}

void fw_rdma_listener_address(const struct fw_rdma_listener *listener,
			      union fw_address *address)
{
	const struct sockaddr *local = rdma_get_local_addr(listener->id);

	memset(address, 0, sizeof(*address));
	if (local->sa_family == AF_INET6)
		memcpy(&address->in6, local, sizeof(address->in6));
	else
		memcpy(&address->in, local, sizeof(address->in));
	address->in.sin_port = rdma_get_src_port(listener->id);
}

void fw_rdma_listener_close(struct fw_rdma_listener *listener)
{
	if (listener == NULL)
		return;
	if (listener->pending != NULL)
		fastwake_channel_close(listener->pending);
	if (listener->id != NULL)
		rdma_destroy_id(listener->id);
	if (listener->events != NULL)
		rdma_destroy_event_channel(listener->events);
	free(listener);
}

/* ------------------------------------------------------------------ */
/* Requests                                                           */
/* ------------------------------------------------------------------ */

static void refuse(struct rdma_cm_id *id, enum fw_rdma_why why)
{
	struct fw_rdma_refusal refusal = {
		.magic = htole32(FW_RDMA_MAGIC),
		.why = htole32(why),
	};

	(void)rdma_reject(id, &refusal, sizeof(refusal));
	(void)rdma_destroy_id(id);
}

/* Everything up to the answer; ID belongs to the channel from the start. */
static int answer(struct fw_rdma_listener *listener,
		  struct fastwake_channel *ch,
		  const struct fw_rdma_geometry *peer, char *reason)
{
	struct fw_rdma *r = ch->rdma;
	struct fw_rdma_geometry own;
	struct rdma_conn_param parameters;
	int rc = fw_rdma_resources(ch, le32toh(peer->ring_size), reason);

	if (rc != 0)
		return rc;
	rc = fw_rdma_geometry_peer(ch, peer);
	if (rc == 0)
		rc = fw_rdma_events_open(&r->events);
	if (rc == 0 && rdma_migrate_id(r->id, r->events) != 0)
		rc = -errno;
	if (rc == 0)
		rc = watch_fd(listener->epoll, r->events->fd);
	if (rc != 0)
		return fw_reason(reason, rc, "rdma: could not accept: %s",
				 strerror(-rc));
	fw_rdma_timeouts(r->id);
	fw_rdma_geometry_own(r, &own);
	fw_rdma_parameters(&parameters, &own, sizeof(own));
	r->stage = FW_ACCEPTING;
	if (rdma_accept(r->id, &parameters) == 0)
		return 0;
	return fw_reason(reason, -errno, "rdma: could not accept: %s",
			 strerror(errno));
}

static int give_up(struct fastwake_channel *ch, int error)
{
	struct fw_rdma_refusal refusal = {
		.magic = htole32(FW_RDMA_MAGIC),
		.why = htole32(FW_REFUSED_RESOURCES),
	};

	(void)rdma_reject(ch->rdma->id, &refusal, sizeof(refusal));
	fastwake_channel_close(ch);
	return error;
}

static int accept_request(struct fw_rdma_listener *listener,
			  struct rdma_cm_id *id,
			  const struct fw_rdma_geometry *peer, char *reason)
{
	struct fastwake_channel *ch;
	int rc = fw_channel_create(&ch, &listener->options);

	if (rc != 0) {
		refuse(id, FW_REFUSED_RESOURCES);
		return fw_reason(reason, rc, "rdma: out of memory");
	}
	rc = fw_rdma_create(ch, listener->device, listener->options.ring_size);
	if (rc != 0) {
		refuse(id, FW_REFUSED_RESOURCES);
		fastwake_channel_close(ch);
		return fw_reason(reason, rc, "rdma: out of memory");
	}
	ch->rdma->id = id;
	rc = answer(listener, ch, peer, reason);
	if (rc == 0) {
		listener->pending = ch;
		return -EAGAIN;
	}
	return give_up(ch, rc);
}

static int handle(struct fw_rdma_listener *listener,
		  const struct fw_rdma_event *event, const uint8_t *token,
		  unsigned int *attempts, char *reason)
{
	static const char *const texts[] = {
		[FW_REFUSED_TOKEN] = " with a wrong token",
		[FW_REFUSED_VERSION] = " that was malformed",
		[FW_REFUSED_BUSY] = " beside one with the same token",
	};
	struct fw_rdma_request request;
	unsigned int why;

	if (event->type == RDMA_CM_EVENT_DEVICE_REMOVAL)
		return fw_reason(reason, -ENODEV, "rdma: device was removed");
	if (event->type != RDMA_CM_EVENT_CONNECT_REQUEST)
		return -EAGAIN;
	why = fw_rdma_request_check(event->data, event->length, token,
				    &request);
	if (why == 0 && listener->pending != NULL)
		why = FW_REFUSED_BUSY;
	if (why == 0)
		return accept_request(listener, event->id, &request.geometry,
				      reason);
	refuse(event->id, why);
	++*attempts;
	fw_reason(
		reason, 0,
		"rdma: refused a connection%s (connection %u that was refused)",
		texts[why], *attempts);
	return -EAGAIN;
}

/* The connection that is being made: as fw_rdma_accept(). */
static int pending_step(struct fw_rdma_listener *listener,
			struct fastwake_channel **channel,
			unsigned int *attempts, char *reason)
{
	struct fastwake_channel *ch = listener->pending;
	int rc = fw_rdma_step(ch, reason);

	if (rc == -EAGAIN)
		return rc;
	listener->pending = NULL;
	if (rc == 0) {
		(void)epoll_ctl(listener->epoll, EPOLL_CTL_DEL,
				ch->rdma->events->fd, NULL);
		*channel = ch;
		return 0;
	}
	/* It failed, another may come. */
	fastwake_channel_close(ch);
	++*attempts;
	return -EAGAIN;
}

int fw_rdma_accept(struct fw_rdma_listener *listener, const uint8_t *token,
		   struct fastwake_channel **channel, unsigned int *attempts,
		   char *reason)
{
	struct fw_rdma_event event;
	int rc;

	/* Others may come faster than they are refused. */
	for (unsigned int i = 0; i < BATCH; i++) {
		if (listener->pending != NULL) {
			rc = pending_step(listener, channel, attempts, reason);
			if (rc == 0)
				return 0;
		}
		rc = fw_rdma_event(listener->events, &event);
		if (rc == -EAGAIN)
			return rc;
		if (rc != 0)
			return fw_reason(reason, rc, "rdma: no events: %s",
					 strerror(-rc));
		rc = handle(listener, &event, token, attempts, reason);
		if (rc != -EAGAIN)
			return rc;
	}
	return -EAGAIN;
}
