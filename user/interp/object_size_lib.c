/* SPDX-License-Identifier: MIT */
/*
 * Sizes of the standard library's types written in C that have a __sizeof__ of their own.
 *
 * Offsets are those of the structs in Modules/: arraymodule.c, _decimal (mpd_t), _io/bufferedio.c, _io/bytesio.c, _io/stringio.c,
 * itertoolsmodule.c, _elementtree.c, _struct.c, _pickle.c, _queuemodule.c. They are the same from 3.8 to 3.15 but where a rule says
 * otherwise; object_size_rules.c gives a type its rule only if its size is the one that was looked at.
 *
 * Limit: strings of unpicklers and ctypes types are counted, and are no parts.
 */
#include "interp/object_size_impl.h"

#define ARRAY_ITEMS 24u
#define ARRAY_ALLOCATED 32u
#define ARRAY_DESCR 40u
#define ARRAY_ITEM_MAX 32u
#define DECIMAL_FLAGS 24u
#define DECIMAL_ALLOC 56u
#define DECIMAL_DATA 64u
#define DECIMAL_NOT_OWN 0xe0u       /* MPD_STATIC_DATA, MPD_SHARED_DATA, MPD_CONST_DATA */
#define BUFFERED_BUFFER 56u
#define BUFFERED_SIZE 120u
#define BYTESIO_BUF 16u
#define STRINGIO_BUF 16u
#define STRINGIO_SIZE 40u
#define QUEUE_ITEMS 40u
#define QUEUE_ROOM 48u
#define ITER_POOL 16u
#define ITER_INDICES 24u
#define COMBINATIONS_R 40u
#define PERMUTATIONS_CYCLES 32u
#define PERMUTATIONS_R 48u
#define ELEMENT_EXTRA 40u
#define EXTRA_SIZE 64u              /* ElementObjectExtra, four children inside */
#define EXTRA_ALLOCATED 16u
#define EXTRA_CHILDREN 24u
#define EXTRA_INSIDE 32u
#define STRUCT_CODES 32u
#define FORMAT_CODE 32u
#define PICKLER_MEMO 16u
#define PICKLER_OUTPUT_BACK 88u     /* output_buffer, from the end of the object: persistent_id grew in 3.13.1 */
#define MEMO_SIZE 32u
#define MEMO_ENTRY 16u
#define UNPICKLER_MEMO 24u
#define UNPICKLER_MEMO_SIZE 32u

int size_array_array(const struct size_subject *s, struct object_size *size)
{
	int r;

	if (!size_have(s, ARRAY_DESCR + 8, size, &r))
		return r;
	size_base(s, size);
	size->need.held[0] = size_u64(s, ARRAY_ITEMS);
	size->need.held[1] = size_u64(s, ARRAY_ALLOCATED);
	return size->need.held[1] ? size_later(size, size_u64(s, ARRAY_DESCR), STEP_ARRAY_ITEM) : 0;
}

/* struct arraydescr: typecode, itemsize. */
int size_step_array_item(const struct size_subject *s, struct object_size *size)
{
	uint32_t item = size_u32(s, 4);

	if (!item || item > ARRAY_ITEM_MAX)
		return -EPROTO;
	return size_array(size, PART_OTHER, size->need.held[0], size->need.held[1], item);
}

int size_decimal(const struct size_subject *s, struct object_size *size)
{
	int r;

	if (!size_have(s, DECIMAL_DATA + 8, size, &r))
		return r;
	size_base(s, size);
	if (s->bytes[DECIMAL_FLAGS] & DECIMAL_NOT_OWN)
		return 0;
	return size_array(size, PART_OTHER, size_u64(s, DECIMAL_DATA), size_u64(s, DECIMAL_ALLOC), 8);
}

int size_buffered(const struct size_subject *s, struct object_size *size)
{
	uint64_t buffer;
	int r;

	if (!size_have(s, BUFFERED_SIZE + 8, size, &r))
		return r;
	size_base(s, size);
	buffer = size_u64(s, BUFFERED_BUFFER);
	return buffer ? size_array(size, PART_OTHER, buffer, size_u64(s, BUFFERED_SIZE), 1) : 0;
}

/* The buffer is a bytes object; it is counted while nobody else refers to it. */
int size_bytesio(const struct size_subject *s, struct object_size *size)
{
	uint64_t buffer;
	int r;

	if (!size_have(s, BYTESIO_BUF + 8, size, &r))
		return r;
	size_base(s, size);
	buffer = size_u64(s, BYTESIO_BUF);
	size->need.held[0] = false;
	return buffer ? size_later(size, buffer, STEP_BYTES) : 0;
}

/* held[0]: count it also where it is shared. */
int size_step_bytes(const struct size_subject *s, struct object_size *size)
{
	uint64_t references = s->l->minor >= 12 ? size_u32(s, s->l->ob_refcnt) : size_u64(s, s->l->ob_refcnt);
	uint64_t length = size_u64(s, OB_SIZE);

	if (references != 1 && !size->need.held[0])
		return 0;
	if (length >= SIZE_LIMIT)
		return -EPROTO;
	return size_array(size, PART_OTHER, s->at.v, s->l->bytes_data + length + 1, 1);
}

