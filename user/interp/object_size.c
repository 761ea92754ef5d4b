/* SPDX-License-Identifier: MIT */
/*
 * The machine of object sizes, and the rules of the most common types. See
 * object_size.h and object_size_impl.h; the other rules are in object_size_dict.c,
 * object_size_code.c, object_size_lib.c and object_size_numpy.c, the table in
 * object_size_rules.c.
 *
 * Invariants: an answer is written only when it is whole or asks for more; at
 * most OBJECT_STEPS_MAX questions an object; no sum overflows, since each
 * term is below SIZE_LIMIT and there are at most as many as there are steps.
 *
 * Facts: Python/sysmodule.c, _PySys_GetSizeOf(); __sizeof__ of each type.
 */
#include "interp/object_size_impl.h"

#include <stdlib.h>

#define FLAG_STR_COMPACT (1u << 5)
#define FLAG_STR_ASCII (1u << 6)
#define FLAG_STR_STATIC (1u << 7)   /* 3.12 and later: its UTF-8 form is static, too; up to 3.11: ready */
#define STR_KIND(state) (((state) >> 2) & 7u)
#define WCHAR 4u
#define SET_ENTRY 16u
#define DEQUE_SLOTS 64u
#define DEQUE_BLOCK (DEQUE_SLOTS * POINTER + 16)   /* and the links; _collectionsmodule.c */
#define INT_TAG_SHIFT 3
#define INT_DIGIT 4u

int object_sizes_new(struct types *types, struct object_sizes **ret_sizes)
{
	struct object_sizes *sizes = calloc(1, sizeof(*sizes));

	if (!sizes)
		return -ENOMEM;
	sizes->types = types;
	sizes->layout = &types_python(types)->layout;
	sizes->version_hex = types_python(types)->version_hex;
	*ret_sizes = sizes;
	return 0;
}

void object_sizes_free(struct object_sizes *sizes)
{
	if (!sizes)
		return;
	free(sizes->rules);
	free(sizes);
}

/* --- what rules use */

int size_part(struct object_size *size, enum object_part_kind kind, uint64_t addr, uint64_t bytes, bool counted)
{
	if (!size_is_pointer(addr) || addr % POINTER || bytes >= SIZE_LIMIT || size->n_parts >= OBJECT_PARTS_MAX)
		return -EPROTO;
	size->parts[size->n_parts++] = (struct object_part){ RADDR(addr), bytes, 1, kind, counted };
	return 0;
}

int size_array(struct object_size *size, enum object_part_kind kind, uint64_t addr, uint64_t count, uint64_t unit)
{
	int r = size_add(size, count, unit);

	if (r < 0 || !addr || !count)
		return r;
	return size_part(size, kind, addr, count * unit, true);
}

static int ask(struct object_size *size, uint64_t addr, uint32_t bytes, enum size_step step)
{
	if (!size_is_pointer(addr) || !bytes || bytes > OBJECT_NEED_MAX || size->need.asked >= OBJECT_STEPS_MAX)
		return -EPROTO;
	size->need.addr = RADDR(addr);
	size->need.bytes = bytes;
	size->need.step = step;
	size->need.asked++;
	return 0;
}

bool size_have(const struct size_subject *s, uint32_t end, struct object_size *size, int *ret_r)
{
	if (__builtin_expect(end <= s->len, 1))
		return true;
	*ret_r = ask(size, s->addr.v, end, STEP_OBJECT);
	return false;
}

int size_later(struct object_size *size, uint64_t addr, enum size_step step)
{
	if (!size_is_pointer(addr) || size->need.n_pending >= OBJECT_PENDING_MAX)
		return -EPROTO;
	size->need.pending[size->need.n_pending++] = addr | (uint64_t)step << 48;
	return 0;
}

