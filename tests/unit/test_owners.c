/* SPDX-License-Identifier: MIT */
/* Key tables and their dicts: each table charged once, to a dict that refers to it; what cannot be is nobody's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "track/owners.h"

#define TABLE 120

/* What the "memory" says: the dict in block addr refers to keys, by the second candidate if second is set. */
struct says {
	uint64_t addr, keys;
	bool second;
};

struct memory {
	const struct says *says;
	size_t count, reads, most;
};

static void read_memory(void *ctx, uint32_t target, const uint64_t *addrs, size_t count, uint64_t (*ret_keys)[OWNERS_KEYS])
{
	struct memory *m = ctx;

	(void)target;
	m->reads++;
	m->most = count > m->most ? count : m->most;
	memset(ret_keys, 0, count * sizeof(*ret_keys));
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < m->count; k++)
			if (m->says[k].addr == addrs[i])
				ret_keys[i][m->says[k].second] = m->says[k].keys;
}

struct sums {
	uint64_t owned, lone, bare;
	uint32_t owned_stacks, lone_stacks, bare_stacks;   /* added up */
	uint64_t last_time;
};

static void on_table(void *ctx, const struct block *block, bool owned)
{
	struct sums *s = ctx;

	assert_int_equal(block->size, TABLE);
	*(owned ? &s->owned : &s->lone) += 1;
	*(owned ? &s->owned_stacks : &s->lone_stacks) += block->stack;
	s->last_time = block->time_ns;
}

static void on_bare(void *ctx, const struct block *dict)
{
	struct sums *s = ctx;

	s->bare++;
	s->bare_stacks += dict->stack;
}

static bool take(struct owners *o, uint64_t addr, uint64_t size, uint32_t stack, uint32_t flags, uint64_t time_ns)
{
	struct block block = { .size = size, .stack = stack, .flags = flags, .time_ns = time_ns };

	return owners_take(o, 0, addr, &block);
}

#define DICT (EVENT_F_OBJECT | EVENT_F_DICT)

static struct owners *new_owners(void)
{
	struct owners *o = NULL;

	assert_int_equal(owners_new(&o), 0);
	owners_set_table_size(o, TABLE);
	return o;
}

static void test_charged_to_the_dict(void **state)
{
	const struct says says[] = { { 0x1000, 0x8000, false }, { 0x2000, 0x8100, true }, { 0x3000, 0x9990, false } };
	struct memory m = { says, 3, 0, 0 };
	struct owners *o = new_owners();
	struct sums s = { 0 };

	(void)state;
	assert_true(take(o, 0x8000, TABLE, 1, 0, 10));
	assert_true(take(o, 0x8100, TABLE, 1, 0, 10));
	assert_true(take(o, 0x8200, TABLE, 4, 0, 99));
	assert_false(take(o, 0x1000, 64, 10, DICT, 50));
	assert_false(take(o, 0x2000, 96, 20, DICT, 5));
	assert_false(take(o, 0x3000, 64, 300, DICT, 50));
	/* An object of that size, and a buffer of another. */
	assert_false(take(o, 0x8300, TABLE, 1, EVENT_F_OBJECT, 10));
	assert_false(take(o, 0x8400, TABLE + 1, 1, 0, 10));
	owners_resolve(o, read_memory, &m);
	owners_visit(o, on_table, on_bare, &s);
	assert_int_equal(s.owned, 2);
	assert_int_equal(s.owned_stacks, 30);
	assert_int_equal(s.lone, 1);
	assert_int_equal(s.lone_stacks, 4);
	assert_int_equal(s.bare, 1);
	assert_int_equal(s.bare_stacks, 300);
	/* Nothing is left for the next look. */
	owners_clear(o);
	memset(&s, 0, sizeof(s));
	owners_visit(o, on_table, on_bare, &s);
	assert_int_equal(s.owned + s.lone + s.bare, 0);
	owners_free(o);
	owners_free(NULL);
}

/* The account begins when both are there. */
static void test_the_later_time_counts(void **state)
{
	const struct says says[] = { { 0x1000, 0x8000, false } };

	(void)state;
	for (uint64_t table = 10; table <= 90; table += 80) {
		struct memory m = { says, 1, 0, 0 };
		struct owners *o = new_owners();
		struct sums s = { 0 };

		take(o, 0x8000, TABLE, 1, 0, table);
		take(o, 0x1000, 64, 10, DICT, 50);
		owners_resolve(o, read_memory, &m);
		owners_visit(o, on_table, on_bare, &s);
		assert_int_equal(s.last_time, table > 50 ? table : 50);
		owners_free(o);
	}
}

/* Two dicts that refer to one table (a torn read): it is one's only. */
static void test_charged_once(void **state)
{
	const struct says says[] = { { 0x1000, 0x8000, false }, { 0x2000, 0x8000, false } };
	struct memory m = { says, 2, 0, 0 };
	struct owners *o = new_owners();
	struct sums s = { 0 };

	(void)state;
	take(o, 0x1000, 64, 10, DICT, 50);
	take(o, 0x2000, 64, 20, DICT, 50);
	take(o, 0x8000, TABLE, 1, 0, 10);
	owners_resolve(o, read_memory, &m);
	owners_visit(o, on_table, on_bare, &s);
	assert_int_equal(s.owned, 1);
	assert_int_equal(s.owned_stacks, 10);
	assert_int_equal(s.bare_stacks, 20);
	owners_free(o);
}

/* Nobody can read the memory: all stay as they are. And no size, no table. */
static void test_nobody_says(void **state)
{
	struct owners *o = new_owners();
	struct sums s = { 0 };

	(void)state;
	take(o, 0x8000, TABLE, 1, 0, 10);
	take(o, 0x1000, 64, 10, DICT, 50);
	owners_resolve(o, NULL, NULL);
	owners_visit(o, on_table, on_bare, &s);
	assert_int_equal(s.lone, 1);
	assert_int_equal(s.lone_stacks, 1);
	assert_int_equal(s.bare_stacks, 10);
	owners_clear(o);
	owners_set_table_size(o, 0);
	assert_false(take(o, 0x8000, TABLE, 1, 0, 10));
	assert_false(take(o, 0x8000, 0, 1, 0, 10));
	owners_free(o);
}

#define MANY 3000

static void test_many(void **state)
{
	static struct says says[MANY];
	struct memory m = { says, MANY, 0, 0 };
	struct owners *o = new_owners();
	struct sums s = { 0 };

	(void)state;
	for (size_t i = 0; i < MANY; i++) {
		says[i] = (struct says){ 0x100000 + i * 64, 0x900000 + i * 128, i % 2 };
		take(o, says[i].addr, 64, 2, DICT, 1);
		take(o, says[i].keys, TABLE, 1, 0, 1);
	}
	owners_resolve(o, read_memory, &m);
	owners_visit(o, on_table, on_bare, &s);
	assert_int_equal(s.owned, MANY);
	assert_int_equal(s.owned_stacks, 2 * MANY);
	assert_int_equal(s.lone + s.bare, 0);
	assert_true(m.reads > 1 && m.most < MANY);
	owners_free(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_charged_to_the_dict), cmocka_unit_test(test_the_later_time_counts),
		cmocka_unit_test(test_charged_once),        cmocka_unit_test(test_nobody_says),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
