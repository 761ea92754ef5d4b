/* SPDX-License-Identifier: MIT */
/*
 * leaksnoop.report/1. Keys stand in the order of the contract, all of them in
 * every report: what is not known is null. Fields beyond the first contract:
 * window.group_by, window.overhead_ratio, coverage.losses, more, and of a finding age_seconds,
 * delta_bytes, delta_blocks and truncated.
 *
 *     {"schema": "leaksnoop.report/1", "target": {"pid": 4242, "python": "3.11.2", ...}, "window": {...}, ...}
 *
 * Memory: json_set() takes every value; a failure sticks in the builder and is
 * reported once, at the end.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/fmt.h"
#include "report/report.h"
#include "report/write.h"

static json_t *address(uint64_t a)
{
	char hex[24];

	snprintf(hex, sizeof(hex), "0x%llx", (unsigned long long)a);
	return json_string(hex);
}

static json_t *texts(struct json_builder *b, const char *const *strv)
{
	json_t *array = json_array();

	for (size_t i = 0; strv && strv[i]; i++)
		json_push(b, array, json_text(strv[i]));
	return array;
}

static json_t *target_json(struct json_builder *b, const struct report_target *target)
{
	json_t *object = json_object();

	json_set(b, object, "pid", json_integer(target->pid));
	json_set(b, object, "python", json_text(target->python));
	json_set(b, object, "cmdline", target->cmdline ? texts(b, target->cmdline) : json_null());
	json_set(b, object, "container", json_text(target->container));
	return object;
}

static json_t *window_json(struct json_builder *b, const struct report *report)
{
	struct fmt_text start = fmt_time(report->start);
	json_t *object = json_object();

	json_set(b, object, "start", report->start.tv_sec ? json_text(start.s) : json_null());
	json_set(b, object, "seconds", json_finite(report->seconds));
	json_set(b, object, "mode", json_text(report->mode));
	json_set(b, object, "armed_seconds", json_finite(report->armed_seconds));
	json_set(b, object, "overhead_ratio", json_finite(report->overhead_ratio));
	json_set(b, object, "group_by", json_text(report->group_by));
	return object;
}

static json_t *losses_json(struct json_builder *b, const struct report_loss *losses, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++) {
		json_t *object = json_object();

		json_set(b, object, "what", json_text(losses[i].what));
		json_set(b, object, "count", json_number(losses[i].count));
		json_set(b, object, "remedy", losses[i].remedy && *losses[i].remedy ? json_text(losses[i].remedy) : json_null());
		json_push(b, array, object);
	}
	return array;
}

static json_t *coverage_json(struct json_builder *b, const struct report *report)
{
	json_t *object = json_object();

	json_set(b, object, "seen", json_number(report->coverage.seen));
	json_set(b, object, "happened", json_number(report->coverage.happened));
	json_set(b, object, "ratio", json_finite(report->coverage.ratio));
	json_set(b, object, "dropped", json_number(report->coverage.dropped));
	json_set(b, object, "unresolved_frames", json_number(report->coverage.unresolved_frames));
	json_set(b, object, "notes", texts(b, report->coverage.notes));
	json_set(b, object, "losses", losses_json(b, report->coverage.losses, report->coverage.n_losses));
	return object;
}

static json_t *memory_json(struct json_builder *b, const struct report_memory *memory)
{
	static const char *const names[] = {
#define X(id, name) name,
		MEMORY_PARTS(X)
#undef X
	};
	json_t *object, *parts;

	if (!memory)
		return json_null();
	object = json_object();
	json_set(b, object, "rss_bytes", json_number(memory->rss_bytes));
	json_set(b, object, "pss_bytes", json_number(memory->pss_bytes));
	json_set(b, object, "growth_bytes_per_second", json_finite(memory->growth_bytes_per_second));
	json_set(b, object, "explained_ratio", json_finite(memory->explained_ratio));
	parts = memory->has_parts ? json_array() : json_null();
	for (size_t i = 0; memory->has_parts && i < MEMORY_PART_COUNT; i++) {
		json_t *part = json_object();

		json_set(b, part, "name", json_string(names[i]));
		json_set(b, part, "bytes", json_number(memory->part[i].bytes));
		json_set(b, part, "growth_bytes_per_second", json_finite(memory->part[i].growth_bytes_per_second));
		json_push(b, parts, part);
	}
	json_set(b, object, "parts", parts);
	return object;
}

json_t *report_memory_json(const struct report_memory *memory)
{
	struct json_builder b = { 0 };
	json_t *object = memory_json(&b, memory);

	if (!b.failed)
		return object;
	json_decref(object);
	return NULL;
}

static json_t *verdict_json(struct json_builder *b, const struct report_verdict *verdict)
{
	json_t *object;

	if (!verdict)
		return json_null();
	object = json_object();
	json_set(b, object, "kind", json_string(verdict_name(verdict->kind)));
	json_set(b, object, "confidence", json_finite(verdict->confidence));
	json_set(b, object, "why", json_text(verdict->why));
	return object;
}

static json_t *estimate_json(struct json_builder *b, const struct report_estimate *estimate)
{
	json_t *object = json_object();

	json_set(b, object, "estimate", json_finite(estimate->estimate));
	json_set(b, object, "low", json_finite(estimate->low));
	json_set(b, object, "high", json_finite(estimate->high));
	return object;
}

static json_t *frame_json(struct json_builder *b, const struct report_frame *frame)
{
	json_t *object = json_object();

	json_set(b, object, "file", json_text(frame->file));
	json_set(b, object, "line", frame->line > 0 ? json_integer(frame->line) : json_null());
	json_set(b, object, "function", json_text(frame->function));
	json_set(b, object, "language", json_string(frame->native ? "native" : "python"));
	return object;
}

static json_t *traceback_json(struct json_builder *b, const struct report_frame *frames, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		json_push(b, array, frame_json(b, &frames[i]));
	return array;
}

static json_t *types_json(struct json_builder *b, const struct report_type *types, size_t n)
{
	json_t *array;

	if (!types)
		return json_null();
	array = json_array();
	for (size_t i = 0; i < n; i++) {
		json_t *object = json_object();

		json_set(b, object, "name", json_text(types[i].name));
		json_set(b, object, "count", json_number(types[i].count));
		json_set(b, object, "bytes", json_number(types[i].bytes));
		json_push(b, array, object);
	}
	return array;
}

static json_t *holder_json(struct json_builder *b, const struct report_holder *holder)
{
	json_t *object, *steps;

	if (!holder)
		return json_null();
	object = json_object();
	steps = json_array();
	json_set(b, object, "path", json_text(holder->path));
	json_set(b, object, "type", json_text(holder->type));
	json_set(b, object, "length", json_number(holder->length));
	json_set(b, object, "growth_per_second", json_finite(holder->growth_per_second));
	for (size_t i = 0; i < holder->n_steps; i++) {
		json_t *step = json_object();

		json_set(b, step, "type", json_text(holder->steps[i].type));
		json_set(b, step, "name", json_text(holder->steps[i].name));
		json_set(b, step, "address", address(holder->steps[i].address));
		json_push(b, steps, step);
	}
	json_set(b, object, "steps", steps);
	return object;
}

static json_t *survival_json(struct json_builder *b, const struct report_finding *finding)
{
	json_t *array;

	if (!finding->survival)
		return json_null();
	array = json_array();
	for (size_t i = 0; i < finding->n_survival; i++) {
		json_t *object = json_object();

		json_set(b, object, "age_seconds", json_finite(finding->survival[i].age_seconds));
		json_set(b, object, "alive", json_finite(finding->survival[i].alive));
		json_push(b, array, object);
	}
	return array;
}

static json_t *finding_json(struct json_builder *b, const struct report_finding *finding, size_t rank)
{
	json_t *object = json_object();

	json_set(b, object, "rank", json_number(rank));
	json_set(b, object, "kind", json_string(finding_kind_name(finding->kind)));
	json_set(b, object, "confidence", json_finite(finding->confidence));
	json_set(b, object, "bytes_per_second", estimate_json(b, &finding->bytes_per_second));
	json_set(b, object, "blocks_per_second", estimate_json(b, &finding->blocks_per_second));
	json_set(b, object, "allocations_per_second", json_finite(finding->allocations_per_second));
	json_set(b, object, "survival", survival_json(b, finding));
	json_set(b, object, "live_bytes", json_number(finding->live_bytes));
	json_set(b, object, "live_blocks", json_number(finding->live_blocks));
	json_set(b, object, "delta_bytes", json_integer(finding->delta_bytes));
	json_set(b, object, "delta_blocks", json_integer(finding->delta_blocks));
	json_set(b, object, "age_seconds", json_finite(finding->age_seconds));
	json_set(b, object, "first_hand", finding->first_hand < 0 ? json_null() : json_boolean(finding->first_hand));
	if (finding->likelier)
		json_set(b, object, "likelier_source", frame_json(b, finding->likelier));
	json_set(b, object, "traceback", traceback_json(b, finding->traceback, finding->n_traceback));
	json_set(b, object, "truncated", json_boolean(finding->truncated));
	json_set(b, object, "types", types_json(b, finding->types, finding->n_types));
	json_set(b, object, "holder", holder_json(b, finding->holder));
	return object;
}

static json_t *report_object(struct json_builder *b, const struct report *report)
{
	json_t *object = json_object(), *findings = json_array(), *more = json_object();

	json_set(b, object, "schema", json_string("leaksnoop.report/1"));
	json_set(b, object, "target", target_json(b, &report->target));
	json_set(b, object, "window", window_json(b, report));
	json_set(b, object, "coverage", coverage_json(b, report));
	json_set(b, object, "memory", memory_json(b, report->memory));
	json_set(b, object, "verdict", verdict_json(b, report->verdict));
	for (size_t i = 0; i < report->n_findings; i++)
		json_push(b, findings, finding_json(b, &report->findings[i], i + 1));
	json_set(b, object, "findings", findings);
	json_set(b, more, "findings", json_number(report->n_findings_more));
	json_set(b, more, "live_bytes", json_number(report->more_bytes));
	json_set(b, object, "more", more);
	return object;
}

json_t *report_to_json(const struct report *report)
{
	struct json_builder b = { 0 };
	json_t *object = report_object(&b, report);

	if (!b.failed)
		return object;
	json_decref(object);
	return NULL;
}

static int json_write(const struct report *report, const struct report_style *style, FILE *file)
{
	_cleanup_(json_decrefp) json_t *object = report_to_json(report);

	if (!object)
		return -ENOMEM;
	return write_json(object, style->pretty, file);
}

const struct report_writer report_json = {
	.name = "json",
	.summary = "one object a report (schema leaksnoop.report/1)",
	.write = json_write,
};
