/* SPDX-License-Identifier: MIT */
/* A command and what comes of it, followed: events in order, signals, stops, statuses; and interpreters watched from their birth to their end. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "interp/birth.h"
#include "interp/python.h"
#include "interp/slots.h"
#include "pytarget.h"
#include "target/proc.h"
#include "trace/launch.h"

#define TIMEOUT_S 60.0

struct seen {
	struct launch *launch;
	int count[LAUNCH_GONE + 1];
	pid_t last[LAUNCH_GONE + 1];
	/* the command's interpreter */
	struct birth *birth;
	bool born, ended;
	int look_error;
	void (*at)(struct seen *seen, const struct launch_event *event);
};

static void on_event(void *ctx, const struct launch_event *event)
{
	struct seen *seen = ctx;

	seen->count[event->what]++;
	seen->last[event->what] = event->pid;
	if (event->what == LAUNCH_EXEC)
		assert_int_equal(launch_watch_entry(seen->launch, event->pid), 0);
	if (seen->at)
		seen->at(seen, event);
}

static int run_until(struct launch *launch, struct seen *seen, bool (*done)(struct seen *))
{
	uint64_t start_ns = clock_mono_ns(&clock_real);
	struct timespec pause = { .tv_nsec = 200000 };
	int status = 0;

	seen->launch = launch;
	while (!(done && done(seen)) && !launch_has_ended(launch, &status)) {
		assert_int_equal(launch_step(launch, on_event, seen), 0);
		nanosleep(&pause, NULL);
		assert_true(clock_seconds_since(&clock_real, start_ns) < TIMEOUT_S);
	}
	return status;
}

static struct launch *start(const char *const *argv)
{
	struct launch *launch;
	struct err err = { 0 };

	if (launch_new((char *const *)argv, &launch, &err))
		fail_msg("%s", err.what);
	assert_int_equal(launch_go(launch), 0);
	return launch;
}

static int run_shell(const char *command, struct seen *seen)
{
	const char *argv[] = { "sh", "-c", command, NULL };
	_cleanup_(launch_freep) struct launch *launch = start(argv);

	return run_until(launch, seen, NULL);
}

static void test_status(void **state)
{
	struct seen seen = { 0 };
	int status;

	(void)state;
	status = run_shell("exit 7", &seen);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
	assert_int_equal(seen.count[LAUNCH_EXEC], 1);
	assert_int_equal(seen.count[LAUNCH_ENTRY], 1);
	assert_int_equal(seen.count[LAUNCH_EXIT], 1);
	assert_int_equal(seen.count[LAUNCH_GONE], 1);
	assert_int_equal(seen.count[LAUNCH_CHILD], 0);
	status = run_shell("kill -USR1 $$", &seen);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGUSR1);
	status = run_shell("kill -TRAP $$", &seen);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGTRAP);
	status = run_shell("kill -KILL $$", &seen);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void test_failure(void **state)
{
	const char *missing[] = { "/nonexistent/program", NULL }, *directory[] = { "/tmp", NULL };
	_cleanup_(launch_freep) struct launch *a = start(missing), *b = NULL;
	struct seen seen = { 0 };

	(void)state;
	assert_int_equal(WEXITSTATUS(run_until(a, &seen, NULL)), 127);
	assert_int_equal(launch_failure(a), -ENOENT);
	b = start(directory);
	assert_int_equal(WEXITSTATUS(run_until(b, &seen, NULL)), 127);
	assert_int_equal(launch_failure(b), -EACCES);
}

/* A tree: subshells fork, commands are forked or vforked and exec'ed. */
static void test_tree(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	assert_int_equal(run_shell("(/bin/true; /bin/true; (exit 3); :) & (/bin/true; exit 0); wait", &seen), 0);
	assert_int_equal(seen.count[LAUNCH_EXEC], 4);
	assert_int_equal(seen.count[LAUNCH_ENTRY], 4);
	assert_true(seen.count[LAUNCH_CHILD] >= 3 && seen.count[LAUNCH_CHILD] <= 6);
	assert_int_equal(seen.count[LAUNCH_GONE], 7);
	assert_int_equal(seen.count[LAUNCH_EXIT], 7);
}

static void test_signals_are_received(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	assert_int_equal(WEXITSTATUS(run_shell("trap 'exit 9' TERM; kill -TERM $$; sleep 10", &seen)), 9);
	/* Stopped, told to go on by its child, and only then at an end. */
	assert_int_equal(WEXITSTATUS(run_shell("trap 'n=1' CONT; (sleep 0.2; kill -CONT $$) & kill -STOP $$; wait; exit 1$n", &seen)), 11);
}

