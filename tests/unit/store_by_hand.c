/* SPDX-License-Identifier: MIT */
#include "store_by_hand.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>


char store_dir[64], store_path[96];

int store_make_dir(void **state)
{
	(void)state;
	snprintf(store_dir, sizeof(store_dir), "/tmp/leaksnoop-store-XXXXXX");
	if (!mkdtemp(store_dir))
		return -1;
	snprintf(store_path, sizeof(store_path), "%s/history.db", store_dir);
	return 0;
}

int store_remove_dir(void **state)
{
	DIR *dir = opendir(store_dir);
	struct dirent *e;
	char name[512];

	(void)state;
	while (dir && (e = readdir(dir))) {
		snprintf(name, sizeof(name), "%s/%s", store_dir, e->d_name);
		unlink(name);
	}
	if (dir)
		closedir(dir);
	return rmdir(store_dir);
}

struct store *store_open_here(const struct store_options *options)
{
	struct store_options o = options ? *options : (struct store_options){ 0 };
	struct store *store = NULL;
	struct err err = { 0 };

	if (!o.path)
		o.path = store_path;
	if (store_open(&o, &store, &err))
		fail_msg("%s", err.what);
	return store;
}

struct timespec at(double seconds)
{
	return (struct timespec){ (time_t)floor(seconds), (long)((seconds - floor(seconds)) * 1e9) };
}

static const char *const cmdline[] = { "/usr/bin/python3", "/srv/app/app.py", "--port", "80", NULL };

struct watched watched_by_hand(pid_t pid)
{
	struct watched w = {
		.id = { pid, 100000u + (uint64_t)pid }, .ppid = 1, .group = pid, .uid = 33, .comm = "python3", .cmdline = cmdline,
		.python = "3.11.2", .first_seen = at(NIGHT), .arenas = 12, .arena_bytes = MIB(12), .live_blocks = 100000,
		.live_bytes = MIB(9), .fragmentation = 0.12, .growth = 12.5, .overhead_ratio = NAN, .confidence = NAN,
		.memory = { .rss_bytes = MIB(40), .pss_bytes = MIB(36), .growth_bytes_per_second = 10, .explained_ratio = 0.99, .has_parts = true },
	};

	for (int i = 0; i < MEMORY_PART_COUNT; i++)
		w.memory.part[i].bytes = i == MEMORY_other ? REPORT_UNKNOWN : MIB(i + 1);
	return w;
}

json_t *report_by_hand(pid_t pid, size_t findings)
{
	static const char text[] =
		"{'rank': 1, 'kind': 'python', 'confidence': 0.9, 'bytes_per_second': {'estimate': 146432, 'low': 125952, 'high': 166912},"
		" 'blocks_per_second': {'estimate': 1124, 'low': 1000, 'high': 1250}, 'allocations_per_second': 1354, 'survival': [],"
		" 'live_bytes': 1080320, 'live_blocks': 8611, 'delta_bytes': 5, 'delta_blocks': 1, 'age_seconds': 24.8, 'first_hand': true,"
		" 'traceback': [{'file': '/srv/app/cache.py', 'line': 41, 'function': 'Cache.put', 'language': 'python'},"
		" {'file': '/srv/app/views.py', 'line': 88, 'function': 'handle', 'language': 'python'}], 'truncated': false,"
		" 'types': [{'name': 'app.Entry', 'count': 2870, 'bytes': 160720}, {'name': 'str', 'count': 5738, 'bytes': 919552}],"
		" 'holder': {'path': 'app.cache.CACHE', 'type': 'dict', 'length': 8611, 'growth_per_second': 1124, 'steps': []}}";
	static const char head[] =
		"{'schema': 'leaksnoop.report/1', 'target': {'pid': 1, 'python': '3.11.2', 'cmdline': ['python3', 'app.py'], 'container': null},"
		" 'window': {'start': '2026-11-21T00:59:00.000Z', 'seconds': 60, 'mode': 'sampled', 'armed_seconds': 0.8,"
		" 'overhead_ratio': 0.0054, 'group_by': 'line'}, 'coverage': {'seen': 25434, 'happened': 2411935, 'ratio': 0.0105,"
		" 'dropped': 0, 'unresolved_frames': 0, 'notes': ['one note'], 'losses': [{'what': 'events', 'count': 0, 'remedy': null}]},"
		" 'memory': {'rss_bytes': 41943040, 'pss_bytes': 37748736, 'growth_bytes_per_second': 190000.5, 'explained_ratio': 1,"
		" 'parts': [{'name': 'pymalloc-live', 'bytes': 11534336, 'growth_bytes_per_second': 172032}]},"
		" 'verdict': {'kind': 'leak', 'confidence': 0.93, 'why': 'live bytes grew for 60 s'}, 'findings': [],"
		" 'more': {'findings': 0, 'live_bytes': 0}}";
	char buf[2][4096];
	json_t *report, *array;

	for (int k = 0; k < 2; k++) {
		snprintf(buf[k], sizeof(buf[k]), "%s", k ? head : text);
		for (char *p = buf[k]; *p; p++)
			*p = *p == '\'' ? '"' : *p;
	}
	report = json_loads(buf[1], 0, NULL);
	assert_non_null(report);
	json_object_set_new(json_object_get(report, "target"), "pid", json_integer(pid));
	array = json_object_get(report, "findings");
	for (size_t i = 0; i < findings; i++) {
		json_t *finding = json_loads(buf[0], 0, NULL);

		assert_non_null(finding);
		json_object_set_new(finding, "rank", json_integer((json_int_t)i + 1));
		json_array_append_new(array, finding);
	}
	return report;
}

