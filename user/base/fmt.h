/* SPDX-License-Identifier: MIT */
/*
 * Numbers and names as people read them. Numbers come back as a small string
 * by value, so that they can stand in an argument list:
 *     strbuf_appendf(buf, "%s in %s blocks", fmt_size(n).s, fmt_count(m).s);
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct strbuf;

struct fmt_text {
	char s[48];
};

#define FMT_UNKNOWN "-"   /* what REPORT_UNKNOWN and NAN look like */

/* As tracemalloc writes sizes: "512 B", "9.8 KiB", "120 KiB", "1.2 MiB". UINT64_MAX: "-". */
struct fmt_text fmt_size(uint64_t bytes);
/* The same with a sign: "+1.2 MiB", "-512 B", "+0 B". */
struct fmt_text fmt_size_signed(int64_t bytes);
/* "1,204". UINT64_MAX: "-". */
struct fmt_text fmt_count(uint64_t n);
struct fmt_text fmt_count_signed(int64_t n);
/* "0 s", "120 µs", "3.2 ms", "3.2 s", "2 min 5 s", "1 h 2 min", "3 d 4 h". Not a number, or negative: "-". */
struct fmt_text fmt_duration(double seconds);
/* "+1.2 KiB/s", "-3 B/s", "+0.40 B/s". */
struct fmt_text fmt_rate_bytes(double bytes_per_second);
/* "+341/s", "+0.03/s", "+1,204/s". */
struct fmt_text fmt_rate_count(double per_second);
/* A ratio, never rounded up to 1: "0.9999", "1". */
struct fmt_text fmt_ratio(double ratio);
/* RFC 3339, UTC, milliseconds: "2026-11-21T11:53:51.042Z". */
struct fmt_text fmt_time(struct timespec wall);

/*
 * Appends an untrusted string so that it can neither break the line nor steer a terminal: control characters (C0, DEL, C1), bytes
 * that are no UTF-8, line separators, bidirectional controls and invisible characters become \n \t \r, \xNN or \u{N}. max_columns
 * cuts what is longer, the last column being "…"; 0: no cut. Not meant to be undone: backslashes stay as they are. NULL appends "-".
 */
void fmt_escape(struct strbuf *buf, const char *s, size_t max_columns);
/* The same, but a long string keeps its end ("…/pkg/module.py"): for paths. */
void fmt_escape_tail(struct strbuf *buf, const char *s, size_t max_columns);

/* What stands behind the last slash; all of a path that ends in one. A part of path. */
const char *fmt_base_name(const char *path);
