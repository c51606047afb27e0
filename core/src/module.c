// SPDX-License-Identifier: PostgreSQL
/*
 * module.c - waits served by the kernel module, /dev/fastwake.
 *
 * A domain may have a domain of the module beside it: the open device, in
 * which the domain's memory is pinned, so that each slot's seq is a word that
 * the module can watch.  A waiter that waits there watches its slot's seq and
 * those of the caller's words that are pinned; what a writer announces by
 * fastwake_wake() needs no pin, for seq tells of it.
 *
 * The proof in wait.c holds with FW_IN_MODULE in place of SLEEPING and the
 * module's WAIT in place of FUTEX_WAIT: WAIT looks at seq after the waiter was
 * published, and a waker who bumped seq before that need not be heard; one who
 * bumps it later reads FW_IN_MODULE and calls WAKE, which finds the waiter
 * announced, or finds it gone (and then WAIT's last look, or the look that
 * follows it here, comes after the bump).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <infiniband/verbs.h>

#include "../../kmod/uapi/fastwake.h"
#include "channel_internal.h"
#include "module.h"

#define FW_DEVICE "/dev/fastwake"

_Static_assert((int)FASTWAKE_NE == FASTWAKE_COND_NE, "same numbers");
_Static_assert((int)FASTWAKE_EQ == FASTWAKE_COND_EQ, "same numbers");
_Static_assert((int)FASTWAKE_MASK_NE == FASTWAKE_COND_MASK_NE, "same numbers");
_Static_assert((int)FASTWAKE_GE64 == FASTWAKE_COND_GE64, "same numbers");
_Static_assert((int)FASTWAKE_CQ == FASTWAKE_COND_CQ, "same numbers");
_Static_assert(FW_WAKES_MAX == FASTWAKE_IOC_WAKE_MAX,
	       "as many as one call takes");
/* One is for the slot's seq. */
#define FW_MODULE_WATCHES (FASTWAKE_WATCHES_MAX + 1)

static long device_call(const struct fw_module *module, unsigned long request,
			const void *argument)
{
	return fw_syscall(SYS_ioctl, module->fd, (long)request, (long)argument,
			  0, 0, 0);
}

/* ------------------------------------------------------------------ */
/* A domain and its regions                                           */
/* ------------------------------------------------------------------ */

static int no_device(int error, char *reason)
{
	switch (error) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return fw_reason(reason, -ENODEV,
				 "no %s: module fastwake is not loaded",
				 FW_DEVICE);
	case EACCES:
	case EPERM:
		return fw_reason(
			reason, -EACCES,
			"no permission to open %s: add the user to group fastwake (usermod -aG fastwake USER) and restart",
			FW_DEVICE);
	default:
		return fw_reason(reason, -error, "could not open %s: %s",
				 FW_DEVICE, strerror(error));
	}
}

static int query(struct fw_module *module, char *reason)
{
	struct fastwake_ioc_query q = { .size = sizeof(q) };
	long rc = device_call(module, FASTWAKE_IOC_QUERY, &q);

	if (rc < 0)
		return fw_reason(reason, (int)rc,
				 "%s does not answer as fastwake: %s",
				 FW_DEVICE, strerror((int)-rc));
	if (q.out_abi != FASTWAKE_ABI_VERSION)
		return fw_reason(
			reason, -EPROTO,
			"module fastwake has ABI %u, this library %u: install the module of this release",
			q.out_abi, FASTWAKE_ABI_VERSION);
	module->waiters_max = q.out_waiters_max;
	module->watches_max = q.out_watches_max;
	module->cores = q.out_cores;
	module->core_stride = q.out_core_stride;
	module->knows_cqs = (q.out_features & FASTWAKE_FEATURE_CQ) != 0;
	module->knows_wake_set =
		(q.out_features & FASTWAKE_FEATURE_WAKE_SET) != 0;
	module->knows_later = (q.out_features & FASTWAKE_FEATURE_LATER) != 0;
	return 0;
}

