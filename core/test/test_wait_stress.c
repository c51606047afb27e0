// SPDX-License-Identifier: PostgreSQL
/*
 * test_wait_stress.c - races arming, sleeping and waking for some seconds
 * (FASTWAKE_STRESS_SECONDS, 5 by default, shared by the parts).
 *
 * Pairs of players hand a turn back and forth; a turn is announced in one of
 * several ways, chosen at random but alike on both sides, after a random delay,
 * so that it hits every instant of the other's way to sleep.  Nobody else would
 * make up for a lost wake-up: the wait would last until its deadline, and that
 * is what the test looks for.
 *
 * In the duel both sides start each round together and meet within nanoseconds:
 * it finds a missing memory barrier, if there are two CPUs for it.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "tap.h"
#include "wait_common.h"

#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif
#ifndef TSAN
#define TSAN 0
#endif

#define PAIRS  2
#define SECOND 1000000000ull

/* A wait this long has lost its wake-up, even on a busy machine. */
#define LOST (5 * SECOND)

/* Ways to announce a turn. */
enum way {
	WAKE,	    /* fastwake_wake(), the word is watched */
	WAKE_PID,   /* fastwake_wake_pid() */
	RING,	    /* the word's doorbell */
	RING_OTHER, /* the second of two doorbells */
	PUBLISHED,  /* fastwake_wake(), no word is watched */
	WAYS
};

struct player {
	uint64_t turn; /* what the other has announced */
	struct fastwake_doorbell bell[2];
	uint64_t taken;	 /* turns taken */
	uint64_t slept;	 /* of which the wait slept */
	uint64_t lost;	 /* waits that ran into their deadline */
	uint64_t failed; /* anything else */
	pid_t pid;
	uint64_t pad[4];
};

static struct shared {
	uint32_t stop;
	struct player player[2 * PAIRS];
	/* For the part that kills. */
	struct fastwake_doorbell bell;
	uint64_t counter;
} * shm;

static struct fastwake_domain *domain;
static uint64_t part_ns;

static void setup(void)
{
	const char *seconds = getenv("FASTWAKE_STRESS_SECONDS");
	double total = seconds != NULL ? atof(seconds) : 5;

	part_ns = (uint64_t)(total * (double)SECOND / 5);
	shm = map_shared(sizeof(*shm));
	if (fastwake_domain_create(&domain, NULL, 0, 64) != 0)
		tap_bail("no domain");
	test_use_module(domain);
	if (fastwake_domain_has_module(domain))
		(void)fastwake_domain_pin(domain, shm, sizeof(*shm));
}

static void begin_part(void)
{
	memset(shm, 0, sizeof(*shm));
}

static void nap(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / SECOND),
			       .tv_nsec = (long)(ns % SECOND) };

	nanosleep(&ts, NULL);
}

/* splitmix64: both players of a pair draw the same way for a turn. */
static uint64_t mix(uint64_t x)
{
	x += 0x9E3779B97F4A7C15ull;
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
	return x ^ (x >> 31);
}

static enum way way_of(uint64_t turn)
{
	return (enum way)(mix(turn) % WAYS);
}

/* ------------------------------------------------------------------ */
/* Players                                                            */
/* ------------------------------------------------------------------ */

/* Mostly up to a microsecond; now and then let the other fall asleep. */
static void random_delay(uint64_t *seed)
{
	uint64_t r = mix((*seed)++);
	volatile unsigned int spin = (unsigned int)(r >> 32) % 1500;

	if (r % 64 == 0)
		sched_yield();
	else if (r % 512 == 1)
		nap(50000);
	else
		while (spin != 0)
			spin--;
}

static void announce(unsigned int other, uint64_t turn, enum way way)
{
	struct player *p = &shm->player[other];

	fw_store_release(&p->turn, turn);
	switch (way) {
	case WAKE:
	case PUBLISHED:
		fastwake_wake(domain, other);
		break;
	case WAKE_PID:
		fastwake_wake_pid(domain, p->pid);
		break;
	case RING:
		fastwake_doorbell_ring(&p->bell[0]);
		break;
	default:
		fastwake_doorbell_ring(&p->bell[1]);
	}
}

/* What the waiter sleeps on for a turn that comes in this way. */
static unsigned int watches_for(struct player *me, uint64_t turn, enum way way,
				struct fastwake_watch w[2])
{
	static const uint32_t never;

	w[0] = (struct fastwake_watch){ .word = &me->turn,
					.operand = turn,
					.size = 8,
					.condition = FASTWAKE_GE64 };
	w[1] = w[0];
	if (way == PUBLISHED)
		return 0;
	if (way == RING)
		w[0].doorbell = &me->bell[0];
	if (way != RING_OTHER)
		return 1;
	w[0] = (struct fastwake_watch){ .word = &never,
					.doorbell = &me->bell[0],
					.size = 4 };
	w[1].doorbell = &me->bell[1];
	return 2;
}

