/* SPDX-License-Identifier: MIT */
/*
 * Distributions strip libc, so its malloc states are known by what must hold
 * of them (malloc/malloc.c, malloc/arena.c, 2.27 to 2.43):
 *
 *   main_arena lies in libc's data. Each of its 127 bins points to itself or to
 *   chunks; next leads through all arenas back to it; system_mem <=
 *   max_system_mem; top lies where chunks can be.
 *   A thread's arena lies right behind the heap_info of its first heap, whose
 *   address is a multiple of HEAP_MAX_SIZE (64 MiB); heaps form a list by prev
 *   from the one that holds top.
 *   mp_ lies in the same data: sbrk_base, and before it what is mapped.
 *
 * The layout of malloc_state changed once: 2.43 has no fastbins.
 *
 * Limits: with glibc.malloc.hugetlb=2 heaps of threads are larger than 64 MiB; they are refused and counted then. A region of the
 * main arena that malloc mapped since brk failed is found by its look (libc_main.c).
 */
#include "heap/libc_arenas.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "heap/libc_arenas_impl.h"

#define DATA_MAX (4u << 20)        /* of libc's data */
#define BINS 127u
#define BINS_EMPTY_MIN 8u          /* that point to themselves; the large ones are rarely used all */
#define ARENAS_MAX 65536u
#define HEAPS_MAX 65536u
#define HEAP_MAX_SIZE (64ull << 20)
#define HEAP_INFO 48u              /* sizeof: 32 before 2.35 */
#define TRIES 3
#define KEY_BITS_MIN 8             /* of a random word */
#define FASTBINS 10u
#define FAST_MAX (1u << 22)        /* chunks in fastbins that are looked at, all together */

static const struct libc_state_layout layouts[] = {
	{ .fast = 16, .top = 96, .bins = 112, .next = 2160, .system = 2184, .size = 2200 },
	{ .fast = 0, .top = 8, .bins = 24, .next = 2072, .system = 2096, .size = 2112 },
};

bool libc_map_is_anonymous(const struct map *map)
{
	return !map->inode && (!map->path[0] || strncmp(map->path, "[anon:", 6) == 0);
}

void libc_arenas_free(struct libc_arenas *arenas)
{
	if (arenas) {
		free(arenas->regions);
		free(arenas->fast);
	}
	free(arenas);
}

static bool plausible(uint64_t pointer)
{
	return pointer >= LIBC_PAGE && pointer < LIBC_USER_END && pointer % 16 == 0;
}

/* Do these bytes, which lie at addr, look like a malloc_state? */
static bool is_state(const struct libc_state_layout *l, uint64_t addr, const uint8_t *bytes)
{
	uint64_t top, next, system[2];
	uint32_t empty = 0;

	memcpy(&next, bytes + l->next, 8);
	memcpy(&top, bytes + l->top, 8);
	memcpy(system, bytes + l->system, 16);
	if (!plausible(next) || !plausible(top) || !system[0] || system[0] > system[1] || system[1] >= LIBC_USER_END)
		return false;
	for (uint32_t i = 0; i < BINS; i++) {
		uint64_t self = addr + l->bins + 16 * i - 16, link[2];

		memcpy(link, bytes + l->bins + 16 * i, 16);
		empty += link[0] == self && link[1] == self;
		if ((link[0] == self) != (link[1] == self) || (link[0] != self && (!plausible(link[0]) || !plausible(link[1]))))
			return false;
	}
	return empty >= BINS_EMPTY_MIN;
}

