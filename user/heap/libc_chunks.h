/* SPDX-License-Identifier: MIT */
/* The chunks of one region of a glibc heap, one after another, while the process runs. Private to heap/. */
#pragma once

#include "heap/libc_arenas.h"
#include "heap/libc_heap.h"
#include "heap/residency.h"

#define LIBC_HEAD_BYTES 192u   /* of a block's start that a visitor gets to see, at most */

struct libc_chunk {
	uint64_t block, bytes;        /* what malloc() returned, bytes usable */
	uint64_t size;                /* with its header */
	uint64_t resident;            /* bytes of size in memory */
	enum libc_chunk_state state;
	uint64_t trimmable;           /* of these, what malloc_trim() gives back */
	bool cached, fast;            /* free: in a tcache, in a fastbin */
	bool top;                     /* free: the rest of a heap */
	const uint8_t *head;          /* its first bytes; good during the call */
	uint32_t head_bytes;          /* 0: not read (free, or not in memory) */
};

typedef int (*libc_visit_fn)(void *ctx, const struct libc_chunk *chunk);

struct libc_walk {
	const struct libc_view *view;
	const struct libc_arenas *arenas;
	struct residency pages;
	libc_visit_fn fn;
	void *ctx;
	uint64_t refused, retries, lost;  /* lost: bytes of regions that no chunk accounts for */
	uint64_t fences;                  /* bytes of fenceposts */
	uint64_t tcaches[64];             /* known addresses of tcaches (before 2.34) */
	uint32_t n_tcaches;
	uint8_t *piece;                   /* LIBC_PIECE bytes, and a head */
	struct libc_chunk *found;         /* LIBC_PIECE / 32 of them */
};

#define LIBC_PIECE (256u << 10)

/* -ENOMEM. */
int libc_walk_init(struct libc_walk *walk, const struct libc_view *view, const struct libc_arenas *arenas, libc_visit_fn fn, void *ctx);
void libc_walk_done(struct libc_walk *walk);
/* 0, -ESRCH, -EPERM, -ENOMEM, or what fn returned. */
int libc_walk_region(struct libc_walk *walk, const struct libc_region *region);

/* libc_mmapped.c: chunks with mappings of their own. taken: sorted ranges that are something else. */
struct libc_range {
	uint64_t start, end;
};
int libc_walk_mmapped(struct libc_walk *walk, const struct libc_range *taken, size_t n_taken);
