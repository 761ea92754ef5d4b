/* SPDX-License-Identifier: MIT */
/*
 * The history when things go wrong: a full disk, a medium that may not be written, a folder that goes away, damage of many kinds, a writer killed in
 * the middle, two writers, readers beside a writer, readers who may not write beside the file, a file that was moved.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "report/store_impl.h"
#include "store_by_hand.h"

#define FULL getenv("LEAKSNOOP_FULL")

static int put(struct store *store, pid_t pid, double seconds)
{
	struct watched w = watched_by_hand(pid);

	return store_put_process(store, &w, at(seconds));
}

static void put_and_tick(struct store *store, pid_t pid, double seconds)
{
	assert_int_equal(put(store, pid, seconds), 0);
	assert_int_equal(store_tick(store, at(seconds)), 0);
}

static size_t processes_here(void)
{
	_cleanup_(json_decrefp) json_t *history = history_here(&(struct store_query){ 0 });

	return json_array_size(json_object_get(history, "processes"));
}

static void write_file(const char *path, const char *data, size_t size)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, size, f), size);
	assert_int_equal(fclose(f), 0);
}

static char *read_file(const char *path, size_t *ret_size)
{
	FILE *f = fopen(path, "r");
	char *data = malloc(4 << 20);

	assert_non_null(f);
	*ret_size = fread(data, 1, 4 << 20, f);
	fclose(f);
	return data;
}

/* How many files lie in the folder whose name has this in it. */
static int count_files(const char *part)
{
	char command[256];
	FILE *f;
	int n = -1;

	snprintf(command, sizeof(command), "ls %s | grep -Ec -- '%s'", store_dir, part);
	f = popen(command, "r");
	assert_int_equal(fscanf(f, "%d", &n), 1);
	pclose(f);
	return n;
}

/* A tmpfs of kib over the folder, in a mount namespace that goes with this program. */
static bool mount_small(int kib)
{
	static bool apart;
	char options[64];

	if (!apart && (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))) {
		print_message("needs root, to mount\n");
		return false;
	}
	apart = true;
	snprintf(options, sizeof(options), "size=%dk", kib);
	assert_int_equal(mount("tmpfs", store_dir, "tmpfs", 0, options), 0);
	return true;
}

static void unmount_small(void)
{
	store_remove_dir(NULL);
	assert_int_equal(umount(store_dir), 0);
}

static void fill(const char *path)
{
	static const char zeros[4096];
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	for (size_t size = sizeof(zeros); fd >= 0 && size; size /= 2)
		while (write(fd, zeros, size) > 0)
			;
	close(fd);
}

/* A disk that is full: what fails is counted, and the waiting grows; what mattered is written when there is room again. */
static void test_full_disk(void **state)
{
	struct watched killed = watched_by_hand(99);
	_cleanup_(json_decrefp) json_t *report = report_by_hand(99, 1), *history = NULL;
	struct store *store;
	uint64_t errors;
	char filler[128];
	double now = NIGHT;
	int failed = 0;

	(void)state;
	if (!mount_small(1024))
		skip();
	snprintf(filler, sizeof(filler), "%s/filler", store_dir);
	store = store_open_here(NULL);
	put_and_tick(store, 17, now);
	assert_true(store_is_ok(store));
	fill(filler);
	/* a page here and there may still be had; then none */
	for (int i = 0; i < 2000 && store_is_ok(store); i++) {
		now += 1;
		put(store, 1000 + i, now);
		store_tick(store, at(now));
	}
	assert_false(store_is_ok(store));
	assert_true(store_errors(store) > 0);
	assert_non_null(strstr(store_error(store), "full"));
	watched_leaks(&killed, now, report);
	killed.end = PROCESS_OOM;
	assert_int_equal(store_put_event(store, &killed, "oom", "killed", at(now)), -ENOSPC);
	errors = store_errors(store);
	for (int i = 0; i < 600; i++) {
		now += 1;
		failed += put(store, 17, now) == -ENOSPC;
		store_tick(store, at(now));
	}
	assert_true(failed > 580);
	assert_true(store_errors(store) >= errors + (uint64_t)failed);
	unlink(filler);
	for (int i = 0; i < 301 && !store_is_ok(store); i++) {
		now += 1;
		put(store, 17, now);
		store_tick(store, at(now));
	}
	assert_true(store_is_ok(store));
	assert_string_equal(store_error(store), "");
	put_and_tick(store, 17, now + 1);
	history = history_here(&(struct store_query){ .pid = 99 });
	assert_int_equal(json_array_size(json_object_get(history, "processes")), 1);
	assert_true(json_is_object(json_object_get(json_array_get(json_object_get(history, "processes"), 0), "last_report")));
	store_free(store);
	check_integrity(store_path);
	unmount_small();
}

