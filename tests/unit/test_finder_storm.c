/* SPDX-License-Identifier: MIT */
/* Many starts and ends, more than there is room for, PIDs used again, and the OOM killer. Needs root. */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "finding.h"
#include "target/proc.h"

static uint64_t own_rss(void)
{
	uint64_t rss = 0;

	assert_int_equal(proc_rss_read(getpid(), &rss), 0);
	return rss;
}

/* What is allocated: of RSS, the looks at other programs' images leave more or less with libc. */
static uint64_t own_heap(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

/* One start after another, each short-lived. */
static pid_t storm(const char *program, int count, int at_once)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	for (int i = 0, running = 0; i < count || running; i++) {
		if (i < count && fork() == 0) {
			execlp(program, program, "-c", "", NULL);
			_exit(127);
		}
		running += i < count;
		if (running == at_once || i >= count)
			running -= wait(NULL) > 0;
	}
	_exit(0);
}

/* Short lives cost no look, no memory, and hide nobody. */
static void test_storm(void **state)
{
	const char *full = getenv("LEAKSNOOP_FULL");
	int count = full && *full ? 50000 : 2000, status = 1;
	struct finder_options options = { .settle_ns = 2000 * MS, .max = 1000 };
	struct finder_totals before, after;
	uint64_t rss, heap, cpu[2];
	struct pytarget target;
	pid_t pid;

	(void)state;
	finding_open(&options);
	finding_step_for(100 * MS);
	before = finder_totals(finding.finder);
	rss = own_rss();
	heap = own_heap();
	assert_int_equal(proc_cpu_read(getpid(), &cpu[0]), 0);
	pid = storm("true", count, 2);
	finding_start(&target, finding_python(), finding_idle);
	while (waitpid(pid, &status, WNOHANG) == 0)
		finding_step();
	assert_int_equal(status, 0);
	assert_int_equal(proc_cpu_read(getpid(), &cpu[1]), 0);
	finding_await(target.pid);
	after = finder_totals(finding.finder);
	print_message("%d starts: %llu noticed, %llu looked at, %llu missed; %.1f ms of our own time, RSS %+lld KiB, heap %+lld bytes\n", count,
		      (unsigned long long)(after.starts - before.starts), (unsigned long long)(after.looked_at - before.looked_at),
		      (unsigned long long)(after.missed - before.missed), (double)(cpu[1] - cpu[0]) / 1e6, (long long)(own_rss() - rss) / 1024,
		      (long long)(own_heap() - heap));
	assert_true(after.starts - before.starts >= (uint64_t)count);
	/* Not the starts: those that were there anyway, should notices have been lost on a busy machine. */
	assert_true(after.looked_at - before.looked_at < (uint64_t)count / 2);
	assert_true(own_heap() < heap + (256u << 10));
	pytarget_stop(&target);
	finding_close();
}

static const char many_workers[] = "import os, sys, time\n"
				   "pids = []\n"
				   "for i in range(int(sys.stdin.readline())):\n"
				   "    pid = os.fork()\n"
				   "    if pid == 0: time.sleep(1000)\n"
				   "    pids.append(pid)\n"
				   "for pid in pids: print(pid, flush=True)\n"
				   "sys.stdin.readline()\n"
				   "for pid in pids: os.kill(pid, 9)\n"
				   "for pid in pids: os.waitpid(pid, 0)\n"
				   "print(0, flush=True)\n"
				   "sys.stdin.readline()\n";

/* More ends than the ring holds: a listing says who is gone. */
static void test_lost_notices(void **state)
{
	enum { WORKERS = 180 };
	struct finder_options options = { .settle_ns = SETTLE, .max = 1000, .ring_bytes = 4096 };
	size_t gone = 0, killed = 0;
	struct pytarget target;
	pid_t pids[WORKERS];

	(void)state;
	finding_open(&options);
	assert_int_equal(pytarget_start(finding_python(), many_workers, NULL, &target), 0);
	finding_say(&target, "180\n");
	for (size_t i = 0; i < WORKERS; i++)
		pids[i] = finding_number(&target);
	for (size_t i = 0; i < WORKERS; i++)
		finding_await(pids[i]);
	finding_say(&target, "\n");
	assert_int_equal(finding_number(&target), 0);
	for (size_t i = 0; i < WORKERS; i++) {
		for (uint64_t end = finding_now() + PATIENCE; finding_now() < end && !finding_last(pids[i])->lost;)
			finding_step();
		assert_true(finding_last(pids[i])->lost);
		gone += finding_last(pids[i])->end == PROCESS_GONE;
		killed += finding_last(pids[i])->end == PROCESS_KILLED;
	}
	print_message("%zu told as killed, %zu as gone; %llu notices missed\n", killed, gone, (unsigned long long)finder_totals(finding.finder).missed);
	assert_int_equal(gone + killed, WORKERS);
	assert_true(gone > 0 && killed > 0);
	assert_true(finder_totals(finding.finder).missed >= gone);
	pytarget_stop(&target);
	finding_close();
}

