/* SPDX-License-Identifier: MIT */
/*
 * The balance sheet of programs whose memory is known: it adds up to RSS, at least 95 % is explained, and what a program holds of a kind
 * stands in the part of that kind.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "diagnose/memory.h"
#include "heap/balance.h"
#include "pytarget.h"

#define MIB (1024.0 * 1024)
#define EXPLAINED_MIN 0.95
#define READY "print('ready', flush=True); sys.stdin.read()\n"

struct program {
	const char *name, *text;
	struct {
		enum memory_part part;
		double low, high;   /* MiB; high 0: no bound */
	} want[4];
	double stacks;              /* at least */
};

static const struct program programs[] = {
	{ "small objects", "import sys\nkeep = [[n] for n in range(300000)]\n" READY,
	  { { MEMORY_pymalloc_live, 28, 60 }, { MEMORY_python_large, 2, 4 }, { MEMORY_pymalloc_free, 0, 4 } } },
	{ "holes", "import sys\nkeep = [bytes(200) for n in range(200000)]\ndel keep[1::40], keep[2:]\nkeep += [bytes(200)] * 9\n" READY,
	  { { MEMORY_pymalloc_live, 0, 15 } } },
	{ "large bytes", "import sys\nkeep = [b'x' * (1 << 20) for n in range(60)]\n" READY, { { MEMORY_python_large, 60, 64 } } },
	{ "tables of lists and dicts", "import sys\na = list(range(2000000)); d = dict.fromkeys(range(400000)); s = set(range(300000))\n" READY,
	  { { MEMORY_python_large, 15 + 20 + 8, 64 }, { MEMORY_pymalloc_live, 55, 100 } } },
	{ "malloc of a library",
	  "import ctypes, sys\nc = ctypes.CDLL(None); c.malloc.restype = ctypes.c_void_p; c.malloc.argtypes = [ctypes.c_size_t]\n"
	  "c.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]\n"
	  "for n in range(20000): c.memset(c.malloc(2000), 7, 2000)\n" READY, { { MEMORY_libc_live, 38, 44 }, { MEMORY_python_large, 0, 3 } } },
	{ "peak",
	  "import sys\nkeep = [bytes([n % 256]) * 4000 for n in range(15000)]; del keep[1::2]; x = keep[::500]; del keep\n" READY,
	  { { MEMORY_libc_free, 50, 62 } } },
	{ "threads", "import sys, threading, time\nfor n in range(60): threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n" READY,
	  { { MEMORY_stack, 0.3, 3 } }, 55 },
	{ "mappings", "import mmap, sys\na = mmap.mmap(-1, 20 << 20); a.write(b'x' * (20 << 20))\n" READY, { { MEMORY_mmap, 20, 23 } } },
};

static void check_sum(const struct pyinterp *interp, const char *name, const struct balance *b)
{
	uint64_t sum = 0;

	for (int i = 0; i < MEMORY_PART_COUNT; i++)
		sum += b->part[i];
	if (sum != b->rss)
		fail_msg("%s, %s: parts are %llu, RSS %llu", interp->label, name, (unsigned long long)sum, (unsigned long long)b->rss);
	assert_true(b->pss <= b->rss && b->pss > 0);
	if (!(balance_explained(b) >= EXPLAINED_MIN))
		fail_msg("%s, %s: %.3f explained", interp->label, name, balance_explained(b));
	assert_true(b->part[MEMORY_file] > 0 && b->part[MEMORY_stack] > 0);
}

static void check(const struct pyinterp *interp, const struct program *p, const struct balance *b)
{
	check_sum(interp, p->name, b);
	for (size_t i = 0; i < 4 && p->want[i].low + p->want[i].high > 0; i++) {
		double got = (double)b->part[p->want[i].part] / MIB;

		if (got < p->want[i].low || (p->want[i].high > 0 && got > p->want[i].high))
			fail_msg("%s, %s: %s %.1f MiB, not %g to %g", interp->label, p->name, memory_part_name(p->want[i].part), got,
				 p->want[i].low, p->want[i].high);
	}
	assert_true((double)b->stacks >= p->stacks);
	assert_true(b->has_libc && b->has_pymalloc);
}

