/* SPDX-License-Identifier: MIT */
/* pymalloc's arenas and pools, read from outside. All interpreters; a state shared by several is counted once. */
#pragma once

#include <stdbool.h>
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

/* The same, as far as the entries of the arenas tell: no pool is looked at, so that it costs a few microseconds. */
struct obmalloc_pools {
	uint64_t arenas, arena_bytes;
	uint64_t used_bytes;         /* of the pools that are not empty, whole */
	uint64_t raw_blocks;         /* UINT64_MAX: unknown (3.8) */
	uint64_t refused;            /* entries that made no sense */
};
#define OBMALLOC_POOLS_ENTRIES 65536u
/* -ENOENT: no pymalloc; -EAGAIN: the table of arenas moved meanwhile; -E2BIG: over OBMALLOC_POOLS_ENTRIES entries; -ESRCH, -EPERM, -ENOMEM. */
int obmalloc_pools(const struct python *python, struct obmalloc_pools *ret_pools);
/* Calls fn with each arena, until it returns a negative errno. -ENOENT: no pymalloc; -EAGAIN: the table of arenas moved meanwhile. */
typedef int (*obmalloc_arena_fn)(void *ctx, raddr_t addr, uint64_t size);
int obmalloc_visit_arenas(const struct python *python, obmalloc_arena_fn fn, void *ctx);
/* Calls fn with the header of each pool that has blocks in use, an arena at a time; *ret_refused: pools and arenas that made no sense. */
typedef int (*obmalloc_pool_fn)(void *ctx, raddr_t pool, uint32_t size_class, uint32_t live);
int obmalloc_visit_pools(const struct python *python, obmalloc_pool_fn fn, void *ctx, uint64_t *ret_refused);
uint64_t obmalloc_pool_size(const struct python *python);   /* bytes, of this build */
/* Blocks over 512 bytes in use, as pymalloc counts them. live_blocks: in pools now (3.8 has one counter for all). -ENOENT: no pymalloc. */
int obmalloc_raw_blocks(const struct python *python, uint64_t live_blocks, uint64_t *ret_blocks);
uint32_t obmalloc_size_classes(const struct python *python);   /* 32 */
uint32_t obmalloc_block_size(const struct python *python, uint32_t size_class);   /* bytes */
uint32_t obmalloc_pool_blocks(const struct python *python, uint32_t size_class);  /* that a pool of the class has room for */

/* obmalloc_walk.c: every arena with all its pools, each arena of one moment where that can be had. */
#define OBMALLOC_ARENA_POOLS 256u
struct obmalloc_pool {
	uint32_t size_class;   /* OBMALLOC_POOL_REFUSED: its header made no sense */
	uint32_t live;         /* blocks in use; 0: a free pool, whatever its class was */
};
#define OBMALLOC_POOL_REFUSED UINT32_MAX

struct obmalloc_arena {
	raddr_t addr, first_pool;
	uint64_t size;
	uint32_t state;          /* number of the state that it belongs to, from 0 */
	int64_t interpreter;     /* id of that state's owner: the main one of those that share it; -1: could not be read */
	uint32_t pools, carved;  /* it has room for; taken into use so far, from the front: pool[0..carved) */
	bool unsure;             /* it changed while it was read, every time: counts and pools may be of different moments */
	struct obmalloc_pool pool[OBMALLOC_ARENA_POOLS];
};

struct obmalloc_walk {
	uint64_t raw_blocks;         /* as in obmalloc_totals; UINT64_MAX: unknown (3.8) */
	uint64_t arenas_highwater;   /* UINT64_MAX: unknown */
	uint32_t states;
	uint64_t retries;            /* arenas read again because they changed meanwhile */
	uint64_t unsure;             /* arenas that still did after OBMALLOC_WALK_TRIES */
	uint64_t refused_arenas, refused_pools;
};
#define OBMALLOC_WALK_TRIES 5

/* fn may return a negative errno to stop. -ENOENT: no pymalloc; -EAGAIN: the table of arenas moved meanwhile; -ESRCH, -EPERM, -ENOMEM. */
typedef int (*obmalloc_walk_fn)(void *ctx, const struct obmalloc_arena *arena);
int obmalloc_walk(const struct python *python, obmalloc_walk_fn fn, void *ctx, struct obmalloc_walk *ret_walk);
/* Where small blocks will come from, for the BPF side. -ENOENT: no pymalloc, or no state of it found yet. */
int obmalloc_predict_cfg(const struct python *python, struct predict_cfg *ret_cfg);
/* Is this the address of an entry of the (first) array of arena_objects? 1 yes, 0 no, negative errno. */
int obmalloc_arenas_hold(const struct python *python, raddr_t entry);
/* The usedpools array of the state that interp uses (for predicting addresses), and arena/pool size. */
int obmalloc_usedpools(const struct python *python, raddr_t interp, raddr_t *ret_usedpools);
/* Is the pool that holds addr still in use for the given size class? 1 yes, 0 no, negative errno. */
int obmalloc_pool_alive(const struct python *python, raddr_t addr, uint32_t size_class);
