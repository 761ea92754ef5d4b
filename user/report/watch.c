/* SPDX-License-Identifier: MIT */
#include "report/watch.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fmt.h"
#include "report/report.h"
#include "report/table.h"
#include "report/write.h"
#include "target/program_name.h"

#define NAME_COLUMNS 24

static const char *const event_names[] = {
#define X(id, name) name,
	WATCH_EVENTS(X)
#undef X
};

const char *watch_event_name(enum watch_event kind)
{
	return event_names[kind];
}

static void append_name(struct strbuf *buf, const struct watched *w)
{
	_cleanup_(freep) char *name = NULL;
	int r = program_name(w->cmdline, w->comm, &name);

	if (r)
		buf->error = r;
	else
		strbuf_append(buf, name);
}

static void append_line(struct strbuf *buf, const struct watched_finding *f)
{
	strbuf_append(buf, f->file[0] ? fmt_base_name(f->file) : "?");
	if (f->line)
		strbuf_appendf(buf, ":%d", f->line);
	if (f->function[0])
		strbuf_appendf(buf, " %s", f->function);
}

static json_t *target_json(struct json_builder *b, const struct watched *w)
{
	json_t *object = json_object(), *cmdline = w->cmdline ? json_array() : json_null();

	json_set(b, object, "pid", json_integer(w->id.pid));
	json_set(b, object, "python", json_text(w->python[0] ? w->python : NULL));
	for (size_t i = 0; w->cmdline && w->cmdline[i]; i++)
		json_push(b, cmdline, json_text(w->cmdline[i]));
	json_set(b, object, "cmdline", cmdline);
	json_set(b, object, "container", json_text(w->container));
	json_set(b, object, "comm", json_text(w->comm));
	json_set(b, object, "uid", json_integer((json_int_t)w->uid));
	json_set(b, object, "ppid", json_integer(w->ppid));
	json_set(b, object, "group", json_integer(w->group));
	json_set(b, object, "start_ticks", json_number(w->id.start_ticks));
	return object;
}

static json_t *end_json(struct json_builder *b, const struct watched *w)
{
	json_t *object;

	if (w->end != PROCESS_EXITED && w->end != PROCESS_KILLED && w->end != PROCESS_OOM)
		return json_null();
	object = json_object();
	json_set(b, object, w->end == PROCESS_EXITED ? "status" : "signal", json_integer(w->end_code));
	return object;
}

