/* SPDX-License-Identifier: MIT */
/*
 * Samples (estimates_samples.c) are gone through once, by group and window. The time that
 * counts is [start + warm-up, now - age]: what was allocated then has had time to
 * die, and what the program did first is left out.
 */
#include "diagnose/estimates_impl.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "diagnose/interval.h"

/* The ages at which survivors are looked at (track/survivors.c): the largest that is a tenth of the time at most. */
static const double ages[] = { 0.1, 0.5, 2, 5, 10 };
#define AGE_SHARE (1.0 / 10)
#define WARM_UP_SHARE (1.0 / 4)
#define WARM_UP_MAX 12.0

/* The weights' own error: windows at random are a sample of the time, but no perfect one. */
#define SYSTEMATIC 0.05
#define LARGE_REST 0.25
/* A sample of less weight is no sample: nothing like it was missed. */
#define SEEN_WHOLE 2.0
/* Weights that nothing has put right are low rather than high: a hit costs more than can be measured (cold caches). */
#define WEIGHTS_LOW 1.4
#define BINS 24
/* A group whose late growth is below this part of its mean has stopped. */
#define STOPPED 0.25

static double pick_age(double seconds)
{
	double age = ages[0];

	for (size_t i = 0; i < sizeof(ages) / sizeof(ages[0]); i++)
		if (ages[i] <= AGE_SHARE * seconds)
			age = ages[i];
	return age;
}

static struct report_estimate scaled(struct report_estimate e, double low, double factor, double high)
{
	return (struct report_estimate){ e.estimate * factor, e.low * low, e.high * high };
}

/* Gross: what survives a second, by the windows alone. */
static void estimate_gross(const struct estimates *e, const struct sample *s, size_t n, struct estimate *ret)
{
	struct interval_sums bytes = { 0 }, blocks = { 0 };
	double span = e->to - e->from;
	uint64_t windows = (uint64_t)((double)e->in->windows * span / e->seconds);

	for (size_t i = 0; i < n;) {
		struct interval_window wbytes = { 0 }, wblocks = { 0 };
		uint32_t window = s[i].window;

		for (; i < n && s[i].window == window; i++) {
			interval_window_add(&wbytes, (double)s[i].weight, (double)s[i].size);
			interval_window_add(&wblocks, (double)s[i].weight, 1);
		}
		interval_add(&bytes, &wbytes);
		interval_add(&blocks, &wblocks);
	}
	ret->bytes = scaled(interval_estimate(&bytes, windows, NAN, SYSTEMATIC), 1 / span, 1 / span, 1 / span);
	ret->blocks = scaled(interval_estimate(&blocks, windows, NAN, SYSTEMATIC), 1 / span, 1 / span, 1 / span);
	for (size_t i = 0; i < n; i++)
		if (s[i].size_class == LARGE_CLASS)
			ret->large_bytes += (double)s[i].weight * s[i].size / span;
	ret->gross_bytes = ret->bytes.estimate;
	ret->gross_blocks = ret->blocks.estimate;
	ret->aged = n;
}

/* What the group keeps over time, and how much of its growth goes on. Returns the share of its mean rate that the last third has, at most 1. */
static double estimate_trend(const struct estimates *e, const struct sample *s, size_t n, struct estimate *ret)
{
	struct trend_point points[BINS + 1] = { 0 };
	double step = (e->to - e->from) / BINS, total = 0, late = 0, late_from = e->to - (e->to - e->from) / 3, kept = 0, heaviest = 0, once = 0;

	for (size_t i = 0; i < n; i++) {
		double bytes = (double)s[i].weight * s[i].size;
		int bin = (int)((s[i].t - e->from) / step);

		points[(bin < BINS ? bin : BINS - 1) + 1].value += bytes;
		total += bytes;
		heaviest = fmax(heaviest, bytes);
		if (s[i].weight < SEEN_WHOLE)
			once = fmax(once, bytes);
		if (s[i].t >= late_from)
			late += bytes;
	}
	for (int i = 0; i <= BINS; i++) {
		points[i].t = e->from + i * step;
		points[i].value = kept += points[i].value;
	}
	ret->trend = n >= 6 ? trend_of(points, BINS + 1).kind : TREND_UNKNOWN;
	if (!(total > 0))
		return 0;
	/* One block more in the last third is within chance. And what was seen to happen once need not happen again: a table that doubles. */
	return fmin((late + heaviest) / (total / 3), 1) * (total - once) / total;
}

