/* SPDX-License-Identifier: MIT */
#include "diagnose/history.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/map64.h"
#include "heap/cells.h"
#include "interp/obmalloc.h"
#include "target/proc.h"

#define SECOND_NS 1000000000ull
/* A reading of t seconds is made every 100 t at most: 1 % of a core for each of the two kinds. */
#define COST_SHARE 100
#define CENSUS_NS (2 * SECOND_NS)
#define CENSUS_BYTES (96u << 20)
#define CENSUSES_MAX 48
#define CENSUSES_LEAST 4u

struct census {
	double t;
	struct cells *cells;
};

struct history {
	const struct python *python;
	struct types *types;
	uint64_t start_ns, next_ns, census_ns;
	struct evidence_point *points;
	size_t n_points, cap_points;
	struct census censuses[CENSUSES_MAX];
	size_t n_censuses;
	uint32_t shift;          /* of the first census: the later ones look at the same pools */
	bool no_pymalloc;
	double large_bytes;
	double arena_free, libc_free, trimmable;   /* of a sheet since the last reading; NAN */
};

int history_new(const struct python *python, struct types *types, uint64_t start_ns, struct history **ret_history)
{
	struct history *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->python = python;
	h->types = types;
	h->large_bytes = h->arena_free = h->libc_free = h->trimmable = NAN;
	h->start_ns = h->next_ns = h->census_ns = start_ns;
	*ret_history = h;
	return 0;
}

void history_free(struct history *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->n_censuses; i++)
		cells_free(h->censuses[i].cells);
	free(h->points);
	free(h);
}

void history_note_large(struct history *h, double bytes)
{
	h->large_bytes = bytes;
}

void history_note_balance(struct history *h, const struct balance *balance)
{
	h->arena_free = (double)balance->part[MEMORY_pymalloc_free];
	h->libc_free = balance->has_libc ? (double)balance->part[MEMORY_libc_free] : NAN;
	h->trimmable = balance->has_libc ? (double)balance->libc.trimmable : NAN;
}

static double seconds_of(const struct history *h, uint64_t now_ns)
{
	return now_ns > h->start_ns ? (double)(now_ns - h->start_ns) / 1e9 : 0;
}

/* A process that is watched for weeks: every other point goes, so that the past is told in coarser steps. */
static void thin_points(struct history *h)
{
	size_t n = 0;

	for (size_t i = 0; i < h->n_points; i += 2)
		h->points[n++] = h->points[i];
	h->n_points = n;
}

static struct evidence_point *point_new(struct history *h)
{
	if (h->n_points == TREND_MAX_POINTS)
		thin_points(h);
	if (h->n_points == h->cap_points) {
		size_t cap = h->cap_points ? h->cap_points * 2 : 128;
		void *points = reallocarray(h->points, cap, sizeof(*h->points));

		if (!points)
			return NULL;
		h->points = points;
		h->cap_points = cap;
	}
	return &h->points[h->n_points];
}

static int read_point(struct history *h, uint64_t now_ns)
{
	struct evidence_point *p = point_new(h);
	struct obmalloc_totals totals;
	struct proc_counters memory;
	int r;

	if (!p)
		return -ENOMEM;
	r = proc_counters_read(python_pid(h->python), &memory);
	if (r)
		return r;
	*p = (struct evidence_point){
		.t = seconds_of(h, now_ns),
		.rss = (double)memory.rss_bytes,
		.anon_bytes = (double)memory.anon_bytes,
		.hwm_bytes = (double)memory.highwater_bytes,
		.live_bytes = NAN,
		.live_blocks = NAN,
		.large_bytes = h->large_bytes,
		.raw_blocks = NAN,
		.arena_bytes = NAN,
		.arena_free = h->arena_free,
		.libc_free = h->libc_free,
		.trimmable = h->trimmable,
	};
	h->arena_free = h->libc_free = h->trimmable = NAN;
	r = obmalloc_totals(h->python, &totals, NULL);
	if (r == -ESRCH)
		return r;
	if (!r) {
		p->live_bytes = (double)totals.live_bytes;
		p->live_blocks = (double)totals.live_blocks;
		p->raw_blocks = (double)totals.raw_blocks;
		p->arena_bytes = (double)totals.arena_bytes;
	}
	h->n_points++;
	return 0;
}

static int read_census(struct history *h, uint64_t now_ns)
{
	struct cells_options options = { .max_bytes = CENSUS_BYTES, .shift = h->shift };
	struct cells *cells;
	int r = cells_read(h->python, h->types, &options, &cells, NULL);

	if (r == -ENOENT)
		h->no_pymalloc = true;
	if (r)
		return r == -ESRCH || r == -ENOMEM ? r : 0;
	h->shift = cells_info(cells)->shift;
	if (h->n_censuses == CENSUSES_MAX) {
		/* The first stays: since the attach. Of the others every other goes. */
		size_t n = 1;

		for (size_t i = 1; i < CENSUSES_MAX; i++) {
			if (i % 2)
				cells_free(h->censuses[i].cells);
			else
				h->censuses[n++] = h->censuses[i];
		}
		h->n_censuses = n;
	}
	h->censuses[h->n_censuses++] = (struct census){ seconds_of(h, now_ns), cells };
	return 0;
}

