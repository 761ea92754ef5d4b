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

struct growth_group {
	enum finding_kind kind;
	uint32_t stack;             /* its heaviest: the traceback to show */
	uint64_t live_bytes, live_blocks;
	int64_t delta_bytes, delta_blocks;  /* since the report before */
	uint64_t oldest_ns;         /* CLOCK_MONOTONIC */
};

struct growth;

int growth_new(const struct stacks *stacks, const struct growth_options *options, struct growth **ret_growth);
void growth_free(struct growth *growth);
DEFINE_CLEANUP(struct growth, growth_free)

void growth_begin(struct growth *growth, uint64_t now_ns);
/* Bytes alive that stack allocated at time_ns. Younger than min_age_ns: ignored. */
void growth_add(struct growth *growth, enum finding_kind kind, uint32_t stack, uint64_t bytes, uint64_t blocks, uint64_t time_ns);
/* Groups, filters and ranks. */
int growth_end(struct growth *growth);

size_t growth_count(const struct growth *growth);
const struct growth_group *growth_get(const struct growth *growth, size_t rank);
/* Live bytes of the groups that the filters took away. */
uint64_t growth_filtered_bytes(const struct growth *growth);
uint64_t growth_total_bytes(const struct growth *growth);
