/* SPDX-License-Identifier: MIT */
/*
 * What was, for people at 3 a.m. Processes, worst first:
 *
 *     PID   PYTHON  FIRST SEEN        LAST SEEN         END               PEAK       RSS      GROWTH  VERDICT  LINE         COMMAND
 *     4242  3.11.2  2026-11-20 22:10  2026-11-21 03:04  out of memory  1.9 GiB  1.90 GiB  +143 KiB/s  leak     cache.py:41  python3 app.py
 *
 * and one of them (--pid): its hours with the parts of its memory, its events, and its last report as 'attach' would have printed it.
 * Times are UTC. Strings are anything: table.c and fmt_escape() make them harmless.
 */
#include "report/past.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/fmt.h"
#include "report/parse.h"
#include "report/table.h"
#include "report/write.h"
#include "target/program_name.h"

#define WIDE_COLUMNS 150           /* of a terminal for all columns of processes */
#define WIDE_HOUR_COLUMNS 170
#define LINE_COLUMNS 32            /* of "cache.py:41" */
#define CONTAINER_COLUMNS 24
#define COMMAND_COLUMNS 512        /* where there is no terminal */
#define TEXT_COLUMNS 512

static const struct column wide_columns[] = {
	{ "pid", "PID", CELL_TEXT }, { "python", "PYTHON", CELL_TEXT }, { "first_seen", "FIRST SEEN", CELL_TEXT },
	{ "last_seen", "LAST SEEN", CELL_TEXT }, { "end", "END", CELL_TEXT }, { "rss_peak_bytes", "PEAK", CELL_SIZE },
	{ "rss_bytes", "RSS", CELL_SIZE }, { "growth_bytes_per_second", "GROWTH", CELL_RATE }, { "verdict", "VERDICT", CELL_TEXT },
	{ "line", "LINE", CELL_TEXT }, { "command", "COMMAND", CELL_REST }, { 0 }
};
static const struct column container_columns[] = {
	{ "pid", "PID", CELL_TEXT }, { "python", "PYTHON", CELL_TEXT }, { "container", "CONTAINER", CELL_TEXT },
	{ "first_seen", "FIRST SEEN", CELL_TEXT }, { "last_seen", "LAST SEEN", CELL_TEXT }, { "end", "END", CELL_TEXT },
	{ "rss_peak_bytes", "PEAK", CELL_SIZE }, { "rss_bytes", "RSS", CELL_SIZE }, { "growth_bytes_per_second", "GROWTH", CELL_RATE },
	{ "verdict", "VERDICT", CELL_TEXT }, { "line", "LINE", CELL_TEXT }, { "command", "COMMAND", CELL_REST }, { 0 }
};
static const struct column narrow_columns[] = {
	{ "pid", "PID", CELL_TEXT }, { "last_seen", "LAST SEEN", CELL_TEXT }, { "end", "END", CELL_TEXT }, { "rss_peak_bytes", "PEAK", CELL_SIZE },
	{ "verdict", "VERDICT", CELL_TEXT }, { "line", "LINE", CELL_TEXT }, { "command", "COMMAND", CELL_REST }, { 0 }
};
static const struct column hour_columns[] = {
	{ "start", "HOUR", CELL_TEXT }, { "rss_bytes", "RSS", CELL_SIZE }, { "rss_peak_bytes", "PEAK", CELL_SIZE },
	{ "pymalloc-live", "PYMALLOC", CELL_SIZE }, { "pymalloc-free", "(FREE)", CELL_SIZE }, { "python-large", "LARGE", CELL_SIZE },
	{ "libc-live", "LIBC", CELL_SIZE }, { "libc-free", "(FREE)", CELL_SIZE }, { "mmap", "MMAP", CELL_SIZE }, { "file", "FILE", CELL_SIZE },
	{ "stack", "STACK", CELL_SIZE }, { "other", "OTHER", CELL_SIZE }, { "growth_bytes_per_second", "GROWTH", CELL_RATE },
	{ "verdict", "VERDICT", CELL_TEXT }, { "line", "LINE", CELL_REST }, { 0 }
};
static const struct column narrow_hour_columns[] = {
	{ "start", "HOUR", CELL_TEXT }, { "rss_bytes", "RSS", CELL_SIZE }, { "rss_peak_bytes", "PEAK", CELL_SIZE },
	{ "python", "PYTHON", CELL_SIZE }, { "free", "FREE", CELL_SIZE }, { "growth_bytes_per_second", "GROWTH", CELL_RATE },
	{ "verdict", "VERDICT", CELL_TEXT }, { "line", "LINE", CELL_REST }, { 0 }
};
static const struct column event_columns[] = {
	{ "time", "TIME", CELL_TEXT }, { "kind", "KIND", CELL_TEXT }, { "text", "TEXT", CELL_REST }, { 0 }
};
static const struct column all_event_columns[] = {
	{ "time", "TIME", CELL_TEXT }, { "pid", "PID", CELL_TEXT }, { "program", "PROGRAM", CELL_TEXT }, { "kind", "KIND", CELL_TEXT },
	{ "text", "TEXT", CELL_REST }, { 0 }
};

