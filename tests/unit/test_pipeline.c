/* SPDX-License-Identifier: MIT */
/* Streams of records from end to end: what is alive after them, whose it is, and what became of the process. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "../bpf/control.h"
#include "pipeline.h"
#include "stack_records.h"

#define PID 4242
#define CODE 0x7f0000001000ull
#define PAGE 4096ull

struct stream {
	struct pipeline *p;
	struct growth *growth;
	pid_t forked[8];
	size_t n_forked;
};

static void on_fork(void *ctx, pid_t child)
{
	struct stream *s = ctx;

	assert_true(s->n_forked < 8);
	s->forked[s->n_forked++] = child;
}

static int send(struct stream *s, const void *record, size_t size)
{
	/* Exactly as large as it is said to be, so that a sanitizer sees a read beyond. */
	void *copy = malloc(size ? size : 1);
	int r;

	memcpy(copy, record, size);
	r = pipeline_on_event(s->p, copy, size);
	free(copy);
	return r;
}

static void send_code(struct stream *s, uint64_t code, const char *name, int line)
{
	struct code_record r;
	size_t size = record_code(&r, 0, code, name, "/app/a.py", line, 8);

	assert_int_equal(send(s, &r, size), 0);
}

static void send_stack(struct stream *s, uint64_t id, uint64_t code)
{
	struct stack_record r;

	record_stack(&r, 0, id, 0);
	record_frame(&r, code, 0);
	assert_int_equal(send(s, &r, record_stack_size(&r)), 0);
}

static void send_alloc(struct stream *s, uint64_t addr, uint64_t size, uint64_t stack)
{
	struct event_alloc e = { .hdr = { .kind = EVENT_ALLOC, .time_ns = 10 }, .addr = addr, .size = size, .stack = stack };

	assert_int_equal(send(s, &e, sizeof(e)), 0);
}

static void send_block(struct stream *s, enum event_kind kind, uint16_t flags, uint64_t addr, uint64_t size, uint64_t stack)
{
	struct event_block e = {
		.hdr = { .kind = (uint16_t)kind, .flags = flags, .time_ns = 20 }, .addr = addr, .size = size, .stack = stack, .tid = 7
	};

	assert_int_equal(send(s, &e, sizeof(e)), 0);
}

static void send_map(struct stream *s, uint64_t addr, uint64_t size, uint64_t stack)
{
	struct event_map e = { .hdr.kind = EVENT_MMAP, .addr = addr, .size = size, .stack = stack, .map_flags = MAP_ANONYMOUS };

	assert_int_equal(send(s, &e, sizeof(e)), 0);
}

static void send_task(struct stream *s, enum event_kind kind, uint32_t target, uint32_t pid, uint32_t exit_code)
{
	struct event_task e = { .hdr = { .kind = (uint16_t)kind, .target = target }, .pid = pid, .exit_code = exit_code };

	assert_int_equal(send(s, &e, sizeof(e)), 0);
}

static int setup(void **state)
{
	struct growth_options options = { .group_by = GROUP_LINE };
	struct stream *s = calloc(1, sizeof(*s));
	struct mappings *mappings = NULL;

	assert_int_equal(pipeline_new(NULL, on_fork, s, &s->p), 0);
	assert_int_equal(mappings_new(0x1000000, 16384, &mappings), 0);
	assert_int_equal(pipeline_add_target(s->p, 0, PID, LINETABLE_PEP657, mappings), 0);
	assert_int_equal(growth_new(pipeline_stacks(s->p), &options, &s->growth), 0);
	send_code(s, CODE, "leak", 10);
	send_code(s, CODE + 0x100, "keep", 20);
	send_stack(s, 101, CODE);
	send_stack(s, 102, CODE + 0x100);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct stream *s = *state;

	growth_free(s->growth);
	pipeline_free(s->p);
	free(s);
	return 0;
}

