/* SPDX-License-Identifier: MIT */
#include "diagnose/interval.h"

#include <math.h>

/* The exact upper 97.5 % bound of a Poisson mean when nothing was seen: -ln(0.025). */
#define NOTHING_SEEN 3.7
#define Z95 1.96

void interval_window_add(struct interval_window *w, double weight, double value)
{
	if (!isfinite(weight) || !isfinite(value) || !(weight > 0) || !(value > 0))
		return;
	if (weight < 1)
		weight = 1;
	w->sum += weight * value;
	w->sum2 += weight * weight * value * value;
	w->own += weight * (weight - 1) * value * value;
	if (value > w->biggest)
		w->biggest = value;
	w->count++;
}

void interval_add(struct interval_sums *s, const struct interval_window *w)
{
	if (!w->count)
		return;
	s->all.sum += w->sum;
	s->all.sum2 += w->sum2;
	s->all.own += w->own;
	if (w->biggest > s->all.biggest)
		s->all.biggest = w->biggest;
	s->all.count += w->count;
	s->windows2 += w->sum * w->sum;
	s->filled++;
}

/*
 * How much wider bursts make it: the variance that windows show against the one of blocks that come singly. Under 1 it is
 * chance, or a program more regular than chance, which nothing says it will remain.
 */
static double design_effect(const struct interval_sums *s, uint64_t windows)
{
	double n = (double)(windows < s->filled ? s->filled : windows), between;

	if (n < 2)
		return s->windows2 / s->all.sum2;
	between = (s->windows2 - s->all.sum * s->all.sum / n) * n / (n - 1);
	/* Few filled windows tell their variance badly, and usually too low: the one big burst was not among them. */
	between *= 1 + 1 / (double)s->filled;
	return fmax(1, between / s->all.sum2);
}

/* Wilson and Hilferty: bounds of a Poisson mean of which n were counted; n need not be a whole number. */
static double wilson_hilferty(double n, double z)
{
	double root = 1 - 1 / (9 * n) + z / (3 * sqrt(n));

	return root > 0 ? n * root * root * root : 0;
}

static double quadrature(double a, double b)
{
	return sqrt(a * a + b * b);
}

/* Student's 97.5 % quantile (within 2 % from 3 degrees of freedom on): the variance itself is an estimate when it comes from windows. */
static double quantile(uint64_t windows)
{
	double degrees = windows > 4 ? (double)windows - 1 : 3;

	return Z95 + 2.4 / degrees + 3 / (degrees * degrees);
}

static struct report_estimate bounds(const struct interval_sums *s, uint64_t windows, double systematic)
{
	double sum = s->all.sum, low = sum, high = sum, effect = design_effect(s, windows), variance = s->all.own * effect,
	       n;
	double z = effect > 1 ? quantile(windows) : Z95;
	struct report_estimate e = { sum, NAN, NAN };

	if (variance > 0) {
		n = sum * sum / variance;
		low = wilson_hilferty(n, -z) * (sum / n);
		high = wilson_hilferty(n + 1, z) * (sum / n);
	}
	/* Whether the block at each end of the time was in it or not. */
	low -= s->all.biggest;
	high += s->all.biggest;
	e.low = fmax(0, sum - quadrature(sum - low, systematic * sum));
	e.high = sum + quadrature(high - sum, systematic * sum);
	return e;
}

struct report_estimate interval_estimate(const struct interval_sums *s, uint64_t windows, double typical, double systematic)
{
	const struct report_estimate unknown = { NAN, NAN, NAN };
	struct report_estimate e = { 0, 0, NOTHING_SEEN * typical };

	if (!s->all.count)
		return isfinite(e.high) && e.high >= 0 ? e : unknown;
	if (!isfinite(systematic) || systematic < 0)
		systematic = 0;
	e = bounds(s, windows, systematic);
	return isfinite(e.estimate) && isfinite(e.low) && isfinite(e.high) ? e : unknown;
}
