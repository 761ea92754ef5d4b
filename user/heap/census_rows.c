/* SPDX-License-Identifier: MIT */
/* Tallies by type object become rows by name: sorted, no name twice. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "heap/census_impl.h"

const char *census_non_object_name(enum census_non_object kind)
{
	static const char *const names[] = {
#define X(id, name) [CENSUS_##id] = name,
		CENSUS_NON_OBJECTS(X)
#undef X
	};

	return (unsigned)kind < CENSUS_NON_OBJECT_COUNT ? names[kind] : "?";
}

void census_free(struct census *census)
{
	for (size_t i = 0; census && i < census->n_types; i++)
		free(census->types[i].name);
	if (census)
		free(census->types);
	free(census);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct census_row *)a)->name, ((const struct census_row *)b)->name);
}

/* Classes of one name are one row. */
static void merge_rows(struct census *census)
{
	size_t kept = 0;

	if (census->n_types > 1)
		qsort(census->types, census->n_types, sizeof(*census->types), by_name);
	for (size_t i = 0; i < census->n_types; i++) {
		struct census_row *row = &census->types[i], *last = kept ? &census->types[kept - 1] : NULL;

		if (!last || strcmp(last->name, row->name) != 0) {
			census->types[kept++] = *row;
			continue;
		}
		last->count += row->count;
		last->bytes += row->bytes;
		last->owned_bytes += row->owned_bytes;
		free(row->name);
	}
	census->n_types = kept;
}

int census_make_rows(struct census_work *work)
{
	struct census *census = work->census;

	census->types = calloc(work->tallies_room + 1, sizeof(*census->types));
	if (!census->types)
		return -ENOMEM;
	for (uint32_t type = 1; type < work->tallies_room; type++) {
		const struct census_tally *tally = &work->tallies[type];
		char *name = tally->count ? strdup(types_name(work->types, type)) : NULL;

		if (!tally->count)
			continue;
		if (!name)
			return -ENOMEM;
		census->types[census->n_types++] = (struct census_row){ name, tally->count, tally->bytes, tally->owned_bytes };
		census->objects += tally->count;
		census->bytes += tally->bytes;
	}
	merge_rows(census);
	return 0;
}
