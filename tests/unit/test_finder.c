/* SPDX-License-Identifier: MIT */
/* Processes that come and go, against the real kernel. Needs root. */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
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

#include "finding.h"
#include "target/proc.h"

static void test_there_and_come(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		struct pytarget before, after;
		const struct noted *noted;
		pid_t pid;

		finding_start(&before, &interps[i], finding_idle);
		usleep(2 * SETTLE / 1000);
		finding_open(&finding_usual);
		noted = finding_last(before.pid);
		if (!noted)
			fail_msg("%s was not told by finder_start()", interps[i].label);
		else
			assert_true(strstr(noted->image, "python") != NULL);
		assert_int_equal(noted->found.ppid, getpid());
		assert_int_equal(noted->found.uid, getuid());
		pid = finding_start(&after, &interps[i], finding_idle);
		assert_string_equal(finding_await(pid)->image, noted->image);
		assert_false(finding_last(pid)->found.forked);
		pytarget_stop(&before);
		pytarget_stop(&after);
		finding_await_lost(pid, PROCESS_EXITED, 0);
		finding_close();
	}
}

static void test_ends(void **state)
{
	static const struct {
		const char *program;
		int signal;
		enum process_end end;
		int code;
	} cases[] = {
		{ "import sys; print(flush=True); sys.stdin.readline(); sys.exit(7)", 0, PROCESS_EXITED, 7 },
		{ "import sys, os; print(flush=True); sys.stdin.readline(); os.abort()", 0, PROCESS_KILLED, SIGABRT },
		{ "import sys; print(flush=True); sys.stdin.readline()", SIGTERM, PROCESS_KILLED, SIGTERM },
		{ "import sys; print(flush=True); sys.stdin.readline()", SIGKILL, PROCESS_KILLED, SIGKILL },
		/* the main thread ends before the others; the process ends with the last */
		{ "import sys, threading, ctypes, time, os\n"
		  "def f():\n time.sleep(0.2)\n os._exit(9)\n"
		  "print(flush=True)\nsys.stdin.readline()\nthreading.Thread(target=f).start()\nctypes.CDLL(None).syscall(60, 0)\n",
		  0, PROCESS_EXITED, 9 },
	};

	(void)state;
	finding_open(&finding_usual);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pytarget target;
		pid_t pid = finding_start(&target, finding_python(), cases[i].program);

		finding_await(pid);
		if (cases[i].signal)
			kill(pid, cases[i].signal);
		fputs("\n", target.in);
		fflush(target.in);
		finding_await_lost(pid, cases[i].end, cases[i].code);
		pytarget_stop(&target);
	}
	finding_close();
}

static void test_exec(void **state)
{
	struct pytarget target;
	pid_t pid;
	uint64_t first;

	(void)state;
	finding_open(&finding_usual);
	pid = finding_start(&target, finding_python(),
		      "import sys, os\n"
		      "print(flush=True)\n"
		      "os.read(0, 1)\n"
		      "os.execv(sys.executable, [sys.executable, '-c', 'import os; os.read(0, 1); os.execv(\"/bin/cat\", [\"cat\"])'])\n");
	first = finding_await(pid)->found.id.start_ticks;
	fputs("1", target.in);
	fflush(target.in);
	finding_await_lost(pid, PROCESS_EXECED, 0);
	assert_int_equal(finding_await(pid)->found.id.start_ticks, first);
	assert_false(finding_last(pid)->found.forked);
	fputs("1", target.in);
	fflush(target.in);
	finding_await_lost(pid, PROCESS_EXECED, 0);
	finding_step_for(4 * SETTLE);
	assert_true(finding_last(pid)->lost);
	pytarget_stop(&target);
	finding_close();
}

/* Workers forked before their parent was found, and after; a child that runs the same program anew is no worker. */
static void test_forks(void **state)
{
	static const char program[] =
		"import sys, os, subprocess, time\n"
		"def worker():\n"
		"    pid = os.fork()\n"
		"    if pid == 0:\n"
		"        time.sleep(1000)\n"
		"    print(pid, flush=True)\n"
		"    return pid\n"
		"pids = [worker(), worker()]\n"
		"sys.stdin.readline()\n"
		"pids.append(worker())\n"
		"other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
		"print(other.pid, flush=True)\n"
		"sys.stdin.readline()\n"
		"for pid in pids + [other.pid]: os.kill(pid, 9); os.waitpid(pid, 0)\n";
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	finding_open(&finding_usual);
	for (size_t i = 0; i < n; i++) {
		struct pytarget target;
		pid_t pids[4];

		assert_int_equal(pytarget_start(&interps[i], program, NULL, &target), 0);
		pids[0] = finding_number(&target);
		pids[1] = finding_number(&target);
		finding_await(target.pid);
		fputs("\n", target.in);
		fflush(target.in);
		pids[2] = finding_number(&target);
		pids[3] = finding_number(&target);
		for (size_t k = 0; k < 4; k++) {
			const struct noted *noted = finding_await(pids[k]);

			assert_int_equal(noted->found.ppid, target.pid);
			assert_int_equal(noted->found.forked, k < 3);
		}
		if (i == 0) {
			/* A listing sees the same. */
			finding_close();
			finding_open(&finding_usual);
			for (size_t k = 0; k < 4; k++)
				assert_int_equal(finding_await(pids[k])->found.forked, k < 3);
		}
		fputs("\n", target.in);
		fflush(target.in);
		for (size_t k = 0; k < 4; k++)
			finding_await_lost(pids[k], PROCESS_KILLED, SIGKILL);
		pytarget_stop(&target);
	}
	finding_close();
}

