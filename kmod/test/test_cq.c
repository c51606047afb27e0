// SPDX-License-Identifier: PostgreSQL
/*
 * test_cq.c - completion queues as ends of a WAIT: each promise of
 * uapi/fastwake.h about them once, every errno, every way to undo.
 *
 * As root, with a device of rxe named rxe0 on d0, the module loaded with
 * max_regions=64, and fastwake_ib.  "test_cq absent": without fastwake_ib.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fwk_cq.h"
#include "tap.h"

#define ARM	  FASTWAKE_CQ_ARM
#define NONE	  FASTWAKE_BUDGET_NONE
#define LIMIT	  (60 * FWK_SECOND) /* which no wait reaches that is woken */
#define CQS_OF(i) (1 << (i))

static int fd;
static struct ibv_context *verbs;
static struct ibv_pd *pd;
static struct loop loop;
static int cq; /* the number of loop.cq */
static uint32_t region;
static volatile uint64_t *words; /* the region */
static const volatile uint32_t *where;

static uint64_t counter(size_t offset)
{
	static const char *cores;
	struct fastwake_ioc_query q;
	uint64_t sum = 0;
	uint32_t i;

	fwk_query(fd, &q);
	if (cores == NULL)
		cores = mmap(NULL, q.out_cores * q.out_core_stride, PROT_READ,
			     MAP_SHARED, fd, FASTWAKE_MMAP_CORES);
	for (i = 0; i < q.out_cores; i++)
		sum += *(const volatile uint64_t
				 *)(const void *)(cores +
						  i * q.out_core_stride +
						  offset);
	return sum;
}

static void open_all(void)
{
	int rc;

	fd = fwk_open();
	verbs = loop_open_device();
	if (fd < 0 || verbs == NULL)
		tap_bail("no " FWK_DEVICE ", or no RDMA device");
	pd = ibv_alloc_pd(verbs);
	if (pd == NULL || loop_make(&loop, pd) != 0)
		tap_bail("no queue pairs");
	words = fwk_map_shared(FWK_PAGE);
	rc = fwk_pin(fd, (void *)(uintptr_t)words, FWK_PAGE);
	where = mmap(NULL, FWK_PAGE, PROT_READ, MAP_SHARED, fd,
		     FASTWAKE_MMAP_WAITERS);
	if (rc < 0 || fwk_register(fd, 0) != 0 || where == MAP_FAILED)
		tap_bail("no waiter");
	region = (uint32_t)rc;
}

/* ---- attaching ---- */

static void test_absent(void)
{
	struct fastwake_ioc_attach_cq out;

	tap_is(fwk_attach_raw(fd, ibv_get_device_index(verbs->device), 0,
			      verbs->cmd_fd, loop.cq->handle, &out),
	       -ENOPKG, "ATTACH_CQ without fastwake_ib: ENOPKG");
}

static void test_attach_errors(void)
{
	int device = ibv_get_device_index(verbs->device);
	int cmd = verbs->cmd_fd, null = open("/dev/null", O_RDONLY);
	uint32_t handle = loop.cq->handle, cqn = 0;
	struct fastwake_ioc_attach_cq out;

	tap_is(fwk_find_cqn(fd, loop.cq, &cqn, &out), 0, "ATTACH_CQ");
	tap_is(out.out_flags, FASTWAKE_CQ_CAN_ARM, "WAIT can arm it");
	cq = (int)out.out_cq;
	tap_is(fwk_attach_raw(fd, device, cqn, cmd, handle, &out), -EBUSY,
	       "ATTACH_CQ again: EBUSY");
	tap_is(fwk_detach(fd, (uint32_t)cq), 0, "DETACH_CQ");
	tap_is(fwk_detach(fd, (uint32_t)cq), -ENOENT, "DETACH_CQ: ENOENT");
	tap_is(fwk_attach_raw(fd, 9999, cqn, cmd, handle, &out), -ENODEV,
	       "other device: ENODEV");
	tap_is(fwk_attach_raw(fd, device, FWK_CQN_MAX, cmd, handle, &out),
	       -ENOENT, "no such number: ENOENT");
	tap_is(fwk_attach_raw(fd, device, cqn, -1, handle, &out), -EBADF,
	       "no descriptor: EBADF");
	tap_is(fwk_attach_raw(fd, device, cqn, null, handle, &out), -EINVAL,
	       "a device that is not verbs': EINVAL");
	tap_is(fwk_attach_raw(fd, device, cqn, loop.channel->fd, handle, &out),
	       -EINVAL, "a completion channel: EINVAL");
	tap_is(fwk_attach_raw(fd, device, cqn, verbs->async_fd, handle, &out),
	       -EINVAL, "an asynchronous one: EINVAL");
	tap_is(fwk_attach_raw(fd, device, cqn, cmd, loop.sends->handle, &out),
	       -EPERM, "other handle: EPERM");
	close(null);
	cq = fwk_attach(fd, loop.cq);
	tap_ok(cq > 0, "ATTACH_CQ once more");
}

