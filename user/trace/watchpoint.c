/* SPDX-License-Identifier: MIT */
#include "trace/watchpoint.h"

#include <errno.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Not in every libc: the code (Linux 5.13), and where the data are (struct siginfo, _sigfault._perf._data). */
#define CODE_TRAP_PERF 6
#define PERF_DATA_OFFSET 24

int watchpoint_open(pid_t tid, enum watchpoint_kind kind, raddr_t addr, uint64_t data, int *ret_fd)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attr),
		.sample_period = 1,
		.bp_type = kind == WATCHPOINT_EXECUTE ? HW_BREAKPOINT_X : HW_BREAKPOINT_W,
		.bp_addr = addr.v,
		.bp_len = kind == WATCHPOINT_EXECUTE ? sizeof(long) : HW_BREAKPOINT_LEN_8,
		.exclude_kernel = 1,
		.exclude_hv = 1,
		.remove_on_exec = 1,
		.sigtrap = 1,
		.sig_data = data,
	};
	int fd = (int)syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

bool watchpoint_hit(const siginfo_t *info, uint64_t *ret_data)
{
	if (info->si_signo != SIGTRAP || info->si_code != CODE_TRAP_PERF)
		return false;
	memcpy(ret_data, (const char *)info + PERF_DATA_OFFSET, sizeof(*ret_data));
	return true;
}
