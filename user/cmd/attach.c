/* SPDX-License-Identifier: MIT */
/* leaksnoop attach PID: trace until told to stop, report. */
#include "cmd/attach.h"
#include "cmd/signals.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>

#include "base/clock.h"
#include "base/fmt.h"
#include "base/term.h"
#include "cmd/verb.h"
#include "interp/dict_keys.h"
#include "interp/obmalloc.h"
#include "target/pagemap.h"
#include "trace/kernel.h"

/* The ring is emptied this often; the kernel wakes us earlier when it fills up. */
#define DRAIN_MS 20

/* Sampled mode, per cent. */
#define BUDGET_DEFAULT 2.0
#define INTERVAL_DEFAULT 10.0

static const struct option_row rows[] = {
	OPTION(struct attach_opts, duration, DURATION, 'd', "duration", "S", NULL, "stop after this time; default: run until Ctrl-C"),
	OPTION(struct attach_opts, interval, DURATION, 'i', "interval", "S", NULL, "a report every S, with what changed since the one before; sampled without --duration: 10"),
	OPTION(struct attach_opts, mode, CHOICE, 'm', "mode", NULL, "sampled",
	       "sampled: allocations in short windows at random times; exact: every allocation; passive: new pools, arenas and mappings only, "
	       "nothing is written into the target",
	       .choices = "sampled|exact|passive"),
	OPTION(struct attach_opts, budget, DOUBLE, 'b', "budget", "PERCENT", NULL,
	       "how much slower the target may become; default of sampled mode: 2; exact mode falls back to sampled when it costs more",
	       .min = 0.01, .max = 100),
	OPTION(struct attach_opts, frames, INT, 0, "frames", "N", "25", "frames of a traceback", .min = 1, .max = MAX_FRAMES),
	OPTION(struct attach_opts, group_by, CHOICE, 'g', "group-by", NULL, "line", "what one finding is", .choices = "line|file|traceback"),
	OPTION(struct attach_opts, include, STRINGS, 0, "include", "GLOB", NULL, "only where the innermost frame's file matches"),
	OPTION(struct attach_opts, exclude, STRINGS, 0, "exclude", "GLOB", NULL, "not where the innermost frame's file matches"),
	OPTION(struct attach_opts, min_age, DURATION, 0, "min-age", "S", NULL, "count only blocks that have lived this long"),
	OPTION(struct attach_opts, top, INT, 'n', "top", "N", "10", "findings shown; 0: all", .min = 0, .max = 1e9),
	OPTION(struct attach_opts, format, CHOICE, 'f', "format", NULL, "text", "how reports and errors are written", .choices = "text|json"),
	OPTION(struct attach_opts, output, STRING, 'o', "output", "FILE", NULL, "write reports there instead of standard output"),
	OPTION(struct attach_opts, ring_size, SIZE, 0, "ring-size", "SIZE", "16m", "buffer between kernel and leaksnoop", .min = 65536,
	       .max = 1 << 30),
	OPTION(struct attach_opts, perf_uprobes, FLAG, 0, "perf-uprobes", NULL, NULL, "probe as on kernels before 6.12, with a perf event a probe",
	       .hidden = true),
	{ 0 }
};

double attach_budget(const struct attach *a)
{
	return (a->opts->budget > 0 ? a->opts->budget : BUDGET_DEFAULT) / 100;
}

static void attach_close(struct attach *a)
{
	history_free(a->history);
	memory_series_free(a->sheets);
	balancer_free(a->balancer);
	growth_free(a->growth);
	pipeline_free(a->pipeline);
	tracee_free(a->tracee);
	source_free(a->source);
	session_free(a->session);
	strv_free(a->cmdline);
	free(a->container);
	closep(&a->pagemap);
	if (a->out && a->out != stdout)
		fclose(a->out);
}

/* The part of a line table that did not fit its record. */
static int fetch(void *ctx, uint32_t target, uint64_t addr, void *buf, size_t size)
{
	const struct attach *a = ctx;
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
	struct attach *a = ctx;

	tracee_forked(a->tracee, child);
}

static int open_output(struct attach *a, struct err *err)
{
	struct term term;

	a->out = stdout;
	if (a->opts->output)
		a->out = fopen(a->opts->output, "we");
	if (!a->out)
		return err_set(err, -errno, "cannot write %s: %s", a->opts->output, strerror(errno));
	term_inspect(fileno(a->out), &term);
	a->style = (struct report_style){ .colours = term.colours, .width = term.width, .pretty = a->interval == 0 };
	return 0;
}

static int open_tables(struct attach *a, struct err *err)
{
	/* The option's array is NULL-terminated by options.c. */
	struct growth_options growth = {
		.group_by = (enum group_by)a->opts->group_by,
		.include = (const char *const *)a->opts->include.v,
		.exclude = (const char *const *)a->opts->exclude.v,
		.min_age_ns = (uint64_t)(a->opts->min_age * 1e9),
	};
	int r;

	r = pipeline_new(fetch, forked, a, &a->pipeline);
	if (!r)
		r = growth_new(pipeline_stacks(a->pipeline), &growth, &a->growth);
	if (!r && !a->opts->format)
		r = source_new(a->pid, &a->source);
	return r ? err_set(err, r, "cannot make the tables: %s", strerror(-r)) : 0;
}

