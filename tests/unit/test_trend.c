/* SPDX-License-Identifier: MIT */
/* Series of every kind, with noise, told apart: at least 95 % right over seeds. And absurd input gives no absurd output. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "diagnose/robust.h"
#include "diagnose/trend.h"
#include "random.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))
#define SEEDS 100
#define BASE 1e8
#define NOISE 0.0005

/* What a program does: its level at t, relative to BASE. p: random numbers of this program, 0..1, constant over time. */
typedef double (*program_fn)(double t, const double *p);

static double between(double p, double low, double high)
{
	return low + p * (high - low);
}

/* From low to high, small ones as often as big ones. */
static double scale(double p, double low, double high)
{
	return low * pow(high / low, p);
}

static double flat(double t, const double *p)
{
	return 0 * t * p[0];
}

static double slow_leak(double t, const double *p)
{
	return scale(p[0], 0.002, 0.01) * t / 60;
}

static double leak(double t, const double *p)
{
	return scale(p[0], 0.01, 3) * t / 60;
}

static double warm_up_then_leak(double t, const double *p)
{
	return scale(p[0], 0.02, 1) * (1 - exp(-t / between(p[1], 0.5, 3))) + scale(p[2], 0.01, 0.1) * t / 60;
}

static double table_then_leak(double t, const double *p)
{
	return scale(p[0], 0.02, 1) * fmin(t / between(p[1], 2, 12), 1) + scale(p[2], 0.01, 0.1) * t / 60;
}

static double staircase(double t, const double *p)
{
	return scale(p[0], 0.003, 0.1) * floor((t + 10 * p[1]) / 10);
}

static double bursty_leak(double t, const double *p)
{
	/* A batch every second or so, of any size: sums of sines that never fall. */
	double x = t + 0.3 * sin(t * between(p[1], 1.5, 2.5)) + 0.3 * sin(t * between(p[2], 0.6, 0.9) + 6 * p[3]);

	return scale(p[0], 0.01, 1) * x / 60;
}

static double leak_from_20s(double t, const double *p)
{
	return scale(p[0], 0.01, 1) * fmax(0, t - between(p[1], 10, 25)) / 60;
}

static double filling(double t, const double *p)
{
	return scale(p[0], 0.01, 2) * fmin(t / between(p[1], 12, 45), 1);
}

static double approaching(double t, const double *p)
{
	return scale(p[0], 0.02, 2) * (1 - exp(-t / between(p[1], 6, 20)));
}

static double steps(double t, const double *p)
{
	double y = 0;

	for (int i = 0; i < 1 + (int)(3 * p[0]); i++)
		y += t > between(p[1 + i], 3, 57) ? scale(p[4 + i], 0.02, 0.2) : 0;
	return y;
}

static double sawtooth(double t, const double *p)
{
	double period = between(p[0], 3, 15);

	return 0.2 * fmod(t / period + p[1], 1);
}

/* Every tooth of a length of its own, by +- 20 %. */
static double uneven_sawtooth(double t, const double *p)
{
	double period = between(p[0], 4, 12), x = t / period + p[1] + 0.1 * sin(2.7 * t / period);

	return scale(p[2], 0.02, 0.5) * fmod(x, 1);
}

static double sawtooth_and_leak(double t, const double *p)
{
	/* By more than a tooth climbs in a second (0.2 / 3): what is less cannot be told from missing the trough. */
	return sawtooth(t, p) + scale(p[2], 0.15, 1) * t / 60;
}

static double slow_sawtooth_and_leak(double t, const double *p)
{
	double period = between(p[0], 8, 12);

	return 0.2 * fmod(t / period + p[1], 1) + scale(p[2], 0.1, 1) * t / 60;
}

static double flushes(double t, const double *p)
{
	double period = between(p[0], 5, 15), x = fmod(t / period + p[1], 1);

	return scale(p[2], 0.02, 0.5) * fmin(1, x / 0.7);
}

static double peak(double t, const double *p)
{
	double at = between(p[0], 15, 40), width = between(p[1], 2, 12);

	return scale(p[2], 0.02, 2) * fmax(0, fmin(1, 1.5 - fabs(t - at) / width));
}

static double falling(double t, const double *p)
{
	return -scale(p[0], 0.002, 0.8) * t / 60;
}

enum { SPIKES = 1, LOUD = 2, UNEVEN = 4, LONG = 8, SILENT = 16 };

static size_t generate(program_fn program, int flags, uint64_t seed, struct trend_point *points)
{
	size_t n = flags & LONG ? 600 : 61;
	uint64_t rng = seed;
	double p[8], step = flags & LONG ? 0.1 : 1;

	for (size_t i = 0; i < N(p); i++)
		p[i] = random_uniform(&rng);
	for (size_t i = 0; i < n; i++) {
		double t = (double)i * step + (flags & UNEVEN ? 0.3 * step * random_uniform(&rng) : 0);
		double noise = NOISE * (flags & LOUD ? 60 : flags & SILENT ? 0 : 1) * random_normal(&rng);

		points[i] = (struct trend_point){ 1e6 + t, BASE * (1 + program(t, p) + noise) };
	}
	for (int i = 0; flags & SPIKES && i < 3; i++)
		points[5 + random_bits(&rng) % (n - 10)].value *= 3;
	return n;
}

