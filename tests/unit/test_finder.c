/* SPDX-License-Identifier: MIT */
/*
 * Processes that come and go, against the real kernel. Others run on this machine, so only those started here are asked for; that none is
 * lost that was not found, and none found twice, is checked of all. Needs root.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "pytarget.h"
#include "target/proc.h"
#include "trace/finder.h"
#include "trace/finder_filter.h"

#define MS 1000000ull
#define SETTLE (50 * MS)
#define PATIENCE (30000 * MS)   /* of a machine that is busy with other things */
#define EVENTS_MAX 4096

static const char wait_for_end[] = "import sys\nprint('ready', flush=True)\nsys.stdin.read()\n";

struct noted {
	struct found found;
	char image[256];
	bool lost;
	enum process_end end;
	int code;
};

/* Every process ever found, in order. */
struct watch {
	struct finder *finder;
	struct noted event[EVENTS_MAX];
	size_t n;
};

static struct watch w;

static struct noted *last_of(pid_t pid)
{
	for (size_t i = w.n; i > 0; i--)
		if (w.event[i - 1].found.id.pid == pid)
			return &w.event[i - 1];
	return NULL;
}

static void on_found(void *ctx, const struct found *found)
{
	struct noted *before = last_of(found->id.pid);

	(void)ctx;
	assert_true(!before || before->lost);
	assert_true(w.n < EVENTS_MAX);
	w.event[w.n].found = *found;
	snprintf(w.event[w.n].image, sizeof(w.event[w.n].image), "%s", found->image);
	w.event[w.n++].lost = false;
}

static void on_lost(void *ctx, struct process_id id, enum process_end end, int code)
{
	struct noted *noted = last_of(id.pid);

	(void)ctx;
	assert_non_null(noted);
	assert_false(noted->lost);
	assert_int_equal(noted->found.id.start_ticks, id.start_ticks);
	noted->lost = true;
	noted->end = end;
	noted->code = code;
}

static const struct finder_events events = { .found = on_found, .lost = on_lost };

static void open_finder(const struct finder_options *options)
{
	struct err err = { 0 };

	w.n = 0;
	if (finder_new(options, &events, &w.finder, &err) < 0 || finder_start(w.finder, &err) < 0)
		fail_msg("%s (%s)", err.what, err.hint);
}

static void close_finder(void)
{
	finder_free(w.finder);
	w.finder = NULL;
}

static uint64_t now(void)
{
	return clock_mono_ns(&clock_real);
}

/* Waits as a user does: for the descriptor, or until a step is due. */
static void step(void)
{
	uint64_t next = finder_next_ns(w.finder), at = now();
	struct pollfd fd = { .fd = finder_fd(w.finder), .events = POLLIN };

	poll(&fd, 1, next <= at ? 0 : (int)((next - at) / MS + 1));
	assert_int_equal(finder_step(w.finder, now()), 0);
}

static void step_for(uint64_t ns)
{
	for (uint64_t end = now() + ns; now() < end;)
		step();
}

static const struct noted *await_found(pid_t pid)
{
	for (uint64_t end = now() + PATIENCE; now() < end; step())
		if (last_of(pid) && !last_of(pid)->lost)
			return last_of(pid);
	fail_msg("process %d was not found", (int)pid);
	return NULL;
}

static const struct noted *await_lost(pid_t pid, enum process_end end, int code)
{
	for (uint64_t until = now() + PATIENCE; now() < until; step()) {
		const struct noted *noted = last_of(pid);

		if (!noted || !noted->lost)
			continue;
		assert_int_equal(noted->end, end);
		assert_int_equal(noted->code, code);
		return noted;
	}
	fail_msg("the end of process %d was not told", (int)pid);
	return NULL;
}

static pid_t started(struct pytarget *target, const struct pyinterp *interp, const char *program)
{
	char line[64];

	assert_int_equal(pytarget_start(interp, program, NULL, target), 0);
	assert_true(pytarget_line(target, line, sizeof(line)));
	return target->pid;
}

static const struct pyinterp *any(void)
{
	size_t n;

	return pyinterps(&n);
}

/* A number that a target printed. */
static int number(struct pytarget *target)
{
	char line[64];

	assert_true(pytarget_line(target, line, sizeof(line)));
	return atoi(line);
}

