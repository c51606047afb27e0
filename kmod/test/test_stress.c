// SPDX-License-Identifier: PostgreSQL
/*
 * test_stress.c - a thousand waiters, in processes with several threads each, on
 * the processors there are, and all that can happen to them: words stored with
 * and without WAKE and SWITCH, budgets and deadlines, signals, kill -9, fork,
 * exec, other affinities, processors that go and come, tasks that compute, the
 * freezer, attempts to unload the module.
 *
 * What is asked for: each event is seen; WAIT returns nothing that it does not
 * promise; when all is over nothing is left in the module.
 *
 *	FASTWAKE_STRESS_SECONDS		how long (40)
 *	FASTWAKE_STRESS_SEED		repeats the choices, not the races
 *	FASTWAKE_STRESS_WITHOUT		agents to leave out: "hotplug freezer ..."
 *
 * As root, with the module loaded.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fwk.h"
#include "rnd.h"
#include "tap.h"

#define PROCESSES 40
#define THREADS	  25
#define WAITERS	  (PROCESSES * THREADS)
#define WRITERS	  4

/*
 * An event that is not seen for so long is lost: a thousand threads and more
 * share emulated processors, whose own host may be busy.
 */
#define LOST_NS (20 * FWK_SECOND)

/* A cache line each, but for the word, which scanners read. */
struct slot {
	uint64_t word; /* counts events */
	uint64_t seen;
	uint64_t stored_ns;
	uint64_t unused; /* a word that never changes */
	int32_t tid;
	uint32_t pad[7];
};

struct arena {
	struct slot slot[WAITERS];
	bool quiet; /* no more events and agents */
	bool stop;  /* nor waiters */
	uint64_t events, waits, latency_max_ns;
	uint64_t wrong;		/* results that WAIT does not promise */
	int64_t wrong_result;	/* one of them */
	uint64_t late_children; /* forked and executed */
	uint64_t outcomes[8];
};

enum outcome {
	SEEN,
	WOKEN,
	PARKED,
	TIMED_OUT,
	SIGNALLED
};

static struct arena *arena;
static uint32_t region;
static int fd;
static uint64_t seed;

#define load(p)	    __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define store(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define count(p)    __atomic_fetch_add(p, 1, __ATOMIC_RELAXED)

static void nap(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / FWK_SECOND),
			      (long)(ns % FWK_SECOND) };

	nanosleep(&t, NULL);
}

/* Sleeps for at most so long; false when it is time to stop. */
static bool going_on(struct rnd *r, uint32_t most_us)
{
	nap(1000ull * rnd_below(r, most_us));
	return !load(&arena->quiet);
}

static void wrong(int64_t result)
{
	store(&arena->wrong_result, result);
	count(&arena->wrong);
}

/* ---- waiters ---- */

struct waiting {
	struct slot *slot;
	uint32_t id;
	struct rnd rnd;
	uint64_t expect;
	struct fastwake_ioc_watch watch[FASTWAKE_IOC_WATCHES_MAX];
	uint32_t nr, own; /* watches; the one that will hold */
};

static uint64_t offset_of(const void *p)
{
	return (uint64_t)((const char *)p - (const char *)arena);
}

/* In one of the ways to say "greater than expected". */
static struct fastwake_ioc_watch own_watch(struct waiting *w)
{
	struct fastwake_ioc_watch watch = fwk_watch(
		region, offset_of(&w->slot->word), FASTWAKE_COND_NE, w->expect);

	switch (rnd_below(&w->rnd, 5)) {
	case 0:
		watch.condition = FASTWAKE_COND_EQ;
		watch.operand++;
		break;
	case 1:
		watch.condition = FASTWAKE_COND_GE64;
		watch.operand++;
		break;
	case 2:
		watch.condition = FASTWAKE_COND_MASK_NE;
		watch.mask = 0xffff;
		watch.operand &= 0xffff;
		break;
	case 3:
		watch.word_size = 4;
		break;
	}
	return watch;
}

