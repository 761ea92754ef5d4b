/* SPDX-License-Identifier: MIT */
/*
 * A command and every process that comes of it, followed with ptrace from its first instruction: who forks, who runs another program, who ends.
 * Processes stop for moments only, at fork, clone, exec, exit and signals, and at what is watched for; in between nobody looks at them. While the
 * caller is told of an event the process stands still (of several threads, the one it is about).
 *
 * Signals are passed on as they come; a process stopped by job control stays so until it is told to go on (PTRACE_LISTEN). If the tracer is killed,
 * the kernel lets all go; nothing was changed in them.
 *
 * Limits: who is traced cannot be traced by others (strace, gdb in the command are refused by the kernel). Children of a process that shares its
 * memory with them (vfork, posix_spawn) are told of at their exec.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/raddr.h"

enum launch_what {
	LAUNCH_CHILD,   /* a copy of its parent, before its first instruction */
	LAUNCH_EXEC,    /* runs another program; of that only the file and the loader are mapped */
	LAUNCH_ENTRY,   /* launch_watch_entry(): at the program's entry point, where its libraries are mapped and relocated */
	LAUNCH_WATCH,   /* the pointer of launch_watch() was written */
	LAUNCH_EXIT,    /* about to end; its memory is still there. Not told of all that are killed */
	LAUNCH_GONE,
};

struct launch_event {
	enum launch_what what;
	pid_t pid;
	pid_t parent;   /* who forked it; of the command itself: this process */
};

struct launch;

/* Makes the process of the command, which waits. Early, so that it inherits nothing: no descriptors, no signal mask. */
int launch_new(char *const *argv, struct launch **ret_launch, struct err *err);
/* Lets it, or whoever is left of it, go. A command that was never started ends. */
void launch_free(struct launch *launch);
DEFINE_CLEANUP(struct launch, launch_free)

/* Lets it run its program. */
int launch_go(struct launch *launch);
/* Handles every stop there is now (SIGCHLD tells when to call); fn is told. 0 or a negative errno. */
typedef void (*launch_fn)(void *ctx, const struct launch_event *event);
int launch_step(struct launch *launch, launch_fn fn, void *ctx);

/*
 * Inside fn, at LAUNCH_EXEC: asks for LAUNCH_ENTRY. Negative where there are no watchpoints. A watchpoint stops the process by a signal, which it dies
 * of should the tracer be killed before it has looked: so not for programs that are of no interest.
 */
int launch_watch_entry(struct launch *launch, pid_t pid);
/* Inside fn: watches for the main thread to write an 8-aligned pointer of the process, in place of what was watched before; null: nothing more. */
int launch_watch(struct launch *launch, pid_t pid, raddr_t slot);

pid_t launch_pid(const struct launch *launch);
/* The command has ended: *ret_status as of wait(2). */
bool launch_has_ended(const struct launch *launch, int *ret_status);
/* Its program could not be run: a negative errno; else 0. */
int launch_failure(const struct launch *launch);
/* Stops handled so far. */
uint64_t launch_stops(const struct launch *launch);
