/* SPDX-License-Identifier: MIT */
/* From the tables of an attachment to a struct report: what is known, and a note on everything that limits it. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fmt.h"
#include "base/strbuf.h"
#include "cmd/attachment_impl.h"
#include "diagnose/estimates.h"
#include "diagnose/findings.h"
#include "diagnose/verdict.h"
#include "interp/dict_keys.h"
#include "interp/obmalloc.h"
#include "target/pagemap.h"

#define NOTES_MAX 16

struct notes {
	char *text[NOTES_MAX + 1];
	size_t count;
};

static void notes_free(struct notes *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->text[i]);
}

static void note(struct notes *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void note(struct notes *n, const char *fmt, ...)
{
	struct strbuf buf = STRBUF_INIT;
	va_list ap;

	if (n->count == NOTES_MAX)
		return;
	va_start(ap, fmt);
	strbuf_vappendf(&buf, fmt, ap);
	va_end(ap);
	if (!strbuf_take(&buf, &n->text[n->count]))
		n->count++;
}

static void add_nursery(void *ctx, uint32_t target, uint64_t addr, const struct nursery_slot *slot)
{
	struct attachment *a = ctx;

	if (target == tracee_target(a->tracee))
		pipeline_add_nursery(a->pipeline, a->growth, target, addr, slot);
}

static int resident(void *ctx, uint64_t start, uint64_t end, uint64_t *ret_bytes)
{
	const struct attachment *a = ctx;

	return pagemap_count(a->pagemap, start, end, ret_bytes);
}

static int pool_alive(void *ctx, uint64_t addr, uint32_t size_class)
{
	const struct attachment *a = ctx;

	return obmalloc_pool_alive(tracee_python(a->tracee), RADDR(addr), size_class);
}

/* What sampled mode finds out beyond what is alive. */
struct diagnosis {
	const struct attachment *a;
	struct estimates_piece *pieces;
	size_t n_pieces, cap_pieces;
	struct estimates_allocs *allocs;
	size_t n_allocs, cap_allocs;
	struct estimates *estimates;
	struct verdict verdict;
	struct report_verdict report;
};

static void diagnosis_clear(struct diagnosis *d)
{
	free(d->pieces);
	free(d->allocs);
	estimates_free(d->estimates);
}

/* One that does not fit in memory is missing from the ranking, not from the report. */
static void take_piece(void *ctx, enum finding_kind kind, uint32_t stack, uint64_t bytes, uint64_t time_ns)
{
	struct diagnosis *d = ctx;

	if (d->n_pieces == d->cap_pieces) {
		size_t cap = d->cap_pieces ? d->cap_pieces * 2 : 256;
		void *pieces = reallocarray(d->pieces, cap, sizeof(*d->pieces));

		if (!pieces)
			return;
		d->pieces = pieces;
		d->cap_pieces = cap;
	}
	d->pieces[d->n_pieces++] = (struct estimates_piece){ kind, stack, bytes, time_ns };
}

static void take_stack(void *ctx, uint64_t id, uint64_t blocks)
{
	struct diagnosis *d = ctx;
	uint32_t stack = stacks_peek(pipeline_stacks(d->a->pipeline), id);

	if (!stack)
		return;
	if (d->n_allocs == d->cap_allocs) {
		size_t cap = d->cap_allocs ? d->cap_allocs * 2 : 1024;
		void *allocs = reallocarray(d->allocs, cap, sizeof(*d->allocs));

		if (!allocs)
			return;
		d->allocs = allocs;
		d->cap_allocs = cap;
	}
	d->allocs[d->n_allocs++] = (struct estimates_allocs){ stack, blocks };
}

/* What one thing seen in a window stands for, on average. */
static double mean_weight(const struct attachment *a)
{
	double hits = 0, weighted = 0;

	for (int i = 0; i < WINDOW_GROUP_COUNT; i++) {
		struct window_totals totals = windows_totals(tracee_windows(a->tracee), (enum window_group)i);

		hits += (double)totals.hits;
		weighted += totals.weighted_hits;
	}
	return hits > 0 ? weighted / hits : NAN;
}