static void kinds(const char *name, program_fn program, int flags, unsigned right)
{
	unsigned counts[TREND_UNKNOWN + 1] = { 0 }, hits = 0;
	char line[160] = "";

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct trend_point points[600];
		size_t n = generate(program, flags, seed * 1000003, points);
		struct trend t = trend_of(points, n);

		counts[t.kind]++;
		hits += right >> t.kind & 1;
		assert_true(t.confidence >= 0 && t.confidence <= 1);
		assert_true(t.slope_low <= t.slope && t.slope <= t.slope_high);
	}
	for (int k = 0; k <= TREND_UNKNOWN; k++)
		if (counts[k])
			snprintf(line + strlen(line), sizeof(line) - strlen(line), " %s %u", trend_name(k), counts[k]);
	print_message("%-24s %d: %.1f %%%s\n", name, flags, 100.0 * hits / SEEDS, line);
	if (hits * 100 < SEEDS * 95)
		fail_msg("%s (%d): only %u of %u right", name, flags, hits, SEEDS);
}

#define IS(kind) (1u << TREND_##kind)

static void test_kinds(void **state)
{
	static const struct {
		const char *name;
		program_fn program;
		unsigned right;
		bool loud;
	} rows[] = {
		{ "flat", flat, IS(FLAT), true },
		{ "slow leak", slow_leak, IS(RISING) },
		{ "leak", leak, IS(RISING) },
		{ "warm-up, then leak", warm_up_then_leak, IS(RISING) },
		{ "table, then leak", table_then_leak, IS(RISING) },
		{ "staircase", staircase, IS(RISING) },
		{ "bursty leak", bursty_leak, IS(RISING) },
		{ "leak from 20 s on", leak_from_20s, IS(RISING) },
		{ "filling", filling, IS(LEVELLING) },
		{ "approaching", approaching, IS(LEVELLING) },
		{ "steps", steps, IS(STEPPED) },
		{ "sawtooth", sawtooth, IS(SAWTOOTH) },
		{ "uneven sawtooth", uneven_sawtooth, IS(SAWTOOTH) },
		{ "flushes", flushes, IS(SAWTOOTH) },
		{ "sawtooth and leak", sawtooth_and_leak, IS(RISING) },
		{ "slow sawtooth and leak", slow_sawtooth_and_leak, IS(RISING) },
		{ "peak", peak, IS(FLAT) },
		{ "falling", falling, IS(FALLING) },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++)
		for (int flags = 0; flags < 20; flags++) {
			/* Spikes upon teeth are teeth; so are spikes upon noise as loud as they. */
			bool toothed = rows[i].right & IS(SAWTOOTH) || strstr(rows[i].name, "tooth");

			if ((flags & LOUD && (!rows[i].loud || flags & SILENT)) ||
			    (flags & SPIKES && (toothed || flags & LOUD)))
				continue;
			kinds(rows[i].name, rows[i].program, flags, rows[i].right);
		}
}

/* The slope's interval holds the true slope, for noise of any loudness. */
static void test_interval(void **state)
{
	uint64_t rng = 42;

	(void)state;
	for (double loud = 0.0001; loud < 0.2; loud *= 10) {
		int inside = 0, rounds = 500;

		for (int round = 0; round < rounds; round++) {
			struct trend_point points[61];
			struct trend t;

			for (size_t i = 0; i < N(points); i++)
				points[i] = (struct trend_point){ (double)i, 1000 + 0.5 * (double)i +
										     1000 * loud * random_normal(&rng) };
			t = trend_of(points, N(points));
			inside += t.slope_low <= 0.5 && 0.5 <= t.slope_high;
		}
		print_message("noise %g: slope inside %.1f %%\n", loud, 100.0 * inside / rounds);
		assert_true(inside >= 0.93 * rounds);
	}
}

/* Noise that wanders (a load that comes and goes) is seldom taken for a leak. */
static void test_wandering(void **state)
{
	uint64_t rng = 3;
	int rising = 0;

	(void)state;
	for (int round = 0; round < 500; round++) {
		struct trend_point points[61];
		double load = 0;

		for (size_t i = 0; i < N(points); i++) {
			load = 0.7 * load + random_normal(&rng);
			points[i] = (struct trend_point){ (double)i, BASE * (1 + 0.01 * load) };
		}
		rising += trend_of(points, N(points)).kind == TREND_RISING;
	}
	print_message("wandering: %d of 500 rising\n", rising);
	assert_true(rising <= 15);
}

static struct trend straight(size_t n, double seconds, double rise)
{
	struct trend_point points[TREND_MAX_POINTS + 1000];

