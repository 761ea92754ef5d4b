/* SPDX-License-Identifier: MIT */
/* From records to names: reuse of addresses, cut line tables, lies, and records that are malformed in every way. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../bpf/control.h"
#include "stack_records.h"
#include "track/stacks.h"

#define CODE 0x7f0000001000ull

static struct stacks *new_stacks(stacks_fetch_fn fetch, void *ctx)
{
	struct stacks *s = NULL;

	assert_int_equal(stacks_new(fetch, ctx, &s), 0);
	assert_int_equal(stacks_add_target(s, 0, LINETABLE_PEP657), 0);
	assert_int_equal(stacks_add_target(s, 1, LINETABLE_PEP657), 0);
	return s;
}

static void add_code(struct stacks *s, uint32_t target, uint64_t code, const char *name, const char *file, int firstlineno)
{
	struct code_record r;
	size_t size = record_code(&r, target, code, name, file, firstlineno, 8);

	assert_int_equal(stacks_on_code(s, &r.e, size), 0);
}

/* A stack of one frame; returns its index. */
static uint32_t add_stack(struct stacks *s, uint32_t target, uint64_t id, uint64_t code, int offset)
{
	struct stack_record r;

	record_stack(&r, target, id, 0);
	record_frame(&r, code, offset);
	assert_int_equal(stacks_on_stack(s, &r.e, record_stack_size(&r)), 0);
	return stacks_find(s, id);
}

static void expect_frame(const struct stacks *s, uint32_t stack, uint32_t n, const char *file, const char *function, int line)
{
	const struct stack *st = stacks_get(s, stack);
	const struct frame *f;

	assert_true(n < st->count);
	f = stacks_frame(s, st->frames[n]);
	assert_string_equal(stacks_str(s, f->file), file);
	assert_string_equal(stacks_str(s, f->function), function);
	assert_int_equal(f->line, line);
}

static void test_names(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks(NULL, NULL);
	struct stack_record r;
	uint32_t i;

	(void)state;
	assert_int_equal(stacks_count(s), 1);
	assert_int_equal(stacks_get(s, 0)->count, 0);
	add_code(s, 0, CODE, "inner", "/app/a.py", 10);
	add_code(s, 0, CODE + 0x100, "outer", "/app/b.py", 100);
	record_stack(&r, 0, 77, EVENT_F_TRUNCATED);
	record_frame(&r, CODE, 4);
	record_frame(&r, CODE + 0x100, 0);
	record_frame(&r, CODE + 0x100, -1);
	assert_int_equal(stacks_on_stack(s, &r.e, record_stack_size(&r)), 0);
	i = stacks_find(s, 77);
	assert_int_equal(i, 1);
	assert_true(stacks_get(s, i)->truncated);
	expect_frame(s, i, 0, "/app/a.py", "inner", 12);
	expect_frame(s, i, 1, "/app/b.py", "outer", 100);
	expect_frame(s, i, 2, "/app/b.py", "outer", 100);
	assert_int_equal(stacks_unresolved(s), 0);
	/* The same frames under another of the kernel's ids are the same stack; whole, they are another. */
	r.e.stack = 78;
	assert_int_equal(stacks_on_stack(s, &r.e, record_stack_size(&r)), 0);
	assert_int_equal(stacks_find(s, 78), i);
	r.e.stack = 79;
	r.e.hdr.flags = 0;
	assert_int_equal(stacks_on_stack(s, &r.e, record_stack_size(&r)), 0);
	assert_int_not_equal(stacks_find(s, 79), i);
	assert_false(stacks_get(s, stacks_find(s, 79))->truncated);
	stacks_free(NULL);
}

