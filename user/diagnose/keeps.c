/* SPDX-License-Identifier: MIT */
/* See keeps.h. Invariant: t rises within a tier; a point is in tier k + 1 once FOLD points of tier k are. */
#include "diagnose/keeps.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "diagnose/robust.h"
#include "diagnose/trend.h"

#define FOLD 8
#define WINDOW 40
#define SHORT_WINDOW 20
#define PARTS 5
#define LEAST_SECONDS 40.0
#define RISES 3               /* of PARTS - 1 steps, that must be real ones */
#define STEP_SHARE 0.05       /* of the whole rise */
#define RECORD_SHARE 0.3      /* of the rise that must be above the old mark */
#define STILL_SHARE 0.15      /* of the pace before: slower is levelled off */
#define UNSURE 0.5
#define OLD_MARK 0.1          /* what is left of a suspicion below a mark of long ago: a load that comes and goes by the day */

/* A sudden leak: so many readings, each higher than the one before by much the same. */
#define QUICK_POINTS 5
#define QUICK_SECONDS 16.0    /* since the start, at least */
#define QUICK_BYTES (2.0 * 1024 * 1024)
#define QUICK_EVEN 0.4
#define QUICK_NOISE 6.0       /* standard deviations of the readings before */
#define QUICK_BEFORE 20

#define GROWTH_SECONDS 120.0

/* Smaller rises are chance: pools are 4 or 16 KiB, the kernel's counters may be 64 pages late for each processor. */
static const double least_rise[KEEPS_SERIES] = {
	[KEEPS_POOLS] = 96 * 1024,
	[KEEPS_OWN] = 768 * 1024,
	[KEEPS_LARGE] = 64 * 1024,
	[KEEPS_LIVE] = 64 * 1024,
};

struct window {
	double t[WINDOW], y[WINDOW];
	size_t n;
};

/* The last points of which the series is known, those of the start left out. */
static void take_window(const struct keeps_tier *tier, enum keeps_series s, size_t points, struct window *w)
{
	size_t first = tier->count;

	w->n = 0;
	while (first > 0 && w->n < points && (double)tier->point[first - 1].t >= KEEPS_START_SECONDS)
		w->n += isfinite(tier->point[--first].low[s]);
	w->n = 0;
	for (size_t i = first; i < tier->count; i++) {
		if (!isfinite(tier->point[i].low[s]))
			continue;
		w->t[w->n] = (double)tier->point[i].t;
		w->y[w->n++] = (double)tier->point[i].low[s];
	}
}

static void take_parts(const struct window *w, double minima[PARTS])
{
	for (size_t p = 0; p < PARTS; p++) {
		minima[p] = INFINITY;
		for (size_t i = p * w->n / PARTS; i < (p + 1) * w->n / PARTS; i++)
			minima[p] = fmin(minima[p], w->y[i]);
	}
}

/* Where the series has been before t, as a tier remembers it; -INFINITY: it does not. */
static double mark_of(const struct keeps_tier *k, enum keeps_series s, double t)
{
	double mark = -INFINITY;

	for (size_t i = 0; i < k->count && (double)k->point[i].t < t; i++)
		if ((double)k->point[i].t >= KEEPS_START_SECONDS && (double)k->point[i].low[s] > mark)
			mark = (double)k->point[i].low[s];
	return mark;
}

/* In points of the width of a window's part. */
static double mark_before(const struct keeps *keeps, size_t tier, enum keeps_series s, double t)
{
	return mark_of(&keeps->tier[tier + 1 < KEEPS_TIERS ? tier + 1 : tier], s, t);
}

/* The same of all that is remembered. */
static double mark_ever(const struct keeps *keeps, size_t tier, enum keeps_series s, double t)
{
	double mark = -INFINITY;

	for (size_t k = tier + 1; k < KEEPS_TIERS; k++)
		mark = fmax(mark, mark_of(&keeps->tier[k], s, t));
	return mark;
}

