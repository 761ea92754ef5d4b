/* SPDX-License-Identifier: MIT */
/*
 * The cache of types, for files of interp/ that ask it for every block of a heap: answers without a call. Private to this folder;
 * what holds is in types.c.
 */
#pragma once

#include "interp/arenas.h"
#include "interp/python_impl.h"
#include "interp/types.h"

#define TYPES_ANSWERS_LOG2 14u
#define TYPES_ANSWERS (1u << TYPES_ANSWERS_LOG2)
#define TYPES_ADDR_MIN 4096u
#define TYPES_ADDR_END (1ull << 47)
#define TYPES_DEBUG_FRONT 16u     /* size, id, guard (Objects/obmalloc.c, _PyMem_DebugRawAlloc) */
#define TYPES_DEBUG_BACK 8u

/* What must stay as it was for a type to be still the same. */
struct type_identity {
	uint64_t type, name, base, dict, basicsize, itemsize;
};

struct type_entry {
	struct type_facts facts;
	struct type_identity identity;
	const char *name;
	uint32_t epoch;       /* in which it was confirmed last */
};

struct type_answer {
	uint64_t addr;
	uint32_t id, epoch;
};

struct types {
	const struct python *python;
	struct arenas *arenas;
	struct intern *names;
	struct map64 *by_addr;   /* uint32_t id */
	struct type_entry *entries;   /* [0] unused */
	uint32_t count, room;
	uint32_t epoch;
	bool debug_hooks;
	uint64_t refused;
	struct type_answer answers[TYPES_ANSWERS];
};

/* What types_find() does after a look at the answers. */
uint32_t types_find_slowly(struct types *types, raddr_t addr);

static inline struct type_answer *types_answer(struct types *types, raddr_t addr)
{
	return &types->answers[(addr.v * 0x9e3779b97f4a7c15ull) >> (64 - TYPES_ANSWERS_LOG2)];
}

static inline uint32_t types_find_inline(struct types *types, raddr_t addr)
{
	const struct type_answer *answer = types_answer(types, addr);

	return answer->addr == addr.v && answer->epoch == types->epoch ? answer->id : types_find_slowly(types, addr);
}

static inline const struct type_facts *types_facts_inline(const struct types *types, uint32_t id)
{
	return id && id <= types->count ? &types->entries[id].facts : NULL;
}
