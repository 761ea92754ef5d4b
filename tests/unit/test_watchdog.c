/* SPDX-License-Identifier: MIT */
/*
 * The second process that ends windows: a real interpreter's slots are restored soon after the deadline whatever becomes of the tracer,
 * which a child of ours plays. Needs root.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <cmocka.h>

#include "base/clock.h"
#include "pytarget.h"
#include "trace/tracee.h"
#include "trace/watchdog.h"

#define MS 1000000ull
/* How late it may be on a machine with other things to do. */
#define LATE_NS (250 * MS) /* a virtual machine may stand still for so long */

static const char program[] =
	"import sys\n"
	"def work():\n"
	"    return sum(len(str(i) * 3) for i in range(20000))\n"
	"print('ready', flush=True)\n"
	"for line in sys.stdin:\n"
	"    print(work(), flush=True)\n";
#define WORK "266670"

struct watched {
	struct pytarget target;
	struct python *python;
	struct slots slots;
	struct arming *arming;
	size_t noted;
	int alarms;
};

static uint64_t now(void)
{
	return clock_mono_ns(&clock_real);
}

static void note_slots(struct watched *w)
{
	struct tracee_probe probes[TRACEE_PROBES_MAX];
	size_t n = tracee_choose_probes(w->python, &w->slots, SITE_MASK_LINUX_6_18, probes);

	for (size_t i = 0; i < n; i++) {
		for (int d = 0; d < DOMAIN_COUNT; d++) {
			if (!probes[i].alias || !(probes[i].domains & (1u << d)))
				continue;
			assert_int_equal(arming_add(w->arming, w->slots.table[d], probes[i].fn, probes[i].function, probes[i].site.addr), 0);
			w->noted++;
		}
	}
	assert_true(w->noted > 0);
}

static void start(struct watched *w)
{
	size_t n;
	char line[16];
	struct err err = { 0 };

	memset(w, 0, sizeof(*w));
	assert_int_equal(pytarget_start(pyinterps(&n), program, NULL, &w->target), 0);
	assert_true(pytarget_line(&w->target, line, sizeof(line)));
	if (python_open(w->target.pid, &w->python, &err) < 0 || slots_read(w->python, &w->slots, &err) < 0 ||
	    arming_new(w->target.pid, &w->arming, &err) < 0)
		fail_msg("%s", err.what);
	note_slots(w);
	w->alarms = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "alarms", 0, 0, 4096, NULL);
	assert_true(w->alarms >= 0);
}

static void finish(struct watched *w)
{
	arming_free(w->arming);
	python_free(w->python);
	pytarget_stop(&w->target);
	close(w->alarms);
}

static size_t count_armed(struct watched *w)
{
	struct slots slots;
	struct err err = { 0 };

	if (slots_read(w->python, &slots, &err) < 0)
		fail_msg("%s", err.what);
	return slots_armed(&slots);
}

/* The slots are put back first, and counted then. */
static void expect_ended(const struct watchdog *dog, uint64_t count)
{
	uint64_t until_ns = now() + 2000 * MS;

	while (watchdog_ended(dog) < count && now() < until_ns)
		usleep(1000);
	assert_int_equal(watchdog_ended(dog), count);
}

/* When no slot was armed any more; fails after that. */
static uint64_t wait_restored(struct watched *w, uint64_t until_ns)
{
	while (count_armed(w)) {
		if (now() > until_ns)
			fail_msg("slots are still armed");
		usleep(200);
	}
	return now();
}

static void expect_unharmed(struct watched *w)
{
	char answer[64];

	fputs("work\n", w->target.in);
	fflush(w->target.in);
	assert_true(pytarget_line(&w->target, answer, sizeof(answer)));
	assert_string_equal(answer, WORK);
}

static struct watchdog *new_dog(struct watched *w)
{
	struct watchdog *dog = NULL;
	struct err err = { 0 };

	if (watchdog_start(w->alarms, 2, &dog, &err))
		fail_msg("%s", err.what);
	assert_int_equal(watchdog_guard(dog, 1, WINDOW_SMALL, w->arming), 0);
	return dog;
}