/* Every number that is in use but ours: the kernel's own, other processes'. */
static void test_others(void)
{
	int device = ibv_get_device_index(verbs->device), other = 0, taken = 0;
	struct ibv_context *second = loop_open_device();
	struct ibv_cq *foreign = ibv_create_cq(second, 4, NULL, NULL, 0);
	struct fastwake_ioc_attach_cq out;
	uint32_t cqn;
	int rc;

	for (cqn = 0; cqn < 10000; cqn++) {
		rc = fwk_attach_raw(fd, device, cqn, verbs->cmd_fd,
				    foreign->handle + 1000, &out);
		other += rc == -EPERM;
		taken += rc >= 0;
	}
	tap_ok(other >= 4 && taken == 0,
	       "none of %d queues is had without its handle: EPERM", other);
	cqn = 0;
	tap_is(fwk_find_cqn(fd, foreign, &cqn, &out), 0,
	       "another context's, with it");
	fwk_detach(fd, out.out_cq);
	tap_is(fwk_attach_raw(fd, device, cqn, verbs->cmd_fd, foreign->handle,
			      &out),
	       -EPERM, "with ours and its handle: EPERM");
	ibv_destroy_cq(foreign);
	ibv_close_device(second);
}

static void test_other_domain(void)
{
	int domain = fwk_open();

	tap_is(fwk_attach(domain, loop.cq), -EBUSY,
	       "attached to another domain: EBUSY");
	close(domain);
}

static void test_full(void)
{
	struct ibv_cq *cqs[64];
	int i, rc = 0, domain = fwk_open();
	uint32_t cqn = 0;
	struct fastwake_ioc_attach_cq out;

	for (i = 0; i < 64; i++) {
		cqs[i] = ibv_create_cq(verbs, 4, NULL, NULL, 0);
		rc |= fwk_find_cqn(domain, cqs[i], &cqn, &out);
	}
	tap_is(rc, 0, "64 queues");
	fwk_detach(fd, (uint32_t)cq);
	cqn = 0;
	tap_is(fwk_find_cqn(domain, loop.cq, &cqn, &out), -ENOSPC,
	       "one more: ENOSPC");
	ibv_destroy_cq(cqs[5]);
	cqn = 0;
	tap_is(fwk_find_cqn(domain, loop.cq, &cqn, &out), 0,
	       "the place of one that was destroyed");
	close(domain);
	for (i = 0; i < 64; i++)
		if (i != 5)
			ibv_destroy_cq(cqs[i]);
	cq = fwk_attach(fd, loop.cq);
	tap_ok(cq > 0, "free again when the domain is gone");
}