/* What the windows cost, of the time since the attach. */
static double overhead(const struct attachment *a, double seconds)
{
	double spent = 0;

	for (int i = 0; i < WINDOW_GROUP_COUNT; i++)
		spent += windows_totals(tracee_windows(a->tracee), (enum window_group)i).overhead_s;
	return seconds > 0 ? spent / seconds : NAN;
}

static int note_arena(void *ctx, raddr_t addr, uint64_t size)
{
	struct attachment *a = ctx;

	pipeline_add_arena(a->pipeline, tracee_target(a->tracee), addr.v, size);
	return 0;
}

static void read_dicts(void *ctx, uint32_t target, const uint64_t *blocks, size_t count, uint64_t (*ret_keys)[OWNERS_KEYS])
{
	const struct attachment *a = ctx;

	(void)target;
	dict_keys_read(tracee_python(a->tracee), blocks, count, ret_keys);
}

/* What is not seen for a while, while the program has another reference tracer, leaves holes: then nothing is first-hand for sure. */
static bool objects_are_seen(const struct attachment *a)
{
	return tracee_objects(a->tracee) == OBJECTS_SEEN;
}

static int profile(struct attachment *a, uint64_t now_ns, struct diagnosis *d)
{
	struct mappings_witness witness = { .ctx = a, .resident = resident, .pool_alive = pool_alive };

	growth_begin(a->growth, now_ns);
	growth_know_hands(a->growth, a->mode == TRACE_SAMPLED || objects_are_seen(a));
	if (a->mode == TRACE_SAMPLED) {
		struct sampling *sampling = pipeline_sampling(a->pipeline, tracee_target(a->tracee));
		int r = sampling && !a->gone ? sampling_settle_owners(sampling) : 0;

		if (r && r != -ESRCH)
			return r;
		pipeline_add_survivors(a->pipeline, a->growth, tracee_target(a->tracee));
	} else {
		pipeline_add_ledger(a->pipeline, a->growth);
		session_nursery(tracer_session(a->tracer), add_nursery, a);
		pipeline_add_owned(a->pipeline, a->growth, a->gone ? NULL : read_dicts, a);
	}
	/* In sampled mode no probe stands at the arena functions: the arenas' mappings are told apart by the allocator's own list. */
	if (a->mode == TRACE_SAMPLED && !a->gone)
		obmalloc_visit_arenas(tracee_python(a->tracee), note_arena, a);
	pipeline_add_mappings(a->pipeline, a->growth, tracee_target(a->tracee), a->gone ? NULL : &witness, take_piece, d);
	return growth_end(a->growth);
}

static int diagnose(struct attachment *a, uint64_t now_ns, struct diagnosis *d)
{
	struct sampling *sampling = pipeline_sampling(a->pipeline, tracee_target(a->tracee));
	struct estimates_input in = {
		.growth = a->growth,
		.survivors = sampling_survivors(sampling),
		.sampling = sampling,
		.history = a->history,
		.start_ns = a->start_ns,
		.now_ns = now_ns,
		.windows = a->windows,
		.pieces = d->pieces,
		.n_pieces = d->n_pieces,
	};
	int r;

	d->a = a;
	session_stacks(tracer_session(a->tracer), take_stack, d);
	in.allocs = d->allocs;
	in.n_allocs = d->n_allocs;
	in.allocs_weight = mean_weight(a);
	r = estimates_new(&in, &d->estimates);
	return r ?: estimates_rank(d->estimates, a->growth);
}

/* "app.py:41", for the verdict's sentence. */
static void name_of(const struct attachment *a, const struct growth_group *g, char *buf, size_t size)
{
	const struct stacks *stacks = pipeline_stacks(a->pipeline);
	const struct stack *stack = stacks_get(stacks, g->stack);
	const struct frame *f = stack->count ? stacks_frame(stacks, stack->frames[0]) : NULL;
	const char *file = f ? stacks_str(stacks, f->file) : "?";

	snprintf(buf, size, "%s:%d", fmt_base_name(file), f && f->line > 0 ? f->line : 0);
}