static void open_window(struct watched *w, struct watchdog *dog, uint64_t length_ns)
{
	struct err err = { 0 };

	assert_int_equal(watchdog_open(dog, 1, WINDOW_SMALL, now() + length_ns), 0);
	if (arming_arm(w->arming, &err))
		fail_msg("%s", err.what);
}

/* Not closed: restored soon after the deadline, not before, and counted. */
static void test_deadline(void **state)
{
	struct watched w;
	struct watchdog *dog;

	(void)state;
	start(&w);
	dog = new_dog(&w);
	for (unsigned int i = 0; i < 20; i++) {
		uint64_t length_ns = (i % 5) * 4 * MS + MS / 2, opened_ns = now(), ended_ns;

		open_window(&w, dog, length_ns);
		ended_ns = wait_restored(&w, opened_ns + length_ns + 1000 * MS);
		assert_true(ended_ns >= opened_ns + length_ns);
		if (ended_ns > opened_ns + length_ns + LATE_NS)
			fail_msg("%g ms late", (double)(ended_ns - opened_ns - length_ns) / 1e6);
		usleep(1000);
		expect_ended(dog, i + 1);
	}
	/* Closed in time, it is left alone. */
	for (int i = 0; i < 20; i++) {
		open_window(&w, dog, 20 * MS);
		assert_int_equal(arming_disarm(w.arming), 0);
		watchdog_close(dog, 1, WINDOW_SMALL);
	}
	usleep(50000);
	expect_ended(dog, 20);
	expect_unharmed(&w);
	watchdog_stop(dog);
	finish(&w);
}

/* A tracer that was held up amid its arming, and arms on after the watchdog has disarmed; then it is killed. */
static void test_late_arming(void **state)
{
	struct watched w;
	struct watchdog *dog;
	struct err err = { 0 };

	(void)state;
	start(&w);
	dog = new_dog(&w);
	open_window(&w, dog, 0);
	for (int i = 0; i < 5; i++) {
		wait_restored(&w, now() + 1000 * MS);
		usleep(30000);
		assert_int_equal(arming_arm(w.arming, &err), 0);
	}
	expect_ended(dog, 1);
	watchdog_stop(dog);
	assert_int_equal(count_armed(&w), 0);
	expect_unharmed(&w);
	finish(&w);
}

/* The deadline of an open window is moved on: it stays armed as long as that goes on. */
static void test_moved_deadline(void **state)
{
	struct watched w;
	struct watchdog *dog;

	(void)state;
	start(&w);
	dog = new_dog(&w);
	open_window(&w, dog, 800 * MS);
	for (int i = 0; i < 10; i++) {
		usleep(100000);
		assert_int_equal(count_armed(&w), w.noted);
		assert_int_equal(watchdog_open(dog, 1, WINDOW_SMALL, now() + 800 * MS), 0);
	}
	wait_restored(&w, now() + 800 * MS + 1000 * MS);
	expect_ended(dog, 1);
	watchdog_stop(dog);
	finish(&w);
}

/* A window is opened while the watchdog ends the one before, at every moment of that: none may go unguarded. */
static void test_crossing(void **state)
{
	struct watched w;
	struct watchdog *dog;
	int busy = 0;

	(void)state;
	start(&w);
	dog = new_dog(&w);
	for (int i = 0; i < 1500; i++) {
		uint64_t until_ns;

		open_window(&w, dog, 0);
		until_ns = now() + 290000 + (uint64_t)(i % 50) * 3000;
		while (now() < until_ns)
			;
		while (watchdog_open(dog, 1, WINDOW_SMALL, now()) == -EBUSY)
			busy++;
		arming_arm(w.arming, &(struct err){ 0 });
		wait_restored(&w, now() + 1000 * MS);
	}
	print_message("%d times busy, %llu ended\n", busy, (unsigned long long)watchdog_ended(dog));
	expect_unharmed(&w);
	watchdog_stop(dog);
	finish(&w);
}

struct played {
	pid_t tracer, dog;
};

/* The guard's PID: the one child of the tracer. */
static pid_t child_of(pid_t pid)
{
	char path[64];
	int child = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%d", &child) != 1)
		child = 0;
	if (f)
		fclose(f);
	return child;
}

