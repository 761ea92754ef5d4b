/* SPDX-License-Identifier: MIT */
/* Blocks that were once allocated: are they alive now, and what are they? Read from the target's memory; it is not stopped. */
#pragma once

#include "interp/types.h"

struct blocks;

enum block_state {
	BLOCK_LIVE,
	BLOCK_FREE,     /* on a free list of its allocator or of CPython, or not handed out again since its pool started anew */
	BLOCK_GONE,     /* it cannot be there any more: another size class's pool, an empty pool, unmapped, an object too large for it */
	BLOCK_UNSURE,   /* the target changed it while it was read, three times */
};

struct block_look {
	raddr_t addr;      /* in: as the allocator returned it */
	uint64_t size;     /* in: bytes, as requested last */
	enum block_state state;
	uint32_t block_bytes;   /* LIVE in an arena: of its size class, which a realloc in place leaves larger than size asks for; else 0 */
	bool by_contents;  /* LIVE, but only the contents say so: compare type and print with an earlier look */
	uint32_t type;     /* types_find()'s id; 0: no object, or it cannot be told */
	uint64_t print;    /* of the type, and of the contents where those never change: differs when something else took the block; 0: no object */
};

/* types must outlive it. -ENOMEM. */
int blocks_new(const struct python *python, struct types *types, struct blocks **ret_blocks);
void blocks_free(struct blocks *blocks);
DEFINE_CLEANUP(struct blocks, blocks_free)

/* Looks at n blocks, in any order. 0, -ENOMEM, -ESRCH, -EPERM; looks are complete only after 0. Begins a new look of types. */
int blocks_look(struct blocks *blocks, struct block_look *looks, size_t n);

/* What so far: looks that ended UNSURE, pools read whole. */
struct blocks_stats {
	uint64_t unsure, pools_walked;
};
struct blocks_stats blocks_stats(const struct blocks *blocks);
