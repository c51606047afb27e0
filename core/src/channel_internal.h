/* SPDX-License-Identifier: PostgreSQL */
/*
 * channel_internal.h - what the files of the channel part share.
 *
 *	channel.c   the public functions of a channel, frames in and out
 *	frame.c     one frame
 *	endpoint.c  endpoint text, token
 *	listener.c  fastwake_listen(), fastwake_accept()
 *	connect.c   fastwake_connect(), choice of transport
 *	shm.c, shm_setup.c               transport shm
 *	rdma.c, rdma_setup.c, rdma_cm.c, rdma_listen.c, rdma_wire.c
 *	            transport rdma
 *
 * Flow control
 * ------------
 * The receiver of a ring returns credit when it has taken at least a quarter of
 * the ring, or (rdma) at least a quarter of the frames that may be under way,
 * since it last did.  This cannot leave both sides waiting: say S is the ring's
 * size and the receiver has taken everything.  It then holds back less than
 * S / 4 bytes, so that at the sender more than S * 3 / 4 are free.  No frame is
 * longer than S / 4 (FW_FRAGMENT), so the next one fits.  Likewise for frames:
 * less than a quarter of them are held back, so there is at least one.
 *
 * For the rdma sender space is free only when the peer's credit and the
 * completion of the write that used it are both there.  It asks for a
 * completion at least every S / 4 bytes, so that the same sum holds: once
 * everything has completed, less than S / 4 bytes are not known to have.
 */
#ifndef FASTWAKE_CHANNEL_INTERNAL_H
#define FASTWAKE_CHANNEL_INTERNAL_H

#include "endpoint.h"
#include "fastwake.h"
#include "frame.h"
#include "internal.h"

#define FW_MESSAGE_MAX (1u << 30) /* upper bound of options.message_max */

/* Bytes of ring that one frame may take, header and padding included. */
#define FW_FRAGMENT(size) ((size) / 4)
/* Bytes taken from a ring after which credit is due. */
#define FW_CREDIT(size) ((size) / 4)
/* A message is cut short for want of space only if this much is free. */
#define FW_QUANTUM(size) ((size) / 16)

struct fastwake_channel;

/* What a transport does.  The functions do not block. */
struct fw_transport {
	uint32_t transport; /* FASTWAKE_TRANSPORT_* */
	/* Bring rx.head, tx.tail, tx.frames, error up to date from memory. */
	void (*poll)(struct fastwake_channel *ch);
	/* Find out by system calls whether the peer is still there. */
	void (*check)(struct fastwake_channel *ch);
	/* Let the peer have the frame of LENGTH bytes, SPACE with padding, that
	 * stands at OFFSET of tx.ring; tx.head is its position. */
	int (*commit)(struct fastwake_channel *ch, uint32_t offset,
		      uint32_t length, uint32_t space);
	/* Return all credit.  -EAGAIN: not now, will be called again. */
	int (*credit)(struct fastwake_channel *ch);
	/* A send is about to be refused: ask to be told of space, look again. */
	void (*refused)(struct fastwake_channel *ch);
	int (*flushed)(struct fastwake_channel *ch);
	int (*arm)(struct fastwake_channel *ch);
	/* First poll after arm(): clear what made descriptors readable.  False
	 * if nothing was found that check() would not have to explain. */
	bool (*disarm)(struct fastwake_channel *ch);
	int (*watches)(struct fastwake_channel *ch,
		       struct fastwake_watch watches[4]);
	/* The memory that its watches are in; false if there is none. */
	bool (*words)(const struct fastwake_channel *ch,
		      struct fw_mapping *words);
	/* Let interrupts end waits of the waiters of DOMAIN; NULL: there are none. */
	int (*attach)(struct fastwake_channel *ch,
		      struct fastwake_domain *domain);
	void (*detach)(struct fastwake_channel *ch);
	int (*fds)(const struct fastwake_channel *ch,
		   int fds[FASTWAKE_FDS_MAX]);
	void (*query)(struct fastwake_channel *ch,
		      struct fastwake_channel_info *info);
	/* Also of a channel that is only half set up. */
	void (*close)(struct fastwake_channel *ch);
};

/* The ring we send into.  Positions count bytes since the beginning. */
struct fw_tx {
	uint8_t *ring;	 /* shm: the peer's; rdma: our copy of it */
	uint32_t size;	 /* a power of two */
	uint32_t frames; /* how many frames may be sent now */
	uint64_t head;	 /* of the next frame */
	uint64_t tail;	 /* below this, everything is free again */
	uint32_t stream; /* of the message under way */
	bool partial;	 /* a message is under way */
	bool refused;	 /* the last send found no space */
};

