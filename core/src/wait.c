// SPDX-License-Identifier: PostgreSQL
/*
 * wait.c - the waiter's half: look, poll, sleep.
 *
 * A waiter can be woken through its slot (fastwake_wake(), waiter.c) and
 * through the doorbells of its watches (fastwake_doorbell_ring(), whose proof
 * is in doorbell.c).  Why no wake through the slot is lost:
 *
 *	waiter (here)                  waker (fw_wake_slot())
 *	-------------                  ----------------------
 *	S1 expected = seq              W1 word = new
 *	S2 state = POLLING                full barrier (A)
 *	   full barrier (B)            W2 read state: IDLE returns 0
 *	S3 look at word and seq        W3 seq += 1
 *	   ... polls ...                  full barrier (C)
 *	S4 state = SLEEPING            W4 read state: FUTEX_WAKE if SLEEPING
 *	   full barrier (B)            W5 returns 1
 *	S5 look at word and seq
 *	S6 FUTEX_WAIT(seq == expected)
 *	S7 state = IDLE
 *	   full barrier (D)
 *	S8 look at word
 *
 * Each pair of barriers forbids that both sides read the old value:
 *
 * 1. A with B.  The waker misses the publication, the waiter misses the word:
 *
 *	                               W1 word = new
 *	                               W2 state is IDLE: returns 0
 *	S2 state = POLLING
 *	S3 word is old: would wait
 *
 *    W2 before S2 implies W1 before S3: S3 sees the word.  (Or W2 sees
 *    POLLING, and the waker goes on to W3.)
 *
 * 2. C with B.  The waker takes a waiter for polling that goes to sleep:
 *
 *	S2 state = POLLING
 *	                               W2 state is POLLING
 *	S4 state = SLEEPING
 *	S5 seq is as expected          W3 seq += 1
 *	S6 sleeps                      W4 state is POLLING: no FUTEX_WAKE
 *
 *    W4 before S4 implies W3 before S5: S5 sees seq bumped and does not
 *    sleep.  If W4 sees SLEEPING, the kernel compares seq with expected under
 *    the lock that FUTEX_WAKE takes: the waiter is queued and found, or gets
 *    EAGAIN.
 *
 * 3. A with D.  The waker is told 1 by a waiter that is leaving:
 *
 *	                               W1 word = new
 *	                               W2 state is SLEEPING
 *	S7 state = IDLE
 *	S8 word is old: -ETIMEDOUT
 *	                               W5 returns 1
 *
 *    W2 before S7 implies W1 before S8, and before anything the caller looks
 *    at after that.  So callers look at their condition after every return,
 *    errors too, and then it is true that this wake-up was seen.
 *
 * S1 comes before S2 because a wake may be about something that no watch
 * covers: only the difference in seq tells of it then, so no waker who saw the
 * waiter published may have bumped seq before S1 read it.
 *
 * A signal handler of the waiting thread may be the waker.  Between S5 and the
 * sleep it changes seq, and S6 gets EAGAIN; before, S5 sees it; while the
 * thread sleeps, S6 ends with EINTR or, resumed, compares again.
 *
 * With the kernel module a wait goes through FW_IN_MODULE first, in place of
 * POLLING (module.c), and then, if its budget there is used up, to S4: C with B
 * as above, since S5 looks at seq after the state has left FW_IN_MODULE.
 *
 * When POLLING is left out, S4 and S5 are S2 and S3.  With
 * fastwake_waiter_publish() S1 and S2 come ahead of the wait; the caller's own
 * check is then an S3, and fastwake_waiter_withdraw() is S7.
 *
 * A waiter that dies in here (kill -9) leaves its slot published.  Wakers are
 * told 1 by a process that will not look, which it would not do after any other
 * notification either; fastwake_waiter_attach() takes the slot over.
 */
#include <errno.h>

#include "module.h"

/* Looks between two readings of the clock while polling. */
#define FW_LOOKS_PER_CLOCK 16

struct wait {
	struct fastwake_waiter *waiter;
	const struct fastwake_watch *watches;
	unsigned int n;
	bool queues; /* some watches are of completion queues */
	uint64_t start_ns;
	uint64_t deadline_ns;
	uint64_t later_ns; /* until then it is in no hurry */
	/* Found out while waiting. */
	bool in_module; /* it began there */
	bool slept;
	bool on_interrupt;
	int event_core; /* where one came, or -1 */
	bool on_futex;
	bool rung;
	uint64_t rung_ns;
};

