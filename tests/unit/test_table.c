/* SPDX-License-Identifier: MIT */
/* Tables drawn from JSON values: alignment, unknowns, hostile text, widths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "report/table.h"

static const struct column columns[] = {
	{ "pid", "PID", CELL_COUNT }, { "build", "BUILD", CELL_TEXT }, { "rss", "RSS", CELL_SIZE }, { "cmd", "COMMAND", CELL_REST }, { 0 }
};

static void decrefp(json_t **value)
{
	json_decref(*value);
}

static json_t *parse(const char *text)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

	assert_non_null(value);
	return value;
}

static void expect_table(const char *rows, const struct column *cols, unsigned width, const char *want)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	_cleanup_(decrefp) json_t *value = parse(rows);

	table_append(&buf, value, cols, width);
	assert_int_equal(strbuf_error(&buf), 0);
	assert_string_equal(strbuf_str(&buf), want);
}

static void expect_cell(const char *json, enum cell cell, size_t max_columns, const char *want)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	_cleanup_(decrefp) json_t *value = parse(json);

	table_cell(&buf, value, cell, max_columns);
	assert_string_equal(strbuf_str(&buf), want);
}

static void test_cells(void **state)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;

	(void)state;
	expect_cell("1234567", CELL_COUNT, 0, "1,234,567");
	expect_cell("20480", CELL_SIZE, 0, "20.0 KiB");
	expect_cell("1234567", CELL_TEXT, 0, "1234567");
	expect_cell("-5", CELL_TEXT, 0, "-5");
	expect_cell("0.5", CELL_TEXT, 0, "0.50");
	expect_cell("true", CELL_TEXT, 0, "yes");
	expect_cell("false", CELL_COUNT, 0, "no");
	expect_cell("null", CELL_SIZE, 0, "-");
	expect_cell("[1]", CELL_TEXT, 0, "-");
	expect_cell("{}", CELL_TEXT, 0, "-");
	expect_cell("\"plain\"", CELL_TEXT, 0, "plain");
	expect_cell("\"abcdefgh\"", CELL_REST, 5, "abcd\xe2\x80\xa6");
	expect_cell("\"abcdefgh\"", CELL_REST_TAIL, 5, "\xe2\x80\xa6" "efgh");
	expect_cell("1234567", CELL_COUNT_SIGNED, 0, "+1,234,567");
	expect_cell("-20480", CELL_SIZE_SIGNED, 0, "-20.0 KiB");
	expect_cell("-20480.5", CELL_RATE, 0, "-20.0 KiB/s");
	expect_cell("0", CELL_RATE, 0, "+0 B/s");
	expect_cell("null", CELL_RATE, 0, "-");
	expect_cell("0.4567", CELL_PERCENT, 0, "45.7 %");
	table_cell(&buf, NULL, CELL_TEXT, 0);
	assert_string_equal(strbuf_str(&buf), "-");
}

static void test_table(void **state)
{
	(void)state;
	expect_table("[]", columns, 80, "PID  BUILD  RSS  COMMAND\n");
	expect_table("[{\"pid\": 713, \"build\": \"optimised\", \"rss\": 21076377, \"cmd\": \"python3 -m http.server\"},"
		     " {\"pid\": 70123, \"build\": null, \"cmd\": \"p\"}]",
		     columns, 0,
		     "   PID  BUILD           RSS  COMMAND\n"
		     "   713  optimised  20.1 MiB  python3 -m http.server\n"
		     "70,123  -                 -  p\n");
	/* What is no array, or holds what is no object, makes empty rows, not harm. */
	expect_table("{}", columns, 80, "PID  BUILD  RSS  COMMAND\n");
	expect_table("[7, null]", columns, 80, "PID  BUILD  RSS  COMMAND\n  -  -        -  -\n  -  -        -  -\n");
}

/* The last column is cut to the width; where hardly any is left it is not cut at all. */
static void test_width(void **state)
{
	static const char rows[] = "[{\"pid\": 1, \"build\": \"x\", \"rss\": 1, \"cmd\": \"0123456789012345678901234567890\"}]";

	(void)state;
	expect_table(rows, columns, 30, "PID  BUILD  RSS  COMMAND\n  1  x      1 B  012345678901\xe2\x80\xa6\n");
	expect_table(rows, columns, 10, "PID  BUILD  RSS  COMMAND\n  1  x      1 B  0123456789012345678901234567890\n");
}

/* Text can neither break its line nor steer the terminal; columns line up by characters, not bytes. */
static void test_hostile(void **state)
{
	static const struct column two[] = { { "a", "A", CELL_TEXT }, { "b", "B", CELL_TEXT }, { 0 } };

	(void)state;
	expect_table("[{\"a\": \"x\\ny\\u001b[31m\", \"b\": \"1\"}, {\"a\": \"\xc3\xa4\xc3\xb6\", \"b\": \"2\"}]", two, 0,
		     "A             B\nx\\ny\\x1b[31m  1\n\xc3\xa4\xc3\xb6            2\n");
	expect_table("[{\"a\": \"x\\u0000y\"}]", two, 0, "A  B\nx  -\n");
}

/* A table in the middle of other text leaves that as it is. */
static void test_appends(void **state)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	_cleanup_(decrefp) json_t *none = json_array();

	(void)state;
	strbuf_append(&buf, "before  \n");
	table_append(&buf, none, columns, 80);
	assert_string_equal(strbuf_str(&buf), "before  \nPID  BUILD  RSS  COMMAND\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cells),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_width),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_appends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