static size_fn *const steps[STEP_COUNT] = {
	[STEP_PREHEADER] = size_step_preheader,
	[STEP_INSTANCE_VALUES] = size_step_instance_values,
	[STEP_DICT_KEYS] = size_step_dict_keys,
	[STEP_DICT_VALUES] = size_step_dict_values,
	[STEP_CACHED_KEYS] = size_step_cached_keys,
	[STEP_TYPE_KEYS] = size_step_type_keys,
	[STEP_FRAME_CODE] = size_step_frame_code,
	[STEP_CODE_LOCALS] = size_step_code_locals,
	[STEP_POINTERS_OF_TUPLE] = size_step_pointers,
	[STEP_CODE_EXTRA] = size_step_code_extra,
	[STEP_CODE_UNITS] = size_step_code_units,
	[STEP_POOL] = size_step_pool,
	[STEP_ARRAY_ITEM] = size_step_array_item,
	[STEP_BYTES] = size_step_bytes,
	[STEP_ELEMENT] = size_step_element,
	[STEP_STRUCT_CODES] = size_step_struct_codes,
	[STEP_STRING] = size_step_string,
	[STEP_MEMO] = size_step_memo,
	[STEP_UNPICKLER_END] = size_step_unpickler_end,
	[STEP_CTYPE_INFO] = size_step_ctype_info,
	[STEP_NUMPY_SHAPE] = size_step_numpy_shape,
	[STEP_NUMPY_ITEM] = size_step_numpy_item,
};

/* The next question, if one is left. */
static int next(const struct object_sizes *sizes, struct object_size *size)
{
	uint64_t word, addr;
	enum size_step step;

	if (size->need.bytes || !size->need.n_pending)
		return 0;
	word = size->need.pending[--size->need.n_pending];
	addr = word & ((1ull << 48) - 1);
	step = (enum size_step)(word >> 48);
	return ask(size, addr, size_question_bytes(sizes->layout, step, addr), step);
}

/* A whole answer has no use for what a question keeps: most answers are short, and there are millions. */
static void hand_out(const struct object_size *size, struct object_size *ret)
{
	ret->bytes = size->bytes;
	ret->n_parts = size->n_parts;
	for (uint32_t i = 0; i < size->n_parts; i++)
		ret->parts[i] = size->parts[i];
	if (size->need.bytes)
		ret->need = size->need;
	else
		ret->need.bytes = 0;
}

static int measure(struct object_sizes *sizes, uint32_t type, raddr_t addr, const uint8_t *object, size_t len, bool in_block,
		   struct object_size *ret)
{
	struct size_subject s = { .sizes = sizes, .l = sizes->layout, .addr = addr, .at = addr, .bytes = object, .len = len };
	struct object_size size;
	int r = 0;

	s.rule = size_rule_find(sizes, type);
	if (!s.rule)
		return -EPROTO;
	size.bytes = 0;
	size.n_parts = size.need.bytes = size.need.asked = size.need.n_pending = 0;
	size.need.type = type;
	size.need.object = addr;
	size.need.held[0] = size.need.held[1] = size.need.held[2] = 0;
	if (s.rule->values) {
		if (in_block) {
			s.at = RADDR(addr.v - s.rule->front);
			s.bytes = object - s.rule->front;
			r = size_step_preheader(&s, &size);
			s.at = addr;
			s.bytes = object;
		} else {
			r = size_later(&size, addr.v - s.rule->front, STEP_PREHEADER);
		}
	}
	if (r == 0)
		r = s.rule->measure(&s, &size);
	if (r == 0)
		r = next(sizes, &size);
	if (r == 0)
		hand_out(&size, ret);
	return r;
}

int object_size_of(struct object_sizes *sizes, uint32_t type, raddr_t addr, const uint8_t *object, size_t len, struct object_size *ret)
{
	return measure(sizes, type, addr, object, len, false, ret);
}

int object_size_in_block(struct object_sizes *sizes, uint32_t type, raddr_t addr, const uint8_t *object, size_t len, struct object_size *ret)
{
	return measure(sizes, type, addr, object, len, true, ret);
}

int object_size_go_on(struct object_sizes *sizes, const uint8_t *needed, struct object_size *size)
{
	struct object_size after = *size;
	struct size_subject s = {
		.sizes = sizes, .l = sizes->layout, .addr = size->need.object, .at = size->need.addr, .bytes = needed, .len = size->need.bytes,
	};
	size_fn *step;
	int r;

	s.rule = size_rule_find(sizes, size->need.type);
	if (!s.rule || !size->need.bytes || size->need.step >= STEP_COUNT)
		return -EPROTO;
	step = size->need.step == STEP_OBJECT ? s.rule->measure : steps[size->need.step];
	after.need.bytes = 0;
	r = step(&s, &after);
	if (r == 0)
		r = next(sizes, &after);
	if (r == 0)
		*size = after;
	return r;
}