/* Computed by this thread so far: on a busy machine a reading takes longer, but costs no more. */
static uint64_t computed_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

/* Until the next reading, after one that began when computed_ns() was began_ns. */
static uint64_t pause_after(uint64_t began_ns, uint64_t least_ns)
{
	uint64_t took_ns = computed_ns() - began_ns;

	return took_ns * COST_SHARE > least_ns ? took_ns * COST_SHARE : least_ns;
}

int history_read(struct history *h, uint64_t now_ns)
{
	uint64_t began_ns = computed_ns();
	int r = 0;

	if (now_ns >= h->next_ns) {
		r = read_point(h, now_ns);
		h->next_ns = now_ns + pause_after(began_ns, SECOND_NS);
	}
	if (!r && !h->no_pymalloc && now_ns >= h->census_ns) {
		began_ns = computed_ns();
		r = read_census(h, now_ns);
		h->census_ns = now_ns + pause_after(began_ns, CENSUS_NS);
	}
	return r;
}

uint64_t history_next_ns(const struct history *h)
{
	return h->no_pymalloc || h->next_ns < h->census_ns ? h->next_ns : h->census_ns;
}

const struct evidence_point *history_points(const struct history *h, size_t *ret_count)
{
	*ret_count = h->n_points;
	return h->points;
}

/* (class, type) -> index of the cell. */
static uint64_t cell_key(uint32_t size_class, uint32_t type)
{
	return (uint64_t)size_class << 32 | type;
}

static int cells_collect(const struct history *h, size_t first, struct map64 *index)
{
	for (size_t i = first; i < h->n_censuses; i++) {
		uint32_t size_class, type;
		uint64_t cursor = 0;
		struct cell cell;

		while (cells_next(h->censuses[i].cells, &cursor, &size_class, &type, &cell)) {
			bool fresh;
			size_t *at = map64_put(index, cell_key(size_class, type), &fresh);

			if (!at)
				return -ENOMEM;
			if (fresh)
				*at = map64_count(index) - 1;
		}
	}
	return 0;
}

static struct line line_of(const double *t, const double *y, size_t n)
{
	if (n < 3)
		return (struct line){ NAN, INFINITY };
	return robust_line(t, y, n);
}

static void cell_fill(const struct history *h, size_t first, uint64_t key, struct history_cell *ret)
{
	double t[CENSUSES_MAX], y[CENSUSES_MAX];
	size_t n = 0;

	*ret = (struct history_cell){ .size_class = (uint32_t)(key >> 32), .type = (uint32_t)key };
	for (size_t i = first; i < h->n_censuses; i++) {
		const struct census *c = &h->censuses[i];

		t[n] = c->t;
		y[n++] = (double)cells_get(c->cells, ret->size_class, ret->type).live * (double)cells_info(c->cells)->factor;
	}
	ret->live = n ? y[n - 1] : 0;
	ret->growth = line_of(t, y, n);
}

int history_cells(const struct history *h, double since_s, struct history_cell **ret_cells, size_t *ret_count)
{
	_cleanup_(map64_freep) struct map64 *index = NULL;
	struct history_cell *cells;
	size_t first = 0, cursor = 0;
	const size_t *at;
	uint64_t key;
	int r;

	*ret_cells = NULL;
	*ret_count = 0;
	while (first < h->n_censuses && h->censuses[first].t < since_s)
		first++;
	/* A heap that takes long to count has few of them: rather a little earlier than nothing. */
	if (h->n_censuses - first < CENSUSES_LEAST)
		first = h->n_censuses > CENSUSES_LEAST ? h->n_censuses - CENSUSES_LEAST : 0;
	if (h->n_censuses - first < 3)
		return 0;
	r = map64_new(sizeof(size_t), &index);
	if (!r)
		r = cells_collect(h, first, index);
	if (r)
		return r;
	cells = calloc(map64_count(index) + 1, sizeof(*cells));
	if (!cells)
		return -ENOMEM;
	while ((at = map64_next(index, &cursor, &key)))
		cell_fill(h, first, key, &cells[*at]);
	*ret_cells = cells;
	*ret_count = map64_count(index);
	return 0;
}

/* At most ROBUST_MAX of the points since then, evenly. */
static struct line growth_of(const struct history *h, double since_s, double (*value)(const struct evidence_point *))
{
	double t[ROBUST_MAX], y[ROBUST_MAX];
	size_t first = 0, n = 0, step;

	while (first < h->n_points && h->points[first].t < since_s)
		first++;
	step = (h->n_points - first) / ROBUST_MAX + 1;
	for (size_t i = first; i < h->n_points; i += step) {
		if (!isfinite(value(&h->points[i])))
			continue;
		t[n] = h->points[i].t;
		y[n++] = value(&h->points[i]);
	}
	return line_of(t, y, n);
}

static double raw_blocks(const struct evidence_point *p)
{
	return p->raw_blocks;
}

static double small_blocks(const struct evidence_point *p)
{
	return p->live_blocks;
}

struct line history_raw_growth(const struct history *h, double since_s)
{
	return growth_of(h, since_s, raw_blocks);
}

struct line history_small_growth(const struct history *h, double since_s)
{
	return growth_of(h, since_s, small_blocks);
}
