/* SPDX-License-Identifier: MIT */
/*
 * From JSON back to the model. Lists are bounded (LIST_MAX), strings are borrowed, memory of lists is one chain of blocks that goes with the
 * report.
 */
#include "report/parse.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define LIST_MAX 256

struct block {
	struct block *next;
	max_align_t data[];
};

struct parsed_report {
	struct report report;
	struct report_memory memory;
	struct report_verdict verdict;
	struct block *blocks;
	bool failed;
};

/* count zeroed items; NULL for none, or when there is no memory (which sticks). */
static void *items(struct parsed_report *p, size_t count, size_t size)
{
	struct block *block = count ? calloc(1, sizeof(*block) + count * size) : NULL;

	if (!block) {
		p->failed |= count > 0;
		return NULL;
	}
	block->next = p->blocks;
	p->blocks = block;
	return block->data;
}

static const char *text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static uint64_t number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return json_is_integer(value) && json_integer_value(value) >= 0 ? (uint64_t)json_integer_value(value) : REPORT_UNKNOWN;
}

static double real(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return json_is_number(value) ? json_number_value(value) : NAN;
}

static size_t length(const json_t *array)
{
	size_t n = json_array_size(array);

	return n < LIST_MAX ? n : LIST_MAX;
}

/* The strings of an array, NULL-terminated; NULL if it is none. */
static const char *const *texts(struct parsed_report *p, const json_t *array)
{
	const char **strv = json_is_array(array) ? items(p, length(array) + 1, sizeof(*strv)) : NULL;
	size_t n = 0;

	for (size_t i = 0; strv && i < length(array); i++)
		if (json_is_string(json_array_get(array, i)))
			strv[n++] = json_string_value(json_array_get(array, i));
	return strv;
}

static struct report_estimate estimate(const json_t *object)
{
	return (struct report_estimate){ real(object, "estimate"), real(object, "low"), real(object, "high") };
}

static struct report_frame frame(const json_t *object)
{
	uint64_t line = number(object, "line");
	const char *language = text(object, "language");

	return (struct report_frame){
		.file = text(object, "file"), .function = text(object, "function"), .line = line <= INT32_MAX ? (int)line : 0,
		.native = language && !strcmp(language, "native"),
	};
}

static void parse_traceback(struct parsed_report *p, struct report_finding *f, const json_t *array)
{
	struct report_frame *frames = items(p, length(array), sizeof(*frames));

	for (size_t i = 0; frames && i < length(array); i++)
		frames[i] = frame(json_array_get(array, i));
	f->traceback = frames;
	f->n_traceback = frames ? length(array) : 0;
}

static void parse_types(struct parsed_report *p, struct report_finding *f, const json_t *array)
{
	struct report_type *types = items(p, length(array), sizeof(*types));

	for (size_t i = 0; types && i < length(array); i++) {
		const json_t *type = json_array_get(array, i);

		types[i] = (struct report_type){ text(type, "name"), number(type, "count"), number(type, "bytes") };
	}
	f->types = types;
	f->n_types = types ? length(array) : 0;
}

static const struct report_holder *parse_holder(struct parsed_report *p, const json_t *object)
{
	struct report_holder *holder = json_is_object(object) ? items(p, 1, sizeof(*holder)) : NULL;

	if (holder)
		*holder = (struct report_holder){ .path = text(object, "path"), .type = text(object, "type"), .length = number(object, "length"),
						  .growth_per_second = real(object, "growth_per_second") };
	return holder;
}

static enum finding_kind finding_kind(const char *kind)
{
	for (size_t i = 0; kind && i < FINDING_KIND_COUNT; i++)
		if (!strcmp(kind, finding_kind_name((enum finding_kind)i)))
			return (enum finding_kind)i;
	return FINDING_python;
}