static void test_unknown(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks(NULL, NULL);
	uint32_t i;

	(void)state;
	assert_int_equal(stacks_find(s, 0), 0);
	assert_int_equal(stacks_unresolved(s), 0);
	assert_int_equal(stacks_find(s, 5), 0);
	assert_int_equal(stacks_unresolved(s), 1);
	i = add_stack(s, 0, 6, CODE, 0);
	expect_frame(s, i, 0, "?", "?", -1);
	assert_int_equal(stacks_unresolved(s), 2);
	/* Beyond the table, and a target whose kind of table nobody told. */
	add_code(s, 0, CODE, "f", "a.py", 1);
	i = add_stack(s, 0, 7, CODE, 1000);
	expect_frame(s, i, 0, "a.py", "f", -1);
	add_code(s, 5, CODE, "g", "b.py", 1);
	i = add_stack(s, 5, 8, CODE, 0);
	expect_frame(s, i, 0, "b.py", "g", -1);
	assert_int_equal(stacks_unresolved(s), 4);
	/* A stack without frames is the one there is from the start. */
	{
		struct stack_record r;

		record_stack(&r, 0, 9, 0);
		assert_int_equal(stacks_on_stack(s, &r.e, record_stack_size(&r)), 0);
		assert_int_equal(stacks_find(s, 9), 0);
	}
	assert_int_equal(stacks_add_target(s, MAX_TARGETS, LINETABLE_310), -ENOSPC);
	assert_ptr_equal(stacks_get(s, UINT32_MAX), stacks_get(s, 0));
}

/* An address that serves another code object later: each stack has the name of its own time, and of its own process. */
static void test_reuse(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks(NULL, NULL);
	uint32_t first, other, none, second;

	(void)state;
	add_code(s, 0, CODE, "first", "a.py", 10);
	add_code(s, 1, CODE, "other", "o.py", 5);
	first = add_stack(s, 0, 1, CODE, 0);
	other = add_stack(s, 1, 2, CODE, 0);
	assert_int_equal(stacks_on_code_free(s, 0, CODE), 0);
	none = add_stack(s, 0, 3, CODE, 0);
	add_code(s, 0, CODE, "second", "b.py", 20);
	second = add_stack(s, 0, 4, CODE, 0);
	expect_frame(s, first, 0, "a.py", "first", 10);
	expect_frame(s, other, 0, "o.py", "other", 5);
	expect_frame(s, none, 0, "?", "?", -1);
	expect_frame(s, second, 0, "b.py", "second", 20);
	/* Its freeing was lost: the new record takes its place all the same. */
	add_code(s, 0, CODE, "third", "c.py", 30);
	expect_frame(s, add_stack(s, 0, 5, CODE, 0), 0, "c.py", "third", 30);
	expect_frame(s, stacks_find(s, 1), 0, "a.py", "first", 10);
	assert_int_equal(stacks_on_code_free(s, 0, CODE + 8), 0);
}

static void test_text(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks(NULL, NULL);
	static const uint16_t wide[] = { 0x20ac, 0xd800, 'x' };
	struct code_record r;
	size_t size = record_code(&r, 0, CODE, "n\xe4me", "f", 1, 1);

	(void)state;
	r.e.file_kind = 2;
	r.e.file_size = sizeof(wide);
	memcpy(r.e.file, wide, sizeof(wide));
	assert_int_equal(stacks_on_code(s, &r.e, size), 0);
	expect_frame(s, add_stack(s, 0, 1, CODE, 0), 0, "\xe2\x82\xac\xef\xbf\xbdx", "n\xc3\xa4me", 1);
	/* Unreadable strings, kinds that are none, odd sizes. */
	r.e.name_kind = 0;
	r.e.file_kind = 0;
	assert_int_equal(stacks_on_code(s, &r.e, size), 0);
	expect_frame(s, add_stack(s, 0, 2, CODE, 0), 0, "?", "?", 1);
	for (unsigned int kind = 0; kind < 256; kind++) {
		r.e.name_kind = r.e.file_kind = (uint8_t)kind;
		r.e.name_size = CODE_NAME_MAX;
		r.e.file_size = CODE_FILE_MAX - kind % 4;
		memset(r.e.name, 0xff, sizeof(r.e.name));
		memset(r.e.file, 0xff, sizeof(r.e.file));
		assert_int_equal(stacks_on_code(s, &r.e, size), 0);
		assert_true(add_stack(s, 0, 100 + kind, CODE, 0) > 0);
	}
}