static void test_read_only(void **state)
{
	struct store_options options = { .path = store_path };
	struct store *store, *other = NULL;
	struct err err = { 0 };
	double now = NIGHT;

	(void)state;
	if (!mount_small(4096))
		skip();
	store = store_open_here(NULL);
	put_and_tick(store, 17, now);
	store_free(store);
	assert_int_equal(mount(NULL, store_dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	assert_int_equal(store_open(&options, &other, &err), -EROFS);
	assert_non_null(strstr(err.what, store_path));
	assert_int_equal(processes_here(), 1);
	assert_int_equal(mount(NULL, store_dir, NULL, MS_REMOUNT, NULL), 0);
	unmount_small();
}

/* What a killed writer left, on a medium that may not be written: with its journal, with and without the journal's index. */
static void test_read_only_journal(void **state)
{
	char name[128], *wal;
	struct err err = { 0 };
	json_t *history = NULL;
	size_t size;
	pid_t pid;

	(void)state;
	if (!mount_small(8192))
		skip();
	pid = fork();
	if (!pid) {
		struct store *store = store_open_here(NULL);

		put_and_tick(store, 17, NIGHT);
		put_and_tick(store, 18, NIGHT);
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, NULL, 0);
	snprintf(name, sizeof(name), "%s-wal", store_path);
	wal = read_file(name, &size);
	free(wal);
	assert_true(size > 0);
	assert_int_equal(mount(NULL, store_dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	assert_int_equal(processes_here(), 2);
	assert_int_equal(mount(NULL, store_dir, NULL, MS_REMOUNT, NULL), 0);
	snprintf(name, sizeof(name), "%s-shm", store_path);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(mount(NULL, store_dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	assert_int_equal(processes_here(), 2);
	setenv("TMPDIR", store_dir, 1);
	assert_int_not_equal(store_read(store_path, &(struct store_query){ 0 }, &history, &err), 0);
	unsetenv("TMPDIR");
	assert_null(history);
	assert_non_null(strstr(err.what, "-wal"));
	assert_non_null(strstr(err.hint, "TMPDIR"));
	assert_int_equal(mount(NULL, store_dir, NULL, MS_REMOUNT, NULL), 0);
	unmount_small();
}

/* Somebody who may read the file, but not write beside it, reads it: after a clean end, and beside a writer. */
static void read_as_nobody(int expected)
{
	pid_t pid = fork();
	int status = 0;

	if (!pid) {
		json_t *history = NULL;
		struct err err = { 0 };

		if (setgid(65534) || setuid(65534))
			_exit(99);
		if (store_read(store_path, &(struct store_query){ 0 }, &history, &err))
			_exit(98);
		_exit((int)json_array_size(json_object_get(history, "processes")));
	}
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), expected);
}

static void test_other_user(void **state)
{
	struct store *store;
	struct stat st;
	pid_t killed;

	(void)state;
	if (geteuid() != 0) {
		print_message("needs root, to become another user\n");
		skip();
	}
	assert_int_equal(chmod(store_dir, 0755), 0);
	store = store_open_here(NULL);
	put_and_tick(store, 17, NIGHT);
	assert_int_equal(stat(store_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	read_as_nobody(98);
	store_free(store);
	assert_int_equal(chmod(store_path, 0644), 0);
	read_as_nobody(1);
	store = store_open_here(NULL);
	put_and_tick(store, 18, NIGHT);
	read_as_nobody(2);
	store_free(store);
	assert_int_equal(stat(store_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	read_as_nobody(2);
	/* and what a killed writer left */
	killed = fork();
	if (!killed) {
		store = store_open_here(NULL);
		put_and_tick(store, 19, NIGHT);
		kill(getpid(), SIGKILL);
	}
	waitpid(killed, NULL, 0);
	read_as_nobody(3);
}

/* The folder goes away under the writer, comes back by itself, and what is new is in it. */
static void test_vanished(void **state)
{
	static const char *const files[] = { "", "-wal", "-shm", ".lock", NULL };
	char folder[72], name[160];
	struct store *store;
	const char *notice;

	(void)state;
	snprintf(folder, sizeof(folder), "%s/sub", store_dir);
	snprintf(store_path, sizeof(store_path), "%s/history.db", folder);
	store = store_open_here(NULL);
	put_and_tick(store, 17, NIGHT);
	assert_null(store_take_notice(store));
	for (int i = 0; files[i]; i++) {
		snprintf(name, sizeof(name), "%s%s", store_path, files[i]);
		unlink(name);
	}
	assert_int_equal(rmdir(folder), 0);
	store_tick(store, at(NIGHT + 10));
	notice = store_take_notice(store);
	assert_non_null(notice);
	assert_non_null(strstr(notice, "removed"));
	assert_null(store_take_notice(store));
	put_and_tick(store, 18, NIGHT + 20);
	assert_int_equal(processes_here(), 1);
	store_free(store);
	check_integrity(store_path);
	for (int i = 0; files[i]; i++) {
		snprintf(name, sizeof(name), "%s%s", store_path, files[i]);
		unlink(name);
	}
	assert_int_equal(rmdir(folder), 0);
}

/* Moved, then SIGHUP: what was written until then is in the file that was moved, whole; the new one has the rest. */
static void test_reopen(void **state)
{
	struct store *store = store_open_here(NULL);
	struct err err = { 0 };
	char moved[128];

	(void)state;
	snprintf(moved, sizeof(moved), "%s/moved.db", store_dir);
	put_and_tick(store, 17, NIGHT);
	assert_int_equal(put(store, 18, NIGHT), 0);
	assert_int_equal(rename(store_path, moved), 0);
	assert_int_equal(put(store, 19, NIGHT), 0);
	assert_int_equal(store_reopen(store, &err), 0);
	put_and_tick(store, 20, NIGHT);
	assert_int_equal(sql_number(moved, "SELECT count(*) FROM process"), 3);
	assert_int_equal(processes_here(), 1);
	/* nothing was moved: it goes on */
	assert_int_equal(store_reopen(store, &err), 0);
	put_and_tick(store, 21, NIGHT);
	assert_int_equal(processes_here(), 2);
	store_free(store);
	check_integrity(store_path);
	check_integrity(moved);
}

static void test_two_writers(void **state)
{
	int ready[2], done[2], status;
	char byte = 0, expected[64];
	struct store *store = NULL;
	struct err err = { 0 };
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ready) | pipe(done), 0);
	pid = fork();
	if (!pid) {
		store = store_open_here(NULL);
		put_and_tick(store, 17, NIGHT);
		assert_int_equal(write(ready[1], &byte, 1), 1);
		assert_int_equal(read(done[0], &byte, 1), 1);
		put_and_tick(store, 18, NIGHT);
		store_free(store);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(store_open(&(struct store_options){ .path = store_path }, &store, &err), -EBUSY);
	snprintf(expected, sizeof(expected), "process %d", (int)pid);
	assert_non_null(strstr(err.what, expected));
	assert_null(store);
	assert_int_equal(processes_here(), 1);
	assert_int_equal(write(done[1], &byte, 1), 1);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	store_free(store_open_here(NULL));
	assert_int_equal(processes_here(), 2);
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(done[i]);
	}
}

/* The writer dies at any moment: the database is whole, and what a tick said was written is there. */
static void write_until_killed(int fd)
{
	struct store *store = store_open_here(NULL);

	for (int h = 0;; h++) {
		for (int i = 0; i < 50; i++)
			put(store, 100 + i, NIGHT + 3600.0 * h);
		if (store_tick(store, at(NIGHT + 3600.0 * h)) || write(fd, &h, sizeof(h)) != sizeof(h))
			_exit(1);
	}
}

static void test_killed(void **state)
{
	unsigned seed = 1;

	(void)state;
	for (int round = 0; round < (FULL ? 100 : 20); round++) {
		int fds[2], h = -1, last = -1;
		_cleanup_(json_decrefp) json_t *history = NULL;
		pid_t pid;

		assert_int_equal(pipe(fds), 0);
		pid = fork();
		if (!pid)
			write_until_killed(fds[1]);
		close(fds[1]);
		assert_int_equal(read(fds[0], &h, sizeof(h)), sizeof(h));
		usleep((useconds_t)(rand_r(&seed) % 30000));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		for (last = h; read(fds[0], &h, sizeof(h)) == sizeof(h); last = h)
			;
		close(fds[0]);
		history = history_here(&(struct store_query){ .pid = 149 });
		assert_true(json_array_size(json_object_get(json_array_get(json_object_get(history, "processes"), 0), "hours")) > (size_t)last);
		check_integrity(store_path);
	}
}

static void test_reader_beside_writer(void **state)
{
	struct store *store = store_open_here(NULL);
	pid_t pid;
	int status;

	(void)state;
	put_and_tick(store, 17, NIGHT);
	pid = fork();
	if (!pid) {
		size_t before = 0;

		for (int i = 0; i < 50; i++) {
			size_t n = processes_here();

			if (n < before)
				_exit(1);
			before = n;
		}
		_exit(before > 0 ? 0 : 2);
	}
	for (int i = 0; waitpid(pid, &status, WNOHANG) == 0; i++)
		put_and_tick(store, 100 + i % 200, NIGHT + 0.01 * i);
	assert_int_equal(status, 0);
	assert_int_equal(store_errors(store), 0);
	store_free(store);
	check_integrity(store_path);
}

static void write_some(void)
{
	struct store *store = store_open_here(NULL);

	for (int h = 0; h < 20; h++)
		for (int i = 0; i < 20; i++)
			assert_int_equal(put(store, 100 + i, NIGHT + 3600 * h), 0);
	store_free(store);
}

/* What must be moved aside, with a word about it; a reader of it says what is wrong. */
static void check_moved_aside(void)
{
	struct store *store;
	json_t *history = NULL;
	struct err err = { 0 };
	const char *notice;
	int before = count_files("corrupt-[0-9TZ-]+$"), r;

	r = store_read(store_path, &(struct store_query){ 0 }, &history, &err);
	if (r)
		assert_true(err.what[0] && strstr(err.what, store_path) && !history);
	json_decref(history);
	store = store_open_here(NULL);
	notice = store_take_notice(store);
	assert_non_null(notice);
	assert_non_null(strstr(notice, ".corrupt-"));
	put_and_tick(store, 17, NIGHT);
	store_free(store);
	assert_int_equal(count_files("corrupt-[0-9TZ-]+$"), before + 1);
	assert_int_equal(processes_here(), 1);
}

static void test_damage(void **state)
{
	char *data, garbage[10000];
	size_t size;

	(void)state;
	write_some();
	data = read_file(store_path, &size);
	memset(garbage, 'x', sizeof(garbage));
	write_file(store_path, garbage, sizeof(garbage));
	check_moved_aside();
	memcpy(garbage, data, 16);
	write_file(store_path, garbage, sizeof(garbage));
	check_moved_aside();
	for (int i = 1; i < 4; i++) {
		write_file(store_path, data, size * (size_t)i / 4 / 4096 * 4096 + 100);
		check_moved_aside();
	}
	write_file(store_path, data, 30);
	check_moved_aside();
	free(data);
}

/* Bits flip: what is found is moved aside, what is not does no harm, and no reader stumbles. */
static void test_bit_flips(void **state)
{
	unsigned seed = 7;
	char *data, *copy;
	size_t size;
	int aside = 0, refused = 0, unseen = 0;

	(void)state;
	write_some();
	data = read_file(store_path, &size);
	copy = malloc(size);
	for (int round = 0; round < (FULL ? 1000 : 60); round++) {
		struct store *store = NULL;
		json_t *history = NULL;
		struct err err = { 0 };
		int r;

		memcpy(copy, data, size);
		for (int i = 0; i < 1 + round % 20; i++)
			copy[(size_t)rand_r(&seed) % (round % 3 ? size : 4096)] ^= (char)(1 << rand_r(&seed) % 8);
		write_file(store_path, copy, size);
		r = store_read(store_path, &(struct store_query){ 0 }, &history, &err);
		assert_true(!r == !!history && !r == !err.what[0]);
		json_decref(history);
		memset(&err, 0, sizeof(err));
		r = store_open(&(struct store_options){ .path = store_path }, &store, &err);
		if (r) {
			if (r != -EINVAL && r != -ENOTSUP)
				fail_msg("%d: %s", r, err.what);
			assert_true(err.what[0]);
			refused++;
			continue;
		}
		if (store_take_notice(store))
			aside++;
		else
			unseen++;
		for (int i = 0; i < 50; i++) {
			put(store, 100 + i, NIGHT + 3600 * 30 + 600 * i);
			store_tick(store, at(NIGHT + 3600 * 30 + 600 * i));
		}
		assert_true(store_is_ok(store));
		store_free(store);
	}
	print_message("bit flips: %d moved aside, %d refused, %d not seen\n", aside, refused, unseen);
	assert_true(aside > 10);
	free(data);
	free(copy);
}

/* Nothing that never was a history is touched. */
static void test_not_ours(void **state)
{
	static const char text[] = "root:x:0:0:root:/root:/bin/bash\n";
	struct store *store = NULL;
	struct err err = { 0 };
	_cleanup_(freep) char *data = NULL;
	json_t *history = NULL;
	sqlite3 *db;
	size_t size;

	(void)state;
	write_file(store_path, text, sizeof(text) - 1);
	assert_int_equal(store_open(&(struct store_options){ .path = store_path }, &store, &err), -EINVAL);
	assert_non_null(strstr(err.what, "no history"));
	data = read_file(store_path, &size);
	assert_int_equal(size, sizeof(text) - 1);
	assert_memory_equal(data, text, size);
	assert_int_equal(store_read(store_path, &(struct store_query){ 0 }, &history, &err), -EUCLEAN);
	unlink(store_path);
	assert_int_equal(sqlite3_open(store_path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "CREATE TABLE other (x)", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	assert_int_equal(store_open(&(struct store_options){ .path = store_path }, &store, &err), -EINVAL);
	assert_int_equal(store_read(store_path, &(struct store_query){ 0 }, &history, &err), -EINVAL);
	assert_int_equal(store_open(&(struct store_options){ .path = store_dir }, &store, &err), -EINVAL);
	assert_int_equal(store_open(&(struct store_options){ .path = "/nowhere/at/all/history.db" }, &store, &err), -ENOENT);
	assert_null(store);
	assert_null(history);
}

static void test_newer(void **state)
{
	struct store *store = store_open_here(NULL);
	struct err err = { 0 };
	json_t *history = NULL;
	sqlite3 *db;

	(void)state;
	put_and_tick(store, 17, NIGHT);
	store_free(take_ptr(store));
	assert_int_equal(sqlite3_open(store_path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	assert_int_equal(store_open(&(struct store_options){ .path = store_path }, &store, &err), -ENOTSUP);
	assert_non_null(strstr(err.what, "newer"));
	assert_int_equal(store_read(store_path, &(struct store_query){ 0 }, &history, &err), -ENOTSUP);
	assert_null(history);
	assert_int_equal(count_files("corrupt-[0-9TZ-]+$"), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, store_make_dir, store_remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_full_disk), TEST(test_read_only), TEST(test_read_only_journal), TEST(test_other_user), TEST(test_vanished), TEST(test_reopen),
		TEST(test_two_writers), TEST(test_killed), TEST(test_reader_beside_writer), TEST(test_damage), TEST(test_bit_flips),
		TEST(test_not_ours), TEST(test_newer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
