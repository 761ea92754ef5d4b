/* SPDX-License-Identifier: MIT */
/*
 * Is a process at work at this moment, or asleep? Asked of the kernel thread by thread, by descriptors kept open, since it is asked at
 * the begin and the end of each window. Of a process with very many threads the first ones answer.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define RUNNING_THREADS_MAX 32

struct running {
	pid_t pid;
	uint64_t listed_ns;
	int n;
	int fds[RUNNING_THREADS_MAX];   /* of /proc/PID/task/TID/stat */
};

void running_init(struct running *running, pid_t pid);
void running_close(struct running *running);
/* Some thread computes, or waits for a processor. Threads are listed anew once a second. false also if it is gone. */
bool running_now(struct running *running, uint64_t now_ns);
