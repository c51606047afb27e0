/* SPDX-License-Identifier: PostgreSQL */
/*
 * figures.h - latencies of the programs of bench/, and what is printed of them:
 * an object a line, as by fastwake bench --json.
 */
#ifndef BENCH_FIGURES_H
#define BENCH_FIGURES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct figures {
	uint32_t n;	/* that count */
	uint32_t taken; /* of n, and a tenth before them for warming up */
	uint64_t *ns;
};

static inline uint32_t figures_total(const struct figures *f)
{
	return f->n + f->n / 10;
}

static inline void figures_init(struct figures *f, uint32_t n)
{
	f->n = n > 0 ? n : 1;
	f->taken = 0;
	f->ns = malloc(figures_total(f) * sizeof(*f->ns));
	if (f->ns == NULL)
		abort();
}

static inline bool figures_wanted(const struct figures *f)
{
	return f->taken < figures_total(f);
}

static inline void figures_add(struct figures *f, uint64_t ns)
{
	if (figures_wanted(f))
		f->ns[f->taken++] = ns;
}

static inline int figures_by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static inline double figures_quantile_us(const uint64_t *sorted, uint32_t n,
					 double q)
{
	uint32_t i = (uint32_t)(q * n);

	return (double)sorted[i < n ? i : n - 1] / 1e3;
}

/* Sorts what counts, and prints the object but for its end. */
static inline void figures_print_open(struct figures *f, const char *name,
				      const char *path)
{
	uint64_t *counting = f->ns + figures_total(f) - f->n;

	qsort(counting, f->n, sizeof(*counting), figures_by_value);
	printf("{\"case\": \"%s\", \"path\": \"%s\", \"n\": %u, \"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f",
	       name, path, f->n, figures_quantile_us(counting, f->n, 0.5),
	       figures_quantile_us(counting, f->n, 0.99),
	       figures_quantile_us(counting, f->n, 1));
}

static inline void figures_print(struct figures *f, const char *name,
				 const char *path)
{
	figures_print_open(f, name, path);
	puts("}");
	fflush(stdout);
}

#endif
