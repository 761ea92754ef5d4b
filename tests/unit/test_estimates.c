/* SPDX-License-Identifier: MIT */
/*
 * From generated survivors to rates with bounds and a ranking: known rates lie within the bounds, what has stopped growing or replaces what
 * is freed ranks behind a slow leak. The history is that of a real interpreter, which grows as the survivors say, or of which nothing was read.
 */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "diagnose/estimates.h"
#include "pytarget.h"
#include "random.h"
#include "stack_records.h"

#define SECOND 1000000000ull
#define START (1000 * SECOND)
#define CODE 0x7f0000001000ull

/* Windows: ten a second, each a twentieth of its cycle. */
#define WINDOWS_A_SECOND 10
#define SHARE 0.05

struct scene {
	struct pytarget target;
	struct python *python;
	struct types *types;
	struct history *history;
	struct stacks *stacks;
	struct growth *growth;
	struct survivors *survivors;
	struct estimates *estimates;
	uint64_t random, addr, blocks;
	double seconds;
};

/* A line's survivors: so many a second of one size between two times. */
struct leak {
	int line;
	double rate, from, to;
	uint32_t size, type;
};

static void open_tables(struct scene *s, double seconds, uint64_t seed)
{
	struct growth_options options = { .group_by = GROUP_LINE };

	assert_int_equal(growth_new(s->stacks, &options, &s->growth), 0);
	assert_int_equal(survivors_new(1 << 18, &s->survivors), 0);
	s->random = seed;
	s->addr = 0x10000;
	s->seconds = seconds;
}

static void close_tables(struct scene *s)
{
	estimates_free(s->estimates);
	survivors_free(s->survivors);
	growth_free(s->growth);
	s->estimates = NULL;
}

static void start(struct scene *s, const char *program)
{
	struct code_record r;
	struct err err = { 0 };
	char line[64];
	size_t n;

	memset(s, 0, sizeof(*s));
	assert_int_equal(pytarget_start(pyinterps(&n), program, NULL, &s->target), 0);
	assert_true(pytarget_line(&s->target, line, sizeof(line)));
	if (python_open(s->target.pid, &s->python, &err) < 0)
		fail_msg("%s", err.what);
	assert_int_equal(types_new(s->python, &s->types), 0);
	assert_int_equal(history_new(s->python, s->types, START, &s->history), 0);
	assert_int_equal(stacks_new(NULL, NULL, &s->stacks), 0);
	stacks_add_target(s->stacks, 0, LINETABLE_PEP657);
	assert_int_equal(stacks_on_code(s->stacks, &r.e, record_code(&r, 0, CODE, "f", "/app/a.py", 100, 20)), 0);
}

static void finish(struct scene *s)
{
	stacks_free(s->stacks);
	history_free(s->history);
	types_free(s->types);
	python_free(s->python);
	pytarget_stop(&s->target);
}

static uint32_t stack_of(struct scene *s, int line)
{
	struct stack_record r;

	record_stack(&r, 0, (uint64_t)line + 1, 0);
	record_frame(&r, CODE, 2 * line);
	assert_int_equal(stacks_on_stack(s->stacks, &r.e, record_stack_size(&r)), 0);
	return stacks_find(s->stacks, (uint64_t)line + 1);
}

/* What windows saw of it. */
static void feed(struct scene *s, const struct leak *l)
{
	uint32_t stack = stack_of(s, l->line);
	double cycle = 1.0 / WINDOWS_A_SECOND;

	for (uint32_t window = 0; window < s->seconds * WINDOWS_A_SECOND; window++) {
		double t = (window + (1 - SHARE) * random_uniform(&s->random)) * cycle;

		if (t < l->from || t >= l->to)
			continue;
		for (uint64_t n = random_poisson(&s->random, l->rate * SHARE * cycle); n > 0; n--) {
			struct survivor b = {
				.addr = s->addr += 16,
				.time_ns = START + (uint64_t)(t * 1e9),
				.checked_ns = START + (uint64_t)(s->seconds * 1e9),
				.size = l->size,
				.type = l->type,
				.stack = stack,
				.window = window,
				.weight = 1 / SHARE,
				.large = l->size > 512,
			};

			assert_int_equal(survivors_add(s->survivors, &b), 0);
		}
	}
}

static void grow_one(void *ctx, const struct survivor *b)
{
	struct scene *s = ctx;

	growth_add(s->growth, FINDING_python, b->stack, (uint64_t)((double)b->size * (double)b->weight), (uint64_t)b->weight, b->time_ns);
}

static void estimate(struct scene *s, const struct estimates_piece *pieces, size_t n_pieces)
{
	struct estimates_input in = {
		.growth = s->growth,
		.survivors = s->survivors,
		.history = s->history,
		.start_ns = START,
		.now_ns = START + (uint64_t)(s->seconds * 1e9),
		.windows = (uint64_t)(s->seconds * WINDOWS_A_SECOND),
		.pieces = pieces,
		.n_pieces = n_pieces,
	};

	growth_begin(s->growth, in.now_ns);
	survivors_visit(s->survivors, grow_one, s);
	for (size_t i = 0; i < n_pieces; i++)
		growth_add(s->growth, pieces[i].kind, pieces[i].stack, pieces[i].bytes, 1, pieces[i].time_ns);
	assert_int_equal(growth_end(s->growth), 0);
	assert_int_equal(estimates_new(&in, &s->estimates), 0);
	assert_int_equal(estimates_rank(s->estimates, s->growth), 0);
}

