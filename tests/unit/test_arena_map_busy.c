/* SPDX-License-Identifier: MIT */
/* The map of arenas of programs that do not sleep: it adds up at any moment, says so when the program is killed, and is exact when it is stopped. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "arena_checks.h"
#include "trace/freeze.h"

static const char churning[] = "import sys, threading, random\n"
			       "class Session: __slots__ = ('a', 'b', 'c')\n"
			       "keep = [Session() for i in range(100000)]\n"
			       "def run(seed):\n"
			       "    rnd = random.Random(seed)\n"
			       "    while True:\n"
			       "        n = rnd.randrange(1000, 40000)\n"
			       "        a = [str(i) * (i % 30) for i in range(n)]; b = [[i] for i in range(n)]\n"
			       "        del a[::3], b[1::2]\n"
			       "for i in range(4): threading.Thread(target=run, args=(i,), daemon=True).start()\n"
			       "print('ready', flush=True)\n"
			       "sys.stdin.read()\n";

/* Reads again and again while four threads allocate at full speed: each map adds up, none is absurd, and doubts are rare. */
static void churn_of(const struct pyinterp *interp, int rounds)
{
	struct pytarget target;
	struct python *python = NULL;
	struct err err = { 0 };
	uint64_t retries = 0, unsure = 0, refused = 0, arenas = 0, torn = 0, failed = 0;
	char line[16];

	assert_int_equal(pytarget_start(interp, churning, NULL, &target), 0);
	assert_true(pytarget_line(&target, line, sizeof(line)));
	if (python_open(target.pid, &python, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	for (int i = 0; i < rounds; i++) {
		struct arena_map *map = NULL;
		int r = arena_map_read(python, NULL, &map, &err);

		if (r == -EAGAIN) {
			failed++;
			continue;
		}
		if (r < 0)
			fail_msg("%s: %s", interp->label, err.what);
		check_arena_sums(map, interp);
		/* 100,000 sessions stay; what four threads hold at once is bounded by what they ask for */
		if (map->totals.live_blocks < 95000 || map->totals.live_blocks > 2000000)
			fail_msg("%s: %llu blocks", interp->label, (unsigned long long)map->totals.live_blocks);
		retries += map->retries;
		unsure += map->unsure;
		refused += map->refused;
		torn += map->pools_torn;
		arenas += map->totals.arenas;
		arena_map_free(map);
	}
	print_message("%s: %d maps, %llu arenas: %llu read again, %llu in doubt, %llu refused, %llu pools torn, %llu maps given up\n", interp->label,
		      rounds, (unsigned long long)arenas, (unsigned long long)retries, (unsigned long long)unsure,
		      (unsigned long long)refused, (unsigned long long)torn, (unsigned long long)failed);
	assert_true(unsure * 50 <= arenas && refused * 1000 <= arenas && failed * 20 <= (uint64_t)rounds);
	assert_int_equal(waitpid(target.pid, NULL, WNOHANG), 0);
	python_free(python);
	pytarget_stop(&target);
}

static void test_churn(void **state)
{
	const char *full = getenv("LEAKSNOOP_FULL");
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		churn_of(&interps[i], full && *full == '1' ? 1000 : 30);
}

/* Killed at any moment of a reading: an error that says so, or a whole map. */
static void test_killed(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (unsigned round = 0; round < 6; round++) {
		struct pytarget target;
		struct python *python = NULL;
		struct err err = { 0 };
		char line[16];
		int r = 0;
		pid_t killer;

		assert_int_equal(pytarget_start(&interps[round % n], churning, NULL, &target), 0);
		assert_true(pytarget_line(&target, line, sizeof(line)));
		assert_int_equal(python_open(target.pid, &python, &err), 0);
		killer = fork();
		if (killer == 0) {
			usleep(round * 3000);
			kill(target.pid, SIGKILL);
			_exit(0);
		}
		while (r == 0 || r == -EAGAIN) {
			struct arena_map *map = NULL;

			r = arena_map_read(python, NULL, &map, &err);
			if (r == 0)
				check_arena_sums(map, &interps[round % n]);
			arena_map_free(map);
		}
		/* nothing of pymalloc is found any more in a process that is being taken apart */
		if (r != -ESRCH && r != -ENOENT)
			fail_msg("%d: %s", r, err.what);
		assert_true(err.what[0]);
		waitpid(killer, NULL, 0);
		python_free(python);
		pytarget_stop(&target);
	}
}

/* Stopped amid full speed: two readings are the same to the last block. */
static void test_frozen(void **state)
{
	size_t n, amid = 0;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		struct pytarget target;
		struct python *python = NULL;
		struct err err = { 0 };
		char line[16];

		assert_int_equal(pytarget_start(&interps[i], churning, NULL, &target), 0);
		assert_true(pytarget_line(&target, line, sizeof(line)));
		assert_int_equal(python_open(target.pid, &python, &err), 0);
		for (int round = 0; round < 3; round++) {
			struct freeze *freeze = NULL;
			struct arena_map *first, *second;

			if (freeze_begin(target.pid, &freeze, &err) < 0)
				fail_msg("%s: %s", interps[i].label, err.what);
			first = arena_map_of(python, &interps[i]);
			second = arena_map_of(python, &interps[i]);
			assert_true(freeze_holds(freeze));
			freeze_end(freeze);
			check_arena_sums(first, &interps[i]);
			assert_memory_equal(&first->totals, &second->totals, sizeof(first->totals));
			assert_int_equal(first->n_pins, second->n_pins);
			assert_int_equal(first->pools_torn, second->pools_torn);
			if (first->refused || first->unsure > 2)
				print_message("%s: stopped with %llu arenas refused, %llu in doubt\n", interps[i].label,
					      (unsigned long long)first->refused, (unsigned long long)first->unsure);
			amid += first->refused || first->unsure > 2;
			arena_map_free(first);
			arena_map_free(second);
			usleep(20000);
		}
		python_free(python);
		pytarget_stop(&target);
	}
	/* It may have been stopped while it changed its list of arenas; seldom. */
	assert_true(amid <= 1 + n / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_frozen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
