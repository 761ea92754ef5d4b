/* SPDX-License-Identifier: MIT */
/*
 * Sampled mode of one process: from what windows saw to survivors with weights.
 * A block's weight is known when its window is closed; until then it waits here,
 * and a free takes it away.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "interp/blocks.h"
#include "interp/python.h"
#include "interp/types.h"
#include "trace/session.h"
#include "trace/window.h"
#include "track/moves.h"
#include "track/stacks.h"
#include "track/survivors.h"

#define SAMPLING_SURVIVORS_DEFAULT (1u << 17)

struct sampling;

/* python must outlive it. At most max survivors are held. */
int sampling_new(const struct python *python, size_t max, struct sampling **ret_sampling);
void sampling_free(struct sampling *sampling);
DEFINE_CLEANUP(struct sampling, sampling_free)

/* Records of the ring. */
int sampling_on_alloc(struct sampling *sampling, const struct event_alloc *e, uint32_t stack);
/* stack: of a large block, who frees it. */
void sampling_on_free(struct sampling *sampling, const struct event_block *e, uint32_t stack);

/* A window is closed, and all its records were taken: what is left of it in the nursery is taken, weighted and looked at. */
int sampling_on_window(struct sampling *sampling, struct session *session, uint32_t target, struct stacks *stacks,
		       const struct window_record *record);
/* Looks at the survivors that are due. -ESRCH: the process is gone. */
int sampling_check(struct sampling *sampling, uint64_t now_ns);
uint64_t sampling_next_ns(const struct sampling *sampling);
/* For a report: asks surviving objects which memory from free lists is theirs (track/key_tables.h). 0, -ESRCH, -EPERM, -ENOMEM. */
int sampling_settle_owners(struct sampling *sampling);

const struct survivors *sampling_survivors(const struct sampling *sampling);
struct types *sampling_types(const struct sampling *sampling);
/*
 * May a free list of the interpreter have handed the block to another line than the one that had it allocated? From 3.13 objects are seen at
 * their creation, and only key tables of dicts remain; before that objects of types with a free list may be anyone's, too.
 */
bool sampling_is_second_hand(const struct sampling *sampling, const struct survivor *block);
/* A dict whose creation was seen. */
bool sampling_is_new_dict(const struct sampling *sampling, const struct survivor *block);
/* Objects are seen at first hand. */
void sampling_know_objects(struct sampling *sampling, bool seen);

/*
 * Large blocks that were freed after having outlived a window, by whom; those of a realloc are in sampling_moves(). born_ns 0: before the attach,
 * or not seen.
 */
struct large_free {
	uint64_t time_ns, born_ns, bytes;
	uint32_t stack;
	float weight;
};
/* The last of them, oldest first, at most LARGE_FREES_MAX. */
#define LARGE_FREES_MAX 8192u
typedef void (*large_free_fn)(void *ctx, const struct large_free *f);
void sampling_visit_large_frees(const struct sampling *sampling, large_free_fn fn, void *ctx);
/* Containers that grow by realloc. */
const struct moves *sampling_moves(const struct sampling *sampling);
/* Bytes in large blocks since the attach: what was allocated less what was freed. */
double sampling_large_bytes(const struct sampling *sampling);

/* Blocks seen whose window never closed in order: stragglers, dropped. */
uint64_t sampling_strays(const struct sampling *sampling);