	for (size_t i = 0; i < n; i++)
		points[i] = (struct trend_point){ seconds * (double)i / (double)(n - 1), rise * (double)i };
	return trend_of(points, n);
}

static void test_limits(void **state)
{
	struct trend_point points[60];
	struct trend t;

	(void)state;
	assert_int_equal(trend_of(NULL, 0).kind, TREND_UNKNOWN);
	assert_true(isnan(trend_of(NULL, 0).slope) && trend_of(NULL, 0).confidence == 0);
	assert_int_equal(straight(TREND_MIN_POINTS - 1, 60, 1).kind, TREND_UNKNOWN);
	assert_int_equal(straight(1000, TREND_MIN_SECONDS - 0.1, 1).kind, TREND_UNKNOWN);
	assert_int_equal(straight(TREND_MIN_POINTS, 60, 1).kind, TREND_RISING);
	assert_int_equal(straight(TREND_MIN_POINTS, 60, -1).kind, TREND_FALLING);
	assert_int_equal(straight(TREND_MIN_POINTS, 60, 0).kind, TREND_FLAT);
	t = straight(TREND_MAX_POINTS + 1000, 5095, 2);
	assert_int_equal(t.kind, TREND_RISING);
	assert_true(fabs(t.slope - 2) < 1e-6 && fabs(t.early_slope - 2) < 1e-6 && fabs(t.late_slope - 2) < 1e-6);
	/* The last points are those that count. */
	assert_true(t.seconds < TREND_MAX_POINTS && t.seconds > 0.98 * TREND_MAX_POINTS);
	/* Order does not matter, and neither do points of the same time. */
	for (size_t i = 0; i < N(points); i++)
		points[i] = (struct trend_point){ (double)(i * 7 % 30), (double)(i * 7 % 30) };
	t = trend_of(points, N(points));
	assert_int_equal(t.kind, TREND_RISING);
	assert_true(fabs(t.slope - 1) < 1e-9 && fabs(t.total_change - 26) < 2);
	for (size_t i = 0; i < N(points); i++)
		points[i].t = 5;
	assert_int_equal(trend_of(points, N(points)).kind, TREND_UNKNOWN);
}

static void test_hostile(void **state)
{
	static const double absurd[] = { NAN,   INFINITY, -INFINITY, -1,    0, 1e-300, 1e300, 1e30,
					 -1e30, 5e-324,   1e12,      -1e12, 1, 2,      3 };
	uint64_t rng = 11;

	(void)state;
	for (int round = 0; round < 5000; round++) {
		struct trend_point points[40];
		struct trend t;

		for (size_t i = 0; i < N(points); i++) {
			points[i].t = round % 3 ? (double)i : absurd[random_bits(&rng) % N(absurd)] + (double)(i % 13);
			points[i].value = round % 2 ? absurd[random_bits(&rng) % N(absurd)] : random_normal(&rng) * 1e30;
		}
		t = trend_of(points, N(points));
		assert_true((int)t.kind >= 0 && t.kind <= TREND_UNKNOWN && t.confidence >= 0 && t.confidence <= 1);
		assert_true(t.kind == TREND_UNKNOWN ? !isnan(t.confidence) : isfinite(t.slope) && isfinite(t.total_change));
		assert_true(isnan(t.slope) || (t.slope_low <= t.slope && t.slope <= t.slope_high));
	}
	assert_string_equal(trend_name((enum trend_kind)99), "unknown");
	assert_string_equal(trend_name(TREND_LEVELLING), "levelling");
}

static void test_robust(void **state)
{
	const double t[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 }, hinge[] = { 0, 2, 4, 6, 8, 10, 10, 10, 10, 10, 10, 10 };
	double wild[] = { 0, 1, 2, 300, 4, 5, 6, -700, 8, 9, 10, 11 }, few[] = { 3, 1, 2 }, even[] = { 4, 1, 3, 2 };
	struct bend b;

	(void)state;
	assert_true(robust_median(few, 3) == 2 && robust_median(even, 4) == 2.5 && robust_median(few, 0) == 0);
	assert_true(robust_slope(t, wild, N(t)) == 1);
	assert_true(robust_slope(t, wild, 1) == 0);
	assert_true(robust_noise(t, N(t)) == 0 && robust_noise(t, 2) == 0);
	assert_true(isinf(robust_line(t, wild, 2).error));
	assert_true(fabs(robust_line(t, t, N(t)).slope - 1) < 1e-12);
	b = robust_bend(t, hinge, N(t));
	assert_true(b.bent && b.at == 5 && fabs(b.before - 2) < 1e-9 && fabs(b.after) < 1e-9);
	assert_false(robust_bend(t, t, N(t)).bent);
	assert_true(isinf(robust_bend(t, hinge, 7).straight.error) && !robust_bend(t, hinge, 7).bent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_robust),    cmocka_unit_test(test_kinds),  cmocka_unit_test(test_interval),
		cmocka_unit_test(test_wandering), cmocka_unit_test(test_limits), cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
