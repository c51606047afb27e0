// SPDX-License-Identifier: PostgreSQL
/*
 * module.c - /dev/fastwake, called directly: a wait is one system call.
 *
 * A domain for the process, a waiter for each of its threads that waits.  The
 * bells of all channels are pinned at first, a queue's first page when it is
 * created.  A child of fork begins anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "verbs.h"

#define DEVICE "/dev/fastwake"

enum {
	UNKNOWN,
	ABSENT,
	PRESENT
};

static struct {
	int state;
	int fd;
	bool knows_cqs;
	uint32_t bells; /* region of fv_bells, and where in it they begin */
	uint32_t bells_offset;
} module = { .fd = -1 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static uint32_t generation; /* of the process: moves on in a child */

struct waiter {
	uint32_t generation; /* plus 1, of that it belongs to; 0: none yet */
	uint32_t number;
};

static __thread struct waiter self __attribute__((tls_model("initial-exec")));

static long call(unsigned long request, const void *argument)
{
	return fw_syscall(SYS_ioctl, module.fd, (long)request, (long)argument,
			  0, 0, 0);
}

static bool answers(void)
{
	struct fastwake_ioc_query q = { .size = sizeof(q) };
	const uint64_t need = FASTWAKE_FEATURE_RESTART;

	if (call(FASTWAKE_IOC_QUERY, &q) != 0 ||
	    q.out_abi != FASTWAKE_ABI_VERSION)
		return false;
	module.knows_cqs = (q.out_features & FASTWAKE_FEATURE_CQ) != 0;
	return q.out_watches_max >= FV_WATCHES_MAX &&
	       (q.out_features & need) == need;
}

static bool open_device(void)
{
	module.fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (module.fd < 0) {
		fv_log("could not open " DEVICE ": %s: waits poll for %llu us",
		       strerror(errno),
		       (unsigned long long)fv_config.poll_ns / 1000);
		return false;
	}
	if (answers())
		module.bells = fv_module_pin(fv_bells, FV_BELLS_SIZE,
					     &module.bells_offset);
	else
		module.bells = FV_NO_REGION;
	if (module.bells != FV_NO_REGION)
		return true;
	fv_log(DEVICE
	       " is there, but is of another version or has no memory to lock: it is not used");
	close(module.fd);
	module.fd = -1;
	return false;
}

static bool first_use(void)
{
	int saved = errno;

	pthread_mutex_lock(&lock);
	if (module.state == UNKNOWN)
		fw_store_release(&module.state,
				 open_device() ? PRESENT : ABSENT);
	pthread_mutex_unlock(&lock);
	errno = saved;
	return module.state == PRESENT;
}

bool fv_module(void)
{
	int state = fw_load_acquire(&module.state);

	if (FV_UNLIKELY(state == UNKNOWN))
		return first_use();
	return state == PRESENT;
}

uint32_t fv_module_bells(uint32_t *offset)
{
	*offset = module.bells_offset;
	return module.bells;
}

uint32_t fv_module_pin(const void *memory, size_t length, uint32_t *offset)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t start = (uintptr_t)memory & ~(page - 1);
	uintptr_t end = ((uintptr_t)memory + length + page - 1) & ~(page - 1);
	struct fastwake_ioc_pin p = { .size = sizeof(p),
				      .addr = start,
				      .length = end - start };
	long rc = call(FASTWAKE_IOC_PIN, &p);

	*offset = (uint32_t)((uintptr_t)memory - start);
	if (rc == 0)
		return p.out_region;
	fv_log("could not pin memory for " DEVICE ": %s", strerror((int)-rc));
	return FV_NO_REGION;
}

void fv_module_unpin(uint32_t region)
{
	struct fastwake_ioc_unpin u = { .size = sizeof(u), .region = region };

	if (module.fd >= 0)
		(void)call(FASTWAKE_IOC_UNPIN, &u);
}

/* ---- waiters ---- */

static void thread_ends(void *waiter)
{
	const struct waiter *w = waiter;
	struct fastwake_ioc_unregister u = { .size = sizeof(u),
					     .waiter = w->number };

	if (w->generation == generation + 1 && module.fd >= 0)
		(void)call(FASTWAKE_IOC_UNREGISTER, &u);
}

static void make_key(void)
{
	(void)pthread_key_create(&key, thread_ends);
}

static bool register_thread(void)
{
	struct fastwake_ioc_register r = { .size = sizeof(r),
					   .waiter = FASTWAKE_WAITER_NONE };

	pthread_once(&key_once, make_key);
	if (call(FASTWAKE_IOC_REGISTER, &r) < 0)
		return false;
	self.number = r.waiter;
	self.generation = generation + 1;
	pthread_setspecific(key, &self);
	return true;
}

bool fv_module_ready(void)
{
	return self.generation == generation + 1 || register_thread();
}

int fv_module_wait(const struct fv_set *set, uint64_t budget_ns)
{
	struct fastwake_ioc_wait w = { .size = sizeof(w),
				       .flags = set->restart
							? FASTWAKE_WAIT_RESTART
							: 0,
				       .waiter = self.number,
				       .nr_watches = set->watches,
				       .watches = (uintptr_t)set->watch,
				       .budget_ns = budget_ns,
				       .wake = FASTWAKE_WAITER_NONE };
	long rc = call(FASTWAKE_IOC_WAIT, &w);

	return rc == -ESTALE ? 0 : (int)rc; /* a queue went away: look again */
}

/* ---- interrupts ---- */

bool fv_module_interrupts(void)
{
	return fv_module() && module.knows_cqs;
}

uint32_t fv_module_attach(uint32_t device, uint32_t cqn, int cmd_fd,
			  uint32_t handle)
{
	struct fastwake_ioc_attach_cq a = { .size = sizeof(a),
					    .device = device,
					    .cqn = cqn,
					    .cmd_fd = cmd_fd,
					    .handle = handle };

	if (call(FASTWAKE_IOC_ATTACH_CQ, &a) < 0)
		return FV_NO_REGION;
	if ((a.out_flags & FASTWAKE_CQ_CAN_ARM) != 0)
		return a.out_cq;
	fv_module_detach(a.out_cq);
	return FV_NO_REGION;
}

void fv_module_detach(uint32_t source)
{
	struct fastwake_ioc_detach_cq d = { .size = sizeof(d), .cq = source };

	if (module.fd >= 0)
		(void)call(FASTWAKE_IOC_DETACH_CQ, &d);
}

long fv_module_sleep(const struct fv_set *set)
{
	struct fastwake_ioc_wait w = { .size = sizeof(w),
				       .flags = FASTWAKE_WAIT_SLEEP |
						FASTWAKE_WAIT_RESTART,
				       .waiter = self.number,
				       .nr_watches = set->watches,
				       .watches = (uintptr_t)set->watch,
				       .budget_ns = FASTWAKE_BUDGET_NONE,
				       .wake = FASTWAKE_WAITER_NONE };

	return call(FASTWAKE_IOC_WAIT, &w);
}

uint32_t fv_module_self(void)
{
	return self.number;
}

void fv_module_wake(uint32_t waiter)
{
	struct fastwake_ioc_wake w = { .size = sizeof(w), .waiter = waiter };

	(void)call(FASTWAKE_IOC_WAKE, &w);
}

/* In a child of fork: the domain is the parent's, and so are its waiters. */
void fv_module_forget(void)
{
	if (module.fd >= 0)
		close(module.fd);
	module.fd = -1;
	module.state = UNKNOWN;
	generation++;
	pthread_mutex_init(&lock, NULL);
}
