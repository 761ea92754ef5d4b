/* SPDX-License-Identifier: MIT */
/* Grouping, filters, differences and ranking; then the findings made of them, and the arithmetic of coverage. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "diagnose/coverage.h"
#include "diagnose/findings.h"
#include "diagnose/growth.h"
#include "stack_records.h"

#define CODE_A 0x7f0000001000ull   /* "fa" in /app/a.py, lines 10.. */
#define CODE_B 0x7f0000002000ull   /* "fb" in /app/sub/b.py, lines 20.. */
#define CODE_C 0x7f0000003000ull   /* "fc" in /app/a.py, lines 10.. */

static struct stacks *new_stacks(void)
{
	struct stacks *s = NULL;
	struct code_record r;
	size_t size;

	assert_int_equal(stacks_new(NULL, NULL, &s), 0);
	stacks_add_target(s, 0, LINETABLE_PEP657);
	size = record_code(&r, 0, CODE_A, "fa", "/app/a.py", 10, 8);
	assert_int_equal(stacks_on_code(s, &r.e, size), 0);
	size = record_code(&r, 0, CODE_B, "fb", "/app/sub/b.py", 20, 8);
	assert_int_equal(stacks_on_code(s, &r.e, size), 0);
	size = record_code(&r, 0, CODE_C, "fc", "/app/a.py", 10, 8);
	assert_int_equal(stacks_on_code(s, &r.e, size), 0);
	return s;
}

/* The stack with line number line of code innermost, below it a call from outer (0: none). */
static uint32_t stack_of(struct stacks *s, uint64_t code, int line, uint64_t outer)
{
	static uint64_t id;
	struct stack_record r;

	record_stack(&r, 0, ++id, 0);
	record_frame(&r, code, 2 * line);
	if (outer)
		record_frame(&r, outer, 0);
	assert_int_equal(stacks_on_stack(s, &r.e, record_stack_size(&r)), 0);
	return stacks_find(s, id);
}

static struct growth *new_growth(const struct stacks *s, const struct growth_options *options)
{
	struct growth *g = NULL;

	assert_int_equal(growth_new(s, options, &g), 0);
	return g;
}

static void expect(const struct growth *g, size_t rank, uint32_t stack, uint64_t bytes, uint64_t blocks)
{
	const struct growth_group *group;

	assert_true(rank < growth_count(g));
	group = growth_get(g, rank);
	assert_int_equal(group->stack, stack);
	assert_int_equal(group->live_bytes, bytes);
	assert_int_equal(group->live_blocks, blocks);
}

static void test_group_by(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks();
	uint32_t a0 = stack_of(s, CODE_A, 0, 0), a0b = stack_of(s, CODE_A, 0, CODE_B), a1 = stack_of(s, CODE_A, 1, 0),
		 b0 = stack_of(s, CODE_B, 0, 0), c0 = stack_of(s, CODE_C, 0, 0);
	const size_t want[] = { [GROUP_LINE] = 4, [GROUP_FILE] = 3, [GROUP_TRACEBACK] = 6 };

	(void)state;
	for (int by = GROUP_LINE; by <= GROUP_TRACEBACK; by++) {
		_cleanup_(growth_freep) struct growth *g = new_growth(s, &(struct growth_options){ .group_by = (enum group_by)by });

		growth_begin(g, 1000);
		growth_add(g, FINDING_python, a0, 100, 1, 500);
		growth_add(g, FINDING_python, a0b, 300, 2, 400);
		growth_add(g, FINDING_python, a1, 50, 1, 600);
		growth_add(g, FINDING_python, b0, 75, 1, 700);
		growth_add(g, FINDING_python, c0, 10, 1, 700);
		growth_add(g, FINDING_python, 0, 5, 1, 700);
		growth_add(g, FINDING_python, a0, 100, 1, 450);
		assert_int_equal(growth_end(g), 0);
		assert_int_equal(growth_count(g), want[by]);
		assert_int_equal(growth_total_bytes(g), 640);
		assert_int_equal(growth_filtered_bytes(g), 0);
		/* fa and fc share file and line: by line they are one, as for tracemalloc. The traceback shown is the heaviest one. */
		if (by == GROUP_LINE)
			expect(g, 0, a0b, 510, 5);
		else if (by == GROUP_FILE)
			expect(g, 0, a0b, 560, 6);
		else
			expect(g, 0, a0b, 300, 2);
		assert_int_equal(growth_get(g, 0)->oldest_ns, 400);
		expect(g, want[by] - 1, 0, 5, 1);
	}
	growth_free(NULL);
}

