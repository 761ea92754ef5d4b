/* SPDX-License-Identifier: MIT */
/*
 * Censuses of a running process, one after the other. Ctrl-C between two of them means "now, and that is all"; in the middle of one it ends
 * the program at once. Signals come from a descriptor, so that they arrive between two steps.
 */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>

#include "base/clock.h"
#include "base/fmt.h"
#include "base/term.h"
#include "cmd/heap.h"
#include "cmd/progress.h"
#include "cmd/signals.h"
#include "trace/freeze.h"

#define UNTIL_STOPPED 0

/* One look at the heap. */
struct look {
	struct snapshot *snapshot;
	uint64_t mono_ns;
	double frozen_seconds;   /* NAN: the process ran on */
};

struct live {
	const struct heap_opts *opts;
	pid_t pid;
	int signal_fd, pid_fd;
	int reports;             /* made so far */
	struct progress *progress;
};

static void look_free(struct look *look)
{
	snapshot_free(look->snapshot);
}

static bool interrupted(const struct live *l)
{
	struct signalfd_siginfo info;

	return read(l->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info);
}

static int on_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	const struct live *l = ctx;

	if (interrupted(l))
		return -EINTR;
	return progress_update(l->progress, done_bytes, total_bytes);
}

static int census_of(struct live *l, const struct python *python, struct census **ret_census, struct err *err)
{
	struct census_options options = { .progress = on_progress, .ctx = l };
	int r = progress_new("reading the heap", STDERR_FILENO, &clock_real, &l->progress);

	if (r)
		return err_set(err, r, "out of memory");
	r = census_read(python, &options, ret_census, err);
	progress_free(l->progress);
	l->progress = NULL;
	return r;
}

/* The same while nothing moves. */
static int frozen_census_of(struct live *l, const struct python *python, struct census **ret_census, double *ret_seconds, struct err *err)
{
	_cleanup_(freeze_endp) struct freeze *freeze = NULL;
	int r = freeze_begin(l->pid, &freeze, err);

	if (r)
		return r;
	r = census_of(l, python, ret_census, err);
	if (r)
		return r;
	*ret_seconds = freeze_seconds(freeze);
	if (freeze_holds(freeze))
		return 0;
	census_free(take_ptr(*ret_census));
	err_set(err, -EAGAIN, "it could not be held still until its heap was read");
	err_hint(err, "try again, or without --freeze");
	return -EAGAIN;
}

static bool has_ended(const struct live *l)
{
	struct pollfd fd = { .fd = l->pid_fd, .events = POLLIN };

	return l->pid_fd >= 0 && poll(&fd, 1, 0) > 0;
}

/* The library has said what is wrong; but the memory of a process that ends may look like anything, and an interrupt like a failure. */
static int explain(const struct live *l, int r, struct err *err)
{
	if (r == -EINTR)
		return err_set(err, r, "interrupted before the heap of process %d was read", (int)l->pid);
	if (has_ended(l)) {
		if (err)
			*err = (struct err){ 0 };
		return err_set(err, -ESRCH, "process %d ended before its heap was read", (int)l->pid);
	}
	if (r == -ENOENT)
		err_hint(err, "heap knows what pymalloc (the default) and PYTHONMALLOC=malloc allocate, with or without debug hooks");
	if (err && !err->what[0])
		err_set(err, r, "cannot read the heap of process %d: %s", (int)l->pid, strerror(-r));
	return r;
}

/* The Python is opened anew each time: what is mapped where changes. */
static int look_at(struct live *l, struct look *look, struct err *err)
{
	_cleanup_(python_freep) struct python *python = NULL;
	struct census *census = NULL;
	int r = python_open(l->pid, &python, err);

	if (r)
		return explain(l, r, err);
	look_free(look);
	*look = (struct look){ .frozen_seconds = NAN };
	if (l->opts->freeze)
		r = frozen_census_of(l, python, &census, &look->frozen_seconds, err);
	else
		r = census_of(l, python, &census, err);
	if (r)
		return explain(l, r, err);
	look->mono_ns = clock_mono_ns(&clock_real);
	r = snapshot_new(census, python, clock_wall(&clock_real), &look->snapshot);
	return r ? explain(l, r, err) : 0;
}

/* What deltas are relative to, if anything is: a file's census, or the first one. */
static int look_first(struct live *l, struct look *first, struct err *err)
{
	if (l->opts->compare)
		return snapshot_load(l->opts->compare, &first->snapshot, err);
	return l->opts->diff ? look_at(l, first, err) : 0;
}

