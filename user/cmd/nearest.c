/* SPDX-License-Identifier: MIT */
/* Nearest word by edit distance with swaps (optimal string alignment). */
#include "cmd/nearest.h"

#include <string.h>

#define WORD_MAX 32

static size_t min2(size_t a, size_t b)
{
	return a < b ? a : b;
}

size_t edit_distance(const char *a, const char *b)
{
	size_t d[WORD_MAX + 1][WORD_MAX + 1];
	size_t n = strnlen(a, WORD_MAX), m = strnlen(b, WORD_MAX);

	for (size_t i = 0; i <= n; i++)
		d[i][0] = i;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= n; i++) {
		for (size_t j = 1; j <= m; j++) {
			d[i][j] = min2(d[i - 1][j - 1] + (a[i - 1] != b[j - 1]), min2(d[i - 1][j], d[i][j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				d[i][j] = min2(d[i][j], d[i - 2][j - 2] + 1);
		}
	}
	return d[n][m];
}

void nearest_try(struct nearest *nearest, const char *candidate)
{
	size_t distance = edit_distance(nearest->word, candidate);
	size_t len = strlen(nearest->word);

	/* The start of a word is near it, however short. */
	if (len >= 2 && !strncmp(nearest->word, candidate, len))
		distance = 1;
	if (distance > 1 + len / 4 || (nearest->best && distance >= nearest->distance))
		return;
	nearest->best = candidate;
	nearest->distance = distance;
}
