/* SPDX-License-Identifier: MIT */
/* The address space against a model that knows the owner of each page, and each rule of who owns what. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "track/mappings.h"

#define PAGE 4096ull
#define BASE 0x7f0000000000ull
#define PAGES 128
#define STACKS 64

#define KINDS 5
struct seen {
	uint64_t bytes[KINDS], count[KINDS], by_stack[STACKS];
};

static void see(void *ctx, enum mapping_kind kind, uint32_t stack, uint64_t bytes, uint64_t time_ns)
{
	struct seen *s = ctx;

	(void)time_ns;
	s->bytes[kind] += bytes;
	s->count[kind]++;
	s->by_stack[stack % STACKS] += bytes;
}

static struct seen look(struct mappings *m, const struct mappings_witness *witness)
{
	struct seen s = { { 0 } };

	mappings_visit(m, witness, see, &s);
	return s;
}

static struct mappings *new_mappings(uint64_t brk, uint64_t pool_size)
{
	struct mappings *m = NULL;

	assert_int_equal(mappings_new(brk, pool_size, &m), 0);
	return m;
}

static int on_mmap(struct mappings *m, uint64_t addr, uint64_t size, uint32_t stack, uint32_t map_flags, uint16_t flags)
{
	struct event_map e = { .hdr = { .kind = EVENT_MMAP, .flags = flags }, .addr = addr, .size = size, .map_flags = map_flags };

	return mappings_on_map(m, &e, stack);
}

static int on_mremap(struct mappings *m, uint64_t old, uint64_t old_size, uint64_t addr, uint64_t size, uint32_t stack)
{
	struct event_map e = { .hdr.kind = EVENT_MREMAP, .addr = addr, .size = size, .old_addr = old, .old_size = old_size };

	return mappings_on_map(m, &e, stack);
}

static struct event_block block(enum event_kind kind, uint64_t addr, uint64_t size, uint16_t flags)
{
	return (struct event_block){ .hdr = { .kind = (uint16_t)kind, .flags = flags }, .addr = addr, .size = size };
}

static int on_munmap(struct mappings *m, uint64_t addr, uint64_t size)
{
	struct event_block e = block(EVENT_MUNMAP, addr, size, 0);

	return mappings_on_munmap(m, &e);
}

static int on_brk(struct mappings *m, uint64_t addr, uint32_t stack, uint16_t flags)
{
	struct event_block e = block(EVENT_BRK, addr, 0, flags);

	return mappings_on_brk(m, &e, stack);
}

static int on_arena(struct mappings *m, enum event_kind kind, uint64_t addr, uint64_t size)
{
	struct event_block e = block(kind, addr, size, 0);

	return mappings_on_arena(m, &e, 9);
}

static int on_pool(struct mappings *m, uint64_t addr, uint64_t size_class, uint32_t stack)
{
	struct event_block e = block(EVENT_POOL, addr, size_class, 0);

	return mappings_on_pool(m, &e, stack);
}

static int on_fault(struct mappings *m, uint64_t addr, uint32_t stack, uint16_t flags)
{
	struct event_block e = block(EVENT_FAULT, addr, 0, flags);

	return mappings_on_fault(m, &e, stack);
}

static void test_mmap(void **state)
{
	_cleanup_(mappings_freep) struct mappings *m = new_mappings(0, 0);
	struct seen s;

	(void)state;
	assert_int_equal(on_mmap(m, BASE, 10 * PAGE, 1, MAP_ANONYMOUS, 0), 0);
	assert_int_equal(on_mmap(m, BASE + 20 * PAGE, 100, 2, MAP_ANONYMOUS, 0), 0);
	/* Files, and what an allocator maps for its blocks and arenas, are not kept. */
	assert_int_equal(on_mmap(m, BASE + 30 * PAGE, PAGE, 3, MAP_PRIVATE, 0), 0);
	assert_int_equal(on_mmap(m, BASE + 40 * PAGE, PAGE, 3, MAP_ANONYMOUS, EVENT_F_IN_ALLOCATOR), 0);
	assert_int_equal(on_mmap(m, BASE + 50 * PAGE, PAGE, 3, MAP_ANONYMOUS, EVENT_F_IN_ARENA), 0);
	s = look(m, NULL);
	assert_int_equal(s.bytes[MAPPING_MMAP], 11 * PAGE);
	assert_int_equal(s.by_stack[2], PAGE);
	assert_int_equal(s.by_stack[3], 0);
	/* A file mapped over part of it. */
	assert_int_equal(on_mmap(m, BASE + 2 * PAGE, PAGE, 4, MAP_PRIVATE | MAP_FIXED, 0), 0);
	assert_int_equal(look(m, NULL).bytes[MAPPING_MMAP], 10 * PAGE);
	assert_int_equal(on_munmap(m, BASE, 64 * PAGE), 0);
	assert_int_equal(look(m, NULL).bytes[MAPPING_MMAP], 0);
	assert_int_equal(on_munmap(m, BASE, 64 * PAGE), 0);
	mappings_free(NULL);
}

