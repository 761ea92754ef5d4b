/* SPDX-License-Identifier: MIT */
/*
 * A sorted copy of pymalloc's arenas. Invariant: ranges are sorted by start and
 * do not overlap (entries that do are torn: the later one is dropped). Limits:
 * a copy; the target may map or unmap an arena right after the read, so an
 * answer is as old as the last arenas_refresh().
 */
#include "interp/arenas.h"

#include <errno.h>
#include <stdlib.h>

#include "interp/obmalloc.h"

#define TRIES 3

struct range {
	uint64_t start, end;
};

struct arenas {
	const struct python *python;
	struct range *ranges;
	size_t count, room;
	struct range hint;     /* the one that held an address last; empty at first */
};

int arenas_new(const struct python *python, struct arenas **ret_arenas)
{
	struct arenas *arenas = calloc(1, sizeof(*arenas));

	if (!arenas)
		return -ENOMEM;
	arenas->python = python;
	*ret_arenas = arenas;
	return 0;
}

void arenas_free(struct arenas *arenas)
{
	if (arenas)
		free(arenas->ranges);
	free(arenas);
}

/* An obmalloc_arena_fn; their number is bounded by the tables they come from. */
static int add_range(void *ctx, raddr_t addr, uint64_t size)
{
	struct arenas *arenas = ctx;

	if (arenas->count == arenas->room) {
		size_t room = arenas->room ? 2 * arenas->room : 64;
		struct range *grown = reallocarray(arenas->ranges, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		arenas->ranges = grown;
		arenas->room = room;
	}
	arenas->ranges[arenas->count++] = (struct range){ addr.v, addr.v + size };
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static void sort_ranges(struct arenas *arenas)
{
	size_t kept = 0;

	if (arenas->count > 1)
		qsort(arenas->ranges, arenas->count, sizeof(arenas->ranges[0]), by_start);
	for (size_t i = 0; i < arenas->count; i++)
		if (kept == 0 || arenas->ranges[i].start >= arenas->ranges[kept - 1].end)
			arenas->ranges[kept++] = arenas->ranges[i];
	arenas->count = kept;
}

int arenas_refresh(struct arenas *arenas)
{
	struct arenas fresh = { .python = arenas->python };
	int r = -EAGAIN;

	/* the array of arenas moves when it grows: look again */
	for (int tries = 0; tries < TRIES && r == -EAGAIN; tries++) {
		fresh.count = 0;
		r = obmalloc_visit_arenas(arenas->python, add_range, &fresh);
	}
	if (r < 0 && r != -ENOENT) {
		free(fresh.ranges);
		return r;
	}
	sort_ranges(&fresh);
	free(arenas->ranges);
	*arenas = fresh;
	return 0;
}

bool arenas_hold(struct arenas *arenas, raddr_t addr)
{
	size_t low = 0, high = arenas->count;

	if (addr.v - arenas->hint.start < arenas->hint.end - arenas->hint.start)
		return true;

	/* the first range that ends behind addr */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (arenas->ranges[middle].end <= addr.v)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == arenas->count || arenas->ranges[low].start > addr.v)
		return false;
	arenas->hint = arenas->ranges[low];
	return true;
}

size_t arenas_count(const struct arenas *arenas)
{
	return arenas->count;
}
