/* SPDX-License-Identifier: PostgreSQL */
/*
 * rnd.h - random numbers that a seed repeats: xorshift64*, one state a thread.
 */
#ifndef RND_H
#define RND_H

#include <stdint.h>
#include <stdlib.h>

struct rnd {
	uint64_t state;
};

static inline uint64_t rnd_next(struct rnd *r)
{
	r->state ^= r->state >> 12;
	r->state ^= r->state << 25;
	r->state ^= r->state >> 27;
	return r->state * 0x2545f4914f6cdd1dull;
}

/* Streams of one seed are told apart by a number. */
static inline struct rnd rnd_seed(uint64_t seed, uint64_t stream)
{
	struct rnd r = { (seed + 1) * 0x9e3779b97f4a7c15ull ^
			 (stream + 1) * 0xbf58476d1ce4e5b9ull };

	if (!r.state)
		r.state = 1;
	rnd_next(&r);
	return r;
}

/* Below N. */
static inline uint32_t rnd_below(struct rnd *r, uint32_t n)
{
	return (uint32_t)((rnd_next(r) >> 32) * n >> 32);
}

/* A number from the environment, or what there is without. */
static inline uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoull(value, NULL, 0) : otherwise;
}

#endif /* RND_H */
