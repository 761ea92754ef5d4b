/* SPDX-License-Identifier: MIT */
/*
 * leaksnoop run -- COMMAND: traces a command and the Pythons that come of it, and ends as the command does.
 *
 * The command keeps our terminal, process group, streams and descriptors. What the terminal sends (Ctrl-C, Ctrl-\) it gets by itself; what is sent
 * to us is passed on. If it was killed by a signal, so are we, without a core file: then a shell that waits for us sees what it would have seen.
 */
#include "cmd/run.h"

#include <cap-ng.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/term.h"
#include "cmd/verb.h"

#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND 127
#define SLEEP_NS 1000000000ull     /* the longest: a signal wakes us earlier */

static const struct option_row rows[] = { ATTACH_ROWS(struct attach_opts, , "sampled"), { 0 } };

static const int passed_on[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 };

static void run_close(struct run *run)
{
	run_processes_free(run);
	/* Before the kernel side goes, which takes its time: nobody shall wait for us. */
	launch_free(run->launch);
	tracer_free(run->tracer);
	attach_output_close(&run->output);
}

/* Nothing is loaded before the first Python comes; but then it is late to say that it may not be. */
static int check_rights(struct err *err)
{
	if (capng_get_caps_process() ||
	    capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_ADMIN) ||
	    (capng_have_capability(CAPNG_EFFECTIVE, CAP_BPF) && capng_have_capability(CAPNG_EFFECTIVE, CAP_PERFMON) &&
	     capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_PTRACE)))
		return 0;
	err_set(err, -EPERM, "no permission to load BPF programs");
	err_hint(err, "run as root: 'sudo leaksnoop run -- sudo -u \"$USER\" COMMAND' runs the command as yourself");
	return -EPERM;
}

static int take_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (size_t i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
		sigaddset(&set, passed_on[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void pass_signals(const struct run *run, int signal_fd)
{
	struct signalfd_siginfo info;

	while (read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
		/* The terminal's go to the whole group: the command has it already. */
		bool terminal = info.ssi_code == SI_KERNEL && (info.ssi_signo == SIGINT || info.ssi_signo == SIGQUIT);

		if (info.ssi_signo != SIGCHLD && !terminal)
			kill(launch_pid(run->launch), (int)info.ssi_signo);
	}
}

static int run_loop(struct run *run, int signal_fd, int *ret_status)
{
	while (!launch_has_ended(run->launch, ret_status)) {
		struct pollfd fds[] = {
			{ .fd = signal_fd, .events = POLLIN },
			{ .fd = tracer_fd(run->tracer), .events = POLLIN },
		};
		uint64_t now_ns = clock_mono_ns(&clock_real), next_ns = run_next_ns(run);
		uint64_t sleep_ns = next_ns <= now_ns ? 0 : next_ns - now_ns < SLEEP_NS ? next_ns - now_ns : SLEEP_NS - 1;
		struct timespec timeout = { .tv_nsec = (long)sleep_ns };
		int r;

		if (ppoll(fds, 2, &timeout, NULL) < 0 && errno != EINTR)
			return -errno;
		pass_signals(run, signal_fd);
		r = launch_step(run->launch, run_on_event, run);
		if (r)
			return r;
		r = tracer_drain(run->tracer);
		if (r < 0)
			return r;
		run_step(run);
		run_release(run);
	}
	run_stop_tracing(run);
	return 0;
}

static int run_open(struct run *run, char **argv, struct err *err)
{
	struct tracer_options tracer = attach_tracer_options(run->opts, RUN_TARGETS_MAX);
	int r = attach_check_gate(run->opts, err) ?: check_rights(err);

	run->options = attach_attachment_options(run->opts);
	run->interval_ns = (uint64_t)(run->opts->interval * 1e9);
	if (!r)
		r = launch_new(argv, &run->launch, err);
	if (!r)
		r = attach_output_open(run->opts, stderr, true, &run->output, err);
	if (!r)
		r = tracer_new(&tracer, &run->tracer, err);
	if (!r && run_processes_new(run))
		r = err_set(err, -ENOMEM, "out of memory");
	return r;
}

/* Ends as the command did. Returns if that cannot be. */
static int end_like(int status)
{
	struct rlimit none = { 0 };
	sigset_t set;
	int sig;

	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	sig = WTERMSIG(status);
	/* The core file, if there is one, is the command's. */
	setrlimit(RLIMIT_CORE, &none);
	signal(sig, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(sig);
	return 128 + sig;
}

static int say_not_run(const struct run *run, const char *name)
{
	int r = launch_failure(run->launch);
	struct err err = { 0 };
	struct term term;

	err_set(&err, r, "cannot run %s: %s", name, strerror(-r));
	term_inspect(STDERR_FILENO, &term);
	(void)report_error(run->opts->format ? "json" : "text", &err, term.colours, stderr);
	return r == -ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}

/* *ret_status: as of wait(2), how to end; untouched if an exit status is returned. */
static int run_command(const struct attach_opts *opts, char **argv, int *ret_status, struct err *err)
{
	_cleanup_(run_close) struct run run = { .opts = opts };
	_cleanup_(closep) int signal_fd = -1;
	int status = 0, r = run_open(&run, argv, err);

	if (r)
		return r;
	signal_fd = take_signals();
	if (opts->duration > 0)
		run.stop_ns = clock_mono_ns(&clock_real) + (uint64_t)(opts->duration * 1e9);
	r = launch_go(run.launch);
	if (!r)
		r = run_loop(&run, signal_fd, &status);
	if (r)
		return err_set(err, r, "the trace broke off: %s", strerror(-r));
	if (launch_failure(run.launch))
		return say_not_run(&run, argv[0]);
	r = run_summary(&run, status);
	if (r)
		return err_set(err, r, "cannot write the report: %s", strerror(-r));
	if (opts->fail_on_leak && run.leaks)
		return EXIT_LEAK;
	if (opts->fail_on_leak && run.untraced && WIFEXITED(status) && !WEXITSTATUS(status))
		return EXIT_ERROR;
	*ret_status = status;
	return 0;
}

static int run(const void *opts, int argc, char **argv, struct err *err)
{
	int status = 0, r;

	(void)argc;
	r = run_command(opts, argv, &status, err);
	return r ? r : end_like(status);
}

const struct verb verb_run = {
	.name = "run",
	.args_doc = "COMMAND...",
	.summary = "trace a command and the Python processes that come of it",
	.details = "Reports go to standard error, or to --output; each process has one when it ends, and every --interval. After --duration "
		   "the command runs on untraced. Exit status: that of the command (if a signal killed it, by that signal), 126 if it cannot be "
		   "run, 127 if it is not found; with --fail-on-leak 3 if the last report of any of its processes has the verdict leak, and 1 "
		   "instead of 0 if a Python could not be traced. A leak takes half a minute to be sure of: less is 'unknown', which is no leak.\n\n"
		   "  leaksnoop run --fail-on-leak -- pytest tests/\n"
		   "  leaksnoop run --mode exact -- env PYTHONPATH=. python3 app.py\n"
		   "  leaksnoop run -- sudo -u www-data gunicorn app:app",
	.rows = rows,
	.opts_size = sizeof(struct attach_opts),
	.min_args = 1,
	.max_args = INT_MAX,
	.command = true,
	.run = run,
};