static int pin(struct fw_module *module, uintptr_t start, uintptr_t end)
{
	struct fastwake_ioc_pin p = { .size = sizeof(p),
				      .addr = start,
				      .length = end - start };
	long rc;

	if (module->nregions == FW_REGIONS_MAX)
		return -ENOSPC;
	rc = device_call(module, FASTWAKE_IOC_PIN, &p);
	if (rc < 0)
		return (int)rc;
	module->regions[module->nregions++] = (struct fw_region){
		.start = start, .end = end, .id = p.out_region
	};
	return 0;
}

/* The pages of MEM. */
static void pages_of(const void *mem, size_t length, uintptr_t *start,
		     uintptr_t *end)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	*start = (uintptr_t)mem & ~(page - 1);
	*end = ((uintptr_t)mem + length + page - 1) & ~(page - 1);
}

int fastwake_domain_pin(struct fastwake_domain *domain, void *mem,
			size_t length)
{
	uintptr_t start, end;

	if (domain->module == NULL)
		return -ENODEV;
	if (length == 0)
		return -EINVAL;
	pages_of(mem, length, &start, &end);
	return pin(domain->module, start, end);
}

void fastwake_domain_unpin(struct fastwake_domain *domain, const void *mem)
{
	struct fw_module *module = domain->module;
	struct fastwake_ioc_unpin u = { .size = sizeof(u) };
	uintptr_t start, end;
	unsigned int i;

	if (module == NULL)
		return;
	pages_of(mem, 1, &start, &end);
	for (i = 0; i < module->nregions; i++) {
		if (module->regions[i].start != start)
			continue;
		u.region = module->regions[i].id;
		(void)device_call(module, FASTWAKE_IOC_UNPIN, &u);
		module->regions[i] = module->regions[--module->nregions];
		return;
	}
}

static int pin_slots(struct fastwake_domain *domain, struct fw_module *module,
		     char *reason)
{
	uintptr_t start, end;
	int rc;

	pages_of(domain->slots, domain->waiters * sizeof(struct fw_slot),
		 &start, &end);
	rc = pin(module, start, end);
	if (rc == -ENOMEM)
		return fw_reason(
			reason, rc,
			"no memory to pin the table of waiters: it needs %zu bytes of RLIMIT_MEMLOCK; raise it (ulimit -l, or LimitMEMLOCK= of the service)",
			(size_t)(end - start));
	if (rc != 0)
		return fw_reason(reason, rc,
				 "could not pin the table of waiters: %s",
				 strerror(-rc));
	return 0;
}

int fastwake_domain_use_module(struct fastwake_domain *domain, char *reason)
{
	struct fw_module *module;
	int rc;

	if (domain->module != NULL)
		return 0;
	module = calloc(1, sizeof(*module));
	if (module == NULL)
		return fw_reason(reason, -ENOMEM, "out of memory");
	module->fd = open(FW_DEVICE, O_RDWR | O_CLOEXEC);
	if (module->fd < 0) {
		rc = no_device(errno, reason);
		free(module);
		return rc;
	}
	rc = query(module, reason);
	if (rc == 0 && module->waiters_max < domain->waiters)
		rc = fw_reason(
			reason, -ENOSPC,
			"module fastwake has %u waiters to a domain, %u are needed: raise its parameter waiters_max",
			module->waiters_max, domain->waiters);
	if (rc == 0)
		rc = pin_slots(domain, module, reason);
	if (rc != 0) {
		close(module->fd);
		free(module);
		return rc;
	}
	domain->module = module;
	return 0;
}

int fastwake_domain_has_module(const struct fastwake_domain *domain)
{
	return domain->module != NULL;
}

/* ------------------------------------------------------------------ */
/* Cores                                                              */
/* ------------------------------------------------------------------ */

/* A CPU may be possible, and have a place in the table, but not be there. */
static bool core_exists(unsigned int core)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u", core);
	return access(path, F_OK) == 0;
}