static int attach_open(struct attach *a, struct err *err)
{
	/* Exact mode with a budget may have to fall back. */
	bool sampled = a->mode == TRACE_SAMPLED || (a->mode == TRACE_EXACT && a->opts->budget > 0);
	struct session_options session = {
		/* One more, to measure on ourselves what a hit costs. */
		.max_targets = 2,
		.ring_bytes = a->opts->ring_size,
		/* A window holds few blocks, and the table is gone through after each. */
		.nursery_slots = a->mode == TRACE_SAMPLED ? SESSION_NURSERY_SLOTS_SAMPLED : SESSION_NURSERY_SLOTS_DEFAULT,
		.sampled = sampled,
		.perf_uprobes = a->opts->perf_uprobes,
	};
	struct tracee_options tracee = {
		.mode = a->mode,
		.budget = attach_budget(a),
		.max_frames = (uint32_t)a->opts->frames,
		.emulated = kernel_emulated(),
	};
	int r;

	r = tracee_new(a->pid, &tracee, &a->tracee, err);
	if (!r)
		r = open_output(a, err);
	if (!r)
		r = open_tables(a, err);
	if (!r)
		r = session_new(&session, pipeline_on_event, a->pipeline, &a->session, err);
	if (r)
		return r;
	r = session_trace_mappings(a->session, a->mode == TRACE_PASSIVE, err);
	a->no_mappings = r != 0;
	if (r && a->mode == TRACE_PASSIVE)
		return r;
	proc_cmdline_read(a->pid, &a->cmdline);
	proc_container(a->pid, &a->container);
	if (!proc_memory_read(a->pid, &a->memory_start))
		a->memory = a->memory_start;
	return 0;
}

static int add_arena(void *ctx, raddr_t addr, uint64_t size)
{
	return mappings_add_arena(ctx, addr.v, size);
}

/* The address space as it is now: the end of the heap, and the arenas, whose pages are their pools'. */
static int follow_mappings(struct attach *a, struct mappings **ret_mappings)
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

static int attach_start(struct attach *a, struct err *err)
{
	struct mappings *mappings = NULL;
	uint32_t version = python_version_hex(tracee_python(a->tracee));
	int r;

	a->pagemap = pagemap_open(a->pid);
	r = attach_memory_begin(a);
	if (r)
		return err_set(err, r, "cannot read its memory: %s", strerror(-r));
	r = tracee_start(a->tracee, a->session, err);
	if (r)
		return r;
	/* Records wait in the ring until the loop runs: what is found there now is not older than they are. */
	r = follow_mappings(a, &mappings);
	if (!r)
		r = pipeline_add_target(a->pipeline, tracee_target(a->tracee), a->pid, linetable_kind_of(version), mappings);
	if (!r && a->mode == TRACE_SAMPLED)
		r = attach_sample_begin(a);
	if (tracee_objects(a->tracee) == OBJECTS_SEEN)
		owners_set_table_size(pipeline_owners(a->pipeline), dict_keys_free_list_size(tracee_python(a->tracee)));
	a->start_ns = clock_mono_ns(&clock_real);
	a->start_wall = clock_wall(&clock_real);
	coverage_begin(&a->coverage, tracee_python(a->tracee), a->session, tracee_target(a->tracee));
	return r ? err_set(err, r, "cannot make the tables: %s", strerror(-r)) : 0;
}

static void read_coverage(struct attach *a)
{
	coverage_read(&a->coverage, tracee_python(a->tracee), a->session, tracee_target(a->tracee), !a->gone);
}

/* The line on a terminal while it runs:
 *   12 s  203,114 events/s  coverage 0.9999  0 lost  RSS +1.2 MiB */
static void show_status(struct attach *a, uint64_t events, double seconds)
{
	proc_memory_read(a->pid, &a->memory);
	fprintf(stderr, "\r\033[K%s  %s events/s  coverage %s  %s lost  RSS %s ", fmt_duration(seconds).s,
		fmt_count(events).s, fmt_ratio(coverage_ratio(&a->coverage)).s,
		fmt_count(coverage_dropped(&a->coverage)).s,
		fmt_size_signed((int64_t)(a->memory.rss_bytes - a->memory_start.rss_bytes)).s);
	fflush(stderr);
}

static void clear_status(void)
{
	fputs("\r\033[K", stderr);
	fflush(stderr);
}

struct attach_loop {
	struct attach *a;
	int signal_fd, pid_fd;
	bool status;
	uint64_t stop_ns, next_report_ns, next_status_ns, status_events;
};

