/* SPDX-License-Identifier: MIT */
/*
 * kernel -> user: the records that cross the ring, and the counters of what
 * was seen and what was lost. Fixed width, little endian, versioned; the same
 * bytes go into capture files (user/trace/capture.h), so old captures replay.
 */
#pragma once

#ifndef LEAKSNOOP_TYPES
#include <linux/types.h>
#endif

#define EVENT_VERSION 1

/* Record kinds: enum, name in captures and debug output. */
#define EVENT_KINDS(X)                      \
	X(ALLOC, "alloc")                   \
	X(FREE, "free")                     \
	X(REALLOC_FAILED, "realloc-failed") \
	X(STACK, "stack")                   \
	X(CODE, "code")                     \
	X(CODE_FREE, "code-free")           \
	X(POOL, "pool")                     \
	X(ARENA_ALLOC, "arena-alloc")       \
	X(ARENA_FREE, "arena-free")         \
	X(MMAP, "mmap")                     \
	X(MUNMAP, "munmap")                 \
	X(MREMAP, "mremap")                 \
	X(BRK, "brk")                       \
	X(FAULT, "fault")                   \
	X(FORK, "fork")                     \
	X(EXEC, "exec")                     \
	X(EXIT, "exit")

enum event_kind {
	EVENT_NONE,
#define X(id, name) EVENT_##id,
	EVENT_KINDS(X)
#undef X
	EVENT_KIND_COUNT
};

struct event_hdr {
	__u16 kind;     /* enum event_kind */
	__u16 flags;    /* EVENT_F_* */
	__u32 target;   /* index into the targets map */
	__u64 time_ns;  /* CLOCK_MONOTONIC */
};
_Static_assert(sizeof(struct event_hdr) == 16, "crosses the ring");

#define EVENT_F_REALLOC 1u     /* FREE: the old block of a realloc under way; ALLOC: its new block */
#define EVENT_F_TRUNCATED 2u   /* STACK: deeper than max_frames; CODE: a string or the line table did not fit */
#define EVENT_F_BROKEN 4u      /* STACK: a frame could not be read (paged out, or torn); what is there is right */
#define EVENT_F_IN_ALLOCATOR 8u /* MMAP, BRK, FAULT: inside a traced allocator call, counted there already */
#define EVENT_F_IN_ARENA 16u   /* MMAP, MUNMAP: pymalloc's arena function at work */
#define EVENT_F_OBJECT 32u     /* ALLOC: an object whose creation was seen (3.13+): time and stack are its creator's */
#define EVENT_F_DICT 64u       /* ALLOC: and it is a dict, or of a subclass */
#define EVENT_F_LARGE 128u     /* ALLOC, FREE, sampled mode: through WINDOW_LARGE's slots; a FREE has size and stack, then */

/* A block that outlived the nursery, when it was pushed out by another. time_ns is that of the allocation. */
struct event_alloc {
	struct event_hdr hdr;
	__u64 addr;
	__u64 size;     /* bytes requested */
	__u64 stack;    /* id of a STACK record sent before; 0: no Python stack */
};
_Static_assert(sizeof(struct event_alloc) == 40, "crosses the ring");

/* FREE, REALLOC_FAILED, CODE_FREE, ARENA_FREE, MUNMAP, BRK (addr: new break), FAULT, POOL (addr: first block, size: of the class) */
struct event_block {
	struct event_hdr hdr;
	__u64 addr;
	__u64 size;     /* bytes, 0 where it says nothing */
	__u64 stack;    /* 0 where it says nothing */
	__u64 tid;
};
_Static_assert(sizeof(struct event_block) == 48, "crosses the ring");

/* MMAP and MREMAP, at the return of the call. */
struct event_map {
	struct event_hdr hdr;
	__u64 addr, size;           /* the new mapping */
	__u64 old_addr, old_size;   /* MREMAP; else 0 */
	__u64 stack;
	__u32 map_flags;            /* MAP_* */
	__u32 tid;
};
_Static_assert(sizeof(struct event_map) == 64, "crosses the ring");

struct frame_rec {
	__u64 code;      /* address of the code object: names a CODE record sent before */
	__s32 offset;    /* byte offset of the instruction in its code; < 0: not started */
	__u32 reserved;
};
_Static_assert(sizeof(struct frame_rec) == 16, "crosses the ring");

/* A traceback seen for the first time (or again after a code object was freed): innermost frame first. */
struct event_stack {
	struct event_hdr hdr;
	__u64 stack;     /* its id: a 64-bit hash of the frames */
	__u32 count;     /* frames that follow, <= MAX_FRAMES */
	__u32 reserved;
	struct frame_rec frames[];
};
_Static_assert(sizeof(struct event_stack) == 32, "crosses the ring");

/* What names a code object, copied while a frame keeps it alive. Strings as CPython holds them: kind bytes a character. */
#define CODE_NAME_MAX 256
#define CODE_FILE_MAX 512
#define CODE_TABLE_MAX 3072

struct event_code {
	struct event_hdr hdr;
	__u64 code;
	__u64 linetable;        /* address of the bytes object, for the rest of a table that did not fit */
	__u32 linetable_size;   /* bytes, of the whole table */
	__s32 firstlineno;
	__u16 name_size, file_size;  /* bytes that follow, already bounded */
	__u8 name_kind, file_kind;   /* 1, 2 or 4 bytes a character; 1 is Latin-1 (of which ASCII is a part); 0: unreadable */
	__u16 table_size;            /* bytes of the line table that follow */
	__u8 name[CODE_NAME_MAX];
	__u8 file[CODE_FILE_MAX];
	__u8 table[];
};
_Static_assert(sizeof(struct event_code) == 48 + CODE_NAME_MAX + CODE_FILE_MAX, "crosses the ring");

