/* SPDX-License-Identifier: MIT */
/* Which pages of a process are there: /proc/PID/pagemap. Needs root to tell present from absent reliably only for other users' pages. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* A descriptor, or a negative errno. Belongs to the address space as of now: after an exec it reads nothing. */
int pagemap_open(pid_t pid);
/* Bytes of [start, end) that are in memory or in swap; bounds are widened to pages. -ESRCH when the address space is
 * gone; -EINVAL: no range; -E2BIG: over 64 GiB, on a kernel before 6.7. */
int pagemap_count(int fd, uint64_t start, uint64_t end, uint64_t *ret_bytes);

/*
 * The same for what is in memory, as RSS counts it: not in swap, and not the zero page that stands for what was only read. bits: one
 * for each page from start on, (pages + 63) / 64 words. start and end are whole pages.
 */
int pagemap_resident(int fd, uint64_t start, uint64_t end, uint64_t *ret_bits);
int pagemap_resident_count(int fd, uint64_t start, uint64_t end, uint64_t *ret_bytes);