/* False when the game is over. */
static bool await_turn(struct fastwake_waiter *waiter, struct player *me,
		       uint64_t turn)
{
	enum way way = way_of(turn);
	struct fastwake_wait_result r = { .slept = 0 };
	struct fastwake_watch w[2];
	unsigned int n = watches_for(me, turn, way, w);
	uint64_t budget = mix(~turn) % 2 * 20000, start = fastwake_now();
	int rc = 0;

	for (;;) {
		if (way == PUBLISHED)
			fastwake_waiter_publish(waiter);
		if (fw_load_acquire(&me->turn) >= turn || fw_load(&shm->stop))
			break;
		rc = fastwake_wait(waiter, w, n, budget, start + LOST, &r);
		me->slept += r.slept;
		me->failed += rc < 0 && rc != -ETIMEDOUT;
	}
	if (way == PUBLISHED)
		fastwake_waiter_withdraw(waiter);
	me->lost += fastwake_now() - start >= LOST && !fw_load(&shm->stop);
	return !fw_load(&shm->stop);
}

/* Player 2k begins; players 2k and 2k + 1 take odd and even turns. */
static void play(unsigned int me, unsigned int slot)
{
	struct player *p = &shm->player[me];
	uint64_t turn = 1 + me % 2, seed = mix(me) + fastwake_now();
	struct fastwake_waiter *waiter;

	if (fastwake_waiter_attach(domain, slot, &waiter) != 0) {
		p->failed++;
		return;
	}
	fw_store(&p->pid, getpid());
	while (fw_load(&shm->player[me ^ 1].pid) == 0)
		sched_yield();
	if (me % 2 == 0)
		announce(me ^ 1, 2, way_of(2));
	for (turn = 3 - me % 2; await_turn(waiter, p, turn); turn += 2) {
		p->taken++;
		random_delay(&seed);
		announce(me ^ 1, turn + 1, way_of(turn + 1));
	}
	fastwake_waiter_detach(waiter);
}

static void stop_players(void)
{
	unsigned int i;

	fw_store(&shm->stop, 1);
	for (i = 0; i < 2 * PAIRS; i++) {
		fw_store_release(&shm->player[i].turn, UINT64_MAX);
		fastwake_wake(domain, i);
		fastwake_doorbell_ring(&shm->player[i].bell[0]);
		fastwake_doorbell_ring(&shm->player[i].bell[1]);
	}
}

static void judge(const char *what)
{
	uint64_t taken = 0, slept = 0, lost = 0, failed = 0, least = UINT64_MAX;
	unsigned int i;

	for (i = 0; i < 2 * PAIRS; i++) {
		taken += shm->player[i].taken;
		slept += shm->player[i].slept;
		lost += shm->player[i].lost;
		failed += shm->player[i].failed;
		if (shm->player[i].taken < least)
			least = shm->player[i].taken;
	}
	tap_diag("%s: %llu turns, %llu sleeps", what, (unsigned long long)taken,
		 (unsigned long long)slept);
	tap_is(lost, 0, "%s: no wake-up is lost", what);
	tap_is(failed, 0, "%s: no wait fails", what);
	tap_ok(least > 0, "%s: everybody took a turn", what);
}

/* ------------------------------------------------------------------ */
/* Parts                                                              */
/* ------------------------------------------------------------------ */

static void part_processes(void)
{
	pid_t pid[2 * PAIRS];
	unsigned int i;

	begin_part();
	for (i = 0; i < 2 * PAIRS; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			tap_bail("no child");
		if (pid[i] == 0) {
			play(i, i);
			_exit(0);
		}
	}
	nap(part_ns);
	stop_players();
	for (i = 0; i < 2 * PAIRS; i++)
		waitpid(pid[i], NULL, 0);
	judge("processes");
}

static void *play_in_thread(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;

	play(me, me);
	return NULL;
}

static void part_threads(void)
{
	pthread_t thread[2 * PAIRS];
	uintptr_t i;

	begin_part();
	for (i = 0; i < 2 * PAIRS; i++)
		pthread_create(&thread[i], NULL, play_in_thread, (void *)i);
	nap(part_ns);
	stop_players();
	for (i = 0; i < 2 * PAIRS; i++)
		pthread_join(thread[i], NULL);
	judge("threads");
}

/* ---- the duel ---- */

static struct duel {
	_Alignas(64) uint64_t ready; /* the waiter has begun this round */
	_Alignas(64) uint64_t word;
	struct fastwake_doorbell bell;
	_Alignas(64) uint64_t lost; /* the waiter's */
	uint64_t rounds, slept;
	uint32_t stop;
} duel;

