/* SPDX-License-Identifier: MIT */
/*
 * A region is read in pieces of up to LIBC_PIECE bytes; of each piece only the
 * pages that are in memory (a read of others would bring them in). All chunks
 * that begin in a piece are judged before any of them is told, so that a piece
 * whose chain breaks, since the target changed it meanwhile, is read again and
 * nothing is told twice. If it stays broken the chunk it begins with may have
 * been merged into one before: the chain is followed anew from a place ever
 * farther back, silently. If that fails too the walk goes on at the next place from
 * which RESYNC chunks follow each other.
 *
 * A chunk is free if the chunk behind says so (and repeats its size), if it is
 * in a fastbin, or if its second word is the key of a tcache.
 *
 * Invariant: every step advances; what no chunk accounts for is in lost.
 */
#include "heap/libc_chunks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE LIBC_PAGE
#define PIECE_MIN 4096u
#define AHEAD (LIBC_HEAD_BYTES + 16u)
#define PREV_INUSE 1u
#define IS_MMAPPED 2u
#define NON_MAIN 4u
#define FLAGS 7u
#define CHUNK_MIN 32u
#define FASTBIN_MAX 176u      /* M_MXFAST can be 160 bytes */
#define CHUNK_KEPT 48u        /* sizeof(struct malloc_chunk): malloc_trim() leaves it */
#define TCACHE_CHUNK 0x290u   /* of 2.30 to 2.33 */
#define TCACHE_BINS 64u
#define TRIES 8
#define MARKS 8
#define RESYNC 8              /* chunks in a row that are believed */

/* A piece as it was read: [start, end) of the target, what was not in memory as zeros. */
struct piece {
	uint64_t start, end;
	const uint8_t *bytes;
};

struct header {
	uint64_t prev_size, size_word, link, key;
};

int libc_walk_init(struct libc_walk *walk, const struct libc_view *view, const struct libc_arenas *arenas, libc_visit_fn fn, void *ctx)
{
	*walk = (struct libc_walk){ .view = view, .arenas = arenas, .fn = fn, .ctx = ctx };
	residency_init(&walk->pages, view->pagemap);
	walk->piece = malloc(LIBC_PIECE + AHEAD);
	walk->found = malloc((LIBC_PIECE / CHUNK_MIN + 2) * sizeof(*walk->found));
	if (walk->piece && walk->found)
		return 0;
	libc_walk_done(walk);
	return -ENOMEM;
}

void libc_walk_done(struct libc_walk *walk)
{
	free(walk->piece);
	free(walk->found);
	walk->piece = NULL;
	walk->found = NULL;
}

static int read_piece(struct libc_walk *walk, uint64_t start, uint64_t end, struct piece *ret)
{
	uint64_t at = start, next;
	bool there;
	int r = 0;

	while (at < end && r == 0) {
		r = residency_run(&walk->pages, at, end, &there, &next);
		if (r == 0 && there)
			r = rmem_read(walk->view->mem, RADDR(at), walk->piece + (at - start), (size_t)(next - at));
		else if (r == 0)
			memset(walk->piece + (at - start), 0, (size_t)(next - at));
		at = next;
	}
	*ret = (struct piece){ start, end, walk->piece };
	return r;
}

/* Words at addr: from the piece, else from the target (one page of it comes in if it was in swap). */
static int words_at(struct libc_walk *walk, const struct piece *piece, uint64_t addr, void *buf, size_t size)
{
	int r;

	if (addr >= piece->start && addr + size <= piece->end) {
		r = residency_at(&walk->pages, addr);
		if (r < 0)
			return r;
		if (r > 0 && (addr + size - 1) / PAGE == addr / PAGE) {
			memcpy(buf, piece->bytes + (addr - piece->start), size);
			return 0;
		}
	}
	return rmem_read(walk->view->mem, RADDR(addr), buf, size);
}

