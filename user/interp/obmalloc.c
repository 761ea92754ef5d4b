/* SPDX-License-Identifier: MIT */
/*
 * Counting pymalloc's arenas, pools and blocks from outside. Headers only: one
 * gather of pool headers an arena. Equations: the sum of ref.count over pools
 * plus raw_blocks is sys.getallocatedblocks(); pools_used + pools_free +
 * pools_uncarved is the sum of ntotalpools of the arenas that were not refused.
 * Limits: a running target changes while it is read; entries that contradict
 * themselves are refused and counted, the rest is a blur of milliseconds.
 */
#include "interp/obmalloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "interp/obmalloc_state.h"

#define ARENA_BATCH 256
#define ENTRY_MAX 64
#define HEADER_MAX POOL_HEADER_BYTES_MAX

static struct pool_entry pool_parse(const struct layout *l, const uint8_t *bytes)
{
	struct pool_entry pool;

	memcpy(&pool.count, bytes + l->po_count, 4);
	memcpy(&pool.szidx, bytes + l->po_szidx, 4);
	return pool;
}

bool obmalloc_fits_limits(const struct layout *l)
{
	return l->ar_size <= ENTRY_MAX && l->po_size <= HEADER_MAX && l->pool_size && l->pool_overhead < l->pool_size;
}

bool pool_makes_sense(const struct layout *l, const struct pool_entry *pool)
{
	return pool->szidx < l->size_classes && pool->count <= (l->pool_size - l->pool_overhead) / ((pool->szidx + 1) * l->alignment);
}

static void count_pool(const struct layout *l, const struct pool_entry *pool, struct obmalloc_totals *totals)
{
	uint32_t size = (pool->szidx + 1) * l->alignment;

	if (pool->count == 0) {
		totals->pools_free++;
		return;
	}
	if (!pool_makes_sense(l, pool)) {
		totals->refused++;
		return;
	}
	totals->pools_used++;
	totals->live_blocks += pool->count;
	totals->live_bytes += (uint64_t)pool->count * size;
}

int pool_headers_read(const struct python *python, const struct arena_entry *arena, struct pool_headers *ret)
{
	const struct layout *l = &python->layout;
	raddr_t addrs[ARENA_POOLS_MAX];

	if (!arena)
		return -EPROTO;
	ret->first = arena_first_pool(l, arena);
	ret->carved = (arena->pool_address - ret->first) / l->pool_size;
	if (ret->carved > ARENA_POOLS_MAX || ret->carved > arena->ntotalpools)
		return -EPROTO;
	for (uint64_t i = 0; i < ret->carved; i++)
		addrs[i] = RADDR(ret->first + i * l->pool_size);
	return rmem_gather(python->mem, addrs, (size_t)ret->carved, l->po_size, ret->bytes);
}

struct pool_entry pool_headers_get(const struct layout *layout, const struct pool_headers *headers, uint64_t i)
{
	return pool_parse(layout, headers->bytes + i * layout->po_size);
}

/* An arena_fn. */
static int count_arena(const struct python *python, const struct arena_entry *arena, uint32_t index, void *ctx)
{
	struct obmalloc_totals *totals = ctx;
	const struct layout *l = &python->layout;
	struct pool_headers headers;
	int r = pool_headers_read(python, arena, &headers);

	(void)index;
	if (r == -EPROTO || r == -EFAULT) {
		totals->refused++;
		return 0;
	}
	if (r < 0)
		return r;
	totals->arenas++;
	totals->arena_size = arena_bytes(l, arena);
	totals->arena_bytes += totals->arena_size;
	totals->pools_uncarved += arena->ntotalpools - headers.carved;
	for (uint64_t i = 0; i < headers.carved; i++) {
		struct pool_entry pool = pool_headers_get(l, &headers, i);

		count_pool(l, &pool, totals);
	}
	return 0;
}

int arena_entry_read(const struct python *python, const struct obmalloc_state *state, uint32_t index, struct arena_entry *ret_arena)
{
	const struct layout *l = &python->layout;
	uint8_t bytes[ENTRY_MAX];
	uint64_t address;
	int r = rmem_read(python->mem, raddr_add(state->arenas, (int64_t)index * l->ar_size), bytes, l->ar_size);

	if (r < 0)
		return r;
	memcpy(&address, bytes + l->ar_address, 8);
	if (!address)
		return -ENOENT;
	return arena_parse(l, bytes, ret_arena) ? 0 : -EPROTO;
}

