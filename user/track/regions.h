/* SPDX-License-Identifier: MIT */
/*
 * Address ranges that do not overlap, each with the stack that made it. Sorted
 * by address; adding over an old range replaces what it covers, removing trims
 * or splits. Bounded by REGIONS_MAX (the kernel's own default limit of mappings
 * is 65,530): beyond it, -ENOSPC.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

#define REGIONS_MAX (1u << 17)

struct region {
	uint64_t start, end;   /* [start, end) */
	uint64_t time_ns;
	uint32_t stack;        /* index into struct stacks */
	uint32_t kind;         /* the owner's own */
};

struct regions;

int regions_new(struct regions **ret_regions);
void regions_free(struct regions *regions);
DEFINE_CLEANUP(struct regions, regions_free)

/* Empty or inverted ranges: -EINVAL. */
int regions_add(struct regions *regions, const struct region *region);
int regions_remove(struct regions *regions, uint64_t start, uint64_t end);
/* What lies in [start, end) lies from to on afterwards, in the place of what was there. */
int regions_move(struct regions *regions, uint64_t start, uint64_t end, uint64_t to);
/* The region that holds addr, or NULL. */
const struct region *regions_at(const struct regions *regions, uint64_t addr);
size_t regions_count(const struct regions *regions);
const struct region *regions_get(const struct regions *regions, size_t index);
