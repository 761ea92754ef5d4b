/* SPDX-License-Identifier: MIT */
/*
 * leaksnoop.report/1. Keys stand in the order of the contract, all of them in
 * every report: what is not known is null. Fields beyond the first contract:
 * window.group_by, window.overhead_ratio, coverage.losses, more, and of a finding age_seconds,
 * delta_bytes, delta_blocks and truncated.
 *
 *     {"schema": "leaksnoop.report/1", "target": {"pid": 4242, "python": "3.11.2", ...}, "window": {...}, ...}
 *
 * Memory: set() takes every value; a failure sticks in the builder and is
 * reported once, at the end.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/fmt.h"
#include "report/report.h"
#include "report/write.h"

struct builder {
	bool failed;   /* out of memory at some point */
};

/* Steals value. object and value may be NULL after a failure. */
static void set(struct builder *b, json_t *object, const char *key, json_t *value)
{
	if (json_object_set_new(object, key, value) < 0)
		b->failed = true;
}

static void push(struct builder *b, json_t *array, json_t *value)
{
	if (json_array_append_new(array, value) < 0)
		b->failed = true;
}

/* REPORT_UNKNOWN, and what no JSON reader could hold, are null. */
static json_t *number(uint64_t n)
{
	return n > INT64_MAX ? json_null() : json_integer((json_int_t)n);
}

static json_t *real(double x)
{
	return isfinite(x) ? json_real(x) : json_null();
}

static json_t *address(uint64_t a)
{
	char hex[24];

	snprintf(hex, sizeof(hex), "0x%llx", (unsigned long long)a);
	return json_string(hex);
}

static json_t *texts(struct builder *b, const char *const *strv)
{
	json_t *array = json_array();

	for (size_t i = 0; strv && strv[i]; i++)
		push(b, array, json_text(strv[i]));
	return array;
}

static json_t *target_json(struct builder *b, const struct report_target *target)
{
	json_t *object = json_object();

	set(b, object, "pid", json_integer(target->pid));
	set(b, object, "python", json_text(target->python));
	set(b, object, "cmdline", target->cmdline ? texts(b, target->cmdline) : json_null());
	set(b, object, "container", json_text(target->container));
	return object;
}

static json_t *window_json(struct builder *b, const struct report *report)
{
	struct fmt_text start = fmt_time(report->start);
	json_t *object = json_object();

	set(b, object, "start", report->start.tv_sec ? json_text(start.s) : json_null());
	set(b, object, "seconds", real(report->seconds));
	set(b, object, "mode", json_text(report->mode));
	set(b, object, "armed_seconds", real(report->armed_seconds));
	set(b, object, "overhead_ratio", real(report->overhead_ratio));
	set(b, object, "group_by", json_text(report->group_by));
	return object;
}

static json_t *losses_json(struct builder *b, const struct report_loss *losses, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++) {
		json_t *object = json_object();

		set(b, object, "what", json_text(losses[i].what));
		set(b, object, "count", number(losses[i].count));
		set(b, object, "remedy", losses[i].remedy && *losses[i].remedy ? json_text(losses[i].remedy) : json_null());
		push(b, array, object);
	}
	return array;
}

static json_t *coverage_json(struct builder *b, const struct report *report)
{
	json_t *object = json_object();

	set(b, object, "seen", number(report->coverage.seen));
	set(b, object, "happened", number(report->coverage.happened));
	set(b, object, "ratio", real(report->coverage.ratio));
	set(b, object, "dropped", number(report->coverage.dropped));
	set(b, object, "unresolved_frames", number(report->coverage.unresolved_frames));
	set(b, object, "notes", texts(b, report->coverage.notes));
	set(b, object, "losses", losses_json(b, report->coverage.losses, report->coverage.n_losses));
	return object;
}

static json_t *memory_json(struct builder *b, const struct report_memory *memory)
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
	set(b, object, "rss_bytes", number(memory->rss_bytes));
	set(b, object, "pss_bytes", number(memory->pss_bytes));
	set(b, object, "growth_bytes_per_second", real(memory->growth_bytes_per_second));
	set(b, object, "explained_ratio", real(memory->explained_ratio));
	parts = memory->has_parts ? json_array() : json_null();
	for (size_t i = 0; memory->has_parts && i < MEMORY_PART_COUNT; i++) {
		json_t *part = json_object();

		set(b, part, "name", json_string(names[i]));
		set(b, part, "bytes", number(memory->part[i].bytes));
		set(b, part, "growth_bytes_per_second", real(memory->part[i].growth_bytes_per_second));
		push(b, parts, part);
	}
	set(b, object, "parts", parts);
	return object;
}

json_t *report_memory_json(const struct report_memory *memory)
{
	struct builder b = { 0 };
	json_t *object = memory_json(&b, memory);

	if (!b.failed)
		return object;
	json_decref(object);
	return NULL;
}

static json_t *verdict_json(struct builder *b, const struct report_verdict *verdict)
{
	static const char *const kinds[] = {
#define X(id, name) name,
		VERDICT_KINDS(X)
#undef X
	};
	json_t *object;

	if (!verdict)
		return json_null();
	object = json_object();
	set(b, object, "kind", json_string(kinds[verdict->kind]));
	set(b, object, "confidence", real(verdict->confidence));
	set(b, object, "why", json_text(verdict->why));
	return object;
}

