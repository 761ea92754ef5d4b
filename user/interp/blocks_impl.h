/* SPDX-License-Identifier: MIT */
/* What blocks*.c share. Private to interp/. */
#pragma once

#include "interp/block_object.h"
#include "interp/blocks.h"
#include "interp/chunk.h"
#include "interp/pool.h"

#define BATCH 1024u           /* blocks at a time */
#define POOL_BATCH 16u        /* pools read whole at a time */
#define POOL_SIZE_MAX 16384u
#define BYTES BLOCK_OBJECT_BYTES

struct blocks {
	const struct python *python;
	struct types *types;
	bool glibc;
	uint32_t front, back;          /* bytes that debug hooks add */
	uint64_t tcache_key;           /* 0: not known yet */
	uint32_t key_wait, key_pause;  /* looks until it is searched for again */
	struct blocks_stats stats;
	/* one batch */
	raddr_t pools[BATCH], starts[BATCH];
	bool pool_ok[BATCH], start_ok[BATCH];
	uint32_t pool_index[BATCH];
	uint8_t headers[BATCH * POOL_HEADER_MAX];
	uint8_t bytes[BATCH * (CHUNK_HEADER + BYTES)];
	uint8_t snapshots[POOL_BATCH * POOL_SIZE_MAX];
	uint32_t doubts[BATCH];
};

/* One batch of blocks, by their place in the caller's array. */
struct batch {
	struct block_look *looks;
	const uint32_t *order;
	size_t n;
};

static inline struct block_look *look_at(const struct batch *b, size_t i)
{
	return &b->looks[b->order[i]];
}

static inline raddr_t start_of(const struct blocks *blocks, const struct block_look *look)
{
	return raddr_add(look->addr, -(int64_t)blocks->front);
}

/* blocks.c: type and print of a live block. bytes: its start as the allocator sees it. */
void blocks_describe(struct blocks *blocks, struct block_look *look, const uint8_t *bytes, size_t len, uint64_t block_size);
/* blocks_pool.c: a batch of blocks that lie in arenas. */
int blocks_look_pools(struct blocks *blocks, const struct batch *b);
/* blocks_chunk.c: a batch of blocks that do not. */
int blocks_look_chunks(struct blocks *blocks, const struct batch *b);
