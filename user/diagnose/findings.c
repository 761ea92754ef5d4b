/* SPDX-License-Identifier: MIT */
#include "diagnose/findings.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* Share of what a line allocates that it must keep for its survivors to be called its own. */
#define KEPT_LEAST 0.01

struct findings {
	struct report_finding *findings;
	size_t count;
	size_t more;
	uint64_t more_bytes;
	struct report_frame likelier;   /* file NULL: nobody knows */
	struct report_survival (*survival)[SURVIVOR_AGE_COUNT];   /* of each finding */
};

static void fill_frame(const struct stacks *stacks, struct source *source, const struct frame *f, struct report_frame *ret)
{
	*ret = (struct report_frame){
		.file = stacks_str(stacks, f->file),
		.function = stacks_str(stacks, f->function),
		.line = f->line > 0 ? f->line : 0,
	};
	if (source && ret->line)
		ret->source = source_line(source, ret->file, ret->line);
}

static struct report_estimate rate(double amount, double seconds, bool exact)
{
	double estimate = seconds > 0 ? amount / seconds : NAN;

	return (struct report_estimate){ estimate, exact ? estimate : NAN, exact ? estimate : NAN };
}

static int fill_finding(const struct growth_group *g, const struct stacks *stacks, struct source *source, double seconds,
			uint64_t now_ns, bool exact, int first_hand, struct report_finding *ret)
{
	const struct stack *stack = stacks_get(stacks, g->stack);
	struct report_frame *frames = calloc(stack->count + 1u, sizeof(*frames));

	if (!frames)
		return -ENOMEM;
	for (uint32_t i = 0; i < stack->count; i++)
		fill_frame(stacks, source, stacks_frame(stacks, stack->frames[i]), &frames[i]);
	*ret = (struct report_finding){
		.kind = g->kind,
		.confidence = NAN,
		.allocations_per_second = NAN,
		.bytes_per_second = rate((double)g->live_bytes, seconds, exact),
		.blocks_per_second = rate((double)g->live_blocks, seconds, exact),
		.live_bytes = g->live_bytes,
		.live_blocks = g->live_blocks,
		.delta_bytes = g->delta_bytes,
		.delta_blocks = g->delta_blocks,
		.age_seconds = now_ns > g->oldest_ns ? (double)(now_ns - g->oldest_ns) / 1e9 : 0,
		.first_hand = first_hand,
		.traceback = frames,
		.n_traceback = stack->count,
		.truncated = stack->truncated,
	};
	return 0;
}

static void fill_survival(const struct estimate *e, double seconds, struct report_survival *survival, struct report_finding *f)
{
	static const double ages[SURVIVOR_AGE_COUNT] = {
#define X(age) age,
		SURVIVOR_AGES(X)
#undef X
	};

	for (int i = 0; i < SURVIVOR_AGE_COUNT && ages[i] < seconds; i++)
		survival[f->n_survival++] = (struct report_survival){ ages[i], e->alive[i] };
	f->survival = survival;
	if (e->n_types) {
		f->types = e->types;
		f->n_types = e->n_types;
	}
	f->allocations_per_second = e->allocated;
}

static void fill_estimate(const struct estimate *e, struct report_finding *f)
{
	if (f->kind == FINDING_python && !e->aged) {
		/* Nothing of it has reached the age: it may all be gone in a moment. */
		f->bytes_per_second = f->blocks_per_second = (struct report_estimate){ NAN, NAN, NAN };
		f->confidence = 0;
		return;
	}
	f->bytes_per_second = e->bytes;
	f->blocks_per_second = e->blocks;
	/* Of a line that hardly keeps anything it is not known whether what stands there now is its own. */
	if (f->first_hand == 1 && (!(e->bytes.low > 0) || e->gross_blocks < KEPT_LEAST * e->allocated))
		f->first_hand = -1;
	/* How sure it is that it grows at all: the distance of the lower bound from nothing. */
	f->confidence = e->bytes.estimate > 0 ? fmin(fmax(e->bytes.low / e->bytes.estimate, 0), 1) : 0;
}

/* Second-hand blocks are key tables of dicts: the line whose dicts are without one is who uses them. */
static void fill_likelier(const struct growth *growth, const struct stacks *stacks, struct source *source, struct report_frame *ret)
{
	const struct growth_group *group = growth_likelier(growth);
	const struct stack *stack = group ? stacks_get(stacks, group->stack) : NULL;

	if (stack && stack->count)
		fill_frame(stacks, source, stacks_frame(stacks, stack->frames[0]), ret);
}

int findings_new(const struct growth *growth, const struct stacks *stacks, struct source *source, size_t top, double seconds,
		 uint64_t now_ns, bool exact, const struct estimates *estimates, struct findings **ret_findings)
{
	_cleanup_(findings_freep) struct findings *f = calloc(1, sizeof(*f));
	size_t n = growth_count(growth);

	if (!f)
		return -ENOMEM;
	if (top && n > top)
		n = top;
	f->findings = calloc(n + 1, sizeof(*f->findings));
	f->survival = calloc(n + 1, sizeof(*f->survival));
	if (!f->findings || !f->survival)
		return -ENOMEM;
	fill_likelier(growth, stacks, source, &f->likelier);
	for (; f->count < n; f->count++) {
		const struct growth_group *group = growth_get(growth, f->count);
		struct report_finding *finding = &f->findings[f->count];
		int r = fill_finding(group, stacks, source, seconds, now_ns, exact, growth_first_hand(growth, group), finding);

		if (r)
			return r;
		if (estimates)
			fill_estimate(estimates_get(estimates, f->count), finding);
		if (estimates && finding->kind == FINDING_python)
			fill_survival(estimates_get(estimates, f->count), seconds, f->survival[f->count], finding);
		if (finding->first_hand == 0 && f->likelier.file)
			finding->likelier = &f->likelier;
	}
	f->more = growth_count(growth) - n;
	for (size_t i = n; i < growth_count(growth); i++)
		f->more_bytes += growth_get(growth, i)->live_bytes;
	*ret_findings = take_ptr(f);
	return 0;
}

void findings_free(struct findings *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->count; i++)
		free((void *)f->findings[i].traceback);
	free(f->findings);
	free(f->survival);
	free(f);
}

const struct report_finding *findings_get(const struct findings *f, size_t *ret_count)
{
	*ret_count = f->count;
	return f->findings;
}

void findings_more(const struct findings *f, size_t *ret_count, uint64_t *ret_bytes)
{
	*ret_count = f->more;
	*ret_bytes = f->more_bytes;
}
