/* SPDX-License-Identifier: MIT */
/*
 * Types, blocks, both censuses, the map of arenas and glibc's chunks on recorded memory: a small process with
 * a few types, an arena with three pools and a heap, with what the input says
 * overwritten. Input: a byte for the version, then (u8 area, u16 offset in it,
 * u8 length - 1, bytes) patches.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "heap/arena_map.h"
#include "heap/cells.h"
#include "heap/census.h"
#include "interp/block_object.h"
#include "interp/blocks.h"
#include "interp/python_impl.h"

#define BASE 0x10000000ull
#define SIZE (4u << 20)
/* Where things stand in the recorded memory. */
#define RUNTIME 0x0u
#define INTERP 0x80000u
#define TYPES_AT 0x180000u    /* 4 KiB each */
#define NAMES_AT 0x186000u    /* 16 bytes each */
#define DICT 0x187000u
#define KEYS 0x187100u
#define MODULE 0x188000u      /* strs */
#define KEY 0x188100u
#define STATE 0x190000u
#define ARENAS 0x1f0000u
#define ARENA 0x200000u
#define POOLS 3u
#define HEAP 0x380000u
#define HEAP_SIZE 0x10000u
#define PATCHES_MAX 64
#define LOOKS 256

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *memory, *pristine;
static uint64_t mapped;   /* live blocks of the last map of arenas */
/* Where patches go: what is read is a small part of all. */
static const uint32_t areas[] = { TYPES_AT, NAMES_AT, STATE, ARENAS, ARENA, ARENA + 0x4000, ARENA + 0x8000, HEAP, RUNTIME, INTERP };
static int pristine_minor;
static const char *const names[] = { "type", "str", "tuple", "dict", "Session", "int" };
/* tp_flags: HAVE_GC 1 << 14, HEAPTYPE 1 << 9, TYPE_SUBCLASS 1 << 31 */
static const uint64_t flags[] = { 0x80004000, 0, 0x4000, 0x4000, 0x4210, 0 };

static void put(uint32_t at, uint32_t offset, uint64_t value)
{
	if (offset != NO_OFFSET)
		memcpy(pristine + at + offset, &value, sizeof(value));
}

static void put32(uint32_t at, uint32_t offset, uint32_t value)
{
	if (offset != NO_OFFSET)
		memcpy(pristine + at + offset, &value, sizeof(value));
}

static void build_str(const struct layout *l, uint32_t at, const char *text)
{
	put(at, 0, 1);
	put(at, l->ob_type, BASE + TYPES_AT + 0x1000);
	put(at, l->str_length, strlen(text));
	put32(at, l->str_state, 1u << 2 | 3u << 5);
	memcpy(pristine + at + l->str_ascii_data, text, strlen(text) + 1);
}

/* A dict of one entry, "__module__": "app". */
static void build_dict(const struct layout *l)
{
	uint32_t entries = l->dk_indices + 8;

	put(DICT, l->dict_keys, BASE + KEYS);
	put(KEYS, l->dk_nentries, 1);
	if (l->dk_kind != NO_OFFSET) {
		pristine[KEYS + l->dk_kind] = 1;
		pristine[KEYS + l->dk_log2_index_bytes] = 3;
		put(KEYS, entries, BASE + KEY);
		put(KEYS, entries + 8, BASE + MODULE);
	} else {
		put(KEYS, l->dk_size, 8);
		put(KEYS, entries + 8, BASE + KEY);
		put(KEYS, entries + 16, BASE + MODULE);
	}
}

static void build_types(const struct layout *l)
{
	for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		uint32_t at = TYPES_AT + i * 0x1000;

		memcpy(pristine + NAMES_AT + 16 * i, names[i], strlen(names[i]) + 1);
		put(at, 0, 1);
		put(at, l->ob_type, BASE + TYPES_AT);
		put(at, l->tp_name, BASE + NAMES_AT + 16 * i);
		put(at, l->tp_basicsize, i == 4 ? 32 : 24);
		put(at, l->tp_flags, flags[i]);
		put(at, l->tp_dict, BASE + DICT);
		put(at, l->ht_qualname, BASE + MODULE);
	}
	build_str(l, MODULE, "app");
	build_str(l, KEY, "__module__");
	build_dict(l);
}

