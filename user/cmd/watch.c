/* SPDX-License-Identifier: MIT */
/* leaksnoop watch: every Python process on the host, for weeks. One loop, no threads. */
#include "cmd/watch.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/term.h"
#include "cmd/service.h"
#include "cmd/signals.h"
#include "cmd/verb.h"
#include "target/proc.h"

#define SECOND_NS 1000000000ull
#define CHOICE_NS SECOND_NS
#define SLEEP_MAX_NS (5 * SECOND_NS)
#define RING_BYTES (4u << 20)
#define COMMAND_WAITS 50      /* tenths of a second */

static const struct option_row rows[] = {
	OPTION(struct watch_opts, pids, STRINGS, 'p', "pid", "PID", NULL, "only this process; may be given several times, as the next three"),
	OPTION(struct watch_opts, comms, STRINGS, 'c', "comm", "GLOB", NULL, "only processes whose command, script or -m module matches"),
	OPTION(struct watch_opts, cgroups, STRINGS, 0, "cgroup", "PATH", NULL, "only processes at or below that cgroup"),
	OPTION(struct watch_opts, users, STRINGS, 'u', "user", "USER", NULL, "only processes of that user, by name or number"),
	OPTION(struct watch_opts, budget, DOUBLE, 'b', "budget", "PERCENT", "1", "how much slower a process may become while it is sampled",
	       .min = 0.01, .max = 100),
	OPTION(struct watch_opts, host_budget, DOUBLE, 0, "host-budget", "PERCENT", "2", "of one core, for leaksnoop itself", .min = 0.1,
	       .max = 100),
	OPTION(struct watch_opts, interval, DURATION, 'i', "interval", "S", "10", "how often what changed is printed and stored", .min = 0.5,
	       .max = 86400),
	OPTION(struct watch_opts, history, STRING, 0, "history", "FILE", STORE_DEFAULT, "where what was seen is kept"),
	OPTION(struct watch_opts, no_history, FLAG, 0, "no-history", NULL, NULL, "keep nothing"),
	OPTION(struct watch_opts, retain, DURATION, 0, "retain", "D", "30d", "how long it is kept"),
	OPTION(struct watch_opts, listen, STRINGS, 'l', "listen", "ADDR", NULL,
	       "serve /metrics and /healthz: ADDR:PORT, PORT (loopback) or unix:PATH"),
	OPTION(struct watch_opts, alert_rate, SIZE, 0, "alert-rate", "BYTES/H", "0",
	       "alert also when a process keeps more than this an hour; 0: only when a verdict is leak", .min = 0, .max = 1e15),
	OPTION(struct watch_opts, on_alert, STRING, 0, "on-alert", "COMMAND", NULL,
	       "run by /bin/sh when an alert begins and when it ends, the event on its standard input"),
	OPTION(struct watch_opts, format, CHOICE, 'f', "format", NULL, "text", "how events and errors are written", .choices = "text|json"),
	OPTION(struct watch_opts, settle, DURATION, 0, "settle", "S", "5", "a process is looked at once it has lived so long", .hidden = true,
	       .min = 0, .max = 3600),
	OPTION(struct watch_opts, turn, DURATION, 0, "turn", "S", "60", "how long a process is sampled at a time", .hidden = true, .min = 1,
	       .max = 3600),
	{ 0 }
};

/* What the filters of the command line come to; freed by filters_free(). */
struct filters {
	pid_t *pids;
	uid_t *uids;
};

static void filters_free(struct filters *f)
{
	free(f->pids);
	free(f->uids);
}

static int user_of(const char *text, uid_t *ret_uid, struct err *err)
{
	const struct passwd *user = getpwnam(text);
	char *end;
	unsigned long uid = strtoul(text, &end, 10);

	if (!user && (!*text || *end || uid >= UINT32_MAX)) {
		err_set(err, -EUSAGE, "there is no user '%.60s'", text);
		return -EUSAGE;
	}
	*ret_uid = user ? user->pw_uid : (uid_t)uid;
	return 0;
}

