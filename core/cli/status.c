// SPDX-License-Identifier: PostgreSQL
/*
 * status.c - fastwake status: the module, RDMA devices and cores, and what to do
 * about what is missing.
 */
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "cq.h"
#include "device.h"
#include "fastwake.h"

/* ------------------------------------------------------------------ */
/* Module                                                             */
/* ------------------------------------------------------------------ */

static const struct {
	uint64_t bit;
	const char *name;
} features[] = {
	{ FASTWAKE_FEATURE_DISPATCHER, "dispatcher" },
	{ FASTWAKE_FEATURE_BACKSTOP, "backstop" },
	{ FASTWAKE_FEATURE_CQ, "completion_queues" },
	{ FASTWAKE_FEATURE_TEST_EVENT, "test_events" },
	{ FASTWAKE_FEATURE_RESTART, "restart" },
};

#define FEATURES (sizeof(features) / sizeof(*features))

static void module_text(const struct device *d)
{
	const struct fastwake_ioc_query *q = &d->query;
	size_t i;

	printf("module      %s%s%s\n",
	       d->state == DEVICE_READY ? "ready" : d->problem,
	       d->version[0] != '\0' ? ", version " : "", d->version);
	if (d->remedy[0] != '\0')
		printf("            remedy: %s\n", d->remedy);
	if (d->state != DEVICE_READY)
		return;
	printf("            ABI %u;", q->out_abi);
	for (i = 0; i < FEATURES; i++)
		if (q->out_features & features[i].bit)
			printf(" %s", features[i].name);
	printf("\n            backstop %llu us, budget at most %llu us\n",
	       (unsigned long long)q->out_backstop_ns / 1000,
	       (unsigned long long)q->out_budget_max_ns / 1000);
	printf("            a domain: %u waiters, %u regions; a wait: %u watches\n",
	       q->out_waiters_max, q->out_regions_max, q->out_watches_max);
}

static void module_limits_json(const struct fastwake_ioc_query *q)
{
	const char *comma = "";
	size_t i;

	printf(", \"abi\": %u, \"features\": [", q->out_abi);
	for (i = 0; i < FEATURES; i++)
		if (q->out_features & features[i].bit) {
			printf("%s\"%s\"", comma, features[i].name);
			comma = ", ";
		}
	printf("], \"backstop_ns\": %llu, \"budget_max_ns\": %llu, \"waiters_max\": %u, \"regions_max\": %u, \"watches_max\": %u",
	       (unsigned long long)q->out_backstop_ns,
	       (unsigned long long)q->out_budget_max_ns, q->out_waiters_max,
	       q->out_regions_max, q->out_watches_max);
}

static void module_json(const struct device *d)
{
	printf("\"module\": {\"state\": \"%s\"", device_state_name(d->state));
	if (d->version[0] != '\0') {
		fputs(", \"version\": ", stdout);
		cli_json_text(stdout, d->version);
	}
	if (d->state == DEVICE_READY) {
		module_limits_json(&d->query);
	} else {
		fputs(", \"problem\": ", stdout);
		cli_json_text(stdout, d->problem);
		fputs(", \"remedy\": ", stdout);
		cli_json_text(stdout, d->remedy);
	}
	fputc('}', stdout);
}

/* ------------------------------------------------------------------ */
/* RDMA devices                                                       */
/* ------------------------------------------------------------------ */

static void rdma_text(struct ibv_device *rdma)
{
	char reason[FASTWAKE_REASON_MAX];
	const char *adapter = fw_cq_adapter(rdma, reason);

	printf("%-8s", ibv_get_device_name(rdma));
	if (adapter != NULL)
		printf(" completions are waited for in memory (adapter %s)\n",
		       adapter);
	else
		printf(" no adapter: %s\n", reason);
}

static void rdma_json(struct ibv_device *rdma)
{
	char reason[FASTWAKE_REASON_MAX];
	const char *adapter = fw_cq_adapter(rdma, reason);

	fputs("{\"name\": ", stdout);
	cli_json_text(stdout, ibv_get_device_name(rdma));
	if (adapter != NULL) {
		printf(", \"adapter\": \"%s\"}", adapter);
		return;
	}
	fputs(", \"adapter\": null, \"reason\": ", stdout);
	cli_json_text(stdout, reason);
	fputc('}', stdout);
}