json_t *watch_event_json(enum watch_event kind, const struct watched *w, const char *why, struct timespec now)
{
	struct json_builder b = { 0 };
	json_t *object = json_object();

	json_set(&b, object, "schema", json_string("leaksnoop.event/1"));
	json_set(&b, object, "time", json_text(fmt_time(now).s));
	json_set(&b, object, "kind", json_string(watch_event_name(kind)));
	json_set(&b, object, "why", json_text(why && why[0] ? why : NULL));
	json_set(&b, object, "target", target_json(&b, w));
	json_set(&b, object, "memory", report_memory_json(&w->memory));
	json_set(&b, object, "growth_bytes_per_second", json_finite(w->growth));
	json_set(&b, object, "verdict", json_text(w->has_verdict ? verdict_name(w->verdict) : NULL));
	json_set(&b, object, "alert", json_boolean(w->alert));
	json_set(&b, object, "end", end_json(&b, w));
	json_set(&b, object, "report", w->report ? json_incref(w->report) : json_null());
	if (b.failed) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static void append_end(struct strbuf *buf, const struct watched *w)
{
	switch (w->end) {
	case PROCESS_EXITED:
		strbuf_appendf(buf, "exited with status %d", w->end_code);
		break;
	case PROCESS_KILLED:
		strbuf_appendf(buf, "killed by signal %d (%s)", w->end_code, strsignal(w->end_code));
		break;
	case PROCESS_OOM:
		strbuf_append(buf, "killed for want of memory");
		break;
	case PROCESS_EXECED:
		strbuf_append(buf, "runs another program now");
		break;
	case PROCESS_GONE:
		strbuf_append(buf, "gone");
		break;
	case PROCESS_RUNS:
		break;
	}
}

/* What of w belongs to an event of that kind, unescaped. */
static void append_what(struct strbuf *buf, enum watch_event kind, const struct watched *w, const char *why)
{
	switch (kind) {
	case WATCH_exit:
	case WATCH_killed:
	case WATCH_oom:
		append_end(buf, w);
		if (w->has_verdict && w->verdict != VERDICT_steady && w->verdict != VERDICT_unknown)
			strbuf_appendf(buf, "; %s: %s", verdict_name(w->verdict), w->why);
		return;
	case WATCH_verdict:
		strbuf_appendf(buf, "%s (%.2f): %s", verdict_name(w->verdict), w->confidence, w->why);
		return;
	case WATCH_start:
		strbuf_appendf(buf, "Python %s", w->python[0] ? w->python : "?");
		if (w->container)
			strbuf_appendf(buf, ", container %s", w->container);
		return;
	case WATCH_summary:
		strbuf_append(buf, w->has_verdict ? verdict_name(w->verdict) : "");
		if (w->n_findings) {
			strbuf_appendf(buf, " %s ", fmt_rate_bytes(w->findings[0].bytes_per_second.estimate).s);
			append_line(buf, &w->findings[0]);
		}
		return;
	case WATCH_alert:
	case WATCH_alert_end:
		strbuf_append(buf, why ?: "");
		return;
	}
}

void watch_event_text(struct strbuf *buf, enum watch_event kind, const struct watched *w, const char *why, struct timespec now)
{
	_cleanup_(strbuf_free) struct strbuf name = STRBUF_INIT, what = STRBUF_INIT;
	size_t at;

	append_name(&name, w);
	append_what(&what, kind, w, why);
	strbuf_appendf(buf, "%s  %-9s %7d ", fmt_time(now).s, watch_event_name(kind), w->id.pid);
	at = buf->len;
	fmt_escape(buf, strbuf_str(&name), NAME_COLUMNS);
	if (buf->len < at + NAME_COLUMNS)
		strbuf_pad(buf, ' ', at + NAME_COLUMNS - buf->len);
	strbuf_appendf(buf, " %10s %13s  ", fmt_size(w->memory.rss_bytes).s, fmt_rate_bytes(w->growth).s);
	fmt_escape(buf, strbuf_str(&what), 0);
	strbuf_append_c(buf, '\n');
}

/* ---- the table ---- */

static const struct column columns[] = {
	{ "pid", "PID", CELL_TEXT },
	{ "python", "PYTHON", CELL_TEXT },
	{ "rss_bytes", "RSS", CELL_SIZE },
	{ "growth", "GROWTH", CELL_RATE },
	{ "verdict", "VERDICT", CELL_TEXT },
	{ "name", "PROCESS", CELL_TEXT },
	{ "what", "WHAT GROWS", CELL_REST },
	{ 0 }
};

static double weight_of(const struct watched *w)
{
	double found = w->n_findings && w->has_verdict && w->verdict == VERDICT_leak ? w->findings[0].bytes_per_second.estimate : 0;
	double growth = isfinite(w->growth) ? w->growth : 0;

	return (w->alert ? 1e15 : 0) + (w->sampled_now ? 1 : 0) + fmax(found, 0) * 1e3 + fmax(growth, 0);
}

static int heavier(const void *a, const void *b)
{
	const struct watched *x = *(const struct watched *const *)a, *y = *(const struct watched *const *)b;
	double wx = weight_of(x), wy = weight_of(y);

	return wx > wy ? -1 : wx < wy ? 1 : x->id.pid < y->id.pid ? -1 : 1;
}

static json_t *row_of(const struct watched *w)
{
	_cleanup_(strbuf_free) struct strbuf name = STRBUF_INIT, what = STRBUF_INIT;
	const char *verdict = w->has_verdict ? verdict_name(w->verdict) : w->sampled_now ? "looking" : "";

	append_name(&name, w);
	if (w->group != w->id.pid)
		strbuf_appendf(&name, " (of %d)", w->group);
	if (w->n_findings) {
		strbuf_appendf(&what, "%s ", fmt_rate_bytes(w->findings[0].bytes_per_second.estimate).s);
		append_line(&what, &w->findings[0]);
	}
	return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "pid", (int)w->id.pid, "python", json_text(w->python), "rss_bytes",
			 json_number(w->memory.rss_bytes), "growth", json_finite(w->growth), "verdict", json_text(verdict), "name",
			 json_text(strbuf_str(&name)), "what", json_text(strbuf_str(&what)));
}