/* Has no __sizeof__ of its own. */
int size_stringio(const struct size_subject *s, struct object_size *size)
{
	uint64_t buffer, room;
	int r;

	if (!size_have(s, STRINGIO_SIZE + 8, size, &r))
		return r;
	size_base(s, size);
	buffer = size_u64(s, STRINGIO_BUF);
	room = size_u64(s, STRINGIO_SIZE);
	if (!buffer || !room)
		return 0;
	return room >= SIZE_LIMIT / 4 ? -EPROTO : size_part(size, PART_OTHER, buffer, 4 * room, false);
}

/* From 3.13 a ring of pointers; counted from 3.15, and then a subclass has the size of the class. */
int size_simple_queue(const struct size_subject *s, struct object_size *size)
{
	uint64_t room;
	int r;

	if (!size_have(s, QUEUE_ROOM + 8, size, &r))
		return r;
	room = size_u64(s, QUEUE_ROOM);
	size_base(s, size);
	if (s->l->minor >= 15) {
		size->bytes = (uint64_t)s->rule->front + s->rule->own_basicsize;
		return size_array(size, PART_OTHER, size_u64(s, QUEUE_ITEMS), room, POINTER);
	}
	if (room >= SIZE_LIMIT / POINTER)
		return -EPROTO;
	return room ? size_part(size, PART_OTHER, size_u64(s, QUEUE_ITEMS), room * POINTER, false) : 0;
}

/* --- itertools */

int size_combinations(const struct size_subject *s, struct object_size *size)
{
	int r;

	if (!size_have(s, COMBINATIONS_R + 8, size, &r))
		return r;
	size_base(s, size);
	return size_array(size, PART_OTHER, size_u64(s, ITER_INDICES), size_u64(s, COMBINATIONS_R), POINTER);
}

int size_permutations(const struct size_subject *s, struct object_size *size)
{
	int r;

	if (!size_have(s, PERMUTATIONS_R + 8, size, &r))
		return r;
	size_base(s, size);
	r = size_array(size, PART_OTHER, size_u64(s, PERMUTATIONS_CYCLES), size_u64(s, PERMUTATIONS_R), POINTER);
	size->need.held[0] = size_u64(s, ITER_INDICES);
	return r < 0 ? r : size_later(size, size_u64(s, ITER_POOL) + OB_SIZE, STEP_POOL);
}

int size_product(const struct size_subject *s, struct object_size *size)
{
	int r;

	if (!size_have(s, ITER_INDICES + 8, size, &r))
		return r;
	size_base(s, size);
	size->need.held[0] = size_u64(s, ITER_INDICES);
	return size_later(size, size_u64(s, ITER_POOL) + OB_SIZE, STEP_POOL);
}

/* ob_size of a tuple: an index for each item, at held[0]. */
int size_step_pool(const struct size_subject *s, struct object_size *size)
{
	return size_array(size, PART_OTHER, size->need.held[0], size_u64(s, 0), POINTER);
}

/* --- xml.etree */

int size_element(const struct size_subject *s, struct object_size *size)
{
	uint64_t extra;
	int r;

	if (!size_have(s, ELEMENT_EXTRA + 8, size, &r))
		return r;
	size_base(s, size);
	extra = size_u64(s, ELEMENT_EXTRA);
	return extra ? size_later(size, extra, STEP_ELEMENT) : 0;
}

int size_step_element(const struct size_subject *s, struct object_size *size)
{
	uint64_t children = size_u64(s, EXTRA_CHILDREN);
	int r = size_array(size, PART_OTHER, s->at.v, EXTRA_SIZE, 1);

	if (r < 0 || children == s->at.v + EXTRA_INSIDE)
		return r;
	return size_array(size, PART_OTHER, children, size_u64(s, EXTRA_ALLOCATED), POINTER);
}

/* --- struct */

/* An array that ends with a code without definition. */
int size_struct(const struct size_subject *s, struct object_size *size)
{
	uint64_t codes;
	int r;

	if (!size_have(s, STRUCT_CODES + 8, size, &r))
		return r;
	size_base(s, size);
	codes = size_u64(s, STRUCT_CODES);
	size->need.held[0] = codes;
	size->need.held[1] = 0;
	return codes ? size_later(size, codes, STEP_STRUCT_CODES) : 0;
}

int size_step_struct_codes(const struct size_subject *s, struct object_size *size)
{
	for (size_t at = 0; at + FORMAT_CODE <= s->len; at += FORMAT_CODE) {
		size->need.held[1]++;
		if (!size_u64(s, at))
			return size_array(size, PART_OTHER, size->need.held[0], size->need.held[1], FORMAT_CODE);
	}
	return size_later(size, s->at.v + s->len, STEP_STRUCT_CODES);
}

