/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The address space: mmap, munmap, mremap, brk at their return (the registers
 * of the entry are still at hand), and first touches of pages.
 *
 * What a traced allocator maps for itself is marked: those bytes are counted as
 * its blocks already, or are an arena.
 */
#pragma once

#include "emit.h"
#include "thread.h"

struct syscall_exit {
	__u64 common;
	__s64 nr;
	__s64 ret;
};

/* The traced process that makes this call, or NULL. */
static __always_inline const struct target_cfg *mapping_target(__u32 *ret_target)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	__u32 *target = bpf_map_lookup_elem(&pids, &tgid);
	const struct target_cfg *cfg;

	if (!target)
		return NULL;
	*ret_target = *target;
	cfg = bpf_map_lookup_elem(&targets, ret_target);
	return cfg && cfg->tgid == tgid && !cfg->no_mappings ? cfg : NULL;
}

static __always_inline __u16 mapping_flags(const struct thread_state *t)
{
	return (t->sp ? EVENT_F_IN_ALLOCATOR : 0) | (t->arena_sp ? EVENT_F_IN_ARENA : 0);
}

static __always_inline struct pt_regs *mapping_regs(void)
{
	return (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
}

static __always_inline int emit_map(__u16 kind, __u64 addr, __u64 size, __u64 old_addr, __u64 old_size, __u32 map_flags)
{
	const struct target_cfg *cfg;
	struct thread_state *t;
	struct event_map *e;
	__u32 target;
	__u64 stack;

	cfg = mapping_target(&target);
	if (!cfg)
		return 0;
	t = thread_of(target);
	if (!t)
		return 0;
	count(target, STAT_MAPPINGS);
	stack = emit_stack(cfg, target, thread_has_gil(t), &t->walk);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count(target, STAT_LOST_OTHER);
		return 0;
	}
	emit_hdr(&e->hdr, kind, mapping_flags(t), target);
	e->addr = addr;
	e->size = size;
	e->old_addr = old_addr;
	e->old_size = old_size;
	e->stack = stack;
	e->map_flags = map_flags;
	e->tid = (__u32)bpf_get_current_pid_tgid();
	bpf_ringbuf_submit(e, emit_flags());
	return 0;
}

/* Errors come back as -4095..-1. */
#define SYSCALL_FAILED(ret) ((__u64)(ret) > (__u64)-4096)

SEC("tracepoint")
int leaksnoop_mmap(struct syscall_exit *ctx)
{
	struct pt_regs *regs = mapping_regs();

	if (SYSCALL_FAILED(ctx->ret))
		return 0;
	return emit_map(EVENT_MMAP, ctx->ret, ARCH_SYSCALL_ARG2(regs), 0, 0, ARCH_SYSCALL_ARG4(regs));
}

SEC("tracepoint")
int leaksnoop_mremap(struct syscall_exit *ctx)
{
	struct pt_regs *regs = mapping_regs();

	if (SYSCALL_FAILED(ctx->ret))
		return 0;
	return emit_map(EVENT_MREMAP, ctx->ret, ARCH_SYSCALL_ARG3(regs), ARCH_SYSCALL_ARG1(regs), ARCH_SYSCALL_ARG2(regs), 0);
}

SEC("tracepoint")
int leaksnoop_munmap(struct syscall_exit *ctx)
{
	struct pt_regs *regs = mapping_regs();
	__u32 target;

	if (ctx->ret || !mapping_target(&target))
		return 0;
	count(target, STAT_MAPPINGS);
	emit_block(EVENT_MUNMAP, 0, target, ARCH_SYSCALL_ARG1(regs), ARCH_SYSCALL_ARG2(regs), 0, STAT_LOST_OTHER);
	return 0;
}

SEC("tracepoint")
int leaksnoop_brk(struct syscall_exit *ctx)
{
	const struct target_cfg *cfg;
	struct thread_state *t;
	__u32 target;

	cfg = mapping_target(&target);
	if (!cfg)
		return 0;
	count(target, STAT_MAPPINGS);
	t = thread_of(target);
	if (t)
		emit_block(EVENT_BRK, mapping_flags(t), target, ctx->ret, 0, emit_stack(cfg, target, thread_has_gil(t), &t->walk), STAT_LOST_OTHER);
	return 0;
}

/* The first touch of a page: RSS grows by one. Protection faults (copy on write, bit 0 of the error code) are none. */
SEC("raw_tp/page_fault_user")
int leaksnoop_fault(struct bpf_raw_tracepoint_args *ctx)
{
	const struct target_cfg *cfg;
	struct thread_state *t;
	__u32 target;

	if (ctx->args[2] & 1)
		return 0;
	cfg = mapping_target(&target);
	if (!cfg)
		return 0;
	t = thread_of(target);
	if (t)
		emit_block(EVENT_FAULT, mapping_flags(t), target, ctx->args[0], 0, emit_stack(cfg, target, thread_has_gil(t), &t->walk), STAT_LOST_OTHER);
	return 0;
}
