/* SPDX-License-Identifier: MIT */
/*
 * Containers that grow by realloc, sampled mode: one block after another, each in
 * the place of the one before, is one container, and what it gained at each step is
 * growth of that moment, however old the container is.
 *
 * Invariant: the steps of a container add up to its size now less what it had when
 * first seen (all of it, if it was born while large blocks were sampled).
 * Limits: the last MOVES_MAX steps; a realloc outside of windows ends the container's story.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "track/survivors.h"

#define MOVES_MAX 8192u

struct move {
	uint64_t time_ns;     /* CLOCK_MONOTONIC */
	uint64_t bytes;       /* gained */
	uint32_t chain;       /* the container: survivor.chain of its block */
	uint32_t stack, window;
	float weight;
};

struct moves;

int moves_new(struct moves **ret_moves);
void moves_free(struct moves *moves);
DEFINE_CLEANUP(struct moves, moves_free)

/*
 * A large block of so many bytes gives way to another at time_ns: old is what was known of it, NULL: nothing.
 * Kept until the window ends.
 */
void moves_leave(struct moves *moves, uint32_t stack, uint64_t time_ns, uint64_t bytes, const struct survivor *old);
/* A large block of a window that is closed, with its weight: true if it took another's place, whose chain it gets. */
bool moves_link(struct moves *moves, struct survivor *block);
/* What was left in the window and found no successor is forgotten. */
void moves_end_window(struct moves *moves);

typedef void (*move_fn)(void *ctx, const struct move *move);
/* All steps that are remembered, of containers that are gone, too. */
void moves_visit(const struct moves *moves, move_fn fn, void *ctx);
