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

/* One traced process: the value of the targets map. */
struct target_cfg {
	__u32 tgid;               /* in the tracer's initial PID namespace */
	__u32 flags;              /* TARGET_* */
	struct walk_cfg walk;
};

#define TARGET_ACTIVE 1u

/* Domains and functions of the allocator tables, and the cookie that tells a probe which of them it sits on. */
enum alloc_domain { DOMAIN_RAW, DOMAIN_MEM, DOMAIN_OBJ, DOMAIN_COUNT };
enum alloc_function { FN_MALLOC, FN_CALLOC, FN_REALLOC, FN_FREE, FN_COUNT };

#define PROBE_COOKIE(target, domain) (((__u64)(target) << 8) | (__u64)(domain))
#define COOKIE_TARGET(cookie) ((__u32)((cookie) >> 8))
#define COOKIE_DOMAIN(cookie) ((__u32)((cookie)&0xff))
