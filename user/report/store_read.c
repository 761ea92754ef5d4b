/* SPDX-License-Identifier: MIT */
/*
 * leaksnoop.history/1 out of a database that may be anything: every value is checked for its type, every string made valid UTF-8, rows and
 * time are bounded, and what is no JSON is left out. Worst first: killed for want of memory, then leaks, then by growth, then the newest.
 *
 *     {"schema": "leaksnoop.history/1", "file": "/var/lib/leaksnoop/history.db", "truncated": false, "processes": [{"target": {"pid": 4242,
 *      "python": "3.11.2", "cmdline": [..], "container": null}, "first_seen": "...", "end": "oom", "hours": [..], "events": [..], ...}]}
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fmt.h"
#include "report/store_impl.h"
#include "report/write.h"

#define PROCESSES_MAX 20000
#define ROWS_MAX 20000             /* hours and events together: some 360 MB of JSON values and text */
#define SECONDS_MAX 60.0
#define TRIES 5

struct reader {
	sqlite3 *db;
	const struct store_query *query;
	sqlite3_stmt *hours, *peaks, *verdict, *events, *report;
	size_t rows;
	bool truncated;
	struct json_builder b;
	double deadline;
};

/* A row of the answer while it is put in order. */
struct row {
	json_t *process;
	int64_t id;
	int rank;
	double growth, last_seen;
};

static bool is_null(sqlite3_stmt *stmt, int i)
{
	return sqlite3_column_type(stmt, i) == SQLITE_NULL;
}

static json_t *text_of(sqlite3_stmt *stmt, int i)
{
	const char *s = sqlite3_column_type(stmt, i) == SQLITE_TEXT ? (const char *)sqlite3_column_text(stmt, i) : NULL;

	return json_text(s);
}

static uint64_t number_of(sqlite3_stmt *stmt, int i)
{
	int64_t n = sqlite3_column_type(stmt, i) == SQLITE_INTEGER ? sqlite3_column_int64(stmt, i) : -1;

	return n < 0 ? REPORT_UNKNOWN : (uint64_t)n;
}

static double double_of(sqlite3_stmt *stmt, int i)
{
	int type = sqlite3_column_type(stmt, i);

	return type == SQLITE_FLOAT || type == SQLITE_INTEGER ? sqlite3_column_double(stmt, i) : NAN;
}

static json_t *time_json(double seconds)
{
	struct timespec t;

	if (!isfinite(seconds) || fabs(seconds) > 1e11)
		return json_null();
	t.tv_sec = (time_t)floor(seconds);
	t.tv_nsec = (long)((seconds - floor(seconds)) * 1e9);
	return json_text(fmt_time(t).s);
}

/* Text that holds JSON of one kind; anything else is null. */
static json_t *json_of(sqlite3_stmt *stmt, int i, json_type type)
{
	const char *s = sqlite3_column_type(stmt, i) == SQLITE_TEXT ? (const char *)sqlite3_column_text(stmt, i) : NULL;
	size_t len = s ? (size_t)sqlite3_column_bytes(stmt, i) : 0;
	json_t *value = len && len <= STORE_REPORT_MAX ? json_loadb(s, len, 0, NULL) : NULL;

	if (value && json_typeof(value) == type)
		return value;
	json_decref(value);
	return json_null();
}

static json_t *verdict_json(struct reader *r, sqlite3_stmt *stmt, int i)
{
	json_t *object;

	if (is_null(stmt, i))
		return json_null();
	object = json_object();
	json_set(&r->b, object, "kind", text_of(stmt, i));
	json_set(&r->b, object, "confidence", json_finite(double_of(stmt, i + 1)));
	json_set(&r->b, object, "why", text_of(stmt, i + 2));
	return object;
}

#define HOURS "SELECT hour, time, rss_bytes, pss_bytes, rss_growth, explained_ratio, pymalloc_live_bytes, pymalloc_free_bytes, " \
	      "python_large_bytes, libc_live_bytes, libc_free_bytes, mmap_bytes, file_bytes, stack_bytes, other_bytes, rss_peak_bytes, " \
	      "growth, growth_peak, arenas, arena_bytes, live_blocks, live_bytes, fragmentation, sampled_seconds, overhead_ratio, dropped, " \
	      "verdict, confidence, why, findings FROM hour WHERE process = ?1 AND hour > ?2 - 3600 AND hour <= ?3 ORDER BY hour"

static json_t *memory_json(sqlite3_stmt *stmt)
{
	struct report_memory memory = {
		.rss_bytes = number_of(stmt, 2), .pss_bytes = number_of(stmt, 3), .growth_bytes_per_second = double_of(stmt, 4),
		.explained_ratio = double_of(stmt, 5),
	};

	for (int i = 0; i < MEMORY_PART_COUNT; i++) {
		memory.part[i].bytes = number_of(stmt, 6 + i);
		memory.part[i].growth_bytes_per_second = NAN;
		memory.has_parts |= memory.part[i].bytes != REPORT_UNKNOWN;
	}
	return report_memory_json(&memory);
}