/* "2026-11-21 03:04" (len 16) or with seconds (len 19) out of RFC 3339. */
static json_t *short_time(const json_t *time, size_t len)
{
	const char *s = json_string_value(time);
	char text[24];

	if (!s || strlen(s) < len || len >= sizeof(text))
		return json_null();
	memcpy(text, s, len);
	text[len] = '\0';
	text[10] = ' ';
	return json_text(text);
}

static json_t *cut_text(const char *s, size_t columns)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;

	if (!s)
		return json_null();
	fmt_escape_tail(&buf, s, columns);
	return strbuf_error(&buf) ? NULL : json_text(strbuf_str(&buf));
}

static json_t *line_text(const json_t *finding)
{
	const char *file = json_string_value(json_object_get(finding, "file"));
	json_int_t line = json_integer_value(json_object_get(finding, "line"));
	_cleanup_(freep) char *text = NULL;

	if (!file)
		return json_null();
	file = fmt_base_name(file);
	if (asprintf(&text, line > 0 ? "%s:%lld" : "%s", file, (long long)line) < 0)
		text = NULL;
	return cut_text(text, LINE_COLUMNS);
}

static json_t *command_text(const json_t *process)
{
	const json_t *cmdline = json_object_get(json_object_get(process, "target"), "cmdline"), *word;
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	const char *comm = json_string_value(json_object_get(process, "comm"));
	size_t i;

	json_array_foreach(cmdline, i, word) {
		strbuf_append(&buf, buf.len ? " " : "");
		strbuf_append(&buf, json_is_string(word) ? json_string_value(word) : "?");
	}
	if (!buf.len && comm)
		strbuf_appendf(&buf, "[%s]", comm);
	return buf.len ? json_text(strbuf_str(&buf)) : json_null();
}

static json_t *program_text(const json_t *process)
{
	const json_t *cmdline = json_object_get(json_object_get(process, "target"), "cmdline"), *word;
	_cleanup_(freep) const char **words = calloc(json_array_size(cmdline) + 1, sizeof(*words));
	_cleanup_(freep) char *name = NULL;
	size_t i;

	if (!words)
		return NULL;
	json_array_foreach(cmdline, i, word)
		words[i] = json_is_string(word) ? json_string_value(word) : "?";
	return program_name(words, json_string_value(json_object_get(process, "comm")) ?: "?", &name) ? NULL : cut_text(name, LINE_COLUMNS);
}

static json_t *end_text(const json_t *process)
{
	static const struct {
		const char *end, *text;
	} ends[] = {
		{ "runs", "running" }, { "oom", "out of memory" }, { "execed", "other program" }, { "gone", "ended unseen" },
	};
	const char *end = json_string_value(json_object_get(process, "end"));
	json_int_t code = json_integer_value(json_object_get(process, "end_code"));

	for (size_t i = 0; end && i < sizeof(ends) / sizeof(*ends); i++)
		if (!strcmp(end, ends[i].end))
			return json_string(ends[i].text);
	if (end && !strcmp(end, "exited"))
		return json_sprintf("exit %lld", (long long)code);
	if (end && !strcmp(end, "killed") && code > 0 && code < 64 && sigabbrev_np((int)code))
		return json_sprintf("SIG%s", sigabbrev_np((int)code));
	return end && !strcmp(end, "killed") ? json_sprintf("signal %lld", (long long)code) : json_null();
}

static json_t *shared(const json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);

	return value ? json_incref(value) : json_null();
}

static json_t *process_row(struct json_builder *b, const json_t *process)
{
	const json_t *target = json_object_get(process, "target");
	json_t *row = json_object();

	json_set(b, row, "pid", shared(target, "pid"));
	json_set(b, row, "python", shared(target, "python"));
	json_set(b, row, "container", cut_text(json_string_value(json_object_get(target, "container")), CONTAINER_COLUMNS));
	json_set(b, row, "first_seen", short_time(json_object_get(process, "first_seen"), 16));
	json_set(b, row, "last_seen", short_time(json_object_get(process, "last_seen"), 16));
	json_set(b, row, "end", end_text(process));
	json_set(b, row, "rss_peak_bytes", shared(process, "rss_peak_bytes"));
	json_set(b, row, "rss_bytes", shared(process, "rss_bytes"));
	json_set(b, row, "growth_bytes_per_second", shared(process, "growth_bytes_per_second"));
	json_set(b, row, "verdict", shared(json_object_get(process, "verdict"), "kind"));
	json_set(b, row, "line", line_text(json_object_get(process, "finding")));
	json_set(b, row, "command", command_text(process));
	return row;
}

