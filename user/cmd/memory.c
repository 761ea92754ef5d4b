/* SPDX-License-Identifier: MIT */
/* leaksnoop memory PID: the balance sheet, once or again and again. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <sys/pidfd.h>

#include "base/clock.h"
#include "base/term.h"
#include "cmd/describe.h"
#include "cmd/signals.h"
#include "cmd/verb.h"
#include "heap/balance.h"
#include "report/memory.h"
#include "target/proc.h"

struct memory_opts {
	double interval;   /* seconds; 0: once */
	int count, format;
};

static const struct option_row rows[] = {
	OPTION(struct memory_opts, interval, DURATION, 'i', "interval", "S", NULL, "again and again, this far apart: what grew, and how fast",
	       .min = 0.1, .max = 1e6),
	OPTION(struct memory_opts, count, INT, 'c', "count", "N", NULL, "sheets to draw; default: 1, with --interval without end", .min = 1,
	       .max = 1e9),
	OPTION(struct memory_opts, format, CHOICE, 'f', "format", NULL, "text", "how sheets and errors are written", .choices = "text|json"),
	{ 0 }
};

struct watch {
	const struct memory_opts *opts;
	pid_t pid;
	const struct python *python;
	struct balancer *balancer;
	struct memory_series *series;
	json_t *target;
	uint64_t start_ns;
	struct report_style style;
};

static int draw(struct watch *w, struct err *err)
{
	uint64_t now_ns = clock_mono_ns(&clock_real);
	struct memory_report report = {
		.target = w->target,
		.time = clock_wall(&clock_real),
		.seconds = (double)(now_ns - w->start_ns) / 1e9,
		.series = w->series,
	};
	struct balance balance;
	char advice[256];
	int r = balancer_read(w->balancer, &balance, err);

	if (r)
		return r;
	memory_series_add(w->series, report.seconds, &balance);
	if (memory_advice(&balance, w->pid, advice, sizeof(advice)))
		report.advice = advice;
	if (w->opts->format)
		r = memory_write_json(&report, &w->style, stdout);
	else
		r = memory_write_text(&report, &w->style, stdout);
	return r ? err_set(err, r, "cannot write the sheet: %s", strerror(-r)) : 0;
}

/* 0: it is time; 1: a signal came, or the process went. */
static int wait_until(uint64_t due_ns, int signal_fd, int pid_fd)
{
	for (;;) {
		struct pollfd fds[] = { { .fd = signal_fd, .events = POLLIN }, { .fd = pid_fd, .events = POLLIN } };
		uint64_t now_ns = clock_mono_ns(&clock_real), left_ns = due_ns > now_ns ? due_ns - now_ns : 0;
		struct timespec timeout = { (time_t)(left_ns / 1000000000ull), (long)(left_ns % 1000000000ull) };

		/* also when it is time already: a sheet may take longer than the interval, and Ctrl-C must end that */
		if (ppoll(fds, 2, &timeout, NULL) < 0 && errno != EINTR)
			return -errno;
		if (fds[0].revents || fds[1].revents)
			return 1;
		if (!left_ns)
			return 0;
	}
}

static int repeat(struct watch *w, int signal_fd, int pid_fd, struct err *err)
{
	uint64_t due_ns = clock_mono_ns(&clock_real), step_ns = (uint64_t)(w->opts->interval * 1e9);
	int count = w->opts->count ? w->opts->count : w->opts->interval > 0 ? 0 : 1, r = 0;

	for (int i = 0; !count || i < count; i++) {
		if (i)
			r = wait_until(due_ns += step_ns, signal_fd, pid_fd);
		if (r)
			return r < 0 ? err_set(err, r, "cannot wait: %s", strerror(-r)) : 0;
		if (i && !w->opts->format)
			fputs("\n", stdout);
		r = draw(w, err);
		/* that it ends is no failure once something was said */
		if (r)
			return r == -ESRCH && i ? 0 : r;
		/* a reading that took longer than the interval is not made up for */
		if (clock_mono_ns(&clock_real) > due_ns + step_ns)
			due_ns = clock_mono_ns(&clock_real) - step_ns;
	}
	return 0;
}

static int run(const void *options, int argc, char **argv, struct err *err)
{
	_cleanup_(python_freep) struct python *python = NULL;
	_cleanup_(balancer_freep) struct balancer *balancer = NULL;
	_cleanup_(memory_series_freep) struct memory_series *series = NULL;
	_cleanup_(json_decrefp) json_t *target = NULL;
	_cleanup_(closep) int signal_fd = -1, pid_fd = -1;
	struct watch w = { .opts = options };
	struct term term;
	int r;

	(void)argc;
	r = option_pid(argv[0], &w.pid, err);
	if (!r)
		r = python_open(w.pid, &python, err);
	if (r)
		return r;
	r = balancer_new(python, &balancer);
	if (!r)
		r = memory_series_new(&series);
	target = describe_target(w.pid, python);
	if (r || !target)
		return err_set(err, -ENOMEM, "out of memory");
	signal_fd = signals_take();
	pid_fd = pidfd_open(w.pid, 0);
	term_inspect(STDOUT_FILENO, &term);
	w.style = (struct report_style){ .colours = term.colours, .width = term.width, .pretty = !(w.opts->interval > 0) };
	w.python = python;
	w.balancer = balancer;
	w.series = series;
	w.target = target;
	w.start_ns = clock_mono_ns(&clock_real);
	r = repeat(&w, signal_fd, pid_fd, err);
	return r ? r : EXIT_REPORT;
}

const struct verb verb_memory = {
	.name = "memory",
	.args_doc = "PID",
	.summary = "a balance sheet of its memory that adds up to RSS, and which part grows",
	.details = "  leaksnoop memory 18208               once\n"
		   "  leaksnoop memory 18208 --interval 10 every 10 s: what each part grew by, and its rate since the first sheet\n",
	.rows = rows,
	.opts_size = sizeof(struct memory_opts),
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
