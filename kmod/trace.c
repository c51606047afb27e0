// SPDX-License-Identifier: GPL-2.0
/*
 * trace.c - the one file that makes the tracepoints.
 */
#include <linux/module.h>
#include <linux/types.h>

#ifndef __CHECKER__
#define CREATE_TRACE_POINTS
#include "trace.h"
#endif
