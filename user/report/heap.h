/* SPDX-License-Identifier: MIT */
/* The census of a heap for people and for programs: one model, two writers. */
#pragma once

#include <stdio.h>

#include "heap/compare.h"
#include "heap/snapshot.h"
#include "report/report.h"

struct heap_report {
	const struct snapshot *now;
	const struct snapshot *before;          /* what deltas are relative to; NULL: there are none */
	double seconds;                         /* between them; NAN: they are of different processes */
	const struct comparison *comparison;    /* of the two; filtered */
	const char *type;                       /* the glob it was filtered by; NULL: all types */
	size_t top;                             /* types shown; 0: all */
	bool loaded;                            /* now is from a file: say whose it was, and when */
	double frozen_seconds;                  /* that the target stood still; NAN: it ran on */
};

/* 0, -ENOMEM, or the errno of the stream. Write one report, ending in a newline, and flush. */
int heap_write_text(const struct heap_report *report, const struct report_style *style, FILE *file);
/* leaksnoop.heap/1 */
int heap_write_json(const struct heap_report *report, const struct report_style *style, FILE *file);
