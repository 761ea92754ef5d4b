/* SPDX-License-Identifier: MIT */
/*
 * leaksnoop.memory/1, and the same as text:
 *
 *     PID 18208, Python 3.11.2: /usr/bin/python3 app.py
 *     RSS 412.0 MiB, PSS 405.1 MiB, 99.9 % explained; +1.2 MiB/s for 30 s, most of it libc-live
 *
 *     PART           BYTES      SHARE  SINCE LAST  RATE        WHAT
 *     pymalloc-live  180.2 MiB  44 %   +1.0 KiB    +210 B/s    Python's blocks of up to 512 bytes
 *     ...
 *     libc: 9 arenas, 180.1 MiB in use in 12,019 chunks, 6.1 MiB free (120 KiB of it in caches of threads), 4.0 MiB to trim; 3 chunks mapped, 20.5 MiB
 *     advice: ...
 *
 * Parts that are 0 and always were are left out of the text.
 */
#include "report/memory.h"

#include <errno.h>
#include <math.h>

#include "base/fmt.h"
#include "report/table.h"
#include "report/write.h"

static const char *const what[MEMORY_PART_COUNT] = {
	[MEMORY_pymalloc_live] = "Python's blocks of up to 512 bytes",
	[MEMORY_pymalloc_free] = "free in pymalloc's arenas",
	[MEMORY_python_large] = "Python's larger blocks",
	[MEMORY_libc_live] = "malloc: in use by others, numpy among them",
	[MEMORY_libc_free] = "malloc: free, and kept",
	[MEMORY_mmap] = "mapped by the program itself",
	[MEMORY_file] = "programs, libraries, mapped files",
	[MEMORY_stack] = "stacks of threads",
	[MEMORY_other] = "not explained",
};

static const struct column columns[] = {
	{ "part", "PART", CELL_TEXT },     { "bytes", "BYTES", CELL_SIZE }, { "share", "SHARE", CELL_TEXT }, { "delta", "SINCE LAST", CELL_TEXT },
	{ "rate", "RATE", CELL_TEXT }, { "what", "WHAT", CELL_REST }, { 0 }
};

static json_t *size_json(uint64_t n)
{
	return n > INT64_MAX ? json_null() : json_integer((json_int_t)n);
}

static json_t *real(double x)
{
	return isfinite(x) ? json_real(x) : json_null();
}

static json_t *libc_json(const struct balance *b)
{
	const struct libc_heap_info *i = &b->libc;

	if (!b->has_libc)
		return json_null();
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "arenas", (json_int_t)i->arenas,
			 "used_bytes", (json_int_t)i->used, "used_chunks", (json_int_t)i->used_chunks,
			 "free_bytes", (json_int_t)i->free, "free_chunks", (json_int_t)i->free_chunks,
			 "cached_bytes", (json_int_t)i->cached, "top_bytes", (json_int_t)i->top,
			 "resident_free_bytes", (json_int_t)i->resident_free, "trimmable_bytes", (json_int_t)i->trimmable,
			 "mmapped_bytes", (json_int_t)i->mmapped, "mmapped_chunks", (json_int_t)i->mmapped_chunks,
			 "refused", (json_int_t)i->refused, "retries", (json_int_t)i->retries);
}

/* What each part changed by since the sheet before; null on the first. */
static json_t *deltas_json(const struct memory_series *series)
{
	const struct balance *now = memory_series_last(series), *before = memory_series_before(series);
	json_t *object;

	if (!before)
		return json_null();
	object = json_object();
	for (int i = 0; i < MEMORY_PART_COUNT; i++)
		json_object_set_new(object, memory_part_name((enum memory_part)i),
				    json_integer((json_int_t)now->part[i] - (json_int_t)before->part[i]));
	return object;
}

json_t *memory_report_json(const struct memory_report *report)
{
	const struct balance *b = memory_series_last(report->series);
	int grows = memory_series_grows(report->series);
	struct report_memory memory;

	memory_series_report(report->series, &memory);
	return json_pack("{s:s, s:O, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:I, s:I}, s:o, s:o}", "schema", "leaksnoop.memory/1",
			 "target", report->target, "time", json_text(fmt_time(report->time).s), "seconds", real(report->seconds),
			 "memory", report_memory_json(&memory), "swap_bytes", size_json(b->swap),
			 "grows", grows < 0 ? json_null() : json_text(memory_part_name((enum memory_part)grows)),
			 "delta_bytes", deltas_json(report->series), "libc", libc_json(b),
			 "pymalloc", "arenas", (json_int_t)b->arenas, "arena_bytes", (json_int_t)b->arena_bytes,
			 "advice", json_text(report->advice), "read_seconds", real(b->seconds));
}

int memory_write_json(const struct memory_report *report, const struct report_style *style, FILE *file)
{
	_cleanup_(json_decrefp) json_t *object = memory_report_json(report);

	return object ? write_json(object, style->pretty, file) : -ENOMEM;
}

