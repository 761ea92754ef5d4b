/* SPDX-License-Identifier: GPL-2.0 */
/* Where pymalloc will put a small block, read from its own tables before it does. */
#pragma once

#include "walker.h"

static __always_inline __u64 predict_usedpools(const struct target_cfg *cfg, __u64 tstate)
{
	const struct predict_cfg *p = &cfg->predict;
	__u64 interp;

	if (p->kind == PREDICT_STATIC)
		return p->usedpools;
	if (!tstate)
		return 0;
	interp = walk_read_u64(tstate + cfg->walk.ts_interp);
	if (interp == p->main_interp)
		return p->usedpools;
	if (p->kind == PREDICT_POINTER)
		return walk_read_u64(interp + p->in_obmalloc) + p->ob_used;
	if (walk_read_u64(interp + p->in_feature_flags) & PREDICT_MAIN_OBMALLOC)
		return p->usedpools;
	return interp + p->in_obmalloc + p->ob_used;
}

/* The entry of a size class: used[2 * class]; an empty class points at itself as if it were a pool header: two words before. */
static __always_inline __u64 predict_class(__u64 used, __u64 size)
{
	return used + ((size - 1) >> PREDICT_CLASS_SHIFT) * 2 * sizeof(__u64);
}

static __always_inline __u64 predict_in_pool(const struct predict_cfg *p, __u64 class)
{
	__u64 pool = walk_read_u64(class);

	if (!pool || pool == class - 2 * sizeof(__u64))
		return 0;
	return walk_read_u64(pool + p->po_freeblock);
}

/*
 * No pool of the class has room: allocate_from_new_pool() takes one the first usable arena got back, or carves its next one. A pool that
 * served the same class before keeps its list of free blocks. 0: an arena has to be made first.
 */
static __always_inline __u64 predict_in_new_pool(const struct predict_cfg *p, __u64 used, __u64 size)
{
	__u64 arena, pool;
	__u32 word = 0;

	if (!p->usable_arenas)
		return 0;
	arena = walk_read_u64(p->kind == PREDICT_STATIC ? p->usable_arenas : used + p->usable_arenas);
	if (!arena)
		return 0;
	pool = walk_read_u64(arena + p->ar_freepools);
	if (pool) {
		if (bpf_probe_read_user(&word, sizeof(word), (void *)(pool + p->po_szidx)))
			return 0;
		return word == (size - 1) >> PREDICT_CLASS_SHIFT ? walk_read_u64(pool + p->po_freeblock) : pool + p->pool_overhead;
	}
	if (bpf_probe_read_user(&word, sizeof(word), (void *)(arena + p->ar_nfreepools)) || !word)
		return 0;
	pool = walk_read_u64(arena + p->ar_pool_address);
	return pool ? pool + p->pool_overhead : 0;
}

/* The block the call will return; 0 if it takes another path: too large, or no pool of its class has room. */
static __always_inline __u64 predict_block(const struct target_cfg *cfg, __u64 tstate, __u64 size)
{
	__u64 used;

	if (size - 1 >= PREDICT_SIZE_MAX)
		return 0;
	used = predict_usedpools(cfg, tstate);
	return used ? predict_in_pool(&cfg->predict, predict_class(used, size)) : 0;
}

/* As predict_block(), and where no pool has room, too. */
static __always_inline __u64 predict_block_or_fresh(const struct target_cfg *cfg, __u64 tstate, __u64 size)
{
	__u64 used, addr;

	if (size - 1 >= PREDICT_SIZE_MAX)
		return 0;
	used = predict_usedpools(cfg, tstate);
	if (!used)
		return 0;
	addr = predict_in_pool(&cfg->predict, predict_class(used, size));
	return addr ?: predict_in_new_pool(&cfg->predict, used, size);
}
