/* SPDX-License-Identifier: PostgreSQL */
/*
 * restrack.h - the numbers by which the kernel tracks completion queues.
 */
#ifndef FASTWAKE_RESTRACK_H
#define FASTWAKE_RESTRACK_H

#include <stdint.h>

/*
 * The completion queues that processes have made with DEVICE (by its index), those
 * of this process first, in each part the newest first.  Returns how many; *CQNS is
 * to be freed.  -errno.
 */
int fw_restrack_cqs(uint32_t device, uint32_t **cqns);

#endif
