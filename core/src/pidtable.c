// SPDX-License-Identifier: PostgreSQL
/*
 * pidtable.c - from a pid to its slot, for wakers that know only the pid.
 *
 * A pid hashes to one bucket, a cache line of 8 entries, and is nowhere else.
 * An entry is (pid << 32) | (slot + 1), or 0.  A process with a second slot
 * turns its entry into (pid << 32) | MANY: then the slots are scanned.
 *
 * The table only says where to look.  What an entry says is checked against
 * the slot's owner word, in the same load that tells the slot's state, so a
 * stale entry (holder gone, slot taken by another, pid reused) directs no wake
 * anywhere.  Stale entries are reclaimed when their room is needed.  Should
 * their process attach again in that very moment, it may end up without an
 * entry: fastwake_wake_pid() answers 0, and the ordinary notification is used.
 */
#include <errno.h>

#include "module.h"

#define MANY UINT32_MAX

static struct fw_bucket *bucket_of(const struct fastwake_domain *domain,
				   pid_t pid)
{
	/* Fibonacci hashing: consecutive pids spread evenly. */
	uint64_t hash = (uint32_t)pid * 0x9E3779B97F4A7C15ull;

	/* Two shifts, because one by 64 is undefined. */
	return &domain->buckets[(hash >> 1) >> (63 - domain->bucket_bits)];
}

static uint64_t make_entry(pid_t pid, uint32_t link)
{
	return ((uint64_t)(uint32_t)pid << 32) | link;
}

static pid_t entry_pid(uint64_t entry)
{
	return (pid_t)(entry >> 32);
}

static bool replace(uint64_t *entry, uint64_t old, uint64_t new)
{
	return __atomic_compare_exchange_n(entry, &old, new, false,
					   __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static bool holds(const struct fastwake_domain *domain, unsigned int slot,
		  pid_t pid)
{
	return fw_owner_pid(fw_load(&domain->slots[slot].owner)) == pid;
}

/* The first slot that PID holds, other than EXCEPT; waiters if there is none. */
static unsigned int find_slot(const struct fastwake_domain *domain, pid_t pid,
			      unsigned int except)
{
	unsigned int i;

	for (i = 0; i < domain->waiters; i++)
		if (i != except && holds(domain, i, pid))
			break;
	return i;
}

/* True if nobody can be woken through the entry any more. */
static bool entry_stale(const struct fastwake_domain *domain, uint64_t entry)
{
	uint32_t link = (uint32_t)entry;
	unsigned int slot = link - 1;

	if (link == MANY)
		slot = find_slot(domain, entry_pid(entry), domain->waiters);
	if (slot >= domain->waiters || !holds(domain, slot, entry_pid(entry)))
		return true;
	return fw_holder_dead(entry_pid(entry),
			      fw_load(&domain->slots[slot].attached_ns));
}

/*
 * If the process has an entry already, make it say WANT.  One that says MANY
 * covers everything and stays.  What a dead process of the same pid left is
 * used the same way.
 */
static bool publish_again(struct fw_bucket *bucket, pid_t pid, uint64_t want)
{
	uint64_t entry;
	unsigned int i;

	for (i = 0; i < FW_BUCKET_ENTRIES; i++) {
		entry = fw_load(&bucket->entry[i]);
		if (entry_pid(entry) != pid)
			continue;
		if (entry == make_entry(pid, MANY) ||
		    replace(&bucket->entry[i], entry, want))
			return true;
	}
	return false;
}

static bool publish_in(const struct fastwake_domain *domain,
		       struct fw_bucket *bucket, uint64_t want, bool reclaim)
{
	uint64_t entry;
	unsigned int i;

	for (i = 0; i < FW_BUCKET_ENTRIES; i++) {
		entry = fw_load(&bucket->entry[i]);
		if (entry != 0 && !(reclaim && entry_stale(domain, entry)))
			continue;
		if (replace(&bucket->entry[i], entry, want))
			return true;
	}
	return false;
}

/*
 * To be called after the slot's owner word has been set.  Of two threads of
 * one process that do so at once, one sees the other's slot and writes MANY.
 * They may leave two entries: fastwake_wake_pid() looks at all 8.
 */
int fw_pid_publish(struct fastwake_domain *domain, pid_t pid, unsigned int slot)
{
	struct fw_bucket *bucket = bucket_of(domain, pid);
	uint64_t want = make_entry(pid, slot + 1);

	fw_full_barrier(); /* pairs with the other thread's */
	if (find_slot(domain, pid, slot) < domain->waiters)
		want = make_entry(pid, MANY);
	if (publish_again(bucket, pid, want) ||
	    publish_in(domain, bucket, want, false) ||
	    publish_in(domain, bucket, want, true))
		return 0;
	return -ENOSPC;
}

/*
 * To be called after the slot's owner word has been cleared.  An entry that
 * says MANY stays: another thread may be attaching a slot, relying on it.
 */
void fw_pid_withdraw(struct fastwake_domain *domain, pid_t pid,
		     unsigned int slot)
{
	struct fw_bucket *bucket = bucket_of(domain, pid);
	unsigned int i;

	for (i = 0; i < FW_BUCKET_ENTRIES; i++)
		replace(&bucket->entry[i], make_entry(pid, slot + 1), 0);
}

static int wake_all(const struct fastwake_domain *domain, pid_t pid,
		    struct fw_wakes *wakes)
{
	unsigned int i;
	int woken = 0;

	for (i = 0; i < domain->waiters; i++)
		woken |= fw_wake_slot(domain, i, pid, wakes);
	return woken;
}

static int wake_pid(const struct fastwake_domain *domain, pid_t pid,
		    struct fw_wakes *wakes)
{
	const struct fw_bucket *bucket = bucket_of(domain, pid);
	uint32_t link;
	uint64_t entry;
	unsigned int i;
	int woken = 0;

	if (pid <= 0)
		return 0;
	for (i = 0; i < FW_BUCKET_ENTRIES; i++) {
		entry = fw_load(&bucket->entry[i]);
		if (entry_pid(entry) != pid)
			continue;
		link = (uint32_t)entry;
		if (link == MANY)
			return wake_all(domain, pid, wakes);
		if (link - 1 < domain->waiters)
			woken |= fw_wake_slot(domain, link - 1, pid, wakes);
	}
	return woken;
}

int fastwake_wake_pid(struct fastwake_domain *domain, pid_t pid)
{
	return wake_pid(domain, pid, NULL);
}

/*
 * The module is called once the words of many are bumped.  That is later than each
 * of them would be told otherwise, and changes nothing else: until then they are
 * published as FW_IN_MODULE, or have gone on by themselves.
 */
unsigned int fastwake_wake_pids(struct fastwake_domain *domain, pid_t *pids,
				unsigned int n)
{
	struct fw_wakes wakes = { .n = 0 };
	unsigned int i, left = 0;

	for (i = 0; i < n; i++)
		if (wake_pid(domain, pids[i], &wakes) == 0)
			pids[left++] = pids[i];
	fw_module_wake_noted(domain->module, &wakes);
	return left;
}
