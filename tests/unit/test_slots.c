/* SPDX-License-Identifier: MIT */
/*
 * Allocator tables of real interpreters: default, every PYTHONMALLOC, a running
 * tracemalloc; the functions must be those of the table the interpreter itself
 * reports where its image has names.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "interp/slots.h"
#include "pytarget.h"
#include "target/site.h"

static const char program[] = "import sys; print('r', flush=True); sys.stdin.read()";

struct look {
	struct pytarget target;
	struct python *python;
	struct slots slots;
};

static void look_at(const struct pyinterp *interp, const char *code, const char *const *env, struct look *look)
{
	struct err err = { 0 };
	char line[8];

	memset(look, 0, sizeof(*look));
	assert_int_equal(pytarget_start(interp, code, env, &look->target), 0);
	assert_true(pytarget_line(&look->target, line, sizeof(line)));
	if (python_open(look->target.pid, &look->python, &err) < 0 || slots_read(look->python, &look->slots, &err) < 0)
		fail_msg("%s %s: %s", interp->label, env ? env[0] : "", err.what);
}

static void look_end(struct look *look)
{
	python_free(look->python);
	pytarget_stop(&look->target);
}

static void expect_name(const struct look *look, raddr_t fn, const char *want)
{
	struct image_symbol symbol;
	const char *name;

	/* stripped images have no name to compare with, or the one of some exported neighbour */
	if (image_is_stripped(python_image(look->python)))
		return;
	assert_int_equal(image_symbol_at(python_image(look->python), fn, &name, &symbol), 0);
	assert_string_equal(name, want);
}

static void check_default(const struct pyinterp *interp)
{
	static const char *const names[FN_COUNT] = { "_PyObject_Malloc", "_PyObject_Calloc", "_PyObject_Realloc", "_PyObject_Free" };
	static const char *const raw[FN_COUNT] = { "_PyMem_RawMalloc", "_PyMem_RawCalloc", "_PyMem_RawRealloc", "_PyMem_RawFree" };
	struct look look;
	raddr_t new_pool;
	int arg = -1, r;

	look_at(interp, program, NULL, &look);
	print_message("%s: %s%s\n", interp->label, look.slots.text, python_is_optimised(look.python) ? ", guards" : "");
	assert_string_equal(look.slots.text, "pymalloc");
	assert_int_equal(look.slots.allocator, ALLOCATOR_PYMALLOC);
	assert_false(python_is_debug(look.python));
	for (int f = 0; f < FN_COUNT; f++) {
		for (int d = 0; d < DOMAIN_COUNT; d++) {
			assert_false(look.slots.fn[d][f].armed);
			assert_true(raddr_eq(look.slots.fn[d][f].value, look.slots.fn[d][f].function));
			expect_name(&look, look.slots.fn[d][f].function, d == DOMAIN_RAW ? raw[f] : names[f]);
		}
		assert_true(raddr_eq(look.slots.fn[DOMAIN_MEM][f].function, look.slots.fn[DOMAIN_OBJ][f].function));
	}
	assert_true(look.slots.arena_alloc.v && look.slots.arena_free.v);
	r = slots_new_pool(look.python, &look.slots, &new_pool, &arg);
	assert_int_equal(r, interp->minor == 8 ? -ENOENT : 0);
	if (r == 0) {
		assert_int_equal(arg, interp->minor >= 12);
		expect_name(&look, new_pool, "allocate_from_new_pool");
	}
	/* plain builds have names, the others were built with profiles: true of the interpreters this is run with */
	assert_int_equal(python_is_optimised(look.python), image_is_stripped(python_image(look.python)));
	look_end(&look);
}

static void test_default(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		check_default(&interps[i]);
}

