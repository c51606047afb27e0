// SPDX-License-Identifier: PostgreSQL
/* version.c - the version, which ../VERSION alone decides. */
#include "fastwake.h"

const char *fastwake_version(void)
{
	return FASTWAKE_VERSION;
}
