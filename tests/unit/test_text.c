/* SPDX-License-Identifier: MIT */
/* str storage to UTF-8: kinds, what is no character, cuts at a character's edge. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "interp/text.h"

static void expect(int kind, const void *src, size_t size, size_t room, const char *want)
{
	char got[64];

	memset(got, 'x', sizeof(got));
	assert_true(room <= sizeof(got));
	assert_int_equal(text_utf8(kind, src, size, got, room), strlen(want));
	assert_string_equal(got, want);
}

static void test_kinds(void **state)
{
	static const uint16_t ucs2[] = { 0x48, 0xe9, 0x20ac };
	static const uint32_t ucs4[] = { 0x1f40d, 0x41 };

	(void)state;
	expect(1, "abc", 3, 64, "abc");
	expect(1, "caf\xe9", 4, 64, "caf\xc3\xa9");
	expect(2, ucs2, sizeof(ucs2), 64, "H\xc3\xa9\xe2\x82\xac");
	expect(4, ucs4, sizeof(ucs4), 64, "\xf0\x9f\x90\x8d""A");
}

static void test_no_characters(void **state)
{
	static const uint16_t surrogate[] = { 0xd800, 0x41 };
	static const uint32_t large[] = { 0x110000, 0xffffffff };

	(void)state;
	expect(2, surrogate, sizeof(surrogate), 64, "\xef\xbf\xbd""A");
	expect(4, large, sizeof(large), 64, "\xef\xbf\xbd\xef\xbf\xbd");
	expect(1, "a\0b", 3, 64, "a\xef\xbf\xbd""b");
	expect(3, "abc", 3, 64, "");
	expect(0, "abc", 3, 64, "");
	expect(-1, "abc", 3, 64, "");
}

static void test_cuts(void **state)
{
	static const uint16_t euro[] = { 0x20ac, 0x20ac };
	char untouched = 'x';

	(void)state;
	expect(2, euro, sizeof(euro), 7, "\xe2\x82\xac\xe2\x82\xac");
	expect(2, euro, sizeof(euro), 6, "\xe2\x82\xac");
	expect(2, euro, sizeof(euro), 3, "");
	expect(2, euro, 3, 64, "\xe2\x82\xac");
	expect(1, "abc", 3, 1, "");
	assert_int_equal(text_utf8(1, (const uint8_t *)"abc", 3, &untouched, 0), 0);
	assert_int_equal(untouched, 'x');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_no_characters),
		cmocka_unit_test(test_cuts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
