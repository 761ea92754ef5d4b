/* SPDX-License-Identifier: MIT */
/*
 * Blocks outside the arenas: glibc's chunks (chunk.h says what can be told), or
 * another allocator's, of which only the contents tell. Invariant: a block that
 * only its contents vouch for has by_contents set. Limits: header and neighbour
 * are read some microseconds apart.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "interp/blocks_impl.h"
#include "interp/python_impl.h"

#define KEY_WAIT_MAX 64u

#define PIECE (CHUNK_HEADER + BYTES)

/* What malloc was asked for. Debug hooks are on mem and obj and again on raw, which serves what pymalloc does not. */
static uint64_t raw_size(const struct blocks *blocks, const struct block_look *look)
{
	uint64_t more = 2ull * (blocks->front + blocks->back);

	return look->size > UINT64_MAX - more ? UINT64_MAX : look->size + more;
}

/* The first bytes of blocks outside the arenas, each with the chunk header before it. A block may end where its mapping ends. */
static int gather_large(struct blocks *blocks, const struct batch *b)
{
	int r;

	for (size_t i = 0; i < b->n; i++)
		blocks->starts[i] = raddr_add(look_at(b, i)->addr, -(int64_t)(CHUNK_HEADER + 2 * blocks->front));
	r = rmem_gather_each(blocks->python->mem, blocks->starts, b->n, PIECE, blocks->bytes, blocks->start_ok);
	for (size_t i = 0; i < b->n && r == 0; i++) {
		uint64_t size = raw_size(blocks, look_at(b, i));

		if (blocks->start_ok[i] || size >= BYTES)
			continue;
		memset(blocks->bytes + i * PIECE, 0, PIECE);
		r = rmem_read(blocks->python->mem, blocks->starts[i], blocks->bytes + i * PIECE, CHUNK_HEADER + (size_t)size);
		blocks->start_ok[i] = r == 0;
		r = r == -EFAULT ? 0 : r;
	}
	return r;
}

/* The chunk before, which is free, has not swallowed this one: its size still is what stands in front of this one. */
static bool prev_stands(const struct blocks *blocks, raddr_t chunk, uint64_t prev_size)
{
	uint64_t word;

	return prev_size % CHUNK_HEADER == 0 && prev_size && prev_size < chunk.v &&
	       rmem_u64(blocks->python->mem, RADDR(chunk.v - prev_size + 8), &word) == 0 && (word & ~7ull) == prev_size;
}

/* words: size of the chunk before, size of this one, first two words of the block; next: the size word of the chunk behind. */
static void judge_chunk(const struct blocks *blocks, struct block_look *look, raddr_t chunk, const struct chunk *c, const uint64_t words[4],
			uint64_t next)
{
	look->by_contents = c->may_hide;
	if (!chunk_prev_in_use(next) || (blocks->tcache_key && words[3] == blocks->tcache_key))
		look->state = BLOCK_FREE;
	else if (!chunk_prev_in_use(words[1]) && !prev_stands(blocks, chunk, words[0]))
		look->state = BLOCK_FREE;
	if (look->state == BLOCK_FREE)
		look->by_contents = false;
}

/* Sets what the chunk's own header tells. True if the chunk behind it must be asked. */
static bool judge_header(const struct blocks *blocks, const struct batch *b, size_t i, struct chunk *ret_chunk)
{
	struct block_look *look = look_at(b, i);
	uint64_t words[4];

	memcpy(words, blocks->bytes + i * PIECE, sizeof(words));
	look->state = blocks->start_ok[i] ? BLOCK_LIVE : BLOCK_GONE;
	if (!blocks->start_ok[i])
		return false;
	look->by_contents = !blocks->glibc;
	if (!blocks->glibc)
		return false;
	if (!chunk_parse(words[1], raw_size(blocks, look), blocks->tcache_key, ret_chunk)) {
		look->state = BLOCK_GONE;
		return false;
	}
	return !ret_chunk->mmapped;
}

/* The tcache's key is known once something lies in a tcache: search again, at growing distances. */
static void find_key(struct blocks *blocks)
{
	if (!blocks->glibc || blocks->tcache_key || blocks->key_wait-- > 0)
		return;
	blocks->key_pause = blocks->key_pause < KEY_WAIT_MAX ? 2 * blocks->key_pause + 1 : KEY_WAIT_MAX;
	blocks->key_wait = blocks->key_pause;
	if (chunk_find_key(blocks->python, &blocks->tcache_key) < 0)
		blocks->tcache_key = 0;
}

static void describe_large(struct blocks *blocks, const struct batch *b, size_t i)
{
	struct block_look *look = look_at(b, i);
	uint64_t size = raw_size(blocks, look) - blocks->front - blocks->back;
	size_t len = BYTES - blocks->front;

	blocks_describe(blocks, look, blocks->bytes + i * PIECE + CHUNK_HEADER + blocks->front, size < len ? (size_t)size : len, size);
}

int blocks_look_chunks(struct blocks *blocks, const struct batch *b)
{
	_cleanup_(freep) struct chunk *chunks = calloc(b->n, sizeof(*chunks));
	uint64_t *nexts = (uint64_t *)(void *)blocks->snapshots;
	size_t n_asked = 0;
	int r;

	_Static_assert(sizeof(blocks->snapshots) >= BATCH * 8, "one word a block");
	if (!chunks)
		return -ENOMEM;
	find_key(blocks);
	r = gather_large(blocks, b);
	for (size_t i = 0; i < b->n && r == 0; i++) {
		if (!judge_header(blocks, b, i, &chunks[i]))
			continue;
		blocks->doubts[n_asked] = (uint32_t)i;
		blocks->pools[n_asked++] = raddr_add(blocks->starts[i], (int64_t)chunks[i].size + 8);
	}
	if (r == 0 && n_asked)
		r = rmem_gather_each(blocks->python->mem, blocks->pools, n_asked, 8, nexts, blocks->pool_ok);
	for (size_t k = 0; k < n_asked && r == 0; k++) {
		uint32_t i = blocks->doubts[k];
		uint64_t words[4];

		memcpy(words, blocks->bytes + i * PIECE, sizeof(words));
		if (blocks->pool_ok[k])
			judge_chunk(blocks, look_at(b, i), blocks->starts[i], &chunks[i], words, nexts[k]);
		else
			look_at(b, i)->state = BLOCK_GONE;
	}
	for (size_t i = 0; i < b->n && r == 0; i++)
		describe_large(blocks, b, i);
	return r;
}
