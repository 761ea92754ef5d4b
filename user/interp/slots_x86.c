/* SPDX-License-Identifier: MIT */
/*
 * Allocator tables and pymalloc's variables as x86-64 code names them. The
 * exported PyMem_RawMalloc, PyMem_Malloc and PyObject_Malloc load table.ctx and
 * table.malloc, 8 apart; _Py_GetAllocatedBlocks loads maxarenas, arenas and the
 * count of raw blocks; _PyObject_DebugMallocStats prints the rest.
 * Limits: straight decoding of a bounded number of instructions; what is found
 * is a candidate that the caller checks against memory.
 */
#include "interp/slots_x86.h"

#include <errno.h>
#include <string.h>

#include "interp/python_impl.h"

#define TABLE_INSNS 48
#define BLOCKS_INSNS 24
#define STATS_INSNS 640
#define STATS_HEAD_INSNS 24
#define GUARD_INSNS 24
#define LOADS_MAX 96
#define FUNCTION_ALIGN 16

ssize_t code_decode_function(const struct image *image, const char *name, struct code_insn *ret_insns, size_t max)
{
	struct image_symbol symbol;
	ssize_t n;
	int r = image_symbol(image, name, &symbol);

	if (r < 0)
		return r;
	n = code_decode(image, symbol.addr, ret_insns, max);
	for (ssize_t i = 0; i < n && i < 2; i++) {
		if (ret_insns[i].op == CODE_JMP)
			return code_decode(image, RADDR(ret_insns[i].target), ret_insns, max);
		/* endbr64 may stand before the jump */
		if (ret_insns[i].op != CODE_OTHER || ret_insns[i].len != 4)
			break;
	}
	return n;
}

static bool loads_slot(const struct code_insn *insn)
{
	return (insn->op == CODE_LOAD_ABS && insn->size == 8) || insn->op == CODE_CALL_SLOT;
}

static bool loaded(const struct code_insn *insns, ssize_t n, uint64_t target)
{
	for (ssize_t i = 0; i < n; i++)
		if (loads_slot(&insns[i]) && insns[i].target == target)
			return true;
	return false;
}

int slots_table_from_code(const struct image *image, enum alloc_domain domain, raddr_t *ret_table)
{
	static const char *const functions[DOMAIN_COUNT] = {
		[DOMAIN_RAW] = "PyMem_RawMalloc",
		[DOMAIN_MEM] = "PyMem_Malloc",
		[DOMAIN_OBJ] = "PyObject_Malloc",
	};
	struct code_insn insns[TABLE_INSNS];
	ssize_t n = code_decode_function(image, functions[domain], insns, TABLE_INSNS);

	if (n < 0)
		return (int)n;
	/* the pair that is complete first: what comes later belongs to inlined code */
	for (ssize_t i = 0; i < n; i++) {
		if (!loads_slot(&insns[i]) || insns[i].target % 8)
			continue;
		if (loaded(insns, i, insns[i].target - 8)) {
			*ret_table = RADDR(insns[i].target - 8);
			return 0;
		}
		if (loaded(insns, i, insns[i].target + 8)) {
			*ret_table = RADDR(insns[i].target);
			return 0;
		}
	}
	return -ENOENT;
}

int slots_arena_from_code(const struct image *image, raddr_t *ret_table)
{
	struct code_insn insns[12];
	ssize_t n = code_decode_function(image, "PyObject_GetArenaAllocator", insns, 12);

	/* copies 16 bytes through a vector register, then the 8 of free */
	for (ssize_t i = 0; i < n && insns[i].op != CODE_RET; i++) {
		if (insns[i].op != CODE_LOAD_ABS || insns[i].size != 8)
			continue;
		*ret_table = RADDR(insns[i].target - 16);
		return 0;
	}
	return n < 0 ? (int)n : -ENOENT;
}

static bool is_guard(const struct image *image, const struct code_insn *insn)
{
	return (insn->op == CODE_CMP_IMM || insn->op == CODE_LEA_ABS) && insn->target % FUNCTION_ALIGN == 0 &&
	       insn->target >= 0x1000 && image_is_text(image, RADDR(insn->target));
}

