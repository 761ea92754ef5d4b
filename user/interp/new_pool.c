/* SPDX-License-Identifier: MIT */
/*
 * allocate_from_new_pool: the cold helper that every inlined copy of pymalloc
 * calls when a size class needs a pool (3.9+). Found as the direct call of
 * _PyObject_Malloc whose target allocates arenas: it passes ARENA_SIZE to the
 * arena allocator and, from 3.12, loads mgmt.usable_arenas off its state.
 */
#include <errno.h>
#include <string.h>

#include "interp/obmalloc.h"
#include "interp/python_impl.h"
#include "interp/slots_impl.h"
#include "interp/slots_x86.h"

#define MALLOC_INSNS 160
#define HEAD_INSNS 20
#define BODY_BYTES 1024
#define MINOR_FIRST 9   /* 3.8 has it inlined */

/* mov $ARENA_SIZE,%esi */
static bool passes_arena_size(const struct image *image, raddr_t fn, uint32_t arena_size)
{
	uint8_t body[BODY_BYTES], pattern[5] = { 0xbe };
	ssize_t n = image_read(image, fn, body, sizeof(body));

	memcpy(pattern + 1, &arena_size, 4);
	return n > 0 && memmem(body, (size_t)n, pattern, sizeof(pattern)) != NULL;
}

static bool loads_usable_arenas(const struct python *python, raddr_t fn)
{
	struct code_insn insns[HEAD_INSNS];
	ssize_t n = code_decode(python->image, fn, insns, HEAD_INSNS);

	if (python->layout.ob_usable_arenas == NO_OFFSET)
		return true;
	for (ssize_t i = 0; i < n; i++)
		if (insns[i].op == CODE_LOAD_REG && insns[i].target == python->layout.ob_usable_arenas)
			return true;
	return false;
}

static bool is_new_pool(const struct python *python, raddr_t fn)
{
	const uint32_t size = python->layout.arena_size;

	if (!image_is_text(python->image, fn) || !loads_usable_arenas(python, fn))
		return false;
	return passes_arena_size(python->image, fn, size) || passes_arena_size(python->image, fn, 2 * size);
}

int slots_new_pool(const struct python *python, const struct slots *slots, raddr_t *ret_fn, int *ret_class_arg)
{
	_cleanup_(slots_view_clear) struct slots_view view = { .python = python };
	struct code_insn insns[MALLOC_INSNS];
	struct alloc_table obj;
	ssize_t n;
	int r;

	if (slots->allocator != ALLOCATOR_PYMALLOC || python->layout.minor < MINOR_FIRST)
		return -ENOENT;
	r = slots_behind(&view, slots->table[DOMAIN_OBJ], &obj);
	if (r < 0)
		return r;
	n = code_decode(python->image, RADDR(obj.fn[FN_MALLOC]), insns, MALLOC_INSNS);
	for (ssize_t i = 0; i < n; i++) {
		if (insns[i].op != CODE_CALL || !is_new_pool(python, RADDR(insns[i].target)))
			continue;
		*ret_fn = RADDR(insns[i].target);
		*ret_class_arg = python->layout.obmalloc_place == OBMALLOC_STATIC ? 0 : 1;
		return 0;
	}
	return n < 0 ? (int)n : -ENOENT;
}

/* It begins with the test whether there is a usable arena: the first variable that holds null or an entry of the array of arenas. */
int slots_usable_arenas(const struct python *python, raddr_t new_pool, raddr_t *ret_variable)
{
	struct code_insn insns[HEAD_INSNS];
	ssize_t n;

	if (python->layout.obmalloc_place != OBMALLOC_STATIC)
		return -ENOENT;
	n = code_decode(python->image, new_pool, insns, HEAD_INSNS);
	for (ssize_t i = 0; i < n; i++) {
		raddr_t entry;

		if (insns[i].op != CODE_LOAD_ABS || insns[i].size != 8 || rmem_ptr(python->mem, RADDR(insns[i].target), &entry) < 0)
			continue;
		if (entry.v && obmalloc_arenas_hold(python, entry) != 1)
			continue;
		*ret_variable = RADDR(insns[i].target);
		return 0;
	}
	return n < 0 ? (int)n : -ENOENT;
}