static void test_watch_errors(void)
{
	struct fastwake_ioc_watch good = fwk_watch_cq(cq, ARM), bad,
				  pair[2] = { good, good },
				  word = fwk_watch(region, 0, FASTWAKE_COND_NE,
						   0);

#define BAD(field, v, want)                                            \
	do {                                                           \
		bad = good;                                            \
		bad.field = v;                                         \
		tap_is(fwk_sleep(fd, 0, &bad, 1, FWK_MS), want,        \
		       "WAIT for a queue: " #field " " #v ": " #want); \
	} while (0)
	BAD(region, 12345, -ENOENT);
	BAD(word_size, 8, -EINVAL);
	BAD(offset, 8, -EINVAL);
	BAD(mask, 1, -EINVAL);
	BAD(operand, 4, -EOPNOTSUPP);
	tap_is(fwk_sleep(fd, 0, pair, 2, FWK_MS), -EINVAL, "twice: EINVAL");
	pair[1] = word;
	tap_is(fwk_sleep(fd, 0, pair, 2, FWK_MS), -EINVAL,
	       "a word after it: EINVAL");
	tap_is(fwk_sleep(fd, 0, &good, 1, FWK_MS), -ETIME, "budget: ETIME");
	loop_events(&loop);
}

/* ---- a thread in WAIT ---- */

struct helper {
	pthread_t thread;
	uint32_t id;
	bool spins; /* without FASTWAKE_WAIT_SLEEP */
	uint32_t n;
	struct fastwake_ioc_watch watches[2];
	volatile int result;
	volatile int done;
};

static void *helper_main(void *arg)
{
	struct helper *h = arg;

	fwk_register(fd, h->id);
	do {
		h->result =
			h->spins ? fwk_wait(fd, h->id, h->watches, h->n,
					    FWK_SECOND, 0)
				 : fwk_sleep(fd, h->id, h->watches, h->n, NONE);
	} while (h->spins && h->result == -ETIME);
	h->done = 1;
	fwk_unregister(fd, h->id);
	return NULL;
}

static void helper_start(struct helper *h, uint64_t how)
{
	h->watches[h->n++] = fwk_watch_cq(cq, how);
	h->done = 0;
	pthread_create(&h->thread, NULL, helper_main, h);
	if (!eventually(where[h->id] != 0))
		tap_bail("the thread does not wait");
	/* From the announcement to the links and the arming. */
	if (!h->spins)
		usleep(1000);
}

static int helper_end(struct helper *h)
{
	if (!eventually(h->done))
		tap_bail("a wake-up was lost");
	pthread_join(h->thread, NULL);
	return h->result;
}

/* What a WAIT that took the event of its only watch returns. */
static bool took(int result)
{
	return result >= 0 && FASTWAKE_WAIT_INDEX(result) == 0 &&
	       FASTWAKE_WAIT_CQS(result) == CQS_OF(0);
}

static void test_event(void)
{
	size_t offset = offsetof(struct fastwake_core, events);
	uint64_t before = counter(offset);
	struct helper h = { .id = 1 };

	helper_start(&h, ARM);
	tap_is(where[1], FASTWAKE_UNSCANNED, "asleep, it is not looked at");
	tap_is(loop_send(&loop, 0), 0, "a completion");
	tap_ok(took(helper_end(&h)), "its event ends the WAIT (%#x)", h.result);
	tap_ok(h.result & FASTWAKE_WAIT_SLEPT, "which had slept");
	tap_is(loop_events(&loop), 0, "and does not reach the channel");
	tap_is(loop_drain(&loop), 1, "the completion is there");
	tap_is(counter(offset), before + 1, "it was counted");
	h = (struct helper){ .id = 1, .spins = true };
	helper_start(&h, ARM);
	loop_send(&loop, 0);
	tap_ok(helper_end(&h) >= 0 && FASTWAKE_WAIT_INDEX(h.result) == 0,
	       "a WAIT that spins as well");
	loop_drain(&loop);
	loop_events(&loop);
}

static void *send_when_asleep(void *arg)
{
	(void)arg;
	eventually(where[0] == FASTWAKE_UNSCANNED);
	usleep(1000);
	loop_send(&loop, 0);
	return NULL;
}

static void test_missed(void)
{
	struct fastwake_ioc_watch w = fwk_watch_cq(cq, ARM);

	loop_send(&loop, 0);
	tap_is(fwk_sleep(fd, 0, &w, 1, LIMIT), 0,
	       "a completion that was there ends the WAIT at once");
	tap_is(loop_drain(&loop), 1, "it is polled");
	loop_send(&loop, 0);
	tap_ok(eventually(loop_events(&loop) == 1),
	       "the event that was asked for reaches the channel");
	loop_drain(&loop);
}

/* A WAIT that tells on which core its event came. */
static struct fastwake_ioc_wait
wait_for_core(const struct fastwake_ioc_watch *w, uint64_t budget_ns)
{
	struct fastwake_ioc_wait arg = { .size = sizeof(arg),
					 .flags = FASTWAKE_WAIT_SLEEP |
						  FASTWAKE_WAIT_CORE,
					 .nr_watches = 1,
					 .watches = (uintptr_t)w,
					 .budget_ns = budget_ns,
					 .wake = FASTWAKE_WAITER_NONE };

	return arg;
}

static void test_core(void)
{
	struct fastwake_ioc_watch w = fwk_watch_cq(cq, 0);
	struct fastwake_ioc_wait arg = wait_for_core(&w, FWK_MS);
	pthread_t thread;
	int rc;

	tap_is(fwk_ioctl(fd, FASTWAKE_IOC_WAIT, &arg), -ETIME, "no event");
	tap_is(arg.out_core, 0, "on no core");
	arg.budget_ns = FASTWAKE_BUDGET_NONE;
	ibv_req_notify_cq(loop.cq, 0);
	pthread_create(&thread, NULL, send_when_asleep, NULL);
	rc = fwk_ioctl(fd, FASTWAKE_IOC_WAIT, &arg);
	pthread_join(thread, NULL);
	tap_ok(took(rc), "an event (%#x)", rc);
	tap_ok(arg.out_core >= 1 &&
		       arg.out_core <= (uint32_t)sysconf(_SC_NPROCESSORS_CONF),
	       "on core %u", arg.out_core - 1);
	loop_drain(&loop);
	arg.out_core = 1;
	tap_is(fwk_ioctl(fd, FASTWAKE_IOC_WAIT, &arg), -EOPNOTSUPP,
	       "which is for the module to say");
}

static cpu_set_t only(int core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)core, &set);
	return set;
}

