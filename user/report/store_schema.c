/* SPDX-License-Identifier: MIT */
/*
 * The schema of the history, in this one place (docs/history.md explains it). PRAGMA user_version says how many steps were made; a new one
 * is a row here, never a change of an old one. PRAGMA application_id tells a history from other databases.
 *
 * Rows of hours are appended, so that those of the running hour lie side by side, and what a transaction writes is little. A number that is
 * not known is NULL. All times are seconds since 1970, UTC; all sizes are bytes.
 */
#include <errno.h>
#include <string.h>

#include "report/store_impl.h"

_Static_assert(MEMORY_PART_COUNT == 9, "table hour has a column for each part");

const struct store_step store_steps[] = {
	{ "CREATE TABLE process ("
	  "  id INTEGER PRIMARY KEY,"
	  "  boot TEXT NOT NULL, pid INTEGER NOT NULL, start_ticks INTEGER NOT NULL,"
	  "  first_seen REAL NOT NULL, last_seen REAL NOT NULL,"
	  "  ended TEXT NOT NULL, end_code INTEGER,"
	  "  notable INTEGER NOT NULL, report_time REAL,"
	  "  ppid INTEGER, worker_of INTEGER, uid INTEGER,"
	  "  comm TEXT, python TEXT, container TEXT, cmdline TEXT"
	  ") STRICT;"
	  "CREATE UNIQUE INDEX process_identity ON process (pid, start_ticks, boot);"
	  "CREATE INDEX process_last_seen ON process (last_seen);"
	  "CREATE TABLE hour ("
	  "  id INTEGER PRIMARY KEY,"
	  "  process INTEGER NOT NULL REFERENCES process (id) ON DELETE CASCADE,"
	  "  hour INTEGER NOT NULL, time REAL NOT NULL,"
	  "  rss_bytes INTEGER, rss_peak_bytes INTEGER, pss_bytes INTEGER, explained_ratio REAL,"
	  "  growth REAL, growth_peak REAL, rss_growth REAL,"
	  "  pymalloc_live_bytes INTEGER, pymalloc_free_bytes INTEGER, python_large_bytes INTEGER,"
	  "  libc_live_bytes INTEGER, libc_free_bytes INTEGER, mmap_bytes INTEGER, file_bytes INTEGER,"
	  "  stack_bytes INTEGER, other_bytes INTEGER,"
	  "  arenas INTEGER, arena_bytes INTEGER, live_blocks INTEGER, live_bytes INTEGER, fragmentation REAL,"
	  "  sampled_seconds REAL, overhead_ratio REAL, dropped INTEGER,"
	  "  report_time REAL, verdict TEXT, confidence REAL, why TEXT, findings TEXT"
	  ") STRICT;"
	  "CREATE UNIQUE INDEX hour_process ON hour (process, hour);"
	  "CREATE TABLE report ("
	  "  process INTEGER NOT NULL REFERENCES process (id) ON DELETE CASCADE,"
	  "  hour INTEGER NOT NULL, time REAL NOT NULL, json TEXT NOT NULL,"
	  "  PRIMARY KEY (process, hour)"
	  ") STRICT;"
	  "CREATE TABLE event ("
	  "  id INTEGER PRIMARY KEY,"
	  "  process INTEGER NOT NULL REFERENCES process (id) ON DELETE CASCADE,"
	  "  time REAL NOT NULL, kind TEXT NOT NULL, text TEXT"
	  ") STRICT;"
	  "CREATE INDEX event_process ON event (process);" },
};

const int store_version = sizeof(store_steps) / sizeof(*store_steps);

const char *store_end_name(enum process_end end)
{
	static const char *const names[] = {
#define X(id, name) [PROCESS_##id] = name,
		STORE_ENDS(X)
#undef X
	};

	return (size_t)end < sizeof(names) / sizeof(*names) ? names[end] : names[PROCESS_GONE];
}

int store_errno(sqlite3 *db, int rc)
{
	int system = db ? sqlite3_system_errno(db) : 0;

	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EUCLEAN;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
	case SQLITE_TOOBIG:
	case SQLITE_RANGE:
		return -EINVAL;
	case SQLITE_INTERRUPT:
		return -ETIMEDOUT;
	default:
		return system > 0 ? -system : -EIO;
	}
}

int store_errno_opening(sqlite3 *db, int rc)
{
	return rc == SQLITE_ERROR ? -EUCLEAN : store_errno(db, rc);
}

int store_pragma_int(sqlite3 *db, const char *name, int64_t *ret_value)
{
	sqlite3_stmt *stmt = NULL;
	char sql[64];
	int rc;

	snprintf(sql, sizeof(sql), "PRAGMA %s", name);
	rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*ret_value = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW ? SQLITE_OK : rc == SQLITE_DONE || rc == SQLITE_OK ? SQLITE_ERROR : rc;
}

void store_harden(sqlite3 *db)
{
	sqlite3_extended_result_codes(db, 1);
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
	sqlite3_limit(db, SQLITE_LIMIT_LENGTH, 4 << 20);
	sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
	sqlite3_exec(db, "PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;", NULL, NULL, NULL);
}

int store_check_kind(sqlite3 *db, int newest, int *ret_version, struct err *err)
{
	int64_t application = 0, version = 0, schema = 0;
	int rc, r;

	rc = store_pragma_int(db, "application_id", &application);
	if (rc == SQLITE_OK)
		rc = store_pragma_int(db, "user_version", &version);
	if (rc == SQLITE_OK)
		rc = store_pragma_int(db, "schema_version", &schema);
	if (rc != SQLITE_OK) {
		r = store_errno_opening(db, rc);
		return err_set(err, r, "%s", sqlite3_errmsg(db));
	}
	if (application != STORE_APPLICATION && (application || version || schema))
		return err_set(err, -EINVAL, "it is a database of another program");
	if (version > newest) {
		err_set(err, -ENOTSUP, "it is of a newer leaksnoop (schema %lld; this one knows %d)", (long long)version, newest);
		err_hint(err, "use the newer leaksnoop, or another file");
		return -ENOTSUP;
	}
	if (version < 0 || (application && !version))
		return err_set(err, -EUCLEAN, "its schema makes no sense");
	*ret_version = (int)version;
	return 0;
}

int store_migrate(sqlite3 *db, const struct store_step *steps, int n, struct err *err)
{
	int version, rc, r = store_check_kind(db, n, &version, err);
	char sql[128];

	for (; !r && version < n; version++) {
		rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			rc = sqlite3_exec(db, steps[version].sql, NULL, NULL, NULL);
		snprintf(sql, sizeof(sql), "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", STORE_APPLICATION, version + 1);
		if (rc == SQLITE_OK)
			rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			continue;
		r = store_errno(db, rc);
		err_set(err, r, "cannot bring it to schema %d: %s", version + 1, sqlite3_errmsg(db));
		if (!sqlite3_get_autocommit(db))
			sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	}
	return r;
}