int arena_entries_visit(const struct python *python, const struct obmalloc_state *state, arena_fn fn, void *ctx)
{
	const struct layout *l = &python->layout;
	uint8_t entries[ARENA_BATCH * ENTRY_MAX];

	for (uint32_t i = 0; i < state->maxarenas; i += ARENA_BATCH) {
		uint32_t n = state->maxarenas - i < ARENA_BATCH ? state->maxarenas - i : ARENA_BATCH;
		int r = rmem_read(python->mem, raddr_add(state->arenas, (int64_t)i * l->ar_size), entries, (size_t)n * l->ar_size);

		if (r < 0)
			return r == -EFAULT ? -EAGAIN : r;
		for (uint32_t k = 0; k < n && r >= 0; k++) {
			const uint8_t *bytes = entries + (size_t)k * l->ar_size;
			struct arena_entry arena;
			uint64_t address;

			memcpy(&address, bytes + l->ar_address, 8);
			if (address)
				r = fn(python, arena_parse(l, bytes, &arena) ? &arena : NULL, i + k, ctx);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static void add_counters(const struct obmalloc_state *state, struct obmalloc_totals *totals)
{
	if (state->raw_blocks != OBMALLOC_UNKNOWN)
		totals->raw_blocks += state->raw_blocks;
	if (state->highwater == OBMALLOC_UNKNOWN)
		totals->arenas_highwater = OBMALLOC_UNKNOWN;
	else if (totals->arenas_highwater != OBMALLOC_UNKNOWN)
		totals->arenas_highwater += state->highwater;
}

static int count_states(const struct python *python, struct obmalloc_state *states, size_t n, struct obmalloc_totals *totals)
{
	for (size_t i = 0; i < n; i++) {
		int r = arena_entries_visit(python, &states[i], count_arena, totals);

		if (r < 0)
			return r;
		add_counters(&states[i], totals);
	}
	totals->allocated_blocks = totals->live_blocks + totals->raw_blocks;
	if (n == 1 && states[0].counter != OBMALLOC_UNKNOWN) {
		totals->allocated_blocks = states[0].counter;
		/* 3.8 counts all blocks in one number */
		totals->raw_blocks = states[0].counter > totals->live_blocks ? states[0].counter - totals->live_blocks : 0;
	}
	return 0;
}

/* An arena_fn. */
static int add_entry(const struct python *python, const struct arena_entry *arena, uint32_t index, void *ctx)
{
	struct obmalloc_pools *pools = ctx;

	(void)index;
	if (!arena) {
		pools->refused++;
		return 0;
	}
	pools->arenas++;
	pools->arena_bytes += arena_bytes(&python->layout, arena);
	pools->used_bytes += (uint64_t)(arena->ntotalpools - arena->nfreepools) * python->layout.pool_size;
	return 0;
}

/* All states, in memory that becomes the caller's. Returns how many, or -ENOENT where pymalloc is not in use. */
static ssize_t read_states(const struct python *python, struct obmalloc_state **ret_states)
{
	_cleanup_(freep) struct obmalloc_state *states = malloc(OBMALLOC_STATES_MAX * sizeof(*states));
	ssize_t n;

	if (!states)
		return -ENOMEM;
	if (!obmalloc_fits_limits(&python->layout))
		return -EPROTO;
	n = obmalloc_states(python, states, OBMALLOC_STATES_MAX);
	if (n > 0)
		*ret_states = take_ptr(states);
	return n == 0 ? -ENOENT : n;
}

static int visit_entries(const struct python *python, arena_fn fn, void *ctx)
{
	_cleanup_(freep) struct obmalloc_state *states = NULL;
	ssize_t n = read_states(python, &states);
	int r = n < 0 ? (int)n : 0;

	for (ssize_t i = 0; i < n && r >= 0; i++)
		r = arena_entries_visit(python, &states[i], fn, ctx);
	return r;
}

int obmalloc_pools(const struct python *python, struct obmalloc_pools *ret_pools)
{
	_cleanup_(freep) struct obmalloc_state *states = NULL;
	struct obmalloc_pools pools = { 0 };
	ssize_t n = read_states(python, &states);
	uint64_t entries = 0;
	int r = n < 0 ? (int)n : 0;

	for (ssize_t i = 0; i < n && !r; i++) {
		entries += states[i].maxarenas;
		r = entries > OBMALLOC_POOLS_ENTRIES ? -E2BIG : arena_entries_visit(python, &states[i], add_entry, &pools);
		if (states[i].raw_blocks == OBMALLOC_UNKNOWN || pools.raw_blocks == OBMALLOC_UNKNOWN)
			pools.raw_blocks = OBMALLOC_UNKNOWN;
		else
			pools.raw_blocks += states[i].raw_blocks;
	}
	if (r == 0)
		*ret_pools = pools;
	return r;
}

struct range_visit {
	obmalloc_arena_fn fn;
	void *ctx;
};

static int visit_range(const struct python *python, const struct arena_entry *arena, uint32_t index, void *ctx)
{
	const struct range_visit *v = ctx;

	(void)index;
	return arena ? v->fn(v->ctx, RADDR(arena->address), arena_bytes(&python->layout, arena)) : 0;
}

int obmalloc_visit_arenas(const struct python *python, obmalloc_arena_fn fn, void *ctx)
{
	struct range_visit visit = { fn, ctx };

	return visit_entries(python, visit_range, &visit);
}

struct pool_visit {
	obmalloc_pool_fn fn;
	void *ctx;
	uint64_t refused;
};

/* An arena_fn. */
static int visit_arena_pools(const struct python *python, const struct arena_entry *arena, uint32_t index, void *ctx)
{
	const struct layout *l = &python->layout;
	struct pool_visit *v = ctx;
	struct pool_headers headers;
	int r = pool_headers_read(python, arena, &headers);

	(void)index;
	if (r == -EPROTO || r == -EFAULT) {
		v->refused++;
		return 0;
	}
	for (uint64_t i = 0; r >= 0 && i < headers.carved; i++) {
		struct pool_entry pool = pool_headers_get(l, &headers, i);

		if (pool.count == 0)
			continue;
		if (pool_makes_sense(l, &pool))
			r = v->fn(v->ctx, RADDR(headers.first + i * l->pool_size), pool.szidx, pool.count);
		else
			v->refused++;
	}
	return r;
}

int obmalloc_visit_pools(const struct python *python, obmalloc_pool_fn fn, void *ctx, uint64_t *ret_refused)
{
	struct pool_visit visit = { fn, ctx, 0 };
	int r = visit_entries(python, visit_arena_pools, &visit);

	if (r < 0)
		return r;
	*ret_refused = visit.refused;
	return 0;
}

uint64_t obmalloc_pool_size(const struct python *python)
{
	return python->layout.pool_size;
}

uint32_t obmalloc_size_classes(const struct python *python)
{
	return python->layout.size_classes;
}

uint32_t obmalloc_block_size(const struct python *python, uint32_t size_class)
{
	return (size_class + 1) * python->layout.alignment;
}

uint32_t obmalloc_pool_blocks(const struct python *python, uint32_t size_class)
{
	return (python->layout.pool_size - python->layout.pool_overhead) / obmalloc_block_size(python, size_class);
}

int obmalloc_totals(const struct python *python, struct obmalloc_totals *ret_totals, struct err *err)
{
	_cleanup_(freep) struct obmalloc_state *states = calloc(OBMALLOC_STATES_MAX, sizeof(*states));
	struct obmalloc_totals totals;
	int r = -EAGAIN;

	if (!states)
		return err_set(err, -ENOMEM, "out of memory");
	if (!obmalloc_fits_limits(&python->layout))
		return err_set(err, -EPROTO, "the layout of Python %s has impossible pool sizes", python->version);
	/* the array of arenas moves when it grows: look again */
	for (int tries = 0; tries < 3 && r == -EAGAIN; tries++) {
		ssize_t n = obmalloc_states(python, states, OBMALLOC_STATES_MAX);

		if (n == 0)
			return err_set(err, -ENOENT, "process %d does not use pymalloc", python->pid);
		totals = (struct obmalloc_totals){ .pool_size = python->layout.pool_size, .arena_size = python->layout.arena_size };
		r = n < 0 ? (int)n : count_states(python, states, (size_t)n, &totals);
	}
	if (r < 0)
		return err_set(err, r, "cannot read the arenas of process %d: %s", python->pid, strerror(-r));
	*ret_totals = totals;
	return 0;
}

int obmalloc_raw_blocks(const struct python *python, uint64_t live_blocks, uint64_t *ret_blocks)
{
	_cleanup_(freep) struct obmalloc_state *states = calloc(OBMALLOC_STATES_MAX, sizeof(*states));
	ssize_t n = states ? obmalloc_states(python, states, OBMALLOC_STATES_MAX) : -ENOMEM;
	uint64_t blocks = 0;

	if (n <= 0)
		return n < 0 ? (int)n : -ENOENT;
	for (ssize_t i = 0; i < n; i++) {
		if (states[i].raw_blocks != OBMALLOC_UNKNOWN)
			blocks += states[i].raw_blocks;
		else if (states[i].counter != OBMALLOC_UNKNOWN && states[i].counter > live_blocks)
			blocks += states[i].counter - live_blocks;
	}
	*ret_blocks = blocks;
	return 0;
}

int obmalloc_usedpools(const struct python *python, raddr_t interp, raddr_t *ret_usedpools)
{
	struct obmalloc_state state;
	int r = obmalloc_state_of(python, interp, &state);

	if (r < 0)
		return r;
	if (!state.used.v || !obmalloc_is_used(python, state.used))
		return -ENOENT;
	*ret_usedpools = state.used;
	return 0;
}

int obmalloc_predict_cfg(const struct python *python, struct predict_cfg *ret_cfg)
{
	static const uint32_t kinds[] = {
		[OBMALLOC_STATIC] = PREDICT_STATIC, [OBMALLOC_INLINE] = PREDICT_INLINE, [OBMALLOC_POINTER] = PREDICT_POINTER,
	};
	const struct layout *l = &python->layout;
	raddr_t usedpools, main_interp;
	int r;

	if (l->alignment != 1u << PREDICT_CLASS_SHIFT || l->alignment * l->size_classes != PREDICT_SIZE_MAX)
		return -ENOENT;
	r = rmem_ptr(python->mem, raddr_add(python->runtime, l->rt_interpreters_main), &main_interp);
	if (r < 0)
		return r;
	r = obmalloc_usedpools(python, main_interp, &usedpools);
	if (r < 0)
		return r;
	*ret_cfg = (struct predict_cfg){
		.usedpools = usedpools.v,
		.main_interp = main_interp.v,
		.kind = kinds[l->obmalloc_place],
		.in_obmalloc = l->in_obmalloc,
		.in_feature_flags = l->in_feature_flags,
		.ob_used = l->ob_used,
		.po_freeblock = l->po_freeblock,
		.usable_arenas = l->ob_usable_arenas == NO_OFFSET ? 0 : l->ob_usable_arenas - l->ob_used,
		.ar_pool_address = l->ar_pool_address,
		.ar_freepools = l->ar_freepools,
		.ar_nfreepools = l->ar_nfreepools,
		.po_szidx = l->po_szidx,
		.pool_overhead = l->pool_overhead,
	};
	return 0;
}

int obmalloc_arenas_hold(const struct python *python, raddr_t entry)
{
	struct obmalloc_state state;
	ssize_t n = obmalloc_states(python, &state, 1);

	if (n <= 0)
		return n < 0 ? (int)n : -ENOENT;
	return entry.v >= state.arenas.v && (entry.v - state.arenas.v) % python->layout.ar_size == 0 &&
	       (entry.v - state.arenas.v) / python->layout.ar_size < state.maxarenas;
}

/* Does the arena that the pool names hold it? */
static int arena_holds(const struct python *python, const struct obmalloc_state *state, uint64_t pool, uint32_t index)
{
	const struct layout *l = &python->layout;
	struct arena_entry arena;
	int r;

	if (index >= state->maxarenas)
		return 0;
	r = arena_entry_read(python, state, index, &arena);
	if (r < 0)
		return r == -EFAULT || r == -ENOENT || r == -EPROTO ? 0 : r;
	return pool >= arena_first_pool(l, &arena) && pool < arena.pool_address;
}

int obmalloc_pool_alive(const struct python *python, raddr_t addr, uint32_t size_class)
{
	_cleanup_(freep) struct obmalloc_state *states = NULL;
	const struct layout *l = &python->layout;
	uint8_t header[HEADER_MAX];
	struct pool_entry pool;
	uint32_t index;
	uint64_t at = addr.v & ~(uint64_t)(l->pool_size - 1);
	ssize_t n;
	int r;

	if (!obmalloc_fits_limits(l))
		return -EPROTO;
	r = rmem_read(python->mem, RADDR(at), header, l->po_size);
	if (r < 0)
		return r == -EFAULT ? 0 : r;
	pool = pool_parse(l, header);
	memcpy(&index, header + l->po_arenaindex, 4);
	if (pool.count == 0 || pool.szidx != size_class)
		return 0;
	states = calloc(OBMALLOC_STATES_MAX, sizeof(*states));
	if (!states)
		return -ENOMEM;
	n = obmalloc_states(python, states, OBMALLOC_STATES_MAX);
	for (ssize_t i = 0; i < n; i++) {
		r = arena_holds(python, &states[i], at, index);
		if (r != 0)
			return r;
	}
	return n < 0 ? (int)n : 0;
}
