/* SPDX-License-Identifier: MIT */
/*
 * A dummy event a processor, whose only purpose is the record that perf makes of each executable mapping. Limits: an interpreter in a
 * library that is not called libpython is not noticed, nor is a processor that comes on line later.
 */
#include "trace/finder_mappings.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

struct finder_mappings {
	struct perf_buffer *buffer;
	finder_mapped_fn on_mapped;
	void *ctx;
	uint64_t lost;
};

/* PERF_RECORD_MMAP of an event that samples nothing: include/uapi/linux/perf_event.h. The name is padded with NULs. */
struct mmap_record {
	struct perf_event_header header;
	uint32_t pid, tid;
	uint64_t addr, len, pgoff;
	char name[];
};

struct lost_record {
	struct perf_event_header header;
	uint64_t id, lost;
};

static enum bpf_perf_event_ret on_record(void *ctx, int cpu, struct perf_event_header *header)
{
	static const char wanted[] = "libpython";
	const struct mmap_record *mapped = (const void *)header;
	const struct lost_record *lost = (const void *)header;
	struct finder_mappings *m = ctx;

	(void)cpu;
	if (header->type == PERF_RECORD_LOST && header->size >= sizeof(*lost))
		m->lost += lost->lost;
	if (header->type != PERF_RECORD_MMAP || header->size <= sizeof(*mapped))
		return LIBBPF_PERF_EVENT_CONT;
	/* 0 and -1: a task that this PID namespace does not have, or no longer. */
	if ((int32_t)mapped->pid > 0 && memmem(mapped->name, header->size - sizeof(*mapped), wanted, sizeof(wanted) - 1))
		m->on_mapped(m->ctx, (pid_t)mapped->pid);
	return LIBBPF_PERF_EVENT_CONT;
}

int finder_mappings_new(int map_fd, uint32_t pages, bool at_once, finder_mapped_fn on_mapped, void *ctx, struct finder_mappings **ret_mappings)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_DUMMY,
		.mmap = 1,
		.watermark = 1,
		.wakeup_watermark = at_once ? 1 : pages * (uint32_t)sysconf(_SC_PAGESIZE) / 2,
	};
	_cleanup_(finder_mappings_freep) struct finder_mappings *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->on_mapped = on_mapped;
	m->ctx = ctx;
	m->buffer = perf_buffer__new_raw(map_fd, pages, &attr, on_record, m, NULL);
	if (!m->buffer)
		return -errno;
	*ret_mappings = take_ptr(m);
	return 0;
}

void finder_mappings_free(struct finder_mappings *mappings)
{
	if (!mappings)
		return;
	if (mappings->buffer)
		perf_buffer__free(mappings->buffer);
	free(mappings);
}

int finder_mappings_fd(const struct finder_mappings *mappings)
{
	return perf_buffer__epoll_fd(mappings->buffer);
}

int finder_mappings_read(struct finder_mappings *mappings)
{
	return perf_buffer__consume(mappings->buffer);
}

uint64_t finder_mappings_lost(const struct finder_mappings *mappings)
{
	return mappings->lost;
}