static struct fastwake_core_info core_info(const struct fastwake_core *core,
					   unsigned int number)
{
	return (struct fastwake_core_info){
		.core = number,
		.waiters = fw_load(&core->waiters),
		.waits = fw_load(&core->waits),
		.polls = fw_load(&core->polls),
		.hits = fw_load(&core->immediate) + fw_load(&core->spun),
		.switches = fw_load(&core->slept),
		.backstops = fw_load(&core->backstops),
		.parked = fw_load(&core->parks),
		.events = fw_load(&core->events),
		.events_here = fw_load(&core->events_here),
		.moves = fw_load(&core->moves),
	};
}

int fastwake_domain_cores(const struct fastwake_domain *domain,
			  struct fastwake_core_info *cores, unsigned int max)
{
	const struct fw_module *module = domain->module;
	unsigned int i, n = 0;
	size_t length;
	char *mapped;

	if (module == NULL)
		return -ENODEV;
	length = (size_t)module->cores * module->core_stride;
	mapped = mmap(NULL, length, PROT_READ, MAP_SHARED, module->fd,
		      (off_t)FASTWAKE_MMAP_CORES);
	if (mapped == MAP_FAILED)
		return -errno;
	for (i = 0; i < module->cores; i++) {
		if (!core_exists(i))
			continue;
		if (n < max)
			cores[n] = core_info(
				(const void *)(mapped +
					       (size_t)i * module->core_stride),
				i);
		n++;
	}
	munmap(mapped, length);
	return (int)n;
}

void fw_module_close(struct fw_module *module)
{
	if (module == NULL)
		return;
	close(module->fd);
	free(module);
}

/* ------------------------------------------------------------------ */
/* Waiters                                                            */
/* ------------------------------------------------------------------ */

bool fw_module_ready(struct fastwake_waiter *waiter)
{
	struct fw_module *module = waiter->domain->module;
	struct fastwake_ioc_register r = { .size = sizeof(r),
					   .waiter = waiter->index };

	if (module == NULL || waiter->module_state == FW_MODULE_REFUSED)
		return false;
	if (waiter->module_state == FW_MODULE_REGISTERED)
		return true;
	if (device_call(module, FASTWAKE_IOC_REGISTER, &r) < 0) {
		waiter->module_state = FW_MODULE_REFUSED;
		return false;
	}
	waiter->module_state = FW_MODULE_REGISTERED;
	return true;
}

void fw_module_unregister(struct fastwake_waiter *waiter)
{
	struct fastwake_ioc_unregister u = { .size = sizeof(u),
					     .waiter = waiter->index };

	if (waiter->module_state == FW_MODULE_REGISTERED)
		(void)device_call(waiter->domain->module,
				  FASTWAKE_IOC_UNREGISTER, &u);
	waiter->module_state = FW_MODULE_NEW;
}

static const struct fw_region *region_of(const struct fw_module *module,
					 const volatile void *word,
					 uint32_t size)
{
	uintptr_t at = (uintptr_t)word;
	unsigned int i;

	for (i = 0; i < module->nregions; i++)
		if (at >= module->regions[i].start &&
		    at + size <= module->regions[i].end)
			return &module->regions[i];
	return NULL;
}

/* Does its writer do anything but fastwake_wake()? */
static bool rings_elsewhere(const struct fastwake_watch *watch)
{
	return watch->doorbell != NULL ||
	       (watch->condition & FASTWAKE_SILENT) != 0;
}

/* 1 if filled in, 0 if the slot's seq tells of this word, or -EOPNOTSUPP. */
static int translate(const struct fw_module *module,
		     const struct fastwake_watch *watch,
		     struct fastwake_ioc_watch *out)
{
	const struct fw_region *region =
		region_of(module, watch->word, watch->size);
	uint32_t condition = fw_condition(watch);

	if (condition == FASTWAKE_CQ)
		return 0;
	if (region == NULL)
		return rings_elsewhere(watch) ? -EOPNOTSUPP : 0;
	*out = (struct fastwake_ioc_watch){
		.region = region->id,
		.condition = (uint16_t)condition,
		.word_size = (uint16_t)watch->size,
		.offset = (uintptr_t)watch->word - region->start,
		.operand = watch->operand,
		.mask = condition == FASTWAKE_MASK_NE ? watch->mask : 0,
	};
	return 1;
}

