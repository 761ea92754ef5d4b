/* SPDX-License-Identifier: MIT */
/*
 * Opening the history for writing: the folder, the lock that keeps a second writer out, the file and its mode, damage, settings.
 *
 * The lock is a POSIX lock on FILE.lock, which names its holder and goes with it; readers do not look at it. It is also the evidence that
 * FILE was a history once: only then is a file that is no database moved aside, so that a slip of the pen ("--history /etc/passwd") moves
 * nothing.
 *
 * Mode 0640: command lines and paths may tell secrets, so nobody but root reads it, unless an administrator gives the folder or the file
 * to a group. A file that is there keeps its mode; SQLite gives FILE-wal and FILE-shm the mode and the owner of FILE.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "report/store_impl.h"

#define FILE_MODE 0640
#define FOLDER_MODE 0750
#define BUSY_MS 100                /* a writer does not wait long: watching goes on */
#define CHECK_STEPS 1000           /* between looks at the clock */
#define CHECK_SECONDS 2.0          /* for looking for damage; a larger file is looked at in part */

static int make_folder(const char *path, struct err *err)
{
	_cleanup_(freep) char *folder = strdup(path);
	char *slash = folder ? strrchr(folder, '/') : NULL;

	if (!folder)
		return -ENOMEM;
	if (!slash || slash == folder)
		return 0;
	*slash = '\0';
	if (access(folder, F_OK) == 0 || mkdir(folder, FOLDER_MODE) == 0 || errno == EEXIST)
		return 0;
	return err_set(err, -errno, "cannot make the folder %s: %s", folder, strerror(errno));
}

/* ret_known: the lock's file was there, so that the history was, too. */
static int lock(struct store *store, bool *ret_known, struct err *err)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET }, holder = lock;
	int fd, code;

	*ret_known = access(store->lock_path, F_OK) == 0;
	fd = open(store->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
	if (fd < 0)
		return err_set(err, -errno, "cannot lock %s: %s", store->path, strerror(errno));
	if (!fcntl(fd, F_SETLK, &lock)) {
		store->lock_fd = fd;
		return 0;
	}
	code = errno;
	if (fcntl(fd, F_GETLK, &holder) < 0 || holder.l_type == F_UNLCK)
		holder.l_pid = 0;
	close(fd);
	if (code != EAGAIN && code != EACCES)
		return err_set(err, -code, "cannot lock %s: %s", store->path, strerror(code));
	if (holder.l_pid > 0)
		err_set(err, -EBUSY, "%s is written by process %d already", store->path, (int)holder.l_pid);
	else
		err_set(err, -EBUSY, "%s is written by another process already", store->path);
	err_hint(err, "one 'watch' writes a history; give this one another file with --history");
	return -EBUSY;
}

static int make_file(const char *path, struct err *err)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) == 0)
		return S_ISREG(st.st_mode) ? 0 : err_set(err, -EINVAL, "%s is no regular file", path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
	if (fd < 0)
		return err_set(err, -errno, "cannot make %s: %s", path, strerror(errno));
	close(fd);
	return 0;
}

static double now_seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int is_late(void *deadline)
{
	return now_seconds(CLOCK_MONOTONIC) > *(double *)deadline;
}

/* Looks for damage, for a while. 0, or -EUCLEAN and what it is. */
static int check(sqlite3 *db, struct err *err)
{
	double deadline = now_seconds(CLOCK_MONOTONIC) + CHECK_SECONDS;
	const char *said = NULL;
	sqlite3_stmt *stmt = NULL;
	int rc, r = 0;

	sqlite3_progress_handler(db, CHECK_STEPS, is_late, &deadline);
	rc = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &stmt, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		said = (const char *)sqlite3_column_text(stmt, 0);
	if (said && strcmp(said, "ok") != 0)
		r = err_set(err, -EUCLEAN, "%s", said);
	else if (rc != SQLITE_ROW && rc != SQLITE_INTERRUPT)
		r = err_set(err, store_errno_opening(db, rc), "%s", sqlite3_errmsg(db));
	sqlite3_finalize(stmt);
	sqlite3_progress_handler(db, 0, NULL, NULL);
	return r;
}

