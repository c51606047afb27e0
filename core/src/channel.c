// SPDX-License-Identifier: PostgreSQL
/*
 * channel.c - the public functions of an established channel.
 *
 * Everything that both transports have in common: messages are cut into frames
 * and put together again, space is accounted for, failure is held back until
 * what was received before it has been taken.
 */
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "channel_internal.h"
#include "fault.h"

/*
 * How often a caller who polls without ever arming the descriptors pays for
 * the system call that finds out whether the peer is still there.
 */
#define CHECK_INTERVAL_NS (50u * 1000 * 1000)

/* The compiler must not read shared memory a second time behind this. */
#define fw_copied() __asm__ volatile("" ::: "memory")

int fw_reason(char *reason, int error, const char *format, ...)
{
	va_list args;

	if (reason != NULL) {
		va_start(args, format);
		vsnprintf(reason, FASTWAKE_REASON_MAX, format, args);
		va_end(args);
	}
	return error;
}

int fw_options_check(const struct fastwake_channel_options *options)
{
	uint32_t known = FASTWAKE_TRANSPORT_RDMA | FASTWAKE_TRANSPORT_SHM;
	uint32_t ring = options->ring_size;

	if (options->size != sizeof(*options) || options->reserved != 0)
		return -EINVAL;
	if (options->transports == 0 || (options->transports & ~known) != 0)
		return -EINVAL;
	if (ring < FASTWAKE_RING_MIN || ring > FASTWAKE_RING_MAX ||
	    (ring & (ring - 1)) != 0)
		return -EINVAL;
	if (options->message_max == 0 || options->message_max > FW_MESSAGE_MAX)
		return -EINVAL;
	return 0;
}

static void channel_free(struct fastwake_channel *ch)
{
	free(ch->rx.buffer[0]);
	free(ch->rx.buffer[1]);
	free(ch);
}

int fw_channel_create(struct fastwake_channel **channel,
		      const struct fastwake_channel_options *options)
{
	struct fastwake_channel *ch = calloc(1, sizeof(*ch));

	if (ch == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; i < 2; i++) {
		size_t size = (size_t)options->message_max + FW_FRAME_HEADER;

		/* Pages that no message reaches are never touched. */
		ch->rx.buffer[i] = aligned_alloc(
			FW_CACHE_LINE, (size + FW_CACHE_LINE - 1) &
					       ~(size_t)(FW_CACHE_LINE - 1));
		if (ch->rx.buffer[i] == NULL) {
			channel_free(ch);
			return -ENOMEM;
		}
	}
	ch->rx.message_max = options->message_max;
	ch->rx.frames_due = UINT32_MAX;
	ch->tx.frames = UINT32_MAX;
	*channel = ch;
	return 0;
}

void fw_channel_fail(struct fastwake_channel *ch, int error, const char *format,
		     ...)
{
	va_list args;

	if (ch->error != 0)
		return;
	ch->error = error;
	va_start(args, format);
	vsnprintf(ch->reason, sizeof(ch->reason), format, args);
	va_end(args);
}

void fw_channel_established(struct fastwake_channel *ch,
			    const struct fw_transport *ops)
{
	ch->ops = ops;
}

/* ------------------------------------------------------------------ */
/* Sending                                                            */
/* ------------------------------------------------------------------ */

uint32_t fw_tx_space(const struct fw_tx *tx, size_t left)
{
	uint32_t offset = (uint32_t)tx->head & (tx->size - 1);
	uint32_t free_bytes = (uint32_t)(tx->tail + tx->size - tx->head);
	uint32_t space = FW_FRAGMENT(tx->size);

	if (tx->frames == 0)
		return 0;
	if (left < space - FW_FRAME_HEADER)
		space = fw_frame_space((uint32_t)left);
	if (space > tx->size - offset)
		space = tx->size - offset;
	if (space <= free_bytes)
		return space;
	/* Many small pieces of a message cost more than waiting. */
	return free_bytes >= FW_QUANTUM(tx->size) ? free_bytes : 0;
}

