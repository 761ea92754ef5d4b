/* SPDX-License-Identifier: MIT */
/*
 * A process being traced, from its first balance sheet to its last report; and the tracer, the kernel side that several attachments share.
 * The verbs attach, run and watch are loops over these: they drain, step what is due, and ask for reports.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "diagnose/growth.h"
#include "diagnose/model.h"
#include "pipeline.h"
#include "trace/session.h"
#include "trace/tracee.h"

struct tracer;
struct attachment;

struct tracer_options {
	uint32_t max_targets;
	enum trace_mode mode;          /* of what will be attached; sampled too if fall_back */
	bool fall_back;                /* exact mode may fall back to sampled mode */
	uint64_t ring_bytes;
	bool perf_uprobes;
};

/* Nothing is loaded before the first attachment. -ENOMEM. */
int tracer_new(const struct tracer_options *options, struct tracer **ret_tracer, struct err *err);
/* Attachments must be freed before. */
void tracer_free(struct tracer *tracer);
DEFINE_CLEANUP(struct tracer, tracer_free)
/* Gives back what is loaded, until the next attachment. No attachment may be left. */
void tracer_unload(struct tracer *tracer);
/* Readable when the ring is filling up; -1: nothing is loaded. */
int tracer_fd(const struct tracer *tracer);
/* Hands the records of the ring to their attachments. */
int tracer_drain(struct tracer *tracer);
/* Processor time of the process that guards the windows, as long as it lives (trace/watchdog.h). */
uint64_t tracer_watchdog_cpu_ns(const struct tracer *tracer);

struct attachment_options {
	enum trace_mode mode;
	double budget;                 /* share of the target's time, 0.02; 0: exact and passive mode without */
	int frames, top;
	struct growth_options growth;  /* what it points to must outlive the attachment */
	bool source;                   /* source lines are read for tracebacks */
	size_t survivors;              /* sampled blocks held, at most */
	/* called when the target forked: its child was disarmed; may be NULL */
	void (*forked)(void *ctx, struct attachment *attachment, pid_t child);
	void *ctx;
};

/* Opens the process, draws the first balance sheet, arms. */
int attachment_new(struct tracer *tracer, pid_t pid, const struct attachment_options *options, struct attachment **ret_attachment,
		   struct err *err);
void attachment_free(struct attachment *attachment);
DEFINE_CLEANUP(struct attachment, attachment_free)

/* When a step is due at the latest, CLOCK_MONOTONIC. */
uint64_t attachment_next_ns(const struct attachment *attachment);
/* Windows, looks, readings, budget: what is due. Drain first. -ESRCH: the target is gone (attachment_report() still works). */
int attachment_step(struct attachment *attachment);
/* Disarms at once; nothing is armed any more. What was found is kept. */
void attachment_disarm(struct attachment *attachment);
/* The process is gone, or runs another program. */
void attachment_gone(struct attachment *attachment);
bool attachment_is_gone(const struct attachment *attachment);

/* Draws a report and hands it to fn, for which it is good. last: nothing is armed any more, so that it may take its time. */
typedef int (*attachment_report_fn)(void *ctx, const struct report *report);
int attachment_report(struct attachment *attachment, bool last, attachment_report_fn fn, void *ctx);

pid_t attachment_pid(const struct attachment *attachment);
const char *attachment_python(const struct attachment *attachment);   /* "3.11.2" */

/* What a line of status shows. */
struct attachment_status {
	double seconds;                /* since the start */
	uint64_t events;               /* allocations and frees seen */
	double coverage;               /* NAN: nothing happened */
	uint64_t dropped;
	int64_t rss_growth;            /* bytes since the start */
};
void attachment_status(struct attachment *attachment, struct attachment_status *ret_status);
