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
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PAGE 4096ull
#define BATCH 1024
#define SCAN_FROM (64ull << 20)      /* bytes: below, reading is as quick */
#define READ_MAX (64ull << 30)       /* bytes: 128 MiB of entries, about a second */
#define ADDRESS_MAX (1ull << 56)
/* Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped. */
#define THERE (3ull << 62)

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

static int count_read(int fd, uint64_t page, uint64_t last, uint64_t *ret_bytes)
{
	uint64_t entries[BATCH], there = 0;

	while (page < last) {
		ssize_t n = read_entries(fd, page, entries, last - page < BATCH ? (size_t)(last - page) : BATCH);

		if (n < 0)
			return (int)n;
		for (ssize_t i = 0; i < n; i++)
			there += (entries[i] & THERE) != 0;
		page += (uint64_t)n;
	}
	*ret_bytes = there * PAGE;
	return 0;
}

static int count_scan(int fd, uint64_t start, uint64_t end, uint64_t *ret_bytes)
{
	struct scan_region regions[BATCH / 8];
	uint64_t there = 0, entry;
	ssize_t n;

	/* The scan finds nothing, and no fault, in an address space that is gone. */
	n = read_entries(fd, start / PAGE, &entry, 1);
	while (n >= 0 && start < end) {
		struct scan_arg arg = {
			.size = sizeof(arg), .start = start, .end = end, .vec = (uintptr_t)regions,
			.vec_len = sizeof(regions) / sizeof(regions[0]),
			.category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED, .return_mask = SCAN_PRESENT | SCAN_SWAPPED,
		};

		n = ioctl(fd, SCAN_IOCTL, &arg);
		if (n < 0)
			return -errno;
		for (ssize_t i = 0; i < n; i++)
			there += regions[i].end - regions[i].start;
		if (arg.walk_end <= start)
			return -EIO;
		start = arg.walk_end;
	}
	if (n < 0)
		return (int)n;
	*ret_bytes = there;
	return 0;
}

int pagemap_count(int fd, uint64_t start, uint64_t end, uint64_t *ret_bytes)
{
	int r;

	if (start > end || end > ADDRESS_MAX)
		return -EINVAL;
	start &= ~(PAGE - 1);
	end = (end + PAGE - 1) & ~(PAGE - 1);
	if (end - start >= SCAN_FROM) {
		r = count_scan(fd, start, end, ret_bytes);
		if (r != -ENOTTY && r != -EINVAL)
			return r;
	}
	return end - start > READ_MAX ? -E2BIG : count_read(fd, start / PAGE, end / PAGE, ret_bytes);
}
