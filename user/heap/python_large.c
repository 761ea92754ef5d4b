/* SPDX-License-Identifier: MIT */
/* See python_large.h. Nothing is followed but types. */
#include "heap/python_large.h"

#include <string.h>

#include "interp/arenas.h"
#include "interp/block_object.h"
#include "interp/dict_keys.h"

#define SMALL_MAX 512u         /* pymalloc's largest block */
#define SLACK 32u              /* bytes malloc adds at most to a request */
#define SLACK_MMAPPED 8192u
#define MMAPPED_FROM (128u << 10)
#define WORDS 16u
#define POINTERS_MIN 2u        /* of these that must be addresses of objects */
#define DEQUE_ROOM_MIN 528u    /* a deque's block: link, 64 items, link */
#define DEQUE_ROOM_MAX 536u

/* The interpreter's data: all of its file's mappings that are not code, and what follows them without a gap. */
static void find_data(struct python_large *large, const struct maps *maps, uint64_t runtime)
{
	const struct map *own = maps_at(maps, runtime), *file = own;
	uint64_t end;

	large->data_start = large->data_end = 0;
	for (size_t i = 0; own && !own->inode && i < maps_count(maps); i++)
		if (maps_get(maps, i)->end <= own->start && maps_get(maps, i)->inode && maps_get(maps, i)->write)
			file = maps_get(maps, i);
	if (!own || !file->inode)
		return;
	end = file->end > own->end ? file->end : own->end;
	large->data_start = file->start;
	for (size_t i = 0; i < maps_count(maps); i++) {
		const struct map *map = maps_get(maps, i);

		if (map->inode == file->inode && map->dev == file->dev && !map->exec && map->start < large->data_start)
			large->data_start = map->start;
		if (map->start == end && map->write && !map->inode && map->path[0] != '[')
			end = map->end;
	}
	large->data_end = end;
}

int python_large_init(struct python_large *large, struct types *types, const struct maps *maps)
{
	int r = types_refresh(types);

	if (r < 0)
		return r;
	*large = (struct python_large){ .types = types };
	large->min_bytes = arenas_count(types_arenas(types)) ? SMALL_MAX + 1 : 0;
	find_data(large, maps, python_runtime(types_python(types)).v);
	return 0;
}

static bool is_object_place(const struct python_large *large, uint64_t word)
{
	if (word % 8)
		return false;
	return (word >= large->data_start && word < large->data_end) || arenas_hold(types_arenas(large->types), RADDR(word));
}

/* Words from first on, every step-th: addresses of objects, or 0 with 0 (or -1) behind. */
static bool is_table(const struct python_large *large, const uint64_t *words, size_t n, size_t first, size_t step)
{
	size_t pointers = 0;

	for (size_t i = first; i < n; i += step) {
		if (words[i] && !is_object_place(large, words[i]))
			return false;
		if (step == 2 && i + 1 < n && !words[i] && words[i + 1] && words[i + 1] != UINT64_MAX)
			return false;
		pointers += words[i] != 0;
	}
	return pointers >= POINTERS_MIN;
}

bool python_large_is(const struct python_large *large, const uint8_t *head, uint32_t head_bytes, uint64_t room)
{
	uint32_t hooks = types_debug_front(large->types);
	uint64_t words[WORDS];
	struct block_object object;
	size_t n;

	/* hooks stand twice before a block that is not pymalloc's, of the raw domain and of the one that asked it */
	if (room < large->min_bytes || head_bytes <= 2 * hooks || room <= 2 * hooks)
		return false;
	block_object_find(large->types, head + hooks, head_bytes - hooks, room - hooks, &object);
	if (object.type)
		return !object.parked;
	head += 2 * hooks;
	head_bytes -= 2 * hooks;
	room -= 2 * hooks;
	if (room <= SMALL_MAX)
		return false;
	if (dict_keys_fit(types_python(large->types), head, head_bytes, room,
			  (room >= MMAPPED_FROM ? SLACK_MMAPPED : SLACK) + 2 * hooks))
		return true;
	n = head_bytes / 8 < WORDS ? head_bytes / 8 : WORDS;
	memcpy(words, head, n * 8);
	return is_table(large, words, n, 0, 1) || is_table(large, words, n, 0, 2) ||
	       (room >= DEQUE_ROOM_MIN && room <= DEQUE_ROOM_MAX && is_table(large, words, n, 1, 1));
}
