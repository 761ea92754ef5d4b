/* SPDX-License-Identifier: MIT */
/*
 * The series of the evidence, each with its trend and its figures: what
 * verdict.c decides on. NAN and TREND_UNKNOWN where too little is known.
 */
#pragma once

#include <stdbool.h>

#include "diagnose/trend.h"
#include "diagnose/verdict.h"

struct sign {
	struct trend trend;
	double first, last, most; /* medians of three neighbours: a single glitch is none of them */
	double most_t; /* when it was most */
	double min;
};

struct signs {
	double end; /* time of the last point */
	struct sign python; /* bytes of Python's blocks: small, and large if known */
	struct sign blocks, raw; /* how many: small, large */
	struct sign arena; /* bytes of arenas */
	struct sign free; /* bytes of arenas that no block uses */
	struct sign rss, hwm;
	struct sign beside_arenas; /* anonymous memory that is neither arena nor large block */
	struct sign beside_live; /* the same, free space in arenas included */
	struct sign libc_free, trimmable; /* free in libc's heaps, in memory; of that, whole pages. Of balance sheets only */
	bool large_known;
};

void signs_of(const struct evidence *evidence, struct signs *ret_signs);
