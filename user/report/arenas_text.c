/* SPDX-License-Identifier: MIT */
/*
 * The map of arenas for people:
 *
 *     PID 4242, Python 3.11.2: /usr/bin/python3 app.py
 *     64 arenas hold 64.0 MiB, 70 at the high-water mark; packed, 9 would do
 *       live                    8.1 MiB   12.7 %  in 90,411 blocks
 *       free in used pools     50.9 MiB   79.5 %
 *       ...
 *     fragmentation 0.87: ...
 *
 *       SIZE  POOLS  LIVE BLOCKS  FREE BLOCKS  OVERHEAD
 *         16      3          512        2,532     144 B
 *
 *     emptiest arenas, 10 of 64
 *     ARENA           USED  FREE  NEW  BLOCKS      LIVE  RATIO  HELD BY
 *     0x7f10a0000000     3    61    0      12   1.1 KiB  0.001  7 app.Session (64), 3 str (80), 2 no object (128)
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fmt.h"
#include "report/arenas.h"
#include "report/table.h"
#include "report/write.h"

#define TOP_DEFAULT 10u
#define PINS_SHOWN 8u

static const struct column class_columns[] = {
	{ "size", "SIZE", CELL_COUNT },
	{ "pools", "POOLS", CELL_COUNT },
	{ "live_blocks", "LIVE BLOCKS", CELL_COUNT },
	{ "live_bytes", "LIVE", CELL_SIZE },
	{ "free_blocks", "FREE BLOCKS", CELL_COUNT },
	{ "free_bytes", "FREE", CELL_SIZE },
	{ "overhead_bytes", "OVERHEAD", CELL_SIZE },
	{ 0 }
};

static const struct column arena_columns[] = {
	{ "address", "ARENA", CELL_TEXT },
	{ "interpreter", "INTERP", CELL_COUNT },
	{ "pools_used", "USED", CELL_COUNT },
	{ "pools_free", "FREE", CELL_COUNT },
	{ "pools_uncarved", "NEW", CELL_COUNT },
	{ "live_blocks", "BLOCKS", CELL_COUNT },
	{ "live_bytes", "LIVE", CELL_SIZE },
	{ "ratio", "RATIO", CELL_TEXT },
	{ "held_by", "HELD BY", CELL_REST },
	{ 0 }
};
#define ARENA_COLUMNS (sizeof(arena_columns) / sizeof(arena_columns[0]))

static void append_title(struct strbuf *buf, const json_t *target, unsigned width)
{
	_cleanup_(strbuf_free) struct strbuf command = STRBUF_INIT;
	const json_t *arg;
	size_t from = buf->len, i;

	strbuf_appendf(buf, "PID %lld, Python %s: ", (long long)json_integer_value(json_object_get(target, "pid")),
		       json_string_value(json_object_get(target, "python")));
	json_array_foreach(json_object_get(target, "cmdline"), i, arg)
		strbuf_appendf(&command, "%s%s", i ? " " : "", json_string_value(arg));
	fmt_escape(buf, strbuf_str(&command), width > buf->len - from + 8 ? width - (buf->len - from) : 0);
	strbuf_append_c(buf, '\n');
}

static void append_part(struct strbuf *buf, const char *name, uint64_t bytes, const struct arena_totals *t)
{
	strbuf_appendf(buf, "  %-20s %10s %6.1f %%", name, fmt_size(bytes).s,
		       t->arena_bytes ? 100.0 * (double)bytes / (double)t->arena_bytes : 0);
}

static void append_parts(struct strbuf *buf, const struct arena_totals *t)
{
	append_part(buf, "live", t->live_bytes, t);
	strbuf_appendf(buf, "  in %s blocks\n", fmt_count(t->live_blocks).s);
	append_part(buf, "free in used pools", t->free_in_used_pools_bytes, t);
	strbuf_appendf(buf, "  %s pools\n", fmt_count(t->pools_used).s);
	append_part(buf, "free pools", t->free_pools_bytes, t);
	strbuf_appendf(buf, "  %s pools\n", fmt_count(t->pools_free).s);
	append_part(buf, "never used", t->uncarved_bytes, t);
	strbuf_appendf(buf, "  %s pools\n", fmt_count(t->pools_uncarved).s);
	append_part(buf, "overhead", t->overhead_bytes, t);
	strbuf_append(buf, "  headers and ends of pools, alignment\n");
	if (t->refused_bytes) {
		append_part(buf, "unreadable", t->refused_bytes, t);
		strbuf_appendf(buf, "  %s pools\n", fmt_count(t->pools_refused).s);
	}
}

static const char *plural(uint64_t n, const char *one, const char *many)
{
	return n == 1 ? one : many;
}

static void append_totals(struct strbuf *buf, const struct arena_map *map)
{
	const struct arena_totals *t = &map->totals;

	strbuf_appendf(buf, "%s %s %s", fmt_count(t->arenas).s, plural(t->arenas, "arena holds", "arenas hold"), fmt_size(t->arena_bytes).s);
	if (t->arenas_highwater != UINT64_MAX)
		strbuf_appendf(buf, ", %s at the high-water mark", fmt_count(t->arenas_highwater).s);
	strbuf_appendf(buf, "; packed, %s would do\n", fmt_count(t->arenas_if_packed).s);
	append_parts(buf, t);
	strbuf_appendf(buf, "fragmentation %.2f", t->fragmentation);
	if (t->arenas_returnable)
		strbuf_appendf(buf, "; %s %s held by few blocks", fmt_count(t->arenas_returnable).s,
			       plural(t->arenas_returnable, "arena is", "arenas are"));
	strbuf_append(buf, "\n");
}

static void append_classes(struct strbuf *buf, const struct arena_map *map, unsigned width)
{
	_cleanup_(json_decrefp) json_t *rows = json_array();

	for (size_t i = 0; i < map->n_classes; i++) {
		const struct arena_class *class = &map->classes[i];
		json_t *row;

		if (!class->pools)
			continue;
		row = arenas_class_json(class);
		json_object_set_new(row, "live_bytes", json_integer((json_int_t)(class->live_blocks * class->size)));
		json_object_set_new(row, "free_bytes", json_integer((json_int_t)(class->free_blocks * class->size)));
		json_array_append_new(rows, row);
	}
	strbuf_append_c(buf, '\n');
	table_append(buf, rows, class_columns, width);
}

/* "7 app.Session (64), 3 str (80)". The type's name is made harmless by the table. */
static json_t *held_by(const struct arena_map *map, const struct arena_row *row)
{
	_cleanup_(strbuf_free) struct strbuf text = STRBUF_INIT;

	if (!row->returnable)
		return json_null();
	if (!row->live_blocks && !row->n_pins)
		return json_string("nothing (pymalloc keeps one in reserve)");
	for (size_t i = 0; i < row->n_pins && i < PINS_SHOWN; i++) {
		const struct arena_pin *pin = &map->pins[row->first_pin + i];

		strbuf_appendf(&text, "%s%u %s%s (%u)", i ? ", " : "", pin->count, pin->type ? pin->type : "no object",
			       pin->parked ? " on a free list" : "", pin->block_size);
	}
	if (row->n_pins > PINS_SHOWN)
		strbuf_append(&text, ", ...");
	if (row->pins_unread)
		strbuf_appendf(&text, "%s%u that could not be looked at", row->n_pins ? ", " : "", row->pins_unread);
	return json_text(strbuf_str(&text));
}

