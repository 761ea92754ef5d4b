/* SPDX-License-Identifier: MIT */
/*
 * What grew: live blocks added up by stack, then grouped by line, file or
 * traceback, filtered and ranked. Used once a report; remembers the report
 * before, for the differences.
 *
 *   growth_begin; growth_add for each live block or piece; growth_end; read the groups
 *
 * Ranking is total: bytes, then blocks, then file, line and function, then the
 * age of the stack, then the kind. Sums saturate at INT64_MAX.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "diagnose/model.h"
#include "track/stacks.h"

enum group_by { GROUP_LINE, GROUP_FILE, GROUP_TRACEBACK };

struct growth_options {
	enum group_by group_by;
	const char *const *include, *const *exclude;  /* NULL-terminated globs on the file of the innermost frame, as in tracemalloc's Filter; NULL: none */
	uint64_t min_age_ns;
};

/* Whether a block was made by the line it is charged to. */
enum growth_hand { HAND_FIRST, HAND_SECOND };

struct growth_group {
	enum finding_kind kind;
	uint32_t stack;             /* its heaviest: the traceback to show */
	uint64_t live_bytes, live_blocks;
	int64_t delta_bytes, delta_blocks;  /* since the report before */
	uint64_t oldest_ns;         /* CLOCK_MONOTONIC */
	uint64_t key;               /* growth.c's own */
	uint64_t second_blocks;     /* of the live blocks, those that came from a free list by way of another line */
	uint64_t bare_dicts;        /* dicts of which it is not known that the same lines made their key table */
};

struct growth;

int growth_new(const struct stacks *stacks, const struct growth_options *options, struct growth **ret_growth);
void growth_free(struct growth *growth);
DEFINE_CLEANUP(struct growth, growth_free)

void growth_begin(struct growth *growth, uint64_t now_ns);
/* Objects are seen at first hand (3.13+), so that what growth_add_blocks() is told of hands can be believed. At first: not. */
void growth_know_hands(struct growth *growth, bool known);
/* Bytes alive that stack allocated at time_ns. Younger than min_age_ns: ignored. */
void growth_add(struct growth *growth, enum finding_kind kind, uint32_t stack, uint64_t bytes, uint64_t blocks, uint64_t time_ns);
/* Blocks of Python's allocator. */
void growth_add_blocks(struct growth *growth, uint32_t stack, uint64_t bytes, uint64_t blocks, uint64_t time_ns, enum growth_hand hand);
/* A dict that was added by growth_add_blocks() and has a key table that is charged to nobody, or to another line. */
void growth_note_bare(struct growth *growth, uint32_t stack);
/* Groups, filters and ranks. */
int growth_end(struct growth *growth);

/* The rank of the group that a stack's pieces of this kind went to; SIZE_MAX: none (filtered, or too young). */
size_t growth_rank_of(const struct growth *growth, enum finding_kind kind, uint32_t stack);
/* Ranks anew: what had rank ranks[i] gets rank i. ranks is a permutation of all. */
int growth_reorder(struct growth *growth, const size_t *ranks);

size_t growth_count(const struct growth *growth);
const struct growth_group *growth_get(const struct growth *growth, size_t rank);
/* 1: its blocks were made by its lines; 0: more than half of them may have been made elsewhere; -1: nobody knows. */
int growth_first_hand(const struct growth *growth, const struct growth_group *group);
/* Who else may have made second-hand blocks: the group with the most bare dicts, NULL if there are none. */
const struct growth_group *growth_likelier(const struct growth *growth);
/* Live bytes of the groups that the filters took away. */
uint64_t growth_filtered_bytes(const struct growth *growth);
uint64_t growth_total_bytes(const struct growth *growth);