bool slots_code_has_guards(const struct image *image)
{
	static const char *const functions[] = {
		"PyObject_Malloc", "PyMem_Malloc", "PyMem_RawMalloc", "PyObject_Free", "PyMem_Free", "PyObject_Calloc",
	};
	struct code_insn insns[GUARD_INSNS];

	for (size_t f = 0; f < sizeof(functions) / sizeof(functions[0]); f++) {
		ssize_t n = code_decode_function(image, functions[f], insns, GUARD_INSNS);

		for (ssize_t i = 0; i < n && insns[i].op != CODE_RET; i++)
			if (is_guard(image, &insns[i]))
				return true;
	}
	return false;
}

struct loads {
	uint64_t wide[LOADS_MAX], narrow[LOADS_MAX];   /* addresses of 8-byte and 4-byte variables, each once */
	size_t n_wide, n_narrow;
};

static void add_once(uint64_t *list, size_t *n, uint64_t value)
{
	for (size_t i = 0; i < *n; i++)
		if (list[i] == value)
			return;
	if (*n < LOADS_MAX)
		list[(*n)++] = value;
}

static void collect_loads(const struct code_insn *insns, ssize_t n, struct loads *loads)
{
	for (ssize_t i = 0; i < n; i++) {
		if (insns[i].op != CODE_LOAD_ABS)
			continue;
		if (insns[i].size == 8)
			add_once(loads->wide, &loads->n_wide, insns[i].target);
		else if (insns[i].size == 4)
			add_once(loads->narrow, &loads->n_narrow, insns[i].target);
	}
}

/* Of the pointers that lead to arena objects the lowest is the array: usable_arenas and unused_arena_objects point into it. */
static bool pick_array(const struct python *python, bool (*plausible)(const struct python *, raddr_t, uint32_t),
		       const struct loads *loads, uint32_t max, struct obmalloc_vars *vars)
{
	uint64_t lowest = UINT64_MAX;

	for (size_t i = 0; i < loads->n_wide; i++) {
		raddr_t arenas;

		if (rmem_ptr(python->mem, RADDR(loads->wide[i]), &arenas) < 0 || arenas.v >= lowest ||
		    !plausible(python, arenas, max))
			continue;
		lowest = arenas.v;
		vars->arenas = RADDR(loads->wide[i]);
	}
	return lowest != UINT64_MAX;
}

static bool pick_arenas(const struct python *python, bool (*plausible)(const struct python *, raddr_t, uint32_t),
			const struct loads *loads, struct obmalloc_vars *vars)
{
	for (size_t i = 0; i < loads->n_narrow; i++) {
		uint32_t max;

		if (rmem_u32(python->mem, RADDR(loads->narrow[i]), &max) < 0 || !pick_array(python, plausible, loads, max, vars))
			continue;
		vars->maxarenas = RADDR(loads->narrow[i]);
		return true;
	}
	return false;
}

/* printone(out, "# arenas highwater mark", narenas_highwater): the variable is loaded between the calls before and after. */
static raddr_t find_highwater(const struct python *python, const struct code_insn *insns, ssize_t n)
{
	static const char label[] = "# arenas highwater mark";
	raddr_t variable = RADDR_NULL;
	bool here = false;

	for (ssize_t i = 0; i < n; i++) {
		char text[sizeof(label)];

		if (insns[i].op == CODE_CALL) {
			if (here && variable.v)
				return variable;
			here = false;
			variable = RADDR_NULL;
		} else if (insns[i].op == CODE_LOAD_ABS && insns[i].size == 8) {
			variable = RADDR(insns[i].target);
		} else if (insns[i].op == CODE_LEA_ABS && rmem_cstr(python->mem, RADDR(insns[i].target), text, sizeof(text)) == 0) {
			here |= strcmp(text, label) == 0;
		}
	}
	return RADDR_NULL;
}

