/* SPDX-License-Identifier: MIT */
/* Random numbers for simulations in tests: the same on every machine for the same seed. */
#pragma once

#include <math.h>
#include <stdint.h>

/* splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64_t random_bits(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* [0, 1) */
static inline double random_uniform(uint64_t *state)
{
	return (double)(random_bits(state) >> 11) * 0x1p-53;
}

static inline double random_normal(uint64_t *state)
{
	double a = 1 - random_uniform(state), b = random_uniform(state);

	return sqrt(-2 * log(a)) * cos(2 * M_PI * b);
}

static inline uint64_t random_poisson(uint64_t *state, double mean)
{
	uint64_t n = 0;

	/* Near enough to normal, and much faster. */
	if (mean > 500)
		return (uint64_t)fmax(0, round(mean + sqrt(mean) * random_normal(state)));
	for (double t = -log(1 - random_uniform(state)); t < mean; n++)
		t += -log(1 - random_uniform(state));
	return n;
}