/* The same after having looked for space that has become free since. */
static uint32_t send_space(struct fastwake_channel *ch, size_t left)
{
	uint32_t space = fw_tx_space(&ch->tx, left);

	if (space != 0)
		return space;
	ch->ops->poll(ch);
	space = fw_tx_space(&ch->tx, left);
	if (space != 0 || ch->error != 0)
		return space;
	ch->ops->refused(ch);
	space = fw_tx_space(&ch->tx, left);
	ch->tx.refused = space == 0;
	ch->full_waits += space == 0;
	return space;
}

/* Returns the payload bytes sent, or -errno. */
static ssize_t send_frame(struct fastwake_channel *ch, const uint8_t *payload,
			  size_t left, uint32_t space)
{
	struct fw_tx *tx = &ch->tx;
	uint32_t offset = (uint32_t)tx->head & (tx->size - 1);
	uint32_t length = space - FW_FRAME_HEADER;
	bool end = left <= length;
	int rc;

	if (end)
		length = (uint32_t)left;
	fw_frame_build(tx->ring + offset, tx->stream, end ? FW_FRAME_END : 0,
		       tx->head, payload, length);
	if (fw_fault_frame(tx->ring + offset, payload, length)) {
		rc = ch->ops->commit(ch, offset, FW_FRAME_HEADER + length,
				     space);
		if (rc < 0)
			return rc;
	}
	tx->partial = !end;
	ch->tx_bytes += length;
	ch->tx_messages += end;
	return (ssize_t)length;
}

ssize_t fastwake_channel_send(struct fastwake_channel *ch, uint32_t stream,
			      const void *buf, size_t len)
{
	size_t done = 0;

	if (ch->ops == NULL)
		return -ENOTCONN;
	if (len == 0 || len > SSIZE_MAX ||
	    (ch->tx.partial && stream != ch->tx.stream))
		return -EINVAL;
	ch->tx.stream = stream;
	ch->tx.refused = false;
	while (ch->error == 0 && done < len) {
		uint32_t space = send_space(ch, len - done);
		ssize_t sent;

		if (space == 0)
			break;
		sent = send_frame(ch, (const uint8_t *)buf + done, len - done,
				  space);
		if (sent < 0)
			break;
		done += (size_t)sent;
	}
	if (ch->error != 0)
		return ch->error;
	return done > 0 ? (ssize_t)done : -EAGAIN;
}

/* ------------------------------------------------------------------ */
/* Receiving                                                          */
/* ------------------------------------------------------------------ */

static int frame_bad(struct fastwake_channel *ch, int error, const char *why)
{
	ch->rx.bad = true;
	fw_channel_fail(ch, error, "received %s at position %llu", why,
			(unsigned long long)ch->rx.tail);
	return error;
}

/*
 * Copy the frame's header out of the ring and check it.  From here on only the
 * copy is looked at, whatever the peer does to the ring.
 */
static int take_header(struct fastwake_channel *ch, uint32_t offset,
		       struct fw_frame_header *header)
{
	struct fw_rx *rx = &ch->rx;
	uint64_t room = rx->head - rx->tail;
	const char *why;

	if (room > rx->size - offset)
		room = rx->size - offset;
	if (room > FW_FRAGMENT(rx->size))
		room = FW_FRAGMENT(rx->size);
	memcpy(header, rx->ring + offset, sizeof(*header));
	fw_copied();
	if (fw_frame_check(header, rx->tail, (uint32_t)room, &why) != 0)
		return frame_bad(ch, -EPROTO, why);
	if (rx->length > 0 && le32toh(header->stream) != rx->stream)
		return frame_bad(ch, -EPROTO, "message of two streams");
	if (le32toh(header->length) > rx->message_max - rx->length)
		return frame_bad(ch, -EMSGSIZE, "message too long");
	return 0;
}

