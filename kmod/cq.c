// SPDX-License-Identifier: GPL-2.0
/*
 * cq.c - fastwake_ib.ko: completion queues of RDMA devices as sources of events.
 *
 * A queue that a process made has a completion handler of ib_uverbs, which adds
 * an event to the queue's channel.  We put ours in its place, and call the other
 * for events that no WAIT takes.
 *
 * A queue is known by its device and its number among the resources that
 * ib_core tracks.  Whoever looks it up has a reference and holds up its
 * destruction; so that nobody waits for us, it is kept only as long as we
 * touch the queue.  Between that, ->cq is an address to compare with: nobody
 * tells us that a queue was destroyed, and the next one may have its address.
 *
 *	handler				detaching
 *	H1 was found in the queue	T1 puts the other handler back
 *	H2 looks the queue up		   barrier
 *	   barrier			T2 forgets the queue
 *	H3 not found: calls what is
 *	   in the queue now
 *
 * If H2 comes after T2, H3 comes after T1.  Attaching does it the other way round, so
 * whoever finds our handler in H3 finds the queue in the next H2.
 *
 * Locking: the hash, the devices and their lists change under fw_cq_lock; the handler
 * reads the hash under RCU.  The device of a source that has not gone is there:
 * fw_cq_remove_device() marks its sources, under their locks, before it lets the
 * device go.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <rdma/ib_verbs.h>
#include <rdma/restrack.h>

#include "source.h"

struct fw_cq {
	struct fw_source source;
	struct ib_device *device;
	const struct ib_cq *cq;
	u32 cqn;
	ib_comp_handler original;
	struct hlist_node hash; /* unhashed: detached, or it has gone */
};

/* For fw_source_put(), which frees it. */
static_assert(offsetof(struct fw_cq, source) == 0);

static DEFINE_MUTEX(fw_cq_lock);
static DEFINE_HASHTABLE(fw_cqs, 10); /* by address */
static DEFINE_XARRAY(fw_cq_devices); /* struct ib_device, by index */

static struct fw_cq *fw_cq_of(struct fw_source *s)
{
	return container_of(s, struct fw_cq, source);
}

/*
 * Destruction of a queue waits for us before it begins, in kernels that have this;
 * in others it may have begun: then the driver's own part of the queue must not be
 * touched.
 */
extern void rdma_restrack_begin_del(struct rdma_restrack_entry *res) __weak;

static bool fw_cq_can_arm(const struct ib_cq *cq)
{
	return cq->device->ops.driver_id == RDMA_DRIVER_RXE &&
	       rdma_restrack_begin_del;
}

/* ---- events ---- */

static struct fw_cq *fw_cq_find(const struct ib_cq *cq)
{
	struct fw_cq *c;

	hash_for_each_possible_rcu(
		fw_cqs, c, hash, (unsigned long)cq,
		lockdep_is_held(&fw_cq_lock)) if (c->cq == cq) return c;
	return NULL;
}

/*
 * In the context of the driver: an interrupt, a thread, with or without locks.  The
 * queue is there as long as we are here.
 */
static void fw_cq_handler(struct ib_cq *cq, void *context)
{
	ib_comp_handler handler;
	struct fw_cq *c;

	rcu_read_lock();
	do {
		c = fw_cq_find(cq); /* (H2) */
		if (c) {
			handler = c->original;
			if (fw_source_fire(&c->source))
				handler = NULL;
			break;
		}
		smp_rmb(); /* pairs with fw_cq_forget() and fw_cq_swap() */
		handler = READ_ONCE(cq->comp_handler); /* (H3) */
	} while (handler == fw_cq_handler);
	rcu_read_unlock();
	if (handler)
		handler(cq, context);
}

/* ---- looking a queue up ---- */

/* With a reference, which rdma_restrack_put() drops. */
static struct ib_cq *fw_cq_get(struct ib_device *device, u32 cqn)
{
	struct rdma_restrack_entry *res;

	res = rdma_restrack_get_byid(device, RDMA_RESTRACK_CQ, cqn);
	return IS_ERR(res) ? NULL : container_of(res, struct ib_cq, res);
}

