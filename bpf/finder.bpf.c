/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which processes come and go, for user/trace/finder.c. An object of its own, so that a watcher that traces nothing loads nothing else.
 *
 * Whatever was executed, or forked by something that may be a Python, is put among the young ones, and leaves them when it ends: a process
 * that does not live until user space looks costs two operations on a hash map, and nothing crosses. Notices are sent of known processes
 * only. Raw tracepoints, which need no tracefs. PIDs are those of the initial PID namespace.
 */
#include "../vmlinux/vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "finder.h"

#define SIGNAL_GROUP_EXIT 4u   /* include/linux/sched/signal.h */

const volatile bool wake_on_start = false;
__u64 starts = 0;   /* execs of all, forks of those that may be a Python */
__u64 missed = 0;   /* no room in a map, or in the ring */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 << 10);
} notices SEC(".maps");

/* tgid -> since when it may be looked at, CLOCK_MONOTONIC: its exec, or its fork. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} young SEC(".maps");

/* The Pythons user space knows, by tgid. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);          /* set by user space */
	__type(key, __u32);
	__type(value, __u8);
} known SEC(".maps");

/* Has nothing to do with BPF: libbpf's perf_buffer, which reads perf's records of executable mappings, wants such a map. */
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} mappings SEC(".maps");

static __always_inline void miss(void)
{
	__sync_fetch_and_add(&missed, 1);
}

static __always_inline void send(__u32 kind, __u32 pid, struct task_struct *task, __u64 since, __u32 code, __u32 oom)
{
	struct finder_notice *n = bpf_ringbuf_reserve(&notices, sizeof(*n), 0);

	if (!n) {
		miss();
		return;
	}
	n->kind = kind;
	n->pid = pid;
	n->start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	n->since_ns = since;
	n->code = code;
	n->oom = oom;
	bpf_ringbuf_submit(n, BPF_RB_FORCE_WAKEUP);
}

static __always_inline void add_young(__u32 pid, struct task_struct *task, __u64 since)
{
	if (bpf_map_update_elem(&young, &pid, &since, BPF_ANY))
		miss();
	__sync_fetch_and_add(&starts, 1);
	if (wake_on_start)
		send(FINDER_STARTED, pid, task, since, 0, 0);
}

SEC("raw_tp/sched_process_exec")
int finder_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	__u32 pid = BPF_CORE_READ(task, tgid);
	__u64 since = bpf_ktime_get_ns();

	/* Young last: once it is, user space may make it known again. Nothing can fork meanwhile: this is its only thread. */
	if (!bpf_map_delete_elem(&known, &pid))
		send(FINDER_EXECED, pid, task, since, 0, 0);
	add_young(pid, task, since);
	return 0;
}

/* The children of a young one, too: prefork servers fork before anybody could look at them. */
SEC("raw_tp/sched_process_fork")
int finder_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx->args[0], *child = (struct task_struct *)ctx->args[1];
	__u32 pid = BPF_CORE_READ(parent, tgid), child_pid = BPF_CORE_READ(child, tgid);

	if (pid == child_pid || (!bpf_map_lookup_elem(&known, &pid) && !bpf_map_lookup_elem(&young, &pid)))
		return 0;
	/* vfork and posix_spawn: an exec follows, or nothing. */
	if (BPF_CORE_READ(parent, mm) == BPF_CORE_READ(child, mm))
		return 0;
	add_young(child_pid, child, bpf_ktime_get_ns());
	return 0;
}

/* As wait_task_zombie() of kernel/exit.c has it. */
static __always_inline __u32 exit_code(struct task_struct *task)
{
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		return (__u32)BPF_CORE_READ(task, signal, group_exit_code);
	return (__u32)BPF_CORE_READ(task, group_leader, exit_code);
}

SEC("raw_tp/sched_process_exit")
int finder_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	__u32 pid;

	if (BPF_CORE_READ(task, signal, live.counter) > 0)
		return 0;
	pid = BPF_CORE_READ(task, tgid);
	bpf_map_delete_elem(&young, &pid);
	/* Two threads that end together may both be the last one here: who deletes, tells. oom_mm: since Linux 4.9, of victims only. */
	if (!bpf_map_delete_elem(&known, &pid))
		send(FINDER_EXITED, pid, task, 0, exit_code(task), BPF_CORE_READ(task, signal, oom_mm) != NULL);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
