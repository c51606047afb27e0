// SPDX-License-Identifier: PostgreSQL
/*
 * rdma_cm.c - make a connection, from either side, without blocking.
 *
 * Connecting:  resolve address, resolve route, connect, established.
 * Accepting:   (rdma_listen.c has checked the token) accept, established.
 *
 * Each event of the connection manager moves it one step; fw_rdma_step() takes
 * the events that are there.
 */
#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "rdma.h"

/*
 * How long an attempt may take.  The connection manager itself would go on for
 * minutes when nobody answers; callers have about two seconds, and another
 * transport should get its share of them.
 */
#define CONNECT_NS	 5000000000ull
#define CONNECT_SHORT_NS 1500000000ull
#define RESOLVE_MS	 1000

/* rxe takes a retry count of 7 for endless, as all do for receiver not ready. */
#define ACK_TIMEOUT 17 /* 4.096 us << 17 = 0.54 s; devices may take longer */
#define RETRY_COUNT 6  /* so a cut link is noticed after some 4 s */
#define RNR_RETRY   3  /* cannot happen between honest peers, see rdma.h */

void fw_rdma_timeouts(struct rdma_cm_id *id)
{
	uint8_t timeout = ACK_TIMEOUT;

	/* A library or kernel that cannot do it uses what the path says. */
	(void)rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT,
			      &timeout, sizeof(timeout));
}

void fw_rdma_parameters(struct rdma_conn_param *parameters, const void *data,
			uint8_t length)
{
	*parameters = (struct rdma_conn_param){
		.private_data = data,
		.private_data_len = length,
		.retry_count = RETRY_COUNT,
		.rnr_retry_count = RNR_RETRY,
	};
}

/* ------------------------------------------------------------------ */
/* Steps                                                              */
/* ------------------------------------------------------------------ */

static int address_resolved(struct fastwake_channel *ch, char *reason)
{
	struct fw_rdma *r = ch->rdma;
	int rc = fw_rdma_resources(ch, r->tx_size, reason);

	if (rc != 0)
		return rc;
	fw_rdma_timeouts(r->id);
	if (rdma_resolve_route(r->id, RESOLVE_MS) != 0)
		return fw_reason(reason, -errno,
				 "rdma: could not resolve the route: %s",
				 strerror(errno));
	r->stage = FW_RESOLVING_ROUTE;
	return -EAGAIN;
}

static int route_resolved(struct fastwake_channel *ch, char *reason)
{
	struct fw_rdma *r = ch->rdma;
	struct rdma_conn_param parameters;
	struct fw_rdma_request request;
	int rc;

	fw_rdma_geometry_own(r, &request.geometry);
	memcpy(request.token, r->token, sizeof(request.token));
	fw_rdma_parameters(&parameters, &request, sizeof(request));
	rc = rdma_connect(r->id, &parameters) == 0 ? 0 : -errno;
	explicit_bzero(&request, sizeof(request));
	explicit_bzero(r->token, sizeof(r->token));
	if (rc != 0)
		return fw_reason(reason, rc, "rdma: could not connect: %s",
				 strerror(-rc));
	r->stage = FW_CONNECTING;
	return -EAGAIN;
}

static int established(struct fastwake_channel *ch,
		       const struct fw_rdma_event *event, char *reason)
{
	struct fw_rdma *r = ch->rdma;
	struct fw_rdma_geometry geometry;

	/* The accepting side knows the peer's geometry from the request. */
	if (r->stage == FW_CONNECTING) {
		if (event->length < sizeof(geometry))
			return fw_reason(reason, -EPROTO,
					 "rdma: malformed answer");
		memcpy(&geometry, event->data, sizeof(geometry));
		if (fw_rdma_geometry_peer(ch, &geometry) != 0)
			return fw_reason(reason, -EPROTO,
					 "rdma: malformed answer");
	}
	if (r->timer >= 0)
		close(r->timer);
	r->timer = -1;
	r->stage = FW_ESTABLISHED;
	fw_channel_established(ch, &fw_rdma_transport);
	return 0;
}

