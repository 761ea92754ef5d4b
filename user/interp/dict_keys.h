/* SPDX-License-Identifier: MIT */
/* The key tables of dicts: their size where it goes through a free list, and which dict holds which. */
#pragma once

#include "interp/python.h"

/* Bytes requested for a key table of 8 slots with str keys, the kind that the free list of key tables keeps (any keys, up to 3.10); 0: not known. */
uint64_t dict_keys_free_list_size(const struct python *python);

/*
 * What the dicts in these blocks refer to as their key table: ret_keys[i][0] if the object follows the block's GC head, [1] if an instance's
 * dictionary and weak references stand before that. 0 where it cannot be read. The target runs on: what is read is a hint.
 */
void dict_keys_read(const struct python *python, const uint64_t *blocks, size_t count, uint64_t (*ret_keys)[2]);

/*
 * Do these first bytes of a block look like a key table that fills it? room: bytes usable in the block; slack: by how many it may be
 * larger than asked for.
 */
bool dict_keys_fit(const struct python *python, const uint8_t *bytes, size_t len, uint64_t room, uint64_t slack);
