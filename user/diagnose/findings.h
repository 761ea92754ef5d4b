/* SPDX-License-Identifier: MIT */
/* From ranked growth to the findings of a report. */
#pragma once

#include <stddef.h>

#include "base/cleanup.h"
#include "diagnose/estimates.h"
#include "diagnose/growth.h"
#include "diagnose/source.h"
#include "diagnose/model.h"

struct findings;

/* The top groups as findings; strings belong to stacks and source, which must outlive them. top 0: all. source may be NULL. seconds: the
 * window, for rates. exact: every allocation was seen, so the rates are what they are. estimates: of sampled mode, in growth's order; else NULL. */
int findings_new(const struct growth *growth, const struct stacks *stacks, struct source *source, size_t top, double seconds,
		 uint64_t now_ns, bool exact, const struct estimates *estimates, struct findings **ret_findings);
void findings_free(struct findings *findings);
DEFINE_CLEANUP(struct findings, findings_free)

const struct report_finding *findings_get(const struct findings *findings, size_t *ret_count);
/* What --top cut: groups, and their live bytes. */
void findings_more(const struct findings *findings, size_t *ret_count, uint64_t *ret_bytes);
