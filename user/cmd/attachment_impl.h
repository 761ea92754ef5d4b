/* SPDX-License-Identifier: MIT */
/* Inside cmd/attachment*.c: one process being traced. */
#pragma once

#include "cmd/tracer_impl.h"
#include "diagnose/coverage.h"
#include "diagnose/history.h"
#include "diagnose/memory.h"
#include "diagnose/source.h"
#include "report/report.h"
#include "target/proc.h"

struct attachment {
	struct attachment_options options;
	pid_t pid;
	struct tracer *tracer;
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
	struct timespec start_wall;
	uint64_t start_ns;
	double age_before;                         /* seconds that the process had lived by then; NAN unknown */
	char **cmdline;
	char *container;
	struct proc_memory memory, memory_start;   /* last known; at the start */
	enum trace_mode mode;                      /* now: exact mode may have fallen back */
	double fell_back_s;                        /* when, in seconds after the start; 0: it did not */
	double exact_cost;                         /* what exact mode cost then, share of the target's time */
	bool no_mappings;                          /* the kernel cannot tell of mmap and brk */
	bool follows;                              /* mappings are followed now */
	bool started;                              /* has an index, and records come */
	uint64_t mappings_seen, mappings_ns;       /* calls at the last look, and when that was */
	int looks_over;                            /* in a row, at which something cost more than it may */
	double trap_ns;                            /* exact mode with a budget: what a hit costs; and at the last look: */
	uint64_t budget_ns, budget_hits, budget_cpu_ns;
	double mappings_dropped;                   /* calls a second for which they are not followed any more; 0: they are */
	int error;                                 /* of a window's end */
	bool disarmed;                             /* for good */
	bool gone;                                 /* exited, or runs another program */
};

/* Sampled mode: makes the tables; then, again and again, what is due. -ESRCH: the target is gone. */
int attachment_sample_begin(struct attachment *a);
int attachment_sample_step(struct attachment *a);
/* The balance sheets: the first, before anything is armed; then what is due. -ESRCH: the target is gone. */
int attachment_memory_begin(struct attachment *a);
int attachment_memory_step(struct attachment *a);
/* What a report says of memory. last: nothing is armed any more, so that it may take its time. */
void attachment_memory_report(struct attachment *a, bool last, double seconds, struct report_memory *ret_memory);
/* Exact mode with a budget: falls back to sampled mode when it costs more. */
int attachment_obey_budget(struct attachment *a);
/* Stops, and starts in another mode. */
int attachment_restart(struct attachment *a, enum trace_mode mode, struct err *err);
/* What is not followed any more need not be told: see attachment_sampled.c. */
void attachment_ignore_mappings(struct attachment *a);
/* While the slots are armed; later the last reading stands. */
void attachment_read_coverage(struct attachment *a);
