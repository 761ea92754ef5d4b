/* SPDX-License-Identifier: MIT */
/*
 * The report for people at 3 a.m.: who was looked at, how much of it was
 * seen, what grew, in order, and last what was lost on the way.
 *
 *     PID 4242, Python 3.11.2, exact, 30.0 s: python3 app.py --port 80
 *     coverage 0.9981 (1,202,043 of 1,204,331 allocations)
 *       note: 3 threads ran before the probes were in place
 *
 *     #1  12.3 MiB live in 10,240 blocks, +410 KiB/s, +341/s, oldest 29.1 s
 *       /srv/app/cache.py:41  Cache.put
 *           self.items[key] = Entry(value)
 *       /srv/app/views.py:88  handle
 *           cache.put(request.path, body)
 *       … 12 more
 *       types: Entry 10,240 (1.2 MiB), str 10,240 (11.1 MiB)
 *       held by app.cache.CACHE.items (dict, 10,240 items, +341/s)
 *
 *     and 31 more, 1.1 MiB together
 *
 *     lost: 1,204 allocations (ring full; raise --ring-size), 3 stacks (ring full; raise --ring-size)
 *     memory: RSS 84.2 MiB (+410 KiB/s), PSS 80.1 MiB, 99.7 % explained
 *
 * Names come from the target: every one goes through fmt_escape(). Paths are
 * not cut to the terminal's width, so that they can be copied; source text and
 * command lines are.
 */
#include <math.h>
#include <string.h>

#include "base/fmt.h"
#include "report/report.h"
#include "report/write.h"

#define FRAMES_SHOWN 8     /* by line; a traceback shows all */
#define SOURCES_SHOWN 3    /* source text under the innermost frames */
#define TYPES_SHOWN 5
#define NAME_COLUMNS 256   /* of one name or path */
#define LINE_COLUMNS 512   /* of a line that would fill a terminal, where there is none */

#define PLAIN "\033[0m"
#define BOLD "\033[1m"
#define DIM "\033[2m"
#define CYAN "\033[36m"
#define YELLOW "\033[33m"

struct out {
	struct strbuf buf;
	const struct report_style *style;
};

static void say(struct out *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct out *out, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strbuf_vappendf(&out->buf, fmt, ap);
	va_end(ap);
}

static void colour(struct out *out, const char *code)
{
	if (out->style->colours)
		strbuf_append(&out->buf, code);
}

static void name(struct out *out, const char *s)
{
	fmt_escape(&out->buf, s ? s : "?", NAME_COLUMNS);
}

/* Columns left of a line of which used are taken. */
static size_t room(const struct out *out, size_t used)
{
	size_t width = out->style->width ? out->style->width : LINE_COLUMNS;

	return width > used + 20 ? width - used : 20;
}

static void header(struct out *out, const struct report *report)
{
	_cleanup_(strbuf_free) struct strbuf command = STRBUF_INIT;
	const char *const *argv = report->target.cmdline;
	size_t start = out->buf.len;

	colour(out, BOLD);
	say(out, "PID %d, Python ", (int)report->target.pid);
	name(out, report->target.python);
	say(out, ", %s, %s", report->mode ? report->mode : "?", fmt_duration(report->seconds).s);
	if (report->target.container) {
		say(out, ", container ");
		name(out, report->target.container);
	}
	for (size_t i = 0; argv && argv[i] && command.len < 4 * LINE_COLUMNS; i++) {
		strbuf_append(&command, i ? " " : "");
		strbuf_append_n(&command, argv[i], strnlen(argv[i], 4 * LINE_COLUMNS));
	}
	if (command.len) {
		say(out, ": ");
		fmt_escape(&out->buf, strbuf_str(&command), room(out, out->buf.len - start));
	}
	colour(out, PLAIN);
	say(out, "\n");
}

static bool is_sampled(const struct report *report)
{
	return report->mode && !strcmp(report->mode, "sampled");
}

