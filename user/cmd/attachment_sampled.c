/* SPDX-License-Identifier: MIT */
/* What an attach does between reports in sampled mode; and exact mode's way into it. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/attachment_impl.h"
#include "trace/trap.h"

#define SECOND_NS 1000000000ull
/* Of the budget, what following mmap and brk may cost; and what one call of these costs with its stack and its record. */
#define MAPPINGS_SHARE 0.25
#define MAPPING_NS 1200.0
/* What a hit of exact mode costs beside the trap, with a stack of ordinary depth. */
#define EXACT_RUN_NS 400.0
/* Looks in a row, so that one burst is none. */
#define LOOKS_OVER 2
#define MAPPINGS_LOOKS 3
#define MAPPINGS_LOOK_NS (SECOND_NS / 10)
/* Over so short a time only a rate that is far beyond it counts. */
#define MAPPINGS_FAR 3.0
/* Large blocks are summed up when they were seen for this part of the time; the sum counts from the attach, and must not be negative. */
#define LARGE_SEEN 0.8
#define LARGE_BASE 1e9

int attachment_sample_begin(struct attachment *a)
{
	struct sampling *sampling;
	int r = sampling_new(tracee_python(a->tracee), a->options.survivors, &sampling);

	if (r)
		return r;
	sampling_know_objects(sampling, tracee_objects(a->tracee) == OBJECTS_SEEN);
	pipeline_sample(a->pipeline, tracee_target(a->tracee), sampling);
	r = history_new(tracee_python(a->tracee), sampling_types(sampling), clock_mono_ns(&clock_real), &a->history);
	if (!r && memory_series_count(a->sheets))
		history_note_balance(a->history, memory_series_last(a->sheets));
	return r;
}

static void window_closed(void *ctx, const struct window_record *record)
{
	struct attachment *a = ctx;
	uint32_t target = tracee_target(a->tracee);
	struct sampling *sampling = pipeline_sampling(a->pipeline, target);
	int r = tracer_drain(a->tracer);

	if (r >= 0 && sampling)
		r = sampling_on_window(sampling, tracer_session(a->tracer), target, pipeline_stacks(a->pipeline), record);
	if (r < 0 && r != -ESRCH)
		a->error = r;
	a->windows++;
}

/*
 * The calls of mmap and brk are followed always, not in windows alone. A target that makes very many would be slowed down by that: then it is
 * given up, and the report says so.
 */
static void watch_mappings(struct attachment *a, uint64_t now_ns)
{
	struct target_stats stats;
	double rate, allowed;

	if (a->no_mappings || a->mappings_dropped > 0 || now_ns < a->mappings_ns + MAPPINGS_LOOK_NS ||
	    session_stats(tracer_session(a->tracer), tracee_target(a->tracee), &stats))
		return;
	rate = (double)(stats.n[STAT_MAPPINGS] - a->mappings_seen) * 1e9 / (double)(now_ns - a->mappings_ns);
	allowed = MAPPINGS_SHARE * a->options.budget * windows_load(tracee_windows(a->tracee)) * 1e9 / MAPPING_NS;
	if (a->mappings_ns)
		a->looks_over = rate > MAPPINGS_FAR * allowed ? a->looks_over + 1 : 0;
	a->mappings_seen = stats.n[STAT_MAPPINGS];
	a->mappings_ns = now_ns;
	if (a->looks_over < MAPPINGS_LOOKS)
		return;
	attachment_ignore_mappings(a);
	a->mappings_dropped = rate;
}

int attachment_sample_step(struct attachment *a)
{
	uint64_t now_ns = clock_mono_ns(&clock_real);
	struct sampling *sampling = pipeline_sampling(a->pipeline, tracee_target(a->tracee));
	int r = windows_step(tracee_windows(a->tracee), window_closed, a);

	if (!r && sampling_next_ns(sampling) <= now_ns)
		r = sampling_check(sampling, now_ns);
	/* Only what is seen nearly always can be summed up. */
	if (!r && history_next_ns(a->history) <= now_ns)
		history_note_large(a->history, windows_totals(tracee_windows(a->tracee), WINDOW_LARGE).armed_s >
						       LARGE_SEEN * (double)(now_ns - a->start_ns) / 1e9
					       ? LARGE_BASE + sampling_large_bytes(sampling) : NAN);
	if (!r && history_next_ns(a->history) <= now_ns)
		r = history_read(a->history, now_ns);
	watch_mappings(a, now_ns);
	return r ?: a->error;
}

/* ---- exact mode ---- */

/* Overhead against what the target did for itself, since the look before; below zero: too early to tell. */
static double exact_cost(struct attachment *a, uint64_t now_ns)
{
	struct target_stats stats;
	uint64_t hits, cpu_ns;
	double overhead, own, cost = -1;

	if (session_stats(tracer_session(a->tracer), tracee_target(a->tracee), &stats) || proc_cpu_read(a->pid, &cpu_ns))
		return -1;
	hits = stats.n[STAT_ALLOCS] + stats.n[STAT_FREES] + stats.n[STAT_REALLOCS] + stats.n[STAT_CREATED] + stats.n[STAT_DESTROYED];
	if (a->budget_ns) {
		overhead = (double)(hits - a->budget_hits) * (a->trap_ns + EXACT_RUN_NS);
		own = (double)(cpu_ns - a->budget_cpu_ns) - overhead;
		/* Of a target that hardly computes nobody notices it: as in trace/pace.c. */
		own = own > 0 ? own : 0;
		cost = overhead / (own + 0.05 * (double)(now_ns - a->budget_ns));
	}
	a->budget_ns = now_ns;
	a->budget_hits = hits;
	a->budget_cpu_ns = cpu_ns;
	return cost;
}

static int fall_back(struct attachment *a, double cost, uint64_t now_ns)
{
	struct err err = { 0 };
	int r;

	tracee_disarm(a->tracee);
	tracer_drain(a->tracer);
	a->exact_cost = cost;
	a->fell_back_s = (double)(now_ns - a->start_ns) / 1e9;
	r = attachment_restart(a, TRACE_SAMPLED, &err);
	if (r)
		return r;
	a->mode = TRACE_SAMPLED;
	a->start_ns = clock_mono_ns(&clock_real);
	a->age_before += a->fell_back_s;
	r = attachment_sample_begin(a);
	coverage_begin(&a->coverage, tracee_python(a->tracee), tracer_session(a->tracer), tracee_target(a->tracee));
	return r;
}

int attachment_obey_budget(struct attachment *a)
{
	uint64_t now_ns = clock_mono_ns(&clock_real);
	double cost;

	if (now_ns < a->budget_ns + SECOND_NS / 2)
		return 0;
	if (!a->budget_ns)
		a->trap_ns = trap_measure(tracer_session(a->tracer));
	cost = exact_cost(a, now_ns);
	a->looks_over = cost > a->options.budget ? a->looks_over + 1 : 0;
	return a->looks_over < LOOKS_OVER ? 0 : fall_back(a, cost, now_ns);
}
