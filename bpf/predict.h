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

/* The block the call will return; 0 if it takes another path: too large, or no pool of its class has room. */
static __always_inline __u64 predict_block(const struct target_cfg *cfg, __u64 tstate, __u64 size)
{
	__u64 used, pool;

	if (size - 1 >= PREDICT_SIZE_MAX)
		return 0;
	used = predict_usedpools(cfg, tstate);
	if (!used)
		return 0;
	/* used[2 * class]; an empty class points at itself as if it were a pool header: two words before. */
	used += ((size - 1) >> PREDICT_CLASS_SHIFT) * 2 * sizeof(__u64);
	pool = walk_read_u64(used);
	if (!pool || pool == used - 2 * sizeof(__u64))
		return 0;
	return walk_read_u64(pool + cfg->predict.po_freeblock);
}
