/* SPDX-License-Identifier: MIT */
/*
 * The main arena's regions. The first begins at sbrk_base in [heap] and ends
 * with top. If brk could not grow (something is mapped behind it) malloc maps
 * regions of at least 1 MiB; no list leads to those that top has left. They are
 * looked for only if system_mem says that there are any: pages from which a
 * chain of chunks leads to top, or to a double fencepost that ends a page.
 * mp_ is the words around a sbrk_base in libc's data that fit malloc's rules; where they were tuned (glibc.malloc.mmap_max) it is not
 * found, and the heap is taken to begin where [heap] does.
 */
#include <errno.h>
#include <string.h>

#include "heap/libc_arenas_impl.h"
#include "heap/residency.h"

#define PAGE LIBC_PAGE
#define MMAPS_DEFAULT 65536u    /* mp_.n_mmaps_max */
#define TCACHE_BINS_MAX 128u
#define TCACHE_BYTES_MAX (1ull << 32)
#define STEPS_MAX (1u << 20)    /* chunk headers read in the search, all together */
#define SIZE_MASK (~7ull)
#define REGION_MIN (1ull << 20)  /* MMAP_AS_MORECORE_SIZE */
#define GROWTH_MAX (1ull << 30)    /* while it is walked */
#define FENCE 17u               /* a chunk of 16 bytes, PREV_INUSE */

bool libc_file_is(const char *path, int *ret_minor)
{
	const char *name = strrchr(path, '/');
	int minor = 0;

	name = name ? name + 1 : path;
	if (strncmp(name, "libc-2.", 7) == 0) {
		for (const char *s = name + 7; *s >= '0' && *s <= '9' && minor < 1000; s++)
			minor = minor * 10 + (*s - '0');
	} else if (strcmp(name, "libc.so.6") != 0) {
		return false;
	}
	if (ret_minor)
		*ret_minor = minor;
	return true;
}

static const struct map *brk_heap(const struct maps *maps)
{
	for (size_t i = 0; i < maps_count(maps); i++)
		if (strcmp(maps_get(maps, i)->path, "[heap]") == 0)
			return maps_get(maps, i);
	return NULL;
}

static uint64_t word_at(const uint8_t *data, size_t at)
{
	uint64_t word;

	memcpy(&word, data + at, sizeof(word));
	return word;
}

/* n_mmaps, whose place before sbrk_base moved in 2.35. */
static uint64_t read_n_mmaps(const uint8_t *data, size_t at)
{
	static const size_t before[] = { 36, 32 };

	for (size_t i = 0; i < 2; i++) {
		uint32_t counts[3];

		memcpy(counts, data + at - before[i], sizeof(counts));
		if (counts[1] == MMAPS_DEFAULT && counts[0] <= counts[2])
			return counts[0];
	}
	return UINT64_MAX;
}

/* Where sbrk_base stands in libc's data; 0: not found. */
static size_t find_mp(const uint8_t *data, size_t size, const struct map *heap)
{
	for (size_t at = 40; at + 24 <= size; at += 8) {
		uint64_t base = word_at(data, at), mapped = word_at(data, at - 16), most = word_at(data, at - 8);

		/* pages, but for what mremap() is counted wrong by in 2.43 */
		if (base < heap->start || base >= heap->end || base % 16 || mapped > most || mapped % 16 || most % 16 ||
		    most >= LIBC_USER_END)
			continue;
		/* behind it: tcache_bins and the size of chunks that go there; before it: counts of mapped chunks */
		if (word_at(data, at + 8) - 1 < TCACHE_BINS_MAX && word_at(data, at + 16) - 1 < TCACHE_BYTES_MAX &&
		    read_n_mmaps(data, at) != UINT64_MAX)
			return at;
	}
	return 0;
}

/* An end that top tells: it reaches to where malloc's memory ends. */
static int end_of_top(const struct libc_view *view, uint64_t top, uint64_t *ret_end)
{
	uint64_t size;
	int r = rmem_u64(view->mem, RADDR(top + 8), &size);

	if (r < 0)
		return r;
	size &= SIZE_MASK;
	if (size < 16 || size % 16 || size >= LIBC_USER_END - top)
		return -EFAULT;
	*ret_end = top + size;
	return 0;
}

int libc_main_refresh(const struct libc_view *view, const struct libc_state_layout *l, struct libc_region *region)
{
	uint64_t top, end;
	int r = rmem_u64(view->mem, RADDR(region->state + l->top), &top);

	if (r == 0)
		r = end_of_top(view, top, &end);
	if (r < 0)
		return r;
	/* top left for another region, or what is read is torn: the end stays */
	if (top >= region->start && end > region->start && end < region->end + GROWTH_MAX && top % 16 == 0)
		region->end = end;
	return 0;
}

