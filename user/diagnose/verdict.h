/* SPDX-License-Identifier: MIT */
/*
 * What all the evidence says of a process, in one word, how sure that is, and
 * one sentence with the figures. A pure function. A service that does not leak
 * must not be accused, so a leak needs two witnesses that know nothing of each
 * other: the interpreter's own counters rise in a sustained way, and the
 * survivors of some line pile up.
 *
 * Limits: VERDICT_MIN_SECONDS of evidence; what would be found under a sawtooth, see trend.h. Numbers may be absurd: what is
 * not finite, negative or beyond any memory is unknown.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "diagnose/model.h"
#include "diagnose/trend.h"

#define VERDICT_MIN_SECONDS 10.0

/* What was measured at one time; about one a second. NAN: unknown. Bytes, but for t (seconds) and the blocks. */
struct evidence_point {
	double t;
	double rss, anon_bytes, hwm_bytes; /* resident, of it anonymous, and the most there ever was */
	double live_bytes, live_blocks; /* pymalloc's small blocks in use */
	double large_bytes, raw_blocks; /* Python blocks over 512 bytes */
	double arena_bytes;
	/* of a balance sheet; most points have none: free and in memory inside arenas and inside libc's heaps, and what of the latter is whole pages */
	double arena_free, libc_free, trimmable;
};

struct evidence {
	double seconds; /* observed */
	double process_age; /* seconds, NAN unknown */
	const struct evidence_point *points;
	size_t n_points;
	struct report_estimate growth; /* bytes a second, all sites that grow steadily */
	struct {
		const char *name; /* "app.py:41", untrusted; NULL: no site is known */
		struct report_estimate growth; /* bytes a second */
		double allocated; /* bytes a second, kept or not; NAN unknown */
		enum trend_kind trend; /* of what it has kept */
		bool counted; /* the growth is the heap's own count; survivors only say whose it is */
		double survivors; /* blocks seen that lived to be this old: */
		double age; /* seconds */
		double large_share;        /* of its bytes: in blocks over 512 bytes; NAN unknown */
	} strongest;
	/* Of the lines that take memory past Python's allocator, by mmap() or the heap's growth. */
	struct {
		const char *name; /* as above */
		double growth; /* bytes a second */
	} outside;
};

struct verdict {
	enum verdict_kind kind;
	double confidence; /* 0..1 */
	char why[256]; /* UTF-8, escaped */
};

struct verdict verdict_of(const struct evidence *evidence);
