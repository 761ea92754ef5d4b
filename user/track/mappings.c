/* SPDX-License-Identifier: MIT */
#include "track/mappings.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "base/map64.h"

#define PAGE 4096ull
#define ADDRESS_MAX (1ull << 56)   /* user space ends there with five levels of page tables */

enum region_kind { REGION_MMAP, REGION_HEAP, REGION_ARENA };

struct pool {
	uint64_t time_ns;
	uint32_t stack, size_class;
};

struct page {
	uint64_t time_ns;
	uint32_t stack, in_arena;
};

struct mappings {
	struct regions *regions;
	struct map64 *pools;       /* address of the pool -> struct pool */
	struct map64 *pages;       /* address of the page -> struct page */
	uint64_t brk, pool_size;
	uint64_t arenas_allocated, arenas_freed;
};

int mappings_new(uint64_t brk_now, uint64_t pool_size, struct mappings **ret_mappings)
{
	_cleanup_(mappings_freep) struct mappings *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->brk = brk_now;
	/* A power of two, or none: read from the target's layout, but a mask is made of it. */
	m->pool_size = pool_size & (pool_size - 1) ? 0 : pool_size;
	r = regions_new(&m->regions);
	if (!r)
		r = map64_new(sizeof(struct pool), &m->pools);
	if (!r)
		r = map64_new(sizeof(struct page), &m->pages);
	if (r)
		return r;
	*ret_mappings = take_ptr(m);
	return 0;
}

void mappings_free(struct mappings *m)
{
	if (!m)
		return;
	regions_free(m->regions);
	map64_free(m->pools);
	map64_free(m->pages);
	free(m);
}

static uint64_t page_up(uint64_t addr)
{
	return (addr + PAGE - 1) & ~(PAGE - 1);
}

static int add(struct mappings *m, enum region_kind kind, uint64_t start, uint64_t size, uint32_t stack, uint64_t time_ns)
{
	struct region region = { start, page_up(start + size), time_ns, stack, kind };

	/* A range that wraps, or leaves the address space, is no mapping. */
	return region.end <= start || region.end > ADDRESS_MAX ? -EBADMSG : regions_add(m->regions, &region);
}

/* Pages or pools of a range that is gone: one look-up a piece of the range, or one walk over those kept, whichever is less. */
static int forget(struct map64 *pieces, uint64_t piece_size, uint64_t start, uint64_t end)
{
	_cleanup_(freep) uint64_t *gone = NULL;
	size_t count = map64_count(pieces), n = 0, cursor = 0;
	uint64_t at;

	if (!count)
		return 0;
	start &= ~(piece_size - 1);
	if ((end - start) / piece_size <= count) {
		for (at = start; at < end; at += piece_size)
			map64_remove(pieces, at, NULL);
		return 0;
	}
	gone = reallocarray(NULL, count, sizeof(*gone));
	if (!gone)
		return -ENOMEM;
	while (map64_next(pieces, &cursor, &at))
		if (at >= start && at < end)
			gone[n++] = at;
	while (n)
		map64_remove(pieces, gone[--n], NULL);
	return 0;
}

/* Touched pages and pools of a range. */
static int forget_pieces(struct mappings *m, uint64_t start, uint64_t size)
{
	uint64_t end = page_up(start + size);
	int r;

	if (end <= start || end > ADDRESS_MAX)
		return -EBADMSG;
	r = forget(m->pages, PAGE, start, end);
	return r ? r : forget(m->pools, m->pool_size, start, end);
}

static int remove_range(struct mappings *m, uint64_t start, uint64_t size)
{
	int r = forget_pieces(m, start, size);

	return r ? r : regions_remove(m->regions, start, page_up(start + size));
}

int mappings_add_arena(struct mappings *m, uint64_t addr, uint64_t size)
{
	return add(m, REGION_ARENA, addr, size, 0, 0);
}

/* An arena that was mapped while the probes were being placed: its own record was missed, the walk over the arenas found it. */
static bool is_arena(const struct mappings *m, const struct event_map *e)
{
	const struct region *r = regions_at(m->regions, e->addr);

	return r && r->kind == REGION_ARENA && r->start == e->addr && r->end == page_up(e->addr + e->size);
}

/*
 * A mapping that is resized keeps its story, or stories; what it gains is of the line that made it grow, also when it was there before the
 * attach: a large block of libc's grows so.
 */
static int on_remap(struct mappings *m, const struct event_map *e, uint32_t stack)
{
	const struct region *old = regions_at(m->regions, e->old_addr);
	uint64_t stays = page_up(e->size < e->old_size ? e->size : e->old_size);
	/* The bytes of a block that moves are counted there, and an arena is none. */
	bool counts = (!old || old->kind == REGION_MMAP) && !(e->hdr.flags & (EVENT_F_IN_ALLOCATOR | EVENT_F_IN_ARENA));
	int r = e->size > stays ? remove_range(m, e->addr + stays, e->size - stays) : 0;

	if (!r && e->addr != e->old_addr && stays)
		r = forget_pieces(m, e->addr, stays) ?: regions_move(m->regions, e->old_addr, e->old_addr + stays, e->addr);
	/* Shrunk, or moved: nothing is left in the old place. */
	if (!r && e->old_size && e->addr != e->old_addr)
		r = forget_pieces(m, e->old_addr, e->old_size);
	if (!r && e->old_size > stays)
		r = remove_range(m, e->old_addr + stays, e->old_size - stays);
	if (r || !counts || !e->old_size || e->size <= stays)
		return r;
	return add(m, REGION_MMAP, e->addr + stays, e->size - stays, stack, e->hdr.time_ns);
}

