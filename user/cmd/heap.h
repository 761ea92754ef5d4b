/* SPDX-License-Identifier: MIT */
/* Inside cmd/: the verb heap. heap.c has its options and what comes from files, heap_live.c what comes from a process. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "report/heap.h"

#define HEAP_INTERVAL_DEFAULT 5.0

struct heap_opts {
	bool diff, freeze;
	double interval;   /* seconds; 0: not given */
	int count, top;    /* -1: not given */
	const char *type, *save, *load, *compare;
	int format;
};

/* Compares report->now with report->before, filters, and writes; the other fields are the options' or set already. single: no report comes
 * after it. */
int heap_report(const struct heap_opts *opts, struct heap_report *report, bool single, struct err *err);
/* Takes censuses of the process until --count or Ctrl-C. */
int heap_live(const struct heap_opts *opts, pid_t pid, struct err *err);