/* The doorbells to sleep on; futex[0] is the slot's, futex[i] is bell[i]'s. */
struct sleepers {
	unsigned int n;
	struct fw_futex futex[FW_FUTEXES_MAX];
	struct fastwake_doorbell *bell[FW_FUTEXES_MAX];
	uint32_t armed_seq[FW_FUTEXES_MAX];
};

static bool any_silent(const struct wait *wait)
{
	unsigned int i;

	for (i = 0; i < wait->n; i++)
		if (wait->watches[i].condition & FASTWAKE_SILENT)
			return true;
	return false;
}

static bool of_queue(const struct fastwake_watch *watch)
{
	return fw_condition(watch) == FASTWAKE_CQ;
}

static bool watch_valid(const struct fastwake_watch *watch)
{
	if (of_queue(watch))
		return watch->word != NULL && watch->size == 0 &&
		       watch->doorbell == NULL;
	if (watch->size != 4 && watch->size != 8)
		return false;
	if (watch->word == NULL || (uintptr_t)watch->word % watch->size != 0 ||
	    (uintptr_t)watch->doorbell % sizeof(uint64_t) != 0)
		return false;
	return fw_condition(watch) < FASTWAKE_GE64 ||
	       (fw_condition(watch) == FASTWAKE_GE64 && watch->size == 8);
}

/* Sets ->queues.  Who sleeps for an interrupt hears no doorbell. */
static bool watches_valid(struct wait *wait)
{
	bool bells = false;
	unsigned int i;

	if (wait->n > FASTWAKE_WATCHES_MAX)
		return false;
	for (i = 0; i < wait->n; i++) {
		if (!watch_valid(&wait->watches[i]))
			return false;
		bells = bells || wait->watches[i].doorbell != NULL;
		wait->queues = wait->queues || of_queue(&wait->watches[i]);
	}
	return !(bells && wait->queues);
}

/*
 * Of a 4-byte word only the low half of the operand counts.  Events are no state
 * to look at: take_event().
 */
static bool watch_holds(const struct fastwake_watch *watch)
{
	uint64_t value, operand = watch->operand;

	if (of_queue(watch))
		return false;
	if (watch->size == 4) {
		value = fw_load_acquire((const volatile uint32_t *)watch->word);
		operand = (uint32_t)operand;
	} else {
		value = fw_load_acquire((const volatile uint64_t *)watch->word);
	}
	switch (fw_condition(watch)) {
	case FASTWAKE_NE:
		return value != operand;
	case FASTWAKE_EQ:
		return value == operand;
	case FASTWAKE_MASK_NE:
		return (value & watch->mask) != operand;
	default:
		return value >= operand;
	}
}

static int look_at_watches(const struct wait *wait)
{
	unsigned int i;

	for (i = 0; i < wait->n; i++)
		if (watch_holds(&wait->watches[i]))
			return (int)i;
	return -EAGAIN;
}

/*
 * A watch whose event has come, which is told once; else -EAGAIN.  Events go before
 * words: those can be looked at again.
 */
static int take_event(const struct wait *wait)
{
	struct fastwake_cq *cq;
	unsigned int i;

	for (i = 0; wait->queues && i < wait->n; i++) {
		if (!of_queue(&wait->watches[i]))
			continue;
		cq = fw_cq_of(&wait->watches[i]);
		if (fw_load(&cq->pending) &&
		    __atomic_exchange_n(&cq->pending, false, __ATOMIC_ACQUIRE))
			return (int)i;
	}
	return -EAGAIN;
}

/* A watch that holds, n if the slot was woken, -EAGAIN for nothing yet. */
static int look(const struct wait *wait)
{
	int rc = look_at_watches(wait);

	if (rc == -EAGAIN &&
	    fw_load_acquire(&wait->waiter->slot->seq) != wait->waiter->seq)
		return (int)wait->n;
	return rc;
}

static void publish(const struct fastwake_waiter *waiter, enum fw_state state)
{
	fw_store(&waiter->slot->owner, fw_owner(waiter->pid, state));
	fw_full_barrier(); /* (B), (D): pair with (A) and (C) of the waker */
}