static const struct finder_options usual = { .settle_ns = SETTLE, .max = 1000 };

static void test_there_and_come(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		struct pytarget before, after;
		const struct noted *noted;
		pid_t pid;

		started(&before, &interps[i], wait_for_end);
		usleep(2 * SETTLE / 1000);
		open_finder(&usual);
		noted = last_of(before.pid);
		if (!noted)
			fail_msg("%s was not told by finder_start()", interps[i].label);
		else
			assert_true(strstr(noted->image, "python") != NULL);
		assert_int_equal(noted->found.ppid, getpid());
		assert_int_equal(noted->found.uid, getuid());
		pid = started(&after, &interps[i], wait_for_end);
		assert_string_equal(await_found(pid)->image, noted->image);
		assert_false(last_of(pid)->found.forked);
		pytarget_stop(&before);
		pytarget_stop(&after);
		await_lost(pid, PROCESS_EXITED, 0);
		close_finder();
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
	open_finder(&usual);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pytarget target;
		pid_t pid = started(&target, any(), cases[i].program);

		await_found(pid);
		if (cases[i].signal)
			kill(pid, cases[i].signal);
		fputs("\n", target.in);
		fflush(target.in);
		await_lost(pid, cases[i].end, cases[i].code);
		pytarget_stop(&target);
	}
	close_finder();
}