/* Blocks of 48, 64 and 80 bytes with objects of every type; each third one free. */
static void build_pool(const struct layout *l, uint32_t pool, uint32_t class)
{
	uint32_t block = (class + 1) * 16, carved = 60, free_at = 0, live = 0;

	for (uint32_t i = 0; i < carved; i++) {
		uint32_t at = pool + l->pool_overhead + i * block, type = i % 6, start = flags[type] & 0x4000 ? 16 : 0;

		if (type == 4 && l->minor >= 11)
			start = 32;
		put(at, start, 1);
		put(at, start + 8, BASE + TYPES_AT + type * 0x1000);
		if (i % 3) {
			live++;
			continue;
		}
		put(at, 0, free_at ? BASE + free_at : 0);
		free_at = at;
	}
	put32(pool, l->po_count, live);
	put32(pool, l->po_szidx, class);
	put(pool, l->po_freeblock, BASE + free_at);
	put32(pool, l->po_nextoffset, l->pool_overhead + carved * block);
}

static void build_obmalloc(const struct layout *l)
{
	uint32_t state = l->obmalloc_place == OBMALLOC_INLINE ? INTERP + l->in_obmalloc : STATE;

	if (l->obmalloc_place == OBMALLOC_STATIC)
		return;
	if (l->obmalloc_place == OBMALLOC_POINTER)
		put(INTERP, l->in_obmalloc, BASE + STATE);
	for (uint32_t k = 0; k < 32; k++) {
		put(state, l->ob_used + 16 * k, BASE + state + l->ob_used + 16 * k - 16);
		put(state, l->ob_used + 16 * k + 8, BASE + state + l->ob_used + 16 * k - 16);
	}
	put(state, l->ob_arenas, BASE + ARENAS);
	put32(state, l->ob_maxarenas, 16);
	put(ARENAS, l->ar_address, BASE + ARENA);
	put(ARENAS, l->ar_pool_address, BASE + ARENA + (uint64_t)POOLS * l->pool_size);
	put32(ARENAS, l->ar_nfreepools, 61);
	put32(ARENAS, l->ar_ntotalpools, 64);
	for (uint32_t i = 0; i < POOLS; i++)
		build_pool(l, ARENA + i * l->pool_size, 2 + i);
}

/* Chunks of 0x250 bytes; each fourth one lies in a tcache. */
static void build_heap(void)
{
	for (uint32_t at = 0, i = 0; at + 0x260 < HEAP_SIZE; at += 0x250, i++) {
		put(HEAP + at, 8, 0x251);
		if (i % 4)
			continue;
		put(HEAP + at, 16, (BASE + HEAP + at + 16) >> 12);
		put(HEAP + at, 24, 0xfedcba9876543210ull);
	}
}

static uint32_t build(int minor)
{
	uint32_t hex = PY_HEX(3, minor, 4);
	struct layout l;

	if (!memory) {
		memory = malloc(SIZE);
		pristine = malloc(SIZE);
	}
	if (minor == pristine_minor)
		return hex;
	memset(pristine, 0, SIZE);
	if (layout_find(hex, &l) < 0)
		abort();
	put(RUNTIME, l.rt_interpreters_head, BASE + INTERP);
	put(RUNTIME, l.rt_interpreters_main, BASE + INTERP);
	build_types(&l);
	build_obmalloc(&l);
	build_heap();
	debug_offsets_fill(&l, hex, pristine, DEBUG_OFFSETS_MAX);
	memcpy(memory, pristine, SIZE);
	pristine_minor = minor;
	return hex;
}

/* Returns the live blocks it saw. */
static size_t look(const struct python *python, struct types *types)
{
	struct block_look looks[LOOKS];
	struct blocks *blocks = NULL;
	size_t n = 0, live = 0;

	for (uint32_t i = 0; i < 60; i++)
		for (uint32_t class = 2; class < 2 + POOLS && n < LOOKS; class++)
			looks[n++] = (struct block_look){
				.addr = RADDR(BASE + ARENA + (class - 2) * python->layout.pool_size + 48 + i * (class + 1) * 16),
				.size = (class + 1) * 16,
			};
	for (uint32_t at = 16; at < HEAP_SIZE && n < LOOKS; at += 0x250, n++)
		looks[n] = (struct block_look){ .addr = RADDR(BASE + HEAP + at), .size = 0x248 - n % 16 };
	if (blocks_new(python, types, &blocks) < 0 || blocks_look(blocks, looks, n) < 0) {
		blocks_free(blocks);
		return 0;
	}
	for (size_t i = 0; i < n; i++) {
		live += looks[i].state == BLOCK_LIVE;
		if (looks[i].type > types_count(types) || (looks[i].print && !looks[i].type))
			abort();
	}
	blocks_free(blocks);
	return live;
}