static void test_mremap(void **state)
{
	_cleanup_(mappings_freep) struct mappings *m = new_mappings(0, 0);
	struct seen s;

	(void)state;
	on_mmap(m, BASE, 10 * PAGE, 1, MAP_ANONYMOUS, 0);
	/* Grows where it is: what it gained is of the line that grew it. */
	assert_int_equal(on_mremap(m, BASE, 10 * PAGE, BASE, 20 * PAGE, 2), 0);
	s = look(m, NULL);
	assert_int_equal(s.by_stack[2], 10 * PAGE);
	assert_int_equal(s.by_stack[1], 10 * PAGE);
	/* Shrinks and grows again. */
	assert_int_equal(on_mremap(m, BASE, 20 * PAGE, BASE, 5 * PAGE, 2), 0);
	assert_int_equal(look(m, NULL).by_stack[1], 5 * PAGE);
	assert_int_equal(look(m, NULL).by_stack[2], 0);
	assert_int_equal(on_mremap(m, BASE, 5 * PAGE, BASE, 20 * PAGE, 2), 0);
	/* Moves over another mapping and a touched page, which are gone then. */
	on_mmap(m, BASE + 50 * PAGE, 8 * PAGE, 3, MAP_ANONYMOUS, 0);
	on_mmap(m, BASE + 60 * PAGE, PAGE, 3, MAP_PRIVATE, 0);
	on_fault(m, BASE + 60 * PAGE, 4, 0);
	assert_int_equal(on_mremap(m, BASE, 20 * PAGE, BASE + 52 * PAGE, 20 * PAGE, 5), 0);
	s = look(m, NULL);
	assert_int_equal(s.bytes[MAPPING_MMAP], 22 * PAGE);
	assert_int_equal(s.by_stack[3], 2 * PAGE);
	assert_int_equal(s.by_stack[4], 0);
	/* Of what was there before only the gain is growth; it takes what is there. */
	assert_int_equal(on_mremap(m, BASE + 100 * PAGE, PAGE, BASE + 52 * PAGE, 30 * PAGE, 6), 0);
	s = look(m, NULL);
	assert_int_equal(s.bytes[MAPPING_MMAP], 31 * PAGE);
	assert_int_equal(s.by_stack[6], 29 * PAGE);
	/* An old size of 0 makes a second view of the same memory. */
	assert_int_equal(on_mremap(m, BASE + 50 * PAGE, 0, BASE + 90 * PAGE, PAGE, 7), 0);
	assert_int_equal(look(m, NULL).bytes[MAPPING_MMAP], 31 * PAGE);
}