static int64_t difference(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static void parse_finding(struct parsed_report *p, struct report_finding *f, const json_t *object)
{
	const json_t *first_hand = json_object_get(object, "first_hand"), *likelier = json_object_get(object, "likelier_source");

	*f = (struct report_finding){
		.kind = finding_kind(text(object, "kind")), .confidence = real(object, "confidence"),
		.bytes_per_second = estimate(json_object_get(object, "bytes_per_second")),
		.blocks_per_second = estimate(json_object_get(object, "blocks_per_second")),
		.allocations_per_second = real(object, "allocations_per_second"),
		.live_bytes = number(object, "live_bytes"), .live_blocks = number(object, "live_blocks"),
		.delta_bytes = difference(object, "delta_bytes"), .delta_blocks = difference(object, "delta_blocks"),
		.age_seconds = real(object, "age_seconds"), .first_hand = json_is_boolean(first_hand) ? json_is_true(first_hand) : -1,
		.truncated = json_is_true(json_object_get(object, "truncated")), .holder = parse_holder(p, json_object_get(object, "holder")),
	};
	parse_traceback(p, f, json_object_get(object, "traceback"));
	parse_types(p, f, json_object_get(object, "types"));
	if (json_is_object(likelier)) {
		struct report_frame *source = items(p, 1, sizeof(*source));

		if (source)
			*source = frame(likelier);
		f->likelier = source;
	}
}

static void parse_findings(struct parsed_report *p, const json_t *json)
{
	const json_t *array = json_object_get(json, "findings"), *more = json_object_get(json, "more");
	struct report_finding *findings = items(p, length(array), sizeof(*findings));
	uint64_t left_out = number(more, "findings");

	for (size_t i = 0; findings && i < length(array); i++)
		parse_finding(p, &findings[i], json_array_get(array, i));
	p->report.findings = findings;
	p->report.n_findings = findings ? length(array) : 0;
	p->report.n_findings_more = left_out == REPORT_UNKNOWN ? 0 : left_out;
	p->report.more_bytes = number(more, "live_bytes");
}

static void parse_memory(struct parsed_report *p, const json_t *object)
{
	static const char *const names[] = {
#define X(id, name) name,
		MEMORY_PARTS(X)
#undef X
	};
	const json_t *parts = json_object_get(object, "parts");

	if (!json_is_object(object))
		return;
	p->memory = (struct report_memory){
		.rss_bytes = number(object, "rss_bytes"), .pss_bytes = number(object, "pss_bytes"), .has_parts = json_is_array(parts),
		.growth_bytes_per_second = real(object, "growth_bytes_per_second"), .explained_ratio = real(object, "explained_ratio"),
	};
	for (size_t i = 0; i < MEMORY_PART_COUNT; i++) {
		p->memory.part[i].bytes = REPORT_UNKNOWN;
		p->memory.part[i].growth_bytes_per_second = NAN;
		for (size_t k = 0; k < length(parts); k++) {
			const json_t *part = json_array_get(parts, k);
			const char *name = text(part, "name");

			if (!name || strcmp(name, names[i]) != 0)
				continue;
			p->memory.part[i].bytes = number(part, "bytes");
			p->memory.part[i].growth_bytes_per_second = real(part, "growth_bytes_per_second");
		}
	}
	p->report.memory = &p->memory;
}

static void parse_verdict(struct parsed_report *p, const json_t *object)
{
	const char *kind = text(object, "kind");

	for (size_t i = 0; kind && i < VERDICT_KIND_COUNT; i++) {
		if (strcmp(kind, verdict_name((enum verdict_kind)i)) != 0)
			continue;
		p->verdict = (struct report_verdict){ (enum verdict_kind)i, real(object, "confidence"), text(object, "why") };
		p->report.verdict = &p->verdict;
	}
}

static void parse_coverage(struct parsed_report *p, const json_t *object)
{
	const json_t *array = json_object_get(object, "losses");
	struct report_loss *losses = items(p, length(array), sizeof(*losses));

	p->report.coverage.seen = number(object, "seen");
	p->report.coverage.happened = number(object, "happened");
	p->report.coverage.dropped = number(object, "dropped");
	p->report.coverage.unresolved_frames = number(object, "unresolved_frames");
	p->report.coverage.ratio = real(object, "ratio");
	p->report.coverage.notes = texts(p, json_object_get(object, "notes"));
	for (size_t i = 0; losses && i < length(array); i++) {
		const json_t *loss = json_array_get(array, i);

		losses[i] = (struct report_loss){ text(loss, "what"), text(loss, "remedy"), number(loss, "count") };
	}
	p->report.coverage.losses = losses;
	p->report.coverage.n_losses = losses ? length(array) : 0;
}

static void parse_head(struct parsed_report *p, const json_t *json)
{
	const json_t *target = json_object_get(json, "target"), *window = json_object_get(json, "window");
	uint64_t pid = number(target, "pid");

	p->report.target = (struct report_target){
		.pid = pid <= INT32_MAX ? (pid_t)pid : 0, .python = text(target, "python"), .container = text(target, "container"),
		.cmdline = texts(p, json_object_get(target, "cmdline")),
	};
	p->report.seconds = real(window, "seconds");
	p->report.mode = text(window, "mode");
	p->report.armed_seconds = real(window, "armed_seconds");
	p->report.overhead_ratio = real(window, "overhead_ratio");
	p->report.group_by = text(window, "group_by");
}

int report_parse(const json_t *json, struct parsed_report **ret_parsed)
{
	_cleanup_(parsed_report_freep) struct parsed_report *p = NULL;
	const char *schema = text(json, "schema");

	if (!schema || strcmp(schema, "leaksnoop.report/1") != 0)
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	parse_head(p, json);
	parse_coverage(p, json_object_get(json, "coverage"));
	parse_memory(p, json_object_get(json, "memory"));
	parse_verdict(p, json_object_get(json, "verdict"));
	parse_findings(p, json);
	if (p->failed)
		return -ENOMEM;
	*ret_parsed = take_ptr(p);
	return 0;
}

void parsed_report_free(struct parsed_report *p)
{
	if (!p)
		return;
	while (p->blocks) {
		struct block *block = p->blocks;

		p->blocks = block->next;
		free(block);
	}
	free(p);
}

const struct report *parsed_report(const struct parsed_report *parsed)
{
	return &parsed->report;
}
