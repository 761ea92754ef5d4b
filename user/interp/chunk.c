/* SPDX-License-Identifier: MIT */
/*
 * glibc's malloc from outside (malloc/malloc.c, 2.34 to 2.43). A chunk:
 *
 *     addr-16  size of the chunk before, if that is free
 *     addr-8   own size | PREV_INUSE 1 | IS_MMAPPED 2 | NON_MAIN_ARENA 4
 *     addr     the block; in a tcache: link (mangled), key
 *
 * A free chunk clears PREV_INUSE of the chunk behind it; one in a tcache does
 * not, but has the key as its second word: one random value in all of them. It is
 * learned from the main heap: the only value that stands there again and again
 * behind a word which, demangled (word ^ address >> 12), is 0 or an address.
 *
 * Limits: a chunk of up to 128 bytes may lie in a fastbin, which cannot be told from
 * use. Other allocators (jemalloc, tcmalloc, mimalloc, musl) have no such
 * headers: their blocks are known by their contents only.
 */
#include "interp/chunk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PREV_INUSE 1u
#define IS_MMAPPED 2u
#define FLAGS 7u
#define ALIGN 16u
#define CHUNK_MIN 32u
#define FASTBIN_MAX 128u           /* chunk size */
#define TCACHE_MAX 1040u           /* chunk size, without tunables */
#define PAGE 4096u
#define MMAP_SLACK (4ull << 20)    /* huge pages round a mapping up */
#define USER_END (1ull << 47)
#define SCAN_MAX (4u << 20)        /* of the main heap */
#define SCAN_STEP (256u << 10)
#define CANDIDATES 32
#define KEY_SEEN 3                 /* times before a key is believed */

bool chunk_is_glibc(const struct maps *maps)
{
	static const char *const others[] = { "jemalloc", "tcmalloc", "mimalloc", "hoard", "snmalloc", "ld-musl" };
	bool found = false;

	for (size_t i = 0; maps && i < maps_count(maps); i++) {
		const char *path = maps_get(maps, i)->path, *name = strrchr(path, '/');

		name = name ? name + 1 : path;
		for (size_t k = 0; k < sizeof(others) / sizeof(others[0]); k++)
			if (strstr(name, others[k]))
				return false;
		found |= strcmp(name, "libc.so.6") == 0 || strncmp(name, "libc-2.", 7) == 0;
	}
	return found;
}

/* The chunk size for a request (request2size). */
static uint64_t size_for(uint64_t request)
{
	uint64_t size = (request + 8 + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);

	return size < CHUNK_MIN ? CHUNK_MIN : size;
}

bool chunk_parse(uint64_t size_word, uint64_t request, uint64_t tcache_key, struct chunk *ret_chunk)
{
	struct chunk chunk = { .size = size_word & ~(uint64_t)FLAGS, .mmapped = size_word & IS_MMAPPED };

	if (request >= USER_END || chunk.size >= USER_END || chunk.size % ALIGN)
		return false;
	if (chunk.mmapped) {
		/* a whole mapping, less the header in glibc 2.43; the block's end must be inside, and not much more */
		uint64_t mapping = (chunk.size + PAGE - 1) & ~(uint64_t)(PAGE - 1);

		if ((chunk.size != mapping && chunk.size + CHUNK_HEADER != mapping) || mapping < request + CHUNK_HEADER ||
		    mapping - request > MMAP_SLACK)
			return false;
	} else if (chunk.size != size_for(request) && chunk.size != size_for(request) + ALIGN) {
		/* a remainder under CHUNK_MIN is not split off: 16 bytes more */
		return false;
	}
	chunk.may_hide = !chunk.mmapped && (chunk.size <= FASTBIN_MAX || (chunk.size <= TCACHE_MAX && !tcache_key));
	*ret_chunk = chunk;
	return true;
}

bool chunk_prev_in_use(uint64_t next_size_word)
{
	return next_size_word & PREV_INUSE;
}

struct candidates {
	uint64_t keys[CANDIDATES];
	uint32_t seen[CANDIDATES];
	size_t count;
};

/* True when the key has been seen often enough. */
static bool count_key(struct candidates *c, uint64_t key)
{
	size_t i = 0;

	while (i < c->count && c->keys[i] != key)
		i++;
	if (i == CANDIDATES)
		return false;
	if (i == c->count) {
		c->keys[c->count++] = key;
		c->seen[i] = 0;
	}
	return ++c->seen[i] >= KEY_SEEN;
}

/* A free chunk's two words, if it lies in a tcache. */
static bool is_cached(uint64_t block, uint64_t link, uint64_t key)
{
	uint64_t next = link ^ (block >> 12);

	if (next % ALIGN || next >= USER_END || (next && next < PAGE))
		return false;
	/* random bits, no small number and no address: one in 2^17 keys is missed */
	return key >= USER_END;
}

/* Goes from chunk to chunk in a piece of the heap. Returns the offset of the first chunk not looked at; 0: lost the chain. */
static size_t scan_chunks(const uint8_t *bytes, size_t len, uint64_t base, size_t at, struct candidates *c, uint64_t *ret_key)
{
	while (at + CHUNK_HEADER + 16 <= len) {
		uint64_t words[3], size;

		memcpy(words, bytes + at + 8, sizeof(words));
		size = words[0] & ~(uint64_t)FLAGS;
		if (size < CHUNK_MIN || size % ALIGN || size > USER_END)
			return 0;
		if (size <= TCACHE_MAX && is_cached(base + at + CHUNK_HEADER, words[1], words[2]) && count_key(c, words[2])) {
			*ret_key = words[2];
			return 0;
		}
		if (size > SCAN_MAX)
			return 0;
		at += size;
	}
	return at;
}

static const struct map *main_heap(const struct maps *maps)
{
	for (size_t i = 0; maps && i < maps_count(maps); i++)
		if (strcmp(maps_get(maps, i)->path, "[heap]") == 0)
			return maps_get(maps, i);
	return NULL;
}

int chunk_find_key(const struct python *python, uint64_t *ret_key)
{
	_cleanup_(freep) uint8_t *bytes = malloc(SCAN_STEP);
	const struct map *heap = main_heap(python->maps);
	struct candidates candidates = { .count = 0 };
	uint64_t key = 0;
	size_t done = 0, size;

	if (!bytes)
		return -ENOMEM;
	size = heap ? (size_t)(heap->end - heap->start) : 0;
	for (size = size < SCAN_MAX ? size : SCAN_MAX; done < size; ) {
		size_t n = size - done < SCAN_STEP ? size - done : SCAN_STEP;
		size_t next;
		int r = rmem_read(python->mem, RADDR(heap->start + done), bytes, n);

		if (r < 0)
			return r;
		next = scan_chunks(bytes, n, heap->start + done, 0, &candidates, &key);
		if (key) {
			*ret_key = key;
			return 0;
		}
		if (next == 0)
			return -ENOENT;
		done += next;
	}
	return -ENOENT;
}