/* The one that was attached, if it is still there; the device must be. */
static struct ib_cq *fw_cq_get_attached(const struct fw_cq *c)
{
	struct ib_cq *cq = fw_cq_get(c->device, c->cqn);

	if (cq && cq != c->cq) {
		rdma_restrack_put(&cq->res);
		cq = NULL;
	}
	return cq;
}

/*
 * Is it the one that HANDLE names in the verbs context that FILE is?  A context's
 * objects begin with their ib_uobject, which is checked as far as can be.
 */
static bool fw_cq_owned(const struct ib_cq *cq, const struct file *file,
			u32 handle)
{
	const struct ib_uobject *uobject = (const void *)cq->uobject;

	return !rdma_is_kernel_res(&cq->res) && uobject &&
	       uobject->object == cq && uobject->id == handle &&
	       uobject->ufile == file->private_data;
}

/* ---- attaching ---- */

/* Barriers: fw_cq_handler(). */
static void fw_cq_swap(struct ib_cq *cq, struct fw_cq *c)
{
	c->original = cq->comp_handler;
	hash_add_rcu(fw_cqs, &c->hash, (unsigned long)cq);
	smp_wmb();
	WRITE_ONCE(cq->comp_handler, fw_cq_handler);
}

static void fw_cq_forget(struct fw_cq *c)
{
	lockdep_assert_held(&fw_cq_lock);
	smp_wmb();
	hlist_del_init_rcu(&c->hash); /* (T2) */
}

/* What was attached at this address has been destroyed. */
static void fw_cq_replace(const struct ib_cq *cq)
{
	struct fw_cq *old = fw_cq_find(cq);

	if (!old)
		return;
	fw_cq_forget(old);
	fw_source_end(&old->source);
}

static int fw_cq_check_and_swap(struct ib_cq *cq, const struct file *file,
				u32 handle, struct fw_cq *c)
{
	if (!fw_cq_owned(cq, file, handle))
		return -EPERM;
	if (cq->comp_handler == fw_cq_handler)
		return -EBUSY;
	fw_cq_replace(cq);
	c->cq = cq;
	c->source.can_arm = fw_cq_can_arm(cq);
	fw_cq_swap(cq, c);
	return 0;
}

static int fw_cq_attach_to(struct fw_cq *c,
			   const struct fastwake_ioc_attach_cq *arg,
			   const struct file *file)
{
	struct ib_cq *cq;
	int ret;

	lockdep_assert_held(&fw_cq_lock);
	c->device = xa_load(&fw_cq_devices, arg->device);
	if (!c->device)
		return -ENODEV;
	c->cqn = arg->cqn;
	cq = fw_cq_get(c->device, arg->cqn);
	if (!cq)
		return -ENOENT;
	ret = fw_cq_check_and_swap(cq, file, arg->handle, c);
	rdma_restrack_put(&cq->res);
	return ret;
}

static const struct fw_source_ops fw_cq_ops;

static struct fw_source *fw_cq_attach(const struct fastwake_ioc_attach_cq *arg,
				      const struct file *file)
{
	struct fw_cq *c = kzalloc(sizeof(*c), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!c)
		return ERR_PTR(-ENOMEM);
	fw_source_init(&c->source, &fw_cq_ops);
	mutex_lock(&fw_cq_lock);
	ret = fw_cq_attach_to(c, arg, file);
	mutex_unlock(&fw_cq_lock);
	if (ret) {
		kfree(c);
		return ERR_PTR(ret);
	}
	return &c->source;
}

/* Its device is there; unless it has gone, put things back as they were. */
static void fw_cq_restore(struct fw_cq *c)
{
	struct ib_cq *cq = fw_cq_get_attached(c);

	lockdep_assert_held(&fw_cq_lock);
	if (cq)
		WRITE_ONCE(cq->comp_handler, c->original); /* (T1) */
	fw_cq_forget(c);
	if (cq)
		rdma_restrack_put(&cq->res);
	fw_source_end(&c->source);
}

