// SPDX-License-Identifier: PostgreSQL
/*
 * test_race_cq.c - events, attaching, detaching, destroying and waiting at the same
 * time, for ten seconds or as many as the argument says: no event is lost, nothing
 * breaks.
 *
 * One thread sends, another waits for each message, without end; a third detaches
 * the queue and attaches it again.  Beside them, in a domain of their own, queues are
 * made, attached, waited for by a fifth thread, and destroyed.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "fwk_cq.h"
#include "tap.h"

#define PATIENCE (30 * FWK_SECOND) /* then a wake-up is lost */

static int fd, churn_fd;
static struct ibv_context *verbs;
static struct loop loop;
static volatile int number, churned; /* of the queues in the domain */
static uint64_t received, stales, attached, destroyed, churn_waits;
static volatile bool over;
static const char *volatile failure; /* what a thread could not do */

static uint32_t random_below(uint64_t *state, uint32_t limit)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 33) % limit;
}

static uint64_t count_of(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_ACQUIRE);
}

static void *fail(const char *what)
{
	failure = what;
	return NULL;
}

static void count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELEASE);
}

/* Waits without end: nothing but the event, or the queue's end, wakes it. */
static void *consume(void *arg)
{
	uint64_t state = 88172645463325252ull;
	struct fastwake_ioc_watch w;
	int rc;

	(void)arg;
	fwk_register(fd, 0);
	while (!over) {
		if (loop_drain(&loop) > 0) {
			count(&received);
			continue;
		}
		w = fwk_watch_cq(number, FASTWAKE_CQ_ARM);
		rc = random_below(&state, 4) == 0
			     ? fwk_wait(fd, 0, &w, 1, FWK_MS, 0)
			     : fwk_sleep(fd, 0, &w, 1, FASTWAKE_BUDGET_NONE);
		if (rc == -ESTALE || rc == -ENOENT) {
			count(&stales);
			sched_yield();
		} else if (rc < 0 && rc != -ETIME) {
			return fail("wait");
		}
	}
	return NULL;
}

static void *toggle(void *arg)
{
	uint64_t state = 1234567890123ull;
	struct fastwake_ioc_attach_cq out;
	uint32_t cqn = 0;

	(void)arg;
	while (!over) {
		if (fwk_find_cqn(fd, loop.cq, &cqn, &out) != 0)
			return fail("attach");
		number = (int)out.out_cq;
		count(&attached);
		usleep(random_below(&state, 3000));
		if (fwk_detach(fd, out.out_cq) != 0)
			return fail("detach");
		loop_events(&loop);
	}
	return NULL;
}

static void *churn(void *arg)
{
	uint64_t state = 998877665544ull;
	struct fastwake_ioc_attach_cq out;
	struct ibv_cq *cq;
	uint32_t cqn = 0;
	bool first;

	(void)arg;
	while (!over) {
		cq = ibv_create_cq(verbs, 4, NULL, NULL, 0);
		if (cq == NULL || fwk_find_cqn(churn_fd, cq, &cqn, &out) != 0)
			return fail("attach a new one");
		churned = (int)out.out_cq;
		usleep(random_below(&state, 500));
		first = random_below(&state, 2) == 0;
		if (first && fwk_detach(churn_fd, out.out_cq) != 0)
			return fail("detach, then destroy");
		if (ibv_destroy_cq(cq) != 0)
			return fail("destroy");
		if (!first && fwk_detach(churn_fd, out.out_cq) != 0)
			return fail("detach what was destroyed");
		count(&destroyed);
	}
	return NULL;
}

static void *wait_for_churned(void *arg)
{
	struct fastwake_ioc_watch w;
	int rc;

	(void)arg;
	fwk_register(churn_fd, 0);
	while (!over) {
		w = fwk_watch_cq(churned, FASTWAKE_CQ_ARM);
		rc = fwk_sleep(churn_fd, 0, &w, 1, 100000);
		if (rc != -ETIME && rc != -ESTALE && rc != -ENOENT)
			return fail("wait for what comes and goes");
		count(&churn_waits);
		sched_yield();
	}
	return NULL;
}

/* False if what was sent is never received. */
static bool send_one(uint64_t *sent)
{
	uint64_t end = fwk_now() + PATIENCE;

	if (loop_send(&loop, 0) != 0)
		return false;
	++*sent;
	while (count_of(&received) < *sent && fwk_now() < end)
		sched_yield();
	return count_of(&received) == *sent;
}

static void run(uint64_t seconds)
{
	void *(*const mains[])(void *) = { consume, toggle, churn,
					   wait_for_churned };
	uint64_t sent = 0, end = fwk_now() + seconds * FWK_SECOND;
	pthread_t threads[4];
	bool good = true;
	int i;

	for (i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, mains[i], NULL);
	while (good && fwk_now() < end)
		good = send_one(&sent);
	tap_ok(good, "%llu messages, each received", (unsigned long long)sent);
	over = true;
	loop_send(&loop, 0); /* for a wait that began just now */
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

int main(int argc, char **argv)
{
	struct ibv_pd *pd;

	tap_begin();
	fd = fwk_open();
	churn_fd = fwk_open();
	verbs = loop_open_device();
	if (fd < 0 || verbs == NULL)
		tap_bail("no " FWK_DEVICE ", or no RDMA device");
	pd = ibv_alloc_pd(verbs);
	if (pd == NULL || loop_make(&loop, pd) != 0)
		tap_bail("no queue pairs");
	run(argc > 1 ? strtoull(argv[1], NULL, 10) : 10);
	tap_ok(failure == NULL, "no thread has failed%s%s",
	       failure != NULL ? ": " : "", failure != NULL ? failure : "");
	tap_ok(attached > 10, "attached %llu times",
	       (unsigned long long)attached);
	tap_ok(stales > 0, "waits met its end %llu times",
	       (unsigned long long)stales);
	tap_ok(destroyed > 10, "%llu queues made and destroyed",
	       (unsigned long long)destroyed);
	tap_ok(churn_waits > 10, "%llu waits for them",
	       (unsigned long long)churn_waits);
	loop_free(&loop);
	return tap_done();
}
