/* SPDX-License-Identifier: MIT */
/*
 * A hardware breakpoint in a thread that we trace with ptrace: it stops with SIGTRAP (si_code TRAP_PERF, si_perf_data as given) when it gets to
 * an address or has written there. Made with perf_event_open() and not with ptrace's debug registers, since these stay when the tracer is killed,
 * and the SIGTRAP would then kill the thread: the event goes away with its descriptor. The thread's code is not changed.
 *
 * Limits: four a thread, of the whole machine; Linux 5.13. An exec takes them away. Where SIGTRAP is blocked it does not stop.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/raddr.h"

enum watchpoint_kind { WATCHPOINT_EXECUTE, WATCHPOINT_WRITE };

/* data tells it from others. A write is one to the 8 aligned bytes at addr. -ENOSPC: no register is free; -ENODEV: this machine has none. */
int watchpoint_open(pid_t tid, enum watchpoint_kind kind, raddr_t addr, uint64_t data, int *ret_fd);
/* Is a signal one of ours? */
bool watchpoint_hit(const siginfo_t *info, uint64_t *ret_data);
