// SPDX-License-Identifier: GPL-2.0
/*
 * table.c - objects by number: an array, since WAIT looks up three or more of
 * them, and an xarray takes 80 instructions for each, ten times as many.
 *
 * Locking: a table changes under the mutex of its domain, and is read under RCU.
 * Once there, the array stays until the domain goes.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "fw.h"

void fw_table_init(struct fw_table *t, u32 min, u32 size)
{
	t->min = t->free = t->end = min;
	t->size = size;
}

void fw_table_destroy(struct fw_table *t)
{
	kvfree(t->slot);
}

/* Before anything is inserted. */
int fw_table_reserve(struct fw_table *t)
{
	void **slot;

	if (t->slot)
		return 0;
	slot = kvcalloc(t->size, sizeof(*slot), GFP_KERNEL_ACCOUNT);
	if (!slot)
		return -ENOMEM;
	/* Readers depend on the address to see what it points to. */
	smp_store_release(&t->slot, slot);
	return 0;
}

/* The lowest that is free, or t->size. */
u32 fw_table_free_number(struct fw_table *t)
{
	while (t->free < t->size && t->slot[t->free])
		t->free++;
	return t->free;
}

void fw_table_set(struct fw_table *t, u32 id, void *object)
{
	if (id >= t->end)
		WRITE_ONCE(t->end, id + 1);
	/* Whoever finds the object finds it complete. */
	smp_store_release(&t->slot[id], object);
}

void *fw_table_erase(struct fw_table *t, u32 id)
{
	void *object = fw_table_load(t, id);

	if (!object)
		return NULL;
	WRITE_ONCE(t->slot[id], NULL);
	t->free = min(t->free, id);
	return object;
}
