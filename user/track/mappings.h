/* SPDX-License-Identifier: MIT */
/*
 * One process's address space as far as it changed since the attach: anonymous
 * mappings and heap growth by stack, arenas, fresh pools, pages touched first.
 *
 * Each byte has one owner: what lies in an arena belongs to its pools, what a
 * traced allocator mapped for a block belongs to the block (and is not kept
 * here), a page touched in a mapping kept here belongs to the mapping. Only
 * pages touched elsewhere are kept as pages.
 */
#pragma once

#include <stdint.h>

#include "../bpf/event.h"
#include "base/cleanup.h"
#include "track/regions.h"

struct mappings;

/* brk_now: the end of the heap at the attach, 0 unknown. pool_size: bytes of a pool of this build;
 * 0: fresh pools are not seen, and first touches of arena pages stand in for them. */
int mappings_new(uint64_t brk_now, uint64_t pool_size, struct mappings **ret_mappings);
void mappings_free(struct mappings *mappings);
DEFINE_CLEANUP(struct mappings, mappings_free)

/* An arena that was there before the attach. */
int mappings_add_arena(struct mappings *mappings, uint64_t addr, uint64_t size);

int mappings_on_map(struct mappings *mappings, const struct event_map *e, uint32_t stack);   /* MMAP, MREMAP */
int mappings_on_munmap(struct mappings *mappings, const struct event_block *e);
int mappings_on_brk(struct mappings *mappings, const struct event_block *e, uint32_t stack);
int mappings_on_arena(struct mappings *mappings, const struct event_block *e, uint32_t stack); /* ARENA_ALLOC, ARENA_FREE */
int mappings_on_pool(struct mappings *mappings, const struct event_block *e, uint32_t stack);
int mappings_on_fault(struct mappings *mappings, const struct event_block *e, uint32_t stack);

/* Says what is still there: of a range, how many bytes are in memory; of a pool, whether it still serves the class. */
struct mappings_witness {
	void *ctx;
	int (*resident)(void *ctx, uint64_t start, uint64_t end, uint64_t *ret_bytes);
	int (*pool_alive)(void *ctx, uint64_t addr, uint32_t size_class);   /* 1, 0, or a negative errno: unknown, believed alive */
};

enum mapping_kind { MAPPING_MMAP, MAPPING_HEAP, MAPPING_PAGE, MAPPING_POOL, MAPPING_ARENA_PAGE };

typedef void (*mappings_fn)(void *ctx, enum mapping_kind kind, uint32_t stack, uint64_t bytes, uint64_t time_ns);
/* What is gone is passed over. witness may be NULL (the process is gone): what is known then stands. */
void mappings_visit(struct mappings *mappings, const struct mappings_witness *witness, mappings_fn fn, void *ctx);

uint64_t mappings_arenas_allocated(const struct mappings *mappings);
uint64_t mappings_arenas_freed(const struct mappings *mappings);
