// SPDX-License-Identifier: GPL-2.0
/*
 * stats.c - what is published of each core: read-only to user space by mmap, and
 * as text in debugfs.
 *
 * Locking: none.  A counter is changed on its core by one instruction; a thread
 * that has moved in between counts on the core it left.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>
#include <linux/vmalloc.h>

#include "fw.h"

static_assert(sizeof(struct fastwake_core) <= FW_CORE_STRIDE);
static_assert(offsetof(struct fastwake_core, waits) == 64);

static void *fw_stats;
static struct dentry *fw_debugfs;

struct fastwake_core *fw_stats_of(int cpu)
{
	return fw_stats + cpu * FW_CORE_STRIDE;
}

int fw_stats_mmap(struct vm_area_struct *vma)
{
	return remap_vmalloc_range(vma, fw_stats, 0);
}

#define FW_COLUMN(name)                                     \
	{                                                   \
#name, offsetof(struct fastwake_core, name) \
	}

static const struct {
	const char *name;
	size_t offset;
} fw_columns[] = {
	FW_COLUMN(waits),
	FW_COLUMN(immediate),
	FW_COLUMN(spun),
	FW_COLUMN(slept),
	FW_COLUMN(parks),
	FW_COLUMN(timeouts),
	FW_COLUMN(signals),
	FW_COLUMN(polls),
	FW_COLUMN(handoffs),
	FW_COLUMN(dispatches),
	FW_COLUMN(dispatcher_runs),
	FW_COLUMN(backstops),
	FW_COLUMN(backstop_wakes),
	FW_COLUMN(wakes),
	FW_COLUMN(switches),
	FW_COLUMN(full),
	FW_COLUMN(expired),
	FW_COLUMN(events),
	FW_COLUMN(events_here),
	FW_COLUMN(moves),
};

static void fw_show_core(struct seq_file *m, int cpu)
{
	const struct fastwake_core *core = fw_stats_of(cpu);
	unsigned int i;

	seq_printf(m, "%d %u %u %u", cpu, READ_ONCE(core->scanner),
		   READ_ONCE(core->waiters), READ_ONCE(core->watches));
	for (i = 0; i < ARRAY_SIZE(fw_columns); i++)
		seq_printf(m, " %llu",
			   READ_ONCE(*(u64 *)((void *)core +
					      fw_columns[i].offset)));
	seq_putc(m, '\n');
}

/* A line of names, then a line of numbers for each core that is online. */
static int fw_cores_show(struct seq_file *m, void *unused)
{
	unsigned int i;
	int cpu;

	seq_puts(m, "core scanner waiters watches");
	for (i = 0; i < ARRAY_SIZE(fw_columns); i++)
		seq_printf(m, " %s", fw_columns[i].name);
	seq_putc(m, '\n');
	for_each_online_cpu(cpu) fw_show_core(m, cpu);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(fw_cores);

int fw_stats_init(void)
{
	fw_stats = vmalloc_user(PAGE_ALIGN(nr_cpu_ids * FW_CORE_STRIDE));
	if (!fw_stats)
		return -ENOMEM;
	fw_debugfs = debugfs_create_dir("fastwake", NULL);
	debugfs_create_file("cores", 0444, fw_debugfs, NULL, &fw_cores_fops);
	return 0;
}

void fw_stats_exit(void)
{
	debugfs_remove(fw_debugfs);
	vfree(fw_stats);
}
