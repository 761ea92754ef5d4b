/* SPDX-License-Identifier: MIT */
/* What is kept and what is not: series that programs make, weeks of them, told to keeps.h at the pace of passive.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "base/random.h"
#include "diagnose/keeps.h"

#define KIB 1024.0
#define MIB (1024 * KIB)
#define HOUR 3600.0
#define DAY (24 * HOUR)
#define SEEDS 3

static uint64_t chance;

static double uniform(double low, double high)
{
	return low + (high - low) * (double)(random_next(&chance) >> 11) / 9007199254740992.0;
}

/* Bytes of a program at t. */
typedef double (*program_fn)(double t);

struct outcome {
	double first;              /* when it was suspicious first; INFINITY: never */
	double share;              /* of the readings after `from` that were suspicious */
	double last, mean;         /* suspicion at the end, and the mean after `from` */
	double growth;
};

/* pools and anonymous memory do the same, in their own grain. age: that it had when it was met. */
static struct outcome watch(program_fn program, double age, double seconds, double from, uint64_t seed)
{
	struct outcome o = { .first = INFINITY };
	struct keeps *keeps = calloc(1, sizeof(*keeps));
	double t = 0, readings = 0, suspicious = 0, steady = 0;

	assert_non_null(keeps);
	chance = seed * 7919 + 1;
	while (t < seconds) {
		double bytes = program(t), pools = floor(bytes / (16 * KIB)) * 16 * KIB;
		double values[KEEPS_SERIES] = { pools, floor((20 * MIB + bytes) / 4096) * 4096, NAN, NAN };

		keeps_add(keeps, age + t, values);
		o.last = keeps_suspicion(keeps);
		steady = o.last > 0 ? 0 : steady + 1;
		if (o.last > 0 && t < o.first)
			o.first = t;
		if (t >= from) {
			readings++;
			suspicious += o.last > 0;
			o.mean += o.last;
		}
		t += (t < 60 || o.last > 0 ? 4 : keeps_record(keeps) >= MIB ? 3 : steady < 60 ? 6 : 10) * uniform(0.75, 1.25);
	}
	o.growth = keeps_growth(keeps);
	o.share = readings > 0 ? suspicious / readings : 0;
	o.mean = readings > 0 ? o.mean / readings : 0;
	free(keeps);
	return o;
}

static double idle(double t)
{
	(void)t;
	return 8 * MIB;
}

static double leak_10k(double t)
{
	return 8 * MIB + 10 * KIB * t;
}

static double leak_1m(double t)
{
	return 8 * MIB + MIB * t;
}

static double leak_late(double t)
{
	return 8 * MIB + fmax(0, t - HOUR) * MIB;
}

static double leak_100(double t)
{
	return 8 * MIB + 100 * t;
}

/* Garbage of 20 MiB, collected at random after 15 to 25 s, and a leak below. */
static double saw(double t, double leak)
{
	static double end, begin;

	if (t == 0)
		end = begin = 0;
	while (t >= end) {
		begin = end;
		end = begin + uniform(15, 25);
	}
	return 8 * MIB + MIB * (t - begin) + uniform(0, 0.3) * MIB + leak * t;
}

static double sawtooth(double t)
{
	return saw(t, 0);
}

static double sawtooth_leak(double t)
{
	return saw(t, 10 * KIB);
}

static double sawtooth_slow(double t)
{
	return 8 * MIB + 50 * KIB * fmod(t, 600);
}

static double sawtooth_minute(double t)
{
	return 8 * MIB + 200 * KIB * fmod(t, 60);
}

/* Levels off at 100 MiB after 20 minutes. */
static double cache(double t)
{
	return 8 * MIB + 100 * MIB * fmin(1, t / 1200);
}

static double cache_curve(double t)
{
	return 8 * MIB + 100 * MIB * (1 - exp(-t / 600)) + uniform(0, 0.2) * MIB;
}

static double start_up(double t)
{
	return 60 * MIB * (1 - exp(-t / 4)) + uniform(0, 0.1) * MIB;
}

static double peak(double t)
{
	return 8 * MIB + (t > 1800 && t < 1900 ? 200 * MIB * (1 - fabs(t - 1850) / 50) : 0);
}

static double peak_leak(double t)
{
	return peak(t) + 10 * KIB * t;
}

static double churn(double t)
{
	(void)t;
	return 30 * MIB + uniform(0, 10) * MIB;
}

/* Load of the day, and a night. */
static double daily(double t)
{
	return 100 * MIB + 50 * MIB * (1 - cos(2 * M_PI * t / DAY)) + uniform(0, 5) * MIB;
}

/* A random walk that is pulled back: a cache with changing contents. */
static double wander(double t)
{
	static double level;

	if (t == 0)
		level = 0;
	level += uniform(-0.5, 0.5) * MIB - 0.01 * level;
	return 50 * MIB + level;
}

/* 600 KiB at once, every minute and a half. */
static double leak_bursts(double t)
{
	return 8 * MIB + floor(t / 90) * 600 * KIB;
}

/* Requests of all sizes in flight, and a leak. */
static double noisy_10k(double t)
{
	return 30 * MIB + uniform(0, 5) * MIB + 10 * KIB * t;
}

