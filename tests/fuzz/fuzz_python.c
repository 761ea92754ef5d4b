/* SPDX-License-Identifier: MIT */
/*
 * The readers of a target's memory (interpreters, threads, frames, pymalloc,
 * debug offsets) on recorded memory: a small process as CPython would lay it
 * out, with what the input says overwritten. Input: a byte for the version, then
 * (u24 position, u8 length - 1, bytes) patches.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "interp/obmalloc_state.h"
#include "interp/obmalloc.h"
#include "interp/python_impl.h"

#define BASE 0x10000000ull
#define SIZE (4u << 20)
/* Where things stand in the recorded memory. */
#define RUNTIME 0x0u
#define INTERP 0x80000u
#define INTERP_2 0x100000u
#define TSTATE 0x180000u
#define TSTATE_2 0x181000u
#define CFRAME 0x182000u
#define FRAME 0x183000u
#define CODE 0x184000u
#define NAME 0x185000u
#define TYPE_CODE 0x186000u
#define TYPE_STR 0x187000u
#define TEXT_CODE 0x188000u
#define TEXT_STR 0x188010u
#define THREAD 0x189000u
#define STATE 0x190000u
#define ARENAS 0x1f0000u
#define ARENA 0x200000u
#define PATCHES_MAX 64

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *memory, *pristine;
static int pristine_minor;

static void put(uint32_t at, uint32_t offset, uint64_t value)
{
	if (offset != NO_OFFSET)
		memcpy(pristine + at + offset, &value, sizeof(value));
}

static void put32(uint32_t at, uint32_t offset, uint32_t value)
{
	if (offset != NO_OFFSET)
		memcpy(pristine + at + offset, &value, sizeof(value));
}

static void build_objects(const struct layout *l)
{
	memcpy(pristine + TEXT_CODE, "code", 5);
	memcpy(pristine + TEXT_STR, "str", 4);
	put(TYPE_CODE, l->tp_name, BASE + TEXT_CODE);
	put(TYPE_STR, l->tp_name, BASE + TEXT_STR);
	put(CODE, l->ob_type, BASE + TYPE_CODE);
	put(NAME, l->ob_type, BASE + TYPE_STR);
	put(CODE, l->co_filename, BASE + NAME);
	put(CODE, l->co_name, BASE + NAME);
	put(FRAME, l->fr_code, BASE + CODE);
}

static void build_threads(const struct layout *l)
{
	put(RUNTIME, l->rt_interpreters_head, BASE + INTERP_2);
	put(RUNTIME, l->rt_interpreters_main, BASE + INTERP);
	put(RUNTIME, l->rt_autotss, 1);
	put(INTERP_2, l->in_next, BASE + INTERP);
	put(INTERP, l->in_threads_head, BASE + TSTATE);
	put(TSTATE, l->ts_next, BASE + TSTATE_2);
	put(TSTATE_2, l->ts_prev, BASE + TSTATE);
	put(TSTATE, l->ts_interp, BASE + INTERP);
	put(TSTATE_2, l->ts_interp, BASE + INTERP);
	put(TSTATE, l->ts_thread_id, BASE + THREAD);
	put(THREAD, 0x318, BASE + TSTATE);
	put(TSTATE, l->ts_frame, l->cframe_current == NO_OFFSET ? BASE + FRAME : BASE + CFRAME);
	put(CFRAME, l->cframe_current, BASE + FRAME);
}

static void build_obmalloc(const struct layout *l)
{
	uint32_t state = l->obmalloc_place == OBMALLOC_INLINE ? INTERP + l->in_obmalloc : STATE;

	if (l->obmalloc_place == OBMALLOC_STATIC)
		return;
	if (l->obmalloc_place == OBMALLOC_POINTER)
		put(INTERP, l->in_obmalloc, BASE + STATE);
	for (uint32_t k = 0; k < 32; k++) {
		put(state, l->ob_used + 16 * k, BASE + state + l->ob_used + 16 * k - 16);
		put(state, l->ob_used + 16 * k + 8, BASE + state + l->ob_used + 16 * k - 16);
	}
	put(state, l->ob_arenas, BASE + ARENAS);
	put32(state, l->ob_maxarenas, 16);
	put(ARENAS, l->ar_address, BASE + ARENA);
	put(ARENAS, l->ar_pool_address, BASE + ARENA + 3ull * l->pool_size);
	put32(ARENAS, l->ar_nfreepools, 61);
	put32(ARENAS, l->ar_ntotalpools, 64);
	for (uint32_t pool = 0; pool < 3; pool++) {
		put32(ARENA + pool * l->pool_size, l->po_count, 5);
		put32(ARENA + pool * l->pool_size, l->po_szidx, pool);
	}
}

static uint32_t build(int minor)
{
	uint32_t hex = PY_HEX(3, minor, 4);
	struct layout l;

	if (!memory) {
		memory = malloc(SIZE);
		pristine = malloc(SIZE);
	}
	if (minor == pristine_minor)
		return hex;
	memset(pristine, 0, SIZE);
	if (layout_find(hex, &l) < 0)
		abort();
	build_objects(&l);
	build_threads(&l);
	build_obmalloc(&l);
	debug_offsets_fill(&l, hex, pristine, DEBUG_OFFSETS_MAX);
	memcpy(memory, pristine, SIZE);
	pristine_minor = minor;
	return hex;
}

static void use(const struct python *python)
{
	raddr_t interps[8], tstates[8], used;
	struct obmalloc_totals totals;
	struct walk_cfg cfg;
	ssize_t n = python_interpreters(python, interps, 8);

	for (ssize_t i = 0; i < n; i++) {
		python_threads(python, interps[i], tstates, 8);
		obmalloc_usedpools(python, interps[i], &used);
	}
	if (obmalloc_totals(python, &totals, NULL) == 0 && totals.live_blocks > totals.arena_bytes / 16)
		abort();
	obmalloc_pool_alive(python, RADDR(BASE + ARENA + 100), 0);
	python_walk_cfg(python, &cfg, NULL);
}

/* True if the recorded process was taken for a Python. */
static bool run(uint32_t hex)
{
	const struct rmem_region region = { BASE, memory, SIZE };
	struct python *python = NULL;
	struct rmem *mem = NULL;
	struct err err;

	if (rmem_open_regions(&region, 1, &mem) < 0)
		return false;
	if (python_open_memory(mem, RADDR(BASE), hex, &python, &err) < 0) {
		rmem_free(mem);
		return false;
	}
	use(python);
	python_free(python);
	return true;
}

/* What is not overwritten must be valid, or the fuzzing would stop at the door. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	for (int minor = 8; minor <= 15; minor++)
		if (!run(build(minor)))
			abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t at[PATCHES_MAX], length[PATCHES_MAX], hex;
	size_t n = 0, i = 1;

	if (size < 1)
		return 0;
	hex = build(8 + data[0] % 8);
	while (n < PATCHES_MAX && i + 5 <= size) {
		at[n] = ((uint32_t)data[i] | (uint32_t)data[i + 1] << 8 | (uint32_t)data[i + 2] << 16) % (SIZE - 16);
		length[n] = data[i + 3] % 8u + 1;
		i += 4;
		if (length[n] > size - i)
			break;
		memcpy(memory + at[n], data + i, length[n]);
		i += length[n++];
	}
	run(hex);
	while (n-- > 0)
		memcpy(memory + at[n], pristine + at[n], length[n]);
	return 0;
}
