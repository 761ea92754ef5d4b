/* SPDX-License-Identifier: MIT */
/*
 * The allocator tables of a process and the functions in their slots.
 * Found by code (<= 3.11: the RIP-relative loads of the exported PyObject_Malloc,
 * PyMem_Malloc, PyMem_RawMalloc, PyObject_GetArenaAllocator) or by offset (3.12+), and checked
 * against each other where both are to be had.
 */
#pragma once

#include "../bpf/control.h"
#include "base/err.h"
#include "base/raddr.h"
#include "interp/python.h"

/* Who serves a domain. X-macro: enum and name in reports. */
#define ALLOCATORS(X)                \
	X(UNKNOWN, "unknown")        \
	X(PYMALLOC, "pymalloc")      \
	X(MALLOC, "malloc")          \
	X(MIMALLOC, "mimalloc")      \
	X(CUSTOM, "custom")

enum allocator {
#define X(id, name) ALLOCATOR_##id,
	ALLOCATORS(X)
#undef X
};

const char *allocator_name(enum allocator allocator);

struct slot {
	raddr_t addr;        /* of the 8-byte pointer; 8-aligned */
	raddr_t value;       /* what it holds now */
	raddr_t function;    /* the function it stands for: value, or, if value is an alias left by a killed tracer, the function behind it */
	bool armed;          /* value is an alias */
};

struct slots {
	struct slot fn[DOMAIN_COUNT][FN_COUNT];
	raddr_t table[DOMAIN_COUNT];           /* PyMemAllocatorEx */
	raddr_t arena_alloc, arena_free;       /* functions in the arena table, null if the build has none */
	struct slot ref_tracer;                /* 3.13+ (ref_tracer.h); addr null: there is none. Its function, nobody's, is null */
	enum allocator allocator;              /* behind all hooks, of the obj domain */
	bool debug_hooks;                      /* PYTHONMALLOC=debug or -X dev */
	bool tracemalloc;                      /* tracemalloc is tracing */
	char text[96];                         /* "pymalloc", "malloc under debug hooks", "pymalloc under tracemalloc", ... */
};

/* Reads and validates: tables inside the image's writable data, slots pointing at executable code. Follows ctx through debug hooks and
 * tracemalloc to the allocator behind. -EPROTO if it makes no sense; err filled. */
int slots_read(const struct python *python, struct slots *ret_slots, struct err *err);

/* Slots that hold an alias: armed by a tracer that is at work, or left so by one that was killed. */
size_t slots_armed(const struct slots *slots);

/* allocate_from_new_pool (entry), found from _PyObject_Malloc's direct calls; null with -ENOENT where it is inlined (3.8) or the
 * allocator is not pymalloc. *ret_class_arg: which argument register holds the size class (0 rdi, 1 rsi). */
int slots_new_pool(const struct python *python, const struct slots *slots, raddr_t *ret_fn, int *ret_class_arg);
/* The static variable usable_arenas (<= 3.11), as the code of allocate_from_new_pool loads it. -ENOENT: later versions keep it in the state. */
int slots_usable_arenas(const struct python *python, raddr_t new_pool, raddr_t *ret_variable);
