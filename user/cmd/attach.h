/* SPDX-License-Identifier: MIT */
/* Inside cmd/: one attach, from its options to its reports. */
#pragma once

#include "cmd/options.h"
#include "diagnose/coverage.h"
#include "diagnose/growth.h"
#include "diagnose/history.h"
#include "diagnose/memory.h"
#include "diagnose/source.h"
#include "pipeline.h"
#include "report/report.h"
#include "target/proc.h"
#include "trace/session.h"
#include "trace/tracee.h"

struct attach_opts {
	double duration, interval, min_age;   /* seconds; 0: none */
	double budget;                        /* per cent; 0: not given */
	int mode, group_by, format;           /* choices */
	int frames, top;
	struct strings include, exclude;
	const char *output;
	uint64_t ring_size;
	bool perf_uprobes;
};

struct attach {
	const struct attach_opts *opts;
	pid_t pid;
	struct session *session;
	struct tracee *tracee;
	struct pipeline *pipeline;
	struct growth *growth;
	struct history *history;                   /* sampled mode; else NULL */
	uint64_t windows;                          /* closed so far */
	struct balancer *balancer;
	struct memory_series *sheets;
	uint64_t balance_ns, balance_due_ns;       /* of the last sheet; when the next may be drawn */
	double balance_seconds;                    /* that the last one took */
	struct source *source;
	struct coverage coverage;
	int pagemap;                               /* of the target's address space at the attach */
	FILE *out;
	struct report_style style;
	struct timespec start_wall;
	uint64_t start_ns;
	char **cmdline;
	char *container;
	struct proc_memory memory, memory_start;   /* last known; at the start */
	double interval;                           /* seconds between reports; 0: one at the end */
	enum trace_mode mode;                      /* now: exact mode may have fallen back */
	double fell_back_s;                        /* when, in seconds after the start; 0: it did not */
	double exact_cost;                         /* what exact mode cost then, share of the target's time */
	bool no_mappings;                          /* the kernel cannot tell of mmap and brk */
	uint64_t mappings_seen, mappings_ns;       /* calls at the last look, and when that was */
	int looks_over;                            /* in a row, at which something cost more than it may */
	double trap_ns;                            /* exact mode with a budget: what a hit costs; and at the last look: */
	uint64_t budget_ns, budget_hits, budget_cpu_ns;
	double mappings_dropped;                   /* calls a second for which they are not followed any more; 0: they are */
	int error;                                 /* of a window's end */
	bool gone;                                 /* exited, or runs another program */
};

/* The share of its time by which the target may become slower. */
double attach_budget(const struct attach *a);

/* Sampled mode: makes the tables; then, again and again, what is due. -ESRCH: the target is gone. */
int attach_sample_begin(struct attach *a);
int attach_sample_step(struct attach *a);
/* The balance sheets: the first, before anything is armed; then what is due. -ESRCH: the target is gone. */
int attach_memory_begin(struct attach *a);
int attach_memory_step(struct attach *a);
/* What a report says of memory. last: nothing is armed any more, so that it may take its time. */
void attach_memory_report(struct attach *a, bool last, double seconds, struct report_memory *ret_memory);
/* Exact mode with a budget: falls back to sampled mode when it costs more. */
int attach_obey_budget(struct attach *a);

/* Draws a report of what is known now and writes it to a->out. The coverage is that of the last coverage_read(), which must have been made
 * while the slots were armed. */
int attach_report(struct attach *a, bool last);
