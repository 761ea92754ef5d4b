/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/intern.h"

static void test_same_and_different(void **state)
{
	_cleanup_(intern_freep) struct intern *in = NULL;
	uint32_t a, b, c, e;

	(void)state;
	assert_int_equal(intern_new(1 << 20, &in), 0);
	assert_int_equal(intern_add(in, "alpha", 5, &a), 0);
	assert_int_equal(intern_add(in, "beta", 4, &b), 0);
	assert_int_equal(intern_add(in, "alphabet", 5, &c), 0);
	assert_int_equal(intern_add(in, "", 0, &e), 0);
	assert_int_equal(a, c);
	assert_int_not_equal(a, b);
	assert_int_equal(e, INTERN_EMPTY);
	assert_string_equal(intern_str(in, a), "alpha");
	assert_string_equal(intern_str(in, 12345), "");
	assert_int_equal(intern_add(in, "be\0ta", 5, &c), 0);
	assert_string_equal(intern_str(in, c), "be");
	assert_int_equal(intern_find(in, "beta", 4, &c), 0);
	assert_int_equal(c, b);
	assert_int_equal(intern_find(in, "gamma", 5, &c), -ENOENT);
	assert_ptr_equal(intern_cstr(in, "beta"), intern_str(in, b));
	assert_int_equal(intern_count(in), 4);
}

static void test_stable(void **state)
{
	_cleanup_(intern_freep) struct intern *in = NULL;
	static const char *kept[50000];
	char name[32];

	(void)state;
	assert_int_equal(intern_new(64 << 20, &in), 0);
	for (int i = 0; i < 50000; i++) {
		snprintf(name, sizeof(name), "function_%d", i);
		kept[i] = intern_cstr(in, name);
		assert_non_null(kept[i]);
	}
	for (int i = 0; i < 50000; i++) {
		snprintf(name, sizeof(name), "function_%d", i);
		assert_string_equal(kept[i], name);
		assert_ptr_equal(intern_cstr(in, name), kept[i]);
	}
	assert_int_equal(intern_count(in), 50001);
}

static void test_bounded(void **state)
{
	_cleanup_(intern_freep) struct intern *in = NULL;
	static char big[100001];
	char name[32];
	uint32_t id, last = 0;

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	assert_int_equal(intern_new(300000, &in), 0);
	assert_int_equal(intern_add(in, big, sizeof(big) - 1, &id), 0);
	assert_int_equal(strlen(intern_str(in, id)), INTERN_STRING_MAX);
	for (int i = 0; i < 100000; i++) {
		snprintf(name, sizeof(name), "name %d", i);
		if (intern_add(in, name, strlen(name), &id) == 0)
			last = id;
		assert_true(intern_bytes(in) <= 300000);
	}
	assert_true(last > 10 && last < 100000);
	assert_true(intern_refused(in) > 0);
	/* What is there is still found. */
	assert_int_equal(intern_add(in, "name 3", 6, &id), 0);
	assert_string_equal(intern_str(in, id), "name 3");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_and_different), cmocka_unit_test(test_stable), cmocka_unit_test(test_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
