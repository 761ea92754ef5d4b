/* SPDX-License-Identifier: MIT */
/*
 * The kernel side of a trace: the loaded BPF programs, their maps and the ring.
 * One session serves up to MAX_TARGETS processes (trace/tracee.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../bpf/control.h"
#include "../bpf/event.h"
#include "base/cleanup.h"
#include "base/err.h"

struct leaksnoop_bpf;
struct watchdog;

struct session_options {
	uint32_t max_targets;
	uint64_t ring_bytes;       /* rounded up to a power of two of pages */
	uint32_t nursery_slots;    /* a power of two */
	bool sampled;              /* windows of sampled mode will be opened: starts their watchdog */
	bool perf_uprobes;         /* a perf event a probe even where there are multi-uprobe links: what older kernels do */
};

#define SESSION_RING_BYTES_DEFAULT (16u << 20)
#define SESSION_NURSERY_SLOTS_DEFAULT (1u << 17)
#define SESSION_NURSERY_SLOTS_SAMPLED (1u << 13)

/* Called with each record of the ring, in order: at least a struct event_hdr, else unchecked. A negative return stops the poll. */
typedef int (*session_event_fn)(void *ctx, const void *data, size_t size);

struct session;

/* -EPERM: no right to load BPF programs. -ENOTSUP: the kernel lacks something; err says what. */
int session_new(const struct session_options *options, session_event_fn on_event, void *ctx, struct session **ret_session,
		struct err *err);
void session_free(struct session *session);
DEFINE_CLEANUP(struct session, session_free)

/* Claims an index and tells the kernel of the process. -ENOSPC when max_targets are traced. */
int session_add(struct session *session, const struct target_cfg *cfg, uint32_t *ret_target, struct err *err);
void session_remove(struct session *session, uint32_t target);
/* A forked child that was disarmed is of no more interest. */
void session_forget_pid(struct session *session, pid_t pid);

/* Starts delivering mmap, munmap, mremap and brk of all targets, and with faults first touches of pages, too. Once a session. -ENOENT: this
 * kernel has no system call tracepoints. */
int session_trace_mappings(struct session *session, bool faults, struct err *err);

/* Stops it again: what happens from now on is not told. */
void session_ignore_mappings(struct session *session);
/* The same for one target, for good. */
void session_mute_mappings(struct session *session, uint32_t target);

/* Waits at most timeout_ms for records and delivers them. Returns the number delivered or a negative errno (-EINTR on a signal). */
int session_poll(struct session *session, int timeout_ms);
/* Delivers what is in the ring now. */
int session_drain(struct session *session);
int session_epoll_fd(const struct session *session);

int session_stats(const struct session *session, uint32_t target, struct target_stats *ret_stats);

/* Calls fn with each block that sits in the nursery, of any target. The target runs on: a slot being changed is skipped. */
typedef void (*session_block_fn)(void *ctx, uint32_t target, uint64_t addr, const struct nursery_slot *slot);
void session_nursery(const struct session *session, session_block_fn fn, void *ctx);

/* The same, of one target, and takes the blocks out. */
void session_take_nursery(struct session *session, uint32_t target, session_block_fn fn, void *ctx);

/* A code object is gone, and no free of it was seen: the kernel forgets it, and stacks seen before are sent anew. */
void session_forget_code(struct session *session, uint32_t target, uint64_t addr);

/* Calls fn with each stack the kernel remembers, and how often it was seen to allocate. */
typedef void (*session_stack_fn)(void *ctx, uint64_t stack, uint64_t blocks);
int session_stacks(const struct session *session, session_stack_fn fn, void *ctx);

/* The windows of a target, shared with the programs. Good as long as the session. */
struct target_windows *session_windows(struct session *session, uint32_t target);
/* Sampled mode; else NULL. */
struct watchdog *session_watchdog(struct session *session);

/* The uprobe programs were loaded for multi-uprobe links (trace/probes.h). */
bool session_has_multi(const struct session *session);
struct leaksnoop_bpf *session_bpf(struct session *session);
