/* SPDX-License-Identifier: MIT */
/*
 * A hash map from 64-bit keys to values of one fixed size, kept by value:
 * the ledger of live blocks is one, so it is built for tens of millions of
 * entries. 8 bytes a slot beside the value (rounded up to 8), at most three
 * quarters of the slots in use, at least three eighths after growing.
 *
 * Pointers to values are good until the next map64_put() or map64_remove().
 * The map never shrinks; map64_clear() gives its memory back.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct map64;

/* value_size in bytes; 0 makes a set. -ENOMEM; -EINVAL if value_size is over 64 KiB. */
int map64_new(size_t value_size, struct map64 **ret_map);
void map64_free(struct map64 *map);
DEFINE_CLEANUP(struct map64, map64_free)

/* The value of key (8-aligned), or NULL. In a set: a pointer that must not be followed. */
void *map64_get(const struct map64 *map, uint64_t key);
/* The same, made and zeroed if the key is new (*ret_new, which may be NULL, tells). NULL: -ENOMEM, and the map is as it was. */
void *map64_put(struct map64 *map, uint64_t key, bool *ret_new);
/* Takes the key out. Returns whether it was there, and then copies its value to ret_value unless that is NULL. */
bool map64_remove(struct map64 *map, uint64_t key, void *ret_value);
/* Forgets all entries and gives the memory back. */
void map64_clear(struct map64 *map);

/*
 * Walks all entries in no particular order, which depends only on what was done to the map:
 *     size_t cursor = 0; uint64_t key; struct block *block;
 *     while ((block = map64_next(map, &cursor, &key)))
 * Values may be changed on the way; no key may be put or removed.
 */
void *map64_next(const struct map64 *map, size_t *cursor, uint64_t *ret_key);

size_t map64_count(const struct map64 *map);
/* Bytes of memory held. */
size_t map64_bytes(const struct map64 *map);
