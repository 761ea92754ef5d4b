/* SPDX-License-Identifier: MIT */
/*
 * Both censuses are sorted by name, so they are merged in one pass; what stands in one only counts as 0 in the other. Counts come from files,
 * too: sums and differences stop at the ends of their types instead of turning around.
 */
#include "heap/compare.h"

#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t plus(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static int64_t plus_signed(int64_t a, int64_t b)
{
	int64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return a < 0 ? INT64_MIN : INT64_MAX;
	return sum;
}

static int64_t minus(uint64_t a, uint64_t b)
{
	uint64_t distance = a > b ? a - b : b - a;
	int64_t value = distance > INT64_MAX ? INT64_MAX : (int64_t)distance;

	return a > b ? value : -value;
}

/* now or before may be NULL: it was not there. */
static struct comparison_row row_of(const char *name, const struct census_row *before, const struct census_row *now, bool has_deltas)
{
	static const struct census_row none;
	const struct census_row *b = before ? before : &none, *n = now ? now : &none;

	return (struct comparison_row){
		.name = name, .count = n->count, .bytes = n->bytes, .owned_bytes = n->owned_bytes,
		.delta_count = has_deltas ? minus(n->count, b->count) : 0,
		.delta_bytes = has_deltas ? minus(n->bytes, b->bytes) : 0,
	};
}

static int by_size(const void *pa, const void *pb)
{
	const struct comparison_row *a = pa, *b = pb;

	if (a->delta_bytes != b->delta_bytes)
		return a->delta_bytes < b->delta_bytes ? 1 : -1;
	if (a->delta_count != b->delta_count)
		return a->delta_count < b->delta_count ? 1 : -1;
	if (a->bytes != b->bytes)
		return a->bytes < b->bytes ? 1 : -1;
	if (a->count != b->count)
		return a->count < b->count ? 1 : -1;
	return strcmp(a->name, b->name);
}

static void add_types(struct comparison *c, const struct census *before, const struct census *now)
{
	size_t n_before = before ? before->n_types : 0, b = 0, n = 0;

	while (b < n_before || n < now->n_types) {
		const struct census_row *old = b < n_before ? &before->types[b] : NULL;
		const struct census_row *new = n < now->n_types ? &now->types[n] : NULL;
		int order = !old ? 1 : !new ? -1 : strcmp(old->name, new->name);

		if (order < 0)
			c->types[c->n_types++] = row_of(old->name, old, NULL, true);
		else
			c->types[c->n_types++] = row_of(new->name, order ? NULL : old, new, before != NULL);
		b += order <= 0;
		n += order >= 0;
	}
}

int comparison_new(const struct census *before, const struct census *now, double seconds, struct comparison **ret_comparison)
{
	_cleanup_(comparison_freep) struct comparison *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->types = calloc(now->n_types + (before ? before->n_types : 0) + 1, sizeof(*c->types));
	if (!c->types)
		return -ENOMEM;
	c->has_deltas = before != NULL;
	c->seconds = seconds;
	add_types(c, before, now);
	qsort(c->types, c->n_types, sizeof(*c->types), by_size);
	for (int k = 0; k < CENSUS_NON_OBJECT_COUNT; k++)
		c->non_objects[k] = row_of(census_non_object_name((enum census_non_object)k), before ? &before->non_objects[k] : NULL,
					   &now->non_objects[k], c->has_deltas);
	qsort(c->non_objects, CENSUS_NON_OBJECT_COUNT, sizeof(*c->non_objects), by_size);
	c->total = comparison_rest(c, 0);
	c->block_bytes = now->block_bytes;
	c->delta_block_bytes = before ? minus(now->block_bytes, before->block_bytes) : 0;
	*ret_comparison = take_ptr(c);
	return 0;
}

void comparison_free(struct comparison *comparison)
{
	if (!comparison)
		return;
	free(comparison->types);
	free(comparison);
}

void comparison_filter(struct comparison *comparison, const char *glob)
{
	size_t n = 0;

	for (size_t i = 0; i < comparison->n_types; i++)
		if (!fnmatch(glob, comparison->types[i].name, 0))
			comparison->types[n++] = comparison->types[i];
	comparison->n_types = n;
}

double comparison_rate(const struct comparison *comparison, int64_t delta)
{
	if (!comparison->has_deltas || !(comparison->seconds > 0))
		return NAN;
	return (double)delta / comparison->seconds;
}

struct comparison_row comparison_rest(const struct comparison *comparison, size_t first)
{
	struct comparison_row sum = { 0 };

	for (size_t i = first; i < comparison->n_types; i++) {
		const struct comparison_row *row = &comparison->types[i];

		sum.count = plus(sum.count, row->count);
		sum.bytes = plus(sum.bytes, row->bytes);
		sum.owned_bytes = plus(sum.owned_bytes, row->owned_bytes);
		sum.delta_count = plus_signed(sum.delta_count, row->delta_count);
		sum.delta_bytes = plus_signed(sum.delta_bytes, row->delta_bytes);
	}
	return sum;
}
