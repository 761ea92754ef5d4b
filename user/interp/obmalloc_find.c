/* SPDX-License-Identifier: MIT */
/*
 * Finding pymalloc's states: static variables up to 3.11 (from code), inside
 * the interpreter in 3.12, behind interp->obmalloc from 3.13, whose offset
 * moves between patch levels. Everything is believed by its signature only:
 * each entry of usedpools is itself when its class is empty, else a pool of
 * that class.
 */
#include <errno.h>
#include <string.h>

#include "interp/obmalloc_state.h"
#include "interp/slots_x86.h"

#define CLASSES 32
#define USED_ENTRIES (2 * CLASSES)
#define SIGNATURE_TRIES 4
#define SCAN_FIRST 2048u         /* where in an interpreter the state or its pointer can be */
#define SCAN_LAST 20480u
#define USED_BEFORE_TABLE 0x220  /* usedpools stands this far before _PyObject in every build seen up to 3.11 */
#define DATA_SCAN_MAX (32u << 20)
#define PAGE 4096u

static bool class_matches(const struct python *python, uint64_t self, uint64_t entry, uint32_t class)
{
	uint32_t szidx;

	if (entry == self)
		return true;
	if (entry % python->layout.pool_size)
		return false;
	return rmem_u32(python->mem, RADDR(entry + python->layout.po_szidx), &szidx) == 0 && szidx == class;
}

static bool is_used_once(const struct python *python, raddr_t addr)
{
	uint64_t used[USED_ENTRIES];

	if (addr.v % 8 || rmem_read(python->mem, addr, used, sizeof(used)) < 0)
		return false;
	for (uint32_t k = 0; k < CLASSES; k++)
		if (!class_matches(python, addr.v + 16ull * k - 16, used[2 * k], k))
			return false;
	return true;
}

bool obmalloc_is_used(const struct python *python, raddr_t addr)
{
	/* a running target moves pools between the read and the look */
	for (int i = 0; i < SIGNATURE_TRIES; i++)
		if (is_used_once(python, addr))
			return true;
	return false;
}

bool arena_parse(const struct layout *layout, const uint8_t *bytes, struct arena_entry *ret_arena)
{
	uint32_t pools = layout->arena_size / layout->pool_size;
	struct arena_entry arena;
	uint64_t first, end;

	memcpy(&arena.address, bytes + layout->ar_address, 8);
	memcpy(&arena.pool_address, bytes + layout->ar_pool_address, 8);
	memcpy(&arena.nfreepools, bytes + layout->ar_nfreepools, 4);
	memcpy(&arena.ntotalpools, bytes + layout->ar_ntotalpools, 4);
	/* a misaligned arena loses a pool; 2 MiB arenas have twice as many */
	if (arena.ntotalpools != pools && arena.ntotalpools != pools - 1 && arena.ntotalpools != 2 * pools &&
	    arena.ntotalpools != 2 * pools - 1)
		return false;
	if (arena.address % 16 || arena.address < PAGE || arena.address >= (1ull << 63) || arena.nfreepools > arena.ntotalpools)
		return false;
	first = arena_first_pool(layout, &arena);
	end = first + (uint64_t)arena.ntotalpools * layout->pool_size;
	if (arena.pool_address < first || arena.pool_address > end || arena.pool_address % layout->pool_size)
		return false;
	*ret_arena = arena;
	return true;
}

uint64_t arena_first_pool(const struct layout *layout, const struct arena_entry *arena)
{
	return (arena->address + layout->pool_size - 1) & ~(uint64_t)(layout->pool_size - 1);
}

uint64_t arena_bytes(const struct layout *layout, const struct arena_entry *arena)
{
	return arena->ntotalpools > layout->arena_size / layout->pool_size ? 2ull * layout->arena_size : layout->arena_size;
}

/* The array starts with 16 entries and doubles; an initialised pymalloc has an arena. */
static bool is_arenas(const struct python *python, raddr_t arenas, uint32_t maxarenas)
{
	const struct layout *l = &python->layout;
	uint8_t entry[64];
	struct arena_entry arena;

	if (maxarenas < 16 || maxarenas > ARENAS_MAX || (maxarenas & (maxarenas - 1)) || arenas.v % 8 || l->ar_size > sizeof(entry))
		return false;
	for (uint32_t i = 0; i < maxarenas && i < 4096; i++) {
		uint64_t address;

		if (rmem_read(python->mem, raddr_add(arenas, (int64_t)i * l->ar_size), entry, l->ar_size) < 0)
			return false;
		memcpy(&address, entry + l->ar_address, 8);
		if (address)
			return arena_parse(l, entry, &arena);
	}
	return false;
}

static int read_u64(const struct python *python, raddr_t addr, uint64_t *ret)
{
	*ret = OBMALLOC_UNKNOWN;
	return addr.v ? rmem_u64(python->mem, addr, ret) : 0;
}