static void append_processes(struct strbuf *buf, const json_t *processes, size_t top, const struct report_style *style)
{
	struct json_builder b = { 0 };
	json_t *rows = json_array(), *process;
	bool containers = false, narrow = style->width && style->width < WIDE_COLUMNS;
	size_t i, left_out = 0;

	json_array_foreach(processes, i, process) {
		if (top && i >= top) {
			left_out++;
			continue;
		}
		containers |= json_is_string(json_object_get(json_object_get(process, "target"), "container"));
		json_push(&b, rows, process_row(&b, process));
	}
	if (json_array_size(rows))
		table_append(buf, rows, narrow ? narrow_columns : containers ? container_columns : wide_columns, style->width);
	else
		strbuf_append(buf, "no process was seen\n");
	if (left_out)
		strbuf_appendf(buf, "and %s more (--top 0 shows all)\n", fmt_count(left_out).s);
	json_decref(rows);
}

/* The sum of two parts; null if neither is known. */
static json_t *sum(const json_t *row, const char *a, const char *b)
{
	const json_t *x = json_object_get(row, a), *y = json_object_get(row, b);
	json_int_t total;

	if (!json_is_integer(x) && !json_is_integer(y))
		return json_null();
	return __builtin_add_overflow(json_integer_value(x), json_integer_value(y), &total) ? json_null() : json_integer(total);
}

static json_t *hour_row(struct json_builder *b, const json_t *hour)
{
	const json_t *memory = json_object_get(hour, "memory");
	json_t *row = json_object(), *part;
	size_t i;

	json_set(b, row, "start", short_time(json_object_get(hour, "start"), 16));
	json_set(b, row, "rss_bytes", shared(memory, "rss_bytes"));
	json_set(b, row, "rss_peak_bytes", shared(hour, "rss_peak_bytes"));
	json_array_foreach(json_object_get(memory, "parts"), i, part) {
		const char *name = json_string_value(json_object_get(part, "name"));

		if (name)
			json_set(b, row, name, shared(part, "bytes"));
	}
	json_set(b, row, "python", sum(row, "pymalloc-live", "python-large"));
	json_set(b, row, "free", sum(row, "pymalloc-free", "libc-free"));
	json_set(b, row, "growth_bytes_per_second", shared(hour, "growth_bytes_per_second"));
	json_set(b, row, "verdict", shared(json_object_get(hour, "verdict"), "kind"));
	json_set(b, row, "line", line_text(json_array_get(json_object_get(hour, "findings"), 0)));
	return row;
}

static json_t *event_row(struct json_builder *b, const json_t *process, const json_t *event)
{
	json_t *row = json_object();

	json_set(b, row, "time", short_time(json_object_get(event, "time"), 19));
	json_set(b, row, "pid", shared(json_object_get(process, "target"), "pid"));
	json_set(b, row, "program", program_text(process));
	json_set(b, row, "kind", shared(event, "kind"));
	json_set(b, row, "text", shared(event, "text"));
	return row;
}

static int compare_events(const void *a, const void *b)
{
	const char *x = json_string_value(json_object_get(*(json_t *const *)a, "time"));
	const char *y = json_string_value(json_object_get(*(json_t *const *)b, "time"));

	return strcmp(x ? x : "", y ? y : "");
}

/* Of all processes; in one process they are in order already, which is kept where times are equal. */
static void append_all_events(struct strbuf *buf, const json_t *processes, const struct report_style *style)
{
	json_t *rows = json_array(), *sorted = json_array(), *process, *event, **v;
	struct json_builder b = { 0 };
	size_t i, k, n;

	json_array_foreach(processes, i, process)
		json_array_foreach(json_object_get(process, "events"), k, event)
			json_push(&b, rows, event_row(&b, process, event));
	n = json_array_size(rows);
	v = calloc(n + 1, sizeof(*v));
	for (i = 0; v && i < n; i++)
		v[i] = json_array_get(rows, i);
	if (v)
		qsort(v, n, sizeof(*v), compare_events);
	for (i = 0; v && i < n; i++)
		json_array_append(sorted, v[i]);
	if (n)
		table_append(buf, sorted, all_event_columns, style->width);
	else
		strbuf_append(buf, "nothing happened\n");
	free(v);
	json_decref(rows);
	json_decref(sorted);
}

static void append_text(struct strbuf *buf, const json_t *value, size_t columns)
{
	fmt_escape(buf, json_is_string(value) ? json_string_value(value) : NULL, columns);
}

