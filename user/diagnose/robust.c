/* SPDX-License-Identifier: MIT */
#include "diagnose/robust.h"

#include <math.h>
#include <stdlib.h>

/* A share of 1e-4 of straight series is called bent, bends being tried at every point. */
#define BENT_F 12.0
/* ... and only if it changes the slope by this share: without noise, rounding is beyond chance. */
#define BENT_LEAST 0.1
/* The bend has this many points on either side at least, so that it is no outlier at an end. */
#define BEND_MARGIN 3
#define CORRELATION_MAX 0.95
/* Residuals of a smooth curve hang together as those of a wandering series do. For the question whether there is a bend at all, the
 * doubt that comes of it is bounded, or no smooth curve would ever be bent. */
#define BENT_INFLATION_MAX 2.0
#define MAD_SIGMA 1.4826 /* of a normal distribution */

static int compare(const void *pa, const void *pb)
{
	double a = *(const double *)pa, b = *(const double *)pb;

	return (a > b) - (a < b);
}

double robust_median(double *v, size_t n)
{
	if (!n)
		return 0;
	qsort(v, n, sizeof(*v), compare);
	return n % 2 ? v[n / 2] : v[n / 2 - 1] / 2 + v[n / 2] / 2;
}

double robust_noise(const double *y, size_t n)
{
	double d[ROBUST_MAX], median;

	if (n < 3)
		return 0;
	for (size_t i = 1; i < n; i++)
		d[i - 1] = y[i] - y[i - 1];
	median = robust_median(d, n - 1);
	for (size_t i = 0; i < n - 1; i++)
		d[i] = fabs(d[i] - median);
	return MAD_SIGMA * robust_median(d, n - 1) / M_SQRT2;
}

double robust_slope(const double *t, const double *y, size_t n)
{
	double slopes[ROBUST_MAX * (ROBUST_MAX - 1) / 2];
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t k = i + 1; k < n; k++)
			slopes[count++] = (y[k] - y[i]) / (t[k] - t[i]);
	return robust_median(slopes, count);
}

/* Sums over points, about their mean. */
struct moments {
	double n, t, y, tt, ty, yy;
};

static struct moments moments_of(const double *t, const double *y, size_t n)
{
	struct moments m = { .n = (double)n };

	for (size_t i = 0; i < n; i++) {
		m.t += t[i] / m.n;
		m.y += y[i] / m.n;
	}
	for (size_t i = 0; i < n; i++) {
		m.tt += (t[i] - m.t) * (t[i] - m.t);
		m.ty += (t[i] - m.t) * (y[i] - m.y);
		m.yy += (y[i] - m.y) * (y[i] - m.y);
	}
	return m;
}

struct line robust_line(const double *t, const double *y, size_t n)
{
	struct line line = { 0, INFINITY };
	struct moments m;

	if (n < 3)
		return line;
	m = moments_of(t, y, n);
	line.slope = m.ty / m.tt;
	line.error = sqrt(fmax(0, m.yy - line.slope * m.ty) / ((m.n - 2) * m.tt));
	return line;
}

/* y = level + before * t + change * max(t - at, 0): what is left of y, and the fit. */
struct hinge {
	double level, before, change, rss, change_error2; /* the latter: for residuals of variance 1, of before + change */
};

static struct hinge hinge_fit(const double *t, const double *y, size_t n, double at)
{
	double h[ROBUST_MAX], hh = 0, ht = 0, hy = 0, hmean = 0, det;
	struct moments m = moments_of(t, y, n);
	struct hinge fit = { 0 };

	for (size_t i = 0; i < n; i++) {
		h[i] = fmax(0, t[i] - at);
		hmean += h[i] / m.n;
	}
	for (size_t i = 0; i < n; i++) {
		hh += (h[i] - hmean) * (h[i] - hmean);
		ht += (h[i] - hmean) * (t[i] - m.t);
		hy += (h[i] - hmean) * (y[i] - m.y);
	}
	det = m.tt * hh - ht * ht;
	fit.rss = INFINITY;
	if (!(det > 1e-12 * m.tt * hh))
		return fit;
	fit.before = (m.ty * hh - hy * ht) / det;
	fit.change = (hy * m.tt - m.ty * ht) / det;
	fit.level = m.y - fit.before * m.t - fit.change * hmean;
	fit.rss = fmax(0, m.yy - fit.before * m.ty - fit.change * hy);
	fit.change_error2 = (hh + m.tt - 2 * ht) / det;
	return fit;
}

/* How much residuals hang together: those that wander make every error longer than their number says. */
static double inflation_of(const double *t, const double *y, size_t n, const struct hinge *fit, double at)
{
	double last = 0, product = 0, square = 0, r;

	for (size_t i = 0; i < n; i++) {
		double left = y[i] - fit->level - fit->before * t[i] - fit->change * fmax(0, t[i] - at);

		product += i ? left * last : 0;
		square += left * left;
		last = left;
	}
	r = square > 0 ? fmin(CORRELATION_MAX, fmax(0, product / square)) : 0;
	return sqrt((1 + r) / (1 - r));
}

struct bend robust_bend(const double *t, const double *y, size_t n)
{
	struct bend b = { .straight = robust_line(t, y, n), .after_error = INFINITY, .inflation = 1 };
	struct hinge best = { .rss = INFINITY };
	struct moments m;
	double rss, doubt, f;

	if (n < 8) {
		b.straight.error = INFINITY;
		return b;
	}
	m = moments_of(t, y, n);
	rss = fmax(0, m.yy - b.straight.slope * m.ty);
	for (size_t i = BEND_MARGIN; i + BEND_MARGIN < n; i++) {
		struct hinge fit = hinge_fit(t, y, n, t[i]);

		if (fit.rss < best.rss) {
			best = fit;
			b.at = t[i];
		}
	}
	if (!isfinite(best.rss))
		return b;
	/* What remains when all fits is rounding. */
	best.rss = fmax(best.rss, 1e-20 * m.yy);
	b.inflation = inflation_of(t, y, n, &best, b.at);
	b.sigma = sqrt(best.rss / (m.n - 4));
	doubt = b.sigma * fmin(b.inflation, BENT_INFLATION_MAX);
	f = (rss - best.rss) / 2 / (doubt * doubt);
	b.before = best.before;
	b.after = best.before + best.change;
	b.bent = f > BENT_F && fabs(best.change) > BENT_LEAST * fmax(fabs(b.before), fabs(b.after));
	b.after_error = b.sigma * b.inflation * sqrt(best.change_error2);
	/* The straight line's residuals count fully if nothing is bent, or a smooth curve would look certain of its slope. */
	b.straight.error = (b.bent ? b.sigma / sqrt(m.tt) : b.straight.error) * b.inflation;
	return b;
}