/* By how much its lowest points rise from part to part, and above the old mark; 0: they do not. */
static double rise_of(const double minima[PARTS], double mark, double least)
{
	double rise = minima[PARTS - 1] - minima[0], kept = minima[PARTS - 1] - fmax(mark, minima[0]);
	int rises = 0;

	for (int i = 1; i < PARTS; i++) {
		double step = minima[i] - minima[i - 1];

		if (step < -STEP_SHARE * rise)
			return 0;
		rises += step > STEP_SHARE * rise;
	}
	return rise >= least && kept >= least && kept >= RECORD_SHARE * rise && rises >= RISES ? kept : 0;
}

static double judged_rate(const struct window *w, double unsure)
{
	struct trend_point points[WINDOW];
	struct trend trend;
	double pace;

	for (size_t i = 0; i < w->n; i++)
		points[i] = (struct trend_point){ w->t[i], w->y[i] };
	trend = trend_of(points, w->n);
	pace = fmax(trend.early_slope, trend.slope);
	if (!(trend.late_slope > STILL_SHARE * pace))
		return 0;
	switch (trend.kind) {
	case TREND_RISING:
		return fmax(0, trend.slope);
	case TREND_LEVELLING:
	case TREND_STEPPED:
	case TREND_UNKNOWN:
		return unsure * fmax(0, fmin(trend.slope, trend.late_slope));
	default:
		return 0;
	}
}

static double steady_rate(const struct keeps *keeps, size_t tier, enum keeps_series s, size_t points)
{
	double minima[PARTS];
	struct window w;

	take_window(&keeps->tier[tier], s, points, &w);
	if (w.n < TREND_MIN_POINTS || w.t[w.n - 1] - w.t[0] < LEAST_SECONDS)
		return 0;
	take_parts(&w, minima);
	if (!(rise_of(minima, mark_before(keeps, tier, s, w.t[0]), least_rise[s]) > 0))
		return 0;
	/* live bytes are a few samples of whatever garbage there was, and what few points do not say for sure more of them will */
	return judged_rate(&w, s == KEEPS_LIVE || points < WINDOW ? 0 : UNSURE) * (minima[PARTS - 1] > mark_ever(keeps, tier, s, w.t[0]) ? 1 : OLD_MARK);
}

/* How the readings before the last few jump about. */
static double noise_before(const struct keeps_tier *k, enum keeps_series s)
{
	size_t end = k->count - QUICK_POINTS + 1, first = end > QUICK_BEFORE ? end - QUICK_BEFORE : 0, n = 0;
	double y[QUICK_BEFORE];

	for (size_t i = first; i < end; i++)
		if (isfinite(k->point[i].low[s]))
			y[n++] = (double)k->point[i].low[s];
	return robust_noise(y, n);
}

static double quick_rate(const struct keeps *keeps, enum keeps_series s)
{
	const struct keeps_tier *k = &keeps->tier[0];
	const struct keeps_point *p = k->point + k->count - QUICK_POINTS;
	double least = INFINITY, most = 0, mark, rise;

	if (k->count < QUICK_POINTS || (double)p[QUICK_POINTS - 1].t < QUICK_SECONDS)
		return 0;
	for (size_t i = 1; i < QUICK_POINTS; i++) {
		double pace = ((double)p[i].low[s] - (double)p[i - 1].low[s]) / (double)(p[i].t - p[i - 1].t);

		if (!isfinite(pace))
			return 0;
		least = fmin(least, pace);
		most = fmax(most, pace);
	}
	mark = fmax(mark_of(k, s, (double)p[0].t), mark_before(keeps, 0, s, (double)p[0].t));
	rise = (double)p[QUICK_POINTS - 1].low[s] - fmax((double)p[0].low[s], mark);
	if (least < QUICK_EVEN * most || rise < QUICK_BYTES || rise < QUICK_NOISE * noise_before(k, s))
		return 0;
	return rise / (double)(p[QUICK_POINTS - 1].t - p[0].t);
}

