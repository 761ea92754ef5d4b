/* SPDX-License-Identifier: MIT */
/*
 * Static storage: static types, None, small ints, interned identifiers, frozen code, module definitions. They lie in the
 * writable data of the images that are mapped, at multiples of 8; each place is asked (static_object_find()). What is read-only after
 * relocation holds no objects, but the template from which 3.12 and later make the runtime anew: two of everything.
 *
 * Invariant: objects do not overlap. Limits: RANGE_MAX bytes of one image's data, IMAGES_MAX images; what only looks like an object and
 * passes all tests counts as one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "heap/census_impl.h"

#define IMAGES_MAX 4096u
#define RANGE_MAX (256ull << 20)
#define NEIGHBOURS 8u
#define PAGE 4096u
#define WINDOW_PAGES 64u
#define FRONT 16u            /* bytes before an object that are looked at */
#define TAIL 1024u           /* bytes of an object that are looked at */
#define WINDOW_MAX (PAGE + WINDOW_PAGES * PAGE + PAGE)

struct data_window {
	uint64_t start, end;     /* of the places that are asked */
	uint8_t bytes[WINDOW_MAX];   /* from a page before start to a page behind end */
};

/* Pages that are not mapped are zeros. */
static int read_window(struct census_work *work, struct data_window *window)
{
	raddr_t addrs[WINDOW_PAGES + 2];
	bool ok[WINDOW_PAGES + 2];
	size_t n = (window->end - window->start) / PAGE + 2;
	int r;

	for (size_t i = 0; i < n; i++)
		addrs[i] = RADDR(window->start + i * PAGE - PAGE);
	r = rmem_gather_each(python_rmem(work->python), addrs, n, PAGE, window->bytes, ok);
	for (size_t i = 0; i < n && r == 0; i++)
		if (!ok[i])
			memset(window->bytes + i * PAGE, 0, PAGE);
	return r;
}

/* Asks each place of the window from *at on; *at is then behind its end, and behind the last object. */
static int scan_window(struct census_work *work, const struct data_window *window, raddr_t from, raddr_t to, uint64_t *at)
{
	static const struct census_place place = { .bytes = 0 };

	while (*at < window->end) {
		const uint8_t *bytes = window->bytes + (*at - window->start + PAGE);
		uint32_t skip, type = static_object_find(work->types, RADDR(*at), bytes - FRONT, bytes, TAIL, from, to, &skip);
		int r;

		if (!type) {
			*at += 8;
			continue;
		}
		r = census_add_object(work, type, RADDR(*at), bytes, TAIL, false, &place);
		if (r < 0)
			return r;
		*at += (skip + 7) & ~7ull;
	}
	return 0;
}

static int scan_range(struct census_work *work, struct data_window *window, raddr_t from, uint64_t size)
{
	raddr_t to = raddr_add(from, (int64_t)size);
	uint64_t at = (from.v + 7) & ~7ull;
	int r = 0;

	for (uint64_t start = from.v & ~(uint64_t)(PAGE - 1); start < to.v && r == 0; start = window->end) {
		window->start = start;
		window->end = start + WINDOW_PAGES * PAGE < to.v ? start + WINDOW_PAGES * PAGE : (to.v + PAGE - 1) & ~(uint64_t)(PAGE - 1);
		r = read_window(work, window);
		if (r == 0)
			r = scan_window(work, window, from, to, &at);
	}
	return r;
}

/* The parts of an image's data that are writable now. */
static int scan_writable(struct census_work *work, const struct maps *maps, raddr_t from, uint64_t size, struct data_window *window)
{
	uint64_t end = from.v + (size < RANGE_MAX ? size : RANGE_MAX), at = from.v;
	int r = 0;

	while (at < end && r == 0) {
		const struct map *map = maps_at(maps, at);
		uint64_t stop = map && map->end < end ? map->end : end;

		if (!map) {
			at = (at | (PAGE - 1)) + 1;
			continue;
		}
		if (map->write && !map->shared)
			r = scan_range(work, window, RADDR(at), stop - at);
		at = stop;
	}
	return r;
}

static int scan_image(struct census_work *work, const struct maps *maps, const struct map *map, struct data_window *window)
{
	_cleanup_(image_freep) struct image *image = NULL;
	uint64_t size;
	raddr_t from;
	int r = image_open_at(python_pid(work->python), maps, map->start, &image, NULL);

	if (r < 0)
		return r == -ESRCH || r == -ENOMEM ? r : 0;
	for (size_t i = 0; r == 0 && image_data(image, i, &from, &size) == 0; i++)
		r = scan_writable(work, maps, from, size, window);
	return r;
}

/* The first mapping of each image that has writable data. An image's mappings are neighbours. */
static bool is_first(const struct maps *maps, size_t index)
{
	const struct map *map = maps_get(maps, index);
	size_t end = index > NEIGHBOURS ? index - NEIGHBOURS : 0;

	if (!map->inode || !map->write || map->shared)
		return false;
	while (index-- > end) {
		const struct map *before = maps_get(maps, index);

		if (before->write && before->inode == map->inode && before->dev == map->dev && !before->shared)
			return false;
	}
	return true;
}

int census_static(struct census_work *work)
{
	_cleanup_(maps_freep) struct maps *maps = NULL;
	_cleanup_(freep) struct data_window *window = malloc(sizeof(*window));
	uint32_t images = 0;
	int r = window ? maps_load(python_pid(work->python), &maps) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < maps_count(maps) && images < IMAGES_MAX; i++) {
		if (!is_first(maps, i))
			continue;
		images++;
		r = scan_image(work, maps, maps_get(maps, i), window);
	}
	return r;
}
