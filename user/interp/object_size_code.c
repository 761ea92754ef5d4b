/* SPDX-License-Identifier: MIT */
/*
 * Sizes of code objects, generators and frames.
 *
 * Facts: Objects/codeobject.c, code_sizeof(); Objects/genobject.c, gen_sizeof(); Objects/frameobject.c, frame_sizeof(). Up to 3.10 a
 * frame has a place for each local, cell and free variable; from 3.11 a generator holds its frame, and the places are co_nlocalsplus.
 */
#include "interp/object_size_impl.h"

#define PLACES_MAX (1u << 24)
#define EXTRA_MAX (1u << 16)
#define OPCACHE_MAP 152u     /* PyCodeObject up to 3.10, behind co_extra (3.8 to 3.10: the same) */
#define OPCACHE 160u
#define OPCACHE_SIZE 172u
#define OPCACHE_ENTRY 32u    /* _PyOpcache */
#define CODE_UNIT 2u

static int code_extras(const struct size_subject *s, struct object_size *size)
{
	uint64_t extra = size_u64(s, s->l->co_extra);

	return extra ? size_later(size, extra, STEP_CODE_EXTRA) : 0;
}

static int code_old(const struct size_subject *s, struct object_size *size)
{
	const struct layout *l = s->l;
	uint64_t cells, cell2arg, map;
	int r;

	if (!size_have(s, OPCACHE_SIZE + 1, size, &r) || !size_have(s, l->co_cellvars + 8, size, &r) ||
	    !size_have(s, l->co_cell2arg + 8, size, &r) || !size_have(s, l->co_extra + 8, size, &r))
		return r;
	size_base(s, size);
	cells = size_u64(s, l->co_cellvars);
	cell2arg = size_u64(s, l->co_cell2arg);
	map = size_u64(s, OPCACHE_MAP);
	r = code_extras(s, size);
	if (r == 0 && cells && cell2arg) {
		size->need.held[0] = cell2arg;
		r = size_later(size, cells + OB_SIZE, STEP_POOL);
	}
	if (r == 0 && size_u64(s, OPCACHE))
		r = size_array(size, PART_OTHER, size_u64(s, OPCACHE), s->bytes[OPCACHE_SIZE], OPCACHE_ENTRY);
	if (r == 0 && size_u64(s, OPCACHE) && map) {
		size->need.held[1] = map;
		r = size_later(size, size_u64(s, l->co_code) + OB_SIZE, STEP_CODE_UNITS);
	}
	return r;
}

int size_code(const struct size_subject *s, struct object_size *size)
{
	int r;

	if (s->l->minor <= 10)
		return code_old(s, size);
	if (!size_have(s, s->l->co_extra + 8, size, &r))
		return r;
	r = size_plain(s, size);
	if (r < 0)
		return r;
	/* _PyObject_VAR_SIZE */
	size->bytes = (size->bytes + POINTER - 1) / POINTER * POINTER;
	return code_extras(s, size);
}

/* _PyCodeObjectExtra: how many, and as many words. */
int size_step_code_extra(const struct size_subject *s, struct object_size *size)
{
	uint64_t count = size_u64(s, 0);

	if (count > EXTRA_MAX)
		return -EPROTO;
	return size_array(size, PART_OTHER, s->at.v, count + 1, POINTER);
}

int size_step_code_units(const struct size_subject *s, struct object_size *size)
{
	return size_array(size, PART_OTHER, size->need.held[1], size_u64(s, 0) / CODE_UNIT, 1);
}

/* What a frame has for locals and stack; asked from co_nlocals or co_stacksize on, whichever is first. Up to 3.10 cells are apart. */
int size_step_code_locals(const struct size_subject *s, struct object_size *size)
{
	const struct layout *l = s->l;
	uint32_t first = l->co_nlocals < l->co_stacksize ? l->co_nlocals : l->co_stacksize;
	uint32_t locals = size_u32(s, l->co_nlocals - first), stack = size_u32(s, l->co_stacksize - first);
	int r;

	if (locals > PLACES_MAX || stack > PLACES_MAX)
		return -EPROTO;
	r = size_add(size, (uint64_t)locals + stack, POINTER);
	if (l->minor >= 11 || r < 0)
		return r;
	r = size_later(size, size_u64(s, l->co_cellvars - first) + OB_SIZE, STEP_POINTERS_OF_TUPLE);
	return r < 0 ? r : size_later(size, size_u64(s, l->co_freevars - first) + OB_SIZE, STEP_POINTERS_OF_TUPLE);
}

int size_step_pointers(const struct size_subject *s, struct object_size *size)
{
	return size_add(size, size_u64(s, 0), POINTER);
}

static int locals_of(const struct size_subject *s, struct object_size *size, uint64_t code)
{
	const struct layout *l = s->l;

	return size_later(size, (code & l->tag_mask) + (l->co_nlocals < l->co_stacksize ? l->co_nlocals : l->co_stacksize), STEP_CODE_LOCALS);
}

/* 3.11 and later. */
int size_generator(const struct size_subject *s, struct object_size *size)
{
	const struct layout *l = s->l;
	uint32_t code = l->gen_code != NO_OFFSET ? l->gen_code : l->gen_frame + l->fr_code;
	int r;

	if (!size_have(s, code + 8, size, &r))
		return r;
	size->bytes = (uint64_t)s->rule->front + l->gen_frame + l->fr_locals;
	return locals_of(s, size, size_u64(s, code));
}

int size_frame(const struct size_subject *s, struct object_size *size)
{
	const struct layout *l = s->l;
	int r;

	if (!size_have(s, l->fo_frame + 8, size, &r))
		return r;
	size->bytes = (uint64_t)s->rule->front + l->fo_size;
	if (l->minor >= 11) {
		r = size_add(size, l->fr_locals, 1);
		return r < 0 ? r : size_later(size, size_u64(s, l->fo_frame) + l->fr_code, STEP_FRAME_CODE);
	}
	/* one place is in the size of the type */
	size->bytes -= POINTER;
	return locals_of(s, size, size_u64(s, l->fo_frame));
}

int size_step_frame_code(const struct size_subject *s, struct object_size *size)
{
	return locals_of(s, size, size_u64(s, 0));
}