void watch_table(struct strbuf *buf, const struct watch_view *view, unsigned width, unsigned rows)
{
	_cleanup_(freep) const struct watched **order = calloc(view->n + 1, sizeof(*order));
	_cleanup_(json_decrefp) json_t *list = json_array();
	size_t shown = view->n;

	if (!order || !list) {
		buf->error = -ENOMEM;
		return;
	}
	memcpy(order, view->processes, view->n * sizeof(*order));
	qsort(order, view->n, sizeof(*order), heavier);
	/* Heading and last line. */
	if (rows && shown + 2 > rows)
		shown = rows > 3 ? rows - 3 : 1;
	for (size_t i = 0; i < shown && i < view->n; i++) {
		json_t *row = row_of(order[i]);

		if (!row || json_array_append_new(list, row))
			buf->error = -ENOMEM;
	}
	table_append(buf, list, columns, width);
	if (shown < view->n)
		strbuf_appendf(buf, "… %zu more\n", view->n - shown);
	strbuf_appendf(buf, "%zu processes, %s sampled now; leaksnoop: %.2f %% of a core, %s\n", view->n, fmt_count(view->self.sampled_now).s,
		       view->self.seconds > 0 ? 100 * view->self.cpu_seconds / view->self.seconds : 0, fmt_size(view->self.rss_bytes).s);
}

/* ---- from a report ---- */

static void take_text(char *dst, size_t size, const char *s)
{
	size_t len = s ? strnlen(s, size - 1) : 0;

	memcpy(dst, s ?: "", len);
	/* Not in the middle of a character. */
	while (len && s[len] && ((unsigned char)s[len] & 0xc0) == 0x80)
		len--;
	dst[len] = '\0';
}

static void take_finding(struct watched_finding *f, const struct report_finding *from)
{
	const struct report_frame *frame = from->n_traceback ? &from->traceback[0] : NULL;

	*f = (struct watched_finding){
		.kind = from->kind,
		.line = frame ? frame->line : 0,
		.bytes_per_second = from->bytes_per_second,
		.live_bytes = from->live_bytes,
	};
	take_text(f->file, sizeof(f->file), frame ? frame->file : NULL);
	take_text(f->function, sizeof(f->function), frame ? frame->function : NULL);
}

int watched_take_report(struct watched *w, const struct report *report, struct timespec now)
{
	json_t *json = report_to_json(report);

	if (!json)
		return -ENOMEM;
	json_decref(w->report);
	w->report = json;
	w->report_time = now;
	w->overhead_ratio = report->overhead_ratio;
	w->has_verdict = report->verdict != NULL;
	if (report->verdict) {
		w->verdict = report->verdict->kind;
		w->confidence = report->verdict->confidence;
		take_text(w->why, sizeof(w->why), report->verdict->why);
	}
	w->n_findings = report->n_findings < WATCHED_FINDINGS ? report->n_findings : WATCHED_FINDINGS;
	for (size_t i = 0; i < w->n_findings; i++)
		take_finding(&w->findings[i], &report->findings[i]);
	return 0;
}
