/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The allocator functions of the raw, mem and obj domains: probes on their
 * aliases (or bodies) at entry, and on their return.
 *
 * One block, one record: obj and mem hand blocks over 512 bytes on to raw, so a
 * raw call inside an obj or mem call of the same thread is theirs and is not
 * counted again. A call is known by its stack pointer: a nested one has a lower
 * one, a tail call the same. A call that never returned (a signal handler's
 * longjmp) is noticed when a later one stands as high on the stack.
 *
 * Small blocks of pymalloc need no return probe (predict.h). Where no pool has
 * room, allocate_from_new_pool() returns the block; where it is larger, the raw
 * domain does: those two rare returns stand for the call's own.
 *
 * A free is recorded before the memory is given back and an allocation after it
 * was obtained, so that another thread that gets the same address comes after.
 */
#pragma once

#include "destroyed.h"
#include "nursery.h"
#include "predict.h"
#include "thread.h"
#include "window.h"

/* One hit of a probe. */
struct hit {
	const struct target_cfg *cfg;
	struct thread_state *t;
	struct window *window;   /* sampled mode; else NULL */
	__u32 target;
	__u32 arg;               /* COOKIE_ARG() */
	__u64 sp;
	__u64 now_ns;
};

static __always_inline int alloc_is_nested(const struct thread_state *t, __u64 sp, __u32 domain)
{
	return t->sp && sp <= t->sp && domain == DOMAIN_RAW && t->domain != DOMAIN_RAW;
}

static __always_inline void alloc_enter(const struct hit *h, __u64 size)
{
	struct thread_state *t = h->t;

	if (t->sp && t->sp != h->sp)
		count(h->target, STAT_LOST_RETURN);
	t->sp = h->sp;
	t->size = size;
	t->domain = h->arg;
	t->is_realloc = 0;
	t->predicted = 0;
	t->freed = 0;
}

/* The call under way got its block. */
static __always_inline void alloc_done(const struct hit *h, __u64 tstate, __u64 addr)
{
	struct thread_state *t = h->t;
	__u64 flags = 0;

	t->sp = 0;
	count(h->target, STAT_ALLOCS);
	count_add(h->target, STAT_ALLOC_BYTES, t->size);
	if (t->domain != DOMAIN_RAW)
		count(h->target, STAT_OBJ_ALLOCS);
	if (h->window && t->domain == DOMAIN_RAW)
		flags = NURSERY_LARGE | (t->is_realloc && t->old ? NURSERY_REALLOC : 0);
	nursery_put(h->target, addr, t->size | flags, emit_stack_of(h->cfg, h->target, tstate, &t->walk), h->now_ns);
}

/*
 * Sampled mode leaves nothing always on, so no probe tells of a fresh pool: where it will be is read as well. What the raw domain serves
 * is the large group's, which has its own windows.
 */
static __always_inline void alloc_sample_small(const struct hit *h, __u64 size)
{
	__u64 tstate, addr;

	alloc_enter(h, size);
	tstate = walk_tstate(&h->cfg->walk, ARCH_FS_BASE(), h->sp, 1);
	addr = predict_block_or_fresh(h->cfg, tstate, size);
	if (addr) {
		alloc_done(h, tstate, addr);
	} else {
		h->t->sp = 0;
		count(h->target, STAT_UNPREDICTED);
	}
}

/* malloc and calloc */
static __always_inline void alloc_on_malloc(const struct hit *h, __u64 size)
{
	struct thread_state *t = h->t;
	__u64 tstate, addr;

	if (alloc_is_nested(t, h->sp, h->arg) && !(h->window && t->is_realloc)) {
		/* The radix tree's nodes, too, come from the raw domain, while a fresh pool is made: those are nobody's block. */
		if (t->predicted && t->size - 1 >= PREDICT_SIZE_MAX)
			t->raw_sp = h->sp;
		return;
	}
	if (h->window && h->arg != DOMAIN_RAW) {
		if (size > SMALL_SIZE_MAX)
			return;
		if (h->cfg->predict.kind != PREDICT_NONE) {
			alloc_sample_small(h, size);
			return;
		}
	}
	alloc_enter(h, size);
	if (h->arg == DOMAIN_RAW || h->cfg->predict.kind == PREDICT_NONE)
		return;
	t->predicted = 1;
	t->raw_sp = 0;
	tstate = walk_tstate(&h->cfg->walk, ARCH_FS_BASE(), h->sp, 1);
	addr = predict_block(h->cfg, tstate, size);
	if (addr)
		alloc_done(h, tstate, addr);
}

/* Bytes of a block as glibc keeps them right before it (malloc/malloc.c, chunksize()), without the header; 0: it does not look like that. */
static __always_inline __u64 alloc_chunk_size(__u64 addr)
{
	__u64 size = walk_read_u64(addr - sizeof(__u64)) & ~7ull;

	return size > 2 * sizeof(__u64) && size < 1ull << 44 ? size - sizeof(__u64) : 0;
}

