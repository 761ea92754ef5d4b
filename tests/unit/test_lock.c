/* SPDX-License-Identifier: MIT */
/* One tracer a process: refused with the holder's PID, released when it dies, however it dies. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "target_process.h"
#include "trace/lock.h"

static pid_t start_sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	assert_true(pid > 0);
	return pid;
}

static void expect_locked(pid_t pid, pid_t holder)
{
	struct err err = { 0 };
	char want[32];
	int fd = -1;

	assert_int_equal(trace_lock(pid, &fd, &err), -EBUSY);
	assert_int_equal(fd, -1);
	assert_int_equal(err.code, -EBUSY);
	snprintf(want, sizeof(want), "with PID %d", holder);
	if (!strstr(err.what, want))
		fail_msg("'%s' does not say '%s'", err.what, want);
	assert_true(err.hint[0]);
}

static void test_two(void **state)
{
	_cleanup_(target_stopp) pid_t pid = start_sleeper();
	_cleanup_(closep) int fd = -1;
	int other = -1;
	struct err err = { 0 };

	(void)state;
	assert_int_equal(trace_lock(pid, &fd, &err), 0);
	assert_true(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
	expect_locked(pid, getpid());
	/* Another process may be traced beside it, and the same one later. */
	assert_int_equal(trace_lock(getpid(), &other, NULL), 0);
	close(other);
	close(fd);
	assert_int_equal(trace_lock(pid, &fd, &err), 0);
}

static void test_killed_holder(void **state)
{
	_cleanup_(target_stopp) pid_t pid = start_sleeper();
	int ready[2], fd = -1;
	pid_t holder;
	char c = 0;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	holder = fork();
	if (holder == 0) {
		c = trace_lock(pid, &fd, NULL) == 0 ? 'y' : 'n';
		if (write(ready[1], &c, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(c, 'y');
	expect_locked(pid, holder);
	target_stop(holder);
	assert_int_equal(trace_lock(pid, &fd, NULL), 0);
	close(fd);
	close(ready[0]);
	close(ready[1]);
}

/* A lock with the same inode number in another file system is nobody's. */
static void test_other_inodes(void **state)
{
	_cleanup_(target_stopp) pid_t pid = start_sleeper();
	_cleanup_(closep) int tmp = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int fd = -1;

	(void)state;
	if (tmp >= 0)
		flock(tmp, LOCK_EX);
	assert_int_equal(trace_lock(pid, &fd, NULL), 0);
	expect_locked(pid, getpid());
	close(fd);
}

static void test_gone(void **state)
{
	pid_t pid = start_sleeper();
	struct err err = { 0 };
	int fd = -1, late = -1;

	(void)state;
	assert_int_equal(trace_lock(pid, &fd, &err), 0);
	/* The lock is that process's, and does not outlive it in a way that harms. */
	target_stop(pid);
	assert_int_equal(trace_lock(pid, &late, &err), -ESRCH);
	assert_int_equal(late, -1);
	assert_true(err.what[0]);
	assert_int_equal(trace_lock(-5, &late, &err), -ESRCH);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two),
		cmocka_unit_test(test_killed_holder),
		cmocka_unit_test(test_other_inodes),
		cmocka_unit_test(test_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
