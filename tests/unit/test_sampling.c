/* SPDX-License-Identifier: MIT */
/* What frees of large blocks say, as sampled mode is told of them: given back, or only moved. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "bpf/event.h"
#include "pytarget.h"
#include "track/sampling.h"

#define MS 1000000ull
#define ADDR 0x7f0000001010ull
#define BYTES 100000u
#define STACK 3

struct fixture {
	struct pytarget target;
	struct python *python;
	struct sampling *sampling;
};

static int setup(void **state)
{
	static struct fixture f;
	struct err err;
	size_t n;
	char line[32];

	f = (struct fixture){ 0 };
	if (pytarget_start(&pyinterps(&n)[0], "import sys; print('ready', flush=True); sys.stdin.read()", NULL, &f.target) < 0 ||
	    !pytarget_line(&f.target, line, sizeof(line)) || python_open(f.target.pid, &f.python, &err) < 0 ||
	    sampling_new(f.python, 100, &f.sampling) < 0)
		return -1;
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sampling_free(f->sampling);
	python_free(f->python);
	pytarget_stop(&f->target);
	return 0;
}

static void tell_free(struct sampling *s, uint64_t addr, uint64_t bytes, uint16_t flags, uint64_t time_ns)
{
	struct event_block e = { .hdr = { .kind = EVENT_FREE, .flags = flags, .time_ns = time_ns }, .addr = addr, .size = bytes };

	sampling_on_free(s, &e, STACK);
}

struct frees {
	size_t count;
	struct large_free last;
};

static void note_free(void *ctx, const struct large_free *f)
{
	struct frees *frees = ctx;

	frees->count++;
	frees->last = *f;
}

static struct frees frees_of(const struct sampling *s)
{
	struct frees frees = { 0 };

	sampling_visit_large_frees(s, note_free, &frees);
	return frees;
}

static void test_given_back(void **state)
{
	struct sampling *s = ((struct fixture *)*state)->sampling;
	struct frees frees;

	tell_free(s, ADDR, BYTES, EVENT_F_LARGE, 5 * MS);
	frees = frees_of(s);
	assert_int_equal(frees.count, 1);
	assert_int_equal(frees.last.bytes, BYTES);
	assert_int_equal(frees.last.stack, STACK);
	assert_int_equal(frees.last.time_ns, 5 * MS);
	assert_int_equal(frees.last.born_ns, 0);
	assert_true(sampling_large_bytes(s) == -(double)BYTES);
	/* of the domain above, which does not know how much: the raw one tells */
	tell_free(s, ADDR + 0x100000, 0, EVENT_F_LARGE, 6 * MS);
	assert_int_equal(frees_of(s).count, 1);
	tell_free(s, ADDR + 0x100000, BYTES, EVENT_F_LARGE, 6 * MS);
	assert_int_equal(frees_of(s).count, 2);
}

/* The window ends inside of a realloc: its old block is seen to go, the new one never to come. A list that grows gave nothing back. */
static void test_realloc_without_its_end(void **state)
{
	struct sampling *s = ((struct fixture *)*state)->sampling;

	tell_free(s, ADDR, BYTES, EVENT_F_LARGE | EVENT_F_REALLOC, 5 * MS);
	assert_int_equal(frees_of(s).count, 0);
	tell_free(s, ADDR + 0x200000, BYTES, EVENT_F_LARGE, 6 * MS);
	assert_int_equal(frees_of(s).count, 1);
}

/* A block that comes and goes within one window is nobody's gain, and nobody's loss. */
static void test_within_a_window(void **state)
{
	struct sampling *s = ((struct fixture *)*state)->sampling;
	struct event_alloc e = { .hdr = { .kind = EVENT_ALLOC, .flags = EVENT_F_LARGE, .time_ns = 5 * MS }, .addr = ADDR, .size = BYTES };

	assert_int_equal(sampling_on_alloc(s, &e, STACK), 0);
	tell_free(s, ADDR, BYTES, EVENT_F_LARGE, 6 * MS);
	assert_int_equal(frees_of(s).count, 0);
	assert_true(sampling_large_bytes(s) == 0);
	/* and told of by the other domain, too */
	tell_free(s, ADDR, BYTES, EVENT_F_LARGE, 6 * MS);
	assert_int_equal(frees_of(s).count, 0);
	/* freed before what waits there came: another block, whose birth was not seen */
	e.addr = ADDR + 0x300000;
	e.hdr.time_ns = 7 * MS;
	assert_int_equal(sampling_on_alloc(s, &e, STACK), 0);
	tell_free(s, ADDR + 0x300000, BYTES, EVENT_F_LARGE, 6 * MS);
	assert_int_equal(frees_of(s).count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_given_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_realloc_without_its_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_within_a_window, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
