// SPDX-License-Identifier: PostgreSQL
/*
 * Completion queues as words in memory: adapters on queues made by hand, as the
 * devices fill them.
 */
#include <endian.h>
#include <infiniband/mlx5dv.h>
#include <rdma/rdma_user_rxe.h>
#include <string.h>

#include "../src/cq.h"
#include "tap.h"

static bool holds(const struct fastwake_watch *w)
{
	uint32_t word = *(const volatile uint32_t *)w->word;

	if ((w->condition & ~FASTWAKE_SILENT) == FASTWAKE_MASK_NE)
		return (word & w->mask) != w->operand;
	return word != w->operand;
}

/* ---- mlx5 ---- */

#define COUNT_MAX 256u

struct queue {
	uint32_t record[2]; /* doorbell record: consumer index, arm */
	uint32_t count;
	uint32_t size;
	uint32_t produced;
	uint32_t consumed;
	struct fw_cq cq;
	_Alignas(128) unsigned char entries[COUNT_MAX * 128];
};

static struct queue queue;

static struct mlx5_cqe64 *entry(uint32_t index)
{
	unsigned char *at =
		queue.entries + (index & (queue.count - 1)) * queue.size;

	return (void *)(at + queue.size - 64);
}

static uint8_t owner(uint32_t index)
{
	return (index & queue.count) != 0;
}

static void publish_consumer(void)
{
	queue.record[0] = htobe32(queue.consumed & 0xffffff);
}

static struct fw_cq_mlx5 described(void)
{
	return (struct fw_cq_mlx5){ .entries = queue.entries,
				    .consumer = queue.record,
				    .count = queue.count,
				    .entry_size = queue.size };
}

/* As libmlx5 makes it; at FROM as after so many completions. */
static void make(uint32_t count, uint32_t size, uint32_t from)
{
	struct fw_cq_mlx5 q;
	uint32_t i;

	memset(&queue, 0, sizeof(queue));
	queue.count = count;
	queue.size = size;
	queue.produced = queue.consumed = from;
	for (i = 0; i < count; i++)
		entry(i)->op_own = MLX5_CQE_INVALID << 4;
	for (i = from < count ? 0 : from - count; i < from; i++)
		entry(i)->op_own = (uint8_t)(MLX5_CQE_REQ << 4 | owner(i));
	publish_consumer();
	q = described();
	tap_ok(fw_cq_adapt_mlx5(&queue.cq, &q),
	       "mlx5: %u entries of %u bytes, at %u", count, size, from);
}

static void complete(uint8_t opcode)
{
	struct mlx5_cqe64 *e = entry(queue.produced);

	e->wqe_counter = htobe16((uint16_t)queue.produced);
	e->signature = (uint8_t)(queue.produced * 7);
	__atomic_store_n(&e->op_own,
			 (uint8_t)(opcode << 4 | owner(queue.produced)),
			 __ATOMIC_RELEASE);
	queue.produced++;
}

static void consume(void)
{
	queue.consumed++;
	publish_consumer();
}

static uint32_t random_state = 2463534242u;

static uint32_t random_below(uint32_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state % limit;
}

static const uint8_t opcodes[] = { MLX5_CQE_REQ, MLX5_CQE_RESP_WR_IMM,
				   MLX5_CQE_RESP_SEND, MLX5_CQE_REQ_ERR,
				   MLX5_CQE_RESP_ERR };

/*
 * Completions come and go in bursts, for STEPS of them.  At each step: the
 * watch of an empty queue does not hold, nor when other bytes of the word
 * change, and the next completion makes it; that of another holds at once.
 */
static void go_around(uint32_t count, uint32_t size, uint32_t from,
		      uint32_t steps)
{
	uint32_t i, burst, misfired = 0, missed = 0, refused = 0;
	struct fastwake_watch w;

	make(count, size, from);
	for (i = 0; i < steps; i += burst) {
		burst = 1 + random_below(count);
		refused += !fw_cq_watch(&queue.cq, &w);
		misfired += holds(&w);
		entry(queue.consumed)->signature ^= 0x5a;
		misfired += holds(&w);
		while (queue.produced - queue.consumed < burst) {
			complete(opcodes[random_below(sizeof(opcodes))]);
			missed += !holds(&w);
		}
		while (queue.produced != queue.consumed) {
			refused += !fw_cq_watch(&queue.cq, &w);
			missed += !holds(&w);
			consume();
		}
	}
	tap_is(refused, 0, "every state of the queue is understood");
	tap_is(misfired, 0, "an empty queue's watch does not hold");
	tap_is(missed, 0, "the next completion makes it hold");
}

