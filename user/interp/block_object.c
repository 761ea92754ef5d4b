/* SPDX-License-Identifier: MIT */
/*
 * Objects in blocks. The object starts at the block's start, behind a GC head, or
 * behind a GC head and a pre-header; its type's flags say which, and must agree
 * with the place where the type was found. The reference count must look like one.
 *
 * Reference counts (Include/refcount.h): up to 3.11 a number; 3.12 and 3.13 a
 * number of 32 bits, all ones (or negative) if immortal; from 3.14 a number of 32
 * bits, 16 bits of overflow and 16 bits of flags. 0: freed, on a free list or about
 * to be. From 3.14 free lists are linked through the word of the reference count
 * (pycore_freelist.h): then it is a pointer to another object of that type
 * whose word is a pointer or 0, too.
 *
 * Limits: an array whose words look like (count, type) is taken for an object; up to
 * 3.13 a float on its free list keeps the link in ob_type and so is no object; the
 * fingerprint of an object changes while it is being built.
 */
#include "interp/block_object.h"

#include <string.h>

#include "interp/types_impl.h"

#define PRINT_BYTES 64u
#define LOW_LINK_MIN (1ull << 22) /* nothing is mapped for a heap below */
#define LONG_TAG_IMMORTAL 4u    /* bit 2 of lv_tag, 3.14: set when an int is made immortal */
#define COUNT_CERTAIN 0x10000u  /* nothing is mapped below */
#define TYPE_SUBCLASS (1ull << 31)
#define STATIC_COUNT_311 500000000u
#define STR_STABLE 0x7cu        /* of str's state: kind, compact, ascii; not interned (bits 0-1) */
#define STR_COMPACT (1u << 5)
#define STR_ASCII (1u << 6)
#define STR_KIND(state) (((state) >> 2) & 7u)

enum count {
	COUNT_NONE,    /* no reference count */
	COUNT_LIVE,
	COUNT_ZERO,
	COUNT_LINK,    /* a pointer: on a free list, if that is of the same kind */
};

static uint64_t u64_at(const uint8_t *bytes, size_t at)
{
	uint64_t value;

	memcpy(&value, bytes + at, sizeof(value));
	return value;
}

static inline enum count count_kind(const struct types *types, uint64_t word)
{
	uint32_t minor = types->python->layout.minor, high = (uint32_t)(word >> 32);

	if (word == 0)
		return COUNT_ZERO;
	if (minor < 12)
		return high == 0 && word < (1ull << 31) ? COUNT_LIVE : COUNT_NONE;
	if (high == 0)
		return COUNT_LIVE;
	if (minor < 14)
		return COUNT_NONE;
	if (high >> 16 == 0 && (arenas_count(types->arenas) == 0 || arenas_hold(types->arenas, RADDR(word))))
		return COUNT_LINK;
	/* flags in the upper 16 bits: few are defined */
	return (high & 0xffff) == 0 && high >> 16 < 0x100 ? COUNT_LIVE : COUNT_NONE;
}

/* May a word that looks like a count be a link? Without pymalloc a heap below 4 GiB makes it so. */
static inline bool low_link(const struct types *types, uint64_t word)
{
	return types->python->layout.minor >= 14 && arenas_count(types->arenas) == 0 && word % 16 == 0 && word >= LOW_LINK_MIN &&
	       word < (1ull << 31);
}

/* Does the object that a free list leads to belong on it, too? */
static bool link_fits(const struct types *types, uint64_t at, raddr_t type)
{
	const struct python *python = types_python(types);
	uint64_t words[2];

	if (rmem_read(python->mem, RADDR(at), words, sizeof(words)) < 0 || words[1] != type.v)
		return false;
	return words[0] == 0 || count_kind(types, words[0]) == COUNT_LINK || low_link(types, words[0]);
}

/*
 * In an executable at a fixed address types and heap lie below 4 GiB: a pointer in front of a pointer to a type is an array, no object.
 * A count that is an address by chance leads to no object.
 */
static inline bool is_pointer(struct types *types, uint64_t word)
{
	uint64_t type;

	if (word <= COUNT_CERTAIN || word % 8)
		return false;
	if (types_find(types, RADDR(word)))
		return true;
	return rmem_u64(types_python(types)->mem, RADDR(word + 8), &type) == 0 && types_find(types, RADDR(type));
}

/* What waits on a free list is untracked: no next, no previous but flags. A buffer with an old object's rest in it is told by that. */
static bool is_untracked(const uint8_t *bytes, uint32_t start, uint32_t gc_head_size)
{
	return start == 0 || (u64_at(bytes, start - gc_head_size) == 0 && u64_at(bytes, start - gc_head_size + 8) <= 3);
}