static void test_exec(void **state)
{
	struct pytarget target;
	pid_t pid;
	uint64_t first;

	(void)state;
	open_finder(&usual);
	pid = started(&target, any(),
		      "import sys, os\n"
		      "print(flush=True)\n"
		      "os.read(0, 1)\n"
		      "os.execv(sys.executable, [sys.executable, '-c', 'import os; os.read(0, 1); os.execv(\"/bin/cat\", [\"cat\"])'])\n");
	first = await_found(pid)->found.id.start_ticks;
	fputs("1", target.in);
	fflush(target.in);
	await_lost(pid, PROCESS_EXECED, 0);
	assert_int_equal(await_found(pid)->found.id.start_ticks, first);
	assert_false(last_of(pid)->found.forked);
	fputs("1", target.in);
	fflush(target.in);
	await_lost(pid, PROCESS_EXECED, 0);
	step_for(4 * SETTLE);
	assert_true(last_of(pid)->lost);
	pytarget_stop(&target);
	close_finder();
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
	open_finder(&usual);
	for (size_t i = 0; i < n; i++) {
		struct pytarget target;
		pid_t pids[4];

		assert_int_equal(pytarget_start(&interps[i], program, NULL, &target), 0);
		pids[0] = number(&target);
		pids[1] = number(&target);
		await_found(target.pid);
		fputs("\n", target.in);
		fflush(target.in);
		pids[2] = number(&target);
		pids[3] = number(&target);
		for (size_t k = 0; k < 4; k++) {
			const struct noted *noted = await_found(pids[k]);

			assert_int_equal(noted->found.ppid, target.pid);
			assert_int_equal(noted->found.forked, k < 3);
		}
		if (i == 0) {
			/* A listing sees the same. */
			close_finder();
			open_finder(&usual);
			for (size_t k = 0; k < 4; k++)
				assert_int_equal(await_found(pids[k])->found.forked, k < 3);
		}
		fputs("\n", target.in);
		fflush(target.in);
		for (size_t k = 0; k < 4; k++)
			await_lost(pids[k], PROCESS_KILLED, SIGKILL);
		pytarget_stop(&target);
	}
	close_finder();
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

static void test_dlopen(void **state)
{
	char lib[512];
	int go[2];
	pid_t pid;

	(void)state;
	if (!find_libpython(lib, sizeof(lib))) {
		print_message("no libpython.so at hand\n");
		skip();
	}
	assert_int_equal(pipe(go), 0);
	open_finder(&usual);
	pid = fork();
	if (pid == 0) {
		char byte;

		/* A forked child of ours would have our descriptors: it becomes what it is by exec, as a program does. */
		dup2(go[0], 0);
		execl("/usr/bin/perl", "perl", "-e", "require DynaLoader; sysread(STDIN, $b, 1); DynaLoader::dl_load_file($ARGV[0], 1) or die; sleep 1000", lib, NULL);
		_exit(read(go[0], &byte, 1) == 1);
	}
	step_for(6 * SETTLE);
	assert_null(last_of(pid));
	assert_int_equal(write(go[1], "1", 1), 1);
	assert_non_null(strstr(await_found(pid)->image, "libpython"));
	assert_string_equal(last_of(pid)->found.comm, "perl");
	kill(pid, SIGKILL);
	await_lost(pid, PROCESS_KILLED, SIGKILL);
	waitpid(pid, NULL, 0);
	close(go[0]);
	close(go[1]);
	close_finder();
}

static void test_script_names(void **state)
{
	static const struct {
		const char *argv[6];
		const char *script;
	} cases[] = {
		{ { "python3", "/srv/app.py", "x" }, "app.py" },
		{ { "python3", "-X", "dev", "-Im", "http.server" }, "http.server" },
		{ { "python3", "-mhttp.server", "80" }, "http.server" },
		{ { "python3", "-Xdev", "-u", "app.py" }, "app.py" },
		{ { "python3", "-Wd", "-BEs", "-W", "error", "a/b" }, NULL },
		{ { "python3", "--check-hash-based-pycs", "never", "c.py" }, "c.py" },
		{ { "python3", "-c", "print()", "no.py" }, NULL },
		{ { "python3", "-", "no.py" }, NULL },
		{ { "python3", "-m" }, NULL },
		{ { "python3", "-W" }, NULL },
		{ { "python3", "" }, NULL },
		{ { "python3" }, NULL },
		{ { NULL }, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *argv[7] = { 0 };
		const char *script;

		memcpy(argv, cases[i].argv, sizeof(cases[i].argv));
		if (i == 4)
			argv[5] = NULL;
		script = finder_filter_script(argv);
		if (cases[i].script)
			assert_string_equal(script, cases[i].script);
		else
			assert_null(script);
	}
}

/* Two targets, of which the filter is to let one pass. */
static void check_filter(const char *what, struct finder_options options, pid_t in, pid_t out)
{
	print_message("filter: %s\n", what);
	options.settle_ns = SETTLE;
	options.max = 100;
	open_finder(&options);
	await_found(in);
	step_for(2 * SETTLE);
	assert_null(last_of(out));
	close_finder();
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* A cgroup of our own for pid: below the memory hierarchy of version 1, or version 2's. False: none is mounted, or it may not be. */
static bool make_cgroup(char *dir, size_t size)
{
	static const char *const tops[] = { "/sys/fs/cgroup/memory", "/sys/fs/cgroup" };

	for (size_t i = 0; i < sizeof(tops) / sizeof(tops[0]); i++) {
		char procs[256];

		snprintf(dir, size, "%s/leaksnoop-test-%d", tops[i], (int)getpid());
		if (mkdir(dir, 0755) < 0)
			continue;
		snprintf(procs, sizeof(procs), "%s/cgroup.procs", dir);
		if (access(procs, W_OK) == 0)
			return true;
		rmdir(dir);
	}
	return false;
}

static void join_cgroup(const char *dir, pid_t pid)
{
	char path[300], text[16];

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	snprintf(text, sizeof(text), "%d", (int)pid);
	write_text(path, text);
}

static void test_filters(void **state)
{
	static const char other_user[] = "import os, sys\nos.setuid(65534)\nprint(flush=True)\nsys.stdin.read()\n";
	char script[] = "/tmp/leaksnoop-finder-XXXXXX", dir[200] = "";
	char *argv[] = { any()->argv[0], (char *)(uintptr_t)"-u", script, NULL };
	const char *globs[] = { "leaksnoop-find*", NULL }, *groups[] = { dir, NULL }, *below[] = { strrchr(dir, '\0'), NULL };
	struct pytarget plain, other, named;
	uid_t nobody = 65534;
	pid_t pids[2] = { 0 };
	char line[16];

	(void)state;
	assert_true(close(mkstemp(script)) == 0);
	write_text(script, wait_for_end);
	started(&plain, any(), wait_for_end);
	started(&other, any(), other_user);
	/* A chroot has no such file: then the script is the interpreter's own, found in the plain one only. */
	assert_int_equal(pytarget_exec(any()->argv[1] ? (char *[]){ (char *)(uintptr_t)"/usr/bin/python3", argv[1], script, NULL } : argv, NULL, &named), 0);
	assert_true(pytarget_line(&named, line, sizeof(line)));
	pids[0] = plain.pid;
	check_filter("pid", (struct finder_options){ .pids = pids }, plain.pid, other.pid);
	check_filter("user", (struct finder_options){ .uids = &nobody, .n_uids = 1 }, other.pid, plain.pid);
	check_filter("command", (struct finder_options){ .comms = globs }, named.pid, plain.pid);
	if (make_cgroup(dir, sizeof(dir))) {
		join_cgroup(dir, other.pid);
		check_filter("cgroup with its mount", (struct finder_options){ .cgroups = groups }, other.pid, plain.pid);
		below[0] = strrchr(dir, '/') + 1;
		check_filter("cgroup", (struct finder_options){ .cgroups = below }, other.pid, plain.pid);
		check_filter("all", (struct finder_options){ .cgroups = below, .uids = &nobody, .n_uids = 1 }, other.pid, plain.pid);
	} else {
		print_message("no cgroup can be made here: that filter was tried on texts only (test_cgroup)\n");
	}
	pytarget_stop(&plain);
	pytarget_stop(&other);
	pytarget_stop(&named);
	if (dir[0])
		assert_int_equal(rmdir(dir), 0);
	unlink(script);
}

/* A worker that passes, of a parent that does not. */
static void test_filtered_parent(void **state)
{
	static const char program[] = "import os, sys\n"
				      "if os.fork() == 0:\n"
				      "    os.setuid(65534); print(os.getpid(), flush=True)\n"
				      "    os.read(0, 1); os._exit(0)\n"
				      "os.wait()\n";
	static const uid_t nobody = 65534;
	struct finder_options options = { .settle_ns = SETTLE, .max = 1, .uids = &nobody, .n_uids = 1 };
	struct pytarget target;
	pid_t worker;

	(void)state;
	open_finder(&options);
	assert_int_equal(pytarget_start(any(), program, NULL, &target), 0);
	worker = number(&target);
	assert_true(await_found(worker)->found.forked);
	assert_null(last_of(target.pid));
	pytarget_stop(&target);
	close_finder();
}

static uint64_t own_rss(void)
{
	uint64_t rss = 0;

	assert_int_equal(proc_rss_read(getpid(), &rss), 0);
	return rss;
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
	int count = full && *full ? 200000 : 3000, status = 1;
	struct finder_options options = { .settle_ns = 2000 * MS, .max = 1000 };
	struct finder_totals before, after;
	uint64_t rss, cpu[2];
	struct pytarget target;
	pid_t pid;

	(void)state;
	open_finder(&options);
	step_for(100 * MS);
	before = finder_totals(w.finder);
	rss = own_rss();
	assert_int_equal(proc_cpu_read(getpid(), &cpu[0]), 0);
	pid = storm("true", count, 2);
	started(&target, any(), wait_for_end);
	while (waitpid(pid, &status, WNOHANG) == 0)
		step();
	assert_int_equal(status, 0);
	assert_int_equal(proc_cpu_read(getpid(), &cpu[1]), 0);
	await_found(target.pid);
	after = finder_totals(w.finder);
	print_message("%d starts: %llu noticed, %llu looked at, %llu missed; %.1f ms of our own time, RSS %+lld KiB\n", count,
		      (unsigned long long)(after.starts - before.starts), (unsigned long long)(after.looked_at - before.looked_at),
		      (unsigned long long)(after.missed - before.missed), (double)(cpu[1] - cpu[0]) / 1e6, (long long)(own_rss() - rss) / 1024);
	assert_true(after.starts - before.starts >= (uint64_t)count);
	assert_true(after.looked_at - before.looked_at < (uint64_t)count / 10);
	assert_true(own_rss() < rss + (2u << 20));
	pytarget_stop(&target);
	close_finder();
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

static void say(struct pytarget *target, const char *text)
{
	fputs(text, target->in);
	fflush(target->in);
}

/* More ends than the ring holds: a listing says who is gone. */
static void test_lost_notices(void **state)
{
	enum { WORKERS = 250 };
	struct finder_options options = { .settle_ns = SETTLE, .max = 1000, .ring_bytes = 4096 };
	size_t gone = 0, killed = 0;
	struct pytarget target;
	pid_t pids[WORKERS];

	(void)state;
	open_finder(&options);
	assert_int_equal(pytarget_start(any(), many_workers, NULL, &target), 0);
	say(&target, "250\n");
	for (size_t i = 0; i < WORKERS; i++)
		pids[i] = number(&target);
	for (size_t i = 0; i < WORKERS; i++)
		await_found(pids[i]);
	say(&target, "\n");
	assert_int_equal(number(&target), 0);
	for (size_t i = 0; i < WORKERS; i++) {
		for (uint64_t end = now() + PATIENCE; now() < end && !last_of(pids[i])->lost;)
			step();
		assert_true(last_of(pids[i])->lost);
		gone += last_of(pids[i])->end == PROCESS_GONE;
		killed += last_of(pids[i])->end == PROCESS_KILLED;
	}
	print_message("%zu told as killed, %zu as gone; %llu notices missed\n", killed, gone, (unsigned long long)finder_totals(w.finder).missed);
	assert_int_equal(gone + killed, WORKERS);
	assert_true(gone > 0 && killed > 0);
	assert_true(finder_totals(w.finder).missed >= gone);
	pytarget_stop(&target);
	close_finder();
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
	open_finder(&options);
	assert_int_equal(pytarget_start(any(), many_workers, NULL, &target), 0);
	say(&target, "40\n");
	for (size_t i = 0; i < WORKERS; i++)
		pids[i] = number(&target);
	pids[WORKERS] = 0;
	for (size_t i = 0; i < WORKERS; i++)
		await_found(pids[i]);
	assert_true(finder_totals(w.finder).missed > 0);
	close_finder();

	options = (struct finder_options){ .settle_ns = SETTLE, .max = ROOM, .pids = pids };
	open_finder(&options);
	step_for(4 * SETTLE);
	for (size_t i = 0; i < WORKERS; i++)
		told += last_of(pids[i]) != NULL;
	assert_int_equal(told, ROOM);
	assert_int_equal(finder_totals(w.finder).turned_away, WORKERS - ROOM);
	/* When one goes another takes its place. */
	for (size_t i = 0; i < WORKERS; i++)
		if (last_of(pids[i]) && told-- > ROOM - 5)
			kill(pids[i], SIGKILL);
	for (uint64_t end = now() + PATIENCE; now() < end && w.n < ROOM + 5;)
		step();
	assert_int_equal(w.n, ROOM + 5);
	say(&target, "\n");
	pytarget_stop(&target);
	close_finder();
}

/* A process in namespaces of its own, as containers have. */
static void test_namespaces(void **state)
{
	char *argv[PYINTERP_ARGS + 8] = { (char *)(uintptr_t)"unshare", (char *)(uintptr_t)"-Urpf", (char *)(uintptr_t)"--mount-proc" };
	static const char program[] = "import os\nprint(os.getpid(), flush=True)\nos.read(0, 1)\n";
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	open_finder(&usual);
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
		assert_int_equal(number(&target), 1);
		assert_int_equal(proc_children(target.pid, &children, &count), 0);
		assert_int_equal(count, 1);
		await_found(children[0]);
		assert_null(last_of(target.pid));
		say(&target, "\n");
		await_lost(children[0], PROCESS_EXITED, 0);
		free(children);
		pytarget_stop(&target);
	}
	close_finder();
}

/* The same PID again, while nobody looked. */
static void test_pid_reuse(void **state)
{
	struct pytarget first;
	uint64_t before;
	pid_t pid, again;
	FILE *last;

	(void)state;
	open_finder(&usual);
	pid = started(&first, any(), wait_for_end);
	before = await_found(pid)->found.id.start_ticks;
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
			char *const *argv = any()->argv;

			if (getpid() != pid)
				_exit(0);
			execl(argv[1] ? "/usr/bin/python3" : argv[0], "python3", "-c", "import time; time.sleep(1000)", NULL);
			_exit(127);
		}
		if (again == pid)
			break;
		waitpid(again, NULL, 0);
	}
	assert_int_equal(again, pid);
	for (uint64_t end = now() + PATIENCE; now() < end && last_of(pid)->found.id.start_ticks == before;)
		step();
	assert_true(last_of(pid)->found.id.start_ticks > before);
	kill(pid, SIGKILL);
	await_lost(pid, PROCESS_KILLED, SIGKILL);
	waitpid(pid, NULL, 0);
	fclose(first.in);
	fclose(first.out);
	close_finder();
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
	char *argv[] = { any()->argv[1] ? (char *)(uintptr_t)"/usr/bin/python3" : any()->argv[0], script,
			 (char *)(uintptr_t)(full && *full ? "10" : "1.5"), NULL };
	struct pytarget target;
	struct pollfd out;
	size_t alive = 0;

	(void)state;
	/* Whatever loses its parent is ours. */
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	assert_true(close(mkstemp(script)) == 0);
	write_text(script, program);
	open_finder(&options);
	assert_int_equal(pytarget_exec(argv, NULL, &target), 0);
	out = (struct pollfd){ .fd = fileno(target.out), .events = POLLIN };
	for (uint64_t end = now() + PATIENCE; now() < end && !poll(&out, 1, 0);)
		step();
	say(&target, "\n");
	/* Until no child of ours is left: not even one that is nobody's else. */
	for (uint64_t end = now() + PATIENCE; now() < end && (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD);)
		step();
	step_for(200 * MS);
	for (size_t i = 0; i < w.n; i++) {
		struct proc_stat stat;

		if (!w.event[i].lost && (proc_stat_read(w.event[i].found.id.pid, &stat) < 0 || stat.start_ticks != w.event[i].found.id.start_ticks))
			alive++;
	}
	print_message("%zu found; %zu ended untold\n", w.n, alive);
	assert_int_equal(alive, 0);
	target.pid = 0;
	fclose(target.in);
	fclose(target.out);
	prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
	unlink(script);
	close_finder();
}

/* Sets the limit of a memory cgroup of either version. */
static bool limit_memory(const char *dir, const char *bytes)
{
	static const char *const names[] = { "memory.limit_in_bytes", "memory.max" };
	char path[300];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		if (access(path, W_OK) == 0) {
			write_text(path, bytes);
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
	if (!make_cgroup(dir, sizeof(dir))) {
		print_message("no memory cgroup can be made here\n");
		skip();
	}
	if (!limit_memory(dir, "67108864")) {
		rmdir(dir);
		print_message("the cgroup here has no memory controller\n");
		skip();
	}
	open_finder(&usual);
	pid = started(&target, any(), eat);
	join_cgroup(dir, pid);
	await_found(pid);
	say(&target, "\n");
	await_lost(pid, PROCESS_OOM, SIGKILL);
	pytarget_stop(&target);
	assert_int_equal(rmdir(dir), 0);
	close_finder();
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

static void test_leaves_nothing(void **state)
{
	const char *no_such[] = { "no-such-command", NULL };
	struct finder_options options = { .settle_ns = 0, .max = 10, .comms = no_such };
	struct err err = { 0 };
	size_t before;

	(void)state;
	open_finder(&options);
	close_finder();
	before = descriptors();
	for (int i = 0; i < 3; i++) {
		open_finder(&options);
		step();
		assert_int_equal(w.n, 0);
		close_finder();
	}
	assert_int_equal(descriptors(), before);
	finder_free(NULL);
	options.max = 0;
	assert_int_equal(finder_new(&options, &events, &w.finder, &err), -EINVAL);
	assert_true(err.what[0]);
	assert_int_equal(descriptors(), before);
}

/* settle_ns 0: at once, an interpreter in a library included. */
static void test_at_once(void **state)
{
	struct finder_options options = { .settle_ns = 0, .max = 1000 };
	struct pytarget target;
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	open_finder(&options);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(pytarget_start(&interps[i], wait_for_end, NULL, &target), 0);
		await_found(target.pid);
		assert_int_equal(number(&target), 0);
		pytarget_stop(&target);
	}
	close_finder();
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
		cmocka_unit_test(test_script_names),
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_filtered_parent),
		cmocka_unit_test(test_storm),
		cmocka_unit_test(test_lost_notices),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_namespaces),
		cmocka_unit_test(test_pid_reuse),
		cmocka_unit_test(test_confusion),
		cmocka_unit_test(test_oom),
		cmocka_unit_test(test_leaves_nothing),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
