/* SPDX-License-Identifier: MIT */
/* Marks of blocks: what is kept, what is turned away, and how much of it there can be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "heap/census_marks.h"

#define HEAP 0x7f0000000000ull

static void test_bits(void **state)
{
	_cleanup_(marks_freep) struct marks *marks = NULL;

	(void)state;
	assert_int_equal(marks_new(1u << 20, &marks), 0);
	assert_int_equal(marks_get(marks, RADDR(HEAP)), 0);
	marks_add(marks, RADDR(HEAP), 5, 7);
	marks_add(marks, RADDR(HEAP + 16), 2, 7);
	assert_int_equal(marks_get(marks, RADDR(HEAP)), 5);
	assert_int_equal(marks_get(marks, RADDR(HEAP + 16)), 2);
	assert_int_equal(marks_get(marks, RADDR(HEAP + 32)), 0);
	/* the first one who claims it has it */
	marks_add(marks, RADDR(HEAP), 2, 7);
	assert_int_equal(marks_get(marks, RADDR(HEAP)), 5);
	marks_add(marks, RADDR(HEAP), 8, 0);
	assert_int_equal(marks_get(marks, RADDR(HEAP)), 13);
	/* nothing but what is asked for, also at the end of what lies together */
	marks_add(marks, RADDR(HEAP + (1u << 20) - 16), 15, 0);
	assert_int_equal(marks_get(marks, RADDR(HEAP + (1u << 20) - 16)), 15);
	assert_int_equal(marks_get(marks, RADDR(HEAP + (1u << 20))), 0);
	assert_int_equal(marks_refused(marks), 0);
}

static void test_many(void **state)
{
	_cleanup_(marks_freep) struct marks *marks = NULL;

	(void)state;
	assert_int_equal(marks_new(64u << 20, &marks), 0);
	for (uint64_t i = 0; i < 1000000; i++)
		marks_add(marks, RADDR(HEAP + i * 16 * 37), (uint8_t)(i % 15 + 1), 0);
	for (uint64_t i = 0; i < 1000000; i++) {
		assert_int_equal(marks_get(marks, RADDR(HEAP + i * 16 * 37)), i % 15 + 1);
		assert_int_equal(marks_get(marks, RADDR(HEAP + i * 16 * 37 + 16)), 0);
	}
	assert_int_equal(marks_refused(marks), 0);
}

static void test_refused(void **state)
{
	_cleanup_(marks_freep) struct marks *marks = NULL;
	uint64_t kept = 0;

	(void)state;
	/* memory for three of what covers a MiB of addresses */
	assert_int_equal(marks_new(3u << 15, &marks), 0);
	for (uint64_t i = 0; i < 100; i++)
		marks_add(marks, RADDR(i << 30), 1, 0);
	for (uint64_t i = 0; i < 100; i++)
		kept += marks_get(marks, RADDR(i << 30));
	assert_int_equal(kept, 3);
	assert_int_equal(marks_refused(marks), 97);
	/* no block starts there */
	marks_add(marks, RADDR(8), 1, 0);
	assert_int_equal(marks_get(marks, RADDR(8)), 0);
	assert_int_equal(marks_get(marks, RADDR(0)), 1);
	assert_int_equal(marks_refused(marks), 98);
	marks_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bits),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
