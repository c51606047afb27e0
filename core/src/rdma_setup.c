// SPDX-License-Identifier: PostgreSQL
/*
 * rdma_setup.c - devices, queues and registered memory of an RDMA channel.
 *
 * Every descriptor is close-on-exec.  ibv_fork_init() is not called: it is for
 * programs that go on using verbs in a child, and it would change madvise()
 * settings of the whole process behind the caller's back.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "rdma.h"

/* ------------------------------------------------------------------ */
/* Devices                                                            */
/* ------------------------------------------------------------------ */

bool fw_rdma_device_fits(struct ibv_device *device, const char *wanted)
{
	/* iWARP has no write with immediate data. */
	if (device->transport_type != IBV_TRANSPORT_IB)
		return false;
	return wanted[0] == '\0' ||
	       strcmp(ibv_get_device_name(device), wanted) == 0;
}

int fw_rdma_available(const char *device, char *reason)
{
	int n = 0;
	bool found = false;
	struct ibv_device **list = ibv_get_device_list(&n);

	for (int i = 0; list != NULL && i < n && !found; i++)
		found = fw_rdma_device_fits(list[i], device);
	if (list != NULL)
		ibv_free_device_list(list);
	if (found)
		return 0;
	if (n <= 0)
		return fw_reason(reason, -ENODEV, "rdma: no RDMA device");
	if (device[0] == '\0')
		return fw_reason(reason, -ENODEV,
				 "rdma: no InfiniBand or RoCE device");
	return fw_reason(reason, -ENODEV,
			 "rdma: no InfiniBand or RoCE device \"%s\"", device);
}

/* ------------------------------------------------------------------ */
/* Event channels                                                     */
/* ------------------------------------------------------------------ */

int fw_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	return 0;
}

int fw_rdma_events_open(struct rdma_event_channel **events)
{
	int rc;

	*events = rdma_create_event_channel();
	if (*events == NULL)
		return errno != 0 ? -errno : -ENODEV;
	rc = fw_nonblocking((*events)->fd);
	if (rc != 0) {
		rdma_destroy_event_channel(*events);
		*events = NULL;
	}
	return rc;
}

int fw_rdma_event(struct rdma_event_channel *events,
		  struct fw_rdma_event *event)
{
	struct rdma_cm_event *e;

	if (rdma_get_cm_event(events, &e) != 0)
		return errno == EINTR || errno == EAGAIN ? -EAGAIN : -errno;
	*event = (struct fw_rdma_event){
		.type = e->event,
		.status = e->status,
		.id = e->id,
		.length = e->param.conn.private_data_len,
	};
	if (e->param.conn.private_data == NULL)
		event->length = 0;
	if (event->length > sizeof(event->data))
		event->length = sizeof(event->data);
	if (event->length > 0)
		memcpy(event->data, e->param.conn.private_data, event->length);
	rdma_ack_cm_event(e);
	return 0;
}

/* ------------------------------------------------------------------ */
/* Resources                                                          */
/* ------------------------------------------------------------------ */

int fw_rdma_create(struct fastwake_channel *ch, const char *device,
		   uint32_t ring_size)
{
	struct fw_rdma *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return -ENOMEM;
	r->timer = -1;
	r->rx_size = ring_size;
	strncpy(r->device, device, sizeof(r->device) - 1);
	for (unsigned int i = 0; i < FW_RECEIVE_BATCH; i++) {
		r->receive[i].wr_id = FW_WR_RECEIVE;
		r->receive[i].next =
			i + 1 < FW_RECEIVE_BATCH ? &r->receive[i + 1] : NULL;
	}
	ch->rdma = r;
	return 0;
}

/* The usual cause of -ENOMEM, and what to do about it. */
static int no_memory(const struct fw_rdma *r, const char *what, char *reason)
{
	unsigned long long need = (unsigned long long)r->rx_size + r->tx_size;
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
	    limit.rlim_cur == RLIM_INFINITY)
		return fw_reason(reason, -ENOMEM, "rdma: no memory for %s",
				 what);
	return fw_reason(
		reason, -ENOMEM,
		"rdma: no memory for %s: RLIMIT_MEMLOCK is %llu bytes, the rings need %llu beside what is locked already; raise it (ulimit -l, or LimitMEMLOCK= of the service) or make the rings smaller",
		what, (unsigned long long)limit.rlim_cur, need);
}

static int setup_failed(const struct fw_rdma *r, const char *what, char *reason)
{
	int rc = errno != 0 ? -errno : -EIO;

	if (rc == -ENOMEM)
		return no_memory(r, what, reason);
	return fw_reason(reason, rc, "rdma: could not create %s: %s", what,
			 strerror(-rc));
}

static int make_queues(struct fw_rdma *r, char *reason)
{
	struct ibv_context *verbs = r->id->verbs;
	int rc;

	r->pd = ibv_alloc_pd(verbs);
	if (r->pd == NULL)
		return setup_failed(r, "a protection domain", reason);
	r->completions = ibv_create_comp_channel(verbs);
	if (r->completions == NULL)
		return setup_failed(r, "a completion channel", reason);
	rc = fw_nonblocking(r->completions->fd);
	if (rc != 0)
		return fw_reason(reason, rc, "rdma: %s", strerror(-rc));
	r->cq = fw_cq_create(&r->cq_memory, verbs, FW_SENDS + FW_RECEIVES,
			     r->completions);
	if (r->cq == NULL)
		return setup_failed(r, "a completion queue", reason);
	return 0;
}

/*
 * There is no attribute that tells how much a device takes inline: ask for
 * much, then for less.
 */