/* Take one frame out of the ring, append it to the message. */
static int take_frame(struct fastwake_channel *ch)
{
	struct fw_rx *rx = &ch->rx;
	uint32_t offset = (uint32_t)rx->tail & (rx->size - 1);
	uint8_t *payload =
		rx->buffer[rx->filling] + FW_FRAME_HEADER + rx->length;
	struct fw_frame_header later, *header = &later;
	uint32_t length;
	int rc;

	/* In front of its payload the first header can be summed with it. */
	if (rx->length == 0)
		header = (void *)rx->buffer[rx->filling];
	rc = take_header(ch, offset, header);
	if (rc != 0)
		return rc;
	length = le32toh(header->length);
	memcpy(payload, rx->ring + offset + FW_FRAME_HEADER, length);
	fw_copied();
	if (!fw_frame_intact(header, payload))
		return frame_bad(ch, -EPROTO, "damaged or torn frame");
	rx->stream = le32toh(header->stream);
	rx->length += length;
	rx->ready = (header->flags & FW_FRAME_END) != 0;
	rx->tail += fw_frame_space(length);
	rx->frames++;
	return 0;
}

static void return_credit(struct fastwake_channel *ch)
{
	struct fw_rx *rx = &ch->rx;

	if (rx->tail - rx->returned < FW_CREDIT(rx->size) &&
	    rx->frames < rx->frames_due)
		return;
	if (ch->error != 0 || ch->ops->credit(ch) != 0)
		return;
	rx->returned = rx->tail;
	rx->frames = 0;
}

/* Put together the next message, as far as it is there. */
static void receive(struct fastwake_channel *ch)
{
	struct fw_rx *rx = &ch->rx;

	while (!rx->ready && !rx->bad && rx->head != rx->tail) {
		if (take_frame(ch) != 0)
			return;
		return_credit(ch);
	}
}

/* 0, or the error if nothing is left to take before it. */
static int receive_error(const struct fastwake_channel *ch)
{
	return ch->rx.ready ? 0 : ch->error;
}

ssize_t fastwake_channel_recv(struct fastwake_channel *ch, uint32_t *stream,
			      void **buf)
{
	struct fw_rx *rx = &ch->rx;
	ssize_t length;

	if (ch->ops == NULL)
		return -ENOTCONN;
	if (!rx->ready) {
		if (rx->head == rx->tail)
			ch->ops->poll(ch);
		receive(ch);
	}
	if (!rx->ready)
		return ch->error != 0 ? ch->error : -EAGAIN;
	*stream = rx->stream;
	*buf = rx->buffer[rx->filling] + FW_FRAME_HEADER;
	length = rx->length;
	rx->filling ^= 1;
	rx->length = 0;
	rx->ready = false;
	ch->rx_messages++;
	ch->rx_bytes += (uint64_t)length;
	return length;
}

/* ------------------------------------------------------------------ */
/* Events                                                             */
/* ------------------------------------------------------------------ */

/* A clock that is read without a system call or a slow instruction. */
static uint64_t coarse_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/*
 * Memory does not show that a peer was killed.  Descriptors do, so they are
 * looked at if the caller may have been woken by one, else now and then.
 */
static void check(struct fastwake_channel *ch, bool woken)
{
	uint64_t now = coarse_now();

	if (!woken && now - ch->checked_ns < CHECK_INTERVAL_NS)
		return;
	ch->checked_ns = now;
	ch->ops->check(ch);
	/* What the peer sent before it went away is there by now. */
	ch->ops->poll(ch);
	receive(ch);
}

int fastwake_channel_poll(struct fastwake_channel *ch)
{
	bool woken = false;
	int set = 0;

	if (ch->ops == NULL)
		return -ENOTCONN;
	if (ch->armed) {
		ch->armed = false;
		woken = !ch->ops->disarm(ch);
	}
	ch->ops->poll(ch);
	receive(ch);
	if (!ch->rx.ready && ch->error == 0)
		check(ch, woken);
	return_credit(ch); /* if it could not be before */
	if (receive_error(ch) != 0)
		return ch->error;
	if (ch->rx.ready)
		set |= FASTWAKE_READABLE;
	if (ch->error == 0 && fw_tx_writable(&ch->tx)) {
		set |= FASTWAKE_WRITABLE;
		ch->tx.refused = false; /* the caller knows now */
	}
	return set;
}

