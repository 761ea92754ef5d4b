/* SPDX-License-Identifier: MIT */
/*
 * The history of 'watch': an SQLite database (WAL), one writer, any readers. Per process its identity; per process and hour the last
 * balance sheet, verdict, growth and top types; the last report of each sampling with a finding; and events. A writer killed at any
 * moment leaves a database that passes integrity_check. What cannot be written (disk full, read-only) is counted and tried again later,
 * at growing intervals: watching goes on. Hours older than the retention are removed, and freed pages given back bit by bit.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "diagnose/watched.h"

struct store;

#define STORE_DEFAULT "/var/lib/leaksnoop/history.db"

struct store_options {
	const char *path;                  /* its folder is made if only the last part is missing */
	double retain_seconds;             /* 0: for ever */
	uint64_t max_bytes;                /* the oldest hours go when it is larger; 0: STORE_MAX_BYTES */
};

#define STORE_MAX_BYTES (1ull << 30)

/*
 * For writing. -EBUSY: another 'watch' writes it; -ENOTSUP: it is of a newer leaksnoop; -EINVAL: it is no history, and never was one; else
 * errno of the disk. A history that is damaged is moved aside (FILE.corrupt-TIME) and a new one begun: store_take_notice() says so.
 */
int store_open(const struct store_options *options, struct store **ret_store, struct err *err);
/* Closes and opens anew (SIGHUP: the file may have been moved away). After a failure the store lives on and tries again later. */
int store_reopen(struct store *store, struct err *err);
void store_free(struct store *store);
DEFINE_CLEANUP(struct store, store_free)

/* The hour's row of a process, new or renewed; with its report if w->report is newer than the one stored. 0, or what failed (counted). */
int store_put_process(struct store *store, const struct watched *w, struct timespec now);
/* An event as printed (leaksnoop.event/1; report: the last one, for exit, killed, oom). */
int store_put_event(struct store *store, const struct watched *w, const char *kind, const char *text, struct timespec now);
/* Every few seconds: commits, retries, and gives time (a few 10 ms at most) to retention. Several puts between two ticks are one transaction.
 * Notices when the file was moved or removed, and begins a new one. */
int store_tick(struct store *store, struct timespec now);
bool store_is_ok(const struct store *store);
uint64_t store_errors(const struct store *store);
/* What failed last; "" nothing. */
const char *store_error(const struct store *store);
/* What the user should be told once (the file was damaged, or went away); NULL: nothing. Good until the next call. */
const char *store_take_notice(struct store *store);

/* Reading, by anybody who may read the file. */
struct store_query {
	pid_t pid;                         /* 0: all */
	double since, until;               /* seconds since the epoch; 0: open */
	bool summary;                      /* no hours and no reports: what a table of processes needs */
};
/* leaksnoop.history/1: {"schema", "file", "processes": [{target..., "first_seen", "last_seen", "end", "end_code", "hours": [..], "events": [..],
 * "last_report": report/1 or null}]}, worst first (docs/history.md). Owned by the caller. Works while a writer is at it, on a read-only medium, and
 * on what a crash left. */
int store_read(const char *path, const struct store_query *query, json_t **ret_history, struct err *err);