static int filters_read(const struct watch_opts *o, struct filters *f, struct err *err)
{
	int r = 0;

	f->pids = calloc(o->pids.n + 1, sizeof(*f->pids));
	f->uids = calloc(o->users.n + 1, sizeof(*f->uids));
	if (!f->pids || !f->uids)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < o->pids.n && !r; i++)
		r = option_pid(o->pids.v[i], &f->pids[i], err);
	for (size_t i = 0; i < o->users.n && !r; i++)
		r = user_of(o->users.v[i], &f->uids[i], err);
	return r;
}

static int open_finder(struct watch *w, struct err *err)
{
	_cleanup_(filters_free) struct filters filters = { 0 };
	const struct watch_opts *o = w->opts;
	struct finder_events events = watch_finder_events;
	struct finder_options options = {
		.settle_ns = (uint64_t)(o->settle * 1e9),
		.max = WATCH_PROCESSES_MAX,
		.comms = (const char *const *)o->comms.v,
		.cgroups = (const char *const *)o->cgroups.v,
		.n_uids = o->users.n,
	};
	int r = filters_read(o, &filters, err);

	if (r)
		return r;
	options.pids = o->pids.n ? filters.pids : NULL;
	options.uids = o->users.n ? filters.uids : NULL;
	events.ctx = w;
	for (size_t i = 0; i < o->pids.n; i++)
		if (kill(filters.pids[i], 0) && errno == ESRCH)
			watch_warn("there is no process %d (yet)", (int)filters.pids[i]);
	r = finder_new(&options, &events, &w->finder, err);
	return r ?: finder_start(w->finder, err);
}

static void metrics_page(void *ctx, struct strbuf *buf)
{
	struct watch *w = ctx;
	struct watch_view view = watch_view(w);

	metrics_append(buf, &view);
}

/* A loop that has not come round for a while would not answer at all. */
static bool healthy_page(void *ctx, struct strbuf *text)
{
	const struct watch *w = ctx;

	if (!w->self.history_ok) {
		strbuf_appendf(text, "the history cannot be written: %s\n", w->store ? store_error(w->store) : "it could not be opened");
		return false;
	}
	strbuf_appendf(text, "ok: %zu processes\n", w->n);
	return true;
}

static int open_servers(struct watch *w, struct err *err)
{
	const struct server_pages pages = { .metrics = metrics_page, .healthy = healthy_page, .ctx = w };

	if (w->opts->listen.n > WATCH_LISTEN_MAX) {
		err_set(err, -EUSAGE, "at most %d times --listen", WATCH_LISTEN_MAX);
		return -EUSAGE;
	}
	for (size_t i = 0; i < w->opts->listen.n; i++) {
		bool is_public = false;
		int r = server_new(w->opts->listen.v[i], &pages, &w->servers[i], &is_public, err);

		if (r)
			return r;
		w->n_servers++;
		if (is_public)
			watch_warn("%s can be reached from other machines, and tells paths and command lines to whoever asks", w->opts->listen.v[i]);
	}
	return 0;
}

/* A disk that is full, or read-only, may be mended: what watches is not to fail for that. */
static int open_store(struct watch *w, struct err *err)
{
	int r = w->opts->no_history ? 0 : watch_store_open(w, err);

	w->self.history_ok = !r;
	if (r != -ENOSPC && r != -EDQUOT && r != -EROFS)
		return r;
	watch_warn("there is no history, watching goes on: %s", err->what);
	*err = (struct err){ 0 };
	return 0;
}

/* A process takes a few descriptors; the soft limit is made for programs that select(). */
static void raise_limits(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files))
		return;
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

static int drop_privileges(struct err *err)
{
	struct err lacking = { 0 };
	int r = service_drop_privileges(&lacking);

	if (r)
		*err = lacking;
	else if (lacking.what[0])
		watch_warn("%s", lacking.what);
	return r;
}

