/* SPDX-License-Identifier: MIT */
/*
 * The census for people: whose heap, what is in it, largest (or fastest growing) first, then what is no object, then sums, and how well it
 * could be read.
 *
 *     PID 4242, Python 3.11.2: python3 app.py --port 80
 *     growth over 10.0 s
 *
 *       COUNT     BYTES     OWNED       %  +COUNT    +BYTES         RATE  TYPE
 *      10,240  12.3 MiB   1.2 MiB  61.2 %  +1,204  +1.4 MiB  +143 KiB/s  app.cache.Entry
 *     and 231 types more: 14,203 objects, 7.8 MiB, +1.2 KiB
 *
 *     blocks that are no objects (what an object owns is in its BYTES, too):
 *      COUNT     BYTES  +COUNT    +BYTES        RATE  KIND
 *      1,301   144 KiB      +0      +0 B     +0 B/s  dict keys
 *
 *     total: 24,443 objects, 20.1 MiB (+1,204, +1.4 MiB); all blocks in use: 21.0 MiB (+1.5 MiB)
 *     read: 21.0 MiB in 0.02 s; read again: 3 pools (changed meanwhile); refused: 0
 *
 * Names come from the target or a file: table.c and fmt_escape() make them harmless. With deltas only
 * what changed is shown; with a filter only objects, which have types.
 */
#include <jansson.h>
#include <math.h>

#include "base/fmt.h"
#include "report/heap.h"
#include "report/table.h"
#include "report/write.h"

#define LINE_COLUMNS 512        /* of a command line where there is no terminal */
#define NAME_COLUMNS 256        /* of a name in a sentence */
#define NARROW_COLUMNS 100      /* of a terminal too narrow for all columns */

static const struct column type_columns[] = {
	{ "count", "COUNT", CELL_COUNT }, { "bytes", "BYTES", CELL_SIZE }, { "owned", "OWNED", CELL_SIZE },
	{ "share", "%", CELL_PERCENT }, { "name", "TYPE", CELL_REST_TAIL }, { 0 }
};
static const struct column type_growth_columns[] = {
	{ "count", "COUNT", CELL_COUNT }, { "bytes", "BYTES", CELL_SIZE }, { "owned", "OWNED", CELL_SIZE },
	{ "share", "%", CELL_PERCENT }, { "delta_count", "+COUNT", CELL_COUNT_SIGNED }, { "delta_bytes", "+BYTES", CELL_SIZE_SIGNED },
	{ "rate", "RATE", CELL_RATE }, { "name", "TYPE", CELL_REST_TAIL }, { 0 }
};
static const struct column type_growth_narrow_columns[] = {
	{ "count", "COUNT", CELL_COUNT }, { "bytes", "BYTES", CELL_SIZE }, { "delta_count", "+COUNT", CELL_COUNT_SIGNED },
	{ "delta_bytes", "+BYTES", CELL_SIZE_SIGNED }, { "rate", "RATE", CELL_RATE }, { "name", "TYPE", CELL_REST_TAIL }, { 0 }
};
static const struct column kind_columns[] = {
	{ "count", "COUNT", CELL_COUNT }, { "bytes", "BYTES", CELL_SIZE }, { "name", "KIND", CELL_REST }, { 0 }
};
static const struct column kind_growth_columns[] = {
	{ "count", "COUNT", CELL_COUNT }, { "bytes", "BYTES", CELL_SIZE }, { "delta_count", "+COUNT", CELL_COUNT_SIGNED },
	{ "delta_bytes", "+BYTES", CELL_SIZE_SIGNED }, { "rate", "RATE", CELL_RATE }, { "name", "KIND", CELL_REST }, { 0 }
};

static void append_cmdline(struct strbuf *buf, char **argv, const struct report_style *style)
{
	_cleanup_(strbuf_free) struct strbuf line = STRBUF_INIT;

	for (char **arg = argv; arg && *arg; arg++)
		strbuf_appendf(&line, "%s%s", arg == argv ? "" : " ", *arg);
	fmt_escape(buf, line.len ? strbuf_str(&line) : NULL, style->width ? style->width : LINE_COLUMNS);
}

static void append_target(struct strbuf *buf, const struct snapshot *s, bool where, const struct report_style *style)
{
	strbuf_appendf(buf, "PID %d", (int)s->pid);
	if (where) {
		strbuf_append(buf, " on ");
		fmt_escape(buf, s->host, NAME_COLUMNS);
	}
	if (s->container) {
		strbuf_append(buf, ", container ");
		fmt_escape(buf, s->container, NAME_COLUMNS);
	}
	strbuf_append(buf, ", Python ");
	fmt_escape(buf, s->python, NAME_COLUMNS);
	if (where)
		strbuf_appendf(buf, ", %s", fmt_time(s->wall).s);
	strbuf_append(buf, ": ");
	append_cmdline(buf, s->cmdline, style);
	strbuf_append_c(buf, '\n');
}

static void append_head(struct strbuf *buf, const struct heap_report *report, const struct report_style *style)
{
	const struct comparison *c = report->comparison;

	append_target(buf, report->now, report->loaded, style);
	if (report->before && isfinite(c->seconds)) {
		strbuf_appendf(buf, "growth over %s", fmt_duration(c->seconds).s);
		strbuf_appendf(buf, report->loaded ? ", since %s\n" : "%s\n", report->loaded ? fmt_time(report->before->wall).s : "");
	} else if (report->before) {
		strbuf_append(buf, "compared with another process, ");
		append_target(buf, report->before, true, style);
	}
	if (report->type) {
		strbuf_appendf(buf, "%s types match ", fmt_count(c->n_types).s);
		fmt_escape(buf, report->type, NAME_COLUMNS);
		strbuf_append_c(buf, '\n');
	}
	strbuf_append_c(buf, '\n');
}