static void choose_watches(struct waiting *w)
{
	uint32_t i;

	w->nr = 1 + rnd_below(&w->rnd, 4) % 3;
	w->own = rnd_below(&w->rnd, w->nr);
	for (i = 0; i < w->nr; i++)
		w->watch[i] = fwk_watch(region, offset_of(&w->slot->unused),
					FASTWAKE_COND_NE, 0);
	w->watch[w->own] = own_watch(w);
}

static uint64_t choose_budget(struct waiting *w)
{
	switch (rnd_below(&w->rnd, 16)) {
	case 0:
		return 0;
	case 1:
		return rnd_below(&w->rnd, 100000);
	case 2:
		return rnd_below(&w->rnd, 5000000);
	default:
		return FWK_SECOND;
	}
}

/* What came back, and whether it may. */
static void judge(struct waiting *w, int rc, uint64_t deadline_ns)
{
	uint32_t index = (uint32_t)FASTWAKE_WAIT_INDEX(rc);

	if (rc >= 0 && index == w->own && load(&w->slot->word) != w->expect)
		count(&arena->outcomes[SEEN]);
	else if (rc >= 0 && index == w->nr)
		count(&arena->outcomes[WOKEN]);
	else if (rc == -ETIME)
		count(&arena->outcomes[PARKED]);
	else if (rc == -ETIMEDOUT && deadline_ns && fwk_now() >= deadline_ns)
		count(&arena->outcomes[TIMED_OUT]);
	else if (rc == -EINTR)
		count(&arena->outcomes[SIGNALLED]);
	else
		wrong(rc);
}

static void wait_once(struct waiting *w)
{
	uint64_t deadline_ns = 0;
	int rc;

	choose_watches(w);
	if (rnd_below(&w->rnd, 8) == 0)
		deadline_ns = fwk_now() + rnd_below(&w->rnd, 5000000);
	rc = fwk_wait(fd, w->id, w->watch, w->nr, choose_budget(w),
		      deadline_ns);
	count(&arena->waits);
	judge(w, rc, deadline_ns);
}

static void note_latency(uint64_t ns)
{
	uint64_t most = load(&arena->latency_max_ns);

	while (ns > most && !__atomic_compare_exchange_n(
				    &arena->latency_max_ns, &most, ns, false,
				    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static void *waiter_main(void *arg)
{
	uint32_t i = (uint32_t)(uintptr_t)arg;
	struct slot *slot = &arena->slot[i];
	struct waiting w = { .slot = slot,
			     .id = i,
			     .rnd = rnd_seed(seed ^ (uint64_t)getpid(), i) };
	int rc = fwk_register(fd, i);

	if (rc != (int)i)
		wrong(rc);
	w.expect = load(&slot->word);
	store(&slot->seen, w.expect);
	store(&slot->tid, (int32_t)syscall(SYS_gettid));
	while (!load(&arena->stop)) {
		wait_once(&w);
		if (load(&slot->word) == w.expect)
			continue;
		note_latency(fwk_now() - load(&slot->stored_ns));
		w.expect++;
		store(&slot->seen, w.expect);
	}
	/* Most leave without a word, as the dying do. */
	if (i % 4 == 0 && fwk_unregister(fd, i) != 0)
		wrong(-EIO);
	return NULL;
}

static void on_signal(int sig)
{
	(void)sig;
}

static pthread_attr_t small_stack(void)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	return attr;
}

static void process_main(uint32_t first)
{
	pthread_attr_t attr = small_stack();
	pthread_t threads[THREADS];
	uint32_t i;

	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], &attr, waiter_main,
				   (void *)(uintptr_t)(first + i)))
			wrong(-EAGAIN);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	_exit(0);
}

static pid_t processes[PROCESSES];

static pid_t start_process(uint32_t n)
{
	pid_t pid = fork();

	if (pid == 0)
		process_main(n * THREADS);
	return pid;
}

/* ---- writers ---- */

static bool idle_slot(const struct slot *slot)
{
	return load(&slot->tid) && load(&slot->seen) == load(&slot->word);
}