const char *fastwake_channel_reason(const struct fastwake_channel *ch)
{
	return ch->reason;
}

int fastwake_channel_flushed(struct fastwake_channel *ch)
{
	if (ch->ops == NULL)
		return -ENOTCONN;
	if (ch->error != 0)
		return ch->error;
	return ch->ops->flushed(ch);
}

/*
 * Something that the caller has not been told: send and recv also look at what
 * has arrived, and may have taken the news for which a sleeper would wait.
 */
static bool pending(const struct fastwake_channel *ch)
{
	return ch->rx.ready || ch->rx.head != ch->rx.tail ||
	       (ch->tx.refused && fw_tx_writable(&ch->tx));
}

int fastwake_channel_arm(struct fastwake_channel *ch)
{
	if (ch->ops == NULL)
		return -ENOTCONN;
	ch->armed = true;
	if (ch->error != 0 || pending(ch))
		return 1;
	return ch->ops->arm(ch);
}

int fastwake_channel_watches(struct fastwake_channel *ch,
			     struct fastwake_watch watches[4])
{
	if (ch->ops == NULL)
		return -ENOTCONN;
	return ch->ops->watches(ch, watches);
}

static int pin_words(struct fastwake_channel *ch,
		     struct fastwake_domain *domain)
{
	struct fw_mapping words;

	if (!ch->ops->words(ch, &words))
		return -EOPNOTSUPP;
	return fastwake_domain_pin(domain, words.start, words.length);
}

/* One of the two is enough. */
int fastwake_channel_pin(struct fastwake_channel *ch,
			 struct fastwake_domain *domain)
{
	int rc;

	if (ch->ops == NULL)
		return -ENOTCONN;
	if (ch->pinned_in != NULL)
		return -EBUSY;
	rc = pin_words(ch, domain);
	ch->words_pinned = rc == 0;
	if (ch->ops->attach != NULL && ch->ops->attach(ch, domain) == 0)
		rc = 0;
	if (rc == 0)
		ch->pinned_in = domain;
	return rc;
}

static void unpin(struct fastwake_channel *ch)
{
	struct fw_mapping words;

	if (ch->pinned_in == NULL)
		return;
	if (ch->words_pinned && ch->ops->words(ch, &words))
		fastwake_domain_unpin(ch->pinned_in, words.start);
	if (ch->ops->detach != NULL)
		ch->ops->detach(ch);
	ch->words_pinned = false;
	ch->pinned_in = NULL;
}

/* ------------------------------------------------------------------ */
/* Information, end                                                   */
/* ------------------------------------------------------------------ */

int fastwake_channel_query(struct fastwake_channel *ch,
			   struct fastwake_channel_info *info)
{
	if (info->size != sizeof(*info))
		return -EINVAL;
	if (ch->ops == NULL)
		return -ENOTCONN;
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	info->transport = ch->ops->transport;
	info->tx_messages = ch->tx_messages;
	info->tx_bytes = ch->tx_bytes;
	info->rx_messages = ch->rx_messages;
	info->rx_bytes = ch->rx_bytes;
	info->ring_size = ch->tx.size;
	info->ring_used = ch->tx.head - ch->tx.tail;
	info->full_waits = ch->full_waits;
	ch->ops->query(ch, info);
	return 0;
}

void fastwake_channel_close(struct fastwake_channel *ch)
{
	if (ch == NULL)
		return;
	fw_connect_free(ch);
	unpin(ch);
	if (ch->shm != NULL)
		fw_shm_transport.close(ch);
	if (ch->rdma != NULL)
		fw_rdma_transport.close(ch);
	channel_free(ch);
}