/* sampled 151,798 of about 4,210,000 allocations (3.6 %), at a cost of 1.3 % of a processor's time */
static void sample(struct out *out, const struct report *report)
{
	say(out, "sampled %s", fmt_count(report->coverage.seen).s);
	if (report->coverage.happened != REPORT_UNKNOWN)
		say(out, " of about %s allocations", fmt_count(report->coverage.happened).s);
	else
		say(out, " allocations");
	if (isfinite(report->coverage.ratio))
		say(out, " (%.2g %%)", 100 * report->coverage.ratio);
	if (isfinite(report->overhead_ratio))
		say(out, ", at a cost of %.2g %% of a processor's time", 100 * report->overhead_ratio);
	colour(out, PLAIN);
	say(out, "\n");
}

static void notes(struct out *out, const struct report *report)
{
	for (size_t i = 0; report->coverage.notes && report->coverage.notes[i]; i++) {
		say(out, "  note: ");
		fmt_escape(&out->buf, report->coverage.notes[i], LINE_COLUMNS);
		say(out, "\n");
	}
}

static void coverage(struct out *out, const struct report *report)
{
	bool sampled = is_sampled(report), low = !sampled && isfinite(report->coverage.ratio) && report->coverage.ratio < 0.999;

	colour(out, low ? YELLOW : DIM);
	if (sampled) {
		sample(out, report);
		notes(out, report);
		return;
	}
	say(out, "coverage %s", isfinite(report->coverage.ratio) ? fmt_ratio(report->coverage.ratio).s : "not known");
	if (report->coverage.happened != REPORT_UNKNOWN)
		say(out, " (%s of %s allocations)", fmt_count(report->coverage.seen).s,
		    fmt_count(report->coverage.happened).s);
	else if (report->coverage.seen != REPORT_UNKNOWN)
		say(out, " (%s allocations seen)", fmt_count(report->coverage.seen).s);
	if (low)
		say(out, ": what was not seen is missing below");
	colour(out, PLAIN);
	say(out, "\n");
	notes(out, report);
}

static void verdict(struct out *out, const struct report_verdict *v)
{

	if (!v)
		return;
	colour(out, BOLD);
	say(out, "verdict: %s", verdict_name(v->kind));
	colour(out, PLAIN);
	if (isfinite(v->confidence))
		say(out, " (confidence %.2f)", v->confidence);
	if (v->why) {
		say(out, ": ");
		fmt_escape(&out->buf, v->why, LINE_COLUMNS);
	}
	say(out, "\n");
}

/* An exact rate is a number, an estimated one shows its interval. */
static void rates(struct out *out, const struct report_finding *f)
{
	const struct report_estimate *bytes = &f->bytes_per_second, *blocks = &f->blocks_per_second;

	if (isfinite(bytes->estimate))
		say(out, ", %s", fmt_rate_bytes(bytes->estimate).s);
	if (isfinite(bytes->estimate) && isfinite(bytes->low) && isfinite(bytes->high) && bytes->low != bytes->high)
		say(out, " (%s to %s)", fmt_rate_bytes(bytes->low).s, fmt_rate_bytes(bytes->high).s);
	if (isfinite(blocks->estimate))
		say(out, ", %s", fmt_rate_count(blocks->estimate).s);
}

/* #1  +138 KiB/s (+130 KiB/s to +147 KiB/s), +1,129/s of 1,130/s allocated; about 1715 KiB live in 14,007 blocks, oldest 24.6 s */
static void estimate_head(struct out *out, const struct report_finding *f)
{
	const struct report_estimate *bytes = &f->bytes_per_second;

	if (isfinite(bytes->estimate))
		say(out, "%s", fmt_rate_bytes(bytes->estimate).s);
	else
		say(out, "growth not known yet");
	if (isfinite(bytes->low) && isfinite(bytes->high) && bytes->low != bytes->high)
		say(out, " (%s to %s)", fmt_rate_bytes(bytes->low).s, fmt_rate_bytes(bytes->high).s);
	colour(out, PLAIN);
	if (isfinite(f->blocks_per_second.estimate))
		say(out, ", %s", fmt_rate_count(f->blocks_per_second.estimate).s);
	if (isfinite(f->allocations_per_second))
		say(out, " of %s allocated", fmt_rate_count(f->allocations_per_second).s + 1);
	say(out, "; about %s live in %s block%s", fmt_size(f->live_bytes).s, fmt_count(f->live_blocks).s, f->live_blocks == 1 ? "" : "s");
}

