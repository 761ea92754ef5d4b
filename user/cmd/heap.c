/* SPDX-License-Identifier: MIT */
/* leaksnoop heap: every live object of a process by type, from outside; how that grows; and the same of snapshots in files. */
#include "cmd/heap.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/term.h"
#include "cmd/verb.h"

#define TOP_TEXT 20
#define NOT_GIVEN (-1)

static const struct option_row rows[] = {
	OPTION(struct heap_opts, diff, FLAG, 0, "diff", NULL, NULL, "show what grew in --interval since the first census"),
	OPTION(struct heap_opts, interval, DURATION, 'i', "interval", "S", NULL,
	       "time from one census to the next; default: 5; without --diff: a report every S until Ctrl-C or --count", .min = 0.01, .max = 1e7),
	OPTION(struct heap_opts, count, INT, 'c', "count", "N", "-1", "reports; 0: until Ctrl-C; default: 1", .min = NOT_GIVEN, .max = 1e9, .quiet = true),
	OPTION(struct heap_opts, type, STRING, 't', "type", "GLOB", NULL, "only types whose qualified name matches, as 'app.*'"),
	OPTION(struct heap_opts, top, INT, 'n', "top", "N", "-1", "types shown; 0: all; default: 20 in text, all in JSON", .min = NOT_GIVEN,
	       .max = 1e9, .quiet = true),
	OPTION(struct heap_opts, save, STRING, 's', "save", "FILE", NULL, "keep the census in a file (the last one, of several)"),
	OPTION(struct heap_opts, load, STRING, 'l', "load", "FILE", NULL, "show the census of a file instead of a process; needs no root"),
	OPTION(struct heap_opts, compare, STRING, 0, "compare", "FILE", NULL,
	       "show what changed against that snapshot; of two snapshots of one process the earlier one comes first, whatever their order here"),
	OPTION(struct heap_opts, freeze, FLAG, 0, "freeze", NULL, NULL,
	       "stop the process while its heap is read, so that all of it is of one moment"),
	OPTION(struct heap_opts, format, CHOICE, 'f', "format", NULL, "text", "how reports and errors are written", .choices = "text|json"),
	{ 0 }
};

int heap_report(const struct heap_opts *opts, struct heap_report *report, bool single, struct err *err)
{
	_cleanup_(comparison_freep) struct comparison *comparison = NULL;
	struct report_style style = { .pretty = single };
	struct term term;
	int r;

	r = comparison_new(report->before ? report->before->census : NULL, report->now->census, report->seconds, &comparison);
	if (r)
		return err_set(err, r, "cannot compare: %s", strerror(-r));
	if (opts->type)
		comparison_filter(comparison, opts->type);
	report->comparison = comparison;
	report->type = opts->type;
	report->top = opts->top != NOT_GIVEN ? (size_t)opts->top : opts->format ? 0 : TOP_TEXT;
	term_inspect(STDOUT_FILENO, &term);
	style.width = term.width;
	style.colours = term.colours;
	r = (opts->format ? heap_write_json : heap_write_text)(report, &style, stdout);
	report->comparison = NULL;
	return r ? err_set(err, r, "cannot write the report: %s", strerror(-r)) : 0;
}

static int load_and_report(const struct heap_opts *opts, struct err *err)
{
	_cleanup_(snapshot_freep) struct snapshot *now = NULL, *before = NULL;
	struct heap_report report = { .seconds = NAN, .frozen_seconds = NAN, .loaded = true };
	int r = snapshot_load(opts->load, &now, err);

	if (!r && opts->compare)
		r = snapshot_load(opts->compare, &before, err);
	if (r)
		return r;
	if (before && snapshot_same_process(before, now)) {
		report.seconds = snapshot_seconds_between(before, now);
		if (report.seconds < 0) {
			struct snapshot *later = before;

			before = now;
			now = later;
			report.seconds = -report.seconds;
		}
	}
	report.now = now;
	report.before = before;
	return heap_report(opts, &report, true, err);
}

/* What has a meaning only with a process, and what excludes each other. */
static int check_usage(const struct heap_opts *opts, int argc, struct err *err)
{
	const struct {
		bool given;
		const char *name;
	} of_a_process[] = {
		{ argc > 0, "a PID" }, { opts->diff, "--diff" }, { opts->interval > 0, "--interval" }, { opts->count != NOT_GIVEN, "--count" },
		{ opts->save, "--save" }, { opts->freeze, "--freeze" },
	};

	if (!opts->load && !argc) {
		err_set(err, -EUSAGE, "heap: needs a PID, or --load FILE");
		err_hint(err, "'leaksnoop ps' lists the Python processes");
		return -EUSAGE;
	}
	for (size_t i = 0; opts->load && i < sizeof(of_a_process) / sizeof(*of_a_process); i++)
		if (of_a_process[i].given)
			return err_set(err, -EUSAGE, "heap: --load shows a file, which makes no sense with %s", of_a_process[i].name);
	if (opts->diff && opts->compare)
		return err_set(err, -EUSAGE, "heap: growth since the first census (--diff) or since a file (--compare), not both");
	return 0;
}

static int run(const void *p, int argc, char **argv, struct err *err)
{
	const struct heap_opts *opts = p;
	pid_t pid = 0;
	int r = check_usage(opts, argc, err);

	if (!r && argc)
		r = option_pid(argv[0], &pid, err);
	if (r)
		return r;
	r = opts->load ? load_and_report(opts, err) : heap_live(opts, pid, err);
	return r ? r : EXIT_REPORT;
}

const struct verb verb_heap = {
	.name = "heap",
	.args_doc = "[PID]",
	.summary = "count every live object by type; how that grows; snapshots in files",
	.details = "Example:\n  leaksnoop heap 4242 --diff --interval 30\n  leaksnoop heap 4242 --save monday.heap\n"
		   "  leaksnoop heap --load tuesday.heap --compare monday.heap",
	.rows = rows,
	.opts_size = sizeof(struct heap_opts),
	.max_args = 1,
	.run = run,
};
