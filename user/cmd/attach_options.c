/* SPDX-License-Identifier: MIT */
#include "cmd/attach_options.h"

#include <errno.h>
#include <string.h>

#include "base/term.h"

int attach_check_gate(const struct attach_opts *opts, struct err *err)
{
	if (!opts->fail_on_leak || opts->mode == TRACE_SAMPLED)
		return 0;
	err_set(err, -EUSAGE, "--fail-on-leak needs --mode sampled: only that comes to a verdict");
	err_hint(err, "leave out --mode");
	return -EUSAGE;
}

struct tracer_options attach_tracer_options(const struct attach_opts *opts, uint32_t max_targets)
{
	return (struct tracer_options){
		.max_targets = max_targets,
		.mode = (enum trace_mode)opts->mode,
		/* Exact mode with a budget may have to. */
		.fall_back = opts->mode == TRACE_EXACT && opts->budget > 0,
		.ring_bytes = opts->ring_size,
		.perf_uprobes = opts->perf_uprobes,
	};
}

struct attachment_options attach_attachment_options(const struct attach_opts *opts)
{
	double budget = opts->budget > 0 || opts->mode != TRACE_SAMPLED ? opts->budget : ATTACH_BUDGET_DEFAULT;

	/* The options' arrays are NULL-terminated by options.c. */
	return (struct attachment_options){
		.mode = (enum trace_mode)opts->mode,
		.budget = budget / 100,
		.frames = opts->frames,
		.top = opts->top,
		.growth = {
			.group_by = (enum group_by)opts->group_by,
			.include = (const char *const *)opts->include.v,
			.exclude = (const char *const *)opts->exclude.v,
			.min_age_ns = (uint64_t)(opts->min_age * 1e9),
		},
		.source = !opts->format,
		.survivors = SAMPLING_SURVIVORS_DEFAULT,
	};
}

int attach_output_open(const struct attach_opts *opts, FILE *fallback, bool several, struct attach_output *ret, struct err *err)
{
	struct term term;
	FILE *file = opts->output ? fopen(opts->output, "we") : fallback;

	if (!file)
		return err_set(err, -errno, "cannot write %s: %s", opts->output, strerror(errno));
	term_inspect(fileno(file), &term);
	*ret = (struct attach_output){
		.file = file,
		.style = { .colours = term.colours, .width = term.width, .pretty = !several },
		.writer = report_writer_find(opts->format ? "json" : "text"),
	};
	return 0;
}

void attach_output_close(struct attach_output *o)
{
	if (o->file && o->file != stdout && o->file != stderr)
		fclose(o->file);
}

int attach_output_write(void *output, const struct report *report)
{
	struct attach_output *o = output;

	o->is_leak = report->verdict && report->verdict->kind == VERDICT_leak;
	return report_write(o->writer, report, &o->style, o->file);
}
