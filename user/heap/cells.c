/* SPDX-License-Identifier: MIT */
/*
 * The census by (size class, type). One gather of pool headers an arena, then
 * the chosen pools whole (pools.h); the target runs on.
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

#include "heap/pools.h"
#include "interp/block_object.h"
#include "interp/obmalloc.h"

#define TRIES 3
#define SHIFT_MAX 20u

struct cells {
	struct cells_info info;
	struct cell *rows[CELLS_CLASSES_MAX];
	uint32_t room[CELLS_CLASSES_MAX];   /* types a row has room for */
};

struct cell_census {
	const struct python *python;
	struct types *types;
	struct cells *cells;
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
		uint32_t rank = pool_rank(list->pools[i].addr);

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
		if (pool_rank(list->pools[i].addr) >= shift)
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

static int count_block(struct cell_census *census, const struct pool_head *head, const uint8_t *bytes)
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

/* A pool_look_fn. */
static int count_pool(void *ctx, const struct pool_look *look)
{
	struct cell_census *census = ctx;
	int r = 0;

	if (look->head.size_class >= CELLS_CLASSES_MAX)
		return 0;
	for (uint32_t i = 0; i < look->head.carved && r == 0; i++)
		if (!pool_is_free(&look->free, i))
			r = count_block(census, &look->head, look->bytes + pool_block_offset(census->python, &look->head, i));
	return r;
}

static int read_cells(struct cell_census *census, const struct cells_options *options, struct pool_reader *reader, struct pool_list *list)
{
	struct cells_info *info = &census->cells->info;
	const struct pool_reader_stats *stats = pool_reader_stats(reader);
	int r = pool_list_read(census->python, list);

	if (r < 0)
		return r;
	for (size_t i = 0; i < list->count; i++)
		count_class(&info->classes, list->pools[i].addr, list->pools[i].size_class, list->pools[i].live);
	info->classes.refused = list->refused;
	info->shift = choose_shift(list, (uint32_t)obmalloc_pool_size(census->python), options);
	info->factor = 1ull << info->shift;
	keep_chosen(list, info->shift);
	r = pool_reader_read(reader, list->pools, list->count, count_pool, census);
	info->pools_read = stats->read;
	info->bytes_read = stats->bytes;
	info->pools_torn = stats->torn;
	info->pools_gone = stats->gone;
	return r;
}

int cells_read(const struct python *python, struct types *types, const struct cells_options *options, struct cells **ret_cells,
	       struct err *err)
{
	_cleanup_(cells_freep) struct cells *cells = calloc(1, sizeof(*cells));
	_cleanup_(pool_reader_freep) struct pool_reader *reader = NULL;
	struct cell_census census = { python, types, cells };
	struct pool_list list = { 0 };
	int r = cells ? pool_reader_new(python, 0, &reader) : -ENOMEM;

	if (r == -ENOMEM)
		return err_set(err, r, "out of memory");
	if (r < 0)
		return err_set(err, r, "the layout of Python %s has impossible pool sizes", python_version(python));
	r = types_refresh(types);
	if (r == 0)
		r = read_cells(&census, options, reader, &list);
	pool_list_clear(&list);
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
