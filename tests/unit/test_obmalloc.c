/* SPDX-License-Identifier: MIT */
/*
 * Arenas and blocks against sys.getallocatedblocks() and sys._debugmallocstats()
 * of the interpreter itself, in one interpreter and in several, with own state
 * (own GIL) and with the main one's.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "interp/obmalloc.h"
#include "interp/python_impl.h"
#include "pytarget.h"

#define TAIL                                                                                                    \
	"import os, tempfile, gc\n"                                                                             \
	"gc.collect(); gc.disable()\n"                                                                          \
	"f = tempfile.TemporaryFile(); saved = os.dup(2); os.dup2(f.fileno(), 2)\n"                             \
	"sys._debugmallocstats(); os.dup2(saved, 2); f.seek(0); text = f.read().decode(); f.close()\n"          \
	"def number(key):\n"                                                                                    \
	"    for line in text.splitlines():\n"                                                                  \
	"        if line.startswith(key): return int(line.split('=')[1].split()[-1].replace(',', ''))\n"        \
	"    return -1\n"                                                                                       \
	"now, high = number('# arenas allocated current'), number('# arenas highwater mark')\n"                 \
	"one = [0]\n"                                                                                           \
	"print(now, high, sys.getallocatedblocks(), id(one), flush=True)\n"                                     \
	"sys.stdin.read()\n"

static const char plain[] = "import sys\nkeep = [[i] for i in range(60000)]\ndel keep[::3]\nraw = [bytes(5000) for i in range(500)]\n" TAIL;
static const char many[] = "import sys\nkeep = [(i, str(i), [i]) for i in range(600000)]\nfor i in range(0, 590000): keep[i] = None\n" TAIL;
static const char subs[] = "import sys\n"
			   "try: import _interpreters as i\n"
			   "except ImportError: import _xxsubinterpreters as i\n"
			   "keep = [[k] for k in range(30000)]\n"
			   "a, b = i.create(), i.create()\n"
			   "v = sys.version_info[:2]\n"
			   "c = i.create('legacy') if v >= (3, 13) else i.create(isolated=False) if v == (3, 12) else i.create()\n"
			   "for x in (a, b, c): i.run_string(x, 'keep = [[k] for k in range(40000)]')\n" TAIL;

static void near(uint64_t got, uint64_t want, const char *what, const struct pyinterp *interp)
{
	uint64_t difference = got > want ? got - want : want - got;

	if (difference > 40)
		fail_msg("%s: %s %llu, not %llu", interp->label, what, (unsigned long long)got, (unsigned long long)want);
}

static void check_pool(const struct python *python, uint64_t list)
{
	/* an empty-slotted list of one item: 40 bytes and 16 before it, class (56 - 1) / 16 = 3 */
	assert_int_equal(obmalloc_pool_alive(python, RADDR(list), 3), 1);
	assert_int_equal(obmalloc_pool_alive(python, RADDR(list), 4), 0);
	assert_int_equal(obmalloc_pool_alive(python, python_runtime(python), 3), 0);
	assert_int_equal(obmalloc_pool_alive(python, RADDR(0), 3), 0);
	assert_int_equal(obmalloc_pool_alive(python, RADDR(UINT64_MAX), 3), 0);
}

static void check_used(const struct python *python, raddr_t interp)
{
	raddr_t used;
	uint64_t first;

	assert_int_equal(obmalloc_usedpools(python, interp, &used), 0);
	/* class 3 has a pool in use after so many lists: its header names the class */
	assert_int_equal(rmem_u64(python_rmem(python), raddr_add(used, 3 * 16), &first), 0);
	assert_true(first == used.v + 3 * 16 - 16 || first % python_layout(python)->pool_size == 0);
}