static void estimate_groups(struct estimates *e)
{
	for (size_t i = 0, n; i < e->n_samples; i += n) {
		struct estimate *g = &e->groups[e->samples[i].group];

		for (n = 1; i + n < e->n_samples && e->samples[i + n].group == e->samples[i].group; n++)
			;
		estimate_gross(e, &e->samples[i], n, g);
		g->score = estimate_trend(e, &e->samples[i], n, g);
	}
}

static void take_large_free(void *ctx, const struct large_free *f)
{
	struct estimates *e = ctx;
	double born = f->born_ns ? ((double)f->born_ns - (double)e->in->start_ns) / 1e9 : -1;
	double t = ((double)f->time_ns - (double)e->in->start_ns) / 1e9;
	size_t rank = growth_rank_of(e->in->growth, FINDING_python, f->stack);

	/* What was born within the time is no survivor, and was not counted. */
	if (t < e->from || t > e->to || born >= e->from || rank == SIZE_MAX)
		return;
	e->groups[rank].moved_bytes += (double)f->weight * (double)f->bytes / (e->to - e->from);
}

/*
 * A line that takes a larger block and gives the smaller one back, as a list or a dict that grows does, keeps only the difference; and the
 * count of blocks, which does not change, says nothing of it.
 */
static void subtract_moved(struct estimates *e)
{
	if (e->in->sampling)
		sampling_visit_large_frees(e->in->sampling, take_large_free, e);
	for (size_t i = 0; i < e->n_groups; i++) {
		struct estimate *g = &e->groups[i];
		double rest;

		g->moves = g->moved_bytes > MOVED_SHARE * g->large_bytes;
		if (!g->moves || !(g->gross_bytes > 0))
			continue;
		g->moved_bytes = fmin(g->moved_bytes, g->large_bytes);
		rest = (g->gross_bytes - g->moved_bytes) / g->gross_bytes;
		g->bytes = scaled(g->bytes, rest, rest, rest);
		g->large_bytes -= g->moved_bytes;
		g->gross_bytes -= g->moved_bytes;
	}
}

static void finish_group(const struct estimates *e, struct estimate *g)
{
	/* How wrong the share and the scale may be widens the bounds. */
	double slack = 0.5 * (1 - g->net) + 0.5 * fabs(e->scale - 1) / e->scale;
	double low = fmax(g->net - slack, 0) * e->scale, high = WEIGHTS_LOW * fmin(g->net + slack, 1) * e->scale;

	if (!g->counted) {
		g->bytes = scaled(g->bytes, low, g->net * e->scale, high);
		g->blocks = scaled(g->blocks, low, g->net * e->scale, high);
	}
	g->goes_on = g->score > STOPPED;
	g->score = isfinite(g->bytes.estimate) ? g->score * g->bytes.estimate : 0;
}

static void reduce(struct estimate *g, double rest)
{
	/* Within what large blocks are rounded up to, and what was free before. */
	if (rest < LARGE_REST)
		rest = 0;
	g->bytes = scaled(g->bytes, rest, rest, rest);
	g->blocks = scaled(g->blocks, rest, rest, rest);
	g->score *= rest;
}

/* What a group keeps in large blocks, net. */
static double large_net(const struct estimate *g)
{
	return g->gross_bytes > 0 && g->bytes.estimate > 0 ? g->large_bytes * g->bytes.estimate / g->gross_bytes : 0;
}

