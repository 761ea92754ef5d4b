/* SPDX-License-Identifier: MIT */
#include "diagnose/verdict.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/fmt.h"
#include "base/strbuf.h"
#include "diagnose/signs.h"

#define KIB 1024.0
#define MIB (1024 * KIB)

/* Every threshold, and why it is where it is. */
#define LEAK_FLOOR 100.0 /* bytes a second: 8 MiB a day, which no service notices before its next release */
#define LEAK_SURVIVORS 8.0 /* blocks: fewer are also seen when a line keeps nothing for long but is seen at bad times */
#define COUNTED_SURVIVORS 2.0 /* where the heap's count of a size and type rises beyond chance they need only say whose it is; one may be a copy in its place */
#define LEAK_EXPLAINS 0.1 /* of what the counters grow by: a line that grows by less is not the reason */
#define LEAK_CONTRADICTED 0.25 /* of the line's lowest growth: counters whose highest growth is less deny it */
#define MASKED_SURVIVORS 30.0 /* under a sawtooth the counters prove nothing, so the survivors must by themselves */
#define MASKED_KEPT 0.05         /* and the site has to keep so much of what it allocates, */
#define MASKED_FLOOR 4096.0      /* bytes a second */
#define MASKED_SECONDS 30.0
#define UNNAMED_FLOOR (2 * KIB) /* bytes a second: less drifts in any service for a minute (pools of strings, statistics) */
#define UNNAMED_BLOCKS 20.0 /* a second: the same, where bytes are lost in noise */
#define UNNAMED_SECONDS 300.0 /* counters that rose for so long are a leak though no line was found */
#define UNNAMED_MORE 60.0 /* how much longer is asked for */
#define LEVEL_CHANGE MIB /* bytes; less than a pool of each size class in use is no cache that warms up */
#define LEVEL_SHARE 0.02 /* of what was live */
#define LEVEL_SHARE_FLAT 0.1 /* the same for a series that is called flat */
#define HELD_BYTES (16 * MIB) /* less held memory is not worth a word */
#define HELD_SHARE 0.25 /* of RSS */
#define GROWS_SHARE 0.01 /* of RSS: what grows by less has nothing to do with what is held */
#define HELD_BACK 0.5 /* of what was freed since the peak: more came back than stayed, nothing is held */
#define FRAGMENT_SHARE 0.5 /* of RSS */
#define TRIM_SHARE 0.5 /* of what is free in libc's heaps: if less of it is whole pages it lies between blocks in use */
#define FRAGMENT_RSS (32 * MIB) /* a smaller process is mostly interpreter */
#define FRAGMENT_GROWTH (4 * MIB) /* four arenas: one or two are what any load takes and gives back */
#define FRAGMENT_LIVE 0.25 /* of what arenas grow by: if more of it is live, that is growth, not fragmentation */
#define NATIVE_GROWTH MIB /* in the time seen; pages that are touched late make some hundred KiB */
#define NATIVE_FLOOR (4 * KIB) /* bytes a second: a page a second */
#define NATIVE_NAMED 0.5 /* of it a line must ask for to be named */
#define NATIVE_OVER_LEAK 4.0 /* times the Python leak beside it: then native is what fills the memory */
#define YOUNG 2.0 /* a process not this many times older than what was seen of it may be warming up */
#define YOUNG_DOUBT 0.8
#define YOUNG_SECONDS 30.0 /* what a young process keeps for less time than this may as well be its tables and caches */

struct judge {
	const struct evidence *e;
	struct signs s;
	struct verdict v;
	char name[128], outside[128]; /* of the strongest site, and of the strongest outside Python's allocator */
};

/* The sentence, cut at a whole character. */
__attribute__((format(printf, 4, 5))) static void say(struct judge *j, enum verdict_kind kind, double confidence,
						      const char *fmt, ...)
{
	char text[768];
	size_t len;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	len = strnlen(text, sizeof(j->v.why) - 1);
	while (len && (text[len] & 0xc0) == 0x80)
		len--;
	memcpy(j->v.why, text, len);
	j->v.why[len] = '\0';
	j->v.kind = kind;
	j->v.confidence = confidence >= 0 ? fmin(0.99, confidence) : 0;
}

static struct fmt_text size(double bytes)
{
	return bytes >= 0 && bytes < 1e18 ? fmt_size((uint64_t)(bytes + 0.5)) : fmt_size(UINT64_MAX);
}

static struct fmt_text size_change(double bytes)
{
	return fabs(bytes) < 1e18 ? fmt_size_signed((int64_t)bytes) : fmt_size(UINT64_MAX);
}

