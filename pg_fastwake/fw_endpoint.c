/*-------------------------------------------------------------------------
 *
 * fw_endpoint.c
 *	  The primary's half of the negotiation: SHOW pg_fastwake.endpoint.
 *
 * The standby asks over the authenticated replication connection; a walsender
 * answers in the setting's show hook:
 *
 *	state		SHOW answers						next state
 *	NONE		endpoint text with one-time token	LISTENING
 *				'tcp <reason>'						NONE
 *	LISTENING	'ready', the channel is accepted	READY
 *				'tcp <reason>'						NONE
 *	READY		'tcp cancelled by the standby'		NONE
 *
 * The channel is used from the next START_REPLICATION on if it is READY by
 * then; in any other state that command ends the negotiation.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include "libpq/libpq-be.h"
#include "libpq/libpq.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/walsender.h"
#include "storage/latch.h"

static struct fastwake_listener *listener = NULL;
static struct fastwake_channel *ready_channel = NULL;
static const char *const not_connected =
"the standby has not connected to the endpoint, its log says why";
static char answer[FASTWAKE_ENDPOINT_MAX + FASTWAKE_REASON_MAX];

static bool
connection_encrypted(void)
{
#ifdef ENABLE_GSS
	if (MyProcPort->gss && MyProcPort->gss->enc)
		return true;
#endif
	return MyProcPort->ssl_in_use;
}

static void
close_listener(void)
{
	if (listener != NULL)
		fastwake_listener_close(listener);
	listener = NULL;
}

/* Say no, in the log and to the standby. */
static const char *
refuse(const char *reason)
{
	close_listener();
	FwConnSetTcp(FwConnClaim(FW_ROLE_SENDER, application_name), reason);
	snprintf(answer, sizeof(answer), FW_TCP "%s", reason);
	ereport(LOG,
			(errmsg("pg_fastwake: WAL for standby \"%s\" travels over TCP",
					application_name),
			 errdetail("%s", reason)));
	return answer;
}

/*
 * The same for a failure of ours, in the words of the library, which the standby
 * would give as its own: "raise it" is meant for this server.
 */
static const char *
refuse_failure(const char *failure)
{
	(void) refuse(failure);
	snprintf(answer, sizeof(answer), FW_TCP "on the primary: %s", failure);
	return answer;
}

/* NULL if a channel may be offered, else why not. */
static const char *
offer_obstacle(void)
{
	if (!fw_enabled)
		return "pg_fastwake.enabled is off on the primary";
	if (fw_transport == FW_TRANSPORT_TCP)
		return "pg_fastwake.transport is tcp on the primary";
	if (!FwHooksActive())
		return "interposition is off or not possible on the primary";
	if (connection_encrypted() && !fw_allow_plaintext)
		return "the connection is encrypted and pg_fastwake.allow_plaintext is off on the primary";
	return NULL;
}

static const char *
start_listening(void)
{
	struct fastwake_channel_options options;
	char		reason[FASTWAKE_REASON_MAX] = "";
	const char *obstacle = offer_obstacle();
	int			rc;

	if (obstacle != NULL)
		return refuse(obstacle);

	FwChannelOptions(&options);
	rc = fastwake_listen(&listener, &options, reason);
	if (rc == 0)
		rc = fastwake_listener_endpoint(listener, answer, sizeof(answer));
	if (rc < 0)
	{
		if (reason[0] == '\0')
			snprintf(reason, sizeof(reason), "could not listen: %s",
					 strerror(-rc));
		return refuse_failure(reason);
	}
	FwConnSetTcp(FwConnClaim(FW_ROLE_SENDER, application_name), not_connected);
	/* START_REPLICATION shall end this, whether or not there is a channel. */
	FwSenderInstall();
	return answer;
}

/*
 * Wait for the standby that holds the token.  It has started to connect before
 * it asked again, so this is short unless the network between the RDMA
 * addresses does not work.
 */
static const char *
accept_channel(void)
{
	char		reason[FASTWAKE_REASON_MAX] = "";
	uint64		deadline = fastwake_now() +
	(uint64) FW_NEGOTIATION_MS * 1000000;
	int			rc;

	while ((rc = fastwake_accept(listener, &ready_channel, reason)) == -EAGAIN)
	{
		int64		left = (int64) (deadline - fastwake_now()) / 1000000;
		int			events;

		if (left <= 0)
			return refuse(reason[0] == '\0' ?
						  "the standby did not connect in time" :
						  psprintf("the standby did not connect in time; %s",
								   reason));
		events = WaitLatchOrSocket(MyLatch,
								   WL_LATCH_SET | WL_SOCKET_READABLE |
								   WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								   fastwake_listener_fd(listener), left,
								   PG_WAIT_EXTENSION);
		if (events & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
	}
	if (rc < 0)
	{
		ready_channel = NULL;
		if (reason[0] == '\0')
			snprintf(reason, sizeof(reason), "could not accept: %s",
					 strerror(-rc));
		return refuse_failure(reason);
	}
	close_listener();
	/* All that were refused meanwhile make one line; the last says why. */
	if (reason[0] != '\0')
		ereport(LOG,
				(errmsg("pg_fastwake: others tried to connect in place of standby \"%s\"",
						application_name),
				 errdetail("%s", reason)));
	return FW_READY;
}

static const char *
cancel_ready(void)
{
	fastwake_channel_close(ready_channel);
	ready_channel = NULL;
	return refuse("cancelled by the standby");
}

/*
 * Anybody else who asks (a session, SHOW ALL does not) sees an empty string.
 */
const char *
FwShowEndpoint(void)
{
	if (!am_walsender || am_db_walsender || MyProcPort == NULL ||
		FwShmem == NULL || FwSenderStreaming())
		return "";
	if (ready_channel != NULL)
		return cancel_ready();
	if (listener != NULL)
		return accept_channel();
	return start_listening();
}

struct fastwake_channel *
FwEndpointTakeChannel(bool *wal_only)
{
	struct fastwake_channel *channel = ready_channel;

	if (listener != NULL)
		(void) refuse(not_connected);
	ready_channel = NULL;
	*wal_only = connection_encrypted();
	return channel;
}
