/* SPDX-License-Identifier: MIT */
/*
 * Rows of the history. A process has one row, and one for each hour, which is renewed by what is new: last values, and the highest. What has
 * not changed is not written: an idle process costs a look-up, and a write in five minutes.
 *
 * Strings come from targets: made valid UTF-8 and cut. A report is kept if it says something, at most one an hour and process, without its
 * findings beyond the tenth, and not at all if it is still over 256 KiB.
 */
#include <math.h>
#include <string.h>

#include "base/strbuf.h"
#include "base/utf8.h"
#include "report/store_impl.h"
#include "report/write.h"
#include "target/proc.h"

#define RENEW_SECONDS 60           /* between writes of last_seen alone */
#define HOUR_RENEW_SECONDS 300     /* between writes of an hour in which nothing changed */
#define FINDING_TYPES 3

static const char *const statements[STORE_STATEMENTS] = {
	[STORE_FIND] = "SELECT p.id, p.last_seen, p.ended, p.notable, p.report_time, p.python IS NOT NULL, h.id, h.report_time "
		       "FROM process p LEFT JOIN hour h ON h.process = p.id AND h.hour = ?4 WHERE p.pid = ?1 AND p.start_ticks = ?2 AND p.boot = ?3",
	[STORE_NEW] = "INSERT INTO process (boot, pid, start_ticks, first_seen, last_seen, ended, end_code, notable, ppid, worker_of, uid, comm, "
		      "python, container, cmdline) VALUES (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
	[STORE_RENEW] = "UPDATE process SET last_seen = max(last_seen, ?6), ended = ?7, end_code = ?8, notable = max(notable, ?9), ppid = ?10, "
			"worker_of = ?11, uid = ?12, comm = ?13, python = coalesce(?14, python), container = coalesce(?15, container), "
			"cmdline = coalesce(?16, cmdline) WHERE id = ?1",
#define VALUES "?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, " \
	       "?28, ?29, ?30, ?31, ?32"
	[STORE_HOUR_NEW] = "INSERT INTO hour (process, hour, time, rss_bytes, rss_peak_bytes, pss_bytes, explained_ratio, growth, growth_peak, "
			   "rss_growth, pymalloc_live_bytes, pymalloc_free_bytes, python_large_bytes, libc_live_bytes, libc_free_bytes, mmap_bytes, "
			   "file_bytes, stack_bytes, other_bytes, arenas, arena_bytes, live_blocks, live_bytes, fragmentation, sampled_seconds, "
			   "overhead_ratio, dropped, report_time, verdict, confidence, why, findings) VALUES (?1, " VALUES ")",
	/*
	 * ?33: how long ago is long enough to write what is the same. What sampling found stands until it finds something else: a writer that was
	 * started again knows nothing of it at first.
	 */
	[STORE_HOUR_RENEW] = "UPDATE hour SET time = ?3, rss_bytes = ?4, rss_peak_bytes = max(coalesce(rss_peak_bytes, ?5), coalesce(?5, rss_peak_bytes)), "
			     "pss_bytes = ?6, explained_ratio = ?7, growth = ?8, growth_peak = max(coalesce(growth_peak, ?9), coalesce(?9, growth_peak)), "
			     "rss_growth = ?10, pymalloc_live_bytes = ?11, pymalloc_free_bytes = ?12, python_large_bytes = ?13, libc_live_bytes = ?14, "
			     "libc_free_bytes = ?15, mmap_bytes = ?16, file_bytes = ?17, stack_bytes = ?18, other_bytes = ?19, arenas = ?20, "
			     "arena_bytes = ?21, live_blocks = ?22, live_bytes = ?23, fragmentation = ?24, "
			     "sampled_seconds = iif(?25 > 0, ?25, sampled_seconds), overhead_ratio = iif(?25 > 0, ?26, overhead_ratio), "
			     "dropped = iif(?25 > 0, ?27, dropped), report_time = iif(?29 IS NULL, report_time, ?28), verdict = coalesce(?29, verdict), "
			     "confidence = iif(?29 IS NULL, confidence, ?30), why = iif(?29 IS NULL, why, ?31), findings = iif(?34, ?32, findings) "
			     "WHERE id = ?1 AND (rss_bytes IS NOT ?4 OR live_bytes IS NOT ?23 OR (?29 IS NOT NULL AND (report_time IS NOT ?28 OR "
			     "verdict IS NOT ?29)) OR (?25 > 0 AND sampled_seconds IS NOT ?25) OR abs(?3 - time) >= ?33)",
	[STORE_REPORT_PUT] = "INSERT INTO report (process, hour, time, json) VALUES (?1, ?2, ?3, ?4) "
			     "ON CONFLICT (process, hour) DO UPDATE SET time = excluded.time, json = excluded.json",
	[STORE_REPORT_DROP] = "DELETE FROM report WHERE process = ?1 AND hour < ?2",
	[STORE_REPORT_TIME] = "UPDATE process SET report_time = ?2 WHERE id = ?1",
	[STORE_EVENT_PUT] = "INSERT INTO event (process, time, kind, text) VALUES (?1, ?2, ?3, ?4)",
};

