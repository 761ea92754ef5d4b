/* SPDX-License-Identifier: MIT */
/* The walk of libc_heap.h with all that is known of each chunk, on a view. Private to heap/ and its tests. */
#pragma once

#include "heap/libc_chunks.h"

struct libc_ranges {
	struct libc_range *range;
	size_t count, room;
};

/* The arenas of pymalloc: no chunk of malloc's lies in them. */
int libc_ranges_add_arenas(struct libc_ranges *ranges, const struct python *python);
void libc_ranges_free(struct libc_ranges *ranges);

/* taken: what is known not to be malloc's own; regions are added to it. fn may be NULL. Errors as libc_heap_walk(). */
int libc_visit(const struct libc_view *view, struct libc_ranges *taken, libc_visit_fn fn, void *ctx, struct libc_heap_info *ret_info);
