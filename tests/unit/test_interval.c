/* SPDX-License-Identifier: MIT */
/* Intervals hold the truth as often as they say, by simulation with a fixed seed; and absurd input gives no absurd output. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "diagnose/interval.h"
#include "random.h"

#define SECONDS 60
#define ROUNDS 1000

/* A program's allocations in a minute, and a window at a random place in each second that sees a fraction of it. */
struct world {
	double fraction, expected; /* samples */
	int burst; /* blocks, 1 to this many at once; 1: they come singly */
	int seconds;
	double starts[SECONDS];
	struct interval_window windows[SECONDS];
	uint64_t total;
};

static void burst(struct world *w, uint64_t *rng)
{
	double t = random_uniform(rng) * w->seconds;
	int blocks = 1 + (int)(random_uniform(rng) * w->burst);

	int last = (int)t < w->seconds ? (int)t : w->seconds - 1;
	double open = last + w->starts[last];

	w->total += (uint64_t)blocks;
	/* Far from this second's window and not about to run into the next one's: unseen. */
	if (w->fraction < 1 && (t + 1e-3 < open || t > open + w->fraction) && t + 1e-3 < last + 1)
		return;
	/* A burst takes a millisecond, so that a window's end may cut it. */
	for (int i = 0; i < blocks; i++) {
		double at = t + 1e-3 * i / blocks;
		int second = (int)at < w->seconds ? (int)at : w->seconds - 1;
		double start = second + w->starts[second];

		if (w->fraction >= 1 || (at >= start && at < start + w->fraction))
			interval_window_add(&w->windows[second], 1 / w->fraction, 1);
	}
}

static struct report_estimate simulate(struct world *w, uint64_t *rng)
{
	double bursts = w->expected / w->fraction / ((1 + w->burst) / 2.0);
	struct interval_sums sums = { 0 };

	w->total = 0;
	for (int i = 0; i < w->seconds; i++) {
		w->windows[i] = (struct interval_window){ 0 };
		w->starts[i] = random_uniform(rng) * (1 - w->fraction);
	}
	for (uint64_t i = random_poisson(rng, bursts); i > 0; i--)
		burst(w, rng);
	for (int i = 0; i < w->seconds; i++)
		interval_add(&sums, &w->windows[i]);
	return interval_estimate(&sums, (uint64_t)w->seconds, 1 / w->fraction, 0);
}

/*
 * A group of which nothing was seen is in no report; whether its blocks come in bursts cannot be known. So bursts are judged
 * where something was seen, single blocks always.
 */
static void coverage(double fraction, double expected, int burst_blocks, int seconds)
{
	struct world w = { .fraction = fraction, .expected = expected, .burst = burst_blocks, .seconds = seconds };
	int rounds = 0, inside = 0, big = expected / fraction > 40000 ? 400 : ROUNDS;
	double width = 0, bias = 0;
	uint64_t rng = 4711;

	for (int i = 0; rounds < big && i < 100 * big; i++) {
		struct report_estimate e = simulate(&w, &rng);

		if (burst_blocks > 1 && e.estimate == 0)
			continue;
		rounds++;
		inside += e.low <= (double)w.total && (double)w.total <= e.high;
		width += (e.high - e.low) / (double)w.total;
		bias += e.estimate / (double)w.total - 1;
		assert_true(e.low <= e.estimate && e.estimate <= e.high);
	}
	print_message("%2d windows, f %.2f expected %4.0f bursts to %2d: inside %.1f %%, width %.2f, bias %+.3f\n", seconds,
		      fraction, expected, burst_blocks, 100.0 * inside / rounds, width / rounds, bias / rounds);
	if (inside < 0.93 * rounds)
		fail_msg("f %g expected %g burst %d: only %d of %d inside", fraction, expected, burst_blocks, inside,
			 rounds);
}

static void test_coverage(void **state)
{
	static const double fractions[] = { 0.01, 0.1, 1 }, expected[] = { 3, 10, 30, 100, 300, 1000, 3000 };
	static const int bursts[] = { 1, 5, 50 };

	(void)state;
	for (size_t f = 0; f < 3; f++)
		for (size_t b = 0; b < 3; b++)
			for (size_t e = 0; e < 7; e++)
				coverage(fractions[f], expected[e], bursts[b], SECONDS);
}