static json_t *hour_json(struct reader *r, sqlite3_stmt *stmt)
{
	json_t *object = json_object();

	json_set(&r->b, object, "start", time_json(double_of(stmt, 0)));
	json_set(&r->b, object, "time", time_json(double_of(stmt, 1)));
	json_set(&r->b, object, "memory", memory_json(stmt));
	json_set(&r->b, object, "rss_peak_bytes", json_number(number_of(stmt, 15)));
	json_set(&r->b, object, "growth_bytes_per_second", json_finite(double_of(stmt, 16)));
	json_set(&r->b, object, "growth_peak_bytes_per_second", json_finite(double_of(stmt, 17)));
	json_set(&r->b, object, "arenas", json_number(number_of(stmt, 18)));
	json_set(&r->b, object, "arena_bytes", json_number(number_of(stmt, 19)));
	json_set(&r->b, object, "live_blocks", json_number(number_of(stmt, 20)));
	json_set(&r->b, object, "live_bytes", json_number(number_of(stmt, 21)));
	json_set(&r->b, object, "fragmentation", json_finite(double_of(stmt, 22)));
	json_set(&r->b, object, "sampled_seconds", json_finite(double_of(stmt, 23)));
	json_set(&r->b, object, "overhead_ratio", json_finite(double_of(stmt, 24)));
	json_set(&r->b, object, "dropped", json_number(number_of(stmt, 25)));
	json_set(&r->b, object, "verdict", verdict_json(r, stmt, 26));
	json_set(&r->b, object, "findings", json_of(stmt, 29, JSON_ARRAY));
	return object;
}

static json_t *event_json(struct reader *r, sqlite3_stmt *stmt)
{
	json_t *object = json_object();

	json_set(&r->b, object, "time", time_json(double_of(stmt, 0)));
	json_set(&r->b, object, "kind", text_of(stmt, 1));
	json_set(&r->b, object, "text", text_of(stmt, 2));
	return object;
}

static void bind_span(const struct reader *r, sqlite3_stmt *stmt, int64_t id)
{
	sqlite3_reset(stmt);
	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_double(stmt, 2, r->query->since > 0 ? r->query->since : -1e12);
	sqlite3_bind_double(stmt, 3, r->query->until > 0 ? r->query->until : 1e12);
}

