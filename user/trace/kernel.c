/* SPDX-License-Identifier: MIT */
#include "trace/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "target/maps.h"
#include "trace/kernel_x86.h"

#define HITS 400
#define ROUNDS 3
/* Single-stepping costs 10 to 30 times an emulated hit; a third of it parts the two whatever the machine. */
#define EMULATED_SHARE (1.0 / 3)
/* Emulated by every kernel since 4.20. */
#define EMULATED_ALWAYS ((1u << SITE_NOP1) | (1u << SITE_PUSH) | (1u << SITE_CALL) | (1u << SITE_JMP) | (1u << SITE_JCC))

#define RUN_DIR "/run/leaksnoop"

static int read_line(const char *path, char *buf, size_t size)
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

	return !read_line(path, line, sizeof(line)) && sscanf(line, "%d", &value) == 1 ? value : -1;
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

/* Microseconds a call, the best of some rounds: noise only adds. */
static double call_us(void (*call)(void))
{
	double best = 1e9;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t start = clock_mono_ns(&clock_real);
		double us;

		for (int i = 0; i < HITS; i++)
			call();
		us = (double)(clock_mono_ns(&clock_real) - start) / 1e3 / HITS;
		if (us < best)
			best = us;
	}
	return best;
}

static int measure_class(const struct maps *maps, const struct kernel_specimen *specimen, double *ret_us)
{
	uint64_t addr = (uint64_t)(uintptr_t)specimen->insn;
	const struct map *map = maps_at(maps, addr);
	_cleanup_(closep) int fd = -1;
	double bare;

	if (!map)
		return -ENOENT;
	bare = call_us(specimen->call);
	fd = kernel_uprobe_open("/proc/self/exe", addr - map->start + map->offset, 0);
	if (fd < 0)
		return fd;
	*ret_us = call_us(specimen->call) - bare;
	return 0;
}

int kernel_measure(struct kernel_costs *ret_costs, struct err *err)
{
	_cleanup_(maps_freep) struct maps *maps = NULL;
	struct kernel_costs costs = { .emulated = 0 };
	int r;

	r = maps_load(getpid(), &maps);
	if (r)
		return err_set(err, r, "cannot read our own mappings: %s", strerror(-r));
	for (int c = SITE_CLASS_COUNT; c-- > 0;) {
		r = measure_class(maps, &kernel_specimens[c], &costs.hit_us[c]);
		if (r == -EPERM || r == -EACCES || r == -ENOENT) {
			err_set(err, r, "cannot place a uprobe in our own code: %s", strerror(-r));
			err_hint(err, r == -ENOENT ? "this kernel has no uprobes (CONFIG_UPROBE_EVENTS)" : "run as root");
			return r;
		}
		if (r)
			costs.hit_us[c] = -1;
		else if (c != SITE_OTHER && costs.hit_us[c] < costs.hit_us[SITE_OTHER] * EMULATED_SHARE)
			costs.emulated |= 1u << c;
	}
	*ret_costs = costs;
	return 0;
}

/* The answer is good for one boot of one kernel. */
static int cache_path(char *buf, size_t size)
{
	char boot_id[64];
	int r;

	r = read_line("/proc/sys/kernel/random/boot_id", boot_id, sizeof(boot_id));
	if (!r)
		snprintf(buf, size, RUN_DIR "/uprobes-%s", boot_id);
	return r;
}

static int cache_read(const char *path, site_mask_t *ret_mask)
{
	char line[32];
	struct stat st;
	int r;

	/* Only what root wrote is believed. */
	if (stat(path, &st) || st.st_uid != 0 || (st.st_mode & 022))
		return -ENOENT;
	r = read_line(path, line, sizeof(line));
	if (r)
		return r;
	return sscanf(line, "%x", ret_mask) == 1 && !(*ret_mask >> SITE_CLASS_COUNT) ? 0 : -EINVAL;
}

static void cache_write(const char *path, site_mask_t mask)
{
	char part[160];
	FILE *f;

	mkdir(RUN_DIR, 0755);
	snprintf(part, sizeof(part), "%s.%d", path, getpid());
	f = fopen(part, "we");
	if (!f)
		return;
	fprintf(f, "%x\n", mask);
	if (fclose(f) || rename(part, path))
		unlink(part);
}

site_mask_t kernel_emulated(void)
{
	struct kernel_costs costs;
	site_mask_t mask;
	char path[128];

	if (cache_path(path, sizeof(path)))
		path[0] = '\0';
	if (path[0] && !cache_read(path, &mask))
		return mask;
	if (kernel_measure(&costs, NULL))
		return EMULATED_ALWAYS;
	if (path[0])
		cache_write(path, costs.emulated);
	return costs.emulated;
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

/* A tracefs of our own: a mount that hangs nowhere and goes when its descriptor is closed. */
static int tracefs_open(void)
{
	_cleanup_(closep) int fs = (int)syscall(SYS_fsopen, "tracefs", FSOPEN_CLOEXEC);
	int mnt;

	if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return -errno;
	mnt = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	return mnt < 0 ? -errno : mnt;
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
