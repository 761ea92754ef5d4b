/* SPDX-License-Identifier: MIT */
/*
 * 95 % intervals of totals that were estimated from a sample.
 *
 * A block is seen with probability 1/weight, because it was allocated within
 * a window. What is estimated is the total of a value (1 for blocks, bytes for
 * bytes) over all blocks of a group, seen or not: the sum of weight * value.
 * Blocks come in bursts, and a window sees a burst as a whole, so windows are
 * the unit of chance, not blocks: the variance between windows counts, those
 * with nothing in them included.
 *
 *   for each window: interval_window_add() for each block, interval_add() once
 *   (windows with no block need not be added); interval_estimate() at the end
 *
 * Limits: a group seen in one window only says nothing about its bursts, and
 * has an interval from a fortieth of the estimate up to 5.6 times it. Numbers
 * may be absurd: what is not a number or not positive is not counted, and a
 * result that does not fit a double is unknown (NAN).
 */
#pragma once

#include <stdint.h>

#include "diagnose/model.h"

/* One window's blocks of one group. Zero-initialised. */
struct interval_window {
	double sum; /* of weight * value: the estimate */
	double sum2; /* of (weight * value)^2: its variance if blocks came singly and N were unbounded */
	double own; /* of weight * (weight - 1) * value^2: the same for the N there are; 0 if everything was seen */
	double biggest; /* value */
	uint64_t count;
};

/* Running sums over windows. Zero-initialised. */
struct interval_sums {
	struct interval_window all;
	double windows2; /* of each window's sum, squared */
	uint64_t filled; /* windows with a block in them */
};

/* A weight under 1 is no inverse probability: it counts as 1. */
void interval_window_add(struct interval_window *window, double weight, double value);
void interval_add(struct interval_sums *sums, const struct interval_window *window);

/*
 * windows: all there were. typical: weight * value of a block of the kind, for the upper bound when none was seen (NAN:
 * unknown). systematic: what else may be wrong, relative to the estimate, at 95 % (0.05: 5 %), added in quadrature.
 */
struct report_estimate interval_estimate(const struct interval_sums *sums, uint64_t windows, double typical,
					 double systematic);
