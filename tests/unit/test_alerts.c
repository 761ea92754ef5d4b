/* SPDX-License-Identifier: MIT */
/* Alerts by simulation: a day of readings in a loop, time in hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "diagnose/alerts.h"

#define S 1000000000ull
#define MIB 1048576.0
#define STEP_S 10

struct host {
	struct alerts *alerts;
	uint64_t now_ns;
	unsigned raised, ended;
	char why[256];
};

static struct host host_new(double rate)
{
	struct alerts_options options = { .rate = rate, .confidence = 0.5 };
	struct host h = { .now_ns = 1000 * S };

	assert_int_equal(alerts_new(&options, &h.alerts), 0);
	return h;
}

static struct watched process(pid_t pid)
{
	struct watched w = { .id = { pid, (uint64_t)pid * 100 }, .growth = NAN, .confidence = NAN };

	return w;
}

static void note(struct host *h, const struct watched *w, enum alert_change change)
{
	/* On, off, on, off: never twice the same. */
	if (change != ALERT_NONE)
		assert_int_equal(change == ALERT_RAISED, h->raised == h->ended);
	h->raised += change == ALERT_RAISED;
	h->ended += change == ALERT_ENDED;
	if (change == ALERT_RAISED)
		assert_true(w->alert);
	if (change == ALERT_ENDED)
		assert_false(w->alert);
	if (change != ALERT_NONE)
		assert_true(strlen(h->why) > 0);
}

/* Readings every STEP_S for so many seconds; the first of them with a report, if fresh. */
static void look(struct host *h, struct watched *w, bool fresh, unsigned seconds)
{
	for (unsigned t = 0; t <= seconds; t += STEP_S) {
		note(h, w, alerts_look(h->alerts, w, fresh && !t, h->now_ns, h->why, sizeof(h->why)));
		h->now_ns += STEP_S * S;
	}
}

static void report(struct host *h, struct watched *w, enum verdict_kind verdict, double confidence)
{
	w->has_verdict = true;
	w->verdict = verdict;
	w->confidence = confidence;
	snprintf(w->why, sizeof(w->why), "app.py:19 keeps all it allocates");
	look(h, w, true, 0);
}

static void expect(const struct host *h, unsigned raised, unsigned ended)
{
	assert_int_equal(h->raised, raised);
	assert_int_equal(h->ended, ended);
}

static void test_leak(void **state)
{
	struct host h = host_new(0);
	struct watched w = process(7);

	(void)state;
	w.growth = 100e3;
	look(&h, &w, false, 3600);
	expect(&h, 0, 0);
	assert_int_equal(alerts_pending(h.alerts), 0);
	report(&h, &w, VERDICT_leak, 0.9);
	look(&h, &w, false, 3600);          /* one report is not enough, however long ago */
	expect(&h, 0, 0);
	report(&h, &w, VERDICT_leak, 0.88);
	expect(&h, 1, 0);
	assert_string_equal(h.why, "leak (confidence 0.88): app.py:19 keeps all it allocates");
	for (int i = 0; i < 100; i++)
		report(&h, &w, VERDICT_leak, 0.9);
	look(&h, &w, false, 86400);         /* nothing speaks against it */
	expect(&h, 1, 0);
	report(&h, &w, VERDICT_steady, 0.9);
	look(&h, &w, false, 570);
	expect(&h, 1, 0);
	look(&h, &w, false, 30);
	expect(&h, 1, 1);
	assert_int_equal(alerts_pending(h.alerts), 0);
	report(&h, &w, VERDICT_leak, 0.9);
	report(&h, &w, VERDICT_leak, 0.9);
	expect(&h, 2, 1);
	alerts_free(h.alerts);
}

/* Verdicts that come and go: every other report raises nothing, and ends nothing either once it is on. */
static void test_flapping(void **state)
{
	struct host h = host_new(0);
	struct watched w = process(7);

	(void)state;
	for (int i = 0; i < 100; i++) {
		report(&h, &w, i % 2 ? VERDICT_steady : VERDICT_leak, 0.9);
		look(&h, &w, false, 60);
	}
	expect(&h, 0, 0);
	report(&h, &w, VERDICT_leak, 0.9);
	report(&h, &w, VERDICT_leak, 0.9);
	expect(&h, 1, 0);
	for (int i = 0; i < 100; i++) {
		report(&h, &w, i % 2 ? VERDICT_leak : VERDICT_levelling, 0.9);
		look(&h, &w, false, 120);
	}
	expect(&h, 1, 0);
	alerts_free(h.alerts);
}

