/* SPDX-License-Identifier: MIT */
#include "cmd/attachment_impl.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "interp/dict_keys.h"
#include "interp/obmalloc.h"
#include "target/pagemap.h"
#include "target/proc.h"
#include "trace/kernel.h"

/* The ring is emptied this often; the kernel wakes us earlier when it fills up. */
#define DRAIN_NS 20000000ull

/* The part of a line table that did not fit its record. */
static int fetch(void *ctx, uint32_t target, uint64_t addr, void *buf, size_t size)
{
	const struct attachment *a = ctx;
	const struct python *python = tracee_python(a->tracee);
	struct walk_cfg cfg;
	int r;

	(void)target;
	r = python_walk_cfg(python, &cfg, NULL);
	if (r)
		return r;
	return rmem_read(python_rmem(python), RADDR(addr + cfg.bytes_data), buf, size);
}

static void forked(void *ctx, pid_t child)
{
	struct attachment *a = ctx;

	tracee_forked(a->tracee, child);
	if (a->options.forked)
		a->options.forked(a->options.ctx, a, child);
}

static int open_tables(struct attachment *a, struct err *err)
{
	int r = pipeline_new(fetch, forked, a, &a->pipeline);

	if (!r)
		r = growth_new(pipeline_stacks(a->pipeline), &a->options.growth, &a->growth);
	if (!r && a->options.source)
		r = source_new(a->pid, &a->source);
	return r ? err_set(err, r, "cannot make the tables: %s", strerror(-r)) : 0;
}

static int add_arena(void *ctx, raddr_t addr, uint64_t size)
{
	return mappings_add_arena(ctx, addr.v, size);
}

/* The address space as it is now: the end of the heap, and the arenas, whose pages are their pools'. */
static int take_mappings(struct attachment *a, struct mappings **ret_mappings)
{
	const struct python *python = tracee_python(a->tracee);
	_cleanup_(mappings_freep) struct mappings *m = NULL;
	_cleanup_(maps_freep) struct maps *maps = NULL;
	uint64_t brk = 0;
	int r;

	if (!maps_load(a->pid, &maps))
		for (size_t i = 0; i < maps_count(maps); i++)
			if (!strcmp(maps_get(maps, i)->path, "[heap]"))
				brk = maps_get(maps, i)->end;
	r = mappings_new(brk, tracee_sees_pools(a->tracee) ? obmalloc_pool_size(python) : 0, &m);
	if (!r)
		r = obmalloc_visit_arenas(python, add_arena, m);
	if (r && r != -ENOENT)
		return r;
	*ret_mappings = take_ptr(m);
	return 0;
}

static int follow_mappings(struct attachment *a, struct err *err)
{
	int r = tracer_want_mappings(a->tracer, a->mode == TRACE_PASSIVE, err);

	a->no_mappings = r != 0;
	a->follows = !r;
	return a->mode == TRACE_PASSIVE ? r : 0;
}

void attachment_ignore_mappings(struct attachment *a)
{
	if (!a->follows)
		return;
	a->follows = false;
	session_mute_mappings(tracer_session(a->tracer), tracee_target(a->tracee));
	tracer_drop_mappings(a->tracer);
	tracer_drain(a->tracer);
	pipeline_drop_mappings(a->pipeline, tracee_target(a->tracee));
}

static int attachment_open(struct attachment *a, struct err *err)
{
	struct tracee_options tracee = {
		.mode = a->mode,
		.budget = a->options.budget,
		.max_frames = (uint32_t)a->options.frames,
		.emulated = kernel_emulated(),
	};
	int r;

	r = tracee_new(a->pid, &tracee, &a->tracee, err);
	if (!r)
		r = open_tables(a, err);
	if (!r)
		r = tracer_load(a->tracer, err);
	if (!r)
		r = follow_mappings(a, err);
	if (r)
		return r;
	proc_cmdline_read(a->pid, &a->cmdline);
	proc_container(a->pid, &a->container);
	if (!proc_memory_read(a->pid, &a->memory_start))
		a->memory = a->memory_start;
	return 0;
}

static int attachment_start(struct attachment *a, struct err *err)
{
	struct mappings *mappings = NULL;
	uint32_t version = python_version_hex(tracee_python(a->tracee));
	struct proc_stat stat;
	int r;

	a->pagemap = pagemap_open(a->pid);
	r = attachment_memory_begin(a);
	if (r)
		return err_set(err, r, "cannot read its memory: %s", strerror(-r));
	r = tracee_start(a->tracee, tracer_session(a->tracer), err);
	if (r)
		return r;
	a->started = true;
	tracer_deliver(a->tracer, tracee_target(a->tracee), a->pipeline);
	/* Records wait in the ring until they are drained: what is found there now is not older than they are. */
	r = take_mappings(a, &mappings);
	if (!r)
		r = pipeline_add_target(a->pipeline, tracee_target(a->tracee), a->pid, linetable_kind_of(version), mappings);
	if (!r && a->mode == TRACE_SAMPLED)
		r = attachment_sample_begin(a);
	if (tracee_objects(a->tracee) == OBJECTS_SEEN)
		owners_set_table_size(pipeline_owners(a->pipeline), dict_keys_free_list_size(tracee_python(a->tracee)));
	a->start_ns = clock_mono_ns(&clock_real);
	a->start_wall = clock_wall(&clock_real);
	a->age_before = proc_stat_read(a->pid, &stat) ? NAN : (double)proc_age_ns(stat.start_ticks) / 1e9;
	coverage_begin(&a->coverage, tracee_python(a->tracee), tracer_session(a->tracer), tracee_target(a->tracee));
	return r ? err_set(err, r, "cannot make the tables: %s", strerror(-r)) : 0;
}

