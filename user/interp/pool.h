/* SPDX-License-Identifier: MIT */
/* One pool of pymalloc from its bytes: which of its blocks are free. No system calls. */
#pragma once

#include "interp/python.h"

#define POOL_HEADER_MAX 64
#define POOL_BLOCKS_MAX 1024   /* of one pool: 16 KiB in blocks of 16 */

struct pool_head {
	uint32_t size_class, block_size;
	uint32_t live;         /* blocks handed out */
	uint32_t carved;       /* blocks ever handed out: carved - live of them are on the free list */
	uint64_t first_free;   /* head of the free list; 0: empty */
};

struct pool_free {
	uint64_t bits[POOL_BLOCKS_MAX / 64];   /* bit i: block i is on the free list */
};

uint32_t pool_header_bytes(const struct python *python);
/* The pool that would hold addr. */
raddr_t pool_of(const struct python *python, raddr_t addr);
/* 0; -ENOENT: no block in use; -EPROTO: makes no sense (no pool, or torn). */
int pool_head_parse(const struct python *python, const uint8_t *header, struct pool_head *ret_head);
/* The size class of a request; -1: not for pymalloc. */
int pool_class_of(const struct python *python, uint64_t size);
/* The number of the block that starts at addr; -ENOENT: none starts there; -ERANGE: not carved yet. */
int pool_block_index(const struct python *python, raddr_t pool, const struct pool_head *head, raddr_t addr);
/* Bytes from the pool's start to block index. */
uint32_t pool_block_offset(const struct python *python, const struct pool_head *head, uint32_t index);
/*
 * Walks the free list in a snapshot of the whole pool. -EAGAIN: torn, since the equation live + free = carved does not hold or
 * the list leaves the grid; ret is untouched then.
 */
int pool_free_list(const struct python *python, raddr_t pool, const uint8_t *snapshot, const struct pool_head *head, struct pool_free *ret);

static inline bool pool_is_free(const struct pool_free *f, uint32_t index)
{
	return f->bits[index / 64] >> (index % 64) & 1;
}
