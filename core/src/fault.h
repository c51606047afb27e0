/* SPDX-License-Identifier: PostgreSQL */
/*
 * fault.h - damage frames on purpose, in builds made for tests only.
 *
 * A build with FAULTS=1 (-DFASTWAKE_TEST_FAULTS) damages the frames that a test
 * asks for, between what the channel has sent and what the peer finds in its
 * ring.  Any other build has nothing of it: the test of that is part of lint.
 */
#ifndef FASTWAKE_FAULT_H
#define FASTWAKE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#ifdef FASTWAKE_TEST_FAULTS
/*
 * FRAME has been built in the ring from PAYLOAD and is about to be sent.  False:
 * it gets lost, and nobody shall notice.
 */
bool fw_fault_frame(void *frame, const void *payload, uint32_t length);
#else
static inline bool fw_fault_frame(void *frame, const void *payload,
				  uint32_t length)
{
	(void)frame;
	(void)payload;
	(void)length;
	return true;
}
#endif

#endif
