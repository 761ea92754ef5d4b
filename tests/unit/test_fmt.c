/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/fmt.h"
#include "base/strbuf.h"
#include "base/utf8.h"

static void test_sizes(void **state)
{
	(void)state;
	assert_string_equal(fmt_size(0).s, "0 B");
	assert_string_equal(fmt_size(10239).s, "10239 B");
	assert_string_equal(fmt_size(10240).s, "10.0 KiB");
	assert_string_equal(fmt_size(102400).s, "100 KiB");
	assert_string_equal(fmt_size(1258291).s, "1229 KiB");
	assert_string_equal(fmt_size(12897484).s, "12.3 MiB");
	assert_string_equal(fmt_size(3ull << 40).s, "3072 GiB");
	assert_string_equal(fmt_size(UINT64_MAX - 1).s, "16777216 TiB");
	assert_string_equal(fmt_size(UINT64_MAX).s, "-");
	assert_string_equal(fmt_size_signed(-512).s, "-512 B");
	assert_string_equal(fmt_size_signed(0).s, "+0 B");
	assert_string_equal(fmt_size_signed(INT64_MIN).s, "-8388608 TiB");
}

static void test_counts(void **state)
{
	(void)state;
	assert_string_equal(fmt_count(0).s, "0");
	assert_string_equal(fmt_count(999).s, "999");
	assert_string_equal(fmt_count(1204).s, "1,204");
	assert_string_equal(fmt_count(1000000).s, "1,000,000");
	assert_string_equal(fmt_count(UINT64_MAX - 1).s, "18,446,744,073,709,551,614");
	assert_string_equal(fmt_count(UINT64_MAX).s, "-");
	assert_string_equal(fmt_count_signed(1204).s, "+1,204");
	assert_string_equal(fmt_count_signed(INT64_MIN).s, "-9,223,372,036,854,775,808");
}

static void test_durations(void **state)
{
	(void)state;
	assert_string_equal(fmt_duration(0).s, "0 s");
	assert_string_equal(fmt_duration(0.00012).s, "120 µs");
	assert_string_equal(fmt_duration(0.0032).s, "3.2 ms");
	assert_string_equal(fmt_duration(0.25).s, "250 ms");
	assert_string_equal(fmt_duration(0.9999).s, "1.0 s");
	assert_string_equal(fmt_duration(3.2).s, "3.2 s");
	assert_string_equal(fmt_duration(125).s, "2 min 5 s");
	assert_string_equal(fmt_duration(119.96).s, "2 min");
	assert_string_equal(fmt_duration(7320).s, "2 h 2 min");
	assert_string_equal(fmt_duration(273600).s, "3 d 4 h");
	assert_string_equal(fmt_duration(NAN).s, "-");
	assert_string_equal(fmt_duration(-1).s, "-");
	assert_string_equal(fmt_duration(INFINITY).s, "-");
}

static void test_rates(void **state)
{
	(void)state;
	assert_string_equal(fmt_rate_bytes(0).s, "+0 B/s");
	assert_string_equal(fmt_rate_bytes(0.4).s, "+0.40 B/s");
	assert_string_equal(fmt_rate_bytes(419840).s, "+410 KiB/s");
	assert_string_equal(fmt_rate_bytes(-2048).s, "-2048 B/s");
	assert_string_equal(fmt_rate_bytes(1e300).s, "+9.09e+287 TiB/s");
	assert_string_equal(fmt_rate_bytes(NAN).s, "-");
	assert_string_equal(fmt_rate_count(0.03).s, "+0.03/s");
	assert_string_equal(fmt_rate_count(12.34).s, "+12.3/s");
	assert_string_equal(fmt_rate_count(1204.4).s, "+1,204/s");
	assert_string_equal(fmt_rate_count(-1e300).s, "-1,000,000,000,000,000,000/s");
	assert_string_equal(fmt_ratio(0.99999).s, "0.9999");
	assert_string_equal(fmt_ratio(1).s, "1");
	assert_string_equal(fmt_ratio(NAN).s, "-");
	assert_string_equal(fmt_time((struct timespec){ 0, 42000000 }).s, "1970-01-01T00:00:00.042Z");
	assert_string_equal(fmt_time((struct timespec){ INT64_MAX, 0 }).s, "-");
}

static void check_escape(const char *s, size_t max, const char *expected)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;

	fmt_escape(&buf, s, max);
	assert_string_equal(strbuf_str(&buf), expected);
}

static void test_escape(void **state)
{
	(void)state;
	check_escape("plain text", 0, "plain text");
	check_escape("größe 日本", 0, "größe 日本");
	check_escape("a\nb\tc\rd", 0, "a\\nb\\tc\\rd");
	check_escape("\033[31mred\a\177", 0, "\\x1b[31mred\\x07\\x7f");
	check_escape("c1 \xc2\x9b!", 0, "c1 \\u{9b}!");
	check_escape("bidi \xe2\x80\xae txt", 0, "bidi \\u{202e} txt");
	check_escape("iso \xe2\x81\xa6 zw \xe2\x80\x8b", 0, "iso \\u{2066} zw \\u{200b}");
	check_escape("bad \xff\xc0\x80\xed\xa0\x80\xf5 cut \xe2\x82", 0,
		     "bad \\xff\\xc0\\x80\\xed\\xa0\\x80\\xf5 cut \\xe2\\x82");
	check_escape(NULL, 0, "-");
	check_escape("", 5, "");
}

static void test_cut(void **state)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;

	(void)state;
	check_escape("12345", 5, "12345");
	check_escape("123456", 5, "1234…");
	check_escape("123456", 1, "…");
	check_escape("日本語", 5, "日本…");
	check_escape("ab\033[0m", 5, "ab…");
	strbuf_append(&buf, "at ");
	fmt_escape_tail(&buf, "/very/long/path.py", 9);
	assert_string_equal(strbuf_str(&buf), "at …/path.py");
	strbuf_truncate(&buf, 0);
	fmt_escape_tail(&buf, "path.py", 7);
	assert_string_equal(strbuf_str(&buf), "path.py");
}

/* Whatever goes in, what comes out is valid UTF-8 without a control character, and no longer than asked. */
static void test_escape_random(void **state)
{
	uint64_t seed = 1;
	char in[64];

	(void)state;
	for (int round = 0; round < 20000; round++) {
		_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
		size_t columns = 0, max = 1 + (size_t)round % 40;

		for (size_t i = 0; i < sizeof(in) - 1; i++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			in[i] = (char)(1 + (seed >> 40) % 255);
		}
		in[sizeof(in) - 1] = '\0';
		if (round & 1)
			fmt_escape(&buf, in, max);
		else
			fmt_escape_tail(&buf, in, max);
		for (size_t i = 0; i < buf.len;) {
			uint32_t c;

			i += utf8_decode(buf.s + i, buf.len - i, &c);
			assert_int_not_equal(c, UTF8_INVALID);
			assert_false(utf8_is_unsafe(c));
			columns += utf8_width(c);
		}
		assert_true(columns <= max);
	}
}

static void test_valid(void **state)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;

	(void)state;
	utf8_append_valid(&buf, "a\xff" "b\xe2\x82", 5);
	assert_string_equal(strbuf_str(&buf), "a\xef\xbf\xbd" "b\xef\xbf\xbd\xef\xbf\xbd");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes), cmocka_unit_test(test_counts), cmocka_unit_test(test_durations),
		cmocka_unit_test(test_rates), cmocka_unit_test(test_escape), cmocka_unit_test(test_cut),
		cmocka_unit_test(test_escape_random), cmocka_unit_test(test_valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
