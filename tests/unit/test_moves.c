/* SPDX-License-Identifier: MIT */
/* Containers that grow by realloc: a chain's steps add up to what it gained, whatever comes between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "random.h"
#include "track/moves.h"

#define LINE 7

static struct survivor block(uint64_t time_ns, uint32_t size)
{
	return (struct survivor){
		.addr = 4096 + time_ns,
		.time_ns = time_ns,
		.size = size,
		.stack = LINE,
		.weight = 2,
		.large = 1,
		.moved = 1,
	};
}

struct sums {
	uint64_t bytes[8], last_ns;
	size_t steps;
};

static void sum(void *ctx, const struct move *move)
{
	struct sums *s = ctx;

	assert_true(move->chain && move->time_ns >= s->last_ns);
	assert_int_equal(move->stack, LINE);
	assert_true(move->weight == 2);
	s->bytes[move->chain % 8] += move->bytes;
	s->last_ns = move->time_ns;
	s->steps++;
}

static struct sums sums_of(const struct moves *m)
{
	struct sums s = { 0 };

	moves_visit(m, sum, &s);
	return s;
}

/* The block moves, in a window of its own. */
static struct survivor move_to(struct moves *m, const struct survivor *old, uint64_t time_ns, uint32_t size)
{
	struct survivor next = block(time_ns, size);

	moves_leave(m, LINE, time_ns - 5, old->size, old);
	assert_true(moves_link(m, &next));
	moves_end_window(m);
	return next;
}

static void test_chain(void **state)
{
	struct survivor b = block(10, 1000);
	struct moves *m;
	struct sums s;

	(void)state;
	assert_int_equal(moves_new(&m), 0);
	for (uint64_t t = 20; t <= 100; t += 10)
		b = move_to(m, &b, t, b.size + 500);
	s = sums_of(m);
	/* Seen from its birth: all of it. */
	assert_int_equal(s.steps, 10);
	assert_int_equal(s.bytes[b.chain], b.size);
	/* It shrinks: the last gains go first, of this container only. */
	b = move_to(m, &b, 110, 1200);
	assert_int_equal(sums_of(m).bytes[b.chain], 1200);
	b = move_to(m, &b, 120, 5200);
	assert_int_equal(sums_of(m).bytes[b.chain], 5200);
	moves_free(m);
	moves_free(NULL);
}

/* Born before the attach: what it had then is no growth. */
static void test_unknown_birth(void **state)
{
	struct survivor b = block(30, 5000);
	struct moves *m;

	(void)state;
	assert_int_equal(moves_new(&m), 0);
	moves_leave(m, LINE, 25, 4000, NULL);
	assert_true(moves_link(m, &b));
	assert_int_equal(sums_of(m).bytes[b.chain], 1000);
	/* Nobody left: a block of its own. */
	b = block(40, 900);
	assert_false(moves_link(m, &b));
	assert_int_equal(b.chain, 0);
	/* What left after it, at another line, or in an earlier window, is not its predecessor. */
	moves_leave(m, LINE, 60, 800, NULL);
	moves_leave(m, LINE + 1, 30, 800, NULL);
	assert_false(moves_link(m, &b));
	moves_end_window(m);
	b = block(70, 900);
	assert_false(moves_link(m, &b));
	moves_free(m);
}

/* kept.append(bytes(1000)): what the list is to hold is made at the line where its table moves, and is not the table. */
static void test_contents(void **state)
{
	struct survivor table = block(30, 5000), item = block(29, 1033);
	struct moves *m;

	(void)state;
	assert_int_equal(moves_new(&m), 0);
	item.moved = 0;
	moves_leave(m, LINE, 25, 4000, NULL);
	assert_false(moves_link(m, &item));
	assert_int_equal(item.chain, 0);
	assert_true(moves_link(m, &table));
	assert_int_equal(sums_of(m).bytes[table.chain], 1000);
	moves_free(m);
}

/* Many containers at one line, more moves than are remembered: every link takes one that left, and gains stay what they were. */
static void test_many(void **state)
{
	enum { CONTAINERS = 6 };
	struct survivor b[CONTAINERS];
	uint64_t random = 1, t = 1000;
	struct moves *m;

	(void)state;
	assert_int_equal(moves_new(&m), 0);
	for (uint32_t i = 0; i < CONTAINERS; i++)
		b[i] = block(t++, 600);
	for (int round = 0; round < 20000; round++) {
		uint32_t i = (uint32_t)(random_bits(&random) % CONTAINERS);

		b[i] = move_to(m, &b[i], t += 10, 600 + (uint32_t)(random_bits(&random) % 4000));
	}
	assert_true(sums_of(m).steps <= MOVES_MAX);
	for (uint32_t i = 0; i < CONTAINERS; i++)
		assert_true(sums_of(m).bytes[b[i].chain % 8] <= b[i].size);
	/* More leave than are kept: the rest is not followed, and nothing breaks. */
	for (int i = 0; i < 2000; i++)
		moves_leave(m, LINE, t, 700, NULL);
	for (int i = 0; i < 2000; i++) {
		struct survivor next = block(t + 1, 700);

		if (!moves_link(m, &next))
			assert_true(i >= 500);
	}
	moves_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_unknown_birth),
		cmocka_unit_test(test_contents),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
