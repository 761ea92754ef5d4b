/* SPDX-License-Identifier: MIT */
/* What 'watch' could know, made up: for tests of what shows it. */
#pragma once

#include <stddef.h>

#include "diagnose/watched.h"

struct made_up_view {
	struct watch_view view;
	struct watched *processes;
	const struct watched **pointers;
};

/* n processes, each with all that can be known; PIDs from 100 on, the n-th growing by n bytes a second. */
void made_up_view_new(struct made_up_view *v, size_t n);
void made_up_view_free(struct made_up_view *v);
