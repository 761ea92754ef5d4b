/* SPDX-License-Identifier: MIT */
/* regions against an array that says who owns each unit of a small address space. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "track/regions.h"

#define UNITS 256
#define STEP 16u      /* addresses a unit stands for */

static struct regions *new_regions(void)
{
	struct regions *r = NULL;

	assert_int_equal(regions_new(&r), 0);
	return r;
}

static void put(struct regions *r, uint64_t start, uint64_t end, uint32_t stack)
{
	struct region region = { .start = start, .end = end, .stack = stack, .time_ns = stack * 10ull, .kind = stack % 3 };

	assert_int_equal(regions_add(r, &region), 0);
}

static void expect(const struct regions *r, size_t i, uint64_t start, uint64_t end, uint32_t stack)
{
	const struct region *region = regions_get(r, i);

	assert_int_equal(region->start, start);
	assert_int_equal(region->end, end);
	assert_int_equal(region->stack, stack);
	assert_int_equal(region->time_ns, stack * 10ull);
}

static void test_empty(void **state)
{
	_cleanup_(regions_freep) struct regions *r = new_regions();
	struct region inverted = { .start = 8, .end = 4 }, none = { .start = 8, .end = 8 };

	(void)state;
	assert_int_equal(regions_count(r), 0);
	assert_null(regions_at(r, 0));
	assert_null(regions_at(r, UINT64_MAX));
	assert_int_equal(regions_remove(r, 0, UINT64_MAX), 0);
	assert_int_equal(regions_add(r, &inverted), -EINVAL);
	assert_int_equal(regions_add(r, &none), -EINVAL);
	assert_int_equal(regions_remove(r, 5, 5), -EINVAL);
	assert_int_equal(regions_count(r), 0);
	regions_free(NULL);
}

/* A hole in the middle leaves two; both keep who made them and when. */
static void test_split_and_trim(void **state)
{
	_cleanup_(regions_freep) struct regions *r = new_regions();

	(void)state;
	put(r, 100, 200, 1);
	assert_int_equal(regions_remove(r, 120, 150), 0);
	assert_int_equal(regions_count(r), 2);
	expect(r, 0, 100, 120, 1);
	expect(r, 1, 150, 200, 1);
	put(r, 110, 160, 2);
	assert_int_equal(regions_count(r), 3);
	expect(r, 0, 100, 110, 1);
	expect(r, 1, 110, 160, 2);
	expect(r, 2, 160, 200, 1);
	assert_ptr_equal(regions_at(r, 159), regions_get(r, 1));
	assert_ptr_equal(regions_at(r, 160), regions_get(r, 2));
	assert_null(regions_at(r, 200));
	put(r, 0, UINT64_MAX, 3);
	assert_int_equal(regions_count(r), 1);
	expect(r, 0, 0, UINT64_MAX, 3);
}

static void check_model(const struct regions *r, const uint32_t *owner)
{
	uint64_t end = 0;

	for (size_t i = 0; i < regions_count(r); i++) {
		const struct region *region = regions_get(r, i);

		assert_true(region->start < region->end && region->start >= end);
		end = region->end;
	}
	for (uint32_t u = 0; u < UNITS; u++) {
		const struct region *region = regions_at(r, (uint64_t)u * STEP + u % STEP);

		if ((region ? region->stack : 0) != owner[u])
			fail_msg("unit %u belongs to %u, not %u", u, region ? region->stack : 0, owner[u]);
		if (region)
			assert_true(region->time_ns == region->stack * 10ull && region->kind == region->stack % 3);
	}
}

static void test_model(void **state)
{
	_cleanup_(regions_freep) struct regions *r = new_regions();
	uint32_t owner[UNITS] = { 0 }, seed = 12345;

	(void)state;
	for (uint32_t round = 1; round <= 20000; round++) {
		uint32_t first, count, who;

		seed = seed * 1664525u + 1013904223u;
		first = (seed >> 8) % UNITS;
		count = 1 + (seed >> 20) % (round % 7 ? 12 : UNITS);
		if (first + count > UNITS)
			count = UNITS - first;
		who = (seed >> 4) % 3 ? round : 0;
		if (who)
			put(r, (uint64_t)first * STEP, (uint64_t)(first + count) * STEP, who);
		else
			assert_int_equal(regions_remove(r, (uint64_t)first * STEP, (uint64_t)(first + count) * STEP), 0);
		for (uint32_t u = first; u < first + count; u++)
			owner[u] = who;
		if (round % 16 == 0)
			check_model(r, owner);
	}
	check_model(r, owner);
}

static void test_bound(void **state)
{
	_cleanup_(regions_freep) struct regions *r = new_regions();
	struct region one_more = { .start = 8ull * REGIONS_MAX, .end = 8ull * REGIONS_MAX + 4 };

	(void)state;
	for (uint64_t i = 0; i < REGIONS_MAX; i++)
		put(r, 8 * i, 8 * i + 4, 1);
	assert_int_equal(regions_add(r, &one_more), -ENOSPC);
	assert_int_equal(regions_remove(r, 1, 2), -ENOSPC);
	assert_int_equal(regions_count(r), REGIONS_MAX);
	/* In the place of another there is room. */
	put(r, 8, 12, 2);
	expect(r, 1, 8, 12, 2);
	assert_int_equal(regions_remove(r, 0, UINT64_MAX), 0);
	assert_int_equal(regions_count(r), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_split_and_trim),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
