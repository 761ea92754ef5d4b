/* SPDX-License-Identifier: MIT */
/*
 * Chunks with mappings of their own begin where anonymous private mappings
 * begin, or where one ends: the kernel shows neighbours as one mapping, so the
 * walk hops from chunk to chunk by their sizes, and over what is known to be
 * something else (arenas of pymalloc, heaps of threads). The header:
 *
 *     at        bytes from the mapping's start to here (memalign; else 0)
 *     at + 8    size | IS_MMAPPED and no other flag; up to 2.42 the rest of the mapping, from 2.43 16 bytes less
 *
 * malloc counts these chunks. Only while fewer than that have been found (or its count is not known) is every page of the rest that is in
 * memory looked at, too: other small mappings may stand before them.
 * Limits: data of a program that looks like a header at the start of a page can be taken for one, then malloc's count is exceeded: refused.
 */
#include <errno.h>
#include <string.h>

#include "heap/libc_chunks.h"

#define PAGE LIBC_PAGE
#define PAGE_SHIFT 12u
#define IS_MMAPPED 2u
#define FLAGS 7u
#define SHIFT_MAX 30u          /* memalign() up to 1 GiB */
#define PAGES_MAX (1u << 20)   /* looked at in the second pass: 4 GiB, most of a second */

struct search {
	struct libc_walk *walk;
	const struct libc_range *taken;
	size_t n_taken, next;      /* ranges below next end before what is looked at */
	uint64_t bytes, chunks;    /* found */
	bool every_page;
	uint32_t pages_left;
	uint64_t read_start, read_end;   /* of the target, in walk->piece */
};

/* Is there a header at offset in the mapping (of which limit bytes may follow)? Its bytes, up to the mapping's end; 0: no. */
static uint64_t parse(const uint64_t words[2], uint64_t offset, uint64_t limit)
{
	uint64_t size = words[1] & ~(uint64_t)FLAGS, total;

	/* the lowest bit of the first word: huge pages, from 2.43 */
	if ((words[0] & ~1ull) != offset || (words[1] & FLAGS) != IS_MMAPPED || size % 16 || size < PAGE / 2 || size >= LIBC_USER_END)
		return 0;
	total = offset + size;
	if (total % PAGE)
		total += 16;
	return total % PAGE == 0 && total <= limit ? total : 0;
}

static bool found_at(uint64_t at, uint64_t offset, uint64_t total, struct libc_chunk *chunk)
{
	uint64_t block = at + offset + 16;

	if (total)
		*chunk = (struct libc_chunk){ .block = block, .bytes = total - offset - 16, .size = total, .state = LIBC_CHUNK_MMAPPED };
	return total != 0;
}

/* The page at at, from what is read ahead. 1; 0: it is not in memory. */
static int read_page(struct search *s, uint64_t at, uint64_t limit, const uint8_t **ret_page)
{
	struct libc_walk *walk = s->walk;
	uint64_t ahead = s->every_page ? LIBC_PIECE : PAGE, end;
	bool there;
	int r = 0;

	if (at < s->read_start || at + PAGE > s->read_end) {
		r = residency_run(&walk->pages, at, at + (limit < ahead ? limit : ahead), &there, &end);
		if (r < 0 || !there || end < at + PAGE)
			return r;
		s->read_end = 0;
		r = rmem_read(walk->view->mem, RADDR(at), walk->piece, (size_t)(end - at));
		if (r < 0)
			return r;
		s->read_start = at;
		s->read_end = end;
	}
	*ret_page = walk->piece + (at - s->read_start);
	return 1;
}

/* Alignments of less than a page. */
static int look_near(struct search *s, uint64_t at, uint64_t limit, uint64_t *ret_total, struct libc_chunk *chunk)
{
	const uint8_t *page = NULL;
	int r = read_page(s, at, limit, &page);

	for (unsigned shift = 4; r > 0 && shift <= PAGE_SHIFT; shift++) {
		uint64_t offset = shift > 4 ? (1ull << shift) - 16 : 0, words[2];

		memcpy(words, page + offset, sizeof(words));
		*ret_total = parse(words, offset, limit);
		if (found_at(at, offset, *ret_total, chunk))
			return 1;
	}
	return r < 0 ? r : 0;
}

/* Alignments of pages. */
static int look_far(struct search *s, uint64_t at, uint64_t limit, uint64_t *ret_total, struct libc_chunk *chunk)
{
	struct libc_walk *walk = s->walk;
	uint64_t before = PAGE - 16;

	for (unsigned shift = PAGE_SHIFT + 1; shift <= SHIFT_MAX; shift++) {
		uint64_t align = 1ull << shift, words[2], offset = ((at + 16 + align - 1) & ~(align - 1)) - 16 - at;
		int r;

		if (offset + PAGE > limit)
			return 0;
		r = offset == before ? 0 : residency_at(&walk->pages, at + offset);
		before = offset;
		if (r > 0)
			r = rmem_read(walk->view->mem, RADDR(at + offset), words, sizeof(words)) < 0 ? -EFAULT : 1;
		if (r < 0)
			return r;
		*ret_total = r > 0 ? parse(words, offset, limit) : 0;
		if (found_at(at, offset, *ret_total, chunk))
			return 1;
	}
	return 0;
}

