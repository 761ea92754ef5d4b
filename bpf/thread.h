/* SPDX-License-Identifier: GPL-2.0 */
/* The state kept of the running thread. */
#pragma once

#include "count.h"

/* Of the running thread, made on first use. NULL, counted, if the kernel has no memory for it now. */
static __always_inline struct thread_state *thread_of(__u32 target)
{
	struct thread_state *t = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!t)
		count(target, STAT_LOST_THREAD);
	return t;
}

/* The mem and obj domains are called with the GIL held; raw may be called without. */
static __always_inline int thread_has_gil(const struct thread_state *t)
{
	return t->sp && t->domain != DOMAIN_RAW;
}
