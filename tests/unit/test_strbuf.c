/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/strbuf.h"

static void test_append(void **state)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;

	(void)state;
	assert_string_equal(strbuf_str(&buf), "");
	strbuf_append(&buf, "one");
	strbuf_append_c(&buf, ' ');
	strbuf_appendf(&buf, "%d-%s", 2, "three");
	strbuf_append_n(&buf, "fourXX", 4);
	strbuf_pad(&buf, '.', 3);
	assert_string_equal(strbuf_str(&buf), "one 2-threefour...");
	assert_int_equal(buf.len, strlen(buf.s));
	strbuf_truncate(&buf, 99);
	strbuf_truncate(&buf, 3);
	assert_string_equal(strbuf_str(&buf), "one");
	assert_int_equal(strbuf_error(&buf), 0);
}

static void test_grow(void **state)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	char big[5000];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	for (int i = 0; i < 200; i++) {
		strbuf_append(&buf, big);
		strbuf_appendf(&buf, "%s", big);
		strbuf_append_c(&buf, 'y');
	}
	assert_int_equal(buf.len, 200 * (2 * 4999 + 1));
	assert_int_equal(strlen(buf.s), buf.len);
}

static void test_take(void **state)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	char *s = NULL;

	(void)state;
	assert_int_equal(strbuf_take(&buf, &s), 0);
	assert_string_equal(s, "");
	free(s);
	strbuf_append(&buf, "kept");
	assert_int_equal(strbuf_take(&buf, &s), 0);
	assert_string_equal(s, "kept");
	assert_null(buf.s);
	assert_int_equal(buf.len, 0);
	free(s);
}

static void test_error_sticks(void **state)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	char *s = NULL;

	(void)state;
	strbuf_append(&buf, "before");
	strbuf_pad(&buf, ' ', STRBUF_MAX);
	assert_int_equal(strbuf_error(&buf), -E2BIG);
	strbuf_append(&buf, "after");
	strbuf_appendf(&buf, "%d", 1);
	assert_string_equal(strbuf_str(&buf), "before");
	assert_int_equal(strbuf_take(&buf, &s), -E2BIG);
	assert_null(s);
	strbuf_append(&buf, "again");
	assert_string_equal(strbuf_str(&buf), "again");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append), cmocka_unit_test(test_grow), cmocka_unit_test(test_take),
		cmocka_unit_test(test_error_sticks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
