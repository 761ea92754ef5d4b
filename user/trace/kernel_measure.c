/* SPDX-License-Identifier: MIT */
/* Measuring what a uprobe costs on each class of instruction, and remembering it until reboot. */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "target/maps.h"
#include "trace/kernel.h"
#include "trace/kernel_x86.h"

#define HITS 400
#define ROUNDS 3
/* Single-stepping costs 10 to 30 times an emulated hit; a third of it parts the two whatever the machine. */
#define EMULATED_SHARE (1.0 / 3)
/* Emulated by every kernel since 4.20. */
#define EMULATED_ALWAYS ((1u << SITE_NOP1) | (1u << SITE_PUSH) | (1u << SITE_CALL) | (1u << SITE_JMP) | (1u << SITE_JCC))

#define RUN_DIR "/run/leaksnoop"

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

/* Where the instruction of a class is in our own file. */
static int specimen_offset(const struct maps *maps, enum site_class c, uint64_t *ret_offset)
{
	uint64_t addr = (uint64_t)(uintptr_t)kernel_specimens[c].insn;
	const struct map *map = maps_at(maps, addr);

	if (!map)
		return -ENOENT;
	*ret_offset = addr - map->start + map->offset;
	return 0;
}

/* Below zero means refused: noise must not say so. */
static double hit_us(enum site_class c, double bare_us)
{
	double us = call_us(kernel_specimens[c].call) - bare_us;

	return us > 0 ? us : 0;
}

/* All classes through one link, with a BPF program that does nothing. -EOPNOTSUPP or another error: measure them one by one. */
static int measure_together(const uint64_t *offsets, const double *bare_us, double *ret_us)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = (enum bpf_attach_type)KERNEL_ATTACH_UPROBE_MULTI);
	const struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	_cleanup_(closep) int prog = -1, link = -1;
	uint64_t cookies[SITE_CLASS_COUNT] = { 0 };

	if (!kernel_has_uprobe_multi())
		return -EOPNOTSUPP;
	prog = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "leaksnoop_none", "GPL", nothing, 2, &opts);
	if (prog < 0)
		return prog;
	link = kernel_uprobe_multi(prog, "/proc/self/exe", offsets, cookies, SITE_CLASS_COUNT, false, getpid());
	if (link < 0)
		return link;
	for (int c = 0; c < SITE_CLASS_COUNT; c++)
		ret_us[c] = hit_us(c, bare_us[c]);
	return 0;
}

/* A class whose probe the kernel refuses gets a cost below zero. */
static int measure_one_by_one(const uint64_t *offsets, const double *bare_us, double *ret_us)
{
	for (int c = 0; c < SITE_CLASS_COUNT; c++) {
		_cleanup_(closep) int fd = kernel_uprobe_open("/proc/self/exe", offsets[c], 0);

		if (fd == -EPERM || fd == -EACCES || fd == -ENOENT)
			return fd;
		ret_us[c] = fd < 0 ? -1 : hit_us(c, bare_us[c]);
	}
	return 0;
}

static int measure(double *ret_us)
{
	_cleanup_(maps_freep) struct maps *maps = NULL;
	uint64_t offsets[SITE_CLASS_COUNT];
	double bare_us[SITE_CLASS_COUNT];
	int r = maps_load(getpid(), &maps);

	for (int c = 0; c < SITE_CLASS_COUNT && !r; c++) {
		r = specimen_offset(maps, c, &offsets[c]);
		bare_us[c] = call_us(kernel_specimens[c].call);
	}
	if (r)
		return r;
	return measure_together(offsets, bare_us, ret_us) ? measure_one_by_one(offsets, bare_us, ret_us) : 0;
}

int kernel_measure(struct kernel_costs *ret_costs, struct err *err)
{
	struct kernel_costs costs = { .emulated = 0 };
	int r = measure(costs.hit_us);

	if (r) {
		err_set(err, r, "cannot place a uprobe in our own code: %s", strerror(-r));
		err_hint(err, r == -ENOENT ? "this kernel has no uprobes (CONFIG_UPROBE_EVENTS)" : "run as root");
		return r;
	}
	for (int c = 0; c < SITE_OTHER; c++)
		if (costs.hit_us[c] >= 0 && costs.hit_us[c] < costs.hit_us[SITE_OTHER] * EMULATED_SHARE)
			costs.emulated |= 1u << c;
	*ret_costs = costs;
	return 0;
}

/* The answer is good for one boot of one kernel. */
static int cache_path(char *buf, size_t size)
{
	char boot_id[64];
	int r;

	r = kernel_read_line("/proc/sys/kernel/random/boot_id", boot_id, sizeof(boot_id));
	if (!r)
		snprintf(buf, size, RUN_DIR "/uprobes-%s", boot_id);
	return r;
}

/* What a kernel can have said: a measurement on a machine that stood still meanwhile must not be believed until the next boot. */
static bool is_sound(site_mask_t mask)
{
	return (mask & EMULATED_ALWAYS) == EMULATED_ALWAYS && !(mask >> SITE_OTHER);
}

static int cache_read(const char *path, site_mask_t *ret_mask)
{
	char line[32];
	site_mask_t mask;
	struct stat st;
	int r;

	/* Only what root wrote is believed. */
	if (stat(path, &st) || !S_ISREG(st.st_mode) || st.st_uid != 0 || (st.st_mode & 022))
		return -ENOENT;
	r = kernel_read_line(path, line, sizeof(line));
	if (r)
		return r;
	if (sscanf(line, "%x", &mask) != 1 || !is_sound(mask))
		return -EINVAL;
	*ret_mask = mask;
	return 0;
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
	if (path[0] && is_sound(costs.emulated))
		cache_write(path, costs.emulated);
	return costs.emulated | EMULATED_ALWAYS;
}