static void profile(struct stream *s)
{
	growth_begin(s->growth, 1000);
	pipeline_add_ledger(s->p, s->growth);
	pipeline_add_mappings(s->p, s->growth, 0, NULL, NULL, NULL);
	assert_int_equal(growth_end(s->growth), 0);
}

/* Live bytes of a kind on a line; line 0: without a frame. */
static uint64_t live(const struct stream *s, enum finding_kind kind, int line)
{
	const struct stacks *stacks = pipeline_stacks(s->p);
	uint64_t bytes = 0;

	for (size_t i = 0; i < growth_count(s->growth); i++) {
		const struct growth_group *g = growth_get(s->growth, i);
		const struct stack *stack = stacks_get(stacks, g->stack);
		int at = stack->count ? stacks_frame(stacks, stack->frames[0])->line : 0;

		if (g->kind == kind && at == line)
			bytes += g->live_bytes;
	}
	return bytes;
}

static void test_blocks(void **state)
{
	struct stream *s = *state;
	struct nursery_slot young = { .size = 5, .stack = 102, .time_ns = 1 };

	send_alloc(s, 0x7f0000100000, 100, 101);
	send_alloc(s, 0x7f0000100100, 200, 101);
	send_alloc(s, 0x7f0000100200, 50, 102);
	send_alloc(s, 0x7f0000100300, 7, 0);
	send_alloc(s, 0x7f0000100400, 3, 999);
	send_block(s, EVENT_FREE, 0, 0x7f0000100100, 0, 0);
	send_block(s, EVENT_FREE, 0, 0x7f0000999000, 0, 0);
	growth_begin(s->growth, 1000);
	pipeline_add_ledger(s->p, s->growth);
	pipeline_add_nursery(s->p, s->growth, 0, 0x7f0000100500, &young);
	assert_int_equal(growth_end(s->growth), 0);
	assert_int_equal(live(s, FINDING_python, 10), 100);
	assert_int_equal(live(s, FINDING_python, 20), 55);
	/* Without a stack, and with one whose record was lost. */
	assert_int_equal(live(s, FINDING_python, 0), 10);
	assert_int_equal(stacks_unresolved(pipeline_stacks(s->p)), 1);
	assert_int_equal(ledger_unknown_frees(pipeline_ledger(s->p)), 1);
	assert_int_equal(pipeline_malformed(s->p), 0);
	assert_int_equal(pipeline_events(s->p), 11);
}

static void read_one(void *ctx, uint32_t target, const uint64_t *addrs, size_t count, uint64_t (*ret_keys)[OWNERS_KEYS])
{
	(void)ctx;
	(void)target;
	for (size_t i = 0; i < count; i++) {
		ret_keys[i][0] = addrs[i] == 0x7f0000100000 ? 0x7f0000200000 : 0;
		ret_keys[i][1] = 0;
	}
}

/* Objects come with flags, by the ring and in the nursery; a dict's key table goes where the dict goes. */
static void test_objects(void **state)
{
	struct event_alloc dict = { .hdr = { .kind = EVENT_ALLOC, .flags = EVENT_F_OBJECT | EVENT_F_DICT, .time_ns = 10 },
				    .addr = 0x7f0000100000, .size = 64, .stack = 101 };
	struct nursery_slot young = { .size = 64 | NURSERY_OBJECT | NURSERY_DICT, .stack = 102, .time_ns = 1 };
	struct stream *s = *state;

	owners_set_table_size(pipeline_owners(s->p), 120);
	assert_int_equal(send(s, &dict, sizeof(dict)), 0);
	send_alloc(s, 0x7f0000200000, 120, 102);
	send_alloc(s, 0x7f0000200100, 120, 102);
	for (int look = 0; look < 2; look++) {
		growth_begin(s->growth, 1000);
		pipeline_add_ledger(s->p, s->growth);
		pipeline_add_nursery(s->p, s->growth, 0, 0x7f0000100500, &young);
		pipeline_add_owned(s->p, s->growth, look ? NULL : read_one, NULL);
		assert_int_equal(growth_end(s->growth), 0);
		assert_int_equal(live(s, FINDING_python, 10), look ? 64 : 64 + 120);
		assert_int_equal(live(s, FINDING_python, 20), look ? 64 + 240 : 64 + 120);
	}
}