/* Sends to a WAIT on core HERE, from core FROM; returns where the event came. */
static int event_at(int here, int from)
{
	struct fastwake_ioc_watch w = fwk_watch_cq(cq, ARM);
	struct fastwake_ioc_wait arg = wait_for_core(&w, LIMIT);
	cpu_set_t waiter = only(here), sender = only(from);
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	sched_setaffinity(0, sizeof(waiter), &waiter);
	pthread_attr_init(&attr);
	pthread_attr_setaffinity_np(&attr, sizeof(sender), &sender);
	pthread_create(&thread, &attr, send_when_asleep, NULL);
	rc = fwk_ioctl(fd, FASTWAKE_IOC_WAIT, &arg);
	pthread_join(thread, NULL);
	pthread_attr_destroy(&attr);
	loop_drain(&loop);
	return took(rc) ? (int)arg.out_core - 1 : -1;
}

/* The driver chooses the core of an event: by the sender's, the waiter's, or else. */
static void test_moves(void)
{
	uint64_t moves;
	cpu_set_t before;
	int i, core = 0;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		tap_skip(2, "one processor");
		return;
	}
	sched_getaffinity(0, sizeof(before), &before);
	for (i = 0; i < 200; i++) {
		core = event_at(i & 1, i >> 1 & 1);
		if (core == !(i & 1))
			break;
	}
	tap_ok(i < 200, "an event on the other core (%d)", core);
	moves = counter(offsetof(struct fastwake_core, moves));
	event_at(core, core);
	tap_is(counter(offsetof(struct fastwake_core, moves)), moves + 1,
	       "the thread that goes there is counted");
	sched_setaffinity(0, sizeof(before), &before);
}

/* Parked: the event that WAIT asked for comes on the channel. */
static void test_channel(void)
{
	struct fastwake_ioc_watch w = fwk_watch_cq(cq, ARM);

	tap_is(fwk_sleep(fd, 0, &w, 1, FWK_MS), -ETIME, "parked");
	loop_send(&loop, 0);
	tap_ok(eventually(loop_events(&loop) == 1), "then the channel has it");
	loop_drain(&loop);
	ibv_req_notify_cq(loop.cq, 0);
	loop_send(&loop, 0);
	tap_ok(eventually(loop_events(&loop) == 1),
	       "the channel works while attached");
	loop_drain(&loop);
}

static void test_armed_by_caller(void)
{
	struct helper h = { .id = 1 };

	ibv_req_notify_cq(loop.cq, 0);
	helper_start(&h, 0);
	loop_send(&loop, 0);
	tap_ok(took(helper_end(&h)), "an event that the caller asked for");
	loop_drain(&loop);
}

static void test_solicited(void)
{
	struct helper h = { .id = 1 };

	helper_start(&h, ARM | FASTWAKE_CQ_SOLICITED);
	loop_send(&loop, 0);
	usleep(20000);
	tap_is(h.done, 0, "a completion that is not solicited wakes nobody");
	loop_send(&loop, 1);
	tap_ok(took(helper_end(&h)), "one that is ends the WAIT");
	tap_is(loop_drain(&loop), 2, "both are there");
}