static int add_region(struct libc_arenas *arenas, const struct libc_region *region)
{
	if (region->end <= region->start || region->start % 16)
		return -EPROTO;
	if (arenas->n_regions == arenas->room) {
		size_t room = arenas->room ? 2 * arenas->room : 16;
		struct libc_region *grown = reallocarray(arenas->regions, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		arenas->regions = grown;
		arenas->room = room;
	}
	arenas->regions[arenas->n_regions++] = *region;
	return 0;
}

int libc_arenas_add(struct libc_arenas *arenas, const struct libc_region *region)
{
	return add_region(arenas, region);
}

struct heap_info {
	uint64_t state, prev, size;
};

static int read_heap(const struct libc_view *view, uint64_t at, uint64_t state, struct heap_info *ret_heap)
{
	int r = at % HEAP_MAX_SIZE || !at ? -EPROTO : rmem_read(view->mem, RADDR(at), ret_heap, sizeof(*ret_heap));

	if (r < 0)
		return r;
	if (ret_heap->state != state || ret_heap->size > HEAP_MAX_SIZE || ret_heap->size < HEAP_INFO || ret_heap->size % 16)
		return -EPROTO;
	return 0;
}

static uint64_t heap_of(uint64_t addr)
{
	return addr & ~(HEAP_MAX_SIZE - 1);
}

/* The heaps of a thread's arena, newest first. */
static int add_heaps(const struct libc_view *view, struct libc_arenas *arenas, const struct libc_state_layout *l, uint64_t state, uint64_t top)
{
	uint64_t at = heap_of(top), first = heap_of(state), info = state - first;
	struct heap_info heap;

	for (uint32_t n = 0; n < HEAPS_MAX; n++, at = heap.prev) {
		struct libc_region region = { .state = state, .heap = at, .has_top = at == heap_of(top) };
		uint64_t header = at == first ? (info + l->size + 15) & ~15ull : info;
		int r = read_heap(view, at, state, &heap);

		if (r < 0)
			return r == -EFAULT ? -EPROTO : r;
		region.start = at + header;
		region.end = at + heap.size;
		r = add_region(arenas, &region);
		if (r < 0)
			return r;
		arenas->overhead += header;
		if (!heap.prev)
			return at == first ? 0 : -EPROTO;
	}
	return -EPROTO;
}

static int add_fast(struct libc_arenas *arenas, uint64_t chunk)
{
	if (arenas->n_fast == arenas->fast_room) {
		size_t room = arenas->fast_room ? 2 * arenas->fast_room : 256;
		uint64_t *grown = reallocarray(arenas->fast, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		arenas->fast = grown;
		arenas->fast_room = room;
	}
	arenas->fast[arenas->n_fast++] = chunk;
	return 0;
}

/* Follows one list; pages are read whole, since neighbours on the list are neighbours in memory. */
static int walk_fastbin(const struct libc_view *view, struct libc_arenas *arenas, uint64_t chunk, uint64_t limit)
{
	uint8_t page[LIBC_PAGE];
	uint64_t at = 0, link, mark = 0;

	for (uint64_t n = 0; chunk && n < limit && arenas->n_fast < FAST_MAX; n++) {
		uint64_t link_at = chunk + 16;
		int r;

		/* a ring meets the mark, which moves on at every power of two */
		if (!plausible(chunk) || chunk == mark)
			return -EPROTO;
		if ((n & (n - 1)) == 0)
			mark = chunk;
		if (at != (link_at & ~(LIBC_PAGE - 1))) {
			at = link_at & ~(LIBC_PAGE - 1);
			r = rmem_read(view->mem, RADDR(at), page, sizeof(page));
			if (r < 0)
				return r == -EFAULT ? -EPROTO : r;
		}
		r = add_fast(arenas, chunk);
		if (r < 0)
			return r;
		memcpy(&link, page + link_at % LIBC_PAGE, 8);
		chunk = arenas->mangled ? link ^ (link_at >> 12) : link;
	}
	return chunk ? -EPROTO : 0;
}

static int read_fastbins(const struct libc_view *view, struct libc_arenas *arenas, const struct libc_state_layout *l, const uint8_t *bytes)
{
	uint64_t system;

	if (!l->fast)
		return 0;
	memcpy(&system, bytes + l->system, 8);
	for (uint32_t i = 0; i < FASTBINS; i++) {
		uint64_t head;
		int r;

		memcpy(&head, bytes + l->fast + 8 * i, 8);
		r = walk_fastbin(view, arenas, head, system / 32);
		if (r == -EPROTO)
			arenas->retries++;   /* the list changed under us: what was found of it holds */
		else if (r < 0)
			return r;
	}
	return 0;
}

/* One thread's arena: -EPROTO if it makes no sense. *ret_next: the next one in the ring. */
static int add_thread(const struct libc_view *view, struct libc_arenas *arenas, const struct libc_state_layout *l, uint64_t state,
		      uint64_t *ret_next)
{
	uint8_t bytes[LIBC_STATE_MAX];
	uint64_t top, system, overhead = arenas->overhead, info = state - heap_of(state);
	size_t n_regions = arenas->n_regions;
	int r = info == HEAP_INFO || info == 32 ? rmem_read(view->mem, RADDR(state), bytes, l->size) : -EPROTO;

	if (r == 0 && !is_state(l, state, bytes))
		r = -EPROTO;
	if (r < 0)
		return r == -EFAULT ? -EPROTO : r;
	memcpy(&top, bytes + l->top, 8);
	memcpy(&system, bytes + l->system, 8);
	memcpy(ret_next, bytes + l->next, 8);
	r = add_heaps(view, arenas, l, state, top);
	if (r < 0) {
		arenas->n_regions = n_regions;
		arenas->overhead = overhead;
		return r;
	}
	arenas->system_bytes += system;
	arenas->arenas++;
	return read_fastbins(view, arenas, l, bytes);
}

static int add_threads(const struct libc_view *view, struct libc_arenas *arenas, const struct libc_state_layout *l, uint64_t main,
		       uint64_t state)
{
	for (uint32_t n = 0; state != main; n++) {
		uint64_t next = main;
		int r = -EPROTO;

		if (n == ARENAS_MAX) {
			arenas->refused++;
			return 0;
		}
		for (int tries = 0; tries < TRIES && r == -EPROTO; tries++) {
			r = add_thread(view, arenas, l, state, &next);
			arenas->retries += r == -EPROTO && tries + 1 < TRIES;
		}
		arenas->refused += r == -EPROTO;
		if (r < 0 && r != -EPROTO)
			return r;
		state = next;
	}
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void find_keys(struct libc_arenas *arenas, const uint8_t *data, size_t size)
{
	for (size_t at = 0; at + 8 <= size && arenas->n_keys < LIBC_KEYS_MAX; at += 8) {
		uint64_t word;
		int bits;

		memcpy(&word, data + at, 8);
		bits = __builtin_popcountll(word);
		if (word >= LIBC_USER_END && bits >= KEY_BITS_MIN && bits <= 64 - KEY_BITS_MIN)
			arenas->keys[arenas->n_keys++] = word;
	}
	qsort(arenas->keys, arenas->n_keys, sizeof(arenas->keys[0]), by_value);
}

static bool holds(const uint64_t *sorted, size_t n, uint64_t value)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (sorted[middle] < value)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && sorted[low] == value;
}

bool libc_arenas_key(const struct libc_arenas *arenas, uint64_t word)
{
	return word >= LIBC_USER_END && holds(arenas->keys, arenas->n_keys, word);
}

bool libc_arenas_fast(const struct libc_arenas *arenas, uint64_t chunk)
{
	return arenas->n_fast && holds(arenas->fast, arenas->n_fast, chunk);
}

static int by_start(const void *a, const void *b)
{
	const struct libc_region *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* By address; none twice, and none that overlaps what is before. */
static void sort_regions(struct libc_arenas *arenas)
{
	size_t kept = 0;

	qsort(arenas->regions, arenas->n_regions, sizeof(arenas->regions[0]), by_start);
	for (size_t i = 0; i < arenas->n_regions; i++) {
		if (kept && arenas->regions[i].start < arenas->regions[kept - 1].end)
			arenas->refused++;
		else
			arenas->regions[kept++] = arenas->regions[i];
	}
	arenas->n_regions = kept;
	if (arenas->n_fast)
		qsort(arenas->fast, arenas->n_fast, sizeof(arenas->fast[0]), by_value);
}

/* libc's data, read whole: the writable mapping of its file and what follows it without a gap (bss). -ENOENT: none at or behind *index. */
static int read_data(const struct libc_view *view, size_t *index, uint64_t *ret_start, uint8_t **ret_data, size_t *ret_size)
{
	_cleanup_(freep) uint8_t *data = NULL;
	const struct map *map = NULL;
	uint64_t end;
	int r;

	for (; *index < maps_count(view->maps); (*index)++) {
		map = maps_get(view->maps, *index);
		if (map->write && libc_file_is(map->path, NULL))
			break;
	}
	if (*index >= maps_count(view->maps))
		return -ENOENT;
	end = map->end;
	for (size_t i = *index + 1; i < maps_count(view->maps) && maps_get(view->maps, i)->start == end; i++) {
		if (!maps_get(view->maps, i)->write || !libc_map_is_anonymous(maps_get(view->maps, i)))
			break;
		end = maps_get(view->maps, i)->end;
	}
	if (end - map->start > DATA_MAX)
		end = map->end - map->start > DATA_MAX ? map->start + DATA_MAX : map->end;
	data = malloc((size_t)(end - map->start));
	if (!data)
		return -ENOMEM;
	r = rmem_read(view->mem, RADDR(map->start), data, (size_t)(end - map->start));
	if (r < 0)
		return r;
	*ret_start = map->start;
	*ret_size = (size_t)(end - map->start);
	*ret_data = take_ptr(data);
	return 0;
}

/* The state in libc's data whose ring of arenas leads back to it. NULL: none. */
static const struct libc_state_layout *find_main(const uint8_t *data, size_t size, uint64_t start, size_t *ret_offset)
{
	for (size_t at = 0; at < size; at += 16) {
		for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
			if (at + layouts[i].size > size || !is_state(&layouts[i], start + at, data + at))
				continue;
			*ret_offset = at;
			return &layouts[i];
		}
	}
	return NULL;
}

static int find_in(const struct libc_view *view, struct libc_arenas *arenas, uint64_t start, const uint8_t *data, size_t size)
{
	const struct libc_state_layout *l;
	uint64_t next, system;
	size_t at;
	int r;

	l = find_main(data, size, start, &at);
	if (!l)
		return -ENOENT;
	memcpy(&next, data + at + l->next, 8);
	memcpy(&system, data + at + l->system, 8);
	arenas->layout = l;
	arenas->arenas = 1;
	arenas->system_bytes = system;
	find_keys(arenas, data, size);
	r = read_fastbins(view, arenas, l, data + at);
	if (r == 0)
		r = libc_main_find(view, arenas, l, start + at, data, size, start);
	if (r == 0)
		r = add_threads(view, arenas, l, start + at, next);
	return r;
}

int libc_arenas_find(const struct libc_view *view, struct libc_arenas **ret_arenas)
{
	_cleanup_(libc_arenas_freep) struct libc_arenas *arenas = NULL;
	int r = -ENOENT;

	for (size_t i = 0; i < maps_count(view->maps) && r == -ENOENT; i++) {
		_cleanup_(freep) uint8_t *data = NULL;
		uint64_t start;
		size_t size;
		int minor = 0;

		libc_arenas_free(arenas);
		arenas = calloc(1, sizeof(*arenas));
		if (!arenas)
			return -ENOMEM;
		r = read_data(view, &i, &start, &data, &size);
		if (r < 0)
			break;
		libc_file_is(maps_get(view->maps, i)->path, &minor);
		arenas->key_is_tcache = minor && minor < 34;
		arenas->mangled = !minor || minor >= 32;
		r = find_in(view, arenas, start, data, size);
	}
	if (r < 0)
		return r == -ENOENT || r == -EFAULT ? -ENOTSUP : r;
	sort_regions(arenas);
	*ret_arenas = take_ptr(arenas);
	return 0;
}

int libc_region_refresh(const struct libc_view *view, const struct libc_arenas *arenas, struct libc_region *region)
{
	struct heap_info heap;
	int r;

	if (!region->heap)
		return region->has_top ? libc_main_refresh(view, arenas->layout, region) : 0;
	r = read_heap(view, region->heap, region->state, &heap);
	if (r == 0)
		region->end = region->heap + heap.size;
	return r == -EPROTO ? -EFAULT : r;
}