static bool stands(struct seen *seen)
{
	struct proc_stat stat;

	return !proc_stat_read(launch_pid(seen->launch), &stat) && (stat.state == 'T' || stat.state == 't') && seen->count[LAUNCH_ENTRY];
}

/* A group's stop lasts until SIGCONT, whatever else is waited for. */
static void test_stop_lasts(void **state)
{
	const char *argv[] = { "sh", "-c", "kill -STOP $$; exit 5", NULL };
	_cleanup_(launch_freep) struct launch *launch = start(argv);
	struct seen seen = { 0 };

	(void)state;
	run_until(launch, &seen, stands);
	for (int i = 0; i < 100; i++) {
		struct timespec pause = { .tv_nsec = 1000000 };

		assert_int_equal(launch_step(launch, on_event, &seen), 0);
		nanosleep(&pause, NULL);
	}
	assert_true(stands(&seen));
	kill(launch_pid(launch), SIGCONT);
	assert_int_equal(WEXITSTATUS(run_until(launch, &seen, NULL)), 5);
}

static bool entered(struct seen *seen)
{
	return seen->count[LAUNCH_ENTRY] > 0;
}

/* Let go, it runs to its end by itself. */
static void test_let_go(void **state)
{
	const char *argv[] = { "sh", "-c", "(sleep 0.3; exit 4) & wait $!; exit $?", NULL };
	struct launch *launch = start(argv);
	struct seen seen = { 0 };
	pid_t pid = launch_pid(launch);
	int status;

	(void)state;
	run_until(launch, &seen, entered);
	launch_free(launch);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 4);
}

/* The end of a child that is somebody else's is left to it. */
static void test_other_children(void **state)
{
	pid_t other = fork();
	struct seen seen = { 0 };
	int status;

	(void)state;
	if (!other)
		_exit(42);
	assert_int_equal(WEXITSTATUS(run_shell("(exit 1); (exit 2); exit 3", &seen)), 3);
	assert_int_equal(waitpid(other, &status, WNOHANG), other);
	assert_int_equal(WEXITSTATUS(status), 42);
}

/* ---- interpreters ---- */

static void look(struct seen *seen, pid_t pid)
{
	raddr_t slot;
	int r = birth_look(seen->birth, &slot);

	if (r < 0) {
		seen->look_error = r;
	} else if (r != BIRTH_READY) {
		assert_int_equal(launch_watch(seen->launch, pid, slot), 0);
	} else if (!seen->born) {
		struct python *python;
		struct slots slots;
		struct err err = { 0 };

		seen->born = true;
		if (python_open(pid, &python, &err))
			fail_msg("at its birth: %s", err.what);
		if (slots_read(python, &slots, &err))
			fail_msg("at its birth: %s", err.what);
		assert_int_equal(slots.allocator, ALLOCATOR_PYMALLOC);
		assert_string_equal(python_version(python), birth_version(seen->birth));
		python_free(python);
		assert_int_equal(launch_watch(seen->launch, pid, birth_end_slot(seen->birth)), 0);
	}
	if (birth_is_ending(seen->birth) && !seen->ended) {
		seen->ended = true;
		launch_watch(seen->launch, pid, RADDR_NULL);
	}
}

static void follow_python(struct seen *seen, const struct launch_event *event)
{
	struct err err = { 0 };

	if (event->what == LAUNCH_ENTRY && !birth_open(event->pid, &seen->birth, &err))
		look(seen, event->pid);
	else if (event->what == LAUNCH_WATCH)
		look(seen, event->pid);
}

static void test_birth_and_end(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		const char *argv[PYINTERP_ARGS + 3] = { NULL };
		struct seen seen = { .at = follow_python };
		_cleanup_(launch_freep) struct launch *launch = NULL;
		size_t k = 0;

		for (; interps[i].argv[k]; k++)
			argv[k] = interps[i].argv[k];
		argv[k++] = "-c";
		argv[k] = "import threading, sys; t = threading.Thread(target=len, args=('',)); t.start(); t.join(); sys.exit(6)";
		launch = start(argv);
		assert_int_equal(WEXITSTATUS(run_until(launch, &seen, NULL)), 6);
		print_message("%s: %d watchpoints hit, %llu stops\n", interps[i].label, seen.count[LAUNCH_WATCH],
			      (unsigned long long)launch_stops(launch));
		assert_int_equal(seen.look_error, 0);
		assert_true(seen.birth && seen.born && seen.ended);
		assert_int_equal(seen.count[LAUNCH_EXIT], 1);
		birth_free(seen.birth);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status), cmocka_unit_test(test_failure), cmocka_unit_test(test_tree),
		cmocka_unit_test(test_signals_are_received), cmocka_unit_test(test_stop_lasts), cmocka_unit_test(test_let_go),
		cmocka_unit_test(test_other_children), cmocka_unit_test(test_birth_and_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
