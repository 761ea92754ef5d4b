/* SPDX-License-Identifier: MIT */
/*
 * Sampled blocks and whether they are still alive. A block that left its window
 * alive is looked at in the target's memory: at once, then at growing ages, at
 * last every ten seconds. It is dead when memory says so (interp/blocks.h), when
 * a later window saw its free or another allocation at its address, or when
 * something else stands there.
 *
 * Memory is bounded. When the table is full the blocks of crowded call sites are
 * thinned out: every other one is evicted and those that stay count double, so
 * that sums stay right (their noise grows a little).
 *
 * Equation: added = held + died + evicted.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "interp/blocks.h"

struct survivor {
	uint64_t addr;
	uint64_t time_ns;      /* of its allocation, CLOCK_MONOTONIC */
	uint64_t checked_ns;   /* last seen alive */
	uint64_t print;        /* what stands in it (struct block_look) */
	uint32_t size;         /* bytes requested */
	uint32_t stack;        /* index into struct stacks */
	uint32_t type;         /* types id; 0: no object */
	uint16_t block_bytes;  /* of the size class it lies in; 0: not known yet, or in no arena */
	uint32_t window;       /* the window it was seen in: what one window saw is not independent */
	uint32_t chain;        /* of blocks that took each other's place (track/moves.h); 0: none */
	float weight;          /* allocations it stands for */
	uint8_t large;         /* which windows: 1 the large group's */
	uint8_t moved;         /* of the large group's: 1: it came by realloc, in the place of another */
	uint8_t object;        /* 1: its creation as an object was seen (3.13+), so the line is first-hand */
};

/* Ages at which deaths are told apart: up to so many seconds. */
#define SURVIVOR_AGES(X) X(0.1) X(1) X(10) X(60) X(1e9)
#define SURVIVOR_AGE_COUNT 5

/* What became of the sampled blocks of a stack, in allocations (weights added up). */
struct survivor_fates {
	double left_window;                  /* alive when their window ended */
	double died[SURVIVOR_AGE_COUNT];     /* since, by the age at which it was found */
};

struct survivors;

/* At most max blocks are held. */
int survivors_new(size_t max, struct survivors **ret_survivors);
void survivors_free(struct survivors *survivors);
DEFINE_CLEANUP(struct survivors, survivors_free)

/* A block left its window alive. Whatever was known at its address is dead. */
int survivors_add(struct survivors *survivors, const struct survivor *block);
/* A free (or a reallocation) of addr was seen at time_ns. False: it was not known; else ret_block (may be NULL) is what was known. */
bool survivors_freed(struct survivors *survivors, uint64_t addr, uint64_t time_ns, struct survivor *ret_block);

/* Looks at those that are due, at most max of them. Returns how many, or a negative errno: -ESRCH, the process is gone. */
int survivors_check(struct survivors *survivors, struct blocks *blocks, uint64_t now_ns, size_t max);
/* When the next look is due, CLOCK_MONOTONIC. */
uint64_t survivors_next_ns(const struct survivors *survivors);

/*
 * Blocks that are told of instead of what is known at their addresses, until the next call: memory from a free list that its allocation
 * says nothing of, but its owner does. Copied. Neither looked at nor counted. -ENOMEM.
 */
int survivors_set_owned(struct survivors *survivors, const struct survivor *owned, size_t count);

typedef void (*survivor_fn)(void *ctx, const struct survivor *block);
void survivors_visit(const struct survivors *survivors, survivor_fn fn, void *ctx);
/* NULL: nothing of this stack has been sampled. */
const struct survivor_fates *survivors_fates(const struct survivors *survivors, uint32_t stack);

typedef void (*survivor_fates_fn)(void *ctx, uint32_t stack, const struct survivor_fates *fates);
void survivors_visit_fates(const struct survivors *survivors, survivor_fates_fn fn, void *ctx);

size_t survivors_count(const struct survivors *survivors);
uint64_t survivors_added(const struct survivors *survivors);
uint64_t survivors_died(const struct survivors *survivors);
uint64_t survivors_evicted(const struct survivors *survivors);
