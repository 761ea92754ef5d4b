/* SPDX-License-Identifier: MIT */
/* map64 against a plain array that says what should be there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/map64.h"

struct value {
	uint64_t a;
	uint32_t b;
};

static struct map64 *new_map(size_t value_size)
{
	struct map64 *map = NULL;

	assert_int_equal(map64_new(value_size, &map), 0);
	return map;
}

static void test_empty(void **state)
{
	_cleanup_(map64_freep) struct map64 *map = new_map(sizeof(struct value));
	size_t cursor = 0;
	uint64_t key;

	(void)state;
	assert_null(map64_get(map, 0));
	assert_null(map64_get(map, 1));
	assert_false(map64_remove(map, 0, NULL));
	assert_false(map64_remove(map, 1, NULL));
	assert_null(map64_next(map, &cursor, &key));
	assert_int_equal(map64_count(map), 0);
	map64_free(NULL);
}

static void test_zero_key(void **state)
{
	_cleanup_(map64_freep) struct map64 *map = new_map(sizeof(struct value));
	struct value *v, out = { 0 };
	size_t cursor = 0;
	uint64_t key = 1;
	bool is_new = false;

	(void)state;
	v = map64_put(map, 0, &is_new);
	assert_true(is_new);
	*v = (struct value){ 7, 8 };
	v = map64_put(map, 0, &is_new);
	assert_false(is_new);
	assert_int_equal(v->a, 7);
	assert_int_equal(map64_count(map), 1);
	assert_ptr_equal(map64_next(map, &cursor, &key), v);
	assert_int_equal(key, 0);
	assert_null(map64_next(map, &cursor, &key));
	assert_true(map64_remove(map, 0, &out));
	assert_int_equal(out.b, 8);
	v = map64_put(map, 0, NULL);
	assert_int_equal(v->a, 0);
}

static void test_new_values_are_zero(void **state)
{
	_cleanup_(map64_freep) struct map64 *map = new_map(sizeof(struct value));

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (uint64_t k = 1; k <= 100; k++) {
			struct value *v = map64_put(map, k * 16, NULL);

			assert_int_equal(v->a | v->b, 0);
			*v = (struct value){ ~0ull, ~0u };
		}
		for (uint64_t k = 1; k <= 100; k++)
			assert_true(map64_remove(map, k * 16, NULL));
		assert_int_equal(map64_count(map), 0);
	}
}

static void test_set_and_odd_sizes(void **state)
{
	(void)state;
	for (size_t size = 0; size <= 17; size++) {
		_cleanup_(map64_freep) struct map64 *map = new_map(size);

		for (uint64_t k = 0; k < 1000; k++)
			memset(map64_put(map, k << 40, NULL), (int)k, size);
		assert_int_equal(map64_count(map), 1000);
		for (uint64_t k = 0; k < 1000; k++) {
			uint8_t *v = map64_get(map, k << 40);

			assert_non_null(v);
			assert_int_equal((uintptr_t)v % 8, 0);
			for (size_t i = 0; i < size; i++)
				assert_int_equal(v[i], (uint8_t)k);
		}
	}
	assert_int_equal(map64_new(1 << 20, NULL), -22);
}

#define KEYS 5000

/* Random puts and removes among few keys, so that runs are long and deletions shift across the end of the table. */
static void test_churn(void **state)
{
	static uint64_t model[KEYS];
	_cleanup_(map64_freep) struct map64 *map = new_map(8);
	uint64_t seed = 12345, key, sum = 0, expected = 0, *v, out;
	size_t count = 0, cursor = 0;

	(void)state;
	for (int i = 0; i < 400000; i++) {
		size_t k;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		k = (size_t)(seed >> 33) % KEYS;
		if (seed >> 63) {
			v = map64_put(map, k * 4096, NULL);
			assert_non_null(v);
			assert_int_equal(*v, model[k]);
			count += !model[k];
			*v = model[k] = (seed >> 20) | 1;
		} else {
			assert_int_equal(map64_remove(map, k * 4096, &out), model[k] != 0);
			if (model[k])
				assert_int_equal(out, model[k]);
			count -= model[k] != 0;
			model[k] = 0;
		}
		assert_int_equal(map64_count(map), count);
	}
	for (size_t k = 0; k < KEYS; k++) {
		v = map64_get(map, k * 4096);
		assert_int_equal(v ? *v : 0, model[k]);
		expected += model[k];
	}
	while ((v = map64_next(map, &cursor, &key))) {
		assert_int_equal(*v, model[key / 4096]);
		sum += *v;
		count--;
	}
	assert_int_equal(sum, expected);
	assert_int_equal(count, 0);
}

static void test_many(void **state)
{
	_cleanup_(map64_freep) struct map64 *map = new_map(16);
	const uint64_t n = 1000000, base = 0x7f0000000000;

	(void)state;
	for (uint64_t i = 0; i < n; i++)
		*(uint64_t *)map64_put(map, base + i * 32, NULL) = i;
	assert_int_equal(map64_count(map), n);
	assert_true(map64_bytes(map) <= n * 24 * 3);
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(*(uint64_t *)map64_get(map, base + i * 32), i);
	for (uint64_t i = 0; i < n; i += 2)
		assert_true(map64_remove(map, base + i * 32, NULL));
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(map64_get(map, base + i * 32) != NULL, i & 1);
	map64_clear(map);
	assert_int_equal(map64_count(map), 0);
	assert_true(map64_bytes(map) < 200);
	assert_null(map64_get(map, base + 32));
	assert_non_null(map64_put(map, base, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty), cmocka_unit_test(test_zero_key), cmocka_unit_test(test_new_values_are_zero),
		cmocka_unit_test(test_set_and_odd_sizes), cmocka_unit_test(test_churn), cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
