/* SPDX-License-Identifier: MIT */
/*
 * Blocks in arenas. One gather of the headers of their pools, one of the first
 * bytes of each block; only where these leave a doubt the whole pool is read.
 *
 * A block is live at once if its pool's free list is empty, or if its first
 * word is neither 0 nor an address in its pool, since every block on the free
 * list holds such a word, or if it holds an object of fixed size that has
 * references. Else the list is walked in a snapshot of the pool.
 *
 * Invariant: a pool that contradicts itself is torn; it is read again, TRIES
 * times, then its blocks are UNSURE. Limits: an object freed without its count
 * going to 0 (a constructor that fails) may look alive until its block is taken
 * again.
 */
#include <errno.h>
#include <string.h>

#include "interp/blocks_impl.h"
#include "interp/python_impl.h"

#define TRIES 3

/* realloc leaves a block where it is while the new size fills more than three quarters of it (pymalloc_realloc). */
static bool class_fits(const struct blocks *blocks, uint64_t size, const struct pool_head *head)
{
	int class;

	if (size > UINT32_MAX)
		return false;
	size += blocks->front + blocks->back;
	class = pool_class_of(blocks->python, size);
	return class >= 0 && ((uint32_t)class == head->size_class ||
			      ((uint32_t)class < head->size_class && 4 * size > 3ull * head->block_size));
}

enum judgement { JUDGED, DOUBT, TORN };

/* What the pool's header alone says; DOUBT: the block may be on the pool's free list. */
static enum judgement judge_head(struct blocks *blocks, struct block_look *look, raddr_t pool, const uint8_t *header,
				 struct pool_head *ret_head, int *ret_index)
{
	int r = pool_head_parse(blocks->python, header, ret_head);

	look->state = BLOCK_GONE;
	look->block_bytes = 0;
	if (r == -EPROTO)
		return TORN;
	if (r < 0 || !class_fits(blocks, look->size, ret_head))
		return JUDGED;
	*ret_index = pool_block_index(blocks->python, pool, ret_head, start_of(blocks, look));
	if (*ret_index == -ENOENT)
		return JUDGED;
	look->state = *ret_index == -ERANGE ? BLOCK_FREE : BLOCK_LIVE;
	look->block_bytes = ret_head->block_size;
	return *ret_index >= 0 && ret_head->live < ret_head->carved ? DOUBT : JUDGED;
}

/* Blocks of one pool that are in doubt, from a snapshot of it. */
static enum judgement judge_snapshot(struct blocks *blocks, struct block_look *look, raddr_t pool, const uint8_t *snapshot)
{
	struct pool_head head;
	struct pool_free free_list;
	enum judgement j;
	uint32_t offset;
	int index = -1;

	j = judge_head(blocks, look, pool, snapshot, &head, &index);
	if (j == TORN)
		return TORN;
	if (j == DOUBT) {
		if (pool_free_list(blocks->python, pool, snapshot, &head, &free_list) < 0)
			return TORN;
		look->state = pool_is_free(&free_list, (uint32_t)index) ? BLOCK_FREE : BLOCK_LIVE;
	}
	if (index >= 0) {
		offset = pool_block_offset(blocks->python, &head, (uint32_t)index);
		blocks_describe(blocks, look, snapshot + offset, head.block_size < BYTES ? head.block_size : BYTES, head.block_size);
	}
	return JUDGED;
}

static void set_unsure(struct blocks *blocks, struct block_look *look)
{
	look->state = BLOCK_UNSURE;
	look->type = 0;
	look->print = 0;
	blocks->stats.unsure++;
}

/* Reads up to POOL_BATCH pools whole and judges the blocks doubts[0..n) of them; those still torn stay in doubts. Returns their number. */
static ssize_t read_pools(struct blocks *blocks, const struct batch *b, const raddr_t *pools, size_t n_pools, uint32_t *doubts, size_t n)
{
	uint32_t size = blocks->python->layout.pool_size;
	bool ok[POOL_BATCH];
	size_t torn = 0, at = 0;
	int r = rmem_gather_each(blocks->python->mem, pools, n_pools, size, blocks->snapshots, ok);

	if (r < 0)
		return r;
	blocks->stats.pools_walked += n_pools;
	for (size_t i = 0; i < n; i++) {
		struct block_look *look = look_at(b, doubts[i]);
		raddr_t pool = pool_of(blocks->python, start_of(blocks, look));

		while (!raddr_eq(pools[at], pool))
			at++;
		look->state = BLOCK_GONE;
		if (ok[at] && judge_snapshot(blocks, look, pool, blocks->snapshots + at * size) == TORN)
			doubts[torn++] = doubts[i];
	}
	return (ssize_t)torn;
}

