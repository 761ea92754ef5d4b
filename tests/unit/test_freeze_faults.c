/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a process that is held when the one that holds it is killed or stopped, when it is killed itself, ends meanwhile, is signalled or has
 * another tracer.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "counting_target.h"
#include "target/proc.h"

#define SIGNALS 200

static pid_t start_holder(pid_t target)
{
	pid_t pid;
	int fds[2];
	char c;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		struct freeze *freeze;

		if (freeze_begin(target, &freeze, NULL) == 0 && write(fds[1], "h", 1) == 1)
			pause();
		_exit(1);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &c, 1), 1);
	close(fds[0]);
	return pid;
}

/* kill -9 of the tracer, and Ctrl-Z: the target runs on. */
static void test_tracer_dies(void **state)
{
	pid_t pid = counting_start(many_threads);

	(void)state;
	for (int round = 0; round < 10; round++) {
		pid_t tracer = start_holder(pid);
		uint64_t before = counting_sum();

		usleep(10000);
		assert_int_equal(counting_sum(), before);
		kill(tracer, round % 2 ? SIGSTOP : SIGKILL);
		expect_runs();
		kill(tracer, SIGKILL);
		waitpid(tracer, NULL, 0);
	}
	expect_unseen(pid);
	counting_stop(pid);
}

/* Kills the process that holds it; the caller of freeze_begin() lives on and is told. */
static void test_holder_dies(void **state)
{
	pid_t pid = counting_start(many_threads), *children;
	struct freeze *freeze = freeze_now(pid);
	size_t n, killed = 0;

	(void)state;
	assert_int_equal(proc_children(getpid(), &children, &n), 0);
	for (size_t i = 0; i < n; i++)
		if (children[i] != pid)
			killed += kill(children[i], SIGKILL) == 0;
	free(children);
	assert_int_equal(killed, 1);
	expect_runs();
	assert_false(freeze_holds(freeze));
	freeze_end(freeze);
	counting_stop(pid);
}

static void note_signal(int number)
{
	(void)number;
	atomic_fetch_add(&counting->signals, 1);
}

static void signalled(void)
{
	struct sigaction action = { .sa_handler = note_signal, .sa_flags = SA_RESTART };

	sigaction(SIGRTMIN, &action, NULL);
	many_threads();
}

/* Signals on their way into a thread that is stopped are neither lost nor doubled; also when the tracer is killed. */
static void test_signals(void **state)
{
	pid_t pid = counting_start(signalled);
	const union sigval value = { 0 };

	(void)state;
	for (int i = 0; i < SIGNALS; i++) {
		assert_int_equal(sigqueue(pid, SIGRTMIN, value), 0);
		if (i % 40 == 39) {
			pid_t tracer = start_holder(pid);

			kill(tracer, SIGKILL);
			waitpid(tracer, NULL, 0);
		} else if (i % 10 == 9) {
			freeze_end(freeze_now(pid));
		}
	}
	for (int i = 0; i < 10000 && counting->signals < SIGNALS; i++)
		usleep(1000);
	usleep(10000);
	assert_int_equal(counting->signals, SIGNALS);
	counting_stop(pid);
}

/* Its parent learns of the end while it is held. */
static void test_killed_while_held(void **state)
{
	(void)state;
	for (int round = 0; round < 5; round++) {
		pid_t pid = counting_start(many_threads);
		struct freeze *freeze = freeze_now(pid);

		counting_stop(pid);
		for (int i = 0; i < 5000 && freeze_holds(freeze); i++)
			usleep(1000);
		assert_false(freeze_holds(freeze));
		freeze_end(freeze);
	}
}

static void exits(void)
{
	srand((unsigned)getpid());
	counting->ready = 1;
	usleep((unsigned)rand() % 3000);
	_exit(0);
}

/* Ends while it is being stopped: held, or gone; never a hang, and its status is its own. */
static void test_ends_meanwhile(void **state)
{
	int held = 0, gone = 0;

	(void)state;
	for (int round = 0; round < 100; round++) {
		struct freeze *freeze = NULL;
		pid_t pid = counting_start(exits);
		int r = freeze_begin(pid, &freeze, NULL), status;

		if (r != 0 && r != -ESRCH)
			fail_msg("%s", strerror(-r));
		held += r == 0;
		gone += r != 0;
		freeze_end(freeze);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	print_message("%d were held, %d gone\n", held, gone);
}

static void test_other_tracer(void **state)
{
	pid_t pid = counting_start(many_threads), tracer;
	struct freeze *freeze = NULL;
	struct err err = { 0 };
	int fds[2];
	char c;

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	tracer = fork();
	if (tracer == 0) {
		prctl(PR_SET_NAME, "some-debugger");
		if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0 && write(fds[1], "h", 1) == 1)
			pause();
		_exit(1);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &c, 1), 1);
	close(fds[0]);
	assert_int_equal(freeze_begin(pid, &freeze, &err), -EBUSY);
	assert_null(freeze);
	assert_non_null(strstr(err.what, "some-debugger"));
	assert_non_null(strstr(err.hint, "--freeze"));
	expect_runs();
	kill(tracer, SIGKILL);
	waitpid(tracer, NULL, 0);
	freeze_end(freeze_now(pid));
	counting_stop(pid);
}

static void test_refusals(void **state)
{
	struct freeze *freeze = NULL;
	struct err err = { 0 };
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	assert_int_equal(freeze_begin(pid, &freeze, &err), -ESRCH);
	assert_int_equal(freeze_begin(0, &freeze, &err), -ESRCH);
	assert_int_equal(freeze_begin(-5, &freeze, &err), -ESRCH);
	assert_int_equal(freeze_begin(getpid(), &freeze, &err), -EINVAL);
	assert_int_equal(freeze_begin(4194303, &freeze, NULL), -ESRCH);
	assert_null(freeze);
	freeze_end(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tracer_dies),
		cmocka_unit_test(test_holder_dies),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_killed_while_held),
		cmocka_unit_test(test_ends_meanwhile),
		cmocka_unit_test(test_other_tracer),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, counting_setup, NULL);
}
