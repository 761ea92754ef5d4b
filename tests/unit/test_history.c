/* SPDX-License-Identifier: MIT */
/* Readings of real interpreters that grow by known amounts a step; the steps are seconds of a clock that the test turns. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "diagnose/history.h"
#include "pytarget.h"

#define SECOND 1000000000ull

/* A step keeps so many: 300 bytes objects of 133 bytes (class 8), 20 of 2033; and replaces a thousand strings. */
#define SMALL_STEP 300
#define LARGE_STEP 20

static const char program[] =
	"import sys\n"
	"kept = [None] * 200000\n"
	"cache = ['x%d' % i * 8 for i in range(1000)]\n"
	"n = 0\n"
	"print('ready', flush=True)\n"
	"for line in sys.stdin:\n"
	"    for i in range(300):\n"
	"        kept[n] = bytes(100); n += 1\n"
	"    for i in range(20):\n"
	"        kept[n] = bytes(2000); n += 1\n"
	"    for i in range(1000):\n"
	"        cache[i] = 'y%d' % i * 8\n"
	"    print('ok', flush=True)\n";

struct watched {
	struct pytarget target;
	struct python *python;
	struct types *types;
	struct history *history;
	uint64_t now_ns;
};

static void start(struct watched *w, const struct pyinterp *interp, const char *const *env)
{
	char line[16];
	struct err err = { 0 };

	memset(w, 0, sizeof(*w));
	assert_int_equal(pytarget_start(interp, program, env, &w->target), 0);
	assert_true(pytarget_line(&w->target, line, sizeof(line)));
	if (python_open(w->target.pid, &w->python, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	assert_int_equal(types_new(w->python, &w->types), 0);
	w->now_ns = 1000 * SECOND;
	assert_int_equal(history_new(w->python, w->types, w->now_ns, &w->history), 0);
}

static void finish(struct watched *w)
{
	history_free(w->history);
	types_free(w->types);
	python_free(w->python);
	pytarget_stop(&w->target);
}

static void step(struct watched *w)
{
	char line[16];

	assert_int_equal(history_read(w->history, w->now_ns), 0);
	w->now_ns += SECOND;
	fputs("go\n", w->target.in);
	fflush(w->target.in);
	assert_true(pytarget_line(&w->target, line, sizeof(line)));
}

static void expect_near(const char *label, const char *what, double got, double want, double within)
{
	if (!(fabs(got - want) <= within))
		fail_msg("%s: %s is %g, not %g", label, what, got, want);
}

static void check_growth(const struct pyinterp *interp)
{
	struct watched w;
	struct history_cell *cells;
	const struct evidence_point *points;
	size_t count, n;
	bool found = false;

	start(&w, interp, NULL);
	for (int i = 0; i < 40; i++)
		step(&w);
	points = history_points(w.history, &n);
	/* A reading of t seconds is made every 100 t: on a machine at work some are left out. */
	assert_true(n >= 15 && n <= 40);
	for (size_t i = 0; i < n; i++) {
		assert_true(points[i].rss > 1e6 && points[i].live_blocks > 1000 && points[i].arena_bytes >= points[i].live_bytes);
		assert_true(i == 0 || (points[i].t > points[i - 1].t && points[i].live_blocks > points[i - 1].live_blocks));
		assert_true(isnan(points[i].large_bytes));
	}
	expect_near(interp->label, "growth of small blocks", history_small_growth(w.history, 5).slope, SMALL_STEP, 5);
	if (isfinite(points[n - 1].raw_blocks) && isfinite(history_raw_growth(w.history, 5).error))
		expect_near(interp->label, "growth of large blocks", history_raw_growth(w.history, 5).slope, LARGE_STEP, 2);
	assert_int_equal(history_cells(w.history, 5, &cells, &count), 0);
	assert_true(count > 10);
	for (size_t i = 0; i < count; i++) {
		const char *name = types_name(w.types, cells[i].type);

		if (cells[i].size_class == 8 && !strcmp(name, "bytes")) {
			found = true;
			expect_near(interp->label, "growth of bytes", cells[i].growth.slope, SMALL_STEP, 5);
			assert_true(cells[i].live >= 30 * SMALL_STEP);
		} else if (fabs(cells[i].growth.slope) > 5) {
			fail_msg("%s: class %u of %s seems to grow by %g", interp->label, cells[i].size_class, name, cells[i].growth.slope);
		}
	}
	assert_true(found);
	free(cells);
	/* Too late for three censuses: then the last ones. */
	assert_int_equal(history_cells(w.history, 39, &cells, &count), 0);
	assert_true(count > 10);
	free(cells);
	assert_true(isinf(history_small_growth(w.history, 1000).error));
	finish(&w);
}

static void test_growth(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		check_growth(&interps[i]);
}

/* When it says; not before; and what was read is not read again. */
static void test_when(void **state)
{
	struct watched w;
	size_t n, count;

	(void)state;
	start(&w, pyinterps(&n), NULL);
	assert_int_equal(history_next_ns(w.history), w.now_ns);
	assert_int_equal(history_read(w.history, w.now_ns - 1), 0);
	history_points(w.history, &count);
	assert_int_equal(count, 0);
	assert_int_equal(history_read(w.history, w.now_ns), 0);
	assert_true(history_next_ns(w.history) >= w.now_ns + SECOND && history_next_ns(w.history) <= w.now_ns + 100 * SECOND);
	assert_int_equal(history_read(w.history, history_next_ns(w.history) - 1), 0);
	history_points(w.history, &count);
	assert_int_equal(count, 1);
	finish(&w);
}

/* Weeks: the past is thinned, its ends stay in order. */
static void test_long(void **state)
{
	struct watched w;
	const struct evidence_point *points;
	struct history_cell *cells;
	size_t n, count;

	(void)state;
	start(&w, pyinterps(&n), NULL);
	for (int i = 0; i < 5000; i++) {
		w.now_ns += 200 * SECOND;
		assert_int_equal(history_read(w.history, w.now_ns), 0);
	}
	points = history_points(w.history, &count);
	assert_true(count > 1000 && count <= TREND_MAX_POINTS);
	assert_true(points[0].t == 200 && points[count - 1].t == 5000 * 200.0);
	for (size_t i = 1; i < count; i++)
		assert_true(points[i].t > points[i - 1].t);
	assert_int_equal(history_cells(w.history, 0, &cells, &count), 0);
	assert_true(count > 10);
	for (size_t i = 0; i < count; i++)
		assert_true(fabs(cells[i].growth.slope) < 1e-3);
	free(cells);
	finish(&w);
}

/* Without pymalloc there are no cells, and no error. */
static void test_without_pymalloc(void **state)
{
	static const char *const env[] = { "PYTHONMALLOC=malloc", NULL };
	struct watched w;
	const struct evidence_point *points;
	struct history_cell *cells;
	size_t n, count;

	(void)state;
	start(&w, pyinterps(&n), env);
	for (int i = 0; i < 10; i++)
		step(&w);
	points = history_points(w.history, &count);
	assert_true(count >= 1 && points[0].rss > 1e6);
	assert_int_equal(history_cells(w.history, 0, &cells, &count), 0);
	assert_true(count == 0 || !cells || cells[0].live >= 0);
	free(cells);
	finish(&w);
}

static void test_target_goes(void **state)
{
	struct watched w;
	size_t n;

	(void)state;
	start(&w, pyinterps(&n), NULL);
	step(&w);
	kill(w.target.pid, SIGKILL);
	pytarget_stop(&w.target);
	assert_int_equal(history_read(w.history, w.now_ns + 1000 * SECOND), -ESRCH);
	finish(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_when),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_without_pymalloc),
		cmocka_unit_test(test_target_goes),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