/* Before 2.34 the key is the address of a tcache: counts of 16 bits, then lists, both empty or both not. */
static bool is_tcache(struct libc_walk *walk, uint64_t addr)
{
	uint64_t size_word, lists[TCACHE_BINS];
	uint16_t counts[TCACHE_BINS];

	if (addr % 16 || addr < PAGE || addr >= LIBC_USER_END)
		return false;
	for (uint32_t i = 0; i < walk->n_tcaches; i++)
		if (walk->tcaches[i] == addr)
			return true;
	if (rmem_u64(walk->view->mem, RADDR(addr - 8), &size_word) < 0 || (size_word & ~(uint64_t)(PREV_INUSE | NON_MAIN)) != TCACHE_CHUNK ||
	    rmem_read(walk->view->mem, RADDR(addr), counts, sizeof(counts)) < 0 ||
	    rmem_read(walk->view->mem, RADDR(addr + sizeof(counts)), lists, sizeof(lists)) < 0)
		return false;
	for (uint32_t i = 0; i < TCACHE_BINS; i++)
		if (!counts[i] != !lists[i] || lists[i] % 16 || lists[i] >= LIBC_USER_END)
			return false;
	if (walk->n_tcaches < sizeof(walk->tcaches) / sizeof(walk->tcaches[0]))
		walk->tcaches[walk->n_tcaches++] = addr;
	return true;
}

static bool is_cached(struct libc_walk *walk, uint64_t chunk, const struct header *header)
{
	uint64_t next = walk->arenas->mangled ? header->link ^ ((chunk + 16) >> 12) : header->link;

	if (next % 16 || next >= LIBC_USER_END || (next && next < PAGE))
		return false;
	return walk->arenas->key_is_tcache ? is_tcache(walk, header->key) : libc_arenas_key(walk->arenas, header->key);
}

static bool size_fits(const struct libc_region *region, uint64_t at, uint64_t size_word)
{
	uint64_t size = size_word & ~(uint64_t)FLAGS;

	if (size < CHUNK_MIN || size % 16 || (size_word & IS_MMAPPED) || size > region->end - at)
		return false;
	return region->heap || !(size_word & NON_MAIN);
}

/* Is the chunk, which is not the last of its region, handed out? -EAGAIN: torn. */
static int judge(struct libc_walk *walk, const struct piece *piece, const struct header *header, struct libc_chunk *chunk)
{
	uint64_t next[2], at = chunk->block - 16;
	int r = words_at(walk, piece, at + chunk->size, next, sizeof(next));

	if (r < 0)
		return r == -EFAULT ? -EAGAIN : r;
	if (!(next[1] & PREV_INUSE)) {
		if (next[0] != chunk->size)
			return -EAGAIN;
		chunk->state = LIBC_CHUNK_FREE;
		return 0;
	}
	chunk->cached = is_cached(walk, at, header);
	chunk->fast = !chunk->cached && chunk->size <= FASTBIN_MAX && libc_arenas_fast(walk->arenas, at);
	chunk->state = chunk->cached || chunk->fast ? LIBC_CHUNK_FREE : LIBC_CHUNK_USED;
	return 0;
}

/* Whole pages that malloc_trim() gives back: inside of chunks in bins, and of the main arena's top. */
static int count_trimmable(struct libc_walk *walk, const struct libc_region *region, struct libc_chunk *chunk)
{
	uint64_t at = chunk->block - 16, start = (at + CHUNK_KEPT + PAGE - 1) & ~(PAGE - 1), end = (at + chunk->size) & ~(PAGE - 1);

	if (chunk->cached || chunk->fast || (chunk->top && region->heap) || start >= end)
		return 0;
	return residency_bytes(&walk->pages, start, end, &chunk->trimmable);
}

static int describe(struct libc_walk *walk, const struct libc_region *region, const struct piece *piece, struct libc_chunk *chunk)
{
	uint64_t at = chunk->block - 16, left = piece->end > chunk->block ? piece->end - chunk->block : 0;
	int r = residency_bytes(&walk->pages, at, at + chunk->size, &chunk->resident);

	if (r == 0 && chunk->state == LIBC_CHUNK_FREE)
		r = count_trimmable(walk, region, chunk);
	if (r < 0 || chunk->state == LIBC_CHUNK_FREE || !chunk->resident)
		return r;
	chunk->head = piece->bytes + (chunk->block - piece->start);
	chunk->head_bytes = (uint32_t)(left < chunk->bytes ? left : chunk->bytes);
	if (chunk->head_bytes > LIBC_HEAD_BYTES)
		chunk->head_bytes = LIBC_HEAD_BYTES;
	return 0;
}

