/* SPDX-License-Identifier: MIT */
/*
 * Whose the key tables of dicts are. CPython keeps freed tables of the smallest
 * size in a free list of its own, which no allocator hook and no reference tracer
 * sees: such a block carries the line that first allocated it, whoever uses it
 * now. So each is charged to the dict that holds it, found by reading the dicts
 * whose creation was seen (3.13+). A table without such a dict keeps its line,
 * second-hand.
 *
 *   owners_take for each live block; owners_resolve; owners_visit; owners_clear
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "track/ledger.h"

struct owners;

/* The key tables that count dicts refer to, dict i in the block addrs[i]; OWNERS_KEYS candidates each, 0: none. */
#define OWNERS_KEYS 2
typedef void (*owners_read_fn)(void *ctx, uint32_t target, const uint64_t *addrs, size_t count, uint64_t (*ret_keys)[OWNERS_KEYS]);

int owners_new(struct owners **ret_owners);
void owners_free(struct owners *owners);
DEFINE_CLEANUP(struct owners, owners_free)

/* Bytes of a key table of the size that goes through the free list. 0, as at first: none does, or nobody tells of objects. */
void owners_set_table_size(struct owners *owners, uint64_t size);

/* Looks at a live block. True: it is a key table and waits for owners_visit(); false: it is the caller's. */
bool owners_take(struct owners *owners, uint32_t target, uint64_t addr, const struct block *block);
/* Finds the dict of each table; read NULL: of none. */
void owners_resolve(struct owners *owners, owners_read_fn read, void *ctx);

/* owned: block carries its dict's stack, and the later time of both. */
typedef void (*owners_table_fn)(void *ctx, const struct block *block, bool owned);
/* A dict that no table was charged to. */
typedef void (*owners_dict_fn)(void *ctx, const struct block *dict);
void owners_visit(const struct owners *owners, owners_table_fn on_table, owners_dict_fn on_bare_dict, void *ctx);
void owners_clear(struct owners *owners);