static void spin(uint64_t n)
{
	volatile uint64_t left = n;

	while (left != 0)
		left--;
}

static uint64_t draw(uint64_t round, uint64_t what, uint64_t below)
{
	return mix(round * 4 + what) % below;
}

/* How the waiter of a round learns of it. */
enum duel_way {
	DUEL_RING,	/* the doorbell of a watch */
	DUEL_WAKE,	/* a watch, woken through the slot */
	DUEL_PUBLISHED, /* no watch, published before the check */
	DUEL_BLIND,	/* no watch, not published: woken until it counts */
	DUEL_WAYS
};

static void duel_wait(struct fastwake_waiter *waiter, uint64_t round)
{
	enum duel_way way = (enum duel_way)(round % DUEL_WAYS);
	struct fastwake_watch w = { .word = &duel.word,
				    .operand = round,
				    .size = 8,
				    .condition = FASTWAKE_GE64 };
	unsigned int n = way == DUEL_RING || way == DUEL_WAKE;
	uint64_t start = fastwake_now();
	struct fastwake_wait_result r;

	if (way == DUEL_RING)
		w.doorbell = &duel.bell;
	/* Long polls would never get to sleep. */
	waiter->budget.poll_ns = draw(round, 0, 2) * 150;
	waiter->budget.cpus_checked_ns = start;
	spin(draw(round, 1, 100));
	for (;;) {
		if (way == DUEL_PUBLISHED)
			fastwake_waiter_publish(waiter);
		if (fw_load_acquire(&duel.word) >= round)
			break;
		fastwake_wait(waiter, &w, n, 150, start + LOST, &r);
		duel.slept += r.slept;
	}
	fastwake_waiter_withdraw(waiter);
	duel.lost += fastwake_now() - start >= LOST;
}

/* A wake that was answered by 0 does not count. */
static void duel_wake(uint64_t round)
{
	enum duel_way way = (enum duel_way)(round % DUEL_WAYS);

	spin(draw(round, 2, draw(round, 3, 4) ? 100 : 1000));
	fw_store_release(&duel.word, round);
	if (way == DUEL_RING)
		fastwake_doorbell_ring(&duel.bell);
	else
		while (fastwake_wake(domain, 0) == 0 && way == DUEL_BLIND &&
		       fw_load_acquire(&duel.ready) == round)
			fw_cpu_relax();
}

static void *duel_waiter(void *arg)
{
	struct fastwake_waiter *waiter = arg;
	uint64_t round;

	for (round = 1; !fw_load(&duel.stop); round++) {
		fw_store_release(&duel.ready, round);
		duel_wait(waiter, round);
		duel.rounds++;
	}
	fw_store_release(&duel.ready, UINT64_MAX);
	return NULL;
}

static void duel_waker(void)
{
	uint64_t round, spins, end = fastwake_now() + part_ns;

	for (round = 1; fw_load_acquire(&duel.ready) != UINT64_MAX; round++) {
		for (spins = 1; fw_load_acquire(&duel.ready) < round; spins++)
			if (spins % 4096 == 0)
				sched_yield();
		if (round % 256 == 0 && fastwake_now() >= end)
			fw_store(&duel.stop, 1);
		duel_wake(round);
	}
}

static void part_duel(void)
{
	struct fastwake_waiter *waiter;
	pthread_t thread;

	if (fastwake_waiter_attach(domain, 0, &waiter) != 0)
		tap_bail("no slot");
	pthread_create(&thread, NULL, duel_waiter, waiter);
	duel_waker();
	pthread_join(thread, NULL);
	fastwake_waiter_detach(waiter);
	tap_diag("duel: %llu rounds, %llu sleeps",
		 (unsigned long long)duel.rounds,
		 (unsigned long long)duel.slept);
	tap_is(duel.lost, 0, "duel: no wake-up is lost");
}

/* ---- kill -9 of sleepers that share a doorbell with a survivor ---- */

#define VICTIM_SLOT   60
#define SURVIVOR_SLOT 61

static struct fastwake_watch counter_watch(uint64_t beyond)
{
	return (struct fastwake_watch){ .word = &shm->counter,
					.doorbell = &shm->bell,
					.operand = beyond,
					.size = 8,
					.condition = FASTWAKE_GE64 };
}

/* Waits for each new value of the counter until it is killed. */
static void wait_for_counter(unsigned int slot, struct player *p)
{
	struct fastwake_waiter *waiter;
	struct fastwake_watch w;
	uint64_t seen = 0, start;

	if (fastwake_waiter_attach(domain, slot, &waiter) != 0)
		_exit(2);
	fw_store(&p->pid, getpid());
	while (!fw_load(&shm->stop)) {
		start = fastwake_now();
		w = counter_watch(seen + 1);
		fastwake_wait(waiter, &w, 1, 0, start + LOST, NULL);
		p->lost += fastwake_now() - start >= LOST;
		seen = fw_load_acquire(&shm->counter);
		fw_store_release(&p->turn, seen);
		p->taken++;
	}
	_exit(0);
}