static int make_pair(struct fw_rdma *r, char *reason)
{
	uint32_t inline_max = FW_INLINE;
	int rc;

	do {
		struct ibv_qp_init_attr attr = {
			.send_cq = r->cq,
			.recv_cq = r->cq,
			.qp_type = IBV_QPT_RC,
			.cap = { .max_send_wr = FW_SENDS,
				 .max_recv_wr = FW_RECEIVES,
				 .max_send_sge = 1,
				 .max_recv_sge = 1,
				 .max_inline_data = inline_max },
		};

		rc = rdma_create_qp(r->id, r->pd, &attr);
		if (rc == 0) {
			r->inline_max = attr.cap.max_inline_data;
			r->qp = r->id->qp;
			return 0;
		}
		inline_max /= 2;
	} while (errno != ENOMEM && inline_max >= FW_FRAME_UNIT);
	return setup_failed(r, "a queue pair", reason);
}

static int make_region(struct fw_rdma *r, uint32_t size, unsigned int access,
		       uint8_t **memory, struct ibv_mr **mr)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	*memory = p;
	*mr = ibv_reg_mr(r->pd, p, size, access);
	return *mr != NULL ? 0 : -errno;
}

static int make_rings(struct fw_rdma *r, char *reason)
{
	int rc = make_region(r, r->rx_size,
			     IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE,
			     &r->rx_memory, &r->rx_mr);

	if (rc == 0)
		rc = make_region(r, r->tx_size, 0, &r->tx_memory, &r->tx_mr);
	if (rc == -ENOMEM)
		return no_memory(r, "the rings", reason);
	if (rc != 0)
		return fw_reason(reason, rc,
				 "rdma: could not register the rings: %s",
				 strerror(-rc));
	return 0;
}

/* What never changes from write to write. */
static void prepare(struct fastwake_channel *ch)
{
	struct fw_rdma *r = ch->rdma;

	ch->rx.ring = r->rx_memory;
	ch->rx.size = r->rx_size;
	ch->rx.frames_due = FW_DEPTH / 4;
	ch->tx.ring = r->tx_memory;
	ch->tx.size = r->tx_size;
	r->sge.lkey = r->tx_mr->lkey;
	r->write.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
	r->write.sg_list = &r->sge;
	r->write.num_sge = 1;
}

int fw_rdma_resources(struct fastwake_channel *ch, uint32_t peer_ring,
		      char *reason)
{
	struct fw_rdma *r = ch->rdma;
	const char *name = ibv_get_device_name(r->id->verbs->device);
	int rc;

	r->tx_size = peer_ring;
	if (!fw_rdma_device_fits(r->id->verbs->device, r->device))
		return fw_reason(
			reason, -ENODEV,
			"rdma: the peer is reached through device \"%s\", which is not the one asked for or has no write with immediate data",
			name);
	rc = make_queues(r, reason);
	if (rc == 0)
		rc = make_rings(r, reason);
	if (rc == 0)
		rc = make_pair(r, reason);
	if (rc != 0)
		return rc;
	prepare(ch);
	rc = fw_rdma_post_receives(r, FW_RECEIVES);
	r->receives_free = 0;
	return rc == 0 ? 0
		       : fw_reason(reason, rc,
				   "rdma: could not post receives: %s",
				   strerror(-rc));
}

/* Also of what is only half there. */
void fw_rdma_free(struct fastwake_channel *ch)
{
	struct fw_rdma *r = ch->rdma;

	if (r->qp != NULL)
		rdma_destroy_qp(r->id);
	if (r->cq != NULL)
		ibv_destroy_cq(r->cq);
	if (r->completions != NULL)
		ibv_destroy_comp_channel(r->completions);
	if (r->rx_mr != NULL)
		ibv_dereg_mr(r->rx_mr);
	if (r->tx_mr != NULL)
		ibv_dereg_mr(r->tx_mr);
	if (r->pd != NULL)
		ibv_dealloc_pd(r->pd);
	if (r->id != NULL)
		rdma_destroy_id(r->id);
	if (r->events != NULL)
		rdma_destroy_event_channel(r->events);
	if (r->rx_memory != NULL)
		munmap(r->rx_memory, r->rx_size);
	if (r->tx_memory != NULL)
		munmap(r->tx_memory, r->tx_size);
	if (r->timer >= 0)
		close(r->timer);
	free(r);
	ch->rdma = NULL;
}

/* ------------------------------------------------------------------ */
/* Geometry                                                           */
/* ------------------------------------------------------------------ */

void fw_rdma_geometry_own(const struct fw_rdma *r,
			  struct fw_rdma_geometry *geometry)
{
	*geometry = (struct fw_rdma_geometry){
		.address = htole64((uintptr_t)r->rx_memory),
		.rkey = htole32(r->rx_mr->rkey),
		.ring_size = htole32(r->rx_size),
		.magic = htole32(FW_RDMA_MAGIC),
		.version = htole16(FW_RDMA_VERSION),
		.depth = htole16(FW_DEPTH),
	};
}

int fw_rdma_geometry_peer(struct fastwake_channel *ch,
			  const struct fw_rdma_geometry *geometry)
{
	struct fw_rdma *r = ch->rdma;

	if (!fw_rdma_geometry_valid(geometry) ||
	    le32toh(geometry->ring_size) != r->tx_size)
		return -EPROTO;
	r->peer_address = le64toh(geometry->address);
	r->peer_depth = le16toh(geometry->depth);
	r->peer_frames = r->peer_depth;
	r->write.wr.rdma.remote_addr = r->peer_address;
	r->write.wr.rdma.rkey = le32toh(geometry->rkey);
	ch->tx.frames = r->peer_frames < FW_DEPTH ? r->peer_frames : FW_DEPTH;
	return 0;
}
