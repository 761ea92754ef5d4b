/* SPDX-License-Identifier: MIT */
#include "arena_checks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

void assert_same(const struct pyinterp *interp, const char *what, uint64_t got, uint64_t want)
{
	if (got != want)
		fail_msg("%s: %s %llu, not %llu", interp->label, what, (unsigned long long)got, (unsigned long long)want);
}

struct arena_map *arena_map_of(const struct python *python, const struct pyinterp *interp)
{
	struct arena_map *map = NULL;
	struct err err = { 0 };

	if (arena_map_read(python, NULL, &map, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	return map;
}

void check_arena_sums(const struct arena_map *map, const struct pyinterp *interp)
{
	const struct arena_totals *t = &map->totals;
	uint64_t live_blocks = 0, live_bytes = 0, pools = 0, pinned = 0;

	assert_same(interp, "arena bytes", t->live_bytes + t->free_in_used_pools_bytes + t->free_pools_bytes + t->uncarved_bytes + t->overhead_bytes +
	     t->refused_bytes, t->arena_bytes);
	assert_same(interp, "rows", map->n_arenas, t->arenas);
	assert_true(t->fragmentation >= 0 && t->fragmentation <= 1);
	assert_true(t->arenas_if_packed <= t->arenas);
	for (size_t i = 0; i < map->n_arenas; i++) {
		const struct arena_row *row = &map->arenas[i];

		live_blocks += row->live_blocks;
		live_bytes += row->live_bytes;
		assert_same(interp, "pools of an arena", row->pools_used + row->pools_free + row->pools_uncarved + row->pools_refused, row->n_pools);
		assert_true(row->live_ratio >= 0 && row->live_ratio <= 1);
		assert_true(row->returnable || row->n_pins == 0);
		pinned += row->returnable;
		assert_true(row->first_pool + row->n_pools <= map->n_pools && row->first_pin + row->n_pins <= map->n_pins);
	}
	assert_same(interp, "returnable", pinned, t->arenas_returnable);
	assert_same(interp, "live blocks", live_blocks, t->live_blocks);
	assert_same(interp, "live bytes", live_bytes, t->live_bytes);
	live_blocks = 0;
	for (size_t i = 0; i < map->n_classes; i++) {
		live_blocks += map->classes[i].live_blocks;
		pools += map->classes[i].pools;
	}
	assert_same(interp, "blocks of classes", live_blocks, t->live_blocks);
	assert_same(interp, "pools of classes", pools, t->pools_used);
}