/* "310 KiB/s", without the sign. */
static struct fmt_text rate(double bytes_per_second)
{
	struct fmt_text t = fmt_rate_bytes(fabs(bytes_per_second));

	if (t.s[0] == '+')
		memmove(t.s, t.s + 1, strlen(t.s));
	return t;
}

static bool rises(const struct sign *s)
{
	return s->trend.kind == TREND_RISING && s->trend.slope > 0;
}

static bool is_estimate(const struct report_estimate *e)
{
	return e->low >= 0 && e->low <= e->estimate && e->estimate <= e->high && e->high < 1e18;
}

/* Blocks that must have been seen to survive before a line is named. */
static double survivors_needed(const struct judge *j)
{
	return j->e->strongest.counted ? COUNTED_SURVIVORS : LEAK_SURVIVORS;
}

/* Growth of the strongest site that is there with certainty. */
static bool piles_up(const struct judge *j)
{
	const struct report_estimate *g = &j->e->strongest.growth;

	if (!j->e->strongest.name || j->e->strongest.trend != TREND_RISING || !is_estimate(g) || g->estimate < LEAK_FLOOR || !(g->low > 0))
		return false;
	return j->e->strongest.survivors >= survivors_needed(j);
}

/* The counters: blocks or bytes rise to the end. */
static bool counters_rise(const struct judge *j)
{
	return rises(&j->s.python) || rises(&j->s.blocks) || rises(&j->s.raw);
}

/* The counters say nothing (teeth, noise, none at all), but do not deny what the site grows by either. */
static bool counters_allow(const struct judge *j)
{
	const struct trend *t = &j->s.python.trend;
	double grows = j->e->strongest.growth.low;

	if (j->e->strongest.survivors < MASKED_SURVIVORS || !(j->e->seconds >= MASKED_SECONDS))
		return false;
	/* Garbage in cycles waits for the collector: then some of it is always old. */
	if (j->e->strongest.growth.estimate < MASKED_KEPT * j->e->strongest.allocated || j->e->strongest.growth.estimate < MASKED_FLOOR)
		return false;
	switch (t->kind) {
	case TREND_SAWTOOTH:
	case TREND_STEPPED: return t->slope_high >= grows;
	case TREND_FLAT:
		/* Flat to within its interval, of which the site's growth has to be a probable part. */
		return t->slope_high >= j->e->strongest.growth.estimate;
	case TREND_UNKNOWN:
		/* No pymalloc: the process must do for it. */
		return rises(&j->s.rss) && j->s.rss.trend.slope_high >= grows;
	default: return false;
	}
}

/* Bytes known to grow by far less than the site says, or the other way round. */
static bool counters_deny(const struct judge *j)
{
	const struct trend *t = &j->s.python.trend;
	double kept = fmax(j->e->growth.high, j->e->strongest.growth.high);

	if (t->kind == TREND_UNKNOWN || !j->s.large_known)
		return false;
	return t->slope_high < LEAK_CONTRADICTED * j->e->strongest.growth.low || (kept < LEAK_EXPLAINS * t->slope_low);
}

static bool is_young(const struct judge *j)
{
	return j->e->process_age >= 0 && j->e->process_age < YOUNG * j->e->seconds;
}

static double leak_confidence(const struct judge *j, bool masked)
{
	const struct report_estimate *g = &j->e->strongest.growth;
	double counters = 0.5, site = 0.5 + 0.5 * g->low / g->estimate, c;

	if (!masked)
		counters = fmax(rises(&j->s.python) ? j->s.python.trend.confidence : 0,
				fmax(rises(&j->s.blocks) ? j->s.blocks.trend.confidence : 0,
				     rises(&j->s.raw) ? j->s.raw.trend.confidence : 0));
	c = (counters + site) / 2 * fmin(1, sqrt(j->e->seconds / 30));
	return is_young(j) ? YOUNG_DOUBT * c : c;
}

/* "app.py:41 keeps 310 of 320 KiB/s it allocates", "of" left out where it is not known. */
static void describe_site(const struct judge *j, char *out, size_t size_out)
{
	double keeps = j->e->strongest.growth.estimate, allocated = j->e->strongest.allocated;

	if (allocated >= keeps && allocated < 1e18)
		snprintf(out, size_out, "%s keeps %s of the %s it allocates", j->name, rate(keeps).s, rate(allocated).s);
	else
		snprintf(out, size_out, "%s keeps %s", j->name, rate(keeps).s);
}

/* Large blocks of unknown size, which are not in the bytes, rise by more than drifts. */
static bool large_blocks_rise(const struct judge *j)
{
	return !j->s.large_known && rises(&j->s.raw) && j->s.raw.trend.slope >= UNNAMED_BLOCKS;
}

