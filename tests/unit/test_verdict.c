/* SPDX-License-Identifier: MIT */
/* Evidence as processes of each kind leave it, and the verdict on it; absurd evidence gives no absurd verdict. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/utf8.h"
#include "diagnose/verdict.h"
#include "random.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))
#define KIB 1024.0
#define MIB (1024 * KIB)
#define SEEDS 40
#define POINTS 600

/* A process: MiB live and large at t, of which arenas and RSS follow; and what the strongest site does. */
struct program {
	const char *name;
	double (*small)(double t, double seed);
	double (*large)(double t, double seed);
	double (*native)(double t, double seed);
	double noise; /* MiB */
	double site, site_low; /* bytes a second */
	double allocated;
	enum trend_kind site_trend;
	double survivors;
	enum verdict_kind verdict;
	double age;
	bool no_large, gives_back; /* gives_back: arenas go as soon as they can */
	double holes, fragments; /* MiB of arenas that nothing lives in, and how many more a second */
	double libc_free, pages; /* MiB free in libc's heaps, and which share of it is whole pages */
	double burst; /* MiB of arenas that a burst leaves behind after 5 s */
};

static double zero(double t, double seed)
{
	return 0 * t * seed;
}

static double ten(double t, double seed)
{
	return 10 + 0 * t * seed;
}

static double hundred(double t, double seed)
{
	return 100 + 0 * t * seed;
}

static double slow_leak(double t, double seed)
{
	return 100 + 10 * KIB / MIB * t + 0 * seed;
}

static double fast_leak(double t, double seed)
{
	return 20 + (1 + seed) * t;
}

static double large_leak(double t, double seed)
{
	return 5 + (0.1 + seed) * t;
}

static double stairs(double t, double seed)
{
	return 50 + 2 * floor(t / 10 + seed);
}

static double teeth(double t, double seed)
{
	return 50 + 20 * fmod(t / (4 + 8 * seed) + seed, 1);
}

static double teeth_and_leak(double t, double seed)
{
	return teeth(t, seed) + 10 * KIB / MIB * t;
}

static double fills(double t, double seed)
{
	return 40 + 60 * fmin(1, t / (15 + 25 * seed));
}

static double approaches(double t, double seed)
{
	return 40 + 30 * (1 - exp(-t / (6 + 12 * seed)));
}

static double up_and_down(double t, double seed)
{
	return 40 + 100 * fmax(0, fmin(1, 2 - fabs(t - 20 - 10 * seed) / 5));
}

/* Everything lives 20 s: rises, then stays. */
static double time_to_live(double t, double seed)
{
	return 30 + (0.5 + seed) * fmin(t, 20);
}

/* A burst after 5 s, of which a little stays. */
static double rest_of_burst(double t, double seed)
{
	return 10 + (t > 5 ? 2 : 0) + 0 * seed;
}

static double native_growth(double t, double seed)
{
	return 30 + (0.05 + seed) * t;
}

