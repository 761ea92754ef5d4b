/* SPDX-License-Identifier: MIT */
/*
 * What 'watch' knows of one process, whoever shows it: the table, the events, the metrics, the history and the alerts walk this model.
 * A number that is not known is REPORT_UNKNOWN (integers) or NAN (floating point). Strings are UTF-8 but untrusted: who prints them
 * escapes them.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "diagnose/model.h"
#include "target/process_id.h"

#define WATCHED_TEXT 256
#define WATCHED_FINDINGS 5

struct watched_finding {
	enum finding_kind kind;
	char file[WATCHED_TEXT], function[WATCHED_TEXT];   /* innermost frame; cut; "" unknown */
	int line;                          /* 0: unknown */
	struct report_estimate bytes_per_second;
	uint64_t live_bytes;
};

struct watched {
	struct process_id id;
	pid_t ppid;
	pid_t group;                       /* of a prefork worker (child of a Python that runs the same program): the parent's PID; else its own */
	uid_t uid;
	char comm[16];
	const char *const *cmdline;        /* NULL-terminated; NULL unknown */
	const char *container;             /* NULL: none */
	char python[16];                   /* "3.11.2"; "" unknown */
	struct timespec first_seen;        /* wall clock */

	/* from outside, nothing armed */
	struct report_memory memory;       /* of the last balance sheet; rss_bytes and growth are newer than the parts */
	uint64_t arenas, arena_bytes, live_blocks, live_bytes;   /* pymalloc */
	double fragmentation;              /* of its arenas, 0..1 */
	double growth;                     /* bytes a second that it keeps, of late; NAN too early */

	/* from sampled windows; empty until the first */
	bool sampled_now;
	double sampled_seconds;            /* in all */
	double overhead_ratio;             /* what it costs the process while it is sampled, share of a processor */
	bool has_verdict;
	enum verdict_kind verdict;
	double confidence;
	char why[2 * WATCHED_TEXT];
	struct watched_finding findings[WATCHED_FINDINGS];
	size_t n_findings;
	json_t *report;                    /* leaksnoop.report/1 of the last sampling; NULL none; owned */
	struct timespec report_time;       /* wall clock */
	uint64_t dropped;                  /* events lost while it was sampled */

	bool alert;                        /* an alert is on (diagnose/alerts.h) */
	enum process_end end;
	int end_code;
};

/* What leaksnoop itself does and costs. */
struct watch_self {
	double seconds;                    /* since it began */
	double cpu_seconds;                /* user and system, with its children */
	uint64_t rss_bytes;
	uint64_t processes, sampled_now;   /* watched; with windows now */
	uint64_t starts, ends;             /* processes found and let go, in all */
	uint64_t samplings;                /* times a process was given windows */
	uint64_t missed;                   /* notices of processes that were lost; what there is was listed anew */
	uint64_t dropped;                  /* events of allocations lost */
	uint64_t turned_away;              /* processes not watched for want of room or right */
	uint64_t alerts;                   /* raised in all */
	uint64_t history_errors;           /* writes to the history that failed */
	bool history_ok;                   /* the last one did not */
};

/* All there is at one moment. */
struct watch_view {
	const struct watched *const *processes;   /* in order of PID */
	size_t n;
	struct watch_self self;
};