/*
 * The heap and the mappings grow to hold Python's large blocks, too, and those are counted already. A mapping is asked for by the line that
 * needs the block; the heap grows for whoever comes when it is full.
 */
static void subtract_large(struct estimates *e)
{
	double large = 0, heap = 0;

	for (size_t i = 0; i < e->n_groups; i++) {
		enum finding_kind kind = growth_get(e->in->growth, i)->kind;

		if (kind == FINDING_python)
			large += large_net(&e->groups[i]);
		else if (kind == FINDING_native)
			heap += e->groups[i].gross_bytes;
	}
	for (size_t i = 0; i < e->n_groups; i++) {
		const struct growth_group *group = growth_get(e->in->growth, i);
		size_t python = growth_rank_of(e->in->growth, FINDING_python, group->stack);
		struct estimate *g = &e->groups[i];

		if (group->kind == FINDING_native && heap > 0)
			reduce(g, fmax(1 - large / heap, 0));
		else if (group->kind == FINDING_mmap && python != SIZE_MAX && g->gross_bytes > 0)
			reduce(g, fmax(1 - large_net(&e->groups[python]) / g->gross_bytes, 0));
	}
}

static void take_fates(void *ctx, uint32_t stack, const struct survivor_fates *fates)
{
	struct estimates *e = ctx;
	size_t rank = growth_rank_of(e->in->growth, FINDING_python, stack);

	if (rank == SIZE_MAX)
		return;
	e->fates[rank].left_window += fates->left_window;
	for (int i = 0; i < SURVIVOR_AGE_COUNT; i++)
		e->fates[rank].died[i] += fates->died[i];
}

static void estimate_allocations(struct estimates *e)
{
	for (size_t i = 0; i < e->in->n_allocs; i++) {
		size_t rank = growth_rank_of(e->in->growth, FINDING_python, e->in->allocs[i].stack);

		if (rank != SIZE_MAX)
			e->groups[rank].allocated += (double)e->in->allocs[i].blocks * e->in->allocs_weight / e->seconds;
	}
}

/* How long what is allocated lives: for the reader, not for the ranking. */
static int estimate_ages(struct estimates *e)
{
	e->fates = calloc(e->n_groups + 1, sizeof(*e->fates));
	if (!e->fates)
		return -ENOMEM;
	survivors_visit_fates(e->in->survivors, take_fates, e);
	for (size_t i = 0; i < e->n_groups; i++) {
		struct estimate *g = &e->groups[i];
		double total = fmax(g->allocated * e->seconds, e->fates[i].left_window), alive = e->fates[i].left_window;

		for (int k = 0; k < SURVIVOR_AGE_COUNT; k++) {
			alive -= e->fates[i].died[k];
			g->alive[k] = total > 0 ? fmin(fmax(alive / total, 0), 1) : NAN;
		}
		if (!(g->allocated > 0))
			g->allocated = NAN;
	}
	return 0;
}

/* Pieces are not sampled: what came after the warm-up and is still there is growth. */
static void add_pieces(struct estimates *e)
{
	double span = e->seconds - e->from;

	for (size_t i = 0; i < e->in->n_pieces; i++) {
		const struct estimates_piece *p = &e->in->pieces[i];
		size_t rank = growth_rank_of(e->in->growth, p->kind, p->stack);
		double t = ((double)p->time_ns - (double)e->in->start_ns) / 1e9;
		struct estimate *g = rank == SIZE_MAX ? NULL : &e->groups[rank];

		if (!g || t < e->from || span <= 0)
			continue;
		g->gross_bytes += (double)p->bytes / span;
		g->once_bytes = fmax(g->once_bytes, (double)p->bytes / span);
		g->gross_blocks += 1 / span;
		/* Where the time begins and ends between two pieces is chance: one more or less. */
		g->bytes = (struct report_estimate){ g->gross_bytes, g->gross_bytes - g->once_bytes, g->gross_bytes + g->once_bytes };
		g->blocks = (struct report_estimate){ g->gross_blocks, g->gross_blocks, g->gross_blocks };
		/* As of samples: the biggest piece may have been the only one of its kind. */
		g->score = g->gross_bytes - g->once_bytes;
	}
	subtract_large(e);
}

