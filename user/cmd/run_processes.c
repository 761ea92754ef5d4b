/* SPDX-License-Identifier: MIT */
/*
 * The processes of a command. Each program is looked at once, at its entry point: if it is a Python, its interpreter is watched until it is there and
 * again until it begins to end (interp/birth.h). Exact and passive mode attach at the birth, and find every object. Sampled mode can say nothing of
 * a process that lives for less than some seconds, so it attaches when one has lived for half of one; the many short ones cost nothing.
 *
 * A forked copy of a Python is attached when it has lived for a moment without an exec: most copies are made for that. The last report is drawn
 * when the interpreter begins to end, or else where the process does; in both the memory is still there, and the process waits.
 *
 * Limits: a Python that comes with dlopen() is found when its program is looked at again, after 1, 2, 4... seconds.
 */
#include "cmd/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/clock.h"

#define MS 1000000ull
#define SAMPLED_AFTER_NS (500 * MS)
#define FORKED_AFTER_NS (50 * MS)
#define UNBORN_AFTER_NS (5 * MS)         /* where there are no watchpoints */
#define EMPTY_NS (20 * MS)
#define TRY_AGAIN_NS (20 * MS)
#define TRIES_MAX 4
#define LOOK_FIRST_NS (1000 * MS)
#define LOOKS_MAX 6
#define STRANGERS_MAX 4096
#define SHORT_NS (1000 * MS)

struct run_process {
	struct birth *birth;             /* NULL: no Python, as far as is known */
	struct attachment *attachment;
	uint64_t start_ns;               /* when it was seen to be one */
	uint64_t due_ns;                 /* it is looked at again; 0: it is not */
	uint64_t report_ns;              /* the next report of --interval */
	unsigned looks;
	bool forked;                     /* a copy, of which nothing is known yet but that it is a Python */
	bool counted, waited, done;
};

static struct run_process *process_of(const struct run *run, pid_t pid)
{
	return map64_get(run->processes, (uint64_t)pid);
}

static uint64_t now(void)
{
	return clock_mono_ns(&clock_real);
}

int run_processes_new(struct run *run)
{
	int r = map64_new(sizeof(struct run_process), &run->processes);

	return r ?: map64_new(0, &run->strangers);
}

/* ---- reports ---- */

struct last_report {
	struct run *run;
	const struct run_process *process;
	bool always;
};

/* Of a process that was over at once there is nothing to say. */
static bool is_quiet(const struct last_report *last, const struct report *report)
{
	return !last->always && now() - last->process->start_ns < SHORT_NS &&
	       (!report->verdict || report->verdict->kind == VERDICT_unknown || report->verdict->kind == VERDICT_steady);
}

static int write_last(void *ctx, const struct report *report)
{
	struct last_report *last = ctx;

	if (is_quiet(last, report)) {
		last->run->quiet++;
		return 0;
	}
	last->run->reports++;
	last->run->leaks += report->verdict && report->verdict->kind == VERDICT_leak;
	return attach_output_write(&last->run->output, report);
}

static void note_error(struct run *run, int r)
{
	if (r && !run->error)
		run->error = r;
}

/* The last report; detaching is left for later, since a process may be waiting. */
static void finish(struct run *run, struct run_process *process)
{
	struct last_report last = { .run = run, .process = process };
	struct attachment *attachment = process->attachment, **finished;

	process->due_ns = 0;
	process->done = true;
	if (!attachment)
		return;
	last.always = attachment_pid(attachment) == launch_pid(run->launch);
	attachment_disarm(attachment);
	note_error(run, attachment_report(attachment, true, write_last, &last));
	process->attachment = NULL;
	if (run->n_finished == run->finished_size) {
		size_t size = run->finished_size ? 2 * run->finished_size : 16;

		finished = reallocarray(run->finished, size, sizeof(struct attachment *));
		if (!finished) {
			attachment_free(attachment);
			return;
		}
		run->finished = finished;
		run->finished_size = size;
	}
	run->finished[run->n_finished++] = attachment;
}

void run_release(struct run *run)
{
	while (run->n_finished)
		attachment_free(run->finished[--run->n_finished]);
}

/* ---- attaching ---- */

static void count_python(struct run *run, struct run_process *process)
{
	if (process->counted)
		return;
	process->counted = true;
	process->start_ns = now();
	run->pythons++;
}

/* Ended, or so far at its end that its memory is gone: then any reading fails, each in its own way. */
static bool has_ended(pid_t pid)
{
	_cleanup_(maps_freep) struct maps *maps = NULL;

	return maps_load(pid, &maps) || !maps_count(maps);
}

static void give_up(struct run *run, pid_t pid, struct run_process *process, int r, const struct err *err)
{
	process->due_ns = 0;
	/* That is told elsewhere. */
	if (r == -ESRCH || has_ended(pid))
		return;
	process->done = true;
	if (r == -ENOSPC)
		run->crowded++;
	else if (!run->untraced++)
		snprintf(run->why_untraced, sizeof(run->why_untraced), "%s", err->what);
}

