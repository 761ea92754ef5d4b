/* SPDX-License-Identifier: MIT */
/*
 * See key_tables.h. Invariant: a dict's word is believed only if a live block of
 * that size that is no object begins there. Limits: a table that a dict took
 * after it was made is charged to the dict's line, too.
 */
#include "track/key_tables.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/map64.h"
#include "interp/dict_keys.h"

#define BATCH 512

struct list {
	struct survivor *blocks;
	size_t count, cap;
	struct types *types;
	int error;
};

static void list_add(struct list *list, const struct survivor *b)
{
	if (list->count == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 256;
		void *grown = reallocarray(list->blocks, cap, sizeof(*b));

		if (!grown) {
			list->error = -ENOMEM;
			return;
		}
		list->blocks = grown;
		list->cap = cap;
	}
	list->blocks[list->count++] = *b;
}

static void take_dict(void *ctx, const struct survivor *b)
{
	struct list *dicts = ctx;

	if (b->object && b->type && !strcmp(types_name(dicts->types, b->type), "dict"))
		list_add(dicts, b);
}

/* What the dict says, as if the table had been seen with it. */
static void propose(struct list *tables, const struct survivor *dict, uint64_t keys, uint64_t table_size)
{
	struct survivor table = *dict;

	table.addr = keys;
	table.size = (uint32_t)table_size;
	table.type = 0;
	table.print = 0;
	table.block_bytes = 0;
	list_add(tables, &table);
}

static void propose_all(const struct python *python, const struct list *dicts, uint64_t table_size, struct list *tables)
{
	uint64_t addrs[BATCH], keys[BATCH][2];

	for (size_t done = 0, n; done < dicts->count; done += n) {
		for (n = 0; n < BATCH && done + n < dicts->count; n++)
			addrs[n] = dicts->blocks[done + n].addr;
		dict_keys_read(python, addrs, n, keys);
		/* A plain dict has nothing before its GC head. */
		for (size_t i = 0; i < n; i++)
			if (keys[i][0])
				propose(tables, &dicts->blocks[done + i], keys[i][0], table_size);
	}
}

/* Keeps those that are live blocks of their size and no objects. */
static int keep_tables(struct list *tables, struct blocks *blocks)
{
	_cleanup_(freep) struct block_look *looks = calloc(tables->count + 1, sizeof(*looks));
	size_t kept = 0;
	int r;

	if (!looks)
		return -ENOMEM;
	for (size_t i = 0; i < tables->count; i++)
		looks[i] = (struct block_look){ .addr = RADDR(tables->blocks[i].addr), .size = tables->blocks[i].size };
	r = blocks_look(blocks, looks, tables->count);
	for (size_t i = 0; i < tables->count && r >= 0; i++)
		if (looks[i].state == BLOCK_LIVE && !looks[i].type)
			tables->blocks[kept++] = tables->blocks[i];
	tables->count = kept;
	return r < 0 ? r : 0;
}

static int compare_addresses(const void *pa, const void *pb)
{
	const struct survivor *a = pa, *b = pb;

	return (a->addr > b->addr) - (a->addr < b->addr);
}

/* Those that two dicts share belong to a class: its instances' dicts. */
static void drop_shared(struct list *tables)
{
	size_t kept = 0, same;

	if (tables->count)
		qsort(tables->blocks, tables->count, sizeof(*tables->blocks), compare_addresses);
	for (size_t i = 0; i < tables->count; i += same) {
		for (same = 1; i + same < tables->count && tables->blocks[i + same].addr == tables->blocks[i].addr; same++)
			;
		if (same == 1)
			tables->blocks[kept++] = tables->blocks[i];
	}
	tables->count = kept;
}

int key_tables_charge(struct survivors *survivors, struct types *types, struct blocks *blocks, uint64_t table_size)
{
	struct list dicts = { .types = types }, tables = { .types = types };
	int r = survivors_set_owned(survivors, NULL, 0);

	survivors_visit(survivors, take_dict, &dicts);
	propose_all(types_python(types), &dicts, table_size, &tables);
	r = r ?: dicts.error ?: tables.error ?: keep_tables(&tables, blocks);
	if (!r) {
		drop_shared(&tables);
		r = survivors_set_owned(survivors, tables.blocks, tables.count);
	}
	free(dicts.blocks);
	free(tables.blocks);
	return r;
}
