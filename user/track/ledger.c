/* SPDX-License-Identifier: MIT */
#include "track/ledger.h"

#include <errno.h>
#include <stdbool.h>

#include "base/map64.h"

struct ledger {
	struct map64 *blocks;   /* block_key() -> struct block */
	struct map64 *limbo;    /* tid -> struct limbo: old blocks of reallocs under way */
	uint64_t unknown_frees, replaced;
};

struct limbo {
	uint64_t key;
	struct block block;
};

/* Addresses are 8-aligned: the low bits are free for nothing, the high ones for the target. */
static uint64_t block_key(uint32_t target, uint64_t addr)
{
	return NURSERY_KEY(target, addr);
}

int ledger_new(struct ledger **ret_ledger)
{
	_cleanup_(ledger_freep) struct ledger *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	r = map64_new(sizeof(struct block), &l->blocks);
	if (!r)
		r = map64_new(sizeof(struct limbo), &l->limbo);
	if (r)
		return r;
	*ret_ledger = take_ptr(l);
	return 0;
}

void ledger_free(struct ledger *l)
{
	if (!l)
		return;
	map64_free(l->blocks);
	map64_free(l->limbo);
	free(l);
}

int ledger_on_alloc(struct ledger *l, const struct event_alloc *e, uint32_t stack)
{
	bool fresh;
	struct block *b = map64_put(l->blocks, block_key(e->hdr.target, e->addr), &fresh);

	if (!b)
		return -ENOMEM;
	if (!fresh)
		l->replaced++;
	*b = (struct block){ .size = e->size, .stack = stack, .time_ns = e->hdr.time_ns };
	return 0;
}

int ledger_on_free(struct ledger *l, const struct event_block *e)
{
	uint64_t key = block_key(e->hdr.target, e->addr);
	struct limbo *limbo;
	struct block b;

	if (!map64_remove(l->blocks, key, &b)) {
		l->unknown_frees++;
		return 0;
	}
	if (!(e->hdr.flags & EVENT_F_REALLOC))
		return 0;
	limbo = map64_put(l->limbo, e->tid, NULL);
	if (!limbo)
		return -ENOMEM;
	*limbo = (struct limbo){ .key = key, .block = b };
	return 0;
}

int ledger_on_realloc_failed(struct ledger *l, const struct event_block *e)
{
	const struct limbo *limbo = map64_get(l->limbo, e->tid);
	struct block *b;

	if (!limbo || limbo->key != block_key(e->hdr.target, e->addr))
		return 0;
	b = map64_put(l->blocks, limbo->key, NULL);
	if (!b)
		return -ENOMEM;
	*b = limbo->block;
	return 0;
}

void ledger_visit(const struct ledger *l, ledger_block_fn fn, void *ctx)
{
	const struct block *b;
	size_t cursor = 0;
	uint64_t key;

	while ((b = map64_next(l->blocks, &cursor, &key)))
		fn(ctx, NURSERY_TARGET(key), NURSERY_ADDR(key), b);
}

uint64_t ledger_count(const struct ledger *l)
{
	return map64_count(l->blocks);
}

uint64_t ledger_unknown_frees(const struct ledger *l)
{
	return l->unknown_frees;
}

uint64_t ledger_replaced(const struct ledger *l)
{
	return l->replaced;
}

size_t ledger_bytes(const struct ledger *l)
{
	return map64_bytes(l->blocks) + map64_bytes(l->limbo);
}
