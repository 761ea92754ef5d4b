/* SPDX-License-Identifier: MIT */
/*
 * Does a block outside of pymalloc's arenas belong to Python? Told by its first bytes alone:
 *
 *   an object (str, bytes, tuple, int, numpy.ndarray, ...) by its type and reference count;
 *   a dict's key table by its header, whose numbers must fit the block's size;
 *   a list's array or a set's table by its words: addresses in pymalloc's arenas or in the interpreter's data, or 0.
 *
 * What stays unknown: buffers of bytearray and array.array, str data of subclasses, the arrays of large lists that begin with large
 * objects. They, and what C extensions allocate (numpy's data among it), count as libc's.
 */
#pragma once

#include <stdbool.h>

#include "interp/types.h"

struct python_large {
	struct types *types;
	uint64_t min_bytes;             /* blocks with less room are not Python's: pymalloc serves those */
	uint64_t data_start, data_end;  /* the interpreter's own data: None, True, static types and small ints */
};

/* Begins a new look of types, which must outlive it. */
int python_large_init(struct python_large *large, struct types *types, const struct maps *maps);
/* head: the first bytes of a block with room for room bytes. */
bool python_large_is(const struct python_large *large, const uint8_t *head, uint32_t head_bytes, uint64_t room);
