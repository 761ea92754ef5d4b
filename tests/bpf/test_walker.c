/* SPDX-License-Identifier: MIT */
/*
 * The stack walker on recorded memory: chains of frames laid out by hand for
 * each family of versions, and chains that lie. tests/unit/test_python.c runs
 * the same source on every live interpreter.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "walker_host.h"

#define BASE 0x10000ull
#define SIZE 0x10000u
#define TSTATE (BASE + 0x100)
#define CFRAME (BASE + 0x200)
#define FRAME(i) (BASE + 0x1000 + 0x80 * (uint64_t)(i))
#define CODE(i) (BASE + 0x8000 + 0x100 * (uint64_t)(i))
#define FS (BASE + 0x400)

struct machine {
	uint8_t bytes[SIZE];
	struct rmem_region region;
	struct rmem *mem;
	struct walk_scratch scratch;
};

static void put_u64(struct machine *m, uint64_t addr, uint64_t value)
{
	memcpy(m->bytes + (addr - BASE), &value, sizeof(value));
}

static void put_i32(struct machine *m, uint64_t addr, int32_t value)
{
	memcpy(m->bytes + (addr - BASE), &value, sizeof(value));
}

static int setup(void **state)
{
	static struct machine m;

	memset(&m, 0, sizeof(m));
	m.region = (struct rmem_region){ BASE, m.bytes, sizeof(m.bytes) };
	*state = &m;
	return rmem_open_regions(&m.region, 1, &m.mem);
}

static int teardown(void **state)
{
	rmem_free(((struct machine *)*state)->mem);
	return 0;
}

static void walk_machine(struct machine *m, const struct walk_cfg *cfg)
{
	walk_mem = m->mem;
	walk_frames(cfg, TSTATE, 0, &m->scratch);
}

/* 3.8 to 3.10: tstate->frame -> f_back, f_lasti. */
static const struct walk_cfg frame_objects = {
	.tag_mask = ~0ull, .instr_kind = INSTR_LASTI_BYTES, .ts_frame = 24, .cframe_current = NO_OFFSET, .fr_read = 112,
	.fr_code = 32, .fr_back = 24, .fr_instr = 104, .fr_owner = NO_OFFSET, .owner_shim = 255, .max_frames = MAX_FRAMES,
};
/* 3.12: tstate->cframe->current_frame -> previous, prev_instr, shims. */
static const struct walk_cfg cframes = {
	.tag_mask = ~0ull, .instr_kind = INSTR_POINTER, .ts_frame = 56, .cframe_current = 0, .fr_read = 80, .fr_code = 0,
	.fr_back = 8, .fr_instr = 56, .fr_owner = 70, .owner_shim = 3, .co_code = 192, .max_frames = MAX_FRAMES,
};
/* 3.14: tstate->current_frame, tagged executables. */
static const struct walk_cfg stack_refs = {
	.tag_mask = ~3ull, .instr_kind = INSTR_POINTER, .ts_frame = 72, .cframe_current = NO_OFFSET, .fr_read = 88, .fr_code = 0,
	.fr_back = 8, .fr_instr = 56, .fr_owner = 74, .owner_shim = 3, .co_code = 208, .max_frames = MAX_FRAMES,
};

static void put_object_frame(struct machine *m, int i, uint64_t back, int32_t lasti)
{
	put_u64(m, FRAME(i) + 24, back);
	put_u64(m, FRAME(i) + 32, CODE(i));
	put_i32(m, FRAME(i) + 104, lasti);
}

static void put_frame(struct machine *m, const struct walk_cfg *cfg, int i, uint64_t back, int64_t offset, uint8_t owner)
{
	put_u64(m, FRAME(i) + cfg->fr_code, CODE(i) | (cfg->tag_mask == ~3ull));
	put_u64(m, FRAME(i) + cfg->fr_back, back);
	put_u64(m, FRAME(i) + cfg->fr_instr, CODE(i) + cfg->co_code + (uint64_t)offset);
	m->bytes[FRAME(i) + cfg->fr_owner - BASE] = owner;
}

static void check_frame(const struct machine *m, uint32_t n, int code, int offset)
{
	assert_true(n < m->scratch.count);
	assert_int_equal(m->scratch.frames[n].code, CODE(code));
	assert_int_equal(m->scratch.frames[n].offset, offset);
}

