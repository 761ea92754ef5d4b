/* SPDX-License-Identifier: MIT */
/*
 * Children forked by a process while its slots are armed: each has a copy of them. A child begins by putting CPython's default allocator into the
 * slots of the raw domain, and what stood there back again (PyOS_AfterFork_Child makes its locks anew, _PyMem_SetDefaultAllocator): who restores
 * the slots in between restores nothing. So they are restored at once, for what the child computes is not to be slowed down, and once more when
 * it has settled.
 *
 * Limits: of more than CHILDREN_MAX in CHILDREN_SETTLE_NS the oldest are restored again before they have settled.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../bpf/control.h"
#include "trace/arm.h"

#define CHILDREN_MAX 64u
#define CHILDREN_SETTLE_NS 100000000ull

/* Zero-initialised. */
struct children {
	struct {
		pid_t pid;
		uint64_t forked_ns;
	} child[CHILDREN_MAX];
	size_t first, count;   /* a ring, oldest first */
};

/* arming: the groups' of the parent, NULL where there is none; now_ns: CLOCK_MONOTONIC. */
void children_add(struct children *children, struct arming *const arming[WINDOW_GROUP_COUNT], pid_t child, uint64_t now_ns);
/* Restores again those that have settled by now_ns (UINT64_MAX: all), and forgets them. */
void children_settle(struct children *children, struct arming *const arming[WINDOW_GROUP_COUNT], uint64_t now_ns);
