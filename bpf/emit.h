/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sending: records, stacks and code objects. A stack crosses once and is then
 * named by its id; a code object crosses once, with its strings and line table
 * copied while the frame that runs it keeps it alive, so that its name cannot be
 * that of a later object at the same address.
 *
 * Wakeups are expensive for the target (irq_work and an IPI), so user space polls
 * and is woken only when the ring is filling up.
 */
#pragma once

#include "count.h"

const volatile __u64 ring_wakeup_bytes = 4 << 20;

static __always_inline __u64 emit_flags(void)
{
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= ring_wakeup_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline void emit_hdr(struct event_hdr *hdr, __u16 kind, __u16 flags, __u32 target)
{
	hdr->kind = kind;
	hdr->flags = flags;
	hdr->target = target;
	hdr->time_ns = bpf_ktime_get_ns();
}

static __always_inline int emit_block(__u16 kind, __u16 flags, __u32 target, __u64 addr, __u64 size, __u64 stack,
				      enum stat_id loss)
{
	struct event_block *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(target, loss);
		return -1;
	}
	emit_hdr(&e->hdr, kind, flags, target);
	e->addr = addr;
	e->size = size;
	e->stack = stack;
	e->tid = (__u32)bpf_get_current_pid_tgid();
	bpf_ringbuf_submit(e, emit_flags());
	return 0;
}

static __always_inline __u32 code_bit(__u64 key)
{
	return (__u32)((key * 0x9e3779b97f4a7c15ull) >> 44);
}

static __always_inline void code_remember(__u64 key)
{
	__u32 bit = code_bit(key), word = (bit >> 6) & (CODE_FILTER_WORDS - 1);
	__u64 *filter = bpf_map_lookup_elem(&code_filter, &word);
	__u8 one = 1;

	if (filter)
		__sync_fetch_and_or(filter, 1ull << (bit & 63));
	bpf_map_update_elem(&codes_known, &key, &one, BPF_ANY);
}

/* A block is freed: if it was a code object that is known, forget it and let no old stack id name what comes in its place. */
static __always_inline void code_forget(__u32 target, __u64 addr)
{
	__u64 key = CODE_KEY(target, addr);
	__u32 bit = code_bit(key), word = (bit >> 6) & (CODE_FILTER_WORDS - 1);
	__u64 *filter = bpf_map_lookup_elem(&code_filter, &word);
	struct target_state *state;

	if (!filter || !(*filter & (1ull << (bit & 63))))
		return;
	if (bpf_map_delete_elem(&codes_known, &key))
		return;
	state = bpf_map_lookup_elem(&target_states, &target);
	if (state)
		__sync_fetch_and_add(&state->epoch, 1);
	emit_block(EVENT_CODE_FREE, 0, target, addr, 0, 0, STAT_LOST_CODE);
}

/* Copies the characters of the str at addr, cut to max bytes. Returns their number; *ret_kind 0 if it is no str we can read. */
static __always_inline __u16 emit_str(const struct walk_cfg *cfg, __u64 addr, __u8 *dst, __u32 max, __u8 *ret_kind,
				      __u16 *flags)
{
	__u32 state = 0, kind;
	__u64 length, data;

	*ret_kind = 0;
	if (bpf_probe_read_user(&state, sizeof(state), (void *)(addr + cfg->str_state)))
		return 0;
	length = walk_read_u64(addr + cfg->str_length);
	kind = (state >> 2) & 7;
	if (!(state & (1 << 5)) || (kind != 1 && kind != 2 && kind != 4) || length > (1 << 24))
		return 0;  /* not compact: no identifier or file name of a code object is made so */
	data = addr + (state & (1 << 6) ? cfg->str_ascii_data : cfg->str_compact_data);
	length *= kind;
	if (length > max) {
		length = max;
		*flags |= EVENT_F_TRUNCATED;
	}
	if (bpf_probe_read_user(dst, length & 0x3ff, (void *)data))
		return 0;
	*ret_kind = kind;
	return length;
}

static __always_inline void emit_code_fields(const struct walk_cfg *cfg, struct event_code *e, __u64 code, __u32 max_table)
{
	__u64 table, size;
	__u32 n;

	e->name_size = emit_str(cfg, walk_read_u64(code + cfg->co_name), e->name, CODE_NAME_MAX, &e->name_kind, &e->hdr.flags);
	e->file_size = emit_str(cfg, walk_read_u64(code + cfg->co_filename), e->file, CODE_FILE_MAX, &e->file_kind,
				&e->hdr.flags);
	e->firstlineno = 0;
	bpf_probe_read_user(&e->firstlineno, sizeof(e->firstlineno), (void *)(code + cfg->co_firstlineno));
	table = walk_read_u64(code + cfg->co_linetable);
	size = walk_read_u64(table + cfg->bytes_size);
	e->code = code;
	e->linetable = table;
	e->linetable_size = size > 0x7fffffff ? 0 : (__u32)size;
	n = e->linetable_size;
	if (n > max_table) {
		n = max_table;
		e->hdr.flags |= EVENT_F_TRUNCATED;
	}
	n &= 0xfff;
	e->table_size = 0;
	if (n <= max_table && !bpf_probe_read_user(e->table, n, (void *)(table + cfg->bytes_data)))
		e->table_size = n;
}

