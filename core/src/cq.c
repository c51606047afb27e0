// SPDX-License-Identifier: PostgreSQL
/*
 * cq.c - find a completion queue's memory, and the adapter for it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "affinity.h"
#include "channel_internal.h"
#include "cq.h"

#define FW_MAPPINGS_MAX 64

struct mappings {
	unsigned int n;
	struct fw_mapping at[FW_MAPPINGS_MAX];
};

/* What this process has mapped of /dev/infiniband/uverbs*. */
static void read_mappings(struct mappings *m)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned long start, end;

	m->n = 0;
	while (maps != NULL && m->n < FW_MAPPINGS_MAX &&
	       fgets(line, sizeof(line), maps) != NULL) {
		if (strstr(line, "/dev/infiniband/uverbs") == NULL ||
		    sscanf(line, "%lx-%lx", &start, &end) != 2)
			continue;
		m->at[m->n++] = (struct fw_mapping){ .start = (void *)start,
						     .length = end - start };
	}
	if (maps != NULL)
		fclose(maps);
}

static bool contains(const struct mappings *m, const struct fw_mapping *mapping)
{
	unsigned int i;

	for (i = 0; i < m->n; i++)
		if (m->at[i].start == mapping->start)
			return true;
	return false;
}

/* The one mapping that is new, or NULL. */
static const struct fw_mapping *added(const struct mappings *before,
				      const struct mappings *after)
{
	const struct fw_mapping *found = NULL;
	unsigned int i;

	for (i = 0; i < after->n; i++) {
		if (contains(before, &after->at[i]))
			continue;
		if (found != NULL)
			return NULL;
		found = &after->at[i];
	}
	return found;
}

/* Last part of what SUFFIX leads to in sysfs, in LINK; "" if that is no link. */
static const char *link_of(struct ibv_device *device, const char *suffix,
			   char link[IBV_SYSFS_PATH_MAX])
{
	char path[IBV_SYSFS_PATH_MAX + 16];
	const char *slash;
	ssize_t n;

	snprintf(path, sizeof(path), "%s%s", device->ibdev_path, suffix);
	n = readlink(path, link, IBV_SYSFS_PATH_MAX - 1);
	if (n < 0)
		return "";
	link[n] = '\0';
	slash = strrchr(link, '/');
	return slash != NULL ? slash + 1 : link;
}

/* Of the device's driver in the kernel; "" if it shows none. */
static const char *driver_name(struct ibv_device *device,
			       char link[IBV_SYSFS_PATH_MAX])
{
	return link_of(device, "/device/driver", link);
}

const char *fw_cq_adapter(struct ibv_device *device, char *reason)
{
	char link[IBV_SYSFS_PATH_MAX];
	const char *driver;

	if (fw_rxe_device(device))
		return "rxe";
	if (fw_mlx5_device(device))
		return "mlx5";
	driver = driver_name(device, link);
	(void)fw_reason(
		reason, -EOPNOTSUPP,
		"where driver %.64s keeps completions is not known: its event channel is used",
		driver[0] != '\0' ? driver : "unknown");
	return NULL;
}

/* With its adapter, if its memory is found. */
static struct ibv_cq *create_rxe(struct fw_cq *cq, struct ibv_context *verbs,
				 int depth, struct ibv_comp_channel *channel)
{
	struct mappings before, after;
	const struct fw_mapping *mapping;
	struct ibv_cq *created;

	read_mappings(&before);
	created = ibv_create_cq(verbs, depth, NULL, channel, 0);
	if (created == NULL)
		return NULL;
	read_mappings(&after);
	mapping = added(&before, &after);
	if (mapping != NULL)
		(void)fw_cq_adapt_rxe(cq, mapping, (unsigned int)created->cqe);
	return created;
}

/* By where it is in sysfs: ".../devices/pci0000:3a/0000:3b:00.0". */
static const char *pci_address(struct ibv_device *device,
			       char link[IBV_SYSFS_PATH_MAX])
{
	return link_of(device, "/device", link);
}

/* That of the core where this thread is: it will most likely be the one to wait. */
static int vector_here(struct ibv_context *verbs)
{
	int n = verbs->num_comp_vectors;
	struct fw_vectors *vectors;
	char link[IBV_SYSFS_PATH_MAX];
	unsigned int vector;

	vectors = malloc(sizeof(*vectors));
	if (vectors == NULL || n <= 0) {
		free(vectors);
		return 0;
	}
	fw_vectors_read(vectors, (unsigned int)n, "",
			pci_address(verbs->device, link));
	vector = fw_vector_for(vectors, sched_getcpu());
	free(vectors);
	return (int)vector;
}

struct ibv_cq *fw_cq_create(struct fw_cq *cq, struct ibv_context *verbs,
			    int depth, struct ibv_comp_channel *channel)
{
	struct ibv_cq *created;

	*cq = (struct fw_cq){ .adapter = NULL };
	if (fw_rxe_device(verbs->device))
		return create_rxe(cq, verbs, depth, channel);
	created =
		ibv_create_cq(verbs, depth, NULL, channel, vector_here(verbs));
	if (created != NULL && fw_mlx5_device(verbs->device))
		(void)fw_cq_open_mlx5(cq, created);
	return created;
}

bool fw_cq_watch(const struct fw_cq *cq, struct fastwake_watch *watch)
{
	return cq->adapter != NULL && cq->adapter->watch(cq, watch);
}