static void test_coverage_few_windows(void **state)
{
	static const double expected[] = { 3, 30, 300 };

	(void)state;
	for (int seconds = 4; seconds <= 16; seconds *= 2)
		for (size_t e = 0; e < 3; e++)
			for (int blocks = 1; blocks <= 50; blocks += 49)
				coverage(0.03, expected[e], blocks, seconds);
}

static struct interval_sums sums_of(int windows, int blocks, double weight, double value)
{
	struct interval_sums s = { 0 };

	for (int i = 0; i < windows; i++) {
		struct interval_window w = { 0 };

		for (int k = 0; k < blocks; k++)
			interval_window_add(&w, weight, value);
		interval_add(&s, &w);
	}
	return s;
}

static void expect(struct report_estimate e, double estimate, double low, double high, double within)
{
	if (fabs(e.estimate - estimate) > within || fabs(e.low - low) > within || fabs(e.high - high) > within)
		fail_msg("%g in %g to %g, not %g in %g to %g", e.estimate, e.low, e.high, estimate, low, high);
}

static void test_known(void **state)
{
	struct interval_sums s = { 0 };

	(void)state;
	expect(interval_estimate(&s, 60, 100, 0.1), 0, 0, 370, 1e-9);
	/* Everything was seen: one block at each end is open. */
	s = sums_of(10, 10, 1, 1);
	expect(interval_estimate(&s, 10, 1, 0), 100, 99, 101, 1e-9);
	s = sums_of(10, 10, 1, 512);
	expect(interval_estimate(&s, 10, 512, 0), 51200, 50688, 51712, 1e-9);
	/* ... and a systematic error widens it in quadrature: sqrt(512^2 + 5120^2). */
	expect(interval_estimate(&s, 10, 512, 0.1), 51200, 46054.5, 56345.5, 0.1);
	/* 10 of 1,000, each in a window of its own: the exact Poisson interval of 10 is 4.80 to 18.39, a little wider for doubt about bursts. */
	s = sums_of(10, 1, 100, 1);
	expect(interval_estimate(&s, 1000, 100, 0), 1000, 480, 1839, 50);
	/* Ten at once in one window say no more than one. */
	s = sums_of(1, 10, 100, 1);
	assert_true(interval_estimate(&s, 1000, 100, 0).low < 100);
	assert_true(interval_estimate(&s, 1000, 100, 0).high > 5000);
	/* Windows without a block count as zeros: the same blocks among fewer windows are spread more evenly. */
	s = sums_of(10, 10, 100, 1);
	assert_true(interval_estimate(&s, 1000, 100, 0).high > interval_estimate(&s, 11, 100, 0).high * 1.2);
}

static void test_hostile(void **state)
{
	static const double absurd[] = { NAN, INFINITY, -INFINITY, -1, 0, 1e-300, 1e300, 1e154, 5e-324, 1.7e308, 1 };
	const size_t n = sizeof(absurd) / sizeof(absurd[0]);

	(void)state;
	for (size_t i = 0; i < n * n * n; i++) {
		struct interval_window w = { 0 };
		struct interval_sums s = { 0 };
		struct report_estimate e;

		interval_window_add(&w, absurd[i % n], absurd[i / n % n]);
		interval_window_add(&w, absurd[i / n / n], 1);
		interval_add(&s, &w);
		for (uint64_t windows = 0; windows < 3; windows++) {
			e = interval_estimate(&s, windows, absurd[i % n], absurd[i / n % n]);
			assert_true((isnan(e.estimate) && isnan(e.low) && isnan(e.high)) ||
				    (e.low >= 0 && e.low <= e.estimate && e.estimate <= e.high && isfinite(e.high)));
		}
	}
	/* A weight under 1 counts as 1. */
	expect(interval_estimate(&(struct interval_sums){ 0 }, UINT64_MAX, 0, NAN), 0, 0, 0, 0);
	struct interval_sums s = sums_of(3, 1, 0.1, 1);
	expect(interval_estimate(&s, 3, 1, 0), 3, 2, 4, 1e-9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_coverage),
		cmocka_unit_test(test_coverage_few_windows),
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