static int open_all(struct watch *w, struct err *err)
{
	const struct watch_opts *o = w->opts;
	struct rota_options rota = { .host_budget = o->host_budget / 100, .max_at_once = WATCH_SAMPLED_MAX, .turn_seconds = o->turn };
	struct alerts_options alerts = { .rate = (double)o->alert_rate / 3600, .confidence = 0.5 };
	struct tracer_options tracer = { .max_targets = WATCH_SAMPLED_MAX, .mode = TRACE_SAMPLED, .ring_bytes = RING_BYTES };
	int r;

	raise_limits();
	r = open_store(w, err);
	if (!r)
		r = open_servers(w, err);
	if (!r)
		r = rota_new(&rota, w->start_ns, &w->rota);
	if (!r)
		r = alerts_new(&alerts, &w->alerts);
	if (!r)
		r = tracer_new(&tracer, &w->tracer, err);
	if (!r)
		r = open_finder(w, err);
	/* The database, the sockets and the finder's programs are open: what only they needed goes. */
	return r ?: drop_privileges(err);
}

static void watch_close(struct watch *w)
{
	/* Windows close first. */
	watch_processes_free(w);
	finder_free(w->finder);
	tracer_free(w->tracer);
	rota_free(w->rota);
	alerts_free(w->alerts);
	for (size_t i = 0; i < w->n_servers; i++)
		server_free(w->servers[i]);
	store_free(w->store);
	for (size_t i = 0; i < sizeof(w->recent) / sizeof(w->recent[0]); i++)
		free(w->recent[i]);
}

/* ---- the loop ---- */

static uint64_t cpu_of(int who)
{
	struct rusage usage;

	if (getrusage(who, &usage))
		return 0;
	return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * SECOND_NS +
	       ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000;
}

static void account(struct watch *w, uint64_t now_ns)
{
	uint64_t cpu_ns = cpu_of(RUSAGE_SELF) + cpu_of(RUSAGE_CHILDREN) + tracer_watchdog_cpu_ns(w->tracer);
	struct finder_totals totals = finder_totals(w->finder);

	/* A watchdog that was killed is nobody's until it is waited for. */
	w->cpu_ns = cpu_ns = cpu_ns > w->cpu_ns ? cpu_ns : w->cpu_ns;
	rota_spend(w->rota, now_ns, cpu_ns);
	w->self.seconds = (double)(now_ns - w->start_ns) / 1e9;
	w->self.cpu_seconds = (double)cpu_ns / 1e9;
	w->self.processes = w->n;
	w->self.missed = totals.missed;
	w->self.turned_away = w->turned_away + totals.turned_away;
	proc_rss_read(getpid(), &w->self.rss_bytes);
}