/* The line that asks for most memory past Python's allocator. */
static void judge_outside(const struct attachment *a, const struct diagnosis *d, char *name, size_t size, struct evidence *e)
{
	for (size_t i = 0; i < growth_count(a->growth); i++) {
		const struct growth_group *g = growth_get(a->growth, i);
		double grows = estimates_get(d->estimates, i)->bytes.estimate;

		if ((g->kind != FINDING_native && g->kind != FINDING_mmap) || !(grows > e->outside.growth))
			continue;
		name_of(a, g, name, size);
		e->outside.name = name;
		e->outside.growth = grows;
	}
}

static void judge(const struct attachment *a, double seconds, struct diagnosis *d)
{
	struct evidence e = { .seconds = seconds, .process_age = a->age_before + seconds, .growth = estimates_total(d->estimates) };
	const struct estimate *top;
	char name[256], outside[256];

	e.points = history_points(a->history, &e.n_points);
	e.strongest.trend = TREND_UNKNOWN;
	e.strongest.allocated = NAN;
	e.strongest.age = estimates_age(d->estimates);
	for (size_t i = 0; i < growth_count(a->growth) && !e.strongest.name; i++) {
		top = estimates_get(d->estimates, i);
		if (growth_get(a->growth, i)->kind != FINDING_python || !top->aged)
			continue;
		name_of(a, growth_get(a->growth, i), name, sizeof(name));
		e.strongest.name = name;
		e.strongest.growth = top->bytes;
		/* In bytes, as if all its blocks were like those kept. */
		if (top->gross_blocks > 0)
			e.strongest.allocated = top->allocated * top->gross_bytes / top->gross_blocks;
		e.strongest.large_share = top->gross_bytes > 0 ? top->large_bytes / top->gross_bytes : NAN;
		e.strongest.trend = top->trend;
		e.strongest.counted = top->counted;
		e.strongest.survivors = (double)top->aged;
	}
	judge_outside(a, d, outside, sizeof(outside), &e);
	d->verdict = verdict_of(&e);
	d->report = (struct report_verdict){ d->verdict.kind, d->verdict.confidence, d->verdict.why };
}

/* What sampling had to do without. */
static void note_sampling(const struct attachment *a, struct notes *n)
{
	const struct sampling *sampling = pipeline_sampling(a->pipeline, tracee_target(a->tracee));
	uint64_t evicted = survivors_evicted(sampling_survivors(sampling)), failed = 0;

	for (int i = 0; i < WINDOW_GROUP_COUNT; i++)
		failed += windows_totals(tracee_windows(a->tracee), (enum window_group)i).failed;
	if (evicted)
		note(n, "%s sampled blocks were evicted from a full table; those that stayed count for them", fmt_count(evicted).s);
	if (sampling_strays(sampling))
		note(n, "%s sampled blocks belonged to no window that was closed in order, and were dropped", fmt_count(sampling_strays(sampling)).s);
	if (types_refused(sampling_types(sampling)))
		note(n, "%s type objects were turned away: more than %u types; their objects have no type here",
		     fmt_count(types_refused(sampling_types(sampling))).s, TYPES_MAX);
	if (failed)
		note(n, "%s windows could not be opened: the program has a hook of its own over the allocator (tracemalloc?)",
		     fmt_count(failed).s);
}

