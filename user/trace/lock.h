/* SPDX-License-Identifier: MIT */
/*
 * One tracer a process. The lock is flock() on the directory /proc/PID: it
 * belongs to that very process and not to a later one with its number, leaves
 * no file behind, and the kernel drops it when the tracer dies.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"

/* *ret_fd holds the lock until it is closed. -EBUSY: another tracer is at work (err names its PID). -ESRCH: no such process. */
int trace_lock(pid_t pid, int *ret_fd, struct err *err);
