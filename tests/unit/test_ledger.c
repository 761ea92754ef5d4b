/* SPDX-License-Identifier: MIT */
/* The ledger's equation, reallocations under way, and records that cannot be. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../bpf/control.h"
#include "track/ledger.h"

static struct ledger *new_ledger(void)
{
	struct ledger *l = NULL;

	assert_int_equal(ledger_new(&l), 0);
	return l;
}

static int on_alloc(struct ledger *l, uint32_t target, uint64_t addr, uint64_t size, uint32_t stack)
{
	struct event_alloc e = { .hdr = { .kind = EVENT_ALLOC, .target = target, .time_ns = size }, .addr = addr, .size = size };

	return ledger_on_alloc(l, &e, stack);
}

static int on_free(struct ledger *l, uint32_t target, uint64_t addr, uint64_t tid, uint16_t flags)
{
	struct event_block e = { .hdr = { .kind = EVENT_FREE, .target = target, .flags = flags }, .addr = addr, .tid = tid };

	return ledger_on_free(l, &e);
}

static int on_failed(struct ledger *l, uint32_t target, uint64_t addr, uint64_t tid)
{
	struct event_block e = { .hdr = { .kind = EVENT_REALLOC_FAILED, .target = target }, .addr = addr, .tid = tid };

	return ledger_on_realloc_failed(l, &e);
}

struct sums {
	uint64_t blocks, bytes, addrs, stacks;
	uint32_t last_target;
};

static void add_up(void *ctx, uint32_t target, uint64_t addr, const struct block *block)
{
	struct sums *s = ctx;

	s->blocks++;
	s->bytes += block->size;
	s->addrs += addr;
	s->stacks += block->stack;
	s->last_target = target;
	assert_int_equal(block->time_ns, block->size);
}

static struct sums sums_of(const struct ledger *l)
{
	struct sums s = { 0 };

	ledger_visit(l, add_up, &s);
	assert_int_equal(s.blocks, ledger_count(l));
	return s;
}

static void test_equation(void **state)
{
	_cleanup_(ledger_freep) struct ledger *l = new_ledger();
	struct sums s;

	(void)state;
	assert_int_equal(on_alloc(l, 0, 0x7f0000001000, 100, 1), 0);
	assert_int_equal(on_alloc(l, 0, 0x7f0000001008, 200, 2), 0);
	assert_int_equal(on_alloc(l, 1, 0x7f0000001000, 300, 3), 0);
	s = sums_of(l);
	assert_int_equal(s.blocks, 3);
	assert_int_equal(s.bytes, 600);
	assert_int_equal(s.stacks, 6);
	assert_int_equal(on_free(l, 0, 0x7f0000001000, 1, 0), 0);
	assert_int_equal(on_free(l, 0, 0x7f0000001000, 1, 0), 0);
	assert_int_equal(ledger_unknown_frees(l), 1);
	assert_int_equal(on_free(l, 0, 0x7f0000001008, 1, 0), 0);
	s = sums_of(l);
	assert_int_equal(s.blocks, 1);
	assert_int_equal(s.last_target, 1);
	assert_int_equal(s.addrs, 0x7f0000001000);
	assert_int_equal(ledger_replaced(l), 0);
	assert_true(ledger_bytes(l) > 0);
	ledger_free(NULL);
}

/* An address allocated twice: a free was not seen, and the later block counts. */
static void test_replaced(void **state)
{
	_cleanup_(ledger_freep) struct ledger *l = new_ledger();
	struct sums s;

	(void)state;
	assert_int_equal(on_alloc(l, 0, 0x1000, 100, 1), 0);
	assert_int_equal(on_alloc(l, 0, 0x1000, 50, 2), 0);
	s = sums_of(l);
	assert_int_equal(s.bytes, 50);
	assert_int_equal(s.stacks, 2);
	assert_int_equal(ledger_replaced(l), 1);
}

