/* SPDX-License-Identifier: MIT */
/* The census of small blocks against what real interpreters hold, against the interpreter's own counts, in part, and while it changes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "heap/cells.h"
#include "interp/obmalloc.h"
#include "pytarget.h"

/* What it makes between two censuses. */
static const char known[] =
	"import sys, gc\n"
	"gc.collect(); gc.disable()\n"
	"class Session: __slots__ = ('a', 'b', 'c')\n"
	"class Plain:\n"
	"    def __init__(self): self.a = None\n"
	"big = 10 ** 30\n"
	"print('ready', flush=True)\n"
	"if not sys.stdin.readline(): sys.exit()\n"
	"keep = [Session() for i in range(10000)], [Plain() for i in range(7000)], [(str, i) for i in range(5000)], [b'z' * (100 + i % 16) for i in range(9000)]\n"
	"keep += [big + i for i in range(4000)], [{i} for i in range(3000)], [[None] for i in range(6000)], [{} for i in range(2000)]\n"
	"drop = [Session() for i in range(20000)]; drop = None\n"
	"dead = [{'k': i} for i in range(30)]; dead = None\n"
	"print('made', flush=True)\n"
	"sys.stdin.read()\n";

/* How many of each; an int each in 5,000 tuples and 3,000 sets, but for the small ones. */
static const struct {
	const char *type;
	uint64_t count;
} census[] = {
	{ "__main__.Session", 10000 }, { "__main__.Plain", 7000 }, { "tuple", 5000 }, { "bytes", 9000 },
	{ "int", 4000 + 4743 + 2743 }, { "set", 3000 },            { "list", 6000 },  { "dict", 2000 },
};

