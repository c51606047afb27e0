// SPDX-License-Identifier: PostgreSQL
/*
 * mark.c - tells the plugin of QEMU that looks at the guest (work.c) where what it
 * counts begins and ends: by being run.
 */
#include <stdlib.h>

int main(void)
{
	return EXIT_SUCCESS;
}