static void test_reallocations(void **state)
{
	struct stream *s = *state;

	send_alloc(s, 0x7f0000100000, 100, 101);
	send_block(s, EVENT_FREE, EVENT_F_REALLOC, 0x7f0000100000, 0, 0);
	send_alloc(s, 0x7f0000200000, 1000, 102);
	profile(s);
	assert_int_equal(live(s, FINDING_python, 10), 0);
	assert_int_equal(live(s, FINDING_python, 20), 1000);
	send_block(s, EVENT_FREE, EVENT_F_REALLOC, 0x7f0000200000, 0, 0);
	send_block(s, EVENT_REALLOC_FAILED, 0, 0x7f0000200000, 0, 0);
	profile(s);
	assert_int_equal(live(s, FINDING_python, 20), 1000);
	assert_int_equal(growth_get(s->growth, 0)->oldest_ns, 10);
}

/* A code object dies and another comes in its place; the stack is sent anew under another id. */
static void test_code_reuse(void **state)
{
	struct stream *s = *state;

	send_alloc(s, 0x7f0000100000, 100, 101);
	send_block(s, EVENT_CODE_FREE, 0, CODE, 0, 0);
	send_code(s, CODE, "later", 500);
	send_stack(s, 201, CODE);
	send_alloc(s, 0x7f0000200000, 30, 201);
	profile(s);
	assert_int_equal(live(s, FINDING_python, 10), 100);
	assert_int_equal(live(s, FINDING_python, 500), 30);
}

static void test_address_space(void **state)
{
	struct stream *s = *state;

	send_map(s, 0x7f0010000000, 10 * PAGE, 101);
	send_block(s, EVENT_MUNMAP, 0, 0x7f0010000000, PAGE, 0);
	send_block(s, EVENT_BRK, 0, 0x1002000, 0, 102);
	send_block(s, EVENT_ARENA_ALLOC, 0, 0x7f0020000000, 1 << 20, 101);
	send_block(s, EVENT_POOL, 0, 0x7f0020004030, 3, 102);
	send_block(s, EVENT_FAULT, 0, 0x7f0030000123, 0, 101);
	profile(s);
	assert_int_equal(live(s, FINDING_mmap, 10), 9 * PAGE);
	assert_int_equal(live(s, FINDING_native, 20), 2 * PAGE);
	assert_int_equal(live(s, FINDING_native, 10), PAGE);
	assert_int_equal(live(s, FINDING_python, 20), 16384);
	send_block(s, EVENT_ARENA_FREE, 0, 0x7f0020000000, 1 << 20, 0);
	profile(s);
	assert_int_equal(live(s, FINDING_python, 20), 0);
}

static void test_life(void **state)
{
	struct stream *s = *state;
	int code = -1;

	send_task(s, EVENT_FORK, 0, 5000, 0);
	send_task(s, EVENT_FORK, 0, 5001, 0);
	assert_int_equal(s->n_forked, 2);
	assert_int_equal(s->forked[1], 5001);
	/* What a child does is its own affair, as is what an unknown target does. */
	send_task(s, EVENT_EXEC, 0, 5000, 0);
	send_task(s, EVENT_EXIT, 0, 5001, 256);
	send_task(s, EVENT_EXIT, 7, 0, 9);
	send_task(s, EVENT_EXIT, UINT32_MAX, PID, 9);
	assert_int_equal(pipeline_end(s->p, &code), PIPELINE_RUNS);
	send_task(s, EVENT_EXIT, 0, PID, 9);
	assert_int_equal(pipeline_end(s->p, &code), PIPELINE_EXITED);
	assert_int_equal(code, 9);
	/* Another process has the PID now. */
	send_task(s, EVENT_EXEC, 0, PID, 0);
	send_task(s, EVENT_EXIT, 0, PID, 0);
	assert_int_equal(pipeline_end(s->p, &code), PIPELINE_EXITED);
	assert_int_equal(code, 9);
}

