/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The stack walker: from a running thread to its Python frames. One source,
 * compiled twice: for BPF (WALK_READ is bpf_probe_read_user) and as plain C for
 * tests and for doctor (WALK_READ reads recorded or remote memory).
 *
 * Whoever includes this defines, before:
 *   WALK_READ(dst, size, addr)   0 on success, fails whole
 *   WALK_LOOP(n, step, ctx)      calls step(i, ctx) until it returns 1, at most n times; the number of calls
 *
 * Rules: nothing read is trusted; loops end after WALK_STEPS frames whatever the
 * chain says; a frame that cannot be read ends the walk with WALK_BROKEN and what
 * was found before stands.
 *
 * The chain, by version (source: CPython Include/internal/pycore_frame.h, pycore_pystate.h):
 *   <= 3.10     tstate->frame (PyFrameObject) -> f_back
 *   3.11, 3.12  tstate->cframe->current_frame (_PyInterpreterFrame) -> previous
 *   3.13+       tstate->current_frame -> previous
 */
#pragma once

#include <stddef.h>

#include "control.h"
#include "event.h"

/* Frames looked at, entry shims included: a C call between every two Python frames doubles the chain. */
#define WALK_STEPS (MAX_FRAMES + 64)

#define WALK_TRUNCATED EVENT_F_TRUNCATED
#define WALK_BROKEN EVENT_F_BROKEN

struct walk_scratch {
	__u8 frame[128];     /* one frame object; offsets into it are masked below 128 */
	__u64 hash;          /* of the frames found */
	__u32 count;
	__u32 flags;         /* WALK_* */
	__u8 head[sizeof(struct event_stack)];  /* room for the record's head right before its frames: sent without a copy */
	struct frame_rec frames[MAX_FRAMES];
};
_Static_assert(offsetof(struct walk_scratch, frames) == offsetof(struct walk_scratch, head) + sizeof(struct event_stack),
	       "head and frames make one record");

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

static __always_inline __u64 walk_read_u64(__u64 addr)
{
	__u64 value = 0;

	if (WALK_READ(&value, sizeof(value), addr))
		return 0;
	return value;
}

static __always_inline __u64 walk_mix(__u64 hash, __u64 value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ull;
	return hash ^ (hash >> 32);
}

#define MAIN_STACK_MAX (1ull << 26)

/*
 * 3.11: does the C stack that sp points into hold the record of the frame that this state executes? Then this thread runs it. glibc keeps
 * what fs points at on top of each stack but the main thread's, above which there is no other.
 */
static __always_inline int walk_runs_here(const struct walk_cfg *cfg, __u64 tstate, __u64 fs, __u64 sp)
{
	__u64 cframe;

	if (!sp || cfg->cframe_current == NO_OFFSET)
		return 0;
	cframe = walk_read_u64(tstate + cfg->ts_frame);
	return cframe > sp && (fs > sp ? cframe < fs : cframe - sp < MAIN_STACK_MAX);
}

/*
 * The thread state of the thread whose fs base this is, attached or not; 0 if it has none. has_gil: the thread is known to hold the
 * GIL. Up to 3.11 that matters: the holder's state is found at once, also that of a sub-interpreter run by a thread that did not
 * create it (its thread_id is then its creator's). Without, 3.11 can still tell by sp, the thread's stack pointer (0: not known).
 */
static __always_inline __u64 walk_tstate(const struct walk_cfg *cfg, __u64 fs, __u64 sp, int has_gil)
{
	__u64 tstate = 0;

	if (cfg->tstate_source == TSTATE_GLOBAL) {
		/* The GIL's holder: in a call made without the GIL perhaps another thread. */
		tstate = walk_read_u64(cfg->tstate_addr);
		if (tstate && !has_gil && walk_read_u64(tstate + cfg->ts_thread_id) != fs && !walk_runs_here(cfg, tstate, fs, sp))
			tstate = 0;
	} else if (cfg->tstate_source == TSTATE_TLS) {
		tstate = walk_read_u64(fs + cfg->tls_offset);
	} else if (cfg->tstate_source == TSTATE_DTV) {
		__u64 dtv = walk_read_u64(fs + 8);
		__u64 block = walk_read_u64(dtv + 16 * cfg->tls_module);

		/* glibc marks a block not yet allocated with -1. */
		if (block && block != ~0ull)
			tstate = walk_read_u64(block + cfg->tls_offset);
	}
	if (!tstate && cfg->fallback_offset)
		tstate = walk_read_u64(fs + cfg->fallback_offset);
	return tstate;
}

