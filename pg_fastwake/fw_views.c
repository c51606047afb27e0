/*-------------------------------------------------------------------------
 *
 * fw_views.c
 *	  SQL functions beneath the views.
 *
 * A function whose result changes shape gets a new symbol, named after the
 * version; old ones stay, for databases that have not been upgraded yet.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#define STATUS_COLUMNS		14
#define REPLICATION_COLUMNS 28	/* in 0.2; 23 in 0.1 */
#define WAITS_COLUMNS		10
#define CORES_COLUMNS		10

PG_FUNCTION_INFO_V1(pg_fastwake_status_0_1);
PG_FUNCTION_INFO_V1(pg_fastwake_replication_0_1);
PG_FUNCTION_INFO_V1(pg_fastwake_replication_0_2);
PG_FUNCTION_INFO_V1(pg_fastwake_waits_0_1);
PG_FUNCTION_INFO_V1(pg_fastwake_cores_0_2);
PG_FUNCTION_INFO_V1(pg_fastwake_reset);

static const char *const class_names[FW_WAIT_CLASSES] = {
	[FW_WAIT_SYNC_COMMIT] = "sync_commit",
	[FW_WAIT_WALSENDER] = "walsender",
	[FW_WAIT_WALRECEIVER] = "walreceiver",
	[FW_WAIT_STARTUP] = "startup",
};

static const char *const path_names[FW_PATHS] = {
	[FW_PATH_MEMORY] = "memory",
	[FW_PATH_DESCRIPTOR] = "descriptor",
};

const char *
FwWaitClassName(int wclass)
{
	return class_names[wclass];
}

const char *
FwWaitPathName(int path)
{
	return path_names[path];
}

void
FwRequirePreload(void)
{
	if (FwShmem == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_fastwake must be loaded via shared_preload_libraries"),
				 errhint("Add pg_fastwake to shared_preload_libraries and restart the server.")));
}

/* A row in the making. */
typedef struct Row
{
	Datum		values[REPLICATION_COLUMNS];
	bool		nulls[REPLICATION_COLUMNS];
	int			n;
} Row;

static void
put(Row *row, Datum value)
{
	row->nulls[row->n] = false;
	row->values[row->n++] = value;
}

static void
put_null(Row *row)
{
	row->nulls[row->n++] = true;
}

/* Empty text is shown as null. */
static void
put_text(Row *row, const char *text)
{
	if (text == NULL || text[0] == '\0')
		put_null(row);
	else
		put(row, CStringGetTextDatum(text));
}

static void
put_count(Row *row, uint64 count)
{
	put(row, Int64GetDatum((int64) count));
}

static void
put_time(Row *row, TimestampTz time)
{
	if (time == 0)
		put_null(row);
	else
		put(row, TimestampTzGetDatum(time));
}

/* A quantile in microseconds, null while nothing was counted. */
static void
put_quantile(Row *row, const struct fastwake_histogram *copy, double q)
{
	if (copy->count == 0)
		put_null(row);
	else
		put(row, Float8GetDatum(FwHistogramQuantile(copy, q) / 1000.0));
}

static void
put_quantiles(Row *row, const struct fastwake_histogram *copy)
{
	put_quantile(row, copy, 0.5);
	put_quantile(row, copy, 0.99);
	put_quantile(row, copy, 0.999);
	put_quantile(row, copy, 1);
}

Datum
pg_fastwake_status_0_1(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Row			row = {.n = 0};
	FwBackoff	backoff;
	TimestampTz reset;

	FwRequirePreload();
	InitMaterializedSRF(fcinfo, 0);

	SpinLockAcquire(&FwShmem->mutex);
	backoff = FwShmem->backoff;
	reset = FwShmem->stats_reset;
	SpinLockRelease(&FwShmem->mutex);

	put_text(&row, fastwake_version());
	put(&row, BoolGetDatum(fw_enabled));
	put(&row, BoolGetDatum(FwHooksActive()));
	put(&row, BoolGetDatum(fastwake_domain_has_module(FwDomain)));
	put_text(&row, FwTransportSetting());
	put_text(&row, FwModeName(fw_mode));
	put_count(&row, pg_atomic_read_u64(&FwShmem->signals_saved));
	put_count(&row, pg_atomic_read_u64(&FwShmem->signals_sent));
	put_count(&row, backoff.fallbacks);
	put_time(&row, backoff.last_fallback);
	put_text(&row, backoff.reason);
	put(&row, Int32GetDatum(backoff.failures));
	put_time(&row, backoff.next_retry);
	put_time(&row, reset);
	Assert(row.n == STATUS_COLUMNS);

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc,
						 row.values, row.nulls);
	return (Datum) 0;
}

