/* SPDX-License-Identifier: MIT */
/* Chance that is the same again for the same seed: xorshift64*, good enough to choose moments and to toss coins. */
#pragma once

#include <stdint.h>

/* state: any number but 0. */
static inline uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}