static int refused(const struct fw_rdma_event *event, char *reason)
{
	static const char *const texts[] = {
		[FW_REFUSED_TOKEN] = "wrong token",
		[FW_REFUSED_VERSION] = "unknown version of the protocol",
		[FW_REFUSED_BUSY] = "busy with another connection",
		[FW_REFUSED_RESOURCES] = "no resources, see its log",
	};
	unsigned int why = fw_rdma_refusal_parse(event->data, event->length);

	if (why != 0)
		return fw_reason(reason, -EACCES, "rdma: the peer refused: %s",
				 texts[why]);
	return fw_reason(reason, -ECONNREFUSED,
			 "rdma: nobody listens there (status %d)",
			 event->status);
}

static int broken(const struct fw_rdma_event *event, char *reason)
{
	int rc = event->status < 0 ? event->status : -EHOSTUNREACH;

	return fw_reason(reason, rc, "rdma: %s: %s",
			 rdma_event_str(event->type), strerror(-rc));
}

static int handle(struct fastwake_channel *ch,
		  const struct fw_rdma_event *event, char *reason)
{
	switch (event->type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		return address_resolved(ch, reason);
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		return route_resolved(ch, reason);
	case RDMA_CM_EVENT_ESTABLISHED:
		return established(ch, event, reason);
	case RDMA_CM_EVENT_REJECTED:
		return refused(event, reason);
	case RDMA_CM_EVENT_ADDR_CHANGE:
		return -EAGAIN;
	default:
		return broken(event, reason);
	}
}

int fw_rdma_step(struct fastwake_channel *ch, char *reason)
{
	struct fw_rdma *r = ch->rdma;
	struct fw_rdma_event event;
	int rc;

	do {
		rc = fw_rdma_event(r->events, &event);
		if (rc == -EAGAIN && r->deadline_ns != 0 &&
		    fastwake_now() >= r->deadline_ns)
			return fw_reason(reason, -ETIMEDOUT,
					 "rdma: the peer does not answer");
		if (rc == -EAGAIN)
			return rc;
		if (rc != 0)
			return fw_reason(reason, rc, "rdma: no events: %s",
					 strerror(-rc));
		rc = handle(ch, &event, reason);
	} while (rc == -EAGAIN);
	return rc;
}

/* ------------------------------------------------------------------ */
/* Connecting                                                         */
/* ------------------------------------------------------------------ */

/* Makes the descriptors readable at the deadline. */
static int start_timer(struct fw_rdma *r, uint64_t ns)
{
	struct itimerspec when = {
		.it_value = { .tv_sec = (time_t)(ns / 1000000000u),
			      .tv_nsec = (long)(ns % 1000000000u) },
	};

	r->deadline_ns = fastwake_now() + ns;
	r->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (r->timer < 0 || timerfd_settime(r->timer, 0, &when, NULL) != 0)
		return -errno;
	return 0;
}

static int begin(struct fw_rdma *r, const struct fw_endpoint *endpoint,
		 bool hurry)
{
	union fw_address address = endpoint->rdma;
	int rc = fw_rdma_events_open(&r->events);

	if (rc == 0)
		rc = start_timer(r, hurry ? CONNECT_SHORT_NS : CONNECT_NS);
	if (rc != 0)
		return rc;
	if (rdma_create_id(r->events, &r->id, NULL, RDMA_PS_TCP) != 0)
		return -errno;
	r->stage = FW_RESOLVING_ADDRESS;
	if (rdma_resolve_addr(r->id, NULL, &address.sa, RESOLVE_MS) != 0)
		return -errno;
	return 0;
}

int fw_rdma_connect(struct fastwake_channel *ch,
		    const struct fw_endpoint *endpoint, const char *device,
		    uint32_t ring_size, bool hurry, char *reason)
{
	int rc = fw_rdma_create(ch, device, ring_size);

	if (rc != 0)
		return fw_reason(reason, rc, "rdma: out of memory");
	ch->rdma->tx_size = endpoint->ring_size;
	memcpy(ch->rdma->token, endpoint->token, sizeof(ch->rdma->token));
	rc = begin(ch->rdma, endpoint, hurry);
	return rc == 0 ? 0
		       : fw_reason(reason, rc, "rdma: could not connect: %s",
				   strerror(-rc));
}

int fw_rdma_connect_continue(struct fastwake_channel *ch, char *reason)
{
	return fw_rdma_step(ch, reason);
}