void fastwake_waiter_publish(struct fastwake_waiter *waiter)
{
	if (waiter->published)
		return; /* and keep seq: it covers more wakes */
	waiter->seq = fw_load_acquire(&waiter->slot->seq);
	waiter->published = true;
	publish(waiter, FW_POLLING);
}

void fastwake_waiter_withdraw(struct fastwake_waiter *waiter)
{
	waiter->published = false;
	publish(waiter, FW_IDLE);
}

static int poll_a_while(struct wait *wait, uint64_t poll_ns)
{
	uint64_t end_ns = wait->start_ns + poll_ns;
	int i, rc;

	if (wait->deadline_ns != 0 && wait->deadline_ns < end_ns)
		end_ns = wait->deadline_ns;
	fastwake_waiter_publish(wait->waiter);
	do {
		for (i = 0; i < FW_LOOKS_PER_CLOCK; i++) {
			rc = look(wait);
			if (rc != -EAGAIN)
				return rc;
			fw_cpu_relax();
		}
	} while (fastwake_now() < end_ns);
	return -EAGAIN;
}

static bool already_in(const struct sleepers *s,
		       const struct fastwake_doorbell *bell)
{
	unsigned int i;

	for (i = 1; i < s->n; i++)
		if (s->bell[i] == bell)
			return true;
	return false;
}

/*
 * Read each doorbell's seq after having armed it: a ring from then on changes
 * it.  The full barrier that follows is publish()'s.
 */
static void arm(const struct wait *wait, struct sleepers *s)
{
	struct fastwake_doorbell *bell;
	unsigned int i;

	s->n = 1;
	s->futex[0].word = &wait->waiter->slot->seq;
	s->futex[0].expected = wait->waiter->seq;
	for (i = 0; i < wait->n; i++) {
		bell = wait->watches[i].doorbell;
		if (bell == NULL || already_in(s, bell))
			continue;
		__atomic_fetch_add(&bell->armed, 1, __ATOMIC_RELAXED);
		s->bell[s->n] = bell;
		s->futex[s->n].word = &bell->seq;
		s->armed_seq[s->n] = fw_load_acquire(&bell->seq);
		s->futex[s->n].expected = s->armed_seq[s->n];
		s->n++;
	}
}

static void disarm(const struct sleepers *s)
{
	unsigned int i;

	for (i = 1; i < s->n; i++)
		__atomic_fetch_sub(&s->bell[i]->armed, 1, __ATOMIC_RELAXED);
}

/* A time from shared memory is used only if it can be true. */
static void note_ring(struct wait *wait, const uint64_t *rung_ns)
{
	uint64_t ns = fw_load(rung_ns);

	wait->rung = true;
	if (ns > wait->start_ns && ns > wait->rung_ns)
		wait->rung_ns = ns;
}

static void note_rings(struct wait *wait, const struct sleepers *s)
{
	unsigned int i;

	for (i = 1; i < s->n; i++)
		if (fw_load_acquire(&s->bell[i]->seq) != s->armed_seq[i])
			note_ring(wait, &s->bell[i]->rung_ns);
}

/*
 * A doorbell was rung and no watch holds: expect its new seq, look again and
 * go on sleeping.  The look follows the load, which acquires what the ring
 * released.  Here the deadline has to be checked: a peer that rings without end
 * keeps the kernel from ever looking at it.
 */
static int again(const struct wait *wait, struct sleepers *s)
{
	unsigned int i;

	for (i = 1; i < s->n; i++)
		s->futex[i].expected = fw_load_acquire(&s->bell[i]->seq);
	if (wait->deadline_ns != 0 && fastwake_now() >= wait->deadline_ns)
		return -ETIMEDOUT;
	return look(wait);
}

static int sleep_armed(struct wait *wait, struct sleepers *s)
{
	int rc, found = look(wait);

	while (found == -EAGAIN) {
		rc = fw_futex_wait(s->futex, s->n, wait->deadline_ns);
		if (rc != -EAGAIN)
			wait->slept = wait->on_futex = true;
		if (rc == 0 || rc == -EAGAIN)
			found = again(wait, s);
		else
			found = rc == -ETIMEDOUT ? rc : -EINTR;
	}
	return found;
}

