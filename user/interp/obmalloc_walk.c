/* SPDX-License-Identifier: MIT */
/*
 * Every arena with every pool, an arena at a time: its entry, the headers of
 * its carved pools, its entry again. A reading is believed when both entries
 * agree, each header makes sense, and
 *
 *     nfreepools = free pools + pools never carved
 *
 * else the arena is read again. What is still in doubt after that is delivered
 * and marked: pools that make no sense by themselves, the arena as unsure.
 *
 * Bounds for hostile tables: ARENAS_MAX entries in all, an arena that was
 * delivered is not delivered again, and RETRIES_MAX second readings in all.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/map64.h"
#include "interp/obmalloc.h"
#include "interp/obmalloc_state.h"

#define RETRIES_MAX 16384u

_Static_assert(ARENA_POOLS_MAX == OBMALLOC_ARENA_POOLS, "one limit");

struct walk {
	const struct obmalloc_state *state;
	obmalloc_walk_fn fn;
	void *ctx;
	struct map64 *seen;            /* addresses of arenas */
	struct obmalloc_walk found;
	struct obmalloc_arena arena;   /* being read */
	uint64_t entries;
	struct pool_headers headers;
};

/* Returns whether every header makes sense and the count of free pools is right. */
static bool parse_pools(struct walk *w, const struct python *python, const struct arena_entry *entry)
{
	struct obmalloc_arena *a = &w->arena;
	uint64_t free_pools = entry->ntotalpools - w->headers.carved;
	bool sane = true;

	a->carved = (uint32_t)w->headers.carved;
	for (uint32_t i = 0; i < a->carved; i++) {
		struct pool_entry pool = pool_headers_get(&python->layout, &w->headers, i);

		a->pool[i] = (struct obmalloc_pool){ 0 };
		if (pool.count == 0) {
			free_pools++;
		} else if (pool_makes_sense(&python->layout, &pool)) {
			a->pool[i] = (struct obmalloc_pool){ pool.szidx, pool.count };
		} else {
			a->pool[i].size_class = OBMALLOC_POOL_REFUSED;
			sane = false;
		}
	}
	return sane && free_pools == entry->nfreepools;
}

/* One reading by an entry: 1 believed, 0 in doubt, or as pool_headers_read(). */
static int read_arena(struct walk *w, const struct python *python, uint32_t index, const struct arena_entry *entry)
{
	struct obmalloc_arena *a = &w->arena;
	struct arena_entry after;
	bool sane;
	int r = pool_headers_read(python, entry, &w->headers);

	if (r < 0)
		return r;
	a->addr = RADDR(entry->address);
	a->size = arena_bytes(&python->layout, entry);
	a->first_pool = RADDR(w->headers.first);
	a->pools = entry->ntotalpools;
	sane = parse_pools(w, python, entry);
	return sane && arena_entry_read(python, w->state, index, &after) == 0 && after.address == entry->address &&
	       after.pool_address == entry->pool_address && after.nfreepools == entry->nfreepools;
}

static int deliver(struct walk *w)
{
	bool is_new;

	if (!map64_put(w->seen, w->arena.first_pool.v, &is_new))
		return -ENOMEM;
	if (!is_new) {
		w->found.refused_arenas++;
		return 0;
	}
	for (uint32_t i = 0; i < w->arena.carved; i++)
		w->found.refused_pools += w->arena.pool[i].size_class == OBMALLOC_POOL_REFUSED;
	w->found.unsure += w->arena.unsure;
	return w->fn(w->ctx, &w->arena);
}

static bool may_retry(struct walk *w, int r, int tries)
{
	return (r == 0 || r == -EPROTO || r == -EFAULT) && tries < OBMALLOC_WALK_TRIES && w->found.retries < RETRIES_MAX;
}

/* An arena_fn. */
static int walk_arena(const struct python *python, const struct arena_entry *first, uint32_t index, void *ctx)
{
	struct walk *w = ctx;
	struct arena_entry entry;
	int r;

	if (w->entries++ >= ARENAS_MAX) {
		w->found.refused_arenas++;
		return 0;
	}
	r = read_arena(w, python, index, first);
	for (int tries = 1; may_retry(w, r, tries); tries++) {
		w->found.retries++;
		r = arena_entry_read(python, w->state, index, &entry);
		/* not in use: given back to the system meanwhile */
		if (r == -ENOENT || r == -EFAULT)
			return r == -ENOENT ? 0 : -EAGAIN;
		if (r == 0)
			r = read_arena(w, python, index, &entry);
	}
	if (r == -EPROTO || r == -EFAULT) {
		w->found.refused_arenas++;
		return 0;
	}
	if (r < 0)
		return r;
	w->arena.unsure = r == 0;
	return deliver(w);
}

static int walk_state(struct walk *w, const struct python *python, const struct obmalloc_state *state)
{
	uint64_t id;

	w->state = state;
	w->arena.state = w->found.states++;
	w->arena.interpreter = rmem_u64(python->mem, raddr_add(state->interp, python->layout.in_id), &id) == 0 ? (int64_t)id : -1;
	if (state->highwater == OBMALLOC_UNKNOWN)
		w->found.arenas_highwater = OBMALLOC_UNKNOWN;
	else if (w->found.arenas_highwater != OBMALLOC_UNKNOWN)
		w->found.arenas_highwater += state->highwater;
	if (state->raw_blocks == OBMALLOC_UNKNOWN)
		w->found.raw_blocks = OBMALLOC_UNKNOWN;
	else if (w->found.raw_blocks != OBMALLOC_UNKNOWN)
		w->found.raw_blocks += state->raw_blocks;
	return arena_entries_visit(python, state, walk_arena, w);
}

/* Did the array of arenas of one of n states move or grow since it was read? The memory where it was may be anything by now. */
static bool has_moved(const struct python *python, const struct obmalloc_state *states, ssize_t n)
{
	_cleanup_(freep) struct obmalloc_state *now = calloc(OBMALLOC_STATES_MAX, sizeof(*now));
	ssize_t n_now = now ? obmalloc_states(python, now, OBMALLOC_STATES_MAX) : 0;

	for (ssize_t i = 0; i < n_now; i++)
		for (ssize_t k = 0; k < n; k++)
			if (raddr_eq(now[i].interp, states[k].interp) &&
			    (!raddr_eq(now[i].arenas, states[k].arenas) || now[i].maxarenas != states[k].maxarenas))
				return true;
	return false;
}

int obmalloc_walk(const struct python *python, obmalloc_walk_fn fn, void *ctx, struct obmalloc_walk *ret_walk)
{
	_cleanup_(freep) struct obmalloc_state *states = calloc(OBMALLOC_STATES_MAX, sizeof(*states));
	_cleanup_(map64_freep) struct map64 *seen = NULL;
	_cleanup_(freep) struct walk *w = calloc(1, sizeof(*w));
	ssize_t n;
	int r = 0;

	if (!states || !w || map64_new(0, &seen) < 0)
		return -ENOMEM;
	if (!obmalloc_fits_limits(&python->layout))
		return -EPROTO;
	w->fn = fn;
	w->ctx = ctx;
	w->seen = seen;
	n = obmalloc_states(python, states, OBMALLOC_STATES_MAX);
	for (ssize_t i = 0; i < n && r >= 0; i++)
		r = walk_state(w, python, &states[i]);
	if (n == 0 || n < 0 || r < 0)
		return n == 0 ? -ENOENT : n < 0 ? (int)n : r;
	if (has_moved(python, states, n))
		return -EAGAIN;
	*ret_walk = w->found;
	return 0;
}