static pid_t spawn(unsigned int slot, struct player *p)
{
	pid_t pid = fork();

	if (pid < 0)
		tap_bail("no child");
	if (pid == 0)
		wait_for_counter(slot, p);
	return pid;
}

/* Raise the counter and wait until the survivor has seen it. */
static void raise_counter(uint64_t *seed, const struct player *survivor)
{
	uint64_t next = fw_load(&shm->counter) + 1;

	random_delay(seed);
	fw_store_release(&shm->counter, next);
	fastwake_doorbell_ring(&shm->bell);
	while (fw_load_acquire(&survivor->turn) < next)
		sched_yield();
}

static void part_kill(void)
{
	struct player *victim = &shm->player[0], *survivor = &shm->player[1];
	uint64_t seed = fastwake_now(), end = seed + part_ns;
	unsigned int i, kills = 0, refused = 0;
	pid_t pid, survivor_pid;
	int status;

	begin_part();
	survivor_pid = spawn(SURVIVOR_SLOT, survivor);
	while (fastwake_now() < end) {
		fw_store(&victim->pid, 0);
		pid = spawn(VICTIM_SLOT, victim);
		while (fw_load(&victim->pid) == 0 &&
		       waitpid(pid, &status, WNOHANG) == 0)
			sched_yield();
		refused += fw_load(&victim->pid) == 0;
		for (i = 0; i < 20; i++)
			raise_counter(&seed, survivor);
		random_delay(&seed);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		kills++;
	}
	fw_store(&shm->stop, 1);
	raise_counter(&seed, survivor);
	waitpid(survivor_pid, &status, 0);
	tap_diag("kill -9: %u kills, %u counts leaked, %llu turns", kills,
		 shm->bell.armed, (unsigned long long)survivor->taken);
	tap_is(refused, 0, "kill -9: the slot can be taken over each time");
	tap_is(survivor->lost, 0, "kill -9: the survivor loses no wake-up");
	tap_ok(shm->bell.armed <= kills, "kill -9: at most a count per kill");
}

/* ---- wakes that come as signals, whose handler wakes its own slot ---- */

static volatile sig_atomic_t signalled;

static void wake_myself(int signo)
{
	(void)signo;
	signalled = 1;
	fastwake_wake_pid(domain, getpid());
}

static void wait_for_signals(struct player *p)
{
	struct fastwake_waiter *waiter;
	uint64_t start;

	if (fastwake_waiter_attach(domain, 0, &waiter) != 0)
		_exit(2);
	fw_store(&p->pid, getpid());
	while (!fw_load(&shm->stop)) {
		start = fastwake_now();
		for (;;) {
			fastwake_waiter_publish(waiter);
			if (signalled)
				break;
			fastwake_wait(waiter, NULL, 0, 0, start + LOST, NULL);
		}
		fastwake_waiter_withdraw(waiter);
		p->lost += fastwake_now() - start >= LOST;
		signalled = 0;
		p->taken++;
		fw_store_release(&p->turn, p->taken);
	}
	_exit(0);
}

static void part_signals(void)
{
	struct sigaction sa = { .sa_handler = wake_myself,
				.sa_flags = SA_RESTART };
	struct player *p = &shm->player[0];
	uint64_t seed = fastwake_now(), end = seed + part_ns, turn;
	pid_t pid;

	begin_part();
	sigaction(SIGURG, &sa, NULL);
	pid = fork();
	if (pid == 0)
		wait_for_signals(p);
	while (fw_load(&p->pid) == 0)
		sched_yield();
	for (turn = 1; fastwake_now() < end; turn++) {
		random_delay(&seed);
		kill(pid, SIGURG);
		while (fw_load_acquire(&p->turn) < turn)
			sched_yield();
	}
	fw_store(&shm->stop, 1);
	kill(pid, SIGURG);
	waitpid(pid, NULL, 0);
	tap_diag("signals: %llu turns", (unsigned long long)p->taken);
	tap_is(p->lost, 0, "signals: no wake-up is lost");
	tap_ok(p->taken > 0, "signals: turns were taken");
}

int main(void)
{
	tap_begin();
	setup();
	part_duel();
	part_threads();
	if (TSAN) {
		tap_skip(8, "TSan follows the threads of one process only");
		fastwake_domain_destroy(domain);
		return tap_done();
	}
	part_processes();
	part_kill();
	part_signals();
	fastwake_domain_destroy(domain);
	return tap_done();
}