static void test_frame_objects(void **state)
{
	struct walk_cfg units = frame_objects;
	struct machine *m = *state;

	put_u64(m, TSTATE + 24, FRAME(0));
	put_object_frame(m, 0, FRAME(1), 14);
	put_object_frame(m, 1, FRAME(2), -1);
	put_object_frame(m, 2, 0, 6);
	walk_machine(m, &frame_objects);
	assert_int_equal(m->scratch.count, 3);
	assert_int_equal(m->scratch.flags, 0);
	check_frame(m, 0, 0, 14);
	check_frame(m, 1, 1, -1);
	check_frame(m, 2, 2, 6);
	units.instr_kind = INSTR_LASTI_UNITS;
	walk_machine(m, &units);
	check_frame(m, 0, 0, 28);
	check_frame(m, 1, 1, -1);
}

static void test_shims_are_no_frames(void **state)
{
	struct machine *m = *state;

	put_u64(m, TSTATE + 56, CFRAME);
	put_u64(m, CFRAME, FRAME(0));
	put_frame(m, &cframes, 0, FRAME(1), 10, 0);
	put_frame(m, &cframes, 1, FRAME(2), 0, 3);
	put_frame(m, &cframes, 2, FRAME(3), 4, 1);
	put_frame(m, &cframes, 3, 0, 0, 3);
	walk_machine(m, &cframes);
	assert_int_equal(m->scratch.count, 2);
	assert_int_equal(m->scratch.flags, 0);
	check_frame(m, 0, 0, 10);
	check_frame(m, 1, 2, 4);
}

static void test_tags_and_frames_not_started(void **state)
{
	struct machine *m = *state;

	put_u64(m, TSTATE + 72, FRAME(0));
	put_frame(m, &stack_refs, 0, FRAME(1), -2, 0);
	put_frame(m, &stack_refs, 1, 0, 1 << 20, 0);
	walk_machine(m, &stack_refs);
	assert_int_equal(m->scratch.count, 2);
	check_frame(m, 0, 0, -1);
	check_frame(m, 1, 1, 1 << 20);
}

static void test_limit(void **state)
{
	struct walk_cfg two = stack_refs;
	struct machine *m = *state;

	put_u64(m, TSTATE + 72, FRAME(0));
	put_frame(m, &stack_refs, 0, FRAME(1), 2, 0);
	put_frame(m, &stack_refs, 1, FRAME(2), 2, 0);
	put_frame(m, &stack_refs, 2, 0, 2, 0);
	two.max_frames = 2;
	walk_machine(m, &two);
	assert_int_equal(m->scratch.count, 2);
	assert_int_equal(m->scratch.flags, WALK_TRUNCATED);
	two.max_frames = 3;
	walk_machine(m, &two);
	assert_int_equal(m->scratch.count, 3);
	assert_int_equal(m->scratch.flags, 0);
}

static void test_cycles_end(void **state)
{
	struct machine *m = *state;

	put_u64(m, TSTATE + 72, FRAME(0));
	put_frame(m, &stack_refs, 0, FRAME(1), 2, 0);
	put_frame(m, &stack_refs, 1, FRAME(0), 2, 0);
	walk_machine(m, &stack_refs);
	assert_int_equal(m->scratch.count, MAX_FRAMES);
	assert_int_equal(m->scratch.flags, WALK_TRUNCATED);
	/* A cycle of shims, which are not counted as frames. */
	put_frame(m, &stack_refs, 0, FRAME(0), 2, 3);
	walk_machine(m, &stack_refs);
	assert_int_equal(m->scratch.count, 0);
	assert_int_equal(m->scratch.flags, WALK_TRUNCATED);
}

static void test_unreadable_frames_cut(void **state)
{
	struct machine *m = *state;

	put_u64(m, TSTATE + 72, FRAME(0));
	put_frame(m, &stack_refs, 0, 0xdead0000, 2, 0);
	walk_machine(m, &stack_refs);
	assert_int_equal(m->scratch.count, 1);
	assert_int_equal(m->scratch.flags, WALK_BROKEN);
	/* No code object: the frame is being made or unmade. */
	put_u64(m, FRAME(0), 1);
	walk_machine(m, &stack_refs);
	assert_int_equal(m->scratch.count, 0);
	assert_int_equal(m->scratch.flags, WALK_BROKEN);
	/* A frame that ends with the memory. */
	put_u64(m, TSTATE + 72, BASE + SIZE - 8);
	walk_machine(m, &stack_refs);
	assert_int_equal(m->scratch.flags, WALK_BROKEN);
}

