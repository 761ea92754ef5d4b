/* SPDX-License-Identifier: MIT */
/* Stopping real processes: with many threads, with threads that come and go all the time, asleep, stopped already, and interpreters at work. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "counting_target.h"
#include "pytarget.h"
#include "target/proc.h"

static void test_many_threads(void **state)
{
	pid_t pid = counting_start(many_threads);

	(void)state;
	for (int round = 0; round < 10; round++) {
		struct freeze *freeze = freeze_now(pid);

		assert_int_equal(freeze_threads(freeze), COUNTING_THREADS + 1);
		expect_stands(freeze);
		expect_unseen(pid);
		assert_true(freeze_seconds(freeze) > 0.02);
		freeze_end(freeze);
		expect_unseen(pid);
		expect_runs();
	}
	counting_stop(pid);
}

static void *brief(void *arg)
{
	(void)arg;
	atomic_fetch_add(&counting->made, 1);
	return NULL;
}

/* Each thread makes the next, and ends. */
static void *chain(void *arg)
{
	atomic_fetch_add(&counting->made, 1);
	thread_new(chain, arg);
	return NULL;
}

static void *make(void *arg)
{
	for (;;)
		thread_new(brief, arg);
	return NULL;
}

static void maker(void)
{
	thread_new(make, NULL);
	thread_new(make, NULL);
	thread_new(chain, NULL);
	thread_new(chain, NULL);
	counting->ready = 1;
	make(NULL);
}

static void test_threads_all_the_time(void **state)
{
	pid_t pid = counting_start(maker);
	double longest = 0;

	(void)state;
	for (int round = 0; round < 50; round++) {
		struct freeze *freeze = freeze_now(pid);
		double took = freeze_seconds(freeze);

		longest = took > longest ? took : longest;
		if (round % 10 == 0)
			expect_stands(freeze);
		freeze_end(freeze);
		expect_runs();
	}
	print_message("%llu threads made, the slowest stop took %.1f ms\n", (unsigned long long)counting->made, longest * 1e3);
	expect_unseen(pid);
	counting_stop(pid);
}

static void stop_itself(void)
{
	thread_new(count_on, &counting->counters[0]);
	counting->ready = 1;
	raise(SIGSTOP);
	count_on(&counting->counters[1]);
}

/* What was stopped before stays stopped after, and can be continued. */
static void test_stopped_before(void **state)
{
	pid_t pid = counting_start(stop_itself);
	struct freeze *freeze;
	struct proc_stat stat;
	uint64_t before;
	int status;

	(void)state;
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	freeze = freeze_now(pid);
	expect_stands(freeze);
	freeze_end(freeze);
	assert_int_equal(proc_stat_read(pid, &stat), 0);
	before = counting_sum();
	usleep(20000);
	assert_int_equal(counting_sum(), before);
	kill(pid, SIGCONT);
	expect_runs();
	counting_stop(pid);
}

static void *sleeper(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };

	if (poll(&p, 1, -1) < 0)
		atomic_fetch_add(&counting->interrupted, 1);
	return NULL;
}

static void *reader(void *arg)
{
	char c;

	if (read(*(int *)arg, &c, 1) < 0)
		atomic_fetch_add(&counting->interrupted, 1);
	return NULL;
}

static void *napper(void *arg)
{
	(void)arg;
	for (;;) {
		if (usleep(1000000) < 0)
			atomic_fetch_add(&counting->interrupted, 1);
	}
	return NULL;
}

static void waits(void)
{
	static int fds[2];

	if (pipe(fds))
		_exit(1);
	for (int i = 0; i < 8; i++) {
		thread_new(sleeper, &fds[0]);
		thread_new(reader, &fds[0]);
		thread_new(napper, NULL);
	}
	usleep(20000);
	counting->ready = 1;
	count_on(&counting->counters[0]);
}

/* Threads that sleep in poll, read or nanosleep sleep on. */
static void test_sleepers_sleep_on(void **state)
{
	pid_t pid = counting_start(waits);

	(void)state;
	for (int round = 0; round < 20; round++)
		freeze_end(freeze_now(pid));
	expect_runs();
	assert_int_equal(counting->interrupted, 0);
	counting_stop(pid);
}

static void *forks(void *arg)
{
	(void)arg;
	for (;;) {
		pid_t pid = vfork();

		if (pid == 0) {
			usleep(100000);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
	return NULL;
}

static void vforks(void)
{
	thread_new(forks, NULL);
	usleep(20000);
	counting->ready = 1;
	count_on(&counting->counters[0]);
}

/* A thread that waits uninterruptibly in vfork() holds up nobody. */
static void test_uninterruptible(void **state)
{
	pid_t pid = counting_start(vforks);

	(void)state;
	for (int round = 0; round < 10; round++) {
		struct freeze *freeze = freeze_now(pid);

		expect_stands(freeze);
		freeze_end(freeze);
		expect_runs();
	}
	counting_stop(pid);
}

static const char busy_python[] =
	"import sys, threading, time, select\n"
	"def work():\n"
	"    while True: a = [str(i) for i in range(1000)]\n"
	"for i in range(4): threading.Thread(target=work, daemon=True).start()\n"
	"def waits():\n"
	"    while True: select.epoll().poll(0.05); time.sleep(0.01)\n"
	"threading.Thread(target=waits, daemon=True).start()\n"
	"print('ready', flush=True)\n"
	"for line in sys.stdin: print(sum(len(str(i)) for i in range(1000)), flush=True)\n";

static void python_of(const struct pyinterp *interp)
{
	struct pytarget target;
	char line[32];

	assert_int_equal(pytarget_start(interp, busy_python, NULL, &target), 0);
	assert_true(pytarget_line(&target, line, sizeof(line)));
	for (int round = 0; round < 10; round++)
		freeze_end(freeze_now(target.pid));
	fputs("work\n", target.in);
	fflush(target.in);
	assert_true(pytarget_line(&target, line, sizeof(line)));
	assert_string_equal(line, "2890");
	pytarget_stop(&target);
}

static void test_python(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		python_of(&interps[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_threads),
		cmocka_unit_test(test_threads_all_the_time),
		cmocka_unit_test(test_stopped_before),
		cmocka_unit_test(test_sleepers_sleep_on),
		cmocka_unit_test(test_uninterruptible),
		cmocka_unit_test(test_python),
	};

	return cmocka_run_group_tests(tests, counting_setup, NULL);
}
