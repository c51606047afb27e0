// SPDX-License-Identifier: GPL-2.0
/*
 * region.c - pinned memory.
 *
 * Locking: the table of a domain changes under its mutex.  WAIT looks regions up
 * under RCU and takes a reference; percpu_ref refuses from UNPIN on.  The pages
 * go when the last reference goes, in a work item, since that may be dropped in
 * an interrupt.
 */
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "fw.h"

static struct workqueue_struct *fw_region_wq;

static void fw_region_free_rcu(struct rcu_head *rcu)
{
	kfree(container_of(rcu, struct fw_region, rcu));
}

/* A reader in fw_region_get() may still look at ->ref, which refuses it. */
static void fw_region_unuse(struct fw_region *r)
{
	if (refcount_dec_and_test(&r->users))
		call_rcu(&r->rcu, fw_region_free_rcu);
}

static void fw_region_unpin_pages(struct fw_region *r)
{
	unpin_user_pages_dirty_lock(r->pages, r->npages, true);
	account_locked_vm(r->mm, r->npages, false);
	mmdrop(r->mm);
	kvfree(r->pages);
}

static void fw_region_release_work(struct work_struct *work)
{
	struct fw_region *r = container_of(work, struct fw_region, release);

	percpu_ref_exit(&r->ref);
	fw_region_unpin_pages(r);
	complete_all(&r->unpinned);
	fw_region_unuse(r);
}

static void fw_region_release(struct percpu_ref *ref)
{
	struct fw_region *r = container_of(ref, struct fw_region, ref);

	queue_work(fw_region_wq, &r->release);
}

/*
 * A completion queue in ordinary memory that an RDMA driver maps.  The module is
 * asked for by name since nothing of it may be referenced: it need not be loaded.
 */
bool fw_file_is_uverbs(const struct file *file)
{
	const struct module *owner = file->f_op->owner;

	return S_ISCHR(file_inode(file)->i_mode) && owner &&
	       !strcmp(module_name((struct module *)owner), "ib_uverbs");
}

static bool fw_vma_allowed(const struct vm_area_struct *vma)
{
	unsigned long magic;

	if (vma->vm_flags & (VM_IO | VM_PFNMAP))
		return false;
	if (vma_is_anonymous((struct vm_area_struct *)vma))
		return true;
	if (!vma->vm_file)
		return false;
	magic = file_inode(vma->vm_file)->i_sb->s_magic;
	return magic == TMPFS_MAGIC || magic == HUGETLBFS_MAGIC ||
	       fw_file_is_uverbs(vma->vm_file);
}

static int fw_range_allowed(struct mm_struct *mm, unsigned long addr,
			    unsigned long end)
{
	struct vm_area_struct *vma;

	mmap_assert_locked(mm);
	while (addr < end) {
		vma = find_vma(mm, addr);
		if (!vma || vma->vm_start > addr || !(vma->vm_flags & VM_WRITE))
			return -EFAULT;
		if (!fw_vma_allowed(vma))
			return -EOPNOTSUPP;
		addr = vma->vm_end;
	}
	return 0;
}

/* Under one hold of the lock: what was checked is what is pinned. */
static int fw_region_pin_pages(struct fw_region *r, unsigned long addr)
{
	struct mm_struct *mm = current->mm;
	long n;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	n = fw_range_allowed(mm, addr, addr + (r->npages << PAGE_SHIFT));
	if (!n)
		n = fw_pin_user_pages(addr, r->npages,
				      FOLL_WRITE | FOLL_LONGTERM, r->pages);
	mmap_read_unlock(mm);
	if (n == (long)r->npages)
		return 0;
	if (n > 0) {
		unpin_user_pages(r->pages, n);
		return -EFAULT;
	}
	return n ? n : -EFAULT;
}

/* Charge first, so that nobody pins more than the limit even for a moment. */
static int fw_region_charge_and_pin(struct fw_region *r, unsigned long addr)
{
	int ret;

	r->pages = kvmalloc_array(r->npages, sizeof(*r->pages),
				  GFP_KERNEL_ACCOUNT);
	if (!r->pages)
		return -ENOMEM;
	r->mm = current->mm;
	ret = account_locked_vm(r->mm, r->npages, true);
	if (ret)
		goto err_pages;
	ret = fw_region_pin_pages(r, addr);
	if (ret)
		goto err_account;
	mmgrab(r->mm);
	return 0;

err_account:
	account_locked_vm(r->mm, r->npages, false);
err_pages:
	kvfree(r->pages);
	return ret;
}