static void devices(bool json)
{
	int i, n = 0;
	struct ibv_device **list = ibv_get_device_list(&n);

	if (list == NULL)
		n = 0;
	if (json)
		fputs(", \"devices\": [", stdout);
	else if (n == 0)
		puts("devices     no RDMA device");
	for (i = 0; i < n; i++) {
		if (json) {
			fputs(i > 0 ? ", " : "", stdout);
			rdma_json(list[i]);
		} else {
			fputs(i > 0 ? "            " : "devices     ", stdout);
			rdma_text(list[i]);
		}
	}
	if (json)
		fputc(']', stdout);
	if (list != NULL)
		ibv_free_device_list(list);
}

/* ------------------------------------------------------------------ */
/* Cores                                                              */
/* ------------------------------------------------------------------ */

static const char *scanner_name(uint32_t scanner)
{
	switch (scanner) {
	case FASTWAKE_SCANNER_NONE:
		return "-";
	case FASTWAKE_SCANNER_WAITER:
		return "waiter";
	case FASTWAKE_SCANNER_DISPATCHER:
		return "dispatcher";
	default:
		return "?";
	}
}

#define COUNTER(name)                                       \
	{                                                   \
#name, offsetof(struct fastwake_core, name) \
	}

static const struct counter {
	const char *name;
	size_t offset;
} counters[] = {
	COUNTER(waits),		 COUNTER(immediate),	   COUNTER(spun),
	COUNTER(slept),		 COUNTER(parks),	   COUNTER(timeouts),
	COUNTER(signals),	 COUNTER(polls),	   COUNTER(handoffs),
	COUNTER(dispatches),	 COUNTER(dispatcher_runs), COUNTER(backstops),
	COUNTER(backstop_wakes), COUNTER(wakes),	   COUNTER(switches),
	COUNTER(full),		 COUNTER(expired),	   COUNTER(events),
	COUNTER(events_here),	 COUNTER(moves),
};

#define COUNTERS (sizeof(counters) / sizeof(*counters))

static unsigned long long value_of(const struct fastwake_core *core,
				   const struct counter *counter)
{
	uint64_t value;

	memcpy(&value, (const char *)core + counter->offset, sizeof(value));
	return value;
}

static void core_text(unsigned int number, const struct fastwake_core *core)
{
	size_t i;

	printf("core %-6u waiters %u, watches %u, scanner %s\n", number,
	       core->waiters, core->watches, scanner_name(core->scanner));
	for (i = 0; i < COUNTERS; i++)
		printf("%s%s %llu%s", i % 6 == 0 ? "            " : "",
		       counters[i].name, value_of(core, &counters[i]),
		       i % 6 == 5 || i == COUNTERS - 1 ? "\n" : ", ");
}

static void core_json(unsigned int number, const struct fastwake_core *core)
{
	size_t i;

	printf("{\"core\": %u, \"waiters\": %u, \"watches\": %u, \"scanner\": \"%s\"",
	       number, core->waiters, core->watches,
	       scanner_name(core->scanner));
	for (i = 0; i < COUNTERS; i++)
		printf(", \"%s\": %llu", counters[i].name,
		       value_of(core, &counters[i]));
	fputc('}', stdout);
}

/* Cores that could exist but do not, or are not online, have no counts. */
static bool worth_showing(unsigned int number, const struct fastwake_core *core)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u", number);
	return core->waits != 0 || access(path, F_OK) == 0;
}

static void cores(const struct device *d, bool json)
{
	const void *mapped = device_map_cores(d);
	const char *comma = "";
	unsigned int i;

	if (json)
		fputs(", \"cores\": [", stdout);
	for (i = 0; mapped != NULL && i < d->query.out_cores; i++) {
		struct fastwake_core core = core_of(d, mapped, i);

		if (!worth_showing(i, &core))
			continue;
		if (!json) {
			core_text(i, &core);
			continue;
		}
		fputs(comma, stdout);
		comma = ", ";
		core_json(i, &core);
	}
	if (json)
		fputc(']', stdout);
	device_unmap_cores(d, mapped);
}

int cli_status(int argc, char **argv)
{
	bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
	struct device d;
	int status;

	if (argc > 1 && !json)
		return cli_usage("status", "unknown argument \"%s\"",
				 strcmp(argv[1], "--json") ? argv[1] : argv[2]);
	device_open(&d);
	if (json) {
		printf("{\"library\": \"%s\", ", fastwake_version());
		module_json(&d);
	} else {
		printf("library     %s\n", fastwake_version());
		module_text(&d);
	}
	devices(json);
	cores(&d, json);
	if (json)
		puts("}");
	status = d.state == DEVICE_READY ? CLI_OK : CLI_NO;
	device_close(&d);
	return cli_finish(status);
}