/* A static type with free list makes objects of one size: that must be the block's. */
static bool size_fits(const struct type_facts *facts, uint64_t block_size)
{
	uint64_t need = (uint64_t)facts->front + facts->basicsize;

	return facts->heap || facts->itemsize || (need <= block_size && block_size - need < 16) || block_size > 512;
}

/*
 * Most words that are no reference count show it at once, before the type is looked for: a GC head's or an array's pointer. From 3.14 a
 * count can be a link, and has flags.
 */
static inline bool count_is_possible(uint32_t minor, uint64_t word)
{
	uint32_t high = (uint32_t)(word >> 32);

	if (minor < 12)
		return word < 1ull << 31;
	return high == 0 || (minor >= 14 && (high >> 16 == 0 || ((high & 0xffff) == 0 && high >> 16 < 0x100)));
}

static bool try_object(struct types *types, const uint8_t *bytes, uint64_t block_size, uint32_t start, struct block_object *ret)
{
	uint64_t word = u64_at(bytes, start), type = u64_at(bytes, start + 8);
	const struct type_facts *facts;
	enum count kind;
	uint32_t id;

	if (!count_is_possible(types->python->layout.minor, word) || type % 8 || type < TYPES_ADDR_MIN || type >= TYPES_ADDR_END)
		return false;
	id = types_find_inline(types, RADDR(type));
	facts = types_facts_inline(types, id);
	if (!facts || facts->front != start)
		return false;
	kind = count_kind(types, word);
	if (kind == COUNT_LIVE && low_link(types, word) && link_fits(types, word, RADDR(type)))
		kind = COUNT_LINK;
	if (kind == COUNT_NONE || (kind == COUNT_LIVE && is_pointer(types, word)))
		return false;
	if (kind != COUNT_LIVE &&
	    (!size_fits(facts, block_size) || !is_untracked(bytes, start, types->python->layout.gc_head_size)))
		return false;
	if (kind == COUNT_LINK && !link_fits(types, word, RADDR(type)))
		return false;
	*ret = (struct block_object){ .type = id, .start = start, .parked = kind != COUNT_LIVE };
	return true;
}

void block_object_find(struct types *types, const uint8_t *bytes, size_t len, uint64_t block_size, struct block_object *ret)
{
	uint32_t head = types->python->layout.gc_head_size, hooks = types->debug_hooks ? TYPES_DEBUG_FRONT : 0;
	uint32_t back = types->debug_hooks ? TYPES_DEBUG_BACK : 0;
	const uint32_t starts[] = { 0, head, head + 16 };

	*ret = (struct block_object){ 0 };
	if (len < hooks || block_size < hooks + back)
		return;
	bytes += hooks;
	len -= hooks;
	block_size -= hooks + back;
	for (size_t i = 0; i < 3; i++) {
		if (starts[i] + 16 > len || starts[i] + 16 > block_size)
			return;
		if (try_object(types, bytes, block_size, starts[i], ret)) {
			ret->start += hooks;
			return;
		}
	}
}

/* Objects of a source file that begin with a count of 1 like anything else; last minor version in which they do. */
static const struct {
	const char *type;
	uint32_t last;
} plain_counts[] = {
	{ "NoneType", 11 }, { "bool", 11 }, { "ellipsis", 11 }, { "NotImplementedType", 11 }, { "int", 8 }, { "moduledef", UINT32_MAX },
};

/*
 * From 3.12 what is initialised in a source file is immortal, but for what extension modules make so (their types and module
 * definitions); in 3.11 it begins with 999,999,999. { 1, type } stands in many a table.
 */
static bool count_is_static(const struct types *types, uint32_t id, uint64_t word)
{
	uint32_t minor = types_python(types)->layout.minor;

	if (minor >= 12 ? (uint32_t)word >= 1u << 31 : minor == 11 && word >= STATIC_COUNT_311)
		return true;
	for (size_t i = 0; i < sizeof(plain_counts) / sizeof(plain_counts[0]); i++)
		if (minor <= plain_counts[i].last && strcmp(types_name(types, id), plain_counts[i].type) == 0)
			return true;
	return false;
}

/* A singleton is told by its type alone, and has more references than any: those of None reach the addresses of an executable. */
static bool is_singleton(const struct types *types, uint32_t id, const struct type_facts *facts)
{
	return facts->basicsize == types_python(types)->layout.ob_head_size && strcmp(types_name(types, id), "NoneType") == 0;
}

