/*-------------------------------------------------------------------------
 *
 * fw_histogram.c
 *	  Histograms as others read them, and the view of their buckets.
 *
 * Processes add to histograms in shared memory by atomic increments, without a
 * lock.  Readers work on a copy that agrees with itself.
 *
 * The view gives every histogram the same buckets, whatever they hold, in the
 * form that Prometheus wants: cumulative, the bound included.  Bounds below
 * 128 ns and above 68 s, which tell nothing here, are left out; the last
 * bucket has no bound and so holds all.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#define HISTOGRAM_COLUMNS	4

#define FIRST_BOUND			UINT64CONST(127)
#define LAST_BOUND			((UINT64CONST(1) << 36) - 1)

PG_FUNCTION_INFO_V1(pg_fastwake_histogram_0_2);

static uint64
load(const uint64_t * word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

void
FwHistogramCopy(struct fastwake_histogram *copy,
				const struct fastwake_histogram *h)
{
	int			last = -1;
	uint64		least;

	copy->count = copy->max = 0;
	for (int i = 0; i < FASTWAKE_HISTOGRAM_BUCKETS; i++)
	{
		copy->bucket[i] = load(&h->bucket[i]);
		copy->count += copy->bucket[i];
		if (copy->bucket[i] != 0)
			last = i;
	}
	if (last < 0)
		return;
	least = last == 0 ? 0 : fastwake_histogram_bound(last - 1) + 1;
	copy->max = Min(Max(load(&h->max), least), fastwake_histogram_bound(last));
}

uint64
FwHistogramQuantile(const struct fastwake_histogram *h, double q)
{
	return q >= 1 ? h->max : Min(fastwake_histogram_quantile(h, q), h->max);
}

/* One histogram in the making of rows. */
typedef struct Output
{
	ReturnSetInfo *rsinfo;
	const char *name;
	Datum		labels;
} Output;

static void
put_bucket(const Output *out, int64 bound, uint64 count)
{
	Datum		values[HISTOGRAM_COLUMNS];
	bool		nulls[HISTOGRAM_COLUMNS] = {false};

	values[0] = CStringGetTextDatum(out->name);
	values[1] = out->labels;
	values[2] = Int64GetDatum(bound);
	values[3] = Int64GetDatum((int64) count);
	tuplestore_putvalues(out->rsinfo->setResult, out->rsinfo->setDesc,
						 values, nulls);
}

static void
put_histogram(const Output *out, const struct fastwake_histogram *copy)
{
	uint64		count = 0;

	for (int i = 0; i < FASTWAKE_HISTOGRAM_BUCKETS; i++)
	{
		uint64		bound = fastwake_histogram_bound(i);

		count += copy->bucket[i];
		if (bound >= FIRST_BOUND && bound <= LAST_BOUND)
			put_bucket(out, (int64) bound, count);
	}
	put_bucket(out, PG_INT64_MAX, count);
}

static void
add_label(StringInfo json, const char *name, const char *value)
{
	appendStringInfoChar(json, json->len == 0 ? '{' : ',');
	escape_json(json, name);
	appendStringInfoChar(json, ':');
	escape_json(json, value);
}

static Datum
finish_labels(StringInfo json)
{
	appendStringInfoChar(json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json->data));
}

static void
put_wait_latency(ReturnSetInfo *rsinfo, int wclass, int path)
{
	Output		out = {rsinfo, "pg_fastwake_wakeup"};
	struct fastwake_histogram copy;
	StringInfoData json;

	initStringInfo(&json);
	add_label(&json, "class", FwWaitClassName(wclass));
	add_label(&json, "mode", FwWaitPathName(path));
	out.labels = finish_labels(&json);
	FwHistogramCopy(&copy, &FwShmem->waits[wclass][path].latency);
	put_histogram(&out, &copy);
}

static void
put_round_trips(ReturnSetInfo *rsinfo, const FwConn *conn)
{
	Output		out = {rsinfo, "pg_fastwake_rtt"};
	StringInfoData json;

	initStringInfo(&json);
	add_label(&json, "application_name", conn->application_name);
	add_label(&json, "transport", conn->transport);
	add_label(&json, "pid", psprintf("%d", (int) conn->pid));
	out.labels = finish_labels(&json);
	put_histogram(&out, &conn->rtt);
}

/* Of waits on descriptors nobody can tell when the wake-up was sent. */
Datum
pg_fastwake_histogram_0_2(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	FwRequirePreload();
	InitMaterializedSRF(fcinfo, 0);

	for (int c = 0; c < FW_WAIT_CLASSES; c++)
		put_wait_latency(rsinfo, c, FW_PATH_MEMORY);
	for (int i = 0; i < FwShmem->nconns; i++)
	{
		FwConn		conn;

		if (FwConnCopy(&FwShmem->conns[i], &conn) && FwConnMeasured(&conn))
			put_round_trips(rsinfo, &conn);
	}
	return (Datum) 0;
}
