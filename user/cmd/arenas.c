/* SPDX-License-Identifier: MIT */
/* leaksnoop arenas PID: how full pymalloc's arenas are, and what keeps them. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/term.h"
#include "cmd/describe.h"
#include "cmd/progress.h"
#include "cmd/verb.h"
#include "heap/arena_map.h"
#include "interp/slots.h"
#include "report/arenas.h"
#include "report/write.h"
#include "trace/freeze.h"

struct arenas_opts {
	int top;
	int format;
	bool map, freeze;
};

static const struct option_row rows[] = {
	OPTION(struct arenas_opts, top, INT, 'n', "top", "N", NULL, "arenas shown, emptiest first; default: 10 as text, all as JSON", .min = 1,
	       .max = 1e9),
	OPTION(struct arenas_opts, map, FLAG, 'm', "map", NULL, NULL, "draw every arena, pool by pool"),
	OPTION(struct arenas_opts, format, CHOICE, 'f', "format", NULL, "text", "how the report and errors are written", .choices = "text|json"),
	OPTION(struct arenas_opts, freeze, FLAG, 0, "freeze", NULL, NULL, "stop the process while it is read, for exact numbers"),
	{ 0 }
};

/* What the process uses instead of pymalloc, as a hint. */
static void hint_allocator(const struct python *python, struct err *err)
{
	struct slots slots;

	if (slots_read(python, &slots, NULL) == 0)
		err_hint(err, "its allocator is %s (PYTHONMALLOC?): there are no arenas; 'leaksnoop attach' traces it all the same", slots.text);
}

static int read_map(const struct python *python, const struct arenas_opts *opts, struct arena_map **ret_map, double *ret_frozen,
		    struct err *err)
{
	_cleanup_(freeze_endp) struct freeze *freeze = NULL;
	_cleanup_(progress_freep) struct progress *progress = NULL;
	struct arena_map_options options = { .progress = progress_update };
	int r = 0;

	if (progress_new("looking at blocks", STDERR_FILENO, &clock_real, &progress) == 0)
		options.ctx = progress;
	if (opts->freeze)
		r = freeze_begin(python_pid(python), &freeze, err);
	if (r == 0)
		r = arena_map_read(python, &options, ret_map, err);
	if (r == -ENOENT)
		hint_allocator(python, err);
	if (r == 0 && freeze && !freeze_holds(freeze)) {
		arena_map_free(take_ptr(*ret_map));
		return err_set(err, -ECANCELED, "process %d could not be held while it was read", python_pid(python));
	}
	*ret_frozen = freeze ? freeze_seconds(freeze) : -1;
	return r;
}

static int print(const struct arenas_report *report, const struct arenas_opts *opts)
{
	struct arenas_style style;
	struct term term;

	if (opts->format)
		return arenas_write_json(report, stdout);
	term_inspect(STDOUT_FILENO, &term);
	style = (struct arenas_style){ .width = term.width, .colours_256 = term.colours_256 };
	return arenas_write_text(report, &style, stdout);
}

static int run(const void *options, int argc, char **argv, struct err *err)
{
	_cleanup_(python_freep) struct python *python = NULL;
	_cleanup_(arena_map_freep) struct arena_map *map = NULL;
	_cleanup_(json_decrefp) json_t *target = NULL;
	const struct arenas_opts *opts = options;
	struct arenas_report report = { .top = (size_t)opts->top, .draw = opts->map };
	pid_t pid;
	int r;

	(void)argc;
	r = option_pid(argv[0], &pid, err);
	if (r)
		return r;
	r = python_open(pid, &python, err);
	if (r)
		return r;
	target = describe_target(pid, python);
	r = read_map(python, opts, &map, &report.frozen_seconds, err);
	if (r)
		return r;
	report.map = map;
	report.target = target;
	r = print(&report, opts);
	return r ? err_set(err, r, "cannot write the report: %s", strerror(-r)) : EXIT_REPORT;
}

const struct verb verb_arenas = {
	.name = "arenas",
	.args_doc = "PID",
	.summary = "how full pymalloc's arenas are, and which few blocks keep the emptiest",
	.details = "  leaksnoop arenas 18208           totals, size classes, the emptiest arenas\n"
		   "  leaksnoop arenas 18208 --map     the same, and every arena pool by pool\n",
	.rows = rows,
	.opts_size = sizeof(struct arenas_opts),
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
