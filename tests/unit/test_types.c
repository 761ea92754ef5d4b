/* SPDX-License-Identifier: MIT */
/* Types of real interpreters: found, named as they name themselves, told from what is no type, and from a type that took their place. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "interp/python_impl.h"
#include "interp/types.h"
#include "pytarget.h"

#define LINE_MAX_BYTES 1024

/* Prints "id flags name" of every type it can find, then "end", then lines of objects that are no types. */
static const char all_types[] =
	"import sys, types, collections, decimal, datetime, json, re, threading, enum, io, asyncio, functools\n"
	"import itertools, array, struct, weakref, ctypes\n"
	"class Outer:\n"
	"    class Inner(dict): pass\n"
	"def make():\n"
	"    class Local: __slots__ = ('a',)\n"
	"    return Local\n"
	"class Meta(type): pass\n"
	"class MetaMeta(type(Meta)): pass\n"
	"class Made(metaclass=Meta): pass\n"
	"class Uni\u00e9(Exception): pass\n"
	"Renamed = type('Renamed', (), {'__module__': 'app.models'})\n"
	"Many = type('Many', (), {'f%d' % i: i for i in range(300)})\n"
	"Point = collections.namedtuple('Point', 'x y')\n"
	"keep = [make(), Made, Renamed, Many, Point, Uni\u00e9, Outer.Inner]\n"
	"def walk(t, seen):\n"
	"    if t in seen: return\n"
	"    seen.add(t)\n"
	"    for s in type.__subclasses__(t): walk(s, seen)\n"
	"seen = set(); walk(object, seen)\n"
	"sys.stdout.reconfigure(encoding='utf-8')\n"
	"def name(t):\n"
	"    m, q = type.__dict__['__module__'].__get__(t), type.__dict__['__qualname__'].__get__(t)\n"
	"    return q if m == 'builtins' or not isinstance(m, str) else m + '.' + q\n"
	"for t in seen: print(id(t), t.__flags__, t.__basicsize__, name(t))\n"
	"print('end')\n"
	"a = [1, 'x', None, sys, make, Point(1, 2), [], {}, Made()]\n"
	"for o in a: print(id(o))\n"
	"print('end', flush=True)\n"
	"sys.stdin.read()\n";

struct target {
	struct pytarget process;
	struct python *python;
	struct types *types;
};

static void start(const struct pyinterp *interp, const char *program, struct target *t)
{
	assert_int_equal(pytarget_start(interp, program, NULL, &t->process), 0);
	t->python = NULL;
	t->types = NULL;
}

