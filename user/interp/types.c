/* SPDX-License-Identifier: MIT */
/*
 * A cache of type objects. A type object is believed by three things: its type
 * is a type (Py_TPFLAGS_TYPE_SUBCLASS) all the way up to the one that is its
 * own type and called "type"; its name is printable; its sizes are sane.
 *
 * Invariants: ids are dense from 1 and never change their meaning; by_addr
 * leads from an address to the id it has now. Within one epoch (until
 * types_refresh()) an answer is given from memory; in the next, an id is
 * confirmed by one read: name, base, dict, sizes and metatype must be where
 * they were. A class that took the address over differs in one of them and
 * gets an id of its own. Two classes of the same statement, one freed and the
 * other made at the same address with a dict at the same address, are taken for one.
 *
 * Negative answers are the hot path: most words that stand where a type could
 * stand are none. An address inside an arena never is one: the smallest type
 * object has 400 bytes and those of classes over 800, so that they come from
 * the raw allocator, which takes what is over 512. The others go through a
 * direct-mapped table of ANSWERS answers, positive and negative alike; a
 * collision costs a read, nothing else.
 *
 * Limits: TYPES_MAX types; a class whose name holds a control character is none.
 */
#include "interp/types.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/intern.h"
#include "base/map64.h"
#include "base/utf8.h"
#include "interp/arenas.h"
#include "interp/slots.h"
#include "interp/type_name.h"
#include "interp/types_impl.h"

#define HEAD_MAX 320              /* bytes of a type object that are read */
#define NAMES_MAX (16u << 20)     /* bytes of all names */
#define META_DEPTH 6              /* metaclasses of metaclasses */
#define OBJECT_MAX (1u << 24)     /* tp_basicsize, tp_itemsize */

#define FLAG_MANAGED_WEAKREF (1ull << 3)
#define FLAG_MANAGED_DICT (1ull << 4)
#define FLAG_HEAPTYPE (1ull << 9)
#define FLAG_HAVE_GC (1ull << 14)
#define FLAG_TYPE_SUBCLASS (1ull << 31)

/* Static types whose contents never change once built. Not: str's hash, code's caches, anything of subclasses. */
static const struct {
	const char *name;
	enum type_contents contents;
	uint32_t head_bytes;
} immutables[] = {
	{ "str", CONTENTS_STR, 0 },
	{ "bytes", CONTENTS_BYTES, 0 },
	{ "int", CONTENTS_INT, 0 },
	{ "tuple", CONTENTS_TUPLE, 0 },
	{ "code", CONTENTS_CODE, 0 },
	{ "float", CONTENTS_HEAD, 8 },
	{ "complex", CONTENTS_HEAD, 16 },
	{ "range", CONTENTS_HEAD, 32 },      /* start, stop, step, length */
	{ "slice", CONTENTS_HEAD, 24 },
	{ "method", CONTENTS_HEAD, 16 },     /* function, self */
	{ "frozenset", CONTENTS_HEAD, 24 },  /* fill, used, mask */
};

int types_new(const struct python *python, struct types **ret_types)
{
	_cleanup_(types_freep) struct types *types = calloc(1, sizeof(*types));
	const struct layout *l = &python->layout;
	struct slots slots;
	int r;

	if (!types)
		return -ENOMEM;
	if (l->tp_name > HEAD_MAX - 8 || l->tp_basicsize > HEAD_MAX - 8 || l->tp_itemsize > HEAD_MAX - 8 ||
	    l->tp_flags > HEAD_MAX - 8 || l->tp_base > HEAD_MAX - 8 || l->tp_dict > HEAD_MAX - 8 || l->ob_type > HEAD_MAX - 8)
		return -EPROTO;
	types->python = python;
	types->epoch = 1;
	types->debug_hooks = python->image && slots_read(python, &slots, NULL) == 0 && slots.debug_hooks;
	r = intern_new(NAMES_MAX, &types->names);
	if (r == 0)
		r = map64_new(sizeof(uint32_t), &types->by_addr);
	if (r == 0)
		r = arenas_new(python, &types->arenas);
	if (r == 0)
		r = arenas_refresh(types->arenas);
	if (r < 0)
		return r;
	*ret_types = take_ptr(types);
	return 0;
}

