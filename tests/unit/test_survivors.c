/* SPDX-License-Identifier: MIT */
/* The table of survivors: its equation under random operations, thinning without bias, and looks at blocks of a real interpreter. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <signal.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "pytarget.h"
#include "random.h"
#include "track/survivors.h"

#define SECOND 1000000000ull
#define MS 1000000ull

static struct survivors *new_table(size_t max)
{
	struct survivors *s = NULL;

	assert_int_equal(survivors_new(max, &s), 0);
	return s;
}

static void add(struct survivors *s, uint64_t addr, uint64_t time_ns, uint32_t stack, float weight)
{
	struct survivor b = { .addr = addr, .time_ns = time_ns, .size = 64, .stack = stack, .weight = weight };

	assert_int_equal(survivors_add(s, &b), 0);
}

struct sums {
	size_t count;
	double weight[16];
	double total;
	uint64_t addr_sum;
	const struct survivor *last;
};

static void sum_one(void *ctx, const struct survivor *b)
{
	struct sums *sums = ctx;

	sums->count++;
	sums->total += (double)b->weight;
	sums->weight[b->stack % 16] += (double)b->weight;
	sums->addr_sum += b->addr;
	sums->last = b;
}

static struct sums sums_of(const struct survivors *s)
{
	struct sums sums = { 0 };

	survivors_visit(s, sum_one, &sums);
	assert_int_equal(sums.count, survivors_count(s));
	return sums;
}

static void expect_equation(const struct survivors *s)
{
	assert_int_equal(survivors_added(s), survivors_count(s) + survivors_died(s) + survivors_evicted(s));
}

static void test_bounds(void **state)
{
	struct survivors *s = NULL;

	(void)state;
	assert_int_equal(survivors_new(0, &s), -EINVAL);
	assert_int_equal(survivors_new(UINT32_MAX, &s), -EINVAL);
	assert_null(s);
	survivors_free(NULL);
	s = new_table(1);
	assert_int_equal(survivors_next_ns(s), UINT64_MAX);
	assert_null(survivors_fates(s, 1));
	for (uint64_t i = 1; i < 100; i++) {
		add(s, i * 64, i, 1, 1);
		assert_int_equal(survivors_count(s), 1);
		expect_equation(s);
	}
	assert_int_equal(survivors_evicted(s), 98);
	survivors_free(s);
}

/* Whatever comes: a model of what should be there, as long as nothing is evicted; the equation, always. */
static void test_random_operations(void **state)
{
	enum { ADDRESSES = 300 };
	static uint64_t model[ADDRESSES];

	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		bool small = seed % 2;
		struct survivors *s = new_table(small ? 100 : 1000);
		uint64_t random = seed, clock = SECOND;
		size_t held = 0;

		memset(model, 0, sizeof(model));
		for (int i = 0; i < 20000; i++) {
			uint64_t dice = random_bits(&random) % 10, which = random_bits(&random) % ADDRESSES;
			/* Records of the ring and of the nursery cross: some are late. */
			uint64_t time_ns = (clock += random_bits(&random) % MS) - (dice == 3 ? random_bits(&random) % (500 * MS) : 0);

			if (dice < 6) {
				add(s, 4096 + which * 16, time_ns, (uint32_t)(which % 7), 1);
				if (!model[which] || model[which] <= time_ns)
					model[which] = time_ns;
			} else {
				time_ns -= dice == 9 ? random_bits(&random) % (500 * MS) : 0;
				survivors_freed(s, 4096 + which * 16, time_ns, NULL);
				if (model[which] <= time_ns)
					model[which] = 0;
			}
			expect_equation(s);
			assert_true(survivors_count(s) <= (small ? 100 : 1000));
		}
		for (size_t k = 0; k < ADDRESSES; k++)
			held += model[k] != 0;
		if (!small) {
			assert_int_equal(survivors_evicted(s), 0);
			assert_int_equal(survivors_count(s), held);
		} else {
			assert_true(survivors_evicted(s) > 0);
		}
		sums_of(s);
		survivors_free(s);
	}
}

/* What an owner says of memory stands for what its allocation said. */
static void test_owned(void **state)
{
	struct survivors *s = new_table(10);
	struct survivor owned[] = { { .addr = 64, .stack = 5, .weight = 4 }, { .addr = 999, .stack = 6, .weight = 8 } };
	struct sums sums = { 0 };

	(void)state;
	add(s, 64, 1, 1, 1);
	add(s, 128, 1, 2, 2);
	assert_int_equal(survivors_set_owned(s, owned, 2), 0);
	survivors_visit(s, sum_one, &sums);
	assert_int_equal(sums.count, 3);
	assert_true(sums.weight[1] == 0 && sums.weight[2] == 2 && sums.weight[5] == 4 && sums.weight[6] == 8);
	expect_equation(s);
	/* Its free ends the account of the allocation; the owner's word stands until the next one. */
	survivors_freed(s, 64, 2, NULL);
	expect_equation(s);
	assert_int_equal(survivors_set_owned(s, NULL, 0), 0);
	sums = sums_of(s);
	assert_true(sums.count == 1 && sums.weight[2] == 2);
	survivors_free(s);
}

