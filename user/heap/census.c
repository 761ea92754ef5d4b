/* SPDX-License-Identifier: MIT */
/*
 * The census: passes over small blocks, large blocks and static storage find the objects; then the blocks that are none are named
 * by what objects say of them.
 *
 * Invariant: blocks = objects - static_objects + the blocks in non_objects. Memory: marks (3.2 % of the heap), the list of pools (0.1 %),
 * the last pools read, and 16 bytes for each large block that is no object.
 */
#include "heap/census.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "heap/census_impl.h"
#include "interp/obmalloc.h"
#include "interp/slots.h"
#include "target/proc.h"

#define REMEMBERED_BYTES (4u << 20)   /* of pools read a moment ago */
#define MARKS_MIN (16ull << 20)
#define LONG_STEPS 100000u            /* a second's worth */
#define DEQUE_BLOCK_MIN 512u          /* bytes: so many of them can be in memory at most */

static void clear(struct census_work *work)
{
	census_objects_clear(work);
	object_sizes_free(work->sizes);
	marks_free(work->marks);
	map64_free(work->code);
	pool_reader_free(work->reader);
	types_free(work->types);
	census_free(work->census);
}

/* Without pymalloc every object is a chunk of libc's heap; with mimalloc nothing is known of the blocks. */
static int has_pymalloc(const struct python *python, bool *ret_pymalloc, struct err *err)
{
	struct slots slots;
	int r;

	/* recorded memory: its arenas tell */
	*ret_pymalloc = true;
	if (!python_image(python))
		return 0;
	r = slots_read(python, &slots, err);
	if (r < 0)
		return r;
	if (slots.allocator != ALLOCATOR_PYMALLOC && slots.allocator != ALLOCATOR_MALLOC)
		return err_set(err, -ENOENT, "process %d allocates its objects with %s", python_pid(python), slots.text);
	*ret_pymalloc = slots.allocator == ALLOCATOR_PYMALLOC;
	return 0;
}

static int prepare(struct census_work *work, bool pymalloc, struct pool_list *list)
{
	uint64_t rss = 0, pool_size = obmalloc_pool_size(work->python);
	int r = python_image(work->python) ? proc_rss_read(python_pid(work->python), &rss) : 0;

	if (r == 0)
		r = types_new(work->python, &work->types);
	if (r == 0)
		r = object_sizes_new(work->types, &work->sizes);
	if (r == 0)
		r = map64_new(0, &work->code);
	if (r == 0)
		r = marks_new(rss / 8 + MARKS_MIN, &work->marks);
	/* for who looks: what lies in large blocks is soon done where there are small ones */
	work->total_bytes = rss;
	work->deque_blocks = rss / DEQUE_BLOCK_MIN;
	work->long_steps = LONG_STEPS + rss / 1024;
	if (r < 0 || !pymalloc)
		return r;
	r = pool_reader_new(work->python, REMEMBERED_BYTES / pool_size, &work->reader);
	if (r == 0)
		r = pool_list_read(work->python, list);
	work->total_bytes = list->count * pool_size;
	return r;
}

static int run(struct census_work *work, bool pymalloc, struct pool_list *list)
{
	int r = prepare(work, pymalloc, list);

	if (r == 0 && pymalloc)
		r = census_pools(work, list);
	/* what small objects say of large blocks is known then */
	if (r == 0)
		r = census_settle(work);
	work->census->small_only = !python_image(work->python);
	if (r == 0 && !work->census->small_only)
		r = census_large(work, pymalloc);
	if (r == 0 && python_image(work->python))
		r = census_static(work);
	if (r == 0)
		r = census_settle(work);
	if (r < 0)
		return r;
	census_count_pools(work, list);
	r = census_count_large(work, pymalloc);
	if (r == 0)
		r = census_take_out_owned(work);
	return r < 0 ? r : census_make_rows(work);
}

int census_read(const struct python *python, const struct census_options *options, struct census **ret_census, struct err *err)
{
	struct census_work work = { .python = python, .options = options, .started_ns = clock_mono_ns(&clock_real) };
	uint64_t read_before = rmem_bytes_read(python_rmem(python));
	struct pool_list list = { 0 };
	bool pymalloc = false;
	int r = has_pymalloc(python, &pymalloc, err);

	if (r < 0)
		return r;
	work.told_ns = work.started_ns;
	work.census = calloc(1, sizeof(*work.census));
	r = work.census ? run(&work, pymalloc, &list) : -ENOMEM;
	if (r == 0) {
		work.census->read_bytes = rmem_bytes_read(python_rmem(python)) - read_before;
		work.census->seconds = clock_seconds_since(&clock_real, work.started_ns);
		*ret_census = take_ptr(work.census);
	}
	pool_list_clear(&list);
	clear(&work);
	if (r == -ESRCH)
		return err_set(err, r, "process %d ended while its heap was read", python_pid(python));
	return r < 0 ? err_set(err, r, "cannot count the objects of process %d: %s", python_pid(python), strerror(-r)) : 0;
}