/* "live bytes grew 1.2 MiB/min for 58 s", of the counter that rose. */
static void describe_counters(const struct judge *j, char *out, size_t size_out)
{
	const struct signs *s = &j->s;
	bool large = large_blocks_rise(j) && s->raw.trend.slope >= s->blocks.trend.slope;
	const struct trend *bytes = &s->python.trend, *count = rises(&s->blocks) && !large ? &s->blocks.trend : &s->raw.trend;

	if (rises(&s->python) && !large)
		snprintf(out, size_out, "live bytes grew %s/min for %s", size(bytes->slope * 60).s,
			 fmt_duration(bytes->seconds).s);
	else
		snprintf(out, size_out, "live %sblocks grew %s for %s", count == &s->blocks.trend ? "" : "large ",
			 fmt_rate_count(count->slope).s, fmt_duration(count->seconds).s);
}

/* The counters that the strongest site's blocks are in rise. Small blocks say nothing of a site that keeps large ones, unless bytes have both. */
static bool site_rises(const struct judge *j)
{
	if (j->e->strongest.large_share > 0.5 && !j->s.large_known && j->s.raw.trend.kind != TREND_UNKNOWN)
		return rises(&j->s.raw);
	return counters_rise(j);
}

static bool judge_leak(struct judge *j)
{
	char site[256], counters[128];
	bool rise = site_rises(j);

	if (is_young(j) && j->e->seconds < YOUNG_SECONDS)
		return false;
	if (!piles_up(j) || counters_deny(j) || !(rise || counters_allow(j)))
		return false;
	describe_site(j, site, sizeof(site));
	if (rise)
		describe_counters(j, counters, sizeof(counters));
	else
		snprintf(counters, sizeof(counters), "its blocks older than %s pile up, under counters that go up and down",
			 fmt_duration(j->e->strongest.age).s);
	say(j, VERDICT_leak, leak_confidence(j, !rise), "%s; %s%s", site, counters,
	    is_young(j) ? "; the process is young and may be warming up" : "");
	return true;
}

/* The counters rise, and nobody is known to make them rise. */
static bool judge_unnamed(struct judge *j)
{
	double survivors = j->e->strongest.survivors, more = UNNAMED_MORE;
	char counters[128];

	if (!counters_rise(j))
		return false;
	if (!large_blocks_rise(j) && (rises(&j->s.python) ? j->s.python.trend.slope < UNNAMED_FLOOR
							   : fmax(j->s.blocks.trend.slope, j->s.raw.trend.slope) < UNNAMED_BLOCKS))
		return false;
	describe_counters(j, counters, sizeof(counters));
	if (j->e->seconds >= UNNAMED_SECONDS) {
		say(j, VERDICT_leak, is_young(j) ? 0.4 : 0.5, "%s; no line was seen to keep it", counters);
		return true;
	}
	/* As many survivors as a verdict needs, at the pace at which they came. */
	if (is_young(j) && j->e->seconds < YOUNG_SECONDS)
		more = YOUNG_SECONDS - j->e->seconds;
	else if (survivors > 0 && survivors < survivors_needed(j))
		more = fmin(600, fmax(10, j->e->seconds * (survivors_needed(j) / survivors - 1)));
	say(j, VERDICT_unknown, 0.3, "%s, but %s; about %s more will tell", counters,
	    piles_up(j) ? "the process is young and may be warming up" : "no line is known yet to keep it",
	    fmt_duration(ceil(more)).s);
	return true;
}

/* By how much the free space grew that the process holds, in arenas and in libc's heaps. */
static double held_growth(const struct judge *j)
{
	double arenas = j->s.free.last - j->s.free.first, libc = j->s.libc_free.last - j->s.libc_free.first;

	return fmax(0, isnan(arenas) ? 0 : arenas) + fmax(0, isnan(libc) ? 0 : libc);
}

static bool judge_levelling(struct judge *j)
{
	const struct sign *p = &j->s.python;
	double change = p->trend.total_change, share = LEVEL_SHARE;

	/* What moved by so much and is flat in the end has moved early: a cache that is full and gives a little back. */
	if (p->trend.kind == TREND_FLAT)
		share = LEVEL_SHARE_FLAT;
	else if (p->trend.kind != TREND_LEVELLING && p->trend.kind != TREND_STEPPED)
		return false;
	if (!(change >= fmax(LEVEL_CHANGE, share * p->first)))
		return false;
	/* what a peak left behind, and the holes around it: that is no cache */
	if (held_growth(j) >= HELD_BYTES && change < FRAGMENT_LIVE * held_growth(j))
		return false;
	say(j, VERDICT_levelling, p->trend.confidence,
	    "live bytes grew by %s in %s, but %s: %s on average, %s in the last third, as when caches warm up",
	    size(change).s, fmt_duration(p->trend.seconds).s,
	    p->trend.kind == TREND_STEPPED ? "in steps with rest between" : "the growth fades",
	    fmt_rate_bytes(change / p->trend.seconds).s, fmt_rate_bytes(p->trend.late_slope).s);
	return true;
}

