/* SPDX-License-Identifier: MIT */
/*
 * Does the process look as its version should? The lists of interpreters and
 * threads, and for one thread a frame whose code is a code object with a name.
 * The target runs on while it is read: a check that fails is repeated with
 * pauses of 1 to 5 ms before it is believed. A process may have no thread state
 * in an interpreter, and a thread no frame; that is no failure.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "interp/python_impl.h"

#define TRIES 12
#define CHECK_INTERPRETERS 64
#define CHECK_THREADS 256
#define CHECK_FRAMES 64

ssize_t python_interpreters(const struct python *python, raddr_t *ret_interps, size_t max)
{
	const struct layout *l = &python->layout;
	raddr_t at;
	size_t n = 0;
	int r = rmem_ptr(python->mem, raddr_add(python->runtime, l->rt_interpreters_head), &at);

	if (r < 0)
		return r;
	while (at.v && n < max) {
		for (size_t i = 0; i < n; i++)
			if (raddr_eq(ret_interps[i], at))
				return (ssize_t)n;
		ret_interps[n++] = at;
		r = rmem_ptr(python->mem, raddr_add(at, l->in_next), &at);
		if (r < 0)
			return r == -EFAULT ? -EPROTO : r;
	}
	return (ssize_t)n;
}

/* Cuts cycles by Brent's method: a process may have many threads. */
ssize_t python_threads(const struct python *python, raddr_t interp, raddr_t *ret_tstates, size_t max)
{
	const struct layout *l = &python->layout;
	raddr_t at, anchor = RADDR_NULL;
	size_t n = 0, power = 1, steps = 0;
	int r = rmem_ptr(python->mem, raddr_add(interp, l->in_threads_head), &at);

	if (r < 0)
		return r;
	while (at.v && n < max && !raddr_eq(at, anchor)) {
		ret_tstates[n++] = at;
		if (++steps == power) {
			anchor = at;
			power *= 2;
			steps = 0;
		}
		r = rmem_ptr(python->mem, raddr_add(at, l->ts_next), &at);
		if (r < 0)
			return r == -EFAULT ? -EPROTO : r;
	}
	return (ssize_t)n;
}

int object_is(const struct python *python, raddr_t addr, const char *name)
{
	const struct layout *l = &python->layout;
	char found[64];
	raddr_t type;
	int r = rmem_ptr(python->mem, raddr_add(addr, l->ob_type), &type);

	if (r == 0)
		r = rmem_ptr(python->mem, raddr_add(type, l->tp_name), &type);
	if (r == 0)
		r = rmem_cstr(python->mem, type, found, sizeof(found));
	if (r < 0)
		return r;
	return strcmp(found, name) == 0;
}

static int first_frame(const struct python *python, raddr_t tstate, raddr_t *ret_frame)
{
	const struct layout *l = &python->layout;
	raddr_t frame;
	int r = rmem_ptr(python->mem, raddr_add(tstate, l->ts_frame), &frame);

	if (r == 0 && l->cframe_current != NO_OFFSET && frame.v)
		r = rmem_ptr(python->mem, raddr_add(frame, l->cframe_current), &frame);
	if (r == 0)
		*ret_frame = frame;
	return r;
}

/* 1: the frame runs a code object, 0: it is a shim; negative: broken. */
static int check_frame(const struct python *python, raddr_t frame)
{
	const struct layout *l = &python->layout;
	raddr_t code, name;
	uint8_t owner = 0;
	int r = rmem_ptr(python->mem, raddr_add(frame, l->fr_code), &code);

	if (r == 0 && l->fr_owner != NO_OFFSET)
		r = rmem_u8(python->mem, raddr_add(frame, l->fr_owner), &owner);
	if (r < 0)
		return r;
	if (owner > 8)
		return -EPROTO;
	if (owner >= l->owner_shim)
		return 0;
	code.v &= l->tag_mask;
	if (object_is(python, code, "code") != 1)
		return -EPROTO;
	r = rmem_ptr(python->mem, raddr_add(code, l->co_filename), &name);
	if (r < 0)
		return r;
	return object_is(python, name, "str") == 1 ? 1 : -EPROTO;
}

/* 1: frames seen and right, 0: none to see; negative: broken. */
static int check_frames(const struct python *python, raddr_t tstate)
{
	raddr_t frame;
	int r = first_frame(python, tstate, &frame);

	for (int depth = 0; r == 0 && frame.v && depth < CHECK_FRAMES; depth++) {
		r = check_frame(python, frame);
		if (r == 0)
			r = rmem_ptr(python->mem, raddr_add(frame, python->layout.fr_back), &frame);
	}
	return r;
}

static const char *check_thread(const struct python *python, raddr_t interp, raddr_t tstate, raddr_t prev)
{
	const struct layout *l = &python->layout;
	raddr_t back, owner;

	if (rmem_ptr(python->mem, raddr_add(tstate, l->ts_interp), &owner) < 0 || !raddr_eq(owner, interp))
		return "a thread state does not point back to its interpreter";
	if (rmem_ptr(python->mem, raddr_add(tstate, l->ts_prev), &back) < 0 || !raddr_eq(back, prev))
		return "the list of thread states is not linked both ways";
	return NULL;
}

/* Adds to *good and *bad the threads whose frames look right or wrong. */
static const char *check_interpreter(const struct python *python, raddr_t interp, int *good, int *bad)
{
	raddr_t tstates[CHECK_THREADS];
	ssize_t n = python_threads(python, interp, tstates, CHECK_THREADS);
	const char *why;

	if (n < 0)
		return "the list of thread states cannot be read";
	for (ssize_t i = 0; i < n; i++) {
		int r;

		why = check_thread(python, interp, tstates[i], i ? tstates[i - 1] : RADDR_NULL);
		if (why)
			return why;
		if (*good >= 4)
			continue;
		r = check_frames(python, tstates[i]);
		*good += r == 1;
		*bad += r < 0;
	}
	return NULL;
}

static int check_once(const struct python *python, const char **ret_why)
{
	raddr_t interps[CHECK_INTERPRETERS], main_interp;
	ssize_t n = python_interpreters(python, interps, CHECK_INTERPRETERS);
	bool main_seen = n == CHECK_INTERPRETERS;
	int good = 0, bad = 0;
	int r;

	*ret_why = "the list of interpreters cannot be read";
	if (n < 0)
		return n == -EFAULT ? -EPROTO : (int)n;
	r = rmem_ptr(python->mem, raddr_add(python->runtime, python->layout.rt_interpreters_main), &main_interp);
	if (r < 0)
		return r;
	if (n == 0 || !main_interp.v)
		return -EAGAIN;
	for (ssize_t i = 0; i < n; i++) {
		main_seen |= raddr_eq(interps[i], main_interp);
		*ret_why = check_interpreter(python, interps[i], &good, &bad);
		if (*ret_why)
			return -EPROTO;
	}
	*ret_why = "the main interpreter is not in the list of interpreters";
	if (!main_seen)
		return -EPROTO;
	*ret_why = "no frame leads to a code object";
	return bad > 0 && good == 0 ? -EPROTO : 0;
}

int runtime_validate(const struct python *python, const char **ret_why)
{
	int r = -EPROTO;

	for (int i = 0; i < TRIES; i++) {
		struct timespec pause = { 0, (1 + i % 5) * 1000000L };

		r = check_once(python, ret_why);
		if (r == 0 || r == -ESRCH || r == -EPERM)
			return r;
		/* recorded memory does not change */
		if (python->pid == 0)
			return r;
		nanosleep(&pause, NULL);
	}
	return r;
}
