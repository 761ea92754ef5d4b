/* SPDX-License-Identifier: MIT */
/*
 * One state a process for which something is pending or on; the others have none, so memory follows what is wrong on the host, at most
 * one state a PID.
 *
 * Two conditions, of which either may raise an alert and both must be off to end it:
 *   leak  its last report that had an opinion says leak. A report is of the past, so growth that has fallen to a fraction of what it was
 *         then takes it back. "unknown" (a new sampling has just begun) is no opinion.
 *   rate  its growth is over the bound.
 * NAN says nothing: it holds no rate, and takes back no leak.
 */
#include "diagnose/alerts.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fmt.h"
#include "base/map64.h"

#define RAISE_REPORTS 2
#define RAISE_NS (120 * 1000000000ull)
#define END_NS (600 * 1000000000ull)
/* Growth below this share of what came with the last report of leak: the leak has stopped. */
#define STOPPED_SHARE 0.1

struct alert {
	uint64_t start_ticks;
	bool leak;                         /* the last report with an opinion said so */
	unsigned leak_reports;             /* in a row */
	double leak_growth;                /* with the last of them; 0: not known */
	uint64_t rate_since_ns;            /* the rate holds without a break since; 0: it does not */
	bool raised;
	uint64_t raised_ns, held_ns;       /* when it was raised, and when a condition held last */
};

struct alerts {
	struct alerts_options options;
	struct map64 *alerts;              /* by PID */
};

int alerts_new(const struct alerts_options *options, struct alerts **ret_alerts)
{
	_cleanup_(alerts_freep) struct alerts *alerts = calloc(1, sizeof(*alerts));
	int r;

	if (!alerts)
		return -ENOMEM;
	alerts->options = *options;
	r = map64_new(sizeof(struct alert), &alerts->alerts);
	if (r < 0)
		return r;
	*ret_alerts = take_ptr(alerts);
	return 0;
}

void alerts_free(struct alerts *alerts)
{
	if (!alerts)
		return;
	map64_free(alerts->alerts);
	free(alerts);
}

size_t alerts_pending(const struct alerts *alerts)
{
	return map64_count(alerts->alerts);
}

static void take_report(const struct alerts_options *options, struct alert *a, const struct watched *w)
{
	if (!w->has_verdict || w->verdict == VERDICT_unknown)
		return;
	/* NAN is no confidence. */
	a->leak = w->verdict == VERDICT_leak && w->confidence >= options->confidence;
	if (!a->leak) {
		a->leak_reports = 0;
		a->leak_growth = 0;
		return;
	}
	if (a->leak_reports < RAISE_REPORTS)
		a->leak_reports++;
	if (isfinite(w->growth))
		a->leak_growth = w->growth;
}

static bool leak_holds(const struct alert *a, const struct watched *w)
{
	return a->leak && !(w->growth <= 0) && !(w->growth < STOPPED_SHARE * a->leak_growth);
}

static void raise_alert(struct alert *a, const struct watched *w, const struct alerts_options *options, uint64_t now_ns, bool leak, char *why,
			size_t size)
{
	a->raised = true;
	a->raised_ns = now_ns;
	if (leak)
		snprintf(why, size, "leak (confidence %.2f): %s", w->confidence, w->why[0] ? w->why : "its reports say so");
	else
		snprintf(why, size, "grows by %s for %s, more than %s", fmt_rate_bytes(w->growth).s,
			 fmt_duration((double)(now_ns - a->rate_since_ns) / 1e9).s, fmt_rate_bytes(options->rate).s);
}

static void end_alert(const struct alert *a, const struct watched *w, uint64_t now_ns, char *why, size_t size)
{
	struct fmt_text quiet = fmt_duration((double)(now_ns - a->held_ns) / 1e9), lasted = fmt_duration((double)(a->held_ns - a->raised_ns) / 1e9);

	if (isfinite(w->growth))
		snprintf(why, size, "quiet for %s, after %s: grows by %s now", quiet.s, lasted.s, fmt_rate_bytes(w->growth).s);
	else
		snprintf(why, size, "quiet for %s, after %s", quiet.s, lasted.s);
}

static enum alert_change alert_step(const struct alerts_options *options, struct alert *a, const struct watched *w, uint64_t now_ns, char *why,
				    size_t size)
{
	bool leak = leak_holds(a, w), rate = options->rate > 0 && w->growth > options->rate;

	if (!rate)
		a->rate_since_ns = 0;
	else if (!a->rate_since_ns)
		a->rate_since_ns = now_ns ? now_ns : 1;
	if (leak || rate)
		a->held_ns = now_ns;

	if (!a->raised) {
		bool by_leak = leak && a->leak_reports >= RAISE_REPORTS;

		if (!by_leak && !(rate && now_ns - a->rate_since_ns >= RAISE_NS))
			return ALERT_NONE;
		raise_alert(a, w, options, now_ns, by_leak, why, size);
		return ALERT_RAISED;
	}
	if (leak || rate || now_ns - a->held_ns < END_NS)
		return ALERT_NONE;
	end_alert(a, w, now_ns, why, size);
	return ALERT_ENDED;
}

enum alert_change alerts_look(struct alerts *alerts, struct watched *w, bool fresh, uint64_t now_ns, char *ret_why, size_t size)
{
	struct alert *known = map64_get(alerts->alerts, (uint64_t)w->id.pid), a = { .start_ticks = w->id.start_ticks };
	enum alert_change change;

	/* A PID used again is another process: what was there died unnoticed. */
	if (known && known->start_ticks == w->id.start_ticks)
		a = *known;
	if (fresh)
		take_report(&alerts->options, &a, w);
	change = alert_step(&alerts->options, &a, w, now_ns, ret_why, size);
	if (change == ALERT_ENDED)
		a = (struct alert){ .start_ticks = w->id.start_ticks };

	if (!a.leak && !a.rate_since_ns && !a.raised) {
		if (known)
			map64_remove(alerts->alerts, (uint64_t)w->id.pid, NULL);
	} else {
		if (!known)
			known = map64_put(alerts->alerts, (uint64_t)w->id.pid, NULL);
		if (!known) {
			/* No memory for it: nothing has happened, and the next look tries again. */
			w->alert = false;
			return ALERT_NONE;
		}
		*known = a;
	}
	w->alert = a.raised;
	return change;
}

static void end_of_process(const struct watched *w, char *why, size_t size)
{
	switch (w->end) {
	case PROCESS_EXITED:
		snprintf(why, size, "the process exited with status %d", w->end_code);
		return;
	case PROCESS_KILLED:
		snprintf(why, size, "the process was killed by signal %d", w->end_code);
		return;
	case PROCESS_OOM:
		snprintf(why, size, "the process was killed for want of memory");
		return;
	case PROCESS_EXECED:
		snprintf(why, size, "the process runs another program");
		return;
	case PROCESS_RUNS:
	case PROCESS_GONE:
		break;
	}
	snprintf(why, size, "the process is gone");
}

enum alert_change alerts_gone(struct alerts *alerts, struct watched *w, uint64_t now_ns, char *ret_why, size_t size)
{
	struct alert *known = map64_get(alerts->alerts, (uint64_t)w->id.pid);
	bool raised;

	(void)now_ns;
	w->alert = false;
	if (!known || known->start_ticks != w->id.start_ticks)
		return ALERT_NONE;
	raised = known->raised;
	map64_remove(alerts->alerts, (uint64_t)w->id.pid, NULL);
	if (!raised)
		return ALERT_NONE;
	end_of_process(w, ret_why, size);
	return ALERT_ENDED;
}
