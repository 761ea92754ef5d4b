/* SPDX-License-Identifier: MIT */
#include "trace/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"

int kernel_read_line(const char *path, char *buf, size_t size)
{
	_cleanup_(fclosep) FILE *f = fopen(path, "re");

	if (!f)
		return -errno;
	if (!fgets(buf, (int)size, f))
		return -EIO;
	buf[strcspn(buf, "\n")] = '\0';
	return 0;
}

static int read_int(const char *path)
{
	char line[32];
	int value;

	return !kernel_read_line(path, line, sizeof(line)) && sscanf(line, "%d", &value) == 1 ? value : -1;
}

int kernel_pmu_type(const char *name)
{
	char path[96];
	int type;

	snprintf(path, sizeof(path), "/sys/bus/event_source/devices/%s/type", name);
	type = read_int(path);
	return type < 0 ? -ENOENT : type;
}

int kernel_uprobe_open(const char *path, uint64_t offset, int pid)
{
	struct perf_event_attr attr = { .size = sizeof(attr) };
	int type = kernel_pmu_type("uprobe");
	int fd;

	if (type < 0)
		return type;
	attr.type = (uint32_t)type;
	attr.config1 = (uint64_t)(uintptr_t)path;
	attr.config2 = offset;
	fd = (int)syscall(SYS_perf_event_open, &attr, pid ? pid : getpid(), -1, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

bool kernel_has_uprobe_multi(void)
{
	unsigned major, minor;
	struct utsname uts;

	return !uname(&uts) && sscanf(uts.release, "%u.%u", &major, &minor) == 2 && (major > 6 || (major == 6 && minor >= 12));
}

int kernel_uprobe_multi(int prog_fd, const char *path, const uint64_t *offsets, const uint64_t *cookies, uint32_t count,
			bool on_return, int pid)
{
	/* The link_create part of union bpf_attr with its uprobe_multi member (include/uapi/linux/bpf.h of Linux 6.6). */
	struct {
		uint32_t prog_fd, target_fd, attach_type, flags;
		uint64_t path, offsets, ref_ctr_offsets, cookies;
		uint32_t count, multi_flags, pid, pad;
	} attr = {
		.prog_fd = (uint32_t)prog_fd,
		.attach_type = KERNEL_ATTACH_UPROBE_MULTI,
		.path = (uint64_t)(uintptr_t)path,
		.offsets = (uint64_t)(uintptr_t)offsets,
		.cookies = (uint64_t)(uintptr_t)cookies,
		.count = count,
		.multi_flags = on_return ? 1 : 0,   /* BPF_F_UPROBE_MULTI_RETURN */
		.pid = (uint32_t)pid,
	};
	int fd = (int)syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));

	return fd < 0 ? -errno : fd;
}

void kernel_facts_read(struct kernel_facts *ret_facts)
{
	struct utsname uts;

	*ret_facts = (struct kernel_facts){
		.btf = access("/sys/kernel/btf/vmlinux", R_OK) == 0,
		.uprobes = kernel_pmu_type("uprobe") >= 0,
		.syscall_tracepoints = kernel_tracepoint_id("syscalls", "sys_exit_mmap") >= 0,
		.jit = read_int("/proc/sys/net/core/bpf_jit_enable") > 0,
		.unprivileged_bpf_disabled = read_int("/proc/sys/kernel/unprivileged_bpf_disabled"),
		.perf_event_paranoid = read_int("/proc/sys/kernel/perf_event_paranoid"),
	};
	if (!uname(&uts))
		memcpy(ret_facts->release, uts.release, sizeof(ret_facts->release));
}

/* Where tracefs is mounted as it is on most hosts. */
static int tracefs_mounted(void)
{
	_cleanup_(closep) int fd = open("/sys/kernel/tracing", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;

	if (fd < 0 || fstatfs(fd, &fs))
		return -errno;
	return fs.f_type == TRACEFS_MAGIC ? take_fd(&fd) : -ENOENT;
}

/* Else a tracefs of our own, which takes CAP_SYS_ADMIN: a mount that hangs nowhere and goes when its descriptor is closed. */
static int tracefs_mount(void)
{
	_cleanup_(closep) int fs = (int)syscall(SYS_fsopen, "tracefs", FSOPEN_CLOEXEC);
	int mnt;

	if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return -errno;
	mnt = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	return mnt < 0 ? -errno : mnt;
}

static int tracefs_open(void)
{
	int fd = tracefs_mounted();

	return fd < 0 ? tracefs_mount() : fd;
}

int kernel_tracepoint_id(const char *category, const char *name)
{
	_cleanup_(closep) int tracefs = tracefs_open();
	_cleanup_(closep) int fd = -1;
	char path[128], text[16] = "";
	int id;

	if (tracefs < 0)
		return tracefs;
	snprintf(path, sizeof(path), "events/%s/%s/id", category, name);
	fd = openat(tracefs, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (read(fd, text, sizeof(text) - 1) <= 0 || sscanf(text, "%d", &id) != 1)
		return -EIO;
	return id;
}

int kernel_tracepoint_open(const char *category, const char *name)
{
	struct perf_event_attr attr = { .size = sizeof(attr), .type = PERF_TYPE_TRACEPOINT, .sample_period = 1 };
	int id = kernel_tracepoint_id(category, name);
	int fd;

	if (id < 0)
		return id;
	attr.config = (uint64_t)id;
	fd = (int)syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