/* tracemalloc: some --include matches, if there is any, and no --exclude; * crosses slashes, a backslash is itself. */
static void test_filters(void **state)
{
	static const struct {
		const char *include[3], *exclude[3];
		uint64_t passes;
	} cases[] = {
		{ { NULL }, { NULL }, 111 },
		{ { "/app/*" }, { NULL }, 110 },
		{ { "/app/a.py" }, { NULL }, 100 },
		{ { "*/b.py", "*/a.py" }, { NULL }, 110 },
		{ { "/app/?.py" }, { NULL }, 100 },
		{ { "/app/[!a].py" }, { NULL }, 0 },
		{ { "/app/[ab].py" }, { NULL }, 100 },
		{ { "/APP/*" }, { NULL }, 0 },
		{ { "\\/app/a.py" }, { NULL }, 0 },
		{ { NULL }, { "*" }, 0 },
		{ { NULL }, { "*/sub/*" }, 101 },
		{ { "*" }, { "*/a.py" }, 11 },
		{ { "*/a.py" }, { "*/a.py" }, 0 },
		{ { "<unknown>" }, { NULL }, 1 },
		{ { "" }, { NULL }, 0 },
	};
	_cleanup_(stacks_freep) struct stacks *s = new_stacks();
	uint32_t a = stack_of(s, CODE_A, 0, CODE_B), b = stack_of(s, CODE_B, 0, CODE_A);

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_(growth_freep) struct growth *g = new_growth(
			s, &(struct growth_options){ .include = cases[i].include, .exclude = cases[i].exclude });
		uint64_t passed = 0;

		growth_begin(g, 1);
		growth_add(g, FINDING_python, a, 100, 1, 0);
		growth_add(g, FINDING_python, b, 10, 1, 0);
		growth_add(g, FINDING_python, 0, 1, 1, 0);
		assert_int_equal(growth_end(g), 0);
		for (size_t k = 0; k < growth_count(g); k++)
			passed += growth_get(g, k)->live_bytes;
		if (passed != cases[i].passes)
			fail_msg("filter %zu let %llu pass", i, (unsigned long long)passed);
		assert_int_equal(growth_filtered_bytes(g), 111 - passed);
		assert_int_equal(growth_total_bytes(g), 111);
	}
}

static void test_deltas(void **state)
{
	static const struct { uint64_t a, b; int64_t da, db; } rounds[] = {
		{ 100, 0, 100, 0 }, { 150, 30, 50, 30 }, { 150, 20, 0, -10 }, { 0, 20, 0, 0 }, { 70, 20, 70, 0 },
	};
	_cleanup_(stacks_freep) struct stacks *s = new_stacks();
	_cleanup_(growth_freep) struct growth *g = new_growth(s, &(struct growth_options){ .group_by = GROUP_LINE });
	uint32_t a = stack_of(s, CODE_A, 0, 0), b = stack_of(s, CODE_B, 0, 0);

	(void)state;
	for (size_t i = 0; i < sizeof(rounds) / sizeof(rounds[0]); i++) {
		growth_begin(g, 1000 * i);
		if (rounds[i].a)
			growth_add(g, FINDING_python, a, rounds[i].a, rounds[i].a / 10, 0);
		if (rounds[i].b)
			growth_add(g, FINDING_python, b, rounds[i].b, rounds[i].b / 10, 0);
		assert_int_equal(growth_end(g), 0);
		for (size_t k = 0; k < growth_count(g); k++) {
			const struct growth_group *group = growth_get(g, k);
			int64_t want = group->stack == a ? rounds[i].da : rounds[i].db;

			assert_int_equal(group->delta_bytes, want);
			assert_int_equal(group->delta_blocks, want / 10);
		}
	}
}

