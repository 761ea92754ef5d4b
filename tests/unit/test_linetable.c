/* SPDX-License-Identifier: MIT */
/*
 * Line tables against what each interpreter says of its own code objects
 * (co_lines() from 3.10, dis.findlinestarts() before), and broken tables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "interp/linetable.h"
#include "interp/layout.h"
#include "pytarget.h"

/* For every code object of some modules: "C firstlineno table", then "L start end line" ranges; line 0 stands for none. */
static const char dump[] =
	"import sys, dis, types, importlib\n"
	"new = sys.version_info >= (3, 10)\n"
	"def table(c): return c.co_linetable if new else c.co_lnotab\n"
	"def lines(c):\n"
	"    if new:\n"
	"        for start, end, line in c.co_lines(): yield start, end, line or 0\n"
	"        return\n"
	"    starts = list(dis.findlinestarts(c)) + [(len(c.co_code), 0)]\n"
	"    for (start, line), (end, _) in zip(starts, starts[1:]): yield start, end, line\n"
	"def walk(c):\n"
	"    print('C', c.co_firstlineno, table(c).hex() or '-')\n"
	"    for r in lines(c): print('L', *r)\n"
	"    for k in c.co_consts:\n"
	"        if isinstance(k, types.CodeType): walk(k)\n"
	"for name in 'argparse asyncio.base_events typing inspect json.decoder json.encoder re dataclasses decimal "
	"unittest.mock http.client ast pickle tarfile subprocess'.split():\n"
	"    m = importlib.import_module(name)\n"
	"    source = open(m.__file__, encoding='utf-8').read()\n"
	"    walk(compile(source, name, 'exec'))\n"
	"big = 'def f(x):\\n' + ''.join('  x(%d,\\n\\n 1)\\n' % i + '\\n' * (i % 400) for i in range(600))\n"
	"walk(compile(big, 'big', 'exec'))\n"
	"print('E')\n";

struct code {
	uint8_t *table;
	size_t size;
	int first;
};

static void parse_table(const char *hex, struct code *code)
{
	size_t n = strlen(hex) / 2;

	free(code->table);
	code->table = malloc(n + 1);
	code->size = 0;
	for (size_t i = 0; i < n; i++) {
		unsigned int byte;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		code->table[code->size++] = (uint8_t)byte;
	}
}

static void check_range(enum linetable_kind kind, const struct code *code, const char *line, size_t *checked)
{
	int start, end, want;

	assert_int_equal(sscanf(line, "L %d %d %d", &start, &end, &want), 3);
	for (int at = start; at < end; at += 2) {
		int got = linetable_line(kind, code->table, code->size, code->first, at);

		if (got != want)
			fail_msg("offset %d of code at line %d: %d, not %d", at, code->first, got, want);
		(*checked)++;
	}
}

static void check_interpreter(const struct pyinterp *interp)
{
	enum linetable_kind kind = linetable_kind_of(PY_HEX(3, interp->minor, 0));
	struct pytarget target;
	struct code code = { 0 };
	static char line[1 << 18];
	size_t checked = 0, codes = 0;

	assert_int_equal(pytarget_start(interp, dump, NULL, &target), 0);
	while (pytarget_line(&target, line, sizeof(line)) && line[0] != 'E') {
		int at = 0;

		if (line[0] == 'L') {
			check_range(kind, &code, line, &checked);
			continue;
		}
		assert_int_equal(sscanf(line, "C %d %n", &code.first, &at), 1);
		parse_table(line[at] == '-' ? "" : line + at, &code);
		codes++;
		assert_int_equal(linetable_line(kind, code.table, code.size, code.first, -2), code.first);
	}
	print_message("%s: %zu code objects, %zu instructions\n", interp->label, codes, checked);
	assert_int_equal(line[0], 'E');
	assert_true(codes > 500 && checked > 10000);
	pytarget_stop(&target);
	free(code.table);
}

static void test_interpreters(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		check_interpreter(&interps[i]);
}

static void test_lnotab(void **state)
{
	static const uint8_t table[] = { 4, 1, 6, 0xff, 0xff, 0x7f, 0, 0x7f };

	(void)state;
	assert_int_equal(linetable_line(LINETABLE_LNOTAB, table, sizeof(table), 10, 0), 10);
	assert_int_equal(linetable_line(LINETABLE_LNOTAB, table, sizeof(table), 10, 4), 11);
	assert_int_equal(linetable_line(LINETABLE_LNOTAB, table, sizeof(table), 10, 10), 10);
	assert_int_equal(linetable_line(LINETABLE_LNOTAB, table, sizeof(table), 10, 265), 264);
	assert_int_equal(linetable_line(LINETABLE_LNOTAB, table, 3, 10, 0), -1);
	assert_int_equal(linetable_line(LINETABLE_LNOTAB, NULL, 0, 7, 100), 7);
}

static void test_310(void **state)
{
	static const uint8_t table[] = { 2, 1, 4, 0x80, 2, 0xff };

	(void)state;
	assert_int_equal(linetable_line(LINETABLE_310, table, sizeof(table), 10, 0), 11);
	assert_int_equal(linetable_line(LINETABLE_310, table, sizeof(table), 10, 2), 0);
	assert_int_equal(linetable_line(LINETABLE_310, table, sizeof(table), 10, 6), 10);
	assert_int_equal(linetable_line(LINETABLE_310, table, sizeof(table), 10, 8), -1);
	assert_int_equal(linetable_line(LINETABLE_310, NULL, 0, 10, 0), -1);
}

static void test_pep657_broken(void **state)
{
	static const uint8_t no_mark[] = { 0x00 };
	static const uint8_t cut_varint[] = { 0x80 | (13 << 3), 0x41 };
	static const uint8_t marked_varint[] = { 0x80 | (13 << 3), 0x80 };
	static const uint8_t endless_varint[] = { 0x80 | (13 << 3), 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f };
	static const uint8_t back[] = { 0x80 | (13 << 3), 0x29 };    /* 20 lines back from 10 */
	static const uint8_t none[] = { 0x80 | (15 << 3) | 7 };

	(void)state;
	assert_int_equal(linetable_line(LINETABLE_PEP657, no_mark, 1, 10, 0), -1);
	assert_int_equal(linetable_line(LINETABLE_PEP657, cut_varint, 2, 10, 0), -1);
	assert_int_equal(linetable_line(LINETABLE_PEP657, marked_varint, 2, 10, 0), -1);
	assert_int_equal(linetable_line(LINETABLE_PEP657, endless_varint, 9, 10, 0), -1);
	assert_int_equal(linetable_line(LINETABLE_PEP657, back, 2, 10, 0), -1);
	assert_int_equal(linetable_line(LINETABLE_PEP657, none, 1, 10, 14), 0);
	assert_int_equal(linetable_line(LINETABLE_PEP657, none, 1, 10, 16), -1);
	assert_int_equal(linetable_line(LINETABLE_PEP657, NULL, 0, 10, 0), -1);
	assert_int_equal(linetable_line((enum linetable_kind)9, none, 1, 10, 0), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lnotab),
		cmocka_unit_test(test_310),
		cmocka_unit_test(test_pep657_broken),
		cmocka_unit_test(test_interpreters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
