/* SPDX-License-Identifier: MIT */
/*
 * Formatting. No locale is consulted: the same input gives the same bytes
 * everywhere (callers never call setlocale() for LC_NUMERIC).
 */
#include "base/fmt.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/strbuf.h"
#include "base/utf8.h"

__attribute__((format(printf, 1, 2))) static struct fmt_text text(const char *fmt, ...)
{
	struct fmt_text t;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t.s, sizeof(t.s), fmt, ap);
	va_end(ap);
	return t;
}

/* One decimal below 100 of a unit, none up to 10 times 1024 of it: the rule of tracemalloc's reports. */
static struct fmt_text size_text(const char *sign, double size)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t last = sizeof(units) / sizeof(units[0]) - 1;

	for (size_t i = 0;; i++, size /= 1024) {
		if (i > 0 && size < 100)
			return text("%s%.1f %s", sign, size, units[i]);
		if (i == last && size >= 1e9)
			return text("%s%.2e %s", sign, size, units[i]);
		if (size < 10 * 1024 || i == last)
			return text("%s%.0f %s", sign, size, units[i]);
	}
}

struct fmt_text fmt_size(uint64_t bytes)
{
	return bytes == UINT64_MAX ? text(FMT_UNKNOWN) : size_text("", (double)bytes);
}

struct fmt_text fmt_size_signed(int64_t bytes)
{
	return size_text(bytes < 0 ? "-" : "+", fabs((double)bytes));
}

static struct fmt_text count_text(const char *sign, uint64_t n)
{
	char digits[24];
	struct fmt_text t;
	int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
	size_t at = strlen(sign);

	memcpy(t.s, sign, at);
	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			t.s[at++] = ',';
		t.s[at++] = digits[i];
	}
	t.s[at] = '\0';
	return t;
}

struct fmt_text fmt_count(uint64_t n)
{
	return n == UINT64_MAX ? text(FMT_UNKNOWN) : count_text("", n);
}

struct fmt_text fmt_count_signed(int64_t n)
{
	return n < 0 ? count_text("-", 0 - (uint64_t)n) : count_text("+", (uint64_t)n);
}

/* "2 min 5 s" of whole seconds; the smaller part is left out when it is 0. */
static struct fmt_text two_units(uint64_t n, uint64_t unit, const char *big, uint64_t subunit, const char *small)
{
	unsigned long long high = n / unit, low = n % unit / subunit;

	return low ? text("%llu %s %llu %s", high, big, low, small) : text("%llu %s", high, big);
}

struct fmt_text fmt_duration(double seconds)
{
	uint64_t n;

	if (!(seconds >= 0) || seconds > 1e15)
		return text(FMT_UNKNOWN);
	if (seconds == 0)
		return text("0 s");
	if (seconds < 0.9995e-3)
		return text("%.0f µs", seconds * 1e6);
	if (seconds < 0.09995)
		return text("%.1f ms", seconds * 1e3);
	if (seconds < 0.9995)
		return text("%.0f ms", seconds * 1e3);
	if (seconds < 119.95)
		return text("%.1f s", seconds);
	n = (uint64_t)(seconds + 0.5);
	if (n < 7200)
		return two_units(n, 60, "min", 1, "s");
	return n < 172800 ? two_units(n, 3600, "h", 60, "min") : two_units(n, 86400, "d", 3600, "h");
}

struct fmt_text fmt_rate_bytes(double rate)
{
	const char *sign = rate < 0 ? "-" : "+";
	struct fmt_text size;

	if (!isfinite(rate))
		return text(FMT_UNKNOWN);
	rate = fabs(rate);
	if (rate > 0 && rate < 9.95)
		return text("%s%.*f B/s", sign, rate < 0.995 ? 2 : 1, rate);
	size = size_text(sign, rate);
	return text("%.40s/s", size.s);
}

struct fmt_text fmt_rate_count(double rate)
{
	const char *sign = rate < 0 ? "-" : "+";
	struct fmt_text count;

	if (!isfinite(rate))
		return text(FMT_UNKNOWN);
	rate = fabs(rate);
	if (rate > 0 && rate < 99.95)
		return text("%s%.*f/s", sign, rate < 0.995 ? 2 : 1, rate);
	count = count_text(sign, rate < 1e18 ? (uint64_t)(rate + 0.5) : (uint64_t)1e18);
	return text("%.40s/s", count.s);
}

struct fmt_text fmt_ratio(double ratio)
{
	if (!isfinite(ratio))
		return text(FMT_UNKNOWN);
	if (ratio == 1)
		return text("1");
	return text("%.4f", ratio < 1 ? floor(ratio * 1e4) / 1e4 : ratio);
}

struct fmt_text fmt_time(struct timespec wall)
{
	struct tm tm;

	if (!gmtime_r(&wall.tv_sec, &tm) || tm.tm_year > 8099 || tm.tm_year < -1900)
		return text(FMT_UNKNOWN);
	return text("%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		    tm.tm_min, tm.tm_sec, wall.tv_nsec / 1000000 % 1000);
}

/* One character as it will be shown. */
struct glyph {
	char s[16];
	size_t len, columns;
	size_t taken;    /* bytes of the input */
};

static struct glyph glyph_of(const char *s, size_t len)
{
	struct glyph g = { 0 };
	uint32_t c;

	g.taken = utf8_decode(s, len, &c);
	if (c != UTF8_INVALID && !utf8_is_unsafe(c)) {
		memcpy(g.s, s, g.taken);
		g.len = g.taken;
		g.columns = utf8_width(c);
		return g;
	}
	if (c == '\n' || c == '\t' || c == '\r')
		snprintf(g.s, sizeof(g.s), "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
	else if (c == UTF8_INVALID || c < 0x80)
		snprintf(g.s, sizeof(g.s), "\\x%02x", (unsigned char)*s);
	else
		snprintf(g.s, sizeof(g.s), "\\u{%x}", c);
	g.len = g.columns = strlen(g.s);
	return g;
}

/* Appends glyphs while they fit in max columns; true if all of them did. */
static bool append_glyphs(struct strbuf *buf, const char *s, size_t len, size_t max)
{
	size_t columns = 0;

	while (len) {
		struct glyph g = glyph_of(s, len);

		if (columns + g.columns > max)
			return false;
		strbuf_append_n(buf, g.s, g.len);
		columns += g.columns;
		s += g.taken;
		len -= g.taken;
	}
	return true;
}

void fmt_escape(struct strbuf *buf, const char *s, size_t max_columns)
{
	size_t before = buf->len, len;

	if (!s) {
		strbuf_append(buf, FMT_UNKNOWN);
		return;
	}
	len = strlen(s);
	if (append_glyphs(buf, s, len, max_columns ? max_columns : SIZE_MAX))
		return;
	strbuf_truncate(buf, before);
	append_glyphs(buf, s, len, max_columns - 1);
	strbuf_append(buf, "…");
}

void fmt_escape_tail(struct strbuf *buf, const char *s, size_t max_columns)
{
	size_t total = 0, len, at = 0;

	len = s ? strlen(s) : 0;
	for (size_t i = 0; i < len;) {
		struct glyph g = glyph_of(s + i, len - i);

		total += g.columns;
		i += g.taken;
	}
	if (!s || !max_columns || total <= max_columns) {
		fmt_escape(buf, s, 0);
		return;
	}
	while (at < len && total > max_columns - 1) {
		struct glyph g = glyph_of(s + at, len - at);

		total -= g.columns;
		at += g.taken;
	}
	strbuf_append(buf, "…");
	append_glyphs(buf, s + at, len - at, SIZE_MAX);
}

const char *fmt_base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}
