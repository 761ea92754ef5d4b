/* SPDX-License-Identifier: MIT */
/* See memory.h. Invariant: t rises strictly; of a full series every other sheet but the first and the last goes. */
#include "diagnose/memory.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fmt.h"

#define POINTS_MAX 128
#define POINTS_PER_END 6   /* so many sheets for one more at either end */
#define ENDS_MAX 3
#define MIB (1024.0 * 1024)
#define GROWS_SHARE 0.01
#define GROWS_BYTES MIB

/* What advice has to be worth. */
#define ADVICE_BYTES (16u << 20)
#define ADVICE_SHARE 0.1          /* of RSS */
#define PINNED_SHARE 0.5          /* of arenas' memory */
#define ARENAS_MANY 8u            /* more than this many heaps of threads spread what is free */

struct point {
	double t, rss, part[MEMORY_PART_COUNT];
};

struct memory_series {
	struct point points[POINTS_MAX];
	size_t count, sheets;
	struct balance last, before;
};

int memory_series_new(struct memory_series **ret_series)
{
	struct memory_series *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	*ret_series = s;
	return 0;
}

void memory_series_free(struct memory_series *s)
{
	free(s);
}

size_t memory_series_bytes(void)
{
	return sizeof(struct memory_series);
}

static void thin(struct memory_series *s)
{
	size_t n = 1;

	for (size_t i = 2; i < s->count; i += 2)
		s->points[n++] = s->points[i];
	s->count = n;
}

void memory_series_add(struct memory_series *s, double t, const struct balance *balance)
{
	struct point p = { .t = t, .rss = (double)balance->rss };

	if (s->count && !(t > s->points[s->count - 1].t))
		return;
	for (int i = 0; i < MEMORY_PART_COUNT; i++)
		p.part[i] = (double)balance->part[i];
	if (s->count == POINTS_MAX)
		thin(s);
	s->points[s->count++] = p;
	s->sheets++;
	s->before = s->last;
	s->last = *balance;
}

size_t memory_series_count(const struct memory_series *s)
{
	return s->sheets;
}

const struct balance *memory_series_last(const struct memory_series *s)
{
	return s->sheets ? &s->last : NULL;
}

const struct balance *memory_series_before(const struct memory_series *s)
{
	return s->sheets > 1 ? &s->before : NULL;
}

/* part < 0: of RSS. */
static double slope_of(const struct memory_series *s, int part)
{
	size_t ends = s->count / POINTS_PER_END;
	double dt = 0, dy = 0;

	if (s->count < 2)
		return NAN;
	ends = ends < 1 ? 1 : ends > ENDS_MAX ? ENDS_MAX : ends;
	for (size_t i = 0; i < ends; i++) {
		const struct point *first = &s->points[i], *last = &s->points[s->count - 1 - i];

		dt += last->t - first->t;
		dy += part < 0 ? last->rss - first->rss : last->part[part] - first->part[part];
	}
	return dy / dt;
}

void memory_series_report(const struct memory_series *s, struct report_memory *ret_memory)
{
	const struct balance *b = &s->last;

	*ret_memory = (struct report_memory){
		.rss_bytes = b->rss,
		.pss_bytes = b->pss,
		.growth_bytes_per_second = slope_of(s, -1),
		.explained_ratio = balance_explained(b),
		.has_parts = s->sheets > 0,
	};
	for (int i = 0; i < MEMORY_PART_COUNT; i++) {
		bool unknown = !b->has_libc && i >= MEMORY_python_large && i <= MEMORY_libc_free;

		ret_memory->part[i].bytes = unknown ? REPORT_UNKNOWN : b->part[i];
		ret_memory->part[i].growth_bytes_per_second = unknown ? NAN : slope_of(s, i);
	}
}

int memory_series_grows(const struct memory_series *s)
{
	double least, most = 0;
	int found = -1;

	if (s->count < 2)
		return -1;
	least = fmin(GROWS_BYTES, GROWS_SHARE * (double)s->last.rss) / (s->points[s->count - 1].t - s->points[0].t);
	for (int i = 0; i < MEMORY_PART_COUNT; i++) {
		double slope = slope_of(s, i);

		if (slope >= least && slope > most) {
			most = slope;
			found = i;
		}
	}
	return found;
}

bool memory_advice(const struct balance *b, pid_t pid, char *buf, size_t size)
{
	uint64_t least = (uint64_t)(ADVICE_SHARE * (double)b->rss), pinned = b->part[MEMORY_pymalloc_free];

	if (least < ADVICE_BYTES)
		least = ADVICE_BYTES;
	buf[0] = '\0';
	if (b->has_libc && b->libc.trimmable >= least)
		snprintf(buf, size, "%s free inside libc's heaps: malloc_trim(0) would return %s to the system%s",
			 fmt_size(b->libc.resident_free).s, fmt_size(b->libc.trimmable).s,
			 b->libc.arenas > ARENAS_MANY ? "; MALLOC_ARENA_MAX=2 in its environment would keep the heaps of threads few" : "");
	else if (pinned >= least && (double)pinned >= PINNED_SHARE * (double)(pinned + b->part[MEMORY_pymalloc_live]))
		snprintf(buf, size, "%s free in pymalloc's arenas, which few blocks keep: see 'leaksnoop arenas %d'", fmt_size(pinned).s,
			 (int)pid);
	return buf[0];
}
