/* SPDX-License-Identifier: MIT */
/* What the live blocks of each group are: objects of which types. */
#include <errno.h>
#include <stdlib.h>

#include "base/map64.h"
#include "diagnose/estimates_impl.h"

struct tally {
	double count, bytes;
};

struct tallies {
	const struct estimates *e;
	struct map64 *map;    /* group << 32 | type -> struct tally */
	bool failed;
};

static void add(void *ctx, const struct survivor *b)
{
	struct tallies *t = ctx;
	size_t group = b->type ? growth_rank_of(t->e->in->growth, FINDING_python, b->stack) : SIZE_MAX;
	struct tally *tally;

	if (group == SIZE_MAX)
		return;
	tally = map64_put(t->map, (uint64_t)group << 32 | b->type, NULL);
	if (!tally) {
		t->failed = true;
		return;
	}
	tally->count += (double)b->weight;
	tally->bytes += (double)b->weight * b->size;
}

/* Keeps the heaviest, in order; of equals the one that was found first. */
static void place(struct estimate *g, const struct report_type *type)
{
	size_t at = g->n_types;

	while (at > 0 && g->types[at - 1].bytes < type->bytes)
		at--;
	if (at == ESTIMATE_TYPES_MAX)
		return;
	if (g->n_types < ESTIMATE_TYPES_MAX)
		g->n_types++;
	for (size_t i = g->n_types - 1; i > at; i--)
		g->types[i] = g->types[i - 1];
	g->types[at] = *type;
}

int estimates_find_types(struct estimates *e)
{
	struct tallies t = { .e = e };
	const struct tally *tally;
	size_t cursor = 0;
	uint64_t key;
	int r;

	if (!e->in->sampling)
		return 0;
	r = map64_new(sizeof(struct tally), &t.map);
	if (r)
		return r;
	survivors_visit(e->in->survivors, add, &t);
	while ((tally = map64_next(t.map, &cursor, &key))) {
		struct report_type type = {
			.name = types_name(sampling_types(e->in->sampling), (uint32_t)key),
			.count = (uint64_t)(tally->count + 0.5),
			.bytes = (uint64_t)tally->bytes,
		};

		place(&e->groups[key >> 32], &type);
	}
	map64_free(t.map);
	return t.failed ? -ENOMEM : 0;
}
