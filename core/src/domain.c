// SPDX-License-Identifier: PostgreSQL
/*
 * domain.c - the memory of a domain: the pid table, then the slots.
 *
 * There are as many buckets of 8 as there are waiters (rounded up to a power
 * of two), so that a bucket practically never overflows.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "module.h"

#define FW_WAITERS_MAX (1u << 20)

static unsigned int bucket_bits(unsigned int waiters)
{
	unsigned int bits = 0;

	while ((1u << bits) < waiters)
		bits++;
	return bits;
}

size_t fastwake_domain_size(unsigned int waiters)
{
	if (waiters == 0 || waiters > FW_WAITERS_MAX)
		return 0;
	return ((size_t)1 << bucket_bits(waiters)) * sizeof(struct fw_bucket) +
	       waiters * sizeof(struct fw_slot);
}

static int map_memory(struct fastwake_domain *domain, size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return -ENOMEM;
	domain->mapped = mem;
	domain->mapped_size = size;
	return 0;
}

int fastwake_domain_create(struct fastwake_domain **domain, void *mem,
			   size_t size, unsigned int waiters)
{
	size_t need = fastwake_domain_size(waiters);
	struct fastwake_domain *d;

	if (need == 0 || (uintptr_t)mem % FW_CACHE_LINE != 0 ||
	    (mem != NULL && size < need))
		return -EINVAL;
	d = calloc(1, sizeof(*d));
	if (d == NULL)
		return -ENOMEM;
	if (mem != NULL) {
		memset(mem, 0, need);
	} else if (map_memory(d, need) != 0) {
		free(d);
		return -ENOMEM;
	}
	d->waiters = waiters;
	d->bucket_bits = bucket_bits(waiters);
	d->buckets = mem != NULL ? mem : d->mapped;
	d->slots = (struct fw_slot *)(void *)(d->buckets +
					      ((size_t)1 << d->bucket_bits));
	*domain = d;
	return 0;
}

void fastwake_domain_destroy(struct fastwake_domain *domain)
{
	if (domain == NULL)
		return;
	fw_module_close(domain->module);
	if (domain->mapped != NULL)
		munmap(domain->mapped, domain->mapped_size);
	free(domain);
}