/* The chunk at *at; *at moves behind it. 1: one more; 0: a fencepost, or the region ends here; -EAGAIN: the chain is broken. */
static int take_chunk(struct libc_walk *walk, const struct libc_region *region, const struct piece *piece, uint64_t *at,
		      struct libc_chunk *chunk, uint64_t *fences)
{
	struct header header = { 0 };
	uint64_t size;
	int r = words_at(walk, piece, *at, &header, *at + sizeof(header) <= region->end ? sizeof(header) : 16);

	if (r < 0)
		return r == -EFAULT ? -EAGAIN : r;
	size = header.size_word & ~(uint64_t)FLAGS;
	if ((size == 16 || header.size_word == PREV_INUSE) && !(header.size_word & (IS_MMAPPED | NON_MAIN))) {
		/* 16: one of two; 0: the end of a thread's heap. Both come after a chunk */
		if (*at == region->start || (!size && region->end - *at > 64))
			return -EAGAIN;
		*fences += size ? size : region->end - *at;
		*at = size ? *at + size : region->end;
		return 0;
	}
	if (!size_fits(region, *at, header.size_word))
		return -EAGAIN;
	*chunk = (struct libc_chunk){ .block = *at + 16, .bytes = size - 8, .size = size, .state = LIBC_CHUNK_FREE };
	chunk->top = region->has_top && size == region->end - *at;
	if (chunk->top)
		chunk->bytes = size - 16;
	else if (size == region->end - *at)
		return -EAGAIN;
	r = chunk->top ? 0 : judge(walk, piece, &header, chunk);
	if (r == 0)
		r = describe(walk, region, piece, chunk);
	if (r < 0)
		return r;
	*at += size;
	return 1;
}

/* Reads the piece at *at and all chunks that begin in it. *ret_n of them are in walk->found; *at is behind the last. -EAGAIN: broken. */
static int take_piece(struct libc_walk *walk, const struct libc_region *region, uint64_t piece_size, uint64_t *at, size_t *ret_n,
		      uint64_t *fences)
{
	uint64_t end = region->end - *at < piece_size ? region->end : (*at + piece_size) & ~(PAGE - 1), next = *at, ahead;
	struct piece piece;
	size_t n = 0;
	int r;

	*fences = 0;
	if (end <= *at)
		end = *at + 16;
	/* the head of a chunk that begins at the very end */
	ahead = region->end - end < AHEAD ? region->end : end + AHEAD;
	r = read_piece(walk, *at, ahead, &piece);
	if (r < 0)
		return r == -EFAULT ? -EAGAIN : r;
	while (next + 16 <= end) {
		r = take_chunk(walk, region, &piece, &next, &walk->found[n], fences);
		if (r < 0)
			return r;
		n += (size_t)r;
	}
	/* less than a header is left: no chunk begins there */
	*at = next < end ? end : next;
	*ret_n = n;
	return 0;
}

static int tell(struct libc_walk *walk, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = walk->fn(walk->ctx, &walk->found[i]);
	return r;
}

/*
 * Follows the chain from a chunk before, silently, to the first chunk at or behind *at. In pieces, too: chunk by chunk the target would
 * be faster.
 */
static int catch_up(struct libc_walk *walk, const struct libc_region *region, uint64_t from, uint64_t *at)
{
	while (from < *at) {
		uint64_t end = region->end - from < LIBC_PIECE ? region->end : from + LIBC_PIECE, start = from;
		struct piece piece;
		int r = read_piece(walk, from, end, &piece);

		if (r < 0)
			return r == -EFAULT ? -EAGAIN : r;
		while (from < *at && from + 16 <= end) {
			uint64_t size_word, size;

			memcpy(&size_word, piece.bytes + (from + 8 - start), sizeof(size_word));
			size = size_word & ~(uint64_t)FLAGS;
			if (size != 16 && !size_fits(region, from, size_word))
				return -EAGAIN;
			from += size;
		}
		if (from < *at && from < end)
			return -EAGAIN;
	}
	*at = from;
	return 0;
}

