/* SPDX-License-Identifier: MIT */
/*
 * The spine: any stream of records leaves tables whose sums agree. The input is
 * a row of [u16 length][record], fed as the ring would; then what is alive is
 * added up under every grouping.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline.h"

#define NOW_NS 1000000000ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The rest of a line table: sometimes gone, sometimes other bytes than the record's. */
static int fetch(void *ctx, uint32_t target, uint64_t addr, void *buf, size_t size)
{
	(void)ctx;
	(void)target;
	if (addr % 3 == 0)
		return -EFAULT;
	memset(buf, (int)(addr & 0xff), size);
	return 0;
}

static int resident(void *ctx, uint64_t start, uint64_t end, uint64_t *ret_bytes)
{
	(void)ctx;
	if (start >= end)
		abort();
	if (start & 0x1000)
		return -ESRCH;
	*ret_bytes = start & 0x2000 ? 0 : (end - start) / 2;
	return 0;
}

static int pool_alive(void *ctx, uint64_t addr, uint32_t size_class)
{
	(void)ctx;
	return (int)((addr >> 14) + size_class) % 2;
}

static void feed(struct pipeline *p, const uint8_t *data, size_t size)
{
	while (size >= 2) {
		size_t length = (size_t)(data[0] | data[1] << 8);
		void *record;

		data += 2;
		size -= 2;
		if (length > size)
			length = size;
		/* Exactly as large as it is said to be, so that a read beyond is seen. */
		record = malloc(length ? length : 1);
		memcpy(record, data, length);
		if (pipeline_on_event(p, record, length))
			abort();
		free(record);
		data += length;
		size -= length;
	}
}

static void check_stacks(const struct stacks *s)
{
	for (uint32_t i = 0; i < stacks_count(s); i++) {
		const struct stack *stack = stacks_get(s, i);

		for (uint32_t k = 0; k < stack->count; k++) {
			const struct frame *f = stacks_frame(s, stack->frames[k]);

			if (f->line < -1 || strlen(stacks_str(s, f->file)) > 4096 || strlen(stacks_str(s, f->function)) > 4096)
				abort();
		}
	}
}

static void check_growth(const struct growth *g)
{
	uint64_t bytes = growth_filtered_bytes(g);

	for (size_t i = 0; i < growth_count(g); i++) {
		const struct growth_group *group = growth_get(g, i);

		if (group->live_bytes > INT64_MAX || (i && group->live_bytes > growth_get(g, i - 1)->live_bytes))
			abort();
		if (__builtin_add_overflow(bytes, group->live_bytes, &bytes) || bytes > INT64_MAX)
			bytes = INT64_MAX;
	}
	if (bytes != growth_total_bytes(g))
		abort();
}

static void profile(struct pipeline *p, enum group_by by)
{
	static const char *const include[] = { "*a*", "?", NULL }, *const exclude[] = { "*[!x]z", NULL };
	const struct growth_options options = {
		.group_by = by, .include = by == GROUP_FILE ? include : NULL, .exclude = exclude,
		.min_age_ns = by == GROUP_TRACEBACK ? 1000 : 0,
	};
	const struct mappings_witness witness = { .resident = resident, .pool_alive = pool_alive };
	_cleanup_(growth_freep) struct growth *g = NULL;

	if (growth_new(pipeline_stacks(p), &options, &g))
		return;
	for (int round = 0; round < 2; round++) {
		growth_begin(g, NOW_NS);
		pipeline_add_ledger(p, g);
		pipeline_add_mappings(p, g, 0, round ? &witness : NULL);
		if (growth_end(g))
			abort();
		check_growth(g);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(pipeline_freep) struct pipeline *p = NULL;
	struct mappings *mappings = NULL;

	if (size < 1 || pipeline_new(fetch, NULL, NULL, &p) || mappings_new(0x1000000, data[0] & 1 ? 16384 : 0, &mappings) ||
	    pipeline_add_target(p, 0, 4242, (enum linetable_kind)(1 + (data[0] >> 1) % 3), mappings))
		return 0;
	feed(p, data + 1, size - 1);
	check_stacks(pipeline_stacks(p));
	for (int by = GROUP_LINE; by <= GROUP_TRACEBACK; by++)
		profile(p, (enum group_by)by);
	if (pipeline_malformed(p) > pipeline_events(p))
		abort();
	return 0;
}