/* "unknown" is said at the start of each sampling and is no opinion; too little confidence is one. */
static void test_unknown_and_confidence(void **state)
{
	struct host h = host_new(0);
	struct watched w = process(7);

	(void)state;
	report(&h, &w, VERDICT_leak, 0.9);
	report(&h, &w, VERDICT_unknown, NAN);
	report(&h, &w, VERDICT_leak, 0.9);
	expect(&h, 1, 0);
	report(&h, &w, VERDICT_unknown, NAN);
	look(&h, &w, false, 7200);
	expect(&h, 1, 0);
	report(&h, &w, VERDICT_leak, 0.49);
	look(&h, &w, false, 700);
	expect(&h, 1, 1);
	for (int i = 0; i < 10; i++)
		report(&h, &w, VERDICT_leak, i % 2 ? 0.49 : NAN);
	expect(&h, 1, 1);
	alerts_free(h.alerts);
}

/* A process that has stopped growing is sampled no more, so no report will take the verdict back: growth does. */
static void test_leak_that_stopped(void **state)
{
	struct host h = host_new(0);
	struct watched w = process(7);

	(void)state;
	w.growth = 100e3;
	report(&h, &w, VERDICT_leak, 0.9);
	report(&h, &w, VERDICT_leak, 0.9);
	w.growth = 20e3;                    /* quieter at night */
	look(&h, &w, false, 7200);
	expect(&h, 1, 0);
	w.growth = 5e3;
	look(&h, &w, false, 500);
	w.growth = 50e3;
	look(&h, &w, false, 100);
	w.growth = 0;
	look(&h, &w, false, 580);
	expect(&h, 1, 0);
	look(&h, &w, false, 0);
	expect(&h, 1, 1);
	/* It begins anew: reports must say so, the old ones do not count. */
	w.growth = 100e3;
	look(&h, &w, false, 7200);
	expect(&h, 1, 1);
	report(&h, &w, VERDICT_leak, 0.9);
	expect(&h, 1, 1);
	report(&h, &w, VERDICT_leak, 0.9);
	expect(&h, 2, 1);
	alerts_free(h.alerts);
}

/* A burst at first is not what later growth is measured by: the last report is. */
static void test_leak_after_a_burst(void **state)
{
	struct host h = host_new(0);
	struct watched w = process(7);

	(void)state;
	w.growth = 10e6;
	report(&h, &w, VERDICT_leak, 0.9);
	report(&h, &w, VERDICT_leak, 0.9);
	w.growth = 500e3;
	report(&h, &w, VERDICT_leak, 0.9);
	look(&h, &w, false, 7200);
	expect(&h, 1, 0);
	alerts_free(h.alerts);
}

static void test_rate(void **state)
{
	struct host h = host_new(MIB);
	struct watched w = process(7);

	(void)state;
	w.growth = 2 * MIB;
	look(&h, &w, false, 110);
	expect(&h, 0, 0);
	look(&h, &w, false, 0);
	expect(&h, 1, 0);
	assert_string_equal(h.why, "grows by +2048 KiB/s for 2 min, more than +1024 KiB/s");
	w.growth = MIB / 2;
	look(&h, &w, false, 580);
	expect(&h, 1, 0);
	w.growth = 2 * MIB;
	look(&h, &w, false, 0);
	w.growth = NAN;                     /* not known is not over the bound */
	look(&h, &w, false, 580);
	expect(&h, 1, 0);
	look(&h, &w, false, 0);
	expect(&h, 1, 1);
	assert_non_null(strstr(h.why, "quiet for 10 min"));
	assert_int_equal(alerts_pending(h.alerts), 0);
	alerts_free(h.alerts);
}

/* Noise around the bound: not raised while it does not hold for two minutes on end, and then on for as long as it keeps coming back. */
static void test_rate_around_the_bound(void **state)
{
	struct host h = host_new(MIB);
	struct watched w = process(7);

	(void)state;
	for (int i = 0; i < 8640; i++) {
		w.growth = MIB * (i % 12 ? 1.01 : 0.99);
		look(&h, &w, false, 0);
	}
	expect(&h, 0, 0);
	w.growth = 1.01 * MIB;
	look(&h, &w, false, 120);
	expect(&h, 1, 0);
	for (int i = 0; i < 8640; i++) {
		w.growth = MIB * (i % 59 ? 0.99 : 1.01);
		look(&h, &w, false, 0);
	}
	expect(&h, 1, 0);
	alerts_free(h.alerts);
}

