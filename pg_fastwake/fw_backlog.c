/*-------------------------------------------------------------------------
 *
 * fw_backlog.c
 *	  Messages that a channel had no room for.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

typedef struct Entry
{
	uint32		stream;
	uint32		len;			/* of the message's rest, which follows */
} Entry;

/* Make room for NEED more bytes; false if that is more than allowed. */
static bool
reserve(FwBacklog *b, size_t need)
{
	if (b->start > 0)
	{
		memmove(b->data, b->data + b->start, b->end - b->start);
		b->end -= b->start;
		b->start = 0;
	}
	if (b->end + need > FW_BACKLOG_MAX)
		return false;
	if (b->end + need > b->size)
	{
		size_t		size = Max(b->size * 2, b->end + need);
		char	   *data = realloc(b->data, size);

		if (data == NULL)
			return false;
		b->data = data;
		b->size = size;
	}
	return true;
}

static int
keep(FwBacklog *b, uint32 stream, const char *data, size_t len)
{
	Entry		entry = {.stream = stream,.len = (uint32) len};

	if (!reserve(b, sizeof(entry) + len))
		return -ENOBUFS;
	memcpy(b->data + b->end, &entry, sizeof(entry));
	memcpy(b->data + b->end + sizeof(entry), data, len);
	b->end += sizeof(entry) + len;
	return 0;
}

int
FwBacklogSend(FwBacklog *b, struct fastwake_channel *channel, uint32 stream,
			  const char *data, size_t len)
{
	int			rc = FwBacklogFlush(b, channel);

	if (rc < 0)
		return rc;
	while (FwBacklogEmpty(b) && len > 0)
	{
		ssize_t		n = fastwake_channel_send(channel, stream, data, len);

		if (n == -EAGAIN)
			break;
		if (n < 0)
			return (int) n;
		data += n;
		len -= n;
	}
	return len == 0 ? 0 : keep(b, stream, data, len);
}

int
FwBacklogFlush(FwBacklog *b, struct fastwake_channel *channel)
{
	while (!FwBacklogEmpty(b))
	{
		Entry		entry;
		char	   *rest = b->data + b->start + sizeof(entry);
		ssize_t		n;

		memcpy(&entry, b->data + b->start, sizeof(entry));
		n = fastwake_channel_send(channel, entry.stream, rest, entry.len);
		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int) n;

		/* What is left of the entry moves up behind a new header. */
		b->start += n;
		entry.len -= n;
		if (entry.len == 0)
			b->start += sizeof(entry);
		else
			memcpy(b->data + b->start, &entry, sizeof(entry));
	}
	return 0;
}
