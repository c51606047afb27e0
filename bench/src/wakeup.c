// SPDX-License-Identifier: PostgreSQL
/*
 * wakeup.c - two processes, each pinned to a processor of its own, wake each other by a
 * futex: what a wake-up across processors takes by itself, without any message.
 *
 * usage: wakeup [-n ROUND-TRIPS] [-l LABEL] CPU CPU
 *
 * Prints what fastwake bench --json does, for half a round trip, and the context
 * switches of one of them per round trip.
 */
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "figures.h"
#include "side.h"

static uint32_t *turn; /* counts up: even, it is the parent's, odd, the child's */

static void pin(const char *cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)strtoul(cpu, NULL, 10), &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		die(cpu);
}

static void pass(void)
{
	__atomic_fetch_add(turn, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Sleeps until the turn's parity is that. */
static void await(uint32_t parity)
{
	uint32_t seen;

	while ((seen = __atomic_load_n(turn, __ATOMIC_ACQUIRE)) % 2 != parity)
		syscall(SYS_futex, turn, FUTEX_WAIT, seen, NULL, NULL, 0);
}

_Noreturn static void answer(const char *cpu)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(cpu);
	for (;;) {
		await(1);
		pass();
	}
}

int main(int argc, char **argv)
{
	const char *label = "futex";
	struct figures figures;
	uint32_t n = 1000;
	uint64_t begin;
	pid_t child;
	int option;

	while ((option = getopt(argc, argv, "n:l:")) != -1) {
		if (option == 'n')
			n = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'l')
			label = optarg;
		else
			return 2;
	}
	if (argc - optind != 2)
		return 2;
	turn = mmap(NULL, sizeof(*turn), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (turn == MAP_FAILED || (child = fork()) < 0)
		die("fork");
	if (child == 0)
		answer(argv[optind]);
	pin(argv[optind + 1]);
	figures_init(&figures, n);
	while (figures_wanted(&figures)) {
		begin = now();
		pass();
		await(0);
		figures_add(&figures, (now() - begin) / 2);
	}
	figures_print_open(&figures, "pingpong", label);
	printf(", \"switches\": %.3f}\n", switches() / figures_total(&figures));
	kill(child, SIGKILL);
	return 0;
}