static void every_second(struct watch *w, uint64_t now_ns)
{
	account(w, now_ns);
	watch_sampling_choose(w, now_ns);
	service_reap();
	w->next_choice_ns = now_ns + CHOICE_NS;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static struct timespec timeout_of(struct watch *w, uint64_t now_ns)
{
	uint64_t due_ns = earlier(now_ns + SLEEP_MAX_NS, earlier(w->next_choice_ns, w->next_interval_ns)), left_ns;

	due_ns = earlier(due_ns, earlier(watch_processes_next_ns(w), watch_sampling_next_ns(w)));
	due_ns = earlier(due_ns, earlier(finder_next_ns(w->finder), w->next_alive_ns));
	for (size_t i = 0; i < w->n_servers; i++) {
		int ms = server_timeout_ms(w->servers[i]);

		if (ms >= 0)
			due_ns = earlier(due_ns, now_ns + (uint64_t)ms * 1000000);
	}
	left_ns = due_ns > now_ns ? due_ns - now_ns : 0;
	return (struct timespec){ (time_t)(left_ns / SECOND_NS), (long)(left_ns % SECOND_NS) };
}

/* SIGHUP */
static void reopen(struct watch *w)
{
	struct err err = { 0 };

	if (w->store && store_reopen(w->store, &err))
		watch_warn("the history cannot be opened anew: %s", err.what);
	watch_store_anew(w);
}

static void take_signals(struct watch *w, int signal_fd)
{
	struct signalfd_siginfo info;

	while (read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			reopen(w);
		else if (info.ssi_signo == SIGWINCH)
			watch_measure(w);
		else
			w->stop = true;
	}
}

void watch_measure(struct watch *w)
{
	struct winsize size = { 0 };

	w->width = term_width(STDOUT_FILENO);
	w->rows = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row ? size.ws_row : 24;
}

static int watch_loop(struct watch *w, int signal_fd, struct err *err)
{
	uint64_t alive_ns = service_watchdog_ns();

	w->next_alive_ns = alive_ns ? 0 : UINT64_MAX;
	while (!w->stop) {
		uint64_t now_ns = clock_mono_ns(&clock_real);
		struct timespec timeout = timeout_of(w, now_ns);
		struct pollfd fds[3 + WATCH_LISTEN_MAX] = {
			{ .fd = signal_fd, .events = POLLIN },
			{ .fd = finder_fd(w->finder), .events = POLLIN },
			{ .fd = tracer_fd(w->tracer), .events = POLLIN },
		};
		int r;

		for (size_t i = 0; i < w->n_servers; i++)
			fds[3 + i] = (struct pollfd){ .fd = server_fd(w->servers[i]), .events = POLLIN };
		if (ppoll(fds, 3 + w->n_servers, &timeout, NULL) < 0 && errno != EINTR)
			return err_set(err, -errno, "cannot wait: %s", strerror(errno));
		now_ns = clock_mono_ns(&clock_real);
		watch_sampling_step(w, now_ns);
		r = finder_step(w->finder, now_ns);
		if (r < 0)
			return err_set(err, r, "processes cannot be found any more: %s", strerror(-r));
		watch_processes_step(w, now_ns);
		if (now_ns >= w->next_choice_ns)
			every_second(w, now_ns);
		if (now_ns >= w->next_interval_ns) {
			watch_say_interval(w, now_ns);
			w->next_interval_ns = now_ns + (uint64_t)(w->opts->interval * 1e9);
		}
		for (size_t i = 0; i < w->n_servers; i++)
			server_step(w->servers[i]);
		if (now_ns >= w->next_alive_ns) {
			service_alive();
			w->next_alive_ns = now_ns + alive_ns;
		}
		take_signals(w, signal_fd);
	}
	return 0;
}

/* The command of the last alert has a moment to say it. */
static void end_commands(void)
{
	struct timespec pause = { .tv_nsec = 100000000 };

	for (int i = 0; i < COMMAND_WAITS && service_reap() > 0; i++)
		nanosleep(&pause, NULL);
	service_end_commands();
}

/* Last words: what is sampled now is told of, and everything goes into the history. */
static void watch_finish(struct watch *w)
{
	uint64_t now_ns = clock_mono_ns(&clock_real);

	service_stopping();
	for (size_t i = 0; i < w->n; i++)
		if (w->processes[i]->attachment)
			watch_sampling_end(w, w->processes[i], now_ns);
	watch_store_anew(w);
	watch_say_interval(w, now_ns);
	end_commands();
}

static int run(const void *opts, int argc, char **argv, struct err *err)
{
	_cleanup_(watch_close) struct watch w = { .opts = opts, .start_ns = clock_mono_ns(&clock_real) };
	_cleanup_(closep) int signal_fd = signals_take_also(SIGHUP, SIGWINCH);
	struct term term;
	int r;

	(void)argc, (void)argv;
	term_inspect(STDOUT_FILENO, &term);
	w.table = term.is_tty && !w.opts->format;
	watch_measure(&w);
	w.next_interval_ns = w.start_ns + (uint64_t)(fmin(w.opts->interval, 2) * 1e9);
	r = open_all(&w, err);
	if (r)
		return r;
	service_ready("watching");
	r = watch_loop(&w, signal_fd, err);
	watch_finish(&w);
	return r ? r : EXIT_REPORT;
}

const struct verb verb_watch = {
	.name = "watch",
	.summary = "watch every Python process of the host, and say which one leaks, and where",
	.details = "  leaksnoop watch                                    a table of all, and what happens\n"
		   "  leaksnoop watch --user www-data --format json      events, one a line\n"
		   "  leaksnoop watch --listen 9464 --alert-rate 100m    metrics on loopback; alert from 100 MiB an hour on\n"
		   "  leaksnoop history --since 12h                      what was seen\n",
	.rows = rows,
	.opts_size = sizeof(struct watch_opts),
	.run = run,
};
