/* SPDX-License-Identifier: MIT */
/*
 * One traced process: its probes, its slots, its lock. Lifecycle, in order:
 *
 *   tracee_new      lock it, read its Python, restore what a killed tracer left, choose sites
 *   tracee_start    register, attach probes, arm (sampled: begin to open windows, tracee_windows())
 *   tracee_stop     disarm (at once), then detach (slow: the kernel waits for a grace period a probe)
 *   tracee_free
 *
 * Stopping disarms first, always: from then on the target runs its own code.
 */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "interp/python.h"
#include "interp/slots.h"
#include "target/site.h"
#include "trace/session.h"
#include "trace/window.h"

enum trace_mode { TRACE_SAMPLED, TRACE_EXACT, TRACE_PASSIVE };

struct tracee_options {
	enum trace_mode mode;
	double budget;             /* sampled: share of the target's time that tracing may cost, 0.02 */
	uint32_t max_frames;
	site_mask_t emulated;      /* what this kernel emulates (trace/kernel.h) */
};

/* How one function is traced. */
struct tracee_probe {
	enum alloc_function fn;
	unsigned domains;          /* bit (1 << enum alloc_domain): slots that hold this function */
	raddr_t function;
	struct site site;
	bool alias;                /* site is the function's alias: reached only while armed */
};

#define TRACEE_PROBES_MAX (DOMAIN_COUNT * FN_COUNT)

/* Whether objects are seen at first hand, through the reference tracer's slot. */
enum tracee_objects {
	OBJECTS_NONE,       /* not in this version or mode */
	OBJECTS_SEEN,
	OBJECTS_TAKEN,      /* another reference tracer was installed before */
	OBJECTS_LOST,       /* the program installed one, or took ours out, while it was traced */
	OBJECTS_NO_SITE,    /* the image has no function to point the slot at */
};

struct tracee;

/* The sites that exact mode would use for these slots, for doctor and tracee_new() alike. Returns their number. */
size_t tracee_choose_probes(const struct python *python, const struct slots *slots, site_mask_t emulated,
			    struct tracee_probe ret_probes[TRACEE_PROBES_MAX]);

int tracee_new(pid_t pid, const struct tracee_options *options, struct tracee **ret_tracee, struct err *err);
int tracee_start(struct tracee *tracee, struct session *session, struct err *err);
/* Stops, and starts in another mode; its index may be another, too. */
int tracee_restart(struct tracee *tracee, enum trace_mode mode, struct session *session, struct err *err);
/* Disarms. Quick; may be called again. */
void tracee_disarm(struct tracee *tracee);
void tracee_stop(struct tracee *tracee);
void tracee_free(struct tracee *tracee);
DEFINE_CLEANUP(struct tracee, tracee_free)

/* A fork copied the slots: restore the child's (trace/children.h). */
void tracee_forked(struct tracee *tracee, pid_t child);
/* To be called now and then: what has to be done a little after forks. */
void tracee_settle(struct tracee *tracee);

const struct python *tracee_python(const struct tracee *tracee);
const struct slots *tracee_slots(const struct tracee *tracee);
uint32_t tracee_target(const struct tracee *tracee);
double tracee_armed_seconds(const struct tracee *tracee);
/* Slots left armed by a killed tracer that tracee_new() restored. */
int tracee_restored(const struct tracee *tracee);
/* Sampled mode, between start and stop; else NULL. */
struct windows *tracee_windows(struct tracee *tracee);
/* Sampled mode: functions that cannot be armed, and so are not seen, bits (1 << enum alloc_function). */
unsigned tracee_unseen(const struct tracee *tracee);
/* Passive mode: fresh pools are seen (not where the function for them is inlined: 3.8). */
bool tracee_sees_pools(const struct tracee *tracee);
enum tracee_objects tracee_objects(const struct tracee *tracee);
/* Allocator slots the target has taken over since they were armed. */
size_t tracee_slots_lost(struct tracee *tracee);