/* usedpools up to 3.11: where it always was, else anywhere in the writable data around the table. */
static raddr_t find_static_used(const struct python *python)
{
	_cleanup_(freep) uint64_t *words = NULL;
	raddr_t table, guess;
	const struct map *map;
	size_t size;

	if (!python->image || slots_table_from_code(python->image, DOMAIN_OBJ, &table) < 0)
		return RADDR_NULL;
	guess = raddr_add(table, -USED_BEFORE_TABLE);
	if (obmalloc_is_used(python, guess))
		return guess;
	map = maps_at(python->maps, table.v);
	size = map ? (size_t)(map->end - map->start) : 0;
	if (!map || !map->write || size > DATA_SCAN_MAX)
		return RADDR_NULL;
	words = malloc(size);
	if (!words || rmem_read(python->mem, RADDR(map->start), words, size) < 0)
		return RADDR_NULL;
	for (size_t i = 0; i + USED_ENTRIES <= size / 8; i++) {
		uint64_t at = map->start + 8 * i;

		/* most classes are seldom all in use: look for one that points at itself before reading more */
		if ((words[i] == at - 16 || words[i] % python->layout.pool_size == 0) && words[i] &&
		    (words[i + 62] == at + 62 * 8 - 16 || words[i + 62] % python->layout.pool_size == 0) &&
		    obmalloc_is_used(python, RADDR(at)))
			return RADDR(at);
	}
	return RADDR_NULL;
}

/* Decoding the code costs 0.1 to 0.2 ms: once, at the open, if there is an arena by then. */
static int find_vars(const struct python *python, struct obmalloc_vars *ret_vars)
{
	if (!python->static_vars)
		return obmalloc_vars_from_code(python, is_arenas, ret_vars);
	*ret_vars = *python->static_vars;
	return 0;
}

static void keep_vars(struct python *python)
{
	struct obmalloc_vars *vars = calloc(1, sizeof(*vars));

	if (vars && python->image && obmalloc_vars_from_code(python, is_arenas, vars) == 0)
		python->static_vars = take_ptr(vars);
	free(vars);
}

static int static_state(const struct python *python, struct obmalloc_state *ret_state)
{
	struct obmalloc_state state = { .counter = OBMALLOC_UNKNOWN };
	struct obmalloc_vars vars;
	int r;

	if (!python->image && !python->static_vars)
		return -ENOENT;
	r = find_vars(python, &vars);
	if (r == 0)
		r = rmem_ptr(python->mem, vars.arenas, &state.arenas);
	if (r == 0)
		r = rmem_u32(python->mem, vars.maxarenas, &state.maxarenas);
	if (r == 0)
		r = read_u64(python, vars.raw_blocks, &state.raw_blocks);
	if (r == 0)
		r = read_u64(python, vars.highwater, &state.highwater);
	if (r == 0)
		r = read_u64(python, vars.counter, &state.counter);
	if (r < 0)
		return r;
	if (state.maxarenas > ARENAS_MAX)
		return -EPROTO;
	/* all interpreters share it */
	r = rmem_ptr(python->mem, raddr_add(python->runtime, python->layout.rt_interpreters_main), &state.interp);
	if (r < 0)
		return r;
	*ret_state = state;
	return 0;
}

static int dynamic_state(const struct python *python, raddr_t at, struct obmalloc_state *ret_state)
{
	const struct layout *l = &python->layout;
	struct obmalloc_state state = { .used = raddr_add(at, l->ob_used), .counter = OBMALLOC_UNKNOWN };
	int r = rmem_ptr(python->mem, raddr_add(at, l->ob_arenas), &state.arenas);

	if (r == 0)
		r = rmem_u32(python->mem, raddr_add(at, l->ob_maxarenas), &state.maxarenas);
	if (r == 0)
		r = rmem_u64(python->mem, raddr_add(at, l->ob_raw_blocks), &state.raw_blocks);
	if (r == 0)
		r = rmem_u64(python->mem, raddr_add(at, l->ob_highwater), &state.highwater);
	if (r < 0)
		return r;
	if (!state.arenas.v || !state.maxarenas)
		return -ENOENT;
	if (state.maxarenas > ARENAS_MAX || state.arenas.v % 8)
		return -EPROTO;
	*ret_state = state;
	return 0;
}

/* Where interp's own state is: inside it, or where its pointer leads. */
static int state_address(const struct python *python, raddr_t interp, raddr_t *ret_at)
{
	const struct layout *l = &python->layout;
	raddr_t main_interp, at = raddr_add(interp, l->in_obmalloc);
	uint32_t flags = 0;
	int r;

	if (l->obmalloc_place == OBMALLOC_POINTER) {
		r = rmem_ptr(python->mem, at, ret_at);
		return r == 0 && !ret_at->v ? -ENOENT : r;
	}
	r = rmem_ptr(python->mem, raddr_add(python->runtime, l->rt_interpreters_main), &main_interp);
	if (r == 0 && l->in_feature_flags != NO_OFFSET)
		r = rmem_u32(python->mem, raddr_add(interp, l->in_feature_flags), &flags);
	if (r < 0)
		return r;
	*ret_at = (flags & PREDICT_MAIN_OBMALLOC) ? raddr_add(main_interp, l->in_obmalloc) : at;
	return 0;
}

