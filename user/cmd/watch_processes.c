/* SPDX-License-Identifier: MIT */
/*
 * The processes that are watched: what the finder tells of becomes one, is looked at from outside when that is due, and leaves with its
 * last report. Invariant: the table is in order of PID, and a PID stands in it once.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/watch.h"
#include "interp/slots.h"
#include "target/proc.h"
#include "trace/arm.h"
#include "trace/lock.h"

#define SECOND_NS 1000000000ull
/* A process that is no Python yet, or cannot be read, is tried again: after 5, 10, 20, 40 s. */
#define TRIES_MAX 4
#define RETRY_NS (5 * SECOND_NS)
/* Readings of so long are made at once: being woken costs as much as a reading. */
#define TOGETHER_NS (SECOND_NS / 2)

/* The first whose PID is not lower. */
static size_t place_of(const struct watch *w, pid_t pid)
{
	size_t low = 0, high = w->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (w->processes[middle]->w.id.pid < pid)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct process *process_of_pid(const struct watch *w, pid_t pid)
{
	size_t i = place_of(w, pid);

	return i < w->n && w->processes[i]->w.id.pid == pid ? w->processes[i] : NULL;
}

struct process *watch_process(const struct watch *w, struct process_id id)
{
	struct process *p = process_of_pid(w, id.pid);

	return p && p->w.id.start_ticks == id.start_ticks ? p : NULL;
}

static void process_free(struct process *p)
{
	if (!p)
		return;
	attachment_free(p->attachment);
	passive_free(p->passive);
	strv_free((char **)p->w.cmdline);
	free((char *)p->w.container);
	json_decref(p->w.report);
	free(p);
}

static int insert(struct watch *w, struct process *p)
{
	size_t i = place_of(w, p->w.id.pid);

	if (w->n == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 64;
		void *processes = reallocarray(w->processes, cap, sizeof(*w->processes));

		if (!processes)
			return -ENOMEM;
		w->processes = processes;
		w->cap = cap;
	}
	memmove(&w->processes[i + 1], &w->processes[i], (w->n - i) * sizeof(*w->processes));
	w->processes[i] = p;
	w->n++;
	return 0;
}

static bool same_command(const struct watched *a, const struct watched *b)
{
	if (!a->cmdline || !b->cmdline)
		return false;
	for (size_t i = 0;; i++) {
		if (!a->cmdline[i] || !b->cmdline[i])
			return !a->cmdline[i] && !b->cmdline[i];
		if (strcmp(a->cmdline[i], b->cmdline[i]))
			return false;
	}
}

/* Prefork: a child that runs what its parent runs, by fork alone or started again with the same command line, is a worker of it. */
static void group(struct watch *w, struct process *p, bool forked)
{
	const struct process *parent = process_of_pid(w, p->w.ppid);

	p->w.group = p->w.id.pid;
	if (parent && (forked || same_command(&p->w, &parent->w)))
		p->w.group = parent->w.group;
	/* Children that were told of before. */
	for (size_t i = 0; i < w->n; i++)
		if (w->processes[i]->w.ppid == p->w.id.pid && w->processes[i] != p && same_command(&w->processes[i]->w, &p->w))
			w->processes[i]->w.group = p->w.group;
}

static void remove_process(struct watch *w, struct process *p)
{
	size_t i = place_of(w, p->w.id.pid);

	memmove(&w->processes[i], &w->processes[i + 1], (w->n - i - 1) * sizeof(*w->processes));
	w->n--;
	process_free(p);
}

static void lose(struct watch *w, struct process *p, enum process_end end, int code)
{
	uint64_t now_ns = clock_mono_ns(&clock_real);

	p->w.end = end;
	p->w.end_code = code;
	if (p->attachment) {
		attachment_gone(p->attachment);
		watch_sampling_end(w, p, now_ns);
	}
	if (p->passive)
		watch_say(w, end == PROCESS_OOM ? WATCH_oom : end == PROCESS_KILLED ? WATCH_killed : WATCH_exit, p, NULL);
	watch_alert_gone(w, p, now_ns);
	rota_forget(w->rota, p->w.id);
	w->self.ends++;
	remove_process(w, p);
}

static void on_found(void *ctx, const struct found *found)
{
	struct watch *w = ctx;
	struct process *p = process_of_pid(w, found->id.pid);
	char **cmdline = NULL;
	char *container = NULL;

	if (p && p->w.id.start_ticks == found->id.start_ticks)
		return;
	if (p)
		lose(w, p, PROCESS_GONE, 0);
	p = calloc(1, sizeof(*p));
	if (!p || w->n == WATCH_PROCESSES_MAX) {
		free(p);
		w->turned_away++;
		return;
	}
	proc_cmdline_read(found->id.pid, &cmdline);
	proc_container(found->id.pid, &container);
	p->w = (struct watched){
		.id = found->id,
		.ppid = found->ppid,
		.uid = found->uid,
		.cmdline = (const char *const *)cmdline,
		.container = container,
		.first_seen = clock_wall(&clock_real),
		.memory = { .rss_bytes = REPORT_UNKNOWN, .pss_bytes = REPORT_UNKNOWN, .growth_bytes_per_second = NAN, .explained_ratio = NAN },
		.arenas = REPORT_UNKNOWN, .arena_bytes = REPORT_UNKNOWN, .live_blocks = REPORT_UNKNOWN, .live_bytes = REPORT_UNKNOWN,
		.fragmentation = NAN, .growth = NAN, .overhead_ratio = NAN,
	};
	memcpy(p->w.comm, found->comm, sizeof(p->w.comm));
	p->open_ns = clock_mono_ns(&clock_real);
	if (insert(w, p)) {
		process_free(p);
		w->turned_away++;
		return;
	}
	group(w, p, found->forked);
	w->self.starts++;
}

static void on_lost(void *ctx, struct process_id id, enum process_end end, int code)
{
	struct watch *w = ctx;
	struct process *p = watch_process(w, id);

	if (p)
		lose(w, p, end, code);
}

const struct finder_events watch_finder_events = { .found = on_found, .lost = on_lost };

/*
 * Slots that were left armed: by a tracer that was killed together with its watchdog, or in a child that was forked in a window. They cost a nop a
 * call, but only a tracer would put them back, and this process may never grow.
 */
static void restore_left(pid_t pid)
{
	_cleanup_(python_freep) struct python *python = NULL;
	_cleanup_(closep) int lock = -1;
	struct slots slots;
	struct err err = { 0 };
	int r = python_open(pid, &python, &err);

	if (r == 0)
		r = trace_lock(pid, &lock, &err);
	if (r == 0)
		r = slots_read(python, &slots, &err);
	if (r == 0)
		r = arming_restore_left(pid, &slots, &err);
	if (r > 0)
		watch_warn("process %d: %d slots that a killed leaksnoop had left armed were restored", pid, r);
	else if (r < 0 && r != -ESRCH && r != -EBUSY)
		watch_warn("process %d: slots that a killed leaksnoop left armed could not be restored: %s", pid, err.what);
}

/* It may not have come so far, or be gone already: that the finder tells. */
static void open_process(struct watch *w, struct process *p, uint64_t now_ns)
{
	struct err err = { 0 };
	int r = passive_new(p->w.id, now_ns, now_ns ^ (uint64_t)p->w.id.pid << 32, &p->passive, &err);

	if (!r) {
		p->open_ns = UINT64_MAX;
		if (passive_armed(p->passive))
			restore_left(p->w.id.pid);
		passive_step(p->passive, now_ns, 0, &p->w);
		watch_say(w, WATCH_start, p, NULL);
		return;
	}
	if (++p->tries > TRIES_MAX || r == -ENOTSUP) {
		p->open_ns = UINT64_MAX;
		w->turned_away++;
		if (r != -ESRCH)
			watch_warn("process %d is not watched: %s", p->w.id.pid, err.what[0] ? err.what : strerror(-r));
		return;
	}
	p->open_ns = now_ns + (RETRY_NS << (p->tries - 1));
}

void watch_processes_step(struct watch *w, uint64_t now_ns)
{
	if (now_ns < w->next_reading_ns)
		return;
	w->next_reading_ns = now_ns + TOGETHER_NS;
	for (size_t i = 0; i < w->n; i++) {
		struct process *p = w->processes[i];

		if (!p->passive && now_ns >= p->open_ns)
			open_process(w, p, now_ns);
		/* -ESRCH and the like: the finder tells how it ended. */
		else if (p->passive && now_ns >= passive_next_ns(p->passive))
			passive_step(p->passive, now_ns, rota_allowance(w->rota), &p->w);
	}
}

uint64_t watch_processes_next_ns(const struct watch *w)
{
	uint64_t next_ns = UINT64_MAX;

	for (size_t i = 0; i < w->n; i++) {
		const struct process *p = w->processes[i];
		uint64_t due_ns = p->passive ? passive_next_ns(p->passive) : p->open_ns;

		if (due_ns < next_ns)
			next_ns = due_ns;
	}
	return next_ns > w->next_reading_ns ? next_ns : w->next_reading_ns;
}

void watch_processes_free(struct watch *w)
{
	for (size_t i = 0; i < w->n; i++)
		process_free(w->processes[i]);
	free(w->processes);
	w->processes = NULL;
	w->n = 0;
}

struct watch_view watch_view(const struct watch *w)
{
	/* The view wants pointers to what is known of them: a process begins with that. */
	_Static_assert(offsetof(struct process, w) == 0, "a process is what is known of it, and more");
	return (struct watch_view){ (const struct watched *const *)w->processes, w->n, w->self };
}