uint32_t static_object_find(struct types *types, raddr_t addr, const uint8_t *before, const uint8_t *bytes, size_t len, raddr_t from,
			    raddr_t to, uint32_t *ret_bytes)
{
	uint64_t word = len < 16 ? 0 : u64_at(bytes, 0);
	const struct type_facts *facts;
	uint32_t id;

	if (!word || count_kind(types, word) != COUNT_LIVE)
		return 0;
	id = types_find(types, RADDR(u64_at(bytes, 8)));
	facts = types_facts(types, id);
	if (!facts)
		return 0;
	*ret_bytes = facts->basicsize;
	if (facts->flags & TYPE_SUBCLASS) {
		/* a static one is shorter than what its metatype makes */
		*ret_bytes = types_python(types)->layout.tp_size;
		return types_find(types, addr) ? id : 0;
	}
	if (facts->heap || facts->preheader || facts->basicsize > len || !count_is_static(types, id, word))
		return 0;
	if (facts->has_gc && (u64_at(before, 0) || u64_at(before, 8) > 3))
		return 0;
	if (word >= from.v && word < to.v && !is_singleton(types, id, facts))
		return 0;
	return is_pointer(types, word) ? 0 : id;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
	unsigned __int128 product = (unsigned __int128)(hash ^ value ^ 0x2545f4914f6cdd1dull) * 0x9e3779b97f4a7c15ull;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Up to PRINT_BYTES of size bytes at offset, as far as bytes has them. */
static uint64_t mix_bytes(uint64_t hash, const uint8_t *bytes, size_t len, size_t offset, uint64_t size)
{
	uint64_t word;

	if (offset >= len)
		return hash;
	size = size < PRINT_BYTES ? size : PRINT_BYTES;
	size = size < len - offset ? size : len - offset;
	for (; size >= 8; size -= 8, offset += 8)
		hash = mix(hash, u64_at(bytes, offset));
	word = 0;
	memcpy(&word, bytes + offset, size);
	return mix(hash, word);
}

static uint64_t mix_sized(uint64_t hash, const uint8_t *bytes, size_t len, uint32_t size_at, uint32_t data_at, uint32_t unit)
{
	uint64_t count;

	if ((size_t)size_at + 8 > len)
		return hash;
	count = u64_at(bytes, size_at);
	return mix_bytes(mix(hash, count), bytes, len, data_at, count < PRINT_BYTES ? count * unit : PRINT_BYTES);
}

static uint64_t mix_str(const struct layout *l, uint64_t hash, const uint8_t *bytes, size_t len)
{
	uint32_t state;

	if ((size_t)l->str_state + 4 > len || (size_t)l->str_length + 8 > len)
		return hash;
	memcpy(&state, bytes + l->str_state, 4);
	state &= STR_STABLE;
	hash = mix(hash, state);
	if (!(state & STR_COMPACT))
		return mix(hash, u64_at(bytes, l->str_length));
	return mix_sized(hash, bytes, len, l->str_length, state & STR_ASCII ? l->str_ascii_data : l->str_compact_data, STR_KIND(state));
}

static uint64_t mix_int(const struct layout *l, uint64_t hash, const uint8_t *bytes, size_t len)
{
	uint64_t tag, digits;

	if ((size_t)l->ob_head_size + 8 > len)
		return hash;
	tag = u64_at(bytes, l->ob_head_size);
	if (l->minor >= 12) {
		tag &= ~(uint64_t)LONG_TAG_IMMORTAL;
		digits = tag >> 3;
	} else {
		digits = tag >> 63 ? 0 - tag : tag;
	}
	return mix_bytes(mix(hash, tag), bytes, len, l->ob_head_size + 8, digits < PRINT_BYTES ? 4 * digits : PRINT_BYTES);
}

static uint64_t mix_code(const struct layout *l, uint64_t hash, const uint8_t *bytes, size_t len)
{
	hash = mix_bytes(hash, bytes, len, l->co_filename, 8);
	hash = mix_bytes(hash, bytes, len, l->co_name, 8);
	return mix_bytes(hash, bytes, len, l->co_firstlineno, 4);
}

uint64_t block_object_print(const struct types *types, const struct block_object *object, const uint8_t *bytes, size_t len)
{
	const struct type_facts *facts = types_facts(types, object->type);
	const struct layout *l = &types_python(types)->layout;
	uint64_t hash;

	if (!facts || object->start > len)
		return 0;
	hash = mix(0x6c65616b736e6f6full, object->type);
	bytes += object->start;
	len -= object->start;
	switch (facts->contents) {
	case CONTENTS_MUTABLE:
		break;
	case CONTENTS_HEAD:
		hash = mix_bytes(hash, bytes, len, l->ob_head_size, facts->head_bytes);
		break;
	case CONTENTS_INT:
		hash = mix_int(l, hash, bytes, len);
		break;
	case CONTENTS_STR:
		hash = mix_str(l, hash, bytes, len);
		break;
	case CONTENTS_BYTES:
		hash = mix_sized(hash, bytes, len, l->bytes_size, l->bytes_data, 1);
		break;
	case CONTENTS_TUPLE:
		hash = mix_sized(hash, bytes, len, l->var_size, l->tuple_items, 8);
		break;
	case CONTENTS_CODE:
		hash = mix_code(l, hash, bytes, len);
		break;
	}
	return hash ? hash : 1;
}