/* FORK (pid: the child), EXEC, EXIT. */
struct event_task {
	struct event_hdr hdr;
	__u32 pid;
	__u32 exit_code;   /* EXIT: as wait(2) */
};
_Static_assert(sizeof(struct event_task) == 24, "crosses the ring");

/*
 * Counters, one row a target and CPU. First what happened, then each way of
 * losing something, with the remedy printed beside the number.
 */
#define STATS(X)                                                                                          \
	X(ALLOCS, "allocations seen", "")                                                                 \
	X(FREES, "frees seen", "")                                                                        \
	X(REALLOCS, "reallocations seen", "")                                                             \
	X(ALLOC_BYTES, "bytes allocated", "")                                                             \
	X(OBJ_ALLOCS, "allocations of the mem and obj domains", "")                                       \
	X(OBJ_FREES, "frees of the mem and obj domains", "")                                              \
	X(CANCELLED, "blocks freed in the nursery", "")                                                   \
	X(ALLOC_FAILED, "allocations that returned NULL", "")                                             \
	X(UNPREDICTED, "sampled allocations of unknown address", "")                                      \
	X(CREATED, "objects created", "")                                                                 \
	X(RECREATED, "objects created in memory that was not allocated for them", "")                     \
	X(DESTROYED, "objects destroyed", "")                                                             \
	X(MAPPINGS, "calls of mmap, munmap, mremap and brk", "")                                          \
	X(STACKS, "stacks sent", "")                                                                      \
	X(CODES, "code objects sent", "")                                                                 \
	X(NO_TSTATE, "events of threads without Python state", "native threads; nothing to do")           \
	X(LOST_ALLOC, "allocations lost", "ring full; raise --ring-size")                                 \
	X(LOST_FREE, "frees lost", "ring full; raise --ring-size")                                        \
	X(LOST_STACK, "stacks lost", "ring full; raise --ring-size")                                      \
	X(LOST_CODE, "code objects lost", "ring full; raise --ring-size")                                 \
	X(LOST_OTHER, "other records lost", "ring full; raise --ring-size")                               \
	X(LOST_THREAD, "events without thread storage", "kernel out of atomic memory; retry")             \
	X(LOST_RETURN, "returns missed", "nested return probes; none known")                              \
	X(LOST_CONTENDED, "nursery slots contended", "two threads at one slot; none needed unless large") \
	X(LOST_UNSEEN, "frees that passed unseen", "an allocator path without a probe; see leaksnoop doctor") \
	X(LOST_OBJECT, "objects whose type could not be read", "memory paged out; rare ones are missing") \
	X(BAD_FRAME, "stacks cut at an unreadable frame", "memory paged out; rare frames are missing")

#define STAT_LOST_FIRST STAT_LOST_ALLOC   /* from here on: losses */

enum stat_id {
#define X(id, text, remedy) STAT_##id,
	STATS(X)
#undef X
	STAT_COUNT
};

struct target_stats {
	__u64 n[STAT_COUNT];
};

/* The value of the stacks_seen map, whose key is the id of a stack. */
struct stack_count {
	__u64 blocks;   /* allocations seen with it, since it was sent */
};

/* The nursery: a direct-mapped table that user space maps and reads at report time. A block that sits here is alive. */
struct nursery_slot {
	__u64 key;      /* NURSERY_KEY(); 0: empty; 1: being changed */
	__u64 size;     /* NURSERY_SIZE(), and the bits below */
	__u64 stack;
	__u64 time_ns;
};
_Static_assert(sizeof(struct nursery_slot) == 32, "mapped by user space");

/* In the size, whose top bits no allocation can have: the block is an object whose creation was seen, and it is a dict. */
#define NURSERY_OBJECT (1ull << 63)
#define NURSERY_DICT (1ull << 62)
/* Sampled mode: it came through the large group's slots. */
#define NURSERY_LARGE (1ull << 61)
/* And it took another block's place. */
#define NURSERY_REALLOC (1ull << 60)
#define NURSERY_SIZE(size) ((size) & ~(NURSERY_OBJECT | NURSERY_DICT | NURSERY_LARGE | NURSERY_REALLOC))
/* As they cross. */
#define NURSERY_FLAGS(size)                                                                             \
	(((size) & NURSERY_OBJECT ? EVENT_F_OBJECT : 0) | ((size) & NURSERY_DICT ? EVENT_F_DICT : 0) | \
	 ((size) & NURSERY_LARGE ? EVENT_F_LARGE : 0) | ((size) & NURSERY_REALLOC ? EVENT_F_REALLOC : 0))

#define NURSERY_BUSY 1ull
#define NURSERY_KEY(target, addr) (((__u64)(target) << 44) | ((__u64)(addr) >> 3))
#define NURSERY_TARGET(key) ((__u32)((key) >> 44))
#define NURSERY_ADDR(key) (((key) & ((1ull << 44) - 1)) << 3)
#define NURSERY_HASH(key, slots) ((__u32)((((key) * 0x9e3779b97f4a7c15ull) >> 32) & ((slots)-1)))
