/* SPDX-License-Identifier: MIT */
/*
 * Sizes of objects whose bytes are the input: every type with a rule, and a subclass of each, of every version. Input: version, type, how
 * many bytes are given at once, and the memory: what stands at an address is taken from the input, the same at each look.
 *
 * Whatever the memory: there is an answer or a refusal after a bounded number of questions, no part or sum beyond an address space, and
 * the answer does not depend on how many bytes were given at first.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "interp/object_size.h"
#include "interp/python_impl.h"

#define BASE 0x10000000ull
#define SIZE (1u << 20)
#define RUNTIME 0x0u
#define INTERP 0x80000u
#define TYPES_AT 0xc0000u      /* 512 bytes each: the type, its subclass behind it */
#define TYPE_STEP 0x200u
#define NAMES_AT 0xf0000u      /* 64 bytes each */
#define OBJECT 0x7f0000001000ull
#define MINORS 8
#define LOWEST 4096u
#define KEYS_AT 0x10000u       /* a table of 8 keys, all of it as it should be but for what the input says from KEYS_INPUT on */
#define KEYS_SIZE 64u
#define KEYS_INPUT 300u
#define HEAD 256u
#define FRONT 32u

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
	const char *name;
	uint32_t basicsize[MINORS];   /* from 3.8; the last one given holds for later ones */
	uint32_t itemsize;
} kinds[] = {
	{ "type", { 880 }, 40 },          { "object", { 16 }, 0 },
	{ "tuple", { 24 }, 8 },           { "int", { 24 }, 4 },
	{ "str", { 80, 80, 80, 80, 64 }, 0 },
	{ "list", { 40 }, 0 },            { "dict", { 48 }, 0 },
	{ "frozendict", { 56 }, 0 },      { "set", { 200 }, 0 },
	{ "bytearray", { 56 }, 0 },       { "code", { 176 }, 2 },
	{ "frame", { 368, 368, 360, 120 }, 8 },
	{ "generator", { 152 }, 8 },      { "collections.deque", { 80, 80, 80, 216 }, 0 },
	{ "collections.OrderedDict", { 112 }, 0 },
	{ "array.array", { 64 }, 0 },     { "decimal.Decimal", { 104 }, 0 },
	{ "_io.BufferedReader", { 152 }, 0 },
	{ "_io.BytesIO", { 64 }, 0 },     { "_io.StringIO", { 160 }, 0 },
	{ "_queue.SimpleQueue", { 72 }, 0 },
	{ "itertools.combinations", { 56 }, 0 },
	{ "itertools.permutations", { 64 }, 0 },
	{ "itertools.product", { 48 }, 0 },
	{ "xml.etree.ElementTree.Element", { 56 }, 0 },
	{ "_struct.Struct", { 56 }, 0 },  { "_pickle.Pickler", { 152 }, 0 },
	{ "_pickle.Unpickler", { 272, 272, 272, 272, 272, 264, 296, 304 }, 0 },
	{ "StgDict", { 192 }, 0 },        { "numpy.ndarray", { 96 }, 0 },
	{ "numpy.bytes_", { 40 }, 1 },    { "numpy.float64", { 24 }, 0 },
	{ "_ctypes.CType_Type", { 1088, 1088, 1088, 1088, 1088, 1088, 1120 }, 0 },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static struct world {
	uint8_t *memory;
	struct python *python;
	struct types *types;
	struct object_sizes *sizes;
	uint32_t ids[2 * KINDS];
	uint8_t keys[KEYS_SIZE];
} worlds[MINORS];

static void put(uint8_t *memory, uint32_t at, uint32_t offset, uint64_t value)
{
	if (offset != NO_OFFSET)
		memcpy(memory + at + offset, &value, sizeof(value));
}

static uint32_t basicsize_of(size_t kind, int world)
{
	while (world > 0 && !kinds[kind].basicsize[world])
		world--;
	return kinds[kind].basicsize[world];
}

/* sub: a class made in Python, with a managed dict and a larger object. */
static void build_type(struct world *w, const struct layout *l, int world, size_t kind, bool sub)
{
	uint32_t at = TYPES_AT + (uint32_t)(2 * kind + sub) * TYPE_STEP, name = NAMES_AT + (uint32_t)(2 * kind + sub) * 64;

	strcpy((char *)w->memory + name, sub ? "Mine" : kinds[kind].name);
	put(w->memory, at, 0, 1);
	put(w->memory, at, l->ob_type, BASE + TYPES_AT);
	put(w->memory, at, l->tp_name, BASE + name);
	put(w->memory, at, l->tp_basicsize, basicsize_of(kind, world) + (sub ? 16 : 0));
	put(w->memory, at, l->tp_itemsize, kinds[kind].itemsize);
	put(w->memory, at, l->tp_flags, 0x4000 | (kind ? 0 : 0x80000000ull) | (sub ? 0x10 : 0));
	put(w->memory, at, l->tp_base, sub ? BASE + at - TYPE_STEP : kind > 1 ? BASE + TYPES_AT + 2 * TYPE_STEP : 0);
}

static void build_keys(uint8_t *keys, const struct layout *l)
{
	put(keys, 0, 0, 1);
	put(keys, 0, l->dk_usable, 2);
	put(keys, 0, l->dk_nentries, 3);
	put(keys, 0, l->dk_size, 8);
	if (l->dk_log2_size == NO_OFFSET)
		return;
	keys[l->dk_log2_size] = keys[l->dk_log2_index_bytes] = 3;
	keys[l->dk_kind] = 1;
}

static void build(int world)
{
	struct world *w = &worlds[world];
	uint32_t hex = PY_HEX(3, world + 8, 4);
	struct rmem_region region = { BASE, NULL, SIZE };
	struct rmem *mem = NULL;
	struct layout l;
	struct err err;

	region.data = w->memory = calloc(1, SIZE);
	if (!w->memory || layout_find(hex, &l) < 0)
		abort();
	put(w->memory, RUNTIME, l.rt_interpreters_head, BASE + INTERP);
	put(w->memory, RUNTIME, l.rt_interpreters_main, BASE + INTERP);
	for (size_t i = 0; i < 2 * KINDS; i++)
		build_type(w, &l, world, i / 2, i % 2);
	build_keys(w->keys, &l);
	debug_offsets_fill(&l, hex, w->memory, DEBUG_OFFSETS_MAX);
	if (rmem_open_regions(&region, 1, &mem) < 0 || python_open_memory(mem, RADDR(BASE), hex, &w->python, &err) < 0 ||
	    types_new(w->python, &w->types) < 0 || object_sizes_new(w->types, &w->sizes) < 0)
		abort();
	for (size_t i = 0; i < 2 * KINDS; i++) {
		w->ids[i] = types_find(w->types, RADDR(BASE + TYPES_AT + i * TYPE_STEP));
		if (!w->ids[i])
			abort();
	}
}

struct input {
	const struct world *world;
	const uint8_t *data;
	size_t size;
};

/* The object's bytes come first; they stand at the lowest addresses, too, and elsewhere again and again, shifted by the address. */
static void read_memory(const struct input *input, uint64_t addr, uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		uint64_t at = addr + i - (OBJECT - FRONT);

		if (at >= input->size)
			at = addr + i - LOWEST;
		if (at >= input->size)
			at = ((addr + i) / 8 * 40 + (addr + i) % 8) % (input->size + 64);
		if (addr + i >= KEYS_AT && addr + i < KEYS_AT + KEYS_SIZE)
			at = addr + i - KEYS_AT + KEYS_INPUT;
		bytes[i] = at < input->size ? input->data[at] : 0;
		if (addr + i >= KEYS_AT && addr + i < KEYS_AT + KEYS_SIZE)
			bytes[i] ^= input->world->keys[addr + i - KEYS_AT];
	}
}