static int set_up(sqlite3 *db, struct err *err)
{
	static const char before[] = "PRAGMA auto_vacuum = INCREMENTAL;";
	static const char after[] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;"
				    "PRAGMA journal_size_limit = 4194304; PRAGMA cache_size = -2048;";
	int version, rc, r;

	sqlite3_busy_timeout(db, BUSY_MS);
	store_harden(db);
	r = store_check_kind(db, store_version, &version, err);
	if (!r && version)
		r = check(db, err);
	if (r)
		return r;
	rc = sqlite3_exec(db, before, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		r = store_migrate(db, store_steps, store_version, err);
	if (!r && rc == SQLITE_OK)
		rc = sqlite3_exec(db, after, NULL, NULL, NULL);
	return r || rc == SQLITE_OK ? r : err_set(err, store_errno_opening(db, rc), "%s", sqlite3_errmsg(db));
}

static int open_database(struct store *store, struct err *err)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
	int rc = sqlite3_open_v2(store->path, &store->db, flags, NULL), r;

	if (rc != SQLITE_OK)
		r = err_set(err, store_errno(store->db, rc), "%s", store->db ? sqlite3_errmsg(store->db) : "out of memory");
	else
		r = set_up(store->db, err);
	rc = r ? SQLITE_OK : store_prepare(store);
	if (rc == SQLITE_OK && !r)
		rc = store_settle(store);
	if (rc != SQLITE_OK)
		r = err_set(err, store_errno_opening(store->db, rc), "%s", sqlite3_errmsg(store->db));
	if (r) {
		for (int i = 0; i < STORE_STATEMENTS; i++)
			sqlite3_finalize(take_ptr(store->stmt[i]));
		sqlite3_close(take_ptr(store->db));
		err_prefix(err, "cannot write the history %s", store->path);
	}
	return r;
}

/* Keeps what is damaged for who may want it; a journal goes with its file. */
static int move_aside(struct store *store, const char *why, struct err *err)
{
	time_t now = time(NULL);
	char stamp[32], to[4096], journal[4096];
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
	snprintf(to, sizeof(to), "%s.corrupt-%s", store->path, stamp);
	for (int i = 1; access(to, F_OK) == 0 && i < 100; i++)
		snprintf(to, sizeof(to), "%s.corrupt-%s-%d", store->path, stamp, i);
	if (rename(store->path, to) < 0)
		return err_set(err, -errno, "%s is damaged (%.200s) and cannot be moved aside: %s", store->path, why, strerror(errno));
	snprintf(journal, sizeof(journal), "%s-wal", store->path);
	strncat(to, "-wal", sizeof(to) - strlen(to) - 1);
	rename(journal, to);
	snprintf(journal, sizeof(journal), "%s-shm", store->path);
	unlink(journal);
	to[strlen(to) - 4] = '\0';
	snprintf(store->notice, sizeof(store->notice), "%.150s was damaged (%.150s): it is kept as %.150s, and a new one is begun", store->path,
		 why, to);
	return 0;
}

int store_connect(struct store *store, struct err *err)
{
	struct stat st;
	bool known;
	int r = make_folder(store->path, err);

	if (!r)
		r = lock(store, &known, err);
	if (r)
		return r;
	r = make_file(store->path, err);
	if (!r && store->damaged)
		r = err_set(err, -EUCLEAN, "%s", store->error);
	else if (!r)
		r = open_database(store, err);
	if (r == -EUCLEAN && !known) {
		err_set(err, r = -EINVAL, "%s is no history", store->path);
		err_hint(err, "it is left as it is; name another file, or remove it");
	} else if (r == -EUCLEAN) {
		char why[256];

		snprintf(why, sizeof(why), "%.255s", err ? err->what : "damaged");
		r = move_aside(store, why, err);
		store->damaged = false;
		if (!r)
			r = make_file(store->path, err);
		if (!r)
			r = open_database(store, err);
	}
	if (!r && stat(store->path, &st) < 0)
		r = err_set(err, -errno, "cannot find %s: %s", store->path, strerror(errno));
	if (r) {
		store_disconnect(store);
		return r;
	}
	store->dev = st.st_dev;
	store->ino = st.st_ino;
	return 0;
}

void store_disconnect(struct store *store)
{
	for (int i = 0; i < STORE_STATEMENTS; i++)
		sqlite3_finalize(take_ptr(store->stmt[i]));
	/* SQLite does that when it closes, but not for a file that was moved, which would lose what is in the journal */
	if (store->db)
		sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	sqlite3_close(take_ptr(store->db));
	store->in_transaction = false;
	if (store->lock_fd >= 0)
		close(take_fd(&store->lock_fd));
}

static void read_boot(struct store *store)
{
	_cleanup_(fclosep) FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (!f || !fgets(store->boot, sizeof(store->boot), f))
		store->boot[0] = '\0';
	store->boot[strcspn(store->boot, "\n")] = '\0';
}

int store_open(const struct store_options *options, struct store **ret_store, struct err *err)
{
	_cleanup_(store_freep) struct store *store = calloc(1, sizeof(*store));
	int r;

	if (!store)
		return err_set(err, -ENOMEM, "out of memory");
	store->lock_fd = -1;
	store->path = strdup(options->path);
	store->retain = options->retain_seconds;
	store->max_bytes = options->max_bytes ? options->max_bytes : STORE_MAX_BYTES;
	if (!store->path || asprintf(&store->lock_path, "%s.lock", options->path) < 0) {
		store->lock_path = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	if (strlen(options->path) > 4000 || !options->path[0])
		return err_set(err, -EINVAL, "that is no name of a history");
	read_boot(store);
	r = store_connect(store, err);
	if (!r)
		*ret_store = take_ptr(store);
	return r;
}