static int fw_region_publish(struct fw_domain *d, struct fw_region *r)
{
	int ret;

	mutex_lock(&d->lock);
	ret = fw_table_reserve(&d->regions);
	if (ret)
		goto out;
	r->id = fw_table_free_number(&d->regions);
	if (r->id == d->regions.size)
		ret = -ENOSPC;
	else
		fw_table_set(&d->regions, r->id, r);
out:
	mutex_unlock(&d->lock);
	return ret;
}

static struct fw_region *fw_region_alloc(unsigned long npages)
{
	struct fw_region *r = kzalloc(sizeof(*r), GFP_KERNEL_ACCOUNT);

	if (!r)
		return NULL;
	if (percpu_ref_init(&r->ref, fw_region_release, 0, GFP_KERNEL)) {
		kfree(r);
		return NULL;
	}
	r->npages = npages;
	init_completion(&r->unpinned);
	refcount_set(&r->users, 1);
	INIT_WORK(&r->release, fw_region_release_work);
	return r;
}

int fw_pin(struct fw_domain *d, struct fastwake_ioc_pin *arg)
{
	struct fw_region *r;
	int ret;

	if (!arg->length || arg->length > FASTWAKE_REGION_SIZE_MAX ||
	    offset_in_page(arg->addr | arg->length) ||
	    arg->addr + arg->length < arg->addr ||
	    (unsigned long)arg->addr != arg->addr)
		return -EINVAL;
	r = fw_region_alloc(arg->length >> PAGE_SHIFT);
	if (!r)
		return -ENOMEM;
	ret = fw_region_charge_and_pin(r, arg->addr);
	if (ret)
		goto err_alloc;
	ret = fw_region_publish(d, r);
	if (ret)
		goto err_pin;
	arg->out_region = r->id;
	return 0;

err_pin:
	fw_region_unpin_pages(r);
err_alloc:
	percpu_ref_exit(&r->ref);
	kfree(r);
	return ret;
}

/*
 * From here on no new reference, and those who have one are told to leave:
 *
 *	WAIT				UNPIN
 *	W1 takes references		U1 kills the reference
 *	W2 announces itself		   full barrier (fw_wake_waiter())
 *	   full barrier			U2 tells who is announced
 *	W3 looks whether one is killed
 *
 * If U2 misses the announcement, U1 came before W3.  From then on W3 looks only
 * when it has been told (->event).
 */
int fw_unpin(struct fw_domain *d, u32 id)
{
	struct fw_region *r;
	int ret;

	mutex_lock(&d->lock);
	r = fw_table_erase(&d->regions, id);
	if (r) {
		/* After the table, before the region: fw_watches_get(). */
		smp_store_release(&d->unpins, d->unpins + 1);
		refcount_inc(&r->users);
		percpu_ref_kill(&r->ref);
	}
	mutex_unlock(&d->lock);
	if (!r)
		return -ENOENT;
	fw_wake_all(d, FW_EVENT_REGION);
	ret = wait_for_completion_killable(&r->unpinned);
	fw_region_unuse(r);
	return ret ? -EINTR : 0;
}

/* The domain is gone, and so are all who could hold references. */
void fw_unpin_all(struct fw_domain *d)
{
	struct fw_region *r;
	u32 id;

	fw_table_for_each(&d->regions, id, r) percpu_ref_kill(&r->ref);
}

struct fw_region *fw_region_get(struct fw_domain *d, u32 id)
{
	struct fw_region *r;

	rcu_read_lock();
	r = fw_region_find(d, id);
	if (r && !percpu_ref_tryget_live(&r->ref))
		r = NULL;
	rcu_read_unlock();
	return r;
}

int fw_region_init(void)
{
	fw_region_wq = alloc_workqueue("fastwake", WQ_UNBOUND, 0);
	return fw_region_wq ? 0 : -ENOMEM;
}

/*
 * References are switched to one counter by RCU callbacks, which may queue the
 * work: first wait for those.
 */
void fw_region_exit(void)
{
	rcu_barrier();
	destroy_workqueue(fw_region_wq);
}
