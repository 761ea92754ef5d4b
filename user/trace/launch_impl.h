/* SPDX-License-Identifier: MIT */
/* Inside trace/: what the files of launch share. */
#pragma once

#include "base/map64.h"
#include "trace/launch.h"

/* A thread group. */
struct launch_process {
	pid_t parent;
	uint32_t running;     /* threads that are not at their end */
	int watch;            /* descriptor of its watchpoint, or -1 */
	uint32_t watch_serial;
	bool watches_entry;   /* the watchpoint is at the entry point */
	bool borrows;         /* lives in its parent's memory until its exec */
	bool told_exit;
};

struct launch_thread {
	pid_t pid;            /* its process; 0: its maker has not told of it yet */
	bool waits;           /* has stopped before its first instruction, and its maker has not told of it yet */
	bool begun;           /* has run */
	bool at_end;
};

struct launch {
	pid_t pid;            /* of the command */
	int go, failure;      /* pipes: a byte lets it go; the errno of its exec comes back */
	bool execed, ended;
	int status, error;
	struct map64 *processes, *threads;   /* struct launch_process by PID, struct launch_thread by TID */
	uint32_t serial;
	uint64_t stops;
	launch_fn fn;
	void *ctx;
};

/* launch_stops.c: one status that wait() brought. */
int launch_handle(struct launch *launch, pid_t tid, int status);
void launch_forget_watch(struct launch_process *process);
int launch_add(struct launch *launch, pid_t pid, pid_t parent, struct launch_process **ret_process);
/* Is a stop's signal meant for the thread, and not made by our own watchpoints? */
int launch_signal(pid_t tid, int status, uint64_t *ret_watch);
/* What the event of a stop is about: a TID, or a status. */
pid_t launch_message(pid_t tid);