static const struct program programs[] = {
	{ "nothing", hundred, ten, ten, 0.05, .verdict = VERDICT_steady },
	{ "slow leak", slow_leak, ten, ten, 0.02, 10e3, 7e3, 12e3, TREND_RISING, 40, VERDICT_leak },
	{ "slow leak, large unknown", slow_leak, ten, ten, 0.02, 10e3, 7e3, NAN, TREND_RISING, 40, VERDICT_leak,
	  .no_large = true },
	{ "fast leak", fast_leak, ten, ten, 0.5, 1.5e6, 1.2e6, 2e6, TREND_RISING, 900, VERDICT_leak },
	{ "large leak", ten, large_leak, ten, 0.05, 0.5e6, 0.4e6, 2e6, TREND_RISING, 100, VERDICT_leak },
	{ "stairs", stairs, ten, ten, 0.02, 0.2e6, 0.15e6, 3e6, TREND_RISING, 100, VERDICT_leak },
	{ "young leak", fast_leak, ten, ten, 0.1, 1.5e6, 1.2e6, 2e6, TREND_RISING, 100, VERDICT_leak, .age = 61 },
	{ "leak under teeth", teeth_and_leak, ten, ten, 0.1, 10e3, 7e3, 12e3, TREND_RISING, 60, VERDICT_leak },
	{ "teeth", teeth, ten, ten, 0.1, 3e5, 1e5, 4e6, TREND_SAWTOOTH, 60, VERDICT_steady },
	{ "teeth, few survivors", teeth, ten, ten, 0.1, 3e3, 1e3, 4e6, TREND_RISING, 9, VERDICT_steady },
	{ "full cache with turnover", hundred, ten, ten, 0.1, 5e5, 4e5, 5e5, TREND_RISING, 500, VERDICT_steady },
	{ "growth without a line", fast_leak, ten, ten, 0.1, .site_trend = TREND_UNKNOWN, .survivors = 2,
	  .verdict = VERDICT_unknown },
	{ "the same beside native", fast_leak, ten, native_growth, 0.1, .site_trend = TREND_UNKNOWN, .survivors = 2,
	  .verdict = VERDICT_unknown },
	{ "filling cache", fills, ten, ten, 0.05, 1e6, 0.7e6, 1e6, TREND_LEVELLING, 500, VERDICT_levelling },
	{ "filling cache, site late", fills, ten, ten, 0.05, 1e6, 0.7e6, 1e6, TREND_RISING, 500, VERDICT_levelling },
	{ "approaching cache", approaches, ten, ten, 0.02, 1e5, 0.7e5, 1e6, TREND_LEVELLING, 500, VERDICT_levelling },
	{ "time to live", time_to_live, ten, ten, 0.02, 1e6, 0.7e6, 1e6, TREND_LEVELLING, 500, VERDICT_levelling },
	{ "large store fills", ten, fills, ten, 0.02, 1e6, 0.7e6, 1e6, TREND_LEVELLING, 500, VERDICT_levelling },
	{ "peak, held", up_and_down, ten, ten, 0.02, .verdict = VERDICT_high_water },
	{ "peak, given back", up_and_down, ten, ten, 0.02, .verdict = VERDICT_steady, .gives_back = true },
	{ "peak of large blocks", ten, up_and_down, ten, 0.02, .verdict = VERDICT_steady },
	{ "peak long ago", hundred, ten, ten, 0.02, .verdict = VERDICT_high_water, .holes = 70 },
	{ "full of holes", ten, ten, ten, 0.02, .verdict = VERDICT_fragmentation, .holes = 90 },
	{ "burst, full of holes", rest_of_burst, ten, ten, 0.02, .verdict = VERDICT_fragmentation, .burst = 60 },
	{ "burst, all of it live", rest_of_burst, ten, ten, 0.02, .verdict = VERDICT_levelling, .burst = 0 },
	{ "peak in libc's heaps", ten, ten, ten, 0.02, .verdict = VERDICT_high_water, .libc_free = 120, .pages = 0.9 },
	{ "libc's heaps in pieces", ten, ten, ten, 0.02, .verdict = VERDICT_fragmentation, .libc_free = 120, .pages = 0.1 },
	{ "little free in libc", hundred, hundred, ten, 0.02, .verdict = VERDICT_steady, .libc_free = 20, .pages = 0.9 },
	{ "leak beside a peak in libc", fast_leak, ten, ten, 0.5, 1.5e6, 1.2e6, 2e6, TREND_RISING, 900, VERDICT_leak, .libc_free = 120, .pages = 1 },
	{ "small, full of holes", ten, zero, ten, 0.02, .verdict = VERDICT_steady, .holes = 5 },
	{ "more and more holes", ten, ten, ten, 0.02, .verdict = VERDICT_fragmentation, .fragments = 0.5 },
	{ "native", hundred, ten, native_growth, 0.1, .verdict = VERDICT_native },
	{ "native beside a leak", slow_leak, ten, native_growth, 0.02, 10e3, 9e3, 12e3, TREND_RISING, 40, VERDICT_native },
	{ "native, no counters", zero, zero, native_growth, 0.05, .verdict = VERDICT_native, .no_large = true },
};

static struct evidence_point points[POINTS + 4096];

/* Arenas of 1 MiB hold the most there was, 5 % loosely; they are not given back once there is a peak. */
static size_t generate(const struct program *p, uint64_t seed, size_t n)
{
	uint64_t rng = seed;
	double variant = random_uniform(&rng), arenas = 0;

	for (size_t i = 0; i < n; i++) {
		double t = (double)i, live = p->small(t, variant), large = p->large(t, variant),
		       native = p->native(t, variant);
		struct evidence_point *e = &points[i];

		live += live > 0 ? p->noise * random_normal(&rng) : 0;
		arenas = fmax(p->gives_back ? 0 : arenas, ceil(live * 1.05 + 0.5 + p->holes + p->fragments * t + (t > 5 ? p->burst : 0)));
		*e = (struct evidence_point){ .t = 5000 + t, .live_bytes = live * MIB, .large_bytes = large * MIB };
		e->live_blocks = live * MIB / 80;
		e->raw_blocks = large * MIB / 2000;
		e->arena_bytes = arenas * MIB;
		/* a sheet every third second */
		e->libc_free = i % 3 ? NAN : p->libc_free * MIB;
		e->trimmable = i % 3 ? NAN : p->libc_free * p->pages * MIB;
		e->anon_bytes = (arenas + large + native + p->libc_free) * MIB + floor(3 * random_uniform(&rng)) * 4096;
		e->rss = e->anon_bytes + 8 * MIB;
		e->hwm_bytes = fmax(e->rss, i ? points[i - 1].hwm_bytes : 0);
		if (p->no_large)
			e->large_bytes = e->raw_blocks = NAN;
		if (p->small == zero)
			e->live_bytes = e->live_blocks = e->arena_bytes = NAN;
	}
	return n;
}

