/* SPDX-License-Identifier: MIT */
/* Inside cmd/: one attach, from its options to its reports. */
#pragma once

#include "cmd/options.h"
#include "diagnose/coverage.h"
#include "diagnose/growth.h"
#include "diagnose/source.h"
#include "pipeline.h"
#include "report/report.h"
#include "target/proc.h"
#include "trace/session.h"
#include "trace/tracee.h"

struct attach_opts {
	double duration, interval, min_age;   /* seconds; 0: none */
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
	bool no_mappings;                          /* the kernel cannot tell of mmap and brk */
	bool gone;                                 /* exited, or runs another program */
};

/* Draws a report of what is known now and writes it to a->out. The coverage is that of the last coverage_read(), which must have been made
 * while the slots were armed. */
int attach_report(struct attach *a);
