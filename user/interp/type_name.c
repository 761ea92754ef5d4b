/* SPDX-License-Identifier: MIT */
/*
 * Names of types. A static type has its full name in tp_name ("module.Name",
 * or "dict" for builtins). A heap type has __module__ in its tp_dict and its
 * __qualname__ in ht_qualname (Objects/typeobject.c, type_module() and
 * type_qualname()). Limits: a dict is searched among its first ENTRIES_MAX
 * entries; names are UTF-8 without control characters removed (who shows them
 * escapes them).
 */
#include "interp/type_name.h"

#include <errno.h>
#include <string.h>

#include "interp/text.h"

#define HEAD_MAX 128
#define TEXT_MAX 1024        /* bytes of a str's contents */
#define ENTRIES_MAX 512
#define ENTRY_MAX 24
#define STATE_KIND(state) (((state) >> 2) & 7u)
#define STATE_COMPACT (1u << 5)
#define STATE_ASCII (1u << 6)

static uint64_t u64_at(const uint8_t *bytes, size_t at)
{
	uint64_t value;

	memcpy(&value, bytes + at, sizeof(value));
	return value;
}

int str_read(const struct python *python, raddr_t addr, char *buf, size_t size)
{
	const struct layout *l = &python->layout;
	uint8_t head[HEAD_MAX], text[TEXT_MAX];
	uint32_t state, kind, data;
	uint64_t length;
	size_t bytes;
	int r;

	if (l->str_state > HEAD_MAX - 8 || l->str_length > HEAD_MAX - 8)
		return -EINVAL;
	r = rmem_read(python->mem, addr, head, l->str_state + 4);
	if (r < 0)
		return r;
	length = u64_at(head, l->str_length);
	memcpy(&state, head + l->str_state, 4);
	kind = STATE_KIND(state);
	if (!(state & STATE_COMPACT) || (kind != 1 && kind != 2 && kind != 4))
		return -EINVAL;
	data = state & STATE_ASCII ? l->str_ascii_data : l->str_compact_data;
	if (data == NO_OFFSET || length > (1ull << 40))
		return -EINVAL;
	bytes = length * kind < TEXT_MAX ? (size_t)length * kind : TEXT_MAX;
	r = rmem_read(python->mem, raddr_add(addr, data), text, bytes);
	if (r < 0)
		return r;
	text_utf8((int)kind, text, bytes, buf, size);
	return 0;
}

/* Where the entries of a dict's keys are and what they look like. */
struct entries {
	raddr_t at;
	uint32_t count, size, key, value;
};

static int entries_find(const struct python *python, raddr_t keys, struct entries *ret)
{
	const struct layout *l = &python->layout;
	uint8_t head[HEAD_MAX];
	uint64_t count, slots;
	int r;

	if (l->dk_nentries > HEAD_MAX - 8 || l->dk_indices == NO_OFFSET)
		return -EINVAL;
	r = rmem_read(python->mem, keys, head, l->dk_nentries + 8);
	if (r < 0)
		return r;
	count = u64_at(head, l->dk_nentries);
	*ret = (struct entries){ .count = count < ENTRIES_MAX ? (uint32_t)count : ENTRIES_MAX, .size = 24, .key = 8, .value = 16 };
	if (l->dk_log2_index_bytes != NO_OFFSET) {
		/* 3.11: kind 0 general, 1 unicode; 2 is split and has no values here */
		uint8_t kind = head[l->dk_kind], index_bytes = head[l->dk_log2_index_bytes];

		if (kind > 1 || index_bytes > 40)
			return -EINVAL;
		if (kind == 1)
			*ret = (struct entries){ .count = ret->count, .size = 16, .key = 0, .value = 8 };
		ret->at = raddr_add(keys, (int64_t)l->dk_indices + (1ll << index_bytes));
		return 0;
	}
	slots = u64_at(head, l->dk_size);
	if (slots > (1ull << 32) || (slots & (slots - 1)))
		return -EINVAL;
	ret->at = raddr_add(keys, (int64_t)(l->dk_indices + slots * (slots <= 0xff ? 1 : slots <= 0xffff ? 2 : 4)));
	return 0;
}

static int dict_get(const struct python *python, raddr_t dict, const char *name, raddr_t *ret_value)
{
	const struct layout *l = &python->layout;
	uint8_t entry[ENTRY_MAX];
	char key[32];
	struct entries e;
	raddr_t keys;
	int r;

	if (!dict.v)
		return -ENOENT;
	r = rmem_ptr(python->mem, raddr_add(dict, l->dict_keys), &keys);
	if (r == 0)
		r = entries_find(python, keys, &e);
	for (uint32_t i = 0; r == 0 && i < e.count; i++) {
		r = rmem_read(python->mem, raddr_add(e.at, (int64_t)i * e.size), entry, e.size);
		if (r < 0)
			return r;
		ret_value->v = u64_at(entry, e.value);
		if (ret_value->v && u64_at(entry, e.key) && str_read(python, RADDR(u64_at(entry, e.key)), key, sizeof(key)) == 0 &&
		    strcmp(key, name) == 0)
			return 0;
	}
	return r < 0 ? r : -ENOENT;
}

static int heap_name(const struct python *python, raddr_t addr, char *buf, size_t size)
{
	const struct layout *l = &python->layout;
	char module[256], qualname[256];
	raddr_t dict, object;
	int r = rmem_ptr(python->mem, raddr_add(addr, l->ht_qualname), &object);

	if (r == 0)
		r = str_read(python, object, qualname, sizeof(qualname));
	if (r == 0)
		r = rmem_ptr(python->mem, raddr_add(addr, l->tp_dict), &dict);
	if (r == 0)
		r = dict_get(python, dict, "__module__", &object);
	if (r == 0)
		r = str_read(python, object, module, sizeof(module));
	if (r < 0)
		return r;
	if (!qualname[0])
		return -EINVAL;
	if (module[0] && strcmp(module, "builtins") != 0)
		snprintf(buf, size, "%s.%s", module, qualname);
	else
		snprintf(buf, size, "%s", qualname);
	return 0;
}

void type_name_read(const struct python *python, raddr_t addr, bool heap, const char *tp_name, char *buf, size_t size)
{
	static const char builtins[] = "builtins.";

	if (heap && heap_name(python, addr, buf, size) == 0)
		return;
	if (strncmp(tp_name, builtins, sizeof(builtins) - 1) == 0 && tp_name[sizeof(builtins) - 1])
		tp_name += sizeof(builtins) - 1;
	snprintf(buf, size, "%s", tp_name);
}
