/* SPDX-License-Identifier: MIT */
/*
 * The history and what others do to it: a second writer, readers beside the writer, a writer killed at any moment, damage of many kinds, files that
 * are none of ours.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "store_by_hand.h"

#define FULL getenv("LEAKSNOOP_FULL")

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
			put_one(store, 100 + i, NIGHT + 3600.0 * h);
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
			assert_int_equal(put_one(store, 100 + i, NIGHT + 3600 * h), 0);
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
	for (int round = 0; round < (FULL ? 300 : 60); round++) {
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
			if (r != -EINVAL && r != -ENOTSUP && r != -EROFS)
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
			put_one(store, 100 + i, NIGHT + 3600 * 30 + 600 * i);
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
		TEST(test_two_writers), TEST(test_killed), TEST(test_reader_beside_writer), TEST(test_damage), TEST(test_bit_flips),
		TEST(test_not_ours), TEST(test_newer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
