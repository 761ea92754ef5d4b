/* SPDX-License-Identifier: MIT */
/*
 * What pins the arenas that are nearly empty: their pools in use are read
 * whole, READ_POOLS at a time, and each live block is grouped by size class and
 * type. The cost is bounded by the arenas' own size, and read once.
 *
 * Invariant: the counts of an arena's pins and its pins_unread add up to the
 * live blocks its pools had when they were looked at, which in a target that
 * runs may differ from live_blocks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "heap/arena_map_impl.h"
#include "interp/block_object.h"
#include "interp/pool.h"
#include "interp/types.h"

#define READ_POOLS 16u
#define POOL_SIZE_MAX 16384u
#define TRIES 3
#define BLOCKS_MAX (2 * ARENA_PINNED_BLOCKS)   /* of one arena: a target that runs may have filled it since */

struct group {
	uint32_t block_size, type, count;
	bool parked;
};

struct pins {
	const struct python *python;
	struct types *types;
	const struct arena_map_options *options;
	struct arena_map *map;
	uint32_t pool_size;
	uint8_t *snapshots;        /* READ_POOLS of them */
	struct group *groups;      /* of the arena at work */
	size_t n_groups, groups_room, pins_room;
	uint32_t blocks;           /* of all groups */
	uint64_t done_bytes, total_bytes;
};

