/* SPDX-License-Identifier: GPL-2.0 */
/* The life of the traced processes: fork, exec, exit. Raw tracepoints, which need no tracefs. */
#pragma once

#include "emit.h"

static __always_inline void emit_task(__u16 kind, __u16 flags, __u32 target, __u32 pid, __u32 exit_code)
{
	struct event_task *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(target, STAT_LOST_OTHER);
		return;
	}
	emit_hdr(&e->hdr, kind, flags, target);
	e->pid = pid;
	e->exit_code = exit_code;
	bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
}

/* A fork copies the slots, armed as they are: the child is remembered until user space has restored them. */
SEC("raw_tp/sched_process_fork")
int leaksnoop_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx->args[0], *child = (struct task_struct *)ctx->args[1];
	__u32 tgid = BPF_CORE_READ(parent, tgid), child_tgid = BPF_CORE_READ(child, tgid);
	__u32 *target = bpf_map_lookup_elem(&pids, &tgid);

	if (!target || tgid == child_tgid)
		return 0;
	/* vfork and CLONE_VM share the memory: there is one set of slots, and it is the parent's. */
	if (BPF_CORE_READ(parent, mm) == BPF_CORE_READ(child, mm))
		return 0;
	bpf_map_update_elem(&pids, &child_tgid, target, BPF_ANY);
	emit_task(EVENT_FORK, 0, *target, child_tgid, 0);
	return 0;
}

SEC("raw_tp/sched_process_exec")
int leaksnoop_exec(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	__u32 *target = bpf_map_lookup_elem(&pids, &tgid);

	if (target)
		emit_task(EVENT_EXEC, 0, *target, tgid, 0);
	return 0;
}

SEC("raw_tp/sched_process_exit")
int leaksnoop_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	__u32 tgid = BPF_CORE_READ(task, tgid);
	__u32 *target = bpf_map_lookup_elem(&pids, &tgid);

	if (!target || BPF_CORE_READ(task, signal, live.counter) > 0)
		return 0;
	emit_task(EVENT_EXIT, 0, *target, tgid, BPF_CORE_READ(task, exit_code));
	/* Whoever gets this PID next is somebody else. */
	bpf_map_delete_elem(&pids, &tgid);
	return 0;
}