static void test_reallocation(void **state)
{
	_cleanup_(ledger_freep) struct ledger *l = new_ledger();
	struct sums s;

	(void)state;
	/* Succeeds: the old block is gone. */
	on_alloc(l, 0, 0x1000, 100, 1);
	on_free(l, 0, 0x1000, 7, EVENT_F_REALLOC);
	on_alloc(l, 0, 0x2000, 200, 2);
	assert_int_equal(sums_of(l).bytes, 200);
	/* Fails: the old block is as it was, its stack and time with it. */
	on_free(l, 0, 0x2000, 7, EVENT_F_REALLOC);
	assert_int_equal(ledger_count(l), 0);
	assert_int_equal(on_failed(l, 0, 0x2000, 7), 0);
	s = sums_of(l);
	assert_int_equal(s.bytes, 200);
	assert_int_equal(s.stacks, 2);
	/* Told twice, of another address, or by another thread: nothing comes of it. */
	on_free(l, 0, 0x2000, 7, 0);
	assert_int_equal(on_failed(l, 0, 0x2000, 7), 0);
	assert_int_equal(ledger_count(l), 0);
	on_alloc(l, 0, 0x3000, 10, 3);
	on_free(l, 0, 0x3000, 7, EVENT_F_REALLOC);
	assert_int_equal(on_failed(l, 0, 0x3000, 8), 0);
	assert_int_equal(on_failed(l, 1, 0x3000, 7), 0);
	assert_int_equal(ledger_count(l), 0);
}

/* A block older than the trace is reallocated in vain: nothing may come back from an earlier reallocation at its address. */
static void test_realloc_of_unknown(void **state)
{
	_cleanup_(ledger_freep) struct ledger *l = new_ledger();

	(void)state;
	on_alloc(l, 0, 0x1000, 100, 1);
	on_free(l, 0, 0x1000, 7, EVENT_F_REALLOC);
	on_free(l, 0, 0x1000, 7, EVENT_F_REALLOC);
	assert_int_equal(on_failed(l, 0, 0x1000, 7), 0);
	assert_int_equal(ledger_count(l), 0);
	assert_int_equal(ledger_unknown_frees(l), 1);
}

static void test_threads(void **state)
{
	_cleanup_(ledger_freep) struct ledger *l = new_ledger();

	(void)state;
	for (uint64_t i = 1; i <= 64; i++)
		on_alloc(l, 0, i * 0x1000, i, (uint32_t)i);
	for (uint64_t i = 1; i <= 64; i++)
		on_free(l, 0, i * 0x1000, i, EVENT_F_REALLOC);
	for (uint64_t i = 1; i <= 64; i += 2)
		assert_int_equal(on_failed(l, 0, i * 0x1000, i), 0);
	assert_int_equal(ledger_count(l), 32);
	assert_int_equal(sums_of(l).stacks, 32 * 32);
}

/* What would fall on another process's block. */
static void test_hostile(void **state)
{
	_cleanup_(ledger_freep) struct ledger *l = new_ledger();

	(void)state;
	assert_int_equal(on_alloc(l, 1, 0x1000, 100, 1), 0);
	assert_int_equal(on_free(l, 0, (1ull << 47) | 0x1000, 1, 0), -EBADMSG);
	assert_int_equal(on_alloc(l, 0, UINT64_MAX, 1, 1), -EBADMSG);
	assert_int_equal(on_alloc(l, MAX_TARGETS, 0x1000, 1, 1), -EBADMSG);
	assert_int_equal(on_free(l, (1u << 20) + 1, 0x1000, 1, 0), -EBADMSG);
	assert_int_equal(on_failed(l, UINT32_MAX, 0x1000, 1), -EBADMSG);
	assert_int_equal(ledger_count(l), 1);
	assert_int_equal(on_alloc(l, MAX_TARGETS - 1, (1ull << 47) - 8, UINT64_MAX, 1), 0);
	assert_int_equal(ledger_count(l), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equation),
		cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_reallocation),
		cmocka_unit_test(test_realloc_of_unknown),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