static void note_allocator(const struct attachment *a, struct notes *n)
{
	const struct slots *slots = tracee_slots(a->tracee);

	if (slots->allocator != ALLOCATOR_PYMALLOC || slots->debug_hooks || slots->tracemalloc)
		note(n, "allocator: %s", slots->text);
	if (a->mode == TRACE_PASSIVE)
		note(n, "passive: lines are those that asked for fresh %spages, in steps of %s; blocks that fit into what was there are not seen",
		     tracee_sees_pools(a->tracee) ? "pools and " : "",
		     fmt_size(tracee_sees_pools(a->tracee) ? obmalloc_pool_size(tracee_python(a->tracee)) : 4096).s);
	if (a->fell_back_s > 0)
		note(n, "exact mode made the process some %.0f %% slower, over the budget of %s %%: sampled since %s after the attach",
		     100 * a->exact_cost, fmt_ratio(100 * a->options.budget).s, fmt_duration(a->fell_back_s).s);
	if (a->mappings_dropped > 0)
		note(n, "mmap and brk are not followed any more: %s calls of them a second cost more than the budget allows",
		     fmt_count((uint64_t)a->mappings_dropped).s);
	if (a->mode == TRACE_SAMPLED)
		note_sampling(a, n);
	if (a->mode == TRACE_SAMPLED && tracee_unseen(a->tracee))
		note(n, "frees are not seen in windows: this build has no place where they could be armed; memory tells what is freed");
	if (a->no_mappings)
		note(n, "mmap and brk are not followed: this kernel has no system call tracepoints");
	if (tracee_restored(a->tracee))
		note(n, "%d slots left armed by a killed tracer were restored first", tracee_restored(a->tracee));
	if (!a->gone && tracee_slots_lost(a->tracee))
		note(n, "the program changed its allocators while it was traced: %zu slots are not ours any more, what goes through them is not seen",
		     tracee_slots_lost(a->tracee));
}

/* From 3.13 objects are seen at first hand; if not, free lists hide who made them. */
static void note_objects(const struct attachment *a, struct notes *n)
{
	static const char *const why[] = {
		[OBJECTS_TAKEN] = "another reference tracer is installed",
		[OBJECTS_LOST] = "the program changed the reference tracer while it was traced",
		[OBJECTS_NO_SITE] = "the interpreter has no place for a probe on its reference tracer",
	};
	enum tracee_objects objects = a->gone ? OBJECTS_NONE : tracee_objects(a->tracee);

	if (objects > OBJECTS_SEEN)
		note(n, "objects are not seen at first hand: %s", why[objects]);
}

/* Prefork: a parent that only waits, and children that run the same program. */
static void note_children(const struct attachment *a, double seconds, struct notes *n)
{
	_cleanup_(freep) pid_t *children = NULL;
	struct strbuf names = STRBUF_INIT;
	size_t count, pythons = 0;

	if (a->gone || seconds <= 0 || (double)coverage_seen(&a->coverage) / seconds > 1000 ||
	    proc_children(a->pid, &children, &count))
		return;
	for (size_t i = 0; i < count; i++) {
		_cleanup_(maps_freep) struct maps *maps = NULL;
		_cleanup_(image_freep) struct image *image = NULL;

		if (maps_load(children[i], &maps) || image_open_python(children[i], maps, &image, NULL))
			continue;
		if (pythons++ < 16)
			strbuf_appendf(&names, "%s%d", pythons > 1 ? ", " : "", children[i]);
	}
	if (pythons)
		note(n, "process %d allocates little itself and has %zu Python child process%s: %s%s; to trace their work, attach to one of them",
		     a->pid, pythons, pythons == 1 ? "" : "es", strbuf_str(&names), pythons > 16 ? ", ..." : "");
	strbuf_free(&names);
}

static void note_end(const struct attachment *a, struct notes *n)
{
	int code = 0;

	switch (pipeline_end(a->pipeline, &code)) {
	case PIPELINE_EXITED:
		if (code & 0x7f)
			note(n, "the process was killed by signal %d (%s)", code & 0x7f, strsignal(code & 0x7f));
		else
			note(n, "the process exited with status %d", code >> 8 & 0xff);
		break;
	case PIPELINE_EXECED:
		note(n, "the process executed another program, which is not traced");
		break;
	case PIPELINE_RUNS:
		if (a->gone)
			note(n, "the process is gone");
		break;
	}
}

