/* SPDX-License-Identifier: MIT */
/*
 * What this kernel offers. What a uprobe costs on each class of instruction is
 * measured on code of our own, not assumed: which instructions are emulated
 * differs between kernels, and the others cost some 13 to 30 times as much.
 *
 * A measurement takes up to a second (the kernel waits for a grace period for
 * each link it removes), so the answer is kept in /run/leaksnoop until reboot.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "target/site.h"

struct kernel_costs {
	double hit_us[SITE_CLASS_COUNT];   /* a hit of a uprobe without a handler; < 0: the kernel refuses a probe there */
	site_mask_t emulated;
};

/* Measures every class. -EPERM, -ENOENT (no uprobes in this kernel); err filled. */
int kernel_measure(struct kernel_costs *ret_costs, struct err *err);
/* The mask alone, from /run/leaksnoop if it was measured since boot. Where measuring fails: the classes every kernel emulates. */
site_mask_t kernel_emulated(void);

struct kernel_facts {
	char release[65];
	bool btf;            /* /sys/kernel/btf/vmlinux */
	bool uprobes;        /* the uprobe PMU */
	bool syscall_tracepoints;
	bool jit;
	int unprivileged_bpf_disabled, perf_event_paranoid;   /* -1: unknown */
};

void kernel_facts_read(struct kernel_facts *ret_facts);

/* The first line of a file of /proc or /sys, without its newline. */
int kernel_read_line(const char *path, char *buf, size_t size);
/* perf_event_open() of a uprobe at offset of the file at path, in one process (0: this one). A descriptor or a negative errno. */
int kernel_uprobe_open(const char *path, uint64_t offset, int pid);
/* Multi-uprobe links that filter by process: Linux 6.12 and newer. */
bool kernel_has_uprobe_multi(void);
/* The attach type a program for such links is loaded with: bpf_program__set_expected_attach_type(). Not in the headers of Linux 6.1. */
#define KERNEL_ATTACH_UPROBE_MULTI 48
/* One link for count probes of the file at path. A descriptor or a negative errno. */
int kernel_uprobe_multi(int prog_fd, const char *path, const uint64_t *offsets, const uint64_t *cookies, uint32_t count,
			bool on_return, int pid);
/* The dynamic type of a perf PMU ("uprobe"), or -ENOENT. */
int kernel_pmu_type(const char *name);
/* The id of a tracepoint, through the host's tracefs, or one mounted for ourselves alone where there is none (CAP_SYS_ADMIN). */
int kernel_tracepoint_id(const char *category, const char *name);
/* A perf event of that tracepoint, of every task on every CPU once a BPF program is attached to it. A descriptor or a negative errno. */
int kernel_tracepoint_open(const char *category, const char *name);