int store_prepare(struct store *store)
{
	int rc = SQLITE_OK;

	for (int i = 0; i < STORE_STATEMENTS && rc == SQLITE_OK; i++)
		rc = sqlite3_prepare_v3(store->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &store->stmt[i], NULL);
	return rc;
}

static int run(sqlite3_stmt *stmt)
{
	int rc = sqlite3_step(stmt);

	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

static void bind_number(sqlite3_stmt *stmt, int i, uint64_t n)
{
	if (n <= INT64_MAX)
		sqlite3_bind_int64(stmt, i, (int64_t)n);
}

static void bind_double(sqlite3_stmt *stmt, int i, double x)
{
	if (isfinite(x))
		sqlite3_bind_double(stmt, i, x);
}

/* "" and NULL are not known. */
static void bind_text(sqlite3_stmt *stmt, int i, const char *s, size_t max)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	size_t len = s ? strnlen(s, max + 1) : 0;

	if (!len)
		return;
	if (len > max) {
		for (len = max; len > max - 4 && (s[len] & 0xc0) == 0x80; len--)
			;
	}
	utf8_append_valid(&buf, s, len);
	if (!strbuf_error(&buf))
		sqlite3_bind_text(stmt, i, strbuf_str(&buf), (int)buf.len, SQLITE_TRANSIENT);
}

/* Hands value over. */
static size_t bind_json(sqlite3_stmt *stmt, int i, json_t *value, size_t max)
{
	char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
	size_t len = text ? strlen(text) : 0;

	json_decref(value);
	if (len && len <= max)
		sqlite3_bind_text(stmt, i, text, (int)len, free);
	else
		free(text);
	return len <= max ? len : 0;
}

static json_t *cmdline_json(const char *const *cmdline)
{
	json_t *array = cmdline ? json_array() : NULL;
	struct json_builder b = { 0 };
	size_t left = STORE_CMDLINE_MAX;

	for (size_t i = 0; array && cmdline[i]; i++) {
		_cleanup_(freep) char *word = strndup(cmdline[i], left + 1);
		size_t len = word ? strlen(word) : 0;

		if (!word || len > left || i == STORE_CMDLINE_WORDS) {
			json_push(&b, array, json_string("…"));
			break;
		}
		json_push(&b, array, json_text(word));
		left -= len;
	}
	return array;
}

static int64_t hour_of(double time)
{
	return (int64_t)floor(time / STORE_HOUR) * STORE_HOUR;
}

/* What the database has of a process. */
struct found {
	int64_t process, hour;         /* 0: nothing */
	double last_seen, report_time, hour_report_time;
	bool same_end, notable, has_python;
};