/* doubts are in order of address: the next ones that share at most POOL_BATCH pools. */
static size_t next_doubts(const struct blocks *blocks, const struct batch *b, const uint32_t *doubts, size_t n, raddr_t *ret_pools,
			  size_t *ret_n_pools)
{
	size_t i;

	*ret_n_pools = 0;
	for (i = 0; i < n; i++) {
		raddr_t pool = pool_of(blocks->python, start_of(blocks, look_at(b, doubts[i])));

		if (*ret_n_pools && raddr_eq(ret_pools[*ret_n_pools - 1], pool))
			continue;
		if (*ret_n_pools == POOL_BATCH)
			break;
		ret_pools[(*ret_n_pools)++] = pool;
	}
	return i;
}

static int settle_doubts(struct blocks *blocks, const struct batch *b, size_t n)
{
	size_t done = 0;

	while (done < n) {
		uint32_t *doubts = blocks->doubts + done;
		raddr_t pools[POOL_BATCH];
		size_t n_pools, taken = next_doubts(blocks, b, doubts, n - done, pools, &n_pools);
		ssize_t left = (ssize_t)taken;

		for (int tries = 0; tries < TRIES && left > 0; tries++) {
			left = read_pools(blocks, b, pools, n_pools, doubts, (size_t)left);
			if (left < 0)
				return (int)left;
			next_doubts(blocks, b, doubts, (size_t)left, pools, &n_pools);
		}
		for (ssize_t i = 0; i < left; i++)
			set_unsure(blocks, look_at(b, doubts[i]));
		done += taken;
	}
	return 0;
}

/* Headers of the pools of a batch, each once, and the first bytes of the blocks, clamped to their pools. */
static int gather_small(struct blocks *blocks, const struct batch *b)
{
	const struct layout *l = &blocks->python->layout;
	size_t n_pools = 0;
	int r;

	for (size_t i = 0; i < b->n; i++) {
		raddr_t start = start_of(blocks, look_at(b, i)), pool = pool_of(blocks->python, start);
		uint64_t last = pool.v + l->pool_size - BYTES;

		if (n_pools == 0 || !raddr_eq(blocks->pools[n_pools - 1], pool))
			blocks->pools[n_pools++] = pool;
		blocks->pool_index[i] = (uint32_t)n_pools - 1;
		blocks->starts[i] = start.v < last ? start : RADDR(last);
	}
	r = rmem_gather_each(blocks->python->mem, blocks->pools, n_pools, l->po_size, blocks->headers, blocks->pool_ok);
	if (r == 0)
		r = rmem_gather_each(blocks->python->mem, blocks->starts, b->n, BYTES, blocks->bytes, blocks->start_ok);
	return r;
}

/*
 * A count of references above 0 behind a GC head says that the object lives: it is 0 when an object is freed, and stays so while
 * the block is on the pool's free list. Not so for objects of variable size, which realloc may have moved away.
 */
static bool counts_as_live(struct blocks *blocks, const uint8_t *bytes, size_t len, uint64_t block_size)
{
	struct block_object object;

	block_object_find(blocks->types, bytes, len, block_size, &object);
	return object.type && !object.parked && types_facts(blocks->types, object.type)->has_gc &&
	       types_facts(blocks->types, object.type)->itemsize == 0;
}

/* True if its pool must be read whole. */
static bool judge_small(struct blocks *blocks, const struct batch *b, size_t i)
{
	struct block_look *look = look_at(b, i);
	raddr_t start = start_of(blocks, look), pool = blocks->pools[blocks->pool_index[i]];
	size_t offset = (size_t)(start.v - blocks->starts[i].v), len = BYTES - offset;
	const uint8_t *bytes = blocks->bytes + i * BYTES + offset;
	struct pool_head head;
	enum judgement j;
	uint64_t first;
	int index = -1;

	look->state = BLOCK_GONE;
	if (!blocks->pool_ok[blocks->pool_index[i]] || !blocks->start_ok[i] || len < 8)
		return false;
	j = judge_head(blocks, look, pool, blocks->headers + blocks->pool_index[i] * blocks->python->layout.po_size, &head, &index);
	if (j == TORN)
		return true;
	memcpy(&first, bytes, 8);
	len = index >= 0 && len > head.block_size ? head.block_size : len;
	if (j == DOUBT && (first == 0 || raddr_eq(pool_of(blocks->python, RADDR(first)), pool)) &&
	    !counts_as_live(blocks, bytes, len, head.block_size))
		return true;
	if (index >= 0)
		blocks_describe(blocks, look, bytes, len, head.block_size);
	return false;
}

int blocks_look_pools(struct blocks *blocks, const struct batch *b)
{
	size_t n_doubts = 0;
	int r = gather_small(blocks, b);

	if (r < 0)
		return r;
	for (size_t i = 0; i < b->n; i++)
		if (judge_small(blocks, b, i))
			blocks->doubts[n_doubts++] = (uint32_t)i;
	return settle_doubts(blocks, b, n_doubts);
}