static void attach(struct run *run, pid_t pid, struct run_process *process)
{
	struct err err = { 0 };
	int r = attachment_new(run->tracer, pid, &run->options, &process->attachment, &err);

	process->due_ns = 0;
	/* A process that runs may exec or end at any moment, and then this fails in any way; which it was is told in a moment. */
	if (r && r != -ESRCH && r != -ENOTSUP && r != -ENOSPC && ++process->looks < TRIES_MAX) {
		process->due_ns = now() + TRY_AGAIN_NS;
		return;
	}
	if (r) {
		give_up(run, pid, process, r, &err);
		return;
	}
	if (run->interval_ns)
		process->report_ns = now() + run->interval_ns;
	/* Without watchpoints the last report is made where the process ends. */
	(void)launch_watch(run->launch, pid, birth_end_slot(process->birth));
}

/* The interpreter is there: now, or in a while. */
static void born(struct run *run, pid_t pid, struct run_process *process)
{
	if (run->options.mode != TRACE_SAMPLED || now() >= process->start_ns + SAMPLED_AFTER_NS)
		attach(run, pid, process);
	else
		process->due_ns = process->start_ns + SAMPLED_AFTER_NS;
}

/* Goes on from pointer to pointer until the interpreter is there. */
static void look_for_birth(struct run *run, pid_t pid, struct run_process *process)
{
	raddr_t slot = RADDR_NULL;
	int r = birth_look(process->birth, &slot);

	process->due_ns = 0;
	if (r < 0)
		return;
	if (r == BIRTH_READY || (r == BIRTH_EMPTY && process->waited)) {
		born(run, pid, process);
	} else if (run->options.mode == TRACE_SAMPLED) {
		process->due_ns = now() + SAMPLED_AFTER_NS;
	} else if (launch_watch(run->launch, pid, slot)) {
		process->due_ns = now() + UNBORN_AFTER_NS;
	} else if (r == BIRTH_EMPTY) {
		/* It may be mimalloc that serves it. */
		process->due_ns = now() + EMPTY_NS;
	}
}

/* Is it a Python? */
static void look_at_program(struct run *run, pid_t pid, struct run_process *process)
{
	struct err err = { 0 };
	int r = birth_open(pid, &process->birth, &err);

	process->due_ns = 0;
	if (!r) {
		count_python(run, process);
		process->looks = 0;
		look_for_birth(run, pid, process);
	} else if (r == -ENOEXEC && !has_ended(pid)) {
		if (process->looks < LOOKS_MAX)
			process->due_ns = now() + (LOOK_FIRST_NS << process->looks++);
	} else if (r != -ESRCH && !has_ended(pid)) {
		count_python(run, process);
		give_up(run, pid, process, r, &err);
	}
}

/* What tells the file of its program from others, and from itself when it is written anew. 0: it cannot be told. */
static uint64_t program_key(pid_t pid)
{
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	if (stat(path, &st) < 0)
		return 0;
	return (((uint64_t)st.st_dev << 48 ^ st.st_ino) * 0x9e3779b97f4a7c15ull) ^ ((uint64_t)st.st_mtim.tv_sec << 30 ^ (uint64_t)st.st_mtim.tv_nsec);
}

/* A program that was no Python at its entry point. */
static bool is_stranger(const struct run *run, pid_t pid)
{
	uint64_t key = program_key(pid);

	return key && map64_get(run->strangers, key);
}

/* At its entry point. Looking through the symbols of all its libraries takes a millisecond: once a program. */
static void look_at_entry(struct run *run, pid_t pid, struct run_process *process)
{
	uint64_t key = program_key(pid);

	look_at_program(run, pid, process);
	if (key && !process->counted && map64_count(run->strangers) < STRANGERS_MAX)
		(void)map64_put(run->strangers, key, NULL);
}

/* ---- events ---- */

static void forget(struct run *run, pid_t pid)
{
	struct run_process process;

	if (!map64_remove(run->processes, (uint64_t)pid, &process))
		return;
	birth_free(process.birth);
	attachment_free(process.attachment);
}

/* Without its memory: what was seen of it is all there is. */
static void note_gone(struct run *run, struct run_process *process)
{
	if (process->attachment) {
		tracer_drain(run->tracer);
		attachment_gone(process->attachment);
		finish(run, process);
	} else if (process->counted && !process->done) {
		run->early++;
	}
}

