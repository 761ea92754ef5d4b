/* SPDX-License-Identifier: MIT */
/* Which process, and how it ended. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* A process for good: a PID alone may be another one's by tomorrow. */
struct process_id {
	pid_t pid;
	uint64_t start_ticks;              /* struct proc_stat */
};

enum process_end {
	PROCESS_RUNS,
	PROCESS_EXITED,                    /* end_code: its status */
	PROCESS_KILLED,                    /* end_code: the signal */
	PROCESS_OOM,                       /* killed by the kernel for want of memory */
	PROCESS_EXECED,                    /* runs another program, which is no Python */
	PROCESS_GONE,                      /* ended unseen, while nobody watched */
};
