/* SPDX-License-Identifier: MIT */
/*
 * The map of arenas, from pool headers. obmalloc_walk() gives each arena, which
 * becomes a row and its pools. Then rows that overlap are refused (hostile
 * memory, or an arena that moved from one state to another meanwhile), and
 * everything else is sums over rows and their pools.
 */
#include "heap/arena_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "heap/arena_map_impl.h"
#include "interp/types.h"

#define TRIES 4
#define CLASSES_MAX 64u

/* Of one state, for packing: blocks by class, and how many arenas have room for so many pools (one that is not aligned has one less). */
struct state_sums {
	uint64_t live[CLASSES_MAX];
	uint32_t arenas_by_room[OBMALLOC_ARENA_POOLS + 1];
};

struct reading {
	const struct python *python;
	struct arena_map *map;
	size_t rows_room, pools_room;
	struct obmalloc_walk walk;
	struct state_sums *states;   /* walk.states of them */
};

void arena_map_free(struct arena_map *map)
{
	if (!map)
		return;
	free(map->classes);
	free(map->arenas);
	free(map->pins);
	free(map->pools);
	types_free(map->types);
	free(map);
}

/* Room for one more row and its pools. Their number is bounded by the walk. */
static int make_room(struct reading *r, uint32_t pools)
{
	struct arena_map *map = r->map;

	if (map->n_arenas == r->rows_room) {
		size_t room = r->rows_room ? 2 * r->rows_room : 64;
		struct arena_row *grown = reallocarray(map->arenas, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		map->arenas = grown;
		r->rows_room = room;
	}
	if (map->n_pools + pools > r->pools_room) {
		size_t room = r->pools_room ? 2 * r->pools_room : 64 * OBMALLOC_ARENA_POOLS;
		struct arena_pool *grown = reallocarray(map->pools, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		map->pools = grown;
		r->pools_room = room;
	}
	return 0;
}

static struct arena_pool pool_of_walk(const struct python *python, const struct obmalloc_pool *pool)
{
	uint32_t percent;

	if (pool->size_class == OBMALLOC_POOL_REFUSED)
		return (struct arena_pool){ .fill = ARENA_POOL_REFUSED };
	percent = pool->live * 100 / obmalloc_pool_blocks(python, pool->size_class);
	return (struct arena_pool){ (uint16_t)pool->live, (uint8_t)pool->size_class, (uint8_t)(pool->live && !percent ? 1 : percent) };
}

/* An obmalloc_walk_fn. */
static int add_arena(void *ctx, const struct obmalloc_arena *arena)
{
	struct reading *r = ctx;
	struct arena_map *map = r->map;
	int error = make_room(r, arena->pools);

	if (error)
		return error;
	map->arenas[map->n_arenas++] = (struct arena_row){
		.address = arena->addr,
		.interpreter = arena->interpreter,
		.bytes = arena->size,
		.state = arena->state,
		.unsure = arena->unsure,
		.first_pool = map->n_pools,
		.n_pools = arena->pools,
	};
	for (uint32_t i = 0; i < arena->pools; i++)
		map->pools[map->n_pools++] = i < arena->carved ? pool_of_walk(r->python, &arena->pool[i]) :
								  (struct arena_pool){ .fill = ARENA_POOL_UNCARVED };
	return 0;
}

/* By class, for the table of classes and for packing. */
static void count_used(struct reading *r, struct arena_row *row, const struct arena_pool *pool)
{
	struct arena_class *class = &r->map->classes[pool->size_class];

	class->pools++;
	class->live_blocks += pool->live;
	r->states[row->state].live[pool->size_class] += pool->live;
	row->pools_used++;
	row->live_blocks += pool->live;
	row->live_bytes += (uint64_t)pool->live * class->size;
}

static void count_row(struct reading *r, struct arena_row *row)
{
	for (uint32_t i = 0; i < row->n_pools; i++) {
		const struct arena_pool *pool = &r->map->pools[row->first_pool + i];

		if (pool->fill == ARENA_POOL_UNCARVED)
			row->pools_uncarved++;
		else if (pool->fill == ARENA_POOL_REFUSED)
			row->pools_refused++;
		else if (pool->fill == 0)
			row->pools_free++;
		else
			count_used(r, row, pool);
	}
	r->states[row->state].arenas_by_room[row->n_pools]++;
	row->live_ratio = (double)row->live_bytes / (double)row->bytes;
	row->returnable = row->live_ratio < ARENA_PINNED_RATIO && row->live_blocks <= ARENA_PINNED_BLOCKS && !row->pools_refused;
}

static int make_classes(struct reading *r)
{
	uint32_t n = obmalloc_size_classes(r->python);

	if (n > CLASSES_MAX)
		return -EPROTO;
	r->map->classes = calloc(n, sizeof(*r->map->classes));
	if (!r->map->classes)
		return -ENOMEM;
	r->map->n_classes = n;
	for (uint32_t i = 0; i < n; i++)
		r->map->classes[i].size = obmalloc_block_size(r->python, i);
	return 0;
}

static int walk(struct reading *r)
{
	int error = -EAGAIN;

	/* the array of arenas moves when it grows: look again */
	for (int tries = 0; tries < TRIES && error == -EAGAIN; tries++) {
		r->map->n_arenas = r->map->n_pools = 0;
		error = obmalloc_walk(r->python, add_arena, r, &r->walk);
	}
	return error;
}

static int by_place(const void *a, const void *b)
{
	const struct arena_row *x = a, *y = b;

	if (x->state != y->state)
		return x->state < y->state ? -1 : 1;
	return x->address.v < y->address.v ? -1 : x->address.v > y->address.v;
}

static int by_address(const void *a, const void *b)
{
	const struct arena_row *x = a, *y = b;

	return x->address.v < y->address.v ? -1 : x->address.v > y->address.v;
}

static void drop_overlaps(struct reading *r)
{
	struct arena_map *map = r->map;
	uint64_t end = 0;
	size_t kept = 0;

	if (map->n_arenas > 1)
		qsort(map->arenas, map->n_arenas, sizeof(*map->arenas), by_address);
	for (size_t i = 0; i < map->n_arenas; i++) {
		if (map->arenas[i].address.v < end)
			continue;
		end = map->arenas[i].address.v + map->arenas[i].bytes;
		map->arenas[kept++] = map->arenas[i];
	}
	r->walk.refused_arenas += map->n_arenas - kept;
	map->n_arenas = kept;
}

static void sum_rows(const struct reading *r)
{
	struct arena_totals *t = &r->map->totals;
	uint64_t pool_size = obmalloc_pool_size(r->python);

	*t = (struct arena_totals){ .arenas = r->map->n_arenas, .arenas_highwater = r->walk.arenas_highwater };
	for (size_t i = 0; i < r->map->n_arenas; i++) {
		const struct arena_row *row = &r->map->arenas[i];
		t->arena_bytes += row->bytes;
		t->live_blocks += row->live_blocks;
		t->live_bytes += row->live_bytes;
		t->pools_used += row->pools_used;
		t->pools_free += row->pools_free;
		t->pools_uncarved += row->pools_uncarved;
		t->pools_refused += row->pools_refused;
		t->arenas_returnable += row->returnable;
		t->overhead_bytes += row->bytes - row->n_pools * pool_size;
	}
	t->free_pools_bytes = t->pools_free * pool_size;
	t->uncarved_bytes = t->pools_uncarved * pool_size;
	t->refused_bytes = t->pools_refused * pool_size;
}

static void sum_classes(const struct reading *r)
{
	struct arena_totals *t = &r->map->totals;
	uint64_t pool_size = obmalloc_pool_size(r->python);

	for (uint32_t i = 0; i < r->map->n_classes; i++) {
		struct arena_class *class = &r->map->classes[i];
		uint64_t blocks = obmalloc_pool_blocks(r->python, i);

		class->free_blocks = class->pools * blocks - class->live_blocks;
		class->overhead_bytes = class->pools * (pool_size - blocks * class->size);
		t->free_in_used_pools_bytes += class->free_blocks * class->size;
		t->overhead_bytes += class->overhead_bytes;
	}
}

/* How many of a state's arenas hold its live blocks if they are packed, the roomiest first. */
static uint64_t packed(const struct reading *r, const struct state_sums *sums)
{
	uint64_t pools = 0, arenas = 0;

	for (uint32_t i = 0; i < r->map->n_classes; i++) {
		uint64_t blocks = obmalloc_pool_blocks(r->python, i);

		pools += (sums->live[i] + blocks - 1) / blocks;
	}
	for (uint32_t room = OBMALLOC_ARENA_POOLS; room > 0 && pools > 0; room--) {
		uint64_t needed = (pools + room - 1) / room, there = sums->arenas_by_room[room];

		needed = needed < there ? needed : there;
		arenas += needed;
		pools -= needed * room < pools ? needed * room : pools;
	}
	return arenas;
}

static void sum_up(const struct reading *r)
{
	struct arena_totals *t = &r->map->totals;
	uint64_t idle;

	sum_rows(r);
	sum_classes(r);
	for (uint32_t i = 0; i < r->walk.states; i++)
		t->arenas_if_packed += packed(r, &r->states[i]);
	idle = t->free_in_used_pools_bytes + t->free_pools_bytes;
	t->fragmentation = idle ? (double)idle / (double)(idle + t->live_bytes) : 0;
	r->map->states = r->walk.states;
	r->map->retries = r->walk.retries;
	r->map->unsure = r->walk.unsure;
	r->map->refused = r->walk.refused_arenas + r->walk.refused_pools;
}

static int read_rows(struct reading *r)
{
	struct arena_map *map = r->map;
	int error = make_classes(r);

	if (!error)
		error = walk(r);
	if (error)
		return error;
	r->states = calloc(r->walk.states, sizeof(*r->states));
	if (!r->states)
		return -ENOMEM;
	drop_overlaps(r);
	if (map->n_arenas > 1)
		qsort(map->arenas, map->n_arenas, sizeof(*map->arenas), by_place);
	for (size_t i = 0; i < map->n_arenas; i++)
		count_row(r, &map->arenas[i]);
	sum_up(r);
	return 0;
}

static int explain(const struct python *python, int r, struct err *err)
{
	int pid = (int)python_pid(python);

	if (r == -ESRCH)
		return err_set(err, r, "process %d has ended", pid);
	if (r == -ENOENT)
		return err_set(err, r, "process %d does not use pymalloc", pid);
	if (r == -EPROTO)
		return err_set(err, r, "the arenas of process %d make no sense: its memory is damaged", pid);
	err_set(err, r, "cannot read the arenas of process %d: %s", pid, strerror(-r));
	if (r == -EAGAIN)
		err_hint(err, "they change too fast: try again, or stop it for the time of the reading with --freeze");
	return r;
}

int arena_map_read(const struct python *python, const struct arena_map_options *options, struct arena_map **ret_map, struct err *err)
{
	_cleanup_(arena_map_freep) struct arena_map *map = calloc(1, sizeof(*map));
	uint64_t from_ns = clock_mono_ns(&clock_real), bytes = rmem_bytes_read(python_rmem(python));
	struct reading reading = { .python = python, .map = map };
	int r;

	if (!map)
		return err_set(err, -ENOMEM, "out of memory");
	r = read_rows(&reading);
	free(reading.states);
	if (!r)
		r = arena_pins_read(python, options, map);
	if (r)
		return explain(python, r, err);
	map->read_bytes = rmem_bytes_read(python_rmem(python)) - bytes;
	map->seconds = clock_seconds_since(&clock_real, from_ns);
	*ret_map = take_ptr(map);
	return 0;
}
