/* SPDX-License-Identifier: MIT */
/* Inside cmd/: the verb run. run.c has the command and the end, run_processes.c the processes that come of it. */
#pragma once

#include "base/map64.h"
#include "cmd/attach_options.h"
#include "interp/birth.h"
#include "trace/launch.h"

/* Pythons traced at one time. */
#define RUN_TARGETS_MAX 64

struct run {
	const struct attach_opts *opts;
	struct launch *launch;
	struct tracer *tracer;
	struct attachment_options options;
	struct attach_output output;
	struct map64 *processes;      /* struct run_process by PID */
	struct map64 *strangers;      /* files of programs that were no Python at their entry point */
	struct attachment **finished; /* whose processes go on: detached when nobody waits */
	size_t n_finished, finished_size;
	uint64_t interval_ns, stop_ns;   /* 0: none */
	bool over;                    /* nothing is traced any more, the command goes on */
	int error;                    /* of writing a report */
	/* for the summary */
	uint64_t pythons, programs, reports, quiet, early, untraced, crowded, leaks;
	char why_untraced[512];       /* the first of them */
};

int run_processes_new(struct run *run);
/* A launch_fn with a struct run as ctx. */
void run_on_event(void *run, const struct launch_event *event);
/* What is due of all processes: attachments' steps, reports, attaching. Drain before. */
void run_step(struct run *run);
/* When it must be called again. */
uint64_t run_next_ns(const struct run *run);
/* Last reports of all that are still traced; from now on nothing is. */
void run_stop_tracing(struct run *run);
/* Detaches what has had its last report. */
void run_release(struct run *run);
void run_processes_free(struct run *run);
/* What became of them all: a line of text, or of JSON. status: as of wait(2). */
int run_summary(struct run *run, int status);