static void test_exec_ends_the_program(void **state)
{
	struct stream *s = *state;

	send_task(s, EVENT_EXEC, 0, PID, 0);
	assert_int_equal(pipeline_end(s->p, NULL), PIPELINE_EXECED);
	/* The exit is that of the program it executed. */
	send_task(s, EVENT_EXIT, 0, PID, 9);
	assert_int_equal(pipeline_end(s->p, NULL), PIPELINE_EXECED);
}

static void test_targets(void **state)
{
	struct stream *s = *state;
	struct mappings *mappings = NULL;

	assert_int_equal(mappings_new(0, 0, &mappings), 0);
	assert_int_equal(pipeline_add_target(s->p, MAX_TARGETS, 1, LINETABLE_310, mappings), -ENOSPC);
	/* An index that serves another process now. */
	assert_int_equal(mappings_new(0, 0, &mappings), 0);
	assert_int_equal(pipeline_add_target(s->p, 0, 4711, LINETABLE_310, mappings), 0);
	assert_int_equal(pipeline_add_target(s->p, 1, 4712, LINETABLE_310, NULL), 0);
	send_task(s, EVENT_EXIT, 0, PID, 0);
	assert_int_equal(pipeline_end(s->p, NULL), PIPELINE_RUNS);
	growth_begin(s->growth, 1);
	pipeline_add_mappings(s->p, s->growth, 1, NULL, NULL, NULL);
	pipeline_add_mappings(s->p, s->growth, UINT32_MAX, NULL, NULL, NULL);
	assert_int_equal(growth_end(s->growth), 0);
	pipeline_free(NULL);
}

/* Every kind, cut at every length, then whole with all bits set: counted, and nothing more. */
static void test_hostile(void **state)
{
	struct stream *s = *state;
	uint8_t bytes[256];
	uint64_t before;

	for (uint16_t kind = 0; kind < EVENT_KIND_COUNT + 3; kind++) {
		memset(bytes, 0, sizeof(bytes));
		memcpy(bytes, &kind, sizeof(kind));
		for (size_t size = 0; size < 24; size++) {
			before = pipeline_malformed(s->p);
			assert_int_equal(send(s, bytes, size), 0);
			if (kind != EVENT_NONE || size < sizeof(struct event_hdr))
				assert_int_equal(pipeline_malformed(s->p), before + 1);
		}
		memset(bytes, 0xff, sizeof(bytes));
		memcpy(bytes, &kind, sizeof(kind));
		for (size_t size = 24; size <= sizeof(bytes); size += 8) {
			s->n_forked = 0;
			assert_int_equal(send(s, bytes, size), 0);
		}
	}
	assert_int_equal(send(s, "\xff\xff", 2), 0);
	assert_int_equal(pipeline_end(s->p, NULL), PIPELINE_RUNS);
	assert_int_equal(ledger_count(pipeline_ledger(s->p)), 0);
}

/* A table that is full loses records, not the trace. */
static void test_full_table(void **state)
{
	struct stream *s = *state;
	uint64_t before = pipeline_malformed(s->p);

	for (uint64_t i = 0; i < REGIONS_MAX; i++)
		send_map(s, 0x100000000000 + 2 * i * PAGE, PAGE, 101);
	assert_int_equal(pipeline_malformed(s->p), before);
	send_map(s, 0x600000000000, PAGE, 101);
	assert_int_equal(pipeline_malformed(s->p), before + 1);
	profile(s);
	assert_int_equal(live(s, FINDING_mmap, 10), REGIONS_MAX * PAGE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_blocks),	TEST(test_objects),	  TEST(test_reallocations), TEST(test_code_reuse), TEST(test_address_space),
		TEST(test_life),	TEST(test_exec_ends_the_program),
		TEST(test_targets),	  TEST(test_hostile),	 TEST(test_full_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