static json_t *row_json(const struct comparison *c, const struct comparison_row *row)
{
	double rate = comparison_rate(c, row->delta_bytes);

	return json_pack("{s:o, s:I, s:I, s:I, s:f, s:I, s:I, s:o}", "name", json_text(row->name), "count", (json_int_t)row->count, "bytes",
			 (json_int_t)row->bytes, "owned", (json_int_t)row->owned_bytes, "share",
			 c->total.bytes ? (double)row->bytes / (double)c->total.bytes : 0, "delta_count", (json_int_t)row->delta_count,
			 "delta_bytes", (json_int_t)row->delta_bytes, "rate", isfinite(rate) ? json_real(rate) : json_null());
}

static bool is_worth_a_row(const struct comparison *c, const struct comparison_row *row)
{
	return c->has_deltas ? row->delta_count || row->delta_bytes : row->count || row->bytes;
}

/* How many of the first types are shown. Those that stay the same stand between those that grow and those that shrink. */
static json_t *types_shown(const struct heap_report *report, size_t *ret_left_out, struct comparison_row *ret_rest)
{
	const struct comparison *c = report->comparison;
	json_t *rows = json_array();
	size_t shown = 0;

	*ret_rest = comparison_rest(c, 0);
	for (size_t i = 0; i < c->n_types && (!report->top || shown < report->top); i++) {
		const struct comparison_row *row = &c->types[i];

		if (!is_worth_a_row(c, row))
			continue;
		json_array_append_new(rows, row_json(c, row));
		ret_rest->count -= row->count;
		ret_rest->bytes -= row->bytes;
		ret_rest->delta_count -= row->delta_count;
		ret_rest->delta_bytes -= row->delta_bytes;
		shown++;
	}
	*ret_left_out = c->n_types - shown;
	return rows;
}

static void append_types(struct strbuf *buf, const struct heap_report *report, const struct report_style *style)
{
	const struct comparison *c = report->comparison;
	bool narrow = style->width && style->width < NARROW_COLUMNS;
	struct comparison_row rest;
	size_t left_out;
	json_t *rows = types_shown(report, &left_out, &rest);

	if (json_array_size(rows))
		table_append(buf, rows, !c->has_deltas ? type_columns : narrow ? type_growth_narrow_columns : type_growth_columns, style->width);
	else
		strbuf_append(buf, c->has_deltas ? "no type grew or shrank\n" : "no objects\n");
	json_decref(rows);
	if (!left_out)
		return;
	strbuf_appendf(buf, "and %s %s more: %s objects, %s", fmt_count(left_out).s, left_out == 1 ? "type" : "types", fmt_count(rest.count).s,
		       fmt_size(rest.bytes).s);
	if (c->has_deltas)
		strbuf_appendf(buf, ", %s, %s", fmt_count_signed(rest.delta_count).s, fmt_size_signed(rest.delta_bytes).s);
	strbuf_append_c(buf, '\n');
}

static void append_non_objects(struct strbuf *buf, const struct comparison *c, const struct report_style *style)
{
	json_t *rows = json_array();

	for (int i = 0; i < CENSUS_NON_OBJECT_COUNT; i++)
		if (is_worth_a_row(c, &c->non_objects[i]))
			json_array_append_new(rows, row_json(c, &c->non_objects[i]));
	if (json_array_size(rows)) {
		strbuf_append(buf, "\nblocks that are no objects (what an object owns is in its BYTES, too):\n");
		table_append(buf, rows, c->has_deltas ? kind_growth_columns : kind_columns, style->width);
	}
	json_decref(rows);
}

static void append_sums(struct strbuf *buf, const struct heap_report *report)
{
	const struct comparison *c = report->comparison;
	const struct census *census = report->now->census;

	strbuf_appendf(buf, "\ntotal: %s objects, %s", fmt_count(c->total.count).s, fmt_size(c->total.bytes).s);
	if (c->has_deltas)
		strbuf_appendf(buf, " (%s, %s)", fmt_count_signed(c->total.delta_count).s, fmt_size_signed(c->total.delta_bytes).s);
	strbuf_appendf(buf, "; all blocks in use: %s", fmt_size(c->block_bytes).s);
	if (c->has_deltas)
		strbuf_appendf(buf, " (%s)", fmt_size_signed(c->delta_block_bytes).s);
	strbuf_appendf(buf, "\nread: %s in %s; read again: %s pools%s; refused: %s%s", fmt_size(census->read_bytes).s,
		       fmt_duration(census->seconds).s, fmt_count(census->retries).s, census->retries ? " (changed meanwhile)" : "",
		       fmt_count(census->refused).s, census->refused ? " (made no sense three times; missing above)" : "");
	if (report->before && report->before->census->refused)
		strbuf_appendf(buf, "; refused before: %s", fmt_count(report->before->census->refused).s);
	strbuf_append_c(buf, '\n');
	if (census->small_only)
		strbuf_appendf(buf, "objects in blocks over 512 bytes are missing: the process does not run on glibc's malloc\n");
	if (isfinite(report->frozen_seconds))
		strbuf_appendf(buf, "the process stood still for %s\n", fmt_duration(report->frozen_seconds).s);
}

int heap_write_text(const struct heap_report *report, const struct report_style *style, FILE *file)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;

	append_head(&buf, report, style);
	append_types(&buf, report, style);
	if (!report->type)
		append_non_objects(&buf, report->comparison, style);
	append_sums(&buf, report);
	return write_strbuf(&buf, file);
}