static int sleep_on_doorbells(struct wait *wait)
{
	struct sleepers s;
	int rc;

	arm(wait, &s);
	publish(wait->waiter, FW_SLEEPING);
	rc = sleep_armed(wait, &s);
	note_rings(wait, &s);
	disarm(&s);
	return rc;
}

/*
 * Until LATER_NS (0: never) wakers leave it to the module's scanners to find seq
 * bumped, and call WAKE afterwards:
 *
 *	waiter                         waker (fw_wake_slot())
 *	D1 later_ns = this wait's      W3 seq += 1
 *	D2 state = IN_MODULE              full barrier (C)
 *	   full barrier (B)            W4 read state, acquire
 *	D3 WAIT looks at seq, and      W5 read later_ns: in the future? done
 *	   scanners after it
 *
 * If W4 reads this wait's D2, W5 reads this wait's D1, and what W3 bumped is seen by
 * D3, whichever comes first.  If W4 reads an earlier wait's, W3 comes before all
 * looks that follow in this one, and a later_ns of either does no harm.
 */
static void allow_delay(struct fastwake_waiter *waiter, uint64_t later_ns)
{
	if (fw_load(&waiter->slot->later_ns) != later_ns)
		fw_store(&waiter->slot->later_ns, later_ns);
}

void fastwake_waiter_no_hurry(struct fastwake_waiter *waiter, uint64_t until_ns)
{
	const struct fw_module *module = waiter->domain->module;

	waiter->later_ns = module != NULL && module->knows_later ? until_ns : 0;
}

/* -EAGAIN: not found there, or not there at all. */
static int wait_in_module(struct wait *wait, uint64_t budget_ns)
{
	struct fastwake_waiter *waiter = wait->waiter;
	uint64_t end_ns = wait->start_ns + budget_ns;
	int rc;

	if (!fw_module_ready(waiter))
		return -EAGAIN;
	wait->in_module = true;
	if (budget_ns == 0)
		return -EAGAIN;
	allow_delay(waiter, wait->later_ns);
	publish(waiter, FW_IN_MODULE);
	do {
		rc = fw_module_wait(waiter, wait->watches, wait->n, budget_ns,
				    wait->deadline_ns, &wait->slept);
		if (rc != 0)
			return rc == -EOPNOTSUPP ? -EAGAIN : rc;
		rc = look(wait);
	} while (rc == -EAGAIN && fastwake_now() < end_ns);
	return rc;
}

/*
 * Asleep in the module, until an interrupt or a wake-up.  The proof is that of
 * FW_IN_MODULE, and for events source.c's of the module.  -ETIME: not there.
 */
static int sleep_for_interrupt(struct wait *wait)
{
	struct fastwake_waiter *waiter = wait->waiter;
	int rc, core;

	if (!fw_module_ready(waiter))
		return -ETIME;
	allow_delay(waiter, 0);
	publish(waiter, FW_IN_MODULE);
	wait->on_interrupt = true;
	for (;;) {
		rc = take_event(wait);
		if (rc == -EAGAIN)
			rc = look(wait);
		if (rc != -EAGAIN)
			return rc;
		rc = fw_module_sleep(waiter, wait->watches, wait->n,
				     wait->deadline_ns, &wait->slept, &core);
		if (rc < 0)
			return rc == -EOPNOTSUPP ? -ETIME : rc;
		if (core >= 0)
			wait->event_core = core;
	}
}

/* Neither found while polling nor in the module: sleep, and be told. */
static int sleep_told(struct wait *wait, bool silent)
{
	if (wait->queues)
		return sleep_for_interrupt(wait);
	return silent ? -ETIME : sleep_on_doorbells(wait);
}

/*
 * Most often there is nothing to see, but if there is, no barrier need be paid:
 * wakers find the slot idle, and rightly so.
 */
static int look_unpublished(const struct wait *wait)
{
	struct fastwake_waiter *waiter = wait->waiter;

	int rc;

	if (waiter->published)
		return -EAGAIN;
	waiter->seq = fw_load_acquire(&waiter->slot->seq);
	rc = take_event(wait);
	return rc == -EAGAIN ? look_at_watches(wait) : rc;
}

