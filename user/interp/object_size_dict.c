/* SPDX-License-Identifier: MIT */
/*
 * Sizes of dicts, of types (whose instances share a key table) and of instance values.
 *
 * Facts: Objects/dictobject.c, _PyDict_SizeOf(), _PyDict_KeysSize(), new_keys_object(), new_values(), and their forms up to 3.10;
 * Objects/odictobject.c; Objects/typeobject.c, type___sizeof___impl(); Modules/_ctypes, StgDictObject and StgInfo.
 *
 * A key table starts its block, its index follows the head. A dict owns it if nobody else refers to it; a shared one is its type's.
 * Values: up to 3.10 an array; 3.11 and 3.12 the pointers follow a prefix whose length is the byte before them; from 3.13 they lie in
 * the instance, or in a block that starts with their capacity.
 *
 * Limit: how many values an instance of 3.11 or 3.12 has room for is not kept; the least for its prefix is named.
 */
#include "interp/object_size_impl.h"

#define DICT_SLOTS_LOG2_MAX 40u
#define USABLE(n) (((n) << 1) / 3)        /* USABLE_FRACTION */
#define GENERAL_ENTRY 24u
#define UNICODE_ENTRY 16u
#define DICT_SIZE 48u
#define VALUES_CAPACITY 0
#define VALUES_EMBEDDED 2
#define ODICT_FIRST 48u                   /* PyODictObject: behind the dict */
#define ODICT_FAST_NODES 64u
#define ODICT_FAST_SIZE 72u
#define ODICT_NODE 32u
#define STG_SIZE 192u                     /* StgDictObject: behind the dict */
#define STG_LENGTH 64u
#define STG_ELEMENTS 88u
#define STG_FORMAT 168u
#define STG_NDIM 176u
#define INFO_LENGTH 24u                   /* StgInfo */
#define INFO_ELEMENTS 48u
#define FLAG_HEAPTYPE (1ull << 9)

struct keys {
	uint64_t bytes, refcount;
	uint64_t usable;      /* entries there is room for */
	uint64_t shared;      /* what an instance has values for */
};

static uint64_t index_width(uint64_t slots)
{
	return slots <= 0xff ? 1 : slots <= 0xffff ? 2 : slots <= 0xffffffff ? 4 : 8;
}

static int keys_parse(const struct size_subject *s, struct keys *ret)
{
	const struct layout *l = s->l;
	uint64_t slots, index, entry, used, left;

	if (s->len < l->dk_nentries + 8)
		return -EPROTO;
	if (l->dk_log2_size == NO_OFFSET) {
		slots = size_u64(s, l->dk_size);
		if (!slots || slots > 1ull << DICT_SLOTS_LOG2_MAX || (slots & (slots - 1)))
			return -EPROTO;
		index = slots * index_width(slots);
		entry = GENERAL_ENTRY;
	} else {
		uint8_t log2_size = s->bytes[l->dk_log2_size], log2_index = s->bytes[l->dk_log2_index_bytes];

		if (log2_size > DICT_SLOTS_LOG2_MAX || log2_index > log2_size + 3 || s->bytes[l->dk_kind] > 2)
			return -EPROTO;
		slots = 1ull << log2_size;
		index = 1ull << log2_index;
		entry = s->bytes[l->dk_kind] == 0 ? GENERAL_ENTRY : UNICODE_ENTRY;
	}
	ret->usable = USABLE(slots);
	ret->bytes = l->dk_indices + index + ret->usable * entry;
	used = size_u64(s, l->dk_nentries);
	left = size_u64(s, l->dk_usable);
	if (used > ret->usable || left > ret->usable)
		return -EPROTO;
	ret->shared = used + left;
	ret->refcount = size_u64(s, 0);
	return 0;
}

int size_dict(const struct size_subject *s, struct object_size *size)
{
	int r;

	if (!size_have(s, s->l->dict_values + 8, size, &r) || !size_have(s, s->l->dict_keys + 8, size, &r))
		return r;
	size_base(s, size);
	size->need.held[0] = size_u64(s, s->l->dict_values);
	return size_later(size, size_u64(s, s->l->dict_keys), STEP_DICT_KEYS);
}

int size_step_dict_keys(const struct size_subject *s, struct object_size *size)
{
	uint64_t values = size->need.held[0];
	struct keys keys;
	int r = keys_parse(s, &keys);

	if (r < 0)
		return r;
	if (keys.refcount == 1) {
		r = size_array(size, PART_DICT_KEYS, s->at.v, keys.bytes, 1);
		if (r < 0)
			return r;
	}
	if (!values)
		return 0;
	if (s->l->minor <= 10)
		return size_array(size, PART_INSTANCE_VALUES, values, keys.usable, POINTER);
	size->need.held[1] = keys.shared;
	r = size_add(size, keys.shared, POINTER);
	return r < 0 ? r : size_later(size, s->l->minor >= 13 ? values : values - POINTER, STEP_DICT_VALUES);
}

/* The prefix of values of 3.11 and 3.12. */
static int values_prefix(const struct size_subject *s, uint32_t *ret_prefix)
{
	*ret_prefix = s->bytes[POINTER - 1];
	return *ret_prefix && *ret_prefix % POINTER == 0 ? 0 : -EPROTO;
}

