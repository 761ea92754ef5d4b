/* SPDX-License-Identifier: MIT */
/*
 * Liveness of blocks, from memory. Blocks are sorted by address and taken in
 * batches: those in arenas by their pools (blocks_pool.c), others by their
 * chunks (blocks_chunk.c).
 *
 * Invariant: LIVE, FREE and GONE were true at one moment of the call. Limits:
 * type and print may be of a moment some microseconds later. The fingerprint of
 * an object still being built (a bytes waiting for its read(), a tuple being
 * filled) changes: do not hold it against a block on its second look. Of
 * mutable objects the type is all there is, so a block that went to another
 * object of its type looks as before. With debug hooks (PYTHONMALLOC=debug) the
 * block that a caller gets stands 16 bytes inside the allocator's: addr is the
 * caller's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "interp/arenas.h"
#include "interp/blocks_impl.h"
#include "interp/python_impl.h"

int blocks_new(const struct python *python, struct types *types, struct blocks **ret_blocks)
{
	struct blocks *blocks;

	if (python->layout.pool_size > POOL_SIZE_MAX || python->layout.po_size > POOL_HEADER_MAX ||
	    python->layout.pool_size < 2 * BYTES || python->layout.pool_overhead >= python->layout.pool_size)
		return -EPROTO;
	blocks = calloc(1, sizeof(*blocks));
	if (!blocks)
		return -ENOMEM;
	blocks->python = python;
	blocks->types = types;
	blocks->glibc = chunk_is_glibc(python->maps);
	blocks->front = types_debug_front(types);
	blocks->back = types_debug_back(types);
	*ret_blocks = blocks;
	return 0;
}

void blocks_free(struct blocks *blocks)
{
	free(blocks);
}

struct blocks_stats blocks_stats(const struct blocks *blocks)
{
	return blocks->stats;
}

/*
 * An object that needs more than was asked for took the place of another in the same size class. Not told of str, whose objects may be
 * smaller than its basicsize, and of objects of variable size.
 */
static bool is_too_large(const struct blocks *blocks, const struct block_object *object, uint64_t size)
{
	const struct type_facts *facts = types_facts(blocks->types, object->type);

	return facts && !facts->itemsize && facts->contents != CONTENTS_STR && (uint64_t)facts->front + facts->basicsize > size;
}

void blocks_describe(struct blocks *blocks, struct block_look *look, const uint8_t *bytes, size_t len, uint64_t block_size)
{
	struct block_object object;

	look->type = 0;
	look->print = 0;
	if (look->state != BLOCK_LIVE)
		return;
	len = len < block_size ? len : (size_t)block_size;
	block_object_find(blocks->types, bytes, len, block_size, &object);
	look->type = object.type;
	look->print = block_object_print(blocks->types, &object, bytes, len);
	if (object.parked)
		look->state = BLOCK_FREE;
	else if (object.type && is_too_large(blocks, &object, look->size))
		look->state = BLOCK_GONE;
}

static int by_addr(const void *a, const void *b, void *ctx)
{
	const struct block_look *looks = ctx;
	uint64_t x = looks[*(const uint32_t *)a].addr.v, y = looks[*(const uint32_t *)b].addr.v;

	return x < y ? -1 : x > y;
}

static bool is_small(const struct blocks *blocks, const struct block_look *look)
{
	return arenas_hold(types_arenas(blocks->types), start_of(blocks, look));
}

/* A batch is blocks that follow each other and are all in arenas, or all not. */
static int look_sorted(struct blocks *blocks, struct block_look *looks, const uint32_t *order, size_t n)
{
	size_t done = 0;
	int r = 0;

	while (done < n && r == 0) {
		struct batch b = { looks, order + done, 1 };
		bool small = is_small(blocks, look_at(&b, 0));

		while (done + b.n < n && b.n < BATCH && is_small(blocks, look_at(&b, b.n)) == small)
			b.n++;
		r = small ? blocks_look_pools(blocks, &b) : blocks_look_chunks(blocks, &b);
		done += b.n;
	}
	return r;
}

int blocks_look(struct blocks *blocks, struct block_look *looks, size_t n)
{
	_cleanup_(freep) uint32_t *order = NULL;
	int r;

	if (n == 0)
		return 0;
	if (n > UINT32_MAX)
		return -EINVAL;
	order = reallocarray(NULL, n, sizeof(*order));
	if (!order)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		order[i] = (uint32_t)i;
		looks[i] = (struct block_look){ .addr = looks[i].addr, .size = looks[i].size, .state = BLOCK_GONE };
	}
	qsort_r(order, n, sizeof(*order), by_addr, looks);
	r = types_refresh(blocks->types);
	return r < 0 ? r : look_sorted(blocks, looks, order, n);
}
