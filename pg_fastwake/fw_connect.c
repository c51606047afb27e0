/*-------------------------------------------------------------------------
 *
 * fw_connect.c
 *	  The standby's half of the negotiation.
 *
 * Over the replication connection, before START_REPLICATION:
 *
 *	1. SHOW pg_fastwake.endpoint: the primary listens and answers with where,
 *	   and a one-time token;
 *	2. the connection is begun, and the same SHOW sent again, which the primary
 *	   answers with 'ready' when it has accepted the connection.
 *
 * If anything fails after step 2 was sent, a last SHOW cancels the channel, so
 * that both sides agree on TCP.  All of it takes at most FW_NEGOTIATION_MS.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include <poll.h>

#include "libpq-fe.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/walreceiver.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"

#define ASK "SHOW pg_fastwake.endpoint"

/* The primary's own limit, and time for its answer to travel. */
#define ANSWER_MS (FW_NEGOTIATION_MS + 1000)

typedef struct Negotiation
{
	PGconn	   *conn;
	struct fastwake_channel *channel;
	int			state;			/* of the channel: 0, -EAGAIN, or failed */
	char	   *reason;
	uint64		deadline;		/* of the channel */
} Negotiation;

/*
 * Sleep until the socket or one of the channel's descriptors is readable, the
 * latch is set, or 100 ms (bounds what a lost edge could cost) have passed.
 * The walreceiver's latch has no descriptor that we could poll here, and its
 * SIGTERM handler only sets a flag: hence the bound, and the check for it.
 */
static void
wait_for_progress(Negotiation *n, bool with_socket)
{
	struct pollfd fds[FASTWAKE_FDS_MAX + 2];
	int			channel_fds[FASTWAKE_FDS_MAX];
	int			count = 0;
	int			nchannel = 0;

	if (n->channel != NULL && n->state == -EAGAIN)
		nchannel = fastwake_channel_fds(n->channel, channel_fds);
	for (int i = 0; i < nchannel; i++)
		fds[count++].fd = channel_fds[i];
	if (with_socket)
		fds[count++].fd = PQsocket(n->conn);
	for (int i = 0; i < count; i++)
		fds[i].events = POLLIN;

	pgstat_report_wait_start(PG_WAIT_EXTENSION);
	(void) poll(fds, count, 100);
	pgstat_report_wait_end();

	FwProcessWalRcvInterrupts();
	if (!PostmasterIsAlive())
		proc_exit(1);
}

static void
advance_channel(Negotiation *n)
{
	if (n->channel != NULL && n->state == -EAGAIN)
		n->state = fastwake_connect_continue(n->channel, n->reason);
	if (n->state < 0 && n->state != -EAGAIN && n->reason[0] == '\0')
		snprintf(n->reason, FASTWAKE_REASON_MAX, "could not connect: %s",
				 strerror(-n->state));
}

/* The one value of a SHOW's result, or NULL and the reason. */
static char *
shown_value(PGresult *res, char *reason)
{
	if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1 &&
		PQnfields(res) == 1)
		return pstrdup(PQgetvalue(res, 0, 0));

	if (PQresultStatus(res) == PGRES_FATAL_ERROR)
		snprintf(reason, FASTWAKE_REASON_MAX,
				 "the primary does not run pg_fastwake");
	else
		snprintf(reason, FASTWAKE_REASON_MAX,
				 "unexpected answer to SHOW from the primary");
	return NULL;
}

/*
 * The connection is of no use any more.  The next one must not end like this,
 * or replication would never begin: it stays on TCP.
 */
static void
no_answer(PGconn *conn)
{
	const char *reason = PQstatus(conn) == CONNECTION_BAD ?
	pchomp(PQerrorMessage(conn)) : "no answer to " ASK;

	FwBackoffFailure(reason);
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("could not receive data from WAL stream: %s", reason)));
}

/*
 * Ask, and drive the channel's connection until the answer is there.  NULL if
 * there is none: *n->reason says why.
 */