/*
 * Of a silent watch nobody can tell afterwards when its event came, unless the wait
 * goes on to sleep for it.  Who is in no hurry is not there for the speed of it, and may
 * stay until there is.
 */
static uint64_t module_budget(const struct wait *wait, uint64_t cap_ns,
			      bool silent)
{
	cap_ns *= FW_MODULE_PATIENCE;
	if (wait->later_ns > wait->start_ns + cap_ns)
		return wait->later_ns - wait->start_ns;
	return wait->later_ns != 0 || (silent && !wait->queues)
		       ? cap_ns
		       : fw_budget_learned(&wait->waiter->module_budget,
					   cap_ns);
}

static int wait_published(struct wait *wait, uint64_t cap_ns)
{
	struct fastwake_waiter *waiter = wait->waiter;
	struct fw_slot *slot = waiter->slot;
	bool silent = any_silent(wait);
	uint64_t poll_ns = 0;
	int found, rc = -EAGAIN;

	if (waiter->domain->module != NULL && cap_ns != 0)
		rc = wait_in_module(wait, module_budget(wait, cap_ns, silent));
	if (!wait->in_module)
		poll_ns =
			fw_budget_now(&waiter->budget, cap_ns, wait->start_ns);
	if (poll_ns != 0)
		rc = poll_a_while(wait, poll_ns);
	if (rc == -EAGAIN)
		rc = sleep_told(wait, silent);
	fastwake_waiter_withdraw(waiter);
	if (fw_load_acquire(&slot->seq) != waiter->seq) {
		note_ring(wait, &slot->rung_ns);
		if (rc < 0)
			rc = (int)wait->n;
	}
	if (rc >= 0 && rc < (int)wait->n && of_queue(&wait->watches[rc]))
		return rc;
	found = take_event(wait);
	if (found < 0)
		found = look_at_watches(wait);
	return found >= 0 ? found : rc;
}

/* RC tells whether an event ended the wait, or a signal or time (rc < 0). */
static void report(const struct wait *wait, int rc, uint64_t end_ns,
		   struct fastwake_wait_result *result)
{
	result->slept = wait->slept;
	result->rung = wait->rung && rc >= 0;
	result->waited_ns = end_ns - wait->start_ns;
	result->latency_ns = 0;
	if (result->rung && wait->rung_ns != 0 && wait->rung_ns <= end_ns)
		result->latency_ns = end_ns - wait->rung_ns;
}

/* After a wait that slept in spite of its budget. */
static void adapt(const struct wait *wait, uint64_t cap_ns, uint64_t waited_ns,
		  bool event)
{
	struct fastwake_waiter *waiter = wait->waiter;

	if (wait->in_module)
		fw_budget_adapt(&waiter->module_budget,
				cap_ns * FW_MODULE_PATIENCE, waited_ns, event);
	else
		fw_budget_adapt(&waiter->budget, cap_ns, waited_ns, event);
}

int fastwake_wait(struct fastwake_waiter *waiter,
		  const struct fastwake_watch *watches, unsigned int n,
		  uint64_t budget_ns, uint64_t deadline_ns,
		  struct fastwake_wait_result *result)
{
	bool timed = result != NULL || budget_ns != 0;
	struct wait wait = { .waiter = waiter,
			     .watches = watches,
			     .n = n,
			     .event_core = -1,
			     .deadline_ns = deadline_ns,
			     .later_ns = waiter->later_ns };
	uint64_t end_ns;
	int rc;

	waiter->later_ns = 0;
	if (!watches_valid(&wait)) {
		fastwake_waiter_withdraw(waiter);
		return -EINVAL;
	}
	wait.start_ns = timed ? fastwake_now() : 0;
	rc = look_unpublished(&wait);
	if (rc == -EAGAIN)
		rc = wait_published(&wait, budget_ns);
	if (wait.event_core >= 0)
		fw_affinity_follow(&waiter->affinity, wait.event_core);
	if (!timed)
		return rc;
	end_ns = fastwake_now();
	if ((wait.on_futex || wait.on_interrupt) && budget_ns != 0)
		adapt(&wait, budget_ns, end_ns - wait.start_ns, rc >= 0);
	if (result != NULL)
		report(&wait, rc, end_ns, result);
	return rc;
}
