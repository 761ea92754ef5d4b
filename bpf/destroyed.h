/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Blocks whose object was destroyed: what stands here is in no line's account,
 * so the free that follows must not be sent again, and an object created there
 * comes out of a free list. Written under the GIL; two interpreters with a GIL
 * each can mix up an entry, which then matches no block.
 */
#pragma once

#include "maps.h"

static __always_inline struct destroyed *destroyed_at(__u64 key)
{
	__u32 index = NURSERY_HASH(key, DESTROYED_SLOTS);

	return bpf_map_lookup_elem(&destroyed, &index);
}

static __always_inline void destroyed_put(__u32 target, __u64 addr, __u64 size)
{
	__u64 key = NURSERY_KEY(target, addr);
	struct destroyed *d = destroyed_at(key);

	if (!d)
		return;
	d->size = size;
	d->key = key;
}

/* Returns 0 and the size if the block stood here, else -1. */
static __always_inline int destroyed_take(__u32 target, __u64 addr, __u64 *ret_size)
{
	__u64 key = NURSERY_KEY(target, addr);
	struct destroyed *d = destroyed_at(key);

	if (!d || d->key != key)
		return -1;
	*ret_size = d->size;
	d->key = 0;
	return 0;
}