static void test_brk(void **state)
{
	_cleanup_(mappings_freep) struct mappings *m = new_mappings(0x1000000 + 123, 0), *unknown = new_mappings(0, 0);
	struct seen s;

	(void)state;
	assert_int_equal(on_brk(m, 0x1000000 + 123, 1, 0), 0);
	assert_int_equal(look(m, NULL).count[MAPPING_HEAP], 0);
	assert_int_equal(on_brk(m, 0x1021000, 1, 0), 0);
	assert_int_equal(on_brk(m, 0x1042000, 2, 0), 0);
	s = look(m, NULL);
	assert_int_equal(s.by_stack[1], 0x21000 - 123);
	assert_int_equal(s.by_stack[2], 0x21000);
	assert_int_equal(on_brk(m, 0x1052000, 3, EVENT_F_IN_ALLOCATOR), 0);
	assert_int_equal(look(m, NULL).by_stack[3], 0);
	assert_int_equal(on_brk(m, 0x1010000, 4, 0), 0);
	s = look(m, NULL);
	assert_int_equal(s.bytes[MAPPING_HEAP], 0x10000 - 123);
	assert_int_equal(s.by_stack[2], 0);
	/* The first that is heard of only says where the heap ends. */
	assert_int_equal(on_brk(unknown, 0x1010000, 1, 0), 0);
	assert_int_equal(on_brk(unknown, 0x1011000, 1, 0), 0);
	assert_int_equal(look(unknown, NULL).bytes[MAPPING_HEAP], PAGE);
}

#define POOL 16384ull
#define ARENA (1ull << 20)

static int alive_but_first(void *ctx, uint64_t addr, uint32_t size_class)
{
	assert_int_equal(size_class, (addr - BASE) / POOL);
	return *(const int *)ctx ? addr != BASE : -ESRCH;
}

static int resident_half(void *ctx, uint64_t start, uint64_t end, uint64_t *ret_bytes)
{
	(void)ctx;
	*ret_bytes = (end - start) / PAGE / 2 * PAGE;
	return 0;
}

static int resident_unknown(void *ctx, uint64_t start, uint64_t end, uint64_t *ret_bytes)
{
	(void)ctx;
	(void)start;
	(void)end;
	(void)ret_bytes;
	return -ESRCH;
}

static void test_pools(void **state)
{
	_cleanup_(mappings_freep) struct mappings *m = new_mappings(0, POOL);
	int knows = 1;
	struct mappings_witness w = { .ctx = &knows, .resident = resident_half, .pool_alive = alive_but_first };

	(void)state;
	assert_int_equal(mappings_add_arena(m, BASE, ARENA), 0);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(on_pool(m, BASE + i * POOL + 48, i, 1), 0);
	assert_int_equal(on_pool(m, BASE + 3 * POOL + 64, 3, 2), 0);
	assert_int_equal(look(m, NULL).bytes[MAPPING_POOL], 8 * POOL);
	assert_int_equal(look(m, NULL).by_stack[2], POOL);
	assert_int_equal(look(m, &w).count[MAPPING_POOL], 7);
	/* Not to be read: believed alive. */
	knows = 0;
	assert_int_equal(look(m, &w).count[MAPPING_POOL], 8);
	/* Touched pages of an arena are its pools'. */
	assert_int_equal(on_fault(m, BASE + 5 * PAGE, 3, 0), 0);
	assert_int_equal(look(m, NULL).bytes[MAPPING_PAGE] + look(m, NULL).bytes[MAPPING_ARENA_PAGE], 0);
	/* With the arena go its pools. */
	assert_int_equal(on_arena(m, EVENT_ARENA_ALLOC, BASE + ARENA, ARENA), 0);
	assert_int_equal(on_pool(m, BASE + ARENA, 64, 3), 0);
	assert_int_equal(on_arena(m, EVENT_ARENA_FREE, BASE, ARENA), 0);
	assert_int_equal(look(m, NULL).count[MAPPING_POOL], 1);
	assert_int_equal(mappings_arenas_allocated(m), 1);
	assert_int_equal(mappings_arenas_freed(m), 1);
	assert_int_equal(on_arena(m, EVENT_ARENA_FREE, BASE + ARENA, 0), 0);
	assert_int_equal(on_munmap(m, BASE + ARENA, ARENA), 0);
	assert_int_equal(look(m, NULL).count[MAPPING_POOL], 0);
}

