/*-------------------------------------------------------------------------
 *
 * fw_guc.c
 *	  The settings pg_fastwake.*
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include <limits.h>

#include "miscadmin.h"

/* Bounds and defaults; README states them, sql/guc.sql checks them. */
#define FW_RING_DEFAULT_KB	1024
#define FW_POLL_DEFAULT_US	50
#define FW_POLL_MAX_US		1000
#define FW_REPLAY_DEFAULT_US	2000
#define FW_REPLAY_MAX_US	1000000
#define FW_GATHER_DEFAULT_US	2500
#define FW_GATHER_MAX_US	100000
/* Longest message: one WAL message is at most 128 kB and a header. */
#define FW_MESSAGE_MAX		(1024 * 1024)

bool		fw_enabled = true;
int			fw_transport = FW_TRANSPORT_AUTO;
int			fw_mode = FW_MODE_ADAPTIVE;
char	   *fw_rdma_device = NULL;
char	   *fw_listen_address = NULL;
int			fw_ring_size_kb = FW_RING_DEFAULT_KB;
int			fw_poll_us = FW_POLL_DEFAULT_US;
int			fw_replay_interval_us = FW_REPLAY_DEFAULT_US;
int			fw_gather_us = FW_GATHER_DEFAULT_US;
bool		fw_allow_plaintext = false;
bool		fw_interpose = true;

/* pg_fastwake.endpoint has no value of its own: its show hook answers. */
static char *fw_endpoint = NULL;

static const struct config_enum_entry transport_options[] = {
	{"auto", FW_TRANSPORT_AUTO, false},
	{"rdma", FW_TRANSPORT_RDMA, false},
	{"shm", FW_TRANSPORT_SHM, false},
	{"tcp", FW_TRANSPORT_TCP, false},
	{NULL, 0, false}
};

static const struct config_enum_entry mode_options[] = {
	{"adaptive", FW_MODE_ADAPTIVE, false},
	{"dispatch", FW_MODE_DISPATCH, false},
	{"interrupt", FW_MODE_INTERRUPT, false},
	{"off", FW_MODE_OFF, false},
	{NULL, 0, false}
};

static const char *
option_name(const struct config_enum_entry *options, int value)
{
	for (; options->name != NULL; options++)
		if (options->val == value)
			return options->name;
	return "unknown";
}

const char *
FwModeName(int mode)
{
	return option_name(mode_options, mode);
}

const char *
FwTransportSetting(void)
{
	return option_name(transport_options, fw_transport);
}

void
FwChannelOptions(struct fastwake_channel_options *options)
{
	memset(options, 0, sizeof(*options));
	options->size = sizeof(*options);
	options->ring_size = (uint32) fw_ring_size_kb * 1024;
	options->message_max = FW_MESSAGE_MAX;
	options->device = fw_rdma_device;
	options->address = fw_listen_address;
	if (fw_transport == FW_TRANSPORT_AUTO || fw_transport == FW_TRANSPORT_RDMA)
		options->transports |= FASTWAKE_TRANSPORT_RDMA;
	if (fw_transport == FW_TRANSPORT_AUTO || fw_transport == FW_TRANSPORT_SHM)
		options->transports |= FASTWAKE_TRANSPORT_SHM;
}

/* Rings are powers of two: positions in them are masked, never divided. */
static bool
check_ring_size(int *newval, void **extra, GucSource source)
{
	if ((*newval & (*newval - 1)) == 0)
		return true;
	GUC_check_errdetail("The ring size must be a power of two, such as 512kB or 1MB.");
	return false;
}

static void
define_transport_settings(void)
{
	DefineCustomEnumVariable("pg_fastwake.transport",
							 "Transport of physical replication.",
							 "auto: rdma where both servers have a device, else shm where both are on one host, else tcp. "
							 "Applies to the next replication connection.",
							 &fw_transport, FW_TRANSPORT_AUTO, transport_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("pg_fastwake.rdma_device",
							   "RDMA device to use, such as mlx5_0; empty for any.",
							   NULL,
							   &fw_rdma_device, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("pg_fastwake.listen_address",
							   "Numeric address on which a primary accepts RDMA connections; empty for the first of a usable device.",
							   NULL,
							   &fw_listen_address, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pg_fastwake.ring_size",
							"Size of each receive ring, a power of two.",
							"One ring per direction and connection; a walsender or walreceiver pins two of this size.",
							&fw_ring_size_kb, FW_RING_DEFAULT_KB,
							FASTWAKE_RING_MIN / 1024, FASTWAKE_RING_MAX / 1024,
							PGC_SIGHUP, GUC_UNIT_KB, check_ring_size, NULL, NULL);
	DefineCustomBoolVariable("pg_fastwake.allow_plaintext",
							 "Allows WAL to travel unencrypted over RDMA although the replication connection is encrypted.",
							 "Takes effect only if it is on at both servers.",
							 &fw_allow_plaintext, false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static void
define_wait_settings(void)
{
	DefineCustomBoolVariable("pg_fastwake.enabled",
							 "Uses FastWake for waits and for new replication connections.",
							 NULL,
							 &fw_enabled, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("pg_fastwake.mode",
							 "How processes wait: adaptive, dispatch (poll, then sleep), interrupt (sleep at once), or off (as PostgreSQL).",
							 NULL,
							 &fw_mode, FW_MODE_ADAPTIVE, mode_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pg_fastwake.poll_us",
							"Longest time that a wait polls before it sleeps, in microseconds.",
							"It is adapted below this bound to what pays; on a single CPU nothing is polled.",
							&fw_poll_us, FW_POLL_DEFAULT_US, 0, FW_POLL_MAX_US,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pg_fastwake.replay_interval_us",
							"Shortest time between two wake-ups of a standby's replay, in microseconds.",
							"What arrives meanwhile over a channel is replayed together; not if commits wait for its replay. 0: each commit wakes it.",
							&fw_replay_interval_us, FW_REPLAY_DEFAULT_US, 0, FW_REPLAY_MAX_US,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pg_fastwake.gather_us",
							"Longest time for which a walsender on a busy processor lets commits gather, in microseconds.",
							"Only while several commits wait at a time, and only with the kernel module. 0: each commit wakes it.",
							&fw_gather_us, FW_GATHER_DEFAULT_US, 0, FW_GATHER_MAX_US,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static const char *
show_endpoint(void)
{
	return FwShowEndpoint();
}

void
FwDefineSettings(void)
{
	define_transport_settings();
	define_wait_settings();

	/* Only a preloaded library may define a PGC_POSTMASTER variable. */
	if (process_shared_preload_libraries_in_progress)
	{
		DefineCustomBoolVariable("pg_fastwake.interpose",
								 "Replaces functions of libc that the server's own binary calls.",
								 "Needed for FastWake waits and for sending WAL over RDMA.",
								 &fw_interpose, true,
								 PGC_POSTMASTER, 0, NULL, NULL, NULL);
		DefineCustomStringVariable("pg_fastwake.endpoint",
								   "Where this walsender accepts a channel; asked for by standbys.",
								   NULL,
								   &fw_endpoint, "",
								   PGC_INTERNAL,
								   GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
								   NULL, NULL, show_endpoint);
	}

	MarkGUCPrefixReserved("pg_fastwake");
}
