/* SPDX-License-Identifier: MIT */
/* The stacks of a process's threads, the main thread's left out: that is the mapping called [stack]. */
#pragma once

#include "heap/residency.h"
#include "interp/python.h"

/* A negative errno ends the search. */
typedef int (*stack_fn)(void *ctx, uint64_t start, uint64_t end);

/*
 * Calls fn with each stack that pthread_create() mapped and whose thread runs (and of those that ended, some that are kept for the next).
 * 0, -ESRCH, -EPERM, -ENOMEM, or what fn returned.
 */
int thread_stacks_visit(const struct python *python, const struct maps *maps, struct residency *pages, stack_fn fn, void *ctx);