static int translate_all(const struct fastwake_waiter *waiter,
			 const struct fastwake_watch *watches, unsigned int n,
			 uint64_t later_ns, struct fastwake_ioc_watch *out)
{
	const struct fw_module *module = waiter->domain->module;
	struct fastwake_watch seq = { .word = &waiter->slot->seq,
				      .operand = waiter->seq,
				      .size = 4,
				      .condition = FASTWAKE_NE };
	unsigned int i;
	int rc, count = translate(module, &seq, &out[0]);

	if (later_ns != 0 && count > 0) {
		out[0].condition = FASTWAKE_COND_LATER_NE;
		out[0].mask = later_ns;
	}

	for (i = 0; i < n; i++) {
		rc = translate(module, &watches[i], &out[count]);
		if (rc < 0)
			return rc;
		count += rc;
	}
	return count > (int)module->watches_max ? -EOPNOTSUPP : count;
}

/* What WAIT returns, in our terms. */
static int wait_result(struct fastwake_waiter *waiter, long rc, bool *slept)
{
	if (rc >= 0) {
		*slept = *slept || (rc & FASTWAKE_WAIT_SLEPT) != 0;
		return 0;
	}
	switch (rc) {
	case -ETIME:
		return -EAGAIN;
	case -ETIMEDOUT:
	case -EINTR:
		*slept = true;
		return (int)rc;
	case -EPERM: /* another thread uses the waiter now */
	case -ENOENT:
		waiter->module_state = FW_MODULE_REFUSED;
		return -EOPNOTSUPP;
	default:
		return -EOPNOTSUPP;
	}
}

int fw_module_wait(struct fastwake_waiter *waiter,
		   const struct fastwake_watch *watches, unsigned int n,
		   uint64_t budget_ns, uint64_t deadline_ns, bool *slept)
{
	struct fastwake_ioc_watch translated[FW_MODULE_WATCHES];
	struct fastwake_ioc_wait w = { .size = sizeof(w),
				       .waiter = waiter->index,
				       .watches = (uintptr_t)translated,
				       .deadline_ns = deadline_ns,
				       .budget_ns = budget_ns,
				       .wake = FASTWAKE_WAITER_NONE };
	/* As wakers read it. */
	uint64_t later_ns = fw_load(&waiter->slot->later_ns);
	long rc = translate_all(waiter, watches, n, later_ns, translated);

	if (rc < 0)
		return (int)rc;
	w.nr_watches = (uint32_t)rc;
	rc = device_call(waiter->domain->module, FASTWAKE_IOC_WAIT, &w);
	return wait_result(waiter, rc, slept);
}

/* ------------------------------------------------------------------ */
/* Completion queues                                                  */
/* ------------------------------------------------------------------ */

int fw_module_attach(struct fw_module *module, uint32_t device, uint32_t cqn,
		     const struct ibv_cq *cq, struct fastwake_cq *attached)
{
	struct fastwake_ioc_attach_cq a = { .size = sizeof(a),
					    .device = device,
					    .cqn = cqn,
					    .cmd_fd = cq->context->cmd_fd,
					    .handle = cq->handle };
	long rc = device_call(module, FASTWAKE_IOC_ATTACH_CQ, &a);

	if (rc < 0)
		return (int)rc;
	attached->id = a.out_cq;
	attached->arms = (a.out_flags & FASTWAKE_CQ_CAN_ARM) != 0;
	return 0;
}

void fw_module_detach(struct fw_module *module, uint32_t id)
{
	struct fastwake_ioc_detach_cq d = { .size = sizeof(d), .cq = id };

	(void)device_call(module, FASTWAKE_IOC_DETACH_CQ, &d);
}

