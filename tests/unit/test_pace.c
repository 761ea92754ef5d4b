/* SPDX-License-Identifier: MIT */
/*
 * Pacing of windows against simulated targets: the budget holds in every span of ten seconds whatever the target does, and what windows
 * see, weighted, adds up to what happened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "random.h"
#include "trace/pace.h"

#define MS 1000000.0
#define SECOND 1e9
#define HIT_NS 1100.0
#define SPAN_S 10
#define SECONDS_MAX 240

/* Share of the time computed, and hits a second of computing, at a moment. */
struct behaviour {
	const char *label;
	double (*load)(double t);
	double (*hits)(double t);
};

static double full(double t)
{
	(void)t;
	return 1;
}

static double hardly(double t)
{
	(void)t;
	return 0.001;
}

static double third(double t)
{
	(void)t;
	return 0.3;
}

static double few(double t)
{
	(void)t;
	return 5e3;
}

static double many(double t)
{
	(void)t;
	return 5e6;
}

static double changing(double t)
{
	return fmod(t, 6) < 3 ? 5e6 : 5e3;
}

/* Calm for long, so that windows grow, then 20 ms of all there is. */
static double bursts(double t)
{
	return fmod(t, 7.3) < 0.02 ? 5e6 : 1e3;
}

static double load_with_bursts(double t)
{
	return fmod(t, 7.3) < 0.02 ? 1 : 0.2;
}

static const struct behaviour behaviours[] = {
	{ "idle", hardly, few },
	{ "steady", third, few },
	{ "busy", full, few },
	{ "5 million a second", full, many },
	{ "5 million a second, a third of the time", third, many },
	{ "changing by 1,000", full, changing },
	{ "changing by 1,000 at a third", third, changing },
	{ "bursts", load_with_bursts, bursts },
};

struct sim {
	struct pace pace;
	double t_ns, cpu_ns;
	double worked[SECONDS_MAX + 60], spent[SECONDS_MAX + 60];
	uint64_t windows, cut;
	double armed_ns;
};

static struct pace_clock clock_of(const struct sim *s)
{
	return (struct pace_clock){ .cpu_ns = (uint64_t)s->cpu_ns };
}

/* Untraced until then. */
static void run_bare(struct sim *s, const struct behaviour *b, double until_ns)
{
	while (s->t_ns < until_ns) {
		double step = fmin(until_ns - s->t_ns, MS), work = step * b->load(s->t_ns / SECOND);

		s->cpu_ns += work;
		s->worked[(int)(s->t_ns / SECOND)] += work;
		s->t_ns += step;
	}
}

/* A window in steps of 10 us. A hit delays the work; while it computes a target has no more than a whole processor. */
static void run_window(struct sim *s, const struct behaviour *b, const struct pace_plan *plan, uint64_t *seed)
{
	double end_ns = s->t_ns + (double)plan->length_ns, begun_ns = s->t_ns, paid;
	uint64_t hits = 0;

	while (s->t_ns < end_ns && hits < plan->hits_max) {
		double step = 10e3, load = b->load(s->t_ns / SECOND), rate = b->hits(s->t_ns / SECOND) / SECOND;
		double work = fmin(load * step, step / (1 + rate * HIT_NS));
		uint64_t n = random_poisson(seed, work * rate);

		s->worked[(int)(s->t_ns / SECOND)] += work;
		s->cpu_ns += work + (double)n * HIT_NS;
		hits += n;
		s->t_ns += step;
	}
	paid = pace_pay(&s->pace, s->t_ns - begun_ns, hits, (uint64_t)((double)hits * (HIT_NS - 500)));
	assert_true(fabs(paid - (double)hits * HIT_NS) <= 1 + 1e-6 * paid);
	s->spent[(int)(s->t_ns / SECOND)] += paid;
	s->armed_ns += s->t_ns - begun_ns;
	s->windows++;
	s->cut += hits >= plan->hits_max;
}

static void simulate(struct sim *s, const struct behaviour *b, double budget, double share_max, int seconds, uint64_t seed)
{
	struct pace_options options = { .budget = budget, .share_max = share_max, .trap_ns = 500, .seed = seed };
	uint64_t random = seed;

	memset(s, 0, sizeof(*s));
	pace_init(&s->pace, &options, 0, clock_of(s));
	run_bare(s, b, 150 * MS);
	while (s->t_ns < seconds * SECOND) {
		struct pace_plan plan;

		pace_earn(&s->pace, (uint64_t)s->t_ns, clock_of(s));
		plan = pace_next(&s->pace);
		assert_true(plan.length_ns >= 300000 && plan.length_ns <= 300000000);
		assert_true(plan.stay || plan.cycle_ns >= (double)plan.length_ns);
		/* As trace/window.c: a long wait is thought over. */
		if ((double)plan.start_ns > s->t_ns + SECOND) {
			run_bare(s, b, s->t_ns + SECOND);
			continue;
		}
		run_bare(s, b, (double)plan.start_ns);
		if (plan.stay)
			plan.length_ns = (uint64_t)plan.cycle_ns;
		run_window(s, b, &plan, &random);
	}
}

