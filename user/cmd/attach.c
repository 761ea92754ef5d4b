/* SPDX-License-Identifier: MIT */
/* leaksnoop attach PID: trace until told to stop, report. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>

#include "base/clock.h"
#include "base/fmt.h"
#include "base/term.h"
#include "cmd/attach_options.h"
#include "cmd/signals.h"
#include "cmd/verb.h"

#define SECOND_NS 1000000000ull
#define INTERVAL_DEFAULT 10.0

static const struct option_row rows[] = { ATTACH_ROWS(struct attach_opts, , "sampled"), { 0 } };

struct attach {
	const struct attach_opts *opts;
	struct tracer *tracer;
	struct attachment *attachment;
	struct attach_output output;
	double interval;                           /* seconds between reports; 0: one at the end */
	int signal_fd, pid_fd;
	bool status;                               /* a line on the terminal says how it goes */
	uint64_t stop_ns, next_report_ns, next_status_ns, status_events;
};

static void attach_close(struct attach *a)
{
	attachment_free(a->attachment);
	tracer_free(a->tracer);
	attach_output_close(&a->output);
	closep(&a->pid_fd);
	closep(&a->signal_fd);
}

/* The line on a terminal while it runs:
 *   12 s  203,114 events/s  coverage 0.9999  0 lost  RSS +1.2 MiB */
static void show_status(struct attach *a)
{
	struct attachment_status s;

	attachment_status(a->attachment, &s);
	fprintf(stderr, "\r\033[K%s  %s events/s  coverage %s  %s lost  RSS %s ", fmt_duration(s.seconds).s,
		fmt_count(s.events - a->status_events).s, fmt_ratio(s.coverage).s, fmt_count(s.dropped).s, fmt_size_signed(s.rss_growth).s);
	fflush(stderr);
	a->status_events = s.events;
}

static void clear_status(void)
{
	fputs("\r\033[K", stderr);
	fflush(stderr);
}

/* Reports and the status line that are due. */
static int attach_due(struct attach *a, uint64_t now_ns)
{
	int r = 0;

	if (a->next_report_ns && now_ns >= a->next_report_ns) {
		if (a->status)
			clear_status();
		r = attachment_report(a->attachment, false, attach_output_write, &a->output);
		a->next_report_ns += (uint64_t)(a->interval * 1e9);
	}
	if (a->status && now_ns >= a->next_status_ns) {
		show_status(a);
		a->next_status_ns = now_ns + SECOND_NS;
	}
	return r;
}

/* Until a signal, the end of the time, or of the target. */
static int attach_loop(struct attach *a)
{
	for (;;) {
		struct pollfd fds[] = {
			{ .fd = a->signal_fd, .events = POLLIN },
			{ .fd = a->pid_fd, .events = POLLIN },
			{ .fd = tracer_fd(a->tracer), .events = POLLIN },
		};
		uint64_t now_ns = clock_mono_ns(&clock_real), next_ns = attachment_next_ns(a->attachment);
		struct timespec timeout = { .tv_nsec = next_ns > now_ns ? (long)(next_ns - now_ns) : 0 };
		int r;

		if (ppoll(fds, 3, &timeout, NULL) < 0 && errno != EINTR)
			return -errno;
		r = tracer_drain(a->tracer);
		if (r >= 0)
			r = attachment_step(a->attachment);
		if (r < 0 && r != -ESRCH)
			return r;
		if (fds[0].revents)
			return 0;
		if (fds[1].revents || attachment_is_gone(a->attachment)) {
			attachment_gone(a->attachment);
			return 0;
		}
		now_ns = clock_mono_ns(&clock_real);
		r = attach_due(a, now_ns);
		if (r)
			return r;
		if (a->stop_ns && now_ns >= a->stop_ns)
			return 0;
	}
}

static int attach_loop_run(struct attach *a)
{
	uint64_t now_ns = clock_mono_ns(&clock_real);
	struct term term;
	int r;

	term_inspect(STDERR_FILENO, &term);
	a->status = term.is_tty;
	a->next_status_ns = now_ns + SECOND_NS;
	if (a->opts->duration > 0)
		a->stop_ns = now_ns + (uint64_t)(a->opts->duration * 1e9);
	if (a->interval > 0)
		a->next_report_ns = now_ns + (uint64_t)(a->interval * 1e9);
	r = attach_loop(a);
	if (a->status)
		clear_status();
	return r;
}

static int attach_open(struct attach *a, const char *text, struct err *err)
{
	struct tracer_options tracer = attach_tracer_options(a->opts, 1);
	struct attachment_options attachment = attach_attachment_options(a->opts);
	pid_t pid;
	int r;

	r = option_pid(text, &pid, err);
	if (!r)
		r = attach_output_open(a->opts, stdout, a->interval > 0, &a->output, err);
	if (!r)
		r = tracer_new(&tracer, &a->tracer, err);
	if (!r)
		r = attachment_new(a->tracer, pid, &attachment, &a->attachment, err);
	if (!r)
		a->pid_fd = pidfd_open(pid, 0);
	return r;
}

static int run(const void *opts, int argc, char **argv, struct err *err)
{
	_cleanup_(attach_close) struct attach a = { .opts = opts, .pid_fd = -1, .signal_fd = signals_take() };
	int r, loop;

	(void)argc;
	a.interval = a.opts->interval;
	/* A trace without an end says now and then what it has found. */
	if (a.opts->mode == TRACE_SAMPLED && !(a.opts->duration > 0) && !(a.interval > 0))
		a.interval = INTERVAL_DEFAULT;
	r = attach_check_gate(a.opts, err);
	if (r)
		return r;
	r = attach_open(&a, argv[0], err);
	if (r) {
		err_prefix(err, "cannot attach to %s", argv[0]);
		return r;
	}
	loop = attach_loop_run(&a);
	/* Before anything slow is done. */
	attachment_disarm(a.attachment);
	r = attachment_report(a.attachment, true, attach_output_write, &a.output);
	if (r)
		return err_set(err, r, "cannot write the report: %s", strerror(-r));
	if (loop)
		return err_set(err, loop, "the trace broke off: %s", strerror(-loop));
	return a.opts->fail_on_leak && a.output.is_leak ? EXIT_LEAK : EXIT_REPORT;
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