static void test_min_age(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks();
	_cleanup_(growth_freep) struct growth *g = new_growth(s, &(struct growth_options){ .min_age_ns = 100 });
	uint32_t a = stack_of(s, CODE_A, 0, 0);

	(void)state;
	growth_begin(g, 1000);
	growth_add(g, FINDING_python, a, 1, 1, 900);
	growth_add(g, FINDING_python, a, 10, 1, 901);
	growth_add(g, FINDING_python, a, 100, 1, 1001);
	growth_add(g, FINDING_python, a, 1000, 1, UINT64_MAX);
	growth_add(g, FINDING_python, a, 10000, 1, UINT64_MAX - 50);
	growth_add(g, FINDING_python, a, 100000, 1, 0);
	assert_int_equal(growth_end(g), 0);
	expect(g, 0, a, 100001, 2);
}

/* Whatever the order in which blocks come, the ranking is the same: bytes, blocks, file, line, function, stack, kind. */
static void test_ranking(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks();
	_cleanup_(growth_freep) struct growth *g = new_growth(s, &(struct growth_options){ .group_by = GROUP_TRACEBACK });
	uint32_t b0 = stack_of(s, CODE_B, 0, 0), c0 = stack_of(s, CODE_C, 0, 0), a1 = stack_of(s, CODE_A, 1, 0),
		 a0 = stack_of(s, CODE_A, 0, 0), a0b = stack_of(s, CODE_A, 0, CODE_B);
	struct {
		uint32_t stack;
		enum finding_kind kind;
		uint64_t bytes, blocks;
	} rows[] = {
		{ b0, FINDING_python, 200, 1 }, { c0, FINDING_python, 100, 2 },    { 0, FINDING_python, 100, 1 },
		{ 0, FINDING_mmap, 100, 1 },    { a0, FINDING_python, 100, 1 },    { a0, FINDING_native, 100, 1 },
		{ a0, FINDING_mmap, 100, 1 },   { a0b, FINDING_python, 100, 1 },   { c0, FINDING_mmap, 100, 1 },
		{ a1, FINDING_python, 100, 1 }, { b0, FINDING_mmap, 100, 1 },      { a1, FINDING_mmap, 99, 9 },
	};
	const size_t n = sizeof(rows) / sizeof(rows[0]);

	(void)state;
	for (size_t round = 0; round < 50; round++) {
		growth_begin(g, 1);
		for (size_t i = 0; i < n; i++) {
			size_t k = (i * 5 + round * 7) % n;

			growth_add(g, rows[k].kind, rows[k].stack, rows[k].bytes, rows[k].blocks, 0);
		}
		assert_int_equal(growth_end(g), 0);
		assert_int_equal(growth_count(g), n);
		for (size_t i = 0; i < n; i++) {
			expect(g, i, rows[i].stack, rows[i].bytes, rows[i].blocks);
			assert_int_equal(growth_get(g, i)->kind, rows[i].kind);
		}
	}
}

