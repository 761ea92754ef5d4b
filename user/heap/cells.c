/* SPDX-License-Identifier: MIT */
/*
 * The census by (size class, type). One gather of pool headers an arena, then
 * the chosen pools whole, READ_POOLS at a time; the target runs on.
 *
 * A pool is chosen by a hash of its address: 1 in 2^shift. Two censuses with the
 * same shift look at the same pools, and one with a greater shift at a part of them, so that
 * differences between censuses are no noise of the choice.
 *
 * Invariant: live + parked of a pool that was counted is the reference count in
 * its own snapshot (pool_free_list() holds it to that). Limits: each pool is whole, but the
 * pools are of different moments; small blocks only.
 */
#include "heap/cells.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "interp/block_object.h"
#include "interp/obmalloc.h"
#include "interp/pool.h"

#define READ_POOLS 16u
#define POOL_SIZE_MAX 16384u
#define TRIES 3
#define SHIFT_MAX 20u
#define POOLS_MAX (1u << 26)   /* 1 TiB of heap */

struct cells {
	struct cells_info info;
	struct cell *rows[CELLS_CLASSES_MAX];
	uint32_t room[CELLS_CLASSES_MAX];   /* types a row has room for */
};

struct pool_list {
	raddr_t *pools;
	size_t count, room;
	struct class_counts classes;
};

struct census {
	const struct python *python;
	struct types *types;
	struct cells *cells;
	uint32_t pool_size;
	uint8_t *snapshots;   /* READ_POOLS of them */
};

void cells_free(struct cells *cells)
{
	for (size_t i = 0; cells && i < CELLS_CLASSES_MAX; i++)
		free(cells->rows[i]);
	free(cells);
}

/* An obmalloc_pool_fn. */
static int count_class(void *ctx, raddr_t pool, uint32_t size_class, uint32_t live)
{
	struct class_counts *counts = ctx;

	(void)pool;
	if (size_class >= CELLS_CLASSES_MAX)
		return 0;
	counts->live[size_class] += live;
	counts->pools++;
	return 0;
}

/* An obmalloc_pool_fn. */
static int list_pool(void *ctx, raddr_t pool, uint32_t size_class, uint32_t live)
{
	struct pool_list *list = ctx;

	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 1024;
		raddr_t *grown = room > POOLS_MAX ? NULL : reallocarray(list->pools, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		list->pools = grown;
		list->room = room;
	}
	list->pools[list->count++] = pool;
	return count_class(&list->classes, pool, size_class, live);
}

static int explain(const struct python *python, int r, struct err *err)
{
	if (r == -ENOENT)
		return err_set(err, r, "process %d does not use pymalloc", python_pid(python));
	return err_set(err, r, "cannot read the pools of process %d: %s", python_pid(python), strerror(-r));
}

int class_counts_read(const struct python *python, struct class_counts *ret_counts, struct err *err)
{
	struct class_counts counts;
	int r = -EAGAIN;

	/* the array of arenas moves when it grows: look again */
	for (int tries = 0; tries < TRIES && r == -EAGAIN; tries++) {
		counts = (struct class_counts){ 0 };
		r = obmalloc_visit_pools(python, count_class, &counts, &counts.refused);
	}
	if (r < 0)
		return explain(python, r, err);
	*ret_counts = counts;
	return 0;
}

static int list_pools(const struct python *python, struct pool_list *list)
{
	int r = -EAGAIN;

	for (int tries = 0; tries < TRIES && r == -EAGAIN; tries++) {
		list->count = 0;
		list->classes = (struct class_counts){ 0 };
		r = obmalloc_visit_pools(python, list_pool, list, &list->classes.refused);
	}
	return r;
}

/* How many halvings a pool survives: zero bits at the end of its hash. Depends on the address only. */
static uint32_t pool_rank(raddr_t pool)
{
	uint64_t hash = pool.v >> 12;

	hash = (hash ^ (hash >> 31)) * 0x7fb5d329728ea185ull;
	hash = (hash ^ (hash >> 27)) * 0x81dadef4bc2dd44dull;
	hash ^= hash >> 33;
	return hash ? (uint32_t)__builtin_ctzll(hash) : SHIFT_MAX;
}

/* The least shift that keeps within max_bytes. */
static uint32_t choose_shift(const struct pool_list *list, uint32_t pool_size, const struct cells_options *options)
{
	uint64_t by_rank[SHIFT_MAX + 1] = { 0 }, left = list->count;
	uint32_t shift = 0;

	for (size_t i = 0; i < list->count; i++) {
		uint32_t rank = pool_rank(list->pools[i]);

		by_rank[rank < SHIFT_MAX ? rank : SHIFT_MAX]++;
	}
	while (shift < SHIFT_MAX && (shift < options->shift || (options->max_bytes && left * pool_size > options->max_bytes)))
		left -= by_rank[shift++];
	return shift;
}

static void keep_chosen(struct pool_list *list, uint32_t shift)
{
	size_t kept = 0;

	for (size_t i = 0; i < list->count; i++)
		if (pool_rank(list->pools[i]) >= shift)
			list->pools[kept++] = list->pools[i];
	list->count = kept;
}