/* A libpython at hand: the path of the first interpreter's that has one. */
static bool find_libpython(char *path, size_t size)
{
	static const char ask[] = "import sysconfig as s; v = s.get_config_var; print((v('LIBDIR') or '') + '/' + (v('INSTSONAME') or ''))\n";
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	for (size_t i = 0; i < n; i++) {
		struct pytarget target;
		bool ok;

		assert_int_equal(pytarget_start(&interps[i], ask, NULL, &target), 0);
		ok = pytarget_line(&target, path, size) && strstr(path, "libpython") && strstr(path, ".so") && !access(path, R_OK) &&
		     interps[i].argv[1] == NULL;
		pytarget_stop(&target);
		if (ok)
			return true;
	}
	return false;
}

/* Some other program takes in an interpreter, long after its start. */
static void test_dlopen(void **state)
{
	static const char loader[] = "require DynaLoader; sysread(STDIN, $b, 1); DynaLoader::dl_load_file($ARGV[0], 1) or die; sleep 1000";
	char lib[512];
	int go[2];
	pid_t pid;

	(void)state;
	if (!find_libpython(lib, sizeof(lib))) {
		print_message("no libpython.so at hand\n");
		skip();
	}
	assert_int_equal(pipe(go), 0);
	finding_open(&finding_usual);
	pid = fork();
	if (pid == 0) {
		dup2(go[0], STDIN_FILENO);
		execl("/usr/bin/perl", "perl", "-e", loader, lib, NULL);
		_exit(127);
	}
	finding_step_for(6 * SETTLE);
	assert_null(finding_last(pid));
	assert_int_equal(write(go[1], "1", 1), 1);
	assert_non_null(strstr(finding_await(pid)->image, "libpython"));
	assert_string_equal(finding_last(pid)->found.comm, "perl");
	kill(pid, SIGKILL);
	finding_await_lost(pid, PROCESS_KILLED, SIGKILL);
	waitpid(pid, NULL, 0);
	close(go[0]);
	close(go[1]);
	finding_close();
}

/* settle_ns 0: at once, an interpreter in a library included. */
static void test_at_once(void **state)
{
	struct finder_options options = { .settle_ns = 0, .max = 1000 };
	struct pytarget target;
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	finding_open(&options);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(pytarget_start(&interps[i], finding_idle, NULL, &target), 0);
		finding_await(target.pid);
		assert_int_equal(finding_number(&target), 0);
		pytarget_stop(&target);
	}
	finding_close();
}

/* In a chroot nobody may make a user namespace. */
static bool may_make_users(void)
{
	bool may = system("unshare --user true 2>/dev/null") == 0;

	if (!may)
		print_message("no user namespaces here (a chroot?): without\n");
	return may;
}

/* A process in namespaces of its own, as containers have. */
static void test_namespaces(void **state)
{
	char *argv[PYINTERP_ARGS + 8] = { (char *)(uintptr_t)"unshare", (char *)(uintptr_t)(may_make_users() ? "-Urpf" : "-pf"),
					  (char *)(uintptr_t)"--mount-proc" };
	static const char program[] = "import os\nprint(os.getpid(), flush=True)\nos.read(0, 1)\n";
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	finding_open(&finding_usual);
	for (size_t i = 0; i < n; i++) {
		struct pytarget target;
		pid_t *children = NULL;
		size_t count = 0, k = 3;

		for (size_t a = 0; interps[i].argv[a]; a++)
			argv[k++] = interps[i].argv[a];
		argv[k++] = (char *)(uintptr_t)"-c";
		argv[k++] = (char *)(uintptr_t)program;
		argv[k] = NULL;
		assert_int_equal(pytarget_exec(argv, NULL, &target), 0);
		assert_int_equal(finding_number(&target), 1);
		assert_int_equal(proc_children(target.pid, &children, &count), 0);
		assert_int_equal(count, 1);
		finding_await(children[0]);
		assert_null(finding_last(target.pid));
		finding_say(&target, "\n");
		finding_await_lost(children[0], PROCESS_EXITED, 0);
		free(children);
		pytarget_stop(&target);
	}
	finding_close();
}

static size_t descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* In a PID namespace of our own the kernel's PIDs mean nothing: said, not ignored. */
static void test_own_namespace(void **state)
{
	int status = 0;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		struct err err = { 0 };
		pid_t inner;
		int r;

		if (unshare(CLONE_NEWPID) < 0)
			_exit(2);
		inner = fork();
		if (inner == 0) {
			r = finder_new(&finding_usual, &finding_events, &finding.finder, &err);
			_exit(r == -ENOTSUP && strstr(err.what, "namespace") && strstr(err.hint, "--pid=host") ? 0 : 3);
		}
		_exit(waitpid(inner, &status, 0) == inner && !status ? 0 : 4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_leaves_nothing(void **state)
{
	const char *no_such[] = { "no-such-command", NULL };
	struct finder_options options = { .settle_ns = 0, .max = 10, .comms = no_such };
	struct err err = { 0 };
	size_t before;

	(void)state;
	finding_open(&options);
	finding_close();
	before = descriptors();
	for (int i = 0; i < 3; i++) {
		finding_open(&options);
		finding_step();
		assert_int_equal(finding.n, 0);
		finding_close();
	}
	assert_int_equal(descriptors(), before);
	finder_free(NULL);
	options.max = 0;
	assert_int_equal(finder_new(&options, &finding_events, &finding.finder, &err), -EINVAL);
	assert_true(err.what[0]);
	assert_int_equal(descriptors(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_come),
		cmocka_unit_test(test_at_once),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_exec),
		cmocka_unit_test(test_forks),
		cmocka_unit_test(test_dlopen),
		cmocka_unit_test(test_namespaces),
		cmocka_unit_test(test_own_namespace),
		cmocka_unit_test(test_leaves_nothing),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
