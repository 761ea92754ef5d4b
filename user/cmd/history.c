/* SPDX-License-Identifier: MIT */
/* leaksnoop history: what 'watch' saw, out of its file. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/term.h"
#include "cmd/verb.h"
#include "report/past.h"
#include "report/store.h"
#include "report/write.h"

#define PID_MAX 4194304

struct history_opts {
	int pid, top, format;
	const char *since, *until;
	bool events;
};

static const struct option_row rows[] = {
	OPTION(struct history_opts, pid, INT, 'p', "pid", "P", NULL, "one process: hour by hour, its events, its last report", .min = 1,
	       .max = PID_MAX),
	OPTION(struct history_opts, since, STRING, 's', "since", "T", NULL,
	       "only what was seen after T: so long ago (90m, 2h, 3d), or a time (2026-11-21, 2026-11-21T03:00, 2026-11-21T03:00:00Z; UTC where "
	       "nothing else is said)"),
	OPTION(struct history_opts, until, STRING, 'u', "until", "T", NULL, "only what was seen before T"),
	OPTION(struct history_opts, events, FLAG, 'e', "events", NULL, NULL, "starts, verdicts, alerts and ends, in order of time"),
	OPTION(struct history_opts, top, INT, 'n', "top", "N", "40", "processes shown in text, worst first; 0: all", .min = 0, .max = 1e9),
	OPTION(struct history_opts, format, CHOICE, 'f', "format", NULL, "text", "how the history and errors are written",
	       .choices = "text|json"),
	{ 0 }
};

/* "Z", "+02:00" or nothing. */
static bool parse_zone(const char *text, int *ret_seconds)
{
	int hours, minutes, taken = 0;
	char sign;

	*ret_seconds = 0;
	if (!*text || !strcmp(text, "Z") || !strcmp(text, "z"))
		return true;
	if (sscanf(text, "%c%2d:%2d%n", &sign, &hours, &minutes, &taken) != 3 || text[taken] || (sign != '+' && sign != '-') || hours < 0 ||
	    hours > 23 || minutes < 0 || minutes > 59)
		return false;
	*ret_seconds = (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
	return true;
}

/* A date, with a time, with a zone. */
static bool parse_date(const char *text, double *ret_time)
{
	static const char *const formats[] = { "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d" };

	for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
		struct tm tm = { 0 };
		const char *rest = strptime(text, formats[i], &tm);
		char *end = (char *)rest;
		double fraction = rest && *rest == '.' ? strtod(rest, &end) : 0;
		struct tm asked = tm;
		int zone;
		time_t t;

		if (!rest || !parse_zone(end, &zone))
			continue;
		t = timegm(&tm);
		/* a 31st of February becomes another day */
		if (tm.tm_mday != asked.tm_mday || t < 0)
			return false;
		*ret_time = (double)t - zone + fraction;
		return true;
	}
	return false;
}

static int parse_time(const char *name, const char *text, double now, double *ret_time, struct err *err)
{
	struct ago {
		double seconds;
	} ago;
	static const struct option_row row = OPTION(struct ago, seconds, DURATION, 0, "since", NULL, NULL, NULL);

	if (!text)
		return 0;
	if (parse_date(text, ret_time))
		return 0;
	if (!option_store(&row, text, &ago, NULL)) {
		*ret_time = now - ago.seconds;
		return 0;
	}
	return err_set(err, -EUSAGE, "--%s %.60s: must be a time ago, as 2h or 3d, or a time, as 2026-11-21 or 2026-11-21T03:00:00Z", name, text);
}

static int show(const struct history_opts *opts, const json_t *history)
{
	enum past_view view = opts->events ? PAST_EVENTS : opts->pid ? PAST_DETAILS : PAST_PROCESSES;
	struct report_style style = { 0 };
	struct term term;

	if (opts->format)
		return write_json(history, true, stdout);
	term_inspect(STDOUT_FILENO, &term);
	style.colours = term.colours;
	style.width = term.width;
	return past_write_text(history, view, (size_t)opts->top, &style, stdout);
}

static int run(const void *p, int argc, char **argv, struct err *err)
{
	const struct history_opts *opts = p;
	struct timespec wall = clock_wall(&clock_real);
	double now = (double)wall.tv_sec + (double)wall.tv_nsec / 1e9;
	struct store_query query = { .pid = opts->pid, .summary = opts->events || (!opts->pid && !opts->format) };
	_cleanup_(json_decrefp) json_t *history = NULL;
	int r = parse_time("since", opts->since, now, &query.since, err);

	if (!r)
		r = parse_time("until", opts->until, now, &query.until, err);
	if (!r && query.until > 0 && query.until < query.since)
		r = err_set(err, -EUSAGE, "history: --until lies before --since");
	if (!r)
		r = store_read(argc ? argv[0] : STORE_DEFAULT, &query, &history, err);
	if (r)
		return r;
	r = show(opts, history);
	return r ? err_set(err, r, "cannot write the history: %s", strerror(-r)) : EXIT_REPORT;
}

const struct verb verb_history = {
	.name = "history",
	.args_doc = "[FILE]",
	.summary = "what 'watch' saw: processes, verdicts, how they ended; no root",
	.details = "FILE is what 'watch --history FILE' wrote (default " STORE_DEFAULT ").\n"
		   "  leaksnoop history --since 12h          what happened last night, worst first\n"
		   "  leaksnoop history --pid 4242           one process, hour by hour, and its last report\n"
		   "  leaksnoop history --events --since 1d  what happened, in order",
	.rows = rows,
	.opts_size = sizeof(struct history_opts),
	.max_args = 1,
	.run = run,
};
