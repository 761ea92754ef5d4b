/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Objects at first hand (3.13+): the interpreter calls what stands in
 * _PyRuntime.ref_tracer for each object that is created or destroyed, also when
 * its memory comes from a free list or goes back to one, of which the allocator
 * never hears (Objects/object.c: new_reference(), _Py_Dealloc()).
 *
 * Invariant: a block is in one line's account at most. A creation in memory that
 * was just allocated for it leaves the allocator's record as it is; any other is
 * an allocation of the line that runs now. A destruction ends the account, and
 * the free that may follow finds it ended.
 *
 * Limits: an object that is resurrected by its finalizer while it is being
 * destroyed is out of the account until its end. Early 3.13 does not tell of all
 * destructions (int, list, slice, some tuple and str): there the free, or the
 * next creation in the same place, ends the account.
 */
#pragma once

#include "alloc.h"

#define OBJECT_CREATED 0   /* enum PyRefTracerEvent */
#define OBJECT_DESTROYED 1

/* Where an object's block begins: before its GC head and what the interpreter keeps before that. */
static __always_inline __u64 object_block(const struct object_cfg *cfg, __u64 object, __u64 flags)
{
	if (flags & TP_HAVE_GC)
		object -= cfg->gc_head;
	if (flags & TP_PREHEADER)
		object -= OBJECT_PREHEADER;
	return object;
}

/* The size of the class of the pool that holds a block; 0: none does. */
static __always_inline __u64 object_class_size(const struct object_cfg *cfg, __u64 block)
{
	__u64 pool = block & ~((__u64)cfg->pool_size - 1), size;
	__u32 szidx = 0;

	if (cfg->pool_size && !bpf_probe_read_user(&szidx, sizeof(szidx), (const void *)(pool + cfg->po_szidx)) &&
	    szidx < PREDICT_SIZE_MAX >> PREDICT_CLASS_SHIFT) {
		size = ((__u64)szidx + 1) << PREDICT_CLASS_SHIFT;
		if (block >= pool + cfg->pool_overhead && (block - pool - cfg->pool_overhead) % size == 0)
			return size;
	}
	return 0;
}

/* The size of a block of which nothing else is known: that of its pool's class, or the least its type needs. */
static __always_inline __u64 object_size(const struct object_cfg *cfg, __u64 block, __u64 object, __u64 type)
{
	__u64 size = object_class_size(cfg, block);

	if (size)
		return size;
	return NURSERY_SIZE(walk_read_u64(type + cfg->tp_basicsize) + (object - block));
}

/* Ends the account of a block, wherever it is. Returns its size, 0 if that is not known here. */
static __always_inline __u64 object_end(const struct hit *h, __u64 block)
{
	struct nursery_slot taken;

	if (!nursery_take(h->target, block, &taken)) {
		count(h->target, STAT_CANCELLED);
		return NURSERY_SIZE(taken.size);
	}
	emit_block(EVENT_FREE, 0, h->target, block, 0, 0, STAT_LOST_FREE);
	return 0;
}

static __always_inline void object_created(const struct hit *h, __u64 object)
{
	const struct object_cfg *cfg = &h->cfg->objects;
	__u64 type = walk_read_u64(object + cfg->ob_type);
	__u64 flags = walk_read_u64(type + cfg->tp_flags);
	__u64 block = object_block(cfg, object, flags), tstate, size;

	/* A type that is in use has flags, READY at least. */
	if (!flags) {
		count(h->target, STAT_LOST_OBJECT);
		return;
	}
	flags = NURSERY_OBJECT | (flags & TP_DICT_SUBCLASS ? NURSERY_DICT : 0);
	count(h->target, STAT_CREATED);
	if (nursery_mark_object(h->target, block, flags))
		return;
	/* In sampled mode a large block belongs to the large group, whose windows are others. */
	if (h->window && !object_class_size(cfg, block))
		return;
	count(h->target, STAT_RECREATED);
	if (destroyed_take(h->target, block, &size))
		size = object_end(h, block);
	if (!size)
		size = object_size(cfg, block, object, type);
	tstate = walk_tstate(&h->cfg->walk, ARCH_FS_BASE(), 0, 1);
	nursery_put(h->target, block, size | flags, emit_stack_of(h->cfg, h->target, tstate, &h->t->walk), h->now_ns);
}

static __always_inline void object_destroyed(const struct hit *h, __u64 object)
{
	const struct object_cfg *cfg = &h->cfg->objects;
	__u64 flags = walk_read_u64(walk_read_u64(object + cfg->ob_type) + cfg->tp_flags);
	__u64 block = object_block(cfg, object, flags);

	if (!flags) {
		count(h->target, STAT_LOST_OBJECT);
		return;
	}
	count(h->target, STAT_DESTROYED);
	destroyed_put(h->target, block, object_end(h, block));
}

static __always_inline void objects_on_event(const struct hit *h, __u64 object, __u64 event)
{
	if ((__u32)event == OBJECT_CREATED)
		object_created(h, object);
	else if ((__u32)event == OBJECT_DESTROYED)
		object_destroyed(h, object);
}