struct memory {
	uint8_t bytes[4096];
	size_t size;
	uint64_t addr;
	int error, calls;
};

static int fetch(void *ctx, uint32_t target, uint64_t addr, void *buf, size_t size)
{
	struct memory *m = ctx;

	m->calls++;
	assert_int_equal(target, 0);
	assert_int_equal(addr, m->addr);
	if (m->error || size > sizeof(m->bytes))
		return m->error ? m->error : -EFAULT;
	memcpy(buf, m->bytes, size);
	return 0;
}

/* A table of 512 lines of which the record holds the first 32. */
static size_t cut_code(struct code_record *r, struct memory *m)
{
	size_t size = record_code(r, 0, CODE, "f", "a.py", 1000, 32);

	memset(m, 0, sizeof(*m));
	m->size = record_lines(m->bytes, sizeof(m->bytes), 512);
	m->addr = r->e.linetable;
	r->e.hdr.flags = EVENT_F_TRUNCATED;
	r->e.linetable_size = (uint32_t)m->size;
	return size;
}

static void test_cut_tables(void **state)
{
	struct memory m;
	_cleanup_(stacks_freep) struct stacks *s = new_stacks(fetch, &m), *without = new_stacks(NULL, NULL);
	struct code_record r;
	size_t size = cut_code(&r, &m);

	(void)state;
	assert_int_equal(stacks_on_code(s, &r.e, size), 0);
	expect_frame(s, add_stack(s, 0, 1, CODE, 2 * 511), 0, "a.py", "f", 1511);
	assert_int_equal(m.calls, 1);
	/* Nobody to ask: what is there is right, the rest unknown. */
	assert_int_equal(stacks_on_code(without, &r.e, size), 0);
	expect_frame(without, add_stack(without, 0, 1, CODE, 2 * 31), 0, "a.py", "f", 1031);
	expect_frame(without, add_stack(without, 0, 2, CODE, 2 * 32), 0, "a.py", "f", -1);
	/* The memory cannot be read, or holds something else by now. */
	m.error = -ESRCH;
	assert_int_equal(stacks_on_code(s, &r.e, size), 0);
	expect_frame(s, add_stack(s, 0, 3, CODE, 2 * 511), 0, "a.py", "f", -1);
	m.error = 0;
	m.bytes[20] ^= 1;
	assert_int_equal(stacks_on_code(s, &r.e, size), 0);
	expect_frame(s, add_stack(s, 0, 4, CODE, 2 * 31), 0, "a.py", "f", 1031);
	expect_frame(s, add_stack(s, 0, 5, CODE, 2 * 511), 0, "a.py", "f", -1);
	/* A size nobody believes is not asked for. */
	m.calls = 0;
	r.e.linetable_size = UINT32_MAX;
	assert_int_equal(stacks_on_code(s, &r.e, size), 0);
	assert_int_equal(m.calls, 0);
}

