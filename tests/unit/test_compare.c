/* SPDX-License-Identifier: MIT */
/* Growth between two censuses: rows, order, sums, rates, the filter. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "census_by_hand.h"
#include "heap/compare.h"

static const struct hand_row before_rows[] = {
	{ "app.Gone", 5, 500, 50 }, { "app.Grows", 10, 1000, 100 }, { "app.Shrinks", 30, 3000, 0 }, { "dict", 7, 7000, 700 }, { NULL }
};
static const struct hand_row now_rows[] = {
	{ "app.Grows", 110, 11000, 1100 }, { "app.New", 1, 20, 0 }, { "app.Shrinks", 10, 1000, 0 }, { "dict", 7, 7000, 700 }, { NULL }
};

static void expect_row(const struct comparison_row *row, const char *name, uint64_t count, uint64_t bytes, int64_t delta_count, int64_t delta_bytes)
{
	assert_string_equal(row->name, name);
	assert_int_equal(row->count, count);
	assert_int_equal(row->bytes, bytes);
	assert_int_equal(row->delta_count, delta_count);
	assert_int_equal(row->delta_bytes, delta_bytes);
}

static void test_growth(void **state)
{
	_cleanup_(census_freep) struct census *before = census_by_hand(before_rows), *now = census_by_hand(now_rows);
	_cleanup_(comparison_freep) struct comparison *c = NULL;

	(void)state;
	before->non_objects[CENSUS_CODE] = (struct census_row){ .count = 3, .bytes = 300 };
	now->non_objects[CENSUS_FREE_LIST] = (struct census_row){ .count = 2, .bytes = 128 };
	assert_int_equal(comparison_new(before, now, 10, &c), 0);
	assert_true(c->has_deltas);
	assert_int_equal(c->n_types, 5);
	expect_row(&c->types[0], "app.Grows", 110, 11000, 100, 10000);
	assert_int_equal(c->types[0].owned_bytes, 1100);
	expect_row(&c->types[1], "app.New", 1, 20, 1, 20);
	expect_row(&c->types[2], "dict", 7, 7000, 0, 0);
	expect_row(&c->types[3], "app.Gone", 0, 0, -5, -500);
	expect_row(&c->types[4], "app.Shrinks", 10, 1000, -20, -2000);
	expect_row(&c->non_objects[0], "free list", 2, 128, 2, 128);
	expect_row(&c->non_objects[CENSUS_NON_OBJECT_COUNT - 1], "code", 0, 0, -3, -300);
	assert_int_equal(c->total.count, 128);
	assert_int_equal(c->total.delta_count, 76);
	assert_int_equal(c->total.bytes, now->bytes);
	assert_int_equal(c->total.delta_bytes, (int64_t)now->bytes - (int64_t)before->bytes);
	assert_int_equal(c->block_bytes, now->block_bytes);
	assert_int_equal(c->delta_block_bytes, c->total.delta_bytes);
	assert_true(comparison_rate(c, c->types[0].delta_bytes) == 1000);
	assert_true(comparison_rate(c, -5) == -0.5);
}

static void test_alone(void **state)
{
	_cleanup_(census_freep) struct census *now = census_by_hand(now_rows);
	_cleanup_(comparison_freep) struct comparison *c = NULL;

	(void)state;
	assert_int_equal(comparison_new(NULL, now, 10, &c), 0);
	assert_false(c->has_deltas);
	assert_int_equal(c->n_types, 4);
	expect_row(&c->types[0], "app.Grows", 110, 11000, 0, 0);
	expect_row(&c->types[1], "dict", 7, 7000, 0, 0);
	expect_row(&c->types[3], "app.New", 1, 20, 0, 0);
	assert_int_equal(c->delta_block_bytes, 0);
	assert_true(isnan(comparison_rate(c, 5)));
}

/* Equal bytes: more growth of count first, then what is larger, then the name. */
static void test_ties(void **state)
{
	static const struct hand_row rows[] = { { "a", 1, 8, 0 }, { "b", 2, 8, 0 }, { "c", 1, 8, 0 }, { "d", 2, 9, 0 }, { NULL } };
	static const struct hand_row old[] = { { "d", 0, 1, 0 }, { NULL } };
	_cleanup_(census_freep) struct census *now = census_by_hand(rows), *before = census_by_hand(old);
	_cleanup_(comparison_freep) struct comparison *c = NULL;

	(void)state;
	assert_int_equal(comparison_new(before, now, 0, &c), 0);
	assert_string_equal(c->types[0].name, "d");   /* +8 and +2, as b, but larger */
	assert_string_equal(c->types[1].name, "b");
	assert_string_equal(c->types[2].name, "a");
	assert_string_equal(c->types[3].name, "c");
	assert_true(isnan(comparison_rate(c, 8)));    /* no time has passed */
}

static void test_filter_and_rest(void **state)
{
	_cleanup_(census_freep) struct census *before = census_by_hand(before_rows), *now = census_by_hand(now_rows);
	_cleanup_(comparison_freep) struct comparison *c = NULL;
	struct comparison_row rest;

	(void)state;
	assert_int_equal(comparison_new(before, now, 10, &c), 0);
	comparison_filter(c, "app.*");
	assert_int_equal(c->n_types, 4);
	expect_row(&c->types[2], "app.Gone", 0, 0, -5, -500);
	rest = comparison_rest(c, 2);
	assert_int_equal(rest.count, 10);
	assert_int_equal(rest.delta_count, -25);
	assert_int_equal(rest.delta_bytes, -2500);
	assert_int_equal(comparison_rest(c, 4).bytes, 0);
	assert_int_equal(c->total.count, 128);
	comparison_filter(c, "APP.*");
	assert_int_equal(c->n_types, 0);
}

/* A file may say anything: sums stop, nothing turns around. */
static void test_absurd(void **state)
{
	static const struct hand_row rows[] = { { "a", UINT64_MAX, UINT64_MAX, UINT64_MAX }, { "b", UINT64_MAX, UINT64_MAX, 0 }, { NULL } };
	static const struct hand_row none[] = { { NULL } };
	_cleanup_(census_freep) struct census *now = census_by_hand(rows), *before = census_by_hand(none);
	_cleanup_(comparison_freep) struct comparison *c = NULL, *back = NULL;

	(void)state;
	assert_int_equal(comparison_new(before, now, 1e-300, &c), 0);
	assert_int_equal(c->total.bytes, UINT64_MAX);
	assert_int_equal(c->total.delta_bytes, INT64_MAX);
	assert_int_equal(c->types[0].delta_count, INT64_MAX);
	assert_int_equal(comparison_new(now, before, 1, &back), 0);
	assert_int_equal(back->total.delta_bytes, INT64_MIN);
	assert_int_equal(back->types[0].delta_count, -INT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_growth), cmocka_unit_test(test_alone), cmocka_unit_test(test_ties),
		cmocka_unit_test(test_filter_and_rest), cmocka_unit_test(test_absurd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
