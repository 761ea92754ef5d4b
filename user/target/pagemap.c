/* SPDX-License-Identifier: MIT */
#include "target/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#define PAGE 4096ull
#define BATCH 1024
/* Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped. */
#define THERE (3ull << 62)

int pagemap_open(pid_t pid)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int pagemap_count(int fd, uint64_t start, uint64_t end, uint64_t *ret_bytes)
{
	uint64_t page = start / PAGE, last = (end + PAGE - 1) / PAGE, there = 0;
	uint64_t entries[BATCH];

	while (page < last) {
		size_t want = last - page < BATCH ? (size_t)(last - page) : BATCH;
		ssize_t n = pread(fd, entries, want * sizeof(entries[0]), (off_t)(page * sizeof(entries[0])));

		if (n < 0)
			return -errno;
		if (n < (ssize_t)sizeof(entries[0]))
			return -ESRCH;
		for (size_t i = 0; i < (size_t)n / sizeof(entries[0]); i++)
			there += (entries[i] & THERE) != 0;
		page += (uint64_t)n / sizeof(entries[0]);
	}
	*ret_bytes = there * PAGE;
	return 0;
}