/* The figures of a channel: of a connection that uses TCP there are none. */
static void
put_channel(Row *row, const struct fastwake_channel_info *info)
{
	put_count(row, info->tx_bytes);
	put_count(row, info->tx_messages);
	put_count(row, info->rx_bytes);
	put_count(row, info->rx_messages);
	put_count(row, info->ring_used);
	put_count(row, info->ring_size);
	put_count(row, info->full_waits);
	put_count(row, info->pinned);
}

/* Columns of 0.1, which showed the figures of no channel as zeros. */
static void
put_connection_0_1(Row *row, const FwConn *conn)
{
	const struct fastwake_channel_info *info = &conn->info;

	put_text(row, conn->role == FW_ROLE_SENDER ? "sender" : "receiver");
	put(row, Int32GetDatum(conn->pid));
	put_text(row, conn->application_name);
	put_text(row, conn->transport);
	put_text(row, info->device);
	put_text(row, info->local);
	put_text(row, info->peer);
	if (info->transport == 0)
		put_null(row);
	else
		put_count(row, info->qp_num);
	put_text(row, info->state);
	put_channel(row, info);
	put_count(row, conn->stream_ends);
	put_quantiles(row, &conn->rtt);
	put_text(row, conn->reason);
}

#define COLUMN_QP_NUM	7
#define COLUMN_FIGURES	9		/* the first of put_channel() ... */
#define COLUMN_RTT		18		/* ... and the first that is none of it */
#define COLUMN_REASON	22

/*
 * What 0.2 shows differently, and more.  A channel in use has no reason for TCP:
 * then it is the peer's last one that is shown.
 */
static void
put_connection_0_2(Row *row, const FwConn *conn, const FwPeer *peer,
				   TimestampTz next_retry)
{
	put_connection_0_1(row, conn);
	if (conn->info.transport != FASTWAKE_TRANSPORT_RDMA)
		row->nulls[COLUMN_QP_NUM] = true;
	if (conn->info.transport == 0)
		memset(&row->nulls[COLUMN_FIGURES], true, COLUMN_RTT - COLUMN_FIGURES);
	if (row->nulls[COLUMN_REASON] && peer->reason[0] != '\0')
	{
		row->n = COLUMN_REASON;
		put_text(row, peer->reason);
	}
	put_count(row, peer->fallbacks);
	put_time(row, peer->last_fallback);
	put_time(row, next_retry);
	put_time(row, conn->since);
	if (FwConnMeasured(conn))
		put_count(row, conn->rtt.count);
	else
		put_null(row);
	Assert(row->n == REPLICATION_COLUMNS);
}

/* The standby decides when to try again; a primary does not know. */
static void
put_connection(Row *row, const FwConn *conn)
{
	bool		sender = conn->role == FW_ROLE_SENDER;
	TimestampTz next_retry = 0;
	FwPeer		peer;

	FwPeerCopy(conn->role, sender ? conn->application_name : "", &peer);
	if (!sender)
		(void) FwBackoffOver(&next_retry);
	put_connection_0_2(row, conn, &peer, next_retry);
}

static void
put_connections(FunctionCallInfo fcinfo, bool all_columns)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	FwRequirePreload();
	InitMaterializedSRF(fcinfo, 0);

	for (int i = 0; i < FwShmem->nconns; i++)
	{
		Row			row = {.n = 0};
		FwConn		conn;

		if (!FwConnCopy(&FwShmem->conns[i], &conn))
			continue;
		if (all_columns)
			put_connection(&row, &conn);
		else
			put_connection_0_1(&row, &conn);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc,
							 row.values, row.nulls);
	}
}

