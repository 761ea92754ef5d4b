/* SPDX-License-Identifier: MIT */
/*
 * Does a process keep what it takes? Cheap readings of a few sizes, told again and again for weeks, in fixed memory: of FOLD readings one
 * remains in the next coarser tier, the least of them. What is kept is what the lowest points of a series rise by, so that garbage waiting
 * for its collection is none of it.
 *
 * (where readings are 6 s apart; of what is steady they are 10)
 *   tier 0: readings; 96 of them, 10 minutes
 *   tier 1: 48 s each, 77 minutes;  tier 2: 6 minutes, 10 hours;  tier 3: 50 minutes, 3 days;  tier 4: 7 hours, 4 weeks
 *
 * A tier's last 40 points (or 20 of the finest) are suspicious when they rise from part to part, are not levelling off (diagnose/trend.h judges),
 * and get above where the next coarser tier has been before: what comes back to an old mark is a sawtooth. Slow leaks show in coarse tiers only.
 * Arithmetic only: time is given.
 *
 * (Below a mark of long ago a tenth of the suspicion is left: loads that come and go by the day.)
 *
 * Limits: after a peak that was no start-up a slow leak is hidden below the mark, from tier 0 for 77 minutes at most. What rises is
 * suspected while it rises, even if it will level off.
 */
#pragma once

#include <stdint.h>

#define KEEPS_TIERS 5
#define KEEPS_POINTS 96
/* What a program does at its start says nothing of what it will do. */
#define KEEPS_START_SECONDS 45.0

/* What is told, each in bytes; NAN: not known now. */
enum keeps_series {
	KEEPS_POOLS,     /* pymalloc's pools in use */
	KEEPS_OWN,       /* memory of no file: anonymous or shared, in RAM or swap */
	KEEPS_LARGE,     /* Python's large blocks, at least: 512 bytes each */
	KEEPS_LIVE,      /* live small blocks: seldom known */
	KEEPS_SERIES
};

struct keeps_point {
	float t;         /* seconds; of the last reading folded */
	float low[KEEPS_SERIES];
};

struct keeps_tier {
	struct keeps_point point[KEEPS_POINTS], fold;
	uint32_t count, folded;
	float rate[KEEPS_SERIES];    /* bytes a second that are suspicious */
};

/* Zero-initialised. */
struct keeps {
	struct keeps_tier tier[KEEPS_TIERS];
};

/* t: seconds since the process started (of one that started long ago any number over KEEPS_START_SECONDS at first), rising. */
void keeps_add(struct keeps *keeps, double t, const double values[KEEPS_SERIES]);
/* Bytes a second that are kept and do not level off; 0: none. */
double keeps_suspicion(const struct keeps *keeps);
/* Bytes a second that it keeps, of the last half hour (or 4 minutes, if it has just begun): may be negative; NAN: too early. */
double keeps_growth(const struct keeps *keeps);
/* The last reading is this much above all that was before it, the start left out: 0 if it is not. */
double keeps_record(const struct keeps *keeps);