static void test_hash_tells_stacks_apart(void **state)
{
	struct machine *m = *state;
	uint64_t hash;

	put_u64(m, TSTATE + 72, FRAME(0));
	put_frame(m, &stack_refs, 0, FRAME(1), 2, 0);
	put_frame(m, &stack_refs, 1, 0, 4, 0);
	walk_machine(m, &stack_refs);
	hash = m->scratch.hash;
	walk_machine(m, &stack_refs);
	assert_true(m->scratch.hash == hash);
	put_frame(m, &stack_refs, 0, FRAME(1), 4, 0);
	walk_machine(m, &stack_refs);
	assert_true(m->scratch.hash != hash);
	put_frame(m, &stack_refs, 0, FRAME(1), 2, 0);
	walk_frames(&stack_refs, TSTATE, 1, &m->scratch);
	assert_true(m->scratch.hash != hash);
}

static void test_thread_state(void **state)
{
	struct walk_cfg cfg = { .tstate_source = TSTATE_GLOBAL, .tstate_addr = BASE + 0x10, .ts_thread_id = 8, .ts_frame = 0x18,
				.cframe_current = NO_OFFSET };
	struct machine *m = *state;

	walk_mem = m->mem;
	put_u64(m, BASE + 0x10, TSTATE);
	put_u64(m, TSTATE + 8, FS);
	assert_int_equal(walk_tstate(&cfg, FS, 0, 0), TSTATE);
	/* Another thread holds the GIL, or this one with the state of a sub-interpreter that another made. */
	assert_int_equal(walk_tstate(&cfg, FS + 0x1000, 0, 0), 0);
	assert_int_equal(walk_tstate(&cfg, FS + 0x1000, 0, 1), TSTATE);
	cfg.fallback_offset = 0x20;
	put_u64(m, FS + 0x1000 + 0x20, 0x4242);
	assert_int_equal(walk_tstate(&cfg, FS + 0x1000, 0, 0), 0x4242);

	/* 3.11 keeps a record of the frame on the C stack of the thread that executes it: on this one's, another's, the heap. */
	cfg.cframe_current = 0;
	put_u64(m, TSTATE + 0x18, FS + 0x800);
	assert_int_equal(walk_tstate(&cfg, FS + 0x1000, FS + 0x400, 0), TSTATE);
	assert_int_equal(walk_tstate(&cfg, FS + 0x1000, FS + 0x900, 0), 0x4242);
	assert_int_equal(walk_tstate(&cfg, FS + 0x1000, 0, 0), 0x4242);
	put_u64(m, TSTATE + 0x18, FS + 0x2000);
	assert_int_equal(walk_tstate(&cfg, FS + 0x1000, FS + 0x400, 0), 0x4242);
	/* The main thread's stack lies above all else. */
	assert_int_equal(walk_tstate(&cfg, FS + 0x1000, FS + 0x1800, 0), TSTATE);
	put_u64(m, TSTATE + 0x18, FS + (1ull << 30));
	assert_int_equal(walk_tstate(&cfg, FS + 0x1000, FS + 0x1800, 0), 0x4242);
	cfg.cframe_current = NO_OFFSET;
	put_u64(m, TSTATE + 0x18, FS + 0x800);
	assert_int_equal(walk_tstate(&cfg, FS + 0x1000, FS + 0x400, 0), 0x4242);

	cfg = (struct walk_cfg){ .tstate_source = TSTATE_TLS, .tls_offset = (uint64_t)-16 };
	put_u64(m, FS - 16, TSTATE);
	assert_int_equal(walk_tstate(&cfg, FS, 0, 0), TSTATE);

	cfg = (struct walk_cfg){ .tstate_source = TSTATE_DTV, .tls_module = 2, .tls_offset = 8 };
	put_u64(m, FS + 8, BASE + 0x600);
	put_u64(m, BASE + 0x600 + 32, BASE + 0x700);
	put_u64(m, BASE + 0x708, TSTATE);
	assert_int_equal(walk_tstate(&cfg, FS, 0, 0), TSTATE);
	/* glibc: the block is not allocated yet. */
	put_u64(m, BASE + 0x600 + 32, ~0ull);
	assert_int_equal(walk_tstate(&cfg, FS, 0, 0), 0);
}

#define WALKER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WALKER_TEST(test_frame_objects),
		WALKER_TEST(test_shims_are_no_frames),
		WALKER_TEST(test_tags_and_frames_not_started),
		WALKER_TEST(test_limit),
		WALKER_TEST(test_cycles_end),
		WALKER_TEST(test_unreadable_frames_cut),
		WALKER_TEST(test_hash_tells_stacks_apart),
		WALKER_TEST(test_thread_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
