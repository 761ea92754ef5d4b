/* SPDX-License-Identifier: MIT */
/* The options of a trace, shared by the verbs that make one: attach, run. */
#pragma once

#include "cmd/attachment.h"
#include "cmd/options.h"
#include "report/report.h"

struct attach_opts {
	double duration, interval, min_age;   /* seconds; 0: none */
	double budget;                        /* per cent; 0: not given */
	int mode, group_by, format;           /* choices */
	int frames, top;
	struct strings include, exclude;
	const char *output;
	uint64_t ring_size;
	bool fail_on_leak, perf_uprobes;
};

/* Sampled mode, per cent. */
#define ATTACH_BUDGET_DEFAULT 2.0

/* opts: the struct that holds a struct attach_opts at "at" ("attach."; empty: it is one itself). mode: the default. */
#define ATTACH_ROWS(opts, at, mode_default)                                                                                               \
	OPTION(opts, at duration, DURATION, 'd', "duration", "S", NULL, "stop after this time; default: run until Ctrl-C"),               \
	OPTION(opts, at interval, DURATION, 'i', "interval", "S", NULL,                                                                   \
	       "a report every S, with what changed since the one before; sampled without --duration: 10"),                              \
	OPTION(opts, at mode, CHOICE, 'm', "mode", NULL, mode_default,                                                                    \
	       "sampled: allocations in short windows at random times; exact: every allocation; passive: new pools, arenas and "         \
	       "mappings only, nothing is written into the target",                                                                      \
	       .choices = "sampled|exact|passive"),                                                                                      \
	OPTION(opts, at budget, DOUBLE, 'b', "budget", "PERCENT", NULL,                                                                   \
	       "how much slower the target may become; default of sampled mode: 2; exact mode falls back to sampled when it costs more", \
	       .min = 0.01, .max = 100),                                                                                                 \
	OPTION(opts, at frames, INT, 0, "frames", "N", "25", "frames of a traceback", .min = 1, .max = MAX_FRAMES),                       \
	OPTION(opts, at group_by, CHOICE, 'g', "group-by", NULL, "line", "what one finding is", .choices = "line|file|traceback"),        \
	OPTION(opts, at include, STRINGS, 0, "include", "GLOB", NULL, "only where the innermost frame's file matches"),                   \
	OPTION(opts, at exclude, STRINGS, 0, "exclude", "GLOB", NULL, "not where the innermost frame's file matches"),                    \
	OPTION(opts, at min_age, DURATION, 0, "min-age", "S", NULL, "count only blocks that have lived this long"),                       \
	OPTION(opts, at top, INT, 'n', "top", "N", "10", "findings shown; 0: all", .min = 0, .max = 1e9),                                 \
	OPTION(opts, at format, CHOICE, 'f', "format", NULL, "text", "how reports and errors are written", .choices = "text|json"),       \
	OPTION(opts, at output, STRING, 'o', "output", "FILE", NULL, "write reports there instead of standard output"),                   \
	OPTION(opts, at fail_on_leak, FLAG, 0, "fail-on-leak", NULL, NULL, "exit with status 3 when the last verdict is a leak"),         \
	OPTION(opts, at ring_size, SIZE, 0, "ring-size", "SIZE", "16m", "buffer between kernel and leaksnoop", .min = 65536,              \
	       .max = 1 << 30),                                                                                                          \
	OPTION(opts, at perf_uprobes, FLAG, 0, "perf-uprobes", NULL, NULL, "probe as on kernels before 6.12, with a perf event a probe",  \
	       .hidden = true)

/* A gate that can never close is none: -EUSAGE for --fail-on-leak in a mode that comes to no verdict. */
int attach_check_gate(const struct attach_opts *opts, struct err *err);
/* As the options say. What growth_options point to lives as long as opts. */
struct tracer_options attach_tracer_options(const struct attach_opts *opts, uint32_t max_targets);
struct attachment_options attach_attachment_options(const struct attach_opts *opts);

/* Where reports go. */
struct attach_output {
	FILE *file;
	struct report_style style;
	const struct report_writer *writer;
	bool is_leak;                         /* the verdict of the last one */
};
/* NULL path: fallback. several: reports follow each other, so JSON is one a line. */
int attach_output_open(const struct attach_opts *opts, FILE *fallback, bool several, struct attach_output *ret_output, struct err *err);
void attach_output_close(struct attach_output *output);
/* An attachment_report_fn with a struct attach_output as ctx. */
int attach_output_write(void *output, const struct report *report);
