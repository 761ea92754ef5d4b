/* SPDX-License-Identifier: MIT */
/* Where the states of pymalloc are in a process. Private to interp/. */
#pragma once

#include "interp/python_impl.h"

#define OBMALLOC_UNKNOWN UINT64_MAX

struct obmalloc_state {
	raddr_t interp;            /* whose it is: of those that share it, the oldest (the main one) */
	raddr_t used;              /* usedpools; null: not found */
	raddr_t arenas;            /* array of arena_object */
	uint32_t maxarenas;        /* its length, <= ARENAS_MAX */
	uint64_t raw_blocks;       /* OBMALLOC_UNKNOWN: not counted (3.8) */
	uint64_t highwater;        /* OBMALLOC_UNKNOWN: not found */
	uint64_t counter;          /* 3.8: all blocks; else OBMALLOC_UNKNOWN */
};

#define ARENAS_MAX (1u << 20)
#define OBMALLOC_STATES_MAX MAX_INTERPRETERS

/* The states that have arenas, each once. Returns the count (0: pymalloc unused) or a negative errno. */
ssize_t obmalloc_states(const struct python *python, struct obmalloc_state *ret_states, size_t max);
/* The state interp allocates from. -ENOENT if it has none. */
int obmalloc_state_of(const struct python *python, raddr_t interp, struct obmalloc_state *ret_state);
/* What of a state that has no arenas is written next, 8-aligned: the pointer to their array, or its length. -ENOENT: static variables. */
int obmalloc_arenas_slot(const struct python *python, raddr_t interp, raddr_t *ret_slot);
bool obmalloc_in_use(const struct python *python);
/* Does usedpools stand at addr? Every entry must be itself (an empty class) or a pool of its class. */
bool obmalloc_is_used(const struct python *python, raddr_t addr);
/* First pool of an arena, and the number of pools from there to end; 0 if the entry makes no sense. */
struct arena_entry {
	uint64_t address, pool_address;
	uint32_t nfreepools, ntotalpools;
};
bool arena_parse(const struct layout *layout, const uint8_t *bytes, struct arena_entry *ret_arena);
uint64_t arena_first_pool(const struct layout *layout, const struct arena_entry *arena);
/* The headers of the pools of one arena that were carved, as read; the parsing and the doubts. */
#define ARENA_POOLS_MAX 256u    /* of one arena: 128 in a 2 MiB arena of 16 KiB pools */
#define POOL_HEADER_BYTES_MAX 64u
struct pool_headers {
	uint64_t first, carved;      /* address of the first pool, pools carved */
	uint8_t bytes[ARENA_POOLS_MAX * POOL_HEADER_BYTES_MAX];
};
struct pool_entry {
	uint32_t count, szidx;
};
/* -EPROTO: makes no sense, -EFAULT: unmapped since its entry was read. arena NULL: -EPROTO. */
int pool_headers_read(const struct python *python, const struct arena_entry *arena, struct pool_headers *ret_headers);
struct pool_entry pool_headers_get(const struct layout *layout, const struct pool_headers *headers, uint64_t i);
bool pool_makes_sense(const struct layout *layout, const struct pool_entry *pool);
/* Do an entry, a header, a pool of this layout fit what this code has room for? */
bool obmalloc_fits_limits(const struct layout *layout);
/*
 * Calls fn for each entry of the array of arenas that is in use, index being its place; arena NULL: it made no sense. fn returns a negative errno to
 * stop. -EAGAIN: the array moved.
 */
typedef int (*arena_fn)(const struct python *python, const struct arena_entry *arena, uint32_t index, void *ctx);
int arena_entries_visit(const struct python *python, const struct obmalloc_state *state, arena_fn fn, void *ctx);
/* One of them again. -ENOENT: not in use; -EPROTO: makes no sense; -EFAULT: the array moved. */
int arena_entry_read(const struct python *python, const struct obmalloc_state *state, uint32_t index, struct arena_entry *ret_arena);

/* Bytes of one arena of this build, by its pool count (2 MiB with --with-pymalloc-hugepages). */
uint64_t arena_bytes(const struct layout *layout, const struct arena_entry *arena);