/* Random bytes as a table: some line, or none, and no harm. */
static void test_random_tables(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks(NULL, NULL);
	struct code_record r;
	size_t size = record_code(&r, 0, CODE, "f", "a.py", 1, 32);
	uint32_t seed = 7;

	(void)state;
	for (uint64_t id = 1; id < 2000; id++) {
		for (size_t i = 0; i < sizeof(r.table); i++)
			r.table[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
		r.e.firstlineno = (int32_t)seed;
		assert_int_equal(stacks_add_target(s, 0, (enum linetable_kind)(seed >> 16) % 5), 0);
		assert_int_equal(stacks_on_code(s, &r.e, size), 0);
		add_stack(s, 0, id, CODE, (int)(seed >> 8));
	}
}

static void expect_bad_code(struct stacks *s, const struct code_record *r, size_t size)
{
	uint64_t before = stacks_malformed(s);
	/* Exactly as large as it is said to be, so that a sanitizer sees a read beyond. */
	void *copy = malloc(size ? size : 1);

	memcpy(copy, r, size);
	assert_int_equal(stacks_on_code(s, copy, size), -EBADMSG);
	assert_int_equal(stacks_malformed(s), before + 1);
	free(copy);
}

static void test_malformed_code(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks(NULL, NULL);
	struct code_record good, r;
	size_t size = record_code(&good, 0, CODE, "f", "a.py", 1, 8);

	(void)state;
	for (size_t n = 0; n < size; n++)
		expect_bad_code(s, &good, n);
	r = good;
	r.e.table_size = UINT16_MAX;
	expect_bad_code(s, &r, size);
	r = good;
	r.e.name_size = CODE_NAME_MAX + 1;
	expect_bad_code(s, &r, size);
	r = good;
	r.e.file_size = UINT16_MAX;
	expect_bad_code(s, &r, size);
	r = good;
	r.e.hdr.target = MAX_TARGETS;
	expect_bad_code(s, &r, size);
	/* An address that would be another process's code. */
	r = good;
	r.e.code = CODE | 1ull << 48;
	expect_bad_code(s, &r, size);
	assert_int_equal(stacks_on_code_free(s, UINT32_MAX, CODE), -EBADMSG);
	assert_int_equal(stacks_on_code_free(s, 0, CODE | 1ull << 48), -EBADMSG);
	add_code(s, 1, CODE, "g", "b.py", 1);
	expect_frame(s, add_stack(s, 0, 1, CODE | 1ull << 48, 0), 0, "?", "?", -1);
}

static void expect_bad_stack(struct stacks *s, const struct stack_record *r, size_t size)
{
	uint64_t before = stacks_malformed(s);
	void *copy = malloc(size ? size : 1);

	memcpy(copy, r, size);
	assert_int_equal(stacks_on_stack(s, copy, size), -EBADMSG);
	assert_int_equal(stacks_malformed(s), before + 1);
	assert_int_equal(stacks_count(s), 1);
	free(copy);
}

static void test_malformed_stack(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks(NULL, NULL);
	struct stack_record r;
	size_t size;

	(void)state;
	record_stack(&r, 0, 1, 0);
	for (int i = 0; i < RECORD_FRAMES; i++)
		record_frame(&r, CODE, i);
	size = record_stack_size(&r);
	for (size_t n = 0; n < size; n++)
		expect_bad_stack(s, &r, n);
	r.e.count = MAX_FRAMES + 1;
	expect_bad_stack(s, &r, size);
	r.e.count = UINT32_MAX;
	expect_bad_stack(s, &r, size);
	r.e.count = 1u << 28;
	expect_bad_stack(s, &r, size);
	r.e.count = 1;
	r.e.hdr.target = MAX_TARGETS;
	expect_bad_stack(s, &r, size);
}

/* Every freed code object makes the kernel give every stack a new id: those in use stay known, the table stays bounded. */
static void test_generations(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks(NULL, NULL);
	struct stack_record r;
	uint32_t kept;

	(void)state;
	add_code(s, 0, CODE, "f", "a.py", 1);
	kept = add_stack(s, 0, 1, CODE, 0);
	record_stack(&r, 0, 0, 0);
	record_frame(&r, CODE, 2);
	for (uint64_t id = 2; id < (5u << 20); id++) {
		r.e.stack = id;
		if (stacks_on_stack(s, &r.e, record_stack_size(&r)))
			fail_msg("id %llu was refused", (unsigned long long)id);
		if (id % (1u << 20) == 0)
			assert_int_equal(stacks_find(s, 1), kept);
	}
	assert_int_equal(stacks_unresolved(s), 0);
	assert_int_equal(stacks_find(s, 2), 0);
	assert_int_equal(stacks_unresolved(s), 1);
	assert_int_equal(stacks_count(s), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_cut_tables),
		cmocka_unit_test(test_random_tables),
		cmocka_unit_test(test_malformed_code),
		cmocka_unit_test(test_malformed_stack),
		cmocka_unit_test(test_generations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
