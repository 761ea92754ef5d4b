/* SPDX-License-Identifier: MIT */
/*
 * What a series of measurements does: rise, level off, step, saw, fall, or
 * none of it. Points need not be equally spaced and may hold outliers. Order of
 * judgement, each on what the one before left:
 *
 *   1. single points far off both their neighbours are mended
 *   2. swings beyond the noise: several times up and down is a sawtooth, and only its lower envelope (the troughs) counts;
 *      once up and down is a peak
 *   3. up to three jumps are taken out; what is flat without them is stepped
 *   4. lines with a bend, again and again from the bend on as long as it lies in the first half: the last of them tells
 *
 * Limits. More than TREND_MAX_POINTS: the last ones count. Under a sawtooth a leak shows only if the troughs rise, over the
 * time seen, by more than what the value climbs between two points, since a trough may be missed by that much. What rises
 * to the end is rising, even if it will level off later: only more time can tell.
 */
#pragma once

#include <stddef.h>

#define TREND_MAX_POINTS 4096
#define TREND_MIN_POINTS 10
#define TREND_MIN_SECONDS 8.0

#define TREND_KINDS(X)                                                                                                    \
	X(FLAT, "flat")                                                                                                   \
	X(RISING, "rising") X(LEVELLING, "levelling") X(STEPPED, "stepped") X(SAWTOOTH, "sawtooth") X(FALLING, "falling") \
		X(UNKNOWN, "unknown")
enum trend_kind {
#define X(id, name) TREND_##id,
	TREND_KINDS(X)
#undef X
};

struct trend_point {
	double t, value; /* seconds; not finite: left out */
};

struct trend {
	enum trend_kind kind;
	double confidence; /* 0..1 */
	double slope, slope_low,
		slope_high; /* per second, over the later two thirds, 95 %; of a sawtooth: of its lower envelope */
	double early_slope, late_slope; /* of the first and the last third */
	double total_change;
	double seconds; /* between the first and the last point used */
};

const char *trend_name(enum trend_kind kind);

/* Unknown figures are NAN. Times need not be sorted; of points of one time the first counts. */
struct trend trend_of(const struct trend_point *points, size_t n);