static void open_types(struct target *t, const struct pyinterp *interp)
{
	struct err err = { 0 };

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

static void check_type(struct target *t, const struct pyinterp *interp, const char *line)
{
	unsigned long long addr, flags, basicsize;
	const struct type_facts *facts;
	uint32_t id;
	int at = 0;

	assert_int_equal(sscanf(line, "%llu %llu %llu %n", &addr, &flags, &basicsize, &at), 3);
	id = types_find(t->types, RADDR(addr));
	if (!id)
		fail_msg("%s: type %s at %llx was not found", interp->label, line + at, addr);
	assert_int_equal(types_find(t->types, RADDR(addr)), id);
	if (strcmp(types_name(t->types, id), line + at) != 0)
		fail_msg("%s: %s is called %s", interp->label, line + at, types_name(t->types, id));
	facts = types_facts(t->types, id);
	assert_non_null(facts);
	assert_int_equal(facts->basicsize, basicsize);
	assert_int_equal(facts->has_gc, flags >> 14 & 1);
	assert_int_equal(facts->heap, flags >> 9 & 1);
	assert_int_equal(facts->front % 16, 0);
	if (strcmp(line + at, "str") == 0 || strcmp(line + at, "float") == 0)
		assert_true(facts->immutable);
	if (strcmp(line + at, "dict") == 0)
		assert_false(facts->immutable);
}

static void all_of(const struct pyinterp *interp)
{
	char line[LINE_MAX_BYTES], (*lines)[LINE_MAX_BYTES] = calloc(4096, LINE_MAX_BYTES);
	unsigned long long addr;
	struct target t;
	size_t n = 0, others = 0;

	start(interp, all_types, &t);
	while (pytarget_line(&t.process, line, sizeof(line)) && strcmp(line, "end") != 0 && n < 4096)
		memcpy(lines[n++], line, sizeof(line));
	assert_in_range(n, 300, 4095);
	open_types(&t, interp);
	for (size_t i = 0; i < n; i++)
		check_type(&t, interp, lines[i]);
	print_message("%s: %zu types, %u ids\n", interp->label, n, types_count(t.types));
	while (pytarget_line(&t.process, line, sizeof(line)) && sscanf(line, "%llu", &addr) == 1) {
		assert_int_equal(types_find(t.types, RADDR(addr)), 0);
		assert_int_equal(types_find(t.types, RADDR(addr + 8)), 0);
		others++;
	}
	assert_int_equal(others, 9);
	/* the same ids after a refresh: the process has not changed */
	n = types_count(t.types);
	assert_int_equal(types_refresh(t.types), 0);
	check_type(&t, interp, lines[0]);
	assert_int_equal(types_count(t.types), n);
	stop(&t);
	free(lines);
}

static void test_all(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		all_of(&interps[i]);
}

static void test_nonsense(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);
	static const uint64_t addrs[] = { 0, 1, 8, 4096, 4100, UINT64_MAX, UINT64_MAX - 7, 1ull << 47, 0x7ffffffff000, 0x5555deadbee8 };
	struct target t;
	char line[64];

	(void)state;
	start(&interps[n - 1], "import sys\nprint(1, flush=True); sys.stdin.read()", &t);
	assert_true(pytarget_line(&t.process, line, sizeof(line)));
	open_types(&t, &interps[n - 1]);
	for (size_t i = 0; i < sizeof(addrs) / sizeof(addrs[0]); i++)
		assert_int_equal(types_find(t.types, RADDR(addrs[i])), 0);
	assert_string_equal(types_name(t.types, 0), "?");
	assert_string_equal(types_name(t.types, 1), "?");
	assert_null(types_facts(t.types, 0));
	assert_int_equal(types_count(t.types), 0);
	types_free(NULL);
	stop(&t);
}

/* A class dies and another is made until one stands at its address: the id must not be the old one's. */
static const char reuse[] =
	"import sys, gc\n"
	"def make(name): return type(name, (), {'__slots__': (), '__module__': 'shop'})\n"
	"a = [make('First%d' % i) for i in range(50)]\n"
	"for t in a: print(id(t))\n"
	"print('end', flush=True)\n"
	"sys.stdin.readline()\n"
	"ids = {id(t) for t in a}\n"
	"del a, t; gc.collect()\n"
	"b = [make('Second%d' % i) for i in range(100)]\n"
	"again = [id(t) for t in b if id(t) in ids]\n"
	"print(len(again))\n"
	"for i in again: print(i)\n"
	"print('end', flush=True); sys.stdin.read()\n";

static void reuse_of(const struct pyinterp *interp)
{
	unsigned long long addr;
	struct target t;
	char line[64];
	int again;

	start(interp, reuse, &t);
	/* read on only once the types are open */
	assert_true(pytarget_line(&t.process, line, sizeof(line)));
	open_types(&t, interp);
	do {
		assert_int_equal(sscanf(line, "%llu", &addr), 1);
		assert_true(strstr(types_name(t.types, types_find(t.types, RADDR(addr))), "shop.First"));
	} while (pytarget_line(&t.process, line, sizeof(line)) && strcmp(line, "end") != 0);
	fputs("\n", t.process.in);
	fflush(t.process.in);
	assert_true(pytarget_line(&t.process, line, sizeof(line)));
	assert_int_equal(sscanf(line, "%d", &again), 1);
	print_message("%s: %d addresses taken over\n", interp->label, again);
	assert_true(again > 0);
	assert_int_equal(types_refresh(t.types), 0);
	while (again-- > 0) {
		assert_true(pytarget_line(&t.process, line, sizeof(line)));
		assert_int_equal(sscanf(line, "%llu", &addr), 1);
		assert_true(types_find(t.types, RADDR(addr)) > 50);
		assert_true(strstr(types_name(t.types, types_find(t.types, RADDR(addr))), "shop.Second"));
	}
	assert_true(pytarget_line(&t.process, line, sizeof(line)));
	assert_string_equal(line, "end");
	stop(&t);
}

static void test_reuse(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		reuse_of(&interps[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_reuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