int attachment_new(struct tracer *tracer, pid_t pid, const struct attachment_options *options, struct attachment **ret_attachment,
		   struct err *err)
{
	_cleanup_(attachment_freep) struct attachment *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return err_set(err, -ENOMEM, "out of memory");
	a->pagemap = -1;
	r = tracer_enter(tracer, err);
	if (r)
		return r;
	a->tracer = tracer;
	a->options = *options;
	a->pid = pid;
	a->mode = options->mode;
	r = attachment_open(a, err);
	if (!r)
		r = attachment_start(a, err);
	if (r)
		return r;
	*ret_attachment = take_ptr(a);
	return 0;
}

void attachment_free(struct attachment *a)
{
	if (!a)
		return;
	if (a->follows)
		tracer_drop_mappings(a->tracer);
	if (a->started) {
		uint32_t target = tracee_target(a->tracee);

		/* Probes go first: then nothing of it comes any more. */
		tracee_stop(a->tracee);
		tracer_deliver(a->tracer, target, NULL);
	}
	history_free(a->history);
	memory_series_free(a->sheets);
	balancer_free(a->balancer);
	growth_free(a->growth);
	pipeline_free(a->pipeline);
	tracee_free(a->tracee);
	source_free(a->source);
	strv_free(a->cmdline);
	free(a->container);
	closep(&a->pagemap);
	if (a->tracer)
		tracer_leave(a->tracer);
	free(a);
}

int attachment_restart(struct attachment *a, enum trace_mode mode, struct err *err)
{
	int r = tracee_restart(a->tracee, mode, tracer_session(a->tracer), err);

	if (r)
		return r;
	tracer_deliver(a->tracer, tracee_target(a->tracee), a->pipeline);
	a->mode = mode;
	return 0;
}

uint64_t attachment_next_ns(const struct attachment *a)
{
	uint64_t next_ns = clock_mono_ns(&clock_real) + DRAIN_NS, due_ns = UINT64_MAX;

	if (tracee_windows(a->tracee))
		due_ns = windows_next_ns(tracee_windows(a->tracee));
	return due_ns < next_ns ? due_ns : next_ns;
}

int attachment_step(struct attachment *a)
{
	int r = 0;

	if (pipeline_end(a->pipeline, NULL) != PIPELINE_RUNS)
		a->gone = true;
	if (a->gone)
		return -ESRCH;
	if (a->disarmed)
		return 0;
	tracee_settle(a->tracee);
	if (a->mode == TRACE_SAMPLED)
		r = attachment_sample_step(a);
	else if (a->mode == TRACE_EXACT && a->options.budget > 0)
		r = attachment_obey_budget(a);
	return r ?: attachment_memory_step(a);
}

void attachment_read_coverage(struct attachment *a)
{
	if (!a->disarmed)
		coverage_read(&a->coverage, tracee_python(a->tracee), tracer_session(a->tracer), tracee_target(a->tracee), !a->gone);
}

void attachment_disarm(struct attachment *a)
{
	if (a->disarmed)
		return;
	attachment_read_coverage(a);
	tracee_disarm(a->tracee);
	tracer_drain(a->tracer);
	a->disarmed = true;
}

void attachment_gone(struct attachment *a)
{
	a->gone = true;
}

bool attachment_is_gone(const struct attachment *a)
{
	return a->gone || pipeline_end(a->pipeline, NULL) != PIPELINE_RUNS;
}

pid_t attachment_pid(const struct attachment *a)
{
	return a->pid;
}

const char *attachment_python(const struct attachment *a)
{
	return python_version(tracee_python(a->tracee));
}

void attachment_status(struct attachment *a, struct attachment_status *ret)
{
	attachment_read_coverage(a);
	proc_memory_read(a->pid, &a->memory);
	*ret = (struct attachment_status){
		.seconds = (double)(clock_mono_ns(&clock_real) - a->start_ns) / 1e9,
		.events = a->coverage.stats.n[STAT_ALLOCS] + a->coverage.stats.n[STAT_FREES],
		.coverage = coverage_ratio(&a->coverage),
		.dropped = coverage_dropped(&a->coverage),
		.rss_growth = (int64_t)(a->memory.rss_bytes - a->memory_start.rss_bytes),
	};
}