/* A target may ask for any size: sums stop, and never turn around. */
static void test_absurd_sizes(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks();
	_cleanup_(growth_freep) struct growth *g = new_growth(s, &(struct growth_options){ .group_by = GROUP_LINE });
	uint32_t a = stack_of(s, CODE_A, 0, 0), ab = stack_of(s, CODE_A, 0, CODE_B);

	(void)state;
	growth_begin(g, 1);
	for (int i = 0; i < 8; i++) {
		growth_add(g, FINDING_python, a, UINT64_MAX - 1, 1, 0);
		growth_add(g, FINDING_python, ab, 1ull << 63, 1, 0);
	}
	assert_int_equal(growth_end(g), 0);
	expect(g, 0, a, INT64_MAX, 16);
	assert_int_equal(growth_total_bytes(g), INT64_MAX);
	growth_begin(g, 2);
	growth_add(g, FINDING_python, a, 1, 1, 0);
	assert_int_equal(growth_end(g), 0);
	assert_int_equal(growth_get(g, 0)->delta_bytes, 1 - INT64_MAX);
}

static void test_many(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks();
	_cleanup_(growth_freep) struct growth *g = new_growth(s, &(struct growth_options){ .group_by = GROUP_TRACEBACK });

	(void)state;
	growth_begin(g, 1);
	/* Stacks that do not exist are the one without frames, each by its own number. */
	for (uint32_t i = 1; i <= 5000; i++)
		growth_add(g, FINDING_python, i, i, 1, 0);
	assert_int_equal(growth_end(g), 0);
	assert_int_equal(growth_count(g), 5000);
	for (size_t i = 0; i < 5000; i++)
		assert_int_equal(growth_get(g, i)->live_bytes, 5000 - i);
	growth_begin(g, 2);
	assert_int_equal(growth_end(g), 0);
	assert_int_equal(growth_count(g), 0);
}

static void test_findings(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks();
	_cleanup_(growth_freep) struct growth *g = new_growth(s, &(struct growth_options){ .group_by = GROUP_LINE });
	_cleanup_(findings_freep) struct findings *f = NULL, *estimate = NULL;
	const struct report_finding *finding;
	size_t count, more;
	uint64_t bytes;

	(void)state;
	growth_begin(g, 5000000000ull);
	growth_add(g, FINDING_python, stack_of(s, CODE_A, 1, CODE_B), 1000, 10, 2000000000ull);
	growth_add(g, FINDING_mmap, stack_of(s, CODE_B, 0, 0), 500, 1, 9000000000ull);
	growth_add(g, FINDING_python, 0, 100, 1, 0);
	growth_add(g, FINDING_native, 0, 50, 1, 0);
	assert_int_equal(growth_end(g), 0);
	assert_int_equal(findings_new(g, s, NULL, 2, 4.0, 5000000000ull, true, NULL, &f), 0);
	finding = findings_get(f, &count);
	assert_int_equal(count, 2);
	assert_int_equal(finding[0].n_traceback, 2);
	assert_string_equal(finding[0].traceback[0].file, "/app/a.py");
	assert_string_equal(finding[0].traceback[0].function, "fa");
	assert_int_equal(finding[0].traceback[0].line, 11);
	assert_string_equal(finding[0].traceback[1].function, "fb");
	assert_null(finding[0].traceback[0].source);
	assert_true(finding[0].bytes_per_second.low == 250 && finding[0].bytes_per_second.high == 250);
	assert_true(finding[0].blocks_per_second.estimate == 2.5 && finding[0].age_seconds == 3.0);
	assert_true(isnan(finding[0].confidence) && finding[0].first_hand == -1);
	assert_true(finding[1].age_seconds == 0);
	findings_more(f, &more, &bytes);
	assert_int_equal(more, 2);
	assert_int_equal(bytes, 150);
	assert_int_equal(findings_new(g, s, NULL, 0, 0, 0, false, NULL, &estimate), 0);
	finding = findings_get(estimate, &count);
	assert_int_equal(count, 4);
	assert_int_equal(finding[2].n_traceback, 0);
	assert_true(isnan(finding[0].bytes_per_second.estimate) && isnan(finding[0].bytes_per_second.low));
	findings_free(NULL);
}

