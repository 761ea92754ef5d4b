/* SPDX-License-Identifier: MIT */
/*
 * Growth between two censuses, by type and by kind of non-object. Also of one census alone, with nothing before it: then the order is that of
 * size, and every delta is 0.
 */
#pragma once

#include <stdbool.h>

#include "heap/census.h"

struct comparison_row {
	const char *name;   /* of the type or kind; belongs to one of the censuses */
	uint64_t count, bytes, owned_bytes;  /* now; 0 of a type that is gone */
	int64_t delta_count, delta_bytes;
};

struct comparison {
	bool has_deltas;        /* there was a census before */
	double seconds;         /* between the two; NAN: rates would mean nothing */
	/* Largest growth of bytes first (without deltas: most bytes first), then of count, then most bytes, then by name. */
	struct comparison_row *types;
	size_t n_types;
	struct comparison_row non_objects[CENSUS_NON_OBJECT_COUNT];  /* in the same order */
	struct comparison_row total;   /* of all types, whatever the filter; name is NULL */
	uint64_t block_bytes;
	int64_t delta_block_bytes;
};

/* before may be NULL. Both must outlive it. seconds: NAN, or what passed from one to the other. -ENOMEM. */
int comparison_new(const struct census *before, const struct census *now, double seconds, struct comparison **ret_comparison);
void comparison_free(struct comparison *comparison);
DEFINE_CLEANUP(struct comparison, comparison_free)

/* Drops the types whose name does not match (fnmatch(3), case matters). */
void comparison_filter(struct comparison *comparison, const char *glob);
/* A delta per second; NAN when that cannot be said. */
double comparison_rate(const struct comparison *comparison, int64_t delta);
/* The sums of types[first..], name NULL: what a list that ends there leaves out. */
struct comparison_row comparison_rest(const struct comparison *comparison, size_t first);
