/* SPDX-License-Identifier: MIT */
/* /proc of live processes, and the texts that are hard to read. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "target/proc.h"
#include "target_process.h"

#define LEN(a) (sizeof(a) / sizeof((a)[0]))
#define NO_PID 0x3fffffff

static void strv_freep(char ***strv)
{
	strv_free(*strv);
}

static void test_stat_parse(void **state)
{
	static const char odd[] = "77 (a) R 1 (b)) S 12 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 123456789012 0 0\n";
	static const char *const bad[] = { "", "77", "77 (x", "77 x) S 1", ") (", "(x) S 1 1 1", "77 (x) S 1 2 3",
					   "x (y) S 1 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 9 0 1 0\n" };
	struct proc_stat stat;

	(void)state;
	assert_int_equal(proc_stat_parse(odd, strlen(odd), &stat), 0);
	assert_true(stat.pid == 77 && stat.ppid == 12 && stat.state == 'S' && stat.num_threads == 9);
	assert_true(stat.start_ticks == 123456789012);
	assert_string_equal(stat.comm, "a) R 1 (b)");
	for (size_t i = 0; i < LEN(bad); i++)
		assert_int_equal(proc_stat_parse(bad[i], strlen(bad[i]), &stat), -EINVAL);
}

static void test_stat_long_comm(void **state)
{
	char text[256] = "1 (";
	struct proc_stat stat;

	(void)state;
	memset(text + 3, 'k', 100);
	strcpy(text + 103, ") S 1 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 9 0 55 0\n");
	assert_int_equal(proc_stat_parse(text, strlen(text), &stat), 0);
	assert_int_equal(strlen(stat.comm), sizeof(stat.comm) - 1);
	assert_int_equal(stat.start_ticks, 55);
}

static void test_self(void **state)
{
	struct proc_memory memory;
	struct proc_stat stat;
	uint64_t rss;
	uid_t uid;

	(void)state;
	assert_int_equal(proc_stat_read(getpid(), &stat), 0);
	assert_true(stat.pid == getpid() && stat.ppid == getppid() && stat.state == 'R' && stat.num_threads >= 1);
	assert_int_equal(proc_memory_read(getpid(), &memory), 0);
	assert_true(memory.rss_bytes > 0 && memory.pss_bytes > 0 && memory.pss_bytes <= memory.rss_bytes);
	assert_int_equal(proc_rss_read(getpid(), &rss), 0);
	assert_true(rss > memory.rss_bytes / 2 && rss < memory.rss_bytes * 2 + (1u << 20));
	assert_int_equal(proc_uid(getpid(), &uid), 0);
	assert_int_equal(uid, getuid());
}

static void test_gone(void **state)
{
	struct proc_memory memory;
	struct proc_stat stat;
	pid_t *pids = NULL;
	char **argv = NULL, *name = NULL;
	uint64_t rss;
	size_t n;
	uid_t uid;

	(void)state;
	assert_int_equal(proc_stat_read(NO_PID, &stat), -ESRCH);
	assert_int_equal(proc_memory_read(NO_PID, &memory), -ESRCH);
	assert_int_equal(proc_rss_read(NO_PID, &rss), -ESRCH);
	assert_int_equal(proc_cmdline_read(NO_PID, &argv), -ESRCH);
	assert_int_equal(proc_children(NO_PID, &pids, &n), -ESRCH);
	assert_int_equal(proc_container(NO_PID, &name), -ESRCH);
	assert_int_equal(proc_uid(NO_PID, &uid), -ESRCH);
	assert_true(!argv && !pids && !name);
}

static void test_cmdline_and_children(void **state)
{
	static const char *const arguments[] = { "-c", "echo; exec sleep 600", "", "a b\nc", NULL };
	_cleanup_(target_stopp) pid_t pid = target_start("/bin/sh", arguments);
	_cleanup_(strv_freep) char **argv = NULL;
	_cleanup_(freep) pid_t *children = NULL;
	size_t n = 0;
	bool found = false;

	(void)state;
	assert_true(pid > 0);
	assert_int_equal(proc_children(getpid(), &children, &n), 0);
	for (size_t i = 0; i < n; i++)
		found |= children[i] == pid;
	assert_true(found);
	/* The shell says ready before it becomes sleep: either is right, and between the two there is no command line. */
	for (int tries = 0; tries < 1000 && (!argv || !argv[0]); tries++) {
		strv_free(argv);
		argv = NULL;
		assert_int_equal(proc_cmdline_read(pid, &argv), 0);
		usleep(1000);
	}
	assert_non_null(argv[0]);
	assert_true(!strcmp(argv[0], "sleep") || (!strcmp(argv[0], "/bin/sh") && !strcmp(argv[3], "") && !strcmp(argv[4], "a b\nc")));
}

