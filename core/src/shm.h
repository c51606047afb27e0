/* SPDX-License-Identifier: PostgreSQL */
/*
 * shm.h - memory shared by the two ends of a channel over shared memory.
 *
 *	0	control of the listening side
 *	4096	control of the connecting side
 *	8192	ring into which the listening side receives
 *	...	ring into which the connecting side receives
 *
 * It is a memfd sealed against any change of size, so that neither side can
 * make the other's access fault.  Whatever is read from it was written by the
 * peer, who may be malicious: one read into a local, check, use the local.
 */
#ifndef FASTWAKE_SHM_H
#define FASTWAKE_SHM_H

#include <stdint.h>
#include <sys/types.h>

#include "channel_internal.h"

#define FW_SHM_MAGIC   0x4d485746u /* "FWHM" */
#define FW_SHM_VERSION 1u
#define FW_SHM_CONTROL 4096u

/* One side's words.  All are written by that side, except the doorbell. */
struct fw_shm_control {
	uint64_t produced; /* end of what it wrote into the peer's ring */
	uint64_t pad0[7];
	uint64_t consumed; /* credit: the peer may write up to here + size */
	uint64_t pad1[7];
	uint32_t closed;     /* it will write no more */
	uint32_t want_space; /* it waits for the peer's ->consumed */
	/* Set by its owner, who wants a byte through the socket at the next
	 * event; cleared by whoever takes it. */
	uint32_t event_armed;
	uint32_t pad2[13];
	struct fastwake_doorbell doorbell; /* on which this side sleeps */
	uint64_t pad3[6];
};

_Static_assert(offsetof(struct fw_shm_control, consumed) == 64, "own line");
_Static_assert(offsetof(struct fw_shm_control, closed) == 128, "own line");
_Static_assert(offsetof(struct fw_shm_control, doorbell) == 192, "own line");
_Static_assert(sizeof(struct fw_shm_control) == 256, "shared layout");
_Static_assert(sizeof(struct fw_shm_control) <= FW_SHM_CONTROL, "one page");

/* First message of the connecting side. */
struct fw_shm_hello {
	uint32_t magic;
	uint32_t version;
	uint8_t token[FW_TOKEN_BYTES];
	uint32_t ring_size; /* into which it will receive */
	uint32_t reserved;
};

/* The answer, with the memfd. */
struct fw_shm_reply {
	uint32_t magic;
	uint32_t version;
	uint32_t ring_size; /* of the listening side */
	int32_t error;	    /* 0, or -errno and no memfd */
};

struct fw_shm {
	struct fw_shm_control *own;
	struct fw_shm_control *peer;
	int fd;	     /* the socket: carries wake-ups, shows the peer's death */
	bool wanted; /* own->want_space is set */
	void *memory;
	size_t size;
	/* Connecting. */
	uint32_t expected_ring; /* the endpoint's ring= */
	uint32_t ring_size;
	bool connected;	      /* the listener's queue has taken us */
	uint64_t deadline_ns; /* for that */
	char name[FW_SHM_NAME];
	uint8_t token[FW_TOKEN_BYTES];
};

/* 0, -EPROTO or -EACCES (the token).  LENGTH: of what was received. */
int fw_shm_hello_check(const struct fw_shm_hello *hello, size_t length,
		       const uint8_t *token);

static inline size_t fw_shm_size(uint32_t listener_ring, uint32_t peer_ring)
{
	return 2 * (size_t)FW_SHM_CONTROL + listener_ring + peer_ring;
}

#endif
