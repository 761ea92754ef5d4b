/* SPDX-License-Identifier: MIT */
/*
 * user -> kernel: what the BPF programs are told. Fixed width, no pointers;
 * compiled by both sides (with event.h the only such file), so that a layout
 * that crosses the border is written once. Filled by user/trace/, the walker
 * part by user/interp/walk_cfg.c.
 */
#pragma once

#ifndef LEAKSNOOP_TYPES
#include <linux/types.h>
#endif

#define CONTROL_VERSION 1

#define MAX_FRAMES 128         /* deepest stack recorded; --frames chooses less */
#define MAX_TARGETS 1024       /* processes traced at once: entries of the targets map */
#define FRAME_READ_MAX 112     /* bytes of a frame object the walker reads at once: f_lasti of 3.8 ends at 108 */
#define NO_OFFSET 0xffffffffu  /* this version has no such field */

/* How the current thread state of the running thread is found. */
enum tstate_source {
	TSTATE_GLOBAL = 1,  /* *(u64 *)(tstate_addr): the holder of the one GIL (<= 3.11); believed only if its thread_id is our fs base */
	TSTATE_TLS = 2,     /* *(u64 *)(fs + tls_offset): executable, or a library in the static TLS area (3.12+) */
	TSTATE_DTV = 3,     /* *(u64 *)(dtv[tls_module] + tls_offset), dtv = *(fs + 8): library loaded by dlopen (3.12+) */
};

/* How a frame says which instruction it is at. */
enum instr_kind {
	INSTR_LASTI_BYTES = 1,  /* i32 f_lasti in bytes (3.8, 3.9) */
	INSTR_LASTI_UNITS = 2,  /* i32 f_lasti in 2-byte units (3.10) */
	INSTR_POINTER = 3,      /* pointer into co_code_adaptive (3.11+) */
};

/* Everything the stack walker needs to know of one process. Offsets in bytes. */
struct walk_cfg {
	__u64 tstate_addr;        /* TSTATE_GLOBAL: address of gilstate.tstate_current */
	__u64 tls_offset;         /* TSTATE_TLS, TSTATE_DTV: signed, as u64 */
	__u64 tls_module;         /* TSTATE_DTV */
	__u64 fallback_offset;    /* detached threads: *(fs + fallback_offset) is their thread state (pthread TSS slot, or _Py_tss_gilstate); 0: none */
	__u64 tag_mask;           /* AND-ed to an executable's address: ~3 for _PyStackRef (3.14+), ~0 before */
	__u32 tstate_source;      /* enum tstate_source */
	__u32 instr_kind;         /* enum instr_kind */
	__u32 ts_thread_id;       /* tstate->thread_id: pthread_self, which is the fs base */
	__u32 ts_interp;          /* tstate->interp */
	__u32 ts_frame;           /* tstate->frame | cframe | current_frame */
	__u32 cframe_current;     /* 3.11, 3.12: tstate->cframe->current_frame; else NO_OFFSET: ts_frame is the frame */
	__u32 fr_read;            /* bytes of a frame to read, <= FRAME_READ_MAX; all offsets below end within */
	__u32 fr_code;
	__u32 fr_back;
	__u32 fr_instr;
	__u32 fr_owner;           /* u8; NO_OFFSET: none (<= 3.10) */
	__u32 owner_shim;         /* frames with owner >= this are no Python frames: skipped; 255: none */
	__u32 co_code;            /* INSTR_POINTER: co_code_adaptive */
	__u32 co_filename;
	__u32 co_name;            /* co_qualname where there is one (3.11+), else co_name */
	__u32 co_firstlineno;
	__u32 co_linetable;       /* co_linetable (3.10+) or co_lnotab */
	__u32 str_state;          /* PyASCIIObject.state */
	__u32 str_length;
	__u32 str_ascii_data;     /* sizeof(PyASCIIObject) */
	__u32 str_compact_data;   /* sizeof(PyCompactUnicodeObject) */
	__u32 bytes_size;         /* PyBytesObject.ob_size */
	__u32 bytes_data;         /* PyBytesObject.ob_sval */
	__u32 max_frames;         /* <= MAX_FRAMES; set by the session, not by interp/ */
};

/* Where the usedpools array of the running interpreter is. */
enum predict_kind {
	PREDICT_NONE,       /* addresses are learned at the return of each call */
	PREDICT_STATIC,     /* one array for all (<= 3.11) */
	PREDICT_INLINE,     /* in the interpreter, unless it uses the main one's (3.12) */
	PREDICT_POINTER,    /* behind a pointer of the interpreter (3.13+) */
};

/*
 * pymalloc hands out the first free block of the first used pool of the size class (Objects/obmalloc.c, pymalloc_alloc): under the
 * GIL its address is known before the call runs, and no return probe is needed.
 */
struct predict_cfg {
	__u64 usedpools;          /* the array, that of the main interpreter */
	__u64 main_interp;
	__u32 kind;               /* enum predict_kind */
	__u32 in_obmalloc;        /* interp->obmalloc */
	__u32 in_feature_flags;   /* PREDICT_INLINE */
	__u32 ob_used;            /* pools.used in the state */
	__u32 po_freeblock;       /* pool_header.freeblock */
	/* Where the next fresh pool comes from, for calls that find no pool with room; usable_arenas 0: not known. */
	__u64 usable_arenas;      /* PREDICT_STATIC: address of the pointer; else its offset from usedpools */
	__u32 ar_pool_address, ar_freepools, ar_nfreepools;
	__u32 po_szidx;
	__u32 pool_overhead;
	__u32 reserved;
};

