/* SPDX-License-Identifier: MIT */
/*
 * How large an object is, as sys.getsizeof() says, and which other blocks it owns. From bytes that were read before; no system calls here:
 * what else must be read is asked for, so that the caller can read for thousands of objects at once. (The first object of a type costs
 * a few reads: its base classes are looked up.)
 *
 * Known are the interpreter's types, its standard library's and numpy's arrays and scalars. Limits: a type whose __sizeof__ is not known
 * (another C extension's own, a class that defines one in Python) is answered as object.__sizeof__() would: tp_basicsize, and ob_size
 * times tp_itemsize. As with sys.getsizeof(), the values that lie inside an instance from 3.13 on are not counted.
 */
#pragma once

#include "interp/types.h"

#define OBJECT_PARTS_MAX 4u
#define OBJECT_NEED_MAX 256u   /* bytes that are asked for at once */
#define OBJECT_STEPS_MAX 4096u /* questions about one object */
#define OBJECT_PENDING_MAX 4u

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

/*
 * Memory of its own that an object owns. It can be an object itself, which only its owner refers to: the bytes of a bytearray (3.15), a
 * BytesIO or a pickler.
 */
struct object_part {
	raddr_t addr;          /* as its owner got it: debug hooks put types_debug_front() bytes before it */
	uint64_t bytes;        /* as requested of the allocator; of more than one block, their sum. PART_INSTANCE_VALUES of 3.11 and 3.12: at least */
	uint32_t blocks;
	enum object_part_kind kind;
	bool counted;          /* is it part of sys.getsizeof()? (values: without what stands before and behind the pointers) */
};

struct object_size {
	uint64_t bytes;        /* sys.getsizeof(object): GC head and pre-header included, and the parts that are counted */
	struct object_part parts[OBJECT_PARTS_MAX];
	uint32_t n_parts;
	struct {
		raddr_t addr;
		uint32_t bytes;   /* 0: nothing more is needed, the answer is complete */
		/* private */
		uint32_t step, type, asked, n_pending;
		raddr_t object;
		uint64_t pending[OBJECT_PENDING_MAX], held[3];
	} need;
};

struct object_sizes;

/* types must outlive it. -ENOMEM. */
int object_sizes_new(struct types *types, struct object_sizes **ret_sizes);
void object_sizes_free(struct object_sizes *sizes);
DEFINE_CLEANUP(struct object_sizes, object_sizes_free)

/*
 * The object of this type (an id of types) at addr, whose first len bytes, from ob_refcnt, are in object. -EPROTO: makes no sense (torn,
 * or no such object); ret is untouched then. While ret->need.bytes is not 0, read them and call object_size_go_on(). More bytes mean
 * fewer questions: 80 are enough for what is common.
 */
int object_size_of(struct object_sizes *sizes, uint32_t type, raddr_t addr, const uint8_t *object, size_t len, struct object_size *ret);
/* The same where what stands before the object, types_facts()->front bytes, stands before object, too: a question less (3.11 and 3.12). */
int object_size_in_block(struct object_sizes *sizes, uint32_t type, raddr_t addr, const uint8_t *object, size_t len, struct object_size *ret);
/* needed: the bytes that were asked for. -EPROTO as above, also after OBJECT_STEPS_MAX questions. */
int object_size_go_on(struct object_sizes *sizes, const uint8_t *needed, struct object_size *size);
