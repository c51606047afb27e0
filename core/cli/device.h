/* SPDX-License-Identifier: PostgreSQL */
/*
 * device.h - the kernel module as seen from user space: /dev/fastwake.
 */
#ifndef FASTWAKE_CLI_DEVICE_H
#define FASTWAKE_CLI_DEVICE_H

#include <stdbool.h>

#include "../../kmod/uapi/fastwake.h"

#define DEVICE "/dev/fastwake"

enum device_state {
	DEVICE_READY,
	DEVICE_ABSENT,	/* the module is not loaded */
	DEVICE_NO_NODE, /* it is, but there is no file */
	DEVICE_FORBIDDEN,
	DEVICE_FOREIGN, /* no such module as this program knows */
};

struct device {
	enum device_state state;
	int fd; /* -1 unless ready */
	struct fastwake_ioc_query query;
	char version[32];  /* of the module, if known */
	char problem[256]; /* why it is not ready, "" if it is */
	char remedy[256];
};

/* Opens and asks; what is wrong is in the result. */
void device_open(struct device *device);
void device_close(struct device *device);

/* The name for scripts. */
const char *device_state_name(enum device_state state);

/*
 * What the module publishes of the cores, or NULL: an array of
 * device->query.out_cores, read by core_of().
 */
const void *device_map_cores(const struct device *device);
void device_unmap_cores(const struct device *device, const void *cores);
/* A copy, each word of one moment. */
struct fastwake_core core_of(const struct device *device, const void *cores,
			     unsigned int core);

/* Returns -errno, or what the call returned. */
int device_call(int fd, unsigned long request, void *argument);

#endif
