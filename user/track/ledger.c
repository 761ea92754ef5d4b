/* SPDX-License-Identifier: MIT */
#include "track/ledger.h"

#include <errno.h>
#include <stdbool.h>

#include "../bpf/control.h"
#include "base/map64.h"

#define ADDRESS_BITS 47

struct ledger {
	struct map64 *blocks;   /* block_key() -> struct block */
	struct map64 *limbo;    /* tid -> struct limbo: old blocks of reallocs under way */
	uint64_t unknown_frees, replaced;
};

struct limbo {
	uint64_t key;
	struct block block;
};

/* False for what would spill into the key of another process: no user address is that high, no target index that large. */
static bool block_key(const struct event_hdr *hdr, uint64_t addr, uint64_t *ret_key)
{
	if (hdr->target >= MAX_TARGETS || addr >> ADDRESS_BITS)
		return false;
	*ret_key = NURSERY_KEY(hdr->target, addr);
	return true;
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
	struct block *b;
	uint64_t key;
	bool fresh;

	if (!block_key(&e->hdr, e->addr, &key))
		return -EBADMSG;
	b = map64_put(l->blocks, key, &fresh);
	if (!b)
		return -ENOMEM;
	if (!fresh)
		l->replaced++;
	*b = (struct block){ .size = e->size, .stack = stack, .flags = e->hdr.flags & (EVENT_F_OBJECT | EVENT_F_DICT),
			     .time_ns = e->hdr.time_ns };
	return 0;
}

int ledger_on_free(struct ledger *l, const struct event_block *e)
{
	bool is_realloc = e->hdr.flags & EVENT_F_REALLOC;
	struct limbo *limbo;
	struct block b;
	uint64_t key;

	if (!block_key(&e->hdr, e->addr, &key))
		return -EBADMSG;
	/* Whatever this thread reallocated before has come to its end. */
	if (is_realloc)
		map64_remove(l->limbo, e->tid, NULL);
	if (!map64_remove(l->blocks, key, &b)) {
		l->unknown_frees++;
		return 0;
	}
	if (!is_realloc)
		return 0;
	limbo = map64_put(l->limbo, e->tid, NULL);
	if (!limbo)
		return -ENOMEM;
	*limbo = (struct limbo){ .key = key, .block = b };
	return 0;
}

int ledger_on_realloc_failed(struct ledger *l, const struct event_block *e)
{
	struct limbo limbo;
	struct block *b;
	uint64_t key;

	if (!block_key(&e->hdr, e->addr, &key))
		return -EBADMSG;
	if (!map64_remove(l->limbo, e->tid, &limbo) || limbo.key != key)
		return 0;
	b = map64_put(l->blocks, key, NULL);
	if (!b)
		return -ENOMEM;
	*b = limbo.block;
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