/* What all else than Python's blocks and arenas grew by: the lesser of two ways to see it. */
static double native_slope(const struct judge *j)
{
	const struct sign *a = &j->s.beside_arenas, *b = &j->s.beside_live;

	/* Large blocks that grow unmeasured would look like it. */
	if (!j->s.large_known && rises(&j->s.raw))
		return 0;
	if (a->trend.kind == TREND_UNKNOWN)
		return rises(&j->s.rss) ? j->s.rss.trend.slope_low : 0;
	if (!rises(a) || !rises(b) || fmin(a->last - a->first, b->last - b->first) < NATIVE_GROWTH)
		return 0;
	return fmin(a->trend.slope, b->trend.slope);
}

/* "; app.py:41 asks for 97 KiB/s", where most of the growth is one line's; else "". */
static void describe_outside(const struct judge *j, double slope, char *out, size_t size_out)
{
	double grows = j->e->outside.growth;

	out[0] = '\0';
	if (j->e->outside.name && grows >= NATIVE_NAMED * slope && grows < 1e18)
		snprintf(out, size_out, "; %s asks for %s", j->outside, rate(grows).s);
}

static bool judge_native(struct judge *j, double least)
{
	const struct trend *python = &j->s.python.trend;
	double slope = native_slope(j);
	char outside[256];

	if (slope < fmax(NATIVE_FLOOR, least) || (python->kind != TREND_UNKNOWN && slope < python->slope_low))
		return false;
	describe_outside(j, slope, outside, sizeof(outside));
	if (python->kind == TREND_UNKNOWN)
		say(j, VERDICT_native, 0.4, "RSS grew %s for %s; of Python's part nothing is known", rate(slope).s,
		    fmt_duration(j->s.rss.trend.seconds).s);
	else
		say(j, VERDICT_native, j->s.beside_arenas.trend.confidence,
		    "memory that is not Python's grew %s for %s, Python's live bytes %s%s", rate(slope).s,
		    fmt_duration(j->s.beside_arenas.trend.seconds).s,
		    rises(&j->s.python) ? fmt_rate_bytes(python->slope).s : "did not", outside);
	return true;
}

static bool judge_fragments_growing(struct judge *j)
{
	const struct signs *s = &j->s;
	double arenas = s->arena.last - s->arena.first, live = s->python.last - s->python.first;

	if (!rises(&s->arena) || !(arenas >= FRAGMENT_GROWTH) || !(live < FRAGMENT_LIVE * arenas))
		return false;
	/* Teeth of which one now and then is higher than all before need one more arena each time: that comes to an end. */
	if (s->python.trend.kind == TREND_SAWTOOTH && !(arenas > s->python.most - s->python.min))
		return false;
	say(j, VERDICT_fragmentation, s->arena.trend.confidence,
	    "pymalloc's arenas grew by %s in %s, what lives in them by %s: %s of %s are free", size(arenas).s,
	    fmt_duration(s->arena.trend.seconds).s, size_change(live).s, size(s->free.last).s, size(s->arena.last).s);
	return true;
}

/* ... by as much as would be seen in RSS. */
static bool anything_grows(const struct judge *j)
{
	const struct sign *signs[] = { &j->s.python, &j->s.arena, &j->s.rss };

	for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
		if (rises(signs[i]) && signs[i]->last - signs[i]->first >= GROWS_SHARE * j->s.rss.last)
			return true;
	return false;
}

/* A peak that was seen: Python gave up much, the process did not give it back. */
static bool judge_peak_seen(struct judge *j)
{
	const struct sign *p = &j->s.python, *r = &j->s.rss;
	double freed = p->most - p->last;

	if (p->trend.kind == TREND_SAWTOOTH || anything_grows(j))
		return false;
	if (!(freed >= fmax(HELD_BYTES, HELD_SHARE * r->last)) || !(r->most - r->last <= HELD_BACK * freed))
		return false;
	say(j, VERDICT_high_water, 0.8,
	    "RSS stays at %s since a peak %s ago, when Python had %s; now %s are live and nothing grows", size(r->last).s,
	    fmt_duration(round(j->s.end - p->most_t)).s, size(p->most).s, size(p->last).s);
	return true;
}

