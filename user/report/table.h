/* SPDX-License-Identifier: MIT */
/*
 * Tables and key-value lists for people, drawn from the same JSON values that
 * --format json prints: one model, two outputs. Strings are escaped, null is "-".
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/strbuf.h"

enum cell {
	CELL_TEXT,
	CELL_COUNT, CELL_COUNT_SIGNED,
	CELL_SIZE, CELL_SIZE_SIGNED,   /* bytes */
	CELL_RATE,                     /* bytes a second */
	CELL_PERCENT,                  /* of a ratio */
	CELL_REST,                     /* text, the last column, cut to what is left of the width */
	CELL_REST_TAIL,                /* the same, but a long one keeps its end: names whose last part tells most */
};

struct column {
	const char *key, *title;
	enum cell cell;
};

/* rows: an array of objects. columns ends in an all-zero one. width 0: not cut. */
void table_append(struct strbuf *buf, const json_t *rows, const struct column *columns, unsigned width);
/* One cell as text, by value's type and cell. */
void table_cell(struct strbuf *buf, const json_t *value, enum cell cell, size_t max_columns);
