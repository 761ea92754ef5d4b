/* SPDX-License-Identifier: MIT */
/* What x86-64 code says of the allocator tables and of pymalloc's static variables. Private to interp/. */
#pragma once

#include "interp/slots.h"
#include "target/code_x86.h"

/* The instructions of an exported function; a jump right at its start (a body the linker or compiler moved away) is followed once. */
ssize_t code_decode_function(const struct image *image, const char *name, struct code_insn *ret_insns, size_t max);

/* The table (PyMemAllocatorEx) that the exported malloc of a domain loads ctx and malloc from. -ENOENT if the code does not say. */
int slots_table_from_code(const struct image *image, enum alloc_domain domain, raddr_t *ret_table);
/* The arena table (PyObjectArenaAllocator), by PyObject_GetArenaAllocator. */
int slots_arena_from_code(const struct image *image, raddr_t *ret_table);
/* True if the allocator functions of the API compare the slot with a function before they call it: PGO's indirect-call promotion. */
bool slots_code_has_guards(const struct image *image);

/* Static variables of pymalloc up to 3.11; null: not found. */
struct obmalloc_vars {
	raddr_t arenas, maxarenas, raw_blocks, highwater;
	raddr_t counter;    /* 3.8: _Py_AllocatedBlocks */
};

/* plausible(arg, arenas, maxarenas) decides which loaded variables are the array of arenas and its length, by their values. */
int obmalloc_vars_from_code(const struct python *python, bool (*plausible)(const struct python *, raddr_t arenas, uint32_t max),
			    struct obmalloc_vars *ret_vars);
/* Displacements that _PyObject_Malloc's callers-to-be load off a register and that could be interp->obmalloc, in code order. */
size_t obmalloc_offsets_from_code(const struct image *image, uint32_t *ret_offsets, size_t max);