struct target {
	struct pytarget process;
	struct python *python;
	struct types *types;
};

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void start(struct target *t, const struct pyinterp *interp, const char *program, const char *const *env)
{
	struct err err = { 0 };
	char line[64];

	*t = (struct target){ 0 };
	assert_int_equal(pytarget_start(interp, program, env, &t->process), 0);
	assert_true(pytarget_line(&t->process, line, sizeof(line)));
	pytarget_rest(&t->process);
	if (python_open(t->process.pid, &t->python, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	assert_int_equal(types_new(t->python, &t->types), 0);
}

static void stop(struct target *t)
{
	types_free(t->types);
	python_free(t->python);
	pytarget_stop(&t->process);
}

static struct cells *read_all(struct target *t, const struct pyinterp *interp, uint64_t max_bytes, uint32_t shift)
{
	const struct cells_options options = { .max_bytes = max_bytes, .shift = shift };
	struct cells *cells = NULL;
	struct err err = { 0 };

	if (cells_read(t->python, t->types, &options, &cells, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	return cells;
}

/* All cells of a type. */
static struct cell sum_of(const struct target *t, const struct cells *cells, const char *type)
{
	struct cell sum = { 0 }, cell;
	uint64_t cursor = 0;
	uint32_t class, id;

	while (cells_next(cells, &cursor, &class, &id, &cell)) {
		assert_true(cell.live == cells_get(cells, class, id).live && (cell.live || cell.parked));
		if (strcmp(id ? types_name(t->types, id) : "", type) != 0)
			continue;
		sum.live += cell.live;
		sum.parked += cell.parked;
	}
	return sum;
}

static void known_of(const struct pyinterp *interp, const char *const *env)
{
	struct obmalloc_totals totals;
	struct err err = { 0 };
	struct class_counts classes;
	struct target t;
	struct cells *before, *cells;
	uint64_t by_class = 0;
	char line[64];

	start(&t, interp, known, env);
	before = read_all(&t, interp, 0, 0);
	fputs("\n", t.process.in);
	fflush(t.process.in);
	assert_true(pytarget_line(&t.process, line, sizeof(line)));
	pytarget_rest(&t.process);
	cells = read_all(&t, interp, 0, 0);
	for (size_t i = 0; i < sizeof(census) / sizeof(census[0]); i++) {
		uint64_t live = sum_of(&t, cells, census[i].type).live - sum_of(&t, before, census[i].type).live, count = census[i].count;

		/* up to 3.10 each Plain has a dict; from 3.15 an int is small up to 1024 */
		if (strcmp(census[i].type, "dict") == 0 && interp->minor <= 10)
			count += 7000;
		if (strcmp(census[i].type, "int") == 0 && interp->minor >= 15)
			count -= 2 * (1024 - 256);
		/* 40: objects from free lists, and what a statement leaves behind */
		if (live + 40 < count || live > count + 40)
			fail_msg("%s: %llu of %s more, not %llu", interp->label, (unsigned long long)live, census[i].type,
				 (unsigned long long)count);
	}
	/* the target is idle: all three ways to count agree to the block */
	assert_int_equal(obmalloc_totals(t.python, &totals, &err), 0);
	assert_int_equal(class_counts_read(t.python, &classes, &err), 0);
	for (size_t c = 0; c < CELLS_CLASSES_MAX; c++) {
		by_class += classes.live[c];
		assert_int_equal(classes.live[c], cells_info(cells)->classes.live[c]);
	}
	assert_int_equal(by_class, totals.live_blocks);
	assert_int_equal(cells_info(cells)->live + cells_info(cells)->parked, totals.live_blocks);
	assert_int_equal(cells_info(cells)->pools_read, totals.pools_used);
	assert_int_equal(cells_info(cells)->pools_torn + cells_info(cells)->pools_gone, 0);
	assert_int_equal(cells_info(cells)->factor, 1);
	/* the dicts that died are on CPython's free list */
	assert_in_range(sum_of(&t, cells, "dict").parked, 20, 100);
	print_message("%s: %llu blocks, %llu parked, %llu no objects\n", interp->label, (unsigned long long)cells_info(cells)->live,
		      (unsigned long long)cells_info(cells)->parked, (unsigned long long)sum_of(&t, cells, "").live);
	cells_free(before);
	cells_free(cells);
	stop(&t);
}

static void test_known(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		known_of(&interps[i], NULL);
}

static void test_debug_hooks(void **state)
{
	static const char *const env[] = { "PYTHONMALLOC=debug", NULL };
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		known_of(&interps[i], env);
}

static const char large[] = "import sys\n"
			    "class Session: __slots__ = ('a', 'b', 'c')\n"
			    "keep = [(Session(), str(i)) for i in range(400000)]\n"
			    "print('ready', flush=True)\n"
			    "sys.stdin.read()\n";

/* A part of a heap: the same pools each time, a part of those with half as many; the estimate near the truth. */
static void part_of(const struct pyinterp *interp)
{
	struct target t;
	struct cells *all, *part, *again, *half;
	struct class_counts classes;
	struct err err = { 0 };
	double from, took;
	uint64_t estimate;

	start(&t, interp, large, NULL);
	all = read_all(&t, interp, 0, 0);
	cells_free(all);
	from = seconds();
	all = read_all(&t, interp, 0, 0);
	took = seconds() - from;
	print_message("%s: %.1f MB in %.1f ms: %.2f GB/s, %.1f ns a block\n", interp->label, (double)cells_info(all)->bytes_read / 1e6,
		      took * 1e3, (double)cells_info(all)->bytes_read / took / 1e9, took * 1e9 / (double)cells_info(all)->live);
	assert_int_equal(sum_of(&t, all, "__main__.Session").live, 400000);
	from = seconds();
	assert_int_equal(class_counts_read(t.python, &classes, &err), 0);
	took = seconds() - from;
	print_message("%s: class counts of %llu pools in %.2f ms\n", interp->label, (unsigned long long)classes.pools, took * 1e3);
	part = read_all(&t, interp, cells_info(all)->bytes_read / 7, 0);
	again = read_all(&t, interp, 0, cells_info(part)->shift);
	half = read_all(&t, interp, 0, cells_info(part)->shift + 1);
	assert_true(cells_info(part)->shift >= 2 && cells_info(part)->bytes_read * 7 <= cells_info(all)->bytes_read);
	assert_int_equal(cells_info(part)->factor, 1 << cells_info(part)->shift);
	assert_int_equal(sum_of(&t, part, "__main__.Session").live, sum_of(&t, again, "__main__.Session").live);
	assert_int_equal(cells_info(part)->live, cells_info(again)->live);
	assert_true(cells_info(half)->pools_read < cells_info(part)->pools_read && cells_info(half)->pools_read > 0);
	estimate = sum_of(&t, part, "__main__.Session").live * cells_info(part)->factor;
	print_message("%s: 1 in %llu: estimate %llu of 400,000\n", interp->label, (unsigned long long)cells_info(part)->factor,
		      (unsigned long long)estimate);
	assert_in_range(estimate, 260000, 540000);
	cells_free(all);
	cells_free(part);
	cells_free(again);
	cells_free(half);
	stop(&t);
}

static void test_part(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		part_of(&interps[i]);
}

static const char churning[] = "import sys, threading\n"
			       "class Session: __slots__ = ('a', 'b', 'c')\n"
			       "class Brief: __slots__ = ('a', 'b', 'c')\n"
			       "keep = []\n"
			       "for i in range(10000): keep.append(Session()); drop = [Brief() for k in range(3)]\n"
			       "def run():\n"
			       "    while True: a = [Brief() for i in range(5000)]; b = [str(i) for i in range(5000)]\n"
			       "for i in range(2): threading.Thread(target=run, daemon=True).start()\n"
			       "print('ready', flush=True)\n"
			       "sys.stdin.read()\n";

/* Counts of what nobody touches are exact but for torn pools; counts of what changes are not absurd. */
static void churn_of(const struct pyinterp *interp)
{
	struct target t;
	uint64_t torn = 0, pools = 0;

	start(&t, interp, churning, NULL);
	for (int round = 0; round < 30; round++) {
		struct cells *cells = read_all(&t, interp, 0, 0);
		uint64_t live = sum_of(&t, cells, "__main__.Session").live, brief = sum_of(&t, cells, "__main__.Brief").live;
		const struct cells_info *info = cells_info(cells);

		if (live > 10000 || live + 600 * info->pools_torn < 10000 || brief > 40000)
			fail_msg("%s: %llu kept, %llu brief, %llu pools torn", interp->label, (unsigned long long)live,
				 (unsigned long long)brief, (unsigned long long)info->pools_torn);
		torn += info->pools_torn;
		pools += info->pools_read;
		cells_free(cells);
	}
	print_message("%s: %llu pools torn of %llu\n", interp->label, (unsigned long long)torn, (unsigned long long)pools);
	assert_true(torn * 20 < pools);
	stop(&t);
}

static void test_churn(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		churn_of(&interps[i]);
}

static void test_none(void **state)
{
	static const char *const env[] = { "PYTHONMALLOC=malloc", NULL };
	const struct cells_options options = { 0 };
	struct class_counts counts;
	struct cells *cells = NULL;
	struct err err = { 0 };
	struct target t;
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	start(&t, &interps[0], "import sys\nprint(1, flush=True); sys.stdin.read()", env);
	assert_int_equal(cells_read(t.python, t.types, &options, &cells, &err), -ENOENT);
	assert_int_equal(class_counts_read(t.python, &counts, &err), -ENOENT);
	assert_null(cells);
	cells_free(NULL);
	pytarget_stop(&t.process);
	assert_true(cells_read(t.python, t.types, &options, &cells, &err) < 0);
	t.process.pid = 0;
	stop(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_debug_hooks),
		cmocka_unit_test(test_part),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
