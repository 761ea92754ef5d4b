/* SPDX-License-Identifier: MIT */
/*
 * The map of arenas as JSON. Unknown is null; arenas come emptiest first.
 *
 *     {"schema": "leaksnoop.arenas/1", "target": {..}, "totals": {"arenas": 412, ..},
 *      "size_classes": [{"size": 16, "pools": 3, "live_blocks": 512, "free_blocks": 2532, "overhead_bytes": 144}, ..],
 *      "arenas": [{"address": "0x7f10a0000000", "interpreter": 0, .., "pinned_by": [{"size": 64, "type": "app.Session", ..}]}, ..],
 *      "quality": {"retries": 0, "unsure": 0, "refused": 0, ..}}
 *
 * With the drawing, each arena has "pools": how full each one is in percent, -1 for one never used, null for one that made no sense.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "report/arenas.h"
#include "report/write.h"

static json_t *known(uint64_t value)
{
	return value == UINT64_MAX ? json_null() : json_integer((json_int_t)value);
}

static int by_ratio(const void *a, const void *b)
{
	const struct arena_row *const *x = a, *const *y = b;

	if ((*x)->live_ratio != (*y)->live_ratio)
		return (*x)->live_ratio < (*y)->live_ratio ? -1 : 1;
	return (*x)->address.v < (*y)->address.v ? -1 : (*x)->address.v > (*y)->address.v;
}

const struct arena_row **arenas_emptiest(const struct arena_map *map)
{
	const struct arena_row **order = reallocarray(NULL, map->n_arenas + 1, sizeof(*order));

	for (size_t i = 0; order && i < map->n_arenas; i++)
		order[i] = &map->arenas[i];
	if (order && map->n_arenas > 1)
		qsort(order, map->n_arenas, sizeof(*order), by_ratio);
	return order;
}

static json_t *totals_json(const struct arena_totals *t)
{
	return json_pack("{s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			 "arenas", (json_int_t)t->arenas,
			 "arenas_highwater", known(t->arenas_highwater),
			 "arena_bytes", (json_int_t)t->arena_bytes,
			 "live_blocks", (json_int_t)t->live_blocks,
			 "live_bytes", (json_int_t)t->live_bytes,
			 "free_in_used_pools_bytes", (json_int_t)t->free_in_used_pools_bytes,
			 "free_pools_bytes", (json_int_t)t->free_pools_bytes,
			 "uncarved_bytes", (json_int_t)t->uncarved_bytes,
			 "overhead_bytes", (json_int_t)t->overhead_bytes,
			 "fragmentation", t->fragmentation,
			 "arenas_if_packed", (json_int_t)t->arenas_if_packed,
			 "arenas_returnable", (json_int_t)t->arenas_returnable,
			 "pools_used", (json_int_t)t->pools_used,
			 "pools_free", (json_int_t)t->pools_free,
			 "pools_uncarved", (json_int_t)t->pools_uncarved,
			 "pools_refused", (json_int_t)t->pools_refused,
			 "refused_bytes", (json_int_t)t->refused_bytes);
}

json_t *arenas_class_json(const struct arena_class *c)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "size", (json_int_t)c->size, "pools", (json_int_t)c->pools,
			 "live_blocks", (json_int_t)c->live_blocks, "free_blocks", (json_int_t)c->free_blocks,
			 "overhead_bytes", (json_int_t)c->overhead_bytes);
}

static json_t *pins_json(const struct arena_map *map, const struct arena_row *row)
{
	json_t *pins = json_array();

	for (size_t i = 0; i < row->n_pins; i++) {
		const struct arena_pin *pin = &map->pins[row->first_pin + i];

		json_array_append_new(pins, json_pack("{s:I, s:o, s:I, s:b, s:n}", "size", (json_int_t)pin->block_size,
						      "type", json_text(pin->type), "count", (json_int_t)pin->count,
						      "on_free_list", (int)pin->parked, "traceback"));
	}
	return pins;
}

json_t *arenas_row_json(const struct arena_map *map, const struct arena_row *row)
{
	return json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:b, s:b, s:o, s:I}",
			 "address", json_sprintf("0x%" PRIx64, row->address.v),
			 "interpreter", row->interpreter < 0 ? json_null() : json_integer(row->interpreter),
			 "bytes", (json_int_t)row->bytes,
			 "pools_used", (json_int_t)row->pools_used,
			 "pools_free", (json_int_t)row->pools_free,
			 "pools_uncarved", (json_int_t)row->pools_uncarved,
			 "pools_refused", (json_int_t)row->pools_refused,
			 "live_blocks", (json_int_t)row->live_blocks,
			 "live_bytes", (json_int_t)row->live_bytes,
			 "live_ratio", row->live_ratio,
			 "unsure", (int)row->unsure,
			 "returnable", (int)row->returnable,
			 "pinned_by", pins_json(map, row),
			 "blocks_not_named", (json_int_t)row->pins_unread);
}

static json_t *fills_json(const struct arena_map *map, const struct arena_row *row)
{
	json_t *fills = json_array();

	for (uint32_t i = 0; i < row->n_pools; i++) {
		uint8_t fill = map->pools[row->first_pool + i].fill;

		json_array_append_new(fills, fill == ARENA_POOL_REFUSED ? json_null() :
							json_integer(fill == ARENA_POOL_UNCARVED ? -1 : fill));
	}
	return fills;
}

static json_t *rows_json(const struct arenas_report *report)
{
	_cleanup_(freep) const struct arena_row **order = arenas_emptiest(report->map);
	size_t n = report->map->n_arenas;
	json_t *rows = order ? json_array() : NULL;

	if (report->top && report->top < n)
		n = report->top;
	for (size_t i = 0; rows && i < n; i++) {
		json_t *row = arenas_row_json(report->map, order[i]);

		if (row && report->draw)
			json_object_set_new(row, "pools", fills_json(report->map, order[i]));
		json_array_append_new(rows, row);
	}
	return rows;
}

static json_t *quality_json(const struct arenas_report *report)
{
	const struct arena_map *map = report->map;

	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:o}", "retries", (json_int_t)map->retries, "unsure", (json_int_t)map->unsure,
			 "refused", (json_int_t)map->refused, "pools_torn", (json_int_t)map->pools_torn,
			 "read_bytes", (json_int_t)map->read_bytes, "seconds", map->seconds,
			 "frozen_seconds", report->frozen_seconds < 0 ? json_null() : json_real(report->frozen_seconds));
}

int arenas_write_json(const struct arenas_report *report, FILE *file)
{
	_cleanup_(json_decrefp) json_t *doc = NULL;
	json_t *classes = json_array();

	for (size_t i = 0; i < report->map->n_classes; i++)
		json_array_append_new(classes, arenas_class_json(&report->map->classes[i]));
	doc = json_pack("{s:s, s:O, s:o, s:o, s:o, s:o}", "schema", "leaksnoop.arenas/1", "target", report->target,
			"totals", totals_json(&report->map->totals), "size_classes", classes, "arenas", rows_json(report),
			"quality", quality_json(report));
	return doc ? write_json(doc, true, file) : -ENOMEM;
}
