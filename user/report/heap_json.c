/* SPDX-License-Identifier: MIT */
/*
 * leaksnoop.heap/1. All keys stand in every report; deltas and rates are null where there is nothing to compare with. Fields beyond the first
 * contract: time, since, filter, more, target.host, rates per second, deltas of totals and non-objects, and of quality seconds, read_bytes and frozen_seconds.
 *
 *     {"schema": "leaksnoop.heap/1", "target": {"pid": 4242, ...}, "time": "...", "since": {"time": "...", "seconds": 10.0, ...}, "totals": {...},
 *      "types": [{"name": "app.Session", "count": 1204, "bytes": 231168, "owned_bytes": 134848, "delta_count": 12, "delta_bytes": 2304, ...}], ...}
 *
 * Memory: json_set() takes every value; a failure sticks and is reported once, at the end.
 */
#include <errno.h>
#include <math.h>

#include "base/fmt.h"
#include "report/heap.h"
#include "report/write.h"

struct builder {
	struct json_builder json;
	const struct comparison *comparison;
};

static json_t *delta(const struct builder *b, int64_t n)
{
	return b->comparison->has_deltas ? json_integer(n) : json_null();
}

static json_t *target_json(struct builder *b, const struct snapshot *snapshot)
{
	json_t *object = json_object(), *cmdline = snapshot->cmdline ? json_array() : json_null();

	for (char **arg = snapshot->cmdline; arg && *arg; arg++)
		json_push(&b->json, cmdline, json_text(*arg));
	json_set(&b->json, object, "pid", json_integer(snapshot->pid));
	json_set(&b->json, object, "python", json_text(snapshot->python));
	json_set(&b->json, object, "cmdline", cmdline);
	json_set(&b->json, object, "container", json_text(snapshot->container));
	json_set(&b->json, object, "host", json_text(snapshot->host));
	return object;
}

static json_t *quality_json(struct builder *b, const struct census *census, double frozen_seconds)
{
	json_t *object = json_object();

	json_set(&b->json, object, "retries", json_number(census->retries));
	json_set(&b->json, object, "refused", json_number(census->refused));
	json_set(&b->json, object, "small_only", json_boolean(census->small_only));
	json_set(&b->json, object, "seconds", json_finite(census->seconds));
	json_set(&b->json, object, "read_bytes", json_number(census->read_bytes));
	json_set(&b->json, object, "frozen_seconds", json_finite(frozen_seconds));
	return object;
}

static json_t *since_json(struct builder *b, const struct heap_report *report)
{
	json_t *object;

	if (!report->before)
		return json_null();
	object = json_object();
	json_set(&b->json, object, "time", json_text(fmt_time(report->before->wall).s));
	json_set(&b->json, object, "seconds", json_finite(report->comparison->seconds));
	json_set(&b->json, object, "target", target_json(b, report->before));
	json_set(&b->json, object, "quality", quality_json(b, report->before->census, NAN));
	return object;
}

static json_t *totals_json(struct builder *b)
{
	const struct comparison *c = b->comparison;
	json_t *object = json_object();

	json_set(&b->json, object, "objects", json_number(c->total.count));
	json_set(&b->json, object, "bytes", json_number(c->total.bytes));
	json_set(&b->json, object, "block_bytes", json_number(c->block_bytes));
	json_set(&b->json, object, "delta_objects", delta(b, c->total.delta_count));
	json_set(&b->json, object, "delta_bytes", delta(b, c->total.delta_bytes));
	json_set(&b->json, object, "delta_block_bytes", delta(b, c->delta_block_bytes));
	return object;
}

/* What a row of either list has behind its name. */
static void set_growth(struct builder *b, json_t *object, const struct comparison_row *row)
{
	json_set(&b->json, object, "delta_count", delta(b, row->delta_count));
	json_set(&b->json, object, "delta_bytes", delta(b, row->delta_bytes));
	json_set(&b->json, object, "count_per_second", json_finite(comparison_rate(b->comparison, row->delta_count)));
	json_set(&b->json, object, "bytes_per_second", json_finite(comparison_rate(b->comparison, row->delta_bytes)));
}

static json_t *type_json(struct builder *b, const struct comparison_row *row)
{
	json_t *object = json_object();

	json_set(&b->json, object, "name", json_text(row->name));
	json_set(&b->json, object, "count", json_number(row->count));
	json_set(&b->json, object, "bytes", json_number(row->bytes));
	json_set(&b->json, object, "owned_bytes", json_number(row->owned_bytes));
	set_growth(b, object, row);
	return object;
}

static json_t *non_objects_json(struct builder *b)
{
	json_t *array = json_array();

	for (int i = 0; i < CENSUS_NON_OBJECT_COUNT; i++) {
		const struct comparison_row *row = &b->comparison->non_objects[i];
		json_t *object = json_object();

		json_set(&b->json, object, "kind", json_text(row->name));
		json_set(&b->json, object, "count", json_number(row->count));
		json_set(&b->json, object, "bytes", json_number(row->bytes));
		set_growth(b, object, row);
		json_push(&b->json, array, object);
	}
	return array;
}

static json_t *more_json(struct builder *b, size_t shown)
{
	struct comparison_row rest = comparison_rest(b->comparison, shown);
	json_t *object = json_object();

	json_set(&b->json, object, "types", json_number(b->comparison->n_types - shown));
	json_set(&b->json, object, "count", json_number(rest.count));
	json_set(&b->json, object, "bytes", json_number(rest.bytes));
	json_set(&b->json, object, "delta_count", delta(b, rest.delta_count));
	json_set(&b->json, object, "delta_bytes", delta(b, rest.delta_bytes));
	return object;
}

static json_t *heap_object(struct builder *b, const struct heap_report *report)
{
	const struct comparison *c = report->comparison;
	size_t shown = report->top && report->top < c->n_types ? report->top : c->n_types;
	json_t *object = json_object(), *types = json_array();

	for (size_t i = 0; i < shown; i++)
		json_push(&b->json, types, type_json(b, &c->types[i]));
	json_set(&b->json, object, "schema", json_string("leaksnoop.heap/1"));
	json_set(&b->json, object, "target", target_json(b, report->now));
	json_set(&b->json, object, "time", json_text(fmt_time(report->now->wall).s));
	json_set(&b->json, object, "since", since_json(b, report));
	json_set(&b->json, object, "totals", totals_json(b));
	json_set(&b->json, object, "filter", json_text(report->type));
	json_set(&b->json, object, "types", types);
	json_set(&b->json, object, "more", more_json(b, shown));
	json_set(&b->json, object, "non_objects", non_objects_json(b));
	json_set(&b->json, object, "quality", quality_json(b, report->now->census, report->frozen_seconds));
	return object;
}

int heap_write_json(const struct heap_report *report, const struct report_style *style, FILE *file)
{
	struct builder b = { .comparison = report->comparison };
	_cleanup_(json_decrefp) json_t *object = heap_object(&b, report);

	if (!object || b.json.failed)
		return -ENOMEM;
	return write_json(object, style->pretty, file);
}