static void judge(struct keeps *keeps, size_t tier)
{
	for (size_t s = 0; s < KEEPS_SERIES; s++) {
		double rate = steady_rate(keeps, tier, s, WINDOW);

		if (tier == 0 && !(rate > 0))
			rate = steady_rate(keeps, tier, s, SHORT_WINDOW);
		if (tier == 0 && s != KEEPS_LARGE && !(rate > 0))
			rate = quick_rate(keeps, s);
		keeps->tier[tier].rate[s] = (float)rate;
	}
}

/* Returns whether the fold is full: a point for the next tier. */
static bool tier_add(struct keeps_tier *k, const struct keeps_point *point)
{
	if (k->count == KEEPS_POINTS)
		memmove(k->point, k->point + 1, --k->count * sizeof(k->point[0]));
	k->point[k->count++] = *point;
	if (k->folded == 0)
		k->fold = *point;
	k->fold.t = point->t;
	for (size_t s = 0; s < KEEPS_SERIES; s++)
		k->fold.low[s] = fminf(k->fold.low[s], point->low[s]);   /* passes over NAN */
	k->folded = (k->folded + 1) % FOLD;
	return k->folded == 0;
}

void keeps_add(struct keeps *keeps, double t, const double values[KEEPS_SERIES])
{
	struct keeps_point point = { .t = (float)t };

	for (size_t s = 0; s < KEEPS_SERIES; s++)
		point.low[s] = (float)values[s];
	for (size_t k = 0; k < KEEPS_TIERS; k++) {
		bool full = tier_add(&keeps->tier[k], &point);

		judge(keeps, k);
		if (!full)
			break;
		point = keeps->tier[k].fold;
	}
}

double keeps_suspicion(const struct keeps *keeps)
{
	double most = 0;

	for (size_t k = 0; k < KEEPS_TIERS; k++)
		for (size_t s = 0; s < KEEPS_SERIES; s++)
			most = fmax(most, (double)keeps->tier[k].rate[s]);
	return most;
}

/* Of the whole window, and of its later half if that is less. */
static double window_growth(const struct keeps_tier *k, enum keeps_series s)
{
	double minima[PARTS], seconds;
	struct window w;

	take_window(k, s, WINDOW, &w);
	if (w.n < TREND_MIN_POINTS || w.t[w.n - 1] - w.t[0] < GROWTH_SECONDS)
		return NAN;
	take_parts(&w, minima);
	seconds = (w.t[w.n - 1] - w.t[0]) / PARTS;
	return fmin((minima[PARTS - 1] - minima[0]) / (PARTS - 1), (minima[PARTS - 1] - minima[PARTS - 3]) / 2) / seconds;
}

static double tier_growth(const struct keeps_tier *k)
{
	return fmax(window_growth(k, KEEPS_OWN), window_growth(k, KEEPS_POOLS));
}

double keeps_growth(const struct keeps *keeps)
{
	const struct keeps_tier *fine = &keeps->tier[0];
	double growth = tier_growth(&keeps->tier[1]);

	/* what began a moment ago shows in the fine tier only; what is no more than garbage shows there, too, and is not believed */
	if (!isfinite(growth) || fine->rate[KEEPS_OWN] > 0 || fine->rate[KEEPS_POOLS] > 0)
		growth = fmax(growth, tier_growth(fine));
	return growth;
}

double keeps_record(const struct keeps *keeps)
{
	const struct keeps_tier *k = &keeps->tier[0];
	double record = 0;

	for (size_t s = 0; k->count > 1 && s < KEEPS_SERIES; s++) {
		double mark = mark_before(keeps, 0, s, INFINITY);

		for (size_t i = 0; i + 1 < k->count; i++)
			mark = fmax(mark, (double)k->point[i].low[s]);
		record = fmax(record, (double)k->point[k->count - 1].low[s] - mark);
	}
	return record;
}