int mappings_on_map(struct mappings *m, const struct event_map *e, uint32_t stack)
{
	int r;

	if (e->hdr.kind == EVENT_MMAP && is_arena(m, e))
		return 0;
	if (e->hdr.kind == EVENT_MREMAP)
		return on_remap(m, e, stack);
	/* MAP_FIXED takes the place of what was there. */
	r = remove_range(m, e->addr, e->size);
	if (r || !(e->map_flags & MAP_ANONYMOUS) || (e->hdr.flags & (EVENT_F_IN_ALLOCATOR | EVENT_F_IN_ARENA)))
		return r;
	return add(m, REGION_MMAP, e->addr, e->size, stack, e->hdr.time_ns);
}

int mappings_on_munmap(struct mappings *m, const struct event_block *e)
{
	return remove_range(m, e->addr, e->size);
}

int mappings_on_brk(struct mappings *m, const struct event_block *e, uint32_t stack)
{
	uint64_t before = m->brk;
	int r = 0;

	m->brk = e->addr;
	if (!before || before == e->addr)
		return 0;
	if (e->addr < before)
		return remove_range(m, e->addr, before - e->addr);
	/* Growth for a traced block is that block's. */
	if (!(e->hdr.flags & EVENT_F_IN_ALLOCATOR))
		r = add(m, REGION_HEAP, before, e->addr - before, stack, e->hdr.time_ns);
	return r;
}

int mappings_on_arena(struct mappings *m, const struct event_block *e, uint32_t stack)
{
	if (e->hdr.kind == EVENT_ARENA_FREE) {
		m->arenas_freed++;
		return e->size ? remove_range(m, e->addr, e->size) : 0;
	}
	m->arenas_allocated++;
	return add(m, REGION_ARENA, e->addr, e->size, stack, e->hdr.time_ns);
}

int mappings_on_pool(struct mappings *m, const struct event_block *e, uint32_t stack)
{
	struct pool *pool;

	if (!m->pool_size)
		return 0;
	if (e->addr >= ADDRESS_MAX)
		return -EBADMSG;
	pool = map64_put(m->pools, e->addr & ~(m->pool_size - 1), NULL);
	if (!pool)
		return -ENOMEM;
	*pool = (struct pool){ .time_ns = e->hdr.time_ns, .stack = stack, .size_class = (uint32_t)e->size };
	return 0;
}

int mappings_on_fault(struct mappings *m, const struct event_block *e, uint32_t stack)
{
	const struct region *region = regions_at(m->regions, e->addr);
	/* Where fresh pools are not seen, the pages of an arena stand in for them. */
	bool in_arena = region && region->kind == REGION_ARENA && !m->pool_size;
	struct page *page;

	/* A program may touch what it has not, and handle the signal. */
	if (e->addr >= ADDRESS_MAX)
		return -EBADMSG;
	if ((region && !in_arena) || (e->hdr.flags & (EVENT_F_IN_ALLOCATOR | EVENT_F_IN_ARENA)))
		return 0;
	page = map64_put(m->pages, e->addr & ~(PAGE - 1), NULL);
	if (!page)
		return -ENOMEM;
	*page = (struct page){ .time_ns = e->hdr.time_ns, .stack = stack, .in_arena = in_arena };
	return 0;
}

static void visit_regions(const struct mappings *m, const struct mappings_witness *w, mappings_fn fn, void *ctx)
{
	for (size_t i = 0; i < regions_count(m->regions); i++) {
		const struct region *r = regions_get(m->regions, i);
		uint64_t bytes = r->end - r->start;

		if (r->kind == REGION_ARENA)
			continue;
		if (w)
			w->resident(w->ctx, r->start, r->end, &bytes);
		if (bytes)
			fn(ctx, r->kind == REGION_HEAP ? MAPPING_HEAP : MAPPING_MMAP, r->stack, bytes, r->time_ns);
	}
}

static void visit_pools(struct mappings *m, const struct mappings_witness *w, mappings_fn fn, void *ctx)
{
	struct pool *pool;
	size_t cursor = 0;
	uint64_t addr;

	while ((pool = map64_next(m->pools, &cursor, &addr)))
		if (!w || w->pool_alive(w->ctx, addr, pool->size_class))
			fn(ctx, MAPPING_POOL, pool->stack, m->pool_size, pool->time_ns);
}

static void visit_pages(struct mappings *m, const struct mappings_witness *w, mappings_fn fn, void *ctx)
{
	struct page *page;
	size_t cursor = 0;
	uint64_t addr;

	while ((page = map64_next(m->pages, &cursor, &addr))) {
		uint64_t bytes = PAGE;

		if (w)
			w->resident(w->ctx, addr, addr + PAGE, &bytes);
		if (bytes)
			fn(ctx, page->in_arena ? MAPPING_ARENA_PAGE : MAPPING_PAGE, page->stack, bytes, page->time_ns);
	}
}

void mappings_visit(struct mappings *m, const struct mappings_witness *witness, mappings_fn fn, void *ctx)
{
	visit_regions(m, witness, fn, ctx);
	visit_pools(m, witness, fn, ctx);
	visit_pages(m, witness, fn, ctx);
}

uint64_t mappings_arenas_allocated(const struct mappings *m)
{
	return m->arenas_allocated;
}

uint64_t mappings_arenas_freed(const struct mappings *m)
{
	return m->arenas_freed;
}
