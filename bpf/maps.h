/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every map of the BPF side, what it is for and what bounds it.
 *
 * State of one thread lives in task storage, never in per-CPU scratch: a uprobe
 * program can be preempted, and another one may then run on the same CPU.
 */
#pragma once

#include "control.h"
#include "event.h"
#include "walker.h"

/* What a thread is in the middle of. */
struct thread_state {
	/* An allocator call under way: from its entry to its return. sp identifies it; 0: none. */
	__u64 sp;
	__u64 size;
	__u64 old;               /* realloc: the old block */
	__u32 domain;            /* enum alloc_domain */
	__u16 is_realloc;
	__u16 predicted;         /* the call has no return probe: a fresh pool, or the raw domain, will tell its address */
	__u64 raw_sp;            /* the raw domain's call that serves it */
	struct nursery_slot taken;  /* realloc: the old block's record, put back if the call fails; key 0: it was not in the nursery */
	__u64 freed;             /* last block freed through mem or obj: libc's turn for the same block follows at once */
	/* pymalloc's arena function, or a fresh pool, under way. */
	__u64 arena_sp, arena_size;
	__u64 pool_sp;
	__u32 pool_class;
	__u32 reserved;
	struct walk_scratch walk;
};

struct target_state {
	__u64 epoch;             /* grows when a code object is freed: stacks seen before are sent anew */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);   /* --ring-size */
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);          /* set by the session, <= MAX_TARGETS */
	__type(key, __u32);
	__type(value, struct target_cfg);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct target_state);
} target_states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct target_stats);
} stats SEC(".maps");

/* tgid -> index into targets; forked children of an armed target are in it, too, until they are disarmed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u32);
} pids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread_state);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << 17);    /* a power of two */
	__type(key, __u32);
	__type(value, struct nursery_slot);
} nursery SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);          /* set by the session, as targets */
	__type(key, __u32);
	__type(value, struct target_windows);
} windows SEC(".maps");

/* A struct window_alarm each; read by the watchdog. One that is lost is made up for by the deadline. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} alarms SEC(".maps");
/*
 * Blocks whose object was destroyed, by hash of the block: memory that is about to be freed, or sits in a free list of the interpreter. One
 * forgotten (another wanted its place) costs a FREE record that finds nothing.
 */
struct destroyed {
	__u64 key;               /* NURSERY_KEY() */
	__u64 size;              /* as requested; 0: not known here */
};

#define DESTROYED_SLOTS (1 << 14)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DESTROYED_SLOTS);
	__type(key, __u32);
	__type(value, struct destroyed);
} destroyed SEC(".maps");

/* Ids of the stacks sent. LRU: one forgotten is sent again, which costs only ring space. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 16);
	__type(key, __u64);
	__type(value, struct stack_count);
} stacks_seen SEC(".maps");

/* Code objects sent and not freed since: CODE_KEY(). When it is full, code objects are sent with every new stack. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, __u64);
	__type(value, __u8);
} codes_known SEC(".maps");

#define CODE_KEY(target, addr) (((__u64)(target) << 48) | (addr))

/* A Bloom filter of one hash before codes_known, so that nearly every free is spared the look-up. Cleared when nobody is traced. */
#define CODE_FILTER_WORDS (1 << 14)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CODE_FILTER_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} code_filter SEC(".maps");