/* One alert for both reasons; it ends when neither holds. */
static void test_both(void **state)
{
	struct host h = host_new(MIB);
	struct watched w = process(7);

	(void)state;
	w.growth = 2 * MIB;
	look(&h, &w, false, 120);
	report(&h, &w, VERDICT_leak, 0.9);
	report(&h, &w, VERDICT_leak, 0.9);
	expect(&h, 1, 0);
	report(&h, &w, VERDICT_steady, 0.9);
	look(&h, &w, false, 3600);
	expect(&h, 1, 0);
	w.growth = 0;
	look(&h, &w, false, 600);
	expect(&h, 1, 1);
	alerts_free(h.alerts);
}

static void test_end_of_process(void **state)
{
	static const struct {
		enum process_end end;
		int code;
		const char *why;
	} cases[] = {
		{ PROCESS_EXITED, 3, "the process exited with status 3" }, { PROCESS_KILLED, 9, "the process was killed by signal 9" },
		{ PROCESS_OOM, 9, "the process was killed for want of memory" }, { PROCESS_EXECED, 0, "the process runs another program" },
		{ PROCESS_GONE, 0, "the process is gone" },
	};
	struct host h = host_new(0);

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct watched w = process(7);

		w.id.start_ticks += i;
		report(&h, &w, VERDICT_leak, 0.9);
		report(&h, &w, VERDICT_leak, 0.9);
		expect(&h, (unsigned)i + 1, (unsigned)i);
		w.end = cases[i].end;
		w.end_code = cases[i].code;
		note(&h, &w, alerts_gone(h.alerts, &w, h.now_ns, h.why, sizeof(h.why)));
		expect(&h, (unsigned)i + 1, (unsigned)i + 1);
		assert_string_equal(h.why, cases[i].why);
		assert_int_equal(alerts_gone(h.alerts, &w, h.now_ns, h.why, sizeof(h.why)), ALERT_NONE);
	}
	assert_int_equal(alerts_pending(h.alerts), 0);
	alerts_free(h.alerts);
}

/* Another process under the same PID begins with nothing, and the end of the first says nothing of it. */
static void test_pid_reuse(void **state)
{
	struct host h = host_new(0);
	struct watched first = process(7), second = process(7);

	(void)state;
	second.id.start_ticks++;
	report(&h, &first, VERDICT_leak, 0.9);
	report(&h, &second, VERDICT_leak, 0.9);
	expect(&h, 0, 0);
	report(&h, &second, VERDICT_leak, 0.9);
	expect(&h, 1, 0);
	assert_int_equal(alerts_gone(h.alerts, &first, h.now_ns, h.why, sizeof(h.why)), ALERT_NONE);
	look(&h, &second, false, 0);
	assert_true(second.alert);
	assert_int_equal(alerts_gone(h.alerts, &second, h.now_ns, h.why, sizeof(h.why)), ALERT_ENDED);
	alerts_free(h.alerts);
}

/* A million processes come and go: what is remembered is what is wrong now. */
static void test_memory(void **state)
{
	struct host h = host_new(MIB);

	(void)state;
	for (int i = 1; i <= 1000000; i++) {
		struct watched w = process(i % 32768 + 1);

		w.id.start_ticks = (uint64_t)i;
		w.growth = i % 3 ? 0 : 2 * MIB;
		w.has_verdict = true;
		w.verdict = i % 5 ? VERDICT_steady : VERDICT_leak;
		w.confidence = 0.9;
		alerts_look(h.alerts, &w, true, h.now_ns += S, h.why, sizeof(h.why));
		alerts_look(h.alerts, &w, true, h.now_ns += S, h.why, sizeof(h.why));
		w.end = PROCESS_EXITED;
		alerts_gone(h.alerts, &w, h.now_ns, h.why, sizeof(h.why));
		assert_false(w.alert);
	}
	assert_int_equal(alerts_pending(h.alerts), 0);
	alerts_free(h.alerts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_leak),
		cmocka_unit_test(test_flapping),
		cmocka_unit_test(test_unknown_and_confidence),
		cmocka_unit_test(test_leak_that_stopped),
		cmocka_unit_test(test_leak_after_a_burst),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_rate_around_the_bound),
		cmocka_unit_test(test_both),
		cmocka_unit_test(test_end_of_process),
		cmocka_unit_test(test_pid_reuse),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
