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
#include <errno.h>
#include <infiniband/verbs.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "figures.h"

/* Where bench/stages looks: these stay functions. */
#define STAGE __attribute__((noinline, noclone))

#define RECEIVES 64
#define INLINE	 64
/* As ib_send_lat: of sends, one in so many asks for a completion. */
#define SIGNAL_EACH 32

struct side {
	struct ibv_context *context;
	struct ibv_comp_channel *channel;
	struct ibv_cq *receive_cq, *send_cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	char *buffer;
	uint32_t sent, unseen; /* events that are not acknowledged */
};

struct address {
	uint32_t qp_num;
	union ibv_gid gid;
};

static const char *device_name;
static int gid_index = 1;
static uint32_t size = 8;
static bool by_event;

static void die(const char *what)
{
	fprintf(stderr, "pingpong: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ------------------------------------------------------------------ */
/* Setting up                                                         */
/* ------------------------------------------------------------------ */

static struct ibv_context *open_device(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *context = NULL;
	int i;

	for (i = 0; list != NULL && list[i] != NULL && context == NULL; i++)
		if (device_name == NULL ||
		    strcmp(ibv_get_device_name(list[i]), device_name) == 0)
			context = ibv_open_device(list[i]);
	if (context == NULL)
		die("no RDMA device");
	ibv_free_device_list(list);
	return context;
}

static void make_queues(struct side *s, struct ibv_pd *pd)
{
	struct ibv_qp_init_attr attr = { .qp_type = IBV_QPT_RC };

	s->channel = ibv_create_comp_channel(s->context);
	if (s->channel == NULL)
		die("completion channel");
	s->receive_cq = ibv_create_cq(s->context, 2 * RECEIVES, NULL,
				      by_event ? s->channel : NULL, 0);
	s->send_cq = ibv_create_cq(s->context, 2 * SIGNAL_EACH, NULL, NULL, 0);
	if (s->receive_cq == NULL || s->send_cq == NULL)
		die("completion queue");
	attr.recv_cq = s->receive_cq;
	attr.send_cq = s->send_cq;
	attr.cap = (struct ibv_qp_cap){ .max_send_wr = 2 * SIGNAL_EACH,
					.max_recv_wr = RECEIVES,
					.max_send_sge = 1,
					.max_recv_sge = 1,
					.max_inline_data = INLINE };
	s->qp = ibv_create_qp(pd, &attr);
	if (s->qp == NULL)
		die("queue pair");
}

static void to_init(struct side *s)
{
	struct ibv_qp_attr a = { .qp_state = IBV_QPS_INIT, .port_num = 1 };

	if (ibv_modify_qp(s->qp, &a,
			  IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				  IBV_QP_ACCESS_FLAGS) != 0)
		die("INIT");
}

STAGE static void post_receive(struct side *s)
{
	struct ibv_sge sge = { .addr = (uintptr_t)s->buffer + size,
			       .length = size,
			       .lkey = s->mr->lkey };
	struct ibv_recv_wr wr = { .sg_list = &sge, .num_sge = 1 }, *bad;

	if (ibv_post_recv(s->qp, &wr, &bad) != 0)
		die("ibv_post_recv");
}

static void open_side(struct side *s)
{
	struct ibv_pd *pd;
	int i;

	memset(s, 0, sizeof(*s));
	s->context = open_device();
	pd = ibv_alloc_pd(s->context);
	s->buffer = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (pd == NULL || s->buffer == MAP_FAILED)
		die("memory");
	s->mr = ibv_reg_mr(pd, s->buffer, 2 * size, IBV_ACCESS_LOCAL_WRITE);
	if (s->mr == NULL)
		die("ibv_reg_mr");
	make_queues(s, pd);
	to_init(s);
	for (i = 0; i < RECEIVES; i++)
		post_receive(s);
}

static void connect_sides(struct side *s, const struct address *peer)
{
	struct ibv_qp_attr a = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_4096,
		.dest_qp_num = peer->qp_num,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 12,
		.ah_attr = { .is_global = 1,
			     .port_num = 1,
			     .grh = { .dgid = peer->gid,
				      .sgid_index = (uint8_t)gid_index,
				      .hop_limit = 64 } },
	};

	if (ibv_modify_qp(s->qp, &a,
			  IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
				  IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
				  IBV_QP_MAX_DEST_RD_ATOMIC |
				  IBV_QP_MIN_RNR_TIMER) != 0)
		die("RTR");
	a = (struct ibv_qp_attr){ .qp_state = IBV_QPS_RTS,
				  .timeout = 14,
				  .retry_cnt = 7,
				  .rnr_retry = 7,
				  .max_rd_atomic = 1 };
	if (ibv_modify_qp(s->qp, &a,
			  IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				  IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
				  IBV_QP_MAX_QP_RD_ATOMIC) != 0)
		die("RTS");
}

static void exchange(struct side *s, int in, int out)
{
	struct address mine = { .qp_num = s->qp->qp_num }, peer;

	if (ibv_query_gid(s->context, 1, gid_index, &mine.gid) != 0)
		die("GID");
	if (write(out, &mine, sizeof(mine)) != sizeof(mine) ||
	    read(in, &peer, sizeof(peer)) != sizeof(peer))
		die("pipe");
	connect_sides(s, &peer);
	/* Neither sends before both can receive. */
	if (write(out, "", 1) != 1 || read(in, &peer, 1) != 1)
		die("pipe");
}

/* ------------------------------------------------------------------ */
/* Messages                                                           */
/* ------------------------------------------------------------------ */

STAGE static bool take_one(struct ibv_cq *cq)
{
	struct ibv_wc wc;
	int n = ibv_poll_cq(cq, 1, &wc);

	if (n < 0 || (n > 0 && wc.status != IBV_WC_SUCCESS)) {
		fprintf(stderr, "pingpong: completion: %s\n",
			n < 0 ? "ibv_poll_cq" : ibv_wc_status_str(wc.status));
		exit(1);
	}
	return n > 0;
}

STAGE static void arm(struct side *s)
{
	if (ibv_req_notify_cq(s->receive_cq, 0) != 0)
		die("ibv_req_notify_cq");
}

STAGE static void sleep_for_event(struct side *s)
{
	struct ibv_cq *cq;
	void *context;

	if (ibv_get_cq_event(s->channel, &cq, &context) != 0)
		die("ibv_get_cq_event");
	if (++s->unseen == 100) {
		ibv_ack_cq_events(cq, s->unseen);
		s->unseen = 0;
	}
	arm(s);
}

static void receive(struct side *s)
{
	while (!take_one(s->receive_cq)) {
		if (by_event)
			sleep_for_event(s);
		else
			sched_yield();
	}
	post_receive(s);
}

STAGE static void send_one(struct side *s)
{
	bool signal = ++s->sent % SIGNAL_EACH == 0;
	struct ibv_sge sge = { .addr = (uintptr_t)s->buffer,
			       .length = size,
			       .lkey = s->mr->lkey };
	struct ibv_send_wr wr = { .sg_list = &sge,
				  .num_sge = 1,
				  .opcode = IBV_WR_SEND,
				  .send_flags =
					  (signal ? IBV_SEND_SIGNALED : 0u) |
					  (size <= INLINE ? IBV_SEND_INLINE
							  : 0u) },
			   *bad;

	if (signal && s->sent > SIGNAL_EACH)
		while (!take_one(s->send_cq))
			sched_yield();
	if (ibv_post_send(s->qp, &wr, &bad) != 0)
		die("ibv_post_send");
}

/* ------------------------------------------------------------------ */
/* The two processes                                                  */
/* ------------------------------------------------------------------ */

/* Answers so many. */
static void echo(int in, int out, uint32_t n)
{
	struct side s;

	open_side(&s);
	if (by_event)
		arm(&s);
	exchange(&s, in, out);
	for (; n > 0; n--) {
		receive(&s);
		send_one(&s);
	}
	/* The last answer may still be on its way. */
	if (read(in, &s, 1) < 0)
		die("pipe");
}

static double switches(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_nvcsw + usage.ru_nivcsw);
}

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

static void wait_until(uint64_t when)
{
	struct timespec t = { .tv_sec = (time_t)(when / 1000000000u),
			      .tv_nsec = (long)(when % 1000000000u) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
		;
}

/* Polling, a program keeps polling until its next message is due. */
static void wait_or_poll_until(struct side *s, uint64_t when)
{
	if (by_event) {
		wait_until(when);
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
	if (by_event)
		arm(&s);
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
	const char *label = NULL;
	int option;

	while ((option = getopt(argc, argv, "d:g:s:n:i:l:r:")) != -1) {
		switch (option) {
		case 'd':
			device_name = optarg;
			break;
		case 'g':
			gid_index = atoi(optarg);
			break;
		case 's':
			size = (uint32_t)strtoul(optarg, NULL, 10);
			break;
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
			exit(2);
		}
	}
	if (optind + 1 != argc || size == 0)
		exit(2);
	by_event = strcmp(argv[optind], "event") == 0;
	return label != NULL ? label : argv[optind];
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