void types_free(struct types *types)
{
	if (!types)
		return;
	arenas_free(types->arenas);
	map64_free(types->by_addr);
	intern_free(types->names);
	free(types->entries);
	free(types);
}

int types_refresh(struct types *types)
{
	/* 0 marks an answer never given */
	if (++types->epoch == 0) {
		memset(types->answers, 0, sizeof(types->answers));
		types->epoch = 1;
	}
	return arenas_refresh(types->arenas);
}

/* What one read of a type object tells. */
struct head {
	struct type_identity identity;
	uint64_t flags;
};

static int read_head(const struct types *types, raddr_t addr, struct head *ret)
{
	const struct layout *l = &types->python->layout;
	uint8_t bytes[HEAD_MAX] = { 0 };
	const struct {
		uint32_t at;
		uint64_t *to;
	} fields[] = {
		{ l->ob_type, &ret->identity.type },          { l->tp_name, &ret->identity.name },
		{ l->tp_base, &ret->identity.base },          { l->tp_dict, &ret->identity.dict },
		{ l->tp_basicsize, &ret->identity.basicsize }, { l->tp_itemsize, &ret->identity.itemsize },
		{ l->tp_flags, &ret->flags },
	};
	size_t need = 0;
	int r;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		need = fields[i].at + 8 > need ? fields[i].at + 8 : need;
	r = rmem_read(types->python->mem, addr, bytes, need);
	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		memcpy(fields[i].to, bytes + fields[i].at, 8);
	return 0;
}

/* No control characters, valid UTF-8, not empty. */
static bool is_printable(const char *s)
{
	size_t len = strlen(s);

	for (size_t i = 0; i < len;) {
		uint32_t c;

		i += utf8_decode(s + i, len - i, &c);
		if (c == UTF8_INVALID || c < 0x20 || c == 0x7f)
			return false;
	}
	return len > 0;
}

static uint32_t find(struct types *types, raddr_t addr, int depth);

/* Is the type of this object a type that makes types? */
static bool meta_is_type(struct types *types, raddr_t addr, const struct head *head, const char *name, int depth)
{
	uint32_t meta;

	if (head->identity.type == addr.v)
		return strcmp(name, "type") == 0 && (head->flags & FLAG_TYPE_SUBCLASS);
	meta = depth > 0 ? find(types, RADDR(head->identity.type), depth - 1) : 0;
	return meta && (types->entries[meta].facts.flags & FLAG_TYPE_SUBCLASS);
}

static void set_contents(struct type_facts *facts, const char *name)
{
	if (facts->heap)
		return;
	for (size_t i = 0; i < sizeof(immutables) / sizeof(immutables[0]); i++) {
		if (strcmp(immutables[i].name, name) != 0)
			continue;
		facts->contents = immutables[i].contents;
		facts->head_bytes = immutables[i].head_bytes;
		facts->immutable = true;
	}
}

static struct type_facts facts_of(const struct types *types, raddr_t addr, const struct head *head, const char *name)
{
	const struct layout *l = &types->python->layout;
	/* 3.11 has the pre-header for the managed dict only; MANAGED_WEAKREF came with 3.12 */
	uint64_t managed = l->minor >= 12 ? FLAG_MANAGED_DICT | FLAG_MANAGED_WEAKREF : l->minor == 11 ? FLAG_MANAGED_DICT : 0;
	struct type_facts facts = {
		.addr = addr,
		.base = RADDR(head->identity.base),
		.basicsize = (uint32_t)head->identity.basicsize,
		.itemsize = (uint32_t)head->identity.itemsize,
		.flags = head->flags,
		.has_gc = head->flags & FLAG_HAVE_GC,
		.heap = head->flags & FLAG_HEAPTYPE,
	};

	facts.preheader = facts.has_gc && (head->flags & managed);
	facts.front = (facts.has_gc ? l->gc_head_size : 0) + (facts.preheader ? 16 : 0);
	set_contents(&facts, name);
	return facts;
}

