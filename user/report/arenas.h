/* SPDX-License-Identifier: MIT */
/* The map of arenas for people and for programs ("leaksnoop.arenas/1"). */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/strbuf.h"
#include "heap/arena_map.h"

struct arenas_report {
	const struct arena_map *map;
	const json_t *target;      /* as every report has it */
	size_t top;                /* arenas shown, emptiest first; 0: as many as the writer thinks fit */
	bool draw;                 /* every arena pool by pool */
	double frozen_seconds;     /* the target was stopped for so long; negative: it was not */
};

struct arenas_style {
	unsigned width;            /* of the terminal; 0: none */
	bool colours_256;
};

/* 0, -ENOMEM or the errno of the stream. */
int arenas_write_json(const struct arenas_report *report, FILE *file);
int arenas_write_text(const struct arenas_report *report, const struct arenas_style *style, FILE *file);

/* The parts, for each other. */
/* The rows in order of live_ratio, then of address; free() it. NULL: -ENOMEM. */
const struct arena_row **arenas_emptiest(const struct arena_map *map);
json_t *arenas_class_json(const struct arena_class *class);
json_t *arenas_row_json(const struct arena_map *map, const struct arena_row *row);
/* Every arena as a line of cells, one or some pools each, with a legend. */
void arenas_draw(struct strbuf *buf, const struct arena_map *map, const struct arenas_style *style);
