/* SPDX-License-Identifier: MIT */
/*
 * The walk of all heaps: regions of chunks (libc_arenas.c finds them,
 * libc_chunks.c walks them), then chunks with mappings of their own
 * (libc_mmapped.c). Works on a view, so that recorded memory can be walked, too.
 */
#include "heap/libc_heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "heap/libc_visit.h"
#include "interp/obmalloc.h"
#include "target/pagemap.h"

#define RANGES_MAX (1u << 24)
#define TRIES 3

struct counting {
	struct libc_heap_info info;
	libc_visit_fn fn;
	void *ctx;
};

/* A libc_visit_fn. */
static int count_chunk(void *ctx, const struct libc_chunk *chunk)
{
	struct counting *c = ctx;
	struct libc_heap_info *info = &c->info;

	if (chunk->state == LIBC_CHUNK_USED) {
		info->used += chunk->size;
		info->used_chunks++;
		info->resident_used += chunk->resident;
	} else if (chunk->state == LIBC_CHUNK_MMAPPED) {
		info->mmapped += chunk->size;
		info->mmapped_chunks++;
		info->resident_mmapped += chunk->resident;
	} else {
		info->resident_free += chunk->resident;
		info->trimmable += chunk->trimmable;
		info->top += chunk->top ? chunk->size : 0;
		info->free += chunk->top ? 0 : chunk->size;
		info->free_chunks += !chunk->top;
		info->cached += chunk->cached ? chunk->size : 0;
		info->cached_chunks += chunk->cached;
	}
	return c->fn ? c->fn(c->ctx, chunk) : 0;
}

static int add_range(struct libc_ranges *ranges, uint64_t start, uint64_t end)
{
	if (ranges->count == ranges->room) {
		size_t room = ranges->room ? 2 * ranges->room : 64;
		struct libc_range *grown = room > RANGES_MAX ? NULL : reallocarray(ranges->range, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		ranges->range = grown;
		ranges->room = room;
	}
	ranges->range[ranges->count++] = (struct libc_range){ start, end };
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct libc_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static int walk_all(struct libc_walk *walk, struct libc_ranges *taken)
{
	const struct libc_arenas *arenas = walk->arenas;
	int r = 0;

	for (size_t i = 0; i < arenas->n_regions && r == 0; i++) {
		const struct libc_region *region = &arenas->regions[i];

		r = add_range(taken, region->heap ? region->heap : region->start, region->end);
		if (r == 0)
			r = libc_walk_region(walk, region);
	}
	if (r < 0)
		return r;
	if (taken->count)
		qsort(taken->range, taken->count, sizeof(taken->range[0]), by_start);
	residency_forget(&walk->pages);
	return libc_walk_mmapped(walk, taken->range, taken->count);
}

int libc_visit(const struct libc_view *view, struct libc_ranges *taken, libc_visit_fn fn, void *ctx, struct libc_heap_info *ret_info)
{
	_cleanup_(libc_arenas_freep) struct libc_arenas *arenas = NULL;
	struct counting counting = { .fn = fn, .ctx = ctx };
	struct libc_heap_info *info = &counting.info;
	struct libc_walk walk;
	int r = libc_arenas_find(view, &arenas);

	if (r < 0)
		return r;
	r = libc_walk_init(&walk, view, arenas, count_chunk, &counting);
	if (r < 0)
		return r;
	r = walk_all(&walk, taken);
	libc_walk_done(&walk);
	if (r < 0)
		return r;
	info->arenas = arenas->arenas;
	info->overhead = arenas->overhead + walk.fences;
	info->refused = arenas->refused + walk.refused;
	info->retries = arenas->retries + walk.retries;
	info->lost = walk.lost;
	/* the count of bytes can be a little wrong (2.43, after mremap()), that of chunks cannot */
	if (arenas->mmapped != UINT64_MAX && arenas->mmapped_chunks > info->mmapped_chunks && arenas->mmapped > info->mmapped)
		info->mmapped_missing = arenas->mmapped - info->mmapped;
	*ret_info = *info;
	return 0;
}

/* An obmalloc_arena_fn. */
static int add_arena(void *ctx, raddr_t addr, uint64_t size)
{
	return add_range(ctx, addr.v, addr.v + size);
}

int libc_ranges_add_arenas(struct libc_ranges *ranges, const struct python *python)
{
	size_t before = ranges->count;
	int r = -EAGAIN;

	/* the array of arenas moves when it grows: look again */
	for (int tries = 0; tries < TRIES && r == -EAGAIN; tries++) {
		ranges->count = before;
		r = obmalloc_visit_arenas(python, add_arena, ranges);
	}
	return r == -ENOENT || r == -EAGAIN ? 0 : r;
}

void libc_ranges_free(struct libc_ranges *ranges)
{
	free(ranges->range);
	*ranges = (struct libc_ranges){ 0 };
}

struct plain {
	libc_chunk_fn fn;
	void *ctx;
};

/* A libc_visit_fn. */
static int pass_on(void *ctx, const struct libc_chunk *chunk)
{
	const struct plain *plain = ctx;

	return plain->fn(plain->ctx, RADDR(chunk->block), chunk->bytes, chunk->state);
}

static int explain(const struct python *python, int r, struct err *err)
{
	if (r == -ENOTSUP)
		return err_set(err, r, "process %d does not run on glibc's malloc", python_pid(python));
	return err_set(err, r, "cannot read the heaps of process %d: %s", python_pid(python), strerror(-r));
}

int libc_heap_walk(const struct python *python, libc_chunk_fn fn, void *ctx, struct libc_heap_info *ret_info, struct err *err)
{
	_cleanup_(libc_ranges_free) struct libc_ranges taken = { 0 };
	_cleanup_(maps_freep) struct maps *maps = NULL;
	_cleanup_(closep) int pagemap = -1;
	struct libc_view view = { .mem = python_rmem(python), .pagemap = -1 };
	struct plain plain = { fn, ctx };
	int r = maps_load(python_pid(python), &maps);

	if (r == 0 && maps_count(maps) == 0)
		r = -ESRCH;
	if (r == 0)
		r = pagemap = pagemap_open(python_pid(python));
	if (r >= 0)
		r = libc_ranges_add_arenas(&taken, python);
	if (r < 0)
		return explain(python, r, err);
	view.maps = maps;
	view.pagemap = pagemap;
	r = libc_visit(&view, &taken, fn ? pass_on : NULL, &plain, ret_info);
	return r < 0 ? explain(python, r, err) : 0;
}
