/* SPDX-License-Identifier: MIT */
/* Source lines of processes with another root, another directory, another user; and names that must lead nowhere. Needs root. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <cmocka.h>

#include "diagnose/source.h"
#include "target_process.h"

#define NOBODY 65534

/* TOP/root is the target's root, TOP/root/app its working directory; TOP/secret lies outside. */
static char top[64];

static void in_top(char *path, size_t size, const char *name)
{
	snprintf(path, size, "%s/%s", top, name);
}

static void put_bytes(const char *name, mode_t mode, const char *text, size_t size)
{
	char path[160];
	int fd;

	in_top(path, sizeof(path), name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, size), size);
	close(fd);
	assert_int_equal(chmod(path, mode), 0);
}

static void put(const char *name, mode_t mode, const char *text)
{
	put_bytes(name, mode, text, strlen(text));
}

static void make_dir(const char *name, mode_t mode)
{
	char path[160];

	in_top(path, sizeof(path), name);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void link_to(const char *name, const char *to)
{
	char path[160];

	in_top(path, sizeof(path), name);
	assert_int_equal(symlink(to, path), 0);
}

/* A process with that root and user, in its /app. */
static pid_t start_process(uid_t uid)
{
	int ready[2];
	char root[96], c;
	pid_t pid;

	in_top(root, sizeof(root), "root");
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		if (chroot(root) || chdir("/app") || (uid && (setgid(uid) || setuid(uid))) || write(ready[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

static struct source *new_source(pid_t pid)
{
	struct source *s = NULL;

	assert_int_equal(source_new(pid, &s), 0);
	return s;
}

static int setup(void **state)
{
	char long_line[70000], path[160];

	(void)state;
	snprintf(top, sizeof(top), "/tmp/test_source.XXXXXX");
	if (!mkdtemp(top) || chmod(top, 0755))
		return -1;
	make_dir("root", 0755);
	make_dir("root/app", 0755);
	make_dir("root/tmp", 0700);
	make_dir("root/closed", 0700);
	put("secret", 0644, "outside\n");
	put("root/app/a.py", 0644, "first\n\n\t  third = 3  \r\nfourth");
	put("root/top.py", 0644, "top\n");
	put("root/app/private.py", 0600, "private\n");
	put("root/app/owned.py", 0600, "owned\n");
	in_top(path, sizeof(path), "root/app/owned.py");
	if (chown(path, NOBODY, NOBODY))
		return -1;
	put("root/app/group.py", 0640, "group\n");
	put("root/closed/a.py", 0644, "closed\n");
	put("root/app/empty.py", 0644, "");
	put_bytes("root/app/binary.py", 0644, "a\0b\nsecond\n\x01\x02\xff\n", 15);
	memset(long_line, 'x', sizeof(long_line));
	long_line[sizeof(long_line) - 1] = '\n';
	put_bytes("root/app/long.py", 0644, long_line, sizeof(long_line));
	in_top(path, sizeof(path), "root/app/huge.py");
	put("root/app/huge.py", 0644, "huge\n");
	if (truncate(path, (4 << 20) + 1))
		return -1;
	link_to("root/app/inside.py", "/app/a.py");
	link_to("root/app/outside.py", "../../secret");
	link_to("root/app/absolute.py", "/secret");
	link_to("root/app/loop.py", "loop.py");
	in_top(path, sizeof(path), "root/app/fifo.py");
	if (mkfifo(path, 0644) || chmod(path, 0644))
		return -1;
	in_top(path, sizeof(path), "root/app/device.py");
	return mknod(path, S_IFCHR | 0644, makedev(1, 5)) ? -1 : 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command);
}

static void expect_line(struct source *s, const char *file, int line, const char *want)
{
	const char *got = source_line(s, file, line);

	if ((got != NULL) != (want != NULL) || (want && strcmp(got, want)))
		fail_msg("%s:%d is '%.80s', not '%s'", file, line, got ? got : "(none)", want ? want : "(none)");
}

static void test_lines(void **state)
{
	_cleanup_(target_stopp) pid_t pid = start_process(0);
	_cleanup_(source_freep) struct source *s = new_source(pid);
	const char *first;

	(void)state;
	expect_line(s, "/app/a.py", 1, "first");
	expect_line(s, "/app/a.py", 2, NULL);
	expect_line(s, "/app/a.py", 3, "third = 3");
	expect_line(s, "/app/a.py", 4, "fourth");
	expect_line(s, "/app/a.py", 5, NULL);
	expect_line(s, "/app/a.py", INT_MAX, NULL);
	expect_line(s, "/app/a.py", 0, NULL);
	expect_line(s, "/app/a.py", -1, NULL);
	/* Relative names are those of the working directory, below it. */
	expect_line(s, "a.py", 1, "first");
	expect_line(s, "./../app/a.py", 1, NULL);
	expect_line(s, "../top.py", 1, NULL);
	expect_line(s, "/app/../top.py", 1, "top");
	/* Names of no file. */
	expect_line(s, "", 1, NULL);
	expect_line(s, "<string>", 1, NULL);
	expect_line(s, "/app/none.py", 1, NULL);
	expect_line(s, "/app", 1, NULL);
	expect_line(s, "/app/empty.py", 1, NULL);
	/* What was read stays, whatever becomes of the file or of the process. */
	first = source_line(s, "/app/a.py", 1);
	target_stop(pid);
	pid = -1;
	expect_line(s, "/app/a.py", 3, "third = 3");
	assert_string_equal(first, "first");
	source_free(NULL);
}

static void test_root(void **state)
{
	_cleanup_(target_stopp) pid_t pid = start_process(0);
	_cleanup_(source_freep) struct source *s = new_source(pid);

	(void)state;
	expect_line(s, "/app/inside.py", 1, "first");
	expect_line(s, "/app/outside.py", 1, NULL);
	expect_line(s, "outside.py", 1, NULL);
	expect_line(s, "/app/absolute.py", 1, NULL);
	expect_line(s, "/../../../secret", 1, NULL);
	expect_line(s, "../../secret", 1, NULL);
	expect_line(s, "/app/loop.py", 1, NULL);
	expect_line(s, "loop.py", 1, NULL);
}

/* Nothing that waits for somebody, and nothing that has no end. */
static void test_kinds(void **state)
{
	_cleanup_(target_stopp) pid_t pid = start_process(0);
	_cleanup_(source_freep) struct source *s = new_source(pid), *ours = new_source(getpid());
	char name[PATH_MAX + 100];

	(void)state;
	expect_line(s, "/app/fifo.py", 1, NULL);
	expect_line(s, "fifo.py", 1, NULL);
	expect_line(s, "/app/device.py", 1, NULL);
	expect_line(s, "/app/huge.py", 1, NULL);
	/* The kernel's own files, and the way through them to other processes. */
	expect_line(ours, "/proc/self/status", 1, NULL);
	expect_line(ours, "/proc/self/exe", 1, NULL);
	expect_line(ours, "/proc/1/root/etc/passwd", 1, NULL);
	expect_line(ours, "/proc/kmsg", 1, NULL);
	memset(name, '/', sizeof(name));
	memcpy(name + sizeof(name) - 9, "app/a.py", 9);
	expect_line(s, name, 1, NULL);
}

static void test_texts(void **state)
{
	_cleanup_(target_stopp) pid_t pid = start_process(0);
	_cleanup_(source_freep) struct source *s = new_source(pid);
	const char *line;

	(void)state;
	/* Bytes stand as they are, but for NUL: who shows them escapes them. */
	expect_line(s, "/app/binary.py", 1, "a?b");
	expect_line(s, "/app/binary.py", 2, "second");
	expect_line(s, "/app/binary.py", 3, "\x01\x02\xff");
	line = source_line(s, "/app/long.py", 1);
	assert_non_null(line);
	assert_in_range(strlen(line), 65535, 65535);
}

/* Root must not show what the target's user may not read: neither a file, nor one in a directory that is closed. */
static void test_users(void **state)
{
	_cleanup_(target_stopp) pid_t pid = start_process(NOBODY), root_pid = start_process(0);
	_cleanup_(source_freep) struct source *s = new_source(pid), *root = new_source(root_pid);
	gid_t before[64], after[64];
	int groups = getgroups(64, before);

	(void)state;
	expect_line(s, "/app/a.py", 1, "first");
	expect_line(s, "a.py", 1, "first");
	expect_line(s, "/app/owned.py", 1, "owned");
	expect_line(s, "/app/private.py", 1, NULL);
	expect_line(s, "private.py", 1, NULL);
	expect_line(s, "/app/group.py", 1, NULL);
	expect_line(s, "/closed/a.py", 1, NULL);
	expect_line(root, "/app/private.py", 1, "private");
	expect_line(root, "/closed/a.py", 1, "closed");
	/* We are who we were. */
	assert_int_equal(getgroups(64, after), groups);
	assert_memory_equal(before, after, (size_t)groups * sizeof(gid_t));
	assert_int_equal(access("/proc/1/environ", R_OK), 0);
	{
		char path[160];
		int fd;

		in_top(path, sizeof(path), "root/closed/a.py");
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		close(fd);
	}
}

static void test_gone(void **state)
{
	pid_t pid = start_process(0);
	struct source *s = NULL;

	(void)state;
	target_stop(pid);
	assert_int_equal(source_new(pid, &s), 0);
	expect_line(s, "/etc/passwd", 1, NULL);
	expect_line(s, "etc/passwd", 1, NULL);
	source_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_gone),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