/* Do RESYNC chunks, or all to the end, follow each other from here, in what was read? */
static bool chain_holds(const struct libc_region *region, const struct piece *piece, uint64_t at)
{
	for (int n = 0; n < RESYNC && at != region->end; n++) {
		uint64_t words[2], size;

		if (at + 16 > piece->end)
			return n >= 2;
		memcpy(words, piece->bytes + (at - piece->start), sizeof(words));
		if (!size_fits(region, at, words[1]))
			return false;
		size = words[1] & ~(uint64_t)FLAGS;
		at += size;
		if (at + 16 <= piece->end) {
			memcpy(words, piece->bytes + (at - piece->start), sizeof(words));
			if (!(words[1] & PREV_INUSE) && words[0] != size)
				return false;
		}
	}
	return true;
}

/* The next place behind *at where chunks follow each other; the region's end if there is none. */
static int resync(struct libc_walk *walk, const struct libc_region *region, uint64_t *at)
{
	uint64_t from = *at + 16;

	while (from < region->end) {
		uint64_t end = region->end - from < LIBC_PIECE ? region->end : from + LIBC_PIECE;
		struct piece piece;
		int r = read_piece(walk, from, end, &piece);

		/* nothing is mapped there */
		if (r == -EFAULT)
			break;
		if (r < 0)
			return r;
		for (uint64_t here = from; here + 16 <= end; here += 16) {
			if (chain_holds(region, &piece, here)) {
				walk->lost += here - *at;
				*at = here;
				return 0;
			}
		}
		from = end;
	}
	walk->lost += region->end - *at;
	*at = region->end;
	return 0;
}

/* Where the last pieces began. */
struct marks {
	uint64_t at[MARKS];
	size_t count;   /* ever set */
};

/* A place behind which the chain is followed anew: at each try farther back, the region's start in the end. */
static uint64_t good_point(const struct marks *marks, const struct libc_region *region, int tries)
{
	size_t back = (size_t)1 << (tries < 8 ? tries : 8);

	return back <= MARKS && back <= marks->count ? marks->at[(marks->count - back) % MARKS] : region->start;
}

/* A piece that may have to be read again. */
static int walk_piece(struct libc_walk *walk, struct libc_region *region, const struct marks *marks, uint64_t piece_size, uint64_t *at)
{
	uint64_t fences = 0, from;
	size_t n = 0;
	int r = -EAGAIN;

	for (int tries = 0; tries < TRIES && r == -EAGAIN; tries++) {
		from = *at;
		r = take_piece(walk, region, piece_size, &from, &n, &fences);
		if (r != -EAGAIN)
			break;
		walk->retries++;
		residency_forget(&walk->pages);
		r = libc_region_refresh(walk->view, walk->arenas, region);
		if (r < 0 && r != -EFAULT)
			return r;
		if (*at >= region->end)
			return 0;   /* the heap shrank */
		r = catch_up(walk, region, good_point(marks, region, tries), at);
		if (r < 0 && r != -EAGAIN)
			return r;
		if (*at >= region->end)
			return 0;
		r = -EAGAIN;
	}
	if (r == -EAGAIN) {
		walk->refused++;
		return resync(walk, region, at);
	}
	if (r < 0)
		return r;
	*at = from;
	walk->fences += fences;
	return tell(walk, n);
}

int libc_walk_region(struct libc_walk *walk, const struct libc_region *ro)
{
	struct libc_region region = *ro;
	uint64_t at = region.start, piece_size = LIBC_PIECE;
	struct marks marks = { .count = 0 };

	while (at + 16 <= region.end) {
		uint64_t from = at;
		int r = walk_piece(walk, &region, &marks, piece_size, &at);

		if (r < 0)
			return r;
		/* where chunks are large, most of what is read between them is of no use */
		if (at - from > 4 * piece_size)
			piece_size = PIECE_MIN;
		else if (at - from < 2 * piece_size && piece_size < LIBC_PIECE)
			piece_size *= 2;
		marks.at[marks.count++ % MARKS] = from;
	}
	return 0;
}
