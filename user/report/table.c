/* SPDX-License-Identifier: MIT */
#include "report/table.h"

#include <stdbool.h>
#include <string.h>

#include "base/fmt.h"

#define GAP 2
#define COLUMNS_MAX 24

void table_cell(struct strbuf *buf, const json_t *value, enum cell cell, size_t max_columns)
{
	if (json_is_integer(value) && cell == CELL_SIZE)
		strbuf_append(buf, fmt_size((uint64_t)json_integer_value(value)).s);
	else if (json_is_integer(value) && cell == CELL_COUNT)
		strbuf_append(buf, fmt_count((uint64_t)json_integer_value(value)).s);
	else if (json_is_integer(value) && cell == CELL_SIZE_SIGNED)
		strbuf_append(buf, fmt_size_signed(json_integer_value(value)).s);
	else if (json_is_integer(value) && cell == CELL_COUNT_SIGNED)
		strbuf_append(buf, fmt_count_signed(json_integer_value(value)).s);
	else if (json_is_number(value) && cell == CELL_RATE)
		strbuf_append(buf, fmt_rate_bytes(json_number_value(value)).s);
	else if (json_is_number(value) && cell == CELL_PERCENT)
		strbuf_appendf(buf, "%.1f %%", json_number_value(value) * 100);
	else if (json_is_integer(value))
		strbuf_appendf(buf, "%lld", (long long)json_integer_value(value));
	else if (json_is_real(value))
		strbuf_appendf(buf, "%.2f", json_real_value(value));
	else if (json_is_boolean(value))
		strbuf_append(buf, json_is_true(value) ? "yes" : "no");
	else if (json_is_string(value) && cell == CELL_REST_TAIL)
		fmt_escape_tail(buf, json_string_value(value), max_columns);
	else if (json_is_string(value))
		fmt_escape(buf, json_string_value(value), max_columns);
	else
		strbuf_append(buf, FMT_UNKNOWN);
}

static size_t cell_columns(const json_t *value, enum cell cell)
{
	_cleanup_(strbuf_free) struct strbuf text = STRBUF_INIT;
	size_t n = 0;

	table_cell(&text, value, cell, 0);
	for (const char *p = strbuf_str(&text); *p; p++)
		n += (*p & 0xc0) != 0x80;
	return n;
}

static void append_padded(struct strbuf *buf, const json_t *value, enum cell cell, size_t width)
{
	size_t n = cell_columns(value, cell);
	size_t pad = n < width ? width - n : 0;
	bool right = cell != CELL_TEXT;

	if (right)
		strbuf_pad(buf, ' ', pad);
	table_cell(buf, value, cell, 0);
	if (!right)
		strbuf_pad(buf, ' ', pad);
	strbuf_pad(buf, ' ', GAP);
}

static void append_row(struct strbuf *buf, const json_t *row, const struct column *columns, const size_t *widths, unsigned width)
{
	size_t used = 0;

	for (size_t i = 0; columns[i].key && i < COLUMNS_MAX; i++) {
		const json_t *value = json_object_get(row, columns[i].key);

		if (columns[i].cell >= CELL_REST) {
			table_cell(buf, value, columns[i].cell, width && width > used + 8 ? width - used : 0);
			break;
		}
		append_padded(buf, value, columns[i].cell, widths[i]);
		used += widths[i] + GAP;
	}
	while (buf->len && buf->s[buf->len - 1] == ' ')
		strbuf_truncate(buf, buf->len - 1);
	strbuf_append_c(buf, '\n');
}

/*
 *   PID  PYTHON   BUILD      RSS        COMMAND
 *   713  3.11.2   optimised  20.1 MiB   /usr/bin/python3 -m http.server
 */
void table_append(struct strbuf *buf, const json_t *rows, const struct column *columns, unsigned width)
{
	size_t widths[COLUMNS_MAX] = { 0 }, i;
	json_t *titles = json_object(), *row;

	for (size_t c = 0; columns[c].key && c < COLUMNS_MAX; c++) {
		json_object_set_new(titles, columns[c].key, json_string(columns[c].title));
		widths[c] = strlen(columns[c].title);
		json_array_foreach(rows, i, row) {
			size_t n = cell_columns(json_object_get(row, columns[c].key), columns[c].cell);

			if (n > widths[c])
				widths[c] = n;
		}
	}
	append_row(buf, titles, columns, widths, width);
	json_array_foreach(rows, i, row)
		append_row(buf, row, columns, widths, width);
	json_decref(titles);
}
