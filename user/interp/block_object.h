/* SPDX-License-Identifier: MIT */
/* The object in a block of memory: which type, where it starts, and a fingerprint of what never changes. */
#pragma once

#include "interp/types.h"

#define BLOCK_OBJECT_BYTES 176u   /* of a block's start: enough for type and fingerprint of any object */

struct block_object {
	uint32_t type;     /* 0: no object, or it cannot be told */
	uint32_t start;    /* of the object, bytes from the block's start */
	bool parked;       /* on one of CPython's free lists, or being freed at this moment */
};

/* bytes: len bytes from the start of a block of block_size bytes, as the allocator sees it (with what debug hooks add). */
void block_object_find(struct types *types, const uint8_t *bytes, size_t len, uint64_t block_size, struct block_object *ret);
/* A fingerprint, never 0 for an object: its type and, where they never change, its contents (at most 64 bytes). 0 for no object. */
uint64_t block_object_print(const struct types *types, const struct block_object *object, const uint8_t *bytes, size_t len);

/*
 * An object in static storage? bytes: len bytes from ob_refcnt on; before: the 16 bytes in front of it (zeros where there are none). The
 * answer is its type, 0 for none, and how many bytes it takes at least. Strict, since tables of types and counts look alike: a type object
 * must be one by itself, anything else of a static type, untracked if it could be tracked, and its count no address of (from, to), the
 * image it lies in.
 */
uint32_t static_object_find(struct types *types, raddr_t addr, const uint8_t *before, const uint8_t *bytes, size_t len, raddr_t from,
			    raddr_t to, uint32_t *ret_bytes);
