/* SPDX-License-Identifier: MIT */
/*
 * Open addressing, linear probing, deletion by shifting back, so that there
 * are no tombstones and a lookup never gets slower with the age of the map.
 *
 *   slots: | key | value | key | value | ...      key 0: the slot is empty
 *
 * Invariants: every key stands at or after its home slot with no empty slot
 * between; used <= 3/4 of the slots; the value of key 0 itself lives beside
 * the table, since 0 marks an empty slot.
 *
 * Limit: the hash has no seed, so that runs repeat. A target that picks its
 * addresses to collide slows its own report down and harms nothing else.
 */
#include "base/map64.h"

#include <errno.h>
#include <string.h>

#define SLOTS_MIN 16
#define VALUE_MAX 65536

struct map64 {
	uint8_t *slots;
	size_t mask;        /* slots - 1; meaningless while slots == NULL */
	size_t used;        /* without key 0 */
	size_t value_size;
	size_t stride;
	bool has_zero;
	_Alignas(8) uint8_t zero[];  /* value of key 0 */
};

static inline uint64_t *slot_at(const struct map64 *map, size_t index)
{
	return (uint64_t *)(void *)(map->slots + index * map->stride);
}

/* Both halves of a 128-bit product, folded: aligned addresses, small integers and hashes all spread well. */
static inline size_t home_of(const struct map64 *map, uint64_t key)
{
	unsigned __int128 product = (unsigned __int128)(key ^ 0x5851f42d4c957f2dull) * 0x9e3779b97f4a7c15ull;

	return (size_t)((uint64_t)product ^ (uint64_t)(product >> 64)) & map->mask;
}

int map64_new(size_t value_size, struct map64 **ret_map)
{
	struct map64 *map;
	size_t padded = (value_size + 7) & ~(size_t)7;

	if (value_size > VALUE_MAX)
		return -EINVAL;
	map = calloc(1, sizeof(*map) + padded + 8);
	if (!map)
		return -ENOMEM;
	map->value_size = value_size;
	map->stride = sizeof(uint64_t) + padded;
	*ret_map = map;
	return 0;
}

void map64_free(struct map64 *map)
{
	if (!map)
		return;
	free(map->slots);
	free(map);
}

/* The slot of key, or the empty one where it would go. There is always an empty slot. */
static uint64_t *slot_find(const struct map64 *map, uint64_t key)
{
	size_t i = home_of(map, key);

	for (;; i = (i + 1) & map->mask) {
		uint64_t *slot = slot_at(map, i);

		if (*slot == key || !*slot)
			return slot;
	}
}

void *map64_get(const struct map64 *map, uint64_t key)
{
	uint64_t *slot;

	if (!key)
		return map->has_zero ? (void *)map->zero : NULL;
	if (!map->slots)
		return NULL;
	slot = slot_find(map, key);
	return *slot ? slot + 1 : NULL;
}

static int map64_grow(struct map64 *map)
{
	struct map64 bigger = *map;
	size_t slots = map->slots ? (map->mask + 1) * 2 : SLOTS_MIN;

	if (!slots)
		return -ENOMEM;
	bigger.mask = slots - 1;
	bigger.slots = calloc(slots, map->stride);
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; map->slots && i <= map->mask; i++) {
		uint64_t *slot = slot_at(map, i);

		if (*slot)
			memcpy(slot_find(&bigger, *slot), slot, map->stride);
	}
	free(map->slots);
	map->slots = bigger.slots;
	map->mask = bigger.mask;
	return 0;
}

static void *put_zero(struct map64 *map, bool *ret_new)
{
	if (ret_new)
		*ret_new = !map->has_zero;
	if (!map->has_zero)
		memset(map->zero, 0, map->value_size);
	map->has_zero = true;
	return map->zero;
}

void *map64_put(struct map64 *map, uint64_t key, bool *ret_new)
{
	uint64_t *slot = NULL;

	if (!key)
		return put_zero(map, ret_new);
	if (map->slots)
		slot = slot_find(map, key);
	if (slot && *slot == key) {
		if (ret_new)
			*ret_new = false;
		return slot + 1;
	}
	if (!slot || map->used + 1 > (map->mask + 1) / 4 * 3) {
		if (map64_grow(map) < 0)
			return NULL;
		slot = slot_find(map, key);
	}
	*slot = key;
	memset(slot + 1, 0, map->stride - sizeof(*slot));
	map->used++;
	if (ret_new)
		*ret_new = true;
	return slot + 1;
}

/* Closes the hole at index i: whatever stands after it, in its run, and may stand there moves up. */
static void close_hole(struct map64 *map, size_t i)
{
	for (size_t j = (i + 1) & map->mask;; j = (j + 1) & map->mask) {
		uint64_t *slot = slot_at(map, j);

		if (!*slot)
			break;
		if (((j - home_of(map, *slot)) & map->mask) < ((j - i) & map->mask))
			continue;
		memcpy(slot_at(map, i), slot, map->stride);
		i = j;
	}
	*slot_at(map, i) = 0;
}

bool map64_remove(struct map64 *map, uint64_t key, void *ret_value)
{
	void *value = map64_get(map, key);

	if (!value)
		return false;
	if (ret_value)
		memcpy(ret_value, value, map->value_size);
	if (!key) {
		map->has_zero = false;
		return true;
	}
	close_hole(map, (size_t)((uint8_t *)value - sizeof(uint64_t) - map->slots) / map->stride);
	map->used--;
	return true;
}

void map64_clear(struct map64 *map)
{
	free(map->slots);
	map->slots = NULL;
	map->used = 0;
	map->has_zero = false;
}

/* Cursor 0 stands for key 0, cursor n for slot n - 1. */
void *map64_next(const struct map64 *map, size_t *cursor, uint64_t *ret_key)
{
	if (*cursor == 0) {
		*cursor = 1;
		if (map->has_zero) {
			*ret_key = 0;
			return (void *)map->zero;
		}
	}
	while (map->slots && *cursor <= map->mask + 1) {
		uint64_t *slot = slot_at(map, *cursor - 1);

		(*cursor)++;
		if (*slot) {
			*ret_key = *slot;
			return slot + 1;
		}
	}
	return NULL;
}

size_t map64_count(const struct map64 *map)
{
	return map->used + map->has_zero;
}

size_t map64_bytes(const struct map64 *map)
{
	return sizeof(*map) + map->stride + (map->slots ? (map->mask + 1) * map->stride : 0);
}