int estimates_new(const struct estimates_input *in, struct estimates **ret_estimates)
{
	_cleanup_(estimates_freep) struct estimates *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return -ENOMEM;
	e->in = in;
	e->scale = 1;
	e->seconds = (double)(in->now_ns - in->start_ns) / 1e9;
	e->age = pick_age(e->seconds);
	e->from = fmin(WARM_UP_SHARE * e->seconds, WARM_UP_MAX);
	e->to = fmax(e->seconds - 1.05 * e->age, e->from + 1e-3);
	e->n_groups = growth_count(in->growth);
	e->groups = calloc(e->n_groups + 1, sizeof(*e->groups));
	if (!e->groups)
		return -ENOMEM;
	for (size_t i = 0; i < e->n_groups; i++)
		e->groups[i] = (struct estimate){ .net = 1, .trend = TREND_UNKNOWN };
	r = estimates_collect(e);
	if (r)
		return r;
	estimate_groups(e);
	estimate_allocations(e);
	subtract_moved(e);
	r = estimates_apply_net(e);
	if (r && r != -E2BIG)
		return r;
	for (size_t i = 0; i < e->n_groups; i++)
		finish_group(e, &e->groups[i]);
	add_pieces(e);
	r = estimate_ages(e);
	if (!r)
		r = estimates_find_types(e);
	if (r)
		return r;
	e->in = NULL;
	*ret_estimates = take_ptr(e);
	return 0;
}

void estimates_free(struct estimates *e)
{
	if (!e)
		return;
	free(e->samples);
	map64_free(e->chains);
	free(e->fates);
	free(e->groups);
	free(e);
}

struct scored {
	double score;
	size_t rank;
};

/* As growth_rerank(). */
static int compare_scores(const void *pa, const void *pb)
{
	const struct scored *a = pa, *b = pb;

	if (a->score != b->score)
		return a->score > b->score ? -1 : 1;
	return (a->rank > b->rank) - (a->rank < b->rank);
}

int estimates_rank(struct estimates *e, struct growth *growth)
{
	struct scored *order = calloc(e->n_groups + 1, sizeof(*order));
	struct estimate *groups = calloc(e->n_groups + 1, sizeof(*groups));
	size_t *ranks = calloc(e->n_groups + 1, sizeof(*ranks));
	int r = order && groups && ranks ? 0 : -ENOMEM;

	for (size_t i = 0; i < e->n_groups && !r; i++)
		order[i] = (struct scored){ e->groups[i].score, i };
	if (!r)
		qsort(order, e->n_groups, sizeof(*order), compare_scores);
	for (size_t i = 0; i < e->n_groups && !r; i++) {
		groups[i] = e->groups[order[i].rank];
		ranks[i] = order[i].rank;
	}
	if (!r)
		r = growth_reorder(growth, ranks);
	if (!r) {
		free(e->groups);
		e->groups = take_ptr(groups);
	}
	free(order);
	free(groups);
	free(ranks);
	return r;
}

const struct estimate *estimates_get(const struct estimates *e, size_t rank)
{
	return &e->groups[rank];
}

struct report_estimate estimates_total(const struct estimates *e)
{
	struct report_estimate total = { 0, 0, 0 };
	double below = 0, above = 0;

	for (size_t i = 0; i < e->n_groups; i++) {
		const struct estimate *g = &e->groups[i];

		if (!g->goes_on || !(g->bytes.estimate > 0))
			continue;
		total.estimate += g->bytes.estimate;
		below += pow(g->bytes.estimate - g->bytes.low, 2);
		above += pow(g->bytes.high - g->bytes.estimate, 2);
	}
	total.low = fmax(total.estimate - sqrt(below), 0);
	total.high = total.estimate + sqrt(above);
	return total;
}

double estimates_age(const struct estimates *e)
{
	return e->age;
}