/* Reports and the status line that are due. */
static int attach_due(struct attach_loop *l, uint64_t now_ns)
{
	struct attach *a = l->a;
	int r = 0;

	if (l->next_report_ns && now_ns >= l->next_report_ns) {
		if (l->status)
			clear_status();
		read_coverage(a);
		r = attach_report(a, false);
		l->next_report_ns += (uint64_t)(a->interval * 1e9);
	}
	if (l->status && now_ns >= l->next_status_ns) {
		uint64_t events;

		read_coverage(a);
		events = a->coverage.stats.n[STAT_ALLOCS] + a->coverage.stats.n[STAT_FREES];
		show_status(a, events - l->status_events, (double)(now_ns - a->start_ns) / 1e9);
		l->status_events = events;
		l->next_status_ns = now_ns + 1000000000ull;
	}
	return r;
}

/* How long the loop may sleep. */
static struct timespec attach_timeout(const struct attach *a)
{
	uint64_t now_ns = clock_mono_ns(&clock_real), next_ns = now_ns + DRAIN_MS * 1000000ull, due_ns = UINT64_MAX;

	if (tracee_windows(a->tracee))
		due_ns = windows_next_ns(tracee_windows(a->tracee));
	if (due_ns < next_ns)
		next_ns = due_ns > now_ns ? due_ns : now_ns;
	return (struct timespec){ .tv_nsec = (long)(next_ns - now_ns) };
}

/* Until a signal, the end of the time, or of the target. */
static int attach_loop(struct attach_loop *l)
{
	struct attach *a = l->a;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = l->signal_fd, .events = POLLIN },
			{ .fd = l->pid_fd, .events = POLLIN },
			{ .fd = session_epoll_fd(a->session), .events = POLLIN },
		};
		struct timespec timeout = attach_timeout(a);
		uint64_t now_ns;
		int r;

		if (ppoll(fds, 3, &timeout, NULL) < 0 && errno != EINTR)
			return -errno;
		r = session_drain(a->session);
		if (r >= 0 && a->mode == TRACE_SAMPLED)
			r = attach_sample_step(a);
		else if (r >= 0 && a->mode == TRACE_EXACT && a->opts->budget > 0)
			r = attach_obey_budget(a);
		if (r >= 0)
			r = attach_memory_step(a);
		if (r < 0 && r != -ESRCH)
			return r;
		if (fds[0].revents)
			return 0;
		if (fds[1].revents || pipeline_end(a->pipeline, NULL) != PIPELINE_RUNS) {
			a->gone = true;
			return 0;
		}
		now_ns = clock_mono_ns(&clock_real);
		r = attach_due(l, now_ns);
		if (r)
			return r;
		if (l->stop_ns && now_ns >= l->stop_ns)
			return 0;
	}
}

static int attach_loop_run(struct attach *a, int signal_fd)
{
	struct attach_loop l = { .a = a, .signal_fd = signal_fd };
	_cleanup_(closep) int pid_fd = pidfd_open(a->pid, 0);
	struct term term;
	int r;

	l.pid_fd = pid_fd;
	term_inspect(STDERR_FILENO, &term);
	l.status = term.is_tty;
	l.next_status_ns = a->start_ns + 1000000000ull;
	if (a->opts->duration > 0)
		l.stop_ns = a->start_ns + (uint64_t)(a->opts->duration * 1e9);
	if (a->interval > 0)
		l.next_report_ns = a->start_ns + (uint64_t)(a->interval * 1e9);
	r = attach_loop(&l);
	if (l.status)
		clear_status();
	return r;
}

/* Disarms before anything slow is done, then says what was found, then detaches. */
static int attach_finish(struct attach *a, struct err *err)
{
	int r;

	read_coverage(a);
	tracee_disarm(a->tracee);
	session_drain(a->session);
	r = attach_report(a, true);
	return r ? err_set(err, r, "cannot write the report: %s", strerror(-r)) : 0;
}

static int run(const void *opts, int argc, char **argv, struct err *err)
{
	_cleanup_(attach_close) struct attach a = { .opts = opts, .pagemap = -1 };
	_cleanup_(closep) int signal_fd = signals_take();
	int r, loop;

	(void)argc;
	a.mode = (enum trace_mode)a.opts->mode;
	a.interval = a.opts->interval;
	/* A trace without an end says now and then what it has found. */
	if (a.mode == TRACE_SAMPLED && !(a.opts->duration > 0) && !(a.interval > 0))
		a.interval = INTERVAL_DEFAULT;
	r = option_pid(argv[0], &a.pid, err);
	if (!r)
		r = attach_open(&a, err);
	if (!r)
		r = attach_start(&a, err);
	if (r) {
		err_prefix(err, "cannot attach to %s", argv[0]);
		return r;
	}
	loop = attach_loop_run(&a, signal_fd);
	r = attach_finish(&a, err);
	if (loop && !r)
		return err_set(err, loop, "the trace broke off: %s", strerror(-loop));
	return r ? r : EXIT_REPORT;
}

const struct verb verb_attach = {
	.name = "attach",
	.args_doc = "PID",
	.summary = "trace a running Python process and say which lines grow",
	.rows = rows,
	.opts_size = sizeof(struct attach_opts),
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