/* More young ones than there is room for: a listing finds those that were not noted. And there is room for so many only. */
static void test_room(void **state)
{
	enum { WORKERS = 40, ROOM = 30 };
	struct finder_options options = { .settle_ns = SETTLE, .max = 1000, .young_max = 8 };
	struct pytarget target;
	pid_t pids[WORKERS + 1];
	size_t told = 0;

	(void)state;
	finding_open(&options);
	assert_int_equal(pytarget_start(finding_python(), many_workers, NULL, &target), 0);
	finding_say(&target, "40\n");
	for (size_t i = 0; i < WORKERS; i++)
		pids[i] = finding_number(&target);
	pids[WORKERS] = 0;
	for (size_t i = 0; i < WORKERS; i++)
		finding_await(pids[i]);
	assert_true(finder_totals(finding.finder).missed > 0);
	finding_close();

	options = (struct finder_options){ .settle_ns = SETTLE, .max = ROOM, .pids = pids };
	finding_open(&options);
	finding_step_for(4 * SETTLE);
	for (size_t i = 0; i < WORKERS; i++)
		told += finding_last(pids[i]) != NULL;
	assert_int_equal(told, ROOM);
	assert_int_equal(finder_totals(finding.finder).turned_away, WORKERS - ROOM);
	/* When one goes another takes its place. */
	for (size_t i = 0; i < WORKERS; i++)
		if (finding_last(pids[i]) && told-- > ROOM - 5)
			kill(pids[i], SIGKILL);
	for (uint64_t end = finding_now() + PATIENCE; finding_now() < end && finding.n < ROOM + 5;)
		finding_step();
	assert_int_equal(finding.n, ROOM + 5);
	finding_say(&target, "\n");
	assert_int_equal(finding_number(&target), 0);
	pytarget_stop(&target);
	finding_close();
}

/* The same PID again, while nobody looked. */
static void test_pid_reuse(void **state)
{
	struct pytarget first;
	uint64_t before;
	pid_t pid, again;
	FILE *last;

	(void)state;
	finding_open(&finding_usual);
	pid = finding_start(&first, finding_python(), finding_idle);
	before = finding_await(pid)->found.id.start_ticks;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	usleep(30000);
	for (int tries = 0; tries < 200; tries++) {
		last = fopen("/proc/sys/kernel/ns_last_pid", "w");
		assert_non_null(last);
		fprintf(last, "%d", (int)pid - 1);
		assert_int_equal(fclose(last), 0);
		again = fork();
		if (again == 0) {
			if (getpid() != pid)
				_exit(0);
			execl(finding_program(), "python3", "-c", "import time; time.sleep(1000)", NULL);
			_exit(127);
		}
		if (again == pid)
			break;
		waitpid(again, NULL, 0);
	}
	assert_int_equal(again, pid);
	for (uint64_t end = finding_now() + PATIENCE; finding_now() < end && finding_last(pid)->found.id.start_ticks == before;)
		finding_step();
	assert_true(finding_last(pid)->found.id.start_ticks > before);
	kill(pid, SIGKILL);
	finding_await_lost(pid, PROCESS_KILLED, SIGKILL);
	waitpid(pid, NULL, 0);
	fclose(first.in);
	fclose(first.out);
	finding_close();
}

static size_t ended_untold(void)
{
	size_t n = 0;

	for (size_t i = 0; i < finding.n; i++) {
		const struct noted *noted = &finding.event[i];
		struct proc_stat stat;

		n += !noted->lost && (proc_stat_read(noted->found.id.pid, &stat) < 0 || stat.start_ticks != noted->found.id.start_ticks);
	}
	return n;
}

