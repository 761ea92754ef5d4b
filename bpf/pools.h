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
SEC("uprobe")
int leaksnoop_arena_alloc(struct pt_regs *ctx)
{
	struct thread_state *t;
	__u32 target, domain;

	if (!alloc_target(ctx, &target, &domain))
		return 0;
	t = alloc_thread(target);
	if (!t)
		return 0;
	t->arena_sp = PT_REGS_SP(ctx);
	t->arena_size = PT_REGS_PARM2(ctx);
	return 0;
}

SEC("uprobe")
int leaksnoop_arena_alloc_return(struct pt_regs *ctx)
{
	const struct target_cfg *cfg;
	struct thread_state *t;
	__u32 target, domain;
	__u64 addr;

	cfg = alloc_target(ctx, &target, &domain);
	if (!cfg)
		return 0;
	t = alloc_thread(target);
	if (!t || !t->arena_sp || PT_REGS_SP(ctx) != t->arena_sp + sizeof(__u64))
		return 0;
	t->arena_sp = 0;
	addr = PT_REGS_RC(ctx);
	if (addr)
		emit_block(EVENT_ARENA_ALLOC, 0, target, addr, t->arena_size, emit_stack(cfg, target, &t->walk), STAT_LOST_OTHER);
	return 0;
}

SEC("uprobe")
int leaksnoop_arena_free(struct pt_regs *ctx)
{
	__u32 target, domain;

	if (alloc_target(ctx, &target, &domain))
		emit_block(EVENT_ARENA_FREE, 0, target, PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx), 0, STAT_LOST_OTHER);
	return 0;
}

/* allocate_from_new_pool(class) up to 3.11, (state, class) from 3.12: the cookie's domain says which argument. */
SEC("uprobe")
int leaksnoop_pool(struct pt_regs *ctx)
{
	__u64 first = PT_REGS_PARM1(ctx), second = PT_REGS_PARM2(ctx);
	struct thread_state *t;
	__u32 target, class_arg;

	/* Both are loaded here: choosing between two places in ctx later is more than the verifier allows. */
	barrier_var(first);
	barrier_var(second);
	if (!alloc_target(ctx, &target, &class_arg))
		return 0;
	t = alloc_thread(target);
	if (!t)
		return 0;
	t->pool_sp = PT_REGS_SP(ctx);
	t->pool_class = class_arg ? second : first;
	return 0;
}

SEC("uprobe")
int leaksnoop_pool_return(struct pt_regs *ctx)
{
	const struct target_cfg *cfg;
	struct thread_state *t;
	__u32 target, class_arg;

	cfg = alloc_target(ctx, &target, &class_arg);
	if (!cfg)
		return 0;
	t = alloc_thread(target);
	if (!t || !t->pool_sp || PT_REGS_SP(ctx) != t->pool_sp + sizeof(__u64))
		return 0;
	t->pool_sp = 0;
	if (PT_REGS_RC(ctx))
		emit_block(EVENT_POOL, 0, target, PT_REGS_RC(ctx), t->pool_class, emit_stack(cfg, target, &t->walk),
			   STAT_LOST_OTHER);
	return 0;
}
