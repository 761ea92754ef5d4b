/* SPDX-License-Identifier: MIT */
/*
 * The history and its disk: full, one that may not be written, a folder that goes away, a file that was moved, readers who may not write beside it.
 * Damage, kills and other processes are in test_store_damage.c.
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

#include "store_by_hand.h"

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
	struct err err = { 0 };
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
		put_one(store, 1000 + i, now);
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
		failed += put_one(store, 17, now) == -ENOSPC;
		store_tick(store, at(now));
	}
	assert_true(failed > 580);
	assert_true(store_errors(store) >= errors + (uint64_t)failed);
	unlink(filler);
	for (int i = 0; i < 301 && !store_is_ok(store); i++) {
		now += 1;
		put_one(store, 17, now);
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
	/* full from the beginning: refused, and no hindrance later */
	fill(filler);
	snprintf(store_path, sizeof(store_path), "%s/second.db", store_dir);
	assert_int_equal(store_open(&(struct store_options){ .path = store_path }, &store, &err), -ENOSPC);
	assert_non_null(strstr(err.what, "full"));
	unlink(filler);
	store_free(store_open_here(NULL));
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
	assert_int_equal(put_one(store, 18, NIGHT), 0);
	assert_int_equal(rename(store_path, moved), 0);
	assert_int_equal(put_one(store, 19, NIGHT), 0);
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

#define TEST(f) cmocka_unit_test_setup_teardown(f, store_make_dir, store_remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_full_disk), TEST(test_read_only), TEST(test_read_only_journal), TEST(test_other_user), TEST(test_vanished), TEST(test_reopen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