int size_step_dict_values(const struct size_subject *s, struct object_size *size)
{
	uint64_t values = size->need.held[0], capacity;
	uint32_t prefix;
	int r;

	if (s->l->minor >= 13) {
		capacity = s->bytes[VALUES_CAPACITY];
		if (s->bytes[VALUES_EMBEDDED])
			return 0;
		return size_part(size, PART_INSTANCE_VALUES, values, (capacity + 1) * POINTER + (capacity + POINTER - 1) / POINTER * POINTER,
				 true);
	}
	r = values_prefix(s, &prefix);
	return r < 0 ? r : size_part(size, PART_INSTANCE_VALUES, values - prefix, prefix + size->need.held[1] * POINTER, true);
}

/* 3.11: obj - 32 holds the values; 3.12: obj - 24, with bit 0 for values and not a dict, their address less 1. */
int size_step_preheader(const struct size_subject *s, struct object_size *size)
{
	uint64_t values = size_u64(s, 0), word = size_u64(s, POINTER);

	if (s->l->minor == 12)
		values = word & 1 ? word + 1 : 0;
	return values ? size_later(size, values - POINTER, STEP_INSTANCE_VALUES) : 0;
}

/* A prefix rounds count + 2 bytes up. */
int size_step_instance_values(const struct size_subject *s, struct object_size *size)
{
	uint32_t prefix;
	uint64_t least;
	int r = values_prefix(s, &prefix);

	if (r < 0)
		return r;
	least = prefix > POINTER + 1 ? prefix - POINTER - 1 : 1;
	return size_part(size, PART_INSTANCE_VALUES, s->at.v + POINTER - prefix, prefix + least * POINTER, false);
}

int size_odict(const struct size_subject *s, struct object_size *size)
{
	uint64_t used, first;
	int r;

	if (!size_have(s, ODICT_FAST_SIZE + 8, size, &r))
		return r;
	r = size_dict(s, size);
	if (r < 0 || size->need.bytes)
		return r;
	used = size_u64(s, s->l->dict_used);
	first = size_u64(s, ODICT_FIRST);
	r = size_array(size, PART_OTHER, size_u64(s, ODICT_FAST_NODES), size_u64(s, ODICT_FAST_SIZE), POINTER);
	if (r < 0 || !first)
		return r;
	r = used > UINT32_MAX ? -EPROTO : size_array(size, PART_OTHER, first, used, ODICT_NODE);
	if (r == 0 && used)
		size->parts[size->n_parts - 1].blocks = (uint32_t)used;
	return r;
}

/* --- types */

/*
 * A static type has no GC head. _PySys_GetSizeOf() counts one all the same in 3.11 and 3.12, and from 3.13 where the type of the type
 * is not exactly type.
 */
int size_type(const struct size_subject *s, struct object_size *size)
{
	bool front = s->l->minor >= 13 ? !s->rule->exact : s->l->minor >= 11;
	int r;

	if (!size_have(s, s->l->tp_flags + 8, size, &r))
		return r;
	if (!(size_u64(s, s->l->tp_flags) & FLAG_HEAPTYPE)) {
		size->bytes = s->l->tp_size + (front ? s->rule->front : 0);
		return 0;
	}
	size->bytes = (uint64_t)s->rule->front + s->l->ht_size;
	size->need.held[0] = true;
	return size_later(size, s->addr.v + s->l->ht_cached_keys, STEP_CACHED_KEYS);
}

int size_step_cached_keys(const struct size_subject *s, struct object_size *size)
{
	uint64_t keys = size_u64(s, 0);

	return keys ? size_later(size, keys, STEP_TYPE_KEYS) : 0;
}

int size_step_type_keys(const struct size_subject *s, struct object_size *size)
{
	bool counted = size->need.held[0];
	struct keys keys;
	int r = keys_parse(s, &keys);

	if (r == 0 && counted)
		r = size_add(size, keys.bytes, 1);
	return r < 0 ? r : size_part(size, PART_DICT_KEYS, s->at.v, keys.bytes, counted);
}

/* --- ctypes */

/* A string's length is not known before it is read. */
static int format_and_elements(const struct size_subject *s, struct object_size *size, uint32_t format, uint32_t elements, uint32_t length)
{
	uint64_t text = size_u64(s, format), array = size_u64(s, elements);
	int r = size_add(size, size_u32(s, format + 8), POINTER);   /* ndim */

	if (r == 0 && array)
		r = size_array(size, PART_OTHER, array, size_u64(s, length) + 1, POINTER);
	return r < 0 || !text ? r : size_later(size, text, STEP_STRING);
}

/* Up to 3.12: the dict of a ctypes type. What it has beside a dict is counted twice there. */
int size_stgdict(const struct size_subject *s, struct object_size *size)
{
	int r;

	if (!size_have(s, STG_SIZE, size, &r))
		return r;
	r = size_dict(s, size);
	if (r == 0)
		r = size_add(size, STG_SIZE - DICT_SIZE, 1);
	return r < 0 ? r : format_and_elements(s, size, STG_FORMAT, STG_ELEMENTS, STG_LENGTH);
}

/* From 3.13: a ctypes type, with a struct behind the type. */
int size_ctype(const struct size_subject *s, struct object_size *size)
{
	int r;

	if (!size_have(s, OB_SIZE + 8, size, &r))
		return r;
	r = size_plain(s, size);
	size->need.held[0] = false;
	if (r == 0)
		r = size_later(size, s->addr.v + s->l->ht_cached_keys, STEP_CACHED_KEYS);
	return r < 0 ? r : size_later(size, s->addr.v + (s->l->ht_size + 15) / 16 * 16, STEP_CTYPE_INFO);
}

int size_step_ctype_info(const struct size_subject *s, struct object_size *size)
{
	if (!size_u32(s, 0))
		return 0;
	return format_and_elements(s, size, s->l->minor >= 14 ? 144 : 136, INFO_ELEMENTS, INFO_LENGTH);
}