static struct evidence evidence_of(const struct program *p, size_t n)
{
	struct evidence e = {
		.seconds = (double)n - 1, .process_age = p->age ? p->age : 5000, .points = points, .n_points = n
	};

	e.strongest.name = p->survivors ? "/srv/app/handlers/app.py:41" : NULL;
	e.strongest.growth = (struct report_estimate){ p->site, p->site_low, 2 * p->site - p->site_low };
	e.growth = e.strongest.growth;
	e.strongest.allocated = p->allocated ? p->allocated : NAN;
	e.strongest.trend = p->site_trend;
	e.strongest.survivors = p->survivors;
	e.strongest.age = 8;
	e.strongest.large_share = NAN;
	return e;
}

static const char *kind_name(enum verdict_kind kind)
{
	static const char *const names[] = {
#define X(id, name) name,
		VERDICT_KINDS(X)
#undef X
	};

	return names[kind];
}

static bool is_sentence(const struct verdict *v)
{
	size_t len = strnlen(v->why, sizeof(v->why));
	uint32_t c;

	if (!len || len >= sizeof(v->why) || strstr(v->why, "nan") || strstr(v->why, "inf"))
		return false;
	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_decode(v->why + i, len - i, &c);
		if (c == UTF8_INVALID || utf8_is_unsafe(c))
			return false;
	}
	return v->confidence >= 0 && v->confidence < 1;
}

static void judge(const struct program *p, size_t n, unsigned allowed)
{
	uint64_t seeds = n > 100 ? SEEDS / 2 : SEEDS;
	struct verdict v = { 0 };
	int right = 0;

	for (uint64_t seed = 1; seed <= seeds; seed++) {
		struct evidence e = evidence_of(p, generate(p, seed * 7919, n));
		struct verdict now = verdict_of(&e);

		assert_true(is_sentence(&now));
		if (allowed >> now.kind & 1)
			right++;
		else
			print_message("  %s, %zu points: %s (%.2f) %s\n", p->name, n, kind_name(now.kind), now.confidence,
				      now.why);
		v = now;
	}
	print_message("%s, %zu points: %s (%.2f) %s\n", p->name, n, kind_name(v.kind), v.confidence, v.why);
	if (right * 100 < (int)seeds * 95)
		fail_msg("%s, %zu points: only %d of %d right", p->name, n, right, (int)seeds);
}

static void test_minute(void **state)
{
	(void)state;
	for (size_t i = 0; i < N(programs); i++)
		judge(&programs[i], 61, 1u << programs[i].verdict);
}

/* Ten minutes say the same, but that growth without a line is a leak by then, and a cache that was full long ago may be steady. */
static void test_ten_minutes(void **state)
{
	(void)state;
	for (size_t i = 0; i < N(programs); i++) {
		unsigned allowed = 1u << programs[i].verdict;

		if (programs[i].verdict == VERDICT_unknown)
			allowed = 1u << VERDICT_leak;
		if (programs[i].verdict == VERDICT_levelling)
			allowed |= 1u << VERDICT_steady;
		judge(&programs[i], POINTS, allowed);
	}
}

/*
 * Whatever is said after 20 s, nobody is accused who does not leak. But a cache that fills at an even pace cannot be told
 * from a leak until it is full: then the process must be young, or the site must have been seen to level off.
 */
static void test_nobody_is_accused_early(void **state)
{
	(void)state;
	for (size_t i = 0; i < N(programs); i++) {
		struct program p = programs[i];

		if (p.verdict == VERDICT_levelling && p.site_trend == TREND_RISING)
			p.age = 25;
		if (p.verdict == VERDICT_leak)
			continue;
		judge(&p, 21, ~(1u << VERDICT_leak | (p.verdict == VERDICT_native ? 0 : 1u << VERDICT_native)));
	}
}

