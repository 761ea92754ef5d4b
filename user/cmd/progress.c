/* SPDX-License-Identifier: MIT */
/* One line, written over itself with a carriage return and blanks: every terminal can do that. */
#include "cmd/progress.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fmt.h"
#include "base/strbuf.h"
#include "base/term.h"

#define QUIET_SECONDS 2.0
#define PERIOD_SECONDS 0.1
#define RATE_SECONDS 0.5   /* before that a rate is chance */

struct progress {
	const char *what;
	int fd;
	const struct clock *clock;
	uint64_t from_ns, shown_ns;
	unsigned shown_columns;   /* of the line on the terminal; 0: none */
};

int progress_new(const char *what, int fd, const struct clock *clock, struct progress **ret_progress)
{
	struct progress *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	*p = (struct progress){ .what = what, .fd = fd, .clock = clock, .from_ns = clock_mono_ns(clock) };
	*ret_progress = p;
	return 0;
}

static void put(struct progress *p, const struct strbuf *line, unsigned columns)
{
	_cleanup_(strbuf_free) struct strbuf out = STRBUF_INIT;

	strbuf_append_c(&out, '\r');
	strbuf_append_n(&out, strbuf_str(line), line->len);
	if (columns < p->shown_columns)
		strbuf_pad(&out, ' ', p->shown_columns - columns);
	if (!columns)
		strbuf_append_c(&out, '\r');
	p->shown_columns = columns;
	if (!strbuf_error(&out) && write(p->fd, strbuf_str(&out), out.len) < 0)
		p->fd = -1;
}

void progress_free(struct progress *p)
{
	const struct strbuf nothing = STRBUF_INIT;

	if (p && p->shown_columns && p->fd >= 0)
		put(p, &nothing, 0);
	free(p);
}

static void describe(struct strbuf *line, const char *what, uint64_t done, uint64_t total, double seconds)
{
	double rate = seconds >= RATE_SECONDS ? (double)done / seconds : 0;

	strbuf_appendf(line, "%s: ", what);
	if (total)
		strbuf_appendf(line, "%.0f %%, %s of %s", 100.0 * (double)done / (double)total, fmt_size(done).s, fmt_size(total).s);
	else
		strbuf_append(line, fmt_size(done).s);
	if (rate > 0)
		strbuf_appendf(line, ", %.1f GB/s", rate / 1e9);
	if (rate > 0 && total)
		strbuf_appendf(line, ", %.0f s left", (double)(total - done) / rate);
}

int progress_update(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	struct progress *p = ctx;
	_cleanup_(strbuf_free) struct strbuf line = STRBUF_INIT;
	unsigned width;

	if (!p || p->fd < 0 || clock_seconds_since(p->clock, p->from_ns) < QUIET_SECONDS ||
	    (p->shown_ns && clock_seconds_since(p->clock, p->shown_ns) < PERIOD_SECONDS))
		return 0;
	width = term_width(p->fd);
	if (!width) {
		p->fd = -1;
		return 0;
	}
	/* the total is an estimate of a heap that grows */
	if (total_bytes && done_bytes > total_bytes)
		total_bytes = done_bytes;
	describe(&line, p->what, done_bytes, total_bytes, clock_seconds_since(p->clock, p->from_ns));
	/* the last column stays free, or some terminals go on to the next line */
	strbuf_truncate(&line, width - 1);
	put(p, &line, (unsigned)line.len);
	p->shown_ns = clock_mono_ns(p->clock);
	return 0;
}