/* In each span no more than the allowance (what was worked, and the share that idle time is given) and what was saved before. */
static void expect_within_budget(const struct sim *s, const char *label, double budget, int seconds)
{
	double worst = 0, saved = 2 * 300e3;   /* the least: two of the shortest windows */

	for (int from = 0; from + SPAN_S <= seconds; from++) {
		double worked = 0, spent = 0, allowed;

		for (int i = from; i < from + SPAN_S; i++) {
			worked += s->worked[i];
			spent += s->spent[i];
		}
		allowed = budget * (worked + 0.2 * SPAN_S * SECOND);
		worst = fmax(worst, spent / (1.1 * allowed + saved));
	}
	if (worst > 1 || !s->windows)
		fail_msg("%s at %g %%: %g of what it may cost, %llu windows", label, 100 * budget, worst, (unsigned long long)s->windows);
}

static void test_budget(void **state)
{
	static const double budgets[] = { 0.0001, 0.005, 0.02, 0.1 };
	static struct sim s;

	(void)state;
	for (size_t i = 0; i < sizeof(behaviours) / sizeof(behaviours[0]); i++) {
		for (size_t k = 0; k < 4; k++) {
			for (int stay = 0; stay < 2; stay++) {
				simulate(&s, &behaviours[i], budgets[k], stay ? 1 : 0.5, SECONDS_MAX, 1 + i * 8 + k * 2 + (uint64_t)stay);
				expect_within_budget(&s, behaviours[i].label, budgets[k], SECONDS_MAX);
			}
		}
	}
}

/* The budget is used, not only kept: where there is something to see and time to spend. */
static void test_budget_is_used(void **state)
{
	static struct sim s;

	(void)state;
	for (size_t i = 1; i < 5; i++) {
		double spent = 0, worked = 0;

		simulate(&s, &behaviours[i], 0.02, 0.5, 60, 7 + i);
		for (int k = 10; k < 60; k++) {
			spent += s.spent[k];
			worked += s.worked[k];
		}
		if (spent < 0.01 * worked && s.armed_ns < 0.3 * 60 * SECOND)
			fail_msg("%s: only %g %% spent", behaviours[i].label, 100 * spent / worked);
	}
}

/* Cheap enough, a group that may stays armed; one that may not has gaps. */
static void test_stays_armed(void **state)
{
	static const struct behaviour calm = { "calm", third, hardly };
	static struct sim s;

	(void)state;
	simulate(&s, &calm, 0.02, 1, 60, 3);
	assert_true(s.armed_ns > 0.9 * 58 * SECOND);
	simulate(&s, &calm, 0.02, 0.5, 60, 3);
	assert_true(s.armed_ns > 0.3 * 60 * SECOND && s.armed_ns < 0.6 * 60 * SECOND);
}

/* What it takes to learn that a target costs little: not thirty windows. */
static void test_learns_soon(void **state)
{
	static const struct behaviour calm = { "calm", hardly, hardly };
	static struct sim s;

	(void)state;
	simulate(&s, &calm, 0.02, 0.5, 4, 3);
	assert_true(s.armed_ns > 0.3 * 2 * SECOND);
}

/* A burst ends a window; the account waits until that is paid off. */
static void test_burst(void **state)
{
	struct pace_options options = { .budget = 0.02, .share_max = 0.5, .trap_ns = 500, .seed = 1 };
	struct pace_clock clock = { 0 };
	struct pace_plan plan;
	struct pace p;
	uint64_t now = 0;

	(void)state;
	pace_init(&p, &options, 0, clock);
	for (int i = 0; i < 100; i++) {
		now += 100000000;
		clock.cpu_ns += 50000000;
		pace_earn(&p, now, clock);
		pace_pay(&p, 5e6, 10, 10000);
	}
	plan = pace_next(&p);
	assert_true(plan.length_ns > 10000000);
	/* Savings are a second's allowance at most. */
	assert_true((double)plan.hits_max * p.hit_ns < 3 * SECOND * p.income);
	pace_pay(&p, 1e6, 200000, 100000000);
	clock.cpu_ns += 200000000;
	now += 200000000;
	pace_earn(&p, now, clock);
	plan = pace_next(&p);
	assert_true(p.account_ns < 0);
	assert_true(plan.wait_ns > SECOND && plan.start_ns >= now + (uint64_t)plan.wait_ns);
	/* The overhead is not taken for work. */
	assert_true(p.income < 0.02);
}

struct tally {
	double truth, seen;
};

/* True times of things, and what windows at those times, weighted, make of them. Things delay nothing here: that is window.c's part. */
static struct tally count_things(double (*next)(double t, uint64_t *random), uint64_t seed, double seconds)
{
	struct pace_options options = { .budget = 0.02, .share_max = 0.5, .trap_ns = 500, .seed = seed };
	struct pace_clock clock = { 0 };
	struct tally tally = { 0 };
	double t = 150 * MS, thing, waited = 0, skipped = 0, planned = t;
	uint64_t random = seed * 77 + 1;
	struct pace p;

