/* SPDX-License-Identifier: PostgreSQL */
/*
 * module.h - waits served by the kernel module, /dev/fastwake.
 */
#ifndef FASTWAKE_MODULE_H
#define FASTWAKE_MODULE_H

#include "internal.h"

/* Memory of this process that the module can look at. */
struct fw_region {
	uintptr_t start;
	uintptr_t end;
	uint32_t id;
};

#define FW_REGIONS_MAX 64

/*
 * How many times as long as it would poll a thread waits in the module: there
 * it polls only while nobody else wants the core.
 */
#define FW_MODULE_PATIENCE 20

/* A domain's half in the kernel. Private to a process, inherited by fork. */
struct fw_module {
	int fd;
	uint32_t waiters_max;
	uint32_t watches_max;
	uint32_t cores;
	uint32_t core_stride;
	bool knows_cqs;
	bool knows_later;
	bool knows_wake_set;
	unsigned int nregions;
	struct fw_region regions[FW_REGIONS_MAX];
};

/* Of this process only; the module's domain lives as long as others hold it. */
void fw_module_close(struct fw_module *module);

/* May this waiter's thread wait in the module?  Registers it at first. */
bool fw_module_ready(struct fastwake_waiter *waiter);
/* Give the waiter's registration back. */
void fw_module_unregister(struct fastwake_waiter *waiter);

/*
 * Wait in the module until a watch holds or the slot's seq moves.  0: look
 * again; -EAGAIN: the budget is used up, sleep elsewhere; -ETIMEDOUT; -EINTR;
 * -EOPNOTSUPP: not for these watches, or not any more.  *SLEPT is set if the
 * thread gave up its core.
 */
int fw_module_wait(struct fastwake_waiter *waiter,
		   const struct fastwake_watch *watches, unsigned int n,
		   uint64_t budget_ns, uint64_t deadline_ns, bool *slept);

/* A completion queue that is attached. */
struct fastwake_cq {
	struct fastwake_domain *domain;
	uint32_t id;  /* in the module's domain */
	bool arms;    /* the module asks for its event */
	bool pending; /* an event came that no wait has returned yet */
};

/* A watch of FASTWAKE_CQ: what its operand says, and the queue. */
#define FW_CQ_SOLICITED 1
static inline struct fastwake_cq *fw_cq_of(const struct fastwake_watch *watch)
{
	return (struct fastwake_cq *)(uintptr_t)watch->word;
}

/* DEVICE by its index; -errno of the module's ATTACH_CQ. */
int fw_module_attach(struct fw_module *module, uint32_t device, uint32_t cqn,
		     const struct ibv_cq *cq, struct fastwake_cq *attached);
void fw_module_detach(struct fw_module *module, uint32_t id);

/*
 * Sleep in the module until an event of a queue that is watched, or a wake-up;
 * words are looked at by nobody meanwhile.  Sets ->pending of the queues whose
 * event came, and *CORE to where one came, or -1.  Returns as fw_module_wait(), and
 * -ESTALE: a queue is gone.
 */
int fw_module_sleep(struct fastwake_waiter *waiter,
		    const struct fastwake_watch *watches, unsigned int n,
		    uint64_t deadline_ns, bool *slept, int *core);

/* Now, or by fw_module_wake_noted(), if WAKES is given.  Async-signal-safe; errno is kept. */
void fw_module_wake(const struct fw_module *module, unsigned int slot,
		    struct fw_wakes *wakes);
void fw_module_wake_noted(const struct fw_module *module,
			  struct fw_wakes *wakes);

#endif
