/* SPDX-License-Identifier: MIT */
/*
 * How large an object is, as sys.getsizeof() says, and which other blocks it owns. From bytes that were read before; no system calls here:
 * what else must be read is asked for, so that the caller can read for thousands of objects at once.
 */
#pragma once

#include "interp/types.h"

#define OBJECT_PARTS_MAX 3u
#define OBJECT_NEED_MAX 256u   /* bytes that are asked for at once */

enum object_part_kind {
	PART_DICT_KEYS,
	PART_INSTANCE_VALUES,
	PART_LIST_ARRAY,
	PART_SET_TABLE,
	PART_BYTEARRAY_BUFFER,
	PART_DEQUE_BLOCKS,     /* blocks times the size of one; addr is the leftmost */
	PART_STR_DATA,         /* of a str that is not compact, or its UTF-8 form */
	PART_OTHER,
};

/* Memory of its own that an object owns. */
struct object_part {
	raddr_t addr;          /* as the allocator returned it (of a key table with an index in front: the block, not the PyDictKeysObject) */
	uint64_t bytes;        /* as requested of the allocator; of more than one block, their sum */
	uint32_t blocks;
	enum object_part_kind kind;
	bool counted;          /* is it part of sys.getsizeof()? */
};

struct object_size {
	uint64_t bytes;        /* sys.getsizeof(object): GC head and pre-header included, and the parts that are counted */
	struct object_part parts[OBJECT_PARTS_MAX];
	uint32_t n_parts;
	struct {
		raddr_t addr;
		uint32_t bytes;   /* 0: nothing more is needed, the answer is complete */
		uint32_t step;    /* private */
	} need;
};

struct object_sizes;

/* types must outlive it. -ENOMEM. */
int object_sizes_new(struct types *types, struct object_sizes **ret_sizes);
void object_sizes_free(struct object_sizes *sizes);
DEFINE_CLEANUP(struct object_sizes, object_sizes_free)

/*
 * The object of this type (an id of types) at addr, whose first len bytes, from ob_refcnt, are in object. -EPROTO: makes no sense (torn,
 * or no such object); ret is untouched then. While ret->need.bytes is not 0, read them and call object_size_go_on().
 */
int object_size_of(struct object_sizes *sizes, uint32_t type, raddr_t addr, const uint8_t *object, size_t len, struct object_size *ret);
/* needed: the bytes that were asked for. -EPROTO as above. */
int object_size_go_on(struct object_sizes *sizes, const uint8_t *needed, struct object_size *size);