static __always_inline __s32 walk_offset(const struct walk_cfg *cfg, const __u8 *frame, __u64 code)
{
	if (cfg->instr_kind == INSTR_POINTER) {
		__u64 instr = *(const __u64 *)(frame + (cfg->fr_instr & 0x78));
		__s64 offset = (__s64)(instr - code - cfg->co_code);

		/* Code is at most a few MiB; anything else is a torn frame, or one not started (3.11, 3.12: one unit before). */
		if (offset < 0 || offset > (1 << 28))
			return -1;
		return (__s32)offset;
	}
	__s32 lasti = *(const __s32 *)(frame + (cfg->fr_instr & 0x7c));

	if (cfg->instr_kind == INSTR_LASTI_UNITS && lasti > 0)
		lasti *= 2;
	return lasti;
}

/* A walk under way. */
struct walk {
	const struct walk_cfg *cfg;
	struct walk_scratch *s;
	__u64 frame;
	__u32 size, max;
};

/* One frame of the chain. Returns 1 to end the walk. */
static long walk_step(__u32 i, struct walk *w)
{
	const struct walk_cfg *cfg = w->cfg;
	struct walk_scratch *s = w->s;
	__u32 n = s->count, size = w->size;
	__s32 offset;
	__u64 code;

	(void)i;
	if (!w->frame)
		return 1;
	if (n >= w->max || n >= MAX_FRAMES) {
		s->flags |= WALK_TRUNCATED;
		return 1;
	}
	if (size > FRAME_READ_MAX || WALK_READ(s->frame, size, w->frame)) {
		s->flags |= WALK_BROKEN;
		return 1;
	}
	w->frame = *(const __u64 *)(s->frame + (cfg->fr_back & 0x78));
	if (cfg->fr_owner != NO_OFFSET && s->frame[cfg->fr_owner & 0x7f] >= cfg->owner_shim)
		return 0;
	code = *(const __u64 *)(s->frame + (cfg->fr_code & 0x78)) & cfg->tag_mask;
	if (!code) {
		s->flags |= WALK_BROKEN;
		return 1;
	}
	offset = walk_offset(cfg, s->frame, code);
	s->frames[n].code = code;
	s->frames[n].offset = offset;
	s->frames[n].reserved = 0;
	s->hash = walk_mix(s->hash, code ^ ((__u64)(__u32)offset << 40) ^ (__u32)offset);
	s->count = n + 1;
	return 0;
}

/* Fills s with the frames of tstate, innermost first. seed distinguishes processes and epochs in the hash. */
static __always_inline void walk_frames(const struct walk_cfg *cfg, __u64 tstate, __u64 seed, struct walk_scratch *s)
{
	struct walk w = {
		.cfg = cfg,
		.s = s,
		.frame = walk_read_u64(tstate + cfg->ts_frame),
		.size = cfg->fr_read,
		.max = cfg->max_frames,
	};

	s->hash = walk_mix(0x6c65616b736e6f6full, seed);
	s->count = 0;
	s->flags = 0;
	if (cfg->cframe_current != NO_OFFSET && w.frame)
		w.frame = walk_read_u64(w.frame + cfg->cframe_current);
	/* A walk that runs out of steps is a cycle, or deeper than we look. */
	if (WALK_LOOP(WALK_STEPS, walk_step, &w) >= WALK_STEPS)
		s->flags |= WALK_TRUNCATED;
}