/* The ring we receive into. */
struct fw_rx {
	const uint8_t *ring; /* hostile: the peer writes into it at any time */
	uint32_t size;
	uint32_t frames;     /* taken since credit was returned */
	uint32_t frames_due; /* so many taken frames make credit due */
	uint64_t head;	     /* the peer says it wrote up to here */
	uint64_t tail;	     /* of the next frame to take */
	uint64_t returned;   /* credit was returned up to here */

	/*
	 * Messages are put together in private memory.  There are two buffers,
	 * since fastwake_channel_poll() puts together the next message while
	 * the caller still has the last.  Payload begins FW_FRAME_HEADER into a
	 * buffer, which leaves room for the first frame's header.
	 */
	uint8_t *buffer[2];
	unsigned int filling; /* which of them */
	uint32_t message_max;
	uint32_t length; /* of the message so far */
	uint32_t stream;
	bool ready; /* the message is complete */
	bool bad;   /* a frame was wrong: nothing after it is looked at */
};

struct fastwake_channel {
	const struct fw_transport *ops; /* NULL until established */
	struct fw_tx tx;
	struct fw_rx rx;
	bool armed;
	int error;	     /* 0, or why the channel is broken: -errno */
	uint64_t checked_ns; /* when ops->check() last ran, coarse clock */
	uint64_t tx_messages, tx_bytes, rx_messages, rx_bytes, full_waits;
	struct fw_shm *shm;
	struct fw_rdma *rdma;
	struct fw_connect *connect;	   /* until established */
	struct fastwake_domain *pinned_in; /* its module knows us */
	bool words_pinned;		   /* and sees our words */
	char reason[FASTWAKE_REASON_MAX];
};

/* Allocates the handle and the message buffers. */
int fw_channel_create(struct fastwake_channel **channel,
		      const struct fastwake_channel_options *options);
/* The channel is broken; the first reason is kept. */
void fw_channel_fail(struct fastwake_channel *ch, int error, const char *format,
		     ...) __attribute__((format(printf, 3, 4)));
void fw_channel_established(struct fastwake_channel *ch,
			    const struct fw_transport *ops);

/* -EINVAL, or 0. */
int fw_options_check(const struct fastwake_channel_options *options);

/* Text for people, REASON may be NULL.  Returns ERROR. */
int fw_reason(char *reason, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Contiguous free bytes for a message with LEFT bytes to go; 0: refuse. */
uint32_t fw_tx_space(const struct fw_tx *tx, size_t left);

static inline bool fw_tx_writable(const struct fw_tx *tx)
{
	return tx->frames > 0 &&
	       tx->tail + tx->size - tx->head >= FW_QUANTUM(tx->size);
}

/* Ends an attempt to connect, if any. */
void fw_connect_free(struct fastwake_channel *ch);

/* ------------------------------------------------------------------ */
/* Transport shm                                                      */
/* ------------------------------------------------------------------ */

extern const struct fw_transport fw_shm_transport;
struct fw_shm_listener;

int fw_shm_listen(struct fw_shm_listener **listener, int epoll,
		  const struct fastwake_channel_options *options, char *reason);
const char *fw_shm_listener_name(const struct fw_shm_listener *listener);
/*
 * 0 with a channel, -EAGAIN, or failure.  *ATTEMPTS counts refused peers.
 */
int fw_shm_accept(struct fw_shm_listener *listener, const uint8_t *token,
		  struct fastwake_channel **channel, unsigned int *attempts,
		  char *reason);
void fw_shm_listener_close(struct fw_shm_listener *listener);

int fw_shm_connect(struct fastwake_channel *ch,
		   const struct fw_endpoint *endpoint, uint32_t ring_size,
		   char *reason);
/* 0: established, -EAGAIN, or failure. */
int fw_shm_connect_continue(struct fastwake_channel *ch, char *reason);

/* ------------------------------------------------------------------ */
/* Transport rdma                                                     */
/* ------------------------------------------------------------------ */

extern const struct fw_transport fw_rdma_transport;
struct fw_rdma_listener;

/* 0 if there is a device that could be used, else -ENODEV. */
int fw_rdma_available(const char *device, char *reason);

int fw_rdma_listen(struct fw_rdma_listener **listener, int epoll,
		   const struct fastwake_channel_options *options,
		   char *reason);
void fw_rdma_listener_address(const struct fw_rdma_listener *listener,
			      union fw_address *address);
int fw_rdma_accept(struct fw_rdma_listener *listener, const uint8_t *token,
		   struct fastwake_channel **channel, unsigned int *attempts,
		   char *reason);
void fw_rdma_listener_close(struct fw_rdma_listener *listener);

/* HURRY: there is another transport to try when this takes too long. */
int fw_rdma_connect(struct fastwake_channel *ch,
		    const struct fw_endpoint *endpoint, const char *device,
		    uint32_t ring_size, bool hurry, char *reason);
int fw_rdma_connect_continue(struct fastwake_channel *ch, char *reason);

#endif /* FASTWAKE_CHANNEL_INTERNAL_H */