static void test_zombie(void **state)
{
	_cleanup_(strv_freep) char **argv = NULL;
	_cleanup_(freep) char *name = NULL;
	struct proc_stat stat;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(0);
	do
		assert_int_equal(proc_stat_read(pid, &stat), 0);
	while (stat.state != 'Z');
	assert_int_equal(proc_cmdline_read(pid, &argv), 0);
	assert_null(argv[0]);
	assert_int_equal(proc_container(pid, &name), 0);
	waitpid(pid, NULL, 0);
}

static void test_list(void **state)
{
	_cleanup_(freep) pid_t *pids = NULL;
	bool found = false;
	size_t n = 0;

	(void)state;
	assert_int_equal(proc_list(&pids, &n), 0);
	for (size_t i = 0; i < n; i++) {
		assert_true(i == 0 || pids[i] > pids[i - 1]);
		found |= pids[i] == getpid();
	}
	assert_true(found);
}

#define H32 "0123456789abcdef0123456789abcdef"
#define H64 H32 H32

static void test_container_names(void **state)
{
	static const struct {
		const char *cgroup, *name;
	} cases[] = {
		{ "0::/system.slice/docker-" H64 ".scope\n", "0123456789ab" },
		{ "12:memory:/docker/" H64 "\n0::/\n", "0123456789ab" },
		{ "0::/machine.slice/libpod-" H64 ".scope/container\n", "0123456789ab" },
		{ "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-" H64 ".scope\n",
		  "0123456789ab" },
		{ "3:cpu:/kubepods/burstable/pod12345678-1234-1234-1234-123456789abc/" H64 "\n", "0123456789ab" },
		{ "4:cpu:/lxc/web\n", "web" },
		{ "0::/lxc.payload.web/system.slice/a.service\n", "web" },
		{ "0::/machine.slice/machine-deb.scope/payload\n", "deb" },
		{ "0::/lxc.payload.outer/docker/" H64 "\n", "0123456789ab" },
		{ "0::/user.slice/user-1000.slice/session-2.scope\n", NULL },
		{ "0::/init.scope\n", NULL }, { "0::/\n", NULL }, { "", NULL }, { "0::/docker/" H32 "0\n", NULL },
		{ "no path here\n\n//\n", NULL }, { "0::/machine-.scope\n", NULL }, { "0::/lxc.payload.\n", NULL },
	};

	(void)state;
	for (size_t i = 0; i < LEN(cases); i++) {
		_cleanup_(freep) char *name = NULL;
		int r = proc_container_parse(cases[i].cgroup, strlen(cases[i].cgroup), &name);

		assert_int_equal(r, cases[i].name ? 0 : -ENOENT);
		if (cases[i].name)
			assert_string_equal(name, cases[i].name);
	}
}

static void test_container(void **state)
{
	_cleanup_(target_stopp) pid_t hidden = target_start_hidden("/usr/bin/python3");
	_cleanup_(freep) char *own = NULL;
	_cleanup_(freep) char *other = NULL;

	(void)state;
	assert_int_equal(proc_container(getpid(), &own), 0);
	assert_null(own);
	if (hidden < 0)
		skip();
	assert_int_equal(proc_container(hidden, &other), 0);
	assert_non_null(other);
	assert_memory_equal(other, "mnt:[", 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stat_parse), cmocka_unit_test(test_stat_long_comm), cmocka_unit_test(test_self),
		cmocka_unit_test(test_gone), cmocka_unit_test(test_cmdline_and_children), cmocka_unit_test(test_zombie),
		cmocka_unit_test(test_list), cmocka_unit_test(test_container_names), cmocka_unit_test(test_container),
	};

	return cmocka_run_group_tests_name("proc", tests, NULL, NULL);
}
