// SPDX-License-Identifier: PostgreSQL
/*
 * pairs.c - many pairs of processes that send to each other over verbs, all at once:
 * how much do they get done together, and does each come to its turn?
 *
 * usage: pairs [-d DEVICE] [-g GID-INDEX] [-s BYTES] [-p PAIRS] [-t MS] [-l LABEL]
 *		poll|event
 *
 * poll, event: as pingpong.c.  All begin together when the last is connected, and
 * after a fifth of the time their round trips are counted.  Prints an object: round
 * trips a second, of all; and how many the pairs made that made the fewest and
 * the most.
 */
#include "side.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAIRS_MAX 1024

struct shared {
	unsigned int connected;
	unsigned int made[PAIRS_MAX]; /* round trips, pair by pair */
};

static struct shared *shared;
static pid_t children[PAIRS_MAX];
static unsigned int pairs = 64;
static uint64_t duration_ns = 1000000000;
static int go[2]; /* a pipe whose end they begin at */

static pid_t fork_or_die(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

_Noreturn static void ping(unsigned int *made)
{
	int there[2], back[2];
	struct side s;
	char none;

	close(go[1]);
	if (pipe(there) != 0 || pipe(back) != 0)
		die("pipe");
	if (fork_or_die() == 0) {
		echo(there[0], back[1], UINT32_MAX);
		exit(0);
	}
	open_side(&s);
	exchange(&s, back[0], there[1]);
	__atomic_fetch_add(&shared->connected, 1, __ATOMIC_RELEASE);
	if (read(go[0], &none, 1) != 0)
		die("pipe");
	for (;;) {
		send_one(&s);
		receive(&s);
		__atomic_fetch_add(made, 1, __ATOMIC_RELAXED);
	}
}

static bool a_child_has_ended(void)
{
	return waitpid(-1, NULL, WNOHANG) > 0;
}

static void begin(void)
{
	unsigned int i;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || pipe(go) != 0)
		die("pipe");
	for (i = 0; i < pairs; i++) {
		children[i] = fork_or_die();
		if (children[i] == 0)
			ping(&shared->made[i]);
	}
	while (__atomic_load_n(&shared->connected, __ATOMIC_ACQUIRE) < pairs) {
		if (a_child_has_ended())
			exit(1);
		sleep_until(now() + 1000000);
	}
	close(go[1]);
}

static uint64_t copy_made(unsigned int *made)
{
	unsigned int i;

	for (i = 0; i < pairs; i++)
		made[i] = __atomic_load_n(&shared->made[i], __ATOMIC_RELAXED);
	return now();
}

static void end(void)
{
	unsigned int i;

	for (i = 0; i < pairs; i++)
		kill(children[i], SIGKILL);
	while (wait(NULL) > 0)
		;
}

static void print(const char *label, uint64_t ns, const unsigned int *before,
		  const unsigned int *after)
{
	unsigned int i, n, least = UINT32_MAX, most = 0;
	double all = 0;

	for (i = 0; i < pairs; i++) {
		n = after[i] - before[i];
		all += n;
		least = n < least ? n : least;
		most = n > most ? n : most;
	}
	printf("{\"case\": \"pairs\", \"path\": \"%s\", \"pairs\": %u, \"round_trips_per_s\": %.1f, \"least\": %u, \"most\": %u}\n",
	       label, pairs, all * 1e9 / (double)ns, least, most);
}

static void measure(const char *label)
{
	static unsigned int before[PAIRS_MAX], after[PAIRS_MAX];
	uint64_t start, ns;

	begin();
	start = now();
	sleep_until(start + duration_ns / 5);
	ns = copy_made(before);
	sleep_until(start + duration_ns);
	ns = copy_made(after) - ns;
	if (a_child_has_ended())
		exit(1);
	end();
	print(label, ns, before, after);
}

static const char *parse(int argc, char **argv)
{
	const char *label = NULL, *way;
	int option;

	while ((option = getopt(argc, argv, SIDE_OPTIONS "p:t:l:")) != -1) {
		switch (option) {
		case 'p':
			pairs = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		case 't':
			duration_ns = strtoull(optarg, NULL, 10) * 1000000;
			break;
		case 'l':
			label = optarg;
			break;
		default:
			side_option(option, optarg);
		}
	}
	way = side_way(argc, argv);
	if (pairs == 0 || pairs > PAIRS_MAX)
		exit(2);
	return label != NULL ? label : way;
}

int main(int argc, char **argv)
{
	measure(parse(argc, argv));
	return 0;
}
