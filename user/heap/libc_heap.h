/* SPDX-License-Identifier: MIT */
/* glibc's heaps from outside: main arena, thread arenas, chunks with mappings of their own. The process is not stopped. */
#pragma once

#include "base/err.h"
#include "interp/python.h"

enum libc_chunk_state {
	LIBC_CHUNK_USED,
	LIBC_CHUNK_FREE,     /* in a bin, in a tcache or a fastbin, or a heap's top */
	LIBC_CHUNK_MMAPPED,  /* used, in a mapping of its own */
};

/*
 * All in bytes unless said otherwise. When the process is idle used + free + top + overhead is what malloc_info() calls system memory of
 * all arenas; free - cached + top is mallinfo2()'s fordblks (malloc takes what lies in tcaches for used).
 */
struct libc_heap_info {
	uint64_t arenas;            /* main and thread arenas */
	uint64_t used, used_chunks; /* handed out, headers included; without mmapped ones */
	uint64_t free, free_chunks; /* not handed out: bins, fastbins, tcaches; top is not in it */
	uint64_t cached, cached_chunks;   /* of these: in tcaches */
	uint64_t top;               /* of all arenas: what lies behind the last chunk */
	uint64_t overhead;          /* headers of heaps and arenas, fenceposts */
	uint64_t trimmable;         /* whole pages inside chunks in bins and the main arena's top that are in memory: what malloc_trim() could return */
	uint64_t mmapped, mmapped_chunks;
	uint64_t mmapped_missing;   /* malloc's own count says so much more is mapped than was found; also what it mapped during the walk */
	uint64_t resident_used, resident_free, resident_mmapped;  /* in memory, of used; of free and top; of mmapped */
	uint64_t refused;           /* heaps or chunks that made no sense, after retries */
	uint64_t lost;              /* bytes of heaps that no chunk accounts for because of that */
	uint64_t retries;
};

/* block: what malloc() returned; bytes: usable there. A negative errno ends the walk. */
typedef int (*libc_chunk_fn)(void *ctx, raddr_t block, uint64_t bytes, enum libc_chunk_state state);

/*
 * Walks all chunks; fn may be NULL. -ENOTSUP: the process does not run on glibc's malloc (musl, jemalloc, ...), or it is not recognised; -ESRCH,
 * -EPERM, -ENOMEM.
 */
int libc_heap_walk(const struct python *python, libc_chunk_fn fn, void *ctx, struct libc_heap_info *ret_info, struct err *err);
