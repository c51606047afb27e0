// SPDX-License-Identifier: PostgreSQL
/*
 * device.c - open /dev/fastwake, or find out why not and what to do.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device.h"
#include "fastwake.h"

#define MODULE "/sys/module/fastwake"

int device_call(int fd, unsigned long request, void *argument)
{
	int rc = ioctl(fd, request, argument);

	return rc < 0 ? -errno : rc;
}

const char *device_state_name(enum device_state state)
{
	static const char *const names[] = {
		[DEVICE_READY] = "ready",
		[DEVICE_ABSENT] = "absent",
		[DEVICE_NO_NODE] = "no device",
		[DEVICE_FORBIDDEN] = "no permission",
		[DEVICE_FOREIGN] = "other version",
	};

	return names[state];
}

static void read_version(struct device *d)
{
	FILE *file = fopen(MODULE "/version", "re");

	if (file == NULL)
		return;
	if (fgets(d->version, sizeof(d->version), file) != NULL)
		d->version[strcspn(d->version, "\n")] = '\0';
	fclose(file);
}

static bool installed(void)
{
	return access(MODULE, F_OK) == 0;
}

static void absent(struct device *d)
{
	if (installed()) {
		d->state = DEVICE_NO_NODE;
		snprintf(d->problem, sizeof(d->problem),
			 "the module is loaded, but there is no " DEVICE);
		snprintf(
			d->remedy, sizeof(d->remedy),
			"mount devtmpfs on /dev, or in a container: add the device to it");
		return;
	}
	d->state = DEVICE_ABSENT;
	snprintf(d->problem, sizeof(d->problem), "the module is not loaded");
	snprintf(
		d->remedy, sizeof(d->remedy),
		"modprobe fastwake (build it first: make kmod); without it waits sleep on futexes and event channels");
}

/* Whoever the device belongs to, this user is not among them. */
static void forbidden(struct device *d)
{
	const struct passwd *user = getpwuid(geteuid());
	const struct group *group;
	struct stat st;

	d->state = DEVICE_FORBIDDEN;
	snprintf(d->problem, sizeof(d->problem), "no permission on " DEVICE);
	if (stat(DEVICE, &st) != 0)
		return;
	group = getgrgid(st.st_gid);
	if (st.st_gid == 0 || group == NULL || (st.st_mode & 060) != 060) {
		snprintf(
			d->remedy, sizeof(d->remedy),
			"as root: groupadd -rf fastwake; install kmod/60-fastwake.rules in /etc/udev/rules.d; udevadm control --reload; udevadm trigger " DEVICE
			"; usermod -aG fastwake %s; log in again",
			user != NULL ? user->pw_name : "USER");
		return;
	}
	snprintf(
		d->remedy, sizeof(d->remedy),
		"as root: usermod -aG %s %s; log in again (a service: restart it)",
		group->gr_name, user != NULL ? user->pw_name : "USER");
}

static void foreign(struct device *d, const char *why)
{
	d->state = DEVICE_FOREIGN;
	snprintf(d->problem, sizeof(d->problem), "%s", why);
	snprintf(d->remedy, sizeof(d->remedy), "load the module of release %s",
		 fastwake_version());
}

static void query(struct device *d)
{
	char why[sizeof(d->problem)];
	int rc;

	d->query.size = sizeof(d->query);
	rc = device_call(d->fd, FASTWAKE_IOC_QUERY, &d->query);
	if (rc < 0)
		snprintf(why, sizeof(why), DEVICE " does not answer: %s",
			 strerror(-rc));
	else if (d->query.out_abi != FASTWAKE_ABI_VERSION)
		snprintf(why, sizeof(why),
			 "the module's ABI is %u, this program's %u",
			 d->query.out_abi, FASTWAKE_ABI_VERSION);
	else
		return;
	foreign(d, why);
	close(d->fd);
	d->fd = -1;
}

static void refused(struct device *d, int error)
{
	char why[sizeof(d->problem)];

	switch (error) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		absent(d);
		break;
	case EACCES:
	case EPERM:
		forbidden(d);
		break;
	default:
		snprintf(why, sizeof(why), "could not open " DEVICE ": %s",
			 strerror(error));
		foreign(d, why);
	}
}

void device_open(struct device *device)
{
	memset(device, 0, sizeof(*device));
	read_version(device);
	device->fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (device->fd < 0)
		refused(device, errno);
	else
		query(device);
}

void device_close(struct device *device)
{
	if (device->fd >= 0)
		close(device->fd);
	device->fd = -1;
}

static size_t cores_length(const struct device *d)
{
	return (size_t)d->query.out_cores * d->query.out_core_stride;
}

const void *device_map_cores(const struct device *device)
{
	void *cores;

	if (device->state != DEVICE_READY || device->query.out_cores == 0 ||
	    device->query.out_core_stride < sizeof(struct fastwake_core))
		return NULL;
	cores = mmap(NULL, cores_length(device), PROT_READ, MAP_SHARED,
		     device->fd, (off_t)FASTWAKE_MMAP_CORES);
	return cores == MAP_FAILED ? NULL : cores;
}

void device_unmap_cores(const struct device *device, const void *cores)
{
	if (cores != NULL)
		munmap((void *)(uintptr_t)cores, cores_length(device));
}

struct fastwake_core core_of(const struct device *device, const void *cores,
			     unsigned int core)
{
	const uint64_t *from =
		(const void *)((const char *)cores +
			       (size_t)core * device->query.out_core_stride);
	struct fastwake_core copy;
	uint64_t word;
	size_t i;

	for (i = 0; i < sizeof(copy) / sizeof(word); i++) {
		word = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
		memcpy((char *)&copy + i * sizeof(word), &word, sizeof(word));
	}
	return copy;
}