static json_t *estimate_json(struct builder *b, const struct report_estimate *estimate)
{
	json_t *object = json_object();

	set(b, object, "estimate", real(estimate->estimate));
	set(b, object, "low", real(estimate->low));
	set(b, object, "high", real(estimate->high));
	return object;
}

static json_t *frame_json(struct builder *b, const struct report_frame *frame)
{
	json_t *object = json_object();

	set(b, object, "file", json_text(frame->file));
	set(b, object, "line", frame->line > 0 ? json_integer(frame->line) : json_null());
	set(b, object, "function", json_text(frame->function));
	set(b, object, "language", json_string(frame->native ? "native" : "python"));
	return object;
}

static json_t *traceback_json(struct builder *b, const struct report_frame *frames, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		push(b, array, frame_json(b, &frames[i]));
	return array;
}

static json_t *types_json(struct builder *b, const struct report_type *types, size_t n)
{
	json_t *array;

	if (!types)
		return json_null();
	array = json_array();
	for (size_t i = 0; i < n; i++) {
		json_t *object = json_object();

		set(b, object, "name", json_text(types[i].name));
		set(b, object, "count", number(types[i].count));
		set(b, object, "bytes", number(types[i].bytes));
		push(b, array, object);
	}
	return array;
}

static json_t *holder_json(struct builder *b, const struct report_holder *holder)
{
	json_t *object, *steps;

	if (!holder)
		return json_null();
	object = json_object();
	steps = json_array();
	set(b, object, "path", json_text(holder->path));
	set(b, object, "type", json_text(holder->type));
	set(b, object, "length", number(holder->length));
	set(b, object, "growth_per_second", real(holder->growth_per_second));
	for (size_t i = 0; i < holder->n_steps; i++) {
		json_t *step = json_object();

		set(b, step, "type", json_text(holder->steps[i].type));
		set(b, step, "name", json_text(holder->steps[i].name));
		set(b, step, "address", address(holder->steps[i].address));
		push(b, steps, step);
	}
	set(b, object, "steps", steps);
	return object;
}

static json_t *survival_json(struct builder *b, const struct report_finding *finding)
{
	json_t *array;

	if (!finding->survival)
		return json_null();
	array = json_array();
	for (size_t i = 0; i < finding->n_survival; i++) {
		json_t *object = json_object();

		set(b, object, "age_seconds", real(finding->survival[i].age_seconds));
		set(b, object, "alive", real(finding->survival[i].alive));
		push(b, array, object);
	}
	return array;
}

static json_t *finding_json(struct builder *b, const struct report_finding *finding, size_t rank)
{
	static const char *const kinds[] = {
#define X(name) #name,
		FINDING_KINDS(X)
#undef X
	};
	json_t *object = json_object();

	set(b, object, "rank", number(rank));
	set(b, object, "kind", json_string(kinds[finding->kind]));
	set(b, object, "confidence", real(finding->confidence));
	set(b, object, "bytes_per_second", estimate_json(b, &finding->bytes_per_second));
	set(b, object, "blocks_per_second", estimate_json(b, &finding->blocks_per_second));
	set(b, object, "allocations_per_second", real(finding->allocations_per_second));
	set(b, object, "survival", survival_json(b, finding));
	set(b, object, "live_bytes", number(finding->live_bytes));
	set(b, object, "live_blocks", number(finding->live_blocks));
	set(b, object, "delta_bytes", json_integer(finding->delta_bytes));
	set(b, object, "delta_blocks", json_integer(finding->delta_blocks));
	set(b, object, "age_seconds", real(finding->age_seconds));
	set(b, object, "first_hand", finding->first_hand < 0 ? json_null() : json_boolean(finding->first_hand));
	if (finding->likelier)
		set(b, object, "likelier_source", frame_json(b, finding->likelier));
	set(b, object, "traceback", traceback_json(b, finding->traceback, finding->n_traceback));
	set(b, object, "truncated", json_boolean(finding->truncated));
	set(b, object, "types", types_json(b, finding->types, finding->n_types));
	set(b, object, "holder", holder_json(b, finding->holder));
	return object;
}

static json_t *report_object(struct builder *b, const struct report *report)
{
	json_t *object = json_object(), *findings = json_array(), *more = json_object();

	set(b, object, "schema", json_string("leaksnoop.report/1"));
	set(b, object, "target", target_json(b, &report->target));
	set(b, object, "window", window_json(b, report));
	set(b, object, "coverage", coverage_json(b, report));
	set(b, object, "memory", memory_json(b, report->memory));
	set(b, object, "verdict", verdict_json(b, report->verdict));
	for (size_t i = 0; i < report->n_findings; i++)
		push(b, findings, finding_json(b, &report->findings[i], i + 1));
	set(b, object, "findings", findings);
	set(b, more, "findings", number(report->n_findings_more));
	set(b, more, "live_bytes", number(report->more_bytes));
	set(b, object, "more", more);
	return object;
}

static int json_write(const struct report *report, const struct report_style *style, FILE *file)
{
	struct builder b = { 0 };
	_cleanup_(json_decrefp) json_t *object = report_object(&b, report);

	if (!object || b.failed)
		return -ENOMEM;
	return write_json(object, style->pretty, file);
}

const struct report_writer report_json = {
	.name = "json",
	.summary = "one object a report (schema leaksnoop.report/1)",
	.write = json_write,
};