static char *
ask(Negotiation *n)
{
	char	   *value = NULL;
	PGresult   *res;
	uint64		end = fastwake_now() + (uint64) ANSWER_MS * 1000000;

	if (!PQsendQuery(n->conn, ASK))
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("could not send data to WAL stream: %s",
						pchomp(PQerrorMessage(n->conn)))));
	for (;;)
	{
		while (PQisBusy(n->conn))
		{
			wait_for_progress(n, true);
			advance_channel(n);
			if (PQconsumeInput(n->conn) == 0 || fastwake_now() > end)
				no_answer(n->conn);
		}
		res = PQgetResult(n->conn);
		if (res == NULL)
			return value;
		if (value == NULL)
			value = shown_value(res, n->reason);
		PQclear(res);
	}
}

/* NULL if a channel may be asked for, else why not. */
static const char *
ask_obstacle(PGconn *conn)
{
	if (!fw_enabled)
		return "pg_fastwake.enabled is off on the standby";
	if (fw_transport == FW_TRANSPORT_TCP)
		return "pg_fastwake.transport is tcp on the standby";
	if ((PQsslInUse(conn) || PQgssEncInUse(conn)) && !fw_allow_plaintext)
		return "the connection is encrypted and pg_fastwake.allow_plaintext is off on the standby";
	return NULL;
}

/* Begin to connect to the primary's endpoint; -errno with the reason set. */
static int
begin_connection(Negotiation *n, const char *endpoint)
{
	struct fastwake_channel_options options;
	int			rc;

	FwChannelOptions(&options);
	rc = fastwake_connect(&n->channel, endpoint, &options, n->reason);
	if (rc < 0)
	{
		n->channel = NULL;
		if (n->reason[0] == '\0')
			snprintf(n->reason, FASTWAKE_REASON_MAX, "could not connect: %s",
					 strerror(-rc));
		return rc;
	}
	n->state = -EAGAIN;
	n->deadline = fastwake_now() + (uint64) FW_NEGOTIATION_MS * 1000000;
	advance_channel(n);
	return 0;
}

/* The primary said ready: finish our side. */
static void
finish_connection(Negotiation *n)
{
	while (n->state == -EAGAIN && fastwake_now() < n->deadline)
	{
		wait_for_progress(n, false);
		advance_channel(n);
	}
	if (n->state == -EAGAIN)
		snprintf(n->reason, FASTWAKE_REASON_MAX,
				 "the connection was not established within %d ms",
				 FW_NEGOTIATION_MS);
}

static struct fastwake_channel *
give_up(Negotiation *n)
{
	if (n->channel != NULL)
		fastwake_channel_close(n->channel);
	return NULL;
}

struct fastwake_channel *
FwNegotiate(PGconn *conn, char *reason, bool *failed, bool *wal_only)
{
	Negotiation n = {.conn = conn,.reason = reason};
	const char *obstacle = ask_obstacle(conn);
	TimestampTz retry;
	char	   *answer;
	int			rc;

	*failed = false;
	*wal_only = PQsslInUse(conn) || PQgssEncInUse(conn);
	reason[0] = '\0';

	if (obstacle == NULL && !FwBackoffOver(&retry))
	{
		snprintf(reason, FASTWAKE_REASON_MAX,
				 "a channel failed recently, not tried again before %s",
				 timestamptz_to_str(retry));
		return NULL;
	}
	if (obstacle != NULL)
	{
		strlcpy(reason, obstacle, FASTWAKE_REASON_MAX);
		return NULL;
	}

	answer = ask(&n);
	if (answer == NULL)
		return NULL;
	if (strncmp(answer, FW_TCP, strlen(FW_TCP)) == 0)
	{
		strlcpy(reason, answer + strlen(FW_TCP), FASTWAKE_REASON_MAX);
		return NULL;
	}

	rc = begin_connection(&n, answer);
	if (rc < 0)
	{
		/* no transport in common is how things are, not a failure */
		*failed = rc != -ENODEV;
		return give_up(&n);
	}
	answer = ask(&n);
	if (answer != NULL && strcmp(answer, FW_READY) == 0)
		finish_connection(&n);
	else
	{
		*failed = true;
		if (reason[0] == '\0' && answer != NULL)
			strlcpy(reason, strncmp(answer, FW_TCP, strlen(FW_TCP)) == 0 ?
					answer + strlen(FW_TCP) : "unexpected answer from the primary",
					FASTWAKE_REASON_MAX);
		return give_up(&n);
	}
	if (n.state == 0)
		return n.channel;

	/* The primary believes in the channel: tell it otherwise. */
	*failed = true;
	(void) ask(&n);
	return give_up(&n);
}
