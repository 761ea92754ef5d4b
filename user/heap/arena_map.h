/* SPDX-License-Identifier: MIT */
/*
 * pymalloc's arenas: how full they are, what that costs, and which few blocks keep the emptiest ones from going back to the system.
 * Every interpreter's; a state that several share (all of them up to 3.11) is counted once, under its owner. Read from outside.
 *
 * An arena goes back to the system when its last block is freed; pymalloc keeps one empty arena of a state. Blocks never move.
 *
 *     arena_bytes = live_bytes + free_in_used_pools_bytes + free_pools_bytes + uncarved_bytes + overhead_bytes + refused_bytes
 *
 * live: blocks in use, by their class size, not by what was asked for. free_in_used_pools: other blocks of pools in use, handed out before or not.
 * free_pools: pools used before, now without a block. uncarved: pools never used, whose pages were never touched. overhead: headers of pools in
 * use, what is left at their ends, and what an arena loses to the alignment of its pools. refused: pools that made no sense.
 *
 * fragmentation = free / (live + free), free = free_in_used_pools + free_pools: which share of the memory that blocks have had
 * is held for nothing. 0 without arenas.
 *
 * arenas_if_packed: arenas that would do if blocks could move: by state, the pools that each size class needs for its live blocks, in as few of
 * its arenas as have room for them. States share no arenas.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "interp/obmalloc.h"

/* Mostly empty, held by few blocks: those of such an arena are looked at one by one. */
#define ARENA_PINNED_RATIO 0.25
#define ARENA_PINNED_BLOCKS 2048u

struct arena_pool {
	uint16_t live;        /* blocks in use */
	uint8_t size_class;   /* meaningless without */
	uint8_t fill;         /* percent of its blocks that are in use, at least 1 if one is; 0: a free pool; or one of these: */
};
#define ARENA_POOL_UNCARVED 255u
#define ARENA_POOL_REFUSED 254u

struct arena_pin {
	uint32_t block_size;
	const char *type;     /* NULL: no object (a buffer, a table of keys), or it cannot be told */
	bool parked;          /* on a free list of CPython's: no object any more */
	uint32_t count;
};

struct arena_row {
	raddr_t address;
	int64_t interpreter;       /* id of its owner; -1: unknown */
	uint64_t bytes;
	uint32_t state;
	uint32_t pools_used, pools_free, pools_uncarved, pools_refused;
	uint64_t live_blocks, live_bytes;
	double live_ratio;         /* live_bytes / bytes */
	bool unsure;               /* it changed whenever it was read */
	bool returnable;           /* live_ratio < ARENA_PINNED_RATIO, at most ARENA_PINNED_BLOCKS: would go back if those went */
	size_t first_pin, n_pins;  /* of map->pins, largest first; none unless returnable */
	uint32_t pins_unread;      /* blocks of a returnable arena that are in no pin: their pools changed or went, or they became many */
	size_t first_pool;         /* of map->pools, in order of address */
	uint32_t n_pools;          /* pools_used + pools_free + pools_uncarved + pools_refused */
};

struct arena_class {
	uint32_t size;             /* of its blocks */
	uint64_t pools, live_blocks, free_blocks;
	uint64_t overhead_bytes;   /* headers and ends of its pools: what rounding costs that can be seen from outside */
};

struct arena_totals {
	uint64_t arenas, arenas_highwater;   /* UINT64_MAX: unknown */
	uint64_t arena_bytes, live_blocks, live_bytes;
	uint64_t free_in_used_pools_bytes, free_pools_bytes, uncarved_bytes, overhead_bytes, refused_bytes;
	uint64_t pools_used, pools_free, pools_uncarved, pools_refused;
	uint64_t arenas_if_packed, arenas_returnable;
	double fragmentation;
};

struct types;

struct arena_map {
	struct arena_totals totals;
	struct arena_class *classes;   /* by size, those without a pool too */
	size_t n_classes;
	struct arena_row *arenas;      /* by state, then address */
	size_t n_arenas;
	struct arena_pin *pins;
	size_t n_pins;
	struct arena_pool *pools;
	size_t n_pools;
	uint32_t states;               /* of pymalloc: interpreters that have one of their own */
	uint64_t retries, unsure, refused;   /* arenas read again, in doubt all the same; arenas and pools that made no sense */
	uint64_t pools_torn;           /* of returnable arenas: changed or gone when their blocks were looked at */
	uint64_t read_bytes;
	double seconds;
	struct types *types;           /* what pins->type points into */
};

struct arena_map_options {
	/* Called while blocks are looked at; NULL: nobody looks. A negative errno ends the reading with it. */
	int (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
	void *ctx;
};

/* -ENOENT: no pymalloc; -ESRCH, -EPERM, -ENOMEM; -EAGAIN: too restless. */
int arena_map_read(const struct python *python, const struct arena_map_options *options, struct arena_map **ret_map, struct err *err);
void arena_map_free(struct arena_map *map);
DEFINE_CLEANUP(struct arena_map, arena_map_free)