#define CODE_TABLE_SMALL 512

/* Two sizes of record, since a reservation's size must be a constant: most line tables are small. */
static __always_inline int emit_code_sized(const struct walk_cfg *cfg, __u32 target, __u64 code, const __u32 max_table)
{
	struct event_code *e = bpf_ringbuf_reserve(&events, sizeof(*e) + max_table, 0);

	if (!e) {
		count(target, STAT_LOST_CODE);
		return -1;
	}
	emit_hdr(&e->hdr, EVENT_CODE, 0, target);
	emit_code_fields(cfg, e, code, max_table);
	bpf_ringbuf_submit(e, emit_flags());
	count(target, STAT_CODES);
	return 0;
}

static __noinline int emit_code(const struct walk_cfg *cfg, __u32 target, __u64 code)
{
	__u64 size = walk_read_u64(walk_read_u64(code + cfg->co_linetable) + cfg->bytes_size);

	return size <= CODE_TABLE_SMALL ? emit_code_sized(cfg, target, code, CODE_TABLE_SMALL)
					: emit_code_sized(cfg, target, code, CODE_TABLE_MAX);
}

struct emit_codes {
	const struct target_cfg *cfg;
	const struct walk_scratch *walk;
	__u32 target;
};

static long emit_code_of_frame(__u32 i, struct emit_codes *c)
{
	__u64 code, key;

	if (i >= MAX_FRAMES)
		return 1;
	code = c->walk->frames[i].code;
	key = CODE_KEY(c->target, code);
	if (!bpf_map_lookup_elem(&codes_known, &key) && !emit_code(&c->cfg->walk, c->target, code))
		code_remember(key);
	return 0;
}

/* Sends the code objects of a new stack that are not known yet, then the stack. */
static __noinline int emit_new_stack(const struct target_cfg *cfg, __u32 target, struct walk_scratch *walk)
{
	struct event_stack *e = (struct event_stack *)walk->head;
	struct emit_codes codes = { .cfg = cfg, .walk = walk, .target = target };
	__u64 hash = walk->hash;
	__u32 n = walk->count;
	struct stack_count first = { .blocks = 1 };

	bpf_loop(n, emit_code_of_frame, &codes, 0);
	if (n > MAX_FRAMES)
		return -1;
	emit_hdr(&e->hdr, EVENT_STACK, walk->flags, target);
	e->stack = hash;
	e->count = n;
	e->reserved = 0;
	if (bpf_ringbuf_output(&events, walk->head, sizeof(*e) + n * sizeof(struct frame_rec), emit_flags())) {
		count(target, STAT_LOST_STACK);
		return -1;
	}
	bpf_map_update_elem(&stacks_seen, &hash, &first, BPF_ANY);
	count(target, STAT_STACKS);
	return 0;
}

/* Walks the running thread, whose thread state is tstate. Returns the id of its Python stack, sending it if it is new; 0 if it has none. */
static __always_inline __u64 emit_stack_of(const struct target_cfg *cfg, __u32 target, __u64 tstate, struct walk_scratch *walk)
{
	struct target_state *state = bpf_map_lookup_elem(&target_states, &target);
	struct stack_count *seen;
	__u64 hash;

	if (!tstate || !state) {
		count(target, STAT_NO_TSTATE);
		return 0;
	}
	walk_frames(&cfg->walk, tstate, ((__u64)target << 32) ^ state->epoch, walk);
	if (walk->flags & WALK_BROKEN)
		count(target, STAT_BAD_FRAME);
	if (!walk->count)
		return 0;
	hash = walk->hash;
	seen = bpf_map_lookup_elem(&stacks_seen, &hash);
	if (seen)
		__sync_fetch_and_add(&seen->blocks, 1);
	else
		emit_new_stack(cfg, target, walk);
	return hash;
}

static __always_inline __u64 emit_stack(const struct target_cfg *cfg, __u32 target, int has_gil, struct walk_scratch *walk)
{
	return emit_stack_of(cfg, target, walk_tstate(&cfg->walk, ARCH_FS_BASE(), 0, has_gil), walk);
}