/* Key tables without a dict: second-hand where they are most of a line, with the line whose dicts lack one named. */
static void test_hands(void **state)
{
	_cleanup_(stacks_freep) struct stacks *s = new_stacks();
	_cleanup_(growth_freep) struct growth *g = new_growth(s, &(struct growth_options){ .group_by = GROUP_LINE });
	uint32_t a = stack_of(s, CODE_A, 1, CODE_B), b = stack_of(s, CODE_B, 0, 0);

	(void)state;
	for (int known = 0; known < 2; known++) {
		_cleanup_(findings_freep) struct findings *f = NULL;
		const struct report_finding *finding;
		size_t count;

		growth_begin(g, 5000000000ull);
		growth_know_hands(g, known);
		for (int i = 0; i < 10; i++) {
			growth_add_blocks(g, a, 120, 1, 1, i < 5 ? HAND_FIRST : HAND_SECOND);
			growth_note_bare(g, a);
		}
		for (int i = 0; i < 9; i++) {
			growth_add_blocks(g, b, 120, 1, 1, i < 4 ? HAND_FIRST : HAND_SECOND);
			growth_note_bare(g, b);
		}
		for (int i = 0; i < 5; i++)
			growth_note_bare(g, b);
		growth_add(g, FINDING_native, b, 10, 1, 1);
		assert_int_equal(growth_end(g), 0);
		assert_int_equal(findings_new(g, s, NULL, 0, 4.0, 5000000000ull, true, NULL, &f), 0);
		finding = findings_get(f, &count);
		assert_int_equal(count, 3);
		assert_true(finding[0].live_blocks == 10 && finding[1].live_blocks == 9);
		/* Half is not most; mappings have no hand. */
		assert_int_equal(finding[0].first_hand, known ? 1 : -1);
		assert_int_equal(finding[1].first_hand, known ? 0 : -1);
		assert_int_equal(finding[2].first_hand, -1);
		assert_true(!finding[0].likelier && !finding[2].likelier && !finding[1].likelier == !known);
		if (known)
			assert_string_equal(finding[1].likelier->function, "fa");
	}
}

static void test_coverage(void **state)
{
	struct coverage c = { .before = { 10, 12, 11 }, .after = { 15, 11, 30 }, .n_before = 3, .n_after = 3 };
	struct report_loss losses[STAT_COUNT - STAT_LOST_FIRST];

	(void)state;
	assert_int_equal(coverage_missed(&c), 0);
	c.n_before = 2;
	assert_int_equal(coverage_missed(&c), 1);
	c.n_after = 0;
	assert_int_equal(coverage_missed(&c), UINT64_MAX);
	c = (struct coverage){ .before = { INT64_MIN }, .after = { INT64_MAX }, .n_before = 1, .n_after = 1 };
	assert_int_equal(coverage_missed(&c), 1);
	c.stats.n[STAT_LOST_ALLOC] = 5;
	c.stats.n[STAT_BAD_FRAME] = 7;
	c.stats.n[STAT_LOST_UNSEEN] = 1;
	c.stats.n[STAT_ALLOCS] = 100;
	c.replaced = 2;
	assert_int_equal(coverage_seen(&c), 100);
	assert_int_equal(coverage_dropped(&c), 5);
	coverage_losses(&c, losses);
	assert_int_equal(losses[0].count, 5);
	assert_string_equal(losses[0].remedy, "ring full; raise --ring-size");
	assert_int_equal(losses[STAT_LOST_UNSEEN - STAT_LOST_FIRST].count, 3);
	assert_int_equal(losses[STAT_BAD_FRAME - STAT_LOST_FIRST].count, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_group_by),
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_deltas),
		cmocka_unit_test(test_min_age),
		cmocka_unit_test(test_ranking),
		cmocka_unit_test(test_absurd_sizes),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_findings), cmocka_unit_test(test_hands),
		cmocka_unit_test(test_coverage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
