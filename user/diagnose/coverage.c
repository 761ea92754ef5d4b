/* SPDX-License-Identifier: MIT */
#include "diagnose/coverage.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "interp/obmalloc.h"

/* begins: what has no arena yet is an interpreter that is being made, and nothing lives in it. */
static int read_difference(const struct python *python, const struct session *session, uint32_t target, bool begins,
			   struct target_stats *stats, int64_t *ret_difference)
{
	struct obmalloc_totals totals;
	int r;

	r = obmalloc_totals(python, &totals, NULL);
	if (r == -ENOENT && begins)
		totals = (struct obmalloc_totals){ 0 };
	else if (r)
		return r;
	r = session_stats(session, target, stats);
	if (r)
		return r;
	*ret_difference = (int64_t)(totals.allocated_blocks - (stats->n[STAT_OBJ_ALLOCS] - stats->n[STAT_OBJ_FREES]));
	return 0;
}

void coverage_begin(struct coverage *c, const struct python *python, const struct session *session, uint32_t target)
{
	memset(c, 0, sizeof(*c));
	for (int i = 0; i < COVERAGE_READINGS; i++)
		if (!read_difference(python, session, target, true, &c->stats, &c->before[c->n_before]))
			c->n_before++;
}

void coverage_read(struct coverage *c, const struct python *python, const struct session *session, uint32_t target, bool live)
{
	c->n_after = 0;
	for (int i = 0; live && i < COVERAGE_READINGS; i++)
		if (!read_difference(python, session, target, false, &c->stats, &c->after[c->n_after]))
			c->n_after++;
	if (!c->n_after)
		session_stats(session, target, &c->stats);
}

uint64_t coverage_seen(const struct coverage *c)
{
	return c->stats.n[STAT_ALLOCS];
}

uint64_t coverage_missed(const struct coverage *c)
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < c->n_before; i++) {
		for (int j = 0; j < c->n_after; j++) {
			/* Unsigned: the counters are read from the target. */
			uint64_t d = (uint64_t)c->after[j] - (uint64_t)c->before[i];
			uint64_t distance = d > INT64_MAX ? -d : d;

			if (distance < least)
				least = distance;
		}
	}
	return least;
}

uint64_t coverage_dropped(const struct coverage *c)
{
	const __u64 *n = c->stats.n;

	return n[STAT_LOST_ALLOC] + n[STAT_LOST_FREE] + n[STAT_LOST_STACK] + n[STAT_LOST_CODE] + n[STAT_LOST_OTHER] +
	       n[STAT_LOST_THREAD] + n[STAT_LOST_RETURN] + n[STAT_LOST_CONTENDED];
}

uint64_t coverage_happened(const struct coverage *c)
{
	uint64_t missed = coverage_missed(c);

	return coverage_seen(c) + coverage_dropped(c) + (missed == UINT64_MAX ? 0 : missed);
}

double coverage_ratio(const struct coverage *c)
{
	uint64_t happened = coverage_happened(c);

	return happened ? (double)coverage_seen(c) / (double)happened : NAN;
}

void coverage_losses(const struct coverage *c, struct report_loss ret_losses[STAT_COUNT - STAT_LOST_FIRST])
{
	static const struct report_loss rows[] = {
#define X(id, text, advice) { .what = text, .remedy = advice },
		STATS(X)
#undef X
	};

	for (int i = STAT_LOST_FIRST; i < STAT_COUNT; i++) {
		ret_losses[i - STAT_LOST_FIRST] = rows[i];
		ret_losses[i - STAT_LOST_FIRST].count = c->stats.n[i];
	}
	ret_losses[STAT_LOST_UNSEEN - STAT_LOST_FIRST].count += c->replaced;
}