#define PREDICT_SIZE_MAX 512u         /* SMALL_REQUEST_THRESHOLD */
#define PREDICT_CLASS_SHIFT 4         /* ALIGNMENT_SHIFT */
#define PREDICT_MAIN_OBMALLOC 0x20u   /* Py_RTFLAGS_USE_MAIN_OBMALLOC in feature_flags */

/* What an object says of itself and of its block (3.13+, where the reference tracer's slot tells of objects). Offsets in bytes. */
struct object_cfg {
	__u32 ob_type;            /* 0: objects are not seen */
	__u32 tp_flags;
	__u32 tp_basicsize;
	__u32 gc_head;            /* bytes before a collected object */
	__u32 pool_size;          /* a power of two; 0: blocks are not pymalloc's */
	__u32 pool_overhead;      /* bytes of a pool before its first block */
	__u32 po_szidx;           /* pool_header.szidx */
	__u32 reserved;
};

#define OBJECT_PREHEADER 16u                            /* dict and weak references before the GC head */
#define TP_PREHEADER ((1ull << 3) | (1ull << 4))        /* Py_TPFLAGS_PREHEADER: MANAGED_WEAKREF or MANAGED_DICT */
#define TP_HAVE_GC (1ull << 14)
#define TP_DICT_SUBCLASS (1ull << 29)

/* One traced process: the value of the targets map. */
struct target_cfg {
	__u32 tgid;               /* in the tracer's initial PID namespace */
	__u32 sampled;            /* slots are armed in windows only: struct target_windows holds */
	__u32 no_mappings;        /* its mmap and brk are of no interest (any more) */
	__u32 reserved;
	struct walk_cfg walk;
	struct predict_cfg predict;
	struct object_cfg objects;
};

/* Domains and functions of the allocator tables. */
enum alloc_domain { DOMAIN_RAW, DOMAIN_MEM, DOMAIN_OBJ, DOMAIN_COUNT };
enum alloc_function { FN_MALLOC, FN_CALLOC, FN_REALLOC, FN_FREE, FN_COUNT };

/*
 * Sampled mode: slots are armed for a window at a time, in two groups with windows of their own. The many small blocks come through
 * mem and obj; large ones, and what is asked of raw itself, end in raw, which is called so seldom that it can be armed far longer.
 */
enum window_group { WINDOW_SMALL, WINDOW_LARGE, WINDOW_GROUP_COUNT };

#define SMALL_SIZE_MAX PREDICT_SIZE_MAX

/* A target that allocates does so every few microseconds while it computes; so long without a hit it was idle. */
#define WINDOW_IDLE_NS 20000

/*
 * User space opens a window by setting what is its own, then arming. The programs end it: past the deadline, or past hits_max, nothing
 * is recorded any more, and the watchdog is told to disarm.
 */
struct window {
	__u64 deadline_ns;        /* user space: CLOCK_MONOTONIC */
	__u64 hits_max;           /* user space */
	__u64 hits;               /* programs run for this group, entries and returns; zeroed by user space */
	__u64 run_ns;             /* time spent in them; zeroed by user space */
	__u64 first_ns;           /* of the first; zeroed by user space */
	__u64 last_ns, idle_ns;   /* end of the last; the times between two in which its thread slept; zeroed by user space */
	__u64 last_switches;      /* how often its thread had gone to sleep by then, and which thread: tid << 32 | number; zeroed by user space */
	__u64 ended_ns;           /* when the programs ended it; 0: they have not */
};

/* The value of the windows map, one a target, mapped by user space. */
struct target_windows {
	struct window group[WINDOW_GROUP_COUNT];
};
_Static_assert(sizeof(struct target_windows) % 8 == 0, "mapped by user space");

/* kernel -> watchdog: a window is over, and its slots are still armed. */
struct window_alarm {
	__u32 target, group;
};

/* What stands at a probed site. The first four are enum alloc_function. */
enum probe_kind {
	PROBE_MALLOC,
	PROBE_CALLOC,
	PROBE_REALLOC,
	PROBE_FREE,
	PROBE_ARENA_ALLOC,   /* PyObjectArenaAllocator.alloc */
	PROBE_ARENA_FREE,
	PROBE_POOL,          /* allocate_from_new_pool, passive mode: each fresh pool is an event */
	PROBE_FRESH,         /* the same, exact mode: it stands for the return of a predicted call */
	PROBE_OBJECT,        /* the reference tracer: an object was created, or is about to be destroyed (3.13+) */
};

/* The cookie that tells a probe where it sits. arg: the domain; of PROBE_POOL, which argument is the size class. */
#define PROBE_COOKIE(target, kind, arg) (((__u64)(target) << 16) | ((__u64)(kind) << 8) | (__u64)(arg))
#define COOKIE_TARGET(cookie) ((__u32)((cookie) >> 16))
#define COOKIE_KIND(cookie) ((__u32)((cookie) >> 8) & 0xff)
#define COOKIE_ARG(cookie) ((__u32)(cookie)&0xff)
