/* SPDX-License-Identifier: MIT */
/*
 * Lines through noisy points. All functions take finite numbers, times that
 * rise strictly, and at most ROBUST_MAX points; nothing is allocated.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ROBUST_MAX 160 /* the slopes of all their pairs are sorted on the stack: 100 KiB */

struct line {
	double slope, error; /* its standard error, for residuals that hang together, too */
};

/*
 * A line with one bend at time at: slope before and after. bent: better than the straight one, beyond chance. sigma and
 * inflation: spread of the residuals, and by how much longer than independent ones they make an error.
 */
struct bend {
	bool bent;
	double at, before, after, after_error;
	double sigma, inflation;
	struct line straight;
};

/* Sorts v. 0 for none. */
double robust_median(double *v, size_t n);
/* Standard deviation of the points' noise, from the differences of neighbours: slow changes and rare jumps count for nothing. */
double robust_noise(const double *y, size_t n);
/* Theil and Sen: the median of the slopes of all pairs. 0 for fewer than two points. */
double robust_slope(const double *t, const double *y, size_t n);
/* Least squares. Fewer than three points: slope 0 with an infinite error. */
struct line robust_line(const double *t, const double *y, size_t n);
/* Needs eight points; with fewer nothing is bent and the error is infinite. */
struct bend robust_bend(const double *t, const double *y, size_t n);
