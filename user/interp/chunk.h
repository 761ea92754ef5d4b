/* SPDX-License-Identifier: MIT */
/* glibc's chunks around blocks: is a block of the raw allocator still handed out? Private to interp/. */
#pragma once

#include "interp/python_impl.h"

#define CHUNK_HEADER 16u   /* bytes from the chunk's start to the block */

struct chunk {
	uint64_t size;      /* bytes, header included */
	bool mmapped;       /* a mapping of its own: gone when freed */
	bool may_hide;      /* when freed it may keep the look of a used chunk for want of a key (fastbin; tcache, key not known) */
};

/* Does the process run on glibc's malloc, as far as its mappings tell? */
bool chunk_is_glibc(const struct maps *maps);
/*
 * The header in front of a block of size requested bytes: size_word is what stands 8 bytes before it. False if malloc(request)
 * of glibc never makes such a chunk.
 */
bool chunk_parse(uint64_t size_word, uint64_t request, uint64_t tcache_key, struct chunk *ret_chunk);
/* Of the chunk behind, its size word: is the one before it (not mmapped) in use? */
bool chunk_prev_in_use(uint64_t next_size_word);
/* The key in the second word of every chunk that lies in a tcache (glibc 2.34 and later). -ENOENT: not found. */
int chunk_find_key(const struct python *python, uint64_t *ret_key);