static void test_words(void)
{
	struct fastwake_ioc_watch w[2] = {
		fwk_watch(region, 0, FASTWAKE_COND_NE, 0), fwk_watch_cq(cq, ARM)
	};
	struct helper h = { .id = 1, .n = 1 };

	words[0] = 1;
	tap_is(fwk_sleep(fd, 0, w, 2, LIMIT), 0, "a word that holds already");
	words[0] = 0;
	h.watches[0] = w[0];
	helper_start(&h, ARM);
	words[0] = 1;
	usleep(20000);
	tap_is(h.done, 0, "no scanner looks at one that holds later");
	tap_is(fwk_wake(fd, 1), 1, "WAKE finds the waiter");
	tap_is(FASTWAKE_WAIT_INDEX(helper_end(&h)), 0, "which looks");
	words[0] = 0;
	h = (struct helper){ .id = 1, .n = 1 };
	h.watches[0] = w[0];
	helper_start(&h, ARM);
	loop_send(&loop, 0);
	tap_ok(helper_end(&h) >= 0 && FASTWAKE_WAIT_INDEX(h.result) == 1 &&
		       FASTWAKE_WAIT_CQS(h.result) == CQS_OF(1),
	       "watches of queues are numbered after those of words");
	loop_drain(&loop);
	h = (struct helper){ .id = 1 };
	helper_start(&h, ARM);
	tap_is(fwk_wake(fd, 1), 1, "WAKE");
	tap_is(FASTWAKE_WAIT_INDEX(helper_end(&h)), 1, "and nothing holds");
	loop_send(&loop, 0);
	eventually(loop_events(&loop) == 1);
	loop_drain(&loop);
}

static void test_two_waiters(void)
{
	struct helper a = { .id = 1 }, b = { .id = 2 };
	int n;

	helper_start(&a, ARM);
	helper_start(&b, ARM);
	loop_send(&loop, 0);
	tap_ok(eventually(a.done || b.done), "an event ends a WAIT of two");
	usleep(20000);
	tap_is(a.done + b.done, 1, "and only one");
	loop_drain(&loop);
	ibv_req_notify_cq(loop.cq, 0);
	loop_send(&loop, 0);
	n = took(helper_end(&a)) + took(helper_end(&b));
	tap_is(n, 2, "the next event ends the other");
	loop_drain(&loop);
	tap_is(loop_events(&loop), 0, "the channel got none");
}

static void on_signal(int sig)
{
	(void)sig;
}

static void test_signal(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct helper h = { .id = 1 };

	sigaction(SIGUSR1, &action, NULL);
	helper_start(&h, ARM);
	pthread_kill(h.thread, SIGUSR1);
	tap_is(helper_end(&h), -EINTR, "a handler ends the WAIT: EINTR");
	loop_send(&loop, 0);
	eventually(loop_events(&loop) == 1);
	loop_drain(&loop);
}

/* ---- ends ---- */

static void test_detach_in_wait(void)
{
	struct helper h = { .id = 1 };

	helper_start(&h, ARM);
	tap_is(fwk_detach(fd, (uint32_t)cq), 0, "DETACH_CQ during a WAIT");
	tap_is(helper_end(&h), -ESTALE, "ends it: ESTALE");
	loop_send(&loop, 0);
	tap_ok(eventually(loop_events(&loop) == 1),
	       "events go to the channel again");
	loop_drain(&loop);
	cq = fwk_attach(fd, loop.cq);
	tap_ok(cq > 0, "attach again");
}

static void test_domain_closed(void)
{
	int domain = fwk_open();

	fwk_detach(fd, (uint32_t)cq);
	tap_ok(fwk_attach(domain, loop.cq) > 0, "attached to another domain");
	close(domain);
	ibv_req_notify_cq(loop.cq, 0);
	loop_send(&loop, 0);
	tap_ok(eventually(loop_events(&loop) == 1),
	       "that is closed: events go to the channel");
	loop_drain(&loop);
	cq = fwk_attach(fd, loop.cq);
	tap_ok(cq > 0, "attach again");
}

/* Memory is soon used again: an attachment must not be taken for another's. */
static void test_destroyed(void)
{
	struct ibv_cq *own[50];
	struct fastwake_ioc_watch w;
	int i, first = 0, stale = 0, good = 0, numbers[50];

	for (i = 0; i < 50; i++) {
		own[i] = ibv_create_cq(verbs, 4, NULL, NULL, 0);
		numbers[i] = fwk_attach(fd, own[i]);
		first += numbers[i] > 0;
		if (ibv_destroy_cq(own[i]) != 0)
			tap_bail("destroyed it cannot be");
	}
	tap_is(first, 50,
	       "queues are destroyed while attached, others take "
	       "their place");
	for (i = 0; i < 50; i++) {
		w = fwk_watch_cq(numbers[i], ARM);
		stale += fwk_sleep(fd, 0, &w, 1, LIMIT) == -ESTALE;
		good += fwk_detach(fd, (uint32_t)numbers[i]) == 0;
	}
	tap_is(stale, 50, "WAIT for one that is gone: ESTALE");
	tap_is(good, 50, "its number is given back");
}