static void exact_head(struct out *out, const struct report_finding *f)
{
	say(out, "%s live in %s block%s", fmt_size(f->live_bytes).s, fmt_count(f->live_blocks).s, f->live_blocks == 1 ? "" : "s");
	colour(out, PLAIN);
	if (f->live_bytes != REPORT_UNKNOWN && f->delta_bytes != (int64_t)f->live_bytes)
		say(out, ", %s since the last report", fmt_size_signed(f->delta_bytes).s);
	rates(out, f);
}

static void finding_head(struct out *out, const struct report_finding *f, size_t rank, bool sampled)
{

	colour(out, BOLD);
	say(out, "#%zu  ", rank);
	if (sampled)
		estimate_head(out, f);
	else
		exact_head(out, f);
	if (isfinite(f->age_seconds))
		say(out, ", oldest %s", fmt_duration(f->age_seconds).s);
	if (f->kind != FINDING_python)
		say(out, " [%s]", finding_kind_name(f->kind));
	say(out, "\n");
}

static void frame(struct out *out, const struct report_frame *f, bool with_source)
{
	say(out, "  ");
	colour(out, CYAN);
	fmt_escape_tail(&out->buf, f->file ? f->file : "?", NAME_COLUMNS);
	if (f->line > 0)
		say(out, ":%d", f->line);
	colour(out, PLAIN);
	if (f->function) {
		say(out, "  ");
		name(out, f->function);
	}
	say(out, f->native ? " [native]\n" : "\n");
	if (!with_source || !f->source || !*f->source)
		return;
	say(out, "      ");
	colour(out, DIM);
	fmt_escape(&out->buf, f->source, room(out, 6));
	colour(out, PLAIN);
	say(out, "\n");
}

static void traceback(struct out *out, const struct report_finding *f, bool all)
{
	size_t shown = all || f->n_traceback <= FRAMES_SHOWN ? f->n_traceback : FRAMES_SHOWN;

	if (!f->n_traceback)
		say(out, "  (no Python frame)\n");
	for (size_t i = 0; i < shown; i++)
		frame(out, &f->traceback[i], i < SOURCES_SHOWN);
	if (shown < f->n_traceback)
		say(out, "  … %zu more%s\n", f->n_traceback - shown, f->truncated ? ", and deeper ones not recorded" : "");
	else if (f->truncated)
		say(out, "  … deeper frames were not recorded; raise --frames\n");
}

static void types(struct out *out, const struct report_finding *f)
{
	for (size_t i = 0; f->types && i < f->n_types && i < TYPES_SHOWN; i++) {
		say(out, i ? ", " : "  types: ");
		name(out, f->types[i].name);
		say(out, " %s (%s)", fmt_count(f->types[i].count).s, fmt_size(f->types[i].bytes).s);
	}
	if (f->types && f->n_types)
		say(out, f->n_types > TYPES_SHOWN ? ", …\n" : "\n");
}

static void holder(struct out *out, const struct report_holder *h)
{
	if (!h)
		return;
	say(out, "  held by ");
	colour(out, CYAN);
	name(out, h->path);
	colour(out, PLAIN);
	say(out, " (");
	name(out, h->type);
	if (h->length != REPORT_UNKNOWN)
		say(out, ", %s item%s", fmt_count(h->length).s, h->length == 1 ? "" : "s");
	if (isfinite(h->growth_per_second))
		say(out, ", %s", fmt_rate_count(h->growth_per_second).s);
	say(out, ")\n");
}

static void second_hand(struct out *out, const struct report_finding *f)
{
	say(out, "  second-hand: this memory was taken from a free list; the line made it first, another may hold it now");
	if (f->likelier) {
		say(out, ", likelier ");
		name(out, f->likelier->file);
		say(out, ":%d  ", f->likelier->line);
		name(out, f->likelier->function);
	}
	say(out, "\n");
}

