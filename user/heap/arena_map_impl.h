/* SPDX-License-Identifier: MIT */
/* Private to arena_map*.c. */
#pragma once

#include "heap/arena_map.h"

/* Looks at the blocks of all returnable arenas and groups them by size class and type. Fills pins, pools_torn, first_pin and n_pins. */
int arena_pins_read(const struct python *python, const struct arena_map_options *options, struct arena_map *map);