int obmalloc_arenas_slot(const struct python *python, raddr_t interp, raddr_t *ret_slot)
{
	const struct layout *l = &python->layout;
	raddr_t at, arenas;
	int r;

	if (l->obmalloc_place == OBMALLOC_STATIC)
		return -ENOENT;
	r = state_address(python, interp, &at);
	if (!r)
		r = rmem_ptr(python->mem, raddr_add(at, l->ob_arenas), &arenas);
	if (!r)
		*ret_slot = raddr_add(at, arenas.v ? l->ob_maxarenas & ~7u : l->ob_arenas);
	return r;
}

/* Where in the list; n if it is not. */
static size_t index_of(const raddr_t *list, size_t n, raddr_t at)
{
	size_t i = 0;

	while (i < n && !raddr_eq(list[i], at))
		i++;
	return i;
}

ssize_t obmalloc_states(const struct python *python, struct obmalloc_state *ret_states, size_t max)
{
	_cleanup_(freep) raddr_t *seen = NULL, *interps = NULL;
	size_t n_states = 0;
	ssize_t n;

	if (python->layout.obmalloc_place == OBMALLOC_STATIC) {
		int r = max ? static_state(python, &ret_states[0]) : -ENOENT;

		return r == -ENOENT ? 0 : r < 0 ? r : 1;
	}
	/* not zeroed: a reading that is made every few seconds should leave the caches alone */
	interps = malloc(MAX_INTERPRETERS * sizeof(*interps));
	seen = malloc(MAX_INTERPRETERS * sizeof(*seen));
	if (!interps || !seen)
		return -ENOMEM;
	n = python_interpreters(python, interps, MAX_INTERPRETERS);
	if (n < 0)
		return n;
	for (ssize_t i = 0; i < n && n_states < max; i++) {
		raddr_t at;
		size_t k;

		if (state_address(python, interps[i], &at) < 0)
			continue;
		k = index_of(seen, n_states, at);
		/* the list begins with the newest */
		if (k < n_states)
			ret_states[k].interp = interps[i];
		if (k < n_states || dynamic_state(python, at, &ret_states[n_states]) < 0)
			continue;
		ret_states[n_states].interp = interps[i];
		seen[n_states++] = at;
	}
	return (ssize_t)n_states;
}

int obmalloc_state_of(const struct python *python, raddr_t interp, struct obmalloc_state *ret_state)
{
	raddr_t at;
	int r;

	if (python->layout.obmalloc_place == OBMALLOC_STATIC) {
		r = static_state(python, ret_state);
		if (r == 0)
			ret_state->used = find_static_used(python);
		return r;
	}
	r = state_address(python, interp, &at);
	return r < 0 ? r : dynamic_state(python, at, ret_state);
}

bool obmalloc_in_use(const struct python *python)
{
	struct obmalloc_state state;

	return obmalloc_states(python, &state, 1) == 1;
}

static bool offset_fits(const struct python *python, raddr_t main_interp, uint32_t offset)
{
	raddr_t at = raddr_add(main_interp, offset);

	if (python->layout.obmalloc_place == OBMALLOC_POINTER && (rmem_ptr(python->mem, at, &at) < 0 || !at.v))
		return false;
	return obmalloc_is_used(python, raddr_add(at, python->layout.ob_used));
}

int obmalloc_settle(struct python *python)
{
	struct layout *l = &python->layout;
	uint32_t offsets[32];
	raddr_t main_interp;
	size_t n = 0;

	if (l->obmalloc_place == OBMALLOC_STATIC) {
		keep_vars(python);
		return 0;
	}
	if (rmem_ptr(python->mem, raddr_add(python->runtime, l->rt_interpreters_main), &main_interp) < 0)
		return 0;
	if (offset_fits(python, main_interp, l->in_obmalloc))
		return 0;
	if (python->image)
		n = obmalloc_offsets_from_code(python->image, offsets, sizeof(offsets) / sizeof(offsets[0]));
	for (size_t i = 0; i < n; i++) {
		if (!offset_fits(python, main_interp, offsets[i]))
			continue;
		l->in_obmalloc = offsets[i];
		return 1;
	}
	for (uint32_t offset = SCAN_FIRST; python->pid && offset < SCAN_LAST; offset += 8) {
		if (!offset_fits(python, main_interp, offset))
			continue;
		l->in_obmalloc = offset;
		return 1;
	}
	return 0;
}