static void test_pages(void **state)
{
	_cleanup_(mappings_freep) struct mappings *m = new_mappings(0, 0), *odd = new_mappings(0, 12345);
	struct mappings_witness half = { .resident = resident_half }, unknown = { .resident = resident_unknown };
	struct seen s;

	(void)state;
	assert_int_equal(mappings_add_arena(m, BASE, ARENA), 0);
	on_mmap(m, BASE + ARENA, 16 * PAGE, 1, MAP_ANONYMOUS, 0);
	assert_int_equal(on_fault(m, BASE + 1, 2, 0), 0);               /* in the arena */
	assert_int_equal(on_fault(m, BASE + ARENA + 1, 3, 0), 0);       /* the mapping's */
	assert_int_equal(on_fault(m, BASE - 1, 4, 0), 0);               /* elsewhere */
	assert_int_equal(on_fault(m, BASE - 2, 5, 0), 0);               /* again: the later counts */
	assert_int_equal(on_fault(m, BASE - 2 * PAGE, 6, EVENT_F_IN_ALLOCATOR), 0);
	s = look(m, NULL);
	assert_int_equal(s.bytes[MAPPING_ARENA_PAGE], PAGE);
	assert_int_equal(s.bytes[MAPPING_PAGE], PAGE);
	assert_int_equal(s.by_stack[5], PAGE);
	assert_int_equal(s.by_stack[3] + s.by_stack[4] + s.by_stack[6], 0);
	s = look(m, &half);
	assert_int_equal(s.bytes[MAPPING_MMAP], 8 * PAGE);
	assert_int_equal(s.count[MAPPING_PAGE], 0);
	s = look(m, &unknown);
	assert_int_equal(s.bytes[MAPPING_MMAP], 16 * PAGE);
	assert_int_equal(s.count[MAPPING_PAGE], 1);
	on_munmap(m, BASE - PAGE, PAGE);
	assert_int_equal(look(m, NULL).count[MAPPING_PAGE], 0);
	/* A pool size that is none makes no pools. */
	assert_int_equal(on_pool(odd, BASE, 1, 1), 0);
	assert_int_equal(look(odd, NULL).count[MAPPING_POOL], 0);
}

/* Ranges that wrap, are empty, or leave the address space change nothing. */
static void test_hostile(void **state)
{
	_cleanup_(mappings_freep) struct mappings *m = new_mappings(0x1000000, POOL);

	(void)state;
	on_mmap(m, BASE, 4 * PAGE, 1, MAP_ANONYMOUS, 0);
	assert_int_equal(on_mmap(m, BASE, UINT64_MAX - BASE + 10, 1, MAP_ANONYMOUS, 0), -EBADMSG);
	assert_int_equal(on_mmap(m, UINT64_MAX - PAGE, PAGE, 1, MAP_ANONYMOUS, 0), -EBADMSG);
	assert_int_equal(on_mmap(m, BASE, 0, 1, MAP_ANONYMOUS, 0), -EBADMSG);
	assert_int_equal(on_munmap(m, UINT64_MAX, UINT64_MAX), -EBADMSG);
	assert_int_equal(on_munmap(m, 0, UINT64_MAX), -EBADMSG);
	assert_int_equal(on_mremap(m, UINT64_MAX, UINT64_MAX, 0, 0, 1), -EBADMSG);
	assert_int_equal(on_arena(m, EVENT_ARENA_ALLOC, UINT64_MAX, 1), -EBADMSG);
	assert_int_equal(on_arena(m, EVENT_ARENA_FREE, 1, UINT64_MAX), -EBADMSG);
	assert_int_equal(mappings_add_arena(m, 0, 0), -EBADMSG);
	assert_int_equal(on_brk(m, UINT64_MAX, 1, 0), -EBADMSG);
	assert_int_equal(on_pool(m, UINT64_MAX, UINT64_MAX, 1), -EBADMSG);
	assert_int_equal(on_fault(m, UINT64_MAX, 1, 0), -EBADMSG);
	assert_int_equal(look(m, NULL).bytes[MAPPING_MMAP], 4 * PAGE);
	assert_int_equal(look(m, NULL).count[MAPPING_PAGE] + look(m, NULL).count[MAPPING_POOL], 0);
}

