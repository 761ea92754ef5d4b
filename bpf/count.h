/* SPDX-License-Identifier: GPL-2.0 */
/* The one place that counts what was seen and what was lost. Atomic: a program can be preempted between load and store. */
#pragma once

#include "maps.h"

static __always_inline void count_add(__u32 target, enum stat_id stat, __u64 n)
{
	struct target_stats *row = bpf_map_lookup_elem(&stats, &target);

	if (row)
		__sync_fetch_and_add(&row->n[stat], n);
}

static __always_inline void count(__u32 target, enum stat_id stat)
{
	count_add(target, stat, 1);
}