static void header(struct strbuf *buf, const struct memory_report *report, const struct report_memory *memory, unsigned width)
{
	const char *container = json_string_value(json_object_get(report->target, "container"));
	const struct balance *b = memory_series_last(report->series);
	_cleanup_(strbuf_free) struct strbuf command = STRBUF_INIT;
	int grows = memory_series_grows(report->series);
	json_t *arg;
	size_t i;

	json_array_foreach(json_object_get(report->target, "cmdline"), i, arg)
		strbuf_appendf(&command, "%s%s", i ? " " : "", json_string_value(arg) ?: "");
	strbuf_appendf(&command, "%s%s%s", container ? " (container " : "", container ?: "", container ? ")" : "");
	strbuf_appendf(buf, "PID %lld, Python %s: ", (long long)json_integer_value(json_object_get(report->target, "pid")),
		       json_string_value(json_object_get(report->target, "python")) ?: "-");
	fmt_escape(buf, strbuf_str(&command), width > 50 ? width - 30 : width ? 20 : 512);
	strbuf_appendf(buf, "\nRSS %s, PSS %s%s%s", fmt_size(memory->rss_bytes).s, fmt_size(memory->pss_bytes).s, b->swap ? ", swap " : "",
		       b->swap ? fmt_size(b->swap).s : "");
	if (isfinite(memory->explained_ratio))
		strbuf_appendf(buf, ", %.1f %% explained", floor(1000 * memory->explained_ratio) / 10);
	if (isfinite(memory->growth_bytes_per_second))
		strbuf_appendf(buf, "; %s for %s", fmt_rate_bytes(memory->growth_bytes_per_second).s, fmt_duration(report->seconds).s);
	if (grows >= 0)
		strbuf_appendf(buf, ", most of all %s", memory_part_name((enum memory_part)grows));
	strbuf_append(buf, "\n\n");
}

static json_t *rows_json(const struct memory_report *report, const struct report_memory *memory)
{
	const struct balance *now = memory_series_last(report->series), *before = memory_series_before(report->series);
	json_t *rows = json_array();

	for (int i = 0; i < MEMORY_PART_COUNT; i++) {
		double rate = memory->part[i].growth_bytes_per_second;
		json_t *row;

		if (!memory->part[i].bytes && !(fabs(rate) > 0))
			continue;
		row = json_pack("{s:s, s:o, s:o, s:s, s:s, s:s}", "part", memory_part_name((enum memory_part)i),
				"bytes", size_json(memory->part[i].bytes), "share",
				json_sprintf("%.0f %%", now->rss ? 100.0 * (double)now->part[i] / (double)now->rss : 0.0),
				"delta", before ? fmt_size_signed((int64_t)(now->part[i] - before->part[i])).s : FMT_UNKNOWN,
				"rate", isfinite(rate) ? fmt_rate_bytes(rate).s : FMT_UNKNOWN, "what", what[i]);
		json_array_append_new(rows, row);
	}
	return rows;
}

static void libc_line(struct strbuf *buf, const struct balance *b)
{
	const struct libc_heap_info *i = &b->libc;

	if (!b->has_libc) {
		strbuf_append(buf, "libc: not glibc's malloc; what another allocator holds is in mmap\n");
		return;
	}
	strbuf_appendf(buf, "libc: %s arena%s, %s in use in %s chunks, %s free", fmt_count(i->arenas).s, i->arenas == 1 ? "" : "s",
		       fmt_size(i->used).s, fmt_count(i->used_chunks).s, fmt_size(i->free + i->top).s);
	strbuf_appendf(buf, " (%s in memory, %s to trim, %s in caches of threads)", fmt_size(i->resident_free).s, fmt_size(i->trimmable).s,
		       fmt_size(i->cached).s);
	strbuf_appendf(buf, "; %s chunks mapped, %s\n", fmt_count(i->mmapped_chunks).s, fmt_size(i->mmapped).s);
	if (i->refused)
		strbuf_appendf(buf, "libc: %s places in its heaps made no sense, %s are not accounted for\n", fmt_count(i->refused).s,
			       fmt_size(i->lost).s);
}

int memory_write_text(const struct memory_report *report, const struct report_style *style, FILE *file)
{
	const struct balance *b = memory_series_last(report->series);
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	_cleanup_(json_decrefp) json_t *rows = NULL;
	struct report_memory memory;

	memory_series_report(report->series, &memory);
	rows = rows_json(report, &memory);
	if (!rows)
		return -ENOMEM;
	header(&buf, report, &memory, style->width);
	table_append(&buf, rows, columns, style->width);
	strbuf_append_c(&buf, '\n');
	libc_line(&buf, b);
	if (report->advice)
		strbuf_appendf(&buf, "advice: %s\n", report->advice);
	return write_strbuf(&buf, file);
}