/* Where the body of a function may be: at its start, or where a jump among its first instructions leads (a part that the compiler
 * split off). Returns how many. */
static size_t find_bodies(const struct image *image, const char *name, raddr_t *ret_bodies, size_t max)
{
	struct code_insn insns[STATS_HEAD_INSNS];
	ssize_t n = code_decode_function(image, name, insns, STATS_HEAD_INSNS);
	size_t count = 0;

	for (ssize_t i = 0; i < n && count < max; i++) {
		bool leaves = (insns[i].op == CODE_JMP || insns[i].op == CODE_JCC) &&
			      (insns[i].target < insns[0].addr.v || insns[i].target > insns[n - 1].addr.v);

		if (i == 0)
			ret_bodies[count++] = insns[0].addr;
		else if (leaves)
			ret_bodies[count++] = RADDR(insns[i].target);
	}
	return count;
}

/* maxarenas, arenas and raw_allocated_blocks; in 3.8 only the one counter. */
static bool from_allocated_blocks(const struct python *python, bool (*plausible)(const struct python *, raddr_t, uint32_t),
				  struct code_insn *insns, struct obmalloc_vars *vars)
{
	ssize_t n = code_decode_function(python->image, "_Py_GetAllocatedBlocks", insns, BLOCKS_INSNS);
	struct loads loads = { 0 };

	for (ssize_t i = 0; i < n; i++)
		if (insns[i].op == CODE_RET)
			n = i;
	collect_loads(insns, n, &loads);
	if (!pick_arenas(python, plausible, &loads, vars)) {
		if (loads.n_wide == 1)
			vars->counter = RADDR(loads.wide[0]);
		return false;
	}
	for (size_t i = 0; i < loads.n_wide; i++)
		if (loads.wide[i] != vars->arenas.v)
			vars->raw_blocks = RADDR(loads.wide[i]);
	return true;
}

int obmalloc_vars_from_code(const struct python *python, bool (*plausible)(const struct python *, raddr_t arenas, uint32_t max),
			    struct obmalloc_vars *ret_vars)
{
	_cleanup_(freep) struct code_insn *insns = calloc(STATS_INSNS, sizeof(*insns));
	struct obmalloc_vars vars = { 0 };
	raddr_t bodies[8];
	size_t n_bodies;
	bool found;

	if (!insns)
		return -ENOMEM;
	found = from_allocated_blocks(python, plausible, insns, &vars);
	n_bodies = find_bodies(python->image, "_PyObject_DebugMallocStats", bodies, 8);
	for (size_t i = 0; i < n_bodies && (!found || !vars.highwater.v); i++) {
		ssize_t n = code_decode(python->image, bodies[i], insns, STATS_INSNS);
		struct loads loads = { 0 };

		collect_loads(insns, n, &loads);
		if (!found)
			found = pick_arenas(python, plausible, &loads, &vars);
		if (!vars.highwater.v)
			vars.highwater = find_highwater(python, insns, n);
	}
	if (!found)
		return -ENOENT;
	*ret_vars = vars;
	return 0;
}

size_t obmalloc_offsets_from_code(const struct image *image, uint32_t *ret_offsets, size_t max)
{
	/* get_state() is inlined into all of them */
	static const char *const functions[] = { "PyObject_Malloc", "_PyInterpreterState_GetAllocatedBlocks", "PyObject_Free",
						 "_PyMem_DebugEnabled" };
	struct code_insn insns[96];
	size_t count = 0;

	for (size_t f = 0; f < sizeof(functions) / sizeof(functions[0]); f++) {
		ssize_t n = code_decode_function(image, functions[f], insns, 96);

		for (ssize_t i = 0; i < n && count < max; i++) {
			bool fits = insns[i].op == CODE_LOAD_REG && insns[i].size == 8 && insns[i].target % 8 == 0 &&
				    insns[i].target >= 2048 && insns[i].target < LAYOUT_OFFSET_MAX;

			if (fits)
				ret_offsets[count++] = (uint32_t)insns[i].target;
		}
	}
	return count;
}