static void fill_coverage(struct attachment *a, struct report *r, struct report_loss *losses, struct notes *notes)
{
	a->coverage.replaced = ledger_replaced(pipeline_ledger(a->pipeline));
	if (coverage_missed(&a->coverage) == UINT64_MAX && a->mode == TRACE_EXACT)
		note(notes, "coverage rests on our own counters: the allocator's count of live blocks could not be read");
	r->coverage.seen = coverage_seen(&a->coverage);
	r->coverage.happened = coverage_happened(&a->coverage);
	r->coverage.dropped = coverage_dropped(&a->coverage);
	r->coverage.ratio = coverage_ratio(&a->coverage);
	if (a->mode == TRACE_PASSIVE) {
		/* Single allocations are not looked at: how many happened is not known. */
		r->coverage.seen = r->coverage.happened = REPORT_UNKNOWN;
		r->coverage.ratio = NAN;
	}
	if (a->mode == TRACE_SAMPLED) {
		/* Of what happened outside the windows only an estimate is known. */
		double happened = (double)coverage_seen(&a->coverage) * mean_weight(a);

		r->coverage.happened = isfinite(happened) ? (uint64_t)happened : REPORT_UNKNOWN;
		r->coverage.ratio = happened > 0 ? (double)r->coverage.seen / happened : NAN;
	}
	r->coverage.unresolved_frames = stacks_unresolved(pipeline_stacks(a->pipeline));
	coverage_losses(&a->coverage, losses);
	r->coverage.losses = losses;
	r->coverage.n_losses = STAT_COUNT - STAT_LOST_FIRST;
}

int attachment_report(struct attachment *a, bool last, attachment_report_fn fn, void *ctx)
{
	static const char *const groups[] = { "line", "file", "traceback" }, *const modes[] = { "sampled", "exact", "passive" };
	_cleanup_(findings_freep) struct findings *findings = NULL;
	_cleanup_(diagnosis_clear) struct diagnosis d = { 0 };
	_cleanup_(notes_free) struct notes notes = { 0 };
	struct report_loss losses[STAT_COUNT - STAT_LOST_FIRST];
	uint64_t now_ns = clock_mono_ns(&clock_real);
	double seconds = (double)(now_ns - a->start_ns) / 1e9;
	struct report_memory memory;
	struct report r = {
		.target = { a->pid, python_version(tracee_python(a->tracee)), (const char *const *)a->cmdline, a->container },
		.start = a->start_wall,
		.seconds = seconds,
		.mode = modes[a->mode],
		.armed_seconds = tracee_armed_seconds(a->tracee),
		.overhead_ratio = NAN,
		.group_by = groups[a->options.growth.group_by],
	};
	int error;

	attachment_read_coverage(a);
	error = profile(a, now_ns, &d);
	if (!error && a->history)
		error = diagnose(a, now_ns, &d);
	if (!error)
		error = findings_new(a->growth, pipeline_stacks(a->pipeline), a->source, (size_t)a->options.top, seconds, now_ns,
				     a->mode == TRACE_EXACT, d.estimates, &findings);
	if (error)
		return error;
	r.findings = findings_get(findings, &r.n_findings);
	findings_more(findings, &r.n_findings_more, &r.more_bytes);
	r.more_bytes += growth_filtered_bytes(a->growth);
	fill_coverage(a, &r, losses, &notes);
	attachment_memory_report(a, last, seconds, &memory);
	r.memory = &memory;
	if (a->history) {
		r.overhead_ratio = overhead(a, seconds);
		judge(a, seconds, &d);
		r.verdict = &d.report;
	}
	note_allocator(a, &notes);
	note_objects(a, &notes);
	note_children(a, seconds, &notes);
	note_end(a, &notes);
	r.coverage.notes = (const char *const *)notes.text;
	return fn(ctx, &r);
}
