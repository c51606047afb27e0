// SPDX-License-Identifier: PostgreSQL
/*
 * rdma_setup.c - transport rdma, which this build does not have yet.
 */
#include <errno.h>

#include "channel_internal.h"

const struct fw_transport fw_rdma_transport = { .transport = 0 };

int fw_rdma_available(const char *device, char *reason)
{
	(void)device;
	return fw_reason(reason, -ENODEV, "rdma: not built in");
}

int fw_rdma_listen(struct fw_rdma_listener **listener, int epoll,
		   const struct fastwake_channel_options *options, char *reason)
{
	(void)listener;
	(void)epoll;
	return fw_rdma_available(options->device, reason);
}

void fw_rdma_listener_address(const struct fw_rdma_listener *listener,
			      union fw_address *address)
{
	(void)listener;
	(void)address;
}

int fw_rdma_accept(struct fw_rdma_listener *listener, const uint8_t *token,
		   struct fastwake_channel **channel, unsigned int *attempts,
		   char *reason)
{
	(void)listener;
	(void)token;
	(void)channel;
	(void)attempts;
	return fw_rdma_available(NULL, reason);
}

void fw_rdma_listener_close(struct fw_rdma_listener *listener)
{
	(void)listener;
}

int fw_rdma_connect(struct fastwake_channel *ch,
		    const struct fw_endpoint *endpoint, const char *device,
		    uint32_t ring_size, char *reason)
{
	(void)ch;
	(void)endpoint;
	(void)ring_size;
	return fw_rdma_available(device, reason);
}

int fw_rdma_connect_continue(struct fastwake_channel *ch, char *reason)
{
	(void)ch;
	return fw_rdma_available(NULL, reason);
}
