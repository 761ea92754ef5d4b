/* SPDX-License-Identifier: MIT */
/*
 * Sampled windows for those that grow: the rota says who and for how long; here they are attached to, looked at now and then (a process that
 * is killed must leave what was found so far), and let go. Invariant: nothing is armed in a process that the rota did not choose.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/watch.h"

#define SECOND_NS 1000000000ull
/* Reports during a turn: at this age of it, and then at twice the age of the one before. */
#define INTERIM_NS (5 * SECOND_NS)
/* A verdict this sure ends a turn that has lasted a while. */
#define SURE 0.8
#define SURE_NS (25 * SECOND_NS)
/* What a process takes here: of the survivors 3 MB at most, of a report some 40 KB. */
#define SURVIVORS (1u << 15)
#define FRAMES 15
#define TOP WATCHED_FINDINGS
/* The kernel side costs 0.3 s to load and 10 MB to keep: it goes when nobody was sampled for so long. */
#define UNLOAD_NS (600 * SECOND_NS)

static void begin(struct watch *w, struct process *p, uint64_t now_ns)
{
	struct attachment_options options = {
		.mode = TRACE_SAMPLED,
		.budget = w->opts->budget / 100,
		.frames = FRAMES,
		.top = TOP,
		.survivors = SURVIVORS,
	};
	struct err err = { 0 };

	rota_began(w->rota, p->w.id, now_ns);
	if (attachment_new(w->tracer, p->w.id.pid, &options, &p->attachment, &err)) {
		/* Gone, traced by another, an allocator that cannot be armed: its turn is over, and the next is later. */
		rota_ended(w->rota, p->w.id, now_ns, VERDICT_unknown);
		if (err.code != -ESRCH)
			watch_warn("process %d cannot be sampled: %s", p->w.id.pid, err.what);
		return;
	}
	p->began_ns = now_ns;
	p->interim_ns = now_ns + INTERIM_NS;
	p->turn_told = false;
	p->w.sampled_now = true;
	w->self.samplings++;
	w->self.sampled_now++;
}

/* A report too young to say anything does not replace one that did. */
static int take_report(void *ctx, const struct report *report)
{
	struct process *p = ctx;
	bool says = report->verdict && report->verdict->kind != VERDICT_unknown;
	int r;

	p->w.dropped += report->coverage.dropped;
	if (!says && p->w.report && !p->turn_told)
		return 0;
	r = watched_take_report(&p->w, report, clock_wall(&clock_real));
	if (!r)
		p->fresh = p->turn_told = true;
	return r;
}

static void look(struct watch *w, struct process *p, bool last)
{
	bool had = p->w.has_verdict;
	enum verdict_kind before = p->w.verdict;
	uint64_t dropped = p->w.dropped;

	attachment_report(p->attachment, last, take_report, p);
	w->self.dropped += p->w.dropped - dropped;
	if (p->w.has_verdict && p->w.verdict != VERDICT_unknown && (!had || p->w.verdict != before))
		watch_say(w, WATCH_verdict, p, NULL);
}

void watch_sampling_end(struct watch *w, struct process *p, uint64_t now_ns)
{
	attachment_disarm(p->attachment);
	look(w, p, true);
	attachment_free(p->attachment);
	p->attachment = NULL;
	p->sampled_before = p->w.sampled_seconds = p->sampled_before + (double)(now_ns - p->began_ns) / 1e9;
	p->w.sampled_now = false;
	w->self.sampled_now--;
	rota_ended(w->rota, p->w.id, now_ns, p->turn_told ? p->w.verdict : VERDICT_unknown);
	w->unload_ns = now_ns + UNLOAD_NS;
}

static bool is_sure(const struct process *p, uint64_t now_ns)
{
	return p->turn_told && p->w.has_verdict && p->w.verdict == VERDICT_leak && p->w.confidence >= SURE &&
	       now_ns >= p->began_ns + SURE_NS;
}

static void step(struct watch *w, struct process *p, uint64_t now_ns)
{
	int r = attachment_step(p->attachment);

	p->w.sampled_seconds = p->sampled_before + (double)(now_ns - p->began_ns) / 1e9;
	if (r || attachment_is_gone(p->attachment)) {
		/* How it ended the finder tells. */
		attachment_gone(p->attachment);
		watch_sampling_end(w, p, now_ns);
		return;
	}
	if (now_ns >= p->interim_ns) {
		look(w, p, false);
		p->interim_ns = p->began_ns + 2 * (now_ns - p->began_ns);
	}
	if (rota_is_over(w->rota, p->w.id, now_ns) || is_sure(p, now_ns))
		watch_sampling_end(w, p, now_ns);
}

void watch_sampling_step(struct watch *w, uint64_t now_ns)
{
	tracer_drain(w->tracer);
	for (size_t i = 0; i < w->n; i++)
		if (w->processes[i]->attachment)
			step(w, w->processes[i], now_ns);
	if (w->unload_ns && !w->self.sampled_now && now_ns >= w->unload_ns) {
		tracer_unload(w->tracer);
		w->unload_ns = 0;
	}
}

uint64_t watch_sampling_next_ns(const struct watch *w)
{
	uint64_t next_ns = UINT64_MAX;

	for (size_t i = 0; i < w->n; i++) {
		uint64_t due_ns = w->processes[i]->attachment ? attachment_next_ns(w->processes[i]->attachment) : UINT64_MAX;

		if (due_ns < next_ns)
			next_ns = due_ns;
	}
	return next_ns;
}

void watch_sampling_choose(struct watch *w, uint64_t now_ns)
{
	_cleanup_(freep) struct rota_candidate *candidates = calloc(w->n + 1, sizeof(*candidates));
	struct process_id ids[WATCH_SAMPLED_MAX];
	size_t chosen[WATCH_SAMPLED_MAX], n;

	if (!candidates)
		return;
	for (size_t i = 0; i < w->n; i++) {
		const struct process *p = w->processes[i];

		candidates[i] = (struct rota_candidate){ p->w.id, p->w.group, p->passive ? passive_suspicion(p->passive) : 0 };
	}
	n = rota_choose(w->rota, now_ns, candidates, w->n, chosen, WATCH_SAMPLED_MAX);
	for (size_t i = 0; i < n; i++)
		ids[i] = candidates[chosen[i]].id;
	for (size_t i = 0; i < n; i++) {
		struct process *p = watch_process(w, ids[i]);

		if (p && !p->attachment)
			begin(w, p, now_ns);
	}
}
