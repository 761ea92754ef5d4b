/* SPDX-License-Identifier: MIT */
/*
 * The windows of one process in sampled mode: opens them when its pace says so,
 * closes them, and says of each how much time it stands for. Driven by its
 * caller, who promises to call windows_step() at windows_next_ns(); a caller that
 * is late costs the target nothing, for the BPF programs end a window by
 * themselves (bpf/window.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../bpf/control.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "trace/arm.h"

struct windows_options {
	pid_t pid;
	double budget;             /* 0.02 */
	double trap_ns;            /* what a hit costs beside the program behind it */
	uint64_t seed;
	struct watchdog *watchdog;
	uint32_t target;           /* the watchdog's and the kernel's number for the process */
};

/* A window that is closed. What was recorded in it has that group and lies between start_ns and end_ns (CLOCK_MONOTONIC). */
struct window_record {
	enum window_group group;
	uint32_t index;            /* of the group's windows, from 0 */
	uint64_t start_ns, end_ns;
	uint64_t hits;
	double overhead_ns;        /* what it cost the target */
	double cycle_ns;           /* the time it stands for */
	double idle;               /* 0..1: share of it in which the target had nothing to do */
	bool amid;                 /* it began while the target was at work */
	uint64_t first_ns, last_ns;   /* hits; 0: none */
	bool cut;                  /* ended by its hits, before its time */
	bool stay;                 /* the next window follows at once */
};

/* What all windows of a group come to. */
struct window_totals {
	uint64_t count, cut, failed;   /* failed: the slots were not ours to arm */
	uint64_t hits;
	double armed_s, overhead_s;
	double weighted_hits;          /* hits, each as often as its window stands for */
};

struct watchdog;

struct windows;

/* armings (one a group; NULL: the group has no slots) and shared (the kernel's side) must outlive it. */
int windows_new(const struct windows_options *options, struct arming *const armings[WINDOW_GROUP_COUNT],
		struct target_windows *shared, struct windows **ret_windows, struct err *err);
/* Closes what is open, without a record. */
void windows_free(struct windows *windows);
DEFINE_CLEANUP(struct windows, windows_free)

/* CLOCK_MONOTONIC. */
uint64_t windows_next_ns(const struct windows *windows);

/* Called right after a window was closed, while what it saw still stands in the nursery and the ring. */
typedef void (*window_fn)(void *ctx, const struct window_record *record);
/* Opens and closes what is due. -ESRCH: the process is gone. */
int windows_step(struct windows *windows, window_fn on_close, void *ctx);
/* Closes all, and opens no more. */
void windows_stop(struct windows *windows, window_fn on_close, void *ctx);

/* Share of the time that the target computes, of late; 0..1. */
double windows_load(const struct windows *windows);
/* One thing seen in the window at time_ns stands for so many: >= 1. */
double window_weight(const struct window_record *record, uint64_t time_ns);
/* The same of an allocation that outlived the window; 0: born too late in it to be called a survivor. */
double window_survivor_weight(const struct window_record *record, uint64_t time_ns);

struct window_totals windows_totals(const struct windows *windows, enum window_group group);