static void test_late_records(void **state)
{
	struct survivors *s = new_table(10);
	struct sums sums;

	(void)state;
	add(s, 0x1000, 100, 1, 2);
	/* A free from before this block was allocated is another block's. */
	survivors_freed(s, 0x1000, 99, NULL);
	assert_int_equal(survivors_count(s), 1);
	/* So is an allocation from before. */
	add(s, 0x1000, 50, 2, 9);
	sums = sums_of(s);
	assert_int_equal(sums.last->stack, 1);
	assert_true(sums.last->weight == 2);
	/* One from later means that the first is dead. */
	add(s, 0x1000, 200, 3, 4);
	assert_int_equal(survivors_count(s), 1);
	assert_int_equal(survivors_died(s), 1);
	assert_true(survivors_fates(s, 1)->died[0] == 2);
	survivors_freed(s, 0x1000, 200 + 30 * SECOND, NULL);
	assert_true(survivors_fates(s, 3)->left_window == 4 && survivors_fates(s, 3)->died[3] == 4);
	survivors_freed(s, 0x1000, 300, NULL);
	survivors_freed(s, 0x2000, 300, NULL);
	assert_int_equal(survivors_count(s), 0);
	expect_equation(s);
	survivors_free(s);
}

/* Far too many: the sums of weights stay right on average, and the few of a rare stack are not thinned while there are crowds. */
static void test_thinning(void **state)
{
	enum { RUNS = 60, BLOCKS = 40000, RARE = 20 };
	double sum = 0, squares = 0, mean, error;

	(void)state;
	for (uint64_t run = 0; run < RUNS; run++) {
		/* The table draws the same each time: of another size it draws for others. */
		size_t max = 1500 + run * 17;
		struct survivors *s = new_table(max);
		uint64_t random = run + 1;
		struct sums sums;

		for (uint64_t i = 0; i < BLOCKS; i++) {
			bool rare = i % (BLOCKS / RARE) == 0;
			uint32_t stack = rare ? 9 : (uint32_t)(random_bits(&random) % 3);

			add(s, 0x10000 + i * 16, SECOND + i, stack, 3);
			assert_true(survivors_count(s) <= max);
		}
		expect_equation(s);
		assert_true(survivors_count(s) > max / 4);
		sums = sums_of(s);
		assert_true(sums.weight[9] == 3 * RARE);
		sum += sums.total / (3 * BLOCKS);
		squares += pow(sums.total / (3 * BLOCKS), 2);
		survivors_free(s);
	}
	mean = sum / RUNS;
	error = sqrt((squares / RUNS - mean * mean) / RUNS);
	print_message("%.4f +- %.4f of the weights\n", mean, error);
	assert_true(fabs(mean - 1) < 4 * error + 5e-3);
	assert_true(error < 0.02);
}

/* Every stack is rare: then all of them are thinned. */
static void test_thinning_without_crowds(void **state)
{
	double total = 0;

	(void)state;
	for (int run = 0; run < 20; run++) {
		struct survivors *s = new_table(1000);

		for (uint64_t i = 0; i < 10000; i++)
			add(s, 0x10000 + (i * 20 + (uint64_t)run) * 16, SECOND + i, (uint32_t)(i % 977), 1);
		assert_true(survivors_count(s) <= 1000 && survivors_count(s) > 250);
		total += sums_of(s).total / 10000 / 20;
		survivors_free(s);
	}
	assert_true(total > 0.85 && total < 1.15);
}

/* ---- with a real interpreter ---- */

static const char program[] =
	"import sys\n"
	"kept = [bytes(100 + i % 300) for i in range(400)]\n"
	"kept += [bytes(600 + i * 7) for i in range(100)]\n"
	"print(' '.join('%d:%d' % (id(b), sys.getsizeof(b)) for b in kept), flush=True)\n"
	"for line in sys.stdin:\n"
	"    first, last = map(int, line.split())\n"
	"    for i in range(first, last):\n"
	"        kept[i] = None\n"
	"    print('ok', flush=True)\n";

#define SMALL_BLOCKS 400
#define BLOCKS 500

struct looked {
	struct pytarget target;
	struct python *python;
	struct types *types;
	struct blocks *blocks;
	uint64_t addr[BLOCKS], size[BLOCKS];
};