/*
 * Sampled mode: who frees a large block that is older than its window, and how large it was. A container that grows takes a larger block and
 * gives back the smaller one, at the same line: only the difference is growth.
 */
static __always_inline void alloc_free_large(const struct hit *h, __u64 addr, __u16 flags)
{
	__u64 stack = emit_stack_of(h->cfg, h->target, walk_tstate(&h->cfg->walk, ARCH_FS_BASE(), h->sp, 0), &h->t->walk);

	emit_block(EVENT_FREE, flags | EVENT_F_LARGE, h->target, addr, alloc_chunk_size(addr), stack, STAT_LOST_FREE);
}

/* Forgets the block at addr: in the nursery, or by a FREE for the ledger. */
static __always_inline void alloc_free(const struct hit *h, __u64 addr, __u16 flags, struct nursery_slot *block)
{
	__u32 target = h->target;
	__u64 size;

	count(target, STAT_FREES);
	if (h->arg != DOMAIN_RAW)
		count(target, STAT_OBJ_FREES);
	code_forget(target, addr);
	if (!nursery_take(target, addr, block))
		count(target, STAT_CANCELLED);
	else if (h->window && h->arg == DOMAIN_RAW)
		alloc_free_large(h, addr, flags);
	/* Its object was destroyed before: forgotten already. */
	else if (!h->cfg->objects.ob_type || destroyed_take(target, addr, &size))
		emit_block(EVENT_FREE, flags, target, addr, 0, 0, STAT_LOST_FREE);
}

static __always_inline void alloc_on_realloc(const struct hit *h, __u64 old, __u64 size)
{
	struct thread_state *t = h->t;

	/* In sampled mode the raw domain's call is the one that is recorded: it alone belongs to the large group. */
	if (alloc_is_nested(t, h->sp, h->arg) && !(h->window && t->is_realloc))
		return;
	if (h->window && h->arg != DOMAIN_RAW && size > SMALL_SIZE_MAX) {
		if (old)
			alloc_free(h, old, EVENT_F_REALLOC, &t->taken);
		return;
	}
	alloc_enter(h, size);
	t->is_realloc = 1;
	t->old = old;
	t->taken.key = 0;
	count(h->target, STAT_REALLOCS);
	/* The old block leaves now: without the GIL another thread may have its address before this call returns. */
	if (old)
		alloc_free(h, old, EVENT_F_REALLOC, &t->taken);
}

static __always_inline void alloc_on_free(const struct hit *h, __u64 addr)
{
	struct thread_state *t = h->t;
	struct nursery_slot block;

	if (!addr)
		return;
	/* Inside a realloc the old block is freed past the slots, or the raw domain is at work for obj: known already. */
	if (t->sp && t->is_realloc && addr == t->old && h->sp <= t->sp)
		return;
	if (!h->window && t->freed == addr && h->arg == DOMAIN_RAW) {
		t->freed = 0;
		return;
	}
	t->freed = h->arg == DOMAIN_RAW ? 0 : addr;
	alloc_free(h, addr, 0, &block);
}

/* A realloc that failed leaves the old block as it was. */
static __always_inline void alloc_failed(__u32 target, const struct thread_state *t)
{
	count(target, STAT_ALLOC_FAILED);
	if (!t->is_realloc || !t->old)
		return;
	if (t->taken.key)
		nursery_put(target, t->old, t->taken.size, t->taken.stack, t->taken.time_ns);
	else
		emit_block(EVENT_REALLOC_FAILED, 0, target, t->old, 0, 0, STAT_LOST_OTHER);
}

/* Is this return that of the call under way, or of the one that serves it? At the return the stack pointer is past the return address. */
static __always_inline int alloc_is_return(const struct thread_state *t, __u64 sp)
{
	if (!t->sp)
		return 0;
	if (!t->predicted)
		return sp == t->sp + sizeof(__u64);
	return t->raw_sp && sp == t->raw_sp + sizeof(__u64);
}

static __always_inline void alloc_on_return(const struct hit *h, __u64 addr)
{
	if (!alloc_is_return(h->t, h->sp))
		return;
	if (addr) {
		alloc_done(h, walk_tstate(&h->cfg->walk, ARCH_FS_BASE(), h->sp, thread_has_gil(h->t)), addr);
	} else {
		h->t->sp = 0;
		alloc_failed(h->target, h->t);
	}
}

/* allocate_from_new_pool() serves a small block for which no pool had room; 0: neither had it. */
static __always_inline void alloc_on_fresh(const struct hit *h, __u64 addr)
{
	const struct thread_state *t = h->t;

	if (addr && t->sp && t->predicted && t->size - 1 < PREDICT_SIZE_MAX && h->sp <= t->sp)
		alloc_done(h, walk_tstate(&h->cfg->walk, ARCH_FS_BASE(), h->sp, 1), addr);
}
