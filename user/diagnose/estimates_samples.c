/* SPDX-License-Identifier: MIT */
/*
 * From survivors to samples: blocks that outlived the age that counts, and the
 * steps by which containers that are still there grew. Sorted by group, window, time.
 */
#include <errno.h>
#include <stdlib.h>

#include "diagnose/estimates_impl.h"

static void add_sample(struct estimates *e, const struct sample *sample)
{
	if (e->n_samples == e->cap_samples) {
		size_t cap = e->cap_samples ? e->cap_samples * 2 : 4096;
		void *samples = reallocarray(e->samples, cap, sizeof(*e->samples));

		if (!samples) {
			e->error = -ENOMEM;
			return;
		}
		e->samples = samples;
		e->cap_samples = cap;
	}
	e->samples[e->n_samples++] = *sample;
}

static double seconds_of(const struct estimates *e, uint64_t time_ns)
{
	return time_ns > e->in->start_ns ? (double)(time_ns - e->in->start_ns) / 1e9 : 0;
}

/* The group of what happened at t on this stack; SIZE_MAX: it does not count. */
static size_t group_at(const struct estimates *e, double t, uint32_t stack)
{
	if (t < e->from || t > e->to || e->error)
		return SIZE_MAX;
	return growth_rank_of(e->in->growth, FINDING_python, stack);
}

static uint32_t class_of(const struct survivor *b)
{
	if (b->large || b->size > 512)
		return LARGE_CLASS;
	if (b->block_bytes)
		return b->block_bytes / CLASS_BYTES - 1;
	return b->size ? (b->size - 1) / CLASS_BYTES : 0;
}

static void collect(void *ctx, const struct survivor *b)
{
	struct estimates *e = ctx;
	double t = seconds_of(e, b->time_ns);
	size_t group = group_at(e, t, b->stack);

	/* A container that moved grew in steps: collect_move(). */
	if (b->chain && !map64_put(e->chains, b->chain, NULL))
		e->error = -ENOMEM;
	/* Its last look may lie before the age it is to reach. */
	if (group == SIZE_MAX || b->chain || (double)b->checked_ns < (double)b->time_ns + 0.9e9 * e->age)
		return;
	add_sample(e, &(struct sample){
		.group = (uint32_t)group,
		.window = b->window,
		.size_class = class_of(b),
		.type = b->type,
		.weight = b->weight,
		.size = b->size,
		.t = t,
	});
}

/* A move_fn, after all survivors: steps of containers that are still there. */
static void collect_move(void *ctx, const struct move *m)
{
	struct estimates *e = ctx;
	double t = seconds_of(e, m->time_ns);
	size_t group = group_at(e, t, m->stack);

	if (group == SIZE_MAX || !m->bytes || !map64_get(e->chains, m->chain))
		return;
	add_sample(e, &(struct sample){
		.group = (uint32_t)group,
		.window = m->window,
		.size_class = LARGE_CLASS,
		.weight = m->weight,
		.size = m->bytes < UINT32_MAX ? (uint32_t)m->bytes : UINT32_MAX,
		.step = true,
		.t = t,
	});
}

static int compare_samples(const void *pa, const void *pb)
{
	const struct sample *a = pa, *b = pb;

	if (a->group != b->group)
		return a->group < b->group ? -1 : 1;
	if (a->window != b->window)
		return a->window < b->window ? -1 : 1;
	return (a->t > b->t) - (a->t < b->t);
}

int estimates_collect(struct estimates *e)
{
	int r = map64_new(sizeof(uint8_t), &e->chains);

	if (r)
		return r;
	survivors_visit(e->in->survivors, collect, e);
	if (e->in->sampling)
		moves_visit(sampling_moves(e->in->sampling), collect_move, e);
	if (e->n_samples)
		qsort(e->samples, e->n_samples, sizeof(*e->samples), compare_samples);
	return e->error;
}