/* Where the chain of chunks that begins at start ends: 0 unless with top, or with fenceposts at the end of a page. */
static uint64_t chain_end(const struct libc_view *view, uint64_t start, uint64_t limit, uint64_t top, uint32_t *steps)
{
	uint64_t at = start, end;

	while (at + 16 <= limit && *steps > 0) {
		uint64_t size;

		(*steps)--;
		if (at == top)
			return end_of_top(view, top, &end) == 0 && end <= limit ? end : 0;
		if (rmem_u64(view->mem, RADDR(at + 8), &size) < 0 || (size & 6) || !(size & SIZE_MASK))
			return 0;
		/* of two fenceposts the first says whether what is before it is free */
		if ((size & SIZE_MASK) == (FENCE & SIZE_MASK))
			return at > start && (at + 32) % PAGE == 0 && rmem_u64(view->mem, RADDR(at + 24), &size) == 0 && size == FENCE ?
			       at + 32 : 0;
		size &= SIZE_MASK;
		if (size < 32 || size % 16 || size > limit - at)
			return 0;
		at += size;
	}
	return 0;
}

bool libc_next_stretch(const struct maps *maps, size_t *index, uint64_t *ret_start, uint64_t *ret_end)
{
	bool found = false;

	for (; *index < maps_count(maps); (*index)++) {
		const struct map *map = maps_get(maps, *index);
		bool fits = map->read && map->write && !map->shared && libc_map_is_anonymous(map);

		if (found && (!fits || map->start != *ret_end))
			return true;
		if (!fits)
			continue;
		*ret_start = found ? *ret_start : map->start;
		*ret_end = map->end;
		found = true;
	}
	return found;
}

/* Regions in one stretch of memory; stops when *missing bytes have been found. */
static int search_stretch(const struct libc_view *view, struct libc_arenas *arenas, uint64_t at, uint64_t stretch_end, uint64_t state,
			  uint64_t top, uint64_t *missing, uint32_t *steps)
{
	struct residency pages;

	residency_init(&pages, view->pagemap);
	while (at < stretch_end && *missing && *steps > 0) {
		struct libc_region region = { .start = at, .state = state };
		uint64_t next = at + PAGE;
		bool there;
		int r = residency_run(&pages, at, stretch_end, &there, &next);

		if (r < 0)
			return r;
		if (!there) {
			at = next;
			continue;
		}
		region.end = chain_end(view, at, stretch_end, top, steps);
		region.has_top = top >= at && top < region.end;
		r = region.end ? libc_arenas_add(arenas, &region) : 0;
		if (r < 0)
			return r;
		if (region.end)
			*missing -= region.end - at < *missing ? region.end - at : *missing;
		at = region.end ? (region.end + PAGE - 1) & ~(PAGE - 1) : at + PAGE;
	}
	return 0;
}

static int search(const struct libc_view *view, struct libc_arenas *arenas, uint64_t state, uint64_t top, uint64_t missing)
{
	uint32_t steps = STEPS_MAX;
	uint64_t start, end;
	size_t index = 0;
	int r = 0;

	while (missing && r == 0 && libc_next_stretch(view->maps, &index, &start, &end))
		r = search_stretch(view, arenas, start, end, state, top, &missing, &steps);
	arenas->refused += missing >= REGION_MIN;
	return r;
}

int libc_main_find(const struct libc_view *view, struct libc_arenas *arenas, const struct libc_state_layout *l, uint64_t state,
		   const uint8_t *data, size_t size, uint64_t start)
{
	const struct map *heap = brk_heap(view->maps);
	uint64_t top = word_at(data, (size_t)(state - start) + l->top), missing = arenas->system_bytes;
	struct libc_region region = { .state = state };
	size_t mp = heap ? find_mp(data, size, heap) : 0;
	int r = 0;

	arenas->mmapped = mp ? word_at(data, mp - 16) : UINT64_MAX;
	arenas->mmapped_chunks = mp ? read_n_mmaps(data, mp) : UINT64_MAX;
	if (heap) {
		region.start = mp ? word_at(data, mp) : heap->start;
		region.has_top = top >= region.start && top < heap->end;
		region.end = heap->end;
		if (region.has_top && (end_of_top(view, top, &region.end) < 0 || region.end > heap->end + GROWTH_MAX))
			region.end = heap->end;
		r = libc_arenas_add(arenas, &region);
		missing -= region.end - region.start < missing ? region.end - region.start : missing;
	}
	if (r == 0 && missing >= REGION_MIN)
		r = search(view, arenas, state, top, missing);
	return r == -EPROTO ? 0 : r;
}
