/* SPDX-License-Identifier: MIT */
/*
 * A connection to read a history with, and nothing else: never written, never recovered, never checkpointed by a reader.
 *
 * A history in WAL mode is up to three files. FILE-wal holds what was written last; FILE-shm is its index, which even a reader must be able
 * to make if there is none. So, in this order:
 *   - no FILE-wal (a clean end): FILE alone is all there is, and is read as what does not change, without making files beside it; should it
 *     change after all while it is read, store_read() reads it again;
 *   - as SQLite does it: while a writer is at it, and after a kill where both files are left;
 *   - an empty FILE-wal without an index that may be made: as if there were none;
 *   - FILE-wal without an index that may be made (a kill, then a read-only medium or folder): both are copied to a folder of our own in
 *     TMPDIR. Where that fails, too, nothing is read, rather than a history without its last minutes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "report/store_impl.h"

#define BUSY_MS 5000               /* a reader has time */
#define COPY_MAX (4ll << 30)

static int look(const char *path, struct stat *st, struct err *err)
{
	if (stat(path, st) < 0 || faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) < 0) {
		int code = errno;

		err_set(err, -code, "cannot read the history %s: %s", path, code == ENOENT ? "there is none" : strerror(code));
		if (code == ENOENT)
			err_hint(err, "'leaksnoop watch --history %s' writes one", path);
		else if (code == EACCES)
			err_hint(err, "it holds command lines and paths, so only root reads it; run as root, or let root give it to a group "
				      "(chgrp on its folder and its files)");
		return -code;
	}
	if (S_ISREG(st->st_mode))
		return 0;
	return err_set(err, -EINVAL, "cannot read the history %s: it is no regular file", path);
}

/* "file:PATH?immutable=1", what has a meaning in it escaped. */
static char *immutable_uri(const char *path)
{
	char *uri = malloc(3 * strlen(path) + 32), *out = uri;

	if (!uri)
		return NULL;
	out = stpcpy(out, "file:");
	for (; *path; path++)
		out += strchr("%?#", *path) ? sprintf(out, "%%%02x", (unsigned char)*path) : sprintf(out, "%c", *path);
	strcpy(out, "?immutable=1");
	return uri;
}

static int connect_to(const char *name, bool uri, sqlite3 **ret_db, struct err *err)
{
	int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | (uri ? SQLITE_OPEN_URI : 0);
	sqlite3 *db = NULL;
	int version, rc, r;

	rc = sqlite3_open_v2(name, &db, flags, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_busy_timeout(db, BUSY_MS);
		store_harden(db);
		r = store_check_kind(db, store_version, &version, err);
		if (!r && !version)
			r = err_set(err, -ENODATA, "nothing was written into it yet");
	} else {
		r = err_set(err, store_errno(db, rc), "%s", db ? sqlite3_errmsg(db) : "out of memory");
	}
	if (!r)
		*ret_db = take_ptr(db);
	sqlite3_close(db);
	return r;
}

/* Of a file beside it; -1: there is none. */
static off_t size_of(const char *path, const char *suffix)
{
	_cleanup_(freep) char *name = NULL;
	struct stat st;

	if (asprintf(&name, "%s%s", path, suffix) < 0) {
		name = NULL;
		return -1;
	}
	return stat(name, &st) < 0 ? -1 : st.st_size;
}

static int copy_file(const char *from, const char *to)
{
	_cleanup_(closep) int in = open(from, O_RDONLY | O_CLOEXEC), out = -1;
	off_t left = COPY_MAX;
	ssize_t n = 1;

	if (in < 0)
		return -errno;
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	while (out >= 0 && n > 0 && left > 0) {
		n = sendfile(out, in, NULL, 1 << 20);
		left -= n;
	}
	if (out < 0 || n < 0)
		return -errno;
	return left > 0 ? 0 : -EFBIG;
}

/* Both files of it, in a folder of our own. */
static int copy_both(const char *path, char *ret_copy)
{
	const size_t size = sizeof(((struct store_reading *)0)->copy);
	const char *where = getenv("TMPDIR");
	char from[4200], to[4200];
	int r;

	if ((size_t)snprintf(ret_copy, size, "%s/leaksnoop-history-XXXXXX", where && *where ? where : "/tmp") >= size || strlen(path) > 4000 ||
	    !mkdtemp(ret_copy)) {
		ret_copy[0] = '\0';
		return -errno;
	}
	snprintf(to, sizeof(to), "%s/db", ret_copy);
	r = copy_file(path, to);
	if (r)
		return r;
	snprintf(from, sizeof(from), "%s-wal", path);
	snprintf(to, sizeof(to), "%s/db-wal", ret_copy);
	return copy_file(from, to);
}

static int open_copy(const char *path, struct store_reading *reading, struct err *err)
{
	char name[4200];
	int r = copy_both(path, reading->copy);

	if (r) {
		err_set(err, r, "%s-wal holds what was written last, and cannot be read where it lies, nor copied: %s", path, strerror(-r));
		err_hint(err, "set TMPDIR to a folder with room; or copy %s and %s-wal to one and read them there", path, path);
		return r;
	}
	snprintf(name, sizeof(name), "%s/db", reading->copy);
	return connect_to(name, false, &reading->db, err);
}

/* What is no fault of the file: an index that cannot be made. */
static bool is_worth_another_way(int r)
{
	return r && r != -EUCLEAN && r != -EINVAL && r != -ENOTSUP && r != -EBUSY && r != -ENODATA;
}

int store_open_read(const char *path, struct store_reading *ret_reading, struct err *err)
{
	_cleanup_(freep) char *uri = immutable_uri(path);
	struct store_reading reading = { 0 };
	struct err why = { 0 };
	int r = uri ? look(path, &reading.st, err) : -ENOMEM;

	if (r)
		return r;
	reading.immutable = size_of(path, "-wal") < 0 && size_of(path, "-journal") < 0;
	r = connect_to(reading.immutable ? uri : path, reading.immutable, &reading.db, &why);
	if (is_worth_another_way(r) && size_of(path, "-wal") == 0) {
		why = (struct err){ 0 };
		reading.immutable = true;
		r = connect_to(uri, true, &reading.db, &why);
	} else if (is_worth_another_way(r) && !reading.immutable) {
		why = (struct err){ 0 };
		r = open_copy(path, &reading, &why);
	}
	if (r) {
		err_set(err, r, "cannot read the history %s: %s", path, why.what);
		if (r == -EUCLEAN || r == -EINVAL)
			err_hint(err, "it is no history, or damaged; 'sqlite3 FILE .recover' may save what is left of it");
		else if (why.hint[0])
			err_hint(err, "%s", why.hint);
		store_close_read(&reading);
		return r;
	}
	*ret_reading = reading;
	return 0;
}

bool store_reading_changed(const char *path, const struct store_reading *reading)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return false;
	return st.st_ino != reading->st.st_ino || st.st_size != reading->st.st_size || st.st_mtim.tv_sec != reading->st.st_mtim.tv_sec ||
	       st.st_mtim.tv_nsec != reading->st.st_mtim.tv_nsec || size_of(path, "-wal") > 0;
}

void store_close_read(struct store_reading *reading)
{
	static const char *const files[] = { "db", "db-wal", "db-shm" };
	char name[4200];

	sqlite3_close(take_ptr(reading->db));
	for (size_t i = 0; reading->copy[0] && i < sizeof(files) / sizeof(*files); i++) {
		snprintf(name, sizeof(name), "%s/%s", reading->copy, files[i]);
		unlink(name);
	}
	if (reading->copy[0])
		rmdir(reading->copy);
	reading->copy[0] = '\0';
}