static void test_laps(void)
{
	go_around(1, 64, 0, 50);
	go_around(2, 128, 0, 200);
	go_around(128, 64, 0, 5000);
	go_around(256, 128, 0, 5000);
	/* across the 24 bits of the consumer's index */
	go_around(64, 64, 0xffff00, 1000);
}

/* Where a watch on the owner bit alone would go wrong. */
static void test_first_lap(void)
{
	struct fastwake_watch w;

	make(16, 64, 0);
	tap_ok(fw_cq_watch(&queue.cq, &w), "a fresh queue has a watch");
	tap_is(w.operand >> 24, 0xf0, "its entry is 0xf0");
	tap_is(w.mask, 0xff000000u, "all of op_own is looked at, no more");
	tap_is((uintptr_t)w.word % 4, 0, "the word is aligned");
	tap_ok((w.condition & FASTWAKE_SILENT) != 0, "nobody rings for it");
	complete(MLX5_CQE_REQ);
	tap_is(entry(0)->op_own & 1, 0,
	       "owner bit of the first lap: as before");
	tap_ok(holds(&w), "seen all the same");
}

static void test_refused(void)
{
	const struct fw_cq_mlx5 good = { .entries = queue.entries,
					 .consumer = queue.record,
					 .count = 16,
					 .entry_size = 64 };
	struct fw_cq_mlx5 bad[7];
	struct fastwake_watch w;
	struct fw_cq cq = { .adapter = NULL };
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		bad[i] = good;
	bad[0].count = 0;
	bad[1].count = 24;
	bad[2].count = 1u << 24;
	bad[3].entry_size = 32;
	bad[4].entries = NULL;
	bad[5].entries = queue.entries + 4;
	bad[6].consumer = NULL;
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		tap_ok(!fw_cq_adapt_mlx5(&cq, &bad[i]) && cq.adapter == NULL,
		       "mlx5: form %zu is refused", i);
	tap_ok(!fw_cq_watch(&cq, &w), "a queue without adapter has no watch");
	make(16, 64, 0);
	complete(MLX5_CQE_REQ);
	entry(0)->op_own |= 3 << 2;
	tap_ok(!fw_cq_watch(&queue.cq, &w),
	       "compressed completions are refused");
}

/* ---- rxe ---- */

/* Of Linux before 5.13 (6), of later ones (7). */
static void test_rxe(unsigned int log2)
{
	static _Alignas(64) struct {
		struct rxe_queue_buf head;
		unsigned char data[16 << 7];
	} q;
	struct fw_mapping mapping = {
		.start = &q,
		.length = sizeof(q.head) + (16u << log2),
	};
	struct fw_cq cq = { .adapter = NULL };
	struct fastwake_watch w;

	q.head = (struct rxe_queue_buf){ .log2_elem_size = log2,
					 .index_mask = 15 };
	tap_ok(!fw_cq_adapt_rxe(&cq, &mapping, 16), "rxe: too few entries");
	tap_ok(fw_cq_adapt_rxe(&cq, &mapping, 15), "rxe: 15 entries of 16");
	q.head.producer_index = 15;
	tap_ok(fw_cq_watch(&cq, &w) && !holds(&w), "nothing new");
	q.head.producer_index = 0;
	tap_ok(holds(&w), "the index wraps: something new");
	mapping.length -= 64;
	cq.adapter = NULL;
	tap_ok(!fw_cq_adapt_rxe(&cq, &mapping, 15) && cq.adapter == NULL,
	       "rxe: a mapping that is too short");
	q.head.log2_elem_size = 5;
	tap_ok(!fw_cq_adapt_rxe(&cq, &mapping, 15) && cq.adapter == NULL,
	       "rxe: completions that are too small");
}

/* ---- devices ---- */

static void test_devices(void)
{
	struct ibv_device stranger = { .ibdev_path = "/nonexistent" };
	char reason[FASTWAKE_REASON_MAX] = "";

	tap_ok(fw_cq_adapter(&stranger, reason) == NULL,
	       "a device of an unknown driver has no adapter");
	tap_ok(strstr(reason, "event channel") != NULL,
	       "and the reason says what is used: %s", reason);
	tap_ok(fw_cq_adapter(&stranger, NULL) == NULL, "without asking why");
}

int main(void)
{
	tap_begin();
	test_laps();
	test_first_lap();
	test_refused();
	test_rxe(6);
	test_rxe(7);
	test_devices();
	return tap_done();
}
