/* SPDX-License-Identifier: MIT */
/*
 * What goes from the history, in small bites: rows older than the retention; processes of less than five minutes of which nothing was
 * found, an hour after their end (a host may start twenty a second); and, if the file is larger than it may be, the oldest hours. Pages that
 * became free are given back to the system, some at a time. A call takes some 10 ms at most and says whether there is more to do.
 */
#include <time.h>

#include "report/store_impl.h"

#define BITE 50                    /* rows; a process takes its hours and events with it */
#define CALL_NS 20000000
#define VACUUM_PAGES 64
#define BRIEF_SECONDS 300
#define BRIEF_KEPT_SECONDS 3600
#define SQL_(x) #x
#define SQL(x) SQL_(x)

static const char *const bites[] = {
	/* ?1: older goes; ?2: the same for what was brief. Rows of hours and events are in order of time, so that the first few tell. */
	"DELETE FROM hour WHERE hour < ?1 AND id IN (SELECT id FROM hour ORDER BY id LIMIT " SQL(BITE) ")",
	"DELETE FROM event WHERE time < ?1 AND id IN (SELECT id FROM event ORDER BY id LIMIT " SQL(BITE) ")",
	"DELETE FROM process WHERE id IN (SELECT id FROM process WHERE last_seen < ?1 LIMIT " SQL(BITE) ")",
	"DELETE FROM process WHERE id IN (SELECT id FROM process WHERE last_seen < ?2 AND last_seen - first_seen < " SQL(BRIEF_SECONDS)
	" AND notable = 0 AND ended <> 'runs' LIMIT " SQL(BITE) ")",
};

static uint64_t mono_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* *ret_more: there may be more of it. */
static int bite(sqlite3 *db, const char *sql, double before, double brief_before, bool *ret_more)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

	if (rc != SQLITE_OK)
		return rc;
	sqlite3_bind_double(stmt, 1, before);
	if (sqlite3_bind_parameter_count(stmt) > 1)
		sqlite3_bind_double(stmt, 2, brief_before);
	rc = sqlite3_step(stmt);
	*ret_more = rc == SQLITE_DONE && sqlite3_changes(db) > 0;
	sqlite3_finalize(stmt);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Bytes in use; freed pages are not. */
static int measure(sqlite3 *db, uint64_t *ret_used, int64_t *ret_free)
{
	int64_t pages = 0, size = 0;
	int rc = store_pragma_int(db, "page_count", &pages);

	if (rc == SQLITE_OK)
		rc = store_pragma_int(db, "freelist_count", ret_free);
	if (rc == SQLITE_OK)
		rc = store_pragma_int(db, "page_size", &size);
	*ret_used = pages > *ret_free ? (uint64_t)(pages - *ret_free) * (uint64_t)size : 0;
	return rc;
}

/* The end of the oldest hour, but never of the running one; 0: there is none. */
static double oldest_end(sqlite3 *db, double now)
{
	sqlite3_stmt *stmt = NULL;
	double end = 0;

	if (sqlite3_prepare_v2(db, "SELECT hour FROM hour ORDER BY id LIMIT 1", -1, &stmt, NULL) == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
		end = (double)sqlite3_column_int64(stmt, 0) + STORE_HOUR;
	sqlite3_finalize(stmt);
	return end <= now ? end : 0;
}

static int vacuum(sqlite3 *db)
{
	return sqlite3_exec(db, "PRAGMA incremental_vacuum(" SQL(VACUUM_PAGES) ")", NULL, NULL, NULL);
}

int store_trim(struct store *store, double now)
{
	uint64_t end = mono_ns() + CALL_NS, used;
	double before = store->retain > 0 ? now - store->retain : 0;
	int64_t free_pages = 0;
	int rc = measure(store->db, &used, &free_pages);
	bool more = false;

	if (rc == SQLITE_OK && used > store->max_bytes)
		store->cutoff = oldest_end(store->db, now);
	else
		store->cutoff = 0;
	if (store->cutoff > before)
		before = store->cutoff;
	for (size_t i = 0; i < sizeof(bites) / sizeof(*bites) && rc == SQLITE_OK; i++) {
		do {
			more = false;
			rc = bite(store->db, bites[i], before, now - BRIEF_KEPT_SECONDS, &more);
		} while (rc == SQLITE_OK && more && mono_ns() < end);
		if (more)
			break;
	}
	if (rc == SQLITE_OK)
		rc = store_pragma_int(store->db, "freelist_count", &free_pages);
	if (rc == SQLITE_OK && free_pages > VACUUM_PAGES)
		rc = vacuum(store->db);
	if (rc != SQLITE_OK)
		return rc;
	return more || store->cutoff > 0 || free_pages > 2 * VACUUM_PAGES ? SQLITE_OK : SQLITE_DONE;
}
