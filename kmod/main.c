// SPDX-License-Identifier: GPL-2.0
/*
 * main.c - the device, its ioctls, parameters.
 *
 * A handler sees a copy of the argument in the kernel, checked for size, flags
 * and reserved fields.  WAIT and SWITCH, the hot ones, copy for themselves.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "fw.h"

/* ---- parameters ---- */

struct fw_bounded {
	unsigned int *value;
	unsigned int min;
	unsigned int max;
};

static int fw_bounded_set(const char *val, const struct kernel_param *kp)
{
	const struct fw_bounded *b = kp->arg;
	unsigned int n;
	int ret = kstrtouint(val, 0, &n);

	if (ret)
		return ret;
	if (n < b->min || n > b->max) {
		pr_err("%s must be between %u and %u\n", kp->name, b->min,
		       b->max);
		return -EINVAL;
	}
	WRITE_ONCE(*b->value, n);
	return 0;
}

static int fw_bounded_get(char *buffer, const struct kernel_param *kp)
{
	const struct fw_bounded *b = kp->arg;

	return sysfs_emit(buffer, "%u\n", READ_ONCE(*b->value));
}

static const struct kernel_param_ops fw_bounded_ops = {
	.set = fw_bounded_set,
	.get = fw_bounded_get,
};

#define FW_BOUNDED_PARAM(name, variable, low, high, perm)                      \
	static const struct fw_bounded fw_bounded_##name = { &(variable), low, \
							     high };           \
	module_param_cb(name, &fw_bounded_ops, (void *)&fw_bounded_##name, perm)

unsigned int fw_budget_max_us = 10000;
FW_BOUNDED_PARAM(budget_max_us, fw_budget_max_us, 0, 1000000, 0644);
MODULE_PARM_DESC(budget_max_us,
		 "longest budget of a wait in us, 0 to 1000000 (10000)");

unsigned int fw_backstop_us = 50;
FW_BOUNDED_PARAM(backstop_us, fw_backstop_us, 10, 10000, 0644);
MODULE_PARM_DESC(backstop_us,
		 "period of the backstop timer in us, 10 to 10000 (50)");

static unsigned int fw_waiters_max = 4096;
FW_BOUNDED_PARAM(max_waiters, fw_waiters_max, 1, 1 << 20, 0644);
MODULE_PARM_DESC(max_waiters, "waiters of a domain, 1 to 2^20 (4096)");

static unsigned int fw_regions_max = 1024;
FW_BOUNDED_PARAM(max_regions, fw_regions_max, 1, 1 << 16, 0644);
MODULE_PARM_DESC(max_regions, "regions of a domain, 1 to 65536 (1024)");

unsigned int fw_core_watches = 4096;
FW_BOUNDED_PARAM(core_watches, fw_core_watches, 64, 1 << 16, 0444);
MODULE_PARM_DESC(core_watches, "watches of a core, 64 to 65536 (4096)");

bool fw_use_dispatcher = true;
module_param_named(dispatcher, fw_use_dispatcher, bool, 0444);
MODULE_PARM_DESC(dispatcher, "a dispatcher thread per core (on)");

bool fw_use_nohz_full;
module_param_named(nohz_full, fw_use_nohz_full, bool, 0444);
MODULE_PARM_DESC(nohz_full, "dispatcher and backstop on nohz_full cores (off)");

bool fw_test_events;
module_param_named(test_events, fw_test_events, bool, 0644);
MODULE_PARM_DESC(test_events, "root may order test events (off)");

/* ---- ioctls ---- */

static long fw_ioctl_query(struct fw_domain *d, void *buf)
{
	struct fastwake_ioc_query *arg = buf;

	if (arg->flags)
		return -EOPNOTSUPP;
	*arg = (struct fastwake_ioc_query){
		.size = sizeof(*arg),
		.out_abi = FASTWAKE_ABI_VERSION,
		.out_cores = nr_cpu_ids,
		.out_features = FASTWAKE_FEATURE_BACKSTOP |
				FASTWAKE_FEATURE_CQ | FASTWAKE_FEATURE_RESTART |
				FASTWAKE_FEATURE_LATER |
				FASTWAKE_FEATURE_WAKE_SET,
		.out_budget_max_ns = 1000ull * READ_ONCE(fw_budget_max_us),
		.out_backstop_ns = 1000ull * READ_ONCE(fw_backstop_us),
		.out_waiters_max = d->waiters_max,
		.out_watches_max = FASTWAKE_IOC_WATCHES_MAX,
		.out_regions_max = d->regions_max,
		.out_core_stride = FW_CORE_STRIDE,
		.out_region_size_max = FASTWAKE_REGION_SIZE_MAX,
	};
	if (fw_use_dispatcher)
		arg->out_features |= FASTWAKE_FEATURE_DISPATCHER;
	if (fw_test_events)
		arg->out_features |= FASTWAKE_FEATURE_TEST_EVENT;
	return 0;
}

static int fw_where_alloc(struct fw_domain *d)
{
	int ret = 0;

	mutex_lock(&d->lock);
	if (!d->where)
		d->where = vmalloc_user(
			PAGE_ALIGN(d->waiters_max * sizeof(*d->where)));
	if (!d->where)
		ret = -ENOMEM;
	mutex_unlock(&d->lock);
	return ret;
}

static long fw_ioctl_register(struct fw_domain *d, void *buf)
{
	struct fastwake_ioc_register *arg = buf;
	int ret;

	if (arg->flags || arg->reserved)
		return -EOPNOTSUPP;
	ret = fw_where_alloc(d);
	return ret ? ret : fw_register(d, &arg->waiter);
}

static long fw_ioctl_unregister(struct fw_domain *d, void *buf)
{
	struct fastwake_ioc_unregister *arg = buf;

	if (arg->flags || arg->reserved)
		return -EOPNOTSUPP;
	return fw_unregister(d, arg->waiter);
}

static long fw_ioctl_pin(struct fw_domain *d, void *buf)
{
	struct fastwake_ioc_pin *arg = buf;

	if (arg->flags || arg->reserved)
		return -EOPNOTSUPP;
	return fw_pin(d, arg);
}

static long fw_ioctl_unpin(struct fw_domain *d, void *buf)
{
	struct fastwake_ioc_unpin *arg = buf;

	if (arg->flags || arg->reserved)
		return -EOPNOTSUPP;
	return fw_unpin(d, arg->region);
}

static long fw_ioctl_wake(struct fw_domain *d, void *buf)
{
	struct fastwake_ioc_wake *arg = buf;

	if (arg->flags || arg->reserved)
		return -EOPNOTSUPP;
	return fw_wake(d, arg->waiter);
}

static long fw_ioctl_wake_set(struct fw_domain *d, void *buf)
{
	struct fastwake_ioc_wake_set *arg = buf;

	if (arg->flags || arg->reserved)
		return -EOPNOTSUPP;
	return fw_wake_set(d, arg);
}

static long fw_ioctl_attach_cq(struct fw_domain *d, void *buf)
{
	struct fastwake_ioc_attach_cq *arg = buf;

	if (arg->flags || arg->reserved)
		return -EOPNOTSUPP;
	return fw_attach_cq(d, arg);
}

static long fw_ioctl_detach_cq(struct fw_domain *d, void *buf)
{
	struct fastwake_ioc_detach_cq *arg = buf;

	if (arg->flags || arg->reserved)
		return -EOPNOTSUPP;
	return fw_detach(d, arg->cq);
}

static long fw_ioctl_test_event(struct fw_domain *d, void *buf)
{
	struct fastwake_ioc_test_event *arg = buf;

	if (arg->flags || arg->reserved)
		return -EOPNOTSUPP;
	return fw_test_event(d, arg);
}

struct fw_ioctl {
	size_t size;	 /* of the argument as we know it */
	size_t min_size; /* as first published */
	bool out;	 /* copied back on success */
	long (*handler)(struct fw_domain *d, void *arg);
};

#define FW_IOCTL(nr, name, copied_back)                         \
	[_IOC_NR(FASTWAKE_IOC_##nr)] = {                        \
		.size = sizeof(struct fastwake_ioc_##name),     \
		.min_size = sizeof(struct fastwake_ioc_##name), \
		.out = copied_back,                             \
		.handler = fw_ioctl_##name,                     \
	}

static const struct fw_ioctl fw_ioctls[] = {
	FW_IOCTL(QUERY, query, true),
	FW_IOCTL(REGISTER, register, true),
	FW_IOCTL(UNREGISTER, unregister, false),
	FW_IOCTL(PIN, pin, true),
	FW_IOCTL(UNPIN, unpin, false),
	FW_IOCTL(WAKE, wake, false),
	FW_IOCTL(ATTACH_CQ, attach_cq, true),
	FW_IOCTL(DETACH_CQ, detach_cq, false),
	FW_IOCTL(WAKE_SET, wake_set, false),
	FW_IOCTL(TEST_EVENT, test_event, false),
};

union fw_arg {
	u32 size;
	struct fastwake_ioc_query query;
	struct fastwake_ioc_register reg;
	struct fastwake_ioc_pin pin;
	struct fastwake_ioc_wake_set wake_set;
	struct fastwake_ioc_attach_cq attach_cq;
	struct fastwake_ioc_test_event test_event;
};

/*
 * What comes back is no longer than what the caller knows.  Should that fail,
 * what was made stays until the domain goes: the caller's memory is gone too.
 */
static long fw_ioctl_copied(struct fw_domain *d, const struct fw_ioctl *ioctl,
			    void __user *user)
{
	union fw_arg arg = {};
	u32 size;
	long ret;

	if (get_user(size, (u32 __user *)user))
		return -EFAULT;
	if (size < ioctl->min_size || size > PAGE_SIZE)
		return -EINVAL;
	ret = copy_struct_from_user(&arg, ioctl->size, user, size);
	if (ret)
		return ret;
	ret = ioctl->handler(d, &arg);
	if (ret >= 0 && ioctl->out &&
	    copy_to_user(user, &arg, min_t(size_t, size, ioctl->size)))
		ret = -EFAULT;
	return ret;
}

static noinline long fw_ioctl_other(struct fw_domain *d, unsigned int cmd,
				    void __user *user)
{
	unsigned int nr = _IOC_NR(cmd);

	if (cmd != _IO(FASTWAKE_IOC_TYPE, nr) || nr >= ARRAY_SIZE(fw_ioctls) ||
	    !fw_ioctls[nr].handler)
		return -ENOTTY;
	nr = array_index_nospec(nr, ARRAY_SIZE(fw_ioctls));
	return fw_ioctl_copied(d, &fw_ioctls[nr], user);
}

static long fw_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct fw_domain *d = file->private_data;
	void __user *user = (void __user *)arg;

	if (likely(cmd == FASTWAKE_IOC_WAIT))
		return fw_wait(d, user, false);
	if (likely(cmd == FASTWAKE_IOC_SWITCH))
		return fw_wait(d, user, true);
	return fw_ioctl_other(d, cmd, user);
}

/* ---- file ---- */

static int fw_open(struct inode *inode, struct file *file)
{
	struct fw_domain *d = kzalloc(sizeof(*d), GFP_KERNEL_ACCOUNT);

	if (!d)
		return -ENOMEM;
	mutex_init(&d->lock);
	d->waiters_max = READ_ONCE(fw_waiters_max);
	d->regions_max = READ_ONCE(fw_regions_max);
	fw_table_init(&d->waiters, 0, d->waiters_max);
	fw_table_init(&d->regions, 1, d->regions_max + 1);
	fw_table_init(&d->sources, 1, d->regions_max + 1);
	file->private_data = d;
	return stream_open(inode, file);
}

/* Also called for each descriptor that exit() and exec() close. */
static int fw_flush(struct file *file, fl_owner_t id)
{
	fw_unregister_gone(file->private_data);
	return 0;
}

/* Nobody is in an ioctl of this file any more, and no mapping of it is left. */
static int fw_release(struct inode *inode, struct file *file)
{
	struct fw_domain *d = file->private_data;

	fw_test_events_free(d);
	fw_detach_all(d);
	fw_unregister_all(d);
	fw_unpin_all(d);
	fw_table_destroy(&d->waiters);
	fw_table_destroy(&d->regions);
	fw_table_destroy(&d->sources);
	vfree(d->where);
	mutex_destroy(&d->lock);
	kfree(d);
	return 0;
}

static int fw_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct fw_domain *d = file->private_data;
	int ret;

	if (vma->vm_flags & (VM_WRITE | VM_EXEC))
		return -EPERM;
	fw_vm_flags_change(vma, VM_DONTEXPAND, VM_MAYWRITE | VM_MAYEXEC);
	switch ((u64)vma->vm_pgoff << PAGE_SHIFT) {
	case FASTWAKE_MMAP_CORES:
		return fw_stats_mmap(vma);
	case FASTWAKE_MMAP_WAITERS:
		ret = fw_where_alloc(d);
		return ret ? ret : remap_vmalloc_range(vma, d->where, 0);
	default:
		return -EINVAL;
	}
}

static const struct file_operations fw_fops = {
	.owner = THIS_MODULE,
	.open = fw_open,
	.flush = fw_flush,
	.release = fw_release,
	.unlocked_ioctl = fw_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = fw_mmap,
	.llseek = noop_llseek,
};

static struct miscdevice fw_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "fastwake",
	.fops = &fw_fops,
	.mode = 0660,
};

static int __init fw_init(void)
{
	int ret;

	ret = fw_stats_init();
	if (ret)
		return ret;
	ret = fw_region_init();
	if (ret)
		goto err_stats;
	ret = fw_pollset_init();
	if (ret)
		goto err_region;
	ret = fw_hotplug_init();
	if (ret)
		goto err_pollset;
	ret = misc_register(&fw_misc);
	if (ret)
		goto err_hotplug;
	return 0;

err_hotplug:
	fw_hotplug_exit();
err_pollset:
	fw_pollset_exit();
err_region:
	fw_region_exit();
err_stats:
	fw_stats_exit();
	return ret;
}

/*
 * Runs only when no file is open and nothing mapped: no thread is in WAIT.  What
 * is left are unpinning work and RCU callbacks.
 */
static void __exit fw_exit(void)
{
	misc_deregister(&fw_misc);
	fw_hotplug_exit();
	fw_pollset_exit();
	fw_region_exit();
	fw_stats_exit();
	rcu_barrier();
}

module_init(fw_init);
module_exit(fw_exit);

MODULE_DESCRIPTION("FastWake: sleep until a word in memory changes");
MODULE_AUTHOR("The pg_fastwake developers");
MODULE_LICENSE("GPL");
MODULE_VERSION(FW_VERSION);