static void test_destroyed_in_wait(void)
{
	struct ibv_cq *own = ibv_create_cq(verbs, 4, NULL, NULL, 0);
	struct helper h = { .id = 1 };
	int keep = cq;

	cq = fwk_attach(fd, own);
	helper_start(&h, ARM);
	tap_is(ibv_destroy_cq(own), 0, "destroyed during a WAIT");
	eventually(fwk_wake(fd, 1) == 1);
	tap_is(FASTWAKE_WAIT_INDEX(helper_end(&h)), 1, "WAKE ends that");
	fwk_detach(fd, (uint32_t)cq);
	cq = keep;
}

static void victim(void)
{
	struct loop own;
	struct fastwake_ioc_watch w;
	struct ibv_context *context = loop_open_device();

	if (context == NULL || loop_make(&own, ibv_alloc_pd(context)) != 0 ||
	    fwk_register(fd, 3) != 3)
		_exit(1);
	w = fwk_watch_cq(fwk_attach(fd, own.cq), ARM);
	_exit(fwk_sleep(fd, 3, &w, 1, NONE) < 0 ? 2 : 3);
}

static void test_killed(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		victim();
	tap_ok(eventually(where[3] == FASTWAKE_UNSCANNED),
	       "a process waits for its queue");
	kill(pid, SIGKILL);
	tap_is(waitpid(pid, &status, 0), pid, "and is killed");
	tap_ok(WIFSIGNALED(status), "by the signal");
	tap_is(fwk_wake(fd, 3), -ENOENT, "it is no waiter any more");
}

static void test_unload(void)
{
	tap_ok(syscall(SYS_delete_module, "fastwake_ib", O_NONBLOCK) == -1 &&
		       errno == EWOULDBLOCK,
	       "fastwake_ib cannot be unloaded while a queue is attached");
}

/* The device goes only when those who have it open close it. */
static void test_device_removed(void)
{
	struct fastwake_ioc_watch w = fwk_watch_cq(cq, ARM);
	struct helper h = { .id = 1 };
	int status = -1;
	pid_t pid;

	helper_start(&h, ARM);
	pid = fork();
	if (pid == 0) {
		close(verbs->cmd_fd);
		execlp("rdma", "rdma", "link", "delete", "rxe0", NULL);
		_exit(127);
	}
	tap_is(helper_end(&h), -ESTALE,
	       "\"rdma link delete\" ends the WAIT: ESTALE");
	tap_is(fwk_sleep(fd, 0, &w, 1, LIMIT), -ESTALE, "and the next");
	tap_is(fwk_attach(fd, loop.cq), -ENODEV, "ATTACH_CQ: ENODEV");
	ibv_req_notify_cq(loop.cq, 0);
	loop_send(&loop, 0);
	tap_ok(eventually(loop_events(&loop) == 1),
	       "the channel goes on to work");
	loop_drain(&loop);
	loop_free(&loop);
	ibv_dealloc_pd(pd);
	ibv_close_device(verbs);
	waitpid(pid, &status, 0);
	tap_is(status, 0, "the device is gone");
	tap_is(fwk_detach(fd, (uint32_t)cq), 0, "the number is given back");
	tap_is(system("rdma link add rxe0 type rxe netdev d0"), 0,
	       "and comes back");
}

int main(int argc, char **argv)
{
	tap_begin();
	open_all();
	if (argc > 1 && strcmp(argv[1], "absent") == 0) {
		test_absent();
		return tap_done();
	}
	test_attach_errors();
	test_others();
	test_other_domain();
	test_full();
	test_watch_errors();
	test_event();
	test_missed();
	test_core();
	test_moves();
	test_channel();
	test_armed_by_caller();
	test_solicited();
	test_words();
	test_two_waiters();
	test_signal();
	test_detach_in_wait();
	test_domain_closed();
	test_destroyed();
	test_destroyed_in_wait();
	test_killed();
	test_unload();
	test_device_removed();
	return tap_done();
}