/* --- pickle */

int size_step_string(const struct size_subject *s, struct object_size *size)
{
	const uint8_t *end = memchr(s->bytes, 0, s->len);
	int r = size_add(size, end ? (uint64_t)(end - s->bytes) + 1 : s->len, 1);

	return end || r < 0 ? r : size_later(size, s->at.v + s->len, STEP_STRING);
}

int size_pickler(const struct size_subject *s, struct object_size *size)
{
	uint32_t output_at = s->rule->own_basicsize - PICKLER_OUTPUT_BACK;
	uint64_t memo, output;
	int r;

	if (!size_have(s, output_at + 8, size, &r))
		return r;
	size_base(s, size);
	memo = size_u64(s, PICKLER_MEMO);
	output = size_u64(s, output_at);
	size->need.held[0] = true;
	r = output ? size_later(size, output, STEP_BYTES) : 0;
	return r < 0 || !memo ? r : size_later(size, memo, STEP_MEMO);
}

/* PyMemoTable: mask, used, allocated, table. */
int size_step_memo(const struct size_subject *s, struct object_size *size)
{
	int r = size_array(size, PART_OTHER, s->at.v, MEMO_SIZE, 1);

	return r < 0 ? r : size_array(size, PART_OTHER, size_u64(s, 24), size_u64(s, 16), MEMO_ENTRY);
}

/* By size of the object: where input_line is, and encoding, errors, marks, num_marks and marks_size in a row. */
static const struct {
	uint32_t size, input_line, encoding;
} unpicklers[] = {
	{ 272, 152, 224 },
	{ 264, 144, 216 },   /* 3.13.0 */
	{ 296, 152, 240 },   /* 3.14 */
	{ 304, 160, 248 },   /* 3.15 */
};

int size_unpickler(const struct size_subject *s, struct object_size *size)
{
	size_t i = 0;
	uint64_t line, memo;
	int r;

	while (i < sizeof(unpicklers) / sizeof(unpicklers[0]) && unpicklers[i].size != s->rule->own_basicsize)
		i++;
	if (i == sizeof(unpicklers) / sizeof(unpicklers[0]))
		return size_plain(s, size);
	if (!size_have(s, unpicklers[i].input_line + 8, size, &r))
		return r;
	size_base(s, size);
	memo = size_u64(s, UNPICKLER_MEMO);
	line = size_u64(s, unpicklers[i].input_line);
	r = memo ? size_array(size, PART_OTHER, memo, size_u64(s, UNPICKLER_MEMO_SIZE), POINTER) : 0;
	if (r == 0)
		r = size_later(size, s->addr.v + unpicklers[i].encoding, STEP_UNPICKLER_END);
	return r < 0 || !line ? r : size_later(size, line, STEP_STRING);
}

int size_step_unpickler_end(const struct size_subject *s, struct object_size *size)
{
	uint64_t encoding = size_u64(s, 0), errors = size_u64(s, 8), marks = size_u64(s, 16);
	int r = marks ? size_array(size, PART_OTHER, marks, size_u64(s, 32), 8) : 0;

	if (r == 0 && encoding)
		r = size_later(size, encoding, STEP_STRING);
	return r < 0 || !errors ? r : size_later(size, errors, STEP_STRING);
}

/* --- how much is asked for */

/* Up to the end of the page, where a thing of unknown length can end. */
static uint32_t to_page_end(uint64_t addr, uint32_t unit)
{
	uint64_t left = SIZE_PAGE - addr % SIZE_PAGE;

	left = left < OBJECT_NEED_MAX ? left : OBJECT_NEED_MAX;
	left -= left % unit;
	return left ? (uint32_t)left : unit;
}

uint32_t size_question_bytes(const struct layout *l, enum size_step step, uint64_t addr)
{
	switch (step) {
	case STEP_STRING:
		return to_page_end(addr, 1);
	case STEP_STRUCT_CODES:
		return to_page_end(addr, FORMAT_CODE);
	case STEP_NUMPY_SHAPE:
		return to_page_end(addr, POINTER);
	case STEP_DICT_KEYS:
	case STEP_TYPE_KEYS:
		return l->dk_nentries + 8;
	case STEP_CODE_LOCALS:
		if (l->co_cellvars != NO_OFFSET)
			return l->co_cellvars + 8 - l->co_nlocals;
		return l->co_nlocals < l->co_stacksize ? l->co_stacksize + 4 - l->co_nlocals : l->co_nlocals + 4 - l->co_stacksize;
	case STEP_PREHEADER:
	case STEP_NUMPY_ITEM:
		return 16;
	case STEP_BYTES:
		return OB_SIZE + 8;
	case STEP_ELEMENT:
	case STEP_MEMO:
		return 32;
	case STEP_UNPICKLER_END:
		return 40;
	case STEP_CTYPE_INFO:
		return 160;
	default:
		return 8;
	}
}
