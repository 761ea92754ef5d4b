/* SPDX-License-Identifier: MIT */
/*
 * A history that is anything: it is refused with a reason, or read, and what was read can be shown in every view. The first byte of the input says
 * what the rest is: a database; or changes of one that is whole (two bytes where, one what), since the fuzzer could hardly make one by itself; or a
 * text that stands in its rows where the report, the findings, the command line and the names stand.
 */
#include <math.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/past.h"
#include "report/store_impl.h"

#define IMAGE_MAX (1 << 20)
#define SLACK 20480                /* for the texts of a small input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A whole database, by the writer's own schema. */
static sqlite3 *make(void)
{
	static const char rows[] =
		"INSERT INTO process (id, boot, pid, start_ticks, first_seen, last_seen, ended, notable, cmdline, python) VALUES "
		"(1, 'b', 17, 1, 1e9, 1e9 + 9000, 'oom', 1, '[\"python3\", \"a.py\"]', '3.11.2'), (2, 'b', 18, 1, 1e9, 1e9, 'runs', 0, NULL, NULL);"
		"INSERT INTO hour (process, hour, time, rss_bytes, growth, pymalloc_live_bytes, verdict, confidence, why, findings) VALUES "
		"(1, 999997200, 1e9, 1000, 1.5, 5, 'leak', 0.5, 'why', '[{\"file\": \"a.py\", \"line\": 3}]'), (1, 1000000800, 1e9 + 3600, 2000, NULL, 6, "
		"NULL, NULL, NULL, NULL), (2, 999997200, 1e9, 1, 1, 1, NULL, NULL, NULL, NULL);"
		"INSERT INTO report (process, hour, time, json) VALUES (1, 999997200, 1e9, '{\"schema\": \"leaksnoop.report/1\", \"findings\": [{}]}');"
		"INSERT INTO event (process, time, kind, text) VALUES (1, 1e9, 'start', NULL), (1, 1e9 + 1, 'oom', 'text');";
	sqlite3 *db = NULL;

	if (sqlite3_open(":memory:", &db) != SQLITE_OK || sqlite3_exec(db, "PRAGMA page_size = 512", NULL, NULL, NULL) != SQLITE_OK ||
	    store_migrate(db, store_steps, store_version, NULL) || sqlite3_exec(db, rows, NULL, NULL, NULL) != SQLITE_OK)
		abort();
	return db;
}

/* Text, whatever it is, where the reader looks for JSON and names; schema and sums stay whole. */
static void set_text(sqlite3 *db, const uint8_t *data, size_t size)
{
	static const char *const places[] = {
		"UPDATE report SET json = ?1", "UPDATE hour SET findings = ?1, verdict = ?1, why = ?1", "UPDATE process SET cmdline = ?1, comm = ?1, ended = ?1",
		"UPDATE process SET python = ?1, container = ?1", "UPDATE event SET kind = ?1, text = ?1",
		"UPDATE report SET json = '{\"schema\": \"leaksnoop.report/1\", ' || ?1 || '}'",
	};
	sqlite3_stmt *stmt = NULL;

	if (!size || sqlite3_prepare_v2(db, places[data[0] % (sizeof(places) / sizeof(*places))], -1, &stmt, NULL) != SQLITE_OK)
		return;
	sqlite3_bind_text(stmt, 1, (const char *)data + 1, (int)(size - 1), SQLITE_STATIC);
	sqlite3_step(stmt);
	sqlite3_finalize(stmt);
}

/* data, or (changes) a whole database with data's changes. */
static sqlite3 *of_image(const uint8_t *data, size_t size, bool changes)
{
	unsigned flags = SQLITE_DESERIALIZE_FREEONCLOSE | (changes && !size ? 0 : SQLITE_DESERIALIZE_READONLY);
	static uint8_t *whole;
	static sqlite3_int64 whole_size;
	uint8_t *image;
	size_t room;
	sqlite3 *db = NULL;

	if (!whole) {
		sqlite3 *made = make();

		whole = sqlite3_serialize(made, "main", &whole_size, 0);
		sqlite3_close(made);
	}
	room = changes ? (size_t)whole_size + SLACK : size;
	image = sqlite3_malloc64(room);
	if (!image || !whole || whole_size > IMAGE_MAX || size > IMAGE_MAX || sqlite3_open(":memory:", &db) != SQLITE_OK)
		abort();
	memcpy(image, changes ? whole : data, changes ? (size_t)whole_size : size);
	for (size_t i = 0; changes && i + 2 < size; i += 3)
		image[(size_t)(data[i] << 8 | data[i + 1]) % (size_t)whole_size] = data[i + 2];
	if (changes)
		size = (size_t)whole_size;
	/* no journal in memory */
	if (size > 20)
		image[18] = image[19] = 1;
	sqlite3_deserialize(db, "main", image, (sqlite3_int64)size, (sqlite3_int64)room, flags);
	return db;
}

static void show(const json_t *history)
{
	struct report_style style = { .width = 90 };
	FILE *f = fopen("/dev/null", "w");

	if (!f)
		abort();
	for (int view = PAST_PROCESSES; view <= PAST_DETAILS; view++) {
		style.width = view ? 0 : 90;
		if (past_write_text(history, (enum past_view)view, 3, &style, f))
			abort();
	}
	fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct store_query queries[] = { { 0 }, { .pid = 17 }, { .since = 1e9 + 1, .until = 1e9 + 8000, .summary = true } };
	struct err err = { 0 };
	sqlite3 *db;
	int version;

	if (size < 2 || size > 4096)
		return 0;
	if (data[0] % 3 == 2) {
		db = of_image(NULL, 0, true);
		set_text(db, data + 1, size - 1);
	} else {
		db = of_image(data + 1, size - 1, data[0] % 3);
	}
	store_harden(db);
	if (!store_check_kind(db, store_version, &version, &err)) {
		for (size_t i = 0; i < sizeof(queries) / sizeof(*queries); i++) {
			json_t *history = NULL;
			struct err why = { 0 };
			int r = store_read_db(db, "it", &queries[i], &history, &why);

			if (!r != !!history || (r && (!why.what[0] || why.code != r)))
				abort();
			if (history)
				show(history);
			json_decref(history);
		}
	} else if (!err.what[0]) {
		abort();
	}
	sqlite3_close(db);
	return 0;
}