static struct fastwake_ioc_watch
translate_cq(const struct fastwake_watch *watch)
{
	const struct fastwake_cq *cq = fw_cq_of(watch);
	struct fastwake_ioc_watch out = { .region = cq->id,
					  .condition = FASTWAKE_COND_CQ };

	if (cq->arms)
		out.operand = FASTWAKE_CQ_ARM;
	if (cq->arms && watch->operand == FW_CQ_SOLICITED)
		out.operand |= FASTWAKE_CQ_SOLICITED;
	return out;
}

/*
 * The slot's seq, then the queues, in the caller's order: only they end the sleep.
 * Words are the caller's to look at, before and after.
 */
static unsigned int translate_cqs(const struct fastwake_waiter *waiter,
				  const struct fastwake_watch *watches,
				  unsigned int n,
				  struct fastwake_ioc_watch *out,
				  struct fastwake_cq **cqs)
{
	int count = translate_all(waiter, NULL, 0, 0, out);
	unsigned int i, queues = 0;

	for (i = 0; i < n; i++) {
		if (fw_condition(&watches[i]) != FASTWAKE_CQ)
			continue;
		out[count + (int)queues] = translate_cq(&watches[i]);
		cqs[queues++] = fw_cq_of(&watches[i]);
	}
	return queues;
}

int fw_module_sleep(struct fastwake_waiter *waiter,
		    const struct fastwake_watch *watches, unsigned int n,
		    uint64_t deadline_ns, bool *slept, int *core)
{
	struct fastwake_ioc_watch translated[FW_MODULE_WATCHES];
	struct fastwake_cq *cqs[FASTWAKE_WATCHES_MAX];
	struct fastwake_ioc_wait w = { .size = sizeof(w),
				       .flags = FASTWAKE_WAIT_SLEEP |
						FASTWAKE_WAIT_CORE,
				       .waiter = waiter->index,
				       .watches = (uintptr_t)translated,
				       .deadline_ns = deadline_ns,
				       .budget_ns = FASTWAKE_BUDGET_NONE,
				       .wake = FASTWAKE_WAITER_NONE };
	unsigned int i,
		queues = translate_cqs(waiter, watches, n, translated, cqs);
	long rc;

	w.nr_watches = queues + 1;
	if (w.nr_watches > waiter->domain->module->watches_max)
		return -EOPNOTSUPP;
	rc = device_call(waiter->domain->module, FASTWAKE_IOC_WAIT, &w);
	*core = (int)w.out_core - 1;
	if (rc == -ESTALE || rc == -ENOENT)
		return -ESTALE;
	for (i = 0; rc >= 0 && i < queues; i++)
		if (FASTWAKE_WAIT_INDEX(rc) == i + 1 ||
		    (FASTWAKE_WAIT_CQS(rc) >> (i + 1) & 1) != 0)
			fw_store(&cqs[i]->pending, true);
	return wait_result(waiter, rc, slept);
}

static void wake_one(const struct fw_module *module, unsigned int slot)
{
	struct fastwake_ioc_wake w = { .size = sizeof(w), .waiter = slot };

	(void)device_call(module, FASTWAKE_IOC_WAKE, &w);
}

void fw_module_wake(const struct fw_module *module, unsigned int slot,
		    struct fw_wakes *wakes)
{
	if (wakes == NULL || !module->knows_wake_set) {
		wake_one(module, slot);
		return;
	}
	if (wakes->n == FW_WAKES_MAX)
		fw_module_wake_noted(module, wakes);
	wakes->slot[wakes->n++] = slot;
}

void fw_module_wake_noted(const struct fw_module *module,
			  struct fw_wakes *wakes)
{
	struct fastwake_ioc_wake_set w = { .size = sizeof(w),
					   .nr = wakes->n,
					   .waiters = (uintptr_t)wakes->slot };

	if (wakes->n == 1)
		wake_one(module, wakes->slot[0]);
	else if (wakes->n > 1)
		(void)device_call(module, FASTWAKE_IOC_WAKE_SET, &w);
	wakes->n = 0;
}