/* 1: a chunk's mapping begins at at; 0: none does; negative errno. */
static int look(struct search *s, uint64_t at, uint64_t limit, uint64_t *ret_total, struct libc_chunk *chunk)
{
	int r = look_near(s, at, limit, ret_total, chunk);

	return r == 0 && !s->every_page ? look_far(s, at, limit, ret_total, chunk) : r;
}

static int tell(struct search *s, uint64_t at, struct libc_chunk *chunk)
{
	struct libc_walk *walk = s->walk;
	uint64_t first = PAGE - chunk->block % PAGE;
	int r = residency_bytes(&walk->pages, at, at + chunk->size, &chunk->resident);

	if (r < 0)
		return r;
	chunk->head_bytes = (uint32_t)(first < LIBC_HEAD_BYTES ? first : LIBC_HEAD_BYTES);
	/* behind what is read ahead */
	r = rmem_read(walk->view->mem, RADDR(chunk->block), walk->piece + LIBC_PIECE, chunk->head_bytes);
	if (r < 0)
		return r;
	chunk->head = walk->piece + LIBC_PIECE;
	s->bytes += chunk->size;
	s->chunks++;
	return walk->fn(walk->ctx, chunk);
}

/* The taken range that holds at, or the next one behind it; NULL: none. */
static const struct libc_range *taken_at(struct search *s, uint64_t at)
{
	while (s->next < s->n_taken && s->taken[s->next].end <= at)
		s->next++;
	return s->next < s->n_taken ? &s->taken[s->next] : NULL;
}

static bool complete(const struct search *s)
{
	uint64_t want = s->walk->arenas->mmapped_chunks;

	return want != UINT64_MAX && s->chunks >= want;
}

/* Where to look next in a stretch of pages without a chunk: the end of it, or in the second pass the next page in memory. */
static int step_over(struct search *s, uint64_t at, uint64_t end, uint64_t *ret_next)
{
	bool there;
	int r;

	*ret_next = end;
	if (!s->every_page || !s->pages_left)
		return 0;
	s->pages_left--;
	r = residency_run(&s->walk->pages, at, end, &there, ret_next);
	if (r == 0 && there)
		*ret_next = at + PAGE;
	return r;
}

/* The first pass tells of chunks that follow each other from the start on, the second of the others. */
static int search_stretch(struct search *s, uint64_t at, uint64_t stretch_end)
{
	bool chain = true;   /* from the start of a mapping, or the end of what is taken, chunk after chunk */

	while (at < stretch_end) {
		const struct libc_range *taken = taken_at(s, at);
		uint64_t limit = taken && taken->start < stretch_end ? taken->start : stretch_end, end = limit, total;
		const struct map *map = maps_at(s->walk->view->maps, at);
		struct libc_chunk chunk;
		int r;

		if (map && map->start == at)
			chain = true;
		if (map && !s->every_page && map->end < end)
			end = map->end;
		if (taken && taken->start <= at) {
			at = (taken->end + PAGE - 1) & ~(PAGE - 1);
			chain = true;
			continue;
		}
		r = look(s, at, limit - at, &total, &chunk);
		if (r == 1 && s->every_page == !chain)
			r = tell(s, at, &chunk);
		else if (r == 1)
			r = 0;
		else if (r == 0)
			total = 0;
		if (r < 0)
			return r == -EFAULT ? 0 : r;   /* unmapped meanwhile */
		if (total) {
			at += total;
			continue;
		}
		chain = false;
		r = step_over(s, at, end, &at);
		if (r < 0)
			return r;
	}
	return 0;
}

static int search_all(struct search *s)
{
	uint64_t start, end;
	size_t index = 0;
	int r = 0;

	s->next = 0;
	while (r >= 0 && !(s->every_page && complete(s)) && libc_next_stretch(s->walk->view->maps, &index, &start, &end))
		r = search_stretch(s, start, end);
	return r;
}

int libc_walk_mmapped(struct libc_walk *walk, const struct libc_range *taken, size_t n_taken)
{
	struct search s = { .walk = walk, .taken = taken, .n_taken = n_taken, .pages_left = PAGES_MAX };
	int r = search_all(&s);

	if (r >= 0 && !complete(&s)) {
		s.every_page = true;
		s.read_end = 0;
		r = search_all(&s);
	}
	if (walk->arenas->mmapped_chunks != UINT64_MAX && s.chunks > walk->arenas->mmapped_chunks)
		walk->refused++;
	return r < 0 ? r : 0;
}