static uint32_t add_entry(struct types *types, const struct type_facts *facts, const struct head *head, const char *name)
{
	uint32_t *id;

	if (types->count >= TYPES_MAX) {
		types->refused++;
		return 0;
	}
	if (types->count + 1 >= types->room) {
		uint32_t room = types->room ? 2 * types->room : 256;
		struct type_entry *grown = reallocarray(types->entries, room, sizeof(*grown));

		if (!grown)
			return 0;
		types->entries = grown;
		types->room = room;
	}
	id = map64_put(types->by_addr, facts->addr.v, NULL);
	if (!id)
		return 0;
	*id = ++types->count;
	types->entries[*id] = (struct type_entry){
		.facts = *facts, .identity = head->identity, .epoch = types->epoch, .name = intern_cstr(types->names, name),
	};
	return *id;
}

/* A type object, or 0. */
static uint32_t probe(struct types *types, raddr_t addr, int depth)
{
	char tp_name[TYPES_NAME_MAX], name[TYPES_NAME_MAX];
	struct type_facts facts;
	struct head head;

	if (read_head(types, addr, &head) < 0)
		return 0;
	if (head.identity.basicsize < types->python->layout.ob_head_size || head.identity.basicsize > OBJECT_MAX ||
	    head.identity.itemsize > OBJECT_MAX || head.identity.type % 8 || !head.identity.name)
		return 0;
	if (rmem_cstr(types->python->mem, RADDR(head.identity.name), tp_name, sizeof(tp_name)) < 0 || !is_printable(tp_name))
		return 0;
	if (!meta_is_type(types, addr, &head, tp_name, depth))
		return 0;
	facts = facts_of(types, addr, &head, tp_name);
	type_name_read(types->python, addr, facts.heap, tp_name, name, sizeof(name));
	return add_entry(types, &facts, &head, name);
}

/* Is the type that was known at addr in an earlier epoch still there? */
static bool confirm(struct types *types, uint32_t id)
{
	struct type_entry *entry = &types->entries[id];
	struct head head;

	if (entry->epoch == types->epoch)
		return true;
	if (read_head(types, entry->facts.addr, &head) < 0 || memcmp(&head.identity, &entry->identity, sizeof(head.identity)) != 0)
		return false;
	entry->epoch = types->epoch;
	return true;
}

static uint32_t find(struct types *types, raddr_t addr, int depth)
{
	const uint32_t *known;

	if (addr.v % 8 || addr.v < TYPES_ADDR_MIN || addr.v >= TYPES_ADDR_END || arenas_hold(types->arenas, addr))
		return 0;
	known = map64_get(types->by_addr, addr.v);
	if (known && confirm(types, *known))
		return *known;
	return probe(types, addr, depth);
}

uint32_t types_find_slowly(struct types *types, raddr_t addr)
{
	struct type_answer *answer = types_answer(types, addr);

	/* most words that stand where a type could are pointers into arenas: they must not drive answers out */
	if (addr.v % 8 || addr.v < TYPES_ADDR_MIN || addr.v >= TYPES_ADDR_END || arenas_hold(types->arenas, addr))
		return 0;
	*answer = (struct type_answer){ addr.v, find(types, addr, META_DEPTH), types->epoch };
	return answer->id;
}

uint32_t types_find(struct types *types, raddr_t addr)
{
	return types_find_inline(types, addr);
}

const char *types_name(const struct types *types, uint32_t id)
{
	return id && id <= types->count && types->entries[id].name ? types->entries[id].name : "?";
}

const struct type_facts *types_facts(const struct types *types, uint32_t id)
{
	return types_facts_inline(types, id);
}

uint32_t types_count(const struct types *types)
{
	return types->count;
}

uint64_t types_refused(const struct types *types)
{
	return types->refused;
}

struct arenas *types_arenas(const struct types *types)
{
	return types->arenas;
}

uint32_t types_debug_front(const struct types *types)
{
	return types->debug_hooks ? TYPES_DEBUG_FRONT : 0;
}

uint32_t types_debug_back(const struct types *types)
{
	return types->debug_hooks ? TYPES_DEBUG_BACK : 0;
}

const struct python *types_python(const struct types *types)
{
	return types->python;
}
