/*-------------------------------------------------------------------------
 *
 * fw_rtt.c
 *	  Round trips of a walsender's stream.
 *
 * A round trip begins when core hands a WAL message to us, and ends when we read
 * a reply that reports all of that message as written by the standby.  So it
 * contains the wait for room in the ring, both ways of the transport, the
 * wake-ups on both sides and the standby's write; and its flush too, where the
 * standby reports a write with the flush that follows it (see fw_receiver.c).
 * A reply that was under way already does not end it: positions are compared.
 *
 * Every message is timed, up to SENT_MAX at once; then none until the oldest
 * has been answered.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include "port/pg_bswap.h"

#define SENT_MAX		64		/* a power of two */

/* 'w', start, end of WAL, time, then WAL: see XLogSendPhysical(). */
#define WAL_HEADER_LEN	25
#define WAL_START		1

static struct
{
	uint64		end;			/* position of the message's last byte + 1 */
	uint64		time;
}			sent[SENT_MAX];
static unsigned int first = 0,
			next = 0;

static uint64
position_at(const char *message, size_t offset)
{
	uint64		position;

	memcpy(&position, message + offset, sizeof(position));
	return pg_ntoh64(position);
}

void
FwRttBegin(void)
{
	first = next = 0;
}

void
FwRttSent(const char *message, size_t len, uint64 now)
{
	if (len < WAL_HEADER_LEN || message[0] != 'w' || next - first == SENT_MAX)
		return;
	sent[next % SENT_MAX].end =
		position_at(message, WAL_START) + (len - WAL_HEADER_LEN);
	sent[next % SENT_MAX].time = now;
	next++;
}

void
FwRttWritten(uint64 lsn, uint64 now, struct fastwake_histogram *rtt)
{
	while (first != next && sent[first % SENT_MAX].end <= lsn)
	{
		fastwake_histogram_add(rtt, now - sent[first % SENT_MAX].time);
		first++;
	}
}

void
FwRttReply(const char *reply, size_t len, uint64 now,
		   struct fastwake_histogram *rtt)
{
	if (len == FW_REPLY_LEN && reply[0] == 'r')
		FwRttWritten(position_at(reply, FW_REPLY_WRITE), now, rtt);
}
