/* SPDX-License-Identifier: MIT */
/*
 * Text lies in chunks that never move; a table of entries gives id -> string,
 * a hash table of ids + 1 (0: empty, linear probing, at most half full) gives
 * string -> id. Nothing is ever taken out.
 */
#include "base/intern.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define CHUNK_SIZE ((size_t)256 << 10)
#define IDS_MAX (1u << 30)

struct chunk {
	struct chunk *next;
	size_t used, size;
	char text[];
};

struct entry {
	const char *s;
	uint32_t len;
	uint32_t hash;
};

struct intern {
	struct chunk *chunks;    /* the one being filled first */
	struct entry *entries;
	uint32_t count, size;    /* of entries */
	uint32_t *table;
	uint32_t mask;           /* slots of table - 1 */
	size_t bytes, max_bytes;
	uint64_t refused;
};

/* FNV-1a, then mixed, since the table takes the low bits. */
static uint32_t hash_of(const char *s, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)s[i]) * 0x100000001b3ull;
	return (uint32_t)((h * 0x9e3779b97f4a7c15ull) >> 32);
}

int intern_new(size_t max_bytes, struct intern **ret_intern)
{
	_cleanup_(intern_freep) struct intern *intern = calloc(1, sizeof(*intern));
	uint32_t id;
	int r;

	if (!intern)
		return -ENOMEM;
	intern->max_bytes = max_bytes;
	intern->size = 64;
	intern->mask = 127;
	intern->entries = calloc(intern->size, sizeof(*intern->entries));
	intern->table = calloc((size_t)intern->mask + 1, sizeof(*intern->table));
	if (!intern->entries || !intern->table)
		return -ENOMEM;
	intern->bytes = sizeof(*intern) + intern->size * sizeof(*intern->entries) + 128 * sizeof(*intern->table);
	r = intern_add(intern, "", 0, &id);
	if (r < 0)
		return r;
	*ret_intern = take_ptr(intern);
	return 0;
}

void intern_free(struct intern *intern)
{
	if (!intern)
		return;
	while (intern->chunks) {
		struct chunk *chunk = intern->chunks;

		intern->chunks = chunk->next;
		free(chunk);
	}
	free(intern->entries);
	free(intern->table);
	free(intern);
}

/* The slot of the string, or the empty one where it would go. */
static uint32_t *slot_of(const struct intern *intern, const char *s, size_t len, uint32_t hash)
{
	for (uint32_t i = hash & intern->mask;; i = (i + 1) & intern->mask) {
		uint32_t *slot = &intern->table[i];
		const struct entry *entry;

		if (!*slot)
			return slot;
		entry = &intern->entries[*slot - 1];
		if (entry->hash == hash && entry->len == len && !memcmp(entry->s, s, len))
			return slot;
	}
}

static bool may_hold(const struct intern *intern, size_t more)
{
	return intern->bytes <= intern->max_bytes && more <= intern->max_bytes - intern->bytes;
}

static int grow_tables(struct intern *intern)
{
	size_t more = intern->size * sizeof(*intern->entries) + ((size_t)intern->mask + 1) * sizeof(*intern->table);
	struct entry *entries;
	uint32_t *table;
	uint32_t mask = intern->mask * 2 + 1;

	if (intern->size >= IDS_MAX || !may_hold(intern, more))
		return -ENOSPC;
	table = calloc((size_t)mask + 1, sizeof(*table));
	if (!table)
		return -ENOMEM;
	entries = reallocarray(intern->entries, (size_t)intern->size * 2, sizeof(*entries));
	if (!entries) {
		free(table);
		return -ENOMEM;
	}
	intern->entries = entries;
	intern->size *= 2;
	for (uint32_t id = 0; id < intern->count; id++) {
		uint32_t i = entries[id].hash & mask;

		while (table[i])
			i = (i + 1) & mask;
		table[i] = id + 1;
	}
	free(intern->table);
	intern->table = table;
	intern->mask = mask;
	intern->bytes += more;
	return 0;
}

static int text_room(struct intern *intern, size_t len)
{
	struct chunk *chunk = intern->chunks;
	size_t size = CHUNK_SIZE;

	if (chunk && chunk->size - chunk->used > len)
		return 0;
	/* Near the bound take just what is asked. */
	if (!may_hold(intern, sizeof(*chunk) + size))
		size = len + 1;
	if (!may_hold(intern, sizeof(*chunk) + size))
		return -ENOSPC;
	chunk = malloc(sizeof(*chunk) + size);
	if (!chunk)
		return -ENOMEM;
	*chunk = (struct chunk){ .next = intern->chunks, .size = size };
	intern->chunks = chunk;
	intern->bytes += sizeof(*chunk) + size;
	return 0;
}

static size_t clip(const char *s, size_t len)
{
	return strnlen(s, len < INTERN_STRING_MAX ? len : INTERN_STRING_MAX);
}

int intern_add(struct intern *intern, const char *s, size_t len, uint32_t *ret_id)
{
	uint32_t hash, *slot;
	struct chunk *chunk;
	int r = 0;

	len = clip(s, len);
	hash = hash_of(s, len);
	slot = slot_of(intern, s, len, hash);
	if (*slot) {
		*ret_id = *slot - 1;
		return 0;
	}
	if (intern->count == intern->size)
		r = grow_tables(intern);
	if (!r)
		r = text_room(intern, len);
	if (r < 0) {
		intern->refused++;
		return r;
	}
	chunk = intern->chunks;
	intern->entries[intern->count] = (struct entry){ chunk->text + chunk->used, (uint32_t)len, hash };
	memcpy(chunk->text + chunk->used, s, len);
	chunk->text[chunk->used + len] = '\0';
	chunk->used += len + 1;
	*slot_of(intern, s, len, hash) = ++intern->count;
	*ret_id = intern->count - 1;
	return 0;
}

int intern_find(const struct intern *intern, const char *s, size_t len, uint32_t *ret_id)
{
	uint32_t *slot;

	len = clip(s, len);
	slot = slot_of(intern, s, len, hash_of(s, len));
	if (!*slot)
		return -ENOENT;
	*ret_id = *slot - 1;
	return 0;
}

const char *intern_str(const struct intern *intern, uint32_t id)
{
	return id < intern->count ? intern->entries[id].s : "";
}

const char *intern_cstr(struct intern *intern, const char *s)
{
	uint32_t id;

	return intern_add(intern, s, strlen(s), &id) < 0 ? NULL : intern->entries[id].s;
}

uint32_t intern_count(const struct intern *intern)
{
	return intern->count;
}

size_t intern_bytes(const struct intern *intern)
{
	return intern->bytes;
}

uint64_t intern_refused(const struct intern *intern)
{
	return intern->refused;
}