static void look_open(struct looked *l, const struct pyinterp *interp)
{
	static char line[32768];
	char *rest = line, *word;
	struct err err = { 0 };
	size_t n = 0;

	memset(l, 0, sizeof(*l));
	assert_int_equal(pytarget_start(interp, program, NULL, &l->target), 0);
	assert_true(pytarget_line(&l->target, line, sizeof(line)));
	while ((word = strtok_r(rest, " ", &rest)) && n < BLOCKS) {
		assert_int_equal(sscanf(word, "%" SCNu64 ":%" SCNu64, &l->addr[n], &l->size[n]), 2);
		n++;
	}
	assert_int_equal(n, BLOCKS);
	if (python_open(l->target.pid, &l->python, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	assert_int_equal(types_new(l->python, &l->types), 0);
	assert_int_equal(blocks_new(l->python, l->types, &l->blocks), 0);
}

static void look_close(struct looked *l)
{
	blocks_free(l->blocks);
	types_free(l->types);
	python_free(l->python);
	pytarget_stop(&l->target);
}

static void look_add(struct looked *l, struct survivors *s, uint64_t time_ns)
{
	for (size_t i = 0; i < BLOCKS; i++) {
		struct survivor b = { .addr = l->addr[i], .time_ns = time_ns, .size = (uint32_t)l->size[i], .stack = 1, .weight = 1,
				      .large = l->size[i] > 512 };

		assert_int_equal(survivors_add(s, &b), 0);
	}
}

static void drop_blocks(struct looked *l, int first, int last)
{
	char answer[16];

	fprintf(l->target.in, "%d %d\n", first, last);
	fflush(l->target.in);
	assert_true(pytarget_line(&l->target, answer, sizeof(answer)));
}

static void check_all(struct looked *l, struct survivors *s, uint64_t now_ns)
{
	while (survivors_next_ns(s) <= now_ns)
		assert_true(survivors_check(s, l->blocks, now_ns, 64) > 0);
	assert_int_equal(survivors_check(s, l->blocks, now_ns, 64), 0);
}

static void check_real(const struct pyinterp *interp)
{
	struct looked l;
	struct survivors *s = new_table(1000);
	size_t live;

	look_open(&l, interp);
	look_add(&l, s, SECOND);
	/* Live ones stay through all ages; each is looked at when it is due, not before. */
	for (uint64_t age = 0; age < 40; age++) {
		check_all(&l, s, SECOND + age * SECOND / 2);
		assert_int_equal(survivors_count(s), BLOCKS);
		assert_true(survivors_next_ns(s) > SECOND + age * SECOND / 2);
	}
	/* 150 small and 30 large ones go. Some places are taken again meanwhile: other contents, another type. */
	drop_blocks(&l, 100, 250);
	drop_blocks(&l, SMALL_BLOCKS + 20, SMALL_BLOCKS + 50);
	check_all(&l, s, 60 * SECOND);
	live = survivors_count(s);
	print_message("%s: %zu of %d left, %d live\n", interp->label, live, BLOCKS, BLOCKS - 180);
	assert_true(live >= BLOCKS - 180 && live <= BLOCKS - 180 + 4);
	assert_true(survivors_fates(s, 1)->died[3] >= 176);
	expect_equation(s);
	/* The process goes. */
	kill(l.target.pid, SIGKILL);
	pytarget_stop(&l.target);
	assert_int_equal(survivors_check(s, l.blocks, 600 * SECOND, 64), -ESRCH);
	expect_equation(s);
	survivors_free(s);
	look_close(&l);
}

static void test_real_blocks(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		check_real(&interps[i]);
}

struct order {
	uint64_t checked_ns[2];
};

static void note_checked(void *ctx, const struct survivor *b)
{
	struct order *o = ctx;

	o->checked_ns[b->stack] = b->checked_ns;
}

/* When there is more to look at than may be done at once, the young come first: what they are is soon too late to tell. */
static void test_young_first(void **state)
{
	struct survivors *s = new_table(1000);
	struct looked l;
	size_t n;
	struct order o = { { 0 } };

	(void)state;
	look_open(&l, pyinterps(&n));
	for (size_t i = 0; i < 2; i++) {
		struct survivor b = { .addr = l.addr[i], .time_ns = i ? 100 * SECOND : SECOND, .size = (uint32_t)l.size[i], .stack = (uint32_t)i, .weight = 1 };

		assert_int_equal(survivors_add(s, &b), 0);
		if (!i)
			check_all(&l, s, 99 * SECOND);
	}
	assert_int_equal(survivors_check(s, l.blocks, 200 * SECOND, 1), 1);
	survivors_visit(s, note_checked, &o);
	assert_int_equal(o.checked_ns[1], 200 * SECOND);
	assert_int_equal(o.checked_ns[0], 99 * SECOND);
	survivors_free(s);
	look_close(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_random_operations),
		cmocka_unit_test(test_owned),
		cmocka_unit_test(test_late_records),
		cmocka_unit_test(test_thinning),
		cmocka_unit_test(test_thinning_without_crowds),
		cmocka_unit_test(test_real_blocks),
		cmocka_unit_test(test_young_first),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