static void fw_cq_detach(struct fw_source *s)
{
	struct fw_cq *c = fw_cq_of(s);

	mutex_lock(&fw_cq_lock);
	if (!hlist_unhashed(&c->hash))
		fw_cq_restore(c);
	mutex_unlock(&fw_cq_lock);
}

static bool fw_cq_dead(struct fw_source *s)
{
	struct fw_cq *c = fw_cq_of(s);
	struct ib_cq *cq = NULL;

	mutex_lock(&fw_cq_lock);
	if (!hlist_unhashed(&c->hash))
		cq = fw_cq_get_attached(c);
	if (cq)
		rdma_restrack_put(&cq->res);
	mutex_unlock(&fw_cq_lock);
	return !cq;
}

/* ---- asking for the event ---- */

/* The device, if it is still there, held; short, since its removal waits. */
static struct ib_device *fw_cq_device_get(struct fw_cq *c)
{
	struct ib_device *device = NULL;
	unsigned long flags;

	raw_spin_lock_irqsave(&c->source.lock, flags);
	if (!c->source.gone && ib_device_try_get(c->device))
		device = c->device;
	raw_spin_unlock_irqrestore(&c->source.lock, flags);
	return device;
}

static int fw_cq_arm(struct fw_source *s, bool solicited)
{
	struct fw_cq *c = fw_cq_of(s);
	struct ib_device *device = fw_cq_device_get(c);
	struct ib_cq *cq;
	int ret = -ESTALE;

	if (!device)
		return -ESTALE;
	cq = fw_cq_get_attached(c);
	if (cq) {
		ret = ib_req_notify_cq(cq, (solicited ? IB_CQ_SOLICITED
						      : IB_CQ_NEXT_COMP) |
						   IB_CQ_REPORT_MISSED_EVENTS);
		rdma_restrack_put(&cq->res);
	}
	ib_device_put(device);
	return ret < 0 ? -ESTALE : ret;
}

static const struct fw_source_ops fw_cq_ops = {
	.owner = THIS_MODULE,
	.attach = fw_cq_attach,
	.detach = fw_cq_detach,
	.arm = fw_cq_arm,
	.dead = fw_cq_dead,
};

/* ---- devices ---- */

static int fw_cq_add_device(struct ib_device *device)
{
	int ret;

	mutex_lock(&fw_cq_lock);
	ret = xa_err(
		xa_store(&fw_cq_devices, device->index, device, GFP_KERNEL));
	mutex_unlock(&fw_cq_lock);
	return ret;
}

static void fw_cq_remove_device(struct ib_device *device, void *unused)
{
	struct hlist_node *next;
	struct fw_cq *c;
	int bucket;

	mutex_lock(&fw_cq_lock);
	xa_erase(&fw_cq_devices, device->index);
	hash_for_each_safe(fw_cqs, bucket, next, c,
			   hash) if (c->device == device) fw_cq_restore(c);
	mutex_unlock(&fw_cq_lock);
}

static struct ib_client fw_cq_client = {
	.name = "fastwake",
	.add = fw_cq_add_device,
	.remove = fw_cq_remove_device,
	.no_kverbs_req = true,
};

static int __init fw_cq_init(void)
{
	int ret = ib_register_client(&fw_cq_client);

	if (ret)
		return ret;
	ret = fw_source_register(&fw_cq_ops);
	if (ret)
		ib_unregister_client(&fw_cq_client);
	return ret;
}

/*
 * Runs only when nothing is attached: each source holds a reference.  A handler that
 * was found in a queue before may still be running.
 */
static void __exit fw_cq_exit(void)
{
	fw_source_unregister(&fw_cq_ops);
	ib_unregister_client(&fw_cq_client);
	xa_destroy(&fw_cq_devices);
	synchronize_rcu();
	synchronize_rcu_tasks();
}

module_init(fw_cq_init);
module_exit(fw_cq_exit);

MODULE_DESCRIPTION("FastWake: sleep until a completion queue's interrupt");
MODULE_AUTHOR("The pg_fastwake developers");
MODULE_LICENSE("GPL");
MODULE_VERSION(FW_VERSION);
