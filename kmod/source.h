/* SPDX-License-Identifier: GPL-2.0 */
/*
 * source.h - between fastwake.ko and fastwake_ib.ko: events that no word shows.
 *
 * Two modules, so that fastwake.ko can be loaded where there is no RDMA:
 * fastwake_ib.ko needs ib_core.
 */
#ifndef FW_SOURCE_H
#define FW_SOURCE_H

#include <linux/fs.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>

#include "uapi/fastwake.h"

struct fw_source_ops;

/*
 * Where events come from.  The table of a domain holds one reference, each watch
 * of a thread in WAIT another.
 */
struct fw_source {
	const struct fw_source_ops *ops;
	u32 id;
	raw_spinlock_t lock;
	struct list_head links; /* of the WAITs that an event may end */
	bool gone;		/* no event will come any more */
	bool can_arm;		/* fixed from attach() on */
	refcount_t users;
	struct rcu_head rcu; /* readers of the domain's table */
};

struct fw_source_ops {
	struct module *owner; /* a source holds a reference */
	struct fw_source *(*attach)(const struct fastwake_ioc_attach_cq *arg,
				    const struct file *file);
	/* No more events to WAITs.  Once, and not after the domain is gone. */
	void (*detach)(struct fw_source *source);
	/* 0; 1: there is something already; -ESTALE: it is gone.  No locks held. */
	int (*arm)(struct fw_source *source, bool solicited);
	/* Has it gone, unnoticed? */
	bool (*dead)(struct fw_source *source);
};

void fw_source_init(struct fw_source *source, const struct fw_source_ops *ops);
bool fw_source_fire(struct fw_source *source);
void fw_source_end(struct fw_source *source);
int fw_source_register(const struct fw_source_ops *ops);
void fw_source_unregister(const struct fw_source_ops *ops);

#endif /* FW_SOURCE_H */
