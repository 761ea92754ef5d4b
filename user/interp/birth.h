/* SPDX-License-Identifier: MIT */
/*
 * An interpreter that does not exist yet: where in a program that has just been loaded (its libraries are mapped and relocated, its first
 * instruction is still to come) a pointer will appear when the interpreter is made, and another when it begins to end.
 *
 * It is made when its first thread state is in its list: _PyRuntime.interpreters.head, then threads.head of that interpreter, then interp and
 * thread_id of that thread. Nothing has come from pymalloc by then, and python_open() works; to know what serves its objects may take the first
 * arena. It begins to end when _PyRuntime's finalizing is set (Py_FinalizeEx, since 3.8): exit handlers have run, nothing has been cleared.
 * os._exit() and signals do without.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/raddr.h"

struct birth;

/* As python_open(), but for -EAGAIN. */
int birth_open(pid_t pid, struct birth **ret_birth, struct err *err);
void birth_free(struct birth *birth);
DEFINE_CLEANUP(struct birth, birth_free)

enum birth_state {
	BIRTH_UNBORN,   /* *ret_slot is the pointer that must be written next */
	BIRTH_EMPTY,    /* python_open() works, but pymalloc has no arena, so that one cannot tell it from mimalloc. *ret_slot is written with the first one */
	BIRTH_READY,
};
/* An enum birth_state, or a negative errno: the memory cannot be read. */
int birth_look(const struct birth *birth, raddr_t *ret_slot);
/* The pointer that is written when it begins to end. */
raddr_t birth_end_slot(const struct birth *birth);
/* It has begun to end. */
bool birth_is_ending(const struct birth *birth);
/* "3.11.2" */
const char *birth_version(const struct birth *birth);
