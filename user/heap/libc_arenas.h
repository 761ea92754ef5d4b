/* SPDX-License-Identifier: MIT */
/* glibc's malloc states, found without symbols: where its heaps lie, and what frees leave behind in them. Private to heap/. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "interp/rmem.h"
#include "target/maps.h"

#define LIBC_KEYS_MAX 256u
#define LIBC_PAGE 4096ull
#define LIBC_USER_END (1ull << 47)

/* The process, or a recorded one. */
struct libc_view {
	struct rmem *mem;
	const struct maps *maps;   /* as of now */
	int pagemap;               /* pagemap_open(); -1: all of it is in memory */
};

/* A stretch of chunks, from the first to top or to a fencepost. */
struct libc_region {
	uint64_t start, end;
	uint64_t state;        /* address of the malloc_state it belongs to */
	uint64_t heap;         /* its heap_info; 0: of the main arena */
	bool has_top;          /* ends with the arena's top */
};

struct libc_state_layout;

struct libc_arenas {
	const struct libc_state_layout *layout;
	struct libc_region *regions;   /* by address */
	size_t n_regions, room;
	uint64_t arenas;
	uint64_t system_bytes;         /* as malloc counts them: all regions, with headers of heaps */
	uint64_t overhead;             /* of these: headers of heaps and arenas */
	uint64_t *fast;                /* chunks in fastbins, sorted */
	size_t n_fast, fast_room;
	/* Words of libc's data that may be the key of tcaches (glibc 2.34 and later), sorted. */
	uint64_t keys[LIBC_KEYS_MAX];
	size_t n_keys;
	bool key_is_tcache;            /* before 2.34: the key is the address of the thread's tcache */
	bool mangled;                  /* from 2.32: links are xor-ed with their address >> 12 */
	uint64_t mmapped, mmapped_chunks;   /* as malloc counts them; UINT64_MAX: not found */
	uint64_t refused, retries;
};

/* -ENOTSUP: not glibc's malloc, or not recognised. */
int libc_arenas_find(const struct libc_view *view, struct libc_arenas **ret_arenas);
void libc_arenas_free(struct libc_arenas *arenas);
DEFINE_CLEANUP(struct libc_arenas, libc_arenas_free)

/* The end of the region as of now: top moves, heaps grow. */
int libc_region_refresh(const struct libc_view *view, const struct libc_arenas *arenas, struct libc_region *region);
/* Is the chunk in a fastbin, as of libc_arenas_find()? */
bool libc_arenas_fast(const struct libc_arenas *arenas, uint64_t chunk);
/* May the word be the key of a tcache? */
bool libc_arenas_key(const struct libc_arenas *arenas, uint64_t word);
/* An anonymous mapping, named (PR_SET_VMA_ANON_NAME) or not. */
bool libc_map_is_anonymous(const struct map *map);
/*
 * The next stretch of anonymous private memory that can be written, at or behind *index; mappings that follow each other without a gap are
 * one (madvise() splits what was mapped as one). *index moves behind it. False: no more.
 */
bool libc_next_stretch(const struct maps *maps, size_t *index, uint64_t *ret_start, uint64_t *ret_end);