/* Forks, execs and ends at random; at the end every one that was found is lost, each once (on_found() and on_lost() see to that). */
static void test_confusion(void **state)
{
	static const char program[] =
		"import os, random, sys, time\n"
		"random.seed(7)\n"
		"end = time.time() + float(sys.argv[1])\n"
		"def live(depth):\n"
		"    while time.time() < end:\n"
		"        time.sleep(random.random() * 0.02)\n"
		"        what = random.random()\n"
		"        if what < 0.3 and depth < 3 and os.fork() == 0: live(depth + 1); os._exit(3)\n"
		"        if what > 0.95 and depth: os.execl('/bin/true', 'true')\n"
		"        if what > 0.9 and depth: os.execl(sys.executable, sys.executable, '-c', 'import time; time.sleep(0.03)')\n"
		"        if what > 0.85 and depth: os.kill(os.getpid(), 9)\n"
		"        while True:\n"
		"            try:\n"
		"                if os.waitpid(-1, os.WNOHANG)[0] == 0: break\n"
		"            except ChildProcessError: break\n"
		"live(0)\n"
		"while True:\n"
		"    try: os.wait()\n"
		"    except ChildProcessError: break\n"
		"print(flush=True)\n"
		"sys.stdin.readline()\n";
	const char *full = getenv("LEAKSNOOP_FULL");
	struct finder_options options = { .settle_ns = 5 * MS, .max = 1000 };
	char script[] = "/tmp/leaksnoop-finder-XXXXXX";
	char *argv[] = { finding_program(), script,
			 (char *)(uintptr_t)(full && *full ? "10" : "1.5"), NULL };
	struct pytarget target;
	struct pollfd out;
	size_t untold = 0;

	(void)state;
	/* Whatever loses its parent is ours. */
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	assert_true(close(mkstemp(script)) == 0);
	finding_write(script, program);
	finding_open(&options);
	assert_int_equal(pytarget_exec(argv, NULL, &target), 0);
	out = (struct pollfd){ .fd = fileno(target.out), .events = POLLIN };
	for (uint64_t end = finding_now() + PATIENCE; finding_now() < end && !poll(&out, 1, 0);)
		finding_step();
	finding_say(&target, "\n");
	/* Until no child of ours is left: not even one that is nobody's else. */
	for (uint64_t end = finding_now() + PATIENCE; finding_now() < end && (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD);)
		finding_step();
	/* Others' processes may end at this very moment, so it may take a step more. */
	for (uint64_t end = finding_now() + PATIENCE / 10; finding_now() < end && (untold = ended_untold()) > 0;)
		finding_step();
	print_message("%zu found; %zu ended untold\n", finding.n, untold);
	assert_int_equal(untold, 0);
	target.pid = 0;
	fclose(target.in);
	fclose(target.out);
	prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
	unlink(script);
	finding_close();
}

/* Sets the limit of a memory cgroup of either version. */
static bool limit_memory(const char *dir, const char *bytes)
{
	static const char *const names[] = { "memory.limit_in_bytes", "memory.max" };
	char path[300];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		if (access(path, W_OK) == 0) {
			finding_write(path, bytes);
			return true;
		}
	}
	return false;
}

static void test_oom(void **state)
{
	static const char eat[] = "import sys\nprint(flush=True)\nsys.stdin.readline()\nhoard = []\nwhile True: hoard.append(bytearray(1 << 20))\n";
	struct pytarget target;
	char dir[200];
	pid_t pid;

	(void)state;
	if (!finding_make_cgroup(dir, sizeof(dir))) {
		print_message("no memory cgroup can be made here\n");
		skip();
	}
	if (!limit_memory(dir, "67108864")) {
		rmdir(dir);
		print_message("the cgroup here has no memory controller\n");
		skip();
	}
	finding_open(&finding_usual);
	pid = finding_start(&target, finding_python(), eat);
	finding_join_cgroup(dir, pid);
	finding_await(pid);
	finding_say(&target, "\n");
	finding_await_lost(pid, PROCESS_OOM, SIGKILL);
	pytarget_stop(&target);
	assert_int_equal(rmdir(dir), 0);
	finding_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_storm),
		cmocka_unit_test(test_lost_notices),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_pid_reuse),
		cmocka_unit_test(test_confusion),
		cmocka_unit_test(test_oom),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
