/* SPDX-License-Identifier: MIT */
/*
 * How much of what happened was seen. Two witnesses that do not come from our
 * probes' counting alone: records lost on the way (counted by reason), and
 * pymalloc's own count of live blocks, whose change must equal allocations minus
 * frees seen. The second is read while the target runs, so a few readings are
 * taken at each end and the two that agree best are believed: what is left is at
 * least what was missed.
 */
#pragma once

#include <stdint.h>

#include "interp/python.h"
#include "diagnose/model.h"
#include "trace/session.h"

#define COVERAGE_READINGS 3

struct coverage {
	int64_t before[COVERAGE_READINGS], after[COVERAGE_READINGS];  /* live blocks minus net seen */
	int n_before, n_after;
	struct target_stats stats;      /* at the last reading */
	uint64_t replaced;              /* the ledger's own finding of unseen frees */
};

/* Right after arming. No reading can be had without pymalloc: then losses alone tell. */
void coverage_begin(struct coverage *c, const struct python *python, const struct session *session, uint32_t target);
/* Before disarming, at each report. live false: the target is gone, only the counters are read. */
void coverage_read(struct coverage *c, const struct python *python, const struct session *session, uint32_t target, bool live);

uint64_t coverage_seen(const struct coverage *c);
/* Blocks the allocator's own count knows of and we do not (or the other way round); UINT64_MAX: no witness. */
uint64_t coverage_missed(const struct coverage *c);
/* Seen against happened (seen, missed and dropped); NAN when nothing happened. */
uint64_t coverage_happened(const struct coverage *c);
double coverage_ratio(const struct coverage *c);
uint64_t coverage_dropped(const struct coverage *c);
/* Losses by reason, the X-macro's rows from STAT_LOST_FIRST on: STAT_COUNT - STAT_LOST_FIRST entries. */
void coverage_losses(const struct coverage *c, struct report_loss ret_losses[STAT_COUNT - STAT_LOST_FIRST]);
