/* SPDX-License-Identifier: MIT */
/* "did you mean ...?" */
#pragma once

#include <stddef.h>

/* Insertions, deletions, changes and swaps of neighbours that turn a into b; both are cut at 32 bytes. */
size_t edit_distance(const char *a, const char *b);

/* Remembers the best of several candidates: start with { .word = word }, then nearest_try() each; best stays NULL if none is near. */
struct nearest {
	const char *word;
	const char *best;
	size_t distance;
};

void nearest_try(struct nearest *nearest, const char *candidate);
