/* SPDX-License-Identifier: MIT */
/* Inside the store: the schema, the connection of the writer, and what its files tell each other. */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "report/store.h"

/* X(id, name in the database and in JSON), in order of enum process_end */
#define STORE_ENDS(X) X(RUNS, "runs") X(EXITED, "exited") X(KILLED, "killed") X(OOM, "oom") X(EXECED, "execed") X(GONE, "gone")

#define STORE_HOUR 3600
#define STORE_CMDLINE_MAX 4096     /* bytes of a command line */
#define STORE_CMDLINE_WORDS 64
#define STORE_TEXT_MAX 1024        /* bytes of any other string */
#define STORE_REPORT_MAX (256u << 10)
#define STORE_REPORT_FINDINGS 10
#define STORE_REPORT_HOURS 48      /* a process's reports older than its newest by more than that go */

/* The schema, in store_schema.c. */
#define STORE_APPLICATION 0x6c6b736e   /* PRAGMA application_id: "lksn" */
struct store_step {
	const char *sql;               /* from the version before to this one */
};
extern const struct store_step store_steps[];
extern const int store_version;    /* PRAGMA user_version of this build */
/* Brings db to n steps. -ENOTSUP: it is newer; -EINVAL: of another program; -EUCLEAN: damaged; else errno. */
int store_migrate(sqlite3 *db, const struct store_step *steps, int n, struct err *err);
/* The version of db, 0 if it is empty; same errors. */
int store_check_kind(sqlite3 *db, int newest, int *ret_version, struct err *err);

/* SQLite's result as a negative errno; -EUCLEAN for damage. */
int store_errno(sqlite3 *db, int rc);
/* The same before anything else was done: what our own statements do not fit is damaged. */
int store_errno_opening(sqlite3 *db, int rc);
int store_pragma_int(sqlite3 *db, const char *name, int64_t *ret_value);
const char *store_end_name(enum process_end end);
/* Settings that keep a hostile database from doing more than holding data. */
void store_harden(sqlite3 *db);

/* X(id, SQL): the writer's statements. */
enum store_statement {
	STORE_FIND, STORE_NEW, STORE_RENEW, STORE_HOUR_NEW, STORE_HOUR_RENEW, STORE_REPORT_PUT, STORE_REPORT_DROP, STORE_REPORT_TIME,
	STORE_EVENT_PUT, STORE_STATEMENTS
};

/* An event that is not on the disk yet, with a copy of what it is about. */
struct store_pending {
	struct watched w;
	char *kind, *text;
	struct timespec time;
};

#define STORE_PENDING_MAX 64

struct store {
	char *path, *lock_path;
	double retain;
	uint64_t max_bytes;
	char boot[40];
	int lock_fd;

	sqlite3 *db;                   /* NULL while it cannot be opened */
	sqlite3_stmt *stmt[STORE_STATEMENTS];
	dev_t dev;
	ino_t ino;
	bool in_transaction;

	bool failing;                  /* the last commit failed */
	bool reconnect;                /* and not for want of room: open anew */
	bool replay;                   /* what is pending is not in the database */
	bool damaged;                  /* what is open was found damaged while it was written */
	int code;                      /* why */
	double retry_at, retry_delay;  /* wall clock */
	uint64_t errors;
	char error[256];
	char notice[512], taken[512];

	struct store_pending pending[STORE_PENDING_MAX];
	size_t n_pending;

	double trim_at;                /* wall clock */
	double cutoff;                 /* hours before it go for want of room */
};

/* store.c: the connection. */
int store_connect(struct store *store, struct err *err);
void store_disconnect(struct store *store);

/* store_put.c: SQLite's result; SQLITE_OK, or what failed. In a transaction. renew: its row is written also if nothing changed. */
int store_write_process(struct store *store, const struct watched *w, double now, bool renew, int64_t *ret_process);
int store_write_event(struct store *store, const struct watched *w, const char *kind, const char *text, double now);
int store_prepare(struct store *store);
/* Processes that ended while nobody watched. */
int store_settle(struct store *store);

/* store_trim.c: retention, for some milliseconds at most; SQLite's result. Outside a transaction. */
int store_trim(struct store *store, double now);

/* store_pending.c */
void store_keep(struct store *store, const struct watched *w, const char *kind, const char *text, struct timespec now);
void store_forget_pending(struct store *store);

/* store_read.c: from an open connection, in a transaction of its own. */
int store_read_db(sqlite3 *db, const char *name, const struct store_query *query, json_t **ret_history, struct err *err);
/* store_load.c: a connection to read with. */
struct store_reading {
	sqlite3 *db;
	bool immutable;                /* read as a file that does not change */
	struct stat st;                /* of the file, before it was opened */
	char copy[4096];               /* a folder with copies, to be removed; "": none */
};
int store_open_read(const char *path, struct store_reading *ret_reading, struct err *err);
/* Did the file change since, or get a journal? */
bool store_reading_changed(const char *path, const struct store_reading *reading);
void store_close_read(struct store_reading *reading);
