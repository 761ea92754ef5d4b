/* SPDX-License-Identifier: MIT */
/*
 * See owners.h. Invariant: a table is charged once, to one dict. What a dict
 * says of its table is believed only if a live block of that size begins there.
 * Limits: DICTS_MAX dicts a look; the rest counts as unseen.
 */
#include "track/owners.h"

#include <errno.h>

#include "base/map64.h"

#define DICTS_MAX (1u << 22)
#define BATCH 512

struct table {
	struct block block;
	bool owned;
	uint8_t reserved[7];
};

struct dict {
	uint64_t addr;
	uint32_t target;
	bool has_table;
	struct block block;
};

struct owners {
	uint64_t table_size;
	struct map64 *tables;   /* NURSERY_KEY() -> struct table */
	struct dict *dicts;
	size_t count, cap;
};

int owners_new(struct owners **ret_owners)
{
	_cleanup_(owners_freep) struct owners *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return -ENOMEM;
	r = map64_new(sizeof(struct table), &o->tables);
	if (r)
		return r;
	*ret_owners = take_ptr(o);
	return 0;
}

void owners_free(struct owners *o)
{
	if (!o)
		return;
	map64_free(o->tables);
	free(o->dicts);
	free(o);
}

void owners_set_table_size(struct owners *o, uint64_t size)
{
	o->table_size = size;
}

static void note_dict(struct owners *o, uint32_t target, uint64_t addr, const struct block *block)
{
	if (o->count == o->cap) {
		size_t cap = o->cap ? o->cap * 2 : 256;
		void *dicts = cap > DICTS_MAX ? NULL : reallocarray(o->dicts, cap, sizeof(*o->dicts));

		if (!dicts)
			return;
		o->dicts = dicts;
		o->cap = cap;
	}
	o->dicts[o->count++] = (struct dict){ .addr = addr, .target = target, .block = *block };
}

bool owners_take(struct owners *o, uint32_t target, uint64_t addr, const struct block *block)
{
	struct table *table;

	if (!o->table_size)
		return false;
	if (block->flags & EVENT_F_DICT)
		note_dict(o, target, addr, block);
	if (block->flags & EVENT_F_OBJECT || block->size != o->table_size)
		return false;
	table = map64_put(o->tables, NURSERY_KEY(target, addr), NULL);
	if (!table)
		return false;
	*table = (struct table){ .block = *block };
	return true;
}

static bool own(struct owners *o, struct dict *dict, uint64_t keys)
{
	struct table *table = keys ? map64_get(o->tables, NURSERY_KEY(dict->target, keys)) : NULL;

	if (!table || table->owned)
		return false;
	table->owned = dict->has_table = true;
	table->block.stack = dict->block.stack;
	if (dict->block.time_ns > table->block.time_ns)
		table->block.time_ns = dict->block.time_ns;
	return true;
}

/* The dicts from first on that are of one target, at most BATCH. Returns their number. */
static size_t resolve_batch(struct owners *o, size_t first, owners_read_fn read, void *ctx)
{
	uint64_t addrs[BATCH], keys[BATCH][OWNERS_KEYS];
	size_t n = 0;

	for (; n < BATCH && first + n < o->count && o->dicts[first + n].target == o->dicts[first].target; n++)
		addrs[n] = o->dicts[first + n].addr;
	read(ctx, o->dicts[first].target, addrs, n, keys);
	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < OWNERS_KEYS && !own(o, &o->dicts[first + i], keys[i][k]); k++)
			;
	return n;
}

void owners_resolve(struct owners *o, owners_read_fn read, void *ctx)
{
	if (!read || !map64_count(o->tables))
		return;
	for (size_t i = 0; i < o->count; i += resolve_batch(o, i, read, ctx))
		;
}

void owners_visit(const struct owners *o, owners_table_fn on_table, owners_dict_fn on_bare_dict, void *ctx)
{
	const struct table *table;
	size_t cursor = 0;
	uint64_t key;

	while ((table = map64_next(o->tables, &cursor, &key)))
		on_table(ctx, &table->block, table->owned);
	for (size_t i = 0; i < o->count; i++)
		if (!o->dicts[i].has_table)
			on_bare_dict(ctx, &o->dicts[i].block);
}

void owners_clear(struct owners *o)
{
	map64_clear(o->tables);
	o->count = 0;
}