/* Where each threshold lies: a little on this side, a little on that. */
static void test_borders(void **state)
{
	struct program p = programs[1], q;
	struct evidence e;

	(void)state;
	generate(&p, 1, 61);
#define EXPECT(change, verdict)                                                \
	do {                                                                   \
		e = evidence_of(&p, 61);                                       \
		change;                                                        \
		assert_string_equal(kind_name(verdict_of(&e).kind), #verdict); \
	} while (0)
	EXPECT(, leak);
	EXPECT(e.seconds = 10, leak);
	EXPECT(e.seconds = 9.9, unknown);
	EXPECT(e.seconds = NAN, unknown);
	EXPECT(e.strongest.survivors = 8, leak);
	EXPECT(e.strongest.survivors = 7, unknown);
	EXPECT(e.strongest.growth.low = 0, unknown);
	/* The heap's own count says how much; so few blocks say whose it is, and nothing does while it may be none of the line's. */
	EXPECT(e.strongest.counted = true; e.strongest.survivors = 2, leak);
	EXPECT(e.strongest.counted = true; e.strongest.survivors = 1, unknown);
	EXPECT(e.strongest.counted = true; e.strongest.growth.low = 0, unknown);
	EXPECT(e.strongest.growth.low = 20e3, unknown); /* low > estimate: no interval */
	EXPECT(e.strongest.growth = e.growth = ((struct report_estimate){ 99, 90, 110 }), unknown);
	EXPECT(e.strongest.growth = e.growth = ((struct report_estimate){ 1.2e3, 1e3, 1.5e3 }), leak);
	/* The counters grow by 10 KiB/s: a line that says 200 KB/s is wrong, whatever it is. */
	EXPECT(e.strongest.growth = e.growth = ((struct report_estimate){ 2e5, 1.9e5, 2.1e5 }), unknown);
	EXPECT(e.strongest.trend = TREND_SAWTOOTH, unknown);
	EXPECT(e.strongest.trend = TREND_LEVELLING, unknown);
	EXPECT(e.strongest.name = NULL, unknown);
	EXPECT(e.process_age = 100, leak);
	EXPECT(e.process_age = NAN, leak);
	EXPECT(e.n_points = 9, unknown);
	EXPECT(e.n_points = 0, unknown);
	EXPECT(e.n_points = 0; e.points = NULL, unknown);
	/* A second is missing here and there. */
	for (size_t i = 0; i < 61; i += 7)
		points[i] = (struct evidence_point){ NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN };
	EXPECT(, leak);
	q = p;
	q.no_large = true;
	generate(&q, 1, 61);
	EXPECT(, leak);
	/* Growth of small blocks says nothing of a line that keeps large ones. */
	EXPECT(e.strongest.large_share = 0.9, leak);
	for (size_t i = 0; i < 61; i++)
		points[i].raw_blocks = 5000;
	EXPECT(e.strongest.large_share = 0.9, unknown);
	EXPECT(e.strongest.large_share = 0.4, leak);
#undef EXPECT
}

/* Large blocks of unknown size pile up beside small ones that hardly do: that is growth, and the sentence tells of the large ones. */
static void test_large_blocks_are_a_witness(void **state)
{
	struct program p = programs[1];
	struct evidence e;

	(void)state;
	p.no_large = true;
	generate(&p, 1, 61);
	for (size_t i = 0; i < 61; i++) {
		points[i].live_bytes = 1e7 + 500 * (double)i;
		points[i].live_blocks = 1e5 + 5 * (double)i;
		points[i].raw_blocks = 4000 + 350 * (double)i;
	}
	e = evidence_of(&p, 61);
	e.strongest.large_share = 1;
	assert_string_equal(kind_name(verdict_of(&e).kind), "leak");
	assert_non_null(strstr(verdict_of(&e).why, "live large blocks grew +350/s"));
	e.strongest.name = NULL;
	assert_string_equal(kind_name(verdict_of(&e).kind), "unknown");
	assert_non_null(strstr(verdict_of(&e).why, "live large blocks grew +350/s"));
}

/* Who asks for the native memory, if it is one line for the most part. */
static void test_native_names_a_line(void **state)
{
	const struct program *p = programs;
	struct evidence e;

	(void)state;
	while (strcmp(p->name, "native"))
		p++;
	e = evidence_of(p, generate(p, 1, 61));
	assert_int_equal(verdict_of(&e).kind, VERDICT_native);
	assert_null(strstr(verdict_of(&e).why, "asks for"));
	e.outside.name = "/srv/app/images.py:7";
	e.outside.growth = 500 * 1024;
	assert_non_null(strstr(verdict_of(&e).why, "images.py:7 asks for 500 KiB/s"));
	e.outside.growth = 1;
	assert_null(strstr(verdict_of(&e).why, "asks for"));
}

static void test_unknown_says_how_long(void **state)
{
	struct evidence e = evidence_of(&programs[0], generate(&programs[0], 1, 61));

	(void)state;
	e.seconds = 4;
	assert_string_equal(verdict_of(&e).why, "too early: seen for 4.0 s, 6.0 s more will tell");
	e = evidence_of(&programs[1], generate(&programs[1], 1, 61));
	e.strongest.survivors = 4;
	assert_non_null(strstr(verdict_of(&e).why, "about 60.0 s more will tell"));
	e.process_age = e.seconds = 25;
	e.strongest.survivors = 40;
	assert_non_null(strstr(verdict_of(&e).why, "the process is young and may be warming up; about 5.0 s more"));
}

/* Names come from the target: they neither break the sentence nor steer a terminal, and a long one leaves room for the figures. */
static void test_names(void **state)
{
	static const char *const names[] = {
		"\x1b[2J\n\r",
		"\xff\xfe\xc3",
		"",
		"%s%n%s%n",
		"/very/long/very/long/very/long/very/long/very/long/very/long/very/long/very/long/very/long/very/long/very/long/very/"
		"long/very/long/very/long/very/long/very/long/very/long/very/long/very/long/very/long/very/long/very/long/app.py:41",
		"\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d"
		"\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d"
		"\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d\xf0\x9f\x90\x8d"
	};
	struct evidence e = evidence_of(&programs[1], generate(&programs[1], 1, 61));

	(void)state;
	e.process_age = 61;
	for (size_t i = 0; i < N(names); i++) {
		struct verdict v;

		e.strongest.name = names[i];
		v = verdict_of(&e);
		assert_int_equal(v.kind, VERDICT_leak);
		assert_true(is_sentence(&v));
		assert_non_null(strstr(v.why, "live bytes grew"));
	}
}

static void test_hostile(void **state)
{
	static const double absurd[] = { NAN,  INFINITY, -INFINITY, -1, 0,   1e-300, 1e300,
					 1e18, 5e-324,   1.7e308,   1,  100, 1e9,    60 };
	uint64_t rng = 5;

	(void)state;
#define ANY absurd[random_bits(&rng) % N(absurd)]
	for (int round = 0; round < 3000; round++) {
		size_t n = random_bits(&rng) % 70;
		struct evidence e = { ANY, ANY, points, n, { ANY, ANY, ANY } };
		struct verdict v;

		generate(&programs[round % (int)N(programs)], 1, n);
		for (size_t i = 0; i < n; i++) {
			double *field = (double *)&points[i];

			for (size_t k = 0; k < sizeof(points[i]) / sizeof(double); k++)
				if (round % 3 == 0 || random_bits(&rng) % 40 == 0)
					field[k] = ANY;
		}
		e.strongest.name = round % 2 ? "x" : NULL;
		e.strongest.growth = (struct report_estimate){ ANY, ANY, ANY };
		e.strongest.trend = (enum trend_kind)(random_bits(&rng) % 9);
		e.strongest.allocated = ANY;
		e.strongest.survivors = ANY;
		e.strongest.age = ANY;
		e.outside.name = round % 3 ? "y" : NULL;
		e.outside.growth = ANY;
		v = verdict_of(&e);
		if (!is_sentence(&v))
			fail_msg("round %d: %s (%g) %s", round, kind_name(v.kind), v.confidence, v.why);
	}
#undef ANY
	/* More points than can be looked at: the last ones count. */
	for (size_t i = 0; i < N(points); i++)
		points[i] = (struct evidence_point){
			.t = (double)i, .live_bytes = 1e8, .large_bytes = 0, .rss = 2e8, .arena_bytes = 1.1e8
		};
	assert_int_equal(verdict_of(&(struct evidence){ .seconds = 4700, .points = points, .n_points = N(points) }).kind,
			 VERDICT_steady);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_minute),
		cmocka_unit_test(test_ten_minutes),
		cmocka_unit_test(test_nobody_is_accused_early),
		cmocka_unit_test(test_borders),
		cmocka_unit_test(test_large_blocks_are_a_witness),
		cmocka_unit_test(test_native_names_a_line),
		cmocka_unit_test(test_unknown_says_how_long),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