static void append_arenas(struct strbuf *buf, const struct arenas_report *report, unsigned width)
{
	_cleanup_(freep) const struct arena_row **order = arenas_emptiest(report->map);
	_cleanup_(json_decrefp) json_t *rows = json_array();
	size_t top = report->top ? report->top : TOP_DEFAULT, n = report->map->n_arenas;
	struct column columns[ARENA_COLUMNS];

	n = n < top ? n : top;
	for (size_t i = 0; order && i < n; i++) {
		json_t *row = arenas_row_json(report->map, order[i]);

		json_object_set_new(row, "ratio", json_sprintf("%.3f", order[i]->live_ratio));
		json_object_set_new(row, "held_by", held_by(report->map, order[i]));
		json_array_append_new(rows, row);
	}
	memcpy(columns, arena_columns, sizeof(columns));
	/* one interpreter, or one state for all: no column for it */
	if (report->map->states == 1)
		memmove(&columns[1], &columns[2], sizeof(columns) - 2 * sizeof(columns[0]));
	strbuf_appendf(buf, "\nemptiest arenas, %zu of %zu\n", n, report->map->n_arenas);
	table_append(buf, rows, columns, width);
}

static void append_quality(struct strbuf *buf, const struct arenas_report *report)
{
	const struct arena_map *map = report->map;

	strbuf_appendf(buf, "\nread in %s", fmt_duration(map->seconds).s);
	if (report->frozen_seconds >= 0)
		strbuf_appendf(buf, ", stopped for %s", fmt_duration(report->frozen_seconds).s);
	strbuf_appendf(buf, ": %s read again, %s in doubt, %s refused, %s pools changed meanwhile\n", fmt_count(map->retries).s,
		       fmt_count(map->unsure).s, fmt_count(map->refused).s, fmt_count(map->pools_torn).s);
}

int arenas_write_text(const struct arenas_report *report, const struct arenas_style *style, FILE *file)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;

	append_title(&buf, report->target, style->width);
	append_totals(&buf, report->map);
	append_classes(&buf, report->map, style->width);
	if (report->draw) {
		strbuf_append_c(&buf, '\n');
		arenas_draw(&buf, report->map, style);
	}
	append_arenas(&buf, report, style->width);
	append_quality(&buf, report);
	return write_strbuf(&buf, file);
}
