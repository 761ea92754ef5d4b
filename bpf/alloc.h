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
 * A free is recorded before the memory is given back and an allocation after it
 * was obtained, so that another thread that gets the same address comes after.
 */
#pragma once

#include "nursery.h"

/* The process this probe is for, or NULL: a forked child still carries its parent's breakpoints. */
static __always_inline const struct target_cfg *alloc_target(void *ctx, __u32 *ret_target, __u32 *ret_domain)
{
	__u64 cookie = bpf_get_attach_cookie(ctx);
	__u32 target = COOKIE_TARGET(cookie);
	const struct target_cfg *cfg = bpf_map_lookup_elem(&targets, &target);

	if (!cfg || cfg->tgid != bpf_get_current_pid_tgid() >> 32)
		return NULL;
	*ret_target = target;
	*ret_domain = COOKIE_DOMAIN(cookie);
	return cfg;
}

static __always_inline struct thread_state *alloc_thread(__u32 target)
{
	struct thread_state *t = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!t)
		count(target, STAT_LOST_THREAD);
	return t;
}

static __always_inline int alloc_is_nested(const struct thread_state *t, __u64 sp, __u32 domain)
{
	return t->sp && sp <= t->sp && domain == DOMAIN_RAW && t->domain != DOMAIN_RAW;
}

static __always_inline struct thread_state *alloc_enter(struct pt_regs *ctx, __u32 target, __u32 domain, __u64 size)
{
	struct thread_state *t = alloc_thread(target);
	__u64 sp = PT_REGS_SP(ctx);

	if (!t || alloc_is_nested(t, sp, domain))
		return NULL;
	if (t->sp && t->sp != sp)
		count(target, STAT_LOST_RETURN);
	t->sp = sp;
	t->size = size;
	t->domain = domain;
	t->is_realloc = 0;
	t->freed = 0;
	return t;
}

SEC("uprobe")
int leaksnoop_malloc(struct pt_regs *ctx)
{
	__u32 target, domain;

	if (alloc_target(ctx, &target, &domain))
		alloc_enter(ctx, target, domain, PT_REGS_PARM2(ctx));
	return 0;
}

SEC("uprobe")
int leaksnoop_calloc(struct pt_regs *ctx)
{
	__u32 target, domain;

	if (alloc_target(ctx, &target, &domain))
		alloc_enter(ctx, target, domain, PT_REGS_PARM2(ctx) * PT_REGS_PARM3(ctx));
	return 0;
}

/* Forgets the block at addr: in the nursery, or by a FREE for the ledger. */
static __always_inline void alloc_free(__u32 target, __u32 domain, __u64 addr, __u16 flags, struct nursery_slot *block)
{
	count(target, STAT_FREES);
	if (domain != DOMAIN_RAW)
		count(target, STAT_OBJ_FREES);
	code_forget(target, addr);
	if (!nursery_take(target, addr, block))
		count(target, STAT_CANCELLED);
	else
		emit_block(EVENT_FREE, flags, target, addr, 0, 0, STAT_LOST_FREE);
}

SEC("uprobe")
int leaksnoop_realloc(struct pt_regs *ctx)
{
	__u64 old = PT_REGS_PARM2(ctx);
	struct thread_state *t;
	__u32 target, domain;

	if (!alloc_target(ctx, &target, &domain))
		return 0;
	t = alloc_enter(ctx, target, domain, PT_REGS_PARM3(ctx));
	if (!t)
		return 0;
	t->is_realloc = 1;
	t->old = old;
	t->taken.key = 0;
	count(target, STAT_REALLOCS);
	/* The old block leaves now: without the GIL another thread may have its address before this call returns. */
	if (old)
		alloc_free(target, domain, old, EVENT_F_REALLOC, &t->taken);
	return 0;
}

SEC("uprobe")
int leaksnoop_free(struct pt_regs *ctx)
{
	__u64 addr = PT_REGS_PARM2(ctx);
	struct nursery_slot block;
	struct thread_state *t;
	__u32 target, domain;

	if (!addr || !alloc_target(ctx, &target, &domain))
		return 0;
	t = alloc_thread(target);
	if (!t)
		return 0;
	/* Inside a realloc the old block is freed past the slots, or the raw domain is at work for obj: known already. */
	if (t->sp && t->is_realloc && addr == t->old && PT_REGS_SP(ctx) <= t->sp)
		return 0;
	if (t->freed == addr && domain == DOMAIN_RAW) {
		t->freed = 0;
		return 0;
	}
	t->freed = domain == DOMAIN_RAW ? 0 : addr;
	alloc_free(target, domain, addr, 0, &block);
	return 0;
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

SEC("uprobe")
int leaksnoop_alloc_return(struct pt_regs *ctx)
{
	const struct target_cfg *cfg;
	struct thread_state *t;
	__u32 target, domain;
	__u64 addr, stack;

	cfg = alloc_target(ctx, &target, &domain);
	if (!cfg)
		return 0;
	t = alloc_thread(target);
	/* At the return the stack pointer is past the return address. */
	if (!t || !t->sp || PT_REGS_SP(ctx) != t->sp + sizeof(__u64))
		return 0;
	t->sp = 0;
	addr = PT_REGS_RC(ctx);
	if (!addr) {
		alloc_failed(target, t);
		return 0;
	}
	count(target, STAT_ALLOCS);
	count_add(target, STAT_ALLOC_BYTES, t->size);
	if (t->domain != DOMAIN_RAW)
		count(target, STAT_OBJ_ALLOCS);
	stack = emit_stack(cfg, target, &t->walk);
	nursery_put(target, addr, t->size, stack, bpf_ktime_get_ns());
	return 0;
}
