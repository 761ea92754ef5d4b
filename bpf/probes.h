/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The two programs behind every uprobe: at a site, and at the return of the
 * call that passed it. What stands there is in the cookie. Two programs and not
 * one a function, so that two links carry all probes of a process: the kernel
 * waits for a grace period for each link that goes.
 */
#pragma once

#include "alloc.h"
#include "objects.h"
#include "pools.h"

/* Whose probe was hit. Not 0: nobody's; a forked child still carries its parent's breakpoints. */
static __always_inline int probe_hit(struct pt_regs *ctx, __u64 cookie, struct hit *h)
{
	/* First of all: what comes before is not in a window's account. */
	h->now_ns = bpf_ktime_get_ns();
	h->target = COOKIE_TARGET(cookie);
	h->arg = COOKIE_ARG(cookie);
	h->sp = PT_REGS_SP(ctx);
	h->cfg = bpf_map_lookup_elem(&targets, &h->target);
	if (!h->cfg || h->cfg->tgid != bpf_get_current_pid_tgid() >> 32)
		return -1;
	h->t = thread_of(h->target);
	h->window = h->cfg->sampled ? window_of(h->target, h->arg) : NULL;
	return h->t ? 0 : -1;
}

SEC("uprobe")
int leaksnoop_entry(struct pt_regs *ctx)
{
	/* rdi is the allocator's context, of pools_on_pool() an argument. */
	__u64 first = PT_REGS_PARM1(ctx), second = PT_REGS_PARM2(ctx), third = PT_REGS_PARM3(ctx);
	__u64 cookie = bpf_get_attach_cookie(ctx);
	struct hit h;

	if (probe_hit(ctx, cookie, &h) || (h.window && window_enter(h.window, h.target, h.arg, h.now_ns)))
		return 0;
	switch (COOKIE_KIND(cookie)) {
	case PROBE_MALLOC:
		alloc_on_malloc(&h, second);
		break;
	case PROBE_CALLOC:
		alloc_on_malloc(&h, second * third);
		break;
	case PROBE_REALLOC:
		alloc_on_realloc(&h, second, third);
		break;
	case PROBE_FREE:
		alloc_on_free(&h, second);
		break;
	case PROBE_ARENA_ALLOC:
		pools_on_arena_alloc(&h, second);
		break;
	case PROBE_ARENA_FREE:
		pools_on_arena_free(&h, second, third);
		break;
	case PROBE_POOL:
		pools_on_pool(&h, first, second);
		break;
	case PROBE_OBJECT:
		objects_on_event(&h, first, second);
		break;
	}
	if (h.window)
		window_leave(h.window, h.now_ns);
	return 0;
}

SEC("uprobe")
int leaksnoop_return(struct pt_regs *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx), result = PT_REGS_RC(ctx);
	struct hit h;

	if (probe_hit(ctx, cookie, &h))
		return 0;
	/* A call that began in its window is recorded even if it ends after it. */
	if (h.window)
		__sync_fetch_and_add(&h.window->hits, 1);
	switch (COOKIE_KIND(cookie)) {
	case PROBE_MALLOC:
	case PROBE_CALLOC:
	case PROBE_REALLOC:
		alloc_on_return(&h, result);
		break;
	case PROBE_ARENA_ALLOC:
		pools_on_arena_alloc_return(&h, result);
		break;
	case PROBE_POOL:
		pools_on_pool_return(&h, result);
		break;
	case PROBE_FRESH:
		alloc_on_fresh(&h, result);
		break;
	}
	if (h.window)
		window_leave(h.window, h.now_ns);
	return 0;
}
