/* SPDX-License-Identifier: MIT */
/* Where the states of pymalloc are in a process. Private to interp/. */
#pragma once

#include "interp/python_impl.h"

#define OBMALLOC_UNKNOWN UINT64_MAX

struct obmalloc_state {
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
/* Bytes of one arena of this build, by its pool count (2 MiB with --with-pymalloc-hugepages). */
uint64_t arena_bytes(const struct layout *layout, const struct arena_entry *arena);
