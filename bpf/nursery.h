/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The nursery: where a block waits until it is freed (and nobody hears of it) or
 * another block wants its slot (and it crosses to user space as a survivor).
 * Each live block is in exactly one place: its slot here, or user space's ledger.
 *
 * Invariant: a slot is changed only by whoever swapped its key to NURSERY_BUSY.
 * Under the GIL there is one such; the raw domain has several, so the swap is
 * atomic and a waiter spins briefly, then gives up and counts it.
 */
#pragma once

#include "emit.h"

const volatile __u32 nursery_slots = 1 << 17;

#define NURSERY_SPINS 32

static __always_inline struct nursery_slot *nursery_at(__u64 key)
{
	__u32 index = NURSERY_HASH(key, nursery_slots);

	return bpf_map_lookup_elem(&nursery, &index);
}

/* Takes the slot for changing. Returns the key it held, or NURSERY_BUSY if another has it for too long. */
static __always_inline __u64 nursery_lock(struct nursery_slot *slot)
{
	for (int i = 0; i < NURSERY_SPINS; i++) {
		__u64 key = *(volatile __u64 *)&slot->key;

		if (key != NURSERY_BUSY && __sync_val_compare_and_swap(&slot->key, key, NURSERY_BUSY) == key)
			return key;
	}
	return NURSERY_BUSY;
}

static __always_inline void nursery_unlock(struct nursery_slot *slot, __u64 key)
{
	*(volatile __u64 *)&slot->key = key;
}

static __always_inline int emit_alloc(__u64 key, __u64 size, __u64 stack, __u64 time_ns)
{
	struct event_alloc *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(NURSERY_TARGET(key), STAT_LOST_ALLOC);
		return -1;
	}
	e->hdr.kind = EVENT_ALLOC;
	e->hdr.flags = NURSERY_FLAGS(size);
	e->hdr.target = NURSERY_TARGET(key);
	e->hdr.time_ns = time_ns;
	e->addr = NURSERY_ADDR(key);
	e->size = NURSERY_SIZE(size);
	e->stack = stack;
	bpf_ringbuf_submit(e, emit_flags());
	return 0;
}

/* A block is born; whoever sat in its slot is a survivor. */
static __always_inline void nursery_put(__u32 target, __u64 addr, __u64 size, __u64 stack, __u64 time_ns)
{
	__u64 key = NURSERY_KEY(target, addr), before;
	struct nursery_slot *slot = nursery_at(key);

	if (!slot)
		return;
	before = nursery_lock(slot);
	if (before == NURSERY_BUSY) {
		count(target, STAT_LOST_CONTENDED);
		emit_alloc(key, size, stack, time_ns);
		return;
	}
	/* The same address again: its free was not seen, and the old block is gone. */
	if (before == key)
		count(target, STAT_LOST_UNSEEN);
	else if (before)
		emit_alloc(before, slot->size, slot->stack, slot->time_ns);
	slot->size = size;
	slot->stack = stack;
	slot->time_ns = time_ns;
	nursery_unlock(slot, key);
}

/* Takes a block out. Returns 0 and its record if it was here, -1 if user space has it (or nobody knows it). */
static __always_inline int nursery_take(__u32 target, __u64 addr, struct nursery_slot *ret_block)
{
	__u64 key = NURSERY_KEY(target, addr);
	struct nursery_slot *slot = nursery_at(key);

	if (!slot)
		return -1;
	for (int i = 0; i < NURSERY_SPINS; i++) {
		__u64 now = *(volatile __u64 *)&slot->key;

		if (now == NURSERY_BUSY)
			continue;
		if (now != key)
			return -1;
		if (__sync_val_compare_and_swap(&slot->key, key, NURSERY_BUSY) != key)
			continue;
		ret_block->key = key;
		ret_block->size = slot->size;
		ret_block->stack = slot->stack;
		ret_block->time_ns = slot->time_ns;
		nursery_unlock(slot, 0);
		return 0;
	}
	count(target, STAT_LOST_CONTENDED);
	return -1;
}

/* The block turns out to be an object; flags are NURSERY_*. Returns 1 if it waited here without anybody having said so: it was allocated for it. */
static __always_inline int nursery_mark_object(__u32 target, __u64 addr, __u64 flags)
{
	__u64 key = NURSERY_KEY(target, addr);
	struct nursery_slot *slot = nursery_at(key);
	int marked = 0;

	if (!slot || *(volatile __u64 *)&slot->key != key || __sync_val_compare_and_swap(&slot->key, key, NURSERY_BUSY) != key)
		return 0;
	if (!(slot->size & NURSERY_OBJECT)) {
		slot->size |= flags;
		marked = 1;
	}
	nursery_unlock(slot, key);
	return marked;
}
