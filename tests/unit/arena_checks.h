/* SPDX-License-Identifier: MIT */
/* What tests of the map of arenas share: failures that name the interpreter. */
#pragma once

#include "heap/arena_map.h"
#include "pytarget.h"

void assert_same(const struct pyinterp *interp, const char *what, uint64_t got, uint64_t want);
struct arena_map *arena_map_of(const struct python *python, const struct pyinterp *interp);
/* What must hold in every map, of a process at rest or not. */
void check_arena_sums(const struct arena_map *map, const struct pyinterp *interp);
