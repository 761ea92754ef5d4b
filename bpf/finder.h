/* SPDX-License-Identifier: MIT */
/* What bpf/finder.bpf.c and user/trace/finder.c share: the notices that cross its ring. */
#pragma once

#include <linux/types.h>

enum finder_notice_kind {
	FINDER_STARTED,     /* some process came by exec or fork: look at the map of young ones (only with wake_on_start) */
	FINDER_EXECED,      /* a known process runs another program; it will be among the young ones */
	FINDER_EXITED,      /* the last thread of a known process ends */
};

struct finder_notice {
	__u32 kind;         /* enum finder_notice_kind */
	__u32 pid;
	__u64 start_ns;     /* when the process began, CLOCK_BOOTTIME: with the PID it names the process */
	__u64 since_ns;     /* FINDER_EXECED: as in the map of young ones */
	__u32 code;         /* FINDER_EXITED: as wait(2) */
	__u32 oom;          /* FINDER_EXITED: chosen by the OOM killer before */
};
_Static_assert(sizeof(struct finder_notice) == 32, "crosses the ring");