static int find(struct store *store, const struct watched *w, double now, struct found *f)
{
	sqlite3_stmt *stmt = store->stmt[STORE_FIND];
	const char *ended;
	int rc;

	*f = (struct found){ .report_time = -1, .hour_report_time = -1 };
	sqlite3_bind_int64(stmt, 1, w->id.pid);
	sqlite3_bind_int64(stmt, 2, (int64_t)w->id.start_ticks);
	sqlite3_bind_text(stmt, 3, store->boot, -1, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 4, hour_of(now));
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		ended = (const char *)sqlite3_column_text(stmt, 2);
		f->process = sqlite3_column_int64(stmt, 0);
		f->last_seen = sqlite3_column_double(stmt, 1);
		f->same_end = ended && !strcmp(ended, store_end_name(w->end));
		f->notable = sqlite3_column_int(stmt, 3);
		if (sqlite3_column_type(stmt, 4) != SQLITE_NULL)
			f->report_time = sqlite3_column_double(stmt, 4);
		f->has_python = sqlite3_column_int(stmt, 5);
		f->hour = sqlite3_column_int64(stmt, 6);
		if (sqlite3_column_type(stmt, 7) != SQLITE_NULL)
			f->hour_report_time = sqlite3_column_double(stmt, 7);
	}
	sqlite3_reset(stmt);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static bool is_notable(const struct watched *w)
{
	return w->has_verdict || w->alert || w->end == PROCESS_OOM;
}