void watched_leaks(struct watched *w, double seconds, json_t *report)
{
	w->sampled_seconds = 60;
	w->overhead_ratio = 0.0054;
	w->has_verdict = true;
	w->verdict = VERDICT_leak;
	w->confidence = 0.93;
	snprintf(w->why, sizeof(w->why), "cache.py:41 keeps 143 KiB/s of the 166 KiB/s it allocates");
	w->n_findings = 2;
	w->findings[0] = (struct watched_finding){ .file = "/srv/app/cache.py", .function = "Cache.put", .line = 41, .live_bytes = 1080320,
						   .bytes_per_second = { 146432, 125952, 166912 } };
	w->findings[1] = (struct watched_finding){ .kind = FINDING_mmap, .live_bytes = REPORT_UNKNOWN, .bytes_per_second = { NAN, NAN, NAN } };
	w->growth = 146432;
	w->report = report;
	w->report_time = at(seconds);
}

json_t *history_here(const struct store_query *query)
{
	json_t *history = NULL;
	struct err err = { 0 };

	if (store_read(store_path, query, &history, &err))
		fail_msg("%s (%s)", err.what, err.hint);
	return history;
}

long long sql_number(const char *path, const char *sql)
{
	sqlite3_stmt *stmt = NULL;
	sqlite3 *db = NULL;
	long long n;

	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK || sqlite3_step(stmt) != SQLITE_ROW)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	n = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	return n;
}

void check_integrity(const char *path)
{
	sqlite3_stmt *stmt = NULL;
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &stmt, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	assert_string_equal((const char *)sqlite3_column_text(stmt, 0), "ok");
	sqlite3_finalize(stmt);
	assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA foreign_key_check", -1, &stmt, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_DONE);
	sqlite3_finalize(stmt);
	sqlite3_close(db);
}

int put_one(struct store *store, pid_t pid, double seconds)
{
	struct watched w = watched_by_hand(pid);

	return store_put_process(store, &w, at(seconds));
}

void put_and_tick(struct store *store, pid_t pid, double seconds)
{
	assert_int_equal(put_one(store, pid, seconds), 0);
	assert_int_equal(store_tick(store, at(seconds)), 0);
}

size_t processes_here(void)
{
	_cleanup_(json_decrefp) json_t *history = history_here(&(struct store_query){ 0 });

	return json_array_size(json_object_get(history, "processes"));
}

void write_file(const char *path, const char *data, size_t size)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, size, f), size);
	assert_int_equal(fclose(f), 0);
}

char *read_file(const char *path, size_t *ret_size)
{
	FILE *f = fopen(path, "r");
	char *data = malloc(4 << 20);

	assert_non_null(f);
	*ret_size = fread(data, 1, 4 << 20, f);
	fclose(f);
	return data;
}
