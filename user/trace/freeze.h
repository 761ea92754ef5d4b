/* SPDX-License-Identifier: MIT */
/*
 * Stops every thread of a process for the time of a read, so that what is read is of one moment.
 *
 * A second process, the holder, seizes the threads (PTRACE_SEIZE, PTRACE_INTERRUPT: no signal is sent, the process's parent sees nothing) and
 * lets them go when it is told to. The kernel lets them go if it dies; it dies with the thread that called freeze_begin(); and it lets go
 * when that process is stopped (Ctrl-Z) or after the target was killed. So nothing can leave a target stopped. A process that was stopped
 * before (SIGSTOP) stays so. Signals that come meanwhile are delivered afterwards.
 *
 * What a thread may notice: system calls that the kernel never restarts after a stop end with EINTR (epoll_wait, semop, sigwaitinfo, io_getevents,
 * sockets with a timeout; signal(7)). CPython repeats them (PEP 475). Those it restarts (read, poll, futex, nanosleep, ...) go on.
 * Not stopped: processes that share the memory without being threads (vfork children until they exec).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"

struct freeze;

/*
 * Returns when no thread of pid runs its own code any more. -ESRCH: no such process; -EBUSY: another tracer (a debugger, strace) has it; -EPERM;
 * -ETIMEDOUT: new threads without end, for 2 s. It runs on after any error; err says what to do.
 */
int freeze_begin(pid_t pid, struct freeze **ret_freeze, struct err *err);
/* Lets it run on; returns when it does. NULL does nothing. By the thread that began. */
void freeze_end(struct freeze *freeze);
DEFINE_CLEANUP(struct freeze, freeze_end)

/* Has it been held ever since freeze_begin()? false: it was killed, or had to be let go. Ask after the read. */
bool freeze_holds(const struct freeze *freeze);
uint32_t freeze_threads(const struct freeze *freeze);   /* that are held */
double freeze_seconds(const struct freeze *freeze);     /* since its first thread was asked to stop */
