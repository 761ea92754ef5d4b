/* SPDX-License-Identifier: GPL-2.0 */
/*
 * pymalloc's slow paths, which stay separate functions in every build and are
 * reached once a pool or an arena: a fresh pool for a size class, an arena from
 * the system, an arena given back. Cheap enough to be always on; nothing is
 * written into the target for them.
 */
#pragma once

#include "alloc.h"

/* The arena functions serve data-stack chunks, too (3.11+); user space tells them apart by size. */
static __always_inline void pools_on_arena_alloc(const struct hit *h, __u64 size)
{
	h->t->arena_sp = h->sp;
	h->t->arena_size = size;
}

static __always_inline void pools_on_arena_alloc_return(const struct hit *h, __u64 addr)
{
	struct thread_state *t = h->t;

	if (!t->arena_sp || h->sp != t->arena_sp + sizeof(__u64))
		return;
	t->arena_sp = 0;
	if (addr)
		emit_block(EVENT_ARENA_ALLOC, 0, h->target, addr, t->arena_size, emit_stack(h->cfg, h->target, 1, &t->walk),
			   STAT_LOST_OTHER);
}

static __always_inline void pools_on_arena_free(const struct hit *h, __u64 addr, __u64 size)
{
	emit_block(EVENT_ARENA_FREE, 0, h->target, addr, size, 0, STAT_LOST_OTHER);
}

/* allocate_from_new_pool(class) up to 3.11, (state, class) from 3.12: the cookie says which argument. */
static __always_inline void pools_on_pool(const struct hit *h, __u64 first, __u64 second)
{
	h->t->pool_sp = h->sp;
	h->t->pool_class = h->arg ? second : first;
}

static __always_inline void pools_on_pool_return(const struct hit *h, __u64 addr)
{
	struct thread_state *t = h->t;

	if (!t->pool_sp || h->sp != t->pool_sp + sizeof(__u64))
		return;
	t->pool_sp = 0;
	if (addr)
		emit_block(EVENT_POOL, 0, h->target, addr, t->pool_class, emit_stack(h->cfg, h->target, 1, &t->walk), STAT_LOST_OTHER);
}