static void check(const struct object_size *size)
{
	uint64_t blocks = 0;

	if (size->n_parts > OBJECT_PARTS_MAX || size->bytes >> 62)
		abort();
	for (uint32_t i = 0; i < size->n_parts; i++) {
		const struct object_part *part = &size->parts[i];

		blocks += part->blocks;
		if (!part->blocks || part->bytes >> 48 || !part->addr.v || part->addr.v >> 47 || part->kind > PART_OTHER)
			abort();
	}
}

static int measure(struct world *w, uint32_t id, const struct input *input, size_t len, bool in_block, struct object_size *size)
{
	uint8_t object[FRONT + HEAD], bytes[OBJECT_NEED_MAX];
	uint32_t front = types_facts(w->types, id)->front, asked = 0;
	int r;

	read_memory(input, OBJECT - front, object + FRONT - front, front + len);
	if (in_block)
		r = object_size_in_block(w->sizes, id, RADDR(OBJECT), object + FRONT, len, size);
	else
		r = object_size_of(w->sizes, id, RADDR(OBJECT), object + FRONT, len, size);
	while (r == 0 && size->need.bytes) {
		if (++asked > OBJECT_STEPS_MAX || size->need.bytes > OBJECT_NEED_MAX)
			abort();
		check(size);
		read_memory(input, size->need.addr.v, bytes, size->need.bytes);
		r = object_size_go_on(w->sizes, bytes, size);
	}
	if (r == 0)
		check(size);
	else if (r != -EPROTO)
		abort();
	return r;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	for (int i = 0; i < MINORS; i++) {
		const struct layout *l = (build(i), python_layout(worlds[i].python));
		uint8_t object[FRONT + 64] = { 0 };
		struct input input = { &worlds[i], object, sizeof(object) };
		struct object_size size;

		/* an object() is one, a dict without a key table is none */
		if (measure(&worlds[i], worlds[i].ids[2], &input, HEAD, true, &size) < 0 || size.bytes != 32 ||
		    measure(&worlds[i], worlds[i].ids[12], &input, HEAD, true, &size) != -EPROTO)
			abort();
		put(object, FRONT, l->dict_keys, KEYS_AT);
		if (measure(&worlds[i], worlds[i].ids[12], &input, HEAD, true, &size) < 0 || size.n_parts != 1 ||
		    size.bytes != 64 + size.parts[0].bytes || size.parts[0].bytes != l->dk_indices + 8 + 5 * (l->minor < 11 ? 24 : 16))
			abort();
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct object_size some, all;
	struct input input;
	struct world *w;
	uint32_t id;
	int r;

	if (size < 3)
		return 0;
	w = &worlds[data[0] % MINORS];
	id = w->ids[data[1] % (2 * KINDS)];
	input = (struct input){ w, data + 3, size - 3 };
	r = measure(w, id, &input, HEAD, true, &all);
	if (measure(w, id, &input, data[2], false, &some) != r || (r == 0 && (some.bytes != all.bytes || some.n_parts != all.n_parts)))
		abort();
	return 0;
}