/* --- rules */

/* object.__sizeof__(). */
int size_plain(const struct size_subject *s, struct object_size *size)
{
	int r = 0;

	size_base(s, size);
	if (!s->rule->itemsize)
		return 0;
	if (!size_have(s, OB_SIZE + 8, size, &r))
		return r;
	return size_add(size, size_u64(s, OB_SIZE), s->rule->itemsize);
}

/*
 * Up to 3.11 the digits stand at a fixed place and ob_size has the sign; subclasses are not told apart. From 3.12 sizes are the type's
 * (GH-101266). A zero counts a digit from 3.11.2 (GH-100637).
 */
int size_int(const struct size_subject *s, struct object_size *size)
{
	uint64_t digits;
	int r;

	if (!size_have(s, s->l->ob_head_size + 8, size, &r))
		return r;
	digits = size_u64(s, s->l->ob_head_size);
	if (s->l->minor >= 12) {
		size_base(s, size);
		digits >>= INT_TAG_SHIFT;
		return size_add(size, digits ? digits : 1, s->rule->itemsize);
	}
	if (digits >> 63)
		digits = 0 - digits;
	if (!digits && s->sizes->version_hex >= PY_HEX(3, 11, 2))
		digits = 1;
	size->bytes = (uint64_t)s->rule->front + s->l->ob_head_size + 8;
	return size_add(size, digits, INT_DIGIT);
}

/* The forms beside the text itself: UTF-8, and up to 3.11 wchar_t. data: where the text is; length: of wchar_t, if it shares its field. */
static int str_caches(const struct size_subject *s, struct object_size *size, uint64_t data, bool ascii_compact, uint64_t length)
{
	uint64_t utf8, wstr;
	int r = 0;

	if (s->l->str_wstr != NO_OFFSET) {
		wstr = size_u64(s, s->l->str_wstr);
		if (wstr && wstr != data)
			r = size_array(size, PART_STR_DATA, wstr, (ascii_compact ? length : size_u64(s, s->l->str_wstr_length)) + 1, WCHAR);
	}
	if (ascii_compact || r < 0)
		return r;
	utf8 = size_u64(s, s->l->str_utf8);
	if (utf8 && utf8 != data && s->l->minor >= 12 && (size_u32(s, s->l->str_state) & FLAG_STR_STATIC))
		r = size_add(size, size_u64(s, s->l->str_utf8_length) + 1, 1);
	else if (utf8 && utf8 != data)
		r = size_array(size, PART_STR_DATA, utf8, size_u64(s, s->l->str_utf8_length) + 1, 1);
	return r;
}

/* Objects/unicodeobject.c, unicode_sizeof_impl(). Sizes of subclasses are those of str: fixed by the form. */
int size_str(const struct size_subject *s, struct object_size *size)
{
	const struct layout *l = s->l;
	uint32_t state, head;
	uint64_t length, data;
	int r;

	if (!size_have(s, l->str_ascii_data, size, &r) || !size_have(s, l->str_state + 4, size, &r) || !size_have(s, l->str_length + 8, size, &r))
		return r;
	state = size_u32(s, l->str_state);
	length = size_u64(s, l->str_length);
	if (length >= SIZE_LIMIT || STR_KIND(state) > 4)
		return -EPROTO;
	if ((state & (FLAG_STR_COMPACT | FLAG_STR_ASCII)) == (FLAG_STR_COMPACT | FLAG_STR_ASCII)) {
		size->bytes = (uint64_t)s->rule->front + l->str_ascii_data + length + 1;
		return l->str_wstr == NO_OFFSET ? 0 : str_caches(s, size, s->addr.v + l->str_ascii_data, true, length);
	}
	head = state & FLAG_STR_COMPACT ? l->str_compact_data : l->str_size;
	if (!size_have(s, head, size, &r))
		return r;
	size->bytes = (uint64_t)s->rule->front + head;
	data = state & FLAG_STR_COMPACT ? s->addr.v + head : size_u64(s, l->str_data);
	if (state & FLAG_STR_COMPACT)
		r = size_add(size, length + 1, STR_KIND(state));
	else
		r = data ? size_array(size, PART_STR_DATA, data, length + 1, STR_KIND(state)) : 0;
	return r < 0 ? r : str_caches(s, size, data, false, 0);
}

