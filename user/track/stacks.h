/* SPDX-License-Identifier: MIT */
/*
 * From the kernel's stack ids to names: CODE and STACK records in, tracebacks
 * out. A code object is known from its CODE record until its CODE_FREE; a stack
 * is resolved when its record arrives, in the order of the ring, so a later code
 * object at the same address cannot lend it its name.
 *
 * Frames and stacks are interned: the same (file, function, line) is one frame,
 * the same frames are one stack, whatever the kernel called it. Indices are
 * stable for the life of the table; 0 is the stack without frames.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../bpf/event.h"
#include "base/cleanup.h"
#include "interp/linetable.h"

struct frame {
	uint32_t file, function;   /* ids of strings: stacks_str() */
	int line;                  /* 0: the instruction has none; -1: unknown */
};

struct stack {
	uint32_t count;
	bool truncated;            /* deeper than --frames, or cut at an unreadable frame */
	const uint32_t *frames;    /* indices, innermost first */
};

struct stacks;

/* Fetches the rest of a line table that did not fit its record: fills buf with the size bytes of the bytes object at addr. 0 or a
 * negative errno. May be NULL (replay): such tables end early. */
typedef int (*stacks_fetch_fn)(void *ctx, uint32_t target, uint64_t addr, void *buf, size_t size);

int stacks_new(stacks_fetch_fn fetch, void *ctx, struct stacks **ret_stacks);
void stacks_free(struct stacks *stacks);
DEFINE_CLEANUP(struct stacks, stacks_free)

/* Says which line table a target's code objects have. */
int stacks_add_target(struct stacks *stacks, uint32_t target, enum linetable_kind kind);

/* Take the records. -EBADMSG: the record is malformed (counted, ignored); -ENOSPC: a bound is reached (ignored); -ENOMEM. */
int stacks_on_code(struct stacks *stacks, const struct event_code *e, size_t size);
int stacks_on_code_free(struct stacks *stacks, uint32_t target, uint64_t addr);
int stacks_on_stack(struct stacks *stacks, const struct event_stack *e, size_t size);

/* Every code object of a target that is known now, with what its record said of it. */
typedef void (*stacks_code_fn)(void *ctx, uint64_t addr, uint64_t linetable, int firstlineno);
void stacks_visit_codes(const struct stacks *stacks, uint32_t target, stacks_code_fn fn, void *ctx);

/* The stack the kernel calls id; 0 (and counted as unresolved) if its record was lost. */
uint32_t stacks_find(struct stacks *stacks, uint64_t id);

/* The same, without counting: 0 also if it is not known. */
uint32_t stacks_peek(const struct stacks *stacks, uint64_t id);

size_t stacks_count(const struct stacks *stacks);
const struct stack *stacks_get(const struct stacks *stacks, uint32_t index);
const struct frame *stacks_frame(const struct stacks *stacks, uint32_t index);
const char *stacks_str(const struct stacks *stacks, uint32_t id);

uint64_t stacks_unresolved(const struct stacks *stacks);  /* frames without a name, and stacks never received */
uint64_t stacks_malformed(const struct stacks *stacks);
