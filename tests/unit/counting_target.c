/* SPDX-License-Identifier: MIT */
#include "counting_target.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

struct counting *counting;

int counting_setup(void **state)
{
	(void)state;
	counting = mmap(NULL, sizeof(*counting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return counting == MAP_FAILED;
}

uint64_t counting_sum(void)
{
	uint64_t total = atomic_load(&counting->made);

	for (int i = 0; i < COUNTING_SLOTS; i++)
		total += atomic_load(&counting->counters[i]);
	return total;
}

pid_t counting_start(void (*work)(void))
{
	pid_t pid;

	memset(counting, 0, sizeof(*counting));
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		work();
		_exit(1);
	}
	assert_true(pid > 0);
	for (int i = 0; i < 10000 && !atomic_load(&counting->ready); i++)
		usleep(1000);
	assert_true(atomic_load(&counting->ready));
	return pid;
}

void counting_stop(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

void expect_runs(void)
{
	uint64_t before = counting_sum();

	for (int i = 0; i < 10000; i++) {
		usleep(1000);
		if (counting_sum() > before)
			return;
	}
	fail_msg("it does not run");
}

void expect_stands(const struct freeze *freeze)
{
	uint64_t before = counting_sum();

	usleep(20000);
	assert_int_equal(counting_sum(), before);
	assert_true(freeze_holds(freeze));
}

void expect_unseen(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, WNOHANG | WUNTRACED | WCONTINUED), 0);
}

struct freeze *freeze_now(pid_t pid)
{
	struct freeze *freeze = NULL;
	struct err err = { 0 };

	if (freeze_begin(pid, &freeze, &err) < 0)
		fail_msg("%s", err.what);
	return freeze;
}

void *count_on(void *arg)
{
	_Atomic uint64_t *counter = arg;

	for (;;)
		atomic_fetch_add(counter, 1);
	return NULL;
}

void thread_new(void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t id;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 65536);
	while (pthread_create(&id, &attr, fn, arg))
		usleep(100);
}

void many_threads(void)
{
	for (int i = 0; i < COUNTING_THREADS; i++)
		thread_new(count_on, &counting->counters[i]);
	counting->ready = 1;
	count_on(&counting->counters[COUNTING_THREADS]);
}