/* All rows of stmt, while there is room. */
static int rows_json(struct reader *r, sqlite3_stmt *stmt, int64_t id, json_t *(*row)(struct reader *, sqlite3_stmt *), json_t **ret_array)
{
	json_t *array = json_array();
	int rc;

	bind_span(r, stmt, id);
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		if (r->rows++ >= ROWS_MAX) {
			r->truncated = true;
			break;
		}
		json_push(&r->b, array, row(r, stmt));
	}
	sqlite3_reset(stmt);
	*ret_array = array;
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* A process's highest and last values. */
static int peaks(struct reader *r, struct row *row)
{
	json_t *finding = NULL, *findings;
	int rc;

	bind_span(r, r->peaks, row->id);
	rc = sqlite3_step(r->peaks);
	if (rc != SQLITE_ROW)
		return rc;
	json_set(&r->b, row->process, "rss_peak_bytes", json_number(number_of(r->peaks, 0)));
	json_set(&r->b, row->process, "rss_bytes", json_number(number_of(r->peaks, 1)));
	row->growth = double_of(r->peaks, 2);
	json_set(&r->b, row->process, "growth_bytes_per_second", json_finite(row->growth));
	sqlite3_reset(r->peaks);
	bind_span(r, r->verdict, row->id);
	rc = sqlite3_step(r->verdict);
	json_set(&r->b, row->process, "verdict", rc == SQLITE_ROW ? verdict_json(r, r->verdict, 0) : json_null());
	findings = rc == SQLITE_ROW ? json_of(r->verdict, 3, JSON_ARRAY) : NULL;
	finding = json_array_get(findings, 0);
	json_set(&r->b, row->process, "finding", finding ? json_incref(finding) : json_null());
	json_decref(findings);
	if (rc == SQLITE_ROW && sqlite3_column_type(r->verdict, 0) == SQLITE_TEXT &&
	    !strcmp((const char *)sqlite3_column_text(r->verdict, 0), "leak") && row->rank > 1)
		row->rank = 1;
	sqlite3_reset(r->verdict);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static json_t *end_json(sqlite3_stmt *stmt, int i)
{
	const char *s = sqlite3_column_type(stmt, i) == SQLITE_TEXT ? (const char *)sqlite3_column_text(stmt, i) : "";

#define X(id, name)             \
	if (!strcmp(s, name))   \
		return json_string(name);
	STORE_ENDS(X)
#undef X
	return json_null();
}

/* Should there be too many, those in which something was found stay. */
#define PROCESSES "SELECT id, pid, start_ticks, first_seen, last_seen, ended, end_code, ppid, worker_of, uid, comm, python, container, cmdline " \
		  "FROM process WHERE (?1 = 0 OR pid = ?1) AND last_seen >= ?2 AND first_seen <= ?3 ORDER BY notable DESC, last_seen DESC, id DESC"

static void process_row(struct reader *r, sqlite3_stmt *stmt, struct row *row)
{
	json_t *process = json_object(), *target = json_object();

	json_set(&r->b, target, "pid", json_number(number_of(stmt, 1)));
	json_set(&r->b, target, "python", text_of(stmt, 11));
	json_set(&r->b, target, "cmdline", json_of(stmt, 13, JSON_ARRAY));
	json_set(&r->b, target, "container", text_of(stmt, 12));
	json_set(&r->b, process, "target", target);
	json_set(&r->b, process, "start_ticks", json_number(number_of(stmt, 2)));
	json_set(&r->b, process, "ppid", json_number(number_of(stmt, 7)));
	json_set(&r->b, process, "worker_of", json_number(number_of(stmt, 8)));
	json_set(&r->b, process, "uid", json_number(number_of(stmt, 9)));
	json_set(&r->b, process, "comm", text_of(stmt, 10));
	json_set(&r->b, process, "first_seen", time_json(double_of(stmt, 3)));
	json_set(&r->b, process, "last_seen", time_json(double_of(stmt, 4)));
	json_set(&r->b, process, "end", end_json(stmt, 5));
	json_set(&r->b, process, "end_code", json_number(number_of(stmt, 6)));
	*row = (struct row){ .process = process, .id = sqlite3_column_int64(stmt, 0), .rank = 2, .last_seen = double_of(stmt, 4) };
	if (json_is_string(json_object_get(process, "end")) && !strcmp(json_string_value(json_object_get(process, "end")), "oom"))
		row->rank = 0;
}

static int details(struct reader *r, const struct row *row)
{
	json_t *hours, *events;
	int rc = rows_json(r, r->hours, row->id, hour_json, &hours);

	json_set(&r->b, row->process, "hours", hours);
	if (rc != SQLITE_OK)
		return rc;
	rc = rows_json(r, r->events, row->id, event_json, &events);
	json_set(&r->b, row->process, "events", events);
	if (rc != SQLITE_OK)
		return rc;
	bind_span(r, r->report, row->id);
	rc = r->query->summary ? SQLITE_DONE : sqlite3_step(r->report);
	json_set(&r->b, row->process, "last_report_time", rc == SQLITE_ROW ? time_json(double_of(r->report, 0)) : json_null());
	json_set(&r->b, row->process, "last_report", rc == SQLITE_ROW ? json_of(r->report, 1, JSON_OBJECT) : json_null());
	sqlite3_reset(r->report);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static double known(double x)
{
	return isfinite(x) ? x : 0;
}

static int compare_rows(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	double gx = known(x->growth), gy = known(y->growth), tx = known(x->last_seen), ty = known(y->last_seen);

	if (x->rank != y->rank)
		return x->rank - y->rank;
	if (gx != gy)
		return gx < gy ? 1 : -1;
	if (tx != ty)
		return tx < ty ? 1 : -1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static int list(struct reader *r, struct row **ret_rows, size_t *ret_n)
{
	sqlite3_stmt *stmt = NULL;
	struct row *rows = NULL;
	size_t n = 0, room = 0;
	int rc = sqlite3_prepare_v2(r->db, PROCESSES, -1, &stmt, NULL);

	if (rc == SQLITE_OK)
		bind_span(r, stmt, r->query->pid);
	while (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		rc = SQLITE_OK;
		if (n == PROCESSES_MAX) {
			r->truncated = true;
			rc = SQLITE_DONE;
		} else if (n == room) {
			struct row *more = reallocarray(rows, room = room ? 2 * room : 64, sizeof(*rows));

			rc = more ? SQLITE_OK : SQLITE_NOMEM;
			rows = more ? more : rows;
		}
		if (rc == SQLITE_OK)
			process_row(r, stmt, &rows[n++]);
	}
	sqlite3_finalize(stmt);
	*ret_rows = rows;
	*ret_n = n;
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int prepare(struct reader *r)
{
	const struct {
		sqlite3_stmt **stmt;
		const char *sql;
	} all[] = {
		{ &r->hours, r->query->summary ? HOURS " LIMIT 0" : HOURS },
		{ &r->peaks, "SELECT max(rss_peak_bytes), (SELECT rss_bytes FROM hour WHERE process = ?1 AND hour > ?2 - 3600 AND hour <= ?3 AND "
			     "rss_bytes IS NOT NULL ORDER BY hour DESC LIMIT 1), (SELECT growth FROM hour WHERE process = ?1 AND hour > ?2 - 3600 "
			     "AND hour <= ?3 AND growth IS NOT NULL ORDER BY hour DESC LIMIT 1) FROM hour WHERE process = ?1 AND hour > ?2 - 3600 "
			     "AND hour <= ?3" },
		{ &r->verdict, "SELECT verdict, confidence, why, findings FROM hour WHERE process = ?1 AND hour > ?2 - 3600 AND hour <= ?3 AND "
			       "verdict IS NOT NULL ORDER BY hour DESC LIMIT 1" },
		{ &r->events, "SELECT time, kind, text FROM event WHERE process = ?1 AND time >= ?2 AND time <= ?3 ORDER BY time, id" },
		{ &r->report, "SELECT time, json FROM report WHERE process = ?1 AND hour <= ?3 ORDER BY hour DESC LIMIT 1" },
	};
	int rc = SQLITE_OK;

	for (size_t i = 0; i < sizeof(all) / sizeof(*all) && rc == SQLITE_OK; i++)
		rc = sqlite3_prepare_v2(r->db, all[i].sql, -1, all[i].stmt, NULL);
	return rc;
}

static int read_all(struct reader *r, json_t *processes)
{
	struct row *rows = NULL;
	size_t n = 0;
	int rc = prepare(r);

	if (rc == SQLITE_OK)
		rc = list(r, &rows, &n);
	for (size_t i = 0; i < n && rc == SQLITE_OK; i++)
		rc = peaks(r, &rows[i]);
	if (rc == SQLITE_OK && n)
		qsort(rows, n, sizeof(*rows), compare_rows);
	for (size_t i = 0; i < n; i++) {
		if (rc == SQLITE_OK)
			rc = details(r, &rows[i]);
		json_push(&r->b, processes, rows[i].process);
	}
	free(rows);
	sqlite3_finalize(r->hours);
	sqlite3_finalize(r->peaks);
	sqlite3_finalize(r->verdict);
	sqlite3_finalize(r->events);
	sqlite3_finalize(r->report);
	return rc;
}

static double mono_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int is_late(void *ctx)
{
	return mono_seconds() > ((struct reader *)ctx)->deadline;
}

int store_read_db(sqlite3 *db, const char *name, const struct store_query *query, json_t **ret_history, struct err *err)
{
	struct reader r = { .db = db, .query = query, .deadline = mono_seconds() + SECONDS_MAX };
	_cleanup_(json_decrefp) json_t *history = json_object();
	json_t *processes = json_array();
	int rc, code;

	sqlite3_progress_handler(db, 10000, is_late, &r);
	rc = sqlite3_exec(db, "BEGIN", NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = read_all(&r, processes);
	code = store_errno_opening(db, rc);
	if (code)
		err_set(err, code, "cannot read the history %s: %s", name, sqlite3_errmsg(db));
	sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	sqlite3_progress_handler(db, 0, NULL, NULL);
	json_set(&r.b, history, "schema", json_string("leaksnoop.history/1"));
	json_set(&r.b, history, "file", json_text(name));
	json_set(&r.b, history, "truncated", json_boolean(r.truncated));
	json_set(&r.b, history, "processes", processes);
	if (!code && r.b.failed)
		code = err_set(err, -ENOMEM, "out of memory");
	if (code == -EUCLEAN)
		err_hint(err, "it is damaged; 'sqlite3 FILE .recover' may save what is left of it");
	if (code == -ETIMEDOUT)
		err_hint(err, "ask for less, with --pid or --since");
	if (!code)
		*ret_history = take_ptr(history);
	return code;
}

int store_read(const char *path, const struct store_query *query, json_t **ret_history, struct err *err)
{
	json_t *history = NULL;
	int r = -EAGAIN;

	for (int i = 0; i < TRIES && r == -EAGAIN; i++) {
		struct store_reading reading = { 0 };

		r = store_open_read(path, &reading, err);
		if (r)
			return r;
		r = store_read_db(reading.db, path, query, &history, err);
		if (reading.immutable && store_reading_changed(path, &reading)) {
			json_decref(take_ptr(history));
			r = err_set(err, -EAGAIN, "cannot read the history %s: it changes all the time", path);
		}
		store_close_read(&reading);
	}
	if (!r)
		*ret_history = history;
	return r;
}
