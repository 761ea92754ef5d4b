/* SPDX-License-Identifier: MIT */
/*
 * The writer's side of the history: when a transaction begins and ends, what happens when one fails, and when the file goes away.
 *
 * All puts between two ticks are one transaction, so that a tick costs one write of the disk. What fails takes the transaction with it:
 * hours are written again by the next put of their process, and the events that matter are kept in memory (STORE_PENDING_MAX) until one
 * commit has them. Tries are 1 s, 2 s, 4 s ... 5 min apart, and the watching goes on meanwhile.
 */
#include <errno.h>
#include <string.h>

#include "report/store_impl.h"

#define RETRY_FIRST 1.0
#define RETRY_MAX 300.0
#define TRIM_EVERY 60.0

static double seconds_of(struct timespec t)
{
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Takes back what the transaction did, and says when to try again. Returns the errno. */
static int fail(struct store *store, int rc, double now)
{
	int r = store->db ? store_errno(store->db, rc) : -EIO;

	snprintf(store->error, sizeof(store->error), "%s", store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(rc));
	store->errors++;
	/* the row's own fault, not the disk's */
	if (r == -EINVAL)
		return r;
	if (store->db && !sqlite3_get_autocommit(store->db))
		sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
	store->in_transaction = false;
	store->replay = true;
	store->reconnect = r != -ENOSPC && r != -EBUSY;
	store->damaged = r == -EUCLEAN;
	store->failing = true;
	store->code = r;
	store->retry_delay = store->retry_delay > 0 ? 2 * store->retry_delay : RETRY_FIRST;
	if (store->retry_delay > RETRY_MAX)
		store->retry_delay = RETRY_MAX;
	store->retry_at = now + store->retry_delay;
	return r;
}

/* Not yet time to try again; a clock that was set back is no reason to wait. */
static bool must_wait(const struct store *store, double now)
{
	return store->failing && now < store->retry_at && now >= store->retry_at - store->retry_delay - 1;
}

static int refuse(struct store *store)
{
	store->errors++;
	return store->code;
}

static int connect_again(struct store *store, double now)
{
	struct err err = { 0 };
	int r;

	store_disconnect(store);
	r = store_connect(store, &err);
	if (!r) {
		store->reconnect = false;
		return 0;
	}
	fail(store, SQLITE_CANTOPEN, now);
	store->code = r;
	snprintf(store->error, sizeof(store->error), "%.250s", err.what);
	return r;
}

static int begin(struct store *store, double now)
{
	int rc, r;

	if (store->in_transaction)
		return 0;
	if (must_wait(store, now))
		return refuse(store);
	if (!store->db || store->reconnect) {
		r = connect_again(store, now);
		if (r)
			return r;
	}
	rc = sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return fail(store, rc, now);
	store->in_transaction = true;
	/* what a failure took back */
	for (size_t i = 0; store->replay && i < store->n_pending && rc == SQLITE_OK; i++) {
		const struct store_pending *p = &store->pending[i];

		rc = store_write_event(store, &p->w, p->kind, p->text, seconds_of(p->time));
	}
	return rc == SQLITE_OK ? 0 : fail(store, rc, now);
}

static int commit(struct store *store, double now)
{
	int rc;

	if (!store->in_transaction)
		return 0;
	rc = sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return fail(store, rc, now);
	store->in_transaction = store->failing = store->replay = false;
	store->retry_delay = 0;
	store->error[0] = '\0';
	store_forget_pending(store);
	return 0;
}

int store_put_process(struct store *store, const struct watched *w, struct timespec now)
{
	double time = seconds_of(now);
	int64_t process;
	int rc, r = begin(store, time);

	if (r)
		return r;
	rc = store_write_process(store, w, time, w->end != PROCESS_RUNS, &process);
	return rc == SQLITE_OK ? 0 : fail(store, rc, time);
}

int store_put_event(struct store *store, const struct watched *w, const char *kind, const char *text, struct timespec now)
{
	double time = seconds_of(now);
	int rc, r = begin(store, time);

	if (!r) {
		rc = store_write_event(store, w, kind, text, time);
		r = rc == SQLITE_OK ? 0 : fail(store, rc, time);
	}
	if (r != -EINVAL)
		store_keep(store, w, kind, text, now);
	return r;
}

/* Does the path still name the file that is open? */
static bool is_gone(const struct store *store)
{
	struct stat st;

	if (!store->db)
		return false;
	if (stat(store->path, &st) < 0)
		return errno == ENOENT || errno == ENOTDIR;
	return st.st_dev != store->dev || st.st_ino != store->ino;
}

int store_reopen(struct store *store, struct err *err)
{
	int r;

	if (store->in_transaction && sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK)
		store_forget_pending(store);
	store->replay = store->n_pending > 0;
	store_disconnect(store);
	r = store_connect(store, err);
	if (!r)
		return 0;
	store->failing = store->reconnect = true;
	store->code = r;
	store->errors++;
	snprintf(store->error, sizeof(store->error), "%.250s", err ? err->what : strerror(-r));
	return r;
}

int store_tick(struct store *store, struct timespec now)
{
	double time = seconds_of(now);
	int rc, r = commit(store, time);

	if (!r && is_gone(store)) {
		struct err err = { 0 };

		snprintf(store->notice, sizeof(store->notice), "%s was moved or removed: a new one is begun", store->path);
		r = store_reopen(store, &err);
	}
	if (!r && store->failing && !must_wait(store, time)) {
		r = begin(store, time);
		if (!r)
			r = commit(store, time);
	}
	if (r || store->failing)
		return store->code;
	if (time < store->trim_at && time > store->trim_at - 2 * TRIM_EVERY)
		return 0;
	rc = store_trim(store, time);
	if (rc == SQLITE_DONE)
		store->trim_at = time + TRIM_EVERY;
	return rc == SQLITE_OK || rc == SQLITE_DONE ? 0 : fail(store, rc, time);
}

bool store_is_ok(const struct store *store)
{
	return !store->failing;
}

uint64_t store_errors(const struct store *store)
{
	return store->errors;
}

const char *store_error(const struct store *store)
{
	return store->error;
}

const char *store_take_notice(struct store *store)
{
	if (!store->notice[0])
		return NULL;
	memcpy(store->taken, store->notice, sizeof(store->taken));
	store->notice[0] = '\0';
	return store->taken;
}

void store_free(struct store *store)
{
	if (!store)
		return;
	if (store->in_transaction)
		sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
	store_disconnect(store);
	store_forget_pending(store);
	free(store->path);
	free(store->lock_path);
	free(store);
}