/* Whatever the table and the pools say, the map adds up. Returns its live blocks. */
static uint64_t map_arenas(const struct python *python)
{
	struct arena_map *map = NULL;
	const struct arena_totals *t;
	uint64_t blocks = 0, named = 0;

	if (arena_map_read(python, NULL, &map, NULL) < 0)
		return 0;
	t = &map->totals;
	if (t->live_bytes + t->free_in_used_pools_bytes + t->free_pools_bytes + t->uncarved_bytes + t->overhead_bytes + t->refused_bytes !=
	    t->arena_bytes || !(t->fragmentation >= 0 && t->fragmentation <= 1) || t->arenas != map->n_arenas ||
	    t->arenas_if_packed > t->arenas)
		abort();
	for (size_t i = 0; i < map->n_arenas; i++) {
		const struct arena_row *row = &map->arenas[i];

		blocks += row->live_blocks;
		named = row->pins_unread;
		for (size_t k = 0; k < row->n_pins; k++)
			named += map->pins[row->first_pin + k].count;
		/* nothing changes between the looks */
		if (row->returnable && named != row->live_blocks)
			abort();
		if (i && row[-1].address.v + row[-1].bytes > row->address.v && row[-1].state == row->state)
			abort();
	}
	if (blocks != t->live_blocks)
		abort();
	arena_map_free(map);
	return blocks;
}

static void check_census(const struct python *python)
{
	struct census *census = NULL;
	uint64_t objects = 0, others = 0;

	if (census_read(python, NULL, &census, NULL) < 0)
		return;
	for (size_t i = 0; i < census->n_types; i++)
		objects += census->types[i].count;
	for (int kind = 0; kind < CENSUS_NON_OBJECT_COUNT; kind++)
		others += census->non_objects[kind].count;
	if (objects != census->objects || objects - census->static_objects + others != census->blocks)
		abort();
	census_free(census);
}

static void look_for_static(struct types *types)
{
	for (uint32_t at = TYPES_AT; at < MODULE + 0x1000; at += 8) {
		uint32_t bytes = 0, type = static_object_find(types, RADDR(BASE + at), memory + at - 16, memory + at, 1024, RADDR(BASE),
							      RADDR(BASE + SIZE), &bytes);

		if (type > types_count(types) || (type && bytes == 0))
			abort();
	}
}

static size_t use(const struct python *python)
{
	const struct cells_options options = { 0 };
	struct cells *cells = NULL;
	struct types *types = NULL;
	size_t live = 0;

	if (types_new(python, &types) == 0)
		live = look(python, types);
	if (types && cells_read(python, types, &options, &cells, NULL) == 0) {
		uint64_t cursor = 0, sum = 0;
		uint32_t class, type;
		struct cell cell;

		while (cells_next(cells, &cursor, &class, &type, &cell))
			sum += cell.live + cell.parked;
		if (sum != cells_info(cells)->live + cells_info(cells)->parked)
			abort();
	}
	if (types)
		look_for_static(types);
	check_census(python);
	cells_free(cells);
	types_free(types);
	mapped = map_arenas(python);
	return live;
}

/* Live blocks seen; -1: the recorded process was not taken for a Python. */
static long run(uint32_t hex)
{
	static const char maps[] = "10380000-10390000 rw-p 00000000 00:00 0 [heap]\n"
				   "7f0000000000-7f0000001000 r-xp 00000000 00:00 1 /lib/libc.so.6\n";
	const struct rmem_region region = { BASE, memory, SIZE };
	struct python *python = NULL;
	struct rmem *mem = NULL;
	struct err err;
	size_t live;

	if (rmem_open_regions(&region, 1, &mem) < 0)
		return -1;
	if (python_open_memory(mem, RADDR(BASE), hex, &python, &err) < 0) {
		rmem_free(mem);
		return -1;
	}
	if (maps_parse(maps, sizeof(maps) - 1, &python->maps) < 0)
		abort();
	live = use(python);
	python_free(python);
	return (long)live;
}

/* What is not overwritten must be valid, or the fuzzing would stop at the door. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	for (int minor = 8; minor <= 15; minor++)
		if (run(build(minor)) < (minor < 12 ? 50 : 150) || mapped != (minor < 12 ? 0 : POOLS * 40))
			abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t at[PATCHES_MAX], length[PATCHES_MAX], hex;
	size_t n = 0, i = 1;

	if (size < 1)
		return 0;
	hex = build(8 + data[0] % 8);
	while (n < PATCHES_MAX && i + 5 <= size) {
		at[n] = areas[data[i] % (sizeof(areas) / sizeof(areas[0]))] + ((uint32_t)data[i + 1] | (uint32_t)data[i + 2] << 8);
		length[n] = data[i + 3] % 8u + 1;
		i += 4;
		if (length[n] > size - i)
			break;
		memcpy(memory + at[n], data + i, length[n]);
		i += length[n++];
	}
	run(hex);
	while (n-- > 0)
		memcpy(memory + at[n], pristine + at[n], length[n]);
	return 0;
}
