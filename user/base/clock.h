/* SPDX-License-Identifier: MIT */
/* Time, injected: who needs the time takes a struct clock, so that tests choose it. */
#pragma once

#include <stdint.h>
#include <time.h>

struct clock {
	uint64_t (*now_mono_ns)(void *ctx);          /* CLOCK_MONOTONIC */
	struct timespec (*now_wall)(void *ctx);      /* CLOCK_REALTIME */
	void *ctx;
};

extern const struct clock clock_real;

static inline uint64_t clock_mono_ns(const struct clock *clock)
{
	return clock->now_mono_ns(clock->ctx);
}

static inline struct timespec clock_wall(const struct clock *clock)
{
	return clock->now_wall(clock->ctx);
}

/* Seconds from a moment of clock_mono_ns() until now; 0 if it lies ahead. */
double clock_seconds_since(const struct clock *clock, uint64_t mono_ns);
