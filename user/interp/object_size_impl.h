/* SPDX-License-Identifier: MIT */
/*
 * What the files of object sizes share: a rule for each type, what a rule is given, and how it answers. Private to interp/.
 *
 * A rule adds to size->bytes, names parts, and asks for memory elsewhere with size_later(); what comes back goes to the step's function,
 * which does the same. All counts come from the target: size_add() and size_part() refuse what cannot be.
 */
#pragma once

#include <errno.h>
#include <string.h>

#include "interp/object_size.h"
#include "interp/python_impl.h"

#define SIZE_LIMIT (1ull << 47)   /* of a block, and of an address */
#define SIZE_PAGE 4096u
#define OB_SIZE 16u               /* PyVarObject.ob_size */
#define POINTER 8u

enum size_step {
	STEP_OBJECT,            /* more of the object itself */
	STEP_PREHEADER,         /* 3.11, 3.12: where an instance keeps its values */
	STEP_INSTANCE_VALUES,
	STEP_DICT_KEYS,
	STEP_DICT_VALUES,
	STEP_CACHED_KEYS,       /* of a type: where its key table is */
	STEP_TYPE_KEYS,         /* that table */
	STEP_FRAME_CODE,        /* of a frame: where its code is */
	STEP_CODE_LOCALS,       /* of a code: how many locals and how much stack a frame has */
	STEP_POINTERS_OF_TUPLE, /* a tuple: a pointer more in the object for each of its items */
	STEP_CODE_EXTRA,
	STEP_CODE_UNITS,        /* 3.8 to 3.10: the bytes of a code */
	STEP_POOL,              /* itertools: a tuple; as many indices */
	STEP_ARRAY_ITEM,        /* array.array: what its items are */
	STEP_BYTES,             /* a bytes object that belongs to the object */
	STEP_ELEMENT,
	STEP_STRUCT_CODES,
	STEP_STRING,            /* up to its NUL */
	STEP_MEMO,
	STEP_UNPICKLER_END,     /* encoding and what follows */
	STEP_CTYPE_INFO,
	STEP_NUMPY_SHAPE,
	STEP_NUMPY_ITEM,
	STEP_COUNT,
};

struct size_subject;
typedef int size_fn(const struct size_subject *s, struct object_size *size);

struct size_rule {
	size_fn *measure;                      /* NULL: not looked up yet */
	uint32_t front, basicsize, itemsize;   /* of the type itself */
	uint32_t own_basicsize;                /* of the class that brought the rule */
	uint32_t extra;                        /* bytes more, of some */
	bool exact;                            /* the type is that class */
	bool values;                           /* 3.11, 3.12: instances have values in a block of their own */
};

struct object_sizes {
	struct types *types;
	const struct layout *layout;
	uint32_t version_hex;
	struct size_rule *rules;               /* by type id */
	uint32_t room;
};

struct size_subject {
	const struct object_sizes *sizes;
	const struct layout *l;
	const struct size_rule *rule;
	raddr_t addr;          /* of the object */
	raddr_t at;            /* of bytes: the object, or what was asked for */
	const uint8_t *bytes;
	size_t len;
};

static inline uint64_t size_u64(const struct size_subject *s, size_t at)
{
	uint64_t value;

	memcpy(&value, s->bytes + at, sizeof(value));
	return value;
}

static inline uint32_t size_u32(const struct size_subject *s, size_t at)
{
	uint32_t value;

	memcpy(&value, s->bytes + at, sizeof(value));
	return value;
}

/* A pointer or 0; -EPROTO: cannot be one. */
static inline bool size_is_pointer(uint64_t v)
{
	return v >= SIZE_PAGE && v < SIZE_LIMIT;
}

/* count times unit bytes more. A negative count is too large, too. */
static inline int size_add(struct object_size *size, uint64_t count, uint64_t unit)
{
	if (unit && count > (SIZE_LIMIT - 1) / unit)
		return -EPROTO;
	size->bytes += count * unit;
	return 0;
}

/* What any object of the type has. */
static inline void size_base(const struct size_subject *s, struct object_size *size)
{
	size->bytes = (uint64_t)s->rule->front + s->rule->basicsize;
}

int size_part(struct object_size *size, enum object_part_kind kind, uint64_t addr, uint64_t bytes, bool counted);
/* An array of count times unit bytes: a part if there is one, and counted. */
int size_array(struct object_size *size, enum object_part_kind kind, uint64_t addr, uint64_t count, uint64_t unit);
/* Are there bytes of the object up to end? If not, *ret_r is what the rule returns: it is called again with them. */
bool size_have(const struct size_subject *s, uint32_t end, struct object_size *size, int *ret_r);
/* Asks for what stands at addr, once what was asked for before has been answered. */
int size_later(struct object_size *size, uint64_t addr, enum size_step step);

/* object_size_rules.c: the rule of a type; NULL: no such type, or -ENOMEM. */
const struct size_rule *size_rule_find(struct object_sizes *sizes, uint32_t type);

/* The rules and what answers their questions go to. */
size_fn size_plain, size_int, size_str, size_list, size_set, size_bytearray, size_deque;
size_fn size_dict, size_odict, size_stgdict, size_type, size_ctype;
size_fn size_code, size_generator, size_frame;
size_fn size_array_array, size_decimal, size_buffered, size_bytesio, size_stringio, size_combinations, size_permutations, size_product;
size_fn size_element, size_struct, size_pickler, size_unpickler, size_simple_queue;
size_fn size_ndarray, size_numpy_scalar, size_numpy_var;

size_fn size_step_preheader, size_step_instance_values, size_step_dict_keys, size_step_dict_values, size_step_cached_keys;
size_fn size_step_type_keys, size_step_frame_code, size_step_code_locals, size_step_pointers, size_step_code_extra, size_step_code_units;
size_fn size_step_pool, size_step_array_item, size_step_bytes, size_step_element, size_step_struct_codes, size_step_string;
size_fn size_step_memo, size_step_unpickler_end, size_step_ctype_info, size_step_numpy_shape, size_step_numpy_item;

/* How much is asked for at each step. */
uint32_t size_question_bytes(const struct layout *l, enum size_step step, uint64_t addr);