static void findings(struct out *out, const struct report *report)
{
	bool all = report->group_by && !strcmp(report->group_by, "traceback");

	if (!report->n_findings)
		say(out, "\nnothing allocated since the attach is still alive%s\n",
		    report->n_findings_more ? " where the filters look" : "");
	for (size_t i = 0; i < report->n_findings; i++) {
		const struct report_finding *f = &report->findings[i];

		say(out, "\n");
		finding_head(out, f, i + 1, is_sampled(report));
		traceback(out, f, all);
		if (f->first_hand == 0)
			second_hand(out, f);
		types(out, f);
		holder(out, f->holder);
	}
	if (report->n_findings_more)
		say(out, "\nand %s more, %s together\n", fmt_count(report->n_findings_more).s, fmt_size(report->more_bytes).s);
}

/* "allocations lost" reads twice as lost behind "lost:". */
static void loss(struct out *out, const struct report_loss *l, const char *before)
{
	static const char lost[] = " lost";
	size_t tail = sizeof(lost) - 1;

	say(out, "%s%s ", before, fmt_count(l->count).s);
	name(out, l->what ? l->what : "events");
	if (out->buf.len > tail && !strcmp(strbuf_str(&out->buf) + out->buf.len - tail, lost))
		strbuf_truncate(&out->buf, out->buf.len - tail);
	if (!l->remedy || !*l->remedy)
		return;
	say(out, " (");
	name(out, l->remedy);
	say(out, ")");
}

static void losses(struct out *out, const struct report *report)
{
	size_t shown = 0;

	say(out, "\nlost: ");
	for (size_t i = 0; i < report->coverage.n_losses; i++)
		if (report->coverage.losses[i].count)
			loss(out, &report->coverage.losses[i], shown++ ? ", " : "");
	if (!shown && report->coverage.dropped && report->coverage.dropped != REPORT_UNKNOWN)
		say(out, "%s events", fmt_count(report->coverage.dropped).s);
	else if (!shown)
		say(out, report->coverage.dropped == REPORT_UNKNOWN ? "not known" : "0 events");
	say(out, "\n");
	if (report->coverage.unresolved_frames && report->coverage.unresolved_frames != REPORT_UNKNOWN)
		say(out, "frames without a name or line: %s\n", fmt_count(report->coverage.unresolved_frames).s);
}

static void memory(struct out *out, const struct report_memory *m)
{
	static const char *const parts[] = {
#define X(id, text) text,
		MEMORY_PARTS(X)
#undef X
	};

	if (!m)
		return;
	say(out, "memory: RSS %s", fmt_size(m->rss_bytes).s);
	if (isfinite(m->growth_bytes_per_second))
		say(out, " (%s)", fmt_rate_bytes(m->growth_bytes_per_second).s);
	say(out, ", PSS %s", fmt_size(m->pss_bytes).s);
	if (isfinite(m->explained_ratio))
		say(out, ", %.1f %% explained", floor(1000 * m->explained_ratio) / 10);
	say(out, "\n");
	for (size_t i = 0; m->has_parts && i < MEMORY_PART_COUNT; i++) {
		/* nothing of it now, nor before */
		if (!m->part[i].bytes && !(fabs(m->part[i].growth_bytes_per_second) > 0))
			continue;
		say(out, "  %-14s %10s  %s\n", parts[i], fmt_size(m->part[i].bytes).s,
		    isfinite(m->part[i].growth_bytes_per_second) ? fmt_rate_bytes(m->part[i].growth_bytes_per_second).s : FMT_UNKNOWN);
	}
}

static int text_write(const struct report *report, const struct report_style *style, FILE *file)
{
	struct out out = { .style = style };
	int r;

	header(&out, report);
	coverage(&out, report);
	verdict(&out, report->verdict);
	findings(&out, report);
	losses(&out, report);
	memory(&out, report->memory);
	r = write_strbuf(&out.buf, file);
	strbuf_free(&out.buf);
	return r;
}

const struct report_writer report_text = {
	.name = "text",
	.summary = "for people",
	.write = text_write,
};