/* SIZE_MAX: none. */
static size_t rank_of(const struct scene *s, int line)
{
	for (size_t i = 0; i < growth_count(s->growth); i++) {
		const struct stack *stack = stacks_get(s->stacks, growth_get(s->growth, i)->stack);

		if (stack->count && stacks_frame(s->stacks, stack->frames[0])->line == 100 + line)
			return i;
	}
	return SIZE_MAX;
}

static const struct estimate *of_line(const struct scene *s, int line)
{
	size_t rank = rank_of(s, line);

	assert_true(rank != SIZE_MAX);
	return estimates_get(s->estimates, rank);
}

static const char sleeper[] = "import sys\nprint('ready', flush=True)\nsys.stdin.read()\n";

static void test_known_rates(void **state)
{
	enum { RUNS = 200 };
	static const struct leak leaks[] = {
		{ .line = 0, .rate = 50, .to = 1e9, .size = 200 },
		{ .line = 1, .rate = 400, .to = 1e9, .size = 64 },
		{ .line = 2, .rate = 20, .to = 1e9, .size = 5000 },
		{ .line = 3, .rate = 5, .to = 1e9, .size = 100 },
	};
	double sum[4] = { 0 };
	int inside[4] = { 0 }, total_inside = 0;
	struct scene s;

	(void)state;
	start(&s, sleeper);
	for (uint64_t run = 0; run < RUNS; run++) {
		struct report_estimate total;
		double truth = 0;

		open_tables(&s, 60, run + 1);
		for (size_t i = 0; i < 4; i++) {
			feed(&s, &leaks[i]);
			truth += leaks[i].rate * leaks[i].size;
		}
		estimate(&s, NULL, 0);
		assert_true(estimates_age(s.estimates) == 5);
		for (size_t i = 0; i < 4; i++) {
			double rate = leaks[i].rate * leaks[i].size;
			const struct estimate *e;

			if (rank_of(&s, (int)i) == SIZE_MAX)
				continue;
			e = of_line(&s, (int)i);
			if (!e->aged)
				continue;
			sum[i] += e->bytes.estimate / rate / RUNS;
			inside[i] += e->bytes.low <= rate && rate <= e->bytes.high;
			assert_true(e->bytes.low <= e->bytes.estimate && e->bytes.estimate <= e->bytes.high);
			assert_true(fabs(e->blocks.estimate * leaks[i].size - e->bytes.estimate) <= 1e-6 * e->bytes.estimate);
		}
		total = estimates_total(s.estimates);
		total_inside += total.low <= truth && truth <= total.high;
		close_tables(&s);
	}
	for (size_t i = 0; i < 4; i++) {
		print_message("line %zu: %.3f of the truth, inside in %d of %d\n", i, sum[i], inside[i], RUNS);
		assert_true(sum[i] > 0.93 && sum[i] < 1.07);
		assert_true(inside[i] >= (int)(0.9 * RUNS));
	}
	assert_true(total_inside >= (int)(0.85 * RUNS));
	finish(&s);
}

/* A start-up table and a cache that has filled, both far larger, and one that is too young to tell, rank behind 10 KB a second. */
static void test_what_goes_on_ranks(void **state)
{
	static const struct leak leaks[] = {
		{ .line = 0, .rate = 50, .to = 1e9, .size = 200 },
		{ .line = 1, .rate = 20000, .to = 5, .size = 200 },
		{ .line = 2, .rate = 500, .to = 25, .size = 200 },
		{ .line = 3, .rate = 20000, .from = 55, .to = 1e9, .size = 200 },
	};
	int first = 0;
	struct scene s;

	(void)state;
	start(&s, sleeper);
	for (uint64_t run = 0; run < 50; run++) {
		open_tables(&s, 60, run + 1000);
		for (size_t i = 0; i < 4; i++)
			feed(&s, &leaks[i]);
		estimate(&s, NULL, 0);
		first += rank_of(&s, 0) == 0;
		assert_true(of_line(&s, 0)->goes_on);
		assert_false(of_line(&s, 1)->goes_on);
		assert_int_equal(of_line(&s, 1)->aged, 0);
		assert_false(of_line(&s, 2)->goes_on);
		assert_int_equal(of_line(&s, 3)->aged, 0);
		assert_true(estimates_total(s.estimates).high < 30000);
		close_tables(&s);
	}
	assert_int_equal(first, 50);
	finish(&s);
}

