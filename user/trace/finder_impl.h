/* SPDX-License-Identifier: MIT */
/* Inside of finder*.c only. */
#pragma once

#include "base/map64.h"
#include "target/proc.h"
#include "trace/finder.h"
#include "trace/finder_filter.h"
#include "trace/finder_look.h"
#include "trace/finder_mappings.h"

#define FINDER_SLICE_NS 10000000ull   /* of one step, for looking at processes */

/* A Python that is known: value of the table, by PID. */
struct finder_known {
	uint64_t start_ticks;
	uint64_t since_ns;     /* of its entry among the young ones; 0: it was there when all were listed */
	bool told;             /* else it did not pass the filters, and is kept for its children's sake */
};

/* One of the young ones, as read from the kernel. */
struct finder_young {
	uint32_t pid;
	uint64_t since_ns;
};

struct finder_bpf;

struct finder {
	struct finder_events events;
	uint64_t settle_ns;
	size_t max;

	struct finder_bpf *bpf;
	struct ring_buffer *ring;
	struct finder_mappings *mappings;
	int epoll;

	struct finder_filter *filter;
	struct finder_look *look;
	struct map64 *known;   /* pid -> struct finder_known: at most max told, and max others */
	size_t n_told;

	/* the young ones */
	struct finder_young *young;    /* scratch: room for all of them */
	uint32_t *young_pids;          /* scratch of one batch */
	uint64_t *young_since;
	size_t young_max;
	size_t young_left;             /* there at the end of the last scan */
	uint64_t young_due_ns;         /* when the next of them may have settled */
	uint64_t starts_seen;          /* of the count of starts, at the last scan */
	bool scan_wanted;

	/* the listing of all processes that there are */
	pid_t *list;                   /* those still to be looked at: list[list_at] to list[list_count - 1] */
	size_t list_at, list_count;
	uint64_t list_cost_ns, list_after_ns;
	uint64_t listed_ticks;         /* when the last one began */
	uint64_t missed_seen;
	bool list_wanted;

	uint64_t stepped_ns;
	uint64_t looked_at, turned_away;
};

/* finder_check.c: a process is looked at, and told of, or not. since_ns: of its entry among the young ones; 0: it has none. */
void finder_check(struct finder *f, pid_t pid, uint64_t since_ns);
/* Tells that a known process is lost and forgets it. Nothing if it is not known. */
void finder_lose(struct finder *f, pid_t pid, enum process_end end, int code);
/* Puts a process among the young ones unless it is there. */
void finder_add_young(struct finder *f, pid_t pid, uint64_t since_ns);
/* Ended, and perhaps not yet noticed by its parent. A leader that ended before its threads is not gone. */
bool finder_is_gone(const struct proc_stat *stat);

/* finder_list.c: all processes anew, within some milliseconds (whole: to its end). */
int finder_list_begin(struct finder *f);
void finder_list_go_on(struct finder *f, uint64_t now_ns, bool whole);
