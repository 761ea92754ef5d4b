/* SPDX-License-Identifier: MIT */
/* Reading allocator tables through their hooks. Private to interp/. */
#pragma once

#include "interp/slots.h"

struct alloc_table {
	raddr_t addr;
	uint64_t ctx;
	uint64_t fn[FN_COUNT];
};

/* One look at the tables: what it needs and what it met on the way. */
struct slots_view {
	const struct python *python;
	struct maps *fresh;      /* maps read again, if that was needed */
	bool debug_hooks, tracemalloc;
};

void slots_view_clear(struct slots_view *view);
/* The table at the end of the chain of hooks that starts at table. -EPROTO if table is none. */
int slots_behind(struct slots_view *view, raddr_t table, struct alloc_table *ret_table);