static void test_modes(void **state)
{
	static const struct {
		const char *env;
		int first_minor;
		const char *want;
	} modes[] = {
		{ "PYTHONMALLOC=malloc", 8, "malloc" },
		{ "PYTHONMALLOC=pymalloc", 8, "pymalloc" },
		{ "PYTHONMALLOC=debug", 8, "pymalloc under debug hooks" },
		{ "PYTHONMALLOC=pymalloc_debug", 8, "pymalloc under debug hooks" },
		{ "PYTHONMALLOC=malloc_debug", 8, "malloc under debug hooks" },
		{ "PYTHONDEVMODE=1", 8, "pymalloc under debug hooks" },
		{ "PYTHONTRACEMALLOC=1", 8, "pymalloc under tracemalloc" },
		{ "PYTHONMALLOC=mimalloc", 13, "mimalloc" },
		{ "PYTHONMALLOC=mimalloc_debug", 13, "mimalloc under debug hooks" },
	};
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		for (size_t m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
			const char *env[] = { modes[m].env, NULL };
			struct look look;
			raddr_t fn;
			int arg;

			if (interps[i].minor < modes[m].first_minor)
				continue;
			look_at(&interps[i], program, env, &look);
			if (strcmp(look.slots.text, modes[m].want) != 0)
				fail_msg("%s %s: %s", interps[i].label, env[0], look.slots.text);
			assert_int_equal(look.slots.tracemalloc, strstr(modes[m].want, "tracemalloc") != NULL);
			assert_int_equal(slots_new_pool(look.python, &look.slots, &fn, &arg),
					 look.slots.allocator == ALLOCATOR_PYMALLOC && interps[i].minor > 8 ? 0 : -ENOENT);
			look_end(&look);
		}
	}
}

/* Started, stopped and under debug hooks, in a program that is running. */
static void test_tracemalloc(void **state)
{
	static const char on[] = "import sys, tracemalloc\ntracemalloc.start()\nprint('r', flush=True); sys.stdin.read()";
	static const char off[] = "import sys, tracemalloc\ntracemalloc.start(); tracemalloc.stop()\nprint('r', flush=True); "
				  "sys.stdin.read()";
	static const char *const debug[] = { "PYTHONMALLOC=debug", NULL };
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);
	struct look look;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		look_at(&interps[i], on, NULL, &look);
		assert_string_equal(look.slots.text, "pymalloc under tracemalloc");
		look_end(&look);
		look_at(&interps[i], off, NULL, &look);
		assert_string_equal(look.slots.text, "pymalloc");
		look_end(&look);
		look_at(&interps[i], on, debug, &look);
		assert_string_equal(look.slots.text, "pymalloc under debug hooks and tracemalloc");
		look_end(&look);
	}
}

static void poke(pid_t pid, raddr_t addr, uint64_t value)
{
	struct iovec local = { &value, sizeof(value) }, remote = { (void *)(uintptr_t)addr.v, sizeof(value) };

	assert_int_equal(process_vm_writev(pid, &local, 1, &remote, 1, 0), sizeof(value));
}

/* Slots that a killed tracer left armed are recognised, and lead to the function behind. */
static void check_armed(const struct pyinterp *interp)
{
	struct look look;
	struct slots again;
	struct err err;
	size_t armed = 0;

	look_at(interp, program, NULL, &look);
	for (int f = 0; f < FN_COUNT; f++) {
		const struct slot *slot = &look.slots.fn[DOMAIN_OBJ][f];
		struct site site;

		if (site_alias(python_image(look.python), slot->function, SITE_MASK_LINUX_6_18, &site) < 0)
			continue;
		poke(look.target.pid, slot->addr, site.addr.v);
		armed++;
	}
	assert_int_equal(slots_read(look.python, &again, &err), 0);
	assert_string_equal(again.text, "pymalloc");
	for (int f = 0; f < FN_COUNT; f++) {
		const struct slot *was = &look.slots.fn[DOMAIN_OBJ][f], *is = &again.fn[DOMAIN_OBJ][f];

		assert_int_equal(is->armed, !raddr_eq(is->value, was->value));
		assert_true(raddr_eq(is->function, was->function));
		armed -= is->armed;
		poke(look.target.pid, was->addr, was->value.v);
	}
	assert_int_equal(armed, 0);
	look_end(&look);
}

static void test_armed(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		check_armed(&interps[i]);
}

/* A process that dies is said to be gone, not to be an unusual build. */
static void test_dead(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		struct look look;
		struct slots slots;
		struct err err;
		siginfo_t info;

		look_at(&interps[i], program, NULL, &look);
		kill(look.target.pid, SIGKILL);
		/* as long as nobody waits for it, a zombie */
		assert_int_equal(waitid(P_PID, (id_t)look.target.pid, &info, WEXITED | WNOWAIT), 0);
		assert_int_equal(slots_read(look.python, &slots, &err), -ESRCH);
		look_end(&look);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(allocator_name(ALLOCATOR_MIMALLOC), "mimalloc");
	assert_string_equal(allocator_name((enum allocator)99), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_default),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_tracemalloc),
		cmocka_unit_test(test_armed),
		cmocka_unit_test(test_dead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