/* A child of ours opens a window and then does nothing. */
static struct played play_tracer(struct watched *w, uint64_t length_ns)
{
	struct played p = { 0 };
	int ready[2];
	char c;

	assert_int_equal(pipe(ready), 0);
	p.tracer = fork();
	if (!p.tracer) {
		struct watchdog *dog;
		struct err err = { 0 };

		if (watchdog_start(w->alarms, 2, &dog, &err) || watchdog_guard(dog, 1, WINDOW_SMALL, w->arming))
			_exit(1);
		if (watchdog_open(dog, 1, WINDOW_SMALL, now() + length_ns) || arming_arm(w->arming, &err) || write(ready[1], "y", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	p.dog = child_of(p.tracer);
	assert_true(p.dog > 0);
	return p;
}

static void wait_gone(pid_t pid, uint64_t until_ns)
{
	while (!kill(pid, 0)) {
		char path[32], line[128] = "", *state;
		FILE *f;

		/* Orphans wait for an init that may be slow: a zombie is gone, too. */
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		f = fopen(path, "re");
		if (f && fgets(line, sizeof(line), f) && (state = strrchr(line, ')')) && state[2] == 'Z') {
			fclose(f);
			return;
		}
		if (f)
			fclose(f);
		if (now() > until_ns)
			fail_msg("process %d is still there", pid);
		usleep(1000);
	}
}

static void test_stopped_tracer(void **state)
{
	struct watched w;

	(void)state;
	start(&w);
	for (int i = 0; i < 5; i++) {
		uint64_t begun_ns = now();
		struct played p = play_tracer(&w, 30 * MS);

		kill(p.tracer, SIGSTOP);
		wait_restored(&w, begun_ns + 30 * MS + 1000 * MS);
		expect_unharmed(&w);
		kill(p.tracer, SIGKILL);
		assert_int_equal(waitpid(p.tracer, NULL, 0), p.tracer);
		wait_gone(p.dog, now() + 2000 * MS);
	}
	finish(&w);
}

/* Long before the deadline. */
static void test_killed_tracer(void **state)
{
	struct watched w;

	(void)state;
	start(&w);
	for (int i = 0; i < 5; i++) {
		struct played p = play_tracer(&w, 60000 * MS);
		uint64_t killed_ns;

		assert_int_equal(count_armed(&w), w.noted);
		/* What a terminal sends to all of its processes passes the guard by. */
		kill(p.dog, SIGINT);
		kill(p.dog, SIGTERM);
		kill(p.dog, SIGHUP);
		usleep(20000);
		assert_int_equal(getpgid(p.dog), p.dog);
		assert_int_equal(count_armed(&w), w.noted);
		killed_ns = now();
		kill(p.tracer, SIGKILL);
		assert_int_equal(waitpid(p.tracer, NULL, 0), p.tracer);
		assert_true(wait_restored(&w, killed_ns + 1000 * MS) < killed_ns + 2 * LATE_NS);
		wait_gone(p.dog, now() + 2000 * MS);
		expect_unharmed(&w);
	}
	finish(&w);
}

static pid_t pid_of_dog(const struct watched *w)
{
	char path[64], list[256] = "", *rest = list, *word;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", getpid(), getpid());
	f = fopen(path, "re");
	assert_non_null(f);
	assert_non_null(fgets(list, sizeof(list), f));
	fclose(f);
	while ((word = strtok_r(rest, " ", &rest)))
		if (atoi(word) != w->target.pid && atoi(word) > 0)
			return atoi(word);
	fail_msg("no guard among the children");
	return 0;
}

static void test_stop_disarms(void **state)
{
	struct watched w;
	struct watchdog *dog;
	pid_t pid;

	(void)state;
	start(&w);
	dog = new_dog(&w);
	pid = pid_of_dog(&w);
	open_window(&w, dog, 60000 * MS);
	assert_int_equal(count_armed(&w), w.noted);
	watchdog_stop(dog);
	assert_int_equal(count_armed(&w), 0);
	assert_int_equal(kill(pid, 0), -1);
	watchdog_stop(NULL);
	finish(&w);
}

static void test_killed_watchdog(void **state)
{
	struct watched w;
	struct watchdog *dog;
	siginfo_t info;
	pid_t pid;

	(void)state;
	start(&w);
	dog = new_dog(&w);
	pid = pid_of_dog(&w);
	for (int i = 0; i < 2000 && !watchdog_cpu_ns(dog); i++)
		usleep(1000);
	assert_true(watchdog_cpu_ns(dog) > 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(watchdog_open(dog, 1, WINDOW_SMALL, now() + MS), -ECHILD);
	assert_int_equal(watchdog_open(dog, 1, WINDOW_SMALL, now() + MS), -ECHILD);
	assert_true(watchdog_guard(dog, 1, WINDOW_SMALL, w.arming) < 0);
	assert_true(watchdog_cpu_ns(dog) == 0);
	watchdog_forget(dog, 1);
	watchdog_stop(dog);
	assert_int_equal(count_armed(&w), 0);
	finish(&w);
}

/* A guard that was stopped does not hold up the end of the tracer. */
static void test_stopped_watchdog(void **state)
{
	struct watched w;
	struct watchdog *dog;

	(void)state;
	start(&w);
	dog = new_dog(&w);
	open_window(&w, dog, 60000 * MS);
	kill(pid_of_dog(&w), SIGSTOP);
	alarm(20);
	watchdog_stop(dog);
	alarm(0);
	assert_int_equal(count_armed(&w), 0);
	finish(&w);
}

static void test_target_exits(void **state)
{
	struct watched w;
	struct watchdog *dog;

	(void)state;
	start(&w);
	dog = new_dog(&w);
	open_window(&w, dog, 20 * MS);
	kill(w.target.pid, SIGKILL);
	pytarget_stop(&w.target);
	usleep(100000);
	/* It went on: another process is guarded as before. */
	arming_free(w.arming);
	python_free(w.python);
	close(w.alarms);
	start(&w);
	assert_int_equal(watchdog_guard(dog, 1, WINDOW_SMALL, w.arming), 0);
	open_window(&w, dog, 5 * MS);
	wait_restored(&w, now() + 1000 * MS);
	expect_unharmed(&w);
	watchdog_stop(dog);
	finish(&w);
}

/* Forgotten: its slots are no longer the watchdog's business. Two groups and targets are told apart. */
static void test_forget(void **state)
{
	struct watched w;
	struct watchdog *dog;

	(void)state;
	start(&w);
	dog = new_dog(&w);
	assert_int_equal(watchdog_open(dog, 0, WINDOW_SMALL, now()), 0);
	assert_int_equal(watchdog_open(dog, 1, WINDOW_LARGE, now()), 0);
	open_window(&w, dog, 60000 * MS);
	usleep(20000);
	assert_int_equal(count_armed(&w), w.noted);
	assert_int_equal(watchdog_ended(dog), 0);
	watchdog_forget(dog, 1);
	watchdog_open(dog, 1, WINDOW_SMALL, now());
	usleep(20000);
	assert_int_equal(count_armed(&w), w.noted);
	assert_int_equal(arming_disarm(w.arming), 0);
	watchdog_stop(dog);
	finish(&w);
}

/* An order for a target that there is not: the guard does not go on with a tracer that has lost its senses. */
static void test_senseless_order(void **state)
{
	struct watched w;
	struct watchdog *dog;

	(void)state;
	start(&w);
	dog = new_dog(&w);
	open_window(&w, dog, 60000 * MS);
	watchdog_guard(dog, 2, WINDOW_SMALL, w.arming);
	wait_restored(&w, now() + 1000 * MS);
	usleep(20000);
	assert_int_equal(watchdog_open(dog, 1, WINDOW_SMALL, now() + MS), -ECHILD);
	watchdog_stop(dog);
	finish(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_late_arming),
		cmocka_unit_test(test_moved_deadline),
		cmocka_unit_test(test_crossing),
		cmocka_unit_test(test_stopped_tracer),
		cmocka_unit_test(test_killed_tracer),
		cmocka_unit_test(test_stop_disarms),
		cmocka_unit_test(test_killed_watchdog),
		cmocka_unit_test(test_stopped_watchdog),
		cmocka_unit_test(test_target_exits),
		cmocka_unit_test(test_forget),
		cmocka_unit_test(test_senseless_order),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