/* Room for all types known so far. */
static int grow_row(struct cells *cells, uint32_t class, uint32_t type)
{
	uint32_t room = cells->room[class] ? cells->room[class] : 256;
	struct cell *grown;

	if (type < cells->room[class])
		return 0;
	while (room <= type)
		room *= 2;
	grown = reallocarray(cells->rows[class], room, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memset(grown + cells->room[class], 0, (room - cells->room[class]) * sizeof(*grown));
	cells->rows[class] = grown;
	cells->room[class] = room;
	return 0;
}

static int count_block(struct census *census, const struct pool_head *head, const uint8_t *bytes)
{
	struct cells *cells = census->cells;
	struct block_object object;
	int r;

	block_object_find(census->types, bytes, head->block_size, head->block_size, &object);
	r = grow_row(cells, head->size_class, object.type);
	if (r < 0)
		return r;
	if (object.parked) {
		cells->rows[head->size_class][object.type].parked++;
		cells->info.parked++;
	} else {
		cells->rows[head->size_class][object.type].live++;
		cells->info.live++;
	}
	return 0;
}

/* -EAGAIN: torn. -ENOENT: empty by now. */
static int count_snapshot(struct census *census, raddr_t pool, const uint8_t *snapshot)
{
	struct pool_head head;
	struct pool_free free_list;
	int r = pool_head_parse(census->python, snapshot, &head);

	if (r == 0)
		r = pool_free_list(census->python, pool, snapshot, &head, &free_list);
	if (r < 0)
		return r == -ENOENT ? r : -EAGAIN;
	if (head.size_class >= CELLS_CLASSES_MAX)
		return -EAGAIN;
	for (uint32_t i = 0; i < head.carved && r == 0; i++)
		if (!pool_is_free(&free_list, i))
			r = count_block(census, &head, snapshot + pool_block_offset(census->python, &head, i));
	return r;
}

static int count_pool(struct census *census, raddr_t pool, uint8_t *snapshot, bool mapped)
{
	struct cells_info *info = &census->cells->info;
	int r = mapped ? count_snapshot(census, pool, snapshot) : -EFAULT;

	for (int tries = 1; tries < TRIES && r == -EAGAIN; tries++) {
		r = rmem_read(python_rmem(census->python), pool, snapshot, census->pool_size);
		info->bytes_read += census->pool_size;
		if (r == 0)
			r = count_snapshot(census, pool, snapshot);
	}
	if (r == 0)
		info->pools_read++;
	else if (r == -EAGAIN)
		info->pools_torn++;
	else if (r == -ENOENT || r == -EFAULT)
		info->pools_gone++;
	else
		return r;
	return 0;
}

static int count_pools(struct census *census, const raddr_t *pools, size_t count)
{
	bool ok[READ_POOLS];
	int r = 0;

	for (size_t done = 0; done < count && r == 0; done += READ_POOLS) {
		size_t n = count - done < READ_POOLS ? count - done : READ_POOLS;

		r = rmem_gather_each(python_rmem(census->python), pools + done, n, census->pool_size, census->snapshots, ok);
		census->cells->info.bytes_read += n * census->pool_size;
		for (size_t i = 0; i < n && r == 0; i++)
			r = count_pool(census, pools[done + i], census->snapshots + i * census->pool_size, ok[i]);
	}
	return r;
}

static int read_cells(struct census *census, const struct cells_options *options)
{
	struct pool_list list = { 0 };
	struct cells_info *info = &census->cells->info;
	int r = list_pools(census->python, &list);

	if (r == 0) {
		info->classes = list.classes;
		info->shift = choose_shift(&list, census->pool_size, options);
		info->factor = 1ull << info->shift;
		keep_chosen(&list, info->shift);
		r = count_pools(census, list.pools, list.count);
	}
	free(list.pools);
	return r;
}

int cells_read(const struct python *python, struct types *types, const struct cells_options *options, struct cells **ret_cells,
	       struct err *err)
{
	_cleanup_(cells_freep) struct cells *cells = calloc(1, sizeof(*cells));
	_cleanup_(freep) uint8_t *snapshots = malloc(READ_POOLS * POOL_SIZE_MAX);
	struct census census = { python, types, cells, (uint32_t)obmalloc_pool_size(python), snapshots };
	int r;

	if (!cells || !snapshots)
		return err_set(err, -ENOMEM, "out of memory");
	if (census.pool_size > POOL_SIZE_MAX || census.pool_size < pool_header_bytes(python))
		return err_set(err, -EPROTO, "the layout of Python %s has impossible pool sizes", python_version(python));
	r = types_refresh(types);
	if (r == 0)
		r = read_cells(&census, options);
	if (r < 0)
		return explain(python, r, err);
	*ret_cells = take_ptr(cells);
	return 0;
}

struct cell cells_get(const struct cells *cells, uint32_t size_class, uint32_t type)
{
	if (size_class >= CELLS_CLASSES_MAX || type >= cells->room[size_class])
		return (struct cell){ 0 };
	return cells->rows[size_class][type];
}

/* The cursor: class in the upper half, the type to begin with in the lower. */
bool cells_next(const struct cells *cells, uint64_t *cursor, uint32_t *ret_class, uint32_t *ret_type, struct cell *ret_cell)
{
	for (uint32_t class = (uint32_t)(*cursor >> 32); class < CELLS_CLASSES_MAX; class++) {
		for (uint32_t type = (uint32_t)*cursor; type < cells->room[class]; type++) {
			struct cell cell = cells->rows[class][type];

			if (!cell.live && !cell.parked)
				continue;
			*cursor = ((uint64_t)class << 32 | type) + 1;
			*ret_class = class;
			*ret_type = type;
			*ret_cell = cell;
			return true;
		}
		*cursor = (uint64_t)(class + 1) << 32;
	}
	return false;
}

const struct cells_info *cells_info(const struct cells *cells)
{
	return &cells->info;
}