struct model {
	uint32_t owner[PAGES];   /* of a kept mapping; 0: none */
	uint32_t page[PAGES];    /* of a page touched elsewhere */
};

static void model_set(struct model *model, uint32_t first, uint32_t count, uint32_t owner)
{
	for (uint32_t i = first; i < first + count; i++) {
		model->owner[i] = owner;
		model->page[i] = 0;
	}
}

static void check_model(struct mappings *m, const struct model *model)
{
	uint64_t want[STACKS] = { 0 };
	struct seen s = look(m, NULL);

	for (uint32_t i = 0; i < PAGES; i++) {
		want[model->owner[i]] += model->owner[i] ? PAGE : 0;
		want[model->page[i]] += model->page[i] ? PAGE : 0;
	}
	assert_memory_equal(want, s.by_stack, sizeof(want));
}

static void model_step(struct mappings *m, struct model *model, uint32_t choice, uint32_t from, uint32_t to, uint32_t n, uint32_t who)
{
	uint64_t addr = BASE + from * PAGE;
	uint32_t moved[PAGES];

	switch (choice) {
	case 0:
		assert_int_equal(on_mmap(m, addr, n * PAGE, who, MAP_ANONYMOUS, 0), 0);
		model_set(model, from, n, who);
		break;
	case 1:
		assert_int_equal(on_mmap(m, addr, n * PAGE - 5, who, MAP_PRIVATE, 0), 0);
		model_set(model, from, n, 0);
		break;
	case 2:
		assert_int_equal(on_munmap(m, addr, n * PAGE), 0);
		model_set(model, from, n, 0);
		break;
	case 3:
		assert_int_equal(on_mremap(m, addr, n * PAGE, BASE + to * PAGE, n * PAGE, who), 0);
		if (from == to)
			break;
		memcpy(moved, &model->owner[from], n * sizeof(moved[0]));
		model_set(model, from, n, 0);
		for (uint32_t i = 0; i < n; i++)
			model_set(model, to + i, 1, moved[i]);
		break;
	default:
		assert_int_equal(on_fault(m, addr + who, who, 0), 0);
		if (!model->owner[from])
			model->page[from] = who;
	}
}

static void test_model(void **state)
{
	_cleanup_(mappings_freep) struct mappings *m = new_mappings(0, 0);
	struct model model = { { 0 } };
	uint32_t seed = 99;

	(void)state;
	for (uint32_t round = 0; round < 20000; round++) {
		uint32_t n, from, to;

		seed = seed * 1664525u + 1013904223u;
		n = 1 + (seed >> 8) % (round % 5 ? 6 : PAGES / 2);
		from = (seed >> 14) % (PAGES - n + 1);
		to = (seed >> 21) % (PAGES - n + 1);
		model_step(m, &model, (seed >> 28) % 7, from, to, n, 1 + round % (STACKS - 1));
		if (round % 8 == 0)
			check_model(m, &model);
	}
	check_model(m, &model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mmap),
		cmocka_unit_test(test_mremap),
		cmocka_unit_test(test_brk),
		cmocka_unit_test(test_pools),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
