// SPDX-License-Identifier: PostgreSQL
/*
 * fault.c - damage frames on purpose; see fault.h.
 *
 * The environment variable FASTWAKE_TEST_FAULTS names a file of sizeof(struct
 * control) bytes, into which a test writes what shall happen to how many frames,
 * "left" last.  All processes of all servers map it; each frame asked for is
 * damaged by one of them.
 */
#include <endian.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault.h"
#include "frame.h"

enum fault {
	FAULT_FLIP,   /* a bit, anywhere in header or payload */
	FAULT_TEAR,   /* the second half has not arrived */
	FAULT_REPLAY, /* a frame of before, itself intact */
	FAULT_LOSE,   /* a defect that no check can see: the tests' own test */
};

struct control {
	uint32_t left; /* so many frames to go */
	uint32_t fault;
	uint32_t type; /* only messages that begin with this byte; 0: any */
	uint32_t random;
	uint32_t done;
};

static struct control *control_of_test(void)
{
	static struct control *control;
	static bool tried;
	const char *path = getenv("FASTWAKE_TEST_FAULTS");
	void *memory;
	int fd;

	if (tried || path == NULL)
		return control;
	tried = true;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	memory = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE,
		      MAP_SHARED, fd, 0);
	close(fd);
	if (memory != MAP_FAILED)
		control = memory;
	return control;
}

/* Two processes may want the last one. */
static bool claim(struct control *control)
{
	uint32_t left = __atomic_load_n(&control->left, __ATOMIC_ACQUIRE);

	while (left > 0)
		if (__atomic_compare_exchange_n(&control->left, &left, left - 1,
						false, __ATOMIC_ACQ_REL,
						__ATOMIC_ACQUIRE))
			return true;
	return false;
}

static void inflict(const struct control *control, uint8_t *frame,
		    const void *payload, uint32_t length)
{
	uint32_t size = FW_FRAME_HEADER + length;
	uint32_t bit = control->random % (size * 8);
	const struct fw_frame_header *header = (void *)frame;

	switch (control->fault) {
	case FAULT_FLIP:
		frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
		break;
	case FAULT_TEAR:
		/* Never what stood there: an equal half is no damage. */
		for (uint32_t i = size / 2; i < size; i++)
			frame[i] = (uint8_t)~frame[i];
		break;
	case FAULT_REPLAY:
		fw_frame_build(frame, le32toh(header->stream), header->flags,
			       le64toh(header->position) - FW_FRAME_UNIT,
			       payload, length);
		break;
	default:
		break;
	}
}

bool fw_fault_frame(void *frame, const void *payload, uint32_t length)
{
	struct control *control = control_of_test();
	bool lose;

	if (control == NULL ||
	    __atomic_load_n(&control->left, __ATOMIC_ACQUIRE) == 0)
		return true;
	if (control->type != 0 && *(const uint8_t *)payload != control->type)
		return true;
	if (!claim(control))
		return true;
	lose = control->fault == FAULT_LOSE;
	inflict(control, frame, payload, length);
	__atomic_add_fetch(&control->done, 1, __ATOMIC_ACQ_REL);
	return !lose;
}