static double seconds_since(const struct live *l, const struct look *first, const struct look *now)
{
	if (!first->snapshot)
		return NAN;
	if (l->opts->diff)
		return (double)(now->mono_ns - first->mono_ns) / 1e9;
	return snapshot_same_process(first->snapshot, now->snapshot) ? snapshot_seconds_between(first->snapshot, now->snapshot) : NAN;
}

static double interval_of(const struct live *l)
{
	return l->opts->interval > 0 ? l->opts->interval : HEAP_INTERVAL_DEFAULT;
}

static int count_of(const struct live *l)
{
	if (l->opts->count >= 0)
		return l->opts->count;
	return l->opts->interval > 0 && !l->opts->diff ? UNTIL_STOPPED : 1;
}

static void show_waiting(bool show, const struct live *l)
{
	if (show)
		fprintf(stderr, "\r\033[Kthe next census in %s, or at Ctrl-C", fmt_duration(interval_of(l)).s);
	else
		fputs("\r\033[K", stderr);
	fflush(stderr);
}

/* Until due_ns. 0; 1 at Ctrl-C; -ESRCH when the process ends. */
static int wait_until(struct live *l, uint64_t due_ns)
{
	struct pollfd fds[] = { { .fd = l->signal_fd, .events = POLLIN }, { .fd = l->pid_fd, .events = POLLIN } };
	uint64_t now_ns = clock_mono_ns(&clock_real), left_ns = due_ns > now_ns ? due_ns - now_ns : 0;
	struct timespec timeout = { .tv_sec = (time_t)(left_ns / 1000000000), .tv_nsec = (long)(left_ns % 1000000000) };
	struct term term;
	int n;

	term_inspect(STDERR_FILENO, &term);
	if (term.is_tty)
		show_waiting(true, l);
	do
		n = ppoll(fds, 2, &timeout, NULL);
	while (n < 0 && errno == EINTR);
	if (term.is_tty)
		show_waiting(false, l);
	if (n < 0)
		return -errno;
	if (fds[0].revents)
		return interrupted(l);
	return fds[1].revents ? -ESRCH : 0;
}

static int report_look(struct live *l, const struct look *first, const struct look *now, struct err *err)
{
	struct heap_report report = {
		.now = now->snapshot, .before = first->snapshot, .seconds = seconds_since(l, first, now), .frozen_seconds = now->frozen_seconds,
	};
	int r = 0;

	if (l->opts->save)
		r = snapshot_save(now->snapshot, l->opts->save, err);
	if (!r && l->reports && !l->opts->format)
		putchar('\n');
	if (!r)
		r = heap_report(l->opts, &report, count_of(l) == 1, err);
	l->reports += !r;
	return r;
}

/* The process is gone. That is the natural end of a run without one of its own. */
static int gone(const struct live *l, struct err *err)
{
	if (l->reports && count_of(l) == UNTIL_STOPPED)
		return 0;
	err_set(err, -ESRCH, "process %d ended before %s", (int)l->pid, l->opts->diff && !l->reports ? "the second census" : "the next census");
	if (l->opts->diff && !l->reports)
		err_hint(err, "a shorter --interval may do");
	return -ESRCH;
}

static int rounds(struct live *l, struct look *first, struct look *now, struct err *err)
{
	uint64_t interval_ns = (uint64_t)(interval_of(l) * 1e9), due_ns;
	int count = count_of(l), r, stop = 0;

	r = look_first(l, first, err);
	due_ns = clock_mono_ns(&clock_real) + (l->opts->diff ? interval_ns : 0);
	while (!r && !stop && (count == UNTIL_STOPPED || l->reports < count)) {
		if (l->reports || l->opts->diff) {
			stop = wait_until(l, due_ns);
			if (stop < 0)
				return stop == -ESRCH ? gone(l, err) : err_set(err, stop, "cannot wait: %s", strerror(-stop));
			/* Nothing new could be said of a run without deltas. */
			if (stop && !l->opts->diff)
				return 0;
		}
		r = look_at(l, now, err);
		if (!r)
			r = report_look(l, first, now, err);
		due_ns += interval_ns;
	}
	if (r == -EINTR && l->reports)
		return 0;
	return r;
}

int heap_live(const struct heap_opts *opts, pid_t pid, struct err *err)
{
	_cleanup_(look_free) struct look first = { 0 }, now = { 0 };
	_cleanup_(closep) int signal_fd = signals_take(), pid_fd = pidfd_open(pid, 0);
	struct live l = { .opts = opts, .pid = pid, .signal_fd = signal_fd, .pid_fd = pid_fd };

	return rounds(&l, &first, &now, err);
}
