// SPDX-License-Identifier: PostgreSQL
/*
 * real.c - the functions that ours stand before.
 *
 * Not linked with libibverbs: most programs do not use it, and preloading must
 * not make them.  Who calls one of ours has it loaded, perhaps by dlopen() and
 * not for all to see; then it is found by its name.  The versions are those of
 * the interface that all programs of this century use: IBVERBS_1.0 has other
 * structures, and programs of that time pass us by as a whole.
 */
#include <dlfcn.h>

#include "verbs.h"

static struct fv_real real;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void *library;

static void *verbs_symbol(const char *name, const char *version)
{
	void *symbol = dlvsym(RTLD_NEXT, name, version);

	if (symbol == NULL && library != NULL)
		symbol = dlvsym(library, name, version);
	return symbol;
}

#define FIND(member, version) \
	(*(void **)&real.member = verbs_symbol("ibv_" #member, version))

static void find_all(void)
{
	library = dlopen("libibverbs.so.1", RTLD_LAZY | RTLD_NOLOAD);
	FIND(open_device, "IBVERBS_1.1");
	FIND(import_device, "IBVERBS_1.10");
	FIND(close_device, "IBVERBS_1.1");
	FIND(create_comp_channel, "IBVERBS_1.0");
	FIND(destroy_comp_channel, "IBVERBS_1.0");
	FIND(create_cq, "IBVERBS_1.1");
	FIND(resize_cq, "IBVERBS_1.1");
	FIND(destroy_cq, "IBVERBS_1.1");
	FIND(get_cq_event, "IBVERBS_1.1");
	FIND(ack_cq_events, "IBVERBS_1.1");
	FIND(alloc_pd, "IBVERBS_1.1");
	FIND(dealloc_pd, "IBVERBS_1.1");
	FIND(create_qp, "IBVERBS_1.1");
	FIND(modify_qp, "IBVERBS_1.1");
	FIND(destroy_qp, "IBVERBS_1.1");
	FIND(get_device_index, "IBVERBS_1.9");
}

const struct fv_real *fv_real(void)
{
	pthread_once(&once, find_all);
	return &real;
}

void *fv_libc(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}
