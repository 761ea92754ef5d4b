/* SPDX-License-Identifier: MIT */
/* The real clock. */
#include "base/clock.h"

static uint64_t real_mono_ns(void *ctx)
{
	struct timespec ts = { 0 };

	(void)ctx;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static struct timespec real_wall(void *ctx)
{
	struct timespec ts = { 0 };

	(void)ctx;
	clock_gettime(CLOCK_REALTIME, &ts);
	return ts;
}

const struct clock clock_real = { .now_mono_ns = real_mono_ns, .now_wall = real_wall };

double clock_seconds_since(const struct clock *clock, uint64_t mono_ns)
{
	uint64_t now = clock_mono_ns(clock);

	return now > mono_ns ? (double)(now - mono_ns) / 1e9 : 0;
}