/* One more than was seen, whoever else posts. */
static void post(struct slot *slot)
{
	uint64_t seen = load(&slot->seen);

	store(&slot->stored_ns, fwk_now());
	if (__atomic_compare_exchange_n(&slot->word, &seen, seen + 1, false,
					__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		count(&arena->events);
}

static void ring(uint32_t own, uint32_t i, struct rnd *r)
{
	struct fastwake_ioc_watch w = fwk_watch(
		region, offset_of(&arena->slot[i].unused), FASTWAKE_COND_NE, 0);
	int rc;

	switch (rnd_below(r, 3)) {
	case 0:
		rc = fwk_wake(fd, i);
		if (rc != 0 && rc != 1 && rc != -ENOENT)
			wrong(rc);
		break;
	case 1:
		rc = fwk_switch(fd, own, i, &w, 1, 100000, 0);
		if (rc != -ETIME && rc != -ESRCH && rc != -ENOENT)
			wrong(rc);
		break;
	}
}

static void *writer_main(void *arg)
{
	uint32_t number = (uint32_t)(uintptr_t)arg, i, burst;
	struct rnd r = rnd_seed(seed, 1000000 + number);
	int own = fwk_register(fd, WAITERS + number);

	if (own < 0)
		wrong(own);
	do {
		for (burst = rnd_below(&r, 64); burst; burst--) {
			i = rnd_below(&r, WAITERS);
			if (rnd_below(&r, 8) == 0) {
				ring((uint32_t)own, i, &r); /* for nothing */
			} else if (idle_slot(&arena->slot[i])) {
				post(&arena->slot[i]);
				ring((uint32_t)own, i, &r);
			}
		}
	} while (going_on(&r, 4000));
	fwk_unregister(fd, (uint32_t)own);
	return NULL;
}

/* ---- agents: what happens to waiters ---- */

static void *signals(void *unused)
{
	struct rnd r = rnd_seed(seed, 2);
	uint32_t i;

	while (going_on(&r, 2000)) {
		i = rnd_below(&r, WAITERS);
		if (load(&arena->slot[i].tid))
			syscall(SYS_tgkill, processes[i / THREADS],
				arena->slot[i].tid, SIGUSR1);
	}
	return unused;
}

static void *affinities(void *unused)
{
	struct rnd r = rnd_seed(seed, 3);
	cpu_set_t set;
	uint32_t choice;

	while (going_on(&r, 5000)) {
		choice = 1 + rnd_below(&r, 3);
		CPU_ZERO(&set);
		if (choice & 1)
			CPU_SET(0, &set);
		if (choice & 2)
			CPU_SET(1, &set);
		/* Fails for a dead thread, or if the processor is gone. */
		sched_setaffinity(arena->slot[rnd_below(&r, WAITERS)].tid,
				  sizeof(set), &set);
	}
	return unused;
}

/* The slots are not written to while nobody is there. */
static void *kills(void *unused)
{
	struct rnd r = rnd_seed(seed, 4);
	uint32_t n, i;

	while (going_on(&r, 400000)) {
		n = rnd_below(&r, PROCESSES);
		for (i = 0; i < THREADS; i++)
			store(&arena->slot[n * THREADS + i].tid, 0);
		kill(processes[n], SIGKILL);
		waitpid(processes[n], NULL, 0);
		processes[n] = start_process(n);
	}
	return unused;
}

/* A child that registers, waits, and exits or executes while it is a waiter. */
static void child_main(bool execute)
{
	int id = fwk_register(fd, WAITERS + WRITERS);

	if (id < 0)
		_exit(1);
	if (fwk_wait(fd, (uint32_t)id, NULL, 0, FWK_MS, 0) != -ETIME)
		_exit(2);
	if (execute)
		execl("/proc/self/exe", "test_stress", "--nothing", NULL);
	_exit(0);
}

static void *children(void *unused)
{
	struct rnd r = rnd_seed(seed, 5);
	int status = 0;
	pid_t pid;

	while (going_on(&r, 50000)) {
		pid = fork();
		if (pid == 0)
			child_main(rnd_below(&r, 2));
		if (waitpid(pid, &status, 0) != pid || status != 0)
			wrong(status);
		count(&arena->late_children);
	}
	return unused;
}

static void *competitors(void *unused)
{
	struct rnd r = rnd_seed(seed, 6);
	uint64_t end;

	while (going_on(&r, 60000))
		for (end = fwk_now() + rnd_below(&r, 60000000);
		     fwk_now() < end;)
			;
	return unused;
}

static bool write_to(const char *path, const char *text)
{
	int f = open(path, O_WRONLY | O_CLOEXEC);
	bool ok =
		f >= 0 && write(f, text, strlen(text)) == (ssize_t)strlen(text);

	if (f >= 0)
		close(f);
	return ok;
}

static uint64_t offlined;

static void *hotplug(void *unused)
{
	static const char *online = "/sys/devices/system/cpu/cpu1/online";
	struct rnd r = rnd_seed(seed, 7);

	while (going_on(&r, 3000000)) {
		offlined += write_to(online, "0");
		going_on(&r, 500000);
		/* Refused while the system is being frozen. */
		while (!write_to(online, "1"))
			nap(10 * FWK_MS);
	}
	return unused;
}

static uint64_t refused_unloads;

static void *unloads(void *unused)
{
	struct rnd r = rnd_seed(seed, 8);

	while (going_on(&r, 500000)) {
		if (syscall(SYS_delete_module, "fastwake", O_NONBLOCK) == 0)
			wrong(0);
		else if (errno == EWOULDBLOCK || errno == EBUSY)
			refused_unloads++;
		else
			wrong(-errno);
	}
	return unused;
}

/* ---- the freezers ---- */

static char cgroup[] = "/tmp/fastwake-cgroup.XXXXXX";
static uint64_t frozen;

static bool make_cgroup(void)
{
	char path[128];

	if (!mkdtemp(cgroup) || mount("none", cgroup, "cgroup2", 0, NULL))
		return false;
	snprintf(path, sizeof(path), "%s/waiters", cgroup);
	return mkdir(path, 0755) == 0 || errno == EEXIST;
}

static void remove_cgroup(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/waiters", cgroup);
	rmdir(path);
	umount(cgroup);
	rmdir(cgroup);
}

static bool write_cgroup(const char *file, const char *text)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/waiters/%s", cgroup, file);
	return write_to(path, text);
}

static void *freezer(void *unused)
{
	struct rnd r = rnd_seed(seed, 9);
	char pid[16];

	while (going_on(&r, 800000)) {
		snprintf(pid, sizeof(pid), "%d",
			 processes[rnd_below(&r, PROCESSES)]);
		write_cgroup("cgroup.procs", pid);
		frozen += write_cgroup("cgroup.freeze", "1");
		nap(1000ull * rnd_below(&r, 200000));
		if (!write_cgroup("cgroup.freeze", "0"))
			wrong(-EIO);
	}
	return unused;
}

/* As for a suspension, but that the kernel thaws all after a second. */
static void freeze_the_system(void)
{
	if (!write_to("/sys/power/pm_test", "freezer")) {
		tap_skip(1, "this kernel cannot test its freezer");
		return;
	}
	write_to("/sys/module/suspend/parameters/pm_test_delay", "1");
	tap_ok(write_to("/sys/power/state", "freeze"),
	       "all tasks can be frozen, as for a suspension");
	write_to("/sys/power/pm_test", "none");
}

/* ---- looking on ---- */

static uint32_t lost_slots(void)
{
	uint32_t i, lost = 0;
	uint64_t stored;

	for (i = 0; i < WAITERS; i++) {
		stored = load(&arena->slot[i].stored_ns);
		if (load(&arena->slot[i].tid) &&
		    load(&arena->slot[i].seen) != load(&arena->slot[i].word) &&
		    fwk_now() - stored > LOST_NS &&
		    stored == load(&arena->slot[i].stored_ns)) {
			tap_diag("waiter %u: event %llu not seen for 20 s", i,
				 (unsigned long long)arena->slot[i].word);
			lost++;
		}
	}
	return lost;
}

/* True if nothing was lost meanwhile. */
static bool look_on(uint64_t seconds)
{
	uint64_t end = fwk_now() + seconds * FWK_SECOND;
	uint32_t lost = 0;

	while (fwk_now() < end && !lost) {
		nap(200 * FWK_MS);
		lost = lost_slots();
	}
	return lost == 0;
}

/* Each has its last event, and must see it; nothing else happens any more. */
static bool all_seen(void)
{
	uint64_t end = fwk_now() + LOST_NS;
	uint32_t i, left = 1;

	for (i = 0; i < WAITERS; i++)
		if (idle_slot(&arena->slot[i]))
			post(&arena->slot[i]);
	while (left && fwk_now() < end) {
		nap(50 * FWK_MS);
		for (i = left = 0; i < WAITERS; i++)
			left += load(&arena->slot[i].seen) !=
				load(&arena->slot[i].word);
	}
	return left == 0;
}

struct totals {
	uint64_t waiters, watches, scanners;
	uint64_t waits, ended, slept, backstops;
};

static struct totals read_totals(void)
{
	struct totals t = { 0 };
	struct fastwake_ioc_query q;
	const struct fastwake_core *c;
	const char *cores;
	uint32_t i;

	fwk_query(fd, &q);
	cores = mmap(NULL, (size_t)q.out_cores * q.out_core_stride, PROT_READ,
		     MAP_SHARED, fd, FASTWAKE_MMAP_CORES);
	if (cores == MAP_FAILED)
		tap_bail("the cores cannot be mapped");
	for (i = 0; i < q.out_cores; i++) {
		c = (const void *)(cores + i * q.out_core_stride);
		t.waiters += load(&c->waiters);
		t.watches += load(&c->watches);
		t.scanners += load(&c->scanner) != 0;
		t.waits += load(&c->waits);
		t.ended += load(&c->immediate) + load(&c->spun) +
			   load(&c->parks) + load(&c->timeouts) +
			   load(&c->signals);
		t.slept += load(&c->slept);
		t.backstops += load(&c->backstops);
	}
	munmap((void *)(uintptr_t)cores,
	       (size_t)q.out_cores * q.out_core_stride);
	return t;
}

static void test_counters(uint64_t waits_before)
{
	struct totals t = read_totals(), later;
	uint64_t waits = t.waits - waits_before;

	tap_is(t.waiters, 0, "no waiter is left in a poll set");
	tap_is(t.watches, 0, "no watch either");
	tap_is(t.scanners, 0, "nobody scans");
	tap_ok(waits >= arena->waits,
	       "all waits were counted: %llu, and %llu by writers and children",
	       (unsigned long long)arena->waits,
	       (unsigned long long)(waits - arena->waits));
	tap_ok(t.ended <= t.waits && t.slept <= t.waits,
	       "none ended or slept twice");
	/* One that was set when the last waiter left fires, and gives up. */
	nap(200 * FWK_MS);
	t = read_totals();
	nap(200 * FWK_MS);
	later = read_totals();
	tap_is(later.backstops, t.backstops, "no timer fires");
}

static void test_nothing_left(void)
{
	struct fastwake_ioc_query q;
	uint32_t i;
	int rc = 0;

	fwk_query(fd, &q);
	for (i = 0; i < q.out_waiters_max && rc >= 0; i++)
		rc = fwk_register(fd, i);
	tap_ok(rc >= 0, "every number can be registered again");
	tap_is(fwk_unpin(fd, region), 0, "the region can be unpinned");
	close(fd);
}

/* ---- the whole ---- */

static const struct {
	const char *name;
	void *(*run)(void *);
} agents[] = {
	{ "signals", signals },
	{ "affinities", affinities },
	{ "kills", kills },
	{ "children", children },
	{ "competitor", competitors },
	{ "another", competitors },
	{ "hotplug", hotplug },
	{ "unloads", unloads },
	{ "freezer", freezer },
};

#define AGENTS (sizeof(agents) / sizeof(*agents))

static pthread_t writer_threads[WRITERS], agent_threads[AGENTS];
static bool agent_runs[AGENTS];

static void start_all(const char *without)
{
	pthread_attr_t attr = small_stack();
	uint32_t i;

	for (i = 0; i < PROCESSES; i++)
		processes[i] = start_process(i);
	for (i = 0; i < WRITERS; i++)
		pthread_create(&writer_threads[i], &attr, writer_main,
			       (void *)(uintptr_t)i);
	for (i = 0; i < AGENTS; i++) {
		agent_runs[i] = !strstr(without, agents[i].name);
		if (agent_runs[i])
			pthread_create(&agent_threads[i], &attr, agents[i].run,
				       NULL);
	}
}

static void stop_writers_and_agents(void)
{
	uint32_t i;

	store(&arena->quiet, true);
	for (i = 0; i < WRITERS; i++)
		pthread_join(writer_threads[i], NULL);
	for (i = 0; i < AGENTS; i++)
		if (agent_runs[i])
			pthread_join(agent_threads[i], NULL);
}

static void stop_waiters(void)
{
	bool well = true;
	uint32_t i;
	int status;

	store(&arena->stop, true);
	for (i = 0; i < PROCESSES; i++)
		well &= waitpid(processes[i], &status, 0) == processes[i] &&
			status == 0;
	tap_ok(well, "all waiters end when they are asked to");
}

static void set_up(void)
{
	static const char *budget =
		"/sys/module/fastwake/parameters/budget_max_us";
	struct sigaction action = { .sa_handler = on_signal };
	struct rlimit limit = { 65536, 65536 };
	int rc;

	setrlimit(RLIMIT_NPROC, &limit);
	sigaction(SIGUSR1, &action, NULL);
	/* A budget that ends would hide that a wake-up was lost. */
	if (!write_to(budget, "1000000"))
		tap_bail("the module's parameters cannot be set");
	fd = fwk_open();
	arena = fwk_map_shared((sizeof(*arena) + FWK_PAGE - 1) &
			       ~(size_t)(FWK_PAGE - 1));
	rc = fd < 0 ? fd
		    : fwk_pin(fd, arena,
			      (sizeof(*arena) + FWK_PAGE - 1) &
				      ~(uint64_t)(FWK_PAGE - 1));
	if (rc < 0)
		tap_bail("no " FWK_DEVICE);
	region = (uint32_t)rc;
}

int main(int argc, char **argv)
{
	uint64_t seconds = env_number("FASTWAKE_STRESS_SECONDS", 40), waits;
	const char *without = getenv("FASTWAKE_STRESS_WITHOUT");

	(void)argv;
	if (argc > 1)
		return 0; /* executed by a child */
	tap_begin();
	set_up();
	seed = env_number("FASTWAKE_STRESS_SEED", fwk_now());
	tap_diag("FASTWAKE_STRESS_SEED=%llu", (unsigned long long)seed);
	tap_ok(make_cgroup(), "a cgroup to freeze");
	waits = read_totals().waits;
	start_all(without ? without : "");
	tap_ok(look_on(seconds), "no event is lost");
	freeze_the_system();
	tap_ok(look_on(2), "nor after that");
	stop_writers_and_agents();
	tap_ok(all_seen(), "all see a last event");
	stop_waiters();
	tap_diag("%llu events, the latest seen after %llu ms; results: %llu "
		 "words, %llu WAKEs, %llu parks, %llu deadlines, %llu signals",
		 (unsigned long long)arena->events,
		 (unsigned long long)(arena->latency_max_ns / FWK_MS),
		 (unsigned long long)arena->outcomes[SEEN],
		 (unsigned long long)arena->outcomes[WOKEN],
		 (unsigned long long)arena->outcomes[PARKED],
		 (unsigned long long)arena->outcomes[TIMED_OUT],
		 (unsigned long long)arena->outcomes[SIGNALLED]);
	tap_diag("%llu children, cpu1 went %llu times, %llu freezes",
		 (unsigned long long)arena->late_children,
		 (unsigned long long)offlined, (unsigned long long)frozen);
	tap_ok(refused_unloads > 0, "the module could not be unloaded");
	tap_is(arena->wrong, 0, "every result is one that may be (one: %lld)",
	       (long long)arena->wrong_result);
	test_counters(waits);
	test_nothing_left();
	remove_cgroup();
	write_to("/sys/module/fastwake/parameters/budget_max_us", "10000");
	return tap_done();
}
