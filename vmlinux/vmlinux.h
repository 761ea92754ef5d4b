/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel types the BPF side uses, and no others. Only fields that are read
 * are named: every access is CO-RE relocated against the running kernel's BTF,
 * so order and offsets here mean nothing (pt_regs excepted, which is ABI). See
 * README.md beside this file.
 */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#include <linux/types.h>
#include <linux/bpf.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
enum { false = 0, true = 1 };

/* arch/x86/include/asm/ptrace.h: what a uprobe and a system call hand over. */
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct mm_struct;

struct signal_struct {
	atomic_t live;             /* threads not yet exiting: 0 when the last one is at sched_process_exit */
	int group_exit_code;
	unsigned int flags;
	struct mm_struct *oom_mm;
};

struct thread_struct {
	unsigned long fsbase;      /* x86-64 */
};

struct task_struct {
	int pid, tgid, exit_code;
	unsigned long nvcsw;
	struct mm_struct *mm;
	struct signal_struct *signal;
	struct task_struct *group_leader;
	u64 start_boottime;
	struct thread_struct thread;
};

#pragma clang attribute pop

#endif /* __VMLINUX_H__ */
