/* SPDX-License-Identifier: MIT */
/*
 * Two ways to ask: reading one entry a page, and the scan (Linux 6.7), which
 * steps over what was never touched. Ranges are what the target mapped: a
 * reservation of terabytes must not keep us busy for minutes, so large ones
 * are scanned, and refused where the kernel cannot.
 */
#include "target/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ull
#define BATCH 1024
#define SCAN_FROM (64ull << 20)      /* bytes: below, reading is as quick */
#define READ_MAX (64ull << 30)       /* bytes: 128 MiB of entries, about a second */
#define ADDRESS_MAX (1ull << 56)
/* Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped. */
#define THERE (3ull << 62)
#define RESIDENT (1ull << 63)
#define FRAME_MASK ((1ull << 55) - 1)

/* include/uapi/linux/fs.h of Linux 6.7; the headers at hand may be older. */
struct scan_region {
	__u64 start, end, categories;
};

struct scan_arg {
	__u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
	__u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};
_Static_assert(sizeof(struct scan_arg) == 96, "crosses the system call");

#define SCAN_IOCTL _IOWR('f', 16, struct scan_arg)
#define SCAN_PRESENT (1ull << 3)
#define SCAN_SWAPPED (1ull << 4)
#define SCAN_ZERO (1ull << 5)

/* What is asked: present or in swap, or in memory as RSS counts it. */
enum ask { ASK_THERE, ASK_RESIDENT };

/* Called with each range found, in order. */
typedef void (*range_fn)(void *ctx, uint64_t start, uint64_t end);

int pagemap_open(pid_t pid)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* At most want entries from page on. Their number, or a negative errno. */
static ssize_t read_entries(int fd, uint64_t page, uint64_t *entries, size_t want)
{
	ssize_t n = pread(fd, entries, want * sizeof(*entries), (off_t)(page * sizeof(*entries)));

	if (n < 0)
		return -errno;
	return n < (ssize_t)sizeof(*entries) ? -ESRCH : n / (ssize_t)sizeof(*entries);
}

/* The frame of the zero page, as our own pagemap shows it; 0: not shown. */
static uint64_t zero_frame(void)
{
	static uint64_t frame = UINT64_MAX;
	uint64_t entry = 0;
	int fd;

	if (frame != UINT64_MAX)
		return frame;
	fd = pagemap_open(getpid());
	if (fd >= 0) {
		const volatile uint8_t *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (page != MAP_FAILED && page[0] == 0 && read_entries(fd, (uint64_t)(uintptr_t)page / PAGE, &entry, 1) < 0)
			entry = 0;
		if (page != MAP_FAILED)
			munmap((void *)(uintptr_t)page, PAGE);
		close(fd);
	}
	frame = entry & FRAME_MASK;
	return frame;
}

static int walk_read(int fd, uint64_t page, uint64_t last, enum ask ask, range_fn fn, void *ctx)
{
	uint64_t entries[BATCH], zero = ask == ASK_RESIDENT ? zero_frame() : 0;

	while (page < last) {
		ssize_t n = read_entries(fd, page, entries, last - page < BATCH ? (size_t)(last - page) : BATCH);

		if (n < 0)
			return (int)n;
		for (ssize_t i = 0; i < n; i++) {
			bool is_zero = zero && (entries[i] & FRAME_MASK) == zero;
			bool hit = ask == ASK_THERE ? entries[i] & THERE : (entries[i] & RESIDENT) && !is_zero;

			if (hit)
				fn(ctx, (page + (uint64_t)i) * PAGE, (page + (uint64_t)i + 1) * PAGE);
		}
		page += (uint64_t)n;
	}
	return 0;
}

static int walk_scan(int fd, uint64_t start, uint64_t end, enum ask ask, range_fn fn, void *ctx)
{
	struct scan_region regions[BATCH / 8];
	uint64_t entry;
	ssize_t n;

	/* The scan finds nothing, and no fault, in an address space that is gone. */
	n = read_entries(fd, start / PAGE, &entry, 1);
	while (n >= 0 && start < end) {
		struct scan_arg arg = {
			.size = sizeof(arg), .start = start, .end = end, .vec = (uintptr_t)regions,
			.vec_len = sizeof(regions) / sizeof(regions[0]), .return_mask = SCAN_PRESENT,
		};

		if (ask == ASK_RESIDENT) {
			arg.category_inverted = SCAN_ZERO;
			arg.category_mask = SCAN_PRESENT | SCAN_ZERO;
		} else {
			arg.category_anyof_mask = arg.return_mask = SCAN_PRESENT | SCAN_SWAPPED;
		}
		n = ioctl(fd, SCAN_IOCTL, &arg);
		if (n < 0)
			return -errno;
		for (ssize_t i = 0; i < n; i++)
			fn(ctx, regions[i].start, regions[i].end);
		if (arg.walk_end <= start)
			return -EIO;
		start = arg.walk_end;
	}
	return n < 0 ? (int)n : 0;
}

/* start and end are whole pages. scan_from: bytes from which the scan is tried first. */
static int walk(int fd, uint64_t start, uint64_t end, enum ask ask, uint64_t scan_from, range_fn fn, void *ctx)
{
	static bool no_scan;

	if (end - start >= scan_from && !no_scan) {
		int r = walk_scan(fd, start, end, ask, fn, ctx);

		/* refused at the first call, before fn was called */
		if (r != -ENOTTY && r != -EINVAL)
			return r;
		no_scan = r == -ENOTTY;
	}
	return end - start > READ_MAX ? -E2BIG : walk_read(fd, start / PAGE, end / PAGE, ask, fn, ctx);
}

/* A range_fn. */
static void add_bytes(void *ctx, uint64_t start, uint64_t end)
{
	*(uint64_t *)ctx += end - start;
}

int pagemap_count(int fd, uint64_t start, uint64_t end, uint64_t *ret_bytes)
{
	uint64_t bytes = 0;
	int r;

	if (start > end || end > ADDRESS_MAX)
		return -EINVAL;
	r = walk(fd, start & ~(PAGE - 1), (end + PAGE - 1) & ~(PAGE - 1), ASK_THERE, SCAN_FROM, add_bytes, &bytes);
	if (r == 0)
		*ret_bytes = bytes;
	return r;
}

int pagemap_resident_count(int fd, uint64_t start, uint64_t end, uint64_t *ret_bytes)
{
	uint64_t bytes = 0;
	int r;

	if (start > end || end > ADDRESS_MAX || start % PAGE || end % PAGE)
		return -EINVAL;
	r = walk(fd, start, end, ASK_RESIDENT, 0, add_bytes, &bytes);
	if (r == 0)
		*ret_bytes = bytes;
	return r;
}

struct bitmap {
	uint64_t start, *bits;
};

/* A range_fn. */
static void set_bits(void *ctx, uint64_t start, uint64_t end)
{
	const struct bitmap *map = ctx;

	for (uint64_t page = (start - map->start) / PAGE, last = (end - map->start) / PAGE; page < last; page++)
		map->bits[page / 64] |= 1ull << (page % 64);
}

int pagemap_resident(int fd, uint64_t start, uint64_t end, uint64_t *ret_bits)
{
	struct bitmap map = { start, ret_bits };

	if (start > end || end > ADDRESS_MAX || start % PAGE || end % PAGE || end - start > READ_MAX)
		return -EINVAL;
	memset(ret_bits, 0, (size_t)((end - start) / PAGE + 63) / 64 * sizeof(*ret_bits));
	return walk(fd, start, end, ASK_RESIDENT, 0, set_bits, &map);
}