/* Free space in libc's heaps, whether its blocks were Python's large ones or others'. */
static bool judge_held_by_libc(struct judge *j)
{
	const struct signs *s = &j->s;
	double held = s->libc_free.last, trimmable = s->trimmable.last;

	if (!(held >= HELD_BYTES) || !(held >= HELD_SHARE * s->rss.last) || held < s->free.last || anything_grows(j))
		return false;
	if (trimmable >= TRIM_SHARE * held)
		say(j, VERDICT_high_water, 0.7,
		    "%s of %s RSS are free inside libc's heaps, held since an earlier peak (RSS was %s at most); nothing grows; "
		    "malloc_trim(0) would return %s", size(held).s, size(s->rss.last).s, size(s->hwm.last).s, size(trimmable).s);
	else
		say(j, VERDICT_fragmentation, 0.6,
		    "%s of %s RSS are free inside libc's heaps, in pieces between blocks in use; nothing grows", size(held).s,
		    size(s->rss.last).s);
	return true;
}

/* What is there without growing: free space in arenas, from before the attach. */
static bool judge_held(struct judge *j)
{
	const struct signs *s = &j->s;
	double held = s->free.last, share = held / s->rss.last;

	if (judge_held_by_libc(j))
		return true;
	if (!(s->rss.last > 0) || !(held >= HELD_BYTES) || !(share >= HELD_SHARE) || anything_grows(j))
		return false;
	if (share > FRAGMENT_SHARE && s->rss.last >= FRAGMENT_RSS)
		say(j, VERDICT_fragmentation, 0.7,
		    "%s of %s RSS are free space in pymalloc's arenas, pinned by %s of live blocks; nothing grows",
		    size(held).s, size(s->rss.last).s, size(s->arena.last - held).s);
	else
		say(j, VERDICT_high_water, 0.6,
		    "%s of %s RSS are free space in pymalloc's arenas, held since an earlier peak (RSS was %s at most); nothing grows",
		    size(held).s, size(s->rss.last).s, size(s->hwm.last).s);
	return true;
}

static void judge_steady(struct judge *j)
{
	const struct sign *p = &j->s.python, *s = p->trend.kind != TREND_UNKNOWN ? p : &j->s.rss;
	const char *what = s == p ? "live bytes" : "RSS";

	if (s->trend.kind == TREND_SAWTOOTH)
		say(j, VERDICT_steady, s->trend.confidence, "%s go up and down between %s and %s, and come back each time",
		    what, size(s->min).s, size(s->most).s);
	else
		say(j, VERDICT_steady, s->trend.kind == TREND_UNKNOWN ? 0.3 : s->trend.confidence, "%s: %s, %s in %s", what,
		    size(s->last).s, size_change(s->last - s->first).s, fmt_duration(s->trend.seconds).s);
}

static bool judge_too_early(struct judge *j)
{
	double seconds = j->e->seconds >= 0 ? j->e->seconds : 0;

	if (seconds < VERDICT_MIN_SECONDS) {
		say(j, VERDICT_unknown, 0, "too early: seen for %s, %s more will tell", fmt_duration(seconds).s,
		    fmt_duration(ceil(VERDICT_MIN_SECONDS - seconds)).s);
		return true;
	}
	if (j->s.python.trend.kind == TREND_UNKNOWN && j->s.rss.trend.kind == TREND_UNKNOWN) {
		say(j, VERDICT_unknown, 0,
		    "neither the interpreter's counters nor RSS could be read often enough; %s more may tell",
		    fmt_duration(VERDICT_MIN_SECONDS).s);
		return true;
	}
	return false;
}

static void escape_name(const char *name, char *out, size_t size)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;

	fmt_escape_tail(&buf, name, 32);
	snprintf(out, size, "%s", strbuf_str(&buf));
}

struct verdict verdict_of(const struct evidence *evidence)
{
	struct judge j = { .e = evidence };

	signs_of(evidence, &j.s);
	escape_name(evidence->strongest.name, j.name, sizeof(j.name));
	escape_name(evidence->outside.name, j.outside, sizeof(j.outside));
	if (judge_too_early(&j))
		return j.v;
	if (piles_up(&j) && judge_native(&j, NATIVE_OVER_LEAK * evidence->growth.high))
		return j.v;
	if (judge_leak(&j) || judge_native(&j, 0) || judge_unnamed(&j) || judge_levelling(&j) ||
	    judge_fragments_growing(&j) || judge_peak_seen(&j) || judge_held(&j))
		return j.v;
	judge_steady(&j);
	return j.v;
}