/* While a list is sorted it looks empty and its count of places is -1. */
int size_list(const struct size_subject *s, struct object_size *size)
{
	uint64_t items, allocated;
	int r;

	if (!size_have(s, s->l->list_allocated + 8, size, &r) || !size_have(s, s->l->list_items + 8, size, &r))
		return r;
	items = size_u64(s, s->l->list_items);
	allocated = size_u64(s, s->l->list_allocated);
	size_base(s, size);
	if (!items && allocated == UINT64_MAX)
		return 0;
	if (size_u64(s, OB_SIZE) > allocated || (allocated && !items))
		return -EPROTO;
	return size_array(size, PART_LIST_ARRAY, items, allocated, POINTER);
}

int size_set(const struct size_subject *s, struct object_size *size)
{
	uint64_t table, mask;
	int r;

	if (!size_have(s, s->l->set_table + 8, size, &r) || !size_have(s, s->l->set_mask + 8, size, &r))
		return r;
	table = size_u64(s, s->l->set_table);
	mask = size_u64(s, s->l->set_mask);
	size_base(s, size);
	if (mask >= SIZE_LIMIT || (mask & (mask + 1)))
		return -EPROTO;
	return table == s->addr.v + s->l->set_small ? 0 : size_array(size, PART_SET_TABLE, table, mask + 1, SET_ENTRY);
}

/* From 3.15 the buffer is a bytes object (GH-139871), unless there is none. */
int size_bytearray(const struct size_subject *s, struct object_size *size)
{
	uint64_t buffer, allocated;
	int r;

	if (!size_have(s, s->l->bytearray_buffer + 8, size, &r) || !size_have(s, s->l->bytearray_alloc + 8, size, &r))
		return r;
	buffer = size_u64(s, s->l->bytearray_buffer);
	allocated = size_u64(s, s->l->bytearray_alloc);
	size_base(s, size);
	if (allocated >= SIZE_LIMIT || (allocated && !buffer))
		return -EPROTO;
	if (s->l->minor >= 15 && allocated)
		allocated += s->l->bytes_data + 1;
	return size_array(size, PART_BYTEARRAY_BUFFER, buffer, allocated, 1);
}

/* From 3.11 a deque keeps up to 16 blocks that it does not use at the moment; they are not counted. */
int size_deque(const struct size_subject *s, struct object_size *size)
{
	const struct layout *l = s->l;
	uint64_t count, first, blocks, spare;
	int r;

	if (!size_have(s, l->deque_left_index + 8, size, &r) || !size_have(s, l->deque_left + 8, size, &r) ||
	    (l->deque_spare != NO_OFFSET && !size_have(s, l->deque_spare + 8, size, &r)))
		return r;
	count = size_u64(s, OB_SIZE);
	first = size_u64(s, l->deque_left_index);
	size_base(s, size);
	if (count >= SIZE_LIMIT || first > DEQUE_SLOTS)
		return -EPROTO;
	blocks = (first + count + DEQUE_SLOTS - 1) / DEQUE_SLOTS;
	if (blocks > UINT32_MAX)
		return -EPROTO;
	r = size_array(size, PART_DEQUE_BLOCKS, size_u64(s, l->deque_left), blocks, DEQUE_BLOCK);
	if (r == 0 && size->n_parts)
		size->parts[0].blocks = (uint32_t)blocks;
	spare = l->deque_spare != NO_OFFSET ? size_u64(s, l->deque_spare - 8) : 0;
	if (r < 0 || !spare)
		return r;
	r = spare > 16 ? -EPROTO : size_part(size, PART_OTHER, size_u64(s, l->deque_spare), spare * DEQUE_BLOCK, false);
	if (r == 0)
		size->parts[size->n_parts - 1].blocks = (uint32_t)spare;
	return r;
}