static void test_pieces(void **state)
{
	struct estimates_piece pieces[4] = { { .kind = FINDING_mmap, .bytes = 24 << 20, .time_ns = START + 30 * SECOND },
					     { .kind = FINDING_mmap, .bytes = 1 << 30, .time_ns = START + 2 * SECOND },
					     { .kind = FINDING_native, .bytes = 1 << 20, .time_ns = START - 5 * SECOND },
					     { .kind = FINDING_mmap, .bytes = 24 << 20, .time_ns = START + 50 * SECOND } };
	struct leak leak = { .line = 0, .rate = 50, .to = 1e9, .size = 200 };
	struct scene s;

	(void)state;
	start(&s, sleeper);
	open_tables(&s, 60, 1);
	for (int i = 0; i < 3; i++)
		pieces[i].stack = stack_of(&s, 5 + i);
	/* Twice the same: what came once only would rank behind all. */
	pieces[3].stack = pieces[0].stack;
	feed(&s, &leak);
	estimate(&s, pieces, 4);
	/* It came after the warm-up of 12 s, and is no sample. */
	assert_int_equal(rank_of(&s, 5), 0);
	assert_true(fabs(of_line(&s, 5)->bytes.estimate - (double)(1 << 20)) < 1);
	/* Two pieces, give or take one. */
	assert_true(fabs(of_line(&s, 5)->bytes.low - (double)(1 << 19)) < 1 && fabs(of_line(&s, 5)->bytes.high - (double)(3 << 19)) < 1);
	/* What was there before is no growth. */
	assert_int_equal(rank_of(&s, 0), 1);
	assert_true(of_line(&s, 6)->score == 0 && of_line(&s, 7)->score == 0);
	close_tables(&s);
	finish(&s);
}

static void test_nothing(void **state)
{
	struct scene s;

	(void)state;
	start(&s, sleeper);
	for (int i = 0; i < 3; i++) {
		open_tables(&s, i == 0 ? 0 : i == 1 ? 0.01 : 1e6, 1);
		estimate(&s, NULL, 0);
		assert_true(estimates_total(s.estimates).estimate == 0);
		close_tables(&s);
	}
	/* One block, seconds after the attach. */
	for (int i = 0; i < 20; i++) {
		struct leak leak = { .line = 0, .rate = 20, .to = 1e9, .size = 200 };

		open_tables(&s, 0.2 + 0.2 * i, (uint64_t)i + 1);
		feed(&s, &leak);
		estimate(&s, NULL, 0);
		if (growth_count(s.growth) && of_line(&s, 0)->aged)
			assert_true(isfinite(of_line(&s, 0)->bytes.estimate) && of_line(&s, 0)->bytes.high > 0);
		close_tables(&s);
	}
	finish(&s);
}

/* Each second keeps 300 bytes objects of 133 bytes, and replaces 1,000 others of 233. */
static const char grower[] =
	"import sys\n"
	"kept = [None] * 100000\n"
	"cache = [bytes(200) for i in range(20000)]\n"
	"n = m = 0\n"
	"print('ready', flush=True)\n"
	"for line in sys.stdin:\n"
	"    for i in range(300):\n"
	"        kept[n] = bytes(100); n += 1\n"
	"    for i in range(1000):\n"
	"        cache[m % 20000] = bytes(200); m += 1\n"
	"    print('ok', flush=True)\n";

static uint32_t type_of_cell(struct scene *s, uint32_t size_class, const char *name)
{
	struct history_cell *cells;
	size_t count;
	uint32_t type = 0;

	assert_int_equal(history_cells(s->history, 0, &cells, &count), 0);
	for (size_t i = 0; i < count; i++)
		if (cells[i].size_class == size_class && !strcmp(types_name(s->types, cells[i].type), name))
			type = cells[i].type;
	free(cells);
	assert_true(type > 0);
	return type;
}

/* A cache with turnover: its blocks survive any age, and more bytes a second than the leak's; but the heap does not grow by them. */
static void test_turnover(void **state)
{
	struct leak leak = { .line = 0, .rate = 300, .to = 1e9, .size = 133 }, cache = { .line = 1, .rate = 1000, .to = 1e9, .size = 233 };
	struct scene s;

	(void)state;
	start(&s, grower);
	for (uint64_t i = 0; i < 60; i++) {
		char line[16];

		assert_int_equal(history_read(s.history, START + i * SECOND), 0);
		fputs("go\n", s.target.in);
		fflush(s.target.in);
		assert_true(pytarget_line(&s.target, line, sizeof(line)));
	}
	leak.type = cache.type = type_of_cell(&s, 8, "bytes");
	for (uint64_t run = 0; run < 20; run++) {
		const struct estimate *e;

		open_tables(&s, 60, run + 7);
		feed(&s, &leak);
		feed(&s, &cache);
		estimate(&s, NULL, 0);
		e = of_line(&s, 0);
		assert_int_equal(rank_of(&s, 0), 0);
		assert_true(e->bytes.low <= 300 * 133 && 300 * 133 <= e->bytes.high);
		assert_true(e->net > 0.8);
		assert_true(of_line(&s, 1)->gross_bytes > 3 * e->gross_bytes);
		if (of_line(&s, 1)->net > 0.1)
			fail_msg("%g of what is replaced counts as growth", of_line(&s, 1)->net);
		close_tables(&s);
	}
	finish(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_rates),
		cmocka_unit_test(test_what_goes_on_ranks),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_turnover),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