/* Blocks are few, their groups fewer: a search from the newest on is short. */
static int add_block(struct pins *p, uint32_t block_size, const struct block_object *object)
{
	for (size_t i = p->n_groups; i-- > 0;) {
		struct group *g = &p->groups[i];

		if (g->type == object->type && g->block_size == block_size && g->parked == object->parked) {
			g->count++;
			return 0;
		}
	}
	if (p->n_groups == p->groups_room) {
		size_t room = p->groups_room ? 2 * p->groups_room : 64;
		struct group *grown = reallocarray(p->groups, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		p->groups = grown;
		p->groups_room = room;
	}
	p->groups[p->n_groups++] = (struct group){ block_size, object->type, 1, object->parked };
	return 0;
}

/* -EAGAIN: torn. -ENOENT: empty by now. */
static int look_at_pool(struct pins *p, struct arena_row *row, raddr_t pool, const uint8_t *snapshot)
{
	struct pool_head head;
	struct pool_free free_list;
	int r = pool_head_parse(p->python, snapshot, &head);

	if (r == 0)
		r = pool_free_list(p->python, pool, snapshot, &head, &free_list);
	if (r < 0)
		return r == -ENOENT ? r : -EAGAIN;
	for (uint32_t i = 0; i < head.carved && r == 0; i++) {
		struct block_object object;

		if (pool_is_free(&free_list, i))
			continue;
		if (p->blocks == BLOCKS_MAX) {
			row->pins_unread++;
			continue;
		}
		p->blocks++;
		block_object_find(p->types, snapshot + pool_block_offset(p->python, &head, i), head.block_size, head.block_size, &object);
		r = add_block(p, head.block_size, &object);
	}
	return r;
}

static int read_pool(struct pins *p, struct arena_row *row, const struct arena_pool *known, raddr_t pool, uint8_t *snapshot, bool mapped)
{
	int r = mapped ? look_at_pool(p, row, pool, snapshot) : -EFAULT;

	for (int tries = 1; tries < TRIES && r == -EAGAIN; tries++) {
		r = rmem_read(python_rmem(p->python), pool, snapshot, p->pool_size);
		if (r == 0)
			r = look_at_pool(p, row, pool, snapshot);
	}
	if (r != -EAGAIN && r != -ENOENT && r != -EFAULT)
		return r;
	row->pins_unread += known->live;
	p->map->pools_torn++;
	return 0;
}

/* n pools of an arena, by their numbers in it. */
static int read_pools(struct pins *p, struct arena_row *row, raddr_t first, const uint32_t *numbers, size_t n)
{
	raddr_t addrs[READ_POOLS];
	bool ok[READ_POOLS];
	int r;

	for (size_t i = 0; i < n; i++)
		addrs[i] = raddr_add(first, (int64_t)numbers[i] * p->pool_size);
	r = rmem_gather_each(python_rmem(p->python), addrs, n, p->pool_size, p->snapshots, ok);
	for (size_t i = 0; i < n && r == 0; i++)
		r = read_pool(p, row, &p->map->pools[row->first_pool + numbers[i]], addrs[i], p->snapshots + i * p->pool_size, ok[i]);
	p->done_bytes += n * p->pool_size;
	if (r == 0 && p->options && p->options->progress)
		r = p->options->progress(p->options->ctx, p->done_bytes, p->total_bytes);
	return r;
}

static int by_weight(const void *a, const void *b)
{
	const struct group *x = a, *y = b;
	uint64_t x_bytes = (uint64_t)x->count * x->block_size, y_bytes = (uint64_t)y->count * y->block_size;

	if (x_bytes != y_bytes)
		return x_bytes > y_bytes ? -1 : 1;
	if (x->block_size != y->block_size)
		return x->block_size < y->block_size ? -1 : 1;
	if (x->type != y->type)
		return x->type < y->type ? -1 : 1;
	return (int)x->parked - (int)y->parked;
}

/* The groups become pins. Their types' names last as long as the map. */
static int keep_groups(struct pins *p, struct arena_row *row)
{
	struct arena_map *map = p->map;

	if (map->n_pins + p->n_groups > p->pins_room) {
		size_t room = 2 * p->pins_room + p->n_groups;
		struct arena_pin *grown = reallocarray(map->pins, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		map->pins = grown;
		p->pins_room = room;
	}
	if (p->n_groups > 1)
		qsort(p->groups, p->n_groups, sizeof(*p->groups), by_weight);
	row->first_pin = map->n_pins;
	row->n_pins = p->n_groups;
	for (size_t i = 0; i < p->n_groups; i++) {
		const struct group *g = &p->groups[i];

		map->pins[map->n_pins++] = (struct arena_pin){
			.block_size = g->block_size,
			.type = g->type ? types_name(p->types, g->type) : NULL,
			.parked = g->parked,
			.count = g->count,
		};
	}
	return 0;
}

static int read_arena(struct pins *p, struct arena_row *row)
{
	raddr_t first = RADDR((row->address.v + p->pool_size - 1) & ~(uint64_t)(p->pool_size - 1));
	uint32_t numbers[READ_POOLS];
	size_t n = 0;
	int r = 0;

	p->n_groups = p->blocks = 0;
	for (uint32_t i = 0; i < row->n_pools && r == 0; i++) {
		if (p->map->pools[row->first_pool + i].live)
			numbers[n++] = i;
		if (n == READ_POOLS || (n && i + 1 == row->n_pools)) {
			r = read_pools(p, row, first, numbers, n);
			n = 0;
		}
	}
	return r ? r : keep_groups(p, row);
}

static int read_all(struct pins *p)
{
	struct arena_map *map = p->map;
	int r = 0;

	for (size_t i = 0; i < map->n_arenas; i++)
		if (map->arenas[i].returnable)
			p->total_bytes += (uint64_t)map->arenas[i].pools_used * p->pool_size;
	for (size_t i = 0; i < map->n_arenas && r == 0; i++)
		if (map->arenas[i].returnable && map->arenas[i].pools_used)
			r = read_arena(p, &map->arenas[i]);
	return r;
}

int arena_pins_read(const struct python *python, const struct arena_map_options *options, struct arena_map *map)
{
	_cleanup_(freep) uint8_t *snapshots = malloc(READ_POOLS * POOL_SIZE_MAX);
	struct pins pins = {
		.python = python, .options = options, .map = map, .pool_size = (uint32_t)obmalloc_pool_size(python), .snapshots = snapshots,
	};
	int r;

	if (!snapshots)
		return -ENOMEM;
	if (pins.pool_size > POOL_SIZE_MAX || pins.pool_size < pool_header_bytes(python))
		return -EPROTO;
	r = types_new(python, &map->types);
	if (r < 0)
		return r;
	pins.types = map->types;
	r = read_all(&pins);
	free(pins.groups);
	return r;
}