static void read_sheet(const struct pyinterp *interp, pid_t pid, struct balance *b)
{
	_cleanup_(python_freep) struct python *python = NULL;
	_cleanup_(balancer_freep) struct balancer *balancer = NULL;
	struct err err;

	if (python_open(pid, &python, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	assert_int_equal(balancer_new(python, &balancer), 0);
	if (balancer_read(balancer, b, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
}

/* All interpreters take turns, so that each program and each interpreter comes several times, and Debian's see all. */
static bool is_chosen(const struct pyinterp *interp, size_t k, size_t i)
{
	return getenv("LEAKSNOOP_FULL") || (k + i) % 4 == 0 || !strcmp(interp->label, "debian-3.14");
}

static void test_programs(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t k = 0; k < n; k++) {
		for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
			struct pytarget target;
			struct balance b;
			char line[32];

			if (n > 1 && !is_chosen(&interps[k], k, i))
				continue;
			assert_int_equal(pytarget_start(&interps[k], programs[i].text, NULL, &target), 0);
			if (!pytarget_line(&target, line, sizeof(line)))
				fail_msg("%s cannot run %s", interps[k].label, programs[i].name);
			read_sheet(&interps[k], target.pid, &b);
			check(&interps[k], &programs[i], &b);
			pytarget_stop(&target);
		}
	}
}

/* A child shares its parent's pages: RSS is as large, PSS half of it; what it changes is its own. */
static void test_forked(void **state)
{
	static const char text[] = "import os, sys\nkeep = [bytes([n % 256]) * 3000 for n in range(20000)]\npid = os.fork()\nif pid: print(pid, flush=True)\n"
				   "sys.stdin.read(); os.kill(pid, 9) if pid else 0\n";
	size_t n;
	const struct pyinterp *interp = &pyinterps(&n)[0];
	struct pytarget target;
	struct balance parent, child;
	char line[32];

	(void)state;
	assert_int_equal(pytarget_start(interp, text, NULL, &target), 0);
	assert_true(pytarget_line(&target, line, sizeof(line)));
	read_sheet(interp, target.pid, &parent);
	read_sheet(interp, atoi(line), &child);
	check_sum(interp, "parent", &parent);
	check_sum(interp, "child", &child);
	assert_true(child.part[MEMORY_python_large] > 57 << 20 && parent.part[MEMORY_python_large] > 57 << 20);
	/* looking must not give it pages of its own */
	read_sheet(interp, atoi(line), &child);
	if (!(child.pss < 3 * (child.rss / 4)))
		fail_msg("PSS %llu, RSS %llu", (unsigned long long)child.pss, (unsigned long long)child.rss);
	pytarget_stop(&target);
}

/* Another allocator than pymalloc: all of it is malloc's, and Python's blocks are told by their contents. */
static void test_without_pymalloc(void **state)
{
	static const char *const env[] = { "PYTHONMALLOC=malloc", NULL };
	size_t n;
	const struct pyinterp *interp = &pyinterps(&n)[0];
	struct pytarget target;
	struct balance b;
	char line[32];

	(void)state;
	assert_int_equal(pytarget_start(interp, programs[0].text, env, &target), 0);
	assert_true(pytarget_line(&target, line, sizeof(line)));
	read_sheet(interp, target.pid, &b);
	check_sum(interp, "PYTHONMALLOC=malloc", &b);
	assert_int_equal(b.part[MEMORY_pymalloc_live] + b.part[MEMORY_pymalloc_free], 0);
	assert_true(b.part[MEMORY_python_large] > 20 << 20);
	pytarget_stop(&target);
}

/*
 * Behind a block larger than what is read at once the walk reads a page at a time, and begins anew with each chunk of more than two: lists'
 * tables of 8,208 bytes, so that each begins 16 bytes farther in its page than the one before, 20 times round.
 */
static void test_every_place(void **state)
{
	enum { TABLES = 20 * 256, OWN = 3 };   /* OWN: the interpreter's, that come and go */
	static const char text[] = "import sys\nx = bytes(8 << 20); del x; large = bytes(3 << 20); keep = [None] * 5120\n"
				   "for tables in 0, 5120:\n"
				   "    for n in range(tables): keep[n] = [None] * 1025\n"
				   "    print('ready', flush=True); sys.stdin.readline()\n";
	size_t n;
	const struct pyinterp *interp = &pyinterps(&n)[0];
	struct pytarget target;
	struct balance b[2];

	(void)state;
	assert_int_equal(pytarget_start(interp, text, NULL, &target), 0);
	for (int i = 0; i < 2; i++) {
		char line[32];

		assert_true(pytarget_line(&target, line, sizeof(line)));
		read_sheet(interp, target.pid, &b[i]);
		check_sum(interp, "every place", &b[i]);
		assert_true(fputs("\n", target.in) >= 0 && fflush(target.in) == 0);
	}
	assert_in_range(b[1].large_blocks - b[0].large_blocks, TABLES - OWN, TABLES + OWN);
	pytarget_stop(&target);
}

static void test_gone(void **state)
{
	size_t n;
	const struct pyinterp *interp = &pyinterps(&n)[0];
	_cleanup_(balancer_freep) struct balancer *balancer = NULL;
	_cleanup_(python_freep) struct python *python = NULL;
	struct pytarget target;
	struct balance b;
	struct err err;
	char line[32];

	(void)state;
	assert_int_equal(pytarget_start(interp, "import sys\n" READY, NULL, &target), 0);
	assert_true(pytarget_line(&target, line, sizeof(line)));
	assert_int_equal(python_open(target.pid, &python, &err), 0);
	assert_int_equal(balancer_new(python, &balancer), 0);
	pytarget_stop(&target);
	assert_int_equal(balancer_read(balancer, &b, &err), -ESRCH);
}

/* ---- sheets over time ---- */

static struct balance sheet_of(double live, double file)
{
	struct balance b = { .has_libc = true, .has_pymalloc = true };

	b.part[MEMORY_libc_live] = (uint64_t)(live * MIB);
	b.part[MEMORY_file] = (uint64_t)(file * MIB);
	b.rss = b.part[MEMORY_libc_live] + b.part[MEMORY_file];
	return b;
}

static void test_series(void **state)
{
	_cleanup_(memory_series_freep) struct memory_series *series = NULL;
	struct report_memory m;

	(void)state;
	assert_int_equal(memory_series_new(&series), 0);
	assert_null(memory_series_last(series));
	for (int t = 0; t < 5000; t++) {
		struct balance b = sheet_of(100 + 2 * t, 10);

		memory_series_add(series, t, &b);
		memory_series_report(series, &m);
		if (t == 0) {
			assert_true(isnan(m.part[MEMORY_libc_live].growth_bytes_per_second) && memory_series_grows(series) == -1);
			continue;
		}
		/* thinned or not */
		assert_true(fabs(m.part[MEMORY_libc_live].growth_bytes_per_second / MIB - 2) < 1e-6);
		assert_true(fabs(m.growth_bytes_per_second / MIB - 2) < 1e-6 && m.part[MEMORY_file].growth_bytes_per_second == 0);
		assert_int_equal(memory_series_grows(series), MEMORY_libc_live);
		assert_int_equal(memory_series_last(series)->rss - memory_series_before(series)->rss, (uint64_t)(2 * MIB));
	}
	assert_int_equal(memory_series_count(series), 5000);
	/* time that stands still adds nothing */
	memory_series_add(series, 4999, memory_series_last(series));
	assert_int_equal(memory_series_count(series), 5000);
}

static void test_advice(void **state)
{
	struct balance b = sheet_of(100, 10);
	char text[256];

	(void)state;
	assert_false(memory_advice(&b, 1, text, sizeof(text)));
	b.libc.trimmable = b.libc.resident_free = 60 << 20;
	assert_true(memory_advice(&b, 1, text, sizeof(text)));
	assert_non_null(strstr(text, "malloc_trim(0) would return 60.0 MiB"));
	assert_null(strstr(text, "MALLOC_ARENA_MAX"));
	b.libc.arenas = 30;
	assert_true(memory_advice(&b, 1, text, sizeof(text)));
	assert_non_null(strstr(text, "MALLOC_ARENA_MAX"));
	b.libc.trimmable = 8 << 20;
	assert_false(memory_advice(&b, 1, text, sizeof(text)));
	b.part[MEMORY_pymalloc_free] = 40 << 20;
	assert_true(memory_advice(&b, 77, text, sizeof(text)));
	assert_non_null(strstr(text, "leaksnoop arenas 77"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_programs),
		cmocka_unit_test(test_forked),
		cmocka_unit_test(test_without_pymalloc),
		cmocka_unit_test(test_every_place),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_series),
		cmocka_unit_test(test_advice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
