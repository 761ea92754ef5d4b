/* SPDX-License-Identifier: MIT */
#include "track/regions.h"

#include <errno.h>
#include <string.h>

struct regions {
	struct region *v;
	size_t count, cap;
};

int regions_new(struct regions **ret_regions)
{
	struct regions *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	*ret_regions = r;
	return 0;
}

void regions_free(struct regions *r)
{
	if (!r)
		return;
	free(r->v);
	free(r);
}

/* The first region that ends after addr. */
static size_t lower_bound(const struct regions *r, uint64_t addr)
{
	size_t low = 0, high = r->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (r->v[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int insert(struct regions *r, size_t at, const struct region *region)
{
	if (r->count == REGIONS_MAX)
		return -ENOSPC;
	if (r->count == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 64;
		struct region *v = reallocarray(r->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		r->v = v;
		r->cap = cap;
	}
	memmove(&r->v[at + 1], &r->v[at], (r->count - at) * sizeof(*r->v));
	r->v[at] = *region;
	r->count++;
	return 0;
}

int regions_remove(struct regions *r, uint64_t start, uint64_t end)
{
	size_t first, last;

	if (start >= end)
		return -EINVAL;
	first = lower_bound(r, start);
	if (first < r->count && r->v[first].start < start) {
		struct region *head = &r->v[first], tail = *head;

		/* The middle of one region: two are left. */
		if (head->end > end) {
			tail.start = end;
			head->end = start;
			return insert(r, first + 1, &tail);
		}
		head->end = start;
		first++;
	}
	for (last = first; last < r->count && r->v[last].end <= end; last++)
		;
	if (last > first && last < r->count)
		memmove(&r->v[first], &r->v[last], (r->count - last) * sizeof(*r->v));
	r->count -= last - first;
	if (first < r->count && r->v[first].start < end)
		r->v[first].start = end;
	return 0;
}

int regions_add(struct regions *r, const struct region *region)
{
	int error = regions_remove(r, region->start, region->end);

	return error ? error : insert(r, lower_bound(r, region->start), region);
}

int regions_move(struct regions *r, uint64_t start, uint64_t end, uint64_t to)
{
	_cleanup_(freep) struct region *moved = NULL;
	size_t first = lower_bound(r, start), n = 0;
	int error;

	if (start >= end || to + (end - start) < to)
		return -EINVAL;
	for (size_t i = first; i < r->count && r->v[i].start < end; i++)
		n++;
	moved = calloc(n + 1, sizeof(*moved));
	if (!moved)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		moved[i] = r->v[first + i];
		moved[i].start = (moved[i].start > start ? moved[i].start - start : 0) + to;
		moved[i].end = (moved[i].end < end ? moved[i].end : end) - start + to;
	}
	error = regions_remove(r, start, end);
	if (!error)
		error = regions_remove(r, to, to + (end - start));
	for (size_t i = 0; i < n && !error; i++)
		error = regions_add(r, &moved[i]);
	return error;
}

const struct region *regions_at(const struct regions *r, uint64_t addr)
{
	size_t i = lower_bound(r, addr);

	return i < r->count && r->v[i].start <= addr ? &r->v[i] : NULL;
}

size_t regions_count(const struct regions *r)
{
	return r->count;
}

const struct region *regions_get(const struct regions *r, size_t index)
{
	return &r->v[index];
}