static double time_of(struct timespec t)
{
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int put_identity(struct store *store, const struct watched *w, double now, struct found *f)
{
	bool fresh = !f->process, known_end = w->end == PROCESS_EXITED || w->end == PROCESS_KILLED;
	sqlite3_stmt *stmt = store->stmt[fresh ? STORE_NEW : STORE_RENEW];
	double first = time_of(w->first_seen);
	int rc;

	if (!fresh && f->same_end && fabs(now - f->last_seen) < RENEW_SECONDS && (f->notable || !is_notable(w)) && (f->has_python || !w->python[0]))
		return SQLITE_OK;
	if (fresh) {
		sqlite3_bind_text(stmt, 2, store->boot, -1, SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 3, w->id.pid);
		sqlite3_bind_int64(stmt, 4, (int64_t)w->id.start_ticks);
		sqlite3_bind_double(stmt, 5, first > 0 && first < now ? first : now);
	} else {
		sqlite3_bind_int64(stmt, 1, f->process);
	}
	sqlite3_bind_double(stmt, 6, now);
	sqlite3_bind_text(stmt, 7, store_end_name(w->end), -1, SQLITE_STATIC);
	if (known_end)
		sqlite3_bind_int64(stmt, 8, w->end_code);
	sqlite3_bind_int64(stmt, 9, is_notable(w));
	sqlite3_bind_int64(stmt, 10, w->ppid);
	if (w->group && w->group != w->id.pid)
		sqlite3_bind_int64(stmt, 11, w->group);
	sqlite3_bind_int64(stmt, 12, w->uid);
	bind_text(stmt, 13, w->comm, sizeof(w->comm));
	bind_text(stmt, 14, w->python, sizeof(w->python));
	bind_text(stmt, 15, w->container, STORE_TEXT_MAX);
	bind_json(stmt, 16, cmdline_json(w->cmdline), 8 * STORE_CMDLINE_MAX);
	rc = run(stmt);
	if (fresh && rc == SQLITE_OK)
		f->process = sqlite3_last_insert_rowid(store->db);
	return rc;
}

/* The types of the report's finding that stands at this line, the largest first. */
static json_t *types_of(const json_t *report, size_t i, const struct watched_finding *f)
{
	const json_t *finding = json_array_get(json_object_get(report, "findings"), i);
	const json_t *frame = json_array_get(json_object_get(finding, "traceback"), 0);
	const json_t *types = json_object_get(finding, "types");
	json_t *copy;

	if (!json_is_array(types) || json_integer_value(json_object_get(frame, "line")) != f->line)
		return json_null();
	copy = json_array();
	for (size_t k = 0; k < json_array_size(types) && k < FINDING_TYPES; k++)
		json_array_append(copy, json_array_get(types, k));
	return copy;
}

static json_t *findings_json(const struct watched *w)
{
	struct json_builder b = { 0 };
	json_t *array = json_array();

	for (size_t i = 0; i < w->n_findings && i < WATCHED_FINDINGS; i++) {
		const struct watched_finding *f = &w->findings[i];
		json_t *object = json_object(), *rate = json_object();

		json_set(&b, object, "kind", json_text(finding_kind_name(f->kind)));
		json_set(&b, object, "file", json_text(f->file[0] ? f->file : NULL));
		json_set(&b, object, "line", f->line > 0 ? json_integer(f->line) : json_null());
		json_set(&b, object, "function", json_text(f->function[0] ? f->function : NULL));
		json_set(&b, rate, "estimate", json_finite(f->bytes_per_second.estimate));
		json_set(&b, rate, "low", json_finite(f->bytes_per_second.low));
		json_set(&b, rate, "high", json_finite(f->bytes_per_second.high));
		json_set(&b, object, "bytes_per_second", rate);
		json_set(&b, object, "live_bytes", json_number(f->live_bytes));
		json_set(&b, object, "types", types_of(w->report, i, f));
		json_push(&b, array, object);
	}
	return array;
}

static void bind_memory(sqlite3_stmt *stmt, const struct watched *w)
{
	const struct report_memory *m = &w->memory;

	bind_number(stmt, 4, m->rss_bytes);
	bind_number(stmt, 5, m->rss_bytes);
	bind_number(stmt, 6, m->pss_bytes);
	bind_double(stmt, 7, m->explained_ratio);
	bind_double(stmt, 8, w->growth);
	bind_double(stmt, 9, w->growth);
	bind_double(stmt, 10, m->growth_bytes_per_second);
	for (int i = 0; m->has_parts && i < MEMORY_PART_COUNT; i++)
		bind_number(stmt, 11 + i, m->part[i].bytes);
	bind_number(stmt, 20, w->arenas);
	bind_number(stmt, 21, w->arena_bytes);
	bind_number(stmt, 22, w->live_blocks);
	bind_number(stmt, 23, w->live_bytes);
	bind_double(stmt, 24, w->fragmentation);
}

static int put_hour(struct store *store, const struct watched *w, double now, const struct found *f)
{
	sqlite3_stmt *stmt = store->stmt[f->hour ? STORE_HOUR_RENEW : STORE_HOUR_NEW];
	double report_time = time_of(w->report_time);
	bool findings = w->has_verdict && (!f->hour || f->hour_report_time != report_time);

	sqlite3_bind_int64(stmt, 1, f->hour ? f->hour : f->process);
	if (!f->hour)
		sqlite3_bind_int64(stmt, 2, hour_of(now));
	sqlite3_bind_double(stmt, 3, now);
	bind_memory(stmt, w);
	bind_double(stmt, 25, w->sampled_seconds);
	bind_double(stmt, 26, w->sampled_seconds > 0 ? w->overhead_ratio : NAN);
	if (w->sampled_seconds > 0)
		bind_number(stmt, 27, w->dropped);
	if (w->has_verdict) {
		sqlite3_bind_double(stmt, 28, report_time);
		sqlite3_bind_text(stmt, 29, verdict_name(w->verdict), -1, SQLITE_STATIC);
		bind_double(stmt, 30, w->confidence);
		bind_text(stmt, 31, w->why, sizeof(w->why));
	}
	if (findings)
		bind_json(stmt, 32, findings_json(w), STORE_REPORT_MAX);
	if (f->hour) {
		sqlite3_bind_double(stmt, 33, w->end == PROCESS_RUNS ? HOUR_RENEW_SECONDS : 0);
		sqlite3_bind_int(stmt, 34, findings);
	}
	return run(stmt);
}

/* A copy of the first findings, sharing what is in them. NULL: it says nothing, or no memory. */
static json_t *report_cut(const json_t *report)
{
	json_t *findings = json_object_get(report, "findings"), *cut, *few;
	const char *kind = json_string_value(json_object_get(json_object_get(report, "verdict"), "kind"));
	bool plain = !kind || !strcmp(kind, verdict_name(VERDICT_steady)) || !strcmp(kind, verdict_name(VERDICT_unknown));

	if (!json_is_object(report) || (!json_array_size(findings) && plain))
		return NULL;
	cut = json_copy((json_t *)report);
	few = json_array();
	for (size_t i = 0; i < json_array_size(findings) && i < STORE_REPORT_FINDINGS; i++)
		json_array_append(few, json_array_get(findings, i));
	if (json_is_array(findings))
		json_object_set(cut, "findings", few);
	json_decref(few);
	return cut;
}

static int put_report(struct store *store, const struct watched *w, double now, const struct found *f)
{
	double time = time_of(w->report_time);
	sqlite3_stmt *stmt = store->stmt[STORE_REPORT_PUT];
	json_t *cut = w->report && time > f->report_time ? report_cut(w->report) : NULL;
	int rc;

	if (!cut)
		return SQLITE_OK;
	if (bind_json(stmt, 4, cut, STORE_REPORT_MAX)) {
		sqlite3_bind_int64(stmt, 1, f->process);
		sqlite3_bind_int64(stmt, 2, hour_of(now));
		sqlite3_bind_double(stmt, 3, time);
		rc = run(stmt);
		if (rc != SQLITE_OK)
			return rc;
	}
	stmt = store->stmt[STORE_REPORT_DROP];
	sqlite3_bind_int64(stmt, 1, f->process);
	sqlite3_bind_int64(stmt, 2, hour_of(now) - STORE_REPORT_HOURS * STORE_HOUR);
	rc = run(stmt);
	stmt = store->stmt[STORE_REPORT_TIME];
	sqlite3_bind_int64(stmt, 1, f->process);
	sqlite3_bind_double(stmt, 2, time);
	return rc == SQLITE_OK ? run(stmt) : rc;
}

int store_write_process(struct store *store, const struct watched *w, double now, bool renew, int64_t *ret_process)
{
	struct found f;
	int rc = find(store, w, now, &f);

	if (renew)
		f.same_end = false;
	if (rc == SQLITE_OK)
		rc = put_identity(store, w, now, &f);
	if (rc == SQLITE_OK)
		rc = put_hour(store, w, now, &f);
	if (rc == SQLITE_OK)
		rc = put_report(store, w, now, &f);
	*ret_process = f.process;
	return rc;
}

int store_write_event(struct store *store, const struct watched *w, const char *kind, const char *text, double now)
{
	sqlite3_stmt *stmt = store->stmt[STORE_EVENT_PUT];
	int64_t process;
	int rc = store_write_process(store, w, now, true, &process);

	if (rc != SQLITE_OK)
		return rc;
	sqlite3_bind_int64(stmt, 1, process);
	sqlite3_bind_double(stmt, 2, now);
	sqlite3_bind_text(stmt, 3, kind, (int)strnlen(kind, 64), SQLITE_STATIC);
	bind_text(stmt, 4, text, STORE_TEXT_MAX);
	return run(stmt);
}

int store_settle(struct store *store)
{
	sqlite3_stmt *list = NULL, *mark = NULL;
	int rc = sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(store->db, "SELECT id, pid, start_ticks, boot FROM process WHERE ended = ?1", -1, &list, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(store->db, "UPDATE process SET ended = ?2 WHERE id = ?1", -1, &mark, NULL);
	if (rc == SQLITE_OK)
		sqlite3_bind_text(list, 1, store_end_name(PROCESS_RUNS), -1, SQLITE_STATIC);
	while (rc == SQLITE_OK && sqlite3_step(list) == SQLITE_ROW) {
		const char *boot = (const char *)sqlite3_column_text(list, 3);
		struct proc_stat stat;

		if (boot && !strcmp(boot, store->boot) && !proc_stat_read((pid_t)sqlite3_column_int64(list, 1), &stat) &&
		    stat.start_ticks == (uint64_t)sqlite3_column_int64(list, 2))
			continue;
		sqlite3_bind_int64(mark, 1, sqlite3_column_int64(list, 0));
		sqlite3_bind_text(mark, 2, store_end_name(PROCESS_GONE), -1, SQLITE_STATIC);
		rc = run(mark);
	}
	sqlite3_finalize(list);
	sqlite3_finalize(mark);
	if (!sqlite3_get_autocommit(store->db)) {
		if (rc == SQLITE_OK)
			rc = sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
		else
			sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
	}
	return rc;
}