static void check(const struct pyinterp *interp, const char *program, const char *const *env, bool one_state)
{
	_cleanup_(python_freep) struct python *python = NULL;
	struct obmalloc_totals t;
	struct pytarget target;
	struct err err = { 0 };
	long long arenas, high, blocks;
	unsigned long long list;
	raddr_t interps[8];
	char line[128];
	ssize_t n;

	assert_int_equal(pytarget_start(interp, program, env, &target), 0);
	assert_true(pytarget_line(&target, line, sizeof(line)));
	assert_int_equal(sscanf(line, "%lld %lld %lld %llu", &arenas, &high, &blocks, &list), 4);
	pytarget_rest(&target);
	if (python_open(target.pid, &python, &err) < 0 || obmalloc_totals(python, &t, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	print_message("%s: %llu arenas, %llu blocks\n", interp->label, (unsigned long long)t.arenas,
		      (unsigned long long)t.allocated_blocks);
	near(t.allocated_blocks, (uint64_t)blocks, "blocks", interp);
	assert_int_equal(t.refused, 0);
	if (one_state) {
		assert_int_equal(t.arenas, arenas);
		assert_int_equal(t.arenas_highwater, high);
	} else {
		assert_true(t.arenas > (uint64_t)arenas);
	}
	assert_int_equal(t.arena_bytes, t.arenas * t.arena_size);
	assert_true(t.pools_used + t.pools_free + t.pools_uncarved <= t.arena_bytes / t.pool_size);
	assert_true(t.pools_used + t.pools_free + t.pools_uncarved >= t.arenas * (t.arena_size / t.pool_size - 1));
	n = python_interpreters(python, interps, 8);
	for (ssize_t i = 0; i < n; i++)
		check_used(python, interps[i]);
	if (!env)
		check_pool(python, list - 16);
	pytarget_stop(&target);
}

static void test_totals(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		check(&interps[i], plain, NULL, true);
}

static void test_fragmented(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		check(&interps[i], many, NULL, true);
}

static void test_debug_hooks(void **state)
{
	static const char *const env[] = { "PYTHONMALLOC=debug", NULL };
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		check(&interps[i], plain, env, true);
}

static void test_subinterpreters(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		check(&interps[i], subs, NULL, interps[i].minor < 12);
}

static void test_unused(void **state)
{
	static const char *const env[] = { "PYTHONMALLOC=malloc", NULL };
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		_cleanup_(python_freep) struct python *python = NULL;
		struct obmalloc_totals t;
		struct pytarget target;
		struct err err = { 0 };
		char line[8];

		assert_int_equal(pytarget_start(&interps[i], "import sys; print('r', flush=True); sys.stdin.read()", env, &target), 0);
		assert_true(pytarget_line(&target, line, sizeof(line)));
		assert_int_equal(python_open(target.pid, &python, &err), 0);
		assert_int_equal(obmalloc_totals(python, &t, &err), -ENOENT);
		pytarget_stop(&target);
	}
}

/* A target that allocates and frees all the time: no error, and hardly a refusal. */
static void test_busy(void **state)
{
	static const char busy[] = "import sys, threading\n"
				   "def run():\n"
				   "    while True:\n"
				   "        keep = [[i] for i in range(50000)]\n"
				   "threading.Thread(target=run, daemon=True).start()\n"
				   "print('r', flush=True); sys.stdin.read()\n";
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		_cleanup_(python_freep) struct python *python = NULL;
		struct pytarget target;
		struct err err = { 0 };
		char line[8];

		assert_int_equal(pytarget_start(&interps[i], busy, NULL, &target), 0);
		assert_true(pytarget_line(&target, line, sizeof(line)));
		assert_int_equal(python_open(target.pid, &python, &err), 0);
		for (int k = 0; k < 50; k++) {
			struct obmalloc_totals t;

			if (obmalloc_totals(python, &t, &err) < 0)
				fail_msg("%s: %s", interps[i].label, err.what);
			assert_true(t.arenas >= 1 && t.arenas < 1000 && t.refused < 64);
		}
		pytarget_stop(&target);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_totals),
		cmocka_unit_test(test_fragmented),
		cmocka_unit_test(test_debug_hooks),
		cmocka_unit_test(test_subinterpreters),
		cmocka_unit_test(test_unused),
		cmocka_unit_test(test_busy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