	pace_init(&p, &options, 0, clock);
	for (thing = next(0, &random); thing < t; thing = next(thing, &random))
		;
	while (t < seconds * SECOND) {
		struct pace_plan plan;
		uint64_t seen = 0;
		double start;

		clock.cpu_ns = (uint64_t)(0.5 * t);
		waited += fmin(t - planned, skipped);
		pace_earn(&p, (uint64_t)t, clock);
		plan = pace_next(&p);
		planned = t;
		skipped = plan.wait_ns;
		start = fmin((double)plan.start_ns, t + SECOND);
		for (; thing < start; thing = next(thing, &random))
			tally.truth++;
		t = start;
		if (start < (double)plan.start_ns)
			continue;
		for (; thing < start + (double)plan.length_ns; thing = next(thing, &random))
			seen++;
		t += (double)plan.length_ns;
		tally.truth += (double)seen;
		tally.seen += (double)seen * (waited + plan.cycle_ns) / (double)plan.length_ns;
		waited = skipped = 0;
		planned = t;
		/* The cost changes with what is seen: lengths depend on the past. */
		pace_pay(&p, (double)plan.length_ns, seen * 20, seen * 20 * 600);
	}
	return tally;
}

static double poisson_things(double t, uint64_t *random)
{
	return t - log(1 - random_uniform(random)) * 2 * MS;
}

/* With the period that windows have on average. */
static double periodic_things(double t, uint64_t *random)
{
	(void)random;
	return t + 100 * MS;
}

/* Every half second 200 within a millisecond. */
static double bursty_things(double t, uint64_t *random)
{
	double in = fmod(t, 500 * MS);

	(void)random;
	return in < MS ? t + MS / 200 : t - in + 500 * MS;
}

static void expect_unbiased(const char *label, double (*next)(double, uint64_t *), int seeds)
{
	double sum = 0, squares = 0, mean, error;

	for (int seed = 1; seed <= seeds; seed++) {
		struct tally tally = count_things(next, (uint64_t)seed, 60);
		double ratio = tally.seen / tally.truth;

		sum += ratio;
		squares += ratio * ratio;
	}
	mean = sum / seeds;
	error = sqrt((squares / seeds - mean * mean) / seeds);
	print_message("%s: %.4f +- %.4f of the truth, one run in a minute +- %.2f\n", label, mean, error, error * sqrt(seeds));
	if (fabs(mean - 1) > 3 * error + 0.01)
		fail_msg("%s: %g +- %g of the truth", label, mean, error);
	assert_true(error < 0.05);
}

static void test_unbiased(void **state)
{
	(void)state;
	expect_unbiased("Poisson", poisson_things, 300);
	expect_unbiased("periodic", periodic_things, 300);
	expect_unbiased("bursts", bursty_things, 300);
}

/* Clocks that stand, go back or jump. */
static void test_absurd_clocks(void **state)
{
	struct pace_options options = { .budget = 0.02, .share_max = 1, .trap_ns = 500, .seed = 1 };
	struct pace_clock clock = { .cpu_ns = 5000000000 };
	uint64_t random = 9, now = 1000000000000;
	struct pace p;

	(void)state;
	pace_init(&p, &options, now, clock);
	for (int i = 0; i < 20000; i++) {
		struct pace_plan plan;
		uint64_t dice = random_bits(&random) % 8;

		now = dice == 0 ? now - 5000000000 : dice == 1 ? now + 3600000000000 : dice == 2 ? now : now + random_bits(&random) % 200000000;
		if (now < 1000000000)
			now = 1000000000000;
		clock.cpu_ns = dice == 3 ? 0 : dice == 4 ? clock.cpu_ns + 1000000000000000 : clock.cpu_ns + random_bits(&random) % 100000000;
		clock.delay_ns = dice == 5 ? UINT64_MAX : dice == 6 ? 0 : clock.delay_ns;
		pace_earn(&p, now, clock);
		plan = pace_next(&p);
		assert_true(isfinite(p.account_ns) && isfinite(p.income) && p.income >= 0 && p.income <= 0.0241);
		assert_true(pace_load(&p) >= 0 && pace_load(&p) <= 1);
		assert_true(plan.start_ns >= p.now_ns && plan.start_ns < p.now_ns + 600 * 1000000000ull);
		assert_true(plan.length_ns >= 300000 && plan.length_ns <= 300000000 && plan.hits_max >= 32);
		assert_true(isfinite(plan.cycle_ns) && plan.cycle_ns > 0);
		/* Never more than a second's savings and two windows' cost, or a millisecond, whatever the clock says. */
		assert_true(fmin((double)plan.length_ns, (double)plan.hits_max * fmin(p.hit_ns, 3000)) <= 0.0241 * SECOND + 2 * 100 * MS);
		if (dice == 7)
			pace_pay(&p, (double)(random_bits(&random) % 50000000), random_bits(&random) % 1000000, random_bits(&random) % 1000000000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_budget_is_used),
		cmocka_unit_test(test_stays_armed),
		cmocka_unit_test(test_learns_soon),
		cmocka_unit_test(test_burst),
		cmocka_unit_test(test_unbiased),
		cmocka_unit_test(test_absurd_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