static void append_head(struct strbuf *buf, const json_t *process, const struct report_style *style)
{
	const json_t *target = json_object_get(process, "target"), *verdict = json_object_get(process, "verdict");
	_cleanup_(json_decrefp) json_t *row = NULL;
	struct json_builder b = { 0 };

	row = process_row(&b, process);
	strbuf_append(buf, "PID ");
	table_cell(buf, json_object_get(row, "pid"), CELL_TEXT, 0);
	strbuf_append(buf, ", Python ");
	append_text(buf, json_object_get(target, "python"), TEXT_COLUMNS);
	if (json_is_string(json_object_get(target, "container"))) {
		strbuf_append(buf, ", container ");
		append_text(buf, json_object_get(target, "container"), TEXT_COLUMNS);
	}
	if (json_is_integer(json_object_get(process, "worker_of")))
		strbuf_appendf(buf, ", worker of %lld", (long long)json_integer_value(json_object_get(process, "worker_of")));
	strbuf_append(buf, ": ");
	append_text(buf, json_object_get(row, "command"), style->width ? style->width : COMMAND_COLUMNS);
	strbuf_append(buf, "\nseen from ");
	append_text(buf, json_object_get(process, "first_seen"), 0);
	strbuf_append(buf, " to ");
	append_text(buf, json_object_get(process, "last_seen"), 0);
	strbuf_append(buf, "; end: ");
	append_text(buf, json_object_get(row, "end"), 0);
	strbuf_append(buf, "; peak ");
	table_cell(buf, json_object_get(row, "rss_peak_bytes"), CELL_SIZE, 0);
	strbuf_append_c(buf, '\n');
	if (!json_is_object(verdict))
		return;
	strbuf_append(buf, "last verdict: ");
	append_text(buf, json_object_get(verdict, "kind"), TEXT_COLUMNS);
	if (json_is_string(json_object_get(verdict, "why"))) {
		strbuf_append(buf, ": ");
		append_text(buf, json_object_get(verdict, "why"), TEXT_COLUMNS);
	}
	strbuf_append_c(buf, '\n');
}

static int append_report(struct strbuf *buf, const json_t *process, const struct report_style *style)
{
	_cleanup_(parsed_report_freep) struct parsed_report *parsed = NULL;
	_cleanup_(freep) char *text = NULL;
	size_t size = 0;
	FILE *f;
	int r = report_parse(json_object_get(process, "last_report"), &parsed);

	if (r)
		return r == -EINVAL ? 0 : r;
	f = open_memstream(&text, &size);
	if (!f)
		return -ENOMEM;
	r = report_write(&report_text, parsed_report(parsed), style, f);
	fclose(f);
	strbuf_append(buf, "\nlast report, ");
	append_text(buf, json_object_get(process, "last_report_time"), 0);
	strbuf_append(buf, ":\n\n");
	if (text)
		strbuf_append_n(buf, text, size);
	return r;
}

static int append_details(struct strbuf *buf, const json_t *process, const struct report_style *style)
{
	json_t *rows = json_array(), *hour, *event;
	bool narrow = style->width && style->width < WIDE_HOUR_COLUMNS;
	struct json_builder b = { 0 };
	size_t i;

	append_head(buf, process, style);
	json_array_foreach(json_object_get(process, "hours"), i, hour)
		json_push(&b, rows, hour_row(&b, hour));
	if (json_array_size(rows)) {
		strbuf_append_c(buf, '\n');
		table_append(buf, rows, narrow ? narrow_hour_columns : hour_columns, style->width);
	}
	json_array_clear(rows);
	json_array_foreach(json_object_get(process, "events"), i, event)
		json_push(&b, rows, event_row(&b, process, event));
	if (json_array_size(rows)) {
		strbuf_append_c(buf, '\n');
		table_append(buf, rows, event_columns, style->width);
	}
	json_decref(rows);
	return append_report(buf, process, style);
}

int past_write_text(const json_t *history, enum past_view view, size_t top, const struct report_style *style, FILE *file)
{
	const json_t *processes = json_object_get(history, "processes");
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	json_t *process;
	size_t i;
	int r = 0;

	if (view == PAST_EVENTS)
		append_all_events(&buf, processes, style);
	if (view == PAST_PROCESSES || (view == PAST_DETAILS && !json_array_size(processes)))
		append_processes(&buf, processes, top, style);
	json_array_foreach(processes, i, process) {
		if (view != PAST_DETAILS || r || (top && i >= top))
			break;
		strbuf_append(&buf, i ? "\n" : "");
		r = append_details(&buf, process, style);
	}
	if (json_is_true(json_object_get(history, "truncated")))
		strbuf_append(&buf, "there is more than is shown: ask for less, with --pid or --since\n");
	return r ? r : write_strbuf(&buf, file);
}
