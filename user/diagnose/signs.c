/* SPDX-License-Identifier: MIT */
#include "diagnose/signs.h"

#include <math.h>

/* More than any address space or counter of blocks. */
#define NUMBER_MAX 1e18

typedef double (*value_fn)(const struct evidence_point *p);

/* NAN is contagious: what is computed of something unknown is unknown. */
static double known(double v)
{
	return v >= 0 && v <= NUMBER_MAX ? v : NAN;
}

static double small_and_large(const struct evidence_point *p)
{
	return known(p->live_bytes) + known(p->large_bytes);
}

static double small(const struct evidence_point *p)
{
	return known(p->live_bytes);
}

static double blocks(const struct evidence_point *p)
{
	return known(p->live_blocks);
}

static double raw(const struct evidence_point *p)
{
	return known(p->raw_blocks);
}

static double arenas(const struct evidence_point *p)
{
	return known(p->arena_bytes);
}

static double free_space(const struct evidence_point *p)
{
	return known(p->arena_bytes) - known(p->live_bytes);
}

static double rss(const struct evidence_point *p)
{
	return known(p->rss);
}

static double hwm(const struct evidence_point *p)
{
	return known(p->hwm_bytes);
}

/* Without the anonymous part, all of RSS: files are mapped, not allocated, and seldom grow. */
static double anonymous(const struct evidence_point *p)
{
	return isnan(known(p->anon_bytes)) ? known(p->rss) : p->anon_bytes;
}

/* Large blocks of which nothing is known count as native; raw_blocks tells if they grow. */
static double large(const struct evidence_point *p)
{
	return isnan(known(p->large_bytes)) ? 0 : p->large_bytes;
}

static double beside_arenas(const struct evidence_point *p)
{
	return anonymous(p) - large(p) - known(p->arena_bytes);
}

static double beside_live(const struct evidence_point *p)
{
	return anonymous(p) - large(p) - known(p->live_bytes);
}

static double libc_free(const struct evidence_point *p)
{
	return known(p->libc_free);
}

static double trimmable(const struct evidence_point *p)
{
	return known(p->trimmable);
}

static double middle(double a, double b, double c)
{
	return fmax(fmin(a, b), fmin(fmax(a, b), c));
}

static struct sign sign_of(const struct evidence_point *points, size_t n, value_fn value)
{
	struct sign s = { .first = NAN, .last = NAN, .most = NAN, .most_t = NAN, .min = NAN };
	struct trend_point series[TREND_MAX_POINTS] = { 0 };
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		double v = value(&points[i]);

		if (isfinite(v) && isfinite(points[i].t))
			series[count++] = (struct trend_point){ points[i].t, v };
	}
	s.trend = trend_of(series, count);
	for (size_t i = 2; i < count; i++) {
		double v = middle(series[i - 2].value, series[i - 1].value, series[i].value);

		if (i == 2)
			s.first = v;
		s.last = v;
		s.min = fmin(s.min, v);
		/* fmin and fmax pass over NAN. */
		if (!(v <= s.most)) {
			s.most = v;
			s.most_t = series[i - 1].t;
		}
	}
	return s;
}

void signs_of(const struct evidence *e, struct signs *s)
{
	const struct evidence_point *p = e->points;
	size_t n = e->n_points;

	if (n > TREND_MAX_POINTS) {
		p += n - TREND_MAX_POINTS;
		n = TREND_MAX_POINTS;
	}
	s->end = n ? p[n - 1].t : NAN;
	s->python = sign_of(p, n, small_and_large);
	s->large_known = s->python.trend.kind != TREND_UNKNOWN;
	if (!s->large_known)
		s->python = sign_of(p, n, small);
	s->blocks = sign_of(p, n, blocks);
	s->raw = sign_of(p, n, raw);
	s->arena = sign_of(p, n, arenas);
	s->free = sign_of(p, n, free_space);
	s->rss = sign_of(p, n, rss);
	s->hwm = sign_of(p, n, hwm);
	s->beside_arenas = sign_of(p, n, beside_arenas);
	s->beside_live = sign_of(p, n, beside_live);
	s->libc_free = sign_of(p, n, libc_free);
	s->trimmable = sign_of(p, n, trimmable);
}