static void note_child(struct run *run, pid_t pid, pid_t parent)
{
	const struct run_process *by = process_of(run, parent);
	struct run_process *process;

	/* If the parent's slots are armed, so are its copy's: the record that tells of it is in the ring already. */
	tracer_drain(run->tracer);
	if (!by || !(by->birth || by->forked) || run->over)
		return;
	process = map64_put(run->processes, (uint64_t)pid, NULL);
	if (process)
		*process = (struct run_process){ .forked = true, .start_ns = now(), .due_ns = now() + FORKED_AFTER_NS };
}

static void note_exec(struct run *run, pid_t pid)
{
	struct run_process *process = process_of(run, pid);

	run->programs++;
	if (process)
		note_gone(run, process);
	forget(run, pid);
	process = run->over ? NULL : map64_put(run->processes, (uint64_t)pid, NULL);
	if (!process)
		return;
	/* Its entry point comes before that. */
	process->due_ns = now() + LOOK_FIRST_NS;
	if (!is_stranger(run, pid))
		(void)launch_watch_entry(run->launch, pid);
}

static void note_watch(struct run *run, pid_t pid, struct run_process *process)
{
	if (!process->attachment)
		look_for_birth(run, pid, process);
	else if (birth_is_ending(process->birth)) {
		(void)launch_watch(run->launch, pid, RADDR_NULL);
		tracer_drain(run->tracer);
		finish(run, process);
	}
}

void run_on_event(void *ctx, const struct launch_event *event)
{
	struct run *run = ctx;
	struct run_process *process;

	if (event->what == LAUNCH_CHILD)
		note_child(run, event->pid, event->parent);
	else if (event->what == LAUNCH_EXEC)
		note_exec(run, event->pid);
	process = process_of(run, event->pid);
	if (!process || run->over)
		return;
	if (event->what == LAUNCH_ENTRY && !process->birth) {
		look_at_entry(run, event->pid, process);
	} else if (event->what == LAUNCH_WATCH && process->birth && !process->done) {
		note_watch(run, event->pid, process);
	} else if (event->what == LAUNCH_EXIT && process->attachment) {
		tracer_drain(run->tracer);
		finish(run, process);
	} else if (event->what == LAUNCH_GONE) {
		note_gone(run, process);
		forget(run, event->pid);
	}
}

/* ---- what is due ---- */

static void step_attachment(struct run *run, struct run_process *process, uint64_t now_ns)
{
	int r = attachment_step(process->attachment);

	/* Its end is told by an event; until then there is nothing to do. */
	if (r && r != -ESRCH)
		note_error(run, r);
	if (process->report_ns && now_ns >= process->report_ns && !attachment_is_gone(process->attachment)) {
		process->report_ns += run->interval_ns;
		note_error(run, attachment_report(process->attachment, false, attach_output_write, &run->output));
	}
}

static void look_again(struct run *run, pid_t pid, struct run_process *process)
{
	process->waited = true;
	if (process->birth)
		look_for_birth(run, pid, process);
	else
		look_at_program(run, pid, process);
}

void run_step(struct run *run)
{
	struct run_process *process;
	size_t cursor = 0;
	uint64_t pid, now_ns = now();

	while (!run->over && (process = map64_next(run->processes, &cursor, &pid))) {
		if (process->attachment)
			step_attachment(run, process, now_ns);
		else if (process->due_ns && now_ns >= process->due_ns)
			look_again(run, (pid_t)pid, process);
	}
	if (run->stop_ns && now_ns >= run->stop_ns)
		run_stop_tracing(run);
}

uint64_t run_next_ns(const struct run *run)
{
	const struct run_process *process;
	uint64_t pid, next_ns = run->stop_ns && !run->over ? run->stop_ns : UINT64_MAX;
	size_t cursor = 0;

	while (!run->over && (process = map64_next(run->processes, &cursor, &pid))) {
		uint64_t due_ns = process->attachment ? attachment_next_ns(process->attachment) : process->due_ns;

		if (due_ns && due_ns < next_ns)
			next_ns = due_ns;
	}
	return next_ns;
}

void run_stop_tracing(struct run *run)
{
	struct run_process *process;
	size_t cursor = 0;
	uint64_t pid;

	/* All at once, then what takes time. */
	while ((process = map64_next(run->processes, &cursor, &pid)))
		if (process->attachment)
			attachment_disarm(process->attachment);
	cursor = 0;
	while ((process = map64_next(run->processes, &cursor, &pid))) {
		if (process->counted && !process->attachment && !process->done)
			run->early++;
		(void)launch_watch(run->launch, (pid_t)pid, RADDR_NULL);
		finish(run, process);
	}
	run->over = true;
}

void run_processes_free(struct run *run)
{
	struct run_process *process;
	size_t cursor = 0;
	uint64_t pid;

	while (run->processes && (process = map64_next(run->processes, &cursor, &pid))) {
		birth_free(process->birth);
		attachment_free(process->attachment);
	}
	run_release(run);
	free(run->finished);
	map64_free(run->processes);
	map64_free(run->strangers);
}
