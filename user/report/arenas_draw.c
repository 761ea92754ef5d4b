/* SPDX-License-Identifier: MIT */
/*
 * Every arena as a line, every pool a cell (or some, where the line is short):
 *
 *     0x7f10a0000000 9##9#..3..1...0.................................................
 *     0x7f10a0100000 ##--------------------------------------------------------------
 *
 * On a terminal with 256 colours the cells are coloured from red (hardly used) to green (full). Without: a digit.
 */
#include <inttypes.h>

#include "report/arenas.h"

#define ADDRESS_COLUMNS 15u
#define WIDTH_DEFAULT 80u
#define CELLS_MIN 8u

/* Of tenths, from hardly used to full; palette of xterm. */
static const uint8_t ramp[] = { 160, 196, 202, 208, 214, 220, 190, 154, 76, 34 };
#define COLOUR_FREE 240u
#define COLOUR_REFUSED 201u

enum { CELL_FREE = -1, CELL_UNCARVED = -2, CELL_REFUSED = -3 };   /* else percent */

/* What a cell that stands for n pools shows: their mean. */
static int cell_of(const struct arena_pool *pools, uint32_t n)
{
	uint32_t sum = 0, used = 0, carved = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (pools[i].fill == ARENA_POOL_REFUSED)
			return CELL_REFUSED;
		if (pools[i].fill == ARENA_POOL_UNCARVED)
			continue;
		carved++;
		used += pools[i].fill > 0;
		sum += pools[i].fill;
	}
	if (!carved)
		return CELL_UNCARVED;
	return used ? (int)((sum + carved - 1) / carved) : CELL_FREE;
}

static char plain(int cell)
{
	switch (cell) {
	case CELL_FREE:
		return '.';
	case CELL_UNCARVED:
		return '-';
	case CELL_REFUSED:
		return '?';
	default:
		return cell >= 100 ? '#' : (char)('0' + cell / 10);
	}
}

/* 0: none, the terminal's own background. */
static unsigned colour(int cell)
{
	if (cell == CELL_UNCARVED)
		return 0;
	if (cell == CELL_FREE || cell == CELL_REFUSED)
		return cell == CELL_FREE ? COLOUR_FREE : COLOUR_REFUSED;
	return ramp[cell > 99 ? 9 : cell / 10];
}

/* *shown: the colour that is on; changed only where it changes. */
static void append_cell(struct strbuf *buf, int cell, bool colours, unsigned *shown)
{
	unsigned wanted = colours ? colour(cell) : 0;

	if (wanted != *shown && wanted)
		strbuf_appendf(buf, "\033[48;5;%um", wanted);
	else if (wanted != *shown)
		strbuf_append(buf, "\033[0m");
	*shown = wanted;
	if (!colours)
		strbuf_append_c(buf, plain(cell));
	else
		strbuf_append_c(buf, cell == CELL_UNCARVED ? '-' : cell == CELL_REFUSED ? '?' : ' ');
}

static void append_row(struct strbuf *buf, const struct arena_map *map, const struct arena_row *row, const struct arenas_style *style)
{
	unsigned width = style->width ? style->width : WIDTH_DEFAULT, shown = 0;
	uint32_t cells = width > ADDRESS_COLUMNS + CELLS_MIN ? width - ADDRESS_COLUMNS : CELLS_MIN;
	uint32_t pools_a_cell = (row->n_pools + cells - 1) / cells;

	strbuf_appendf(buf, "0x%012" PRIx64 " ", row->address.v);
	for (uint32_t i = 0; i < row->n_pools; i += pools_a_cell) {
		uint32_t n = row->n_pools - i < pools_a_cell ? row->n_pools - i : pools_a_cell;

		append_cell(buf, cell_of(&map->pools[row->first_pool + i], n), style->colours_256, &shown);
	}
	strbuf_append(buf, shown ? "\033[0m\n" : "\n");
}

static void append_legend(struct strbuf *buf, bool colours)
{
	unsigned shown = 0;

	if (!colours) {
		strbuf_append(buf, "cells are pools: . free, 0-9 tenths live, # full, - never used, ? unreadable\n");
		return;
	}
	strbuf_append(buf, "cells are pools: ");
	append_cell(buf, CELL_FREE, true, &shown);
	strbuf_append(buf, "\033[0m free, ");
	shown = 0;
	for (int tenth = 0; tenth < 10; tenth++)
		append_cell(buf, 10 * tenth + 5, true, &shown);
	strbuf_append(buf, "\033[0m empty to full, - never used, ? unreadable\n");
}

void arenas_draw(struct strbuf *buf, const struct arena_map *map, const struct arenas_style *style)
{
	append_legend(buf, style->colours_256);
	for (size_t i = 0; i < map->n_arenas; i++) {
		const struct arena_row *row = &map->arenas[i];

		if (map->states > 1 && (i == 0 || row[-1].state != row->state))
			strbuf_appendf(buf, "interpreter %" PRId64 "\n", row->interpreter);
		append_row(buf, map, row, style);
	}
}
