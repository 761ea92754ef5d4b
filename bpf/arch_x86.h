/* SPDX-License-Identifier: GPL-2.0 */
/* What is x86-64 of the BPF side. */
#pragma once

/* The fs base of the running thread: pthread_self() under glibc and musl. Saved by arch_prctl and clone, so right for the running task too. */
#define ARCH_FS_BASE() BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), thread.fsbase)

/* Arguments of a system call, from the registers saved at its entry. */
#define ARCH_SYSCALL_ARG1(regs) ((regs)->di)
#define ARCH_SYSCALL_ARG2(regs) ((regs)->si)
#define ARCH_SYSCALL_ARG3(regs) ((regs)->dx)
#define ARCH_SYSCALL_ARG4(regs) ((regs)->r10)
