/* SPDX-License-Identifier: MIT */
/*
 * A window of RESIDENCY_WINDOW pages of the pagemap, aligned to its size, so
 * that small questions in a row cost one system call in thousands; large ones
 * go to the kernel as a range. Invariant: the window is of one moment. Limits:
 * the target maps and unmaps pages meanwhile.
 */
#include "heap/residency.h"

#include <errno.h>
#include <string.h>

#include "target/pagemap.h"

#define PAGE RESIDENCY_PAGE
#define WINDOW (RESIDENCY_WINDOW * PAGE)
#define RANGE_FROM (2 * WINDOW)   /* bytes: from here on the kernel counts */
#define ADDRESS_MAX (1ull << 47)

void residency_init(struct residency *residency, int fd)
{
	*residency = (struct residency){ .fd = fd };
}

void residency_forget(struct residency *residency)
{
	residency->start = 0;
}

static int load(struct residency *residency, uint64_t addr)
{
	uint64_t start = addr & ~(WINDOW - 1);
	int r;

	if (addr >= ADDRESS_MAX)
		return -EFAULT;
	if (residency->start == start && start)
		return 0;
	residency->start = 0;
	if (residency->fd < 0) {
		memset(residency->bits, 0xff, sizeof(residency->bits));
	} else {
		r = pagemap_resident(residency->fd, start, start + WINDOW, residency->bits);
		if (r < 0)
			return r;
	}
	residency->start = start;
	return 0;
}

static bool bit(const struct residency *residency, uint64_t addr)
{
	uint64_t page = (addr - residency->start) / PAGE;

	return residency->bits[page / 64] >> (page % 64) & 1;
}

int residency_at(struct residency *residency, uint64_t addr)
{
	int r = load(residency, addr);

	return r < 0 ? r : bit(residency, addr);
}

int residency_run(struct residency *residency, uint64_t addr, uint64_t limit, bool *ret_resident, uint64_t *ret_end)
{
	uint64_t at = addr & ~(PAGE - 1);
	bool first = false;

	for (; at < limit; at += PAGE) {
		int r = load(residency, at);

		if (r < 0)
			return r;
		if (at <= addr)
			first = bit(residency, at);
		else if (bit(residency, at) != first)
			break;
	}
	*ret_resident = first;
	*ret_end = at < limit ? at : limit;
	return 0;
}

/* Whole pages, by the window. */
static int count_pages(struct residency *residency, uint64_t start, uint64_t end, uint64_t *bytes)
{
	for (uint64_t at = start; at < end; at += PAGE) {
		int r = load(residency, at);

		if (r < 0)
			return r;
		if (bit(residency, at))
			*bytes += PAGE;
	}
	return 0;
}

int residency_bytes(struct residency *residency, uint64_t start, uint64_t end, uint64_t *ret_bytes)
{
	uint64_t first = (start + PAGE - 1) & ~(PAGE - 1), last = end & ~(PAGE - 1), bytes = 0, range = 0;
	int r = 0;

	if (start >= end) {
		*ret_bytes = 0;
		return 0;
	}
	if (first > last) {   /* within one page */
		r = residency_at(residency, start);
		*ret_bytes = r > 0 ? end - start : 0;
		return r < 0 ? r : 0;
	}
	if (start < first) {
		r = residency_at(residency, start);
		bytes += r > 0 ? first - start : 0;
	}
	if (r >= 0 && residency->fd >= 0 && last - first >= RANGE_FROM)
		r = pagemap_resident_count(residency->fd, first, last, &range);
	else if (r >= 0 && residency->fd < 0)
		range = last - first;
	else if (r >= 0)
		r = count_pages(residency, first, last, &range);
	if (r >= 0 && last < end) {
		r = residency_at(residency, last);
		bytes += r > 0 ? end - last : 0;
	}
	if (r < 0)
		return r;
	*ret_bytes = bytes + range;
	return 0;
}
