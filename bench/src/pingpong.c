// SPDX-License-Identifier: PostgreSQL
/*
 * pingpong.c - SEND round trips between two processes over verbs: an ordinary
 * program, which fastwake run may take over.
 *
 * usage: pingpong [-d DEVICE] [-g GID-INDEX] [-s BYTES] [-n ROUND-TRIPS]
 *		   [-i INTERVAL-US] [-l LABEL] [-r client|server] poll|event
 *
 * poll: each looks at its completion queue again and again, and gives the core
 * to the other after each look that found nothing, as the two may share one.
 * event: each sleeps in ibv_get_cq_event(3).
 *
 * A round trip begins INTERVAL after the one before (0: at once).  Prints what
 * fastwake bench --json does, for half a round trip (one way), the processor
 * time used: "busy", a share of the time that all of it took, and the context
 * switches of this process per round trip.
 *
 * -r: one of the two only, on this machine; they tell each other where they are by
 * their standard input and output, and the client's figures go to standard error.
 */
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "figures.h"
#include "side.h"

/* Nanoseconds that the first processor has been idle since boot, to 10 ms. */
static uint64_t idle_time(void)
{
	unsigned long long user, nice, system, idle;
	FILE *f = fopen("/proc/stat", "r");

	if (f == NULL || fscanf(f, "cpu %llu %llu %llu %llu", &user, &nice,
				&system, &idle) != 4)
		die("/proc/stat");
	fclose(f);
	return idle * 10000000u;
}

/* Polling, a program keeps polling until its next message is due. */
static void wait_or_poll_until(struct side *s, uint64_t when)
{
	if (by_event) {
		sleep_until(when);
		return;
	}
	while (now() < when) {
		if (take_one(s->receive_cq))
			die("a message that was not asked for");
		sched_yield();
	}
}

static void measure(int in, int out, uint64_t interval, struct figures *figures)
{
	uint64_t begin, next;
	struct side s;

	open_side(&s);
	exchange(&s, in, out);
	next = now();
	while (figures_wanted(figures)) {
		if (interval > 0)
			wait_or_poll_until(&s, next += interval);
		begin = now();
		send_one(&s);
		receive(&s);
		figures_add(figures, (now() - begin) / 2);
	}
}

/* Measures and prints. */
static void report(int in, int out, uint64_t interval, uint32_t n,
		   const char *label)
{
	uint64_t idle = idle_time(), begin = now();
	double busy, switched = switches();
	struct figures figures;

	figures_init(&figures, n);
	measure(in, out, interval, &figures);
	busy = 1 - (double)(idle_time() - idle) / (double)(now() - begin);
	switched = (switches() - switched) / figures_total(&figures);
	figures_print_open(&figures, "pingpong", label);
	printf(", \"bytes\": %u, \"interval_us\": %llu, \"busy\": %.4f, \"switches\": %.3f}\n",
	       size, (unsigned long long)(interval / 1000), busy, switched);
}

static const char *parse(int argc, char **argv, uint32_t *n, uint64_t *interval,
			 char *role)
{
	const char *label = NULL, *way;
	int option;

	while ((option = getopt(argc, argv, SIDE_OPTIONS "n:i:l:r:")) != -1) {
		switch (option) {
		case 'n':
			*n = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'i':
			*interval = strtoull(optarg, NULL, 10) * 1000;
			break;
		case 'l':
			label = optarg;
			break;
		case 'r':
			*role = *optarg;
			break;
		default:
			side_option(option, optarg);
		}
	}
	way = side_way(argc, argv);
	return label != NULL ? label : way;
}

int main(int argc, char **argv)
{
	int there[2], back[2], out;
	uint64_t interval = 0;
	const char *label;
	uint32_t n = 1000;
	char role = 0;
	pid_t child;

	label = parse(argc, argv, &n, &interval, &role);
	if (role == 's') {
		echo(STDIN_FILENO, STDOUT_FILENO, n + n / 10);
		return 0;
	}
	if (role == 'c') {
		out = dup(STDOUT_FILENO);
		if (out < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
			die("dup");
		report(STDIN_FILENO, out, interval, n, label);
		return 0;
	}
	if (pipe(there) != 0 || pipe(back) != 0 || (child = fork()) < 0)
		die("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		echo(there[0], back[1], UINT32_MAX);
	}
	report(back[0], there[1], interval, n, label);
	kill(child, SIGKILL);
	return 0;
}
