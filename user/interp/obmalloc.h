/* SPDX-License-Identifier: MIT */
/* pymalloc's arenas and pools, read from outside. All interpreters; a state shared by several is counted once. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "interp/python.h"

struct predict_cfg;

struct obmalloc_totals {
	uint64_t arenas;             /* allocated now */
	uint64_t arenas_highwater;   /* UINT64_MAX: unknown */
	uint64_t arena_bytes;        /* size of one arena times arenas */
	uint64_t pools_used, pools_free;  /* carved from an arena: with blocks, without */
	uint64_t pools_uncarved;     /* never used yet */
	uint64_t live_blocks;        /* in pools: sum of ref.count */
	uint64_t live_bytes;         /* times their class size */
	uint64_t raw_blocks;         /* over 512 bytes, as pymalloc counts them (3.8 has one counter for all: what is left of it) */
	uint64_t allocated_blocks;   /* as sys.getallocatedblocks() would say */
	uint64_t pool_size, arena_size;  /* bytes, of this build */
	uint64_t refused;            /* entries that made no sense and were skipped (torn reads of a running target) */
};

/* -ENOENT if the process does not use pymalloc. */
int obmalloc_totals(const struct python *python, struct obmalloc_totals *ret_totals, struct err *err);
/* Calls fn with each arena, until it returns a negative errno. -ENOENT: no pymalloc; -EAGAIN: the table of arenas moved meanwhile. */
typedef int (*obmalloc_arena_fn)(void *ctx, raddr_t addr, uint64_t size);
int obmalloc_visit_arenas(const struct python *python, obmalloc_arena_fn fn, void *ctx);
/* Calls fn with the header of each pool that has blocks in use, an arena at a time; *ret_refused: pools and arenas that made no sense. */
typedef int (*obmalloc_pool_fn)(void *ctx, raddr_t pool, uint32_t size_class, uint32_t live);
int obmalloc_visit_pools(const struct python *python, obmalloc_pool_fn fn, void *ctx, uint64_t *ret_refused);
uint64_t obmalloc_pool_size(const struct python *python);   /* bytes, of this build */
/* Where small blocks will come from, for the BPF side. -ENOENT: no pymalloc, or no state of it found yet. */
int obmalloc_predict_cfg(const struct python *python, struct predict_cfg *ret_cfg);
/* Is this the address of an entry of the (first) array of arena_objects? 1 yes, 0 no, negative errno. */
int obmalloc_arenas_hold(const struct python *python, raddr_t entry);
/* The usedpools array of the state that interp uses (for predicting addresses), and arena/pool size. */
int obmalloc_usedpools(const struct python *python, raddr_t interp, raddr_t *ret_usedpools);
/* Is the pool that holds addr still in use for the given size class? 1 yes, 0 no, negative errno. */
int obmalloc_pool_alive(const struct python *python, raddr_t addr, uint32_t size_class);
