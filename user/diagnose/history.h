/* SPDX-License-Identifier: MIT */
/*
 * What is read of a process again and again while it is sampled: its counters about
 * once a second (memory from /proc, pymalloc's pools), and now and then a census
 * of its heap by size class and type. The target is neither written to nor stopped.
 *
 * What a reading costs decides how often it is made: the tracer may use a few per
 * cent of a core, so a heap of gigabytes is counted less often, and of it only a
 * fixed part.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "diagnose/robust.h"
#include "diagnose/verdict.h"
#include "heap/balance.h"
#include "interp/python.h"
#include "interp/types.h"

struct history;

/* python and types must outlive it. */
int history_new(const struct python *python, struct types *types, uint64_t start_ns, struct history **ret_history);
void history_free(struct history *history);
DEFINE_CLEANUP(struct history, history_free)

/* What the next readings say of large_bytes: NAN until then. */
void history_note_large(struct history *history, double bytes);
/* A balance sheet of now: the next reading holds what it says, those after it hold nothing of the kind until the next sheet. */
void history_note_balance(struct history *history, const struct balance *balance);
/* Makes the readings that are due. -ESRCH: the process is gone. */
int history_read(struct history *history, uint64_t now_ns);
/* CLOCK_MONOTONIC. */
uint64_t history_next_ns(const struct history *history);

/* One a reading, oldest first. */
const struct evidence_point *history_points(const struct history *history, size_t *ret_count);

/* A cell: live blocks of one size class (bytes: (size_class + 1) * 16) and type. */
struct history_cell {
	uint32_t size_class, type;
	double live;             /* at the last census */
	struct line growth;      /* blocks a second since the time asked for, and its standard error */
};

/* Every cell that was ever seen, and how it grew since since_s (seconds after the start). Owned by the caller. Fewer than three censuses
 * since then: 0 cells. */
int history_cells(const struct history *history, double since_s, struct history_cell **ret_cells, size_t *ret_count);
/* The same of all blocks over 512 bytes (pymalloc's raw counter) and of all small ones. error infinite: not known. */
struct line history_raw_growth(const struct history *history, double since_s);
struct line history_small_growth(const struct history *history, double since_s);
