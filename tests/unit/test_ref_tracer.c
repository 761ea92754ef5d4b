/* SPDX-License-Identifier: MIT */
/*
 * The reference tracer's slot of real interpreters, the functions it may point
 * at, and the key tables of real dicts. Before 3.13 there is nothing to find.
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "interp/dict_keys.h"
#include "interp/ref_tracer.h"
#include "pytarget.h"

/* Answers each line with a number. A function that does nothing stands in for somebody's tracer. */
static const char program[] =
	"import ctypes, sys\n"
	"class D(dict): pass\n"
	"plain, extended = {'a': 1}, D(a=1)\n"
	"stub = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value\n"
	"def install(value):\n"
	"    call = ctypes.pythonapi.PyRefTracer_SetTracer\n"
	"    call.argtypes = [ctypes.c_void_p, ctypes.c_void_p]\n"
	"    return call(value, None) or value or 0\n"
	"keys = lambda d: ctypes.c_size_t.from_address(id(d) + 32).value\n"
	"commands = {'install': lambda: install(stub), 'remove': lambda: install(None),\n"
	"    'table': lambda: sys.getsizeof(plain) - sys.getsizeof({}), 'plain': lambda: id(plain), 'extended': lambda: id(extended),\n"
	"    'plain keys': lambda: keys(plain), 'extended keys': lambda: keys(extended)}\n"
	"print('ready', flush=True)\n"
	"for line in sys.stdin:\n"
	"    print(commands[line.strip()](), flush=True)\n";

struct look {
	const char *label;
	int minor;
	struct pytarget target;
	struct python *python;
};

static uint64_t ask(struct look *l, const char *command)
{
	char answer[64];

	fprintf(l->target.in, "%s\n", command);
	fflush(l->target.in);
	if (!pytarget_line(&l->target, answer, sizeof(answer)))
		fail_msg("%s: no answer to '%s'", l->label, command);
	return strtoull(answer, NULL, 10);
}

static void look_at(const struct pyinterp *interp, struct look *l)
{
	struct err err = { 0 };
	char line[16];

	*l = (struct look){ .label = interp->label, .minor = interp->minor };
	assert_int_equal(pytarget_start(interp, program, NULL, &l->target), 0);
	assert_true(pytarget_line(&l->target, line, sizeof(line)));
	if (python_open(l->target.pid, &l->python, &err) < 0)
		fail_msg("%s: %s", l->label, err.what);
}

static void look_end(struct look *l)
{
	python_free(l->python);
	pytarget_stop(&l->target);
}

static void for_each(void (*check)(struct look *l))
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	for (size_t i = 0; i < n; i++) {
		struct look l;

		look_at(&interps[i], &l);
		check(&l);
		look_end(&l);
	}
}

static void check_slot(struct look *l)
{
	struct slot slot = { 0 };
	uint64_t tracer;

	if (l->minor < 13) {
		assert_int_equal(ref_tracer_read(l->python, &slot), -ENOENT);
		return;
	}
	assert_int_equal(ref_tracer_read(l->python, &slot), 0);
	assert_true(slot.addr.v && slot.addr.v % 8 == 0 && !slot.value.v && !slot.armed && !slot.function.v);
	assert_false(ref_tracer_is_taken(&slot));
	print_message("%s: _PyRuntime+0x%" PRIx64 "\n", l->label, slot.addr.v - python_runtime(l->python).v);
	/* What the interpreter itself puts there is what is found there. */
	tracer = ask(l, "install");
	assert_int_equal(ref_tracer_read(l->python, &slot), 0);
	assert_int_equal(slot.value.v, tracer);
	assert_true(ref_tracer_is_taken(&slot) && !slot.armed);
	ask(l, "remove");
	assert_int_equal(ref_tracer_read(l->python, &slot), 0);
	assert_false(slot.value.v);
}

static void test_slot(void **state)
{
	(void)state;
	for_each(check_slot);
}

static void expect_site(struct look *l, site_mask_t mask, bool emulated)
{
	const struct image *image = python_image(l->python);
	uint8_t bytes[7], code[3] = { 0x31, 0xc0, 0xc3 };
	struct site site = { 0 };
	raddr_t fn;

	assert_int_equal(ref_tracer_site(l->python, mask, &site), 0);
	assert_int_equal(site.emulated, emulated);
	assert_true(site.stack_at_return && site.args_intact);
	assert_int_equal(site_alias_target(image, site.addr, &fn), 0);
	assert_int_equal(site.addr.v + site.len, fn.v);
	assert_int_equal(image_read(image, fn, bytes, sizeof(bytes)), sizeof(bytes));
	assert_true(!memcmp(bytes, code, 3) || !memcmp(bytes + 4, code, 3));
}

static void check_site(struct look *l)
{
	if (l->minor < 13)
		return;
	expect_site(l, SITE_MASK_LINUX_6_18, true);
	/* A kernel that emulates nothing still gets one. */
	expect_site(l, 0, false);
}

static void test_site(void **state)
{
	(void)state;
	for_each(check_site);
}

static void expect_keys(struct look *l, const char *which, uint32_t before, int candidate)
{
	uint64_t blocks[3] = { 0x1000, 0, 0x2000 }, keys[3][2];
	char command[32];

	snprintf(command, sizeof(command), "%s keys", which);
	blocks[1] = ask(l, which) - before;
	/* Alone, and between two that cannot be read. */
	dict_keys_read(l->python, blocks + 1, 1, keys + 1);
	assert_int_equal(keys[1][candidate], ask(l, command));
	dict_keys_read(l->python, blocks, 3, keys);
	assert_int_equal(keys[1][candidate], ask(l, command));
	assert_true(!keys[0][0] && !keys[0][1] && !keys[2][0] && !keys[2][1]);
}

static void check_keys(struct look *l)
{
	if (l->minor < 13) {
		/* Header, 8 indices, 5 entries: of 24 bytes up to 3.10, then of 16. */
		assert_int_equal(dict_keys_free_list_size(l->python), l->minor < 11 ? 40 + 8 + 5 * 24 : 32 + 8 + 5 * 16);
		return;
	}
	assert_int_equal(dict_keys_free_list_size(l->python), ask(l, "table"));
	expect_keys(l, "plain", 16, 0);
	expect_keys(l, "extended", 32, 1);
}

static void test_keys(void **state)
{
	(void)state;
	for_each(check_keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slot),
		cmocka_unit_test(test_site),
		cmocka_unit_test(test_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
