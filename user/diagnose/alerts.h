/* SPDX-License-Identifier: MIT */
/*
 * When to wake somebody: once when a process's verdict turns to leak or its growth passes a bound, and once more when that has ended.
 * Hysteresis: raised when it holds at two reports in a row (or for two minutes of readings), ended when it has not held for ten minutes, or
 * for good with the process. A leak that was reported holds until a report says otherwise, or the process grows by less than a tenth of what
 * it did. Pure: time is given. Memory: what is pending or on only, one state a PID.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "diagnose/watched.h"

struct alerts_options {
	double rate;                       /* bytes a second of growth that raise one; 0: only verdicts do */
	double confidence;                 /* a verdict of leak below it raises none: 0.5 */
};

enum alert_change { ALERT_NONE, ALERT_RAISED, ALERT_ENDED };

struct alerts;

int alerts_new(const struct alerts_options *options, struct alerts **ret_alerts);
void alerts_free(struct alerts *alerts);
DEFINE_CLEANUP(struct alerts, alerts_free)

/* What is known of w now; fresh: its report is new. Sets w->alert. ret_why: one sentence, for ALERT_RAISED and ALERT_ENDED. */
enum alert_change alerts_look(struct alerts *alerts, struct watched *w, bool fresh, uint64_t now_ns, char *ret_why, size_t size);
/* The process is gone (w->end says how): what was raised ends. */
enum alert_change alerts_gone(struct alerts *alerts, struct watched *w, uint64_t now_ns, char *ret_why, size_t size);

/* Processes of which something is remembered: an alert is on, or on its way. */
size_t alerts_pending(const struct alerts *alerts);
