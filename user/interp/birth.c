/* SPDX-License-Identifier: MIT */
#include "interp/birth.h"

#include <errno.h>
#include <stdlib.h>

#include "interp/obmalloc_state.h"
#include "interp/python_impl.h"
#include "interp/slots.h"

struct birth {
	struct python *python;   /* image, version and layout: not validated, for there is nothing yet to validate */
};

void birth_free(struct birth *birth)
{
	if (!birth)
		return;
	python_free(birth->python);
	free(birth);
}

int birth_open(pid_t pid, struct birth **ret_birth, struct err *err)
{
	_cleanup_(birth_freep) struct birth *birth = calloc(1, sizeof(*birth));
	int r;

	if (!birth)
		return err_set(err, -ENOMEM, "out of memory");
	r = python_open_image(pid, &birth->python, err);
	if (r)
		return r;
	*ret_birth = take_ptr(birth);
	return 0;
}

/* From 3.13 a pymalloc without arenas is taken for mimalloc (slots.c): then the first is waited for. */
static int await_arenas(struct python *python, raddr_t interp, raddr_t *ret_slot)
{
	struct slots slots;

	(void)obmalloc_settle(python);
	if (slots_read(python, &slots, NULL) || slots.allocator != ALLOCATOR_MIMALLOC || obmalloc_arenas_slot(python, interp, ret_slot))
		return BIRTH_READY;
	return BIRTH_EMPTY;
}

int birth_look(const struct birth *birth, raddr_t *ret_slot)
{
	const struct layout *l = &birth->python->layout;
	/* Each pointer is in what the one before points at; the last two are in the same thread state. Compilers move these writes about. */
	const uint32_t offsets[] = { l->rt_interpreters_head, l->in_threads_head, l->ts_interp, l->ts_thread_id };
	raddr_t base = birth->python->runtime, base_interp = RADDR_NULL, value;

	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		raddr_t slot = raddr_add(base, offsets[i]);
		int r = rmem_ptr(birth->python->mem, slot, &value);

		if (r)
			return r;
		if (!value.v) {
			*ret_slot = slot;
			return BIRTH_UNBORN;
		}
		if (i == 0)
			base_interp = value;
		if (i < 2)
			base = value;
	}
	return await_arenas(birth->python, base_interp, ret_slot);
}

raddr_t birth_end_slot(const struct birth *birth)
{
	return raddr_add(birth->python->runtime, birth->python->layout.rt_finalizing);
}

bool birth_is_ending(const struct birth *birth)
{
	raddr_t value;

	return !rmem_ptr(birth->python->mem, birth_end_slot(birth), &value) && value.v;
}

const char *birth_version(const struct birth *birth)
{
	return birth->python->version;
}
