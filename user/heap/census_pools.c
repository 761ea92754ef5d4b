/* SPDX-License-Identifier: MIT */
/*
 * Small blocks: each pool is read whole, and each live block of it is an object, parked on one of CPython's free lists, or no object.
 *
 * Invariant: what a pool's snapshot adds to objects, free list and no objects is its count of live blocks.
 */
#include "heap/census_impl.h"
#include "interp/obmalloc.h"

struct pools_pass {
	struct census_work *work;
	struct pool_ref *pools;
};

static int count_block(struct census_work *work, const struct pool_head *head, raddr_t block, const uint8_t *bytes, uint32_t *no_objects)
{
	const struct census_place place = { .block = block, .bytes = head->block_size };
	struct census_row *parked = &work->census->non_objects[CENSUS_FREE_LIST];
	struct block_object object;

	block_object_find(work->types, bytes, head->block_size, head->block_size, &object);
	if (!object.type) {
		(*no_objects)++;
		return census_add_no_object(work, &place);
	}
	if (object.parked) {
		parked->count++;
		parked->bytes += head->block_size;
		return 0;
	}
	return census_add_object(work, object.type, raddr_add(block, object.start), bytes + object.start,
				 head->block_size - object.start, true, &place);
}

/* A pool_look_fn. */
static int count_pool(void *ctx, const struct pool_look *look)
{
	struct pools_pass *pass = ctx;
	struct census_work *work = pass->work;
	const struct pool_head *head = &look->head;
	uint32_t no_objects = 0;
	int r = 0;

	for (uint32_t i = 0; i < head->carved && r == 0; i++) {
		uint32_t offset = pool_block_offset(work->python, head, i);

		if (!pool_is_free(&look->free, i))
			r = count_block(work, head, raddr_add(look->addr, offset), look->bytes + offset, &no_objects);
	}
	if (r < 0)
		return r;
	/* from here on: as it was read, and whether census_count_pools() has to look at it */
	pass->pools[look->index].size_class = head->size_class;
	pass->pools[look->index].live = no_objects;
	work->census->blocks += head->live;
	work->census->block_bytes += (uint64_t)head->live * head->block_size;
	return census_progress(work, obmalloc_pool_size(work->python));
}

int census_pools(struct census_work *work, const struct pool_list *list)
{
	struct pools_pass pass = { work, list->pools };
	const struct pool_reader_stats *stats = pool_reader_stats(work->reader);
	int r = pool_reader_read(work->reader, list->pools, list->count, count_pool, &pass);

	work->census->retries += stats->retries;
	work->census->refused += stats->torn + list->refused;
	return r;
}

void census_count_pools(struct census_work *work, const struct pool_list *list)
{
	struct census_row *rows = work->census->non_objects;

	for (size_t i = 0; i < list->count; i++) {
		const struct pool_ref *pool = &list->pools[i];
		struct pool_head head = { .block_size = (pool->size_class + 1) * MARK_GRAIN };
		uint64_t end = pool->live ? obmalloc_pool_size(work->python) : 0;

		for (uint64_t at = pool_block_offset(work->python, &head, 0); at + head.block_size <= end; at += head.block_size) {
			raddr_t block = raddr_add(pool->addr, (int64_t)at);
			uint8_t mark = marks_get(work->marks, block);
			enum census_non_object kind;

			if (!(mark & MARK_NO_OBJECT))
				continue;
			kind = census_claimed_as(work, block, mark);
			rows[CENSUS_UNKNOWN].count--;
			rows[CENSUS_UNKNOWN].bytes -= head.block_size;
			rows[kind].count++;
			rows[kind].bytes += head.block_size;
		}
	}
}