Datum
pg_fastwake_replication_0_1(PG_FUNCTION_ARGS)
{
	put_connections(fcinfo, false);
	return (Datum) 0;
}

Datum
pg_fastwake_replication_0_2(PG_FUNCTION_ARGS)
{
	put_connections(fcinfo, true);
	return (Datum) 0;
}

Datum
pg_fastwake_waits_0_1(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	FwRequirePreload();
	InitMaterializedSRF(fcinfo, 0);

	for (int c = 0; c < FW_WAIT_CLASSES; c++)
	{
		for (int p = 0; p < FW_PATHS; p++)
		{
			FwWaitStats *stats = &FwShmem->waits[c][p];
			struct fastwake_histogram latency;
			Row			row = {.n = 0};

			put_text(&row, class_names[c]);
			put_text(&row, path_names[p]);
			put_count(&row, pg_atomic_read_u64(&stats->waits));
			put_count(&row, pg_atomic_read_u64(&stats->switches));
			put_count(&row, pg_atomic_read_u64(&stats->spurious));
			put_count(&row, pg_atomic_read_u64(&stats->parks));
			FwHistogramCopy(&latency, &stats->latency);
			put_quantiles(&row, &latency);
			Assert(row.n == WAITS_COLUMNS);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc,
								 row.values, row.nulls);
		}
	}
	return (Datum) 0;
}

static void
put_core(ReturnSetInfo *rsinfo, const struct fastwake_core_info *core)
{
	Row			row = {.n = 0};

	put(&row, Int32GetDatum((int32) core->core));
	put(&row, Int32GetDatum((int32) core->waiters));
	put_count(&row, core->polls);
	put_count(&row, core->hits);
	put_count(&row, core->switches);
	put_count(&row, core->backstops);
	put_count(&row, core->parked);
	put_count(&row, core->events);
	put_count(&row, core->events_here);
	put_count(&row, core->moves);
	Assert(row.n == CORES_COLUMNS);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc,
						 row.values, row.nulls);
}

/* Cores as the kernel module counts on them; none without the module. */
Datum
pg_fastwake_cores_0_2(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	struct fastwake_core_info *cores;
	int			max,
				n;

	FwRequirePreload();
	InitMaterializedSRF(fcinfo, 0);

	max = fastwake_domain_cores(FwDomain, NULL, 0);
	if (max == -ENODEV)
		return (Datum) 0;
	cores = palloc0(sizeof(*cores) * Max(max, 1));
	n = fastwake_domain_cores(FwDomain, cores, Max(max, 0));
	if (n < 0)
	{
		errno = -n;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read the counters of the kernel module: %m")));
	}
	for (int i = 0; i < Min(n, max); i++)
		put_core(rsinfo, &cores[i]);
	return (Datum) 0;
}

static void
reset_waits(FwWaitStats *stats)
{
	pg_atomic_write_u64(&stats->waits, 0);
	pg_atomic_write_u64(&stats->switches, 0);
	pg_atomic_write_u64(&stats->spurious, 0);
	pg_atomic_write_u64(&stats->parks, 0);
	fastwake_histogram_reset(&stats->latency);
}

/* Counters and histograms; not the back-off, which is policy, not statistics. */
Datum
pg_fastwake_reset(PG_FUNCTION_ARGS)
{
	FwRequirePreload();

	for (int c = 0; c < FW_WAIT_CLASSES; c++)
		for (int p = 0; p < FW_PATHS; p++)
			reset_waits(&FwShmem->waits[c][p]);
	for (int i = 0; i < FwShmem->nconns; i++)
		fastwake_histogram_reset(&FwShmem->conns[i].rtt);
	FwPeersReset();
	pg_atomic_write_u64(&FwShmem->signals_saved, 0);
	pg_atomic_write_u64(&FwShmem->signals_sent, 0);

	SpinLockAcquire(&FwShmem->mutex);
	FwShmem->backoff.fallbacks = 0;
	FwShmem->stats_reset = GetCurrentTimestamp();
	SpinLockRelease(&FwShmem->mutex);
	PG_RETURN_VOID();
}
