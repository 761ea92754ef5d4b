/* SPDX-License-Identifier: MIT */
/* A census of pymalloc's live blocks by (size class, type), of a whole heap or of a fixed part of it. */
#pragma once

#include "base/err.h"
#include "interp/types.h"

#define CELLS_CLASSES_MAX 64u

/* Live blocks by size class, from pool headers alone: cheap, and complete. */
struct class_counts {
	uint64_t live[CELLS_CLASSES_MAX];   /* blocks; class c has blocks of (c + 1) * 16 bytes */
	uint64_t pools, refused;            /* pools with live blocks; entries that made no sense */
};

/* -ENOENT: no pymalloc. */
int class_counts_read(const struct python *python, struct class_counts *ret_counts, struct err *err);

struct cells_options {
	uint64_t max_bytes;   /* read at most about this much of the heap; 0: all */
	uint32_t shift;       /* look at 1 pool in 2^shift at least: that of an earlier census, to compare with it */
};

struct cell {
	uint64_t live;      /* blocks in the pools looked at; times cells_info.factor is the estimate for the heap */
	uint64_t parked;    /* on CPython's own free lists (or being freed): not in live */
};

struct cells_info {
	struct class_counts classes;   /* of all pools, at the census */
	uint32_t shift;
	uint64_t factor;               /* 2^shift: the pools looked at stand for so many times as many */
	uint64_t pools_read, bytes_read;
	uint64_t pools_torn;           /* changed while they were read, three times: counted in classes only */
	uint64_t pools_gone;           /* empty or unmapped when they were read */
	uint64_t live, parked;         /* sums of all cells */
};

struct cells;

/* Type 0 is what is no object (buffers, key tables, arrays). Begins a new look of types. -ENOENT: no pymalloc; -ESRCH, -EPERM, -ENOMEM. */
int cells_read(const struct python *python, struct types *types, const struct cells_options *options, struct cells **ret_cells,
	       struct err *err);
void cells_free(struct cells *cells);
DEFINE_CLEANUP(struct cells, cells_free)

struct cell cells_get(const struct cells *cells, uint32_t size_class, uint32_t type);
/* All cells that are not zero, by class and type: start with *cursor = 0; false after the last. */
bool cells_next(const struct cells *cells, uint64_t *cursor, uint32_t *ret_class, uint32_t *ret_type, struct cell *ret_cell);
const struct cells_info *cells_info(const struct cells *cells);
