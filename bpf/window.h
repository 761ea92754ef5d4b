/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Windows of sampled mode: what may still be recorded, and what it costs. A window
 * is over at its deadline, or when it was hit as often as it may be; then nothing
 * more is recorded, and if the slots are still armed after hits_max, the watchdog
 * (user/trace/watchdog.c) is woken to put them back.
 */
#pragma once

#include "count.h"

static __always_inline struct window *window_of(__u32 target, __u32 domain)
{
	struct target_windows *t = bpf_map_lookup_elem(&windows, &target);

	if (!t)
		return NULL;
	return &t->group[domain == DOMAIN_RAW ? WINDOW_LARGE : WINDOW_SMALL];
}

static __noinline int window_alarm(__u32 target, __u32 group)
{
	struct window_alarm alarm = { .target = target, .group = group };

	return bpf_ringbuf_output(&alarms, &alarm, sizeof(alarm), BPF_RB_FORCE_WAKEUP) ? -1 : 0;
}

/* Changes when the thread goes to sleep, not when it is preempted; and from thread to thread. */
static __always_inline __u64 window_switches(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return (__u64)(__u32)task->pid << 32 | (__u32)task->nvcsw;
}

/* Counts a hit. Not 0: it comes after the window's end. */
static __always_inline int window_enter(struct window *w, __u32 target, __u32 domain, __u64 now_ns)
{
	__u64 hits = __sync_fetch_and_add(&w->hits, 1), last_ns = w->last_ns;

	if (hits >= w->hits_max || now_ns > w->deadline_ns || w->ended_ns) {
		if (!__sync_val_compare_and_swap(&w->ended_ns, 0, now_ns))
			window_alarm(target, domain == DOMAIN_RAW ? WINDOW_LARGE : WINDOW_SMALL);
		return -1;
	}
	if (!hits)
		w->first_ns = now_ns;
	/* Neither preempted nor computing without a hit is idle. */
	if (last_ns && now_ns > last_ns + WINDOW_IDLE_NS && w->last_switches != window_switches())
		w->idle_ns += now_ns - last_ns;
	return 0;
}

static __always_inline void window_leave(struct window *w, __u64 since_ns)
{
	__u64 now_ns = bpf_ktime_get_ns();

	__sync_fetch_and_add(&w->run_ns, now_ns - since_ns);
	w->last_ns = now_ns;
	w->last_switches = window_switches();
}