static double noisy_100k(double t)
{
	return 30 * MIB + uniform(0, 5) * MIB + 100 * KIB * t;
}

static double noisy_1m(double t)
{
	return 30 * MIB + uniform(0, 5) * MIB + MIB * t;
}

static void test_idle(void **state)
{
	struct outcome o = watch(idle, 0, 7 * DAY, 0, 1);

	(void)state;
	assert_true(isinf(o.first));
	assert_true(o.growth == 0);
}

struct leaking {
	program_fn program;
	double seconds, rate, within, from;
};

/* Found in time, at about its rate, and for good. */
static void test_leaks(void **state)
{
	static const struct leaking leaking[] = {
		{ leak_1m, 600, MIB, 32, 0 },
		{ leak_10k, HOUR, 10 * KIB, 150, 0 },
		{ leak_late, HOUR + 300, MIB, HOUR + 35, HOUR },
		{ leak_100, 2 * DAY, 100, 12 * HOUR, 0 },
		{ sawtooth_leak, 6 * HOUR, 10 * KIB, 1.5 * HOUR, 0 },
		{ peak_leak, 6 * HOUR, 10 * KIB, 150, 0 },
		{ noisy_1m, 2000, MIB, 100, 0 },
		{ noisy_100k, 2000, 100 * KIB, 300, 0 },
		{ noisy_10k, 2 * HOUR, 10 * KIB, 1200, 0 },
		{ leak_bursts, 4 * HOUR, 600 * KIB / 90, 1 * HOUR, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(leaking) / sizeof(leaking[0]); i++)
		for (uint64_t seed = 1; seed <= 5; seed++) {
			const struct leaking *l = &leaking[i];
			struct outcome o = watch(l->program, 0, l->seconds, l->within, seed);

			if (getenv("VERBOSE"))
				print_message("leak %zu: first %.0f share %.3f last %.0f mean %.1f growth %.0f (%.0f)\n", i,
					      o.first, o.share, o.last, o.mean, o.growth, l->rate);
			assert_true(o.first >= l->from);
			assert_true(o.first <= l->within);
			assert_true(o.share > 0.5);
			assert_true(o.last < 3 * l->rate);
		}
}

/* What is met when it is old has no start to wait for. */
static void test_old(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 5; seed++) {
		struct outcome young = watch(leak_10k, 0, HOUR, 0, seed), old = watch(leak_10k, KEEPS_START_SECONDS, HOUR, 0, seed);

		if (getenv("VERBOSE"))
			print_message("first %.0f, old %.0f\n", young.first, old.first);
		assert_true(old.first + 30 <= young.first);
	}
}

struct harmless {
	const char *name;
	program_fn program;
	double seconds, from, share, mean;
};

static void test_harmless(void **state)
{
	static const struct harmless harmless[] = {
		{ "sawtooth", sawtooth, DAY, 600, 0.01, 20 },
		{ "sawtooth of a minute", sawtooth_minute, DAY, 600, 0.01, 20 },
		{ "slow sawtooth", sawtooth_slow, DAY, 1200, 0.02, 500 },
		{ "start", start_up, DAY, 0, 0.001, 20 },
		{ "cache", cache, DAY, 2 * HOUR, 0, 0 },
		{ "curve", cache_curve, DAY, 3 * HOUR, 0.01, 20 },
		{ "peak", peak, DAY, 0, 0.004, 10 * KIB },
		{ "churn", churn, 7 * DAY, 0, 0.002, 50 },
		{ "daily", daily, 7 * DAY, 3 * DAY, 0.4, 400 },
		{ "wander", wander, 7 * DAY, DAY, 0.05, 500 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
		const struct harmless *h = &harmless[i];
		double share = 0, mean = 0;
		uint64_t seeds = getenv("LEAKSNOOP_FULL") ? 40 : h->seconds > DAY ? 1 : SEEDS;

		for (uint64_t seed = 1; seed <= seeds; seed++) {
			/* every other one was old already */
			double age = seed % 2 || h->program == start_up ? 0 : KEEPS_START_SECONDS;
			struct outcome o = watch(h->program, age, h->seconds, h->from, seed);

			share += o.share / (double)seeds;
			mean += o.mean / (double)seeds;
		}
		if (getenv("VERBOSE"))
			print_message("%s: share %.4f mean %.1f\n", h->name, share, mean);
		assert_true(share <= h->share);
		assert_true(mean <= h->mean);
	}
}

/* Readings that fail, go backwards or are absurd make no suspicion and no crash. */
static void test_absurd(void **state)
{
	static const double odd[] = { NAN, INFINITY, -INFINITY, 0, -1, 1e300, 5 };
	struct keeps *keeps = calloc(1, sizeof(*keeps));

	(void)state;
	assert_non_null(keeps);
	chance = 5;
	for (int i = 0; i < 20000; i++) {
		double values[KEEPS_SERIES];

		for (size_t s = 0; s < KEEPS_SERIES; s++)
			values[s] = odd[(size_t)uniform(0, 7)];
		keeps_add(keeps, i * 5, values);
		assert_true(isfinite(keeps_suspicion(keeps)));
	}
	free(keeps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_leaks),
		cmocka_unit_test(test_old),
		cmocka_unit_test(test_harmless),
		cmocka_unit_test(test_absurd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
